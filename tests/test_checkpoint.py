"""Agents on disk."""

import json

import jax
import numpy as np
import pytest

import undelude as ud
from undelude.checkpoint import LEARNED


@pytest.fixture
def saved(tmp_path, bandit):
    agent = ud.LSTMAgent(bandit, 4, key=jax.random.key(0))
    ud.save(agent, tmp_path / "agent")
    return agent, tmp_path / "agent"


@pytest.mark.parametrize("agent_type", LEARNED, ids=lambda t: t.__name__)
def test_round_trip(tmp_path, bandit, agent_type):
    """Weights, marks and shape come back, bit for bit."""
    agent = agent_type(bandit, hidden_size=8, key=jax.random.key(0))
    ud.save(agent, tmp_path)
    again = ud.load(tmp_path)
    assert jax.tree.structure(again) == jax.tree.structure(agent)
    for a, b in zip(jax.tree.leaves(agent), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_marks_are_kept(tmp_path, bandit):
    """An agent that has met no do-symbol has not met it after loading either."""
    agent = ud.agent.with_marks(ud.LSTMAgent(bandit, 4, key=jax.random.key(0)), "see", ("see",))
    ud.save(agent, tmp_path)
    again = ud.load(tmp_path)
    assert (again.own_actions, again.marks) == ("see", ("see",))


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"agent\.json is missing"):
        ud.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "agent.json").write_text("{"), r"agent\.json is damaged"),
        (lambda d: (d / "agent.json").write_text("[]"), r"agent\.json is damaged: it holds no JSON object"),
        (lambda d: (d / "weights.safetensors").write_bytes(b"\x00" * 40), r"weights\.safetensors is damaged"),
        (lambda d: truncate(d / "weights.safetensors"), r"weights\.safetensors is damaged"),
        (lambda d: edit(d, lambda h: h.update(format=99)), "this version reads format 1"),
        (lambda d: edit(d, lambda h: h.update(agent="os.system")), "this version knows LSTMAgent"),
        (lambda d: edit(d, lambda h: h["config"].pop("spec")), "does not describe a LSTMAgent"),
        (lambda d: edit(d, lambda h: h["config"].update(own_actions="mine")), "does not describe a LSTMAgent"),
        (
            lambda d: edit(d, lambda h: h["config"].update(hidden_size=5)),
            r"bias is float32 \[16\], but agent\.json needs float32 \[20\]",
        ),
        (lambda d: edit(d, lambda h: h["config"].update(hidden_size=10**6)), r"bias is float32 \[16\], but"),
    ],
)
def test_a_broken_file_is_named(saved, change, message):
    """Nothing of it is used."""
    _, folder = saved
    change(folder)
    with pytest.raises(ValueError, match=message):
        ud.load(folder)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-10])


def edit(folder, change):
    header = json.loads((folder / "agent.json").read_text())
    change(header)
    (folder / "agent.json").write_text(json.dumps(header))


def test_exact_agents_are_not_saved(tmp_path, bandit):
    with pytest.raises(TypeError, match="An exact agent is built from its process"):
        ud.save(ud.ExactAgent(bandit), tmp_path)


def test_saving_leaves_no_debris(saved):
    """Nothing but the two files, however often."""
    agent, folder = saved
    ud.save(agent, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["agent.json", "weights.safetensors"]
