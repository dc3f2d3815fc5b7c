"""One contract for every agent, on processes that differ in every way that the protocol allows."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm, once, opening
from undelude.agent import scan, unroll
from undelude.agents import heads

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
    "lstm": lambda process: ud.LSTMAgent(process, 5, key=jax.random.key(0)),
}


@pytest.fixture(scope="module", params=[(p, a) for p in PROCESSES for a in AGENTS], ids="-".join)
def world(request):
    process_name, agent_name = request.param
    process = PROCESSES[process_name]()
    agent = AGENTS[agent_name](process)
    return process, agent, ud.rollout(process, agent, key=jax.random.key(1), num_episodes=3)


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def test_unroll_is_the_scan_of_f_and_g(world):
    """What an agent says of a stored episode at once is what it says step by step, for any marks."""
    _, agent, episodes = world
    marks = jnp.arange(episodes.mask.size).reshape(episodes.mask.shape) % 3 == 0
    episodes = eqx.tree_at(lambda e: e.intervened, episodes, marks)
    at_once = jax.vmap(lambda e: unroll(agent, e))(episodes)
    by_steps = jax.vmap(lambda e: scan(agent, e))(episodes)
    for a, b in zip(jax.tree.leaves(at_once), jax.tree.leaves(by_steps), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_memory_keeps_its_structure(world):
    """g_A, g_O and act return a memory of the shape that they were given, whatever the mark."""
    process, agent, episodes = world
    m = agent.init(num_rounds=process.num_rounds)
    a, o = (jax.tree.map(lambda x: x[0, 0], x) for x in (episodes.actions, episodes.observations))
    later = [
        agent.g_A(a, m, intervened=True),
        agent.g_A(a, m, intervened=False),
        agent.g_A(a, m, intervened=jnp.array(True)),
        agent.g_O(o, m),
        agent.act(m, key=jax.random.key(0))[1],
    ]
    for after in later:
        assert shapes(after) == shapes(m)


def test_a_traced_mark_is_the_mark(world):
    """`intervened` may be a Python bool or an array: the same symbol is read."""
    process, agent, episodes = world
    m = agent.init(num_rounds=process.num_rounds)
    a = jax.tree.map(lambda x: x[0, 0], episodes.actions)
    for mark in (True, False):
        static, traced = agent.g_A(a, m, intervened=mark), agent.g_A(a, m, intervened=jnp.array(mark))
        for x, y in zip(jax.tree.leaves(static), jax.tree.leaves(traced), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def test_both_marks_are_read(world):
    """do(a) and a are different symbols (Remark 14): what follows them differs."""
    process, agent, episodes = world
    m = agent.init(num_rounds=process.num_rounds)
    if process.opening:
        m = agent.g_O(episodes.opening[0], m)
    a = jax.tree.map(lambda x: x[0, 0], episodes.actions)
    laws = [agent.f_O(agent.g_A(a, m, intervened=mark)) for mark in (True, False)]
    memories = [agent.g_A(a, m, intervened=mark) for mark in (True, False)]
    leaves = zip(jax.tree.leaves((laws[0], memories[0])), jax.tree.leaves((laws[1], memories[1])), strict=True)
    assert any(not np.allclose(x, y) for x, y in leaves)


def test_predictions_are_laws_of_the_process_s_symbols(world):
    """f_A and f_O score what the process shows, and sample what it accepts."""
    process, agent, episodes = world
    m = agent.init(num_rounds=process.num_rounds)
    a, o = (jax.tree.map(lambda x: x[0, 0], x) for x in (episodes.actions, episodes.observations))
    for law, x in ((agent.f_A(m), a), (agent.f_O(m), o)):
        assert np.isfinite(law.entropy())
        assert not np.isnan(law.log_prob(x))
        assert shapes(law.sample(jax.random.key(0))) == shapes(x)


@pytest.mark.parametrize("agent", [ud.ExactAgent, ud.ThompsonAgent, ud.LSTMAgent])
def test_argument_order(agent):
    """A scanned g_A(m, a) would pass a type checker; the order is part of the contract."""
    assert list(inspect.signature(agent.g_A).parameters) == ["self", "a", "m", "intervened"]
    assert list(inspect.signature(agent.g_O).parameters) == ["self", "o", "m"]
    assert list(inspect.signature(agent.act).parameters) == ["self", "m", "key"]


def test_a_rollout_is_traced_once(bandit):
    """One compilation for any key, weights and number of calls."""
    traces = []

    class Counting(ud.AbstractAgent[jax.Array]):
        weight: jax.Array
        own_actions: str = eqx.field(static=True, default="do")
        marks: tuple = eqx.field(static=True, default=("do",))

        def init(self, *, num_rounds):
            return jnp.zeros(())

        def f_A(self, m):
            return ud.Categorical(logits=jnp.zeros(5) + self.weight)

        def f_O(self, m):
            return ud.Categorical(logits=jnp.zeros(2))

        def g_A(self, a, m, *, intervened):
            return m

        def g_O(self, o, m):
            traces.append(o)
            return m

    for seed in range(3):
        ud.rollout(bandit, Counting(jnp.array(float(seed))), key=jax.random.key(seed), num_episodes=4)
    assert len(traces) == 1


def test_an_untaught_mark_is_refused_where_an_agent_acts(bandit, no_type_checks):
    """Marks are checked before anything is compiled."""
    agent = ud.agent.with_marks(ud.LSTMAgent(bandit, 4, key=jax.random.key(0)), "do", ("see",))
    with pytest.raises(ValueError, match="cannot read actions marked do"):
        ud.rollout(bandit, agent, key=jax.random.key(0), num_episodes=1)
    with pytest.raises(ValueError, match="cannot read actions marked do"):
        ud.certify(agent, bandit, key=jax.random.key(0))
    with pytest.raises(ValueError, match='must be "do" or "see"'):
        agent.reading("saw")


def test_heads_describe_what_they_can_and_name_what_they_cannot():
    """A description survives freezing; a law without a head is named."""
    joint = ud.Joint(
        {"b": ud.Normal(jnp.zeros(2), 1.0), "a": ud.Categorical(probs=[0.5, 0.5]), "g": ud.Given(jnp.zeros(3))}
    )
    spec = heads.describe(joint)
    assert heads.thaw(heads.freeze(spec)) == spec
    law = heads.Head(spec, 4, key=jax.random.key(0))(jnp.ones(4))
    assert shapes(law.sample(jax.random.key(0))) == shapes(joint.sample(jax.random.key(0)))

    class Strange(ud.AbstractDistribution):
        def sample(self, key):
            return jnp.zeros(())

        def log_prob(self, x):
            return jnp.zeros(())

        def entropy(self):
            return jnp.zeros(())

    with pytest.raises(TypeError, match="no head for Strange"):
        heads.describe(Strange())
    with pytest.raises(ValueError, match="hidden_size must be at least 1"):
        ud.LSTMAgent(ud.tasks.bandit(), 0, key=jax.random.key(0))


def test_an_lstm_is_the_textbook_s():
    """The cell against the equations of Hochreiter and Schmidhuber as PyTorch writes them, in NumPy."""
    agent = ud.LSTMAgent(ud.tasks.bandit(), 3, key=jax.random.key(0))
    h, c = agent.g_O(jnp.array(1), agent.g_A(jnp.array(2), agent.init(num_rounds=1), intervened=True))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    h_, c_ = np.zeros(3), np.zeros(3)
    for x in (agent.read_do.table[2], agent.read_observation.table[1]):
        i, f, g, o = np.split(np.asarray(x + agent.bias) + h_ @ np.asarray(agent.recurrent), 4)
        c_ = sigmoid(f) * c_ + sigmoid(i) * np.tanh(g)
        h_ = sigmoid(o) * np.tanh(c_)
    np.testing.assert_allclose(h, h_, atol=1e-6)
    np.testing.assert_allclose(c, c_, atol=1e-6)
