"""The peers of the suite read their own actions, decline by name, and go on after an interruption."""

import json
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest

import undelude as ud
from undelude._distributions import Block, GivenArray, Parts, Reals, Symbols
from undelude._versioned_tasks import find_task

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _studies(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    monkeypatch.chdir(tmp_path)


def symbol_and_numbers():
    """Return the spec of observations with a symbol and numbers that are given."""
    return find_task("merge-v1").make().specs[1]


def test_values_as_vectors():
    from suite_shared import features, size

    assert features(Symbols(3), np.array([2, 0, 3, -1])).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert features(Block(2, 3), np.array([[[0, 2]]])).tolist() == [[[1, 0, 0, 0, 0, 1]]]
    assert features(Reals((1, 2)), np.array([[[0.5, -2]]])).tolist() == [[0.5, -2]]
    spec = symbol_and_numbers()
    assert isinstance(spec, Parts)
    assert [type(part) for part in spec.leaves] == [Symbols, GivenArray]
    o = {"sign": np.array([[1]]), "view": np.arange(9.0).reshape(1, 1, 9)}
    assert features(spec, o).tolist() == [[[0, 1, 0, 0, *range(9)]]]
    for one in (Symbols(3), Block(2, 3), Reals((1, 2)), spec):
        zeros = jax.tree.map(lambda x: np.zeros((5, *x.shape), x.dtype), one.value)
        assert features(one, zeros).shape == (5, size(one))


def test_gru_declines_what_it_has_no_output_for():
    import suite_gru

    with pytest.raises(NotImplementedError, match="no output for actions that are blocks of 2"):
        suite_gru.agent(find_task("menu-v1").make(), "undelude/menu-v1")


@pytest.mark.parametrize("task", ["merge-v1", "leduc-v1", "arm-v1"])
def test_gru_steps_as_it_reads(task):
    """Parts, an opening, real-valued actions: the memory of `step` is that of the whole history."""
    import suite_gru

    process = find_task(task).make()
    torch.manual_seed(0)
    net = suite_gru.Net(process.specs, 8)
    B, n = 3, 4
    rng = torch.Generator().manual_seed(1)

    def some(spec, lead):
        if isinstance(spec, Parts):
            return {name: some(part, lead) for name, part in spec.named.items()}
        if isinstance(spec, Symbols):
            return torch.randint(0, spec.n, lead, generator=rng)
        return torch.randn(*lead, *spec.value.shape, generator=rng)

    a, o = (some(spec, (B, n)) for spec in process.specs)
    opening = some(process.specs[1], (B,)) if process.opening else None
    marks = torch.rand(B, n, generator=rng) < 0.5
    whole, _ = net(a, marks, o, opening)
    output, h = net.start(B, opening)
    for t in range(n + 1):
        pairs = zip(whole, output, strict=True) if isinstance(output, tuple) else [(whole, output)]
        assert all(torch.allclose(x[:, t], y, atol=1e-6) for x, y in pairs), t
        if t < n:
            seen = {name: x[:, t] for name, x in o.items()} if isinstance(o, dict) else o[:, t]
            output, h = net.step(h, a[:, t], marks[:, t], seen)


@pytest.fixture
def fake(monkeypatch):
    """A peer that counts how often it is trained, and declines the bandit."""
    import suite_peers

    trained = []

    def learn(process, task, seed, *, few):
        trained.append((process.name, task, seed, few))
        if task == "undelude/bandit-v1":
            raise NotImplementedError("it has two hands.")
        return {"weights": 3}, {"rounds": 500_000}

    peer = types.SimpleNamespace(learn=learn, ABOUT="A peer.", NAME="fake", trained=trained)
    monkeypatch.setitem(sys.modules, "fake_peer", peer)
    monkeypatch.setitem(suite_peers.PEERS, "fake", "fake_peer")
    return peer


def test_training_is_kept_and_goes_on(fake):
    import suite_peers
    import suite_shared

    for _ in range(2):
        for name in ("frog-v1", "bandit-v1"):
            suite_peers.train("fake", find_task(name), 7, few=True)
    assert [each[1:] for each in fake.trained] == [("undelude/frog-v1", 7, True), ("undelude/bandit-v1", 7, True)]
    assert suite_shared.kept("fake", "undelude/frog-v1") == {"weights": 3}
    with pytest.raises(FileNotFoundError):
        suite_shared.kept("fake", "undelude/bandit-v1")
    log = json.loads(Path("runs/peers/fake/training.json").read_text())
    assert log["bandit-v1"]["declines"] == "it has two hands."
    assert suite_peers.about("fake").startswith("A peer. One recipe for all tasks; in all 0.5 million rounds of")


@pytest.mark.slow
def test_gru_is_taught_and_measured(capfd):
    import suite_peers

    from undelude._cli import main
    from undelude._suite.results import read_result

    for name in ("frog-v1", "menu-v1"):
        suite_peers.train("torch-gru", find_task(name), 0, few=True)
    few = ("--tasks", "frog-v1", "menu-v1", "--num-episodes", "16", "--out", "x.json")
    assert main(["suite", "run", "suite_gru:agent", *few]) == 0
    tasks = read_result(Path("x.json")).tasks
    assert tasks["undelude/frog-v1"].score("action_kl_do").value > 0
    assert tasks["undelude/menu-v1"].why.startswith("undelude.torch has no output for actions")


# Stable-Baselines3 and imitation --------------------------------------------------------------------------------------


def test_policies_read_their_own_last_action():
    pytest.importorskip("sb3_contrib")
    import gym_peers
    import suite_ppo

    over = np.array([False, True])
    envs = types.SimpleNamespace(num_envs=2, single_observation_space=None, single_action_space=None, render_mode=None)
    envs.reset = lambda seed: (np.array([3, 3]), {})
    envs.step = lambda a: (np.array([1, 3]), np.array([0.5, 1.0]), over, over & False, {"final_obs": [None, 2]})
    shown = suite_ppo.OwnActions(gym_peers.Episodes(envs), (Symbols(2), Symbols(3)))
    assert shown.reset().tolist() == [[0, 0, 0, 0, 0]] * 2
    seen, reward, ended, _ = shown.step(np.array([1, 0]))
    # The second episode has ended, and the next one has no last action.
    assert seen.tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]
    assert (reward.tolist(), ended.tolist()) == ([0.5, 1.0], [False, True])


def test_predictions_of_a_block_are_independent():
    pytest.importorskip("sb3_contrib")
    import suite_ppo

    probs = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    block = suite_ppo.predicted([torch.distributions.Categorical(probs), torch.distributions.Categorical(probs[:1])])
    first = jax.tree.map(lambda x: x[0], block)
    assert float(first.log_prob(np.array([1, 0]))) == pytest.approx(np.log(0.8 * 0.2), abs=1e-6)


def test_simulator_is_a_vector_environment():
    pytest.importorskip("sb3_contrib")
    import suite_ppo

    world = find_task("parking-v1").make()
    envs = suite_ppo.Simulator(world)
    try:
        o, _ = envs.reset(seed=0)
        seen = suite_ppo.read(world.specs, None, o, world.num_envs)
        assert seen.shape == (64, sum(map(suite_ppo.size, world.specs)))
        for t in range(1, world.num_rounds + 1):
            o, reward, terminated, truncated, _ = envs.step(np.zeros((64, 1), np.float32))
            assert not terminated.any()
            assert truncated.tolist() == [t == world.num_rounds] * 64
            assert reward.shape == (64,)
        assert (o["cue"] == world.cue.num_symbols).all()  # The next episodes have begun, which no cue says yet.
    finally:
        envs.close()


def test_window_ends_with_what_was_last_seen():
    pytest.importorskip("imitation")
    import suite_bc

    process = ud.tasks.bandit(num_arms=3, num_rounds=4)
    demonstrations = suite_bc.Demonstrations(process, 5, seed=0)
    played = ud.rollout(process, None, key=jax.random.key(0), num_episodes=5, executor="expert")
    batch = next(iter(demonstrations))
    windows = batch["obs"].reshape(suite_bc.BATCH, suite_bc.WINDOW, 3 + 2)
    lengths = windows.any((1, 2)) * windows.any(-1).sum(-1)
    assert {*lengths.tolist()} == {0, 1, 2, 3}
    actions, observations = np.asarray(played.actions), np.asarray(played.observations)
    stories = {
        (*(5 * a + o for a, o in zip(actions[i, :t], observations[i, :t], strict=True)), -int(actions[i, t]))
        for i in range(5)
        for t in range(4)
    }
    for window, act, t in zip(windows, batch["acts"], lengths, strict=True):
        assert not window[: suite_bc.WINDOW - t].any()
        told = [5 * int(row[:3].argmax()) + int(row[3:].argmax()) for row in window[suite_bc.WINDOW - t :]]
        assert (*told, -int(act)) in stories
