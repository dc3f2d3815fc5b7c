"""Chats put together from kept messages are those of `encode_chat`; random draws are keyed."""

import itertools

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from hf.tiny import TEMPLATE
from hf.worlds import DISHES, REPLIES, TOKENIZER
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
    assert len(pieces._kept) < 25


def test_nothing_is_kept_of_a_template_that_repeats_the_message_before(monkeypatch):
    template = TEMPLATE.replace("<user> ", "<user> {{ loop.previtem.content if not loop.first }} ")
    monkeypatch.setattr(TOKENIZER, "chat_template", template)
    pieces = ChatPieces(TOKENIZER)
    for messages in list(chats())[::5]:
        pieces.encode(messages)
    assert not pieces.keeps
    for messages in chats():
        assert pieces.encode(messages) == whole(messages, TOKENIZER)


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
