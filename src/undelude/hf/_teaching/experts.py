"""Experts, which know theta and say what they would do: a model with a privileged prompt, or a function."""

import bisect
import contextlib
import dataclasses
import itertools
import math
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from undelude._checks import check_between, check_count
from undelude.hf._marks.chat import check_words
from undelude.hf._marks.do_tokens import num_words
from undelude.hf._marks.generation import evaluating, generate_turn
from undelude.hf._messages import without_authors
from undelude.hf._teaching.functions import check_function
from undelude.hf._teaching.losses import Targets

Message: TypeAlias = Mapping[str, Any]
Row: TypeAlias = Mapping[str, Any]
# The distribution of the next token, as log-probabilities `[V]`, or as `(ids, log-probabilities)` of the largest.
NextToken: TypeAlias = ArrayLike | tuple[ArrayLike, ArrayLike]

# The column that tells theta.
PRIVILEGED = "privileged_context"
# Turns whose tokens and distributions are kept.
MAX_KEPT = 10_000


@dataclasses.dataclass(frozen=True)
class Query:
    """A question to an expert: what would you say here?

    Attributes:
        messages: the conversation so far.
        row: of the data set, with `privileged_context`.
        rng: for the expert's draws; keyed by step and row.
        is_told: whether the row tells theta; False if the objective withholds it.
    """

    messages: Sequence[Message]
    row: Row
    rng: np.random.Generator
    is_told: bool = True


@dataclasses.dataclass(frozen=True)
class Utterance:
    """A turn of an expert: L plain token ids, the end token last, and the expert's distributions along it."""

    ids: list[int]
    targets: Targets


@runtime_checkable
class Expert(Protocol):
    """The party that knows theta."""

    def speak(self, queries: Sequence[Query], max_new_tokens: int) -> list[Utterance]:
        """Sample a turn in answer to each query."""
        ...

    def score(self, queries: Sequence[Query], turns: Sequence[Sequence[int]]) -> list[Targets]:
        """Return the distribution of the next token before each token of a turn by any author."""
        ...


class CallableExpert:
    """An expert that is a function of the conversation and of the row, privileged context included.

    Args:
        utterances: `(messages, row) -> text | {text: probability}`. A text alone is one sample: its cross-entropy has
            the same expected gradient as the whole distribution, with more noise. Probabilities are normalised. After
            words with which none of its utterances begins, such an expert ends the turn.
        tokenizer: of the student.
        next_token: in place of `utterances`, `(messages, row, ids) -> [V]` log-probabilities of the token after the
            plain token ids of the turn so far, or `(ids, log-probabilities)` of the largest; the rest is the tail.

    Raises:
        TypeError: neither of the two functions is given, or both; or it takes other arguments.
    """

    def __init__(
        self,
        utterances: Callable[[Sequence[Message], Row], str | Mapping[str, float]] | None = None,
        tokenizer: Any = None,
        *,
        next_token: Callable[[Sequence[Message], Row, Sequence[int]], NextToken] | None = None,
    ):
        if callable(utterances) == callable(next_token):
            raise TypeError(
                "CallableExpert: give one function: utterances(messages, row) -> text or {text: probability}, or "
                "next_token=f(messages, row, ids) -> log-probabilities."
            )
        name, f = ("utterances", utterances) if next_token is None else ("next_token", next_token)
        check_function(f, name)
        if tokenizer is None or getattr(tokenizer, "eos_token_id", None) is None:
            raise TypeError("CallableExpert: tokenizer must be the student's, with an end token (eos_token).")
        self.tokenizer, self.end = tokenizer, int(tokenizer.eos_token_id)
        self.utterances, self.next_token = utterances, next_token
        self._ids: dict[str, tuple[int, ...]] = {}
        self._answers: dict[Any, _Answers] = {}

    def speak(self, queries: Sequence[Query], max_new_tokens: int) -> list[Utterance]:
        """Sample a turn in answer to each query."""
        if self.next_token is not None:
            return [self._speak_by_token(query, max_new_tokens) for query in queries]
        utterances = [self._speak_by_utterance(query) for query in queries]
        for utterance in utterances:
            if len(utterance.ids) > max_new_tokens + 1:
                raise ValueError(
                    f"The expert's turn has {len(utterance.ids)} tokens, and the model may write {max_new_tokens} "
                    "(max_new_tokens): it would learn turns that it cannot finish."
                )
        return utterances

    def score(self, queries: Sequence[Query], turns: Sequence[Sequence[int]]) -> list[Targets]:
        """Return the distribution of the next token before each token of a turn.

        Raises:
            ValueError: the expert answers with a text, not with probabilities.
        """
        if self.next_token is not None:
            return [
                _stack([_as_targets(self._next(query, turn[:i])) for i in range(len(turn))])
                for query, turn in zip(queries, turns, strict=True)
            ]
        answers = [self._answer(query, "score") for query in queries]
        return [x.along(turn) for x, turn in zip(answers, turns, strict=True) if isinstance(x, _Answers)]

    def _speak_by_utterance(self, query: Query) -> Utterance:
        answer = self._answer(query, "speak")
        if isinstance(answer, _Answers):
            return answer.sample(query.rng.random())
        ids = self.turn_ids(answer)
        return Utterance(list(ids), Targets.of_tokens(torch.tensor(ids)))

    def _answer(self, query: Query, purpose: str) -> "_Answers | str":
        """Return the probabilities of turns as token ids, or a text alone."""
        assert self.utterances is not None
        answer = self.utterances(query.messages, query.row)
        if isinstance(answer, str):
            if purpose == "score":
                raise ValueError(
                    "The expert answered with a text, and its distribution after other words is asked for, as "
                    'granularity="token" and the expert\'s answers to stored turns need. Return {text: probability}, '
                    'give next_token=, or use granularity="turn".'
                )
            return answer
        if not isinstance(answer, Mapping) or not answer:
            raise TypeError(
                f"The expert must answer with a text or with {{text: probability}}, not with {answer!r:.99}."
            )
        # As numbers: an array may change later, and JAX's cannot be a key.
        probs = {text: float(p) for text, p in answer.items()}
        key = tuple(probs.items())
        known = self._answers.get(key)
        if known is None:
            if len(self._answers) > MAX_KEPT:
                self._answers.clear()
            known = self._answers[key] = _Answers(self._probabilities(probs), self.end)
        return known

    def _probabilities(self, answer: Mapping[str, float]) -> dict[tuple[int, ...], float]:
        """Return the probabilities of turns as token ids."""
        probs: dict[tuple[int, ...], float] = {}
        for text, p in answer.items():
            if not (0 <= p < math.inf):
                raise ValueError(
                    f"The expert gives {text!r:.50} the probability {p}: it must be 0 or more, and finite."
                )
            ids = self.turn_ids(text)
            probs[ids] = probs.get(ids, 0.0) + p
        if not sum(probs.values()) > 0:
            raise ValueError(f"The expert gives no utterance a positive probability: {dict(answer)!r:.99}.")
        return probs

    def turn_ids(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a turn: those of the text, and the end token."""
        if text not in self._ids:
            if len(self._ids) > MAX_KEPT:
                self._ids.clear()
            self._ids[text] = tuple(turn_ids(text, self.tokenizer))
        return self._ids[text]

    def _next(self, query: Query, ids: Sequence[int]) -> Any:
        assert self.next_token is not None
        return self.next_token(query.messages, query.row, list(ids))

    def _speak_by_token(self, query: Query, max_new_tokens: int) -> Utterance:
        ids: list[int] = []
        steps: list[Targets] = []
        while len(ids) < max_new_tokens and self.end not in ids:
            target = _as_targets(self._next(query, ids))
            steps.append(target)
            if target.tail is not None:
                target = _without_tail(target)
            probs = target.log_probs[0].double().exp().cumsum(0)
            k = int(torch.searchsorted(probs, query.rng.random() * float(probs[-1]), right=True))
            ids.append(k if target.ids is None else int(target.ids[0, k]))
        return Utterance(ids, _stack(steps))


def turn_ids(text: str, tokenizer: Any) -> list[int]:
    """Return the token ids of a turn: those of the text, and the end token."""
    return [*tokenizer.encode(text, add_special_tokens=False), int(tokenizer.eos_token_id)]


class _Answers:
    """The probabilities of an expert's turns, whose distributions along turns are kept.

    Args:
        probs: of turns as token ids.
        end: the end token.
    """

    def __init__(self, probs: Mapping[tuple[int, ...], float], end: int):
        self.probs, self.end = probs, end
        self._turns, self._cumulative = list(probs), list(itertools.accumulate(probs.values()))
        # The last turn with a positive probability; rounding must not choose a later one.
        self._last = bisect.bisect_left(self._cumulative, self._cumulative[-1])
        self._targets: dict[tuple[int, ...], Targets] = {}

    def sample(self, u: float) -> Utterance:
        """Return the turn that a number from 0 to 1 chooses."""
        ids = self._turns[bisect.bisect_right(self._cumulative, u * self._cumulative[-1], hi=self._last)]
        return Utterance(list(ids), self.along(ids))

    def along(self, turn: Sequence[int]) -> Targets:
        """Return the distributions of the next token along a turn, by summing over the utterances that go on."""
        key = tuple(turn)
        if key not in self._targets:
            if len(self._targets) > MAX_KEPT:
                self._targets.clear()
            self._targets[key] = self._sum_along(key)
        return self._targets[key]

    def _sum_along(self, turn: tuple[int, ...]) -> Targets:
        steps = []
        for i in range(len(turn)):
            prefix, mass = turn[:i], {}
            for ids, p in self.probs.items():
                if p > 0 and len(ids) > i and ids[:i] == prefix:
                    mass[ids[i]] = mass.get(ids[i], 0.0) + p
            mass, total = mass or {self.end: 1.0}, sum(mass.values()) or 1.0
            steps.append((list(mass), [math.log(p / total) for p in mass.values()]))
        width = max(len(ids) for ids, _ in steps)
        ids = [ids + [0] * (width - len(ids)) for ids, _ in steps]
        log_probs = [log_p + [-math.inf] * (width - len(log_p)) for _, log_p in steps]
        return Targets(torch.tensor(log_probs), torch.tensor(ids))


def _as_targets(answer: Any) -> Targets:
    """Return a distribution of the next token as targets at one position."""
    if isinstance(answer, tuple):
        ids, log_probs = answer
        log_p = torch.as_tensor(np.asarray(log_probs, np.float32))
        rest = 1 - float(log_p.double().exp().sum())
        check_between("The expert's probabilities of the tokens that it names, together", 1 - rest, 0, 1 + 1e-4)
        tail = torch.tensor([math.log(rest)]) if rest > 1e-6 else None
        return Targets(log_p[None], torch.as_tensor(np.asarray(ids, np.int64))[None], tail)
    return Targets(torch.as_tensor(np.asarray(answer, np.float32)).log_softmax(-1)[None])


def _without_tail(target: Targets) -> Targets:
    raise ValueError(
        "The expert names the largest probabilities only, and a turn of it must be drawn: return all of them, or use "
        'granularity="token", in which it does not speak.'
    )


def _stack(steps: Sequence[Targets]) -> Targets:
    return Targets.concatenate(steps)


def check_template(template: str, who: str) -> None:
    """Raise `ValueError` if a template does not use the privileged context."""
    if PRIVILEGED not in {name for _, name, _, _ in string.Formatter().parse(template)}:
        raise ValueError(
            f"{who}: template {template!r:.99} does not use {{{PRIVILEGED}}}, so that the teacher knows no more than "
            "the student."
        )


def told(query: Query, template: str, who: str) -> list[dict[str, Any]]:
    """Return the messages that a teacher reads: the first one of the user is replaced by the template."""
    messages = without_authors(query.messages)
    first = next((i for i, m in enumerate(messages) if m["role"] == "user"), None)
    if first is None:
        raise ValueError(f"{who}: the conversation has no message of the user: {messages!r:.99}.")
    if query.is_told:
        if query.row.get(PRIVILEGED) is None:
            raise ValueError(f"{who}: the row has no {PRIVILEGED}; the teacher has nothing to be told.")
        if not isinstance(content := messages[first].get("content"), str):
            raise TypeError(
                f"{who}: the content of the user's first message must be a text, which the template can contain, not "
                f"{content!r:.99}."
            )
        fields = {**query.row, "prompt": content}
        messages[first] = {"role": "user", "content": template.format(**fields)}
    return messages


class PromptedExpert:
    """A language model that is told more than the student.

    The teacher reads the same conversation, as plain ids of its own chat template, and the first message of the user is
    replaced by `template`. It is a fixed mechanism: its temperature is 1, its parameters do not move, and its prompt is
    never cut.

    Args:
        teacher: a causal language model with the student's vocabulary. None: the student with its adapter off, which
            needs PEFT.
        tokenizer: of the teacher and of the student.
        template: with the fields `{prompt}`, `{privileged_context}`, and any other column of the data set.
        top_k: keep only so many of its largest probabilities, and the sum of the others. It saves memory.
        batch_size: of turns that the teacher reads at a time.
        chat_template_kwargs: further arguments of the chat template; by default, those of the trainer's configuration.

    Raises:
        ValueError: `template` does not use the privileged context.
    """

    def __init__(
        self,
        teacher: torch.nn.Module | None,
        tokenizer: Any,
        *,
        template: str = "{prompt}\n\n{privileged_context}",
        top_k: int | None = None,
        batch_size: int = 16,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ):
        check_template(template, type(self).__name__)
        if tokenizer.eos_token_id is None:
            raise ValueError("PromptedExpert: the tokenizer has no end token (eos_token): a turn would never end.")
        self.teacher, self.tokenizer, self.template = teacher, tokenizer, template
        self.top_k = None if top_k is None else check_count("PromptedExpert: top_k", top_k)
        self.batch_size = check_count("PromptedExpert: batch_size", batch_size)
        # The arguments given here, and those in use, which may be a trainer's.
        self.chat_template_kwargs = self._template = chat_template_kwargs
        self._adapter: Any = None

    def bind(self, student: torch.nn.Module, chat_template_kwargs: Mapping[str, Any] | None = None) -> None:
        """Take the student for the teacher if there is no other, and check that the teacher does not move.

        Args:
            student: the model that is taught.
            chat_template_kwargs: of the trainer's configuration.

        Raises:
            ValueError: the teacher would move: it is the student, or shares parameters that are trained.
        """
        if self.chat_template_kwargs is None:
            self._template = chat_template_kwargs
        if self.teacher is None:
            if not callable(getattr(student, "disable_adapter", None)):
                raise ValueError(
                    "PromptedExpert(None, ...) is the student with its adapter off, and this student has no adapter: "
                    "its weights are trained, so that the teacher would move with them. Pass peft_config=, or a copy "
                    "of the model as the teacher."
                )
            with self._off(student):
                pass
            self._adapter = student
            return
        trained = {id(p) for p in student.parameters() if p.requires_grad}
        if any(id(p) in trained for p in self.teacher.parameters()):
            raise ValueError(
                "PromptedExpert: the teacher shares parameters with the student that is trained, so that it would "
                "move: pass a copy of the model, or None with peft_config=."
            )
        self.teacher.eval()

    @property
    def model(self) -> torch.nn.Module:
        """The model that is asked."""
        model = self._adapter if self.teacher is None else self.teacher
        if model is None:
            raise ValueError("PromptedExpert(None, ...) has no student yet: pass it to a CounterfactualTrainer.")
        return model

    @staticmethod
    @contextlib.contextmanager
    def _off(student: Any) -> Iterator[None]:
        """Turn the adapter off, and dropout with it."""
        with evaluating(student), student.disable_adapter():
            yield

    @contextlib.contextmanager
    def _asked(self) -> Iterator[torch.nn.Module]:
        model = self.model
        with torch.no_grad(), self._off(model) if self.teacher is None else contextlib.nullcontext():
            yield model

    def prompt_ids(self, query: Query) -> list[int]:
        """Return the plain token ids that the teacher reads: its own first message, and the conversation after it."""
        messages = told(query, self.template, type(self).__name__)
        options = {"add_generation_prompt": True, "tokenize": True, "return_dict": False}
        return list(self.tokenizer.apply_chat_template(messages, **options, **(self._template or {})))

    def speak(self, queries: Sequence[Query], max_new_tokens: int) -> list[Utterance]:
        """Sample a turn in answer to each query, token by token, at temperature 1."""
        prompts = [self._checked(self.prompt_ids(query), max_new_tokens) for query in queries]
        utterances: list[Utterance] = []
        for i in range(0, len(queries), self.batch_size):
            chosen = slice(i, i + self.batch_size)
            turns = self._sample(prompts[chosen], queries[chosen], max_new_tokens)
            utterances += map(Utterance, turns, self._score(prompts[chosen], turns))
        return utterances

    def score(self, queries: Sequence[Query], turns: Sequence[Sequence[int]]) -> list[Targets]:
        """Return the distribution of the next token before each token of a turn by any author."""
        prompts = [self._checked(self.prompt_ids(q), len(turn)) for q, turn in zip(queries, turns, strict=True)]
        targets: list[Targets] = []
        for i in range(0, len(queries), self.batch_size):
            chosen = slice(i, i + self.batch_size)
            targets += self._score(prompts[chosen], turns[chosen])
        return targets

    def _checked(self, prompt: list[int], room: int) -> list[int]:
        """Return the prompt if it fits the teacher's context, with room for a turn."""
        longest = getattr(getattr(self.model, "config", None), "max_position_embeddings", None)
        if longest is not None and len(prompt) + room > longest:
            raise ValueError(
                f"PromptedExpert: the teacher's prompt has {len(prompt)} tokens, and a turn of {room} does not fit its "
                f"context of {longest}. It is never cut, because what is cut may be the privileged context: shorten "
                "the prompt, play fewer turns (max_turns), or use a teacher with a longer context."
            )
        check_words(prompt, num_words(self.model), self.tokenizer)
        return prompt

    def _sample(self, prompts: Sequence[list[int]], queries: Sequence[Query], max_new_tokens: int) -> list[list[int]]:
        """Sample turns of the teacher."""
        with self._asked() as model:
            ids, mask = pad(prompts, self.tokenizer.pad_token_id or 0, next(model.parameters()).device, left=True)
            uniforms = torch.tensor(np.stack([query.rng.random(max_new_tokens) for query in queries]))
            end = int(self.tokenizer.eos_token_id)
            turns = generate_turn(
                model, ids, mask, eos_token_id=end, max_new_tokens=max_new_tokens, uniforms=uniforms
            ).tolist()
        return [turn[: turn.index(end) + 1] if end in turn else turn for turn in turns]

    def _score(self, prompts: Sequence[list[int]], turns: Sequence[Sequence[int]]) -> list[Targets]:
        """Return the teacher's predictions along the turns, from one pass over prompts and turns."""
        with self._asked() as model:
            sequences = [[*prompt, *turn[:-1]] for prompt, turn in zip(prompts, turns, strict=True)]
            ids, mask = pad(sequences, self.tokenizer.pad_token_id or 0, next(model.parameters()).device)
            logits = model(input_ids=ids, attention_mask=mask).logits
            targets = []
            for row, prompt, turn in zip(logits, prompts, turns, strict=True):
                log_probs = row[len(prompt) - 1 : len(prompt) - 1 + len(turn)].float().log_softmax(-1)
                targets.append(Targets(log_probs) if self.top_k is None else largest(log_probs, self.top_k))
        return targets


def largest(log_probs: Float[torch.Tensor, "N V"], k: int) -> Targets:
    """Return the k largest probabilities, and the sum of the others as the tail."""
    if k >= log_probs.shape[-1]:
        return Targets(log_probs)
    top, ids = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, ids, -math.inf).logsumexp(-1)
    return Targets(top, ids, rest)


def pad(
    sequences: Sequence[Sequence[int]], fill: int, device: torch.device, *, left: bool = False
) -> tuple[Int[torch.Tensor, "B T"], Int[torch.Tensor, "B T"]]:
    """Return sequences as a tensor, padded to the longest, and the mask of the real ids."""
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    T = int(lengths.max())
    at = np.arange(T) >= (T - lengths)[:, None] if left else np.arange(T) < lengths[:, None]
    ids = np.full(at.shape, fill)
    ids[at] = np.fromiter(itertools.chain.from_iterable(sequences), np.int64, int(lengths.sum()))
    return torch.from_numpy(ids).to(device), torch.from_numpy(at.astype(np.int64)).to(device)
