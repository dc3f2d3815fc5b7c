"""Every script in examples/ runs at a small size and keeps its promises."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from undelude import offline

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, **settings):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](**settings)


def test_all_examples_tested():
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert scripts == tested - {"all_examples_tested"}


@pytest.mark.slow
def test_delusion(capsys):
    reports = run("delusion", num_rounds=10, num_episodes=256)
    assert reports["see"].action_kl_see == pytest.approx(0, abs=1e-5)
    assert reports["do"].action_kl_do == pytest.approx(0, abs=1e-5)
    assert reports["see"].action_kl_do > 10 * reports["see"].action_kl_do_se
    assert "Own actions read as see" in capsys.readouterr().out


def test_reacher(capsys):
    """The distance is that of the simulator, which has the way from target to fingertip in its observation."""
    pytest.importorskip("mujoco")
    report = run("reacher", steps=2, num_episodes=4)
    assert 0 < report.action_kl_do < np.inf
    assert "nats from the interventional answer" in capsys.readouterr().out
    names = runpy.run_path(str(EXAMPLES / "reacher.py"))
    env, rng = names["make"](), np.random.default_rng(0)
    env.reset(seed=0)
    for target in names["TARGETS"]:
        names["place"](env, target)
        seen = env.step(rng.uniform(-0.3, 0.3, 2))[0]
        np.testing.assert_allclose(
            names["distance"](seen[None], target[None]), np.linalg.norm(seen[None, 8:10], axis=-1), atol=2e-3
        )


@pytest.mark.slow
def test_own_process():
    reports = run("own_process", num_rounds=6, steps=60, num_episodes=256)
    assert reports["taught"].action_kl_do < reports["deluded"].action_kl_do / 3


def test_logs(tmp_path):
    """Customers buy 7/12 of what they are offered, and would buy 5/12 of what is offered to all alike."""
    out = str(tmp_path / "logs.csv")
    run("logs", out=out)
    demos = offline.Demos.from_csv(out, episode="session", action="choice", observation="outcome")
    actions, bought = demos.action.values, demos.observations["outcome"].values
    spec = offline.LatentSpec(offline.Episode(3))
    fit = offline.fit(demos, spec, key=jax.random.key(0), starts=4, select="bic")
    effects = np.exp(fit.process.log_prior) @ np.exp(fit.tables["outcome"])[..., 1]
    for a in range(3):
        assert bought[actions == a].mean() == pytest.approx(7 / 12, abs=0.03)
        assert effects[a] == pytest.approx(5 / 12, abs=0.03)


def test_host_agent():
    report = run("host_agent", num_episodes=64)
    assert report.action_kl_do < 0.02 < 0.05 < report.action_kl_see
    assert report.agent == "HostAgent"


@pytest.mark.slow
def test_frozen_lake():
    reports = run("frozen_lake", num_rounds=30, num_episodes=256)
    deluded, sober, holding = reports.values()
    assert sober.action_kl_do == pytest.approx(0, abs=1e-5)
    assert holding.action_kl_do == pytest.approx(0, abs=1e-5)
    assert deluded.action_kl_do > 10 * deluded.action_kl_do_se
    # Holding on to a guess pays here, deluded or not.
    assert min(deluded.reward, holding.reward) > sober.reward + 3 * sober.reward_se


@pytest.mark.slow
def test_babyai():
    """The bot reaches the ball of the hidden mission in all rooms; networks that learned nothing seldom do."""
    pytest.importorskip("minigrid")
    reached = run("babyai", num_rounds=16, num_envs=8, num_demos=16, steps=2, num_episodes=24)
    assert reached["expert"] == 1
    assert max(reached["cloned"], reached["taught"]) < 0.7


def test_pendulum():
    pytest.importorskip("mujoco")
    reports = run("pendulum", num_rounds=30, num_episodes=32)
    assert reports["sober"].action_kl_do == pytest.approx(0, abs=1e-5)
    assert reports["sober"].reward > 0.95
    assert reports["deluded"].reward < 0.85
    assert reports["deluded"].verdict == "deluded"
