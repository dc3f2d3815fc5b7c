"""Conversations as ids, marks and turns: played with an environment, or read from stored transcripts."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from undelude.hf._marks.chat import EncodedChat, encode_chat, reply_ids
from undelude.hf._marks.generation import generate_turn
from undelude.hf._teaching.experts import Expert, Message, Query, Row, pad

Author = Literal["self", "expert"]
# The world: the reply to the last message, as text or messages; None if the conversation is over.
Environment: TypeAlias = Callable[[Sequence[Message], Row], str | Sequence[Message] | None]
# A behaviour that is not shown theta: the text of the next turn.
Rollouts: TypeAlias = Callable[[Sequence[Message], Row], str]
PRIVILEGED = "privileged_context"
# Replies and turns whose tokens are kept.
MOST_KEPT = 10_000


@dataclasses.dataclass(frozen=True)
class Turn:
    """A turn of the assistant: the tokens `ids[start:end]`, its end token included.

    Attributes:
        start: of the turn in the conversation's ids.
        end: one past the end token.
        message: the number of messages before it.
        author: who executed it: the model itself, which is marked do, or somebody who may know theta.
        is_cut: whether it was ended because it had no room for more words.
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

    def public_row(self, hidden: Sequence[str]) -> dict[str, Any]:
        """Return the row without the columns that tell theta."""
        return {name: x for name, x in self.row.items() if name != PRIVILEGED and name not in hidden}

    def query(self, turn: Turn, rng: np.random.Generator) -> Query:
        """Return the question what the expert would say in place of a turn."""
        return Query(self.messages[: turn.message], self.row, rng)


@runtime_checkable
class Behaviour(Protocol):
    """The party that executes the assistant's turns."""

    author: Author

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[list[int]]:
        """Return the plain ids of the next turn of each conversation."""
        ...


class Policy:
    """The model that is taught, as it is now."""

    author: Author = "self"

    def __init__(self, model: torch.nn.Module, V: int | None, tokenizer: Any, **generation: Any):
        self.model, self.V, self.tokenizer, self.generation = model, V, tokenizer, generation

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[list[int]]:
        """Sample the next turn of each conversation."""
        histories = [c.ids if self.V is None else c.marked(self.V) for c in conversations]
        ids, mask = pad(histories, self.tokenizer.pad_token_id or 0, next(self.model.parameters()).device, left=True)
        uniforms = torch.tensor(np.stack([rng.random(self.generation["max_new_tokens"]) for rng in rngs]))
        end = int(self.tokenizer.eos_token_id)
        turns = generate_turn(self.model, ids, mask, eos_token_id=end, uniforms=uniforms, **self.generation)
        return turns.tolist()


class CallableBehaviour:
    """A function that is not shown theta."""

    author: Author = "self"

    def __init__(self, function: Rollouts, tokenizer: Any, hidden: Sequence[str]):
        self.function, self.hidden = with_rng(function), hidden
        self.end = tokenizer.eos_token_id
        # A function that guesses says the same few texts again and again.
        self.encode = functools.lru_cache(4096)(lambda text: tokenizer.encode(text, add_special_tokens=False))

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[list[int]]:
        """Ask the function for the next turn of each conversation."""
        texts = [
            self.function(c.messages, c.public_row(self.hidden), rng)
            for c, rng in zip(conversations, rngs, strict=True)
        ]
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"rollouts must return the text of the next turn, not {text!r:.99}.")
        return [[*self.encode(text), self.end] for text in texts]


class ExpertBehaviour:
    """The expert itself. What it says is evidence about theta."""

    author: Author = "expert"

    def __init__(self, expert: Expert, max_new_tokens: int):
        self.expert, self.max_new_tokens = expert, max_new_tokens

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[list[int]]:
        """Ask the expert for the next turn of each conversation."""
        queries = [Query(c.messages, c.row, rng) for c, rng in zip(conversations, rngs, strict=True)]
        return [utterance.ids for utterance in self.expert.speak(queries, self.max_new_tokens)]


def with_rng(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that hands on its last argument, a random generator, if `function` takes one as `rng`."""
    try:
        takes = "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        takes = False
    if takes:
        return lambda *args: function(*args[:-1], rng=args[-1])
    return lambda *args: function(*args[:-1])


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


def stored(row: Row, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None) -> Conversation:
    """Return a transcript of the data set: `prompt`, if there is one, and `messages`."""
    messages = [_with_author(m) for m in row["messages"]]
    num_given = 0
    if row.get("prompt"):
        prompt = as_messages(row["prompt"])
        if [m.get("content") for m in messages[: len(prompt)]] != [m.get("content") for m in prompt]:
            messages = prompt + messages
        num_given = len(prompt)
    chat = encode_chat(messages, tokenizer, mark=False, chat_template_kwargs=chat_template_kwargs)
    turns = _turns(chat, messages)
    if not turns:
        raise ValueError(
            "A transcript has no token of the assistant: the mask of its turns is all zero. Its roles are "
            f"{[m['role'] for m in messages]}; the chat template must mark the assistant's turns "
            "({% generation %} ... {% endgeneration %})."
        )
    first = next((turn.start for turn in turns if turn.message >= num_given), turns[0].start)
    observed = [x and t >= first for t, x in enumerate(chat.observed.tolist())]
    for turn in turns:
        observed[turn.start : turn.end] = [False] * (turn.end - turn.start)
    given = sum(turn.start < first for turn in turns)
    return Conversation(row, messages, chat.input_ids.tolist(), observed, turns, num_given=given, is_stored=True)


def _turns(chat: Any, messages: Sequence[Message]) -> list[Turn]:
    """Return the assistant's turns of an encoded chat."""
    message, content = chat.message.tolist(), (chat.own | chat.observed).tolist()
    turns = []
    for i, m in enumerate(messages):
        if m["role"] != "assistant":
            continue
        at = [t for t, (j, is_content) in enumerate(zip(message, content, strict=True)) if j == i and is_content]
        if at:
            turns.append(Turn(at[0], at[-1] + 1, i, "self" if m["author"] == "self" else "expert"))
    return turns


class Replies:
    """The ids of replies, kept because many conversations contain the same.

    A reply's ids may depend on the roles of the messages before it, as in all chat templates that do not rewrite
    earlier messages, and not on their contents; `verify` tests it.

    Args:
        tokenizer: of the model.
        chat_template_kwargs: further arguments of its chat template.
    """

    def __init__(self, tokenizer: Any, chat_template_kwargs: Mapping[str, Any] | None = None):
        self.tokenizer, self.chat_template_kwargs = tokenizer, chat_template_kwargs
        self._prompt: tuple[Any, list[dict[str, Any]], list[int], list[Turn]] | None = None
        self._texts: dict[tuple[int, ...], str] = {}
        self._kept: dict[Any, tuple[list[int], list[bool]]] = {}

    def open(self, row: Row) -> Conversation:
        """Return the conversation of a row's prompt, in which the assistant is to speak next."""
        prompt, kept = row["prompt"], self._prompt
        if kept is None or kept[0] != prompt:
            messages = as_messages(prompt)
            chat = self._encode(messages)
            kept = self._prompt = (prompt, messages, chat.input_ids.tolist(), _turns(chat, messages))
        _, messages, ids, turns = kept
        # The prompt is given: its words are not scored.
        return Conversation(row, list(messages), list(ids), [False] * len(ids), list(turns), num_given=len(turns))

    def _encode(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> EncodedChat:
        options = {"mark": False, "add_generation_prompt": add_generation_prompt}
        return encode_chat(messages, self.tokenizer, **options, chat_template_kwargs=self.chat_template_kwargs)

    def text(self, ids: tuple[int, ...]) -> str:
        """Return the text of a turn without its end token."""
        if ids not in self._texts:
            if len(self._texts) > MOST_KEPT:
                self._texts.clear()
            self._texts[ids] = self.tokenizer.decode(ids, skip_special_tokens=True)
        return self._texts[ids]

    def append(self, c: Conversation, answer: str | Sequence[Message]) -> None:
        """Add the environment's messages, and the beginning of the next turn."""
        new = _as_reply(answer)
        roles = tuple(m["role"] for m in c.messages)
        key = (roles, *((m["role"], m.get("content")) for m in new))
        if key not in self._kept:
            ids = reply_ids(c.messages, new, self.tokenizer, chat_template_kwargs=self.chat_template_kwargs)
            whole = self._encode([*c.messages, *new])
            if whole.input_ids[-len(ids) :].tolist() != ids:
                raise ValueError(
                    f"The chat template encodes a reply otherwise within a chat than after it: {new!r:.99}."
                )
            if any(not isinstance(m.get("content"), str) or set(m) - {"role", "content", "author"} for m in new):
                self._add(c, new, ids, whole.observed[-len(ids) :].tolist())
                return
            if len(self._kept) > MOST_KEPT:
                self._kept.clear()
            self._kept[key] = ids, whole.observed[-len(ids) :].tolist()
        self._add(c, new, *self._kept[key])

    @staticmethod
    def _add(c: Conversation, new: Sequence[dict[str, Any]], ids: list[int], observed: list[bool]) -> None:
        c.messages += new
        c.ids += ids
        c.observed += observed

    def verify(self, c: Conversation) -> None:
        """Raise if the replies of a conversation are encoded otherwise when it is encoded as a whole."""
        ends_open = c.messages[-1]["role"] != "assistant"
        chat = self._encode(c.messages, add_generation_prompt=ends_open)
        ids, turns = chat.input_ids.tolist(), _turns(chat, c.messages)
        stops = [*(turn.start for turn in turns[1:]), len(ids)], [*(turn.start for turn in c.turns[1:]), len(c.ids)]
        for a, b, whole_stop, stop in zip(turns, c.turns, *stops, strict=True):
            if stop < len(c.ids) and ids[a.end : whole_stop] != c.ids[b.end : stop]:
                raise ValueError(
                    "The chat template encodes a reply in another way after other words before it: "
                    f"{c.messages[b.message + 1]!r:.99}. Choose a template that renders messages one by one."
                )


def play(
    rows: Sequence[Row],
    rngs: Sequence[tuple[np.random.Generator, np.random.Generator]],
    behaviour: Behaviour,
    environment: Environment | None,
    replies: "Replies",
    *,
    max_turns: int,
    max_length: int,
    room: int,
) -> list[Conversation]:
    """Play a conversation for each row; the history keeps the replies that the behaviour saw.

    Args:
        rows: of the data set.
        rngs: for each row, of the behaviour and of the environment.
        behaviour: the party that executes.
        environment: replies; without one, a conversation is one turn.
        replies: of the tokenizer.
        max_turns: of the assistant in a conversation.
        max_length: tokens of a conversation. One that has no room for another turn is over.
        room: tokens that a turn may have.

    Raises:
        ValueError: a prompt is too long for a turn after it.
    """
    reply = None if environment is None else with_rng(environment)
    conversations = [replies.open(row) for row in rows]
    for c in conversations:
        if len(c.ids) + room > max_length:
            raise ValueError(
                f"A prompt of {len(c.ids)} tokens leaves no room for a turn of {room} (max_new_tokens) in {max_length} "
                "tokens (max_length, or the model's context): shorten the prompt or allow more. It is not cut."
            )
    going = list(range(len(rows)))
    for _ in range(max_turns):
        spoken = behaviour.speak([conversations[i] for i in going], [rngs[i][0] for i in going])
        still = []
        for i, ids in zip(going, spoken, strict=True):
            c = conversations[i]
            _append_turn(c, ids, behaviour.author, replies)
            answer = None if reply is None else reply(c.messages, c.row, rngs[i][1])
            if answer is None:
                continue
            replies.append(c, answer)
            if c.messages[-1]["role"] != "assistant" and len(c.ids) + room <= max_length:
                still.append(i)
        going = still
        if not going:
            break
    if environment is not None:
        replies.verify(conversations[0])
    return conversations


def _append_turn(c: Conversation, ids: Sequence[int], author: Author, replies: Replies) -> None:
    """Add a turn up to its end token; one that was cut gets it."""
    end = replies.tokenizer.eos_token_id
    ids, is_cut = list(ids), end not in ids
    ids = [*ids, end] if is_cut else ids[: ids.index(end) + 1]
    c.turns.append(Turn(len(c.ids), len(c.ids) + len(ids), len(c.messages), author, is_cut))
    c.ids += ids
    c.observed += [False] * len(ids)
    text = replies.text(tuple(ids[:-1]))
    c.messages.append({"role": "assistant", "content": text, "author": author})


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
