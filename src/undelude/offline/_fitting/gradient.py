"""Generalised expectation maximisation: networks by gradients, tables in closed form, all starts at once.

    gradient of log sum_k Q(theta = k, demonstration)  =  sum_k r_k gradient of log Q(theta = k, demonstration)

with the present responsibilities `r_k = Q(theta = k | demonstration)`: a step on the exact marginal likelihood is a
gradient M-step. After each pass over the data, tables and theta's distribution get their M-step in closed form.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key, Shaped

from undelude._checks import check_between, check_count
from undelude._compiled import compiled
from undelude.offline._data.demos import Demos
from undelude.offline._fitting import em
from undelude.offline._fitting.parameters import Expected, Parameters
from undelude.offline._fitting.start import clusters
from undelude.offline._model import statistics as stats
from undelude.offline._model.contexts import column
from undelude.offline._model.mechanisms import Factor
from undelude.offline._model.network import Heads, Network, features
from undelude.offline._model.spec import Layout

# Demonstrations in a block when all are evaluated.
EVALUATED = 128


@dataclass(frozen=True)
class Training:
    """The settings of the gradient steps, if a mechanism is a network.

    Attributes:
        batch_size: demonstrations of a step.
        learning_rate: of Adam; it decays to 0 over the epochs.
        epochs: passes over the demonstrations, at most.
        patience: epochs without a better held-out likelihood after which a start ends.
        warm_up: epochs in which the responsibilities stay those of the first clusters.
    """

    batch_size: int = 32
    learning_rate: float = 3e-3
    epochs: int = 60
    patience: int = 10
    warm_up: int = 2

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "patience"):
            check_count(f"Training: {name}", getattr(self, name))
        check_between("Training: learning_rate", self.learning_rate, 0, 1, ends=False)
        check_between("Training: warm_up", self.warm_up, 0, self.epochs)


class Data(NamedTuple):
    """Demonstrations as networks read them.

    Attributes:
        rows: `[N, M]`, the statistics of the tables.
        labels: `[N]`.
        masks: of each network, `[N, T]`, the rounds in which it is part of the likelihood.
        inputs: of each network, `[N, T, F]`.
        targets: of each network, `[N, T]` or `[N, T, d]`.
    """

    rows: Float[Array, "N M"]
    labels: Int[Array, " N"]
    masks: tuple[Bool[Array, "N T"], ...]
    inputs: tuple[Float[Array, "N T F"], ...]
    targets: tuple[Shaped[Array, "N T ..."], ...]


class Trained(NamedTuple):
    """All starts after training.

    Attributes:
        parameters: of theta's distribution and of the tables.
        networks: of each network, leading axis R.
        K: `[R]`.
        held_out: `[R, N]`, the log-likelihood of each held-out demonstration, nats.
        since: `[R]`, the epochs since the likeliest; less than the patience if the start was still rising.
    """

    parameters: Parameters
    networks: tuple[Heads, ...]
    K: Int[np.ndarray, " R"]
    held_out: Float[np.ndarray, "R N"]
    since: Int[np.ndarray, " R"]


def pick(trained: tuple[Parameters, tuple[Heads, ...]], run: int, K: int) -> tuple[Parameters, tuple[Heads, ...]]:
    """Return one run, with as many values of theta as it has."""
    parameters, networks = jax.tree.map(lambda x: x[run : run + 1] if eqx.is_array(x) else x, trained)

    def heads(network: Heads) -> tuple[Any, ...]:
        return network.weight, network.bias, network.log_scale

    cut = jax.tree.map(lambda x: x[:, :K], Parameters(parameters.log_prior, parameters.eta))
    none = {"is_leaf": lambda x: x is None}
    return cut, tuple(
        eqx.tree_at(heads, one, tuple(x if x is None else x[:, :K] for x in heads(one)), **none) for one in networks
    )


def read(plan: Layout, demos: Demos) -> Data:
    """Return demonstrations as networks read them."""
    rounds = jnp.broadcast_to(jnp.arange(demos.num_rounds)[None], demos.mask.shape)
    inputs, targets, masks = [], [], []
    for factor in plan.networks:
        values = [jnp.asarray(context.codes(demos)) for context in factor.contexts]
        inputs.append(features(factor.contexts, values, rounds))
        targets.append(jnp.asarray(column(demos, factor.field).values))
        masks.append(jnp.asarray(demos.demonstrated if factor.field == "action" else demos.mask))
    rows = np.zeros((demos.num_episodes, 0), np.float32)
    if plan.free:
        rows = stats.of_demos(plan, demos, merge=False).rows
    return Data(jnp.asarray(rows), jnp.asarray(demos.labels), tuple(masks), tuple(inputs), tuple(targets))


def log_networks(networks: tuple[Heads, ...], data: Data) -> Float[Array, "R n _"]:
    """Return the log-probability of all network fields of each demonstration under each theta (or any, if tied)."""

    def of_run(networks: tuple[Heads, ...]) -> Float[Array, "n _"]:
        total = jnp.zeros(())
        for network, mask, x, y in zip(networks, data.masks, data.inputs, data.targets, strict=True):
            total = total + jnp.where(mask[..., None], network.log_probs(x, y), 0.0).sum(1)
        return total

    return eqx.filter_vmap(of_run)(networks)


def log_joint(parameters: Parameters, networks: tuple[Heads, ...], data: Data) -> Float[Array, "n R K"]:
    """Return `log Q(theta = k, demonstration)`; `-inf` where a label says that theta is another."""
    return em.log_joint(parameters, data.rows, data.labels) + jnp.moveaxis(log_networks(networks, data), 0, 1)


@compiled
def epoch(
    networks: tuple[Heads, ...],
    state: Any,
    parameters: Parameters,
    data: Data,
    first: Float[Array, "N R K"],
    warm: Bool[Array, ""],
    batches: Int[Array, "B n"],
    optimizer: optax.GradientTransformation,
) -> tuple[tuple[Heads, ...], Any]:
    """Return networks and optimiser after one pass over the batches of demonstrations."""
    weights, static = eqx.partition(networks, is_weight(networks))

    def loss(weights: Any, batch: Int[Array, " n"]) -> Float[Array, ""]:
        part = jax.tree.map(lambda x: x[batch], data)
        joint = log_joint(parameters, eqx.combine(weights, static), part)
        num_rounds = jnp.maximum(sum(mask.sum() for mask in part.masks) / len(part.masks), 1)
        r = jnp.where(warm, first[batch], jax.lax.stop_gradient(jax.nn.softmax(joint)))
        # Starts do not share weights, so that the gradient of the sum is that of each.
        return -(r * jnp.where(jnp.isfinite(joint), joint, 0.0)).sum() / num_rounds

    def step(carry: tuple[Any, Any], batch: Int[Array, " n"]) -> tuple[tuple[Any, Any], None]:
        weights, state = carry
        gradient = jax.grad(loss)(weights, batch)
        updates, state = optimizer.update(gradient, state, weights)
        return (eqx.apply_updates(weights, updates), state), None

    (weights, state), _ = jax.lax.scan(step, (weights, state), batches)
    return eqx.combine(weights, static), state


def is_weight(networks: tuple[Heads, ...]) -> Any:
    """Return a filter of the arrays that are trained: all but the units."""
    filters = jax.tree.map(eqx.is_inexact_array, networks)

    def of(network: Heads) -> tuple[Any, Any]:
        return network.inputs, network.output

    return tuple(
        eqx.tree_at(of, one, jax.tree.map(lambda _: False, of(one)), is_leaf=lambda x: x is None) for one in filters
    )


@compiled
def expect(
    parameters: Parameters, networks: tuple[Heads, ...], blocks: Data, exists: Float[Array, "B n"]
) -> tuple[Expected, Float[Array, "B n R"]]:
    """Return the expected statistics of blocks of demonstrations, and the log-likelihood of each: the E-step."""
    R, K, M = parameters.eta.shape

    def of_block(x: tuple[Data, Array]) -> tuple[Array, Array, Array]:
        data, weights = x
        joint = log_joint(parameters, networks, data)
        evidence = jax.nn.logsumexp(joint, -1)
        r = jnp.exp(joint - evidence[..., None]) * weights[:, None, None]
        return evidence, r.sum(0), (r.reshape(-1, R * K).T @ data.rows).reshape(R, K, M)

    evidence, theta, statistics = jax.lax.map(of_block, (blocks, exists))
    total = (evidence * exists[..., None]).sum((0, 1))
    return Expected(total, theta.sum(0), statistics.sum(0)), evidence


def in_blocks(data: Data) -> tuple[Data, Float[Array, "B n"]]:
    """Return demonstrations in blocks of equal size, and which of them exist."""
    N = len(data.labels)
    size = min(EVALUATED, N)
    pad = -N % size
    count = (N + pad) // size
    blocks = jax.tree.map(
        lambda x: jnp.pad(x, ((0, pad), *[(0, 0)] * (x.ndim - 1))).reshape(count, size, *x.shape[1:]), data
    )
    return blocks, (jnp.arange(N + pad) < N).astype(float).reshape(-1, size)


def log_likelihoods(plan: Layout, parameters: Parameters, networks: tuple[Heads, ...], demos: Demos) -> np.ndarray:
    """Return the log-likelihood of each demonstration under each run, `[R, N]`, in nats and the data's own units."""
    evidence = expect(parameters, networks, *in_blocks(read(plan, demos)))[1]
    found = np.asarray(evidence, np.float64).reshape(-1, evidence.shape[-1])[: demos.num_episodes]
    return (found + stats.log_units(plan, plan.free, demos)[:, None]).T


def train(
    plan: Layout,
    demos: Demos,
    held_out: Demos,
    K: Int[np.ndarray, " R"],
    training: Training,
    *,
    key: Key[Array, ""],
    on_epoch: Callable[[int], None] | None = None,
) -> Trained:
    """Return all starts, each as it was when the held-out demonstrations were likeliest.

    Args:
        plan: the spec resolved against the data.
        demos: to fit.
        held_out: for early stopping.
        K: of each start.
        training: the settings.
        key: of weights, clusters and batches.
        on_epoch: called with the number of finished epochs.
    """
    key_weights, key_clusters, key_batches = jax.random.split(key, 3)
    data, width = read(plan, demos), int(K.max())
    blocks = in_blocks(data)
    networks = _new_networks(plan, data, width, jax.random.split(key_weights, len(K)))
    first = jnp.asarray(clusters(demos, K.tolist(), key_clusters))
    sizes = jnp.asarray(K, jnp.int32)
    statistics = jnp.einsum("nrk,nm->rkm", first, data.rows)
    parameters = em.maximise(Expected(jnp.zeros(len(K)), first.sum(0), statistics), plan.free, sizes)
    per_epoch = max(len(first) // training.batch_size, 1)
    size = min(training.batch_size, len(first))
    optimizer = optax.adam(optax.cosine_decay_schedule(training.learning_rate, training.epochs * per_epoch))
    state = optimizer.init(eqx.filter(networks, is_weight(networks)))
    best = parameters, networks, np.full((len(K), held_out.num_episodes), -np.inf)
    since = np.zeros(len(K), int)
    for done in range(training.epochs):
        order = jax.random.permutation(jax.random.fold_in(key_batches, done), len(first))
        batches = order[: per_epoch * size].reshape(per_epoch, size)
        warm = jnp.asarray(done < training.warm_up)
        networks, state = epoch(networks, state, parameters, data, first, warm, batches, optimizer)
        if done + 1 >= training.warm_up:
            parameters = em.maximise(expect(parameters, networks, *blocks)[0], plan.free, sizes)
        scores = log_likelihoods(plan, parameters, networks, held_out)
        better = scores.sum(-1) > best[2].sum(-1)
        since = np.where(better, 0, since + 1)
        best = (
            _where(better, parameters, best[0]),
            _where(better, networks, best[1]),
            np.where(better[:, None], scores, best[2]),
        )
        if on_epoch is not None:
            on_epoch(done + 1)
        if (since >= training.patience).all():
            break
    return Trained(best[0], best[1], K, best[2], since)


def _where(chosen: Bool[np.ndarray, " R"], new: Any, old: Any) -> Any:
    """Return the new values of the chosen starts, and the old ones of the others."""

    def pick(x: Any, y: Any) -> Any:
        return jnp.where(jnp.asarray(chosen).reshape(-1, *[1] * (x.ndim - 1)), x, y) if eqx.is_array(x) else x

    return jax.tree.map(pick, new, old)


def _new_networks(plan: Layout, data: Data, K: int, keys: Key[Array, " R"]) -> tuple[Heads, ...]:
    """Return networks with random weights, leading axis R."""
    networks = []
    for i, (factor, inputs) in enumerate(zip(plan.networks, data.inputs, strict=True)):
        units = _units(factor, np.asarray(inputs)[np.asarray(data.masks[i])])
        output = None
        if factor.field in plan.centre:
            output = plan.centre[factor.field], plan.spread[factor.field]

        def new(key: Key[Array, ""], factor: Factor = factor, units: Any = units, output: Any = output) -> Heads:
            assert isinstance(factor.mechanism, Network)
            heads = 1 if factor.mechanism.tied else K
            return Heads.new(factor.mechanism, heads, factor.width, units, output, key=key)

        networks.append(eqx.filter_vmap(new)(jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(keys)))
    return tuple(networks)


def _units(factor: Factor, inputs: Float[np.ndarray, "n F"]) -> tuple[np.ndarray, np.ndarray]:
    """Return centre and spread of the features; one-hot levels stay as they are."""
    centre, spread, start = np.zeros(inputs.shape[-1]), np.ones(inputs.shape[-1]), 0
    for context in factor.contexts:
        width = context.size or context.width
        own = slice(start, start + width)
        if context.size is None:
            centre[own], spread[own] = inputs[:, own].mean(0), np.maximum(inputs[:, own].std(0), 1e-6)
            width += context.first > 0
        start += width
    return centre, spread
