"""Episodes come back from Minari as they were, and data sets from elsewhere are read as far as they go."""

import importlib.util

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from environments import CONTEXTS, Ledger
from undelude import gym as ug
from undelude._process.episodes import EXPERT
from undelude._teaching.host_updates import collect_in

KEY = jax.random.key(0)
has_h5py = importlib.util.find_spec("h5py") is not None
FORMATS = ["arrow", pytest.param("hdf5", marks=pytest.mark.skipif(not has_h5py, reason="h5py is not installed"))]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))


def label(observation, context):
    weights = np.array([context, 1 + observation[1], 1 + observation[2], 1 + observation[3]], float)
    return weights / weights.sum()


def ledger(**options):
    options = {"num_rounds": 8, "contexts": CONTEXTS, "expert": label, "reward_observed": True} | options
    return ug.HostWorld(Ledger, **options)


class Point(gymnasium.Env):
    """Numbers as actions, and an observation with a whole number and an image."""

    observation_space = gymnasium.spaces.Dict(
        {
            "at": gymnasium.spaces.Box(-9, 9, (2,), np.float32),
            "kind": gymnasium.spaces.Discrete(3, start=2),
            "picture": gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8),
        }
    )
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def seen(self):
        picture = self.np_random.integers(0, 256, (8, 8, 3), np.uint8)
        return {"at": self.at.astype(np.float32), "kind": 2 + self.context, "picture": picture}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.context, self.at, self.t = options["context"], self.np_random.normal(size=2), 0
        return self.seen(), {}

    def step(self, action):
        self.at, self.t = self.at + action, self.t + 1
        return self.seen(), float(self.at[0]), self.t == 3 + self.context, False, {}


def point(**options):
    options = {
        "num_rounds": 5,
        "contexts": [0, 1],
        "expert": lambda o, c: (c - o["at"], 0.1),
        "reward_observed": False,
        "at_end": "end",
    } | options
    return ug.HostWorld(Point, **options)


WORLDS = {
    "probabilities, and another episode after an end": ledger,
    "a mean and a scale, parts, and an early end": point,
    "actions alone": lambda: point(expert=lambda o, c: np.clip(c - o["at"], -1, 1)),
    "a process, without an opening": lambda: ud.tasks.bandit(num_arms=3, num_rounds=4),
    "a process with an opening": lambda: ud.tasks.grid(num_rounds=4),
    "theta that changes": lambda: ud.tasks.switching_bandit(num_arms=3, num_rounds=4),
}
# A process with an opening and a world with parts stand for these in `make test`.
SIMILAR = {"probabilities, and another episode after an end", "a process, without an opening", "theta that changes"}


def same(x, y, mask):
    """Compare where the rounds exist."""
    assert jax.tree.structure(x) == jax.tree.structure(y)
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(
            a[mask] if a.shape[:2] == mask.shape else a, b[mask] if a.shape[:2] == mask.shape else b
        )


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("make", [pytest.param(x, marks=[pytest.mark.slow] * (x in SIMILAR)) for x in WORLDS])
def test_round_trip_is_without_loss(make, data_format):
    world = WORLDS[make]()
    if isinstance(world, ug.HostWorld):
        agent = ud.GRUAgent(world, 4, key=KEY)
        episodes = jax.tree.map(jnp.asarray, collect_in(world, agent, ud.Mixed(), KEY, 0, 6))
        assert 0 < (np.asarray(episodes.executor) == EXPERT).mean() < 1
    else:
        episodes = ud.rollout(world, ud.GRUAgent(world, 4, key=KEY), key=KEY, num_episodes=6)
    ug.to_minari(world, episodes, "ours/mixed-v0", data_format=data_format)
    back = ug.from_minari("ours/mixed-v0", world)
    mask = np.asarray(episodes.mask)[:, : back.num_rounds]
    np.testing.assert_array_equal(back.mask, mask)
    assert not np.asarray(episodes.mask)[:, back.num_rounds :].any()
    for name in ("theta", "opening"):
        same(getattr(episodes, name), getattr(back, name), mask)
    for name in ("actions", "observations", "executor", "intervened", "expert", "expert_actions", "reward"):
        short = jax.tree.map(lambda x: x[:, : back.num_rounds], getattr(episodes, name))
        same(short, getattr(back, name), mask)


@pytest.mark.slow
def test_data_set_supports_the_teachings_that_its_episodes_do():
    world = ledger()
    agent = ud.GRUAgent(world, 4, key=KEY)
    options = {"key": KEY, "steps": 1, "batch_size": 4}
    for executor, teaching in (("agent", ud.Counterfactual()), ("expert", ud.Cloning())):
        episodes = ud.rollout(world, agent, executor=executor, key=KEY, num_episodes=6)
        data = ug.to_minari(world, episodes, f"ours/{executor}-v0", data_format="arrow", keep_theta=False)
        back = ug.from_minari(data, world)
        assert back.theta is None
        runs = [ud.teach(world, agent, teaching, data=x, **options) for x in (episodes, back)]
        assert runs[0].metrics[0]["action_loss"] == runs[1].metrics[0]["action_loss"]
    with pytest.raises(ValueError, match=r"all actions are the expert's own.*undelude.offline"):
        ud.teach(world, agent, ud.Counterfactual(), data=back, **options)
    with pytest.raises(ValueError, match=r'"ours/agent-v0" already. Delete it, minari.delete_dataset'):
        ug.to_minari(world, episodes, "ours/agent-v0", data_format="arrow")


def foreign(world, *, theta):
    """A data set of an environment, as others record it: whole observations, and the environment's own actions."""
    import minari

    rng, buffers = np.random.default_rng(0), []
    for i in range(4):
        env, k = Ledger(), i % 3
        o, _ = env.reset(seed=i, options={"context": CONTEXTS[k]})
        rows, actions, rewards, ends = [o.copy()], [], [], []
        while not ends or not any(ends[-1]):
            actions.append(int(rng.integers(1, 5)))
            o, reward, *end, _ = env.step(actions[-1])
            rows.append(o.copy())
            rewards.append(reward)
            ends.append(end)
        infos = {"theta": [k] * len(rows)} if theta else {}
        terminations, truncations = (list(x) for x in zip(*ends, strict=True))
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=i,
                observations=np.stack(rows),
                actions=actions,
                rewards=rewards,
                terminations=terminations,
                truncations=truncations,
                infos=infos,
            )
        )
    about = {"algorithm_name": "x", "author": "x", "author_email": "x@x.x", "code_permalink": "x", "description": "x"}
    spaces = {"action_space": world.action_space, "observation_space": world.observation_space}
    name = f"theirs/{'known' if theta else 'unknown'}-v0"
    return minari.create_dataset_from_buffers(name, buffers, data_format="arrow", **spaces, **about)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`eval_env` is set to None", "ignore:env_spec is None")
def test_data_sets_from_elsewhere():
    """With theta our expert labels them, as it does in a rollout; without, they support cloning alone."""
    world = ledger(hide=[0], at_end="end")
    known, unknown = (foreign(world, theta=theta) for theta in (True, False))
    with pytest.raises(ValueError, match=r'does not say who acted.*actor="expert"'):
        ug.from_minari(known, world)
    back = ug.from_minari(known, world, actor="agent")
    mask = np.asarray(back.mask)
    seen = np.concatenate([np.asarray(back.opening["state"])[:, None], back.observations["state"]], 1)
    assert seen.shape[-1] == 3
    for i, t in np.argwhere(mask):
        context = CONTEXTS[int(back.theta[i])]
        np.testing.assert_allclose(back.expert.probs[i, t], label([context, *seen[i, t]], context), atol=1e-6)
    np.testing.assert_array_equal(seen[:, 1:, 2][mask], np.asarray(back.actions)[mask] + 1)
    np.testing.assert_array_equal(back.observations["reward"], np.where(mask, back.reward, back.observations["reward"]))
    agent = ud.GRUAgent(world, 4, key=KEY)
    options = {"key": KEY, "steps": 1, "batch_size": 4}
    ud.teach(world, agent, ud.Counterfactual(), data=back, **options)
    for actor, message in (("agent", "label at each action of the agent"), ("expert", "the expert's own")):
        with pytest.raises(ValueError, match=message):
            ud.teach(world, agent, ud.Counterfactual(), data=ug.from_minari(unknown, world, actor=actor), **options)
    ud.teach(world, agent, ud.Cloning(), data=ug.from_minari(unknown, world, actor="expert"), **options)
    with pytest.raises(ValueError, match=r"its observations are .* give encode="):
        ug.from_minari(known, point(), actor="agent")
    with pytest.raises(ValueError, match="more than the 1 of Ledger"):
        ug.from_minari(known, ledger(num_rounds=1, hide=[0], at_end="end"), actor="agent")
    with pytest.raises(TypeError, match="must be a data set of Minari"):
        ug.from_minari(3, world)


def test_observations_of_others_are_encoded():
    world = ledger(hide=[0], at_end="end", reward_observed=False)
    with pytest.warns(UserWarning, match="is set to None|env_spec is None"):
        data = foreign(world, theta=True)
    back = ug.from_minari(data, world, actor="expert", encode=lambda o: o[:, 1:])
    direct = ug.from_minari(data, world, actor="expert")
    np.testing.assert_array_equal(back.observations, direct.observations)
    assert back.expert is None
