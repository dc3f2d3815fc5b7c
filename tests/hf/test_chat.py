"""Who wrote which token of a chat: by several templates, against the tokenizer's own mask, and refusals."""

import pytest

pytest.importorskip("torch")

import torch

from hf.tiny import EMPTY_THOUGHT, TEMPLATE, make_tokenizer
from undelude.hf import encode_chat, reply_ids

WORDS = [
    "tacos", "soup", "yes", "no", "look", "up", "be", "brief", "what", "is", "on", "the", "menu", "?", ".", "thinking",
]  # fmt: skip
TOKENIZER = make_tokenizer(WORDS)
# As ChatML has it: a line for each message, and no markers of what the model generates.
CHATML = (
    "{% for m in messages %}<user> {{ m.role }}\n{{ m.content }} <end>\n{% endfor %}"
    "{% if add_generation_prompt %}<user> assistant\n{% endif %}"
)
CHAT = [
    {"role": "system", "content": "be brief."},
    {"role": "user", "content": "what is on the menu?"},
    {"role": "assistant", "content": "tacos."},
    {"role": "user", "content": "no."},
    {"role": "assistant", "content": "soup.", "author": "expert"},
    {"role": "user", "content": "yes."},
    {"role": "assistant", "content": "soup.", "author": "self"},
]


def chatml():
    tokenizer = make_tokenizer([*WORDS, "system", "user", "assistant"], CHATML)
    return tokenizer


def text(tokenizer, chat, mask):
    return tokenizer.decode([x for x, m in zip(chat.input_ids.tolist(), mask.tolist(), strict=True) if m])


@pytest.mark.parametrize("tokenizer", [TOKENIZER, chatml()], ids=["markers", "chatml"])
def test_authors(tokenizer):
    chat = encode_chat(CHAT, tokenizer, mark=False)
    assert text(tokenizer, chat, chat.own) == "tacos . <end> soup . <end>"
    assert text(tokenizer, chat, chat.observed) == "be brief . what is on the menu ? no . soup . <end> yes ."
    assert [text(tokenizer, chat, (chat.message == i) & chat.own) for i in (2, 6)] == ["tacos . <end>", "soup . <end>"]
    assert not (chat.own & chat.observed).any()


def test_own_turns_are_the_tokenizers_assistant_mask():
    """Where the template has markers, and the model wrote all turns."""
    ours = [{name: x for name, x in m.items() if name != "author"} for m in CHAT]
    theirs = TOKENIZER.apply_chat_template(
        ours, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, add_generation_prompt=True
    )
    chat = encode_chat(ours, TOKENIZER, mark=False, add_generation_prompt=True)
    assert chat.input_ids.tolist() == theirs["input_ids"]
    assert chat.own.tolist() == [bool(x) for x in theirs["assistant_masks"]]


def test_marked_ids():
    V = len(TOKENIZER) + 7  # A model may have more words than its tokenizer.
    plain, marked = encode_chat(CHAT, TOKENIZER, mark=False), encode_chat(CHAT, TOKENIZER, vocab_size=V)
    assert (marked.input_ids - plain.input_ids).tolist() == [V * own for own in plain.own.tolist()]


def test_tool_calls_are_own_and_tool_output_is_not():
    template = TEMPLATE.replace(
        "{{ message.content }} <end>{% endg", "{{ message.content or message.tool_calls[0] }} <end>{% endg"
    )
    tokenizer = make_tokenizer(WORDS, template)
    messages = [
        {"role": "user", "content": "what is on the menu?"},
        {"role": "assistant", "content": None, "tool_calls": ["look up menu"]},
        {"role": "tool", "content": "soup."},
        {"role": "assistant", "content": "soup."},
    ]
    chat = encode_chat(messages, tokenizer, mark=False)
    assert text(tokenizer, chat, chat.own) == "look up menu <end> soup . <end>"
    assert text(tokenizer, chat, chat.observed) == "what is on the menu ? soup ."


@pytest.mark.parametrize("tokenizer", [TOKENIZER, chatml()], ids=["markers", "chatml"])
def test_history_grows_by_the_reply(tokenizer):
    """The ids of the chat so far up to the end of the turn, and the reply's, are those of the longer chat."""
    messages = CHAT[1:]
    for n in (2, 4):
        before = encode_chat(messages[:n], tokenizer, mark=False)
        last = max(t for t, x in enumerate((before.own | before.observed).tolist()) if x)
        grown = before.input_ids[: last + 1].tolist() + reply_ids(messages[:n], messages[n : n + 1], tokenizer)
        longer = encode_chat(messages[: n + 1], tokenizer, mark=False, add_generation_prompt=True)
        assert grown == longer.input_ids.tolist()


def test_earlier_turns_keep_the_whole_generation_prompt():
    """The template drops an empty thought from earlier turns, which the model read when it wrote them."""
    tokenizer, off = make_tokenizer([*WORDS, "<think>"], EMPTY_THOUGHT), {"enable_thinking": False}
    chat = encode_chat(CHAT[1:], tokenizer, mark=False, chat_template_kwargs=off)
    plain = encode_chat(CHAT[1:], TOKENIZER, mark=False)
    thought = chat.input_ids == tokenizer.convert_tokens_to_ids("<think>")
    after_role = torch.cat([torch.tensor([0]), chat.input_ids[:-1]]) == tokenizer.convert_tokens_to_ids("<assistant>")
    assert torch.equal(thought, after_role)
    for name in ("input_ids", "own", "observed", "message"):
        assert torch.equal(getattr(chat, name)[~thought], getattr(plain, name))
    assert not ((chat.own | chat.observed) & thought).any()
    grown = encode_chat(CHAT[1:2], tokenizer, mark=False, add_generation_prompt=True, chat_template_kwargs=off)
    grown, said = grown.input_ids.tolist(), ["tacos.", "soup."]
    for n, text_of_turn in zip((3, 5), said, strict=True):
        grown += tokenizer.encode(text_of_turn + " <end>")
        grown += reply_ids(CHAT[1:n], CHAT[n : n + 1], tokenizer, chat_template_kwargs=off)
    assert grown + tokenizer.encode("soup. <end>") == chat.input_ids.tolist()
    with pytest.raises(ValueError, match="enable_thinking"):
        encode_chat(CHAT[1:], tokenizer, mark=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"enable_thinkin": False}, "does not read 'enable_thinkin', and would ignore it"),
        ({"tools": []}, "does not read 'tools'"),
        ({"add_generation_prompt": True}, "add_generation_prompt cannot be given"),
    ],
)
def test_arguments_that_the_template_does_not_read_are_refused(arguments, message):
    tokenizer = make_tokenizer([*WORDS, "<think>"], EMPTY_THOUGHT)
    with pytest.raises(ValueError, match=message):
        encode_chat(CHAT[1:], tokenizer, mark=False, chat_template_kwargs=arguments)
    with pytest.raises(ValueError, match=message):
        reply_ids(CHAT[1:3], CHAT[3:4], tokenizer, chat_template_kwargs=arguments)


def test_content_that_reads_like_the_template():
    """Contents are found where the template puts them, and not where the same text stands first."""
    messages = [
        {"role": "user", "content": "user"},
        {"role": "assistant", "content": "assistant"},
        {"role": "user", "content": "  no.  "},
    ]
    chat = encode_chat(messages, chatml(), mark=False)
    names = [text(chatml(), chat, torch.arange(len(chat.own)) == t) for t in range(len(chat.own))]
    observed = [name for name, is_observed in zip(names, chat.observed.tolist(), strict=True) if is_observed]
    assert names[:4] == ["<user>", "user", "user", "<end>"]
    assert chat.observed[:4].tolist() == [False, False, True, False]
    assert observed == ["user", "no", "."]
    assert text(chatml(), chat, chat.own) == "assistant <end>"


def test_instructions_that_the_template_writes_into_the_first_message():
    """As Gemma's does; they are observed, and are of their own message."""
    template = (
        "{% set first = messages[0].content + ' ' if messages[0].role == 'system' else '' %}"
        "{% for m in messages if m.role != 'system' %}<user> {{ m.role }}\n"
        "{% if loop.first %}{{ first }}{% endif %}{{ m.content }} <end>\n{% endfor %}"
        "{% if add_generation_prompt %}<user> assistant\n{% endif %}"
    )
    tokenizer = make_tokenizer([*WORDS, "user", "assistant"], template)
    chat = encode_chat(CHAT[:3], tokenizer, mark=False)
    assert text(tokenizer, chat, chat.observed) == "be brief . what is on the menu ?"
    assert [text(tokenizer, chat, chat.observed & (chat.message == i)) for i in (0, 1)] == [
        "be brief .",
        "what is on the menu ?",
    ]
    assert text(tokenizer, chat, chat.own) == "tacos . <end>"


def test_refusals():
    def encode(template, messages=CHAT, **options):
        return encode_chat(messages, make_tokenizer(WORDS, template), mark=False, **options)

    with pytest.raises(ValueError, match="has no chat template"):
        encode(None)
    with pytest.raises(ValueError, match="give vocab_size"):
        encode_chat(CHAT, TOKENIZER)
    with pytest.raises(ValueError, match=f"'thinking' has the id {len(TOKENIZER) - 1}, and the model has 9 words"):
        encode_chat([{"role": "user", "content": "thinking"}], TOKENIZER, vocab_size=9)
    forgetful = TEMPLATE.replace(
        "{{ message.content }} <end>{% endg", "{% if loop.last %}thinking {% endif %}{{ message.content }} <end>{% endg"
    )
    with pytest.raises(ValueError, match="rewrites earlier messages: the first 3 read otherwise"):
        encode(forgetful)
    with pytest.raises(ValueError, match="generation prompt is not how it begins a turn"):
        encode(TEMPLATE.replace("{% if add_generation_prompt %}<assistant>", "{% if add_generation_prompt %}<user>"))
    with pytest.raises(ValueError, match="no token of the assistant's message 2 is left: 'tacos"):
        encode("{% for m in messages %}{% if m.role != 'assistant' %}{{ m.content }} {% endif %}{% endfor %}")
    with pytest.raises(ValueError, match="the last message must be the assistant's"):
        reply_ids(CHAT[:2], CHAT[3:4], TOKENIZER)
    endless = make_tokenizer(WORDS, TEMPLATE.replace(" <end>{% endg", "{% endg"))
    with pytest.raises(ValueError, match="does not end the assistant's turn with the tokenizer's eos_token '<end>'"):
        reply_ids(CHAT[1:3], CHAT[3:4], endless)
