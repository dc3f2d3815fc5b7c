"""The declaration of a latent-variable model of demonstrations, and what it amounts to for given data."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from undelude.offline._data.columns import Column, units
from undelude.offline._data.demos import Demos
from undelude.offline._model.contexts import Context, Given, Last, Round
from undelude.offline._model.hypotheses import Hypotheses
from undelude.offline._model.latent import Episode, Latent
from undelude.offline._model.mechanisms import Factor, Gaussian, Mechanism, Table
from undelude.offline._model.network import Known, Network, check_function

# More statistics than this for one demonstration: the contexts are too many for tables.
MAX_COLUMNS = 20_000
# More values of a product of fields than this are too many for one symbol.
MAX_SYMBOLS = 4096


@dataclass(frozen=True, init=False)
class LatentSpec:
    """What is assumed about the demonstrations: the latent's time scale, and what expert and Nature remember.

    Declared memory is the identifying assumption. With unlimited memory, a model without any confounder fits every
    data set exactly and has another interventional policy (docs/offline.md, Proposition 2). By default both are
    memoryless given theta: `Q(A_t | theta)`, `Q(O_t | theta, A_t)`.

    Attributes:
        latent: `Episode`, `Markov` or `PerStep`; or several, between which held-out data choose; or `Hypotheses`.
        expert: the mechanism of the action.
        task: the mechanisms of the observations and of the hidden fields, in an order in which each depends on
            earlier ones only.
        reward: the finite or real field that is the reward, for the value of policies; by default the field called
            "reward", if there is one.
    """

    latent: tuple[Latent | Hypotheses, ...]
    expert: Mechanism | None
    task: tuple[Mechanism, ...] | None
    reward: str | None

    def __init__(
        self,
        latent: Latent | Hypotheses | Sequence[Latent | Hypotheses] | None = None,
        expert: Mechanism | None = None,
        task: Mechanism | Sequence[Mechanism] | None = None,
        *,
        reward: str | None = None,
    ):
        given = (latent,) if isinstance(latent, Latent | Hypotheses) else latent
        latents = (Episode(),) if given is None else tuple(given)
        for one in latents:
            if not isinstance(one, Latent | Hypotheses):
                raise TypeError(
                    f"LatentSpec: latent must be Episode(), Markov(), PerStep() or Hypotheses(...), not {one!r:.99}."
                )
            if isinstance(one, Hypotheses) and len(latents) > 1:
                raise ValueError("LatentSpec: Hypotheses stand alone; a learned model goes beside them, as beside=.")
        if not latents:
            raise ValueError("LatentSpec: latent names no time scale: give Episode(), Markov() or PerStep().")
        for name, part in (("expert", expert), ("task", task)):
            parts = () if part is None else (part,) if isinstance(part, Mechanism) else tuple(part)
            for mechanism in parts:
                if not isinstance(mechanism, Mechanism):
                    raise TypeError(
                        f"LatentSpec: {name} must be of Table, Gaussian, Network and Known, not {mechanism!r:.99}."
                    )
        object.__setattr__(self, "latent", latents)
        object.__setattr__(self, "expert", expert)
        object.__setattr__(self, "task", (task,) if isinstance(task, Mechanism) else task and tuple(task))
        object.__setattr__(self, "reward", reward)


@dataclass(frozen=True)
class Layout:
    """A `LatentSpec` resolved against a data set.

    Attributes:
        factors: of the action, of each field, and of the opening, in order.
        standard: of each real field, the mean and the standard deviation by which its values are standardised.
        reward: the field that is the reward, or None.
    """

    factors: tuple[Factor, ...]
    standard: tuple[tuple[str, tuple[float, ...], tuple[float, ...]], ...]
    reward: str | None

    @property
    def centre(self) -> dict[str, np.ndarray]:
        """The mean of each real field."""
        return {name: np.asarray(mean) for name, mean, _ in self.standard}

    @property
    def spread(self) -> dict[str, np.ndarray]:
        """The standard deviation of each real field."""
        return {name: np.asarray(deviation) for name, _, deviation in self.standard}

    @property
    def free(self) -> tuple[Factor, ...]:
        """The tables and normal mechanisms that depend on theta."""
        return tuple(f for f in self.factors if f.has_statistics and not f.mechanism.tied)

    @property
    def tied(self) -> tuple[Factor, ...]:
        """The tables and normal mechanisms that do not depend on theta."""
        return tuple(f for f in self.factors if f.has_statistics and f.mechanism.tied)

    @property
    def networks(self) -> tuple[Factor, ...]:
        """The factors that are networks."""
        return tuple(f for f in self.factors if isinstance(f.mechanism, Network))

    @property
    def num_columns(self) -> int:
        """The number of statistics of a demonstration, `M`, without those of tied factors."""
        return sum(f.num_columns for f in self.free)

    def columns(self, factor: Factor) -> slice:
        """Return the place of a free factor among the statistics."""
        before = self.free[: self.free.index(factor)]
        start = sum(f.num_columns for f in before)
        return slice(start, start + factor.num_columns)

    def num_parameters(self, K: int, *, markov: bool = False) -> int:
        """Return the number of free parameters of a model with `K` values of theta, for BIC."""
        tables = K * sum(f.num_parameters for f in self.free) + sum(f.num_parameters for f in self.tied)
        return tables + K - 1 + (K * (K - 1) if markov else 0)


def layout(spec: LatentSpec, demos: Demos) -> Layout:
    """Return the spec resolved against the data.

    Raises:
        ValueError: a mechanism names a field that the data lack, or one of the same round that comes later; a field has
            no mechanism, or two; the contexts have too many combinations.
        TypeError: a `Table` of a real field, or a `Gaussian` of a finite one.
    """
    aliases = {demos.action.name: "action"}
    fields = {"action": demos.action, **demos.observations, **demos.hidden}
    expert = spec.expert or _default(demos.action, ())
    names = [*demos.observations, *demos.hidden]
    task = spec.task if spec.task is not None else tuple(_default(fields[name], ("action",)) for name in names)
    if expert.field is not None and aliases.get(expert.field, expert.field) != "action":
        raise ValueError(
            f"LatentSpec: expert= is the mechanism of the action, {demos.action.name!r}, and not of "
            f"{expert.field!r}: leave its field out."
        )
    given_twice = [m.field for m in task if sum(m.field == other.field for other in task) > 1]
    if given_twice:
        raise ValueError(f"LatentSpec: task has two mechanisms for {given_twice[0]!r}; a field has one.")
    missing = [name for name in names if name not in [m.field for m in task]]
    if missing:
        raise ValueError(
            f"LatentSpec: no mechanism for {missing[0]!r}: add Table({missing[0]!r}, given=[...]) to task, or leave "
            "the column out of the data."
        )
    starts = {m.field: m.start for m in task if isinstance(m, Known) and m.start is not None}
    factors = [_resolve(expert, "action", demos, fields, aliases, known=(), known_functions=(), starts=starts)]
    known: tuple[str, ...] = ("action",)
    functions = tuple(m.field for m in task if isinstance(m, Known))
    for mechanism in task:
        name = _known_field(f"{type(mechanism).__name__}({mechanism.field!r})", mechanism.field, fields, aliases)
        factors.append(
            _resolve(mechanism, name, demos, fields, aliases, known=known, known_functions=functions, starts=starts)
        )
        if isinstance(mechanism, Known):
            check_function(mechanism, factors[-1].contexts, demos)
        known = (*known, name)
    for name, opening in demos.opening.items():
        factors.append(_opening(name, opening, task))
    wide = max(factors, key=lambda f: f.num_columns)
    if sum(f.num_columns for f in factors) > MAX_COLUMNS:
        raise ValueError(
            f"LatentSpec: the table of {wide.field!r} has {wide.num_columns} entries for each theta, one for each "
            f"combination of {[c.label for c in wide.contexts]}: give it fewer contexts, or fields with fewer values."
        )
    reals = {name: units(c.values[demos.mask]) for name, c in fields.items() if c.levels is None}
    return Layout(
        tuple(factors),
        tuple((name, tuple(centre.tolist()), tuple(spread.tolist())) for name, (centre, spread) in reals.items()),
        _reward(spec, fields),
    )


def _default(of: Column, given: tuple[Given, ...]) -> Mechanism:
    name = of.name
    return Table(name, given) if of.levels is not None else Gaussian(name, given)


def _reward(spec: LatentSpec, fields: dict[str, Column]) -> str | None:
    """Return the reward's field, whose levels must be numbers."""
    name = spec.reward if spec.reward is not None else "reward" if "reward" in fields else None
    if name is None:
        return None
    if name not in fields or name == "action":
        raise ValueError(
            f"LatentSpec: reward={name!r} is not an observed or hidden column; there are {list(fields)[1:]}."
        )
    levels = fields[name].levels
    if levels is not None and not all(isinstance(x, int | float | bool) for x in levels):
        raise ValueError(f"LatentSpec: reward={name!r} must have numbers for values, not {list(levels)[:5]}.")
    return name


def _known_field(where: str, name: str | None, fields: dict[str, Column], aliases: dict[str, str]) -> str:
    name = aliases.get(name or "", name or "")
    if name not in fields:
        close = difflib.get_close_matches(name, [*fields, *aliases])
        hint = f" Did you mean {close[0]!r}?" if close else ""
        alias = "".join(f" (in the logs {own!r})" for own in aliases if own != "action")
        raise ValueError(f"LatentSpec: {where} names {name!r}, but the data have {[*fields]}{alias}.{hint}")
    return name


def _resolve(
    mechanism: Mechanism,
    name: str,
    demos: Demos,
    fields: dict[str, Column],
    aliases: dict[str, str],
    *,
    known: tuple[str, ...],
    known_functions: tuple[str, ...],
    starts: dict[str, tuple[float, ...]],
) -> Factor:
    """Return a mechanism with its contexts resolved; `known` are the fields of the same round that come before it."""
    kind = f"{type(mechanism).__name__}({mechanism.field or ''})"
    is_finite = fields[name].levels is not None
    fitting = Table | Network if is_finite else Gaussian | Network | Known
    if not isinstance(mechanism, fitting):
        advice = "a Table or a Network" if is_finite else "a Gaussian, a Network or a Known function"
        raise TypeError(
            f"LatentSpec: {name!r} is {'finite' if is_finite else 'real'}, so that its mechanism is {advice}, "
            f"not a {type(mechanism).__name__}."
        )
    if isinstance(mechanism, Network) and mechanism.outliers and is_finite:
        raise ValueError(f"LatentSpec: {kind} has outliers=True, but {name!r} is finite; leave it out.")
    if isinstance(mechanism, Known):
        _check_known(kind, mechanism, name, demos, fields)
    contexts = tuple(_context(kind, given, demos, fields, aliases, known, starts) for given in mechanism.given)
    names = {c.given.name if isinstance(c.given, Last) else c.given for c in contexts}
    unseen = [x for x in names if x in demos.hidden]
    if unseen:
        raise ValueError(
            f"LatentSpec: {kind} is given {unseen[0]!r}, which the agent will not see: make {unseen[0]!r} an "
            f"observation, or leave it out of given=."
        )
    for context in contexts:
        if context.size is None and isinstance(mechanism, Table | Gaussian):
            raise ValueError(
                f"LatentSpec: {kind} is given {context.label!r}, which is real; a table needs finite contexts. "
                "Bin the column, leave it out, or declare a Network."
            )
        same_round = name in demos.observations and context.given in demos.observations
        known_value = context.given in known_functions
        if same_round and not known_value and not (is_finite and context.size is not None):
            raise ValueError(
                f"LatentSpec: {name!r} is given {context.given!r} of the same round, but the parts of an observation "
                f"must be independent given theta and the past if one is real: use Last({context.given!r}), declare "
                f"its function (Known), or make {name!r} hidden."
            )
    return Factor(mechanism, name, contexts, _width(fields[name]))


def _check_known(kind: str, mechanism: Known, name: str, demos: Demos, fields: dict[str, Column]) -> None:
    """Raise `ValueError` if a known field is hidden, has an opening, or starts with a value of another size."""
    if name in demos.hidden:
        raise ValueError(f"LatentSpec: {kind} is hidden, but a known field is for agents to read: make it observed.")
    if name in demos.opening:
        raise ValueError(f"LatentSpec: {kind} has an opening in the data; give its value before the start as start=.")
    width = _width(fields[name])
    if mechanism.start is not None and len(mechanism.start) != width:
        raise ValueError(f"LatentSpec: {kind}: start has {len(mechanism.start)} numbers, but {name!r} has {width}.")


def _width(column: Column) -> int:
    return len(column.levels) if column.levels is not None else column.values.shape[-1]


def _context(
    kind: str,
    given: Given,
    demos: Demos,
    fields: dict[str, Column],
    aliases: dict[str, str],
    known: tuple[str, ...],
    starts: dict[str, tuple[float, ...]],
) -> Context:
    match given:
        case Round(edges):
            names = [f"before round {edge}" for edge in edges] + [f"from round {edges[-1]}"]
            return Context(given, len(names), tuple(names))
        case Last(name, lag):
            name = _known_field(kind, name, fields, aliases)
            levels = fields[name].levels
            before = lag > 1 or name not in demos.opening
            if levels is None:
                width = _width(fields[name])
                if name in starts:
                    return Context(Last(name, lag), None, (), start=starts[name], width=width)
                return Context(
                    Last(name, lag), None, (), first=lag - (name in demos.opening), width=_width(fields[name])
                )
            labels = (*map(str, levels), *(["before the start"] if before else []))
            return Context(Last(name, lag), len(labels), labels, before)
        case "demonstrator" if demos.demonstrator is not None:
            if known:
                raise ValueError(
                    f"LatentSpec: {kind} is given the demonstrator, but only the expert depends on who acts: "
                    "leave it out."
                )
            levels = demos.demonstrator.levels or ()
            return Context(given, len(levels), tuple(map(str, levels)))
        case "demonstrator" if "demonstrator" not in fields:
            raise ValueError(
                f"LatentSpec: {kind} is given the demonstrator, but the data do not say who acted: name the column "
                "with demonstrator= (--demonstrator), or leave it out of given=."
            )
        case name:
            name = _known_field(kind, name, fields, aliases)
            if name not in known:
                raise ValueError(
                    f"LatentSpec: {kind} is given {name!r} of the same round, which comes later or is itself; "
                    f"Last({name!r}) is the value of the round before."
                )
            levels = fields[name].levels
            if levels is None:
                return Context(name, None, (), width=_width(fields[name]))
            return Context(name, len(levels), tuple(map(str, levels)))


def _opening(name: str, opening: Column, task: Sequence[Mechanism]) -> Factor:
    """Return the factor of a field's opening value; it depends on theta unless the field's own mechanism is tied."""
    own = next(m for m in task if m.field == name)
    tied = own.tied
    if isinstance(own, Network) and own.outliers:
        raise ValueError(
            f"LatentSpec: Network({name}) has outliers, but an opening of {name!r} is normal: leave outliers out, or "
            "leave the opening out of the data."
        )
    mechanism = Table(name, (), tied=tied) if opening.levels is not None else Gaussian(name, (), tied=tied)
    return Factor(mechanism, f"opening {name}", (), _width(opening))
