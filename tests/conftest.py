"""What every test shares: strict JAX settings, two CPU devices, the paper's processes, a count of compilations."""

import gc
import os
import signal
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import version
from pathlib import Path

# XLA's older emitters compile small programs in less than half the time; an XLA that does not know a flag ends the
# process, so only the one that is known to know it gets it. What tests start as a process of its own inherits it.
if version("jaxlib") == "0.10.2":
    fast = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {fast}"

# Tests leave the user's own data folder alone.
os.environ["XDG_DATA_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "data")

# Programs here are many and small: without XLA's optimisations they take a third less time. Without tracebacks in them,
# lowering takes a tenth less. Both are in the environment, so that what tests start as a process of its own has them.
os.environ |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_TRACEBACK_IN_LOCATIONS_LIMIT": "0"}

# Under nohup SIGHUP is ignored, which undelude respects; tests of SIGHUP need the default.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

import jax

# Two devices, so that a batch split over devices is tested on any machine; a silent broadcast is an error.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Keep compiled programs, for other tests and for the next time; `make clean` deletes them.
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
# Tracing makes many objects that live long, and Python would look through all of them again and again.
gc.set_threshold(200_000, 50, 1_000)

# After the settings, which JAX must find when it starts.
import hypothesis  # noqa: E402
import jax.monitoring  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

import undelude as ud  # noqa: E402
from undelude._certificate import baselines  # noqa: E402

# Thetas times observations times nodes of the plan whose reward a certificate compares: two rounds ahead, not six.
# Such a tree takes longer to compile and to run than the rest. Tests of plans to the end take short episodes.
baselines.MAX_WORK = 500

# The same examples each time, so that no change fails by chance; `--hypothesis-profile fuzz` looks for new ones.
hypothesis.settings.register_profile("same", max_examples=100, derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("same")


# Files of about 20 seconds of CPU time or more, the longest first: no worker then begins a long file while the others
# have finished.
LONG = [
    "check_task", "agents", "cli", "certificate", "teaching", "offline_cli", "inspection", "offline_diagnosis",
    "teachings", "world", "host_world", "crashes", "paper", "film", "docs", "inference", "distributions", "gym_tasks",
    "offline_fit", "entry_points", "functional_world", "report", "gym_tables", "offline_reach", "host", "causal",
    "process", "tabular", "policy", "stored",
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=1, help="kill so many training processes (tests/test_crashes.py)")
    parser.addoption("--no-skips", action="store_true", help="a test that would be skipped fails")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a skipped test fail if no test may be skipped: where a target installed all that its tests need."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="module", autouse=True)
def _fresh_caches() -> Iterator[None]:
    """Drop the compiled programs of a module after it: no other module runs them, and they fill the memory."""
    yield
    jax.clear_caches()
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take long, and keep the order of the others."""
    place = {f"test_{name}.py": i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONG)))


def pytest_collection_finish() -> None:
    """Leave the objects of all imports out of garbage collection, which `_fresh_caches` runs after each module."""
    gc.freeze()


_compilations = 0


def _count(event: str, duration: float, **_: object) -> None:
    global _compilations
    _compilations += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


@pytest.fixture(scope="session")
def all_compilations() -> Callable[[], int]:
    """A function that says how many programs XLA has compiled."""
    return lambda: _compilations


@pytest.fixture
def compilations() -> Callable[[], int]:
    """A function that says how many programs XLA compiled since it was called last."""
    seen = _compilations

    def count() -> int:
        nonlocal seen
        since, seen = _compilations - seen, _compilations
        return since

    return count


@pytest.fixture(scope="session")
def bandit() -> ud.InteractionProcess:
    """Remark 11's bandit, as printed."""
    return ud.tasks.bandit()


@pytest.fixture(scope="session")
def frog() -> ud.InteractionProcess:
    """The prize-or-frog problem of Section 2."""
    return ud.tasks.prize_or_frog()


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Let values of the wrong type through, as they come from users, whose code has no run-time type checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
