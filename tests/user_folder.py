"""Helpers for tests of files and commands: the tasks of a user, agents without compilation, and a shared cache."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import equinox as eqx
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

T = TypeVar("T")
TASKS = """
import undelude as ud

def tiny():
    return ud.tasks.bandit(num_arms=2, num_rounds=2)

def wrong():
    return "a bandit"

def raises():
    return ud.tasks.bandit(num_arms=1)
"""


def without_compiling(make: Callable[[], T], seed: int = 0) -> T:
    """Return what `make` returns, with random numbers from NumPy: compiling an agent's initialisation takes seconds."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jax.numpy.asarray(rng.normal(size=x.shape), x.dtype), eqx.filter_eval_shape(make))


@contextlib.contextmanager
def compiled_once(folders: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile without optimisation and keep compiled programs, in this process and its child processes.

    Compilation takes most of the time of these tests, and the modules that use this compile the same tiny task.
    """
    settings = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(folders.getbasetemp() / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }
    before = {name: jax.config.values[name] for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
        patch.setenv(name.upper(), str(value))
    compilation_cache.reset_cache()  # Otherwise JAX keeps its first choice of a cache.
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
