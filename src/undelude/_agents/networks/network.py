"""The base of all networks: they read one symbol at a time and predict from features of their memory (Section 4.1)."""

import abc
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from undelude._agents.base import AbstractSequenceAgent, Reading, check_action, check_mark, with_reading
from undelude._agents.networks.action_mask import Masked, mask_in, num_masked, restrict
from undelude._agents.networks.heads import MAX_COMPONENTS, MIN_COMPONENTS, check_supported
from undelude._agents.networks.interface import Interface
from undelude._checks import MAX_COUNT, check_count
from undelude._distributions import AbstractDistribution, Parts, Reals, Spec
from undelude._distributions.spec import from_json, is_size, to_json
from undelude._process.episodes import Episodes
from undelude._process.host_world import World, check_world
from undelude._types import Action, M, Mark, Observation

N = TypeVar("N", bound="AbstractLearnedAgent")


class AbstractLearnedAgent(AbstractSequenceAgent[M]):
    """An agent with learned parameters, made for the actions and observations of a process.

    Each option of its `__init__`, apart from the process and the key, is a field of the same name; `ud.save` stores
    them all.

    Attributes:
        specs: the values of actions and of observations.
    """

    specs: eqx.AbstractVar[tuple[Spec, Spec]]

    @property
    def config(self) -> dict[str, Any]:
        """The plain data from which `from_config` builds an agent of this shape."""
        actions, observations = self.specs
        specs = {"actions": to_json(actions), "observations": to_json(observations)}
        marks = {"own_actions": self.own_actions, "marks": list(self.marks)}
        return specs | {name: getattr(self, name) for name in options(type(self))} | marks

    @classmethod
    def from_config(cls: type[N], config: dict[str, Any]) -> N:
        """Return an agent of the shape that `config` describes, with random weights."""
        build: Any = cls
        specs = (from_json(config["actions"], "actions"), from_json(config["observations"], "observations"))
        agent = build(specs, **{name: config[name] for name in options(cls)}, key=jax.random.key(0))
        own_actions: Mark = config["own_actions"]
        agent = with_reading(agent, Reading(own_actions, tuple(config["marks"])))
        check_mark(agent, own_actions)
        return agent


class AbstractNetworkAgent(AbstractLearnedAgent[M]):
    """A network over the symbols `do(a)`, `a` and `o` of an episode.

    An architecture defines `init`, `step`, `features` and `parallel`; this class derives the four functions of Section
    4.1 and `predict` from them. If observations have a part `action_mask`, actions that it forbids have probability 0;
    `init` must then return `self.with_mask(m)`.

    Attributes:
        interface: the readers and heads.
    """

    interface: eqx.AbstractVar[Interface]

    @abc.abstractmethod
    def step(self, x: Float[Array, " E"], m: M) -> M:
        """Return the memory after the symbol with vector `x`."""

    @abc.abstractmethod
    def features(self, m: M) -> Float[Array, " D"]:
        """Return the features of a memory, from which the heads predict."""

    @abc.abstractmethod
    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """Return the features before the first of `N` symbols and after each of them, `[N + 1, D]`."""

    def with_mask(self, m: M) -> M:
        """Return the memory `m` at the start, with a place for the mask of actions if observations have one."""
        n = num_masked(self.specs)
        masked: Any = m if n is None else Masked(m, jnp.ones(n))
        return masked

    def f_A(self, m: M) -> AbstractDistribution[Action]:
        """Return the prediction of the head for actions, of which only those are possible that the mask allows."""
        if isinstance(m, Masked):
            return restrict(self.interface.head_A(self.features(m.memory)), m.allowed)
        return self.interface.head_A(self.features(m))

    def f_O(self, m: M) -> AbstractDistribution[Observation]:
        """Return the prediction of the head for observations."""
        inner: Any = m.memory if isinstance(m, Masked) else m
        return self.interface.head_O(self.features(inner))

    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """Return the memory after the symbol `do(a)` if `intervened`, otherwise after `a`."""
        check_action(self, self.specs[0], a, intervened)
        return self._step(self.interface.read_action(a, intervened), m)

    def g_O(self, o: Observation, m: M) -> M:
        """Return the memory after the symbol `o`."""
        self.specs[1].check(f"{type(self).__name__}: an observation", o)
        after: Any = self._step(self.interface.read_observation(o), m)
        return eqx.tree_at(lambda m: m.allowed, after, mask_in(o)) if isinstance(m, Masked) else after

    def _step(self, x: Float[Array, " E"], m: M) -> M:
        after: Any = Masked(self.step(x, m.memory), m.allowed) if isinstance(m, Masked) else self.step(x, m)
        return after

    def predict(self, episode: Episodes) -> tuple[AbstractDistribution[Action], AbstractDistribution[Observation]]:
        """Return all predictions over an episode, from one call of `parallel`."""
        interface = self.interface
        h = self.parallel(symbols(episode, interface.read_action, interface.read_observation))
        before_actions, before_observations = turns(episode)
        P_A, P_O = jax.vmap(interface.head_A)(h[before_actions]), jax.vmap(interface.head_O)(h[before_observations])
        if (n := num_masked(self.specs)) is not None:
            first = jnp.ones(n) if episode.opening is None else mask_in(episode.opening)
            P_A = restrict(P_A, jnp.concatenate([first[None], mask_in(episode.observations)[:-1]]))
        return P_A, P_O


def symbols(
    episode: Episodes, read_action: Callable[..., Array], read_observation: Callable[..., Array]
) -> Float[Array, "N ..."] | Int[Array, " N"]:
    """Return the vectors of `[o_0,] a_1, o_1, ..., a_T` of one episode; no prediction follows `o_T`."""
    x_A = jax.vmap(read_action)(episode.actions, episode.intervened)
    x_O = jax.vmap(read_observation)(episode.observations)
    xs = jnp.stack([x_A, x_O], axis=1).reshape(-1, *x_A.shape[1:])[:-1]
    return xs if episode.opening is None else jnp.concatenate([read_observation(episode.opening)[None], xs])


def turns(episode: Episodes) -> tuple[slice, slice]:
    """Return the slices of the N + 1 features of N `symbols` that predict actions, and that predict observations."""
    opens = episode.opening is not None
    return slice(int(opens), None, 2), slice(1 - int(opens), None, 2)


def options(agent_type: type[AbstractLearnedAgent]) -> list[str]:
    """Return the options of an architecture: the parameters of its `__init__` apart from the process and the key."""
    return [name for name in inspect.signature(agent_type).parameters if name not in ("process", "key")]


def check_agent_config(agent_type: type[AbstractLearnedAgent], config: object) -> int:
    """Check the entries of a file, before an agent is made from them.

    Args:
        agent_type: the class whose `from_config` they are for.
        config: parsed JSON.

    Returns:
        The number of layers and parts, which are made one by one.

    Raises:
        ValueError: an entry is missing, unknown or not valid; the message names it.
    """
    parameters = inspect.signature(agent_type).parameters
    names = {"actions", "observations", "own_actions", "marks", *options(agent_type)}
    if not isinstance(config, dict):
        raise ValueError("its config is not an object")
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
    specs = (from_json(config[name], name) for name in ("actions", "observations"))
    return config.get("num_layers", 1) + sum(spec.num_parts for spec in specs)


def make_specs(process: World | tuple[Spec, Spec]) -> tuple[Spec, Spec]:
    """Return the specs of a process, or of a world that can only be sampled; a pair of specs is returned unchanged.

    Raises:
        TypeError: networks have no head for its actions or observations.
    """
    if isinstance(process, tuple) and len(process) == 2:
        specs = process
    else:
        check_world(process)
        specs = process.specs
    for spec in specs:
        check_supported(spec)
    return specs


def make_num_components(
    process: World | tuple[Spec, Spec], specs: tuple[Spec, Spec], num_components: int | None
) -> int | None:
    """Return the components of a predicted mixture; None if nothing that is predicted is a real number.

    Raises:
        ValueError: the number is out of range, or it is given and there are no mixtures.
    """
    if not any(isinstance(leaf, Reals) for spec in specs for leaf in _leaves(spec)):
        if num_components is not None:
            raise ValueError(
                f"num_components={num_components!r:.99} is for predictions of real numbers, and actions are "
                f"{specs[0]}, observations {specs[1]}: leave it out."
            )
        return None
    if num_components is not None:
        return check_count("num_components", num_components)
    num_thetas = getattr(process, "num_thetas", None) if getattr(process, "finite", False) else None
    return min(max(MIN_COMPONENTS, num_thetas or 0), MAX_COMPONENTS)


def _leaves(spec: Spec) -> list[Spec]:
    return [leaf for part in spec.leaves for leaf in _leaves(part)] if isinstance(spec, Parts) else [spec]
