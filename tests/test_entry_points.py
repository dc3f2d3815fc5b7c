"""Mistakes at the public functions: each is named in one line, before anything is compiled."""

import jax
import jax.numpy as jnp
import optax
import pytest

import undelude as ud
from processes import arm
from undelude._agents.base import AbstractAgent
from undelude._distributions import Parts, Symbols, spec_of
from undelude._teaching.losses import log_losses
from undelude.tasks import registry

KEY = jax.random.key(0)
BANDIT = ud.tasks.bandit(num_arms=2, num_rounds=2)
SMALL = {"steps": 2, "batch_size": 4}
pytestmark = pytest.mark.usefixtures("no_type_checks")


def gru(key=KEY):
    return ud.GRUAgent(BANDIT, 2, key=key)


TAKES_A_PROCESS = {
    "rollout": lambda x: ud.rollout(x, gru(), key=KEY, num_episodes=2),
    "posterior": lambda x: ud.posterior(x, None),
    "certify": lambda x: ud.certify(x, gru(), key=KEY),
    "delusion_gap": lambda x: ud.delusion_gap(x, key=KEY),
    "teach": lambda x: ud.teach(x, gru(), ud.Counterfactual(), key=KEY, **SMALL),
    "replicate": lambda x: ud.replicate(x, gru, ud.Counterfactual(), key=KEY, **SMALL),
    "check_task": lambda x: ud.check_task(x),
    "ExactAgent": lambda x: ud.ExactAgent(x),
    "ThompsonAgent": lambda x: ud.ThompsonAgent(x),
    "PlanningAgent": lambda x: ud.PlanningAgent(x, depth=1),
    "LSTMAgent": lambda x: ud.LSTMAgent(x, 2, key=KEY),
}
UNIFORM = ud.HostAgent(lambda num_episodes: num_episodes, lambda m, a, o: (jnp.full((m, 2), 0.5), m))
TAKES_A_KEY = {
    "rollout": lambda key: ud.rollout(BANDIT, gru(), key=key, num_episodes=2),
    "certify": lambda key: ud.certify(BANDIT, gru(), key=key, num_episodes=2),
    "certify a host agent": lambda key: ud.certify(BANDIT, UNIFORM, key=key, num_episodes=2),
    "teach": lambda key: ud.teach(BANDIT, gru(), ud.Counterfactual(), key=key, **SMALL),
    "replicate": lambda key: ud.replicate(BANDIT, gru, ud.Counterfactual(), key=key, **SMALL),
    "check_task": lambda key: ud.check_task(BANDIT, key=key),
}
WRONG_KEYS = {"int": 0, "several": jax.random.split(KEY, 3), "float": jnp.zeros(2)}


@pytest.mark.parametrize("name", TAKES_A_PROCESS)
@pytest.mark.parametrize("process", ["bandit", ud.tasks.bandit], ids=["name", "factory"])
def test_wrong_process_is_named(name, process):
    with pytest.raises(TypeError, match=r"process must be an ud\.InteractionProcess"):
        TAKES_A_PROCESS[name](process)


@pytest.mark.parametrize("name", TAKES_A_KEY)
@pytest.mark.parametrize("key", WRONG_KEYS)
def test_wrong_key_is_named(name, key):
    with pytest.raises(TypeError, match=r"key must be one random key"):
        TAKES_A_KEY[name](WRONG_KEYS[key])


def test_raw_keys_are_accepted():
    """Much code still uses `jax.random.PRNGKey`."""
    assert ud.rollout(BANDIT, gru(), key=jax.random.PRNGKey(0), num_episodes=2).actions.shape == (2, 2)


# Name: the call, the type of the error, the part of its message that names what is wrong.
WRONG = {
    "state": (lambda: teach(state=gru()), TypeError, "state must be .* run.state"),
    "another optimizer": (
        lambda: teach(state=teach().state, optimizer=optax.adam(1e-3)),
        ValueError,
        "state belongs to another optimizer",
    ),
    "optimizer": (lambda: teach(optimizer=1e-3), TypeError, r"optimizer must be .* not 0\.001"),
    "rate": (lambda: teach(learning_rate=-1.0), ValueError, r"learning_rate must be .* not -1\.0"),
    "rate nan": (lambda: teach(learning_rate=float("nan")), ValueError, "learning_rate must be .* not nan"),
    "rate words": (lambda: teach(learning_rate="hi"), ValueError, "learning_rate must be .* not hi"),
    "slip": (lambda: ud.tasks.grid(slip=None), ValueError, "grid: slip must be .*, not None"),
    "accuracy": (lambda: ud.tasks.merge(accuracy="a"), ValueError, "merge: accuracy must be .* not a"),
    "scale": (lambda: ud.tasks.arm(scale=jnp.inf), ValueError, "arm: scale must be .* not inf"),
    "price": (lambda: ud.tasks.doors(price=float("nan")), ValueError, "doors: price must be .* not nan"),
    "temperature": (lambda: ud.tasks.leduc(temperature=None), ValueError, "leduc: temperature must be .* not None"),
    "weight": (lambda: ud.Factual(observation_weight="1"), ValueError, "observation_weight must be .* not 1"),
    "tempered": (lambda: ud.TemperedAgent(gru(), "a"), ValueError, "temperature must be .* not a"),
    "factory": (lambda: replicate(gru()), TypeError, "make_agent must be a function of a key"),
    "option": (lambda: replicate(gru, step=5), TypeError, "replicate has no option step.* steps, batch_size"),
    "target": (lambda: log_losses(gru(), one_episode(), target="foo"), ValueError, "target must be .* not 'foo'"),
    "no expert": (lambda: log_losses(gru(), typed_history()), ValueError, 'target="distribution"'),
}


def teach(**options):
    return ud.teach(BANDIT, gru(), ud.Counterfactual(), key=KEY, **SMALL, **options)


def replicate(make_agent, **options):
    return ud.replicate(BANDIT, make_agent, ud.Counterfactual(), key=KEY, num_seeds=2, **options)


def one_episode():
    return jax.tree.map(lambda x: x[0], ud.rollout(BANDIT, gru(), key=KEY, num_episodes=1))


def typed_history():
    return ud.Episodes.of(BANDIT, actions=[0, 1], observations=[0, 1])


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_named(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()


class Broken(AbstractAgent):
    """An agent that keeps to the protocol; each subclass breaks one rule."""

    def init(self, *, num_rounds):
        return jnp.zeros(2)

    def f_A(self, m):
        return ud.Categorical(logits=m)

    def f_O(self, m):
        return ud.Categorical(logits=m)

    def g_A(self, a, m, *, intervened):
        return m

    def g_O(self, o, m):
        return m


class PredictsAnArray(Broken):
    def f_A(self, m):
        return m


class Grows(Broken):
    def g_O(self, o, m):
        return jnp.append(m, 0.0)


class SumsToTwo(Broken):
    def f_A(self, m):
        return ud.Categorical(log_probs=m)


@pytest.mark.parametrize(
    ("agent", "error", "message"),
    [
        (PredictsAnArray(), TypeError, r"PredictsAnArray\.f_A must return a distribution"),
        (Grows(), ValueError, r"Grows\.g_O returns a memory of float32\[3\], but init one of float32\[2\]"),
        (SumsToTwo(), ValueError, r"SumsToTwo: the probabilities that f_A returns do not sum to one \(off by 1\)"),
    ],
)
def test_broken_protocol_is_named(agent, error, message):
    with pytest.raises(error, match=message):
        ud.certify(BANDIT, agent, key=KEY, num_episodes=4, baselines=False)
    assert ud.certify(BANDIT, Broken(), key=KEY, num_episodes=4, baselines=False).action_kl_do > 0


def test_agent_of_another_process_is_refused():
    """JAX would clip symbols that the network does not have, and all numbers would be wrong."""
    merge, small, large = ud.tasks.merge(), ud.tasks.grid(size=3), ud.tasks.grid(size=4)
    actions, observations = merge.specs
    narrow = Parts.of(observations.tree | {"sign": Symbols(2)})
    for agent, process in (
        (ud.GRUAgent((actions, narrow), 2, key=KEY), merge),
        (ud.GRUAgent(small, 2, key=KEY), large),
        (ud.ExactAgent(BANDIT), large),
    ):
        for use in (ud.certify, lambda process, agent, key: ud.teach(process, agent, ud.Factual(), key=key)):
            if use is ud.certify or isinstance(agent, ud.GRUAgent):
                with pytest.raises(ValueError, match=r"has (actions|observations) of .* was made for another process"):
                    use(process, agent, key=KEY)


class Own(ud.AbstractDistribution):
    """A distribution of symbols that does not state their number."""

    distribution: ud.Categorical

    def sample(self, key):
        return self.distribution.sample(key)

    def log_prob(self, x):
        return self.distribution.log_prob(x)

    def entropy(self):
        return self.distribution.entropy()


def test_users_own_distribution_may_act():
    own = Own(ud.Categorical(probs=[0.3, 0.7]))
    assert BANDIT.action_spec.agrees(spec_of(own))
    assert not spec_of(own).agrees(spec_of(ud.Normal(0.0, 1.0)))
    assert not spec_of(own).agrees(spec_of(ud.Normal(jnp.zeros(2), 1.0)))
    assert not spec_of(own).agrees(spec_of(ud.Autoregressive(probs=jnp.full((2, 2), 0.25))))
    given = ud.Joint({"x": own, "clock": ud.Given(1.0)})
    assert spec_of(given).agrees(spec_of(given))
    run = ud.teach(BANDIT, gru(), ud.Blind(own), key=KEY, **SMALL)
    assert int(run.state.update) == SMALL["steps"]


def test_wrapped_optimizers_are_accepted():
    run = teach(optimizer=optax.MultiSteps(optax.adam(1e-3), 2))
    assert int(teach(state=run.state, optimizer=optax.MultiSteps(optax.adam(1e-3), 2)).state.update) == 2


def test_behaviour_of_wrong_actions_is_refused():
    process = arm()
    agent = ud.LSTMAgent(process, 2, key=KEY)
    for distribution in (ud.Categorical(probs=[0.5, 0.5]), ud.Normal(jnp.zeros(3), 1.0)):
        with pytest.raises(
            ValueError, match=r"arm has actions of numbers \[1\], but the behaviour's distribution is of"
        ):
            ud.teach(process, agent, ud.Blind(distribution), key=KEY, **SMALL)
        batch = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *jnp.shape(x))), distribution)
        host = ud.HostAgent(lambda n: None, lambda m, a, o, batch=batch: (batch, m))
        with pytest.raises(
            ValueError, match=r"HostAgent: predict .* returned a distribution of .* not of numbers \[1\]"
        ):
            ud.rollout(process, host, key=KEY, num_episodes=4)


# Their tables are large; `make test-all` plays them too.
LARGE = {"taxi", "frozen_lake", "cliff_walking", "leduc", "merge", "grid", "doors", "switching_bandit", "kuhn"}


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] * (x in LARGE)) for x in registry.TASKS])
def test_tasks_work_in_double_precision(name):
    with jax.enable_x64(True):
        process = registry.make(name)
        agent = ud.ExactAgent(process)
        episodes = ud.rollout(process, agent, key=jax.random.key(0), num_episodes=2, num_rounds=2)
        assert jnp.isfinite(episodes.reward).all()
