"""Probes: numbers that an agent's decisions rest on, as functions of the process, whose bounds are then found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._agents.exact import ExactAgent
from undelude._distributions import Categorical, Symbols, num_symbols
from undelude._process import inference
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import rollout
from undelude._tree import index
from undelude.offline._fitting.result import Fit

# Histories of self-play at which the policy is probed, and those over which its value is averaged.
NUM_HISTORIES, NUM_VALUE_HISTORIES = 4, 32
# The most levels of an observation whose probabilities are probed one by one.
MAX_LEVELS = 3


@dataclass(frozen=True)
class Probe:
    """A functional of the process.

    Attributes:
        name: for reports, in the notation of the paper.
        value: the functional; traced, so that it can be differentiated.
        is_policy: whether it is part of the agent's policy or its value; otherwise, a causal effect.
    """

    name: str
    value: Callable[[InteractionProcess], Float[Array, ""]]
    is_policy: bool = False


def default_probes(fit: Fit, *, key: Key[Array, ""]) -> list[Probe]:
    """Return probes of a fit with finite actions.

    These are, for each action, `P(O_1 = o | do(A_1 = a))`, or the mean reward if the spec names one, after the most
    probable opening if there is one; the probability of
    the action that the agent prefers after some histories of self-play, `P(A_t = a | do(a), o)`; and the mean reward of
    its next action over histories of self-play.
    """
    process = fit.process
    probes: list[Probe] = []
    n = num_symbols(process.action_spec)
    names = process.task.action_levels  # type: ignore[attr-defined]
    is_finite = isinstance(process.observation_spec, Symbols)
    has_reward = fit.layout.reward is not None and is_finite
    levels = num_symbols(process.observation_spec) if is_finite else None
    # With an opening, which is evidence, effects are those after the most probable one.
    first, given = None, ""
    if process.opening and is_finite:
        first = int(_likely_opening(process))
        given = f"opening {process.task.say(jnp.asarray(first))}, "
    for a in range(n):
        done = f"{given}do(A_1 = {names[a]})"
        if has_reward:
            probes.append(Probe(f"E[R_1 | {done}]", Reward(a, first)))
        elif levels is not None and levels <= MAX_LEVELS:
            symbols = range(1, levels) if levels > 1 else range(levels)
            probes += [
                Probe(f"P(O_1 = {process.task.say(jnp.asarray(o))} | {done})", Effect(a, o, first)) for o in symbols
            ]
        elif levels is not None:
            probes.append(Probe(f"P(O_1 = its most probable | {done})", Effect(a, _likely(process, a, first), first)))
    length = min(3, process.num_rounds - 1)
    if length > 0:
        play = rollout(process, ExactAgent(process), key=key, num_episodes=NUM_VALUE_HISTORIES, num_rounds=length)
        for i in range(NUM_HISTORIES):
            history = Policy(index(play, i), 0)
            preferred = int(np.argmax(np.asarray(history.distribution(process).probs)))
            told = " ".join(
                f"do({names[int(a)]}) {process.task.say(np.asarray(o))}"
                for a, o in zip(play.actions[i], play.observations[i], strict=True)
            )
            probes.append(
                Probe(f"P(A_{length + 1} = {names[preferred]} | {told})", Policy(index(play, i), preferred), True)
            )
        if has_reward:
            probes.append(Probe(f"value of the policy in round {length + 1}", Value(play), True))
    return probes


def _as_symbol(x: Any) -> Int[Array, ""] | None:
    return None if x is None else jnp.asarray(x)


class Effect(eqx.Module):
    """`P(O_1 = o | do(A_1 = a))`, after the opening `first` if the process has one: by default its most probable."""

    a: Int[Array, ""] = eqx.field(converter=jnp.asarray)
    o: Int[Array, ""] = eqx.field(converter=jnp.asarray)
    first: Int[Array, ""] | None = eqx.field(converter=_as_symbol, default=None)

    def __call__(self, process: InteractionProcess) -> Float[Array, ""]:
        return jnp.exp(_after(process, self.a, self.first).log_probs[self.o])


class Reward(eqx.Module):
    """`E[R_1 | do(A_1 = a)]`, after the opening `first` if the process has one: by default its most probable."""

    a: Int[Array, ""] = eqx.field(converter=jnp.asarray)
    first: Int[Array, ""] | None = eqx.field(converter=_as_symbol, default=None)

    def __call__(self, process: InteractionProcess) -> Float[Array, ""]:
        return _mean_reward(process, _start(process, self.first), self.a)


class Policy(eqx.Module):
    """`P(A_t = a | do(a), o)` after a history."""

    history: Episodes
    a: Int[Array, ""] = eqx.field(converter=jnp.asarray)

    def distribution(self, process: InteractionProcess) -> Categorical:
        belief = index(inference.filter(process, self.history, all_done=True, whole=True), -1)
        return inference.predict_action(process, belief)  # type: ignore[return-value]

    def __call__(self, process: InteractionProcess) -> Float[Array, ""]:
        return jnp.exp(self.distribution(process).log_probs[self.a])


class Value(eqx.Module):
    """The mean reward of the next action of the do-agent, over fixed histories."""

    histories: Episodes

    def __call__(self, process: InteractionProcess) -> Float[Array, ""]:
        def value(history: Episodes) -> Float[Array, ""]:
            belief = index(inference.filter(process, history, all_done=True, whole=True), -1)
            policy = jnp.exp(inference.predict_action(process, belief).log_probs)  # type: ignore[union-attr]
            rewards = jax.vmap(lambda a: _mean_reward(process, belief, a))(jnp.arange(len(policy)))
            return policy @ rewards

        return jax.vmap(value)(self.histories).mean()


def _start(process: InteractionProcess, first: Int[Array, ""] | None) -> inference.Belief:
    """Return the belief before the first action; with an opening, after this one, by default the most probable."""
    belief = inference.init(process)
    if not process.opening:
        return belief
    return inference.update_observation(process, belief, _likely_opening(process) if first is None else first)


def _likely_opening(process: InteractionProcess) -> Int[Array, ""]:
    belief = inference.init(process)
    return jnp.argmax(inference.predict_observation(process, belief).log_probs)  # type: ignore[union-attr]


def _after(process: InteractionProcess, a: Int[Array, ""] | int, first: Int[Array, ""] | None) -> Categorical:
    belief = inference.update_action(process, _start(process, first), jnp.asarray(a), True)
    return inference.predict_observation(process, belief)  # type: ignore[return-value]


def _likely(process: InteractionProcess, a: int, first: int | None) -> int:
    return int(np.argmax(np.asarray(_after(process, a, _as_symbol(first)).log_probs)))


def _mean_reward(process: InteractionProcess, belief: inference.Belief, a: Array) -> Float[Array, ""]:
    """Return `E[R | history, do(a)]`, the sum over theta and observations."""
    later = inference.update_action(process, belief, a, True)

    def of(theta: Array) -> Float[Array, ""]:
        distribution = process.task.Q_O(theta, later.w)
        symbols = jnp.arange(distribution.log_probs.shape[-1])  # type: ignore[attr-defined]
        rewards = jax.vmap(lambda o: process.task.reward(theta, later.w, a, o))(symbols)
        return jnp.exp(distribution.log_probs) @ rewards  # type: ignore[attr-defined]

    return jnp.exp(later.log_posterior) @ jax.vmap(of)(jnp.arange(process.num_thetas))
