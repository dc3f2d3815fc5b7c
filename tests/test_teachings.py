"""The teachings (Section 4.1, Remarks 13 to 18, Appendix A): their executors, marks and limits.

A second implementation, in NumPy, enumerates the trajectories of a teaching with their probabilities. `collect` must
sample from this distribution, and the limit that theory gives must minimise the library's loss over it.
"""

import dataclasses
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import undelude as ud
from processes import arm, opening
from tabular_agent import TabularAgent, WindowAgent
from undelude._agents.base import with_reading
from undelude._process.episodes import AGENT, EXPERT
from undelude._rollout.scan import run_episode
from undelude._teaching.losses import log_losses
from undelude._teaching.updates import collect

PRIOR = np.array([0.5, 0.3, 0.2])
EXPERT_LAW = np.array([[0.7, 0.3], [0.2, 0.8], [0.4, 0.6]])
TASK_LAW = np.array([[[0.8, 0.2], [0.4, 0.6]], [[0.3, 0.7], [0.5, 0.5]], [[0.6, 0.4], [0.1, 0.9]]])
T = 3
BLIND = np.array([0.8, 0.2])
SETTINGS = {
    "counterfactual": ud.Counterfactual(),
    "factual": ud.Factual(),
    "mixed": ud.Mixed(0.3),
    "blind": ud.Blind(ud.Categorical(probs=BLIND)),
    "cloning": ud.Cloning(),
    "dagger": ud.DAgger(0.4),
    "dagger per episode": ud.DAgger(0.4, per="episode"),
}


@pytest.fixture(scope="module")
def process():
    return ud.tasks.from_tables(prior=PRIOR, expert=EXPERT_LAW, task=TASK_LAW, num_rounds=T)


# The streams and their limits, from Section 4.1 and Remark 17 ----------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Truth:
    """A teaching as the enumeration takes it."""

    share: float
    per: str = "step"
    marked: bool = True
    behaviour: np.ndarray | None = None


TRUTHS = {
    "counterfactual": Truth(0.0),
    "factual": Truth(1.0),
    "mixed": Truth(0.3),
    "blind": Truth(0.0, behaviour=BLIND),
    "cloning": Truth(1.0, marked=False),
    "dagger": Truth(0.4, marked=False),
    "dagger per episode": Truth(0.4, per="episode", marked=False),
}


def limit(truth, history, *, per=None):
    """`Q(A | h)` in the limit; a history is a tuple of `(a, o, done)`, with `done` False if nothing is marked."""
    per = truth.per if per is None else per
    nature, pi, own = PRIOR.copy(), np.ones(3), 1.0
    steps = np.ones(3)
    for t, (a, o, done) in enumerate(history):
        nature *= TASK_LAW[:, a, o]
        pi *= EXPERT_LAW[:, a]
        if truth.marked:
            steps *= 1 if done else EXPERT_LAW[:, a]
        else:
            own_now = limit(truth, history[:t], per=per)[a] if truth.share < 1 else 0.0
            own *= own_now
            steps *= truth.share * EXPERT_LAW[:, a] + (1 - truth.share) * own_now
    factor = steps if truth.marked or per == "step" else truth.share * pi + (1 - truth.share) * own
    belief = nature * factor
    return belief / belief.sum() @ EXPERT_LAW


def stream(truth, policy):
    """All trajectories `(theta, by_expert, a, a_bar, o)` of T rounds and their probabilities.

    `policy(history)` is the agent's; histories as in `limit`.
    """
    rounds = [(x, a, b, o) for x, a, b, o in itertools.product((0, 1), repeat=4) if not x or a == b]
    rows, probabilities = [], []
    for theta, path in itertools.product(range(3), itertools.product(rounds, repeat=T)):
        turns = [x for x, *_ in path]
        if truth.per == "step":
            p = np.prod([truth.share if x else 1 - truth.share for x in turns])
        else:
            p = (truth.share if turns[0] else 1 - truth.share) if len(set(turns)) == 1 else 0.0
        if p == 0:
            continue
        p *= PRIOR[theta]
        history = ()
        for x, a, b, o in path:
            distribution = policy(history) if truth.behaviour is None else truth.behaviour
            p *= EXPERT_LAW[theta, b] * TASK_LAW[theta, a, o] * (1 if x else distribution[a])
            history += ((a, o, truth.marked and not x),)
        rows.append((theta, *zip(*path, strict=True)))
        probabilities.append(p)
    columns = [np.array([row[i] for row in rows]) for i in range(5)]
    probabilities = np.array(probabilities)
    np.testing.assert_allclose(probabilities.sum(), 1.0)
    return columns, probabilities


def as_episodes(truth, columns):
    theta, x, a, b, o = map(jnp.asarray, columns)
    by_expert = x == 1
    return ud.Episodes(
        theta=theta,
        opening=None,
        actions=a,
        observations=o,
        executor=jnp.where(by_expert, EXPERT, AGENT),
        intervened=~by_expert if truth.marked else jnp.zeros_like(by_expert),
        expert=ud.Categorical(log_probs=jnp.log(jnp.asarray(EXPERT_LAW))[theta][:, None].repeat(T, 1)),
        expert_actions=b,
        reward=jnp.zeros(a.shape),
        mask=jnp.ones(a.shape, bool),
    )


def tabular(process, distribution):
    """The tabular agent that predicts `distribution(history)` at every history of at most two rounds."""
    agent = TabularAgent.of(process)
    logits = np.zeros(agent.logits_A.shape)
    for t in range(T):
        for history in itertools.product(itertools.product((0, 1), (0, 1), (False, True)), repeat=t):
            logits[node(agent, history)] = np.log(distribution(history))
    return eqx.tree_at(lambda agent: agent.logits_A, agent, jnp.asarray(logits))


def node(agent, history):
    A, O = agent.logits_A.shape[1], agent.logits_O.shape[1]
    m = 0
    for a, o, done in history:
        m = (m * 2 * A + A * done + a) * O + o + 1
    return m


def some_policy(history):
    """Another distribution at every history."""
    p = 0.2 + 0.6 * ((1 + sum((2 + t) * (a + 2 * o + 3 * done) for t, (a, o, done) in enumerate(history))) % 7) / 7
    return np.array([p, 1 - p])


# Executors and marks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SETTINGS)
def test_collect_follows_the_setting(process, name):
    """Trajectories occur with their enumerated probabilities (Pearson's chi-squared), with the right marks."""
    teaching, truth, N = SETTINGS[name], TRUTHS[name], 20_000
    agent = with_reading(tabular(process, some_policy), teaching.reading)
    draw = jax.jit(jax.vmap(lambda key: collect(process, agent, teaching, key)))
    drawn = draw(jax.random.split(jax.random.key(0), N))
    by_expert = np.asarray(drawn.executor) == EXPERT
    np.testing.assert_array_equal(drawn.intervened, ~by_expert if truth.marked else np.zeros_like(by_expert))

    def number(theta, *rounds):
        digits = [theta, *(np.asarray(column)[:, t] for column in rounds for t in range(2))]
        return np.ravel_multi_index([np.asarray(digit, int) for digit in digits], (3, *(2,) * 8))

    columns, probabilities = stream(truth, some_policy)
    # The first two rounds: enough for turns, marks and memory, and few enough cells to be well filled.
    expected = N * np.bincount(number(*columns), probabilities, minlength=3 * 2**8)
    counts = np.bincount(
        number(drawn.theta, by_expert, drawn.actions, drawn.expert_actions, drawn.observations), minlength=3 * 2**8
    )
    assert counts[expected == 0].sum() == 0
    filled = expected >= 5
    chi2 = ((counts - expected)[filled] ** 2 / expected[filled]).sum()
    assert abs(chi2 - filled.sum()) < 5 * np.sqrt(2 * filled.sum())


# Limits -----------------------------------------------------------------------------------------------------------


def gradient_at(process, truth, distribution, *, target="distribution"):
    """The largest gradient of the expected action loss, at the agent that predicts and executes `distribution`."""
    with jax.enable_x64(True):
        columns, probabilities = stream(truth, distribution)
        agent = jax.tree.map(lambda x: x.astype(float), tabular(process, distribution))
        episodes = as_episodes(truth, columns)

        def loss(agent):
            return jnp.asarray(probabilities) @ jax.vmap(lambda e: log_losses(agent, e, target=target)[0].sum())(
                episodes
            )

        return float(jnp.abs(jax.jit(jax.grad(loss))(agent).logits_A).max())


# Mixtures of the others, beside "dagger per episode".
MIXTURES = {"mixed", "dagger"}


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x in MIXTURES)) for x in SETTINGS])
def test_limit_minimises_the_loss(process, name):
    """The gradient is 0 at Q(A | do(a), o), Q(A | a, o), the mixed answers, and Remark 17's limits without marks.

    The loss is convex in the logits, so a point with gradient 0 is its minimum.
    """
    truth = TRUTHS[name]
    assert gradient_at(process, truth, lambda history: limit(truth, history)) < 1e-12
    # The nearest other limit is not a minimum.
    other = {
        "counterfactual": Truth(1.0, marked=False),
        "factual": Truth(0.0, marked=False),
        "mixed": Truth(0.3, marked=False),
        "blind": Truth(1.0, marked=False),
        "cloning": Truth(0.0, marked=False),
        "dagger": Truth(0.4, per="episode", marked=False),
        "dagger per episode": Truth(0.4, marked=False),
    }[name]
    assert gradient_at(process, truth, lambda history: limit(other, history)) > 1e-4


@pytest.mark.slow
def test_teach_meets_dagger_limit(process):
    """Taught per step, the policy is near the unmarked limit at every history, and far from both answers."""
    run = ud.teach(
        process,
        TabularAgent.of(process),
        ud.DAgger(0.5),
        key=jax.random.key(0),
        steps=500,
        batch_size=512,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.1, 500)),
    )
    P = jax.nn.softmax(run.agent.logits_A)
    histories = list(itertools.product(itertools.product((0, 1), (0, 1), (False,)), repeat=2))
    have = np.array([P[node(run.agent, history)] for history in histories])

    def distance(share):
        want = np.array([limit(Truth(share, marked=False), history) for history in histories])
        return np.abs(have - want).sum(-1).max() / 2

    # 16 histories share some 100 batches of 512: a standard error of .15 / sqrt(3200) = .003.
    assert distance(0.5) < 0.012
    assert distance(0.0) > 0.1
    assert distance(1.0) > 0.1


def test_both_directions_of_kl():
    """Forward KL gives the posterior predictive, reverse KL the geometric mean, which is overconfident."""
    belief, distribution = np.array([0.7, 0.2, 0.1]), np.full((3, 3), 1e-4) + (1 - 3e-4) * np.eye(3)
    process = ud.tasks.from_tables(prior=belief, expert=distribution, task=np.full((3, 3, 2), 0.5), num_rounds=1)
    predictive = belief @ distribution
    geometric = np.exp(belief @ np.log(distribution))
    geometric /= geometric.sum()
    assert geometric[0] > 0.98  # where the posterior says .7
    start = TabularAgent.of(process)
    episodes = ud.rollout(process, None, key=jax.random.key(0), num_episodes=3, executor="expert")
    episodes = dataclasses.replace(
        episodes, expert=ud.Categorical(log_probs=jnp.log(jnp.asarray(distribution))[:, None])
    )

    for target, want in (("distribution", predictive), ("reverse", geometric)):

        def loss(agent, target=target):
            return jnp.asarray(belief) @ jax.vmap(lambda e: log_losses(agent, e, target=target)[0].sum())(episodes)

        optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 600))

        def step(carry, _, loss=loss, optimizer=optimizer):
            agent, state = carry
            updates, state = optimizer.update(jax.grad(loss)(agent), state)
            return (eqx.apply_updates(agent, updates), state), None

        run = jax.jit(lambda agent, step=step: jax.lax.scan(step, agent, None, length=600)[0][0])
        agent = run((start, optimizer.init(start)))
        np.testing.assert_allclose(jax.nn.softmax(agent.logits_A[0]), want, atol=1e-3)


def fitted(episodes, rounds):
    """The best prediction of the expert's third action from the last `rounds` rounds.

    It is the mean of the expert's distributions over the episodes that agree on these rounds.
    """
    distributions = np.asarray(episodes.expert.probs)[:, 2]
    a, o = np.asarray(episodes.actions), np.asarray(episodes.observations)
    code = np.zeros(len(distributions), int)
    for t in range(2 - rounds, 2):
        code = 4 * code + 2 * a[:, t] + o[:, t]
    sums = np.stack([np.bincount(code, distributions[:, i], minlength=4**rounds) for i in (0, 1)], -1)
    return (sums + 0.5) / (sums + 0.5).sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def errors(process):
    """`E KL(Q(A_3 | do(a), o) || P)`, nats, for uniform actions, by setting, episodes and rounds of memory."""
    histories = list(itertools.product(itertools.product((0, 1), (0, 1)), repeat=2))
    done = [tuple((a, o, True) for a, o in history) for history in histories]
    answer = np.array([limit(Truth(0.0), history) for history in done])
    weight = np.array([PRIOR @ np.prod([TASK_LAW[:, a, o] / 2 for a, o in h], axis=0) for h in histories])
    found = {}
    for name in ("cloning", "counterfactual"):
        teaching = SETTINGS[name]
        agent = with_reading(TabularAgent.of(process), teaching.reading)
        draw = jax.jit(jax.vmap(lambda key, agent=agent, teaching=teaching: collect(process, agent, teaching, key)))
        episodes = draw(jax.random.split(jax.random.key(1), 100_000))
        for n in (1_000, 10_000, 100_000):
            for rounds in (0, 1, 2):
                table = fitted(jax.tree.map(lambda x, n=n: x[:n], episodes), rounds)
                codes = [sum((2 * a + o) * 4 ** (1 - t) for t, (a, o) in enumerate(h)) % 4**rounds for h in histories]
                found[name, n, rounds] = weight @ (answer * np.log(answer / table[codes])).sum(-1)
    return found


def test_remark_17_error_of_cloning(errors):
    """The bias of cloning does not shrink with a hundred times the data, or with more memory."""
    by_data = [errors["cloning", n, 2] for n in (1_000, 10_000, 100_000)]
    by_size = [errors["cloning", 100_000, rounds] for rounds in (0, 1, 2)]
    assert min(by_data) > 0.75 * max(by_data) > 5e-3
    assert by_size[2] > by_size[0]
    by_data = [errors["counterfactual", n, 2] for n in (1_000, 10_000, 100_000)]
    by_size = [errors["counterfactual", 100_000, rounds] for rounds in (0, 1, 2)]
    assert by_data[0] > 3 * by_data[1] > 9 * by_data[2]
    assert by_size[0] > by_size[1] > by_size[2]
    assert by_size[2] < 1e-4


def test_remark_17_theta_shown():
    """If O_0 shows theta, cloning and counterfactual teaching learn the same distribution of the third action.

    If O_0 only hints at theta, they differ: the expert's actions are then evidence.
    """

    @eqx.filter_jit
    def draw(process, teaching):
        agent = with_reading(ud.LSTMAgent(process, 2, key=jax.random.key(0)), teaching.reading)
        return jax.vmap(lambda key: collect(process, agent, teaching, key))(jax.random.split(jax.random.key(1), 20_000))

    def third(telling, teaching):
        """The mean of the expert's third distributions over the episodes that agree on O_0, A_1 and A_2; `[8]`."""
        episodes = jax.tree.map(np.asarray, draw(opening(telling=telling, num_rounds=3), teaching))
        code = 4 * episodes.opening + 2 * episodes.actions[:, 0] + episodes.actions[:, 1]
        distributions = np.exp(episodes.expert.log_probs)[:, 2, 0]
        return np.bincount(code, distributions, minlength=8) / np.bincount(code, minlength=8)

    shown, hinted = (third(telling, ud.Cloning()) - third(telling, ud.Counterfactual()) for telling in (1.0, 0.6))
    np.testing.assert_allclose(shown, 0, atol=1e-6)
    assert np.abs(hinted).max() > 0.3


# Interventional fine-tuning ---------------------------------------------------------------------------------------


def test_interventional_learns_what_the_writer_knew():
    """Of one round: P(o | do(a)) from own transcripts, P(o | a) from the expert's. The policy is not taught."""
    process = ud.tasks.from_tables(prior=PRIOR, expert=EXPERT_LAW, task=TASK_LAW, num_rounds=1)
    model = process.causal_model()
    # A policy that teaching would move.
    start = eqx.tree_at(lambda x: x.logits_A, TabularAgent.of(process), replace_fn=lambda x: x.at[:, 0].set(1.0))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, 200))
    size = {"key": jax.random.key(0), "steps": 200, "batch_size": 1024, "optimizer": optimizer}
    for share, how in ((0.0, "do"), (1.0, "see")):
        taught = ud.teach(process, start, ud.Interventional(share), **size).agent
        want = [model.query("O_1", **{how: {"A_1": a}}) for a in (0, 1)]
        # The row of a history and of an action that is not marked; the first history is empty.
        have = [taught.f_O(taught.g_A(a, taught.init(num_rounds=1), intervened=False)).probs for a in (0, 1)]
        np.testing.assert_allclose(have, want, atol=0.01)
        np.testing.assert_array_equal(taught.logits_A, start.logits_A)


def test_a_teaching_teaches_something():
    with pytest.raises(ValueError, match="interventional: action_weight and observation_weight are both 0"):
        ud.Interventional(observation_weight=0.0)


# A truncated memory (Remark 13) -----------------------------------------------------------------------------------


def meaning_of_windows(agent, bandit):
    """`P(theta = a | a, o)` in the agent's own episodes, `[O]`, for the windows `(a, o)` that it predicts from."""
    K, A, T = 5, 5, bandit.num_rounds
    pays = np.exp(np.asarray(bandit.task.log_probs))  # [K, A, O]
    policy = np.asarray(jax.vmap(agent.policy)(jnp.arange(1 + 2 * A)))
    windows = np.zeros((K, 1 + 2 * A))
    windows[:, 0] = 1 / K
    visits = np.zeros((K, A, 2))
    for _ in range(T - 1):
        visited = (windows @ policy)[:, :, None] * pays
        visits += visited
        windows = np.concatenate([np.zeros((K, 1)), visited.reshape(K, -1)], 1)
    right = np.einsum("aao->o", visits)
    return right / visits.sum((0, 1))


def beliefs(agent):
    """The agent's own `P(theta = a | a, o)`: its policy is .6 p + .1 (1 - p) on the arm of the window."""
    probs = np.asarray(jax.nn.softmax(agent.logits_A))[1:].reshape(5, 2, 5)
    return (np.einsum("aoa->ao", probs).mean(0) - 0.1) / 0.5


@pytest.mark.slow
def test_remark_13_own_behaviour(bandit):
    """The meaning of a window of one round depends on the policy: P(theta = a | a, o = 1) is .43 if arms are drawn at
    random, and .66 if the agent repeats an arm that paid and leaves one that did not."""
    start = WindowAgent.of(bandit, greedy=True)
    settings = {
        "key": jax.random.key(0),
        "steps": 300,
        "batch_size": 64,
        "optimizer": optax.adam(optax.cosine_decay_schedule(0.1, 300)),
    }
    with pytest.warns(UserWarning, match=r"truncated memory.*blind.*wrong one for its own"):
        blind = ud.teach(bandit, start, ud.Blind(), **settings).agent
    own = ud.teach(bandit, start, ud.Counterfactual(), **settings).agent
    uniform = meaning_of_windows(WindowAgent.of(bandit), bandit)
    np.testing.assert_allclose(uniform, [1 / 13, 3 / 7], atol=1e-6)
    np.testing.assert_allclose(beliefs(blind), uniform, atol=0.02)
    truth = meaning_of_windows(own, bandit)
    assert 0.65 < truth[1] < 0.7
    np.testing.assert_allclose(beliefs(own), truth, atol=0.02)
    assert (meaning_of_windows(blind, bandit) - beliefs(blind))[1] > 0.2


def test_truncated_memory_refuses_reuse(bandit):
    """Reuse needs an agent that keeps the whole history, or data that do not depend on the agent."""
    agent, key = WindowAgent.of(bandit), jax.random.key(0)
    for teaching in (ud.Counterfactual(), ud.DAgger(0.5)):
        with pytest.raises(ValueError, match=r"WindowAgent has a truncated memory, and reuse=2 .*use reuse=1"):
            ud.teach(bandit, agent, teaching, key=key, steps=2, batch_size=2, reuse=2)
    ud.teach(bandit, agent, ud.Factual(), key=key, steps=2, batch_size=2, reuse=2)


# Replay -----------------------------------------------------------------------------------------------------------


def test_reuse_repeats_each_batch(process):
    """Two updates on the batch of update 0, then one on that of update 2."""
    agent, key, teaching = ud.LSTMAgent(process, 3, key=jax.random.key(0)), jax.random.key(1), ud.Counterfactual()
    optimizer = optax.sgd(0.5)
    settings = {"key": key, "steps": 3, "batch_size": 4, "reuse": 2, "log_every": 1, "optimizer": optimizer}
    states = []
    run = ud.teach(process, agent, teaching, on_log=lambda state, row: states.append(state), **settings)
    assert [row["update"] for row in run.metrics] == [2, 3]

    @jax.jit
    def batch(agent, u):
        at = jax.random.fold_in(key, u)
        return jax.vmap(lambda i: collect(process, agent, teaching, jax.random.fold_in(at, i)))(jnp.arange(4))

    @jax.jit
    @jax.grad
    def gradient(agent, episodes):
        return sum(x.mean() for x in jax.vmap(lambda e: log_losses(agent, e))(episodes))

    for u in range(3):
        if u != 1:
            episodes = batch(agent, u)
        agent = eqx.apply_updates(agent, jax.tree.map(lambda g: -0.5 * g, gradient(agent, episodes)))
    for have, want in zip(jax.tree.leaves(run.agent), jax.tree.leaves(agent), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)
    rest = ud.teach(process, agent, teaching, state=states[0], **settings)
    for have, want in zip(jax.tree.leaves(rest.agent), jax.tree.leaves(run.agent), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.slow
def test_run_made_longer_is_the_long_run(process):
    """Two updates, and the state continued to four, are bit for bit four updates, if the optimiser has no schedule."""
    agent, teaching = ud.LSTMAgent(process, 3, key=jax.random.key(0)), ud.Counterfactual()
    settings = {"key": jax.random.key(1), "batch_size": 4, "log_every": 2, "optimizer": optax.adam(0.1)}
    short = ud.teach(process, agent, teaching, steps=2, **settings)
    longer = ud.teach(process, agent, teaching, steps=4, state=short.state, **settings)
    long = ud.teach(process, agent, teaching, steps=4, **settings)
    assert [row["update"] for row in longer.metrics] == [4]
    states = zip(*(jax.tree.leaves(eqx.filter(run.state, eqx.is_array)) for run in (longer, long)), strict=True)
    for have, want in states:
        np.testing.assert_array_equal(have, want)


# Behaviours and settings ------------------------------------------------------------------------------------------


def test_blind_acts_as_alone(process):
    """The behaviour reads its own actions as it always does, here as evidence, although the episodes mark them do."""
    behaviour, key = ud.ExactAgent(process, own_actions="see"), jax.random.key(0)
    alone = ud.rollout(process, behaviour, key=key, num_episodes=64)
    learner = ud.LSTMAgent(process, 2, key=key)
    draw = jax.vmap(lambda i: collect(process, learner, ud.Blind(behaviour), jax.random.fold_in(key, i)))
    blind = jax.jit(draw)(jnp.arange(64))
    np.testing.assert_array_equal(blind.actions, alone.actions)
    assert bool(blind.intervened.all())
    assert not bool(alone.intervened.any())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"expert_share": 0.5, "expert_mark": "do"}, "expert_mark must not be do"),
        ({"expert_share": 0.5, "agent_mark": "see"}, "agent_mark must not be see"),
        ({"expert_share": 0.5, "agent_mark": "see", "expert_mark": "do"}, "expert_mark must not be do"),
        ({"agent_mark": None}, "agent_mark and expert_mark go together"),
        ({"expert_share": 1.5}, "share must be a number from 0 to 1"),
        ({"per": "week"}, 'per must be "step" or "episode"'),
        ({"agent_mark": "done"}, "agent_mark must be"),
        ({"agent_mark": None, "expert_mark": None, "target": "posterior"}, "needs marks"),
    ],
)
def test_contradictory_marks(settings, message, no_type_checks):
    """With both executors in one stream, a false mark makes one symbol of two; with one executor it is only a name."""
    with pytest.raises(ValueError, match=message):
        ud.Teaching(**settings)
    assert ud.Teaching(expert_share=1.0, expert_mark="do").marks == ("do",)
    assert ud.Teaching(agent_mark="see").marks == ("see",)


def test_unfit_behaviours(process, bandit):
    """Behaviours are checked before anything is compiled."""
    agent, key = ud.LSTMAgent(process, 2, key=jax.random.key(0)), jax.random.key(0)
    for behaviour, message in (
        (ud.ExactAgent(bandit), "tables has actions of 2 symbols, but this ExactAgent predicts 5"),
        (
            ud.Categorical(probs=[0.2, 0.3, 0.5]),
            "actions of 2 symbols, but the behaviour's distribution is of 3",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            collect(process, agent, ud.Blind(behaviour), key)
    with pytest.raises(TypeError, match="is for symbols"):
        collect(arm(), ud.LSTMAgent(arm(), 2, key=key), ud.Blind(), key)


def test_misspelt_behaviour(no_type_checks):
    with pytest.raises(ValueError, match="unifrom"):
        ud.Teaching(expert_share=1.0, behaviour="unifrom")


def test_behaviour_must_read_the_expert(process):
    """A behaviour that knows only do cannot read the expert's actions, which are marked see."""
    taught = with_reading(ud.LSTMAgent(process, 4, key=jax.random.key(0)), ud.Counterfactual().reading)
    with pytest.raises(ValueError, match="see"):
        collect(process, taught, ud.Teaching(expert_share=0.5, behaviour=taught), jax.random.key(0))


@pytest.mark.parametrize("name", ["counterfactual", "factual", "mixed", "blind", "cloning", "dagger"])
def test_command_line_teachings(name):
    """`undelude train --teaching` has all of them, with `--expert-share` for those of two executors."""
    from undelude._cli.train import make_teaching
    from undelude._runs.config import Config

    teaching = make_teaching(Config("bandit", teaching=name, expert_share=0.3, target="sample", observation_weight=0.1))
    assert (teaching.name, teaching.target, teaching.observation_weight) == (name, "sample", 0.1)
    assert teaching.expert_share == {"factual": 1, "cloning": 1, "mixed": 0.3, "dagger": 0.3}.get(name, 0)


# Remark 14: a net -------------------------------------------------------------------------------------------------


CHAIN = np.array([[[0.2, 0.8], [0.3, 0.7], [0.5, 0.5]], [[0.9, 0.1], [0.7, 0.3], [0.5, 0.5]]])  # [theta, last, x]


class Chain(ud.AbstractExpert[jax.Array]):
    """The next symbol depends on theta and on the last symbol, executed by either party."""

    def init(self, theta):
        return jnp.asarray(2, jnp.int32)

    def Q_A(self, theta, e):
        return ud.Categorical(log_probs=jnp.log(jnp.asarray(CHAIN, float))[theta, e])

    def g_A(self, theta, a, e):
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, e):
        return e


@pytest.fixture(scope="module")
def symbols():
    """Remark 14's X_1, ..., X_4: action slots that either party may execute, without observations."""
    task = ud.tasks.from_tables(prior=[0.5, 0.5], expert=np.full((2, 2), 0.5), task=np.ones((2, 2, 1))).task
    return ud.InteractionProcess([0.5, 0.5], jnp.arange(2), task, Chain(), num_rounds=4, name="symbols")


def pasts():
    """The 4^3 pasts of length 3, and P(X_4 = 1 | past): a symbol is evidence if it was seen."""
    for past in itertools.product(itertools.product((0, 1), (False, True)), repeat=3):
        belief, last = np.array([0.5, 0.5]), 2
        for x, done in past:
            belief = belief * (1 if done else CHAIN[:, last, x])
            last = x
        yield past, belief @ CHAIN[:, last, 1] / belief.sum()


@pytest.mark.slow
def test_remark_14_all_64_pasts(symbols):
    """One net taught with `Mixed` is within .03 in total variation; without marks, no net is within .06."""
    predicted, want = {}, np.array([answer for _, answer in pasts()])
    # The unmarked net needs fewer updates.
    for teaching, steps, batch_size in ((ud.Mixed(0.5), 800, 256), (ud.DAgger(0.5), 300, 128)):
        agent, name = ud.LSTMAgent(symbols, 12, key=jax.random.key(0)), teaching.name
        size = {"steps": steps, "batch_size": batch_size, "log_every": steps, "learning_rate": 3e-2}
        agent = ud.teach(symbols, agent, teaching, key=jax.random.key(1), **size).agent

        def predict(xs, done, agent=agent):
            m = agent.init(num_rounds=4)
            for t in range(3):
                m = agent.g_O(jnp.zeros((), jnp.int32), agent.g_A(xs[t], m, intervened=done[t]))
            return agent.f_A(m).probs[1]

        xs, done = (jnp.asarray([[z[i] for z in past] for past, _ in pasts()]) for i in (0, 1))
        predicted[name] = np.asarray(jax.jit(jax.vmap(predict))(xs, done if name == "mixed" else jnp.zeros_like(done)))
    assert len(want) == 64
    errors = {name: np.abs(p - want) for name, p in predicted.items()}
    assert errors["mixed"].max() < 0.03
    # One answer for the 8 markings of the same symbols is off by at least half their spread for one of them.
    by_symbols = {}
    for (past, answer), error in zip(pasts(), errors["dagger"], strict=True):
        by_symbols.setdefault(tuple(x for x, _ in past), []).append((answer, error))
    floors = [(max(p)[0] - min(p)[0]) / 2 for p in by_symbols.values()]
    assert min(floors) > 0.06
    assert all(max(e for _, e in p) >= floor for p, floor in zip(by_symbols.values(), floors, strict=True))


def test_executor_at_both_ends():
    """With an expert share of 0 or 1, an actor that is present executes all actions or none."""
    process = ud.tasks.bandit(num_rounds=5)
    for share, by_expert in ((0.0, False), (1.0, True)):
        played, _ = run_episode(process, ud.ExactAgent(process), jax.random.key(0), num_rounds=5, expert_share=share)
        assert (played.executor == EXPERT).tolist() == [by_expert] * 5
        assert not by_expert or played.actions.tolist() == played.expert_actions.tolist()
