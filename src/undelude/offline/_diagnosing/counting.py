"""Generic predictors of logs for little data: small networks on counts of the past, without any theta.

They have seen how often each action was followed by each observation, and the last values. An LSTM must learn to count.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from undelude.offline._data.columns import Column, units
from undelude.offline._data.demos import Demos
from undelude.offline._model.process import ObservedFields

# Pairs of an action and a symbol that are counted each; of more, the actions and symbols are counted alone.
MAX_PAIRS = 128
# The softplus of START is 1; and the least scale of a real number, in standard deviations.
START, MIN_SCALE = 0.5413, 0.02
# Levels of a field that are told apart.
MAX_LEVELS = 128
WIDTH, RATE, DECAY, BATCH_SIZE = 48, 5e-3, 1e-2, 512
# Updates, and those between two looks at the validation part.
STEPS, LOOK_EVERY = 1000, 25

Weights = list[tuple[Array, Array]]


class Rows(NamedTuple):
    """The inputs and the targets, one row for each round that exists.

    Attributes:
        x: `[R, F]`, the past as numbers.
        code: `[R]`, the symbol; zeros without a finite part.
        real: `[R, d]`, real numbers, standardised.
    """

    x: Float[Array, "R F"]
    code: Int[Array, " R"]
    real: Float[Array, "R d"]


def losses_of_counting(
    train: Demos, validation: Demos, test: Demos, *, key: Key[Array, ""]
) -> tuple[tuple[float, Float[np.ndarray, " N"]], tuple[float, Float[np.ndarray, " N"]]]:
    """Return, for actions and for observations, the log-loss on the validation part and of each test episode, nats."""
    found = []
    for part, own in zip(("action", "observation"), jax.random.split(key), strict=True):
        scale = _Scale.of(train, part)
        rows = _standardised([_rows(demos, part, scale) for demos in (train, validation, test)])
        best, losses = _train(rows[0], rows[1], rows[2], scale.num_symbols, own, _losses)
        # The density of a standardised value, in the units of the data.
        losses = np.asarray(losses, np.float64) + np.log(scale.spread).sum()
        episode = np.nonzero(test.mask)[0]
        units = float(np.log(scale.spread).sum()) * validation.num_steps
        found.append((float(best) * validation.num_steps + units, np.bincount(episode, losses, test.num_episodes)))
    return found[0], found[1]


def losses_of_alike(
    train: Demos, validation: Demos, test: Demos, *, key: Key[Array, ""]
) -> tuple[float, Float[np.ndarray, " N"]]:
    """Return the losses of actions, as `losses_of_counting` does, of one scorer that all actions share.

        P(a | history) is proportional to exp(f(counts of a, the last round, all counts) + bias of a)

    A demonstrator who learns treats actions alike, apart from what came of them. Few logs then suffice to learn f.
    """
    rows = _standardised([_alike_rows(demos) for demos in (train, validation, test)])
    best, losses = _train(rows[0], rows[1], rows[2], len(train.action.levels or ()), key, _losses_alike)
    episode = np.nonzero(test.mask)[0]
    return float(best) * validation.num_steps, np.bincount(episode, np.asarray(losses, float), test.num_episodes)


def compares_alike(demos: Demos) -> bool:
    """Return whether actions and symbols are few enough to be counted for `losses_of_alike`."""
    num_actions, num_symbols = len(demos.action.levels or ()), ObservedFields.of(demos).num_symbols
    return num_actions > 1 and 0 < num_actions * num_symbols <= MAX_PAIRS


def _alike_rows(demos: Demos) -> Rows:
    """Return the rows of all rounds that exist, with an axis of actions: `x` is `[R, A, F]`."""
    N, T = demos.mask.shape
    A, S = len(demos.action.levels or ()), ObservedFields.of(demos).num_symbols
    pairs = _one_hot(demos.action.values * S + _symbols(demos), A * S).reshape(N, T, A, S)
    counts = np.cumsum(pairs, 1) - pairs
    last = np.concatenate([np.zeros_like(pairs[:, :1]), pairs[:, :-1]], 1)
    totals = np.broadcast_to(counts.sum(2, keepdims=True), counts.shape)
    time = np.broadcast_to((np.arange(T) / T)[None, :, None, None], (N, T, A, 1))
    x = np.concatenate([np.log1p(counts), counts / math.sqrt(T), last, np.log1p(totals), time], -1, dtype=np.float32)
    mask = demos.mask
    return Rows(jnp.asarray(x[mask]), jnp.asarray(demos.action.values[mask], jnp.int32), jnp.zeros((mask.sum(), 0)))


def _losses_alike(weights: Weights, rows: Rows, num_symbols: int) -> Float[Array, " R"]:
    """Return `-log P` of each action."""
    (W, b), (V, c) = weights
    scores = (jax.nn.relu(rows.x @ W + b[None, None]) @ V[:, :1])[..., 0] + c[None, :num_symbols]
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), rows.code[:, None], 1)[:, 0]


def _standardised(parts: list[Rows]) -> list[Rows]:
    """Return the rows with inputs in standard deviations of the first part, at most five."""
    first = np.asarray(parts[0].x)
    mean, spread = (x.astype(np.float32) for x in units(first.reshape(-1, first.shape[-1])))
    return [rows._replace(x=jnp.clip((np.asarray(rows.x) - mean) / spread, -5.0, 5.0)) for rows in parts]


class _Scale(NamedTuple):
    """The targets: the number of symbols, 1 without a finite part; centre and spread of the real numbers."""

    num_symbols: int
    centre: Float[np.ndarray, " d"]
    spread: Float[np.ndarray, " d"]

    @classmethod
    def of(cls, demos: Demos, part: str) -> "_Scale":
        values = _reals(_columns(demos, part))[demos.mask]
        n = len(demos.action.levels or ("",)) if part == "action" else ObservedFields.of(demos).num_symbols
        return cls(n, *units(values))


def _columns(demos: Demos, part: str) -> list[Column]:
    return [demos.action] if part == "action" else list(demos.observations.values())


def _reals(columns: list[Column]) -> Float[np.ndarray, "N T d"]:
    lead = columns[0].values.shape[:2]
    return np.concatenate([np.zeros((*lead, 0)), *(c.values for c in columns if c.levels is None)], -1)


def _symbols(demos: Demos) -> Int[np.ndarray, "N T"]:
    fields = ObservedFields.of(demos)
    codes = {name: demos.observations[name].values for name, _ in fields.finite}
    symbols = np.zeros(demos.mask.shape, np.int64)
    for name, n in fields.finite:
        symbols = symbols * n + codes[name]
    return symbols


def _rows(demos: Demos, part: str, scale: _Scale) -> Rows:
    """Return the rows of all rounds that exist; an observation is told the action of its round."""
    columns = [demos.action, *demos.observations.values()]
    N, T = demos.mask.shape
    before = [np.broadcast_to((np.arange(T) / T)[None, :, None], (N, T, 1))]
    num_actions, num_symbols = len(demos.action.levels or ()), ObservedFields.of(demos).num_symbols
    in_pairs = 0 < num_actions * num_symbols <= MAX_PAIRS
    counted = []
    if in_pairs:
        counted.append(_one_hot(demos.action.values * num_symbols + _symbols(demos), num_actions * num_symbols))
    for column in columns:
        values = _numbers(column)
        if values is None:
            continue
        last = np.concatenate([np.zeros_like(values[:, :1]), values[:, :-1]], 1)
        if column.name in demos.opening:
            last[:, 0] = _numbers(demos.opening[column.name])
        before.append(last)
        if column.levels is None or not in_pairs:
            counted.append(values)
    for values in counted:
        sums = np.cumsum(values, 1) - values
        before += [np.sign(sums) * np.log1p(np.abs(sums)), sums / math.sqrt(T)]
    if part == "observation" and (action := _numbers(demos.action)) is not None:
        before.append(action)
    own = _columns(demos, part)
    code = demos.action.values if part == "action" else _symbols(demos)
    if part == "action" and demos.action.levels is None:
        code = np.zeros(demos.mask.shape, int)
    mask = demos.mask
    return Rows(
        jnp.asarray(np.concatenate(before, -1, dtype=np.float32)[mask]),
        jnp.asarray(code[mask], jnp.int32),
        jnp.asarray((_reals(own)[mask] - scale.centre) / scale.spread, jnp.float32),
    )


def _numbers(column: Column) -> Float[np.ndarray, "..."] | None:
    """Return a column as numbers: one-hot if it is finite; None if it has too many levels."""
    if column.levels is None:
        return column.values
    return _one_hot(column.values, len(column.levels)) if len(column.levels) <= MAX_LEVELS else None


def _one_hot(codes: np.ndarray, n: int) -> Float[np.ndarray, "..."]:
    return (codes[..., None] == np.arange(n)).astype(np.float32)


def _losses(weights: Weights, rows: Rows, num_symbols: int) -> Float[Array, " R"]:
    """Return `-log P` of each row: a softmax for the symbol, a normal for each real number."""
    (W, b), (V, c) = weights
    out = jax.nn.relu(rows.x @ W + b[None]) @ V + c[None]
    d = rows.real.shape[1]
    code = jnp.take_along_axis(jax.nn.log_softmax(out[:, :num_symbols]), rows.code[:, None], 1)[:, 0]
    mean, raw = out[:, num_symbols : num_symbols + d], out[:, num_symbols + d :]
    scale = jax.nn.softplus(raw + START) + MIN_SCALE
    z = (rows.real - mean) / scale
    return (0.5 * z**2 + jnp.log(scale) + 0.5 * math.log(2 * math.pi)).sum(1) - code


def _train(
    train: Rows,
    validation: Rows,
    test: Rows,
    num_symbols: int,
    key: Key[Array, ""],
    losses: Callable[[Weights, Rows, int], Float[Array, " R"]],
) -> tuple[Float[Array, ""], Float[Array, " R"]]:
    """Return the mean loss on the validation part at its best moment, and the losses of the test part then."""
    F, out = train.x.shape[-1], num_symbols + 2 * train.real.shape[1]
    key_weights, key_batches = jax.random.split(key)
    weights = [
        (jax.random.normal(key_weights, (F, WIDTH)) / math.sqrt(F), jnp.zeros(WIDTH)),
        (jnp.zeros((WIDTH, out)), jnp.zeros(out)),
    ]
    optimizer = optax.adamw(RATE, weight_decay=DECAY)

    def update(carry: tuple[Weights, optax.OptState], key: Array) -> tuple[tuple[Weights, optax.OptState], None]:
        weights, state = carry
        some = jax.random.randint(key, (BATCH_SIZE,), 0, len(train.x))
        batch = jax.tree.map(lambda x: x[some], train)
        gradient = jax.grad(lambda w: losses(w, batch, num_symbols).mean())(weights)
        with jax.numpy_dtype_promotion("standard"):
            step, state = optimizer.update(gradient, state, weights)
            return (optax.apply_updates(weights, step), state), None  # type: ignore[return-value]

    def look(carry: tuple, keys: Array) -> tuple[tuple, None]:
        learner, best, least = carry
        learner, _ = jax.lax.scan(update, learner, keys)
        loss = losses(learner[0], validation, num_symbols).mean()
        best = jax.tree.map(lambda new, old: jnp.where(loss < least, new, old), learner[0], best)
        return (learner, best, jnp.minimum(loss, least)), None

    @jax.jit
    def run(weights: Weights, key: Array) -> tuple[Array, Array]:
        keys = jax.random.split(key, (STEPS // LOOK_EVERY, LOOK_EVERY))
        start = (weights, optimizer.init(weights)), weights, jnp.asarray(jnp.inf)
        (_, best, least), _ = jax.lax.scan(look, start, keys)
        return least, losses(best, test, num_symbols)

    return run(weights, key_batches)
