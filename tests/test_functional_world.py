"""Environments of pure functions in JAX: theta stays ours, and labels belong to state, theta and episode."""

import importlib.util
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import undelude as ud
from test_vector_world import HARBOURS, boats
from undelude import gym as ug
from undelude._cli import main
from undelude._cli.measurements import make_certificate, measurer
from undelude._cli.train import make_agent
from undelude._inspector import view
from undelude._inspector.host_inspection import HostInspection
from undelude._rollout.host import play
from undelude._runs.config import Config
from undelude.tasks.registry import make
from vector_environments import CONTEXTS

KEY = jax.random.key(0)
NUM_ACTIONS = 4


class State(NamedTuple):
    """What a gymnax environment keeps: theta is in it, drawn anew at each reset."""

    theta: jax.Array
    episode: jax.Array
    time: jax.Array
    last: jax.Array
    length: jax.Array


class Ledger:
    """The shape of gymnax; observations are theta, a number of the episode, step, last action.

    Args:
        version: `"0.0"`: `step_env` returns done; `"1.0"`: terminated, and `is_truncated` knows the time limit;
            `"both"`: six values.
    """

    default_params: float = 5.0
    name = "ledger"

    def __init__(self, version):
        self.version = version
        if version == "1.0":
            self.is_truncated = lambda state, params: state.time >= state.length

    def observation_space(self, params):
        return spaces.Box(-np.inf, np.inf, (4,), np.float32)

    def action_space(self, params):
        return spaces.Discrete(NUM_ACTIONS)

    def reset_env(self, key, params):
        keys = jax.random.split(key, 3)
        theta = jax.random.choice(keys[0], jnp.asarray(CONTEXTS))
        length = jax.random.randint(keys[1], (), 2, 6)
        state = State(theta, jax.random.randint(keys[2], (), 1, 10**6), jnp.int32(0), jnp.int32(0), length)
        return self.get_obs(state), state

    def get_obs(self, state, params=None):
        return jnp.stack([jnp.asarray(x, jnp.float32) for x in state[:4]])

    def step_env(self, key, state, action, params):
        state = state._replace(time=state.time + 1, last=action)
        over, even = state.time >= state.length, state.length % 2 == 0
        reward = jnp.asarray(state.time, jnp.float32)
        match self.version:
            case "0.0":
                return self.get_obs(state), state, reward, over, {}
            case "1.0":
                return self.get_obs(state), state, reward, over & even, {}
        return self.get_obs(state), state, reward, over & even, over & ~even, {}


def label(observation, context):
    weights = jnp.stack([context, 1 + observation[1] % 7, 1 + observation[2], 1 + observation[3]])
    return weights / weights.sum()


def ledger(version, **options):
    size = {"num_rounds": 12, "contexts": CONTEXTS, "reward_observed": True, "expert": label}
    return ug.from_gymnax(Ledger(version), set_context=lambda s, p, c: (s._replace(theta=c), p), **size | options)


@pytest.mark.parametrize(
    ("version", "at_end"),
    [
        ("0.0", "restart"),
        pytest.param("1.0", "restart", marks=pytest.mark.slow),
        pytest.param("1.0", "end", marks=pytest.mark.slow),
        ("both", "end"),
    ],
)
def test_every_label_belongs_to_its_state_theta_and_episode(version, at_end):
    world = ledger(version, at_end=at_end)
    agent = jax.tree.map(lambda x: 0 * x, ud.GRUAgent(world, 2, key=KEY))
    episodes = jax.tree.map(np.asarray, ud.rollout(world, agent, key=KEY, num_episodes=40))
    seen = np.concatenate([episodes.opening["state"][:, None], episodes.observations["state"]], 1)
    mask, context = episodes.mask, CONTEXTS[episodes.theta]
    assert len(set(context)) == 3
    np.testing.assert_array_equal(seen[:, :-1, 0][mask], np.broadcast_to(context[:, None], mask.shape)[mask])
    np.testing.assert_array_equal(seen[:, 1:, 0][mask], np.broadcast_to(context[:, None], mask.shape)[mask])
    asked = jax.vmap(jax.vmap(label, (0, None)))(seen[:, :-1], context)
    np.testing.assert_allclose(np.exp(episodes.expert.log_probs)[mask], asked[mask], atol=1e-6)
    before, after = seen[:, :-1], seen[:, 1:]
    np.testing.assert_array_equal(episodes.reward[mask], before[mask][:, 2] + 1)
    if at_end == "restart":
        assert mask.all()
        ended = episodes.observations["ended"]
        over, goes_on = ended > 0, ended == 0
        assert (after[over][:, 2:] == 0).all()
        assert (after[over][:, 1] != before[over][:, 1]).all()
        even = episodes.reward[over] % 2 == 0
        np.testing.assert_array_equal(ended[over], 1 if version == "0.0" else np.where(even, 1, 2))
    else:
        goes_on = mask
        assert set(mask.sum(1)) == {2, 3, 4, 5}
    here = np.stack([before[..., 1], before[..., 2] + 1, episodes.actions], -1)
    np.testing.assert_array_equal(after[goes_on][:, 1:], here[goes_on])


def test_compiled_loop_is_the_python_loop():
    world = ledger("both")
    agent = ud.GRUAgent(world, 4, key=KEY)
    compiled, stepped = (
        jax.tree.map(np.asarray, e)
        for e in (
            ud.rollout(world, agent, key=KEY, num_episodes=8),
            play(world, agent, key=KEY, num_episodes=8)[0],
        )
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), compiled, stepped)


def lake(**options):
    """The boats of `test_vector_world` as pure functions."""

    def step(key, state, action, params):
        later = state.at[0].add(action[0])
        return later, later, -abs(later[0] - later[1]), False, False, {}

    options = {
        "hide": [1],
        "at_end": "end",
        "num_rounds": 10,
        "expert": lambda o, c: (0.5 * (c - o[:1]), 0.05),
    } | options
    return ug.FunctionalWorld(
        lambda key, params: (jnp.zeros(2), jnp.zeros(2)),
        step,
        observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float32),
        action_space=spaces.Box(-0.2, 0.2, (1,), np.float32),
        contexts=HARBOURS,
        set_context=lambda state, params, harbour: (state.at[1].set(harbour), params),
        observe=lambda key, state, params: state,
        cue=ug.WarmerColder(lambda o, c: abs(o[..., 0] - c), right=0.8, within=0.1, batched=True),
        reward_observed=False,
        name="lake",
        **options,
    )


def test_exact_answers_are_those_of_the_simulator_in_python():
    world, other = lake(), boats()
    played = ud.rollout(world, ud.GRUAgent(world, 4, key=KEY), key=KEY, num_episodes=16)
    known = [w.evidence(played) for w in (world, other)]
    np.testing.assert_allclose(known[0].log_likelihood, known[1].log_likelihood, atol=1e-5)
    np.testing.assert_allclose(known[0].experts.loc, known[1].experts.loc, atol=1e-5)
    report = ud.certify(world, world.exact_agent("see"), key=KEY, num_episodes=64, baselines=False)
    assert report.verdict == "deluded"


@pytest.mark.slow
def test_inspector_records_a_compiled_world():
    world = lake(num_rounds=3)
    inspection = HostInspection(world)
    history = inspection.play(inspection.begin(seed=2), rounds=1, actor="see")
    history = inspection.play(history, rounds=2, actor="see")
    episodes = ud.rollout(world, world.exact_agent("see"), key=jax.random.key(2), num_episodes=1)
    np.testing.assert_allclose([r.action for r in history.rounds], episodes.actions[0], atol=1e-6)
    one, evidence = jax.tree.map(lambda x: x[0], (episodes, world.evidence(episodes)))
    done = np.array([False, True, False])
    belief = inspection.read(history.flip(1)).accounts["marked"].belief
    np.testing.assert_allclose(belief, np.exp(evidence.log_posterior(one, done)), atol=1e-5)
    about = view.describe(inspection, notes={})
    assert [x["text"] for x in about["observations"]] == ["colder", "warmer", "none"]
    assert about["thetas"][0] == f"{HARBOURS[0]:g}"


@pytest.mark.slow
def test_check_finds_what_shows_theta():
    assert "no problems found" in str(ud.check_task(lake(), num_episodes=32))
    with pytest.raises(ValueError, match="the opening reveals theta, by state"):
        ud.check_task(lake(hide=[]), num_episodes=32)


@pytest.mark.slow
def test_teaching_is_compiled():
    """The expert's mean of each context is on the side of its harbour: the taught agent beats the untaught one."""
    world = lake(num_rounds=4)
    agent = ud.GRUAgent(world, 8, key=KEY)
    run = ud.teach(world, agent, ud.Counterfactual(), key=KEY, steps=30, batch_size=64)
    before, after = (ud.certify(world, a, key=KEY, num_episodes=128, baselines=False) for a in (agent, run.agent))
    assert after.action_kl_do < 0.8 * before.action_kl_do
    assert after.action_log_loss < before.action_log_loss


@pytest.mark.slow
def test_commands_take_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_lake.py").write_text("from test_functional_world import lake\n")
    config = Config("my_lake:lake", agent="gru", hidden_size=4)
    world = make(config.task)
    agent = make_agent(config, world)  # In units of episodes of the expert.
    row, certificate = measurer(world, config)(agent), make_certificate(agent, world, config, num_episodes=64)
    assert row["action_kl_do"] > 0 < row["action_kl_see"]
    assert certificate["reward_exact_see"] < certificate["reward_exact_do"] < certificate["reward_expert"]
    assert certificate["notes"]["film"] == "none, since a world that can only be sampled has no drawing of a round."
    assert main(["play", "my_lake:lake"]) == 2
    assert "cannot be played, because it is a simulator" in " ".join(capsys.readouterr().err.split())


def test_expert_that_reads_the_state():
    world = ledger("both", expert=None, state_expert=lambda s, p, c: label(Ledger("both").get_obs(s), s.theta))
    other = ledger("both")
    agent = jax.tree.map(lambda x: 0 * x, ud.GRUAgent(world, 2, key=KEY))
    x, y = (ud.rollout(w, agent, key=KEY, num_episodes=8).expert.log_probs for w in (world, other))
    np.testing.assert_allclose(x, y, atol=1e-6)
    assert (
        "lives beside its environment"
        in ledger(
            "both", expert=None, state_expert=lambda s, p, c: jnp.full(4, 0.25), cue=warm(), reward_observed=False
        ).no_exact_agent
    )


def warm():
    return ug.WarmerColder(lambda o, c: o[..., 2] * c, right=0.7)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="has no reset_env"):
        ug.from_gymnax(object())
    if not importlib.util.find_spec("gymnax"):
        with pytest.raises(ModuleNotFoundError, match=r"needs gymnax: pip install \"\.\[gymnax\]\""):
            ug.from_gymnax("PointRobot-misc")
    with pytest.raises(TypeError, match="either expert= or state_expert="):
        ledger("both", expert=None)
    with pytest.raises(ValueError, match="expert's probabilities"):
        ledger("both", expert=lambda o, c: jnp.full(4, 0.3))
    with pytest.raises(ValueError, match="prior must have 3"):
        ledger("both", prior=[0.5, 0.5])


@pytest.mark.parametrize(
    ("expert", "error", "message"),
    [
        (lambda o, c: (np.asarray(o[:1]), 0.05), TypeError, "lake: reset, step, set_context and the expert must be"),
        (lambda o, c: (o, 0.05), ValueError, r"the expert returned a mean of shape \(4, 2\); for Box.* shape \(4, 1\)"),
    ],
)
def test_expert_that_is_not_jax_or_has_another_shape(expert, error, message):
    with pytest.raises(error, match=message):
        lake(expert=expert)


def test_gymnax_itself():
    """PointRobot draws its goal at each reset, and jumps where it is reached, which the world finds by playing."""
    gymnax = pytest.importorskip("gymnax")
    env, params = gymnax.make("PointRobot-misc")
    angles = np.linspace(0, np.pi, 4)
    goals = np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32) * 0.2
    params = params.replace(max_steps_in_episode=10)
    options = {
        "contexts": goals,
        "set_context": lambda state, params, goal: (state.replace(goal=goal), params),
        "expert": lambda o, goal: (0.5 * (goal - o[:2]), 0.02),
        "cue": ug.WarmerColder(lambda o, goal: jnp.linalg.norm(o[..., :2] - goal, axis=-1), right=0.8),
        "num_rounds": 20,
        "reward_observed": False,
        "hide": range(2, 6),
    }
    assert "another state (numbers 0, 1)" in ug.from_gymnax(env, params, **options).leak
    world = ug.from_gymnax(env, params.replace(goal_radius=0.0), **options)
    episodes = ud.rollout(world, ud.GRUAgent(world, 4, key=KEY), key=KEY, num_episodes=16)
    ended = np.asarray(episodes.observations["ended"])
    np.testing.assert_array_equal(np.flatnonzero(ended.any(0)), [9, 19])
    assert (ended[:, [9, 19]] == 2).all()
    for mark, verdict in (("do", "sober"), ("see", "deluded")):
        report = ud.certify(world, world.exact_agent(mark), key=KEY, num_episodes=64, baselines=False)
        assert report.verdict == verdict, report.notes
