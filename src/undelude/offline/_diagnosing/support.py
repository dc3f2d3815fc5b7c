"""Support: how many data there are, under each theta, for what the agent will do."""

import dataclasses
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, Key

from undelude._agents.exact import ExactAgent
from undelude._rollout.rollout import rollout
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.tied import data_of_cells
from undelude.offline._fitting import em
from undelude.offline._fitting.result import Fit
from undelude.offline._model import statistics as stats
from undelude.offline._model.mechanisms import Factor, Table
from undelude.offline._model.process import as_demos

# Self-play, and the share of its rounds from which a cell counts as one that the agent will visit.
NUM_EPISODES, SHARE = 512, 0.002
# The least eigenvalue that counts for the rank of a Gram matrix of unit rows.
RANK_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Support:
    """The least effective number of data of a cell that the agent visits in self-play.

    Attributes:
        least: the number, `sum_n Q(theta_n = k | demonstration n) [rounds of n in the cell]`.
        where: the theta, counted from 0, and the cell.
        num_cells: how many pairs of theta and cell the agent visits.
        num_below: how many of them have less than one.
    """

    least: float
    where: str
    num_cells: int
    num_below: int

    def __str__(self) -> str:
        return f"{self.least:.0f} rounds at least ({self.where}); {self.num_below} of {self.num_cells} cells have none"


def support(fit: Fit, demos: Demos, *, key: Key[jax.Array, ""]) -> Support:
    """Return the support of the observed fields' mechanisms, and of the expert's if it was declared to remember.

    A tied mechanism has the data of all thetas. Hidden fields are left out: the agent never reads them.
    """
    process, plan = fit.process, fit.layout
    play = rollout(process, ExactAgent(process), key=key, num_episodes=NUM_EPISODES)
    own = as_demos(play, demos)
    if demos.demonstrator is not None:
        imitated = np.full(own.num_episodes, fit.demonstrator, np.int32)
        own = dataclasses.replace(own, demonstrator=dataclasses.replace(demos.demonstrator, values=imitated))
    thetas = np.asarray(play.theta)
    thetas = thetas[:, -own.num_rounds - 1 : -1] if thetas.ndim == 2 else np.repeat(thetas[:, None], own.num_rounds, 1)
    markov = fit.fitted.log_transition is not None
    rows = stats.of_steps(plan, demos) if markov else stats.of_demos(plan, demos)
    K = fit.fitted.log_prior.shape[-1]
    effective = np.asarray(em.expectation(fit.fitted, em.in_blocks(rows, 1, K)).statistics[0])
    least, where, cells, below = np.inf, "no cell", 0, 0
    for factor in (*plan.free, *plan.tied):
        if factor.field.startswith("opening ") or factor.field in demos.hidden:
            continue
        if factor.field == "action" and not factor.contexts:
            continue
        tied = factor.mechanism.tied
        found = stats.of_tied(plan, factor, demos)[None] if tied else effective[:, plan.columns(factor)]
        counts = data_of_cells(factor, found)
        at = np.broadcast_to(factor.cells([c.codes(own) for c in factor.contexts]), own.mask.shape)
        visits = np.zeros_like(counts)
        np.add.at(visits, (thetas[own.mask] * (not tied), at[own.mask]), 1)
        visited = visits > SHARE * own.num_steps / len(counts)
        if not visited.any():
            continue
        cells, below = cells + int(visited.sum()), below + int((visited & (counts < 1)).sum())
        k, cell = np.unravel_index(np.argmin(np.where(visited, counts, np.inf)), counts.shape)
        if counts[k, cell] < least:
            whose = "any theta" if tied else f"theta {k}"
            least, where = float(counts[k, cell]), f"{whose}, {cell_name(factor, int(cell))}"
    return Support(least, where, cells, below)


def cell_name(factor: Factor, cell: int) -> str:
    """Return the name of a combination of contexts."""
    levels = np.unravel_index(cell, factor.sizes) if factor.sizes else ()
    named = [f"{c.label} {c.levels[int(i)]}" for c, i in zip(factor.contexts, levels, strict=True)]
    return f"{factor.field} given {', '.join(named)}" if named else factor.field


def kruskal(fit: Fit, demos: Demos) -> tuple[int, int]:
    """Return the sum of the numerical ranks of three blocks of rounds, and the `2 K + 2` that Kruskal's theorem needs.

    Rounds are independent given theta. Three blocks of them identify a mixture of `K` components, up to their order,
    if the Kruskal ranks of their emission matrices add up to at least `2 K + 2` (docs/offline.md). A block
    of m rounds has the emission matrix whose Gram matrix is the m-th power, entry by entry, of that of one round. Its
    rank stands for its Kruskal rank here, which it exceeds if two values of theta are alike. With contexts the
    condition is a heuristic: rounds are then taken for independent given theta. Normal fields are not counted beside
    tables; without any table, they are taken to tell all values of theta apart.

    Of a theta that changes, the three views are of its value in the middle round: the rounds before, that round, and
    the rounds after. If the next theta does not depend on the present one, they show nothing of each other.

    With one value of theta there is nothing to tell apart, if rounds are indeed independent; that shows in two rounds
    of an episode, and in one it cannot. Rounds are those of the demonstrators, since interventions have no factor of
    the action.
    """
    rounds = demos.demonstrated.sum(-1)
    length = int(np.median(rounds[rounds > 0]))
    if fit.K == 1:
        return (4 if length > 1 else 3), 4
    emissions = _emissions(fit)
    if fit.fitted.log_transition is None:
        rows = emissions / np.linalg.norm(emissions, axis=1, keepdims=True)
        views = [(rows @ rows.T) ** len(x) for x in np.array_split(np.arange(length), 3)]
    else:
        prior, transition = (np.exp(np.asarray(x[0])) for x in (fit.fitted.log_prior, fit.fitted.log_transition))
        views = _views_of_the_middle(emissions @ emissions.T, prior, transition, length)
    return sum(map(_rank, views)), 2 * fit.K + 2


def _rank(gram: Float[np.ndarray, "K K"]) -> int:
    """Return the numerical rank of vectors, scaled to the length 1, from their Gram matrix."""
    norms = np.sqrt(np.diag(gram))
    return int((np.linalg.eigvalsh(gram / np.outer(norms, norms)) > RANK_TOLERANCE).sum())


def _views_of_the_middle(
    one: Float[np.ndarray, "K K"], prior: Float[np.ndarray, " K"], transition: Float[np.ndarray, "K K"], length: int
) -> list[Float[np.ndarray, "K K"]]:
    """Return the Gram matrices of `Q(rounds | theta of the middle round)`: rounds before it, itself, and rounds after.

    Each is up to a factor, since the probabilities of many rounds are too small for a float. Given theta, the first of
    the rounds after it has `sum_j P(j | theta) M_j`, and the others are told by j: with E the Gram matrix of one round,
    and G that of the rounds after j, that of all is `P (E * G) P'`, `*` entry by entry.
    """
    middle = (length - 1) // 2
    after = before = np.ones_like(one)
    for _ in range(length - 1 - middle):
        after = transition @ (one * after / np.max(after)) @ transition.T
    for _ in range(middle):
        joint = prior[:, None] * transition  # [the theta before, theta]
        prior = joint.sum(0)
        back = (joint / prior).T
        before = back @ (one * before / np.max(before)) @ back.T
    return [before, one, after]


def _emissions(fit: Fit) -> Float[np.ndarray, "K cells"]:
    """Return `Q(a, o | theta)` of a round of a memoryless model, `[K, A O]`; with contexts, all tables side by side."""
    tables = [
        (f, np.exp(np.asarray(fit.tables[f.field])))
        for f in fit.layout.free
        if isinstance(f.mechanism, Table) and not f.field.startswith("opening ")
    ]
    if not tables:
        return np.eye(fit.K)
    if any([c.given for c in f.contexts] != (["action"] if f.field != "action" else []) for f, _ in tables):
        return np.concatenate([table.reshape(fit.K, -1) for _, table in tables], -1)
    joint = np.ones((fit.K, 1, 1))
    for factor, table in tables:
        own = table[..., None] if factor.field == "action" else table
        joint = (joint[..., None] * own[:, :, None]).reshape(fit.K, own.shape[1], -1)
    return joint.reshape(fit.K, -1)
