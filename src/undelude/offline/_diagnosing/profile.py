"""Profile-likelihood bounds of a probe: its range over all parameters that explain the data nearly as well as the best.

    { f(x) : log L(x) >= max log L - delta }

With `delta = 2` nats this is an interval of about 95 % where the probe is identified, and the identified set where it
is not. A start that climbs from the best fit alone can stay where the fit is; rival models, in which each theta owns
some of the actions and says anything about the others, are starts too (docs/offline.md). The search is local, so that
the range found may be too narrow, and never too wide.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._model.mechanisms import Table

# Iterations of L-BFGS from a start to the best likelihood, and to a bound.
POLISH, CLIMB = 200, 120
# The weight of a nat below the threshold, squared, against the probe's change over a distance of 1.
PENALTY = 4.0
# Nats below the threshold at which a point still counts, and points between a start and the end of its search.
SLACK, NUM_BETWEEN = 0.1, 11
# Problems that are solved at the same time.
BATCH = 16


class Bounds(NamedTuple):
    """The range of one probe.

    Attributes:
        low, high: its ends.
        from_rivals: whether a rival model widened it.
    """

    low: float
    high: float
    from_rivals: bool

    @property
    def width(self) -> float:
        """The width of the range."""
        return self.high - self.low


class Whitening(NamedTuple):
    """A change of parameters, `x = x_0 + C z`, in which the log-likelihood is about `-|z|^2 / 2` near `x_0`."""

    x: Float[Array, " P"]
    C: Float[Array, "P P"]


def whiten(likelihood: Likelihood, x: Float[Array, " P"]) -> Whitening:
    """Return the change of parameters at `x`, from the scores of the demonstrations."""
    eigenvalues, vectors = jnp.linalg.eigh(information(likelihood, x))
    return Whitening(x, vectors / jnp.sqrt(jnp.maximum(eigenvalues, 0.0) + 0.25)[None])


def information(likelihood: Likelihood, x: Float[Array, " P"]) -> Float[Array, "P P"]:
    """Return the empirical Fisher information, the sum of the outer products of the demonstrations' scores."""
    scores = likelihood.scores(x)
    return scores.T @ (likelihood.weights[:, None] * scores)


def _lbfgs(f: Callable[[Array], Array], z: Float[Array, " P"], steps: int) -> Any:
    """Return a local minimum of `f` from `z`."""
    optimiser = optax.lbfgs(memory_size=12, linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=12))
    evaluate = optax.value_and_grad_from_state(f)

    def step(carry: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        z, state = carry
        value, gradient = evaluate(z, state=state)
        update, state = optimiser.update(gradient, state, z, value=value, grad=gradient, value_fn=f)
        return (optax.apply_updates(z, update), state), None

    (z, _), _ = jax.lax.scan(step, (z, optimiser.init(z)), length=steps)
    return z


def polish(likelihood: Likelihood, starts: Float[Array, "S P"]) -> tuple[Float[Array, "S P"], Float[Array, " S"]]:
    """Return a local maximum of the likelihood from each start, and its log-likelihood."""

    def climb(x: Array) -> tuple[Array, Array]:
        base = whiten(likelihood, x)
        z = _lbfgs(jax.jit(lambda z: -likelihood(base.x + base.C @ z)), jnp.zeros_like(x), POLISH)
        better = base.x + base.C @ z
        values = likelihood(x), likelihood(better)
        return jnp.where(values[1] >= values[0], better, x), jnp.fmax(*values)

    return jax.lax.map(climb, starts, batch_size=BATCH)


def extremes(
    likelihood: Likelihood,
    f: Callable[[Array], Float[Array, " probes"]],
    num_probes: int,
    starts: Float[Array, "S P"],
    threshold: Float[Array, ""],
) -> tuple[Float[Array, "probes 2 S"], Float[Array, "probes 2 S"]]:
    """Return the least and greatest value of each probe from each start, and the log-likelihoods there.

    Args:
        likelihood: of the demonstrations.
        f: the probes, as a function of the parameters.
        num_probes: their number.
        starts: points from which to climb.
        threshold: the least log-likelihood of a point that counts.
    """
    bases = jax.lax.map(lambda x: whiten(likelihood, x), starts)

    def climb(problem: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        probe, sign, start = problem
        x, C = bases.x[start], bases.C[start]

        slope = jax.grad(jax.jit(lambda z: sign * f(x + C @ z)[probe]))(jnp.zeros_like(x))
        # The probe in units of what it changes over a distance of 1, so that it weighs as much as the penalty.
        unit = jnp.maximum(jnp.linalg.norm(slope), 1e-4)

        def objective(z: Array) -> Array:
            at = x + C @ z
            missing = jnp.maximum(threshold - likelihood(at), 0.0)
            # A weak pull to the start keeps directions that change nothing from drifting.
            return sign * f(at)[probe] / unit + PENALTY * jnp.minimum(missing, 1e6) ** 2 + 1e-5 * (z @ z)

        # The answer of the delta method, if the log-likelihood were -|z|^2 / 2.
        start_z = -slope * radius / unit
        z = _lbfgs(jax.jit(objective), start_z, CLIMB)
        # The search may end below the threshold: take the best allowed point between the start and its end.
        points = x[None] + jnp.linspace(0.0, 1.0, NUM_BETWEEN)[:, None] * (C @ z)[None]
        values, totals = jax.lax.map(lambda at: (f(at)[probe], likelihood(at)), points)
        best = jnp.argmin(jnp.where(totals > threshold - SLACK, sign * values, jnp.inf))
        return values[best], totals[best]

    radius = jnp.sqrt(2 * jnp.maximum(likelihood(starts[0]) - threshold, 0.1))
    S = len(starts)
    grid = jnp.stack(jnp.meshgrid(jnp.arange(num_probes), jnp.arange(2), jnp.arange(S), indexing="ij"), -1)
    grid = grid.reshape(-1, 3)
    problems = grid[:, 0], 1.0 - 2.0 * grid[:, 1], grid[:, 2]
    values, likelihoods = jax.lax.map(climb, problems, batch_size=BATCH)
    shape = (num_probes, 2, S)
    return values.reshape(shape), likelihoods.reshape(shape)


def rivals(
    likelihood: Likelihood, best: Float[Array, " P"], num: int, key: Key[Array, ""]
) -> Float[np.ndarray, "num P"]:
    """Return models in which each theta owns some of the actions, and says anything about what the others do.

    The distributions of an owned action are those of the data as a whole; of another they are sharp, or random.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    K, plan = likelihood.K, likelihood.plan
    pooled = np.asarray(
        likelihood.weights @ likelihood.rows.reshape(len(likelihood.weights), -1, plan.num_columns).sum(1)
    )
    action = plan.factors[0]
    n_actions = action.width if isinstance(action.mechanism, Table) else 1
    found = []
    for i in range(num):
        owner = rng.permutation(np.arange(n_actions) % K) if n_actions >= K else rng.integers(0, K, n_actions)
        owns = np.arange(K)[:, None] == owner  # [K, actions]
        pieces = [np.zeros(K)]
        if likelihood.markov:
            pieces.append(np.log(np.full((K, K), 0.1 / K) + 0.9 * np.eye(K)).ravel())
        for factor in plan.free:
            if not isinstance(factor.mechanism, Table):
                x = np.asarray(best)
                start = sum(int(np.prod(shape)) for _, other, shape in _before(likelihood, factor))
                size = K * factor.num_cells * factor.width * 2
                pieces.append(x[start : start + size])
                continue
            counts = pooled[plan.columns(factor)].reshape(factor.num_cells, factor.width) + 0.5
            probs = np.broadcast_to(counts / counts.sum(-1, keepdims=True), (K, factor.num_cells, factor.width)).copy()
            if factor.field == "action":
                probs = probs * np.where(owns[:, None], 1.0, 0.02)
            else:
                at = [c.given for c in factor.contexts]
                if "action" in at and isinstance(action.mechanism, Table):
                    axis = at.index("action")
                    of_cell = np.unravel_index(np.arange(factor.num_cells), factor.sizes)[axis]
                    other = ~owns[:, of_cell]  # [K, cells]
                    told = _off_support(rng, i, (K, factor.num_cells), factor.width)
                    probs = np.where(other[..., None], told, probs)
            pieces.append(np.log(probs / probs.sum(-1, keepdims=True)).ravel())
        found.append(np.concatenate(pieces))
    return np.stack(found)


def _before(likelihood: Likelihood, factor: Any) -> Sequence[Any]:
    parts = likelihood.sizes
    return parts[: [part[1] for part in parts].index(factor)]


def _off_support(rng: np.random.Generator, i: int, shape: tuple[int, ...], width: int) -> np.ndarray:
    """Return distributions that are sharp on one value, the last or the first for all, or random."""
    match i % 3:
        case 0:
            sharp = np.full(shape, width - 1)
        case 1:
            sharp = np.zeros(shape, int)
        case _:
            return rng.dirichlet(np.full(width, 0.5), shape)
    return np.where(np.arange(width) == sharp[..., None], 0.98, 0.02 / max(width - 1, 1))
