"""A dark grid with a hidden goal: dark room and key-to-door ("an agent controlling a known MDP", Section 3).

After Laskin et al. (2022, arXiv:2210.14215), whose feedback is the exact reward; warmer and colder is our addition.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from undelude._checks import check_between, check_count
from undelude._distributions import Categorical, Given, Joint
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._types import Belief, Frame, Observation, Theta
from undelude.tasks.tables import log_table

Feedback = Literal["cue", "reward"]
# Change of (row, column) by action: stay, north, south, west, east.
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])


class Place(eqx.Module):
    """The walker's position and progress.

    Attributes:
        cell: row and column.
        before: row and column before the last move.
        has_key: whether the key was picked up; true if there is none.
        t: rounds since the lifetime began.
    """

    cell: Int[Array, "2"]
    before: Int[Array, "2"]
    has_key: Bool[Array, ""]
    t: Int[Array, ""]


class Walk(eqx.Module):
    """The rules of walking and of picking up the key, which Nature and the expert share.

    Attributes:
        size: of the grid.
        episode_rounds: rounds after which an attempt ends: the walker returns to the middle, without the key.
        has_door: whether a key must be fetched before the goal, the door, counts.
    """

    size: int = eqx.field(static=True)
    episode_rounds: int = eqx.field(static=True)
    has_door: bool = eqx.field(static=True)

    def start(self, t: Int[Array, ""]) -> Place:
        """Return the middle, at time `t`."""
        middle = jnp.full(2, self.size // 2, jnp.int32)
        return Place(middle, middle, jnp.asarray(not self.has_door), t)

    def target(self, theta: Int[Array, " n"], w: Place) -> Int[Array, "2"]:
        """Return the cell to go to next: the key, then the goal."""
        return jnp.where(w.has_key, theta[-2:], theta[:2])

    def move(self, theta: Int[Array, " n"], a: Int[Array, ""], w: Place) -> Place:
        """Return the place after a step; walls stop it, and standing on the key picks it up."""
        cell = jnp.clip(w.cell + jnp.asarray(MOVES, jnp.int32)[a], 0, self.size - 1)
        has_key = w.has_key | (cell == theta[:2]).all() if self.has_door else w.has_key
        return Place(cell, w.cell, has_key, w.t)

    def end_round(self, w: Place) -> Place:
        """Advance the clock; at the end of an attempt, return to the start."""
        t = w.t + 1
        over = t % self.episode_rounds == 0
        return jax.tree.map(lambda x, y: jnp.where(over, x, y), self.start(t), Place(w.cell, w.cell, w.has_key, t))


class GridTask(AbstractTask[Place]):
    """`Q(O | theta, W)`: the new place, which is given, and one bit about the goal."""

    walk: Walk
    log_right: Float[Array, "2 2"]  # log P(bit | true answer)
    feedback: Feedback = eqx.field(static=True)

    @property
    def theta_free_memory(self) -> bool:
        """Return true unless there is a key: only picking it up depends on theta."""
        return not self.walk.has_door

    def init(self, theta: Int[Array, " n"]) -> Place:
        """Return the middle, at time 0."""
        del theta
        return self.walk.start(jnp.zeros((), jnp.int32))

    def Q_O(self, theta: Int[Array, " n"], w: Place) -> Joint:
        """Return the distribution of a bit that is right with probability `cue`; the cell is given, one-hot."""
        target = self.walk.target(theta, w)
        there = (w.cell == target).all()
        if self.feedback == "cue":
            nearer = jnp.abs(w.cell - target).sum() < jnp.abs(w.before - target).sum()
            truth = nearer | there
        else:
            truth = there & w.has_key
        cell = jax.nn.one_hot(w.cell, self.walk.size).ravel()
        return Joint({"bit": Categorical(log_probs=self.log_right[truth.astype(jnp.int32)]), "cell": Given(cell)})

    def g_A(self, theta: Int[Array, " n"], a: Int[Array, ""], w: Place) -> Place:
        """Take the step."""
        return self.walk.move(theta, a, w)

    def g_O(self, theta: Int[Array, " n"], o: dict[str, Array], w: Place) -> Place:
        """Advance the clock."""
        del theta, o
        return self.walk.end_round(w)

    def reward(self, theta: Int[Array, " n"], w: Place, a: Int[Array, ""], o: dict[str, Array]) -> Float[Array, ""]:
        """Return 1 on the goal, with the key."""
        del a, o
        return ((w.cell == theta[-2:]).all() & w.has_key).astype(float)

    def draw(self, frame: Frame, theta: Theta, w: Place, belief: Belief) -> None:
        """Draw the grid shaded by the belief about the goal, goal and key as rings, the walker as a disc."""
        side, total = 0.96 / self.walk.size, np.zeros((self.walk.size, self.walk.size))
        for value, probability in belief:
            total[tuple(value[-2:])] += probability

        def middle(cell: Any) -> tuple[float, float]:
            return 0.02 + side * (int(cell[1]) + 0.5), 0.02 + side * (int(cell[0]) + 0.5)

        for cell in np.ndindex(total.shape):
            x, y = middle(cell)
            corners = (x - side / 2, y - side / 2), (x + side / 2, y + side / 2)
            # The root keeps a belief that is spread over all cells visible.
            frame.box(*corners, fill=frame.accent, opacity=float(total[cell]) ** 0.5, outline=frame.rule)
        frame.disc(middle(theta[-2:]), side * 0.42, outline=frame.ink, label="door" if self.walk.has_door else "goal")
        if self.walk.has_door and not w.has_key:
            frame.disc(middle(theta[:2]), side * 0.25, outline=frame.muted, label="key")
        frame.line([middle(w.before), middle(w.cell)], colour=frame.muted)
        frame.disc(middle(w.cell), side * 0.24, fill=frame.ink, label="walker")

    def say(self, o: Observation) -> str:
        """Name the bit: warmer or colder, goal or nothing."""
        return (("colder", "warmer") if self.feedback == "cue" else ("nothing", "goal"))[int(o["bit"])]


class GridExpert(AbstractExpert[Place]):
    """`Q(A | theta, E)`: a step of a shortest way, or any action with probability `slip`; on the goal it stays."""

    walk: Walk
    slip: float = eqx.field(static=True)

    @property
    def theta_free_memory(self) -> bool:
        """Return true unless there is a key: only picking it up depends on theta."""
        return not self.walk.has_door

    def init(self, theta: Int[Array, " n"]) -> Place:
        """Return the middle, at time 0."""
        del theta
        return self.walk.start(jnp.zeros((), jnp.int32))

    def Q_A(self, theta: Int[Array, " n"], e: Place) -> Categorical:
        """Return `1 - slip` on the moves that lead nearer, and `slip` spread over all."""
        way = self.walk.target(theta, e) - e.cell
        row, column = way[0], way[1]
        good = jnp.stack([(way == 0).all(), row < 0, row > 0, column < 0, column > 0]).astype(float)
        return Categorical(log_probs=jnp.log((1 - self.slip) * good / good.sum() + self.slip / len(MOVES)))

    def g_A(self, theta: Int[Array, " n"], a: Int[Array, ""], e: Place) -> Place:
        """Take the step."""
        return self.walk.move(theta, a, e)

    def g_O(self, theta: Int[Array, " n"], o: dict[str, Array], e: Place) -> Place:
        """Advance the clock."""
        del theta, o
        return self.walk.end_round(e)


def grid(
    size: int = 9,
    cue: float = 0.8,
    num_rounds: int = 80,
    *,
    feedback: Feedback = "cue",
    door: bool = False,
    episode_rounds: int | None = None,
    slip: float = 0.1,
) -> InteractionProcess:
    """Return a process in which a walker looks for a hidden goal; the expert knows the goal and goes there.

    `Theta` is the goal's cell, uniform. With `door=True` it is the key's cell and the door's; the walker is not told
    that it has the key, but may notice that warmer and colder lead elsewhere. An observation is the new place, which is
    given, and one bit, right with probability `cue`: warmer or colder (`feedback="cue"`: nearer than before, or there),
    or whether the walker stands on the goal (`feedback="reward"`; with `cue=1` the dark room of the literature). The
    expert takes a shortest way, with probability `1 - slip` in each round.

    Why it deludes: a step of the expert tells more about the goal than the bit does. An agent that reads its own steps
    as evidence is soon certain of the place that it happens to walk to.

    Args:
        size: the grid has `size x size` cells.
        cue: the probability that the bit is right, from 1/2 (no information) to 1.
        num_rounds: T.
        feedback: the meaning of the bit.
        door: whether a key must be fetched before the goal counts.
        episode_rounds: rounds after which an attempt ends: the walker returns to the middle, and theta stays; by
            default never.
        slip: the share of the expert's steps that are random.

    Raises:
        ValueError: a number is out of range.

    >>> grid(size=5).num_thetas, grid(size=3, door=True).num_thetas
    (25, 81)
    """
    size, num_rounds = check_count("grid: size", size), check_count("grid: num_rounds", num_rounds)
    episode_rounds = num_rounds if episode_rounds is None else check_count("grid: episode_rounds", episode_rounds)
    if size < 2:
        raise ValueError(f"grid: size must be at least 2, not {size}.")
    cue = check_between("grid: cue", cue, 0.5, 1, why="1/2 says nothing")
    slip = check_between("grid: slip", slip, 0, 1, ends=False, why="the expert needs some mass on every action")
    if feedback not in ("cue", "reward"):
        raise ValueError(f'grid: feedback must be "cue" or "reward", not {feedback!r}.')
    cells = np.stack(np.unravel_index(np.arange(size**2), (size, size)), -1)
    thetas = np.concatenate([np.repeat(cells, len(cells), 0), np.tile(cells, (len(cells), 1))], 1) if door else cells
    walk = Walk(size, episode_rounds, door)
    log_right = log_table(np.array([[cue, 1 - cue], [1 - cue, cue]]))
    return InteractionProcess(
        prior=np.full(len(thetas), 1 / len(thetas)),
        thetas=jnp.asarray(thetas, jnp.int32),
        task=GridTask(walk, log_right, feedback),
        expert=GridExpert(walk, slip),
        num_rounds=num_rounds,
        name="grid",
    )
