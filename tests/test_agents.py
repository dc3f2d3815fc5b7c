"""One contract for every agent, on processes that use each feature of the protocol."""

import functools
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm, once, opening
from undelude._agents.base import Reading, predict, predict_stepwise, with_reading
from undelude._agents.networks import transformer
from undelude._agents.networks.linear import GatedRecurrence
from undelude._agents.networks.network import AbstractLearnedAgent
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._agents.networks.transformer import Attention
from user_folder import without_compiling

PROCESSES = {
    "bandit": lambda: ud.tasks.bandit(num_arms=3, num_rounds=3),
    "opening": lambda: opening(telling=0.8),
    "once": lambda: once(num_rounds=3),
    "arm": arm,
}
AGENTS = {
    "exact_do": ud.ExactAgent,
    "exact_see": lambda process: ud.ExactAgent(process, own_actions="see"),
    "thompson": lambda process: ud.ThompsonAgent(process, resample=2),
    "tempered": lambda process: ud.TemperedAgent(ud.ExactAgent(process), 0.5),
    "lstm": lambda process: ud.LSTMAgent(process, 5, key=jax.random.key(0)),
    "gru": lambda process: ud.GRUAgent(process, 5, key=jax.random.key(0)),
    "linear": lambda process: ud.LinearRecurrentAgent(process, 4, num_layers=2, key=jax.random.key(0)),
    "transformer": lambda process: ud.TransformerAgent(process, 4, num_layers=2, key=jax.random.key(0)),
    "window": lambda process: ud.TransformerAgent(process, 4, num_heads=1, window=2, key=jax.random.key(0)),
    "markov": lambda process: ud.MarkovAgent(process, order=3, hidden_size=4, key=jax.random.key(0)),
    "predictor": lambda process: ud.SequencePredictor(process, order=3, hidden_size=4, key=jax.random.key(0)),
}
EXACT = ("exact_do", "exact_see", "thompson", "tempered")
# Pairs that repeat other pairs, and the predictor on values that are not symbols. The tests choose the marks, which are
# all that tells the exact agents apart.
LEFT_OUT = {
    "once": {*AGENTS} - {"exact_do", "thompson"},
    "opening": {"gru", "linear", "window", "tempered", "exact_see"},
    "arm": {"gru", "window", "predictor", "tempered", "exact_see"},
}
WORLDS = [(p, a) for p in PROCESSES for a in AGENTS if a not in LEFT_OUT.get(p, ())]
# Pairs for `make test-all`: the same agent on the bandit, and another one on the same process, are in `make test`.
REST = {
    "opening": {"thompson", "lstm", "predictor", "transformer"},
    "arm": {"thompson", "linear", "markov", "exact_do"},
}
PARAMS = [pytest.param((p, a), marks=[pytest.mark.slow] * (a in REST.get(p, ()))) for p, a in WORLDS]


@pytest.fixture(scope="module", params=PARAMS, ids="-".join)
def world(request):
    process_name, agent_name = request.param
    process, episodes = play(process_name)
    return process, AGENTS[agent_name](process), episodes


@functools.cache
def play(process_name):
    """Return the process, and episodes in it with marks of both kinds."""
    process = PROCESSES[process_name]()
    episodes = ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(1), num_episodes=3)
    marks = jnp.arange(episodes.mask.size).reshape(episodes.mask.shape) % 3 == 0
    return process, eqx.tree_at(lambda e: e.intervened, episodes, marks)


@pytest.fixture(scope="module")
def answers(world):
    """Return all answers of an agent that the tests need, from one program: compilation takes most of the time."""
    process, agent, episodes = world
    return eqx.filter_jit(question)(process, agent, episodes)


def question(process, agent, episodes):
    one = jax.tree.map(lambda x: x[0], episodes)
    changed = eqx.tree_at(
        lambda e: (e.actions, e.observations, e.intervened),
        one,
        jax.tree.map(other_from_round_2, (one.actions, one.observations, one.intervened)),
    )
    m = agent.init(num_rounds=process.num_rounds)
    if process.opening:
        m = agent.g_O(one.opening, m)
    a, o = first_round(episodes)

    def after(mark):
        m_a = agent.g_A(a, m, intervened=mark)
        return m_a, agent.f_O(m_a)

    distributions = (agent.f_A(m), a), (agent.f_O(m), o)
    return {
        "predict": jax.vmap(lambda e: predict(agent, e))(episodes),
        "scan": jax.vmap(lambda e: predict_stepwise(agent, e))(episodes),
        "predict changed": predict(agent, changed),
        "do": after(True),
        "see": after(False),
        "traced do": after(jnp.array(True)),
        "traced see": after(jnp.array(False)),
        "distributions": [
            (distribution.entropy(), distribution.log_prob(x), distribution.sample(jax.random.key(0)))
            for distribution, x in distributions
        ],
    }


def other_from_round_2(x):
    if x.dtype == bool:
        return x.at[1:].set(~x[1:])
    return x.at[1:].set(jnp.clip(1 - x[1:], 0) if jnp.issubdtype(x.dtype, jnp.integer) else x[1:] + 0.5)


def first_round(episodes):
    return tuple(jax.tree.map(lambda x: x[0, 0], x) for x in (episodes.actions, episodes.observations))


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def assert_close(tree, other, **tolerance):
    for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(x, y, **tolerance)


def test_predict_equals_scan(answers):
    """`predict` of a stored episode equals the scan of f and g, for any marks."""
    assert_close(answers["predict"], answers["scan"], rtol=1e-5, atol=2e-6)


def test_predictions_are_causal(world, answers):
    """Changing the episode from round 2 on changes no earlier prediction; it does change a network's later ones."""
    opens = int(world[0].opening)

    def known(P_A, P_O):
        return jax.tree.map(lambda x: x[:2], P_A), jax.tree.map(lambda x: x[: 1 + opens], P_O)

    before = jax.tree.map(lambda x: x[0], answers["predict"])
    assert_close(known(*before), known(*answers["predict changed"]), rtol=1e-5, atol=2e-6)
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(answers["predict changed"]), strict=True)
    assert not isinstance(world[1], AbstractLearnedAgent) or not all(np.allclose(x, y, atol=1e-5) for x, y in pairs)


def test_memory_keeps_structure(world):
    """g_A, g_O and act keep the shapes and types of the memory, including weak types."""
    process, agent, episodes = world
    a, o = first_round(episodes)
    m = jax.eval_shape(lambda: agent.init(num_rounds=process.num_rounds))
    later = [
        lambda m: agent.g_A(a, m, intervened=True),
        lambda m: agent.g_A(a, m, intervened=False),
        lambda m: agent.g_A(a, m, intervened=jnp.array(True)),
        lambda m: agent.g_O(o, m),
        lambda m: agent.act(m, key=jax.random.key(0))[1],
    ]
    for read in later:
        once = jax.eval_shape(read, m)
        assert shapes(once) == shapes(m)
        assert jax.eval_shape(read, once) == once


def test_traced_mark(answers):
    """`intervened` may be a Python bool or an array."""
    for mark in ("do", "see"):
        assert_close(answers[mark], answers[f"traced {mark}"], atol=1e-6)


def test_both_marks_are_read(answers):
    """do(a) and a are different symbols (Remark 14): the predictions after them differ."""
    leaves = zip(jax.tree.leaves(answers["do"]), jax.tree.leaves(answers["see"]), strict=True)
    assert any(not np.allclose(x, y) for x, y in leaves)


def test_predictions_fit_process(world, answers):
    """f_A and f_O score the values of the process, and their samples have the same shapes and types."""
    for (entropy, log_prob, sample), x in zip(answers["distributions"], first_round(world[2]), strict=True):
        assert np.isfinite(entropy)
        assert not np.isnan(log_prob)
        assert shapes(sample) == shapes(x)


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in EXACT])
def test_round_is_traced_once(name):
    """Under jit and vmap, all rounds share one program."""
    agent, traces = AGENTS[name](PROCESSES["bandit"]()), []

    @eqx.filter_jit
    def round(m, a, o, marks):
        traces.append(a)
        return jax.vmap(lambda m, a, o, mark: agent.g_O(o, agent.g_A(a, m, intervened=mark)))(m, a, o, marks)

    m = eqx.filter_vmap(lambda _: agent.init(num_rounds=3), axis_size=2)(jnp.arange(2))
    for t in range(3):
        m = round(m, jnp.array([t, 0]), jnp.array([0, t % 2]), jnp.array([True, t == 1]))
    assert len(traces) == 1


@pytest.mark.parametrize(
    "agent",
    [
        ud.ExactAgent,
        ud.ThompsonAgent,
        ud.LSTMAgent,
        ud.GRUAgent,
        ud.LinearRecurrentAgent,
        ud.TransformerAgent,
        ud.MarkovAgent,
        ud.SequencePredictor,
    ],
)
def test_argument_order(agent):
    """The order of arguments is part of the contract; type checkers would accept g_A(m, a)."""
    assert list(inspect.signature(agent.g_A).parameters) == ["self", "a", "m", "intervened"]
    assert list(inspect.signature(agent.g_O).parameters) == ["self", "o", "m"]
    assert list(inspect.signature(agent.act).parameters) == ["self", "m", "key"]


def test_rollout_is_compiled_once(bandit, compilations):
    """One compilation for any key, weights and number of calls."""

    class Weighted(ud.AbstractAgent[jax.Array]):
        weight: jax.Array

        def init(self, *, num_rounds):
            return jnp.zeros(())

        def f_A(self, m):
            return ud.Categorical(logits=jnp.zeros(5) + self.weight)

        def f_O(self, m):
            return ud.Categorical(logits=jnp.zeros(2))

        def g_A(self, a, m, *, intervened):
            return m

        def g_O(self, o, m):
            return m

    def play(seed):
        agent, key = Weighted(jnp.array(float(seed))), jax.random.key(seed)
        compilations()
        ud.rollout(bandit, agent, key=key, num_episodes=4)
        return compilations()

    play(0)
    assert [play(1), play(2)] == [0, 0]


def test_untaught_mark_is_refused(bandit, no_type_checks):
    """Marks are checked before anything is compiled."""
    agent = with_reading(ud.LSTMAgent(bandit, 4, key=jax.random.key(0)), Reading("do", ("see",)))
    with pytest.raises(ValueError, match="marked do"):
        ud.rollout(bandit, agent, key=jax.random.key(0), num_episodes=1)
    with pytest.raises(ValueError, match="marked do"):
        ud.certify(bandit, agent, key=jax.random.key(0))
    with pytest.raises(ValueError, match='must be "do" or "see"'):
        agent.reading_as("saw")


@pytest.mark.parametrize("name", ["exact_do", "tempered", "lstm", "markov"])
def test_symbols_outside_the_process_are_refused(name, bandit, no_type_checks):
    agent = AGENTS[name](bandit)
    m = agent.init(num_rounds=2)
    with pytest.raises(ValueError, match="an action must be integers from 0 to 4, not 7"):
        agent.g_A(jnp.array(7), m, intervened=True)
    with pytest.raises(ValueError, match="an observation must be integers from 0 to 1, not -1"):
        agent.g_O(jnp.array(-1), agent.g_A(jnp.array(1), m, intervened=True))


@pytest.mark.parametrize("name", ["lstm", "markov"])
def test_untaught_mark_is_refused_outside_jit(name, bandit, no_type_checks):
    agent = with_reading(AGENTS[name](bandit), Reading("do", ("do",)))
    m = agent.init(num_rounds=2)
    agent.g_A(jnp.array(1), m, intervened=True)
    with pytest.raises(ValueError, match="was taught do and cannot read actions marked see"):
        agent.g_A(jnp.array(1), m, intervened=False)


def test_lstm_equations():
    """The cell equals the equations of Hochreiter and Schmidhuber in PyTorch's form, in NumPy."""
    agent = ud.LSTMAgent(ud.tasks.bandit(), 3, key=jax.random.key(0))
    h, c = agent.g_O(jnp.array(1), agent.g_A(jnp.array(2), agent.init(num_rounds=1), intervened=True))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    h_, c_ = np.zeros(3), np.zeros(3)
    for x in (agent.interface.read_do.table[2], agent.interface.read_observation.table[1]):
        i, f, g, o = np.split(np.asarray(x + agent.cell.bias) + h_ @ np.asarray(agent.cell.recurrent), 4)
        c_ = sigmoid(f) * c_ + sigmoid(i) * np.tanh(g)
        h_ = sigmoid(o) * np.tanh(c_)
    np.testing.assert_allclose(h, h_, atol=1e-6)
    np.testing.assert_allclose(c, c_, atol=1e-6)


def read(agent, symbols, num_rounds=4):
    """Return the memory after rounds of `(action, observation)`, with the actions marked do."""
    m = agent.init(num_rounds=num_rounds)
    for a, o in symbols:
        m = agent.g_O(jnp.array(o), agent.g_A(jnp.array(a), m, intervened=True))
    return m


def test_gru_equations():
    """The cell equals the equations of Cho et al. in PyTorch's form, in NumPy."""
    agent = ud.GRUAgent(ud.tasks.bandit(), 3, key=jax.random.key(0))
    agent = eqx.tree_at(lambda a: a.cell.bias_candidate, agent, jnp.array([0.3, -0.2, 0.1]))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    h = np.zeros(3)
    for x in (agent.interface.read_do.table[2], agent.interface.read_observation.table[1]):
        (x_r, x_z, x_n), (h_r, h_z, h_n) = (
            np.split(v, 3) for v in (np.asarray(x + agent.cell.bias), h @ np.asarray(agent.cell.recurrent))
        )
        z = sigmoid(x_z + h_z)
        h = (1 - z) * np.tanh(x_n + sigmoid(x_r + h_r) * (h_n + np.asarray(agent.cell.bias_candidate))) + z * h
    np.testing.assert_allclose(read(agent, [(2, 1)]), h, atol=1e-6)


def test_attention_equations():
    """One head equals softmax(q k / sqrt(d)) v, with rotary positions as complex rotations, in NumPy."""
    layer = Attention(4, 1, None, key=jax.random.key(0))
    layer = eqx.tree_at(lambda x: x.nothing, layer, jnp.array([0.7]))
    xs = np.asarray(jax.random.normal(jax.random.key(1), (3, 4)))
    q, k, v = (xs @ np.asarray(w) for w in (layer.query, layer.key, layer.value))
    turn = np.exp(1j * np.arange(3)[:, None] * 10_000.0 ** -np.array([0.0, 0.5]))
    q, k = ((x[:, :2] + 1j * x[:, 2:]) * turn for x in (q, k))
    for t in range(3):
        weights = np.exp((q[t] * k[: t + 1].conj()).real.sum(-1) / 2)
        want = (weights / (weights.sum() + np.exp(0.7))) @ v[: t + 1] @ np.asarray(layer.out)
        np.testing.assert_allclose(layer.parallel(jnp.asarray(xs))[t], want, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.5, 2.0])
def test_temperature_changes_actions_only(temperature):
    """Actions follow P^(1/temperature) / Z, by Pearson's chi-squared; f_A does not change."""
    process = ud.tasks.from_tables(prior=[1.0], expert=[[0.5, 0.3, 0.2]], task=np.ones((1, 3, 1)), num_rounds=1)
    agent = ud.TemperedAgent(ud.ExactAgent(process), temperature)
    N, P = 4000, np.array([0.5, 0.3, 0.2])
    actions = np.asarray(ud.rollout(process, agent, key=jax.random.key(0), num_episodes=N).actions[:, 0])
    want = (P.max() == P).astype(float) if temperature == 0 else P ** (1 / temperature)
    want /= want.sum()
    counts = np.bincount(actions, minlength=3)
    assert counts[want == 0].sum() == 0
    chi2 = ((counts - N * want)[want > 0] ** 2 / (N * want)[want > 0]).sum()
    assert chi2 < 2 + 5 * np.sqrt(2 * 2)
    np.testing.assert_allclose(agent.f_A(agent.init(num_rounds=1)).probs, P, atol=1e-6)


def test_bad_temperature_refused(bandit):
    """Negative temperatures, and actions with densities."""
    with pytest.raises(ValueError, match="temperature must be a finite number of at least 0, not -1"):
        ud.TemperedAgent(ud.ExactAgent(bandit), -1.0)
    with pytest.raises(TypeError, match="actions that are symbols"):
        ud.TemperedAgent(ud.ExactAgent(arm()), 0.5)
    assert not ud.TemperedAgent(ud.MarkovAgent(bandit, order=2, hidden_size=4, key=jax.random.key(0)), 0.5).full_history


def test_full_cache_drops_oldest():
    """An agent that acts beyond the end of its cache acts like one with a window of that size."""
    short = ud.TransformerAgent(ud.tasks.bandit(), 4, key=jax.random.key(0))
    window = ud.TransformerAgent(ud.tasks.bandit(), 4, window=4, key=jax.random.key(0))
    rounds = [(0, 1), (3, 0), (2, 1)]
    after = [agent.f_A(read(agent, rounds, n)).probs for agent, n in ((short, 1), (window, 50), (short, 50))]
    np.testing.assert_allclose(after[0], after[1], atol=1e-6)
    assert not np.allclose(after[1], after[2], atol=1e-4)


def attention_by_hand(layer, xs):
    """Return the outputs one symbol at a time in NumPy, with rotary positions as powers of a complex number."""
    q, k, v = (np.asarray(xs @ w, float) for w in (layer.query, layer.key, layer.value))
    num_heads, d = len(layer.nothing), xs.shape[1] // len(layer.nothing)
    turn = np.exp(1j * 10_000.0 ** (-np.arange(d // 2) / (d // 2)))
    out = np.zeros_like(v)
    for head in range(num_heads):
        part = slice(head * d, (head + 1) * d)
        q_c, k_c = (x[:, part][:, : d // 2] + 1j * x[:, part][:, d // 2 :] for x in (q, k))
        for t in range(len(xs)):
            seen = np.arange(0 if layer.window is None else max(0, t - layer.window + 1), t + 1)
            score = ((q_c[t] * turn**t)[None] * np.conj(k_c[seen] * turn ** seen[:, None])).real.sum(1) / np.sqrt(d)
            weights = np.exp(score)
            out[t, part] = weights @ v[seen, part] / (weights.sum() + np.exp(layer.nothing[head]))
    return out @ np.asarray(layer.out, float)


@pytest.mark.parametrize("window", [None, 5, 100, 1000])
def test_attention_in_blocks(window, monkeypatch):
    """More than two blocks, the last one partial: values as computed in NumPy, gradients as from one large block."""
    layer = Attention(8, 2, window, key=jax.random.key(0))
    layer = eqx.tree_at(lambda x: x.nothing, layer, jnp.array([0.5, -1.0]))
    xs = jax.random.normal(jax.random.key(1), (150, 8))
    np.testing.assert_allclose(eqx.filter_jit(layer.parallel)(xs), attention_by_hand(layer, xs), atol=2e-5)

    def gradient(layer, xs):
        return jax.jit(jax.grad(lambda both: (both[0].parallel(both[1]) ** 2).sum()))((layer, xs))

    blocks = gradient(layer, xs)
    monkeypatch.setattr(transformer, "BLOCK", 200)
    assert_close(blocks, gradient(layer, xs), rtol=1e-4, atol=1e-4)


def test_linear_recurrence_discounts():
    """With input weights 0 for the gate and 1 for the value, h_t is a discounted sum, in NumPy."""
    layer = GatedRecurrence(3, key=jax.random.key(0))
    layer = eqx.tree_at(lambda x: (x.gate, x.value, x.out), layer, (jnp.zeros((3, 3)), jnp.eye(3), jnp.eye(3)))
    xs = np.asarray(jax.random.normal(jax.random.key(1), (5, 3)))
    f = 1 / (1 + np.exp(-np.asarray(layer.bias)))
    want = [sum(f ** (t - s) * xs[s] for s in range(t + 1)) for t in range(5)]
    np.testing.assert_allclose(layer.parallel(jnp.asarray(xs)), want, atol=1e-5)


@pytest.mark.parametrize("agent_type", [ud.MarkovAgent, ud.SequencePredictor])
@pytest.mark.parametrize("order", [1, 3])
def test_remark_13_window(agent_type, order):
    """The K-th last symbol changes the prediction; the one before it does not."""
    agent = agent_type(ud.tasks.bandit(), order=order, key=jax.random.key(0))
    symbols = np.array([0, 1, 2, 0, 3, 1])

    def after(i):
        changed = symbols.copy()
        changed[i] = 1 - changed[i] % 2
        return agent.f_A(read(agent, changed.reshape(-1, 2))).probs

    now = agent.f_A(read(agent, symbols.reshape(-1, 2))).probs
    np.testing.assert_array_equal(now, after(6 - order - 1))
    assert not np.allclose(now, after(6 - order), atol=1e-5)


def test_remark_13_one_function():
    """f_A and f_O are f restricted to the actions and to the observations, and renormalised."""
    agent = ud.SequencePredictor(ud.tasks.bandit(num_arms=3), order=4, key=jax.random.key(0))
    m = read(agent, [(2, 1)])
    # V = 3 + 2: do(2) is 5 + 2, observation 1 is 3 + 1, the time before the episode is 10.
    assert m.tolist() == [10, 10, 7, 4]
    assert agent.g_A(jnp.array(2), m, intervened=False).tolist() == [10, 7, 4, 2]
    probs = np.asarray(agent.f(m).probs)
    assert len(probs) == 5
    np.testing.assert_allclose(agent.f_A(m).probs, probs[:3] / probs[:3].sum(), rtol=1e-5)
    np.testing.assert_allclose(agent.f_O(m).probs, probs[3:] / probs[3:].sum(), rtol=1e-5)
    with pytest.raises(TypeError, match="actions must be symbols"):
        ud.SequencePredictor(arm(), key=jax.random.key(0))


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="hidden_size must be a whole number of at least 1"):
        ud.LSTMAgent(ud.tasks.bandit(), 0, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"hidden_size must be a multiple of 2 \* num_heads = 4, not 6"):
        ud.TransformerAgent(ud.tasks.bandit(), 6, key=jax.random.key(0))
    with pytest.raises(ValueError, match="order must be a whole number of at least 1"):
        ud.MarkovAgent(ud.tasks.bandit(), order=0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="num_components must be a whole number of at least 1"):
        ud.GRUAgent(ud.tasks.arm(), num_components=0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="num_components=3 is for predictions of real numbers, and actions are"):
        ud.GRUAgent(ud.tasks.bandit(), num_components=3, key=jax.random.key(0))


@pytest.mark.parametrize(
    "name", ["lstm", "markov", *(pytest.param(x, marks=pytest.mark.slow) for x in ("gru", "linear", "transformer"))]
)
def test_mixture_has_as_many_components_as_asked_for(name):
    """By default, as many as theta has values, but from 4 to 16; the mixture of the loaded agent has the same."""
    build = ARCHITECTURES[name].load()

    def components(process, **given):
        agent = without_compiling(lambda: build(process, hidden_size=4, key=jax.random.key(0), **given))
        assert build.from_config(agent.config).config == agent.config
        head = agent.interface.head_A
        return agent.num_components, len(jax.eval_shape(head, jnp.zeros(len(head.weight))).log_weights)

    assert components(ud.tasks.arm(num_targets=3), num_components=6) == (6, 6)
    assert [components(ud.tasks.arm(num_targets=k))[1] for k in (2, 8, 20)] == [4, 8, 16]
    assert components(ud.tasks.arm(num_targets=8).specs) == (4, 4)
