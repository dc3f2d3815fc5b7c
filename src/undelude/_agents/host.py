"""An agent from another library, such as a policy in PyTorch or behind a server (Section 4.1's P(A | M))."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import PyTree

from undelude._checks import check_arguments
from undelude._types import Mark, Memory

# Predictions of a batch: [B, A] probabilities, a distribution whose arrays have a leading axis B, or None.
HostPrediction: TypeAlias = Any
# How the functions of a `HostAgent` are called.
ARGUMENTS = {
    "reset": ("num_episodes",),
    "predict": ("m", "a", "o"),
    "act": ("m", "distribution", "rng"),
    "predict_observation": ("m", "a"),
}


@dataclasses.dataclass(frozen=True)
class HostAgent:
    """A policy that is not JAX: it acts in a batch of episodes, in Python, and is never traced.

    For `ud.rollout` and `ud.certify`. Its functions are called with NumPy arrays with a leading axis B, the episodes;
    its memory may be any object. Rows of episodes that have ended are passed on, and
    what it returns for them is ignored.

        m = reset(B)
        distribution, m = predict(m, a, o)     before each action, and after the last observation
        a, m = act(m, distribution, rng)       by default, a sample of the distribution

    Args:
        reset: `num_episodes -> m`, the memory at the start of a batch of episodes.
        predict: `(m, a, o) -> (distribution, m)`: reads the last action and observation, and predicts the next action:
            `[B, A]` probabilities, a distribution whose arrays have a leading axis B (`ud.Normal(loc, scale)`), or
            None if the policy cannot predict; then only rewards are measured. At the start, a is None, and o is the
            opening or None.
        act: `(m, distribution, rng) -> (a, m)`: chooses the actions; `rng` is a NumPy generator.
        predict_observation: `(m, a) -> distribution` of the observation after the action, or of the opening if a is
            None. Without it, predictions of observations are not measured.
        own_actions: the mark of its actions in the episodes. They are interventions, however the policy reads them.
        told_marks: whether `predict` takes a fourth argument, `intervened`, `[B]`: whether the last action is read as
            an intervention, as the episode marks it; any booleans at the start. For policies that read `x` and `do(x)`
            differently (Remark 14).

    Raises:
        TypeError: an argument that must be a function is not callable, or takes other arguments, or in another order.
        ValueError: `own_actions` is not a mark.

    >>> import jax
    >>> import numpy as np
    >>> import undelude as ud
    >>> uniform = ud.HostAgent(lambda num_episodes: num_episodes, lambda m, a, o: (np.full((m, 5), 0.2), m))
    >>> bandit = ud.tasks.bandit(num_rounds=3)
    >>> report = ud.certify(bandit, uniform, key=jax.random.key(0), num_episodes=64, baselines=False)
    >>> report.action_kl_do > 0, report.observation_kl_do
    (True, None)
    """

    reset: Callable[[int], Memory]
    predict: Callable[..., tuple[HostPrediction, Memory]]
    act: Callable[[Memory, HostPrediction, np.random.Generator], tuple[PyTree, Memory]] | None = None
    predict_observation: Callable[[Memory, PyTree], HostPrediction] | None = None
    own_actions: Mark = "do"
    told_marks: bool = False

    def __post_init__(self) -> None:
        for name in ARGUMENTS:
            f = getattr(self, name)
            if not (callable(f) or (f is None and name in ("act", "predict_observation"))):
                raise TypeError(f"HostAgent: {name} must be a function, not {f!r}.")
            if f is not None:
                told = ("intervened",) if name == "predict" and self.told_marks else ()
                check_arguments(f, (*ARGUMENTS[name], *told), f"HostAgent.{name}")
        if self.own_actions not in ("do", "see"):
            raise ValueError(f'HostAgent: own_actions must be "do" or "see", not {self.own_actions!r}.')
