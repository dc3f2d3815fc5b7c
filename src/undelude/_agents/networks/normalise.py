"""Standardisation of a network's continuous inputs and outputs, stored in the agent."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from undelude._agents.networks.heads import AbstractHead, JointHead, NormalHead
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import AbstractNetworkAgent
from undelude._agents.networks.readers import AbstractReader, JointReader, LinearReader
from undelude._distributions import GivenArray, Parts, Reals, Spec
from undelude._process.episodes import Episodes
from undelude._types import Value

N = TypeVar("N", bound=AbstractNetworkAgent)


def normalise(agent: N, episodes: Episodes) -> N:
    """Return a copy of `agent` that reads and predicts continuous values in units of their standard deviation.

    Mean and standard deviation are measured over `episodes`, component by component, and stored in the agent; teaching
    does not change them, and `ud.save` stores them. Normalise before teaching: learned weights belong to the old units.
    Predictions inside a box keep the unit of its bounds.

    Args:
        agent: a network.
        episodes: typical episodes, such as the expert's, `ud.rollout(..., executor="expert")`.

    Raises:
        TypeError: the agent is not a network.

    >>> import undelude as ud
    >>> process = ud.tasks.bandit()
    >>> episodes = ud.rollout(process, None, key=jax.random.key(0), num_episodes=8, executor="expert")
    >>> agent = ud.normalise(ud.LSTMAgent(process, key=jax.random.key(1)), episodes)  # Symbols have no units.
    """
    if not isinstance(agent, AbstractNetworkAgent):
        raise TypeError(f"{type(agent).__name__} has no inputs to normalise; only networks have.")
    actions, observations = _flatten(episodes, episodes.actions), _flatten(episodes, episodes.observations)
    old = agent.interface
    new = (
        _reader(old.read_do, actions),
        _reader(old.read_see, actions),
        _reader(old.read_observation, observations),
        _head(old.head_A, actions),
        _head(old.head_O, observations),
    )
    return eqx.tree_at(lambda agent: _parts(agent.interface), agent, new)


def _parts(interface: Interface) -> tuple[eqx.Module, ...]:
    return interface.read_do, interface.read_see, interface.read_observation, interface.head_A, interface.head_O


def is_continuous(spec: Spec) -> bool:
    """Return whether the values, or any part of them, have a unit."""
    match spec:
        case Reals() | GivenArray():
            return True
        case Parts():
            return any(map(is_continuous, spec.leaves))
    return False


def _flatten(episodes: Episodes, values: Value) -> Value:
    """Return all rounds of all episodes along one axis, without the rounds after an early end."""
    axes = episodes.mask.ndim
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[axes:]), values)
    exists = episodes.mask.reshape(-1)
    return flat if exists.all() else jax.tree.map(lambda x: x[exists], flat)


def _reader(reader: AbstractReader, xs: Value) -> AbstractReader:
    match reader:
        case LinearReader():
            mean, scale = _mean_and_scale(xs.reshape(len(xs), -1))
            return LinearReader(reader.weight, mean, scale)
        case JointReader():
            return JointReader({name: _reader(part, xs[name]) for name, part in reader.parts.items()})
    return reader


def _head(head: AbstractHead, xs: Value) -> AbstractHead:
    match head:
        # The bounds of a box set its unit.
        case NormalHead() if head.spec.box is None:
            return NormalHead(head.weight, head.bias, *_mean_and_scale(xs), head.spec, head.num_components)
        case JointHead():
            return JointHead({name: _head(part, xs[name]) for name, part in head.parts.items()})
    return head


def _mean_and_scale(xs: Array) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return mean and standard deviation over the leading axis; 1 in place of a deviation of about 0."""
    mean, scale = jnp.mean(xs, axis=0, dtype=float), jnp.std(xs, axis=0, dtype=float)
    return mean, jnp.where(scale > 1e-6 * (1 + jnp.abs(mean)), scale, 1.0)
