"""What all networks share: they read one symbol at a time, and predict from features of their memory (Section 4.1)."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from undelude._agents.base import AbstractSequenceAgent, check_mark, with_marks
from undelude._agents.networks.heads import check_spec, describe, is_size, thaw
from undelude._agents.networks.interface import Interface
from undelude._checks import MAX_COUNT
from undelude._distributions.distributions import AbstractDistribution
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess, check_process
from undelude._types import Action, Mark, Observation

N = TypeVar("N", bound="AbstractLearnedAgent")
M = TypeVar("M")


class AbstractLearnedAgent(AbstractSequenceAgent[M]):
    """An agent that is made for the symbols of a process, and has parameters to learn.

    Each option of its `__init__` beside the process and the key is a field of the same name, which `ud.save` writes
    down.

    Attributes:
        spec: what actions and observations are like.
    """

    spec: eqx.AbstractVar[tuple[Any, ...]]

    @property
    def config(self) -> dict[str, Any]:
        """What `from_config` needs to build such an agent, in JSON."""
        marks = {"own_actions": self.own_actions, "marks": list(self.marks)}
        return {"spec": thaw(self.spec)} | {name: getattr(self, name) for name in options(type(self))} | marks

    @classmethod
    def from_config(cls: type[N], config: dict[str, Any]) -> N:
        """An agent of that shape, with weights yet to be filled in."""
        build: Any = cls
        agent = build(config["spec"], **{name: config[name] for name in options(cls)}, key=jax.random.key(0))
        own_actions: Mark = config["own_actions"]
        agent = with_marks(agent, own_actions, tuple(config["marks"]))
        check_mark(agent, own_actions)
        return agent


class AbstractNetworkAgent(AbstractLearnedAgent[M]):
    """A network over the symbols `do(a)`, `a` and `o` of an episode, whatever becomes of them inside.

    An architecture is `init`, `step`, `features` and `parallel`; from them come the four functions and `predict`.

    Attributes:
        interface: how it reads the symbols, and what it makes of its features.
    """

    interface: eqx.AbstractVar[Interface]

    @abc.abstractmethod
    def step(self, x: Float[Array, " E"], m: M) -> M:
        """The memory after a symbol that was read as `x`."""

    @abc.abstractmethod
    def features(self, m: M) -> Float[Array, " D"]:
        """What the heads see of the memory."""

    @abc.abstractmethod
    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """The features before the first of `N` symbols and after each of them, `[N + 1, D]`."""

    def f_A(self, m: M) -> AbstractDistribution:
        """A linear head on the features."""
        return self.interface.head_A(self.features(m))

    def f_O(self, m: M) -> AbstractDistribution:
        """Another linear head on the features."""
        return self.interface.head_O(self.features(m))

    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """One step on the symbol `a` or `do(a)`."""
        return self.step(self.interface.read_action(a, intervened), m)

    def g_O(self, o: Observation, m: M) -> M:
        """One step on the symbol `o`."""
        return self.step(self.interface.read_observation(o), m)

    def predict(self, episode: Episodes) -> tuple[AbstractDistribution, AbstractDistribution]:
        """All symbols are read at once, go through `parallel`, and all predictions are made at once."""
        own = self.interface
        h = self.parallel(symbols(episode, own.read_action, own.read_observation))
        before_actions, before_observations = turns(episode)
        return jax.vmap(own.head_A)(h[before_actions]), jax.vmap(own.head_O)(h[before_observations])


def symbols(
    episode: Episodes, read_action: Callable[..., Array], read_observation: Callable[..., Array]
) -> Float[Array, "N ..."] | Int[Array, " N"]:
    """`[o_0,] a_1, o_1, ..., a_T` of one episode, each as it is read; nothing is predicted from `o_T`."""
    x_A = jax.vmap(read_action)(episode.actions, episode.intervened)
    x_O = jax.vmap(read_observation)(episode.observations)
    xs = jnp.stack([x_A, x_O], axis=1).reshape(-1, *x_A.shape[1:])[:-1]
    return xs if episode.opening is None else jnp.concatenate([read_observation(episode.opening)[None], xs])


def turns(episode: Episodes) -> tuple[slice, slice]:
    """Which of the predictions before and after `symbols` are of actions, and which of observations."""
    opens = episode.opening is not None
    return slice(int(opens), None, 2), slice(1 - int(opens), None, 2)


def options(agent_type: type[AbstractLearnedAgent]) -> list[str]:
    """The options of an architecture: what its `__init__` takes beside the process and the key."""
    return [name for name in inspect.signature(agent_type).parameters if name not in ("process", "key")]


def check_config(agent_type: type[AbstractLearnedAgent], config: Any) -> int:
    """Check what a file says of an agent, before anything is made of it.

    Args:
        agent_type: whose `from_config` it is for.
        config: as from JSON.

    Returns:
        How many layers and parts there are to be: each is made one after the other.

    Raises:
        ValueError: an entry is missing, unknown or no such thing; the message names it.
    """
    parameters = inspect.signature(agent_type).parameters
    names = {"spec", "own_actions", "marks", *options(agent_type)}
    if not isinstance(config, dict):
        raise ValueError("its config is no object")
    for name in sorted(names ^ config.keys()):
        raise ValueError(f"{name!r:.99} is {'missing' if name in names else 'unknown to this version'}")
    for name in options(agent_type):
        if not (is_size(config[name]) or (config[name] is None and parameters[name].default is None)):
            raise ValueError(f"{name} must be a whole number from 1 to {MAX_COUNT}, not {config[name]!r:.99}")
    marks = config["marks"]
    if not (isinstance(marks, list) and all(mark in ["do", "see"] for mark in marks) and len(set(marks)) == len(marks)):
        raise ValueError(f'marks must be a list of "do" and "see", not {marks!r:.99}')
    if not isinstance(config["own_actions"], str):
        raise ValueError(f'own_actions must be "do" or "see", not {config["own_actions"]!r:.99}')
    if not (isinstance(config["spec"], dict) and config["spec"].keys() == {"actions", "observations"}):
        raise ValueError("spec must have actions and observations, and nothing else")
    return config.get("num_layers", 1) + sum(check_spec(spec, name) for name, spec in config["spec"].items())


def make_spec(process: InteractionProcess | dict[str, Any]) -> dict[str, Any]:
    """The description of a process's symbols; a description itself as it is.

    Raises:
        TypeError: there is no head for the process's distributions.
    """
    if isinstance(process, dict):
        return process
    check_process(process)
    return {
        "actions": describe(process.action_spec),
        "observations": describe(process.observation_spec),
    }


def scan_symbols(agent: AbstractNetworkAgent[M], xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
    """`parallel` for a memory that only steps: one scan over the symbols."""
    m = agent.init(num_rounds=len(xs))

    def read(m: M, x: Float[Array, " E"]) -> tuple[M, Float[Array, " D"]]:
        m = agent.step(x, m)
        return m, agent.features(m)

    _, features = jax.lax.scan(read, m, xs)
    return jnp.concatenate([agent.features(m)[None], features])
