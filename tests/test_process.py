"""Processes and rollouts: what is refused and in which words, and what an episode holds."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import undelude as ud
from processes import arm
from undelude._process import inference
from undelude._process.episodes import AGENT, EXPERT

TABLES: dict[str, Any] = {
    "prior": [0.25, 0.75],
    "expert": [[0.9, 0.1], [0.2, 0.8]],
    "task": [[[0.7, 0.3], [0.4, 0.6]], [[0.5, 0.5], [0.1, 0.9]]],
}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"prior": [0.5, 0.6]}, r"tables: prior does not sum to one \(sum 1.1\)"),
        ({"expert": [[0.9, 0.1], [0.2, 0.7]]}, r"tables: expert\[1\] does not sum to one \(sum 0.9\)"),
        ({"expert": [[1.5, -0.5], [0.2, 0.8]]}, r"tables: expert\[0\] has a negative entry"),
        ({"expert": [[np.nan, 0.1], [0.2, 0.8]]}, r"tables: expert\[0\] has an entry that is not finite"),
        ({"expert": [[0, 0], [0.2, 0.8]]}, r"tables: expert\[0\] has no mass on any value"),
        ({"task": [[[0.7, 0.3], [0, 0]], [[0.5, 0.5]] * 2]}, r"tables: task\[0, 1\] has no mass on any value"),
        ({"task": [[0.7, 0.3], [0.5, 0.5]]}, r"task has shape \(2, 2\); it must be \[K, A, O\]"),
        ({"prior": [1.0]}, r"prior \(1,\), expert \(2, 2\) and task \(2, 2, 2\) do not fit"),
        ({"prior": []}, r"prior has shape \(0,\); no axis may be empty"),
        ({"rewards": [1, 2, 3]}, "one number for each of 2 observations"),
        ({"rewards": [np.nan, 1]}, "rewards must be finite"),
        ({"num_rounds": 0}, "num_rounds must be a whole number of at least 1, not 0"),
        ({"num_rounds": 2**31}, "num_rounds must be at most 2147483647"),
        ({"prior": ["0.5", "0.5"]}, "tables: prior must be an array of numbers, not of <U3"),
        ({"expert": [[0.9, 0.1], [1j, 0.8]]}, "tables: expert must be an array of numbers, not of complex128"),
        ({"expert": [[0.9, 0.1], [1.0]]}, "tables: expert must be an array of numbers: setting"),
        ({"prior": [10**400, 0]}, "tables: prior must be an array of numbers: int too large"),
        ({"task": np.zeros((2, 2, 0))}, r"task has shape \(2, 2, 0\); no axis may be empty"),
        ({"rewards": [1e39, 0]}, "rewards must be finite"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_tables_are_refused(tables: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ud.tasks.from_tables(**(TABLES | tables))


def test_rows_within_tolerance_are_normalised():
    """A row that sums to 1.00005 would be false evidence of 5e-5 nats a round."""
    task = np.array(TABLES["task"])
    task[0] *= 1.00005
    process = ud.tasks.from_tables(**(TABLES | {"task": task}))
    np.testing.assert_allclose(np.exp(process.task.log_probs).sum(-1), 1, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_arms": 1}, "num_arms must be at least 2"),
        ({"expert_accuracy": 1.2}, "expert_accuracy must be a number from 0 to 1, not 1.2"),
        ({"reward": (0.5, -0.1)}, r"reward\[1\] must be a number from 0 to 1"),
    ],
)
def test_bad_bandits_are_refused(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ud.tasks.bandit(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": jnp.full(4, 0.25)}, r"thetas has shape \(5,\), but the prior has 4 values"),
        ({"prior": jnp.full((5, 5), 0.2)}, r"the prior must be \[K\]"),
        ({"prior": ud.Normal(0.0, 1.0)}, r"with thetas, the prior must be \[K\]"),
        ({"prior": jnp.array([0.5, 0.5, 0.5, -0.5, 0])}, "prior has a negative entry"),
        ({"thetas": None}, "thetas is None, so the prior must be a distribution"),
        ({"thetas": {"a": jnp.arange(5), "b": jnp.zeros((4, 2))}}, r"thetas has shape \(4, 2\)"),
        ({"num_rounds": -1}, "num_rounds must be a whole number of at least 1"),
    ],
)
def test_misfitting_parts_are_refused(bandit: ud.InteractionProcess, change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(bandit, **change)


def test_prior_takes_numpy_and_lists(bandit: ud.InteractionProcess):
    process = dataclasses.replace(bandit, prior=[0.2] * 5, thetas=np.arange(5))
    history = ud.Episodes.of(process, actions=[2], observations=[1])
    np.testing.assert_allclose(np.exp(ud.posterior(process, history)[-1]), np.array([1, 1, 3, 1, 1]) / 7, atol=1e-6)


class BrokenTask(ud.AbstractTask[Array]):
    """`Q(O | theta, w)` by a table whose distribution after action 1 is for the test to choose."""

    second: Array
    theta_free_memory: ClassVar[bool] = True

    def init(self, theta):
        return jnp.asarray(-1)

    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.where(w == 0, jnp.array([0.5, 0.5]), self.second))

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return jnp.zeros(())


class BrokenExpert(ud.AbstractExpert[None]):
    logits: Array
    theta_free_memory: ClassVar[bool] = True

    def init(self, theta):
        return None

    def Q_A(self, theta, e):
        return ud.Categorical(logits=self.logits)

    def g_A(self, theta, a, e):
        return None

    def g_O(self, theta, o, e):
        return None


class NoOpening(BrokenTask):
    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.where(w == -1, 0.0, jnp.array([0.5, 0.5])))


def small(second: Any = (0.5, 0.5), logits: Any = (0.0, 0.0), **changes: Any) -> ud.InteractionProcess:
    parts = {"prior": [0.5, 0.5], "thetas": jnp.arange(2), "num_rounds": 3, "name": "small"}
    task, expert = BrokenTask(jnp.array(second)), BrokenExpert(jnp.array(logits))
    return ud.InteractionProcess(**({"task": task, "expert": expert} | parts | changes))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"second": (0.5, 0.6)}, r"small: task: Q_O\(theta, w\) after each first action\[0, 1\] does not sum to one"),
        ({"second": (np.nan, 0.5)}, r"small: task: .* after each first action\[0, 1\] has an entry that is not finite"),
        ({"second": (0.5, 0.6), "logits": (0.0, -np.inf)}, r"action\[0, 1\] does not sum to one"),
        ({"second": (0.5, 0.6), "opening": True}, r"action\[0, 1\] does not sum to one"),
        ({"opening": True, "task": NoOpening(jnp.array([0.5, 0.5]))}, r"of the opening\[0\] has no mass on any value"),
        ({"logits": (-np.inf, -np.inf)}, r"small: expert: first Q_A\(theta, e\)\[0\] has an entry that is not finite"),
    ],
)
def test_first_round_is_validated(parts: dict[str, Any], message: str):
    """Also the distribution after an action that the expert never takes: an agent may."""
    with pytest.raises(ValueError, match=message):
        small(**parts)


class Stay(eqx.Module):
    """Theta_t+1 is theta_t with probability `stay`; `size` thetas."""

    stay: float
    size: int = eqx.field(static=True, default=2)

    def __call__(self, theta, w):
        distribution = jnp.full(self.size, (1 - self.stay) / (self.size - 1)).at[theta].set(self.stay)
        return ud.Categorical(probs=distribution)


def test_transition_is_validated(bandit: ud.InteractionProcess):
    small(transition=Stay(0.9))
    with pytest.raises(ValueError, match="must return a Categorical over the indices of thetas, 0 to 1"):
        small(transition=Stay(0.9, size=3))
    with pytest.raises(TypeError, match=r"small: transition\(theta, w\) is .*, not a distribution"):
        small(transition=lambda theta, w: jnp.array([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"small: transition\(theta, w\)\[0\] does not sum to one \(sum 1.2\)"):
        small(transition=lambda theta, w: ud.Categorical(probs=jnp.array([0.5, 0.7])))
    with pytest.raises(ValueError, match=r"small: with a transition, the memories .* declare theta_free_memory = True"):
        small(transition=Stay(0.9), task=ThetaTask(jnp.array([0.5, 0.5])))


class ThetaTask(BrokenTask):
    theta_free_memory: ClassVar[bool] = False


class LyingTask(BrokenTask):
    """It says that its memory is free of theta, and it is not."""

    def g_O(self, theta, o, w):
        return w + theta


class LyingExpert(BrokenExpert):
    def init(self, theta):
        return theta

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e


def test_false_theta_free_memory_is_refused():
    """One copy of it for all thetas would be wrong without a word."""
    with pytest.raises(ValueError, match=r"small: task declares theta_free_memory, but .* its memory differs"):
        small(task=LyingTask(jnp.array([0.5, 0.5])))
    with pytest.raises(ValueError, match="small: expert declares theta_free_memory, but"):
        small(expert=LyingExpert(jnp.array([0.0, 0.0])))


# ---------------------------------------------------------------------------------------------- a continuous Theta


class GaussianTask(ud.AbstractTask[None]):
    """`O ~ N(theta, 1)`."""

    def init(self, theta):
        return None

    def Q_O(self, theta, w):
        return ud.Normal(theta, 1.0)

    def g_A(self, theta, a, w):
        return None

    def g_O(self, theta, o, w):
        return None

    def reward(self, theta, w, a, o):
        return -((a - theta) ** 2)


class GaussianExpert(ud.AbstractExpert[None]):
    """`A ~ N(theta, .1)`."""

    def init(self, theta):
        return None

    def Q_A(self, theta, e):
        return ud.Normal(theta, 0.1)

    def g_A(self, theta, a, e):
        return None

    def g_O(self, theta, o, e):
        return None


def gaussian(**changes: Any) -> ud.InteractionProcess:
    parts = {"prior": ud.Normal(0.0, 1.0), "thetas": None, "num_rounds": 3, "name": "gaussian"}
    return ud.InteractionProcess(**(parts | {"task": GaussianTask(), "expert": GaussianExpert()} | changes))


@pytest.mark.parametrize(
    ("part", "method", "broken"),
    [
        ("task", "g_A", lambda self, theta, a, w: jnp.stack([w, w])),
        ("task", "g_O", lambda self, theta, o, w: w + 0.5),
        ("expert", "g_A", lambda self, theta, a, e: jnp.zeros(2)),
        ("expert", "g_O", lambda self, theta, o, e: jnp.zeros(())),
    ],
)
def test_memory_of_changing_shape_is_named(part, method, broken):
    """Before the distributions, which would fail in ways of their own; whoever uses the process has this line."""
    sound = small()
    side = getattr(sound, part)
    other = type(f"Growing{part}", (type(side),), {method: broken})
    fields = {f.name: getattr(side, f.name) for f in dataclasses.fields(side)}
    with pytest.raises(ValueError, match=rf"small: {part}\.{method} returns a memory of .*, but {part}\.init one of"):
        small(**{part: other(**fields)})


def test_continuous_theta_moves():
    """Its path, vectors too, is theta before each round and after the last: here one more each time."""

    class Plane(GaussianTask):
        theta_free_memory = True

        def Q_O(self, theta, w):
            return ud.Normal(theta[0], 1.0)

        def reward(self, theta, w, a, o):
            return theta[1]

    class Guide(GaussianExpert):
        theta_free_memory = True

        def Q_A(self, theta, e):
            return ud.Normal(theta[0], 0.1)

    process = gaussian(
        prior=ud.Normal(jnp.zeros(2), 1.0),
        task=Plane(),
        expert=Guide(),
        transition=lambda theta, w: ud.Normal(theta + 1, 1e-6),
    )
    path = ud.rollout(process, None, key=jax.random.key(0), num_episodes=4, executor="expert").theta
    assert path.shape == (4, 4, 2)
    np.testing.assert_allclose(jnp.diff(path, axis=1), 1, atol=1e-4)


def test_continuous_theta_has_no_exact_agent():
    process = gaussian()
    for make in (ud.ExactAgent, ud.ThompsonAgent):
        with pytest.raises(TypeError, match=r"gaussian has a continuous Theta, but .* give thetas="):
            make(process)
    with pytest.raises(TypeError, match="continuous Theta"):
        ud.posterior(process, ud.Episodes.of(process, actions=[0.0], observations=[1.0]))
    with pytest.raises(ValueError, match=r"theta=0 cannot be fixed, because Theta is continuous"):
        ud.rollout(process, None, key=jax.random.key(0), num_episodes=1, executor="expert", theta=0)


def test_expert_acts_on_continuous_theta():
    process = gaussian()
    episodes = ud.rollout(process, None, key=jax.random.key(0), num_episodes=4000, executor="expert")
    theta = np.asarray(episodes.theta)
    # N(0, 1) and N(theta, .1) and N(theta, 1), each mean within 5 standard errors.
    assert abs(theta.mean()) < 5 / np.sqrt(4000)
    assert abs((episodes.actions - theta[:, None]).mean()) < 5 * 0.1 / np.sqrt(12_000)
    assert abs((episodes.observations - theta[:, None]).mean()) < 5 / np.sqrt(12_000)


def test_exact_gaussian_inference():
    """Five values of theta, observations and actions in the reals: Bayes' rule with densities."""
    values = np.linspace(-2, 2, 5)
    process = gaussian(prior=np.full(5, 0.2), thetas=values)
    a, o = np.array([0.3, 0.9]), np.array([1.5, 0.2])
    history = ud.Episodes.of(process, actions=a, observations=o, intervened=[True, False])
    # The first action was done and is no evidence; the second was seen.
    log_joint = -0.5 * ((o[:, None] - values) ** 2).sum(0) - 0.5 * ((a[1] - values) / 0.1) ** 2
    joint = np.exp(log_joint - log_joint.max())
    np.testing.assert_allclose(np.exp(ud.posterior(process, history)[-1]), joint / joint.sum(), atol=1e-6)
    after = inference.filter(process, history)
    distribution = inference.predict_action(process, jax.tree.map(lambda x: x[-1], after))
    assert isinstance(distribution, ud.Mixture)
    density = np.exp(-0.5 * ((0.5 - values) / 0.1) ** 2) / (0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(np.exp(distribution.log_prob(jnp.array(0.5))), joint / joint.sum() @ density, rtol=1e-4)


# --------------------------------------------------------------------------------------------------- stored histories


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        ({"actions": [0, 5]}, "bandit: actions must be integers from 0 to 4, not from 0 to 5"),
        ({"actions": [0, -1]}, "actions must be integers from 0 to 4, not from -1 to 0"),
        ({"observations": [2, 0]}, "observations must be integers from 0 to 1, not from 0 to 2"),
        ({"actions": [0.0, 1.0]}, "actions must be integers from 0 to 4, not float32"),
        ({"observations": [True, False]}, "observations must be integers from 0 to 1, not bool"),
        ({"observations": [1]}, r"observations must have the shape \(2,\), not \(1,\)"),
        ({"observations": [[1, 1]]}, r"observations must have the shape \(2,\), not \(1, 2\)"),
        ({"actions": [[[0, 1]]]}, r"actions must be \[T\] or \[B, T\], not \[1, 1, 2\]"),
        ({"actions": 0}, r"actions must be \[T\] or \[B, T\], not \[\]"),
        ({"intervened": [True]}, r"intervened must be booleans .* of shape \[2\] or for all alike, not bool\[1\]"),
        ({"intervened": [0, 1]}, r"intervened must be booleans .* not int32"),
        ({"opening": 0}, "bandit does not open with an observation, but these episodes have one"),
        ({"actions": [0, 2**31]}, "actions must be integers of 32 bits, not from 0 to 2147483648"),
        ({"actions": None}, r"actions must have the structure PyTreeDef\(\*\), not"),
        ({"observations": "10"}, "observations must be an array of numbers, not of <U2"),
        ({"intervened": {}}, "intervened must have the structure"),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_histories_refused(bandit: ud.InteractionProcess, symbols: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ud.Episodes.of(bandit, **({"actions": [0, 1], "observations": [1, 0]} | symbols))


def test_missing_opening_is_refused(bandit: ud.InteractionProcess):
    process = small(opening=True)
    with pytest.raises(ValueError, match="small opens with an observation, but these episodes lack one"):
        ud.Episodes.of(process, actions=[0], observations=[1])
    with pytest.raises(ValueError, match="opening must be integers from 0 to 1, not 2"):
        ud.Episodes.of(process, actions=[0], observations=[1], opening=2)
    with pytest.raises(ValueError, match=r"opening must have the shape \(2,\), not \(\)"):
        ud.Episodes.of(process, actions=[[0], [0]], observations=[[1], [1]], opening=1)


def test_posterior_checks_stored_symbols(bandit: ud.InteractionProcess):
    history = ud.Episodes.of(bandit, actions=[0, 1], observations=[1, 0])
    with pytest.raises(ValueError, match="actions must be integers from 0 to 4"):
        ud.posterior(bandit, dataclasses.replace(history, actions=jnp.array([0, 7])))
    with pytest.raises(ValueError, match="frog: actions must be integers from 0 to 1"):
        ud.posterior(ud.tasks.prize_or_frog(), ud.Episodes.of(bandit, actions=[4], observations=[1]))


# ----------------------------------------------------------------------------------------------------------- rollouts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"theta": 5}, "bandit: theta=5 is outside the support; it is an index from 0 to 4"),
        ({"theta": -1}, "theta=-1 is outside the support"),
        ({"num_episodes": 0}, "num_episodes must be a whole number of at least 1, not 0"),
        ({"num_rounds": 0}, "num_rounds must be a whole number of at least 1, not 0"),
        ({"num_episodes": 2**40}, "num_episodes must be at most 2147483647"),
        ({"theta": [[0], [1, 2]]}, r"theta=\[\[0\], \[1, 2\]\] is outside the support"),
        ({"executor": np.zeros(2)}, 'executor must be "agent" or "expert"'),
        ({"agent": None}, 'rollout needs an agent to act; .*executor="expert"'),
    ],
)
@pytest.mark.usefixtures("no_type_checks")
def test_bad_rollouts_are_refused(bandit: ud.InteractionProcess, arguments: dict[str, Any], message: str):
    arguments = {"agent": ud.ExactAgent(bandit), "num_episodes": 2} | arguments
    with pytest.raises(ValueError, match=message):
        ud.rollout(bandit, arguments.pop("agent"), key=jax.random.key(0), **arguments)


def test_theta_without_mass_is_refused():
    process = ud.tasks.from_tables(**(TABLES | {"prior": [1.0, 0.0]}))
    with pytest.raises(ValueError, match="theta=1 is outside the support; the prior gives it no probability"):
        ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=1, theta=1)


@pytest.mark.usefixtures("no_type_checks")
def test_rollout_refuses_non_agents(bandit: ud.InteractionProcess):
    with pytest.raises(TypeError, match=r"agent must be an agent, such as ud.ExactAgent\(process\), not a str"):
        ud.rollout(bandit, "lstm", key=jax.random.key(0), num_episodes=1)


def test_agent_of_another_process_is_refused(bandit: ud.InteractionProcess, frog: ud.InteractionProcess):
    with pytest.raises(ValueError, match="frog has actions of 2 symbols, but this ExactAgent predicts 5 symbols"):
        ud.rollout(frog, ud.ExactAgent(bandit), key=jax.random.key(0), num_episodes=1)


def test_resample_is_checked(bandit: ud.InteractionProcess):
    with pytest.raises(
        ValueError, match='resample must be a number of rounds of at least 1, "episode" or "belief", not 0'
    ):
        ud.ThompsonAgent(bandit, resample=0)


@pytest.fixture(scope="module")
def played(bandit: ud.InteractionProcess) -> ud.Episodes:
    return ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(1), num_episodes=8)


def test_episode_i_depends_on_key_and_i(bandit: ud.InteractionProcess, played: ud.Episodes):
    agent = ud.ExactAgent(bandit)
    again = ud.rollout(bandit, agent, key=jax.random.key(1), num_episodes=8)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, played, again))
    fewer = ud.rollout(bandit, agent, key=jax.random.key(1), num_episodes=3)
    assert jax.tree.all(jax.tree.map(lambda x, y: jnp.array_equal(x[:3], y), played, fewer))
    other = ud.rollout(bandit, agent, key=jax.random.key(2), num_episodes=8)
    assert not jnp.array_equal(played.actions, other.actions)


def test_fields_of_an_episode(bandit: ud.InteractionProcess, played: ud.Episodes):
    B, T = 8, bandit.num_rounds
    assert played.theta.shape == (B,)
    for part in (played.actions, played.observations, played.expert_actions, played.reward, played.mask):
        assert part.shape == (B, T)
    assert played.mask.all()
    assert (played.executor == AGENT).all()
    assert played.intervened.all()
    np.testing.assert_array_equal(played.reward, played.observations)
    # The expert's distribution is the one under the true theta: .6 on the best arm.
    best = played.expert.probs[np.arange(B), :, played.theta]
    np.testing.assert_allclose(best, 0.6, atol=1e-6)


def test_marks_follow_executor(bandit: ud.InteractionProcess):
    seen = ud.rollout(bandit, ud.ExactAgent(bandit, own_actions="see"), key=jax.random.key(1), num_episodes=2)
    assert (seen.executor == AGENT).all()
    assert not seen.intervened.any()
    expert = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(1), num_episodes=2, executor="expert")
    assert (expert.executor == EXPERT).all()
    assert not expert.intervened.any()
    np.testing.assert_array_equal(expert.actions, expert.expert_actions)


def test_fixed_theta_needs_no_new_trace(bandit: ud.InteractionProcess, compilations: Callable[[], int]):
    agent = ud.ExactAgent(bandit)
    for theta in range(3):
        episodes = ud.rollout(bandit, agent, key=jax.random.key(1), num_episodes=2, theta=theta)
        assert (episodes.theta == theta).all()
        assert theta == 0 or compilations() == 0
        compilations()


def test_rollout_is_traced_once(bandit: ud.InteractionProcess):
    """Python is entered while tracing only: the number of calls depends neither on rounds nor on repetition."""

    def calls(num_rounds: int) -> int:
        CountingTask.calls = 0
        ud.rollout(process, agent, key=jax.random.key(0), num_episodes=2, num_rounds=num_rounds)
        return CountingTask.calls

    process = small(task=CountingTask(jnp.array([0.5, 0.5])))
    agent = ud.ExactAgent(process)
    first, again, longer = calls(3), calls(3), calls(50)
    assert longer <= first
    assert again < longer, "a second rollout of the same shape traces nothing again"


class CountingTask(BrokenTask):
    calls: ClassVar[int] = 0

    def Q_O(self, theta, w):
        CountingTask.calls += 1
        return BrokenTask.Q_O(self, theta, w)


def test_expected_reward(bandit: ud.InteractionProcess):
    """The expert earns .6 * .75 + .4 * .25 = .55 a round, here within 5 standard errors."""
    episodes = ud.rollout(bandit, None, key=jax.random.key(0), num_episodes=5000, executor="expert")
    assert abs(episodes.reward.mean() - 0.55) < 5 * np.sqrt(0.55 * 0.45 / episodes.reward.size)


def test_theta_follows_the_transition():
    """Theta_1 by the prior, each next one the same with probability .8; the opening's draw comes before round 1."""
    process = small(transition=Stay(0.8), opening=True, prior=[1.0, 0.0], num_rounds=4)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=4000)
    path = np.asarray(episodes.theta)
    assert path.shape == (4000, 5)
    moved = np.concatenate([path[:, :1] != 0, path[:, 1:] != path[:, :-1]], 1)
    np.testing.assert_allclose(moved.mean(0), 0.2, atol=5 * np.sqrt(0.16 / 4000))


def test_histories_with_parts():
    """`Episodes.of` takes a dictionary of parts; a gap in the mask is refused."""
    process = arm(num_rounds=2)
    position = jnp.array([0.2, 0.4])
    history = ud.Episodes.of(process, actions=[[0.2], [0.2]], observations={"cue": [1, 0], "position": position})
    assert ud.posterior(process, history).shape == (3, 3)
    gap = dataclasses.replace(history, mask=jnp.array([False, True]))
    with pytest.raises(ValueError, match="mask is false before a round that exists"):
        ud.posterior(process, gap)


class Looking(ud.AbstractExpert):
    """Asks in Python for a number that is not known while it is compiled, or returns what is not a distribution."""

    say: Callable[[Any], Any] = eqx.field(static=True)

    def init(self, theta):
        return jnp.zeros((), jnp.int32)

    def Q_A(self, theta, e):
        return self.say(e)

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e + 1


@pytest.mark.parametrize(
    ("say", "words"),
    [
        (
            lambda e: ud.Categorical(probs=jnp.ones(5) / (5 if e < 3 else 4)),
            r"\(test_process.py, line \d+\).*jnp.where",
        ),
        (lambda e: ud.Categorical(logits=np.ones(5) * np.asarray(e)), r"\(test_process.py, line \d+\).*jax.numpy"),
        (lambda e: jnp.ones(5) / 5, "expert.Q_A is an array, not a distribution; give probabilities as ud.Categorical"),
    ],
)
def test_untraceable_expert_is_explained(bandit: ud.InteractionProcess, say: Any, words: str):
    with pytest.raises(TypeError, match=f"mine: .*{words}"):
        ud.InteractionProcess(bandit.prior, bandit.thetas, bandit.task, Looking(say), 3, name="mine")


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (
            lambda e: ud.Categorical(probs=jnp.ones((1, 5)) / 5),
            r"result of expert.Q_A: .* shape \[1, 5\].*index the row",
        ),
        (lambda e: {"a": 1}["b"], r"expert.Q_A fails \(test_process.py, line \d+\): KeyError: 'b'"),
    ],
)
def test_useless_result_is_explained(bandit: ud.InteractionProcess, say: Any, message: str):
    with pytest.raises(ValueError, match=f"mine: .*{message}"):
        ud.InteractionProcess(bandit.prior, bandit.thetas, bandit.task, Looking(say), 3, name="mine")


class Turned(BrokenTask):
    def g_A(self, a, theta, w):
        return jnp.asarray(a)


class Short(BrokenTask):
    def reward(self, w, a, o):
        return jnp.zeros(())


class OtherNames(BrokenTask):
    """Names of the user's own, in the right order, and an option."""

    def g_A(self, hidden, action, memory, scale=1):
        return jnp.asarray(action)


class HiddenState(BrokenTask):
    """Theta is called state, as it may be if it is the hidden state of a world."""

    def g_A(self, state, a, w):
        return jnp.asarray(a)


def test_arguments_in_another_order_are_refused():
    second = jnp.array([0.5, 0.5])
    with pytest.raises(TypeError, match=r"task.g_A takes \(a, theta, w\), but it is called as g_A\(theta, a, w\)"):
        small(task=Turned(second))
    with pytest.raises(TypeError, match=r"task.reward takes \(w, a, o\), but it is called as reward\(theta, w, a, o\)"):
        small(task=Short(second))
    with pytest.raises(TypeError, match=r"transition takes \(w, theta\)"):
        small(transition=lambda w, theta: ud.Categorical(probs=[0.5, 0.5]))
    assert small(task=OtherNames(second)).num_thetas == 2
    assert small(task=HiddenState(second)).num_thetas == 2


def test_attribute_without_field_is_refused():
    with pytest.raises(TypeError, match=r"__init__ sets self\.p, which is not a field"):

        class Parametrised(BrokenTask):
            def __init__(self, p):
                self.second, self.p = jnp.array([1 - p, p]), p


def test_tables_in_numpy_are_indexed_by_theta():
    """A NumPy array cannot be indexed by a traced theta; the process holds a JAX array in its place."""

    class Tabled(BrokenTask):
        def Q_O(self, theta, w):
            return ud.Categorical(probs=self.second[theta])

    assert small(task=Tabled(np.eye(2))).observation_spec.n == 2


def test_list_of_thetas_is_a_tree(bandit: ud.InteractionProcess):
    with pytest.raises(ValueError, match=r"thetas has single numbers, but the prior has 5 values; .*jnp.arange"):
        ud.InteractionProcess(bandit.prior, [0, 1, 2, 3, 4], bandit.task, bandit.expert, 3, name="mine")
