"""Latents and mechanisms beyond tables: hypotheses of the user's own, networks, known functions, demonstrators."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude import offline
from undelude.offline import Demos, Episode, Hypotheses, Known, Last, LatentSpec, Markov, Network, Table, Training
from undelude.offline._model.evidence import as_episodes, log_evidence
from undelude.offline._model.hypotheses import learn_weights

KEY = jax.random.key(0)


class Outcomes(ud.AbstractTask):
    """`Q(o | theta, a)` from a table."""

    log_probs: jax.Array

    def init(self, theta):
        return jnp.zeros((), jnp.int32)

    def Q_O(self, theta, w):
        return ud.Categorical(log_probs=self.log_probs[theta, w])

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return o.astype(float)


class Plays(ud.AbstractExpert):
    """`Q(a | theta)` from a table."""

    log_probs: jax.Array

    def init(self, theta):
        return jnp.zeros(())

    def Q_A(self, theta, e):
        return ud.Categorical(log_probs=self.log_probs[theta])

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e


def process_of(prior, expert, outcomes, name: str, num_rounds: int = 1) -> ud.InteractionProcess:
    task, plays = Outcomes(jnp.log(jnp.asarray(outcomes))), Plays(jnp.log(jnp.asarray(expert)))
    return ud.InteractionProcess(prior, jnp.arange(len(prior)), task, plays, num_rounds, name=name)


# Remark 1: the expert opens the box that holds the prize; or the box that is opened comes to hold it.
RIGHT = [[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]
KNOWS = process_of([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], RIGHT, "Theta -> A")
MAKES = process_of([1.0], [[0.5, 0.5]], [[[0.0, 1.0], [0.0, 1.0]]], "A -> Theta")


def passive(N: int = 40) -> Demos:
    actions = np.random.default_rng(0).integers(2, size=(N, 1))
    return Demos.from_arrays(actions, np.ones((N, 1), int), levels={"action": range(2), "observation": range(2)})


def order_beliefs(process: ud.InteractionProcess, **history) -> float:
    belief = jnp.exp(ud.posterior(process, ud.Episodes.of(process, **history))[-1])
    return float(belief[process.thetas.hypothesis == 1].sum())


@pytest.mark.parametrize("holds", ["always", "episode"])
def test_remark_1_two_orders(holds: str):
    fit = offline.fit(passive(), LatentSpec(Hypotheses([KNOWS, MAKES], holds=holds)), key=KEY)
    assert fit.weights == pytest.approx({"Theta -> A": 0.5, "A -> Theta": 0.5})  # Both explain what was seen.
    process = fit.process
    agent = ud.ExactAgent(process)
    m = agent.g_A(jnp.asarray(1), agent.init(num_rounds=1), intervened=True)
    assert float(agent.f_O(m).probs[1]) == pytest.approx(3 / 4)
    assert order_beliefs(process, actions=[1], observations=[1]) == pytest.approx(2 / 3)
    assert order_beliefs(process, actions=[1], observations=[0]) == pytest.approx(0, abs=1e-6)
    assert order_beliefs(process, actions=[1], observations=[1], intervened=False) == pytest.approx(1 / 2)


def hypothetical(bias: float, name: str) -> ud.InteractionProcess:
    outcomes = np.full((2, 2, 2), bias)
    outcomes[..., 1] = 1 - bias
    return process_of([0.3, 0.7], [[0.9, 0.1], [0.2, 0.8]], outcomes, name, num_rounds=3)


def test_the_evidence_of_a_hypothesis_is_the_sum_over_its_thetas():
    process, rng = hypothetical(0.3, "one"), np.random.default_rng(0)
    a, o = rng.integers(2, size=(2, 5, 3))
    demos = Demos.from_arrays(a, o, lengths=[3, 2, 1, 3, 3], levels={"action": range(2), "observation": range(2)})
    expert, outcome = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.3, 0.7])
    for n, found in enumerate(log_evidence(process, demos)):
        joint = np.array([0.3, 0.7])
        for t in range(demos.lengths[n]):
            joint = joint * expert[:, a[n, t]] * outcome[o[n, t]]
        assert found == pytest.approx(np.log(joint.sum()), abs=1e-5)


def test_weights_are_those_of_the_mixture_or_the_posterior():
    rng = np.random.default_rng(1)
    mine = rng.random(400) < 0.25
    log_likelihoods = np.where(mine[:, None], [0.0, -3.0], [-3.0, 0.0])
    share = learn_weights([0.5, 0.5], log_likelihoods, "episode")
    # The maximum: sum_n (L_n0 - L_n1) / (w L_n0 + (1 - w) L_n1) = 0.
    likelihoods = np.exp(log_likelihoods)
    assert ((likelihoods[:, 0] - likelihoods[:, 1]) / (likelihoods @ share)).sum() == pytest.approx(0, abs=1e-3)
    posterior = learn_weights([0.9, 0.1], np.array([[-1.0, -2.0], [-1.5, -1.0]]), "always")
    assert posterior[0] / posterior[1] == pytest.approx(9 * np.exp(0.5))


def test_a_learned_hypothesis_beside_the_users():
    wrong, rng = hypothetical(0.9, "wrong"), np.random.default_rng(2)
    theta = rng.integers(2, size=(200, 1))
    a = np.where(rng.random((200, 3)) < 0.8, theta, 1 - theta)
    o = (rng.random((200, 3)) < 0.7).astype(int)
    demos = Demos.from_arrays(a, o)
    fit = offline.fit(demos, LatentSpec(Hypotheses([wrong], beside=Episode(2))), key=KEY, starts=3)
    assert fit.weights["learned"] > 0.999
    assert fit.process.num_thetas == 4
    assert np.isfinite(log_evidence(fit.process, demos)).all()
    with pytest.raises(ValueError, match="the fit has Hypotheses, and bounds are for tables"):
        offline.diagnose(fit, demos)


def test_hypotheses_that_do_not_fit_together_are_refused():
    other = process_of([1.0], [[0.2, 0.3, 0.5]], np.full((1, 3, 2), 0.5), "three arms")
    with pytest.raises(ValueError, match="three arms has 3 symbols as actions"):
        Hypotheses([KNOWS, other])
    with pytest.raises(ValueError, match="two hypotheses are needed"):
        Hypotheses([KNOWS])
    with pytest.raises(ValueError, match=r"Theta -> A has 2 actions, but the demonstrations have 3"):
        as_episodes(KNOWS, Demos.from_arrays([[0, 2]], [[0, 1]], levels={"action": range(3)}))
    demos = Demos.from_arrays([[0, 1]], [[1, 0]], levels={"action": range(2)})
    labelled = dataclasses.replace(demos, labels=np.zeros(1, np.int32))
    with pytest.raises(ValueError, match=r"have labels, .* leave the labels out"):
        offline.fit(labelled, LatentSpec(Hypotheses([KNOWS, MAKES])), key=KEY)
    with pytest.raises(ValueError, match="no hypothesis allows all"):
        offline.fit(demos, LatentSpec(Hypotheses([KNOWS, MAKES])), key=KEY)


def skilled(N: int, seed: int) -> Demos:
    """Demonstrations of a bandit with three arms by a novice, who is right in .4 of the rounds, and a master, in .8."""
    rng = np.random.default_rng(seed)
    theta, master = rng.integers(3, size=(N, 1)), rng.random((N, 1)) < 0.5
    right = rng.random((N, 12)) < np.where(master, 0.8, 0.4)
    a = np.where(right, theta, (theta + rng.integers(1, 3, size=(N, 12))) % 3)
    o = (rng.random((N, 12)) < np.where(a == theta, 0.9, 0.2)).astype(int)
    return Demos.from_arrays(a, o, demonstrator=np.where(master[:, 0], "master", "novice"))


@pytest.mark.slow
def test_demonstrators_of_different_skill_share_one_theta():
    demos = skilled(500, 0)
    spec = LatentSpec(Episode(3), Table(given=["demonstrator"]))
    settings = {"key": KEY, "starts": 6, "select": "bic"}
    with pytest.raises(ValueError, match="'master', 'novice'"):
        offline.fit(demos, spec, **settings)
    skills = {}
    for name in ("master", "novice"):
        fit = offline.fit(demos, spec, imitate=name, **settings)
        expert = jax.vmap(lambda k, p=fit.process: p.expert.Q_A(k, p.expert.init(k)).probs)(fit.process.thetas)
        skills[name] = float(expert.max(-1).mean())
        own = demos.subset(demos.demonstrator.values == demos.demonstrator.levels.index(name))
        table = np.exp(fit.tables["action"][:, demos.demonstrator.levels.index(name)])
        np.testing.assert_allclose(expert, table, atol=1e-6)
        assert np.isfinite(log_evidence(fit.process, own)).all()
    # Standard errors: .4 / sqrt(1000 rounds of one theta) = .013.
    assert skills == pytest.approx({"master": 0.8, "novice": 0.4}, abs=0.05)
    with pytest.raises(ValueError, match="the same for all demonstrators"):
        offline.fit(demos, LatentSpec(Episode(3)), imitate="master", **settings)
    nature = LatentSpec(Episode(3), None, Table("observation", ["demonstrator", "action"]))
    with pytest.raises(ValueError, match="only the expert depends on who acts"):
        offline.fit(demos, nature, **settings)


def lines(N: int, seed: int = 0) -> tuple[Demos, np.ndarray]:
    """Demonstrations on a line: an expert walks to -1 or 1, a light says which side is right, and moves may fail."""
    rng = np.random.default_rng(seed)
    theta, x = rng.integers(2, size=N), np.zeros(N)
    actions, places, lights = [], [], []
    for _ in range(6):
        a = np.where(rng.random(N) < 0.1, rng.normal(0, 2, N), 0.5 * (2 * theta - 1 - x) + rng.normal(0, 0.1, N))
        x = x + np.clip(a, -1, 1)
        lights.append((rng.random(N) < np.where((x > 0) == theta, 0.9, 0.2)).astype(int))
        actions.append(a)
        places.append(x)
    actions, places = np.stack(actions, 1)[..., None], np.stack(places, 1)[..., None]
    fields = {"light": np.stack(lights, 1), "place": places}
    return Demos.from_arrays(actions, fields, lengths=rng.integers(3, 7, N)), theta


def walk(last, a):
    return last + jnp.clip(a, -1, 1)


LINE = LatentSpec(
    Episode(2),
    Network(given=[Last("place"), Last("action"), Last("light")], outliers=True, width=16),
    [Known("place", walk, [Last("place"), "action"], start=[0.0]), Network("light", ["place"], width=16)],
)


@pytest.fixture(scope="module")
def line_fit() -> offline.Fit:
    return offline.fit(lines(160)[0], LINE, key=KEY, starts=2, training=Training(epochs=25, learning_rate=1e-2))


def test_networks_find_theta_and_the_induced_process_has_their_likelihood(line_fit: offline.Fit):
    demos, theta = lines(160)
    assert log_evidence(line_fit.process, demos).sum() == pytest.approx(line_fit.log_likelihood, rel=1e-4)
    fresh, theta = lines(60, seed=1)
    belief = np.asarray(ud.posterior(line_fit.process, as_episodes(line_fit.process, fresh)))[:, -1].argmax(-1)
    assert max((belief == theta).mean(), (belief != theta).mean()) > 0.95
    # The light under theta at a place: .9 on its side and .2 on the other.
    task, thetas = line_fit.process.task, jnp.arange(2)
    w = task.init(thetas[0])
    lights = [
        jax.vmap(lambda k, move=move: task.Q_O(k, task.g_A(k, jnp.asarray([move]), w)).parts["light"].probs[1])(thetas)
        for move in (-0.9, 0.9)
    ]
    one = np.asarray(lights).T
    one = one if one[0, 0] > 0.5 else one[::-1]
    np.testing.assert_allclose(np.diag(one), 0.9, atol=0.07)
    # The expert is rarely on the wrong side, so that there are few data.
    np.testing.assert_allclose(np.diag(one[::-1]), 0.2, atol=0.25)


def test_own_moves_are_no_evidence_for_an_agent_with_networks(line_fit: offline.Fit):
    process, agent = line_fit.process, ud.ExactAgent(line_fit.process)
    m = agent.g_A(jnp.asarray([0.8]), agent.init(num_rounds=6), intervened=True)
    np.testing.assert_allclose(jnp.exp(agent.belief(m)), process.prior, atol=1e-6)
    light = agent.g_O({"light": jnp.asarray(1), "place": jnp.asarray([0.8])}, m)
    assert float(jnp.abs(jnp.exp(agent.belief(light)) - process.prior).max()) > 0.15


def test_a_gradient_step_is_a_step_on_the_marginal_likelihood():
    rng = np.random.default_rng(0)
    table, prior = jnp.asarray(rng.normal(size=(3, 4))), jnp.log(jnp.asarray([0.2, 0.3, 0.5]))
    counts = jnp.asarray(rng.integers(4, size=(5, 4)), float)

    def joint(table):
        return counts @ jax.nn.log_softmax(table).T + prior[None]

    r = jax.nn.softmax(joint(table))
    marginal = jax.grad(lambda x: jax.nn.logsumexp(joint(x), -1).sum())(table)
    np.testing.assert_allclose(marginal, jax.grad(lambda x: (r * joint(x)).sum())(table), rtol=1e-4, atol=1e-5)


def test_what_networks_cannot_do_is_refused():
    demos, _ = lines(20)
    light, place = Network("light", ["place"]), Known("place", walk, [Last("place"), "action"], start=[0.0])
    with pytest.raises(ValueError, match="not to Markov"):
        offline.fit(demos, LatentSpec(Markov(2), LINE.expert, [place, light]), key=KEY)
    with pytest.raises(ValueError, match="select='bic'"):
        offline.fit(demos, LINE, key=KEY, select="bic")
    wrong = Known("place", walk, [Last("place"), "action"], start=[1.0])
    with pytest.raises(ValueError, match=r"Known\(place\): the function returns .* episode 0, round 0"):
        offline.fit(demos, LatentSpec(Episode(2), LINE.expert, [wrong, light]), key=KEY)
    random = Network("place", [Last("place"), "action"])
    with pytest.raises(ValueError, match="'light' is given 'place' of the same round"):
        offline.fit(demos, LatentSpec(Episode(2), LINE.expert, [random, light]), key=KEY)
    with pytest.raises(ValueError, match="declare a Network"):
        offline.fit(demos, LatentSpec(Episode(2), LINE.expert, [place, Table("light", ["place"])]), key=KEY)
    with pytest.raises(ValueError, match="names no context"):
        Network("light")


def test_an_opening_of_one_side_alone_is_refused():
    """A hypothesis would read the first level as the opening of all logs, or ignore that of the logs."""
    demos = Demos.from_arrays([[0, 1], [1, 0]], [[0, 1], [1, 0]], opening=[0, 1])
    with pytest.raises(ValueError, match=r"the demonstrations have an observation before .* not the process"):
        log_evidence(KNOWS, demos)


def test_a_fit_with_a_known_function_begins_again(tmp_path: Path):
    """What a function does is not in its name, so that starts of another one would be taken for those of this."""
    rng = np.random.default_rng(0)
    actions = rng.integers(2, size=(20, 4))
    demos = Demos.from_arrays(actions, {"place": np.cumsum(actions, 1).astype(float)}, reals=["place"])
    place = Known("place", lambda last, a: last + a, [Last("place"), "action"], start=[0.0])
    spec = LatentSpec(Episode(2), Table(), [place])
    offline.fit(demos, spec, key=KEY, starts=2, select="bic", max_iterations=5, checkpoint=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
