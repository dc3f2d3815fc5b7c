"""Mechanisms that are functions: networks that are learned, and functions that the user knows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from undelude._checks import check_between, check_count
from undelude._distributions import AbstractDistribution, Mixture, Normal
from undelude.offline._data.demos import Demos
from undelude.offline._model.contexts import Context, Given, as_given

# Initial share and scale, in standard deviations of the field, of the moves that no context explains.
OUTLIER_SHARE, OUTLIER_SCALE = 0.1, 1.5
# How far a known function may be from the data, in standard deviations of the field.
TOLERANCE = 1e-2


@dataclass(frozen=True, init=False)
class Network:
    """A field whose distribution is a network of its contexts: one body for all thetas, and a head for each.

    The contexts may be finite or real. Of a finite field the distribution is a softmax; of a real one it is normal,
    with a mean that depends on the contexts, and a scale for each theta and each dimension.

    The likelihood is the same exact sum over theta as that of tables. Like a rich table, a network that is given the
    past may explain the confounding away: give it what the expert, or Nature, is known to remember, and no more.

    Attributes:
        field: the field; None for the action.
        given: its contexts, as in `Table`.
        tied: the distribution does not depend on theta.
        outliers: adds a broad normal distribution to that of a real field, the same for all thetas and contexts, with a
            share that is fitted: random moves, and measurements that fail.
        width, depth: of the body: units of a layer, and layers.
        least_scale: of a real field, in standard deviations; its scale is never less.
    """

    field: str | None
    given: tuple[Given, ...]
    tied: bool
    outliers: bool
    width: int
    depth: int
    least_scale: float

    def __init__(
        self,
        field: str | None = None,
        given: Given | Sequence[Given] = (),
        *,
        tied: bool = False,
        outliers: bool = False,
        width: int = 64,
        depth: int = 2,
        least_scale: float = 1e-2,
    ):
        kind = f"Network({field or ''})"
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "given", as_given(kind, given))
        object.__setattr__(self, "tied", tied)
        object.__setattr__(self, "outliers", outliers)
        object.__setattr__(self, "width", check_count(f"{kind}: width", width))
        object.__setattr__(self, "depth", check_count(f"{kind}: depth", depth))
        object.__setattr__(self, "least_scale", check_between(f"{kind}: least_scale", least_scale, 1e-9, math.inf))
        if not self.given:
            raise ValueError(f"{kind}: given= names no context; a field without contexts is a Table or a Gaussian.")


@dataclass(frozen=True, init=False)
class Known:
    """A real field that is a known function of its contexts, such as the pose of a robot after a command.

    It does not depend on theta, so that it is not evidence. The agent reads it, and other mechanisms of the same round
    may be given it.

    Attributes:
        field: the field.
        function: from the values of the contexts, in order, to the value `[d]`; in JAX. A finite context is a code.
        given: its contexts, as in `Table`.
        start: the field's value before the first round.
    """

    field: str
    function: Callable[..., Any]
    given: tuple[Given, ...]
    start: tuple[float, ...] | None

    def __init__(
        self,
        field: str,
        function: Callable[..., Any],
        given: Given | Sequence[Given] = (),
        *,
        start: Sequence[float] | Float[np.ndarray, " d"] | None = None,
    ):
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "given", as_given(f"Known({field})", given))
        object.__setattr__(self, "start", None if start is None else tuple(float(x) for x in np.asarray(start).ravel()))

    @property
    def tied(self) -> bool:
        """True: theta changes nothing."""
        return True


def check_function(mechanism: Known, contexts: tuple[Context, ...], demos: Demos) -> None:
    """Raise `ValueError` if a known function does not return the values of the data."""
    mask, expected = demos.mask, demos.observations[mechanism.field].values
    values = [jnp.asarray(context.codes(demos)[mask]) for context in contexts]
    found = np.asarray(jax.vmap(mechanism.function)(*values)).reshape(len(values[0]), -1)
    kind = f"Known({mechanism.field})"
    if found.shape != expected[mask].shape:
        raise ValueError(f"{kind}: the function returns {found.shape[1]} numbers, not {expected.shape[-1]}.")
    wrong = ~(np.abs(found - expected[mask]) <= TOLERANCE * np.maximum(expected[mask].std(0), 1e-6)).all(-1)
    if wrong.any():
        row = int(np.argmax(wrong))
        episode, round = np.argwhere(mask)[row].tolist()
        raise ValueError(
            f"{kind}: the function returns {found[row]} for episode {episode}, round {round} (counted from 0), but the "
            f"data have {expected[episode, round]}; {wrong.sum()} of {len(wrong)} rounds differ. Is the value before "
            "the first round given as start=?"
        )


class Scale(eqx.Module):
    """The units of the inputs and of a real output of a network."""

    centre: Float[Array, " n"]
    spread: Float[Array, " n"]


class Outliers(eqx.Module):
    """A broad normal distribution, and the logit of its share."""

    logit: Float[Array, ""]
    loc: Float[Array, " d"]
    log_scale: Float[Array, " d"]


class Heads(eqx.Module):
    """A network with a head for each theta.

    Attributes:
        body: of the features of the contexts.
        weight, bias: `[K, out, width]` and `[K, out]`, of the heads.
        log_scale: `[K, d]`, of a real field, in standard deviations; None for a finite field.
        outliers: of a real field, or None.
        inputs: the units of the features.
        output: the units of a real field; None for a finite field.
        least_scale: in standard deviations.
    """

    body: eqx.nn.MLP
    weight: Float[Array, "*R K out width"]
    bias: Float[Array, "*R K out"]
    log_scale: Float[Array, "*R K d"] | None
    outliers: Outliers | None
    inputs: Scale
    output: Scale | None
    least_scale: float = eqx.field(static=True)

    @classmethod
    def new(
        cls,
        mechanism: Network,
        K: int,
        size: int,
        inputs: tuple[np.ndarray, np.ndarray],
        output: tuple[np.ndarray, np.ndarray] | None,
        *,
        key: Key[Array, ""],
    ) -> "Heads":
        """Return a network with random weights.

        Args:
            mechanism: as it was declared.
            K: the number of heads.
            size: the number of levels of a finite field, or of dimensions of a real one.
            inputs: centre and spread of the features.
            output: centre and spread of a real field; None for a finite one.
            key: of the weights.
        """
        key_body, key_heads = jax.random.split(key)
        num_inputs, width = len(inputs[0]), mechanism.width
        relu = jax.nn.relu
        body = eqx.nn.MLP(num_inputs, width, width, mechanism.depth - 1, relu, relu, key=key_body)
        weight = jax.random.normal(key_heads, (K, size, width)) / math.sqrt(width)
        real = output is not None
        outliers = None
        if real and mechanism.outliers:
            logit = math.log(OUTLIER_SHARE / (1 - OUTLIER_SHARE))
            outliers = Outliers(jnp.asarray(logit), jnp.zeros(size), jnp.full(size, math.log(OUTLIER_SCALE)))
        return cls(
            body,
            weight,
            jnp.zeros((K, size)),
            jnp.full((K, size), -0.5) if real else None,
            outliers,
            Scale(*(jnp.asarray(x, jnp.float32) for x in inputs)),
            Scale(*(jnp.asarray(x, jnp.float32) for x in output)) if real else None,
            mechanism.least_scale,
        )

    def __call__(self, x: Float[Array, "*n features"]) -> Float[Array, "*n K out"]:
        """Return the heads' outputs: logits, or means in standard deviations."""
        flat = (x.reshape(-1, x.shape[-1]) - self.inputs.centre[None]) / self.inputs.spread[None]
        hidden = jax.vmap(self.body)(flat)
        out = jnp.einsum("nw,kow->nko", hidden, self.weight) + self.bias[None]
        return out.reshape(*x.shape[:-1], *out.shape[1:])

    def scale(self) -> Float[Array, "K d"]:
        """Return the scale of a real field, in standard deviations."""
        assert self.log_scale is not None
        return jnp.maximum(jnp.exp(self.log_scale), self.least_scale)

    def log_probs(self, x: Float[Array, "*n features"], y: Shaped[Array, "..."]) -> Float[Array, "*n K"]:
        """Return `log Q(y | theta, x)` for all thetas; a real `y` is in the units of the data.

        Args:
            x: features of the contexts.
            y: the field's codes `[*n]`, or its values `[*n, d]`.
        """
        out = self(x)
        if self.output is None:
            logits = jax.nn.log_softmax(out)
            index = jnp.broadcast_to(y[..., None, None], (*out.shape[:-1], 1))
            return jnp.take_along_axis(logits, index, -1)[..., 0]
        lead = (1,) * y.ndim
        centre, spread = (v.reshape(*lead[:-1], -1) for v in (self.output.centre, self.output.spread))
        z = ((y - centre) / spread)[..., None, :]
        scale = self.scale().reshape(*lead[:-1], *self.scale().shape)
        found = _normal(z, out, scale)
        if self.outliers is not None:
            wide = self.outliers
            broad = _normal(z, wide.loc.reshape(*lead, -1), jnp.exp(wide.log_scale).reshape(*lead, -1))
            share, rest = jax.nn.log_sigmoid(wide.logit), jax.nn.log_sigmoid(-wide.logit)
            found = jnp.logaddexp(rest + found, share + jnp.broadcast_to(broad, found.shape))
        return found - jnp.log(self.output.spread).sum()

    def finite(self, x: Float[Array, "*n features"], theta: Int[Array, ""]) -> Float[Array, "*n out"]:
        """Return the log-probabilities of a finite field under theta."""
        return jax.nn.log_softmax(self(x)[..., theta, :])

    def real(self, x: Float[Array, " features"], theta: Int[Array, ""]) -> AbstractDistribution:
        """Return the distribution of a real field under theta, in the units of the data."""
        assert self.output is not None
        centre, spread = self.output.centre, self.output.spread
        loc, scale = self(x)[theta] * spread + centre, self.scale()[theta] * spread
        if self.outliers is None:
            return Normal(loc, scale)
        wide = self.outliers
        locs = jnp.stack([loc, wide.loc * spread + centre])
        scales = jnp.stack([scale, jnp.exp(wide.log_scale) * spread])
        weights = jnp.stack([jax.nn.log_sigmoid(-wide.logit), jax.nn.log_sigmoid(wide.logit)])
        return Mixture(Normal(locs, scales), log_weights=weights)


def _normal(z: Array, loc: Array, scale: Array) -> Array:
    return (-0.5 * ((z - loc) / scale) ** 2 - jnp.log(scale) - 0.5 * math.log(2 * math.pi)).sum(-1)


def features(contexts: tuple[Context, ...], values: Sequence[Any], round: Int[Array, "..."]) -> Float[Array, "..."]:
    """Return the features of a network: one-hot levels, real values, and whether a past value does not exist.

    Args:
        contexts: of the network.
        values: of each context: levels, or real vectors; they broadcast.
        round: the number of the round, counted from 0.
    """
    parts = []
    for context, value in zip(contexts, values, strict=True):
        if context.size is not None:
            parts.append(jax.nn.one_hot(value, context.size))
            continue
        parts.append(jnp.asarray(value))
        if context.first:
            parts.append((jnp.asarray(round) < context.first).astype(float)[..., None])
    lead = jnp.broadcast_shapes(*(x.shape[:-1] for x in parts))
    return jnp.concatenate([jnp.broadcast_to(x, (*lead, x.shape[-1])) for x in parts], -1)
