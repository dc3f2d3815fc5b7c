"""Processes as environments of Gymnasium, compared with rollouts, its own checks and its own vector environments."""

import copy
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jaxtyping import Array

import undelude as ud
import undelude.gym as ug
from processes import continuous_arm, stateless_expert
from undelude._drawing.film import film
from undelude._named_tasks import TASKS
from undelude._tree import index
from undelude.gym._envs.ids import id_of

KEY = jax.random.key(5)


class Countdown(ud.AbstractTask[Array]):
    """A coin that shows 1 ends the episode; without `symbols`, observations are numbers and nothing ends."""

    symbols: bool = eqx.field(static=True, default=True)

    def init(self, theta):
        return jnp.zeros((), jnp.int32)

    def Q_O(self, theta, w):
        if not self.symbols:
            return ud.Squashed(ud.Normal(jnp.zeros(2), jnp.ones(2)), 1.0, 3.0)
        return ud.Categorical(probs=jnp.array([0.5, 0.5]))

    def g_A(self, theta, a, w):
        return w

    def g_O(self, theta, o, w):
        return w + 1

    def reward(self, theta, w, a, o):
        return (a == theta).astype(float)

    def ends(self, o):
        return o == 1 if self.symbols else jnp.zeros((), bool)


def countdown(*, symbols: bool = True, num_rounds: int = 3) -> ud.InteractionProcess:
    expert = stateless_expert(jnp.array([[0.9, 0.1], [0.1, 0.9]]))
    return ud.InteractionProcess([0.5, 0.5], jnp.arange(2), Countdown(symbols), expert, num_rounds, name="countdown")


# Of each kind of space one; `make test-all` checks the other tasks.
QUICK = {"arm", "kuhn", "doors"}


@pytest.mark.parametrize("task", [pytest.param(x, marks=[pytest.mark.slow] * (x not in QUICK)) for x in TASKS])
def test_named_tasks_pass_gymnasiums_check(task: str):
    """Two complaints are true of the tasks: numbers without bounds, and doors has one round."""
    env = gymnasium.make(f"undelude.gym:{id_of(task)}").unwrapped
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(infinity|symmetric and normalized).*")
        if task == "doors":
            with pytest.raises(AssertionError, match="truncates after 1 step"):
                check_env(env, skip_render_check=True)
        else:
            check_env(env, skip_render_check=True)
    o, info = env.reset(seed=0, options={"theta": 1})
    assert (o in env.observation_space, info["theta"], info["expert_action"] in env.action_space) == (True, 1, True)


def test_arguments_of_make_are_the_tasks():
    env = gymnasium.make("undelude/Bandit-v0", num_arms=3, num_rounds=2)
    assert env.action_space == spaces.Discrete(3)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(2)] == [False, True]
    envs = gymnasium.make_vec("undelude/Bandit-v0", num_envs=2, num_arms=3)
    assert isinstance(envs, ug.TaskVectorEnv)
    assert envs.single_action_space == spaces.Discrete(3)


def test_gymnasium_is_loaded_by_undelude_gym_alone():
    """A new process, such as a worker, finds the id in the module that it names."""
    code = """
import sys
import undelude as ud
assert "gymnasium" not in sys.modules, "import undelude"
ud.tasks.bandit()
assert "gymnasium" not in sys.modules, "a task"
import gymnasium
assert gymnasium.make("undelude.gym:undelude/Bandit-v0").reset(seed=0)[0] == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_gymnasium_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ModuleNotFoundError, match=r"undelude.gym.TaskEnv needs Gymnasium: pip install .*\[gym\]"):
        ug.__getattr__("TaskEnv")
    assert ug.Policy is ud.Policy


# ----------------------------------------------------------------------------------------------------------- rollouts


@pytest.mark.parametrize(
    "name", ["kuhn", *(pytest.param(x, marks=pytest.mark.slow) for x in ("bandit", "merge", "switching_bandit"))]
)
def test_same_episodes_as_rollout(name: str):
    """With the same seed, environment and policy play the episodes of a rollout, symbol by symbol."""
    process = getattr(ud.tasks, name)(**({} if name == "kuhn" else {"num_rounds": 4}))
    agent = ud.ThompsonAgent(process)
    episodes = ud.rollout(process, agent, key=KEY, num_episodes=3)
    beliefs = {mark: np.exp(ud.posterior(process, episodes, own_actions=mark)) for mark in ("do", "see")}
    env, policy = ug.TaskEnv(process), ud.Policy(agent)
    for e in range(3):
        seed = 5 if e == 0 else None
        o, info = env.reset(seed=seed)
        a = policy.reset(seed=seed, opening=o)
        if process.opening:
            assert o == episodes.opening[e]
        for t in range(process.num_rounds):
            theta = episodes.theta[e, t] if process.theta_changes else episodes.theta[e]
            assert info["theta"] == theta
            np.testing.assert_allclose(info["expert_probs"], episodes.expert.probs[e, t], atol=1e-6)
            assert info["expert_action"] == episodes.expert_actions[e, t]
            for mark, belief in beliefs.items():
                np.testing.assert_allclose(info[f"belief_{mark}"], belief[e, t], atol=1e-5)
            np.testing.assert_allclose(policy.belief, info["belief_do"], atol=1e-5)
            assert a == episodes.actions[e, t]
            o, reward, terminated, truncated, info = env.step(a)
            jax.tree.map(np.testing.assert_allclose, o, index(index(episodes.observations, e), t))
            assert reward == pytest.approx(float(episodes.reward[e, t]))
            assert (terminated, truncated) == (False, t + 1 == process.num_rounds)
            if not truncated:
                a = policy.step(o)


def test_environments_of_a_process_share_one_program():
    one, two = (ug.TaskEnv(ud.tasks.bandit(num_rounds=3)) for _ in range(2))
    assert one._step.program is two._step.program
    one.reset(seed=0)
    two.reset(seed=1)
    one.step(0)
    two.step(1)
    assert one._step.program._cache_size() == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_copies_go_on_alike(copied: Any):
    """A planner tries actions in a copy."""
    env = ug.TaskEnv(ud.tasks.bandit(num_rounds=6))
    env.reset(seed=0)
    env.step(1)
    other = copied(env)
    assert [int(other.step(1)[0]) for _ in range(5)] == [int(env.step(1)[0]) for _ in range(5)]


def test_expert_of_other_actions():
    """Blocks have an axis for each symbol, normal distributions mean and standard deviation."""
    menu = ug.TaskEnv(ud.tasks.menu())
    _, info = menu.reset(seed=0)
    assert info["expert_probs"].shape == (6, 6)
    assert info["expert_probs"].sum() == pytest.approx(1)
    _, info = ug.TaskEnv(continuous_arm()).reset(seed=0)
    assert {"expert_mean", "expert_std", "theta"} <= info.keys()
    assert not {"belief_do", "belief_see", "expert_probs"} & info.keys()


# ----------------------------------------------------------------------------------------------------- start and end


def test_blank_is_unlike_any_observation():
    env = ug.TaskEnv(ud.tasks.merge(num_rounds=2))
    o, _ = env.reset(seed=0)
    assert (o["sign"], env.observation_space.spaces["sign"]) == (4, spaces.Discrete(5))
    assert not o["view"].any()
    assert env.step(0)[0]["sign"] < 4


def test_blank_of_numbers_alone():
    """Zero may be outside the box, and an observation may be zero."""
    env = ug.TaskEnv(countdown(symbols=False))
    o, _ = env.reset(seed=0)
    assert o in env.observation_space
    assert (o["first"], o["observation"].tolist()) == (1, [1, 1])
    later = env.step(0)[0]
    assert later in env.observation_space
    assert later["first"] == 0


def test_end_of_the_task_terminates():
    """Coins: the ends are as the observations say, and a last round that ends the task is not truncated."""
    env, ends = ug.TaskEnv(countdown()), []
    for e in range(20):
        env.reset(seed=e)
        while True:
            o, _, terminated, truncated, _ = env.step(0)
            assert terminated == (o == 1)
            if terminated or truncated:
                break
        ends.append((terminated, truncated))
        with pytest.raises(gymnasium.error.ResetNeeded, match="countdown: no episode is under way"):
            env.step(0)
    assert {*ends} == {(True, False), (False, True)}


@pytest.mark.parametrize(
    ("action", "message"),
    [(5, "from 0 to 4"), (np.array([1]), r"shape \[\], not \[1\]"), (0.5, "must be integers")],
)
def test_actions_outside_the_space_are_refused(action: Any, message: str):
    env = ug.TaskEnv(ud.tasks.bandit(num_rounds=3))
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_options_of_reset():
    env = ug.TaskEnv(ud.tasks.bandit(num_rounds=3))
    with pytest.raises(ValueError, match="theta=5 is outside the support"):
        env.reset(options={"theta": 5})
    with pytest.raises(ValueError, match="knows the options theta, not context"):
        env.reset(options={"context": 5})
    assert [env.reset(options={"theta": k})[1]["theta"] for k in range(5)] == [*range(5)]


def test_seeds():
    """A large seed is not cut off; without a seed episodes differ, and each environment has a stream of its own."""
    env = ug.TaskEnv(ud.tasks.bandit(num_arms=50, num_rounds=3))
    draws = [[env.reset(seed=s if i == 0 else None)[1]["theta"] for i in range(4)] for s in (0, 2**40, 2**41, 0)]
    assert draws[0] == draws[3]
    assert draws[0] != draws[1] != draws[2]
    assert len({*draws[0]}) > 1


def test_what_has_no_space_is_refused():
    class Pair(eqx.Module):
        x: Any

    joint = ud.Joint(Pair(ud.Categorical(probs=[0.5, 0.5])))
    process = countdown()
    task = type("Pairs", (Countdown,), {"Q_O": lambda self, theta, w: joint, "ends": ud.AbstractTask.ends})
    with pytest.raises(TypeError, match="observation is a Pair, which is not a space"):
        ug.TaskEnv(ud.InteractionProcess([0.5, 0.5], jnp.arange(2), task(), process.expert, 2))
    with pytest.raises(TypeError, match="InteractionProcess"):
        ug.TaskEnv("bandit")


# ------------------------------------------------------------------------------------------------------ side by side


def assert_same(x: Any, y: Any, what: str):
    if isinstance(x, dict):
        assert x.keys() == y.keys(), what
        for name in x:
            mask = y.get(f"_{name}", ...)  # The other rows of an information say nothing.
            pairs = [x[name], y[name]] if isinstance(x[name], dict) else [x[name][mask], y[name][mask]]
            assert_same(*pairs, f"{what}, {name}")
    elif isinstance(x, np.ndarray) and x.dtype == object:
        assert [row is None for row in x] == [row is None for row in y], what
        for a, b in zip(x, y, strict=True):
            if a is not None:
                assert_same(a, b, what)
    else:
        assert np.shape(x) == np.shape(y), what
        np.testing.assert_allclose(np.asarray(x, float), np.asarray(y, float), atol=1e-5, err_msg=what)


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize(
    "make",
    [countdown, ud.tasks.kuhn, pytest.param(lambda: ud.tasks.merge(num_rounds=2), marks=pytest.mark.slow)],
    ids=["countdown", "kuhn", "merge"],
)
def test_vector_environment_is_gymnasiums_own_of_single_ones(
    make: Callable[[], ud.InteractionProcess], mode: AutoresetMode
):
    """Observations, rewards, ends, information and new episodes are paired as `SyncVectorEnv` pairs them."""
    process = make()
    ours = ug.TaskVectorEnv(process, 3, autoreset_mode=mode)
    theirs = SyncVectorEnv([lambda: ug.TaskEnv(process)] * 3, autoreset_mode=mode)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert ours.metadata["autoreset_mode"] is mode
    rng = np.random.default_rng(0)
    for x, y in zip(*(envs.reset(seed=7) for envs in (ours, theirs)), strict=True):
        assert_same(x, y, "reset")
    thetas = set()
    for t in range(10):
        a = rng.integers(2, size=3)
        steps = [envs.step(a) for envs in (ours, theirs)]
        for x, y, what in zip(*steps, ("observation", "reward", "terminated", "truncated", "info"), strict=True):
            assert_same(x, y, f"round {t}, {what}")
        thetas |= {*steps[0][4]["theta"].tolist()}
        over = steps[0][2] | steps[0][3]
        if mode is AutoresetMode.DISABLED and over.any():
            with pytest.raises(gymnasium.error.ResetNeeded, match="episodes are over"):
                ours.step(a)
            for x, y in zip(*(envs.reset(options={"reset_mask": over}) for envs in (ours, theirs)), strict=True):
                assert_same(x, y, f"reset after round {t}")
    assert len(thetas) > 1


def test_thetas_and_seeds_of_a_vector_environment():
    envs = ug.TaskVectorEnv(ud.tasks.bandit(num_rounds=3), 3)
    assert envs.reset(seed=[4, 5, None], options={"theta": [4, 0, 1]})[1]["theta"].tolist() == [4, 0, 1]
    single = ug.TaskEnv(ud.tasks.bandit(num_rounds=3))
    draws = [single.reset(seed=s)[1]["theta"] for s in (4, 5)]
    assert envs.reset(seed=[4, 5, None])[1]["theta"][:2].tolist() == draws
    with pytest.raises(ValueError, match="2 seeds, but 3 environments"):
        envs.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="theta must be one index, or 3, not 2"):
        envs.reset(options={"theta": [1, 2]})
    with pytest.raises(ValueError, match="reset_mask must be 3 booleans, at least one of them true"):
        envs.reset(options={"reset_mask": np.zeros(3, bool)})
    with pytest.raises(ValueError, match=r"shape \[3\], not \[2\]"):
        envs.step(np.zeros(2, int))


# ---------------------------------------------------------------------------------------------------------- pictures


def test_pictures_are_those_of_the_film():
    """The film of a rollout and the pictures of the environment with the same seed are equal, pixel by pixel."""
    process = ud.tasks.merge(num_rounds=3)
    agent = ud.ExactAgent(process)
    episodes = ud.rollout(process, agent, key=KEY, num_episodes=1)
    env = gymnasium.make("undelude/Merge-v0", num_rounds=3, render_mode="rgb_array", size=64)
    envs = ug.TaskVectorEnv(process, 2, render_mode="rgb_array", size=64)
    env.reset(seed=5)
    envs.reset(seed=5)
    pictures, others = [env.render()], [envs.render()[0]]
    for t in range(3):
        a = int(episodes.actions[0, t])
        env.step(a)
        envs.step(np.array([a, 0]))
        pictures.append(env.render())
        others.append(envs.render()[0])
    np.testing.assert_array_equal(pictures, film(process, episodes, size=64).frames)
    np.testing.assert_array_equal(pictures, others)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="it has no drawing, because Theta is continuous"):
        ug.TaskEnv(continuous_arm(), "rgb_array")
    with pytest.raises(ValueError, match='render_mode must be None or "rgb_array", not'):
        ug.TaskEnv(ud.tasks.bandit(), "human")
    modes = [make(continuous_arm()).metadata["render_modes"] for make in (ug.TaskEnv, ug.TaskVectorEnv)]
    assert (modes, ug.TaskEnv(ud.tasks.bandit()).metadata["render_modes"]) == ([[], []], ["rgb_array"])


def test_videos(tmp_path):
    """Gymnasium's recorder writes an episode."""
    pytest.importorskip("moviepy")
    env = gymnasium.make("undelude/Bandit-v0", num_rounds=2, render_mode="rgb_array", size=64)
    env = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "videos"))
    env.reset(seed=0)
    while not env.step(0)[3]:
        pass
    env.close()
    assert next(tmp_path.rglob("*.mp4")).stat().st_size > 0
