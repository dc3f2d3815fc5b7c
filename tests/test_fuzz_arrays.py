"""Malformed tables, histories and arguments: refused with the name of the argument, or handled correctly."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import undelude as ud
from fuzzing import examples, outcome

REFUSED = (ValueError, TypeError)
# K, A, N; few, as each shape is compiled.
SHAPES = [(2, 2, 2), (1, 3, 1)]


@pytest.fixture(scope="module", autouse=True)
def as_users_run_it() -> Iterator[None]:
    """Switch run-time type checks off."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


JUNK: list[Any] = [
    None, "x",
    b"x", 0, 1, -1, 0.5, 2**31, 2**63, 10**30, 10**400, True, float("nan"), float("inf"), 1j, object, [], [[]], {},
    [[1.0], [0.5, 0.5]], [None], ["a"], [1j], {"a": 1}, (), set(), np.zeros(0), np.zeros((2, 0)), np.zeros((0, 2,
    2)), np.array(["1", "2"]), np.array([object, None]), np.array("2026-01-01", "M8[D]"), np.float64(0.5), range(2),
    [2**63], jnp.zeros((2, 2)), [10**400, 0], np.array([1, 2], np.uint64),
]  # fmt: skip


def tables(draw: st.DrawFn, shape: tuple[int, ...]) -> np.ndarray:
    """Draw a table of probabilities along the last axis, sometimes with zeros."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    if draw(st.booleans()):
        table = np.where(rng.random(shape) < 0.3, 0, table)
        table[table.sum(-1) == 0] = 1
        table = table / table.sum(-1, keepdims=True)
    return table


@st.composite
def damaged_table(draw: st.DrawFn, table: np.ndarray) -> Any:
    """Draw a damaged copy of the table, or junk."""
    match draw(st.sampled_from(["entry", "entry", "scale", "axes", "cut", "type", "list", "junk"])):
        case "entry":
            table = table.copy()
            at = tuple(draw(st.integers(0, n - 1)) for n in table.shape)
            table[at] = draw(st.sampled_from([np.nan, np.inf, -np.inf, -0.1, 0.0, 2.0, 1e300, 1e-320, 1e-5, -1e-9]))
        case "scale":
            table = table * draw(st.sampled_from([0.0, 0.5, 1 + 1e-5, 1.01, -1.0, 1e300, 1e-300]))
        case "axes":
            table = draw(st.sampled_from([table[None], table[0], table.T, table[..., None], table.ravel()]))
        case "cut":
            axis = draw(st.integers(0, table.ndim - 1))
            table = np.take(table, range(draw(st.integers(0, table.shape[axis] - 1))), axis)
        case "type":
            types = [np.float32, np.float16, np.int64, bool, complex, object, str, np.uint8]
            with np.errstate(all="ignore"):
                table = table.astype(draw(st.sampled_from(types)))
        case "list":
            return table.tolist()
        case "junk":
            return draw(st.sampled_from(JUNK))
    return table


@given(data=st.data())
@examples(30, shrink=False)
def test_fuzz_tables(data: st.DataObject) -> None:
    """A process from damaged tables is refused, or its tables are normalised."""
    draw = data.draw
    K, A, N = draw(st.sampled_from(SHAPES))
    parts: dict[str, Any] = {
        "prior": tables(draw, (K,)),
        "expert": tables(draw, (K, A)),
        "task": tables(draw, (K, A, N)),
    }
    for name in draw(st.lists(st.sampled_from([*parts, "rewards", "num_rounds"]), min_size=1, max_size=2, unique=True)):
        if name in parts:
            parts[name] = draw(damaged_table(parts[name]))
        else:
            fit = [3] if name == "num_rounds" else [np.arange(N), [0.5] * N, np.full(N, 1e30)]
            parts[name] = draw(st.sampled_from([*fit, *JUNK]))
    process = outcome(lambda: ud.tasks.from_tables(**parts), raises=REFUSED, names=("tables", "num_rounds"))
    if isinstance(process, Exception):
        return
    for distribution in (process.prior, jnp.exp(process.expert.log_probs), jnp.exp(process.task.log_probs)):
        np.testing.assert_allclose(distribution.sum(-1), 1, atol=1e-5)
    assert np.isfinite(process.task.rewards).all()
    assert isinstance(process.num_rounds, int)


@given(data=st.data())
@examples(20, shrink=False)
def test_fuzz_history(data: st.DataObject) -> None:
    """A history is refused, or its posterior equals the products of the tables; impossible evidence is an error."""
    draw = data.draw
    (K, A, N), T = SHAPES[0], 3
    prior, expert, task = (tables(draw, shape) for shape in ((K,), (K, A), (K, A, N)))
    process = ud.tasks.from_tables(prior=prior, expert=expert, task=task, num_rounds=3)
    actions = draw(st.lists(st.integers(0, A - 1), min_size=T, max_size=T))
    observations = draw(st.lists(st.integers(0, N - 1), min_size=T, max_size=T))
    marks = draw(st.lists(st.booleans(), min_size=T, max_size=T))
    history: dict[str, Any] = {"actions": actions, "observations": observations, "intervened": marks}
    damaged = draw(st.sampled_from([None, None, "actions", "observations", "intervened", "opening"]))
    if damaged:
        misfit = [[A], [-1], [0.5] * T, [True] * T, [[0] * T] * 2, [0] * (T + 1), [2**31], [-(2**63)], [np.nan] * T]
        history[damaged] = draw(st.sampled_from([*misfit, *JUNK]))
    names = ("tables", "impossible")
    episodes = outcome(lambda: ud.Episodes.of(process, **history), raises=REFUSED, names=names)
    if isinstance(episodes, Exception):
        assert damaged, f"a valid history was refused: {episodes}"
        return
    log_posterior = outcome(lambda: ud.posterior(process, episodes), raises=(ValueError,), names=names)
    if damaged:
        assert isinstance(log_posterior, Exception) or not np.isnan(log_posterior).any()
        return
    joint = prior.copy()
    for a, o, done in zip(actions, observations, marks, strict=True):
        joint = joint * (1 if done else expert[:, a]) * task[:, a, o]
    if joint.sum() == 0:
        assert isinstance(log_posterior, Exception)
    else:
        np.testing.assert_allclose(np.exp(log_posterior[-1]), joint / joint.sum(), atol=1e-4)


@given(data=st.data())
@examples(20, shrink=False)
def test_fuzz_rollout(data: st.DataObject) -> None:
    """A rollout is refused with the name of the argument, or its symbols are valid and its rewards finite."""
    draw = data.draw
    K, A, N = SHAPES[0]
    process = ud.tasks.from_tables(
        prior=tables(draw, (K,)), expert=tables(draw, (K, A)), task=tables(draw, (K, A, N)), num_rounds=3
    )
    arguments: dict[str, Any] = {"num_episodes": 2, "num_rounds": None, "executor": "agent", "theta": None}
    agent: Any = ud.ExactAgent(process, draw(st.sampled_from(["do", "see"])))
    small = [
        x for x in JUNK if not (isinstance(x, int) and 2**20 < x < 2**62)
    ]  # Larger ones would run as many episodes.
    for name in draw(st.lists(st.sampled_from([*arguments, "agent", "own_actions"]), max_size=2, unique=True)):
        if name == "agent":
            agent = draw(st.sampled_from([None, "x", process, object()]))
        elif name == "own_actions":
            made = outcome(lambda: ud.ExactAgent(process, draw(st.sampled_from(JUNK))), raises=REFUSED)
            assert isinstance(made, Exception)
        else:
            arguments[name] = draw(st.sampled_from([2, *small]))
    call = lambda: ud.rollout(process, agent, key=jax.random.key(0), **arguments)  # noqa: E731
    names = (*arguments, "agent")
    episodes = outcome(call, raises=REFUSED, names=names)
    if not isinstance(episodes, Exception):
        assert episodes.actions.min() >= 0
        assert episodes.actions.max() < A
        assert episodes.observations.max() < N
        assert np.isfinite(episodes.reward).all()
