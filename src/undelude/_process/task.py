"""The two sides of a process that know theta: the task (Nature) and the expert (Section 4.1)."""

import abc
from typing import Any, ClassVar, Generic

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from undelude._checks import check_fields
from undelude._distributions import AbstractDistribution
from undelude._types import Action, Belief, E, Frame, Observation, Theta, W


class AbstractTask(eqx.Module, Generic[W]):
    """Nature, `Q(O | Theta, W)`; the memory `W` is a sufficient statistic of the interaction so far.

    Attributes:
        theta_free_memory: set it to True if `W` is computed without theta. An exact agent then keeps one copy of `W`
            instead of one for each theta. A process with a transition needs it.
        theta_enters: how theta can reach the observations, for the message of `check_task` if it does not.
    """

    theta_free_memory: ClassVar[bool] = False
    theta_enters: ClassVar[str] = "Q_O uses theta, or w after g_A has"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_fields(cls)

    @abc.abstractmethod
    def init(self, theta: Theta) -> W:
        """Return `W` at the start of an episode."""

    @abc.abstractmethod
    def Q_O(self, theta: Theta, w: W) -> AbstractDistribution:
        """Return `Q(O_t | theta, w)`; `w` has read the action of round t. Before any action, return that of `O_0`."""

    @abc.abstractmethod
    def g_A(self, theta: Theta, a: Action, w: W) -> W:
        """Return `W` after the action `a`, by either executor."""

    @abc.abstractmethod
    def g_O(self, theta: Theta, o: Observation, w: W) -> W:
        """Return `W` after the observation `o`."""

    @abc.abstractmethod
    def reward(self, theta: Theta, w: W, a: Action, o: Observation) -> Float[Array, ""]:
        """Return the reward of a round, for evaluation only; `o` was sampled from `Q_O(theta, w)`."""

    def ends(self, o: Observation) -> Bool[Array, ""]:
        """Return whether the episode ends with the observation `o`; by default it never does.

        The end is part of the observation, so that surviving a round is evidence like any other observation. An
        opening does not end the episode.
        """
        del o
        return jnp.zeros((), bool)

    def optimal_reward(self, theta: Theta, num_rounds: int) -> float | None:
        """Return the greatest expected sum of rewards over an episode, for a party that is shown theta.

        `certify` and `check_task` compare the expert with it. None, the default, if it is not known.
        """
        del theta, num_rounds
        return None

    def draw(self, frame: Frame, theta: Theta, w: W, belief: Belief) -> None:
        """Draw the world in one round for `ud.film`; by default, draw only the belief.

        Args:
            frame: a `ud.Frame` from (0, 0) to (1, 1) that has its title already.
            theta: the true value after the round, in NumPy.
            w: the memory after the action of the round, in NumPy.
            belief: each value of Theta with its probability after the round; empty if Theta is continuous.

        Raises:
            TypeError: Theta is continuous, so that there is nothing to draw by default.
        """
        del w
        if not belief:
            raise TypeError(f"{type(self).__name__} has no drawing; give it draw(frame, theta, w, belief).")
        true = [jax.tree.all(jax.tree.map(np.array_equal, theta, value)) for value, _ in belief]
        frame.bars([p for _, p in belief], framed=true.index(True), labels=_labels([value for value, _ in belief]))

    def say(self, o: Observation) -> str:
        """Describe an observation in a few words, for films, reports and `undelude play`; by default symbols alone.

        A symbol is described by its number, and anything else by an empty text.
        """
        return _number(o)

    def say_action(self, a: Action) -> str:
        """Describe an action in a few words, for reports and `undelude play`; by default as `say` does."""
        return _number(a)

    def say_theta(self, theta: Theta) -> str:
        """Describe a value of Theta in a few words, for reports and `undelude play`; by default not at all.

        Reports then count the values from 0.
        """
        del theta
        return ""


def _number(x: Any) -> str:
    """Return the number of a symbol, or an empty text."""
    return str(int(x)) if isinstance(x, np.ndarray | np.generic) and x.ndim == 0 and x.dtype.kind in "iu" else ""


def _labels(thetas: list[Theta]) -> list[str]:
    """Return a label for each value of Theta: the value if it is one number, otherwise its index."""
    leaves = [jax.tree.leaves(theta) for theta in thetas]
    is_number = all(len(x) == 1 and np.ndim(x[0]) == 0 for x in leaves)
    return [f"{float(x[0]):.3g}" for x in leaves] if is_number else [str(k) for k in range(len(thetas))]


class AbstractExpert(eqx.Module, Generic[E]):
    """The expert, `Q(A | Theta, E)`, who is shown theta; `E` is its memory.

    Attributes:
        theta_free_memory: as in `AbstractTask`.
    """

    theta_free_memory: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_fields(cls)

    @abc.abstractmethod
    def init(self, theta: Theta) -> E:
        """Return `E` at the start of an episode."""

    @abc.abstractmethod
    def Q_A(self, theta: Theta, e: E) -> AbstractDistribution:
        """Return `Q(A_t | theta, e)`, the distribution of the expert's next action."""

    @abc.abstractmethod
    def g_A(self, theta: Theta, a: Action, e: E) -> E:
        """Return `E` after the action `a`, by either executor."""

    @abc.abstractmethod
    def g_O(self, theta: Theta, o: Observation, e: E) -> E:
        """Return `E` after the observation `o`."""
