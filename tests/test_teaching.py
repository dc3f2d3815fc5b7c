"""Teaching (Section 4.1) and why it works (Appendix A)."""

import itertools
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import undelude as ud
from processes import arm, continuous_arm, opening
from tabular_agent import TabularAgent
from undelude._agents.base import Reading, predict, predict_stepwise, with_reading
from undelude._process.episodes import AGENT, EXPERT
from undelude._teaching import updates
from undelude._teaching.loop import Loop, initial_state
from undelude._teaching.losses import log_losses
from undelude._teaching.memory import bytes_needed, naming_batch_size
from undelude._teaching.updates import collect

PRIOR = np.array([0.5, 0.3, 0.2])
EXPERT_LAW = np.array([[0.7, 0.3], [0.2, 0.8], [0.5, 0.5]])
TASK_LAW = np.array([[[0.8, 0.2], [0.4, 0.6]], [[0.3, 0.7], [0.5, 0.5]], [[0.6, 0.4], [0.1, 0.9]]])
T = 2


@pytest.fixture(scope="module")
def process():
    return ud.tasks.from_tables(prior=PRIOR, expert=EXPERT_LAW, task=TASK_LAW, num_rounds=T)


def answers(history, *, actions_are_evidence):
    """`Q(A | history)` and, for each next action, `Q(O | history, action)`, from the tables by Bayes' rule."""

    def belief(history):
        weight = PRIOR.copy()
        for a, o in history:
            weight = weight * (EXPERT_LAW[:, a] if actions_are_evidence else 1) * TASK_LAW[:, a, o]
        return weight / weight.sum()

    b = belief(history)
    after = [b * (EXPERT_LAW[:, a] if actions_are_evidence else 1) for a in (0, 1)]
    return b @ EXPERT_LAW, np.stack([(w / w.sum()) @ TASK_LAW[:, a] for a, w in enumerate(after)])


def histories():
    for t in range(T):
        yield from itertools.product(itertools.product((0, 1), (0, 1)), repeat=t)


def learned(agent, history, *, mark):
    """The agent's predictions after `history`, its actions marked `mark`."""
    m = agent.init(num_rounds=T)
    for a, o in history:
        m = agent.g_O(jnp.array(o), agent.g_A(jnp.array(a), m, intervened=mark == "do"))
    P_O = [agent.f_O(agent.g_A(jnp.array(a), m, intervened=mark == "do")).probs for a in (0, 1)]
    return np.asarray(agent.f_A(m).probs), np.stack(P_O)


def all_trajectories(executor):
    """Every `(theta, a_1, a_bar_1, o_1, ...)` of the braided distribution B as one batch of episodes."""
    rows = [
        (theta, *zip(*rounds, strict=True))
        for theta in range(3)
        for rounds in itertools.product(itertools.product((0, 1), (0, 1), (0, 1)), repeat=T)
        if executor == "agent" or all(a == a_bar for a, a_bar, _ in rounds)
    ]
    theta, a, a_bar, o = (jnp.asarray([row[i] for row in rows]) for i in range(4))
    own = executor == "agent"
    return ud.Episodes(
        theta=theta,
        opening=None,
        actions=a,
        observations=o,
        executor=jnp.full(a.shape, AGENT if own else EXPERT),
        intervened=jnp.full(a.shape, own),
        expert=ud.Categorical(log_probs=jnp.log(jnp.asarray(EXPERT_LAW))[theta][:, None].repeat(T, 1)),
        expert_actions=a_bar,
        reward=jnp.zeros(a.shape),
        mask=jnp.ones(a.shape, bool),
    )


def braided_probability(agent, episodes, executor):
    """`B(theta, a, a_bar, o) = Q(theta) prod P(a | h) Q(a_bar | theta) Q(o | theta, a)` (Appendix A)."""
    theta = episodes.theta[:, None]
    log_Q = jnp.log(PRIOR)[episodes.theta] + jnp.log(TASK_LAW)[theta, episodes.actions, episodes.observations].sum(-1)
    log_Q += jnp.log(EXPERT_LAW)[theta, episodes.expert_actions].sum(-1)
    if executor == "expert":
        return jnp.exp(log_Q)
    P_A, _ = jax.vmap(lambda e: predict_stepwise(agent, e))(episodes)
    log_P = jnp.take_along_axis(P_A.log_probs, episodes.actions[..., None], -1)[..., 0]
    return jnp.exp(log_Q + log_P.sum(-1))


def minimise(loss, agent, steps=800):
    optimizer = optax.adam(optax.cosine_decay_schedule(0.3, steps))

    def step(carry, _):
        agent, state = carry
        updates, state = optimizer.update(jax.grad(loss)(agent), state)
        return (eqx.apply_updates(agent, updates), state), None

    @jax.jit
    def run(agent):
        return jax.lax.scan(step, (agent, optimizer.init(agent)), None, length=steps)[0][0]

    return run(agent)


def test_posterior_target_needs_the_process(process):
    episode = jax.tree.map(
        lambda x: x[0], ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=1)
    )
    with pytest.raises(ValueError, match="process="):
        log_losses(ud.ExactAgent(process), episode, target="posterior")
    losses, _ = log_losses(ud.ExactAgent(process), episode, target="posterior", process=process)
    np.testing.assert_allclose(
        losses, jax.vmap(lambda p: p.entropy())(predict(ud.ExactAgent(process), episode)[0]), rtol=1e-5
    )


@pytest.mark.parametrize("target", ["sample", "distribution"])
@pytest.mark.parametrize(("executor", "mark"), [("agent", "do"), ("expert", "see")])
def test_eqs_9_and_10(process, executor, mark, target):
    """The enumerated loss of counterfactual teaching is minimal at Q(A | do(a), o) and Q(O | do(a), o).

    That of factual teaching is minimal at the conditionals; both at every history.
    """
    with jax.enable_x64(True):
        episodes = all_trajectories(executor)

        def expected_loss(agent):
            weight = jax.lax.stop_gradient(braided_probability(agent, episodes, executor))
            losses = jax.vmap(lambda e: log_losses(agent, e, target=target))(episodes)
            return sum(weight @ loss.sum(-1) for loss in losses)

        agent = jax.tree.map(lambda x: x.astype(float), TabularAgent.of(process))
        total = braided_probability(agent, episodes, executor).sum()
        np.testing.assert_allclose(total, 1.0, atol=1e-9)  # every trajectory is there
        agent = minimise(expected_loss, agent)
        for history in histories():
            for have, want in zip(
                learned(agent, history, mark=mark), answers(history, actions_are_evidence=mark == "see"), strict=True
            ):
                np.testing.assert_allclose(have, want, atol=1e-3, err_msg=str(history))


@pytest.mark.slow
def test_sampled_fit_within_standard_error(process):
    """The best fit to N sampled episodes differs from equation 9 by the sampling error of N draws."""
    N = 20_000
    start = TabularAgent.of(process)
    episodes = ud.rollout(process, start, key=jax.random.key(0), num_episodes=N)

    def loss(agent):
        return sum(x.mean() for x in jax.vmap(lambda e: log_losses(agent, e, target="sample"))(episodes))

    agent = minimise(loss, start, steps=300)
    a, o = np.asarray(episodes.actions), np.asarray(episodes.observations)
    z = []
    for history in histories():
        visits = np.ones(N, bool)
        for t, (x, y) in enumerate(history):
            visits &= (a[:, t] == x) & (o[:, t] == y)
        have, want = learned(agent, history, mark="do")[0][0], answers(history, actions_are_evidence=False)[0][0]
        z.append((have - want) / np.sqrt(want * (1 - want) / visits.sum()))
    assert np.abs(z).max() < 4
    # The deluded answer is many standard errors away, so the test could have failed.
    deluded = answers(((0, 0),), actions_are_evidence=True)[0][0] - answers(((0, 0),), actions_are_evidence=False)[0][0]
    assert abs(deluded) / np.sqrt(0.25 / N) > 10


def test_teach_meets_eq_9(process):
    """`teach` with the paper's own signal, a sampled expert action."""
    run = ud.teach(
        process,
        TabularAgent.of(process),
        ud.Counterfactual(target="sample"),
        key=jax.random.key(0),
        steps=600,
        batch_size=512,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 600)),
    )
    report = ud.certify(process, run.agent, key=jax.random.key(1), baselines=False)
    # 5 histories x 1 free parameter, fitted to at least the last 100 batches: KL about 5 / (2 * 51,200) = 5e-5.
    assert report.action_kl_do < 5e-4 < 5e-3 < report.action_kl_see


def gradient(process, agent, teaching, key, episodes=None):
    def loss(agent):
        episode = collect(process, agent, teaching, key) if episodes is None else episodes
        return sum(x.sum() for x in log_losses(agent, episode, target=teaching.target))

    return jax.tree.leaves(jax.jit(jax.grad(loss))(agent))


@pytest.mark.parametrize("target", [pytest.param("sample", marks=pytest.mark.slow), "distribution"])
def test_no_gradient_through_samples(target, monkeypatch):
    """Figure 4c: a Gaussian action has a gradient, but that of the whole graph equals that of the predictions alone.

    If the stop-gradient is removed, the two differ."""
    process, teaching, key = arm(), ud.Counterfactual(target=target), jax.random.key(3)
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    episodes = jax.jit(lambda key: collect(process, agent, teaching, key))(key)
    predictions_alone = gradient(process, agent, teaching, key, episodes)
    whole_graph = gradient(process, agent, teaching, key)
    for have, want in zip(whole_graph, predictions_alone, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    leaking = gradient(process, agent, teaching, key)
    assert max(float(jnp.abs(a - b).max()) for a, b in zip(leaking, predictions_alone, strict=True)) > 1e-2


def one_update(process, agent, teaching, **options):
    """The parameters after a step of the negative gradient, and the losses."""
    settings = {"steps": 1, "batch_size": 8, "optimizer": optax.sgd(1.0)} | options
    run = ud.teach(process, agent, teaching, key=jax.random.key(1), **settings)
    return jax.tree.leaves(run.agent), [run.metrics[0][name] for name in ("action_loss", "observation_loss")]


@pytest.mark.parametrize(
    ("make", "agent_type", "teaching"),
    [
        pytest.param(arm, ud.LSTMAgent, ud.Counterfactual(target="sample"), marks=pytest.mark.slow),
        (opening, ud.GRUAgent, ud.Mixed(0.5)),
    ],
    ids=["arm", "opening"],
)
def test_one_pass_equals_two(make, teaching, agent_type, monkeypatch):
    """Sampling and scoring in one pass is the same update as in two: both have Figure 4's stop-gradients."""
    process = make()
    agent = agent_type(process, 4, key=jax.random.key(0))
    once = one_update(process, agent, teaching)
    monkeypatch.setattr(agent_type, "predicts_stepwise", False)
    for have, want in zip(jax.tree.leaves(once), jax.tree.leaves(one_update(process, agent, teaching)), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)


def test_one_pass_of_four_functions(process):
    """The gradient of an agent without `predict` is that of `predict_stepwise`."""
    agent, key = TabularAgent.of(process), jax.random.key(1)
    teaching = ud.Counterfactual()

    def loss(agent):
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, 0), jnp.arange(8))
        episodes = jax.vmap(lambda key: collect(process, agent, teaching, key))(keys)
        return sum(x.mean() for x in jax.vmap(lambda e: log_losses(agent, e))(episodes))

    after, _ = one_update(process, agent, teaching)
    agent = with_reading(agent, Reading("do", ("do",)))
    want = jax.tree.map(lambda x, g: x - g, agent, jax.jit(jax.grad(loss))(agent))
    for a, b in zip(after, jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("agent_type", [ud.LSTMAgent, pytest.param(ud.LinearRecurrentAgent, marks=pytest.mark.slow)])
def test_microbatches_sum_to_batch(process, agent_type):
    """Losses and parameters are the same to rounding, for episodes sampled in one pass and stored ones."""
    agent = agent_type(process, 4, key=jax.random.key(0))
    whole = one_update(process, agent, ud.Counterfactual())
    parts = one_update(process, agent, ud.Counterfactual(), microbatch_size=2)
    for have, want in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="microbatch_size 3 does not divide the 4 episodes that each of 2 devices has"):
        one_update(process, agent, ud.Counterfactual(), microbatch_size=3)


def test_targets_share_expected_gradient(process):
    """Scoring the expert's distribution takes the mean of the sample's loss over a_bar exactly."""
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    episodes = all_trajectories("agent")
    weight = braided_probability(agent, episodes, "agent")

    def expected(target):
        loss = lambda agent: weight @ jax.vmap(lambda e: log_losses(agent, e, target=target)[0].sum())(episodes)  # noqa: E731
        return jax.tree.leaves(jax.jit(jax.grad(loss))(agent))

    for a, b in zip(expected("sample"), expected("distribution"), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.fixture(scope="module")
def resumable(process):
    """A compiled loop of six updates, its whole run, and the states after each row."""
    loop, states = Loop(process, ud.Counterfactual(), steps=6, batch_size=8, log_every=1), []
    begin = loop.begin(ud.LSTMAgent(process, 4, key=jax.random.key(0)))
    run = loop.run(begin, key=jax.random.key(1), on_log=lambda state, row: states.append(state))
    return loop, begin, run, states


def test_data_ignore_device_count(process, resumable, monkeypatch):
    """Each episode has its own key: one device and two compute the same run, to rounding."""
    _, begin, two, _ = resumable
    devices = jax.local_devices()
    assert len(devices) == 2
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:1])
    loop = Loop(process, ud.Counterfactual(), steps=6, batch_size=8, log_every=1)
    assert loop.mesh.size == 1
    one = loop.run(begin, key=jax.random.key(1))
    for name in ("action_loss", "observation_loss"):
        have, want = ([row[name] for row in run.metrics[:2]] for run in (one, two))
        np.testing.assert_allclose(have, want, rtol=1e-5)


def test_resumed_run_is_identical(resumable):
    """A run resumed from a state equals the whole run, bit for bit."""
    loop, _, whole, states = resumable
    rest = loop.run(states[1], key=jax.random.key(1))
    assert [row["update"] for row in rest.metrics] == [3, 4, 5, 6]
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(rest.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_inner_agent_gets_the_reading(bandit, tmp_path):
    """Teaching a `TemperedAgent` teaches the net inside, which can be saved."""
    agent = ud.TemperedAgent(ud.GRUAgent(bandit, 2, key=jax.random.key(0)), 0.5)
    net = ud.teach(bandit, agent, ud.Factual(), key=jax.random.key(1), steps=2, batch_size=4).agent.agent
    ud.save(net, tmp_path / "net")
    for taught in (net, ud.load(tmp_path / "net")):
        assert (taught.own_actions, taught.marks) == ("see", ("see",))
        with pytest.raises(ValueError, match="cannot read actions marked do"):
            taught.reading_as("do")
    assert agent.agent.marks == ("do", "see"), "the original is not changed"


@pytest.fixture(scope="module")
def factual(process):
    """An agent, and the run in which it is taught factually, with weight 0 for observations."""
    agent, teaching = ud.LSTMAgent(process, 4, key=jax.random.key(0)), ud.Factual(observation_weight=0.0)
    return agent, ud.teach(process, agent, teaching, key=jax.random.key(1), steps=2, batch_size=4)


def test_factual_agent_refuses_do(factual):
    """A factually taught agent has met no do-symbol and refuses to read one."""
    agent, run = factual
    assert (run.agent.own_actions, run.agent.marks) == ("see", ("see",))
    with pytest.raises(ValueError, match=r"cannot read actions marked do.*ud\.Counterfactual"):
        run.agent.reading_as("do")
    untouched = run.agent.interface.read_do.table == agent.interface.read_do.table
    assert bool(untouched.all())


def test_observation_weight_zero(factual):
    """Remark 18: with weight 0, the observation head is not trained."""
    agent, run = factual
    assert bool((run.agent.interface.head_O.weight == agent.interface.head_O.weight).all())
    assert not bool((run.agent.interface.head_A.weight == agent.interface.head_A.weight).all())


@pytest.mark.slow
def test_continuous_theta_is_teachable():
    """Teaching needs no exact answer; the certificate says which quantities it lacks."""
    process = continuous_arm()
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    run = ud.teach(process, agent, ud.Counterfactual(), key=jax.random.key(1), steps=2, batch_size=4)
    report = ud.certify(process, run.agent, key=jax.random.key(2), num_episodes=8)
    assert report.action_kl_do is None
    assert "continuous" in report.notes["action_kl_do"]
    assert report.reward_expert is not None
    assert report.action_calibration_gap is not None
    with pytest.raises(TypeError, match="continuous Theta"):
        ud.teach(process, agent, ud.Counterfactual(target="posterior"), key=jax.random.key(1), steps=1)


@pytest.fixture(scope="module")
def diverging(process):
    """A function that runs a loop whose losses overflow at update 8, and returns the error."""
    # Update 7 brings all parameters near the largest float, so that the losses of update 8 overflow.
    far = optax.stateless(lambda updates, params: jax.tree.map(lambda x: jnp.full_like(x, 3e38), updates))
    far = optax.conditionally_transform(far, lambda step: step == 6)
    size = {"steps": 50, "batch_size": 4, "optimizer": optax.chain(optax.sgd(1e-3), far)}
    loops = {reuse: Loop(process, ud.Counterfactual(), reuse=reuse, **size) for reuse in (1, 4)}

    def error(*, log_every, reuse=1, on_log=None):
        loop = loops[reuse]
        loop.log_every = log_every
        begin = loop.begin(ud.LSTMAgent(process, 4, key=jax.random.key(0)))
        with pytest.raises(ud.NotFinite) as caught:
            loop.run(begin, key=jax.random.key(1), on_log=on_log)
        return caught.value

    return error


def test_infinite_loss_stops_training(process, diverging):
    """The error names the right update and term, and keeps the last agent with finite losses."""
    states = {}
    at_once = diverging(log_every=1, on_log=lambda state, row: states.update({row["update"]: state}))
    # The caller has seen the row of update 7, so its state stays, and the message does not call its agent good.
    assert "the agent that is left has this loss, that of update 7." in str(at_once)
    logged = []
    error = diverging(log_every=49, on_log=lambda *log: logged.append(log))

    @jax.jit
    def losses(state):
        key = jax.random.fold_in(jax.random.key(1), state.update)
        draw = lambda i: collect(process, state.agent, ud.Counterfactual(), jax.random.fold_in(key, i))  # noqa: E731
        score = jax.vmap(lambda i: log_losses(state.agent, draw(i)))(jnp.arange(4))
        return tuple(x.mean() for x in score)

    finite = {update: np.isfinite(losses(state)) for update, state in states.items()}
    first = min(update for update, good in finite.items() if not good.all()) + 1
    assert error.update == first == 8
    names = ("action_loss", "observation_loss")
    assert error.terms == tuple(name for name, good in zip(names, finite[first - 1], strict=True) if not good)
    assert f"{' and '.join(error.terms)} stopped being finite at update {first}" in str(error)

    _, row = logged[-1]
    assert row == error.run.metrics[-1]
    assert len(logged) == 1
    assert row["update"] == int(error.run.state.update) == first - 2
    assert all(np.isfinite(row[name]) for name in names)
    for have, want in zip(jax.tree.leaves(error.run.state), jax.tree.leaves(states[first - 2]), strict=True):
        np.testing.assert_array_equal(have, want)


def test_good_state_is_between_batches(diverging):
    """With `reuse`, the good state is the start of a batch, so that a resumed run collects the same batches."""
    error = diverging(log_every=52, reuse=4)
    assert (error.update, int(error.run.state.update)) == (8, 4)


@pytest.mark.slow
def test_infinite_gradient_and_step(process, monkeypatch):
    """Each is named if the losses are finite. Training goes on if the optimiser makes the gradient finite."""
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    settings = {"key": jax.random.key(1), "steps": 5, "batch_size": 4}
    late = optax.stateless(lambda updates, params: jax.tree.map(lambda x: x * jnp.inf, updates))
    late = optax.conditionally_transform(late, lambda step: step == 3)
    with pytest.raises(ud.NotFinite, match=r"^step stopped being finite at update 4;.* is that of update 3") as caught:
        ud.teach(process, agent, ud.Counterfactual(), optimizer=optax.chain(optax.sgd(1e-3), late), **settings)
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(eqx.filter(caught.value.run.agent, eqx.is_array)))

    score = updates.score

    def steep(predictions, *args):
        zero = jnp.sqrt(0 * predictions[0].log_probs[0, 0])  # Its derivative is infinite times zero.
        return tuple(loss + zero for loss in score(predictions, *args))

    monkeypatch.setattr(updates, "score", steep)
    with pytest.raises(ud.NotFinite, match=r"^gradient stopped being finite at update 1;.* is that of update 0"):
        ud.teach(process, agent, ud.Counterfactual(), optimizer=optax.sgd(1e-3), **settings)
    forgiving = optax.chain(optax.zero_nans(), optax.sgd(1e-3))
    assert int(ud.teach(process, agent, ud.Counterfactual(), optimizer=forgiving, **settings).state.update) == 5


def test_bad_settings(no_type_checks):
    """Settings are checked before anything is compiled."""
    with pytest.raises(ValueError, match='target must be "sample"'):
        ud.Counterfactual(target="everything")
    with pytest.raises(ValueError, match="observation_weight must be"):
        ud.Factual(observation_weight=-1.0)
    process = ud.tasks.bandit()
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    for name in ("steps", "batch_size", "log_every"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
            ud.teach(process, agent, ud.Factual(), key=jax.random.key(0), **{name: 0})


def test_mismatches_are_refused(process, bandit):
    """A state of another teaching, an agent for other symbols, an untrainable agent, a batch for an episode."""
    agent = ud.LSTMAgent(process, 4, key=jax.random.key(0))
    state = initial_state(agent, ud.Factual(), optax.sgd(0.1))
    with pytest.raises(ValueError, match="marks actions see, and counterfactual marks them do"):
        ud.teach(process, agent, ud.Counterfactual(), key=jax.random.key(0), state=state, optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match="bandit has actions of 5 symbols, but this LSTMAgent predicts 2"):
        ud.teach(bandit, agent, ud.Counterfactual(), key=jax.random.key(0))
    with pytest.raises(TypeError, match="ExactAgent has nothing to learn"):
        ud.teach(process, ud.ExactAgent(process), ud.Counterfactual(), key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"scores one episode; for a batch: jax\.vmap"):
        log_losses(agent, ud.rollout(process, agent, key=jax.random.key(0), num_episodes=2))


@pytest.mark.parametrize("name", ["own_actions", "marks"])
def test_marks_are_not_redefined(name):
    """A second `own_actions` would not follow `reading`; do could then not be refused after factual teaching."""
    body = dict.fromkeys(("init", "f_A", "f_O", "g_A", "g_O"), lambda self: None) | {name: "do"}
    careless = types.new_class("Careless", (ud.AbstractAgent,), exec_body=lambda namespace: namespace.update(body))
    with pytest.raises(TypeError, match=f"Careless must not define {name}"):
        careless()


def test_batch_too_large_for_the_memory_is_named():
    """Before it is run: Linux would end the process without a word. XLA's own error about memory is replaced."""

    def compiled(size):
        return jax.jit(lambda x: jnp.sort(jnp.arange(size, dtype=float) * x).sum()).lower(jnp.float32(1)).compile()

    large, small, devices = compiled(2**42), compiled(16), jax.local_devices()
    message = r"batch_size 9 needs about \d+\.\d GB, of \d+\.\d GB: use a smaller one, or a microbatch_size"
    with pytest.raises(MemoryError, match=message), naming_batch_size(9, bytes_needed(large), devices):
        pytest.fail("it would run")
    with naming_batch_size(9, bytes_needed(small), devices):
        pass
    with (
        pytest.raises(MemoryError, match="batch_size 9 needs about"),
        naming_batch_size(9, bytes_needed(small), devices),
    ):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 77 bytes.")
    with pytest.raises(jax.errors.JaxRuntimeError), naming_batch_size(9, bytes_needed(small), devices):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
