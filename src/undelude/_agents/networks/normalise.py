"""Inputs and outputs in units of their usual size, kept with the agent."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from undelude._agents.networks.heads import AbstractHead, JointHead, NormalHead, thaw
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import AbstractNetworkAgent
from undelude._agents.networks.readers import AbstractReader, JointReader, LinearReader
from undelude._process.episodes import Episodes


def normalise(agent: AbstractNetworkAgent, episodes: Episodes) -> Any:
    """A copy of `agent` that reads and predicts continuous values less their mean, over their standard deviation.

    Both are measured in `episodes`, component by component, and stored in the agent; teaching leaves them as they are,
    and `ud.save` keeps them. Do this before teaching: what the agent has learned was in other units.

    Args:
        agent: a network.
        episodes: any that are like those to come, such as an expert's (`ud.rollout(..., executor="expert")`).

    Raises:
        TypeError: the agent is no network.

    >>> import undelude as ud
    >>> process = ud.tasks.bandit()
    >>> episodes = ud.rollout(process, None, key=jax.random.key(0), num_episodes=8, executor="expert")
    >>> agent = ud.normalise(ud.LSTMAgent(process, key=jax.random.key(1)), episodes)  # Symbols have no size.
    """
    if not isinstance(agent, AbstractNetworkAgent):
        raise TypeError(f"{type(agent).__name__} has no inputs to normalise; this is for networks.")
    actions, observations = _flat(episodes, episodes.actions), _flat(episodes, episodes.observations)
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


def is_continuous(spec: dict[str, Any]) -> bool:
    """Whether there is anything in a description that has a size, in actions, observations or their parts."""
    kind, parts = spec.get("kind", "joint"), spec.get("parts", spec)
    return any(map(is_continuous, parts.values())) if kind == "joint" else kind in ("normal", "squashed", "given")


def _flat(episodes: Episodes, values: PyTree) -> PyTree:
    """All rounds of all episodes on one axis."""
    axes = episodes.mask.ndim
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[axes:]), values)


def _reader(reader: AbstractReader, xs: PyTree) -> AbstractReader:
    match reader:
        case LinearReader():
            mean, scale = _mean_and_scale(xs.reshape(len(xs), -1))
            return LinearReader(reader.weight, mean, scale)
        case JointReader():
            return JointReader({name: _reader(part, xs[name]) for name, part in reader.parts.items()})
    return reader


def _head(head: AbstractHead, xs: PyTree) -> AbstractHead:
    match head:
        # In a box, the bounds are the unit.
        case NormalHead() if thaw(head.spec)["kind"] == "normal":
            return NormalHead(head.weight, head.bias, *_mean_and_scale(xs), head.spec)
        case JointHead():
            return JointHead({name: _head(part, xs[name]) for name, part in head.parts.items()})
    return head


def _mean_and_scale(xs: Array) -> tuple[Array, Array]:
    """Over the leading axis; what does not vary is left in its own units."""
    mean, scale = jnp.mean(xs, axis=0, dtype=float), jnp.std(xs, axis=0, dtype=float)
    return mean, jnp.where(scale > 1e-6 * (1 + jnp.abs(mean)), scale, 1.0)
