"""Helpers for tests of the command line: the tasks of a user, and a shared cache of compiled programs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

TASKS = """
import undelude as ud

def tiny():
    return ud.tasks.bandit(num_arms=2, num_rounds=2)

def wrong():
    return "a bandit"

def raises():
    return ud.tasks.bandit(num_arms=1)
"""


@contextlib.contextmanager
def compiled_once(cache: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile without optimisation and keep compiled programs in `cache`, in this process and its child processes.

    Compilation takes most of the time of these tests.
    """
    settings = {
        "jax_disable_most_optimizations": True,
        "jax_compilation_cache_dir": str(cache),
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
