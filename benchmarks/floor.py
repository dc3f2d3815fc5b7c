"""The limits of the machine: the rates from which docs/performance.md computes its floors.

python benchmarks/floor.py    a few seconds
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp


def seconds(f: Callable[..., jax.Array], *args: jax.Array, repeats: int = 20) -> float:
    """Return the least time of several calls."""
    f = jax.jit(f)
    jax.block_until_ready(f(*args))
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(f(*args))
        found.append(time.perf_counter() - started)
    return min(found)


def many(x: jax.Array, w: jax.Array) -> jax.Array:
    """Compute a hundred consecutive products, each with the result of the last, as in a recurrence."""
    return jax.lax.fori_loop(0, 100, lambda _, h: jnp.tanh(h @ w)[:, : x.shape[1]], x)


def main() -> None:
    """Measure and print."""
    key = jax.random.key(0)
    large = jax.random.normal(key, (2048, 2048))
    print(f"product of two 2048 x 2048: {2 * 2048**3 / seconds(jnp.matmul, large, large) / 1e9:.0f} GFLOP/s")
    x, w = jax.random.normal(key, (32, 64)), jax.random.normal(key, (64, 256)) / 8
    rate = 100 * 2 * 32 * 64 * 256 / seconds(many, x, w) / 1e9
    print(f"32 x 64 x 256 in a row, with the tanh of each: {rate:.0f} GFLOP/s")
    wide = jax.random.normal(key, (21, 5, 10_000))
    print(f"exponentials: {1e9 * seconds(jnp.exp, wide) / wide.size:.2f} ns each")
    print(f"copies: {2 * wide.nbytes / seconds(lambda x: x + 1, wide) / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()
