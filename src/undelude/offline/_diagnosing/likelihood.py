"""The log-likelihood of a model with one K as a function of free parameters, in double precision.

A softmax makes probabilities of free logits, so that optimisers need no constraints. One direction of each softmax
changes nothing; `gauges` names them.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._fitting import em
from undelude.offline._fitting.forward_backward import forward
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._model import statistics as stats
from undelude.offline._model.mechanisms import Factor, Table
from undelude.offline._model.spec import Layout

# The least logarithm of a probability from which an optimiser starts: at 0 the gradient of a logit vanishes.
FLOOR = -7.0
# The least number of rows, or of rounds in all rows.
MIN_ENTRIES = 512
# Rows whose gradients are computed at a time.
ROWS = 256


class Likelihood(eqx.Module):
    """The log-likelihood of the demonstrations, without any prior, for one K.

    Attributes:
        plan: the spec resolved.
        K: the number of values of theta.
        markov: whether theta changes.
        rows, labels, weights: the statistics.
    """

    plan: Layout = eqx.field(static=True)
    K: int = eqx.field(static=True)
    markov: bool = eqx.field(static=True)
    rows: Float[Array, "n *S M"]
    labels: Array
    weights: Float[Array, " n"]

    @classmethod
    def of(cls, plan: Layout, demos: Demos, K: int, *, markov: bool) -> "Likelihood":
        """Return the log-likelihood of the demonstrations; call it under `jax.enable_x64(True)`."""
        found = stats.of_steps(plan, demos) if markov else stats.of_demos(plan, demos)
        # Rows of weight 0 up to a power of two, at least 512 or as many as have 512 rounds: data sets of about one size
        # share compiled programs.
        least = max(MIN_ENTRIES // math.prod(found.rows.shape[1:-1]), 1)
        missing = 2 ** math.ceil(math.log2(max(len(found.rows), least))) - len(found.rows)
        rows = np.pad(found.rows, [(0, missing), *[(0, 0)] * (found.rows.ndim - 1)])
        return cls(
            plan,
            K,
            markov,
            jnp.asarray(rows, jnp.float64),
            jnp.asarray(np.pad(found.labels, (0, missing), constant_values=-1)),
            jnp.asarray(np.pad(found.weights, (0, missing)), jnp.float64),
        )

    @property
    def sizes(self) -> list[tuple[str, Factor | None, tuple[int, ...]]]:
        """The parts of the vector of parameters, with their shapes."""
        parts: list[tuple[str, Factor | None, tuple[int, ...]]] = [("prior", None, (1, self.K))]
        if self.markov:
            parts.append(("transition", None, (self.K, self.K)))
        for factor in self.plan.free:
            if isinstance(factor.mechanism, Table):
                parts.append((factor.field, factor, (self.K * factor.num_cells, factor.width)))
            else:
                parts.append((factor.field, factor, (self.K, factor.num_cells * factor.width * 2)))
        return parts

    def parts(self, x: Float[Array, " P"]) -> Iterator[tuple[str, Factor | None, Array]]:
        """Split the vector of parameters."""
        start = 0
        for name, factor, shape in self.sizes:
            size = int(np.prod(shape))
            yield name, factor, x[start : start + size].reshape(shape)
            start += size

    @property
    def gauges(self) -> Float[np.ndarray, "P G"]:
        """The directions that change no probability, orthonormal: a constant added to the logits of one softmax."""
        blocks, start = [], 0
        total = sum(int(np.prod(shape)) for _, _, shape in self.sizes)
        for _, factor, (groups, width) in self.sizes:
            if factor is None or isinstance(factor.mechanism, Table):
                for g in range(groups):
                    direction = np.zeros(total)
                    direction[start + g * width : start + (g + 1) * width] = width**-0.5
                    blocks.append(direction)
            start += groups * width
        return np.stack(blocks, -1)

    def unpack(self, x: Float[Array, " P"]) -> Parameters:
        """Return the parameters of one run."""
        log_prior, transition, etas = None, None, []
        for name, factor, part in self.parts(x):
            if factor is None and name == "prior":
                log_prior = jax.nn.log_softmax(part)
            elif factor is None:
                transition = jax.nn.log_softmax(part)[None]
            elif isinstance(factor.mechanism, Table):
                etas.append(jax.nn.log_softmax(part).reshape(self.K, -1))
            else:
                mean, log_scale = jnp.moveaxis(part.reshape(self.K, -1, 2), -1, 0)
                etas.append(factor.normal(mean, jnp.exp(2 * log_scale)).reshape(self.K, -1))
        assert log_prior is not None
        return Parameters(log_prior, jnp.concatenate(etas, -1)[None], transition)

    def pack(self, parameters: Parameters) -> Float[np.ndarray, " P"]:
        """Return the vector of one run's parameters; no probability is less than `exp(FLOOR)`."""
        log_prior = np.asarray(parameters.log_prior[0, : self.K], np.float64)
        pieces: list[np.ndarray] = [np.maximum(log_prior, FLOOR)]
        if self.markov:
            pieces.append(np.maximum(np.asarray(parameters.log_transition)[0, : self.K, : self.K], FLOOR).ravel())
        eta = np.asarray(parameters.eta[0, : self.K], np.float64)
        for factor in self.plan.free:
            own = eta[:, self.plan.columns(factor)]
            if isinstance(factor.mechanism, Table):
                pieces.append(np.maximum(own, FLOOR).ravel())
            else:
                mean, scale = (np.asarray(v) for v in factor.parameters(jnp.asarray(own)))
                pieces.append(np.stack([mean, np.log(scale)], -1).reshape(self.K, -1).ravel())
        return np.concatenate(pieces)

    def rowwise(self, x: Float[Array, " P"]) -> Float[Array, " n"]:
        """Return the log-likelihood of each row."""
        parameters = self.unpack(x)
        if self.markov:
            return forward(parameters, self.rows, self.labels)[0][:, 0]
        return jax.nn.logsumexp(em.log_joint(parameters, self.rows, self.labels), -1)[:, 0]

    def scores(self, x: Float[Array, " P"]) -> Float[Array, "n P"]:
        """Return the gradient of each row's log-likelihood, a few at a time: all at once take n times the memory."""

        def of_row(row: tuple[Array, Array]) -> Array:
            alone = dataclasses.replace(self, rows=row[0][None], labels=row[1][None], weights=self.weights[:1])
            return jax.grad(lambda x: alone.rowwise(x)[0])(x)

        return jax.lax.map(of_row, (self.rows, self.labels), batch_size=min(len(self.rows), ROWS))

    def __call__(self, x: Float[Array, " P"]) -> Float[Array, ""]:
        """Return the log-likelihood of all demonstrations, nats."""
        return self.weights @ self.rowwise(x)

    def tables(self, x: Float[Array, " P"], fixed: dict[str, Any]) -> dict[str, PyTree]:
        """Return the tables of each field in the units of the data; those of tied factors are `fixed`."""
        eta, found = self.unpack(x).eta[0], dict(fixed)
        for factor in self.plan.free:
            value = factor.parameters(eta[:, self.plan.columns(factor)])
            name = factor.field.removeprefix("opening ")
            if name in self.plan.centre:
                spread = self.plan.spread[name]
                value = value[0] * spread + self.plan.centre[name], value[1] * spread
            found[factor.field] = value
        return found

    def process(self, x: Float[Array, " P"], like: InteractionProcess, fixed: dict[str, Any]) -> InteractionProcess:
        """Return the process of a fit with these parameters in place of its own; traced."""
        parameters, tables = self.unpack(x), self.tables(x, fixed)

        def parts(process: InteractionProcess) -> list[Any]:
            sides = [process.task.mechanisms, process.task.opening, process.expert.mechanisms]  # type: ignore[attr-defined]
            transition = [] if process.transition is None else [process.transition.log_probs]  # type: ignore[attr-defined]
            return [process.prior, *transition, *(side.parameters for side in sides)]

        sides = [like.task.mechanisms, like.task.opening, like.expert.mechanisms]  # type: ignore[attr-defined]
        new = [jnp.exp(parameters.log_prior[0])]
        if parameters.log_transition is not None:
            new.append(parameters.log_transition[0])
        new += [tuple(tables[f.field] for f in side.factors) for side in sides]
        return eqx.tree_at(parts, like, new)
