"""The two sides of a process that know theta: the task (Nature) and the expert (Section 4.1)."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from undelude._distributions.distributions import AbstractDistribution
from undelude._types import Action, Observation, Theta

W = TypeVar("W")
E = TypeVar("E")


class AbstractTask(eqx.Module, Generic[W]):
    """Nature's side, `Q(O | Theta, W)`; its memory `W` is a sufficient statistic of the interaction so far.

    `theta_free_memory`: set it where `W` is computed without looking at theta, so that an exact agent keeps one copy
    of it and not one for each theta. A process with a transition needs it.
    """

    theta_free_memory: ClassVar[bool] = False

    @abc.abstractmethod
    def init(self, theta: Theta) -> W:
        """`W` before anything happened."""

    @abc.abstractmethod
    def Q_O(self, theta: Theta, w: W) -> AbstractDistribution:
        """`Q(O_t | theta, w)`, `w` having met the action of this round; before any action, that of `O_0`."""

    @abc.abstractmethod
    def g_A(self, theta: Theta, a: Action, w: W) -> W:
        """`W` after the action `a`, whoever executed it."""

    @abc.abstractmethod
    def g_O(self, theta: Theta, o: Observation, w: W) -> W:
        """`W` after the observation `o`."""

    @abc.abstractmethod
    def reward(self, theta: Theta, w: W, a: Action, o: Observation) -> Float[Array, ""]:
        """The reward of a round, for evaluation only; `w` is the memory under which `o` was drawn."""

    def ends(self, o: Observation) -> Bool[Array, ""]:
        """Return whether the episode ends with the observation `o`; by default it never does.

        The end is part of the observation, so that surviving a round is evidence like any other observation.
        """
        del o
        return jnp.zeros((), bool)

    def draw(self, frame: Any, theta: Theta, w: W, belief: Sequence[tuple[Theta, float]]) -> None:
        """Draw the world as it is in a round, for `ud.film`; by default, the belief alone.

        Args:
            frame: a `Frame` from (0, 0) to (1, 1), already with a title.
            theta: the true value after the round, in NumPy.
            w: the memory that has met the action of the round, in NumPy.
            belief: each value of Theta with its probability after the round; empty where Theta is continuous.

        Raises:
            TypeError: there is nothing to draw by default.
        """
        del w
        if not belief:
            raise TypeError(f"{type(self).__name__} has no drawing; give it draw(frame, theta, w, belief).")
        true = [jax.tree.all(jax.tree.map(np.array_equal, theta, value)) for value, _ in belief]
        frame.bars([p for _, p in belief], framed=true.index(True))

    def say(self, o: Observation) -> str:
        """What an observation tells, in a word or two, for the header of `ud.film`; by default a symbol's number."""
        return str(int(o)) if isinstance(o, np.ndarray | np.generic) and o.ndim == 0 and o.dtype.kind in "iu" else ""


class AbstractExpert(eqx.Module, Generic[E]):
    """The demonstrator, `Q(A | Theta, E)`, who is shown theta; `E` is its memory. `theta_free_memory` as for a task."""

    theta_free_memory: ClassVar[bool] = False

    @abc.abstractmethod
    def init(self, theta: Theta) -> E:
        """`E` before anything happened."""

    @abc.abstractmethod
    def Q_A(self, theta: Theta, e: E) -> AbstractDistribution:
        """`Q(A_t | theta, e)`, the action that the expert would take now."""

    @abc.abstractmethod
    def g_A(self, theta: Theta, a: Action, e: E) -> E:
        """`E` after the action `a`, whoever executed it."""

    @abc.abstractmethod
    def g_O(self, theta: Theta, o: Observation, e: E) -> E:
        """`E` after the observation `o`."""
