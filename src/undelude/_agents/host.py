"""An agent from elsewhere: a policy in PyTorch, of Stable-Baselines3, behind a server (Section 4.1's P(A | M))."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import PyTree

from undelude._types import Mark

# What a policy may say of a batch of symbols: [B, n] probabilities, a distribution whose arrays have a leading axis
# B, nothing.
Law = Any


Memory = Any


@dataclasses.dataclass(frozen=True)
class HostAgent:
    """A policy that is no JAX: it acts in a batch of episodes, in Python, and is never traced.

    For `ud.rollout` and `ud.certify`. It is called with NumPy arrays, whose leading axis is B, the episodes; its memory
    is whatever it likes.

        m = reset(B)
        distribution, m = predict(m, a, o)        before each action and after the last: a and o are those of the last
        round
        a, m = act(m, distribution, rng)          by default a draw of the distribution

    Args:
        reset: `num_episodes -> m`: begin so many episodes.
        predict: `(m, a, o) -> (distribution, m)`: read what was executed in the last round and what came of it, and
        say the
            distribution of the next action: `[B, A]` probabilities, a distribution whose arrays have a leading axis B
            (`ud.Normal(loc, scale)`), or None where the policy does nothing but act; then rewards are all that can be
            measured. In the beginning a and o are None; where the process opens with an observation, o is that one.
        act: `(m, distribution, rng) -> (a, m)`: choose; `rng` is a NumPy generator. What it chose, `predict` is told.
        predict_observation: `(m, a) -> distribution` of the observation that follows the action (of the opening,
        where a is
            None); without it, predictions of observations are not measured.
        own_actions: under which mark its actions are stored. They are interventions, whatever it takes them for.

    Raises:
        TypeError: one of them cannot be called.

    >>> import undelude as ud
    >>> uniform = HostAgent(lambda num_episodes: num_episodes, lambda m, a, o: (np.full((m, 5), 0.2), m))
    >>> bandit = ud.tasks.bandit(num_rounds=3)
    >>> report = ud.certify(bandit, uniform, key=jax.random.key(0), num_episodes=64, baselines=False)
    >>> report.action_kl_do > 0, report.observation_kl_do
    (True, None)
    """

    reset: Callable[[int], Memory]
    predict: Callable[[Memory, PyTree, PyTree], tuple[Law, Memory]]
    act: Callable[[Memory, Law, np.random.Generator], tuple[PyTree, Memory]] | None = None
    predict_observation: Callable[[Memory, PyTree], Law] | None = None
    own_actions: Mark = "do"

    def __post_init__(self) -> None:
        for name in ("reset", "predict", "act", "predict_observation"):
            f = getattr(self, name)
            if not (callable(f) or (f is None and name in ("act", "predict_observation"))):
                raise TypeError(f"HostAgent: {name} must be a function, not {f!r}.")
        if self.own_actions not in ("do", "see"):
            raise ValueError(f'HostAgent: own_actions must be "do" or "see", not {self.own_actions!r}.')
