"""A user's vector environment as a world: in every mode each label belongs to its state, theta and episode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

import undelude as ud
from environments import Lake, Ledger, captain, distance
from undelude import gym as ug
from undelude.gym._host.rows import Rows, actions_like, columns, read
from undelude.gym._host.spaces import flatten, from_action, leaves_of
from vector_environments import CONTEXTS, LedgerBatch, as_boats, labels

KEY = jax.random.key(0)
MODES = ["NextStep", "SameStep", "Disabled"]
BEGAN = 3


def world_of(mode, *, env=None, at_end="restart", max_failures=0.1, **options):
    size = {"num_rounds": 12, "contexts": CONTEXTS, "reward_observed": True, "batched": True}
    env = LedgerBatch(mode, **options) if env is None else env
    return ug.HostWorld(env, expert=labels, at_end=at_end, max_failures=max_failures, name="ledger", **size)


def uniform():
    return ud.HostAgent(lambda n: n, lambda m, a, o: (np.full((m, 4), 0.25), m))


def play(world, num_episodes=20):
    episodes = jax.tree.map(np.asarray, ud.rollout(world, uniform(), key=KEY, num_episodes=num_episodes))
    seen = np.concatenate([episodes.opening["state"][:, None], episodes.observations["state"]], 1)
    return episodes, seen


@pytest.mark.parametrize("give", [lambda x: x, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("at_end", ["restart", "end"])
@pytest.mark.parametrize("mode", MODES)
def test_every_label_belongs_to_its_state_theta_and_episode(mode, at_end, give):
    # JAX on CPUs may alias an array that is then written: the environment gives a copy, as one in JAX does.
    given = give if give is not jnp.asarray else lambda x: jnp.array(x.copy())
    episodes, seen = play(world_of(mode, at_end=at_end, give=given))
    context, mask = CONTEXTS[episodes.theta], episodes.mask
    assert len(set(context)) == 3
    asked = np.stack([labels(seen[:, t], np.where(mask[:, t], context, seen[:, t, 0])) for t in range(12)], 1)
    np.testing.assert_allclose(np.asarray(episodes.expert.probs)[mask], asked[mask], atol=1e-6)
    before, after, actions, reward = seen[:, :-1], seen[:, 1:], episodes.actions, episodes.reward
    ended = episodes.observations["ended"] if at_end == "restart" else np.zeros(mask.shape, int)
    played = mask & (ended != BEGAN)
    np.testing.assert_array_equal(reward[played], before[played][:, 2] + 1)
    np.testing.assert_array_equal(reward[~played], 0)
    same = mask & ((ended == 0) | ((mode == "NextStep") & (ended < BEGAN)))  # The observation is of the same episode.
    goes_on = np.stack([before[..., 1], before[..., 2] + 1, actions + 1], -1)
    np.testing.assert_array_equal(after[same][:, 1:], goes_on[same])
    others = mask & ~same
    first = np.stack([before[..., 1] + 1, 0 * reward, 0 * reward], -1)
    np.testing.assert_array_equal(after[others][:, 1:], first[others])
    if at_end == "restart":
        assert mask.all()
        over = (ended == 1) | (ended == 2)
        assert over.any()
        np.testing.assert_array_equal((ended == 1)[over], (reward % 2 == 0)[over])
        # The step after an end is the one whose action is not played.
        np.testing.assert_array_equal(ended[:, 1:] == BEGAN, over[:, :-1] if mode == "NextStep" else False)
    else:
        assert set(mask.sum(1)) == {2, 3, 4, 5}
        np.testing.assert_array_equal(reward.max(1), mask.sum(1))  # Episodes end at their end.


def test_another_theta_after_an_end_is_refused():
    """The environment draws its own context when it begins again: labels would be about another theta than stored."""
    for mode in MODES[:2]:
        with pytest.raises(
            ValueError, match=r"began an episode under context .* and not under .*must keep the context"
        ):
            play(world_of(mode, resamples=True))


def test_theta_that_nobody_checks_is_mentioned():
    with pytest.warns(UserWarning, match=r'does not report info\["context"\]'):
        play(world_of("SameStep", reports=False))


def test_set_context_brings_back_theta():
    """An environment that draws its own context fits if a function sets it, and returns the observation."""

    def set_context(envs, contexts):
        envs.row[:, 0] = contexts
        return envs.row

    class Free(LedgerBatch):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed, options={"context": 0} | (options or {}))

    for mode in MODES:
        size = {"num_rounds": 12, "contexts": CONTEXTS, "reward_observed": True, "batched": True}
        world = ug.HostWorld(Free(mode, resamples=True), expert=labels, set_context=set_context, **size)
        episodes, seen = play(world)
        np.testing.assert_array_equal(seen[..., 0], np.broadcast_to(CONTEXTS[episodes.theta][:, None], seen.shape[:2]))
        assert seen[..., 1].max() > 1


def test_context_that_shows_in_a_later_round_is_found_by_playing():
    class Telling(LedgerBatch):
        def step(self, actions):
            answer = super().step(actions)
            late = self.row[:, 2] == 2
            self.row[late, 3] += self.row[late, 0]
            return answer

    options = {"num_rounds": 12, "contexts": CONTEXTS, "reward_observed": True, "hide": [0], "at_end": "end"}
    leaks = [ug.HostWorld(env("SameStep"), expert=lambda o, c: 1, **options).leak for env in (LedgerBatch, Telling)]
    assert leaks[0] is None
    assert "show the agent another state (number 3) from round 2 on" in leaks[1]


def test_reset_of_some_that_starts_all_is_refused():
    with pytest.raises(ValueError, match="changed environments outside the mask"):
        play(world_of("Disabled", forgets=True))


def test_unknown_last_observation_is_refused():
    with pytest.raises(ValueError, match=r'does not report info\["final_obs"\]'):
        play(world_of("SameStep", final=False, at_end="end"))


def test_unknown_mode_is_refused():
    with pytest.raises(TypeError, match="it is not known to which episode the observation after an end belongs"):
        world_of(None)


def test_list_of_environments_needs_contexts_of_its_own():
    envs = SyncVectorEnv([Ledger] * 2, autoreset_mode="Disabled")
    with pytest.raises(ValueError, match="the same options to all its environments"):
        world_of("Disabled", env=envs)


def test_arguments_that_a_vector_environment_decides():
    for options in ({"num_envs": 3}, {"vectorization": "async"}, {"timeout": 3.0}):
        with pytest.raises((TypeError, ValueError), match="vector environment"):
            ug.HostWorld(
                LedgerBatch("Disabled"),
                num_rounds=2,
                contexts=CONTEXTS,
                expert=labels,
                reward_observed=False,
                **options,
            )


def test_environments_that_fail_cost_their_episodes_alone():
    world = world_of("Disabled", fails=True, max_failures=1.0)
    episodes, seen = play(world, 12)
    assert sum(world.failures.values()) > 3
    assert {cause for cause, _ in world.failures} == {"not finite"}
    assert np.isfinite(seen).all()
    assert episodes.mask.all()


def test_two_batches_at_once_are_refused():
    world = world_of("Disabled")
    keys = jax.random.split(KEY, 7)
    first, _ = world.begin(keys)
    world.begin(keys)
    with pytest.raises(RuntimeError, match="play one batch each"):
        world.respond(first, np.zeros(7, np.int32), keys)


def test_expert_one_by_one_and_beside_the_environment():
    def one(observation, context):
        return labels(observation[None], np.asarray([context]))[0]

    def beside(envs, contexts):
        return lambda observations: labels(envs.row.copy(), contexts)

    size = {"num_rounds": 6, "contexts": CONTEXTS, "reward_observed": True}
    worlds = [
        world_of("SameStep"),
        ug.HostWorld(LedgerBatch("SameStep"), expert=one, **size),
        ug.HostWorld(LedgerBatch("SameStep"), make_expert=beside, **size),
    ]
    probs = [np.asarray(ud.rollout(w, uniform(), key=KEY, num_episodes=7, num_rounds=6).expert.probs) for w in worlds]
    np.testing.assert_allclose(probs[0], probs[1], atol=1e-6)
    np.testing.assert_allclose(probs[0], probs[2], atol=1e-6)
    with pytest.raises(TypeError, match="either expert= or make_expert="):
        ug.HostWorld(LedgerBatch("SameStep"), **size)


def test_context_may_be_kept_in_fewer_digits():
    """The environment reports 32 bits of a context of 64: that is no other context."""
    size = {"num_rounds": 12, "reward_observed": True, "batched": True}
    world = ug.HostWorld(
        LedgerBatch("SameStep"),
        contexts=CONTEXTS + np.float64(1 / 3),
        expert=lambda o, c: np.full((len(o), 4), 0.25),
        **size,
    )
    assert play(world)[0].mask.all()


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([3, 3], start=[1, 2]),
        spaces.MultiDiscrete([3, 4], start=[1, 2]),
        spaces.MultiBinary(3),
        spaces.Box(-1, np.array([1.0, 2.0], np.float32)),
        spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Tuple([spaces.Box(0, 1, (2,)), spaces.Discrete(2)])}),
    ],
    ids=str,
)
def test_batches_are_read_as_single_values(space):
    """Actions, and parts of observations, in NumPy and JAX, against the conversions of single environments."""
    space.seed(0)
    single = [space.sample() for _ in range(5)]
    ours = jax.tree.map(lambda *xs: np.stack(xs), *(from_action(space, x) for x in single))
    for example in (np.zeros(1), jnp.zeros(1)):
        batch = actions_like(space, ours, np.ones(5, bool), 7, example)
        assert len(Rows(batch)) == 7
        jax.tree.map(np.testing.assert_array_equal, list(Rows(batch))[:5], single)
        assert all(isinstance(x, type(example)) for x in jax.tree.leaves(batch))
        for name, part in leaves_of(space, "").items():
            values = [x if name == "" else flatten(space, x, "")[name] for x in single]
            column = columns(space, Rows(batch), "")[name].take(np.arange(5))
            np.testing.assert_array_equal(read(part, column), read(part, values))


HARBOURS = np.array([-0.8, -0.3, 0.3, 0.8], np.float32)


def boats(xp=np, **options):
    envs, set_context = as_boats(xp)
    options = {
        "cue": ug.WarmerColder(lambda o, c: abs(o[..., 0] - c), right=0.8, within=0.1, batched=True),
        "expert": lambda o, c: (0.5 * (c[:, None] - o[:, :1]), 0.05 + 0 * o[:, :1]),
    } | options
    return ug.HostWorld(
        envs,
        num_rounds=10,
        contexts=xp.asarray(HARBOURS),  # In the library of the environment.
        hide=[1],
        batched=True,
        set_context=set_context,
        reward_observed=False,
        at_end="end",
        name="boats",
        **options,
    )


@pytest.mark.slow
def test_exact_answers_are_those_of_single_environments():
    """The same episodes, read by the world of a batch and by one of single environments."""
    single = ug.HostWorld(
        lambda: Lake(0),
        num_rounds=10,
        num_envs=32,
        contexts=HARBOURS,
        hide=[1, 2],
        cue=ug.WarmerColder(distance, right=0.8, within=0.1),
        expert=captain,
        reward_observed=False,
        at_end="end",
    )
    world = boats()
    played = ud.rollout(world, world.exact_agent("see"), key=KEY, num_episodes=40)
    known = [w.evidence(played) for w in (world, single)]
    np.testing.assert_allclose(known[0].log_likelihood, known[1].log_likelihood, atol=1e-5)
    np.testing.assert_allclose(known[0].experts.loc, known[1].experts.loc, atol=1e-5)
    for mark, verdict in (("do", "sober"), ("see", "deluded")):
        assert ud.certify(world, world.exact_agent(mark), key=KEY, num_episodes=64, baselines=False).verdict == verdict


@pytest.mark.slow
def test_check_and_teaching():
    world = boats()
    assert "no problems found" in str(ud.check_task(world, num_episodes=32))
    agent = ud.GRUAgent(world, 8, key=KEY)
    run = ud.teach(world, agent, ud.Counterfactual(), key=KEY, steps=2, batch_size=32)
    assert np.isfinite(run.metrics[-1]["action_loss"])
