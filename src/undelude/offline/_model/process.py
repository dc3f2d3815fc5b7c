"""The induced process: a fitted model as an `InteractionProcess`, for exact agents, teaching and certificates."""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, Mixture, Normal
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._tree import where
from undelude.offline._data.columns import Column
from undelude.offline._data.demos import Demos
from undelude.offline._model.contexts import Last
from undelude.offline._model.mechanisms import Factor, Gaussian, Table
from undelude.offline._model.network import Known, Network, features
from undelude.offline._model.spec import MAX_SYMBOLS, Layout

Memory = dict[str, Any]


class ObservedFields(NamedTuple):
    """The fields of an observation: the finite ones are the digits of one symbol.

    Attributes:
        finite: the finite fields in the order of the symbol's digits, with their numbers of levels.
        reals: the real fields, with their dimensions.
    """

    finite: tuple[tuple[str, int], ...]
    reals: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, demos: Demos) -> "ObservedFields":
        """Return the observed fields of demonstrations.

        Raises:
            ValueError: they have too many combinations of values for one symbol.
        """
        finite = tuple((name, len(c.levels)) for name, c in demos.observations.items() if c.levels is not None)
        reals = tuple((name, c.values.shape[-1]) for name, c in demos.observations.items() if c.levels is None)
        fields = cls(finite, reals)
        if fields.num_symbols > MAX_SYMBOLS:
            sizes = ", ".join(f"{name} {n}" for name, n in finite)
            raise ValueError(
                f"The observed fields have {fields.num_symbols} combinations of values ({sizes}), and an observation "
                f"is one symbol of at most {MAX_SYMBOLS}: make a field hidden=, or merge its values."
            )
        return fields

    @property
    def num_symbols(self) -> int:
        """The number of combinations of values of the finite fields."""
        return math.prod(n for _, n in self.finite)

    @property
    def symbol(self) -> str:
        """The part of an observation with the finite fields: their own name if there is one, otherwise "symbol"."""
        return self.finite[0][0] if len(self.finite) == 1 else "symbol"

    def observation(self, values: dict[str, Any]) -> Any:
        """Return the observation that has these values; the inverse of `values`."""
        symbols: Any = 0
        for name, n in self.finite:
            symbols = symbols * n + values[name]
        if not self.reals:
            return symbols
        reals = {name: values[name] for name, _ in self.reals}
        return reals | ({self.symbol: symbols} if self.finite else {})

    def values(self, o: Any) -> dict[str, Any]:
        """Return the values of the fields in an observation."""
        symbols = o.get(self.symbol, 0) if self.reals else o
        found: dict[str, Any] = {}
        for name, n in reversed(self.finite):
            found[name] = symbols % n
            symbols = symbols // n
        return found | {name: o[name] for name, _ in self.reals}


class Mechanisms(eqx.Module):
    """The fitted mechanisms of one side, with the fields that they read.

    Attributes:
        factors: in the order of their dependence.
        parameters: of each factor: the log-table `[K, *contexts, n]`, mean and scale, a network, or None for a known
            function.
        finite: the finite observed fields in the order of the symbol's digits, with their numbers of levels.
        reals: the real observed fields, with their dimensions.
        action_dim: the dimensions of a real action; None for a finite one.
        depth: how many of its last values each field needs.
        start: what a field's last values are before the first round.
        opened: the fields that an opening shows.
        demonstrator: whose policy it is.
    """

    factors: tuple[Factor, ...] = eqx.field(static=True)
    parameters: tuple[PyTree, ...]
    finite: tuple[tuple[str, int], ...] = eqx.field(static=True)
    reals: tuple[tuple[str, int], ...] = eqx.field(static=True)
    action_dim: int | None = eqx.field(static=True)
    depth: tuple[tuple[str, int], ...] = eqx.field(static=True)
    start: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    opened: tuple[str, ...] = eqx.field(static=True)
    demonstrator: int = eqx.field(static=True)

    @property
    def fields(self) -> ObservedFields:
        """The fields of an observation."""
        return ObservedFields(self.finite, self.reals)

    def init(self) -> Memory:
        """Return the memory at the start of an episode."""
        start, dims = dict(self.start), dict(self.reals) | {"action": self.action_dim}
        recent = {
            name: jnp.full(lag, start[name], jnp.int32)
            if dims.get(name) is None
            else jnp.broadcast_to(jnp.asarray(start[name], float), (lag, dims[name]))
            for name, lag in self.depth
        }
        action = jnp.zeros((), jnp.int32) if self.action_dim is None else jnp.zeros(self.action_dim)
        return {"recent": recent, "round": jnp.zeros((), jnp.int32), "action": action}

    def remember(self, memory: Memory, values: dict[str, Any], *, opening: bool = False) -> Memory:
        """Return the memory with the values of a round, or of an opening, as the last ones."""
        if opening:
            values = {name: values[name] for name in self.opened}
        recent = {
            name: jnp.concatenate([jnp.asarray(values[name])[None].astype(x.dtype), x[:-1]]) if name in values else x
            for name, x in memory["recent"].items()
        }
        return memory | {"recent": recent, "round": memory["round"] + (not opening)}

    def values(self, o: Any) -> dict[str, Any]:
        """Return the values of the fields in an observation."""
        return self.fields.values(o)

    def lookup(self, factor: Factor, theta: Int[Array, ""], memory: Memory, now: dict[str, Any]) -> PyTree:
        """Return a finite field's log-probabilities, or a real field's distribution, for theta and present contexts.

        `now` may hold arrays of the levels of finite fields, which broadcast.
        """
        parameters = self.parameters[self.factors.index(factor)]
        now = now | {"demonstrator": self.demonstrator}
        at = tuple(context.read(memory["recent"], memory["round"], now) for context in factor.contexts)
        row = jnp.zeros((), jnp.int32) if factor.mechanism.tied else theta
        match factor.mechanism:
            case Table():
                return parameters[(row, *at)]
            case Gaussian():
                return Normal(*(x[(row, *at)] for x in parameters))
            case Network():
                x = features(factor.contexts, at, memory["round"])
                return parameters.real(x, row) if parameters.output is not None else parameters.finite(x, row)
            case Known(function=function):
                return Given(jnp.reshape(function(*at), factor.width))


class InducedTask(AbstractTask[Memory]):
    """Nature as fitted: a product of the fields' tables, or a `Joint` with the real fields.

    Attributes:
        mechanisms: of the fields.
        opening: of the fields before the first action; none without an opening.
        rewards: `[n]`, the reward of each level of the reward's field; empty without one.
        levels: of each finite field, for pages.
    """

    theta_free_memory: ClassVar[bool] = True
    mechanisms: Mechanisms
    opening: Mechanisms
    reward_field: str | None = eqx.field(static=True)
    rewards: Float[Array, " n"]
    levels: tuple[tuple[Any, ...], ...] = eqx.field(static=True)
    action_levels: tuple[Any, ...] = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Return the memory before the opening, if there is one."""
        del theta
        return self.mechanisms.init() | {"opened": jnp.asarray(not self.opening.factors)}

    def Q_O(self, theta: Int[Array, ""], w: Memory) -> AbstractDistribution:
        """Return the distribution of the observation."""
        symbol, parts = self._distributions(theta, w, self.mechanisms)
        if self.opening.factors:
            first, first_parts = self._distributions(theta, w, self.opening)
            symbol = jnp.where(w["opened"], symbol, first)
            parts = {name: where(w["opened"], part, first_parts[name]) for name, part in parts.items()}
        if not parts:
            return Categorical(log_probs=symbol)
        mechanisms = self.mechanisms
        return Joint(parts | ({mechanisms.fields.symbol: Categorical(log_probs=symbol)} if mechanisms.finite else {}))

    def _distributions(
        self, theta: Int[Array, ""], w: Memory, mechanisms: Mechanisms
    ) -> tuple[Array, dict[str, AbstractDistribution]]:
        """Return the log-probabilities of the product of the finite fields, and the distributions of the real ones."""
        fields = mechanisms.finite
        axes = {
            name: jnp.arange(n).reshape([-1 if j == i else 1 for j in range(len(fields))])
            for i, (name, n) in enumerate(fields)
        }
        now: dict[str, Any] = axes | {"action": w["action"]}
        total, parts = jnp.zeros([n for _, n in fields]), {}
        modelled = set()
        for factor in mechanisms.factors:
            name = factor.field.removeprefix("opening ")
            if name in axes:
                modelled.add(name)
                total = total + _along(mechanisms.lookup(factor, theta, w, now), axes[name])
            elif name in dict(mechanisms.reals):
                parts[name] = mechanisms.lookup(factor, theta, w, now)
                if isinstance(parts[name], Given):
                    now = now | {name: parts[name].value}
        for i, (name, n) in enumerate(fields):
            if name not in modelled:  # Of an opening: the field is not known, and stays at its first level.
                only_first = jnp.where(jnp.arange(n) == 0, 0.0, -jnp.inf)
                total = total + only_first.reshape([-1 if j == i else 1 for j in range(len(fields))])
        for factor in self.mechanisms.factors:
            name = factor.field
            if name in dict(mechanisms.reals) and name not in parts:
                # Of an opening: the field is not known, and its value counts alike for all thetas.
                parts[name] = self.mechanisms.lookup(factor, jnp.zeros((), jnp.int32), w, now)
        return total.reshape(-1), parts

    def g_A(self, theta: Int[Array, ""], a: Any, w: Memory) -> Memory:
        """Remember the action of this round."""
        del theta
        return w | {"action": a}

    def g_O(self, theta: Int[Array, ""], o: Any, w: Memory) -> Memory:
        """Remember the values of this round, the action among them."""
        del theta
        values = self.mechanisms.values(o)
        later = self.mechanisms.remember(w, values | {"action": w["action"]})
        opening = self.mechanisms.remember(w, values, opening=True)
        return where(w["opened"], later, opening) | {"opened": jnp.asarray(True)}

    def reward(self, theta: Int[Array, ""], w: Memory, a: Any, o: Any) -> Float[Array, ""]:
        """Return the observed reward, or the mean of one that the agent does not see; 0 without a reward."""
        name = self.reward_field
        if name is None:
            return jnp.zeros(())
        values = self.mechanisms.values(o) | {"action": a}
        if name in values:
            return self.rewards[values[name]] if len(self.rewards) else values[name].sum()
        factor = next(f for f in self.mechanisms.factors if f.field == name)
        found = self.mechanisms.lookup(factor, theta, w, values)
        if len(self.rewards):
            return jnp.exp(found) @ self.rewards
        return mean(found).sum()

    def say(self, o: Any) -> str:
        """Return the values of the fields by name."""
        values = self.mechanisms.values(o)
        said = [
            f"{name} {levels[int(values[name])]}"
            for (name, _), levels in zip(self.mechanisms.finite, self.levels, strict=True)
        ]
        said += [f"{name} {np.round(np.asarray(values[name]), 3)}" for name, _ in self.mechanisms.reals]
        return ", ".join(said)

    def say_action(self, a: Any) -> str:
        """Return the name of the action."""
        return str(self.action_levels[int(a)]) if self.action_levels else str(np.round(np.asarray(a), 3))


class InducedExpert(AbstractExpert[Memory]):
    """The demonstrators as fitted."""

    theta_free_memory: ClassVar[bool] = True
    mechanisms: Mechanisms

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Return the memory at the start of an episode."""
        del theta
        return self.mechanisms.init() | {"opened": jnp.asarray(False)}

    def Q_A(self, theta: Int[Array, ""], e: Memory) -> AbstractDistribution:
        """Return the distribution of the demonstrators' action."""
        found = self.mechanisms.lookup(self.mechanisms.factors[0], theta, e, {})
        return Categorical(log_probs=found) if self.mechanisms.action_dim is None else found

    def g_A(self, theta: Int[Array, ""], a: Any, e: Memory) -> Memory:
        """Remember the action of this round."""
        del theta
        return e | {"action": a, "opened": jnp.asarray(True)}

    def g_O(self, theta: Int[Array, ""], o: Any, e: Memory) -> Memory:
        """Remember the values of this round; an opening comes before any action."""
        del theta
        values = self.mechanisms.values(o)
        later = self.mechanisms.remember(e, values | {"action": e["action"]})
        opening = self.mechanisms.remember(e, values, opening=True)
        return where(e["opened"], later, opening)


def mean(distribution: AbstractDistribution) -> Array:
    """Return the mean of a real field."""
    match distribution:
        case Normal(loc=loc):
            return loc
        case Mixture(log_weights=log_weights, components=Normal(loc=locs)):
            return jnp.exp(log_weights) @ locs
        case _:
            assert isinstance(distribution, Given)
            return distribution.value


def _along(found: Array, own: Array) -> Array:
    """Return the entries of log-tables `[*broadcast, n]` at the field's own value along its axis."""
    if found.ndim == 1:
        return found[own]
    shape = jnp.broadcast_shapes(found.shape[:-1], own.shape)
    found = jnp.broadcast_to(found, (*shape, found.shape[-1]))
    return jnp.take_along_axis(found, jnp.broadcast_to(own, shape)[..., None], -1)[..., 0]


class Transition(eqx.Module):
    """The distribution of the next theta.

    Attributes:
        log_probs: `[K, K]`.
    """

    log_probs: Float[Array, "K K"]

    def __call__(self, theta: Int[Array, ""], w: Memory) -> Categorical:
        """Return `Q(Theta_t+1 | theta)`."""
        del w
        return Categorical(log_probs=self.log_probs[theta])


def induced_process(
    layout: Layout,
    demos: Demos,
    log_prior: Float[Array, " K"],
    tables: dict[str, PyTree],
    log_transition: Float[Array, "K K"] | None = None,
    *,
    demonstrator: int = 0,
    name: str = "induced",
) -> InteractionProcess:
    """Return a fitted model as a process.

    Args:
        layout: of the spec.
        demos: the data, for the names and sizes of their fields.
        log_prior: `log Q(theta)`.
        tables: of each factor, by its field: the log-table `[K, *contexts, n]`, mean and scale, a network, or None
            for a known function; K is 1 if tied.
        log_transition: of theta, if it changes.
        demonstrator: whose policy the expert of the process has.
        name: of the process.

    Raises:
        ValueError: the observed fields have too many combinations of values for one symbol.
    """
    finite, reals = ObservedFields.of(demos)

    def mechanisms(factors: tuple[Factor, ...]) -> Mechanisms:
        lasts = [(c, c.given) for f in factors for c in f.contexts if isinstance(c.given, Last)]
        depth: dict[str, int] = {}
        # Of the lags that a context has, the longest may go back beyond an opening to "before the start".
        start: dict[str, Any] = {}
        for context, last in lasts:
            depth[last.name] = max(depth.get(last.name, 0), last.lag)
            start.setdefault(last.name, 0)
            if context.starts:
                start[last.name] = (context.size or 1) - 1
            elif context.start is not None:
                start[last.name] = context.start
        return Mechanisms(
            factors,
            tuple(tables[f.field] for f in factors),
            finite,
            reals,
            None if demos.action.levels is not None else demos.action.values.shape[-1],
            tuple(depth.items()),
            tuple(start.items()),
            tuple(demos.opening),
            demonstrator,
        )

    action = next(f for f in layout.factors if f.field == "action")
    openings = tuple(f for f in layout.factors if f.field.startswith("opening "))
    fields = tuple(f for f in layout.factors if f not in (action, *openings))
    levels = layout.reward and (demos.observations | demos.hidden)[layout.reward].levels
    task = InducedTask(
        mechanisms(fields),
        mechanisms(openings),
        layout.reward,
        jnp.asarray([float(x) for x in levels] if levels else [], float),
        tuple(demos.observations[name].levels or () for name, _ in finite),
        demos.action.levels or (),
    )
    return InteractionProcess(
        jnp.exp(log_prior),
        jnp.arange(len(log_prior)),
        task,
        InducedExpert(mechanisms((action,))),
        demos.num_rounds,
        opening=bool(openings),
        transition=None if log_transition is None else Transition(log_transition),
        name=name,
    )


def as_demos(episodes: Episodes, like: Demos) -> Demos:
    """Return episodes of an induced process as demonstrations with the columns of `like`; hidden fields are lost."""
    fields = ObservedFields.of(like)
    values = fields.values(episodes.observations)
    observations = {
        name: dataclasses.replace(column, values=np.asarray(values[name])) for name, column in like.observations.items()
    }
    opening: dict[str, Column] = {}
    if episodes.opening is not None:
        first = fields.values(episodes.opening)
        opening = {name: dataclasses.replace(c, values=np.asarray(first[name])) for name, c in like.opening.items()}
    num_episodes = len(episodes.mask)
    return Demos(
        dataclasses.replace(like.action, values=np.asarray(episodes.actions)),
        observations,
        {},
        opening,
        np.asarray(episodes.mask).sum(-1).astype(np.int32),
        np.full(num_episodes, -1, np.int32),
        None,
        "self-play",
        np.asarray(episodes.intervened) & np.asarray(episodes.mask),
    )
