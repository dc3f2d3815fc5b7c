"""The agents of the Python loop: one from outside JAX, whose every answer is checked, and a traced one."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key, PyTree

from undelude._agents.base import AbstractAgent
from undelude._agents.host import HostAgent
from undelude._checks import as_numbers, check_probabilities
from undelude._compiled import compiled, read_now
from undelude._distributions import AbstractDistribution, Categorical, Spec, Symbols, num_symbols, spec_of
from undelude._process.host_world import Prediction
from undelude._process.world import RoundKeys
from undelude._tree import index
from undelude._types import Action, Memory, Observation

# The episodes that have not ended before the round.
Exists = Bool[np.ndarray, " B"]
# The marks of a round's actions: true for do.
Marks = Bool[np.ndarray, " B"]


class LastRound(NamedTuple):
    """What an agent has not read yet: the last round, or the opening alone.

    Attributes:
        a: the actions; None before the first round.
        o: the observations, or the openings; None if there is none.
        marks: of the actions.
    """

    a: Action | None
    o: Observation | None
    marks: Marks


class AbstractPlayer(abc.ABC):
    """An agent as the loop calls it: for all episodes at once."""

    @abc.abstractmethod
    def init(self, num_episodes: int, num_rounds: int) -> Memory:
        """Return the memories at the start."""

    @abc.abstractmethod
    def read(self, m: Memory, last: LastRound, exists: Exists, t: int) -> tuple[Prediction, Memory]:
        """Read the last round, and predict the action of round `t`."""

    @abc.abstractmethod
    def turn(
        self, m: Memory, last: LastRound, keys: Key[Array, " B"], exists: Exists, t: int
    ) -> tuple[Prediction, Action, Memory]:
        """Read the last round as `read` does, and choose the actions of round `t`."""

    @abc.abstractmethod
    def predict_observation(self, m: Memory, a: Action | None, marks: Marks, exists: Exists, t: int) -> Prediction:
        """Predict the observations of round `t`, or the openings if `a` is None."""


class HostPlayer(AbstractPlayer):
    """A `HostAgent`, whose every answer is checked."""

    def __init__(self, agent: HostAgent, specs: tuple[Spec, Spec], key: Key[Array, ""]):
        self.agent = agent
        self.action_spec, self.observation_spec = specs
        self.rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))

    def init(self, num_episodes: int, num_rounds: int) -> Memory:
        del num_rounds
        return self.agent.reset(num_episodes)

    def read(self, m: Memory, last: LastRound, exists: Exists, t: int) -> tuple[Prediction, Memory]:
        # In most cases a HostAgent knows how it reads its actions, and is not told the marks.
        marks = (np.asarray(last.marks),) if self.agent.told_marks else ()
        returned, m = _pair(self.agent.predict(m, _to_host(last.a), _to_host(last.o), *marks), f"predict (round {t})")
        return _as_distribution(returned, self.action_spec, exists, f"predict (round {t})"), m

    def turn(
        self, m: Memory, last: LastRound, keys: Key[Array, " B"], exists: Exists, t: int
    ) -> tuple[Prediction, Action, Memory]:
        prediction, m = self.read(m, last, exists, t)
        if self.agent.act is not None:
            chosen, m = _pair(self.agent.act(m, prediction, self.rng), f"act (round {t})")
            return prediction, _as_actions(chosen, self.action_spec, exists, t), m
        if prediction is None:
            raise ValueError(
                "HostAgent: predict returned None instead of a distribution, so that there is nothing to draw actions "
                "from; give act=, or return the distribution."
            )
        return prediction, _draw(prediction, keys), m

    def predict_observation(self, m: Memory, a: Action | None, marks: Marks, exists: Exists, t: int) -> Prediction:
        del marks
        if self.agent.predict_observation is None:
            return None
        returned = self.agent.predict_observation(m, _to_host(a))
        return _as_distribution(returned, self.observation_spec, exists, f"predict_observation (round {t})")


class TracedPlayer(AbstractPlayer):
    """An `AbstractAgent`, vmapped and compiled step by step."""

    def __init__(self, agent: AbstractAgent):
        self.agent = agent
        functions = _read, _turn, _predict_observation
        self._read, self._turn, self._predict_observation = read_now(agent, *functions)

    def init(self, num_episodes: int, num_rounds: int) -> Memory:
        one = self.agent.init(num_rounds=num_rounds)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_episodes, *jnp.shape(x))), one)

    def read(self, m: Memory, last: LastRound, exists: Exists, t: int) -> tuple[Prediction, Memory]:
        del t
        return self._read(self.agent, m, *last, exists)

    def turn(
        self, m: Memory, last: LastRound, keys: Key[Array, " B"], exists: Exists, t: int
    ) -> tuple[Prediction, Action, Memory]:
        del t
        return self._turn(self.agent, m, *last, exists, keys)

    def predict_observation(self, m: Memory, a: Action | None, marks: Marks, exists: Exists, t: int) -> Prediction:
        del exists, t
        return self._predict_observation(self.agent, m, a, marks)


def _to_host(x: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, x)


def _as_actions(chosen: object, spec: Spec, exists: Exists, t: int) -> Action:
    """Return the actions that a `HostAgent` chose as arrays of the spec's shapes and dtypes."""
    shape = jax.tree.map(lambda x: (len(exists), *x.shape), spec.value)
    dtypes = jax.tree.map(lambda x: x.dtype, spec.value)
    name = f"HostAgent: what act (round {t}) returned"
    is_one_array = isinstance(spec.value, jax.ShapeDtypeStruct)
    a = as_numbers(chosen, name) if is_one_array else jax.tree.map(lambda x: as_numbers(x, name), chosen)
    if jax.tree.map(np.shape, a) != shape:
        raise ValueError(
            f"HostAgent: act (round {t}) returned actions of shape {jax.tree.map(np.shape, a)}, not {shape}."
        )
    read = jax.tree.map(lambda x: x[exists], a)
    spec.check(f"HostAgent: act (round {t}), actions", read)
    if any(np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all() for x in jax.tree.leaves(read)):
        raise ValueError(f"HostAgent: act (round {t}) returned actions that are not finite.")
    return jax.tree.map(lambda x, dtype: jnp.asarray(x, dtype), a, dtypes)


def _pair(returned: object, name: str) -> tuple[object, Memory]:
    if not (isinstance(returned, tuple) and len(returned) == 2):
        what = "(a, m)" if name.startswith("act") else "(distribution, m)"
        raise ValueError(f"HostAgent: {name} must return a pair {what}, not {type(returned).__name__}.")
    return returned


def _as_distribution(returned: object, spec: Spec, exists: Exists, name: str) -> AbstractDistribution | None:
    """Return a policy's prediction as a batch of distributions; those of ended episodes are not checked."""
    if returned is None:
        return None
    B = len(exists)
    if isinstance(returned, AbstractDistribution):
        leaves = jax.tree.leaves(eqx.filter(returned, eqx.is_array_like))
        if any(leaf.ndim == 0 or leaf.shape[0] != B for leaf in leaves):
            raise ValueError(
                f"HostAgent: {name} returned a distribution whose arrays have no leading axis of {B} episodes."
            )
        if not spec.agrees(own := spec_of(index(returned, 0))):
            raise ValueError(f"HostAgent: {name} returned a distribution of {own} for each episode, not of {spec}.")
        if isinstance(returned, Categorical):
            check_probabilities(returned.probs[exists], f"HostAgent: {name}, probabilities")
        return returned
    if not isinstance(spec, Symbols):
        raise ValueError(
            f"HostAgent: {name} returned {type(returned).__name__}, but it predicts {spec}; "
            "return a distribution with a leading axis of episodes, such as ud.Normal(loc, scale)."
        )
    probs = as_numbers(returned, f"HostAgent: what {name} returned").astype(float)
    if probs.shape != (shape := (B, num_symbols(spec))):
        raise ValueError(f"HostAgent: {name} returned probabilities of shape {list(probs.shape)}, not {list(shape)}.")
    check_probabilities(probs[exists], f"HostAgent: {name}, probabilities")
    with np.errstate(divide="ignore", invalid="ignore"):
        return Categorical(log_probs=jnp.asarray(np.log(probs), float))


@compiled
def _draw(predictions: AbstractDistribution, keys: Array) -> PyTree:
    return jax.vmap(lambda prediction, key: prediction.sample(RoundKeys.of(key).act))(predictions, keys)


@compiled
def _predict_observation(agent: AbstractAgent, m: Memory, a: Action | None, marks: Array) -> AbstractDistribution:
    return jax.vmap(lambda m, a, mark: agent.f_O(_after(agent, m, a, mark)))(m, a, marks)


def _read_all(
    agent: AbstractAgent, m: Memory, a: Action | None, o: Observation | None, marks: Array, exists: Array
) -> tuple[AbstractDistribution, Memory]:
    # `exists` alone gives the batch its size if the memory is empty and nothing was read yet.
    def one(
        m: Memory, a: Action | None, o: Observation | None, mark: Array, _: Array
    ) -> tuple[AbstractDistribution, Memory]:
        m = _after(agent, m, a, mark)
        m = m if o is None else agent.g_O(o, m)
        return agent.f_A(m), m

    return jax.vmap(one)(m, a, o, marks, exists)


_read = compiled(_read_all)


@compiled
def _turn(
    agent: AbstractAgent, m: Memory, a: Action | None, o: Observation | None, marks: Array, exists: Array, keys: Array
) -> tuple[AbstractDistribution, Action, Memory]:
    prediction, m = _read_all(agent, m, a, o, marks, exists)
    a, m = jax.vmap(lambda m, key: agent.act(m, key=RoundKeys.of(key).act))(m, keys)
    return prediction, a, m


def _after(agent: AbstractAgent, m: Memory, a: Action | None, mark: Array) -> Memory:
    return m if a is None else agent.g_A(a, m, intervened=mark)
