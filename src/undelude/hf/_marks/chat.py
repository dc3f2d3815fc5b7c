"""Chats as ids, with who wrote each: the model itself, or others."""

import bisect
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Int

from undelude.hf._messages import without_authors

# With "role" and "content"; "author" is "self", or else anybody who may know theta, such as "expert" or "other".
Message: TypeAlias = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class EncodedChat:
    """A chat as ids.

    Attributes:
        input_ids: `[T]`, own words as do(x) = x + V if they are marked.
        own: `[T]`, what the model itself wrote: its turns with their end, tool calls among them.
        observed: `[T]`, what others wrote: the contents of their messages, tool output among them; a turn in the
            assistant's place that another author wrote, with its end.
        message: `[T]`, the number of the message to which a token belongs; `len(messages)` for the generation prompt.
    """

    input_ids: Int[torch.Tensor, " T"]
    own: Bool[torch.Tensor, " T"]
    observed: Bool[torch.Tensor, " T"]
    message: Int[torch.Tensor, " T"]


# Stands for the content of a message while its place is sought.
_PLACEHOLDER = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclasses.dataclass(frozen=True)
class _Span:
    """Characters of the rendered chat: of a message, and of its content.

    The content may stand within another message, as instructions do that a template writes into the user's first.
    """

    start: int
    end: int
    content: tuple[int, int]


def encode_chat(
    messages: Sequence[Message],
    tokenizer: Any,
    *,
    vocab_size: int | None = None,
    mark: bool = True,
    add_generation_prompt: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> EncodedChat:
    """Return the ids of a chat, and who wrote them.

    A message of the assistant is the model's own, unless its `"author"` is another: an expert's turn, a person's
    correction or another model's answer in the assistant's place is not. All other messages are of others.
    Tokens of the template, such as the names of roles, are neither.

    The place of each message is found by rendering the chat message by message; it works with any template, with
    `{% generation %}` markers or without, that does not rewrite earlier messages. A template may shorten the generation
    prompt of earlier turns, as Qwen3's leaves out an empty thought: the ids have it whole, since the model read it.

    Args:
        messages: with `"role"`, `"content"`, and `"author"` if need be; the template gets further keys, such as
            `"tool_calls"`.
        tokenizer: a fast tokenizer with a chat template.
        vocab_size: V, the words of the model, which may have more than the tokenizer: `DoTokens.of(model).vocab_size`.
        mark: whether own words are marked, as do(x) = x + V.
        add_generation_prompt: whether the beginning of the assistant's next turn is added.
        chat_template_kwargs: further arguments of the chat template, such as `{"enable_thinking": False}` or `tools`.

    Raises:
        ValueError: the tokenizer has no template, or is not a fast one; the template rewrites earlier messages, or
            leaves no token of the assistant; the tokenizer has words that the model has not; `vocab_size` is missing.

    >>> from undelude.hf import encode_chat                             # doctest: +SKIP
    >>> encode_chat([{"role": "user", "content": "Hello"}], tokenizer)   # doctest: +SKIP
    """
    if mark and vocab_size is None:
        raise ValueError(
            "encode_chat: own words are marked as x + V: give vocab_size=DoTokens.of(model).vocab_size, or mark=False."
        )
    text, spans = _render(messages, tokenizer, add_generation_prompt, chat_template_kwargs)
    ids, offsets = _tokenize(text, tokenizer)
    own, observed, message = (torch.zeros(len(ids), dtype=kind) for kind in (torch.bool, torch.bool, torch.long))
    starts = [span.start for span in spans]
    contents = sorted((*span.content, i) for i, span in enumerate(spans) if span.content[0] < span.content[1])
    for t, (begin, end) in enumerate(offsets):
        message[t] = max(bisect.bisect_right(starts, begin) - 1, 0)
        if add_generation_prompt and spans and begin >= spans[-1].end:
            message[t] = len(spans)
        # A word that reaches over an edge of the content is of the content, as in the tokenizer's own mask.
        k = bisect.bisect_left(contents, (end,)) - 1
        if k >= 0 and begin < min(end, contents[k][1]):
            message[t] = i = contents[k][2]
            (own if is_own(messages[i]) else observed)[t] = True
    for i, m in enumerate(messages):
        if m["role"] == "assistant" and not (own | observed)[message == i].any():
            raise ValueError(
                f"encode_chat: no token of the assistant's message {i} is left: {m.get('content')!r:.60}. The chat "
                "template drops it, or renders it as nothing."
            )
    input_ids = torch.tensor(ids, dtype=torch.long)
    check_words(ids, vocab_size, tokenizer)
    if mark and vocab_size is not None:
        input_ids = torch.where(own, input_ids + vocab_size, input_ids)
    return EncodedChat(input_ids, own, observed, message)


def reply_ids(
    messages: Sequence[Message],
    replies: Sequence[Message],
    tokenizer: Any,
    *,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """Return the ids that follow the end of the assistant's last turn: replies, and the beginning of its next turn.

    A history of ids grows by these and by what the model writes; it is never made again from text, which has no marks
    and may be split into other words.

    Args:
        messages: so far; the last is the assistant's.
        replies: by others.
        tokenizer: of the model.
        chat_template_kwargs: further arguments of the chat template.

    Raises:
        ValueError: the last message is not the assistant's; the template rewrites earlier messages, or does not end a
            turn with the tokenizer's `eos_token`.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("reply_ids: the last message must be the assistant's, whose turn the replies follow.")
    text, spans = _render([*messages, *replies], tokenizer, True, chat_template_kwargs)
    end = spans[len(messages) - 1].content[1]
    _check_end(text[:end], tokenizer)
    # With the end before it, so that the first word is split as it is within a chat.
    ids, _ = _tokenize(tokenizer.eos_token + text[end:], tokenizer)
    if ids[0] != tokenizer.eos_token_id:
        raise ValueError(
            f"reply_ids: the tokenizer splits its eos_token {tokenizer.eos_token!r} into other words. Add it as a "
            "special token: tokenizer.add_special_tokens({'eos_token': ...})."
        )
    return ids[1:]


def check_words(ids: Sequence[int], vocab_size: int | None, tokenizer: Any) -> None:
    """Raise `ValueError` if an id is not a word of the model; with marks it would be read as an own word."""
    if vocab_size is not None and len(ids) and max(ids) >= vocab_size:
        raise ValueError(
            f"The tokenizer's word {tokenizer.convert_ids_to_tokens(int(max(ids)))!r} has the id {max(ids)}, and the "
            f"model has {vocab_size} words. Call model.resize_token_embeddings(len(tokenizer)) before DoTokens.wrap."
        )


def check_length(num: int, longest: int, what: str = "A conversation", limit: str = "the model's context") -> None:
    """Raise `ValueError` if a chat has more tokens than the model can read; it is not cut."""
    if num > longest:
        raise ValueError(
            f"{what} has {num} tokens, and {limit} allows {longest}. It is not cut: leave it out, shorten it, or allow "
            "more."
        )


def check_end_of_turn(tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None) -> None:
    """Raise if the chat template does not end the assistant's turn with the tokenizer's `eos_token`."""
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text, spans = _render(chat, tokenizer, False, chat_template_kwargs)
    _check_end(text[: spans[1].content[1]], tokenizer)


def _check_end(turn: str, tokenizer: Any) -> None:
    eos = tokenizer.eos_token
    if eos is None or not turn.endswith(eos):
        raise ValueError(
            f"The chat template does not end the assistant's turn with the tokenizer's eos_token {eos!r}, so that a "
            "model could not say that its turn is over. Set tokenizer.eos_token to the word that ends a turn."
        )


def is_own(message: Message) -> bool:
    """Return whether the model itself wrote a message."""
    return message["role"] == "assistant" and message.get("author") in (None, "self")


def _render(
    messages: Sequence[Message],
    tokenizer: Any,
    add_generation_prompt: bool,
    chat_template_kwargs: Mapping[str, Any] | None,
) -> tuple[str, list[_Span]]:
    """Return the text of a chat, and where its messages are."""
    if getattr(tokenizer, "chat_template", None) is None:
        raise ValueError("The tokenizer has no chat template. Set tokenizer.chat_template, or load one that has it.")
    _check_arguments(tokenizer, chat_template_kwargs or {})
    plain = without_authors(messages)

    def render(chat: Sequence[Message], prompt: bool = False) -> str:
        options = {"tokenize": False, "add_generation_prompt": prompt}
        return tokenizer.apply_chat_template(chat, **options, **(chat_template_kwargs or {}))

    text = render(plain, add_generation_prompt)
    spans: list[_Span] = []
    dropped: list[tuple[int, str]] = []
    for i, message in enumerate(plain):
        start = spans[-1].end if spans else 0
        begun = _begin(render, plain, i + 1)
        if message["role"] == "assistant":
            begin, end, tail = _turn(text, begun, render(plain[:i], True), start, i + 1)
            if tail:
                dropped.append((begin, tail))
            eos = tokenizer.eos_token
            at = text.find(eos, begin, end) if eos else -1
            spans.append(_Span(start, end, (begin, end if at < 0 else at + len(eos))))
        else:
            if not text.startswith(begun):
                raise _rewrites(i + 1)
            other = render([*plain[:i], {**message, "content": _PLACEHOLDER}, *plain[i + 1 :]], add_generation_prompt)
            content = _content(text, other, start, len(begun), message.get("content"))
            spans.append(_Span(start, len(begun), content))
    return _restore(text, spans, dropped) if dropped else (text, spans)


def _check_arguments(tokenizer: Any, arguments: Mapping[str, Any]) -> None:
    """Raise if the template does not read an argument; Transformers ignores it."""
    for name in arguments:
        if name in ("messages", "add_generation_prompt"):
            raise ValueError(f"chat_template_kwargs: {name} cannot be given, because it is set for each chat.")
        if not re.search(rf"\b{re.escape(name)}\b", tokenizer.get_chat_template(tools=arguments.get("tools"))):
            raise ValueError(
                f"chat_template_kwargs: the chat template does not read {name!r}, and would ignore it. Correct the "
                "name, or leave it out."
            )


def _begin(render: Any, messages: Sequence[Message], n: int) -> str:
    """Return the text of the first n messages."""
    try:
        return render(messages[:n])
    except Exception as error:
        if n < len(messages) and all(m["role"] == "system" for m in messages[:n]):
            return ""  # Some templates refuse instructions alone, and write them with the first message.
        raise ValueError(f"The chat template refuses the first {n} messages of the chat: {error}") from error


def _turn(text: str, begun: str, prompt: str, start: int, n: int) -> tuple[int, int, str]:
    """Return where the model's words of a turn begin, after the generation prompt, and where the turn ends.

    Args:
        text: the whole chat.
        begun: the chat with this turn as its last message.
        prompt: the chat before this turn, with the generation prompt.
        start: where the turn begins in the text.
        n: the number of messages up to this turn.

    Returns:
        The two places, and the part at the end of the generation prompt that the template drops once others follow.
    """
    if not begun.startswith(prompt):
        raise ValueError(
            "The chat template's generation prompt is not how it begins a turn: a model would be "
            "asked with other words than it was taught with. Choose a template, or its arguments, in which they agree."
        )
    turn = begun[len(prompt) :]
    for k in range(len(prompt), start - 1, -1):
        if text.startswith(turn, k) and text.startswith(prompt[:k]):
            return k, k + len(turn), prompt[k:]
    raise _rewrites(n)


def _rewrites(n: int) -> ValueError:
    return ValueError(
        f"The chat template rewrites earlier messages: the first {n} read otherwise once others follow. A history of "
        "marked words must only grow. Some templates drop the thoughts of earlier turns; choose a template, or its "
        'arguments, such as chat_template_kwargs={"enable_thinking": False}, that keep them.'
    )


def _restore(text: str, spans: Sequence[_Span], dropped: Sequence[tuple[int, str]]) -> tuple[str, list[_Span]]:
    """Return the chat with the whole generation prompt before each turn, as the model read it.

    Args:
        text: the chat.
        spans: of its messages.
        dropped: where a turn's words begin in the text, and what the generation prompt had before them.
    """
    stops = [0, *(k for k, _ in dropped), len(text)]
    tails = [*(tail for _, tail in dropped), ""]
    restored = "".join(text[a:b] + tail for (a, b), tail in zip(itertools.pairwise(stops), tails, strict=True))

    def moved(at: int, *, begins: bool = False) -> int:
        return at + sum(len(tail) for k, tail in dropped if k < at or (begins and k == at))

    return restored, [
        _Span(moved(x.start), moved(x.end), (moved(x.content[0], begins=True), moved(x.content[1]))) for x in spans
    ]


def _content(text: str, other: str, start: int, end: int, content: Any) -> tuple[int, int]:
    """Return where the content of a message is.

    Args:
        text: the chat.
        other: the chat with a placeholder as the content.
        start: where the message begins.
        end: where it ends.
        content: of the message; the whole message counts if the template renders it in its own way.
    """
    if content in (None, ""):
        return start, start
    before, _, after = other.partition(_PLACEHOLDER)
    if before != other and text.startswith(before) and text.endswith(after) and len(before + after) <= len(text):
        return len(before), len(text) - len(after)
    return start, end


def _tokenize(text: str, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]]:
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} is not a fast tokenizer, and does not say where in a text its tokens are. "
            "Load it with AutoTokenizer.from_pretrained(..., use_fast=True)."
        )
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return encoded["input_ids"], encoded["offset_mapping"]
