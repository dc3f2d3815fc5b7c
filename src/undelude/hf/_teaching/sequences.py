"""Scored sequences: a conversation, what the expert would have said at each own turn, and the batch of several."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from undelude.hf._teaching.conversations import Author, Conversation, Turn
from undelude.hf._teaching.experts import Expert, Query
from undelude.hf._teaching.losses import Targets
from undelude.hf._teaching.objectives import Objective

Granularity = Literal["turn", "token"]


@dataclasses.dataclass
class Scored:
    """A sequence of ids, and what is scored in it.

    The prediction at position t is that of the id after it. By turn, the expert's utterances are branches: their words
    follow the history up to an own turn, and no other word sees them.

    Attributes:
        ids: of the history, marked.
        branches: `(start, ids)`, words of the expert that follow `ids[:start]`.
        actions: `(positions, targets)` of the expert's distributions; positions are those in the history and then in
            the branches, in order.
        observations: `(position, id)` of the words of others.
        weight: of the sequence's tokens in the mean loss.
        said: for each played turn, and for each utterance of the expert, its author, and whether it had no room for its
            end token.
    """

    ids: list[int]
    branches: list[tuple[int, list[int]]] = dataclasses.field(default_factory=list)
    actions: list[tuple[list[int], Targets]] = dataclasses.field(default_factory=list)
    observations: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    weight: float = 1.0
    said: list[tuple[Author, bool]] = dataclasses.field(default_factory=list)

    def trim(self) -> None:
        """Drop the end of the history that predicts nothing that is scored."""
        before = len(self.ids)
        needed = [start - 1 for start, _ in self.branches] + [t for t, _ in self.observations]
        needed += [t for positions, _ in self.actions for t in positions if t < before]
        stop = max(needed, default=0) + 1
        if stop < before:
            self.ids = self.ids[:stop]
            shift = before - stop
            self.actions = [([t - shift if t >= before else t for t in ts], q) for ts, q in self.actions]

    def __len__(self) -> int:
        return len(self.ids) + sum(len(ids) for _, ids in self.branches)

    def rows(self) -> list["Scored"]:
        """Return one sequence for the history, and one for each branch, in which its words follow it."""
        main = Scored(self.ids, observations=self.observations, weight=self.weight)
        rows, first = [main], len(self.ids)
        spans = []
        for start, ids in self.branches:
            spans.append((start, first, first + len(ids), ids))
            first += len(ids)
        for positions, targets in self.actions:
            span = next((s for s in spans if any(s[1] <= t < s[2] for t in positions)), None)
            if span is None:
                main.actions.append((positions, targets))
                continue
            start, low, _, ids = span
            at = [t if t < len(self.ids) else start + t - low for t in positions]
            rows.append(Scored(self.ids[:start] + ids, actions=[(at, targets)], weight=self.weight))
        main.trim()
        return [row for row in rows if row.actions or row.observations]


def score(
    conversations: Sequence[Conversation],
    rngs: Sequence[np.random.Generator],
    objective: Objective,
    expert: Expert | None,
    *,
    V: int | None,
    granularity: Granularity,
    max_new_tokens: int,
    stored_weight: float = 1.0,
    public_columns: Sequence[str] = (),
) -> list[Scored]:
    """Return the scored sequences of conversations; the expert is asked once for all of them.

    Args:
        conversations: played or stored.
        rngs: for the expert's draws, one for each conversation.
        objective: what is scored.
        expert: is asked at own turns, and for its distributions along the turns that it wrote; None if turns are scored
            as they are.
        V: the size of the vocabulary, if own words are marked do(x) = x + V.
        granularity: the unit of intervention.
        max_new_tokens: of an utterance of the expert.
        stored_weight: of the tokens of stored transcripts.
        public_columns: the columns that an expert without the context is shown beside the prompt.
    """
    scored, speaks, scores = [], [], []
    for c, rng in zip(conversations, rngs, strict=True):
        weight = stored_weight if c.is_stored else 1.0
        s = Scored(list(c.ids) if V is None else c.marked(V), weight=weight)
        s.said = [] if c.is_stored else [(turn.author, turn.is_cut) for turn in c.turns[c.num_given :]]
        if objective.factual:
            s.observations = [(t - 1, c.ids[t]) for t, observed in enumerate(c.observed) if observed and t > 0]
        scored.append(s)
        for turn in c.turns[c.num_given :] if objective.actions else ():
            words = c.ids[turn.start : turn.end]
            query = _query(c, turn, rng, objective, public_columns)
            if turn.author == "self" and objective.asks:
                (speaks if granularity == "turn" else scores).append((s, turn, query, words))
            elif expert is not None and objective.asks and query.row.get("privileged_context") is not None:
                scores.append((s, turn, query, words))
            else:
                s.actions.append((_along(turn), Targets.of_tokens(torch.tensor(words))))
    if expert is None and (speaks or scores):
        raise ValueError(f'objective="{objective.name}" scores what an expert would say: pass expert=.')
    if scores and expert is not None:
        answers = expert.score([query for _, _, query, _ in scores], [words for *_, words in scores])
        for (s, turn, _, _), targets in zip(scores, answers, strict=True):
            s.actions.append((_along(turn), targets))
    if speaks and expert is not None:
        utterances = expert.speak([query for _, _, query, _ in speaks], max_new_tokens)
        for (s, turn, _, words), utterance in zip(speaks, utterances, strict=True):
            s.said.append(("expert", utterance.ids[-1] != words[-1]))  # A turn ends with the end token, or is cut.
            first = len(s)
            s.branches.append((turn.start, utterance.ids[:-1]))
            after = range(first, first + len(utterance.ids) - 1)
            s.actions.append(([turn.start - 1, *after], utterance.targets))
    for s in scored:
        s.trim()
    return scored


def _along(turn: Turn) -> list[int]:
    """Return the positions that predict the tokens of a turn."""
    return list(range(turn.start - 1, turn.end - 1))


def _query(c: Conversation, turn: Turn, rng: np.random.Generator, objective: Objective, public: Sequence[str]) -> Query:
    query = c.query(turn, rng)
    return query if objective.privileged else dataclasses.replace(query, row=c.public_row(public), is_told=False)


@dataclasses.dataclass
class Groups:
    """The scored positions of a batch, and their targets.

    Attributes:
        row, position: `[N]`, of the predictions.
        weight: `[N]`.
        targets: at these positions.
    """

    row: Int[torch.Tensor, " N"]
    position: Int[torch.Tensor, " N"]
    weight: Float[torch.Tensor, " N"]
    targets: Targets

    def __len__(self) -> int:
        return len(self.row)


@dataclasses.dataclass
class Batch:
    """Sequences as tensors, for one pass of the model.

    Attributes:
        inputs: `input_ids`, `attention_mask` and, if there are branches, `position_ids`.
        allowed: `[B, T, T]`, which words see which, if there are branches.
        actions, observations: the scored positions; None if there are none.
        said: see `Scored`.
    """

    inputs: dict[str, torch.Tensor]
    allowed: Bool[torch.Tensor, "B T T"] | None
    actions: Groups | None
    observations: Groups | None
    said: list[tuple[Author, bool]] = dataclasses.field(default_factory=list)

    def counts(self) -> Float[torch.Tensor, " 2"]:
        """Return the weights of the scored actions and of the scored observations, summed."""
        return torch.tensor([0.0 if g is None else float(g.weight.sum()) for g in (self.actions, self.observations)])


def collate(sequences: Sequence[Scored], *, fill: int = 0) -> Batch:
    """Return a batch; sequences with branches become one sequence each, whose branches do not see each other."""
    # A part of a sequence is its history or a branch.
    parts = [(b, 0, 0, s.ids) for b, s in enumerate(sequences)]
    parts += [(b, j + 1, *branch) for b, s in enumerate(sequences) for j, branch in enumerate(s.branches)]
    parts.sort(key=_place)
    row, number, start, lengths = np.array([(b, j, start, len(ids)) for b, j, start, ids in parts]).T
    first = lengths.cumsum() - lengths
    within = np.arange(lengths.sum()) - first.repeat(lengths)
    row, number, position = row.repeat(lengths), number.repeat(lengths), start.repeat(lengths) + within
    counts = np.bincount(row, minlength=len(sequences))
    column = np.arange(len(row)) - (counts.cumsum() - counts)[row]
    B, T = len(sequences), int(counts.max())

    def spread(x: Int[np.ndarray, " N"] | int, empty: int) -> Int[torch.Tensor, "B T"]:
        table = np.full((B, T), empty)
        table[row, column] = x
        return torch.from_numpy(table)

    words = np.fromiter(itertools.chain.from_iterable(ids for *_, ids in parts), np.int64, len(row))
    inputs, allowed = {"input_ids": spread(words, fill), "attention_mask": spread(1, 0)}, None
    if any(s.branches for s in sequences):
        inputs["position_ids"] = spread(position, 0)
        # The last word of the history that a word sees.
        limit = spread(np.where(number == 0, position, start.repeat(lengths) - 1), -1)
        segment, order = spread(number, -1), torch.arange(T)
        history = (segment[:, None, :] == 0) & (order <= limit[:, :, None])
        allowed = history | ((segment[:, :, None] == segment[:, None, :]) & (order <= order[:, None]))
    return Batch(inputs, allowed, _actions(sequences), _observations(sequences))


def _place(part: tuple[int, int, int, list[int]]) -> tuple[int, int]:
    return part[:2]


def _actions(sequences: Sequence[Scored]) -> Groups | None:
    found = [(b, s.weight, positions, q) for b, s in enumerate(sequences) for positions, q in s.actions]
    if not found:
        return None
    rows, weights, positions, targets = zip(*found, strict=True)
    lengths = torch.tensor([len(x) for x in positions])
    return Groups(
        torch.tensor(rows).repeat_interleave(lengths),
        torch.tensor(list(itertools.chain.from_iterable(positions))),
        torch.tensor(weights).repeat_interleave(lengths),
        Targets.concatenate(targets),
    )


def _observations(sequences: Sequence[Scored]) -> Groups | None:
    flat = [(b, t, s.weight, x) for b, s in enumerate(sequences) for t, x in s.observations]
    if not flat:
        return None
    row, position, weight, ids = zip(*flat, strict=True)
    return Groups(torch.tensor(row), torch.tensor(position), torch.tensor(weight), Targets.of_tokens(torch.tensor(ids)))


def predictions(model: torch.nn.Module, batch: Batch, device: torch.device) -> Float[torch.Tensor, "B T V"]:
    """Return the model's logits at every position of a batch."""
    inputs: dict[str, Any] = {name: x.to(device) for name, x in batch.inputs.items()}
    if batch.allowed is not None:
        allowed = batch.allowed.to(device)[:, None]
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)
        mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
        inputs["attention_mask"] = mask.masked_fill_(~allowed, torch.finfo(dtype).min)
    return model(**inputs).logits
