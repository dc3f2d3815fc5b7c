"""Gymnasium's environments as worlds: every label belongs to its state, theta and episode, and exact answers exist."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gymnasium
import jax
import numpy as np
import pytest

import undelude as ud
from environments import CONTEXTS, RADIUS, Arm, Ledger, Make, arm_expert, distance_to
from undelude import gym as ug
from undelude._process.episodes import EXPERT
from undelude._teaching.host_updates import collect_in

KEY = jax.random.key(0)


finds_processes = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")


def label(observation, context):
    """The expert's probabilities code what it was asked about."""
    assert observation[0] == context
    weights = np.array([context, 1 + observation[1], 1 + observation[2], 1 + observation[3]], float)
    return weights / weights.sum()


def ledger(**options):
    options = {
        "num_rounds": 12,
        "contexts": CONTEXTS,
        "expert": label,
        "reward_observed": True,
        "num_envs": 7,
    } | options
    return ug.HostWorld(Ledger, **options)


def fixed(world):
    """An agent that does the same in all worlds."""
    return ud.HostAgent(lambda n: 0, lambda m, a, o: (np.full((len(next(iter(o.values()))), 4), 0.25), m))


@pytest.fixture(scope="module")
def episodes():
    world = ledger()
    return ud.rollout(world, fixed(world), key=KEY, num_episodes=20)


def test_every_label_belongs_to_its_state_theta_and_episode(episodes):
    seen = np.concatenate([np.asarray(episodes.opening["state"])[:, None], episodes.observations["state"]], 1)
    context = CONTEXTS[np.asarray(episodes.theta)]
    assert len(set(context)) == 3
    np.testing.assert_array_equal(seen[..., 0], np.broadcast_to(context[:, None], seen.shape[:2]))
    asked = [[label(x, c) for x in row[:-1]] for row, c in zip(seen, context, strict=True)]
    np.testing.assert_allclose(episodes.expert.probs, asked, atol=1e-6)


def test_end_belongs_to_the_action_and_the_observation_to_the_next_episode(episodes):
    seen, ended = np.asarray(episodes.observations["state"]), np.asarray(episodes.observations["ended"])
    reward, actions = np.asarray(episodes.reward), np.asarray(episodes.actions)
    before = np.concatenate([np.asarray(episodes.opening["state"])[:, None], seen[:, :-1]], 1)
    np.testing.assert_array_equal(reward, before[..., 2] + 1)  # Also the last reward of an episode.
    np.testing.assert_array_equal(episodes.observations["reward"], reward)
    goes_on = ended == 0
    np.testing.assert_array_equal(seen[goes_on][:, 2], before[goes_on][:, 2] + 1)
    np.testing.assert_array_equal(seen[goes_on][:, 3], actions[goes_on] + 1)  # start=1
    np.testing.assert_array_equal(
        seen[~goes_on][:, 1:], np.stack([before[~goes_on][:, 1] + 1, *2 * [0 * reward[~goes_on]]], -1)
    )
    np.testing.assert_array_equal(ended[~goes_on] == 1, reward[~goes_on] % 2 == 0)
    assert {1, 2} <= set(ended.ravel())
    assert np.asarray(episodes.mask).all()


def test_lifetime_that_ends_with_the_episode():
    world = ledger(at_end="end")
    episodes = ud.rollout(world, fixed(world), key=KEY, num_episodes=20)
    mask, reward = np.asarray(episodes.mask), np.asarray(episodes.reward)
    lengths = mask.sum(1)
    assert set(lengths) <= {2, 3, 4, 5}
    np.testing.assert_array_equal(reward.max(1), lengths)
    assert "ended" not in episodes.observations


def test_same_key_gives_the_same_episodes_in_any_number_of_environments():
    pairs = [ud.rollout(ledger(num_envs=n), fixed(None), key=KEY, num_episodes=9, executor="agent") for n in (3, 9)]
    # The agent draws its actions from the keys of rounds, and the environments from the keys of episodes.
    for x, y in zip(*map(jax.tree.leaves, pairs), strict=True):
        np.testing.assert_array_equal(x, y)


def test_two_threads_play_one_world_in_turn(episodes):
    """Their environments are the same: rounds of both would mix."""
    world = ledger()
    with ThreadPoolExecutor(2) as pool:
        played = [pool.submit(ud.rollout, world, fixed(world), key=KEY, num_episodes=20) for _ in range(2)]
        for x in played:
            jax.tree.map(np.testing.assert_array_equal, x.result(), episodes)


def test_expert_and_agent_take_turns_as_in_the_compiled_loop():
    world = ledger()
    agent = ud.GRUAgent(world, 4, key=KEY)
    teaching = ud.Mixed(0.5)
    episodes = collect_in(world, agent, teaching, KEY, 0, 7)
    by_expert = np.asarray(episodes.executor) == EXPERT
    assert 0.3 < by_expert.mean() < 0.7
    np.testing.assert_array_equal(episodes.intervened, ~by_expert)
    np.testing.assert_array_equal(
        np.asarray(episodes.actions)[by_expert], np.asarray(episodes.expert_actions)[by_expert]
    )
    assert (np.asarray(episodes.actions) != np.asarray(episodes.expert_actions))[~by_expert].any()


# Failures -------------------------------------------------------------------------------------------------------------


def coin_expert(observation, context):
    return [0.25, 0.75] if context else [0.75, 0.25]


def faulty(fault, share, log=None, **options):
    size = {"num_rounds": 4, "num_envs": 10, "max_failures": 1.0, "contexts": [0, 1], "reward_observed": False}
    return ug.HostWorld(Make(fault, share, log), expert=coin_expert, **size | options)


def lines_of(log, kind):
    return [int(number) for name, number in map(str.split, log.read_text().splitlines()) if name == kind]


def is_running(process):
    """Whether there is a process of this number that is more than an exit code."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def check_gone(processes):
    deadline = time.monotonic() + 30
    while any(map(is_running, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


FAULTS = {
    "error": ("error", 90, {}),
    "not finite": ("not finite", 90, {}),
    "not finite observation": ("not finite", 90, {}),
    "timeout": ("timeout", 50, {"vectorization": "async", "num_envs": 10, "num_workers": 10, "timeout": 0.4}),
    "died": ("died", 50, {"vectorization": "async", "num_envs": 10, "num_workers": 10}),
}


@finds_processes
@pytest.mark.parametrize(
    "fault", [pytest.param(x, marks=[pytest.mark.slow] * (x == "not finite observation")) for x in FAULTS]
)
def test_fifty_faults_cost_fifty_episodes(fault, tmp_path):
    """Each costs its own episode, which is played again; it is counted by cause and context; no process is left."""
    cause, num_episodes, options = FAULTS[fault]
    log = tmp_path / "log"
    world = faulty(fault, 0.55, str(log), **options)
    try:
        episodes = ud.rollout(world, None, executor="expert", key=KEY, num_episodes=num_episodes)
    finally:
        world.close()
    faults = Counter(lines_of(log, "fault"))
    assert faults.total() >= 50
    assert {cause for cause, _ in world.failures} == {cause}
    lost = {context: world.failures[cause, context] for context in (0, 1)}
    if fault == "timeout":  # On a busy machine a sound step may take too long, too.
        assert all(lost[context] >= faults[context] for context in (0, 1))
    else:
        assert lost == faults
    assert world.num_played == num_episodes + sum(lost.values())
    assert np.asarray(episodes.mask).all()
    np.testing.assert_array_equal(episodes.reward, 1)
    sound = ud.rollout(faulty(fault, 0.0), None, executor="expert", key=KEY, num_episodes=num_episodes)
    same = (np.asarray(episodes.observations["state"]) == np.asarray(sound.observations["state"])).all((1, 2))
    assert 0.3 < same.mean() < 0.7  # Those that failed have other keys; the others are what they are without failures.
    check_gone(set(lines_of(log, "process")) - {os.getpid()})


ABANDONED = """
import signal, sys, jax, undelude as ud
from undelude import gym as ug
from environments import Make

signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background jobs ignore it.
world = ug.HostWorld(
    Make("timeout", 1.0, sys.argv[1]), num_rounds=4, num_envs=2, contexts=[0, 1], reward_observed=False,
    expert=lambda o, c: [0.5, 0.5], vectorization="async", num_workers=2,
)
ud.rollout(world, None, executor="expert", key=jax.random.key(0), num_episodes=2)
"""


@finds_processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_program_that_ends_leaves_no_worker_also_if_all_hang(number, tmp_path):
    """Ctrl-C in a program that does not close its world, and the death of a program that cannot."""
    log, path = tmp_path / "log", [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    program = subprocess.Popen([sys.executable, "-c", ABANDONED, str(log)], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (log.exists() and len(lines_of(log, "fault")) == 2):
        assert program.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = set(lines_of(log, "process")) - {program.pid}
    assert len(workers) == 2
    assert all(map(is_running, workers))
    program.send_signal(number)
    program.wait(60)
    check_gone(workers)


def test_too_many_failures_are_an_error_that_counts_them():
    with pytest.raises(
        RuntimeError, match=r"\d+ of \d+ episodes were lost.*\d+ by error.*ZeroDivisionError: no ground"
    ):
        ud.rollout(faulty("error", 0.5, max_failures=0.1), None, executor="expert", key=KEY, num_episodes=200)


def test_no_episode_may_be_lost_if_none_may():
    """The share counts over 64 episodes at least, so that one of the first ten is within a tenth, but not within 0."""
    with pytest.raises(RuntimeError, match=r"1 of 10 episodes were lost, more than max_failures=0"):
        ud.rollout(faulty("error", 0.3, max_failures=0), None, executor="expert", key=KEY, num_episodes=10)


def test_workers_give_the_same_episodes():
    here, there = ledger(), ledger(vectorization="async", num_workers=2)
    try:
        x, y = (ud.rollout(world, fixed(world), key=KEY, num_episodes=10) for world in (here, there))
        jax.tree.map(np.testing.assert_array_equal, x, y)
    finally:
        there.close()


@pytest.mark.parametrize(
    ("advice", "message"),
    [
        (lambda o, c: [0.5, 0.6], "round 2 with ValueError.*expert's probabilities"),
        (lambda o, c: 7, "round 2 with ValueError.*expert's actions"),
        (lambda o, c: 1 / 0, "round 2 with ZeroDivisionError"),
        (lambda o, c: None, "round 2"),
    ],
)
def test_expert_that_fails_is_named_with_the_round(advice, message):
    asked = []

    def expert(observation, context):
        asked.append(1)
        return coin_expert(observation, context) if len(asked) <= 2 else advice(observation, context)

    world = ug.HostWorld(
        Make("error", 0), num_rounds=4, num_envs=1, contexts=[0, 1], expert=expert, reward_observed=False
    )
    with pytest.raises(ValueError, match=f"Faulty: the expert failed in {message}"):
        ud.rollout(world, None, executor="expert", key=KEY, num_episodes=1)


# Exact answers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both_arms():
    """Our arm as a process, and as a simulator with the same targets, expert and cue."""
    process = ud.tasks.arm(num_targets=4, num_rounds=8)
    world = ug.HostWorld(
        Arm,
        num_rounds=8,
        num_envs=32,
        contexts=np.asarray(process.thetas, float),
        hide=[6, 7],
        cue=ug.WarmerColder(distance_to, right=0.8, within=RADIUS, batched=True),
        expert=arm_expert,
        batched=True,
        reward_observed=False,
        at_end="end",
    )
    return process, world


class Box(Ledger):
    """Two torques in place of four symbols."""

    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("env", "answer", "message"),
    [
        (
            Ledger,
            np.ones(3) / 3,
            r"an action of shape \(3,\); for Discrete\(4.*\) it has the shape \(\), or 4 probabilities",
        ),
        (Ledger, np.ones((1, 4)) / 4, r"an action of shape \(1, 4\)"),
        (Box, np.zeros(3), r"an action of shape \(3,\); for Box.* it has the shape \(2,\)"),
        (Box, (np.zeros(3), 0.1), r"a mean of shape \(3,\)"),
        (Box, (np.zeros(2), np.ones(3)), r"a scale of shape \(3,\)"),
    ],
)
@pytest.mark.parametrize("batched", [False, True])
def test_answer_of_another_shape_is_the_experts_fault(env, answer, message, batched):
    """It would be played, cut or broadcast, or fail in the environment."""

    def expert(observation, context):
        if not batched:
            return answer
        return jax.tree.map(lambda x: np.broadcast_to(x, (len(context), *np.shape(x))), answer)

    world = ug.HostWorld(env, num_rounds=2, contexts=CONTEXTS, expert=expert, batched=batched, reward_observed=False)
    if batched:
        message = message.split(r"\(")[0]
    with pytest.raises(ValueError, match=f"the expert failed in round 0.*the expert returned {message}"):
        ud.rollout(world, None, executor="expert", key=KEY, num_episodes=4)


def test_arguments_of_other_kinds_are_named():
    for options, error, message in (
        ({"cue": lambda o, c: 0}, TypeError, r"cue must be a ug.WarmerColder\(...\)"),
        ({"hide": None}, TypeError, "hide=None: give a list of indices"),
        ({"hide": "state"}, TypeError, "hide='state': give a list of indices"),
    ):
        with pytest.raises(error, match=message):
            ledger(**options)
    whole = ug.WarmerColder(lambda o, c: abs(o - c), right=0.8)
    with pytest.raises(ValueError, match=r"WarmerColder: distance returned an array of shape \(4,\)"):
        ud.rollout(ledger(cue=whole), None, executor="expert", key=KEY, num_episodes=4)


def test_expert_asked_at_once_is_the_expert_asked_one_by_one():
    """An answer for one in place of all is refused."""

    def world(expert, *, batched):
        options = {"contexts": np.array([[0.5, 0.2], [-0.4, 0.6]]), "reward_observed": False, "at_end": "end"}
        return ug.HostWorld(Arm, num_rounds=4, num_envs=3, hide=[6, 7], expert=expert, batched=batched, **options)

    one, other = (
        ud.rollout(world(arm_expert, batched=batched), None, executor="expert", key=KEY, num_episodes=5)
        for batched in (True, False)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)
    with pytest.raises(ValueError, match=r"returned scales of shape \(\): return one for each"):
        ud.rollout(
            world(lambda x, c: (arm_expert(x, c)[0], 0.05), batched=True),
            None,
            executor="expert",
            key=KEY,
            num_episodes=3,
        )


@pytest.mark.parametrize("mark", ["do", "see"])
def test_exact_answers_are_those_of_the_same_process(both_arms, mark):
    """Beliefs and predictions of actions, on episodes that the simulator played."""
    process, world = both_arms
    played = ud.rollout(world, world.exact_agent(mark), key=KEY, num_episodes=32)
    observations = {"cue": played.observations["cue"], "joints": played.observations["state"]}
    stored = ud.Episodes.of(process, actions=played.actions, observations=observations, intervened=mark == "do")
    evidence = world.evidence(played)
    log_posterior = jax.vmap(lambda known, episode: known.log_posterior(episode, mark == "do"))(evidence, played)
    np.testing.assert_allclose(np.exp(log_posterior), np.exp(ud.posterior(process, stored)), atol=2e-4)
    theta = np.asarray(played.theta)
    right = np.exp(np.asarray(log_posterior))[np.arange(len(theta)), -1, theta].mean()
    assert right > 0.5 if mark == "do" else right < 0.5


@pytest.mark.slow
def test_certificate_of_a_simulator(both_arms):
    """The exact agents are at distance 0 from their own answers, and at that of the process from the other one."""
    process, world = both_arms
    size = {"key": KEY, "num_episodes": 64, "baselines": False}
    reports = {mark: ud.certify(world, world.exact_agent(mark), **size) for mark in ("do", "see")}
    assert {mark: report.verdict for mark, report in reports.items()} == {"do": "sober", "see": "deluded"}
    assert abs(reports["do"].action_kl_do) < 1e-5
    assert abs(reports["see"].action_kl_see) < 1e-5
    kl = reports["see"].measurement.kl_by_round
    assert kl.shape == (64, world.num_rounds)
    assert kl.mean() == pytest.approx(reports["see"].action_kl_do, rel=1e-5)
    assert reports["do"].observation_kl_do is None
    missing = "observation_kl_do, observation_tv_do, observation_kl_see, observation_tv_see"
    assert set(missing.split(", ")) <= set(str(reports["do"]).replace(":", "").replace(",", "").split())
    exact = ud.certify(process, ud.ExactAgent(process), key=KEY, num_episodes=1024, baselines=False)
    error = np.hypot(reports["do"].action_kl_see_se, exact.action_kl_see_se)
    assert abs(reports["do"].action_kl_see - exact.action_kl_see) < 4 * error


def test_certificate_of_a_simulator_tells_its_progress(both_arms):
    """Each party's rounds are counted up to the last one, over all environments."""
    _, world = both_arms
    told = []
    ud.certify(
        world,
        world.exact_agent("do"),
        key=KEY,
        num_episodes=2 * world.num_envs,
        num_rounds=3,
        on_progress=lambda *x: told.append(x),
    )
    counted = {who: [done for done, total, x in told if x == who and total == 6] for _, _, who in told}
    acting = ("the agent", "the expert", "the exact agent, own actions as do", "the exact agent, own actions as see")
    assert counted == {who: [1, 2, 3, 4, 5, 6] for who in acting}


def test_simulator_that_shows_theta_has_no_exact_answer(both_arms):
    """The target is not hidden: the certificate names the part and the round, and measures no distance."""
    _, world = both_arms
    options = {"num_rounds": 4, "num_envs": 4, "contexts": world.contexts, "reward_observed": False, "at_end": "end"}
    open_world = ug.HostWorld(Arm, expert=arm_expert, cue=world.cue, batched=True, **options)
    assert "show the agent another state (numbers 6, 7) from the start" in open_world.no_exact_agent
    agent = ud.GRUAgent(open_world, 4, key=KEY)
    report = ud.certify(open_world, agent, key=KEY, num_episodes=4, baselines=False)
    assert report.action_kl_do is None
    assert "theta shows in more than the cue" in report.notes["action_kl_do"]
    assert report.action_calibration_gap is not None


def test_exact_answers_need_theta_from_the_context(both_arms):
    """A distance that reads a hidden number is refused: it would be that of the true context."""
    _, world = both_arms
    cue = ug.WarmerColder(lambda o, c: np.linalg.norm(o[4:6] - o[6:8]), right=0.8)
    options = {"num_rounds": 4, "num_envs": 4, "contexts": world.contexts, "reward_observed": False, "at_end": "end"}
    wrong = ug.HostWorld(Arm, expert=arm_expert, cue=cue, hide=[6, 7], batched=True, **options)
    with pytest.raises(ValueError, match="distance returned NaN"):
        ud.rollout(wrong, wrong.exact_agent("do"), key=KEY, num_episodes=4)


@pytest.mark.skipif(importlib.util.find_spec("mujoco") is not None, reason="MuJoCo is installed")
def test_missing_mujoco_is_named():
    with pytest.raises(ModuleNotFoundError, match=r'needs MuJoCo: pip install .*"\.\[mujoco\]", in a clone'):
        ug.HostWorld(
            "Reacher-v5", num_rounds=2, contexts=[0, 1], expert=lambda x, c: np.zeros(2), reward_observed=False
        )
