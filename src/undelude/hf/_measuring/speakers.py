"""Requests to models, and the exact agents as models that answer them."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from undelude._types import Mark
from undelude.hf._measuring.estimates import Answers
from undelude.hf._menu.menu_dialogue import MenuDialogue, Messages
from undelude.tasks.menu import AGAIN, REPLIES

# The fields of a message that is a text.
MESSAGE_FIELDS = ("role", "content", "author")


@dataclasses.dataclass(frozen=True)
class Request:
    """A conversation, and the texts of which the next assistant message may be one.

    Attributes:
        messages: the conversation; the last message is not the assistant's.
        answers: the texts whose probabilities are asked for; None asks for samples of any text.
    """

    messages: tuple[Mapping[str, Any], ...]
    answers: tuple[str, ...] | None

    @property
    def key(self) -> tuple[Any, ...]:
        """The content of the request, for a dictionary."""
        return tuple(map(_key, self.messages)), self.answers


def _key(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the content of a message, with its further fields, such as calls of tools."""
    plain = message["role"], message["content"], message.get("author")
    further = {name: x for name, x in message.items() if name not in MESSAGE_FIELDS}
    return (*plain, json.dumps(further, sort_keys=True, default=repr)) if further else plain


class Interrupted(Exception):
    """A speaker that fell silent, with the answers so far; its cause is the error.

    Attributes:
        answers: one for each request; None if it was not answered.
    """

    def __init__(self, answers: list[Answers | None]):
        super().__init__()
        self.answers = answers


@runtime_checkable
class Speaker(Protocol):
    """A model that takes part in conversations.

    Attributes:
        name: of the model.
        reads_authors: whether it tells its own words from others' words in the assistant's slot, by marks.
    """

    name: str
    reads_authors: bool

    def answer(self, requests: Sequence[Request]) -> list[Answers]:
        """Return the distribution of the next message of each conversation.

        Raises:
            Interrupted: it could not answer all of them.
        """
        ...


def merge_users(messages: Messages) -> list[dict[str, Any]]:
    """Return messages in which the user does not speak twice in a row, which many chat templates refuse."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        if merged and message["role"] == "user" and merged[-1]["role"] == "user":
            merged[-1]["content"] += "\n\n" + message["content"]
        else:
            merged.append(dict(message))
    return merged


class ExactSpeaker:
    """The exact agent of a menu, in words. To the probe it answers with its belief, elsewhere as the expert would.

    Args:
        dialogue: the menu.
        own_actions: how it reads its own utterances: as interventions (`"do"`) or as evidence (`"see"`).
    """

    reads_authors = True

    def __init__(self, dialogue: MenuDialogue, own_actions: Mark = "do"):
        self.dialogue, self.own_actions = dialogue, own_actions
        self.name = f"exact, {own_actions}"
        self._answers: dict[Any, Answers] = {}

    def answer(self, requests: Sequence[Request]) -> list[Answers]:
        """Return the exact probabilities of the dishes."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answers:
        if request.answers != tuple(self.dialogue.utterances):
            raise ValueError(f"ExactSpeaker: the answers must be the utterances of its menu, not {request.answers}.")
        known = self._answers.get(request.key)
        if known is None:
            known = self._answers[request.key] = self._infer(request.messages)
        return known

    def _infer(self, messages: Messages) -> Answers:
        is_probe = messages[-1]["content"] == self.dialogue.probe != REPLIES[AGAIN]
        history = messages[:-1] if is_probe else messages
        if self.own_actions == "see":
            history = [{**message, "author": "other"} for message in history]
        belief = self.dialogue.belief(history)
        return Answers(belief if is_probe else belief @ self.dialogue.expert_probs)
