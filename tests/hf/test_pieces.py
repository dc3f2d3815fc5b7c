"""Chats put together from kept messages are those of `encode_chat`; random draws are keyed."""

import itertools
import warnings

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from hf.tiny import TEMPLATE
from hf.worlds import DISHES, REPLIES, TOKENIZER, make_trainer, rows, uniform
from undelude.hf import encode_chat
from undelude.hf._marks.pieces import ChatPieces
from undelude.hf._teaching.conversations import Replies
from undelude.hf._teaching.sampler import generators


def chats():
    """Return chats of every pair of dishes and reply, in which an expert or the model speaks first."""
    for first, reply, second, author in itertools.product(DISHES, REPLIES, DISHES, ("self", "expert")):
        yield [
            {"role": "user", "content": "menu today", "author": "other"},
            {"role": "assistant", "content": first, "author": author},
            {"role": "user", "content": reply, "author": "other"},
            {"role": "assistant", "content": f"{second} today", "author": "self"},
        ]


def whole(messages, tokenizer, **options):
    chat = encode_chat(messages, tokenizer, mark=False, **options)
    return chat.input_ids.tolist(), (chat.own | chat.observed).tolist(), chat.message.tolist()


def test_kept_messages_make_the_ids_of_the_whole_chat():
    pieces = ChatPieces(TOKENIZER)
    for messages in chats():
        assert pieces.encode(messages) == whole(messages, TOKENIZER)
        opened = pieces.encode(messages[:3], add_generation_prompt=True)
        assert opened == whole(messages[:3], TOKENIZER, add_generation_prompt=True)
    assert pieces.keeps
    assert len(pieces._kept) < 40


def test_nothing_is_kept_of_a_template_that_repeats_an_earlier_message(monkeypatch):
    monkeypatch.setattr(TOKENIZER, "chat_template", LATE_ECHO)
    pieces = ChatPieces(TOKENIZER)
    for messages in list(chats())[::5]:
        pieces.encode(messages)
    assert not pieces.keeps
    for messages in chats():
        assert pieces.encode(messages) == whole(messages, TOKENIZER)


# Each message of the user repeats the words before it, and each of the assistant the words three messages before it.
ECHO = TEMPLATE.replace("<user> ", "<user> {{ loop.previtem.content if not loop.first }} ")
LATE_ECHO = TEMPLATE.replace(
    "{% generation %}", "{{ messages[loop.index0 - 2].content if loop.index0 > 2 }} {% generation %}"
).replace("<assistant> {% endif %}", "<assistant> {{ messages[-2].content if messages | length > 2 }} {% endif %}")


def test_messages_that_are_known_after_other_words_are_encoded_again(monkeypatch):
    """Each dish and each reply is known, and no pair of a dish and another reply."""
    monkeypatch.setattr(TOKENIZER, "chat_template", ECHO)
    pieces, pairs = ChatPieces(TOKENIZER), list(itertools.product(DISHES, REPLIES))
    for dish, reply in (pairs[0], pairs[3], *pairs):
        messages = [
            {"role": "user", "content": "menu"},
            {"role": "assistant", "content": dish},
            {"role": "user", "content": reply},
        ]
        assert pieces.encode(messages) == whole(messages, TOKENIZER)


def test_a_template_that_looks_far_back_is_noticed(monkeypatch):
    """At the first chat that is put together; after some, a warning says that they may be wrong."""
    monkeypatch.setattr(TOKENIZER, "chat_template", LATE_ECHO)

    def chat(first, second):
        said = {"user": ("menu", "no"), "assistant": (first, second)}
        return [{"role": role, "content": said[role][i]} for i in (0, 1) for role in said]

    seen = [chat("soup", "soup"), chat("pizza", "pizza")]
    for again in (0, 3):
        pieces = ChatPieces(TOKENIZER)
        for messages in (*seen, *seen[:1] * again):
            assert pieces.encode(messages) == whole(messages, TOKENIZER)
        assert pieces.keeps
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for messages in (chat("tacos", "menu"), chat("tacos", "soup")):
                assert pieces.encode(messages) == whole(messages, TOKENIZER)
        assert not pieces.keeps
        assert ["Up to 1 chats" in str(x.message) for x in caught] == [True] * (again > 0)


@pytest.mark.parametrize("template", [ECHO, LATE_ECHO])
def test_replies_that_depend_on_the_words_before_them_are_refused(template, monkeypatch, tmp_path):
    """In the first batch, before a conversation has the ids of another one."""
    monkeypatch.setattr(TOKENIZER, "chat_template", template)
    trainer = make_trainer(tmp_path, rollouts=uniform)
    with pytest.raises(ValueError, match="encodes a reply in another way after other words"):
        trainer.converse(rows(48), [(0, i) for i in range(48)])


def test_a_reply_that_is_otherwise_after_one_word_is_found_in_a_whole_conversation(monkeypatch, tmp_path):
    """Two other words before it, by which it passed the first test, leave it as it is."""
    template = TEMPLATE.replace("<user> ", "<user> {{ 'is' if not loop.first and loop.previtem.content == 'pizza' }} ")
    monkeypatch.setattr(TOKENIZER, "chat_template", template)

    def play(order):
        trainer = make_trainer(
            tmp_path,
            rollouts=lambda messages, row: DISHES[order[row["number"]]],
            public_columns=["number"],
            environment=lambda messages, row: "no" if len(messages) == 2 else None,
        )
        return trainer.converse(rows(3), [(0, i) for i in range(3)])

    assert len(play([0, 1, 0])) == 3
    with pytest.raises(ValueError, match="encodes a reply in another way after other words"):
        play([0, 1, 2])


def test_a_transcript_is_the_chat_with_the_turns_of_others_unmarked():
    replies = Replies(TOKENIZER)
    for messages in chats():
        c = replies.stored({"messages": messages, "prompt": "menu today"})
        chat = encode_chat(messages, TOKENIZER, vocab_size=len(TOKENIZER))
        assert c.marked(len(TOKENIZER)) == chat.input_ids.tolist()
        assert [turn.author for turn in c.turns] == [m["author"] for m in messages[1::2]]
        said = [TOKENIZER.decode([x]) for x, observed in zip(c.ids, c.observed, strict=True) if observed]
        assert said == [messages[2]["content"]]


def test_draws_depend_on_their_key_alone():
    keys = [(step, row) for step in range(40) for row in range(50)]
    draws = np.array([rng.random(2) for rng in generators(0, keys, 0)])
    for other, i in zip(generators(0, keys[7:9], 0), (7, 8), strict=True):
        np.testing.assert_array_equal(other.random(2), draws[i])
    for seed, party in ((1, 0), (0, 1)):
        assert not np.isclose(generators(seed, keys[:1], party)[0].random(), draws[0, 0])
    # 2,000 pairs: the standard error of a mean is .0065, of a correlation .022.
    assert abs(draws.mean(0) - 0.5).max() < 0.03
    table = draws[:, 0].reshape(40, 50)
    neighbours = [(table[1:], table[:-1]), (table[:, 1:], table[:, :-1]), (draws[:, :1], draws[:, 1:])]
    assert max(abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) for a, b in neighbours) < 0.1
