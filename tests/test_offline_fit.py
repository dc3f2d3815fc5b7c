"""Fits of causal models to demonstrations, against brute force and against the induced process."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude import offline
from undelude.offline import Demos, Episode, Gaussian, Last, LatentSpec, Markov, Round, Table
from undelude.offline._fitting import em
from undelude.offline._fitting.runs import as_tables, run_em
from undelude.offline._model import statistics
from undelude.offline._model.process import induced_process
from undelude.offline._model.spec import layout

KEY = jax.random.key(0)
SMALL = {"key": KEY, "starts": 4, "select": "bic", "max_iterations": 60}


@eqx.filter_jit
def process_log_likelihoods(process: ud.InteractionProcess, opening: Any, actions: Any, observations: Any, mask: Any):
    """The forward algorithm over theta, on the methods of the process alone."""
    task, expert, thetas = process.task, process.expert, process.thetas
    zero = jnp.zeros((), jnp.int32)

    def step(alpha, log_likelihood, w):
        alpha = alpha + log_likelihood
        if process.transition is None:
            return alpha
        transition = process.transition
        log_Q = jax.vmap(lambda theta: transition(theta, w).log_probs)(thetas)
        return jax.nn.logsumexp(alpha[:, None] + log_Q, 0)

    def of_one(opening, actions, observations, mask):
        alpha, w, e = jnp.log(process.prior), task.init(zero), expert.init(zero)
        if process.opening:
            likelihood = jax.vmap(lambda theta: task.Q_O(theta, w).log_prob(opening))(thetas)
            w, e = task.g_O(zero, opening, w), expert.g_O(zero, opening, e)
            alpha = step(alpha, likelihood, w)

        def round(carry, x):
            alpha, w, e = carry
            a, o, exists = x
            likelihood = jax.vmap(lambda theta: expert.Q_A(theta, e).log_prob(a))(thetas)
            w, e = task.g_A(zero, a, w), expert.g_A(zero, a, e)
            likelihood += jax.vmap(lambda theta: task.Q_O(theta, w).log_prob(o))(thetas)
            w, e = task.g_O(zero, o, w), expert.g_O(zero, o, e)
            later = step(alpha, likelihood, w), w, e
            return jax.tree.map(lambda x, y: jnp.where(exists, x, y), later, carry), None

        (alpha, _, _), _ = jax.lax.scan(round, (alpha, w, e), (actions, observations, mask))
        return jax.nn.logsumexp(alpha)

    return jax.vmap(of_one)(opening, actions, observations, mask)


def by_process(fit: offline.Fit, demos: Demos) -> np.ndarray:
    def symbols(columns, shape):
        symbol, reals = np.zeros(shape, np.int32), {}
        for name, own in demos.observations.items():
            column = columns.get(name)
            if own.levels is None:
                reals[name] = column.values if column else np.zeros((*shape, own.values.shape[-1]), np.float32)
            else:
                symbol = symbol * len(own.levels) + (column.values if column else 0)
        finite = [name for name, own in demos.observations.items() if own.levels is not None]
        if not reals or not finite:
            return reals or symbol
        return {finite[0] if len(finite) == 1 else "symbol": symbol, **reals}

    opening = symbols(demos.opening, (demos.num_episodes,)) if demos.opening else np.zeros(demos.num_episodes)
    observations = symbols(demos.observations, demos.mask.shape)
    found = process_log_likelihoods(fit.process, opening, demos.action.values, observations, demos.mask)
    return np.asarray(found, np.float64)


def bandit_demos(
    N: int, T: int, *, switch: float = 0.0, seed: int = 0, ragged: bool = False, labels: int | None = None
):
    """Demonstrations of a bandit with three arms, in NumPy."""
    rng = np.random.default_rng(seed)
    theta = np.empty((N, T), int)
    theta[:, 0] = rng.integers(3, size=N)
    for t in range(1, T):
        theta[:, t] = np.where(rng.random(N) < switch, rng.integers(3, size=N), theta[:, t - 1])
    actions = np.where(rng.random((N, T)) < 0.7, theta, rng.integers(3, size=(N, T)))
    outcomes = (rng.random((N, T)) < np.where(actions == theta, 0.8, 0.2)).astype(int)
    lengths = rng.integers(2, T + 1, N) if ragged else None
    known = None if labels is None else np.where(np.arange(N) < labels, theta[:, 0], -1)
    return Demos.from_arrays(actions, {"outcome": outcomes}, lengths=lengths, labels=known)


def first_actions(process: ud.InteractionProcess) -> Any:
    e = process.expert.init(jnp.zeros((), jnp.int32))
    return jax.vmap(lambda theta: process.expert.Q_A(theta, e).probs)(process.thetas)


RAGGED = bandit_demos(120, 6, ragged=True)


@pytest.fixture(scope="module")
def episode_fit() -> offline.Fit:
    return offline.fit(RAGGED, LatentSpec(Episode(3)), **SMALL)


@pytest.fixture(scope="module")
def markov_fit() -> offline.Fit:
    return offline.fit(bandit_demos(150, 4, switch=0.3, ragged=True), LatentSpec(Markov(2)), **SMALL)


SPECS = {
    "episode": LatentSpec(Episode(range(2, 4))),
    "markov": LatentSpec(Markov(range(2, 4))),
}


@pytest.mark.parametrize("kind", SPECS)
def test_the_log_posterior_never_decreases(kind: str):
    demos = bandit_demos(150, 6, switch=0.2, ragged=True)
    plan = layout(SPECS[kind], demos)
    runs = run_em(plan, demos, SPECS[kind].latent[0], key=KEY, starts=3, init="random", max_iterations=1, tolerance=0.0)
    rows = statistics.of_steps(plan, demos) if kind == "markov" else statistics.of_demos(plan, demos)
    blocks, sizes = em.in_blocks(rows, len(runs.K), int(runs.K.max())), jnp.asarray(runs.K)
    never, R = jnp.asarray(-jnp.inf), len(runs.K)
    progress = em.Progress(runs.parameters, jnp.full(R, -jnp.inf), jnp.zeros(R, bool), jnp.zeros(R, jnp.int32))
    objectives = []
    for _ in range(25):
        progress = em.iterate(progress, blocks, plan.free, sizes, never, jnp.asarray(1))
        objectives.append(np.asarray(progress.objective))
    rises = np.diff(objectives, axis=0)
    assert rises.min() > -2e-6 * np.abs(objectives).max()
    assert rises[0].min() > 0.1


def test_the_log_likelihood_of_an_episode_latent_equals_enumeration(episode_fit: offline.Fit):
    fit = episode_fit
    prior, expert = np.asarray(fit.process.prior, np.float64), np.exp(np.asarray(fit.tables["action"], np.float64))
    outcome = np.exp(np.asarray(fit.tables["outcome"], np.float64))
    total = 0.0
    for n in range(RAGGED.num_episodes):
        joint = prior.copy()
        for t in range(RAGGED.lengths[n]):
            a, o = RAGGED.action.values[n, t], RAGGED.observations["outcome"].values[n, t]
            joint *= expert[:, a] * outcome[:, a, o]
        total += np.log(joint.sum())
    assert fit.log_likelihood == pytest.approx(total, abs=0.01)
    assert by_process(fit, RAGGED).sum() == pytest.approx(total, abs=0.01)


def test_the_log_likelihood_of_a_markov_latent_equals_a_sum_over_paths(markov_fit: offline.Fit):
    fit, demos = markov_fit, bandit_demos(150, 4, switch=0.3, ragged=True)
    prior, transition = np.asarray(fit.process.prior), np.exp(np.asarray(fit.process.transition.log_probs))
    expert, outcome = (np.exp(np.asarray(fit.tables[x], np.float64)) for x in ("action", "outcome"))
    total = 0.0
    for n in range(demos.num_episodes):
        probability = 0.0
        for path in itertools.product(range(fit.K), repeat=int(demos.lengths[n])):
            p = prior[path[0]]
            for t, k in enumerate(path):
                a, o = demos.action.values[n, t], demos.observations["outcome"].values[n, t]
                p *= expert[k, a] * outcome[k, a, o] * (transition[path[t - 1], k] if t else 1)
            probability += p
        total += np.log(probability)
    assert fit.log_likelihood == pytest.approx(total, abs=0.01)
    assert by_process(fit, demos).sum() == pytest.approx(total, abs=0.01)


def test_padding_does_not_count(episode_fit: offline.Fit):
    padded = Demos.from_arrays(
        np.where(RAGGED.mask, RAGGED.action.values, 2),
        {"outcome": np.where(RAGGED.mask, RAGGED.observations["outcome"].values, 1)},
        lengths=RAGGED.lengths,
    )
    plan = layout(LatentSpec(), RAGGED)
    assert np.array_equal(statistics.of_demos(plan, padded).rows, statistics.of_demos(plan, RAGGED).rows)
    trimmed = Demos.from_arrays(
        [x[:n] for x, n in zip(RAGGED.action.values, RAGGED.lengths, strict=True)],
        {"outcome": [x[:n] for x, n in zip(RAGGED.observations["outcome"].values, RAGGED.lengths, strict=True)]},
    )
    assert np.array_equal(statistics.of_demos(plan, trimmed).rows, statistics.of_demos(plan, RAGGED).rows)


def test_equal_demonstrations_are_one_row_with_a_weight():
    plan = layout(LatentSpec(), RAGGED)
    merged, single = statistics.of_demos(plan, RAGGED), statistics.of_demos(plan, RAGGED, merge=False)
    assert len(merged.rows) < len(single.rows)
    assert merged.weights.sum() == len(single.rows)
    parameters = run_em(
        plan, RAGGED, Episode(2), key=KEY, starts=3, init="random", max_iterations=2, tolerance=0.0
    ).parameters
    one, other = (em.expect(parameters, em.in_blocks(rows, 3, 2)) for rows in (merged, single))
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-3)


def test_the_names_of_the_thetas_do_not_matter(episode_fit: offline.Fit):
    order = jnp.asarray([2, 0, 1])
    permuted = jax.tree.map(lambda x: x[:, order], episode_fit.parameters)
    plan = episode_fit.layout
    process = induced_process(plan, RAGGED, permuted.log_prior[0], as_tables(plan, permuted, RAGGED))
    history = {"actions": [0, 2, 0], "observations": [1, 0, 1]}
    answers = []
    for one in (episode_fit.process, process):
        belief = jnp.exp(ud.posterior(one, ud.Episodes.of(one, **history)))[-1]
        answers.append(belief @ first_actions(one))
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_labels_clamp_theta():
    demos = bandit_demos(200, 3, labels=200)
    fit = offline.fit(demos, LatentSpec(Episode(3)), **SMALL)
    actions, counts = demos.action.values, np.full((3, 3), 0.5)
    np.add.at(counts, (np.repeat(demos.labels, 3), actions.ravel()), 1)
    np.testing.assert_allclose(np.exp(fit.tables["action"]), counts / counts.sum(-1, keepdims=True), atol=1e-5)
    part = offline.fit(bandit_demos(200, 3, labels=30), LatentSpec(Episode(3)), **SMALL)
    assert (np.asarray(part.tables["action"]).argmax(-1) == np.arange(3)).all()


GOALS = np.array([0, 2, 6, 8])


def grid_demos(N: int, T: int, seed: int = 0) -> Demos:
    """Demonstrations on a 3x3 grid with four hidden goal corners, a noisy reward, and an expert who errs."""
    rng = np.random.default_rng(seed)
    theta, start = rng.integers(4, size=N), np.full(N, 4)
    cell, actions, cells, rewards = start, [], [], []
    for _ in range(T):
        row, column = cell // 3, cell % 3
        down, right = GOALS[theta] // 3 - row, GOALS[theta] % 3 - column
        best = np.where(down != 0, np.where(down > 0, 1, 0), np.where(right != 0, np.where(right > 0, 3, 2), 4))
        a = np.where(rng.random(N) < 0.15, rng.integers(5, size=N), best)
        move = np.where(rng.random(N) < 0.1, rng.integers(5, size=N), a)
        row = np.clip(row + np.array([-1, 1, 0, 0, 0])[move], 0, 2)
        column = np.clip(column + np.array([0, 0, -1, 1, 0])[move], 0, 2)
        cell = 3 * row + column
        pays = np.where(cell == GOALS[theta], 0.7, np.where(np.isin(cell, GOALS), 0.2, 0.0))
        actions.append(a)
        cells.append(cell)
        rewards.append((rng.random(N) < pays).astype(int))
    actions, cells, rewards = (np.stack(x, 1) for x in (actions, cells, rewards))
    cell_levels = {"cell": range(9), "action": range(5)}
    return Demos.from_arrays(actions, {"cell": cells, "reward": rewards}, opening={"cell": start}, levels=cell_levels)


GRID = grid_demos(250, 10)
CONTEXTS = {
    "a tied table of the transitions": LatentSpec(
        Episode(3),
        Table(given=[Last("cell"), Round(5)]),
        [Table("cell", given=[Last("cell"), "action"], tied=True), Table("reward", given=["cell"])],
    ),
    "several lags, the largest first": LatentSpec(
        Episode(2),
        Table(given=[Last("cell", 2), Last("cell"), Last("action")]),
        [Table("reward", given=["action"]), Table("cell", given=[Last("cell"), Last("reward", 2), "reward"])],
    ),
    "a theta that changes": LatentSpec(
        Markov(2), Table(given=[Last("cell")]), [Table("cell", given=["action"]), Table("reward", given=["cell"])]
    ),
}


@pytest.mark.parametrize(
    "contexts", [pytest.param(x, marks=[pytest.mark.slow] * (x != "several lags, the largest first")) for x in CONTEXTS]
)
def test_the_induced_process_has_the_log_likelihood_of_the_fit(contexts: str):
    """It has at any parameters, so that the search need not end."""
    fit = offline.fit(GRID, CONTEXTS[contexts], **SMALL | {"starts": 1, "max_iterations": 5})
    assert by_process(fit, GRID).sum() == pytest.approx(fit.log_likelihood, rel=2e-6, abs=0.02)


def test_a_tied_table_is_the_table_of_counts():
    fit = offline.fit(GRID, CONTEXTS["a tied table of the transitions"], **SMALL)
    cells = GRID.observations["cell"].values
    before = np.concatenate([GRID.opening["cell"].values[:, None], cells[:, :-1]], 1)
    counts = np.full((9, 5, 9), 0.5)
    np.add.at(counts, (before, GRID.action.values, cells), 1)
    np.testing.assert_allclose(
        np.exp(fit.tables["cell"])[0], counts / counts.sum(-1, keepdims=True), atol=1e-6, rtol=1e-5
    )


def real_demos(N: int, T: int, seed: int = 0) -> Demos:
    """Real actions around 2 or -2, and real and finite observations."""
    rng = np.random.default_rng(seed)
    theta = rng.integers(2, size=(N, 1))
    actions = 4 * theta[..., None] - 2 + rng.standard_normal((N, T, 2)) * [0.5, 1.5]
    light = (rng.random((N, T)) < 0.3 + 0.4 * theta).astype(int)
    heat = 10 + 5 * theta[..., None] + light[..., None] + rng.standard_normal((N, T, 1))
    return Demos.from_arrays(actions, {"heat": heat, "light": light})


def test_normal_mechanisms_find_means_and_scales():
    demos = real_demos(200, 5)
    spec = LatentSpec(Episode(2), Gaussian(), [Table("light"), Gaussian("heat", [Last("light")])])
    fit = offline.fit(demos, spec, **SMALL)
    mean, scale = fit.tables["action"]
    order = np.argsort(mean[:, 0])
    np.testing.assert_allclose(np.asarray(mean)[order], [[-2, -2], [2, 2]], atol=0.2)
    np.testing.assert_allclose(np.asarray(scale)[order], [[0.5, 1.5]] * 2, rtol=0.1)
    assert by_process(fit, demos).sum() == pytest.approx(fit.log_likelihood, rel=1e-5)


def test_the_unit_of_a_real_field_does_not_matter():
    """Amperes or nanoamperes."""
    rng = np.random.default_rng(0)
    theta = rng.integers(2, size=(100, 1))
    actions = (rng.random((100, 5)) < 0.2 + 0.6 * theta).astype(int)
    current = theta + 0.5 * rng.standard_normal((100, 5))
    found = []
    for unit in (1.0, 1e-9):
        fit = offline.fit(Demos.from_arrays(actions, current * unit), LatentSpec(Episode(2)), **SMALL)
        mean, scale = fit.tables["observation"]
        total = fit.log_likelihood + actions.size * np.log(unit)
        found.append((total, np.sort(mean / unit, 0), np.sort(scale / unit, 0)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_a_constant_real_field_is_refused():
    """The scale of its distribution would be that of the prior, and differ between thetas by their data alone."""
    actions, values = np.arange(40).reshape(8, 5) % 2, np.arange(40.0).reshape(8, 5, 1)
    demos = Demos.from_arrays(actions, np.concatenate([values, np.full_like(values, 0.1)], -1))
    with pytest.raises(ValueError, match=r"dimension 1 of 'observation' is 0\.1 in all rounds.*leave it out"):
        offline.fit(demos, LatentSpec(Episode(2)), **SMALL)


def test_a_real_field_given_a_finite_one_of_the_same_round_is_refused():
    spec = LatentSpec(Episode(2), Gaussian(), [Table("light"), Gaussian("heat", ["light"])])
    with pytest.raises(ValueError, match=r"'heat' .* 'light' of the same round"):
        offline.fit(real_demos(20, 5), spec, **SMALL)


def test_the_log_likelihood_of_many_demonstrations_is_exact_enough():
    demos = bandit_demos(60_000, 8)
    plan = layout(LatentSpec(), demos)
    runs = run_em(plan, demos, Episode(3), key=KEY, starts=1, init="random", max_iterations=4, tolerance=0.0)
    rows = statistics.of_demos(plan, demos)
    found = em.expect(runs.parameters, em.in_blocks(rows, 1, 3)).log_likelihood[0]
    eta, prior = (np.asarray(x, np.float64)[0] for x in (runs.parameters.eta, runs.parameters.log_prior))
    joint = rows.rows.astype(np.float64) @ eta.T + prior
    exact = rows.weights @ np.log(np.exp(joint).sum(-1))
    assert float(found) == pytest.approx(exact, rel=1e-6)


def test_the_action_has_the_name_of_its_column_too():
    frame = {"who": np.repeat(np.arange(20), 3), "arm": np.arange(60) % 2, "paid": np.arange(60) % 3 % 2}
    demos = Demos.from_frame(frame, episode="who", action="arm", observation="paid")
    one, two = (
        LatentSpec(Episode(1), Table(given=[Last(name)]), Table("paid", given=[name])) for name in ("arm", "action")
    )
    assert layout(one, demos).factors[0].contexts == layout(two, demos).factors[0].contexts
    with pytest.raises(ValueError, match=r"\['action', 'paid'\] \(in the logs 'arm'\)"):
        layout(LatentSpec(Episode(1), Table(given=[Last("hand")])), demos)


def test_values_of_theta_that_predict_nothing_are_not_chosen():
    """Copies and empty values predict as one does, to rounding, and are all within a standard error of the best."""
    rng = np.random.default_rng(4)
    demos = Demos.from_arrays(rng.integers(2, size=(400, 20)), {"outcome": rng.integers(2, size=(400, 20))})
    fit = offline.fit(demos, LatentSpec(Episode(range(1, 4))), key=jax.random.key(0), starts=3)
    assert all(c.behind[0] < 1e-3 for c in fit.candidates)
    assert fit.K == 1
    # A print of the fit has a row of each candidate, marks the chosen one, and says what a reader should know.
    head, *rows = str(fit).splitlines()[1:5]
    assert "held out" in head
    assert [row.split()[:2] for row in rows] == [["Episode", str(K)] for K in (1, 2, 3)]
    assert [row.endswith("<- chosen") for row in rows] == [True, False, False]
    assert "Note: no theta was found" in str(fit)
    by_bic = str(offline.fit(demos, LatentSpec(Episode(range(1, 3))), key=jax.random.key(0), starts=2, select="bic"))
    assert "less the least" in by_bic
    assert "Chosen is the least BIC." in by_bic


@pytest.mark.parametrize("latent", [Episode(3), pytest.param(Markov(2), marks=pytest.mark.slow)])
def test_without_pseudo_counts_nothing_is_nan(latent: Any):
    rng = np.random.default_rng(0)
    theta = rng.integers(2, size=(40, 1))
    actions = np.repeat(theta, 4, 1)  # A deterministic expert: no other action has any data.
    demos = Demos.from_arrays(
        actions, {"outcome": (rng.random((40, 4)) < 0.5).astype(int)}, levels={"action": range(3)}
    )
    spec = LatentSpec(
        latent, Table(pseudo_count=0.0), [Table("outcome", ["action", Last("outcome")], pseudo_count=0.0)]
    )
    fit = offline.fit(demos, spec, key=KEY, starts=4)
    assert np.isfinite(fit.log_likelihood)
    assert all(np.isfinite(c.held_out) for c in fit.candidates)
    assert all(np.isfinite(np.exp(x)).all() for x in fit.tables.values())
