"""What every test shares: strict JAX settings, two CPU devices, the paper's processes, a count of compilations."""

from collections.abc import Callable, Iterator

import jax

# Two devices, so that a batch split over devices is tested on any machine; a silent broadcast is an error.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Programs here are many and small: without XLA's optimisations they take a third less time.
jax.config.update("jax_disable_most_optimizations", True)

import hypothesis  # noqa: E402
import jax.monitoring  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

import undelude as ud  # noqa: E402

# The same examples each time, so that no change fails by chance; `--hypothesis-profile fuzz` looks for new ones.
hypothesis.settings.register_profile("same", max_examples=100, derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
hypothesis.settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="kill so many training processes (tests/test_crashes.py)")


_compilations = 0


def _count(event: str, duration: float, **_: object) -> None:
    global _compilations
    _compilations += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


@pytest.fixture
def compilations() -> Callable[[], int]:
    """A function that says how many programs XLA compiled since it was called last."""
    seen = _compilations

    def count() -> int:
        nonlocal seen
        since, seen = _compilations - seen, _compilations
        return since

    return count


@pytest.fixture(scope="module")
def full_optimisation() -> Iterator[None]:
    """XLA with its optimisations, for modules that train: there the program takes longer than its compilation."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


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
