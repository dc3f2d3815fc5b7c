"""The choice of the latent by held-out demonstrations."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

Select = Literal["held_out", "bic"]


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One latent that was tried.

    Attributes:
        latent: its time scale: "Episode" or "Markov".
        K: its number of values.
        log_likelihood: of the data that it was fitted to, the best start's, nats.
        held_out: mean log-likelihood of a held-out demonstration, nats; None if none were held out.
        behind: how far its mean is behind the best candidate's, and the standard error of this paired difference.
        bic: `num_parameters log N - 2 log_likelihood`; NaN if a mechanism is a network.
        starts: the log-posteriors of all starts, sorted, up to a constant; if a mechanism is a network, the
            log-likelihoods of the held-out demonstrations.
        reached_best: how many starts came within .1 nats of the best one, or .0001 nats a demonstration if that is
            more: starts end when they rise less than the tolerance.
        num_unconverged: how many starts were still rising at the last iteration.
    """

    latent: str
    K: int
    log_likelihood: float
    held_out: float | None
    behind: tuple[float, float] | None
    bic: float
    starts: tuple[float, ...]
    reached_best: int
    num_unconverged: int


def count_reached(objectives: Float[np.ndarray, " R"], num_episodes: int) -> int:
    """Return how many starts came near the best one, nats."""
    return int((objectives > objectives.max() - max(0.1, 1e-4 * num_episodes)).sum())


# A candidate with the log-likelihood of each held-out demonstration.
Tried = tuple[Candidate, Float[np.ndarray, " N"] | None]


def compared(tried: list[Tried]) -> tuple[Candidate, ...]:
    """Return the candidates with their distance from the best one on held-out demonstrations."""
    best = max(tried, key=lambda x: -np.inf if x[0].held_out is None else x[0].held_out)[1]
    if best is None:
        return tuple(candidate for candidate, _ in tried)
    compared = []
    for candidate, scores in tried:
        difference = best - scores
        error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else np.inf
        compared.append(dataclasses.replace(candidate, behind=(float(difference.mean()), error)))
    return tuple(compared)


# Nats per held-out demonstration within which two numbers of values predict alike.
ALIKE = 1e-3


def choose(candidates: tuple[Candidate, ...], select: Select) -> Candidate:
    """Return the candidate that predicts held-out demonstrations best; or the one of the least BIC.

    Of those of its time scale that predict alike, within .001 nats, it is the one with the fewest values: further ones
    are copies, or empty. It is not the fewest within a standard error: with few demonstrations those are too few, and
    then the policy is wrong, while a value too many costs little (docs/studies.md).
    """
    if select == "bic":
        return min(candidates, key=lambda c: c.bic)
    best = max(candidates, key=_score)
    alike = [c for c in candidates if c.latent == best.latent and _score(c) >= _score(best) - ALIKE]
    return min(alike, key=lambda c: c.K)


def as_table(candidates: Sequence[Candidate], chosen: tuple[str, int]) -> str:
    """Return a line of text for each candidate; `chosen` are the latent and its number of values."""
    by_bic = candidates[0].held_out is None
    least = min(c.bic for c in candidates)
    heads = ("BIC", "less the least") if by_bic else ("held out", "behind the best")
    rows = [("theta", "K", *heads, "starts at the best")]
    for c in candidates:
        behind = f"{c.bic - least:.1f}" if c.behind is None else f"{c.behind[0]:.4f}"
        if c.behind is not None and np.isfinite(c.behind[1]):
            behind += f" ±{c.behind[1]:.4f}"
        score = f"{c.bic:.1f}" if c.held_out is None else f"{c.held_out:.4f}"
        mark = " <- chosen" if (c.latent, c.K) == chosen else ""
        rows.append((c.latent, str(c.K), score, behind, f"{c.reached_best} of {len(c.starts)}{mark}"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["Latents that were tried:" if by_bic else "Log-likelihood of a held-out episode, nats:"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(row[1:4], widths[1:], strict=True)), row[4]]
        lines.append("  " + "  ".join(cells))
    if chosen not in [(c.latent, c.K) for c in candidates]:
        lines.append("These are the candidates of the learned hypothesis.")
    elif len(rows) > 2 and by_bic:
        lines.append("Chosen is the least BIC.")
    elif len(rows) > 2:
        lines.append(
            f"Chosen is the greatest mean; of those of its time scale within {ALIKE:g} nats of it, the fewest values."
        )
    return "\n".join(lines)


def fewest_near(candidates: Sequence[Candidate], chosen: Candidate) -> Candidate | None:
    """Return the candidate with the fewest values that is within one standard error of the best, if they are fewer."""
    near = [c for c in candidates if c.latent == chosen.latent and c.behind and c.behind[0] <= c.behind[1]]
    found = min([chosen, *near], key=lambda c: c.K)
    return None if found.K == chosen.K else found


def _score(candidate: Candidate) -> float:
    return -np.inf if candidate.held_out is None else candidate.held_out
