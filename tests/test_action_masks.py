"""Actions that an environment forbids have probability 0 under agents and expert, and no party takes one."""

import jax
import numpy as np
import pytest

import undelude as ud
from environments import Doors
from undelude import gym as ug
from undelude._agents.base import predict_stepwise

KEY = jax.random.key(0)


class Right(ug.AbstractCue):
    """Says whether the door that was taken is that of the context; right in four of five cases."""

    num_symbols = 2

    def probabilities(self, before, after, context):
        return [0.2, 0.8] if after[1] == context else [0.8, 0.2]


def guide(observation, context, mask):
    """Takes the door of the context four times as often as another one that is open."""
    weights = np.where(np.arange(4) == context, 4.0, 1.0) * mask
    return weights / weights.sum()


def doors(tells="always", **options):
    options = {"num_rounds": 6, "num_envs": 16, "contexts": [0, 1, 2], "expert": guide, "cue": Right()} | options
    return ug.HostWorld(lambda: Doors(tells), reward_observed=False, at_end="end", **options)


def masks_of(episodes):
    """The mask before each action."""
    first, rest = episodes.opening["action_mask"], episodes.observations["action_mask"]
    return np.concatenate([np.asarray(first)[:, None], np.asarray(rest)[:, :-1]], 1)


def check_within(episodes, probs):
    allowed = masks_of(episodes)
    assert 0.2 < (allowed == 0).mean() < 0.6
    assert (np.take_along_axis(allowed, np.asarray(episodes.actions)[..., None], -1) > 0).all()
    np.testing.assert_array_equal(np.asarray(probs)[allowed == 0], 0)


@pytest.mark.parametrize(
    "architecture",
    [ud.GRUAgent, *(pytest.param(x, marks=pytest.mark.slow) for x in (ud.TransformerAgent, ud.MarkovAgent))],
)
def test_networks_do_not_take_forbidden_actions(architecture):
    """Stepwise, while they act, and in parallel, when they are taught; the two agree."""
    world = doors()
    agent = architecture(world, hidden_size=8, key=KEY)
    agent = ud.normalise(agent, ud.rollout(world, None, executor="expert", key=KEY, num_episodes=16))
    episodes = ud.rollout(world, agent, key=KEY, num_episodes=16)
    parallel, _ = jax.jit(jax.vmap(agent.predict))(episodes)
    stepwise, _ = jax.jit(jax.vmap(lambda episode: predict_stepwise(agent, episode)))(episodes)
    check_within(episodes, parallel.probs)
    np.testing.assert_allclose(stepwise.probs, parallel.probs, atol=1e-5)
    np.testing.assert_allclose(parallel.probs.sum(-1), 1, atol=1e-5)


def test_expert_and_exact_agents_keep_within_the_mask():
    world = doors()
    by_expert = ud.rollout(world, None, executor="expert", key=KEY, num_episodes=32)
    check_within(by_expert, by_expert.expert.probs)
    for mark in ("do", "see"):
        by_agent = ud.rollout(world, world.exact_agent(mark), key=KEY, num_episodes=32)
        check_within(by_agent, by_agent.expert.probs)
    assert ud.certify(world, world.exact_agent("do"), key=KEY, num_episodes=64, baselines=False).verdict == "sober"


@pytest.mark.slow
def test_teaching_and_certificate_use_the_mask(tmp_path):
    """The losses are finite, the agent comes nearer to the exact answer, and keeps within the mask when it is saved."""
    world = doors(prior=[0.9, 0.05, 0.05], num_rounds=4)
    agent = ud.GRUAgent(world, 16, key=KEY)
    run = ud.teach(world, agent, ud.Counterfactual(), key=KEY, steps=30, batch_size=32, log_every=30)
    assert np.isfinite(run.metrics[-1]["action_loss"])
    before, after = (ud.certify(world, x, key=KEY, num_episodes=64, baselines=False) for x in (agent, run.agent))
    assert 0 < after.action_kl_do < 0.6 * before.action_kl_do
    ud.save(run.agent, tmp_path / "agent")
    loaded = ud.load(tmp_path / "agent")
    episodes = ud.rollout(world, loaded, key=KEY, num_episodes=16)
    check_within(episodes, jax.vmap(loaded.predict)(episodes)[0].probs)


def test_expert_that_takes_a_forbidden_action_is_named():
    for expert, message in (
        (lambda o, c: [0.7, 0.1, 0.1, 0.1], "expert gives probability 0.[17] to action ., which the mask"),
        (lambda o, c: 3, "expert returned action 3, which the mask of actions forbids"),
    ):
        with pytest.raises(ValueError, match=message):
            ud.rollout(doors(expert=expert), None, executor="expert", key=KEY, num_episodes=16)


def test_agent_that_takes_a_forbidden_action_is_named():
    blind = ud.HostAgent(lambda n: n, lambda m, a, o: (np.full((m, 4), 0.25), m))
    with pytest.raises(ValueError, match=r"round 0: the agent took action ., which the mask of actions forbids"):
        ud.rollout(doors(), blind, key=KEY, num_episodes=16)


def test_check_plays_within_the_mask_and_mentions_one_that_is_not_read():
    report = ud.check_task(doors(), num_episodes=64)
    assert report.inexact is None
    assert "action_mask=False leaves it" not in str(report)

    class Free(Doors):
        def step(self, action):
            self.open[action] = 1
            return super().step(action)

    options = {"num_rounds": 4, "contexts": [0, 1], "reward_observed": False}
    unread = ug.HostWorld(Free, expert=lambda o, c: [0.4, 0.2, 0.2, 0.2], action_mask=False, **options)
    assert "action_mask" not in unread.observation_spec.named
    assert "action_mask=False leaves it unread" in str(ud.check_task(unread))


def test_mask_from_the_environment():
    world = doors("never", action_mask=lambda env: env.open)
    episodes = ud.rollout(world, ud.GRUAgent(world, 8, key=KEY), key=KEY, num_episodes=16)
    check_within(episodes, episodes.expert.probs)


def test_masks_that_cannot_be_honoured_are_refused():
    late = doors("late", expert=lambda o, c: [0.25] * 4)
    with pytest.raises(ValueError, match="comes after a step and not after reset"):
        ud.rollout(late, None, executor="expert", key=KEY, num_episodes=1)
    with pytest.raises(ValueError, match=r"mask of actions has shape \(3,\); there are 4 actions"):
        ud.rollout(doors("never", action_mask=lambda env: np.ones(3)), None, executor="expert", key=KEY, num_episodes=1)
    with pytest.raises(TypeError, match="a mask of actions is for Discrete actions"):
        ug.HostWorld(
            "Pendulum-v1", num_rounds=2, contexts=[0, 1], expert=guide, reward_observed=False, action_mask=lambda env: 1
        )
