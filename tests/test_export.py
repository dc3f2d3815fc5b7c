"""An exported agent equals the agent, in programs without undelude."""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm, opening
from undelude._cli import main
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._runs.export import num_bytes
from user_folder import without_compiling

KEY = jax.random.key(0)
SEEDS = np.array([[1, 2], [3, 4], [5, 6]], np.uint32)
# A program that cannot import undelude: it acts for three rounds and prints all results.
PLAYER = """
import json, sys
sys.modules["undelude"] = None
import jax, jax.export, jax.numpy as jnp, numpy as np
folder, symbols = sys.argv[1], json.loads(sys.argv[2])
names = ("init", "act", "take", "observe", "step")
init, act, take, observe, step = (jax.export.deserialize(open(f"{folder}/{f}.bin", "rb").read()).call for f in names)
dtypes = [row["dtype"] for row in json.load(open(f"{folder}/manifest.json"))["functions"]["observe"]["arguments"]]
memory, results = init(), []
size = len(memory)
out = []
for seed, o in zip([[1, 2], [3, 4], [5, 6]], symbols):
    seed, o = jnp.array(seed, jnp.uint32), [jnp.asarray(x, d) for x, d in zip(o, dtypes[size:])]
    rounds = [step(*out[-size:], *last, seed)] if out else []
    out, last = act(*memory, seed), o
    rounds.append(out)
    taken = take(*memory, out[0])
    assert all(np.allclose(x, y, rtol=1e-5, atol=1e-6) for x, y in zip(taken, out[-size:], strict=True))
    assert len(rounds) == 1 or all(np.allclose(x, y, rtol=1e-5, atol=1e-6) for x, y in zip(*rounds, strict=True))
    results.append([np.asarray(x).tolist() for x in out])
    memory = observe(*out[-size:], *o)
print(json.dumps(results))
"""
AGENTS = {
    "lstm": lambda process: without_compiling(lambda: ud.LSTMAgent(process, 4, key=KEY)),
    "transformer": lambda process: without_compiling(
        lambda: ud.TransformerAgent(process, 4, num_heads=1, window=3, key=KEY)
    ),
    "predictor": lambda process: without_compiling(
        lambda: ud.SequencePredictor(process, order=3, hidden_size=4, key=KEY)
    ),
    "exact": lambda process: ud.ExactAgent(process, own_actions="see"),
}
OTHERS = ("transformer", "predictor")


def gru(process, hidden_size=4):
    return without_compiling(lambda: ud.GRUAgent(process, hidden_size, key=KEY))


def by_hand(agent, observations, num_rounds):
    """Return the results of the agent's own functions."""
    m, results = agent.init(num_rounds=num_rounds), []
    for seed, o in zip(SEEDS, observations, strict=True):
        distribution = agent.f_A(m)
        a, m = agent.act(m, key=jax.random.wrap_key_data(jnp.asarray(seed)))
        m = agent.g_A(a, m, intervened=agent.own_actions == "do")
        results.append([np.asarray(x).tolist() for x in jax.tree.leaves((a, distribution, m))])
        m = agent.g_O(jax.tree.map(jnp.asarray, o), m)
    return results


def same(have, want):
    assert len(have) == len(want)
    for one, other in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["lstm", *(pytest.param(x, marks=pytest.mark.slow) for x in ("exact", *OTHERS))])
def test_export_runs_without_undelude(name, tmp_path):
    """Actions, distributions and memories are equal in a process that cannot import undelude."""
    process = ud.tasks.bandit(num_arms=3, num_rounds=3)
    agent = AGENTS[name](process) if name == "exact" else without_compiling(lambda: AGENTS[name](process))
    folder = ud.export(process, agent, tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", PLAYER, str(folder), "[[1], [0], [1]]"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    same(json.loads(run.stdout), by_hand(agent, [1, 0, 1], 3))


def test_manifest_lists_arguments_and_results(tmp_path):
    """PyTrees are in JAX's order with their shapes and types; a batch has a leading axis."""
    process = arm(num_rounds=2)
    agent = gru(process)
    folder = ud.export(process, agent, tmp_path, batch_size=5)
    manifest = json.loads((folder / "manifest.json").read_text())
    act, observe = manifest["functions"]["act"], manifest["functions"]["observe"]
    assert [row["name"] for row in observe["arguments"]] == ["memory", "observation['cue']", "observation['position']"]
    assert act["arguments"][-1] == {"name": "seed", "shape": [5, 2], "dtype": "uint32"}
    assert act["results"][0] == {"name": "action", "shape": [5, 1], "dtype": "float32"}
    assert (manifest["distribution"], manifest["own_actions"], manifest["agent"]) == ("Mixture", "do", "GRUAgent")
    init, f = (jax.export.deserialize((folder / f"{f}.bin").read_bytes()).call for f in ("init", "act"))
    memory = init()
    results = f(*memory, jnp.asarray(np.arange(10).reshape(5, 2), jnp.uint32))
    assert [[list(x.shape), str(x.dtype)] for x in results] == [[row["shape"], row["dtype"]] for row in act["results"]]
    assert "stablehlo" in (folder / "act.mlir").read_text()
    assert {file.name for file in folder.iterdir()} == {
        "manifest.json",
        *(f"{name}.{kind}" for name in ("init", "act", "take", "observe", "step") for kind in ("bin", "mlir")),
    }


def test_action_of_the_caller_is_read_with_the_own_mark(tmp_path):
    """`take` reads any action into the memory, as `g_A` does with the mark that the agent was taught to act with."""
    process = ud.tasks.bandit(num_arms=3, num_rounds=3)
    for mark in ("do", "see"):
        agent = ud.ExactAgent(process, own_actions=mark)
        folder = ud.export(process, agent, tmp_path / mark)
        init, take = (jax.export.deserialize((folder / f"{f}.bin").read_bytes()).call for f in ("init", "take"))
        want = agent.g_A(jnp.array(2), agent.init(num_rounds=3), intervened=mark == "do")
        same(take(*init(), jnp.array(2, jnp.int32)), jax.tree.leaves(want))
        assert (
            json.loads((folder / "manifest.json").read_text())["functions"]["take"]["arguments"][-1]["name"] == "action"
        )


def test_mlir_takes_all_listed_arguments(tmp_path):
    """Even if a function of the agent ignores a part of its memory."""
    process = arm()
    ud.export(process, ud.ExactAgent(process), tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for name, described in manifest["functions"].items():
        text = (tmp_path / "out" / f"{name}.mlir").read_text()
        signature = re.search(r"func.func public @main\((.*?)\) ->", text)
        assert signature is not None
        assert len(re.findall(r"%arg\d+", signature[1])) == len(described["arguments"])


def test_agent_of_another_process_is_refused(tmp_path):
    with pytest.raises(ValueError, match="made for another process"):
        ud.export(ud.tasks.bandit(), gru(opening()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_exports_and_prints_latency(tmp_path, capsys):
    run = RunDirectory.create(tmp_path / "run", Config("bandit"))
    ud.save(gru(ud.tasks.bandit()), run.agent_folder)
    command = ["export", str(tmp_path / "run"), "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "microseconds (median)" in out
    assert "is not finished, and the agent has no certificate. Resume it with: undelude train" in out
    assert (tmp_path / "out" / "act.bin").exists()
    assert main([*command, str(tmp_path / "out")]) == 2
    assert "is not empty: export into another folder, or overwrite it with --overwrite" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "out"), "--batch-size", "3", "--overwrite"]) == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["batch_size"] == 3
    (tmp_path / "file").touch()
    assert main([*command, str(tmp_path / "file"), "--overwrite"]) == 2
    assert "file is a file: name a folder" in capsys.readouterr().err


def test_export_refuses_nonempty_folder(tmp_path):
    process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    agents = [gru(process, size) for size in (2, 3)]
    ud.export(process, agents[0], tmp_path)
    before = (tmp_path / "act.bin").read_bytes()
    with pytest.raises(FileExistsError, match=r"is not empty: .* with overwrite=True"):
        ud.export(process, agents[1], tmp_path)
    assert (tmp_path / "act.bin").read_bytes() == before
    ud.export(process, agents[1], tmp_path, overwrite=True)
    assert (tmp_path / "act.bin").read_bytes() != before
    with pytest.raises(FileExistsError, match="is a file: name a folder"):
        ud.export(process, agents[1], tmp_path / "act.bin", overwrite=True)
    for foreign in ('{"name": "my web app"}', "damaged"):
        (tmp_path / "manifest.json").write_text(foreign)
        with pytest.raises(
            FileExistsError, match=r"manifest.json is not that of an export: export into another folder"
        ):
            ud.export(process, agents[0], tmp_path, overwrite=True)
        assert (tmp_path / "manifest.json").read_text() == foreign


def test_size_of_an_export_leaves_out_other_files(tmp_path):
    process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    (tmp_path / "mine.txt").write_text(1000 * "x")
    ud.export(process, gru(process, 2), tmp_path, overwrite=True)
    assert num_bytes(tmp_path) == sum(x.stat().st_size for x in tmp_path.iterdir()) - 1000


def test_host_agent_is_refused(tmp_path, no_type_checks):
    host = ud.HostAgent(lambda num_episodes: None, lambda m, a, o: (None, m))
    with pytest.raises(TypeError, match=r"a HostAgent cannot be exported"):
        ud.export(ud.tasks.bandit(), host, tmp_path / "out")
    assert not (tmp_path / "out").exists()
