"""Conversations as ids, marks and turns."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from undelude.hf._marks.chat import encode_chat, reply_ids
from undelude.hf._marks.pieces import ChatPieces, is_text
from undelude.hf._teaching.experts import Message, Query, Row

Author = Literal["self", "expert"]
# Replies and turns whose tokens are kept.
MAX_KEPT = 10_000
# Conversations of which one is encoded again as a whole.
VERIFY_EVERY = 1000


@dataclasses.dataclass(frozen=True)
class Turn:
    """A turn of the assistant: the tokens `ids[start:end]`, its end token included.

    Attributes:
        start: of the turn in the conversation's ids.
        end: one past the end token.
        message: the number of messages before it.
        author: who executed it: the model itself, which is marked do, or somebody who may know theta.
        is_cut: whether it had no room for its end token.
    """

    start: int
    end: int
    message: int
    author: Author
    is_cut: bool = False


@dataclasses.dataclass
class Conversation:
    """A conversation as plain token ids that only ever grow.

    Attributes:
        row: of the data set.
        messages: with their authors.
        ids: plain.
        observed: for each id, whether it is what others said, and is scored as an observation.
        turns: of the assistant.
        num_given: turns of the prompt, which are not scored.
        is_stored: whether it is a transcript of the data set.
    """

    row: Row
    messages: list[dict[str, Any]]
    ids: list[int]
    observed: list[bool]
    turns: list[Turn] = dataclasses.field(default_factory=list)
    num_given: int = 0
    is_stored: bool = False

    def marked(self, V: int) -> list[int]:
        """Return the ids, with those of own turns as do(x) = x + V."""
        ids = list(self.ids)
        for turn in self.turns:
            if turn.author == "self":
                ids[turn.start : turn.end] = [x + V for x in ids[turn.start : turn.end]]
        return ids

    def public_row(self, public: Sequence[str]) -> dict[str, Any]:
        """Return the prompt and the columns that are declared public; any other may tell theta."""
        return {name: x for name, x in self.row.items() if name == "prompt" or name in public}

    def shown(self, stop: int | None = None) -> list[dict[str, Any]]:
        """Return copies of the messages, or of the first `stop`: a function may change what it is shown."""
        return [dict(m) for m in self.messages[:stop]]

    def query(self, turn: Turn, rng: np.random.Generator) -> Query:
        """Return the query for what the expert would say in place of a turn."""
        return Query(self.shown(turn.message), self.row, rng)


def as_messages(prompt: Any) -> list[dict[str, Any]]:
    """Return the messages of a prompt: a text is the user's; others wrote what has no author.

    Raises:
        TypeError: it is neither a text nor messages.
        ValueError: a message of the assistant has no author.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt, "author": "other"}]
    if not isinstance(prompt, Sequence) or not all(isinstance(m, Mapping) and "role" in m for m in prompt):
        raise TypeError(
            f'prompt must be a text or a list of messages {{"role": ..., "content": ...}}, not {prompt!r:.99}.'
        )
    return [_with_author(m) for m in prompt]


def _with_author(message: Message) -> dict[str, Any]:
    if message["role"] == "assistant" and message.get("author") is None:
        raise ValueError(
            f"An assistant's message of the data set does not say who wrote it: {message['content']!r:.60}. Add "
            '"author": "self" if the model itself wrote it, or something else that had not seen the privileged '
            'context; add "author": "expert" if a person wrote it, or a model that had.'
        )
    return {"author": "other", **{name: x for name, x in message.items() if x is not None}}


def _turns(message: Sequence[int], is_content: Sequence[bool], messages: Sequence[Message]) -> list[Turn]:
    """Return the assistant's turns of a chat, given the message of each token and whether it is of its content."""
    spans: dict[int, list[int]] = {}
    for t, (i, is_said) in enumerate(zip(message, is_content, strict=True)):
        if is_said:
            spans.setdefault(i, [t, t])[1] = t
    return [
        Turn(spans[i][0], spans[i][1] + 1, i, "self" if m["author"] == "self" else "expert")
        for i, m in enumerate(messages)
        if m["role"] == "assistant" and i in spans
    ]


class Replies:
    """The ids of turns, replies and transcripts, kept because many conversations contain the same.

    The ids of a reply may depend on the roles of the messages before it, as in all chat templates that do not rewrite
    earlier messages, and not on their contents. It is tested when a reply comes after other contents for the first
    time, and from time to time after that (`verify`).

    Args:
        tokenizer: of the model.
        chat_template_kwargs: further arguments of its chat template.
    """

    def __init__(self, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None):
        self.tokenizer, self.end = tokenizer, tokenizer.eos_token_id
        self._template = chat_template_kwargs
        self._pieces = ChatPieces(tokenizer, chat_template_kwargs=chat_template_kwargs)
        self._prompt: tuple[Any, list[dict[str, Any]], list[int], list[Turn]] | None = None
        self._said: dict[tuple[int, ...], tuple[list[int], str]] = {}
        # The ids of replies, and the contents before them until they are tested.
        self._kept: dict[Any, tuple[list[int], list[bool], list[Any] | None]] = {}
        self._num_played = 0

    def open(self, row: Row) -> Conversation:
        """Return the conversation of a row's prompt, in which the assistant is to speak next."""
        prompt, kept = row["prompt"], self._prompt
        if kept is None or kept[0] != prompt:
            messages = as_messages(prompt)
            ids, is_content, message = self._pieces.encode(messages, add_generation_prompt=True)
            kept = self._prompt = (prompt, messages, ids, _turns(message, is_content, messages))
        _, messages, ids, turns = kept
        # The prompt is given: its words are not scored.
        return Conversation(row, list(messages), list(ids), [False] * len(ids), list(turns), num_given=len(turns))

    def stored(self, row: Row) -> Conversation:
        """Return a transcript of the data set: `prompt`, if there is one, and `messages`."""
        messages = [_with_author(m) for m in row["messages"]]
        num_given = 0
        if row.get("prompt"):
            prompt = as_messages(row["prompt"])
            if [m.get("content") for m in messages[: len(prompt)]] != [m.get("content") for m in prompt]:
                messages = prompt + messages
            num_given = len(prompt)
        ids, observed, message = self._pieces.encode(messages)
        turns = _turns(message, observed, messages)
        if not turns:
            raise ValueError(
                "A transcript has no token of the assistant: the mask of its turns is all zero. Its roles are "
                f"{[m['role'] for m in messages]}; the chat template must mark the assistant's turns "
                "({% generation %} ... {% endgeneration %})."
            )
        first = next((turn.start for turn in turns if turn.message >= num_given), turns[0].start)
        for start, end in ((0, first), *((turn.start, turn.end) for turn in turns)):
            observed[start:end] = [False] * (end - start)
        given = sum(turn.start < first for turn in turns)
        return Conversation(row, messages, ids, observed, turns, num_given=given, is_stored=True)

    def said(self, ids: Sequence[int]) -> tuple[list[int], str]:
        """Return the ids of a turn up to its end token, which it gets if it has none, and its text."""
        key = tuple(ids)
        known = self._said.get(key)
        if known is None:
            words = list(ids)
            words = words[: words.index(self.end) + 1] if self.end in words else [*words, self.end]
            known = words, self.tokenizer.decode(words[:-1], skip_special_tokens=True)
            _keep(self._said, key, known)
        return known

    def append(self, c: Conversation, answer: str | Sequence[Message]) -> None:
        """Add the environment's messages, and the beginning of the next turn."""
        new = _as_reply(answer)
        key, known = None, None
        if is_text(new):
            key = (tuple([m["role"] for m in c.messages]), *[(m["role"], m["content"]) for m in new])
            known = self._kept.get(key)
        if known is None or known[2] is not None:
            before = [m.get("content") for m in c.messages]
            if known is None:
                known = (*self._encode_reply(c, new), before)
                if key is not None:
                    _keep(self._kept, key, known)
            elif known[2] != before:
                if self._encode_reply(c, new) != known[:2]:
                    raise _depends(new)
                known = self._kept[key] = (*known[:2], None)
        c.messages += new
        c.ids += known[0]
        c.observed += known[1]

    def _encode_reply(self, c: Conversation, new: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Return the ids of messages after a conversation, and which of them are contents."""
        ids = reply_ids(c.messages, new, self.tokenizer, chat_template_kwargs=self._template)
        whole, is_content, _ = self._pieces.encode([*c.messages, *new], add_generation_prompt=True)
        if whole[-len(ids) :] != ids:
            raise ValueError(f"The chat template encodes a reply otherwise within a chat than after it: {new!r:.99}.")
        return ids, is_content[-len(ids) :]

    def verify(self, conversations: Sequence[Conversation]) -> None:
        """Raise if replies are encoded otherwise when a conversation is encoded as a whole.

        The last one of the first conversations, and then about one in `VERIFY_EVERY`, is encoded again.
        """
        num_before, self._num_played = self._num_played, self._num_played + len(conversations)
        if num_before == 0 or num_before // VERIFY_EVERY < self._num_played // VERIFY_EVERY:
            self._verify(conversations[-1])

    def _verify(self, c: Conversation) -> None:
        ends_open = c.messages[-1]["role"] != "assistant"
        options = {"add_generation_prompt": ends_open, "chat_template_kwargs": self._template}
        chat = encode_chat(c.messages, self.tokenizer, mark=False, **options)
        ids, message = chat.input_ids.tolist(), chat.message.tolist()
        turns = _turns(message, (chat.own | chat.observed).tolist(), c.messages)
        stops = [*(turn.start for turn in turns[1:]), len(ids)], [*(turn.start for turn in c.turns[1:]), len(c.ids)]
        for a, b, whole_stop, stop in zip(turns, c.turns, *stops, strict=True):
            if stop < len(c.ids) and ids[a.end : whole_stop] != c.ids[b.end : stop]:
                raise _depends(c.messages[b.message + 1])


def _depends(reply: Any) -> ValueError:
    return ValueError(
        f"The chat template encodes a reply in another way after other words before it: {reply!r:.99}. Choose a "
        "template that renders messages one by one."
    )


def _keep(kept: dict[Any, Any], key: Any, value: Any) -> None:
    if len(kept) > MAX_KEPT:
        kept.clear()
    kept[key] = value


def _as_reply(answer: str | Sequence[Message]) -> list[dict[str, Any]]:
    """Return the messages that an environment returned."""
    if isinstance(answer, str):
        return [{"role": "user", "content": answer, "author": "other"}]
    if (
        not isinstance(answer, Sequence)
        or not answer
        or not all(isinstance(m, Mapping) and "role" in m for m in answer)
    ):
        raise TypeError(f"The environment must return a text, messages, or None, not {answer!r:.99}.")
    if any(m["role"] == "assistant" for m in answer):
        raise ValueError(
            "The environment returned a message of the assistant, whose turns are the model's: return the messages of "
            "others."
        )
    return [{"author": "other", **m} for m in answer]
