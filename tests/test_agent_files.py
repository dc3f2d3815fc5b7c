"""Agents on disk."""

import json
import os
import pickle
import time

import jax
import numpy as np
import pytest

import undelude as ud
from undelude._agents.base import Reading, with_reading
from undelude._agents.networks.registry import ARCHITECTURES
from user_folder import without_compiling


def lstm(process, seed=0):
    return without_compiling(lambda: ud.LSTMAgent(process, 4, key=jax.random.key(0)), seed)


@pytest.fixture
def saved(tmp_path, bandit):
    agent = lstm(bandit)
    ud.save(agent, tmp_path / "agent")
    return agent, tmp_path / "agent"


@pytest.mark.parametrize("agent_type", [named.load() for named in ARCHITECTURES.values()], ids=lambda t: t.__name__)
def test_round_trip(tmp_path, bandit, agent_type):
    """Weights, marks and shapes are equal, bit for bit."""
    agent = without_compiling(lambda: agent_type(bandit, hidden_size=8, key=jax.random.key(0)))
    ud.save(agent, tmp_path)
    again = ud.load(tmp_path)
    assert jax.tree.structure(again) == jax.tree.structure(agent)
    for a, b in zip(jax.tree.leaves(agent), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


def test_marks_round_trip(tmp_path, bandit):
    """An agent that was taught no do-symbol still has none after loading."""
    agent = with_reading(lstm(bandit), Reading("see", ("see",)))
    ud.save(agent, tmp_path)
    again = ud.load(tmp_path)
    assert (again.own_actions, again.marks) == ("see", ("see",))


def test_agent_loads_in_either_precision(tmp_path, bandit):
    """32-bit weights stay the same numbers; 64-bit ones are rounded, with a warning."""
    narrow = lstm(bandit)
    ud.save(narrow, tmp_path / "32")
    with jax.enable_x64(True):
        wide = ud.load(tmp_path / "32")
        assert {leaf.dtype for leaf in jax.tree.leaves(wide)} == {np.dtype(np.float64)}
        wide = jax.tree.map(lambda x: x + 1e-12, wide)
        ud.save(wide, tmp_path / "64")
    with pytest.warns(UserWarning, match="64 was saved with jax_enable_x64 on, and is rounded to 32 bits"):
        again = ud.load(tmp_path / "64")
    for a, b, c in zip(*map(jax.tree.leaves, (narrow, wide, again)), strict=True):
        np.testing.assert_allclose(np.asarray(b) - 1e-12, a, rtol=1e-14, atol=1e-15)
        np.testing.assert_array_equal(c, a)


def test_weights_too_large_for_32_bits_are_refused(tmp_path, bandit):
    with jax.enable_x64(True):
        ud.save(jax.tree.map(lambda x: x + 1e300, lstm(bandit)), tmp_path)
    with pytest.raises(ValueError, match="too large for 32 bits: set jax_enable_x64"):
        ud.load(tmp_path)


def test_missing_file_is_named(tmp_path):
    (tmp_path / "run" / "agent").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"agent\.json is missing\. The agent of a run is in its folder "):
        ud.load(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match=r"agent\.json is missing"):
        ud.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "agent.json").write_text("{"), r"agent\.json is damaged"),
        (lambda d: (d / "agent.json").write_text("[]"), r"agent\.json is damaged: it is not a JSON object"),
        (lambda d: (d / "weights.safetensors").write_bytes(b"\x00" * 40), r"weights\.safetensors is damaged"),
        (lambda d: truncate(d / "weights.safetensors"), r"weights\.safetensors is damaged"),
        (lambda d: edit(d, lambda h: h.update(format=99)), "this version reads format 3"),
        (lambda d: edit(d, lambda h: h.update(agent="os.system")), "this version knows LSTMAgent"),
        (lambda d: edit(d, lambda h: h["config"].pop("actions")), "does not describe a LSTMAgent"),
        (lambda d: edit(d, lambda h: h["config"].update(own_actions="mine")), "does not describe a LSTMAgent"),
        (
            lambda d: edit(d, lambda h: h["config"].update(hidden_size=5)),
            r"bias is float32 \[16\], but agent\.json needs float32 \[20\]",
        ),
        (lambda d: edit(d, lambda h: h["config"].update(hidden_size=10**6)), r"bias is float32 \[16\], but"),
    ],
)
def test_damaged_file_is_named(saved, change, message):
    _, folder = saved
    change(folder)
    with pytest.raises(ValueError, match=message):
        ud.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 10**9}, "needs float32"),
        ({"hidden_size": 10**30}, "hidden_size must be a whole number from 1 to 2147483647"),
        ({"num_layers": 10**6}, r"has 1000002 layers and parts, but weights\.safetensors only \d+ arrays"),
        ({"num_heads": True}, "num_heads must be a whole number"),
        ({"marks": [["do"]]}, 'marks must be a list of "do" and "see"'),
        ({"width": 3}, "'width' is unknown to this version"),
        ({"actions": {"kind": "symbols", "n": 10**12}}, "actions: n must be a whole number from 1 to 2147483647"),
        ({"observations": {"kind": "symbols"}}, "observations must have a kind and its entries"),
    ],
)
def test_claimed_sizes_are_checked_first(tmp_path, bandit, change, message):
    """Building a million layers would take hours, and a billion units too much memory."""
    agent = without_compiling(lambda: ud.TransformerAgent(bandit, 4, num_heads=1, key=jax.random.key(0)))
    ud.save(agent, tmp_path)
    edit(tmp_path, lambda header: header["config"].update(change))
    started = time.perf_counter()
    with pytest.raises(ValueError, match=message):
        ud.load(tmp_path)
    assert time.perf_counter() - started < 60


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("agent.json", 2**30, r"agent\.json is damaged: it has 1073741824 bytes, of 262144 at most"),
        ("weights.safetensors", 2**40, r"weights\.safetensors is damaged: it has 1099511627776 bytes, of \d+ at most"),
    ],
)
def test_oversized_file_not_read(saved, name, size, message):
    """The terabyte is sparse: it takes no room on the disk."""
    _, folder = saved
    os.truncate(folder / name, size)
    with pytest.raises(ValueError, match=message):
        ud.load(folder)


def test_huge_header_is_refused(saved):
    _, folder = saved
    file = folder / "weights.safetensors"
    file.write_bytes((10**11).to_bytes(8, "little") + file.read_bytes()[8:])
    with pytest.raises(ValueError, match="its header claims 100000000000 bytes, of 262144 at most"):
        ud.load(folder)


def test_nonfinite_weights_are_refused(saved):
    """All predictions of such an agent would be NaN."""
    _, folder = saved
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + np.float32(np.nan).tobytes())
    with pytest.raises(ValueError, match="holds numbers that are not finite"):
        ud.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"format": 1, "format": 1}', "'format' occurs twice"),
        (b'{"format": 1e999}', "1e999 is not a 64-bit number"),
        (b'{"format": NaN}', "NaN is not a JSON number"),
        (b'{"format": ' + b"[" * 100_000, "it is nested too deeply"),
        (b'{"format": ' + b"9" * 5000, "Exceeds the limit"),
        (b'{"format": "\xff"}', "not UTF-8 text"),
    ],
    ids=["twice", "infinite", "nan", "deep", "digits", "bytes"],
)
def test_invalid_json_is_refused(saved, text, message):
    _, folder = saved
    (folder / "agent.json").write_bytes(text)
    with pytest.raises(ValueError, match=rf"agent\.json is damaged: .*{message}"):
        ud.load(folder)


def test_links_lead_only_to_files(saved, tmp_path):
    """Model stores keep files as links; reading a device would never end."""
    _, folder = saved
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).symlink_to(file)
    assert ud.load(linked).hidden_size == 4
    for name in ("agent.json", "weights.safetensors"):
        (linked / name).unlink()
        (linked / name).symlink_to("/dev/zero")
        with pytest.raises(FileNotFoundError, match=f"{name} is missing"):
            ud.load(linked)
        (linked / name).unlink()
        (linked / name).symlink_to(folder / name)


def test_pickle_is_not_executed(saved):
    """Unpickling would run code."""
    _, folder = saved
    for name, message in (("agent.json", "agent.json is damaged"), ("weights.safetensors", "safetensors is damaged")):
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(pickle.dumps(Loud()))
        with pytest.raises(ValueError, match=message):
            ud.load(folder)
        (folder / name).write_bytes(kept)


class Loud:
    def __reduce__(self):
        return pytest.fail, ("a file of an agent ran code",)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-10])


def edit(folder, change):
    header = json.loads((folder / "agent.json").read_text())
    change(header)
    (folder / "agent.json").write_text(json.dumps(header))


def test_exact_agents_not_saved(tmp_path, bandit):
    with pytest.raises(TypeError, match="An exact agent is built from its process"):
        ud.save(ud.ExactAgent(bandit), tmp_path)


def test_save_leaves_only_two_files(saved):
    agent, folder = saved
    ud.save(agent, folder)
    assert sorted(p.name for p in folder.iterdir()) == ["agent.json", "weights.safetensors"]


def test_weights_of_another_save_are_refused(tmp_path, bandit):
    """A crash between the two writes leaves weights of the same shapes that do not belong to agent.json."""
    for i in (0, 1):
        ud.save(lstm(bandit, seed=i), tmp_path / str(i))
    weights = (tmp_path / "1" / "weights.safetensors").read_bytes()
    (tmp_path / "0" / "weights.safetensors").write_bytes(weights)
    with pytest.raises(ValueError, match=r"weights\.safetensors does not match the digest in agent\.json"):
        ud.load(tmp_path / "0")
