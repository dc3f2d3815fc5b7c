"""An agent exported as ONNX equals the agent, for each architecture and kind of symbol, without JAX."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

import undelude as ud
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._cli import main
from undelude._distributions import Symbols
from undelude._distributions.inversion import invert, num_uniforms
from undelude._named_tasks import TASKS
from undelude._runs import onnx_files, onnx_operations
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._runs.export import read_export
from undelude.tasks import registry
from user_folder import without_compiling

KEY = jax.random.key(0)
NUM_ROUNDS = 4
SIZES = {"hidden_size": 8, "window": 3, "order": 3, "num_components": 3}
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("jax2onnx", "onnxruntime")),
    reason="the dependency group onnx is not installed",
)
COIN, THREE = ud.Categorical(probs=[0.5, 0.5]), ud.Categorical(probs=[0.2, 0.3, 0.5])
# Distributions of an action and of an observation, whose kinds of values the networks predict.
KINDS = {
    "symbols": (THREE, COIN),
    "blocks": (ud.Autoregressive(probs=np.full((3, 3), 1 / 9)), ud.Autoregressive(probs=np.full((2, 2, 2), 1 / 8))),
    "reals": (ud.Normal([0.0, 1.0], 1.0), ud.Normal(0.0, 1.0)),
    "boxes": (ud.Squashed(ud.Normal([0.0, 1.0], 1.0), -1.0, 2.0), ud.Squashed(ud.Normal([0.0], 1.0), 0.0, 1.0)),
    "parts": (
        ud.Joint({"arm": THREE, "force": ud.Normal([0.0, 1.0], 1.0)}),
        ud.Joint({"cue": COIN, "position": ud.Given(jnp.zeros(2))}),
    ),
    "masked": (THREE, ud.Joint({"cue": COIN, "action_mask": ud.Given(jnp.array([1, 0, 1], jnp.int8))})),
}
# One architecture with each kind, and each with symbols; the others are slow together.
FAST = [("lstm", kind) for kind in KINDS] + [(name, "symbols") for name in ARCHITECTURES if name != "lstm"]
SLOW = [(name, kind) for name in ARCHITECTURES for kind in KINDS if name != "predictor" and (name, kind) not in FAST]
# A program that can import neither undelude nor JAX: it acts for three rounds and prints all results.
PLAYER = """
import json, sys
sys.modules["undelude"] = sys.modules["jax"] = None
import numpy as np, onnxruntime
folder = sys.argv[1]
described = json.load(open(f"{folder}/manifest.json"))["functions"]
sessions = {name: onnxruntime.InferenceSession(f"{folder}/{name}.onnx") for name in described}


def call(name, *arguments):
    rows = described[name]["arguments"]
    arrays = [np.asarray(x, row["dtype"]).reshape(row["shape"]) for x, row in zip(arguments, rows, strict=True)]
    return sessions[name].run(None, {f"in_{i}": x for i, x in enumerate(arrays)})


memory, results = call("init"), []
size = len(memory)
for u, o in zip([0.1, 0.5, 0.9], [1, 0, 1]):
    out = call("act", *memory, [u])
    results.append([x.tolist() for x in out])
    memory = call("observe", *out[-size:], o)
print(json.dumps(results))
"""


class Same(ud.AbstractTask):
    """All observations have one distribution."""

    distribution: ud.AbstractDistribution

    def init(self, theta):
        return jnp.zeros(())

    def Q_O(self, theta, w):
        return self.distribution

    def g_A(self, theta, a, w):
        return w

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return jnp.zeros(())


class Alike(ud.AbstractExpert):
    """All actions have one distribution."""

    distribution: ud.AbstractDistribution

    def init(self, theta):
        return jnp.zeros(())

    def Q_A(self, theta, e):
        return self.distribution

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e


def process_of(kind):
    actions, observations = KINDS[kind]
    task, expert = Same(observations), Alike(actions)
    return ud.InteractionProcess(
        prior=jnp.ones(1), thetas=jnp.zeros(1), task=task, expert=expert, num_rounds=NUM_ROUNDS, name=kind
    )


def agent_of(name, process):
    """Return an agent with weights of the size of initial ones and positive scales, without compiling `__init__`."""
    architecture = ARCHITECTURES[name]
    sizes = {option: SIZES[option] for option in architecture.options if option in SIZES}
    if process.name not in ("reals", "boxes", "parts"):
        sizes.pop("num_components", None)
    agent = without_compiling(lambda: architecture.load()(process, **sizes, key=KEY))
    return jax.tree_util.tree_map_with_path(
        lambda path, x: 0.5 + abs(x) if jax.tree_util.keystr(path).endswith("scale") else 0.3 * x, agent
    )


def same(have, want):
    assert len(have) == len(want)
    for one, other in zip(have, want, strict=True):
        assert (np.shape(one), one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-5, atol=1e-5)


def check_episode(process, agent, folder):
    """Play an episode with the exported functions and with the agent's own, and compare all results."""
    manifest, functions = read_export(ud.export(process, agent, folder, format="onnx"))
    rng, m = np.random.default_rng(0), agent.init(num_rounds=NUM_ROUNDS)
    observe = jax.jit(lambda o, m: agent.g_O(o, m))

    @jax.jit
    def act(m, u):
        predicted = agent.f_A(m)
        a = invert(predicted, u)
        return a, predicted, agent.g_A(a, m, intervened=True)

    have = functions["init"]()
    same(have, jax.tree.leaves(m))
    # The arguments of `step`, but the uniform numbers of this round.
    last = []
    for _ in range(NUM_ROUNDS):
        u = rng.random(manifest["functions"]["act"]["arguments"][-1]["shape"], np.float32)
        *out, m = act(m, u)
        results = functions["act"](*have, u)
        same(results, jax.tree.leaves((out, m)))
        same(functions["take"](*have, *results[: len(jax.tree.leaves(out[0]))]), jax.tree.leaves(m))
        if last:
            same(functions["step"](*last, u), jax.tree.leaves((out, m)))
        o = process.task.distribution.sample(jax.random.key(int(rng.integers(100))))
        last = [*results[-len(have) :], *map(np.asarray, jax.tree.leaves(o))]
        m, have = observe(o, m), functions["observe"](*last)
        same(have, jax.tree.leaves(m))


@needs_onnx
@pytest.mark.parametrize(("name", "kind"), FAST)
def test_onnx_equals_agent(name, kind, tmp_path):
    process = process_of(kind)
    check_episode(process, agent_of(name, process), tmp_path)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), SLOW)
def test_onnx_equals_agent_of_every_architecture_and_kind(name, kind, tmp_path, no_type_checks):
    process = process_of(kind)
    check_episode(process, agent_of(name, process), tmp_path)


def check_replay(process, agent, folder, batch_size=2):
    """Read two episodes with the exported functions and with the agent's own: memories and predictions are equal."""
    _, functions = read_export(ud.export(process, agent, folder, format="onnx", batch_size=batch_size))
    episodes = jax.tree.map(np.asarray, ud.rollout(process, agent, key=KEY, num_episodes=batch_size))
    mark = agent.own_actions == "do"
    act = jax.jit(jax.vmap(lambda a, m: agent.g_A(a, m, intervened=mark)))
    observe, predict = (jax.jit(jax.vmap(f)) for f in (agent.g_O, agent.f_A))
    m = jax.vmap(lambda _: agent.init(num_rounds=process.num_rounds))(jnp.zeros(batch_size))
    have = functions["init"]()
    if process.opening:
        m, have = observe(episodes.opening, m), functions["observe"](*have, *jax.tree.leaves(episodes.opening))
    num_actions = len(jax.tree.leaves(episodes.actions))
    for t in range(int(episodes.mask.all(0).sum())):
        a, o = jax.tree.map(lambda x, t=t: x[:, t], (episodes.actions, episodes.observations))
        u = np.full((batch_size, num_uniforms(jax.tree.map(lambda x: x[0], predict(m)))), 0.3, np.float32)
        drawn = functions["act"](*have, u)
        same(drawn[num_actions : len(drawn) - len(have)], jax.tree.leaves(predict(m)))
        m, have = act(a, m), functions["take"](*have, *jax.tree.leaves(a))
        same(have, jax.tree.leaves(m))
        m, have = observe(o, m), functions["observe"](*have, *jax.tree.leaves(o))
        same(have, jax.tree.leaves(m))


# Tables of symbols; a memory of real numbers; an opening, observations of many parts.
TASKS_OF_OURS = [task for task, named in TASKS.items() if named.extra is None]


@needs_onnx
@pytest.mark.parametrize("own_actions", ["do", "see"])
def test_onnx_equals_exact_agent(own_actions, tmp_path):
    process = ud.tasks.bandit(num_rounds=5)
    check_replay(process, ud.ExactAgent(process, own_actions), tmp_path)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS_OF_OURS)
def test_onnx_equals_exact_agent_of_every_task(task, tmp_path):
    process = registry.make(task)
    check_replay(process, ud.ExactAgent(process), tmp_path)


@needs_onnx
def test_onnx_runs_without_jax(tmp_path):
    """A program without JAX reads the manifest, names inputs in its order, and gets the agent's actions."""
    process = ud.tasks.bandit(num_arms=3, num_rounds=3)
    agent = agent_of("gru", process)
    folder = ud.export(process, agent, tmp_path, format="onnx")
    assert {file.name for file in folder.iterdir()} == {
        "manifest.json",
        "init.onnx",
        "act.onnx",
        "take.onnx",
        "observe.onnx",
        "step.onnx",
    }
    run = subprocess.run([sys.executable, "-c", PLAYER, str(folder)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    m = agent.init(num_rounds=3)
    for (a, log_probs, *_), u, o in zip(json.loads(run.stdout), (0.1, 0.5, 0.9), (1, 0, 1), strict=True):
        predicted = agent.f_A(m)
        np.testing.assert_allclose(log_probs, predicted.log_probs, rtol=1e-5, atol=1e-5)
        assert a == invert(predicted, jnp.array([u]))
        m = agent.g_O(jnp.array(o), agent.g_A(jnp.array(a), m, intervened=True))


@needs_onnx
def test_page_binds_arrays(tmp_path, monkeypatch):
    """The programs of the page play a round each: the second, with bound arrays, gives the results of `step`."""
    page = (Path(__file__).parent.parent / "docs" / "export.md").read_text()
    first, second = re.findall(r"```py\n(import json.*?|options = .*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    process = ud.tasks.bandit(num_arms=3, num_rounds=3)
    ud.export(process, agent_of("gru", process), "exported-onnx", format="onnx")
    names = {}
    exec(first, names)
    memory = [x.copy() for x in names["memory"]]
    exec(second, names)
    u = np.array([0.7], np.float32)
    for o in (1, 0):
        want = names["call"]("step", *names["inputs"], np.array(o, np.int32), u)
        assert names["step"](o, u) == want[0]
        same(names["gives"], want)
        same(names["inputs"], want[-len(memory) :])
    assert not np.allclose(names["inputs"], memory)


@needs_onnx
def test_manifest_of_onnx_and_batch(tmp_path):
    """A batch has a leading axis; an export over another one leaves none of its files."""
    process = process_of("parts")
    ud.export(process, agent_of("lstm", process), tmp_path)
    folder = ud.export(process, agent_of("lstm", process), tmp_path, format="onnx", batch_size=5, overwrite=True)
    assert not list(folder.glob("*.bin")) + list(folder.glob("*.mlir"))
    manifest, functions = read_export(folder)
    act = manifest["functions"]["act"]
    # The arm, the component, and two forces.
    assert act["arguments"][-1] == {"name": "uniforms", "shape": [5, 4], "dtype": "float32"}
    assert "the program that calls act draws them" in manifest["random"]["uniforms"]
    assert (manifest["written_as"], manifest["opset"]) == ("onnx", 21)
    assert [manifest["functions"][name]["operators"].get("LSTM") for name in ("init", "act", "step")] == [None, 1, 2]
    results = functions["act"](*functions["init"](), np.random.default_rng(0).random((5, 4), np.float32))
    assert [[list(x.shape), str(x.dtype)] for x in results] == [[row["shape"], row["dtype"]] for row in act["results"]]


@needs_onnx
def test_command_exports_onnx(tmp_path, capsys):
    run = RunDirectory.create(tmp_path / "run", Config("bandit"))
    ud.save(agent_of("gru", ud.tasks.bandit()), run.agent_folder)
    assert main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "out"), "--format", "onnx"]) == 0
    assert "on cpu, by ONNX Runtime: " in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "out" / "act.onnx").exists()


@needs_onnx
def test_refusals_name_the_agent_and_leave_no_folder(tmp_path, no_type_checks):
    process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    agent = ud.ExactAgent(process)
    with pytest.raises(TypeError, match="a TemperedAgent chooses actions by its own method act"):
        ud.export(process, ud.TemperedAgent(agent, 0.5), tmp_path / "out", format="onnx")
    with pytest.raises(ValueError, match='format must be "jax" or "onnx"'):
        ud.export(process, agent, tmp_path / "out", format="torch")
    assert not (tmp_path / "out").exists()


@needs_onnx
def test_operation_without_conversion_is_refused():
    def f(x):
        return [jax.random.normal(jax.random.wrap_key_data(x), (2,))]

    with pytest.raises(TypeError, match=r"act of this agent cannot be written as ONNX: .* format .jax"):
        onnx_files.convert(f, [jax.ShapeDtypeStruct((2,), jnp.uint32)], "act")


# Of a gather whose batch is the last axis.
ENTRIES_LAST = jax.lax.GatherDimensionNumbers(offset_dims=(0, 1, 2), collapsed_slice_dims=(), start_index_map=(0, 1))


@pytest.mark.parametrize(
    "index",
    [
        lambda x, i, j: jax.lax.dynamic_index_in_dim(x[i], j, keepdims=False),
        lambda x, i, j: jax.lax.dynamic_slice(x, (i, j, 0), (1, 1, x.shape[2])),
        lambda x, i, j: jax.lax.dynamic_slice(x, (0, i, j), (x.shape[0], 1, 1)),
        lambda x, i, j: jax.lax.gather(x, jnp.array([[i, j], [j, i]]), ENTRIES_LAST, (1, 1, 3), mode="clip"),
        lambda x, i, j: x.at[i, :, j].get(mode="clip"),
        lambda x, i, j: x.at[:, jnp.stack([i, j])].get(mode="clip"),
        lambda x, i, j: jax.vmap(lambda y, k: y.at[k].get(mode="clip"))(x, jnp.stack([i, j, i + j])),
        lambda x, i, j: x.at[:, j].get(mode="fill", fill_value=7.0)[i],
        lambda x, i, j: jnp.stack([x[i, j], x[j, i]], -1),
        lambda x, i, j: jnp.where(x[i] > 0.5, x[j] > 0.5, i > j),
        lambda x, i, j: jax.nn.softplus(x[i, :1]) + jnp.logaddexp(x[j], jax.nn.relu(x[i])),
        lambda x, i, j: jax.lax.scan(lambda c, y: (jnp.where(y[i] > 0.5, c, ~c), y[j]), x[0, 0] > 0.5, x),
        lambda x, i, j: jax.lax.cond(i > j, lambda: x[i], lambda: x[j]),
        lambda x, i, j: jax.lax.fori_loop(0, 3, lambda k, y: y + jnp.stack([x[k, i], x[k, j]]), jnp.zeros((2, 3))),
    ],
)
@pytest.mark.parametrize("axes", [(None, 0, 0), (0, 0, 0), (1, None, 0), (0, 0, None)])
def test_replaced_operations_are_equal(index, axes):
    """Tables are read at all indices, beyond them too, alone and along axes of a batch."""
    x = jax.random.uniform(KEY, (3, 3, 3, 3))
    i, j = jnp.array([-4, 1, 3]), jnp.array([0, -1, 9])
    f = jax.vmap(lambda *args: jax.tree.leaves(index(*args)), axes)
    arguments = [v if axis is not None else v[1] for v, axis in zip((x, i, j), axes, strict=True)]
    traced = jax.make_jaxpr(f)(*arguments)
    replaced = onnx_operations.convertible(traced)
    jax.tree.map(np.testing.assert_array_equal, jaxpr_as_fun(replaced)(*arguments), f(*arguments))


@needs_onnx
def test_replaced_operations_beside_activations_are_equal():
    """An expert of the user's own may have them."""

    def f(x, i):
        entries = jax.vmap(lambda row, k: jax.lax.dynamic_slice(row, (k,), (1,)))(x, i)
        return [jax.nn.relu(entries - 0.5), jnp.where(x[0] > 0.5, x[1] > 0.5, x[2] > 0.5)]

    x, i = np.asarray(jax.random.uniform(KEY, (3, 4))), np.array([0, 3, 2], np.int32)
    model = onnx_files.convert(f, [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (x, i)], "f")
    same(onnx_files.read_onnx(model)(x, i), f(x, i))


@needs_onnx
def test_nodes_are_few_and_outputs_named():
    """A normalisation and a clipped index are a node each; an input, a constant and a repeated result are outputs."""
    onnx: Any = importlib.import_module("onnx")

    table = np.arange(12, dtype=np.float32).reshape(4, 3)

    def f(x, i):
        row, y = jnp.take(jnp.asarray(table), i, axis=0, mode="clip"), jax.nn.log_softmax(x)
        return [y, row, y, x, jnp.asarray(table[0])]

    shapes = [jax.ShapeDtypeStruct((3,), np.float32), jax.ShapeDtypeStruct((), np.int32)]
    model = onnx_files.convert(f, shapes, "act")
    graph = onnx.load_from_string(model).graph
    kinds = [node.op_type for node in graph.node if node.op_type != "Identity"]
    assert sorted(kinds) == ["Clip", "Gather", "LogSoftmax"]
    assert [x.name for x in graph.output] == [f"out_{i}" for i in range(5)]
    x = np.array([1.0, -2.0, 0.5], np.float32)
    for i in (-1, 2, 9):
        same(onnx_files.read_onnx(model)(x, np.array(i, np.int32)), f(x, i))


@needs_onnx
@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize(("name", "kind"), [("lstm", "symbols"), ("lstm", "reals"), ("gru", "parts"), ("gru", "reals")])
def test_recurrent_cell_is_one_node(name, kind, batch_size, no_type_checks):
    """A cell that reads symbols, numbers or both is one operator; with all biases, and symbols out of range."""
    agent = without_compiling(lambda: agent_of(name, process_of(kind)))
    # Initial biases are zero, and many wrong places of a bias would not be noticed.
    rng = np.random.default_rng(0)
    agent = jax.tree.map(lambda x: jnp.asarray(x + rng.uniform(0.1, 0.5, x.shape), x.dtype), agent)
    m = jax.tree.map(lambda x: jnp.asarray(rng.uniform(-1, 1, x.shape), x.dtype), agent.init(num_rounds=1))
    o = process_of(kind).task.distribution.sample(KEY)
    leaves, treedef = jax.tree.flatten((m, o))

    def one(*leaves):
        m, o = treedef.unflatten(leaves)
        return jax.tree.leaves(agent.g_O(o, m))

    shift = [-1, 0, 5] if batch_size else [-1]
    leaves = [jnp.stack([x + k for k in shift]) if batch_size else x + shift[0] for x in leaves]
    f = jax.vmap(one) if batch_size else one
    model = onnx_files.convert(f, [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves], "observe")
    operators = onnx_files.count_operators(model)
    assert operators[name.upper()] == 1
    assert not {"Sigmoid", "Tanh", "Split", "Add"} & operators.keys()
    same(onnx_files.read_onnx(model)(*map(np.asarray, leaves)), jax.jit(f)(*leaves))


@needs_onnx
def test_large_alphabet_is_read_from_its_table(no_type_checks):
    """An identity matrix of 65 symbols is refused: the graph as converted reads a row of the table."""
    specs = (Symbols(2), Symbols(65))
    agent = without_compiling(lambda: ud.GRUAgent(specs, 4, key=KEY))
    shapes = [jax.ShapeDtypeStruct((4,), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)]
    model = onnx_files.convert(lambda m, o: [agent.g_O(o, m)], shapes, "observe")
    assert "GRU" not in onnx_files.count_operators(model)
    m, o = np.linspace(-1, 1, 4, dtype=np.float32), np.array(64, np.int32)
    same(onnx_files.read_onnx(model)(m, o), [agent.g_O(jnp.asarray(o), jnp.asarray(m))])


@needs_onnx
@pytest.mark.parametrize("batch_size", [None, 4])
def test_symbol_without_mass_is_not_drawn(batch_size):
    """The inverse of a cumulative distribution needs no mask of symbols without mass, and never gives one."""
    logits = np.array([-np.inf, 0.3, -np.inf, 0.1, -np.inf], np.float32)

    def one(x, u):
        return [ud.Categorical(logits=x).invert(u)]

    lead = () if batch_size is None else (batch_size,)
    f = one if batch_size is None else jax.vmap(one)
    model = onnx_files.convert(f, [jax.ShapeDtypeStruct((*lead, *s), np.float32) for s in ((5,), ())], "act")
    operators = onnx_files.count_operators(model)
    assert (operators["Greater"], operators["Where"]) == (1, 1)
    x = np.broadcast_to(logits, (*lead, 5))
    for u, want in ((0.0, 1), (0.549, 1), (0.551, 3), (1 - 2**-24, 3)):
        (a,) = onnx_files.read_onnx(model)(x, np.full(lead, u, np.float32))
        assert np.all(a == want)


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    with pytest.raises(ModuleNotFoundError, match=r"needs jax2onnx: .*\[onnx\]"):
        ud.export(process, ud.ExactAgent(process), tmp_path / "out", format="onnx")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_inverted_uniforms_are_samples(kind):
    """Means and variances of many values at uniform numbers are those of samples."""
    for distribution in KINDS[kind]:
        n = num_uniforms(distribution)
        u = jnp.asarray(np.random.default_rng(0).random((20_000, n), np.float32))
        have = jax.vmap(lambda u, P=distribution: invert(P, u))(u)
        want = jax.vmap(distribution.sample)(jax.random.split(KEY, 20_000))
        for one, other in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
            np.testing.assert_allclose(one.mean(0), other.mean(0), atol=0.05)
            np.testing.assert_allclose(one.var(0), other.var(0), atol=0.05)


def test_inverted_mixture_and_ends():
    """Components have their weights; the ends of the interval give finite values; an unknown inverse is refused."""
    two = ud.Mixture(ud.Normal([-5.0, 5.0], [1.0, 1.0]), weights=[0.25, 0.75])
    u = jnp.asarray(np.random.default_rng(0).random((20_000, 2), np.float32))
    assert abs(float((jax.vmap(lambda u: invert(two, u))(u) > 0).mean()) - 0.75) < 0.02
    assert np.isfinite(invert(ud.Normal([0.0, 0.0], 1.0), jnp.array([0.0, 1 - 2**-24]))).all()
    with pytest.raises(TypeError, match="a value of a Given cannot be computed from uniform numbers"):
        num_uniforms(ud.Given(jnp.zeros(1), up_to=jnp.ones(1)))
