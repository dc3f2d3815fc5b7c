"""A conversation in which a model is asked for its belief after each of its own utterances."""

import dataclasses
import difflib
import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import numpy as np

from undelude.hf._measuring.estimates import Answers, agreement, calibration_gap, entropy, kl, mutual_information
from undelude.hf._measuring.speakers import Request
from undelude.hf._menu.menu_dialogue import MenuDialogue, Messages, Row
from undelude.tasks.menu import AGAIN, NO, REPLIES, YES

# The fields of a transcript.
FIELDS = ("messages", "probe", "answers", "truth", "candidates", "evidence", "no_answer", "denial")
Numbers = dict[str, float]
Environment = Callable[[Messages, Row], str | list[dict[str, Any]] | None]


@dataclasses.dataclass(frozen=True)
class ProbedConversation:
    """A conversation, and the question by which the model's belief is measured in it.

    Attributes:
        messages: a transcript, or the prompt of a conversation that is still to be held. The assistant's messages of
            author "self" are the model's own turns, and each is measured; without any, the next message is.
        probe: the question, which the user asks after an own turn, and which is then taken back. If it is `no_answer`,
            the answer is the model's next utterance.
        answers: the texts of which the answer is one.
        truth: the number of the true answer; None if it is not known.
        candidates: the texts of which an own turn is one; None to sample them from the model.
        evidence: replies of which each tells something about the answer, such as "Yes." and "No.".
        no_answer: a reply that tells nothing.
        denial: a reply that says that the guess is wrong.
        environment: replies to own turns of a conversation that is still to be held; None for a transcript.
        row: given to the environment.
        seed: of the model's own turns.
    """

    messages: tuple[Mapping[str, Any], ...]
    probe: str
    answers: tuple[str, ...]
    truth: int | None = None
    candidates: tuple[str, ...] | None = None
    evidence: tuple[str, ...] = ()
    no_answer: str | None = None
    denial: str | None = None
    environment: Environment | None = None
    row: Row = dataclasses.field(default_factory=dict)
    seed: int = 0

    @classmethod
    def of_menu(cls, dialogue: MenuDialogue, row: Row) -> "ProbedConversation":
        """Return the conversation of a row of a menu, still to be held."""
        return cls(
            messages=tuple(dialogue.opening(row["prompt"])),
            probe=dialogue.probe,
            answers=tuple(dialogue.utterances),
            truth=row["theta"],
            candidates=tuple(dialogue.utterances),
            evidence=(REPLIES[YES], REPLIES[NO]),
            no_answer=REPLIES[AGAIN],
            denial=REPLIES[NO],
            environment=dialogue,
            row=row,
            seed=row["seed"],
        )

    @classmethod
    def of_row(cls, row: Row, number: int) -> "ProbedConversation":
        """Return the conversation of a row of a data set, a transcript.

        Raises:
            ValueError: something is missing in the row or wrong; the message names the row.
        """
        where = f"measure_delusion: conversation {number}"
        for name in map(str, row):
            [meant] = difflib.get_close_matches(name.lower(), FIELDS, 1, 0.75) or [name]
            if meant != name and row.get(meant) is None:
                raise ValueError(
                    f"{where} has {name!r}, which is not read. Did you mean {meant!r}? Rename it, or leave it out."
                )
        if missing := [name for name in ("messages", "probe", "answers") if not row.get(name)]:
            raise ValueError(f"{where} has no {' and no '.join(missing)}; it has {sorted(row)}.")
        answers = _texts(row, "answers", where)
        if len(answers) < 2:
            raise ValueError(f"{where}: answers must be two or more different texts, not {row['answers']!r:.99}.")
        for i, message in enumerate(row["messages"]):
            if message.get("role") == "assistant" and message.get("author") is None:
                raise ValueError(
                    f'{where}: message {i} is the assistant\'s and has no author. Give it the author "self" if the '
                    'model itself wrote it, and "expert" or "other" if somebody else did.'
                )
        last = row["messages"][-1]
        if last["role"] == "assistant" and not any(x.get("author") == "self" for x in row["messages"]):
            raise ValueError(
                f'{where} has no turn with the author "self", and ends with an assistant\'s message by '
                f"{last.get('author')!r}, which the model would not continue: give its own turns this author, or end "
                "with a message of the user."
            )
        truth = row.get("truth")
        if isinstance(truth, str):
            if truth not in answers:
                raise ValueError(f"{where}: truth {truth!r:.99} is none of the answers {list(answers)}.")
            truth = answers.index(truth)
        if truth is not None and not 0 <= truth < len(answers):
            raise ValueError(f"{where}: truth must be from 0 to {len(answers) - 1}, not {truth}.")
        candidates = _texts(row, "candidates", where) or None
        return cls(
            messages=tuple({"author": "other", **message} for message in row["messages"]),
            probe=row["probe"],
            answers=answers,
            truth=truth,
            candidates=candidates,
            evidence=_texts(row, "evidence", where),
            no_answer=row.get("no_answer"),
            denial=row.get("denial"),
            seed=number,
        )

    def requests_a_round(self, num_samples: int) -> int:
        """Return the most requests that a round takes, if `num_samples` utterances are drawn without candidates."""
        num_own = num_samples if self.candidates is None else len(self.candidates)
        num_replies = sum(x is not None for x in (self.no_answer, self.denial)) if self.candidates else 0
        # Its own utterance; the beliefs after each, after a stored one, after another's; the utterances after replies.
        return 1 + num_own + bool(self.own_turns) + 1 + len(self.evidence) + num_replies

    @property
    def num_rounds(self) -> int:
        """The number of own turns; 1 for an environment that does not say how many it takes."""
        return len(self.own_turns) or getattr(self.environment, "num_turns", 1)

    @property
    def own_turns(self) -> list[int]:
        """The numbers of the messages that are the model's own."""
        return [i for i, x in enumerate(self.messages) if x["role"] == "assistant" and x.get("author") == "self"]


def hold(
    c: ProbedConversation, reads_authors: bool, measured: list[Numbers]
) -> Generator[list[Request], list[Answers]]:
    """Hold a conversation and measure each of its rounds.

    Args:
        c: the conversation.
        reads_authors: whether the model tells another's words in the assistant's slot from its own. Otherwise another's
            words are put into the user's slot.
        measured: gets the numbers of each round.

    Yields:
        Lists of requests; their answers are to be sent.
    """
    rng = np.random.default_rng([c.seed, 0])
    history, turns = c.messages, c.own_turns
    for t in range(len(turns) or 1) if c.environment is None else itertools.count():
        if turns:
            history = c.messages[: turns[t]]
        [own] = yield [Request(history, c.candidates)]
        texts = own.texts if c.candidates is None else c.candidates
        if turns:
            said = c.messages[turns[t]]["content"]
        elif np.isfinite(own.probs).all() and len(texts):
            said = texts[rng.choice(len(texts), p=own.probs)]
        else:
            measured.append({"coverage": own.coverage, "utterance_coverage": own.coverage})
            return
        after, numbers = yield from _measure_round(c, history, own, texts, said, reads_authors)
        measured.append(numbers)
        reply = None if c.environment is None else c.environment(after, c.row)
        if reply is None and not turns:
            return
        history = (*after, *([_user(reply)] if isinstance(reply, str) else reply or ()))


def _measure_round(
    c: ProbedConversation,
    history: tuple[Mapping[str, Any], ...],
    own: Answers,
    texts: Sequence[str],
    said: str,
    reads_authors: bool,
) -> Generator[list[Request], list[Answers], tuple[tuple[Mapping[str, Any], ...], Numbers]]:
    """Ask for everything that is measured after an own turn; return the conversation after it, and the numbers."""

    def ask(*messages: Mapping[str, Any]) -> Request:
        # The next utterance, which is asked for by a reply that tells nothing, follows any reply.
        asked = messages[-1]["role"] == "user" and c.probe == c.no_answer
        return Request((*history, *messages, *([] if asked else [_user(c.probe)])), c.answers)

    kept = texts if c.candidates is not None else [x for x, p in zip(texts, own.probs, strict=True) if p > 0]
    requests: dict[Any, Request] = {("own", text): ask(_assistant(text)) for text in kept}
    requests["own", said] = ask(_assistant(said))
    requests["other"] = ask(_assistant(said, "other") if reads_authors else _user(said))
    for i, reply in enumerate(c.evidence):
        requests["evidence", i] = ask(_assistant(said), _user(reply))
    if c.candidates is not None and said in c.candidates:
        for name, reply in (("no_answer", c.no_answer), ("denial", c.denial)):
            if reply is not None:
                requests[name] = Request((*history, _assistant(said), _user(reply)), c.candidates)
    sent = yield list(requests.values())
    answers = dict(zip(requests, sent, strict=True))
    given = [answers["own", text] for text in kept]
    belief = answers["own", said]
    numbers = {
        "auto_suggestion": mutual_information(own, given),
        "variety": entropy(own),
        "provenance_kl": kl(belief, answers["other"]),
        "confidence": agreement(belief),
        "coverage": float(np.mean([own.coverage, *(x.coverage for x in answers.values())])),
        "utterance_coverage": own.coverage,
        "answer_coverage": float(np.mean([answers["own", text].coverage for text in {*kept, said}])),
    }
    if c.candidates is not None:
        equal = Answers(np.full(len(kept), 1 / len(kept)))
        numbers["suggestibility"] = mutual_information(equal, given)
    if c.evidence:
        equal = Answers(np.full(len(c.evidence), 1 / len(c.evidence)))
        told = [answers["evidence", i] for i in range(len(c.evidence))]
        numbers["informativeness"] = mutual_information(equal, told)
        numbers["evidence_coverage"] = float(np.mean([x.coverage for x in told]))
    for name in ("no_answer", "denial"):
        if name in answers:
            assert c.candidates is not None
            numbers[f"repeat_after_{name}"] = float(answers[name].probs[c.candidates.index(said)])
    if c.truth is not None:
        numbers["hit"] = float(belief.probs[c.truth])
        numbers["overconfidence"] = numbers["confidence"] - numbers["hit"]
        numbers["calibration_gap"] = calibration_gap(belief, c.truth)
    return (*history, _assistant(said)), numbers


def _texts(row: Row, name: str, where: str) -> tuple[str, ...]:
    texts = row.get(name) or ()
    if isinstance(texts, str) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{where}: {name} must be a list of texts, not {texts!r:.99}.")
    if len(set(texts)) < len(texts):
        raise ValueError(f"{where}: {name} has the same text twice: {list(texts)}.")
    return tuple(texts)


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "author": "other"}


def _assistant(text: str, author: str = "self") -> dict[str, Any]:
    return {"role": "assistant", "content": text, "author": author}
