"""Worlds that run in Python through the command line, `check_task` and the page of a certificate."""

import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import undelude as ud
from environments import CONTEXTS, Faulty, Ledger, MakeLake, captain, distance
from undelude import gym as ug
from undelude._cli import main
from undelude._cli.console import make_console
from undelude._cli.interrupts import Interrupts
from undelude._cli.session import Session
from undelude._cli.train import make_agent, make_teaching
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude.tasks.registry import make
from user_folder import compiled_once

KEY = jax.random.key(0)
HARBOURS = [-0.8, -0.3, 0.3, 0.8]
WORLDS = """
import undelude.gym as ug
from environments import Ledger, MakeLake, captain, distance

def lake():
    cue = ug.WarmerColder(distance, right=0.8, within=0.1)
    return ug.HostWorld(
        MakeLake(), num_rounds=4, num_envs=16, contexts=[-0.8, -0.3, 0.3, 0.8], hide=[1], cue=cue, expert=captain,
        reward_observed=False, at_end="end",
    )

def pond():
    return ug.HostWorld(
        MakeLake("seed", 0.0005), num_rounds=3, num_envs=16, contexts=[-0.8, 0.8], hide=[1], expert=captain,
        reward_observed=True, vectorization="async", num_workers=2,
    )
"""


def lake(env=None, **options):
    options = {"num_rounds": 4, "num_envs": 16, "contexts": HARBOURS, "hide": [1], "expert": captain} | options
    return ug.HostWorld(env or MakeLake(), reward_observed=False, at_end="end", **options)


def told(**options):
    return lake(cue=ug.WarmerColder(distance, right=0.8, within=0.1), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    (folder / "my_worlds.py").write_text(WORLDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("COLUMNS", "80")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
        patch.setattr(sys, "path", [str(folder), *sys.path])
        with compiled_once(tmp_path_factory, patch):
            # The loop in Python has many small programs.
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
            patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
            yield folder


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def text_of(page):
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.read_text())))


# The command line -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_run_with_exact_answers(folder, capsys):
    sizes = ["--hidden-size", "4", "--batch-size", "16", "--num-episodes", "256"]
    assert main(["train", "my_worlds:lake", "--out", "runs/lake", "--steps", "4", "--log-every", "4", *sizes]) == 0
    run, err = folder / "runs" / "lake", capsys.readouterr().out
    assert [row["update"] for row in rows(run)] == [4]
    assert all(row["action_kl_do"] > 0 and row["action_kl_see"] > 0 for row in rows(run))
    certificate = json.loads((run / "certificate.json").read_text())
    assert certificate["action_kl_do"] > 0
    assert certificate["reward_exact_do"] is not None
    for name in ("film", "reward_best"):  # What such a world lacks is said, in the terminal and on the page.
        assert certificate["notes"][name] in re.sub(r"\s+", " ", err)
        assert certificate["notes"][name] in text_of(run / "report.html")
    assert not (run / "episode.gif").exists()
    assert "One episode, read two ways" in text_of(run / "report.html")
    agent = ud.load(run / "agent")
    scale = np.asarray(agent.interface.read_observation.parts["state"].scale)
    assert scale[0] != 1  # Of the place; the other number, standard normal, has a scale of about 1.
    np.testing.assert_allclose(scale[1], 1, atol=0.2)

    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0


LAUNCH = """
import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("undelude", run_name="__main__")
"""


def processes_of(mark):
    """Return the processes that inherited an environment variable."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                if mark.encode() in (place / "environ").read_bytes():
                    found.append(int(place.name))
            except OSError:
                continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")
def test_ctrl_c_leaves_no_worker_and_resuming_gives_the_uninterrupted_run(folder, capsys):
    options = ["--steps", "20", "--log-every", "4", "--hidden-size", "4", "--batch-size", "16", "--num-episodes", "256"]
    run, mark = folder / "runs" / "pond", f"UNDELUDE_TEST_MARK={os.getpid()}"
    environment = os.environ | dict([mark.split("=")]) | {"JAX_NUM_CPU_DEVICES": str(jax.local_device_count())}
    command = [sys.executable, "-c", LAUNCH, "train", "my_worlds:pond", "--out", str(run), *options]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 300
    while process.poll() is None and not ((run / "metrics.jsonl").exists() and len(rows(run)) >= 1):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]
    assert len(processes_of(mark)) >= 3  # The command and two workers.
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: to all of them.
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    deadline = time.monotonic() + 30
    while processes_of(mark):  # Python's own server of processes ends by itself.
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reached = rows(run)[-1]["update"]
    assert 4 <= reached < 20

    assert main(["train", "my_worlds:pond", "--out", str(run), "--resume", "--num-episodes", "256"]) == 0
    config = Config("my_worlds:pond", steps=20, log_every=4, hidden_size=4, batch_size=16)
    whole = RunDirectory.create(folder / "runs" / "whole", config)
    world = make(config.task)
    try:
        agent, teaching = make_agent(config, world), make_teaching(config)
        Session(whole, config, world, agent, teaching, make_console(stderr=True), Interrupts()).train()
    finally:
        world.close()
    weights = [load_file(each / "agent" / "weights.safetensors") for each in (run, whole.path)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name])
    without_seconds = [[row | {"seconds": 0} for row in rows(each)] for each in (run, whole.path)]
    assert without_seconds[0] == without_seconds[1]

    certificate = (run / "certificate.json").read_text()
    (run / "certificate.json").unlink()
    assert main(["certify", str(run), "--num-episodes", "256"]) == 0
    first, again = json.loads(certificate), json.loads((run / "certificate.json").read_text())
    assert again | {"seconds": 0} == first | {"seconds": 0}

    # There are no exact answers here: the rows, the terminal and the page have what there is.
    assert all(row["action_kl_do"] is None and np.isfinite(row["action_calibration_gap"]) for row in rows(run))
    shown, page = capsys.readouterr(), text_of(run / "report.html")
    assert "calibration gap" in shown.err
    for words in ("No verdict", "no cue= is declared"):
        assert words in re.sub(r"\s+", " ", shown.out)
        assert words in page
    assert "calibration gap there" in page


def test_what_such_a_world_cannot_do_is_refused(folder, capsys):
    assert main(["play", "my_worlds:lake"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be played, because it is a simulator" in said
    assert "undelude train makes a page with a film" in said


@pytest.mark.slow
def test_check_command(folder, capsys):
    assert main(["check", "my_worlds:lake", "--num-episodes", "64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inexact"] is None
    assert found["steps_per_second"] > 0
    np.testing.assert_allclose(found["entropy"], np.log(4))


# Workers --------------------------------------------------------------------------------------------------------------


def test_answers_that_an_interrupt_left_are_not_taken_for_later_ones():
    def fixed(n):
        return ud.HostAgent(lambda n: 0, lambda m, a, o: (ud.Normal(np.zeros((n, 1)), np.ones((n, 1))), m))

    def stop(*_):
        raise KeyboardInterrupt

    there = lake(MakeLake("seed", 0.2), vectorization="async", num_workers=2, num_envs=4)
    before = signal.signal(signal.SIGALRM, stop)
    try:
        size = {"num_episodes": 4, "num_rounds": 2}
        ud.rollout(there, fixed(4), key=jax.random.key(5), **size)  # The workers are ready.
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            ud.rollout(there, fixed(4), key=jax.random.key(6), **size)
        later = ud.rollout(there, fixed(4), key=KEY, **size)
        jax.tree.map(np.testing.assert_array_equal, later, ud.rollout(lake(num_envs=4), fixed(4), key=KEY, **size))
    finally:
        signal.signal(signal.SIGALRM, before)
        there.close()
    with pytest.raises(RuntimeError, match="was closed"):
        ud.rollout(there, fixed(4), key=KEY, **size)


# Check it first -------------------------------------------------------------------------------------------------------


def test_sound_world():
    world = told()
    report = ud.check_task(world, num_episodes=64)
    np.testing.assert_allclose(report.entropy, np.log(4))
    assert report.inexact is None
    gap = ud.certify(told(), world.exact_agent("see"), key=KEY, num_episodes=64, baselines=False)
    assert report.action_kl_do == gap.action_kl_do > 0
    said = str(report)
    assert "no problems found" in said
    assert "As declared, theta shows by the cue, first in round 1: context " in said
    assert "another cue" in said
    assert "distances of actions to both exact answers" in said


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_share_of_clipped_actions(shift):
    """The expert's action is normal around `shift` and the box ends at .2: half of them lie outside if that is .2."""
    world = lake(expert=lambda o, c: (np.array([shift]), 0.01), num_rounds=16)
    report = ud.check_task(world)
    np.testing.assert_allclose(report.clipped, {0.0: 0, 0.2: 0.5, 1.0: 1}[shift], atol=0.08)
    assert ("lie outside the Box" in str(report)) == (shift > 0)
    assert "expert acted alike for every theta" in report.warning


def test_random_numbers_that_no_seed_sets_are_noted():
    world = told(env=MakeLake("clock"))
    report = ud.check_task(world)
    assert "The same seeds and actions twice give another state (number 2) from the start" in str(report)
    assert report.inexact == world.leak
    assert "twice under context -0.8 (number 0)" in world.leak


def test_places_where_the_context_shows_are_named_by_their_indices():
    world = told(env=MakeLake("seed"), hide=[0], expert=lambda o, c: (np.zeros(1), 0.1))
    assert "another state (number 1) from the start" in world.leak
    with pytest.raises(ValueError, match=r"the opening reveals theta, by state \(number 1\)"):
        ud.check_task(world)
    with pytest.raises(ValueError, match=r"by state \(number 2\)"):
        ud.check_task(told(env=MakeLake("context")))
    assert told().leak is None


def test_context_that_changes_nothing_is_noted():
    assert "observations did not depend on theta" in str(ud.check_task(lake()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contexts": [0.5]}, "theta has one value only"),
        ({"expert": lambda o, c: (np.zeros(1), -1.0)}, "a scale that is not positive"),
        ({"expert": lambda o, c: (np.full(1, np.nan), 1.0)}, "not finite"),
        ({"expert": lambda o, c: 1 / 0}, r"ZeroDivisionError: division by zero \(test_host_cli.py, line \d+\)"),
    ],
)
def test_broken_worlds_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ud.check_task(lake(**options))


def test_environment_that_fails_is_refused_or_noted():
    def faulty(share, **options):
        size = {"num_rounds": 4, "num_envs": 16, "contexts": [0, 1], "reward_observed": False} | options
        return ug.HostWorld(lambda: Faulty("not finite", share), expert=lambda o, c: [0.3, 0.7], **size)

    with pytest.raises(ValueError, match=r"episodes were lost.*not finite.*the reward is nan"):
        ud.check_task(faulty(1.0))
    world = faulty(0.2, max_failures=1.0)
    assert world.failures_in_words() is None
    report = ud.check_task(world)
    lost = sum(world.failures.values())
    assert lost > 0
    assert f"{lost} of {world.num_played} episodes so far were lost" in str(report)


def test_least_probability_of_an_experts_action():
    """Each of three contexts has an action of its own, which the other experts take with probability .1."""

    def expert(o, c):
        return [0.1 + 0.6 * (c == CONTEXTS[a]) if a < 3 else 0.1 for a in range(4)]

    world = ug.HostWorld(Ledger, num_rounds=3, contexts=CONTEXTS, hide=[0], expert=expert, reward_observed=False)
    report = ud.check_task(world)
    np.testing.assert_allclose(report.least_mass, 0.1, atol=1e-6)
    assert report.clipped is None


# The page of a certificate --------------------------------------------------------------------------------------------


def test_saved_certificate_has_an_episode_with_the_beliefs_of_bayes(tmp_path):
    world = told()
    report = ud.certify(world, world.exact_agent("see"), key=KEY, num_episodes=64, baselines=False)
    page = report.save(tmp_path)
    assert "One episode, read two ways" in text_of(page)
    assert "How the agent was trained is not recorded here." in text_of(page)
    episode = json.loads((tmp_path / "certificate.json").read_text())["episode"]
    at = np.concatenate([[0], np.cumsum(np.clip(np.ravel(episode["actions"]), -0.2, 0.2))])
    np.testing.assert_allclose(-np.abs(at[1:] - HARBOURS[episode["theta"]]), episode["rewards"], atol=1e-5)
    before, after = (np.abs(x[:, None] - HARBOURS) for x in (at[:-1], at[1:]))
    right = np.where((after < before) | (after <= 0.1), 0.8, 0.2)
    cues = np.array([["colder", "warmer"].index(words) for words in episode["said"]])
    assert episode["observations"] == cues.tolist()
    assert "not a symbol: not shown" not in page.read_text()
    do = np.concatenate([np.zeros((1, 4)), np.cumsum(np.log(np.where(cues[:, None], right, 1 - right)), 0)])
    mean = 0.5 * (np.array(HARBOURS) - at[:-1, None])
    evidence = -0.5 * ((np.reshape(episode["actions"], (-1, 1)) - mean) / 0.05) ** 2
    see = do + np.concatenate([np.zeros((1, 4)), np.cumsum(evidence, 0)])
    for name, log_posterior in (("exact_do", do), ("exact_see", see)):
        belief = np.exp(log_posterior - log_posterior.max(-1, keepdims=True))
        np.testing.assert_allclose(episode["belief"][name], belief / belief.sum(-1, keepdims=True), atol=1e-3)


def test_saved_certificate_without_exact_answers(tmp_path):
    world = lake()
    agent = ud.HostAgent(lambda n: 0, lambda m, a, o: (ud.Normal(np.zeros((len(o), 1)), np.ones((len(o), 1))), m))
    report = ud.certify(world, agent, key=KEY, num_episodes=16, baselines=False)
    page = report.html(tmp_path / "page.html")
    assert "the exact answers that it would show are not known: no cue= is declared" in text_of(page)
    assert json.loads((report.save(tmp_path / "folder").parent / "certificate.json").read_text())["episode"] is None
