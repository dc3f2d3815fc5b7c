"""Conversations are played: a behaviour that is not shown theta speaks, and an environment replies."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from undelude.hf._marks.generation import generate_turn
from undelude.hf._teaching.conversations import Author, Conversation, Replies, Turn
from undelude.hf._teaching.experts import Expert, Message, Query, Row, pad
from undelude.hf._teaching.functions import with_rng

# The world: the reply to the last message, as text or messages; None if the conversation is over.
Environment: TypeAlias = Callable[[Sequence[Message], Row], str | Sequence[Message] | None]
# A behaviour that is not shown theta: the text of the next turn.
Rollouts: TypeAlias = Callable[[Sequence[Message], Row], str]


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

    def __init__(self, function: Rollouts, tokenizer: Any, public: Sequence[str]):
        self.function, self.public = with_rng(function), public
        self.end = tokenizer.eos_token_id
        # A function that guesses says the same few texts again and again.
        self.encode = functools.lru_cache(4096)(lambda text: tokenizer.encode(text, add_special_tokens=False))

    def speak(self, conversations: Sequence[Conversation], rngs: Sequence[np.random.Generator]) -> list[list[int]]:
        """Ask the function for the next turn of each conversation."""
        texts = [
            self.function(c.shown(), c.public_row(self.public), rng) for c, rng in zip(conversations, rngs, strict=True)
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
        queries = [Query(c.shown(), c.row, rng) for c, rng in zip(conversations, rngs, strict=True)]
        return [utterance.ids for utterance in self.expert.speak(queries, self.max_new_tokens)]


def play(
    rows: Sequence[Row],
    rngs: Sequence[np.random.Generator],
    world_rngs: Sequence[np.random.Generator],
    behaviour: Behaviour,
    environment: Environment | None,
    replies: Replies,
    *,
    max_turns: int,
    max_length: int,
    room: int,
) -> list[Conversation]:
    """Play a conversation for each row; the history keeps the replies that the behaviour saw.

    Args:
        rows: of the data set.
        rngs: of the behaviour, one for each row.
        world_rngs: of the environment.
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
        spoken = behaviour.speak([conversations[i] for i in going], [rngs[i] for i in going])
        still = []
        for i, ids in zip(going, spoken, strict=True):
            c = conversations[i]
            _append_turn(c, ids, behaviour.author, replies)
            answer = None if reply is None else reply(c.shown(), c.row, world_rngs[i])
            if answer is None:
                continue
            replies.append(c, answer)
            if c.messages[-1]["role"] != "assistant" and len(c.ids) + room <= max_length:
                still.append(i)
        going = still
        if not going:
            break
    if environment is not None:
        replies.verify(conversations)
    return conversations


def _append_turn(c: Conversation, ids: Sequence[int], author: Author, replies: Replies) -> None:
    """Add a turn up to its end token; one that was cut gets it."""
    words, text = replies.said(ids)
    c.turns.append(Turn(len(c.ids), len(c.ids) + len(words), len(c.messages), author, replies.end not in ids))
    c.ids += words
    c.observed += [False] * len(words)
    c.messages.append({"role": "assistant", "content": text, "author": author})
