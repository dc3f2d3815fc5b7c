"""The answers by brute force, in NumPy: every trajectory of a small process, surgery on its actions, sums.

Nothing is shared with the library, and no recursion either: a query is a sum over the joint of the mutilated model.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Machine:
    """A finite process whose task and expert are state machines with memories `W` and `E`.

    Axes: K thetas, W and E memory states, A actions, O observations; the last axis of a distribution is its own.
    """

    prior: np.ndarray  # [K]
    task_start: np.ndarray  # [K] -> w
    task_reads_a: np.ndarray  # [K, A, W] -> w
    task_reads_o: np.ndarray  # [K, O, W] -> w
    Q_O: np.ndarray  # [K, W, O]
    expert_start: np.ndarray  # [K] -> e
    expert_reads_a: np.ndarray  # [K, A, E] -> e
    expert_reads_o: np.ndarray  # [K, O, E] -> e
    Q_A: np.ndarray  # [K, E, A]
    opening: bool = False
    transition: np.ndarray | None = None  # [K, W, K]: theta, w -> next theta

    @property
    def sizes(self) -> tuple[int, int, int]:
        """K, A, O."""
        return len(self.prior), self.Q_A.shape[-1], self.Q_O.shape[-1]


def random_machine(
    rng: np.random.Generator,
    *,
    K: int = 3,
    A: int = 2,
    O: int = 3,
    W: int = 4,
    E: int = 3,
    opening: bool = False,
    transition: bool = False,
    theta_free: bool = False,
    zeros: float = 0.0,
) -> Machine:
    """Random tables; memories that do not depend on theta where asked; a share of zeros in the distributions."""

    def distribution(*shape: int) -> np.ndarray:
        table = rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])
        table = np.where(rng.random(shape) < zeros, 0, table)
        table[table.sum(-1) == 0] = 1
        return table / table.sum(-1, keepdims=True)

    def moves(n: int, *shape: int) -> np.ndarray:
        rows = 1 if theta_free else K
        return np.repeat(rng.integers(n, size=(rows, *shape)), K // rows, axis=0)

    return Machine(
        prior=distribution(K),
        task_start=moves(W),
        task_reads_a=moves(W, A, W),
        task_reads_o=moves(W, O, W),
        Q_O=distribution(K, W, O),
        expert_start=moves(E),
        expert_reads_a=moves(E, A, E),
        expert_reads_o=moves(E, O, E),
        Q_A=distribution(K, E, A),
        opening=opening,
        transition=distribution(K, W, K) if transition else None,
    )


@dataclass(frozen=True)
class Joint:
    """All N trajectories of T rounds, with the factor of each action apart, so that surgery can take it out.

    `path[:, t]` is the theta that is there before round t + 1; `path[:, T]`, after the last round.
    """

    path: np.ndarray  # [N, T + 1]
    opening: np.ndarray | None  # [N]
    actions: np.ndarray  # [N, T]
    observations: np.ndarray  # [N, T]
    nature: np.ndarray  # [N], the product of all of Nature's factors
    expert: np.ndarray  # [N, T], Q(a_t | theta_<=t, history)
    sizes: tuple[int, int, int]

    def mutilated(self, actions: np.ndarray, do: np.ndarray) -> np.ndarray:
        """`[N]`: the joint after surgery; where `do`, the action's factor gives way to a point mass on `actions`."""
        factors = np.where(do, self.actions[:, : len(do)] == actions, self.expert[:, : len(do)])
        return self.nature * factors.prod(1) * self.expert[:, len(do) :].prod(1)

    def theta(self, *history: Any) -> np.ndarray | None:
        """`P(theta_t+1 | history of t rounds)`, `[K]`; the history is `actions, do, observations, opening=None`."""
        t = len(history[2])
        return self._distribution(self.path[:, t], self.sizes[0], t, *history)

    def next_action(self, *history: Any) -> np.ndarray | None:
        """`P(A_t+1 | history of t rounds)`, `[A]`."""
        t = len(history[2])
        return self._distribution(self.actions[:, t], self.sizes[1], t, *history)

    def next_observation(self, *history: Any) -> np.ndarray | None:
        """`P(O_t+1 | history of t rounds, and the action of round t + 1)`, `[O]`."""
        t = len(history[2])
        return self._distribution(self.observations[:, t], self.sizes[2], t + 1, *history)

    def _distribution(
        self,
        what: np.ndarray,
        size: int,
        num_actions: int,
        actions: np.ndarray,
        do: np.ndarray,
        observations: np.ndarray,
        opening: int | None = None,
    ) -> np.ndarray | None:
        """Return P(what | first `num_actions` actions, observations), or None if they are impossible."""
        a, o = actions[:num_actions], observations
        weight = self.mutilated(a, do[:num_actions])
        weight = weight * (self.actions[:, : len(a)] == a).all(1) * (self.observations[:, : len(o)] == o).all(1)
        if opening is not None:
            weight = weight * (self.opening == opening)
        table = np.bincount(what, weights=weight, minlength=size)
        return table / table.sum() if table.sum() > 0 else None


def enumerate_joint(machine: Machine, num_rounds: int) -> Joint:
    """Every theta path and every sequence of symbols of `num_rounds` rounds, impossible ones included."""
    K, A, O = machine.sizes
    T, opening, hops = num_rounds, machine.opening, machine.transition is not None
    num_thetas = 1 + (T + opening if hops else 0)
    shape = (K,) * num_thetas + (O,) * opening + (A,) * T + (O,) * T
    columns = np.indices(shape).reshape(len(shape), -1)
    thetas, rest = columns[:num_thetas], columns[num_thetas:]
    o_0, actions, observations = (rest[0] if opening else None), rest[opening : opening + T], rest[opening + T :]

    n = 0
    theta = thetas[0]
    w, e = machine.task_start[theta], machine.expert_start[theta]
    nature = machine.prior[theta]

    def hop() -> None:
        nonlocal n, theta, nature
        if hops:
            n += 1
            nature = nature * machine.transition[theta, w, thetas[n]]
            theta = thetas[n]

    if opening:
        nature = nature * machine.Q_O[theta, w, o_0]
        w, e = machine.task_reads_o[theta, o_0, w], machine.expert_reads_o[theta, o_0, e]
        hop()
    path, expert = [theta], []
    for a, o in zip(actions, observations, strict=True):
        expert.append(machine.Q_A[theta, e, a])
        w, e = machine.task_reads_a[theta, a, w], machine.expert_reads_a[theta, a, e]
        nature = nature * machine.Q_O[theta, w, o]
        w, e = machine.task_reads_o[theta, o, w], machine.expert_reads_o[theta, o, e]
        hop()
        path.append(theta)
    return Joint(
        path=np.stack(path, 1),
        opening=o_0,
        actions=actions.T,
        observations=observations.T,
        nature=nature,
        expert=np.stack(expert, 1),
        sizes=machine.sizes,
    )
