"""Export of an agent as compiled functions, for programs without undelude or without Python."""

import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import Array, PyTree

from undelude._agents.base import AbstractAgent, check_mark
from undelude._checks import check_count
from undelude._distributions import AbstractDistribution
from undelude._distributions.inversion import invert, num_uniforms
from undelude._files import sweep, write_atomically
from undelude._process.host_world import World, check_world
from undelude._rollout.checks import check_fit
from undelude._runs.onnx_files import OPSET, check_can_convert, check_equal, convert, count_operators, read_onnx
from undelude._versions import installing, versions

FORMAT = 1
MANIFEST = "manifest.json"
PLATFORMS = ("cpu", "cuda", "tpu")
Format = Literal["jax", "onnx"]
# The endings of the files of each function.
ENDINGS: dict[Format, tuple[str, ...]] = {"jax": ("bin", "mlir"), "onnx": ("onnx",)}
# What the caller of `act` draws, by the name of the argument.
RANDOM = {
    "seed": "two unsigned 32-bit integers, other ones for each action; act draws with them, by threefry2x32",
    "uniforms": "independent numbers, uniform in [0, 1), new ones for each action; the program that calls act draws "
    "them, as ONNX has no random keys",
}


def export(
    process: World,
    agent: AbstractAgent,
    folder: str | os.PathLike[str],
    *,
    num_rounds: int | None = None,
    batch_size: int | None = None,
    format: Format = "jax",
    overwrite: bool = False,
) -> Path:
    """Write `agent` into `folder` as four functions, `init`, `act`, `observe` and `step`, weights included.

        init()                -> memory                          at the start of an episode
        act(memory, seed)     -> action, distribution, memory    the action, its predicted distribution, and the memory
                                                                 after it, read with the agent's own mark
        observe(memory, o)    -> memory                          after an observation, the opening too
        step(memory, o, seed) -> action, distribution, memory    `observe`, then `act`: a round in one call

    Arguments and results are lists of arrays: flattened PyTrees in the order of `manifest.json`, which holds the name,
    shape and dtype of each. `seed` is two unsigned 32-bit integers, new ones for each action. `distribution` holds the
    arrays of a distribution; for symbols, their log-probabilities.

    With `format="jax"`, each function is written twice: `NAME.bin` for `jax.export.deserialize` (which needs
    flatbuffers) on CPU, CUDA and TPU, and `NAME.mlir`, StableHLO as text with the function `main`, for other compilers.
    Reading them runs no code.

    With `format="onnx"`, it is `NAME.onnx`, with inputs `in_0`, `in_1`, ... and outputs `out_0`, ... in the order of
    the manifest. ONNX has no random keys: `act` takes `uniforms` in place of `seed`, independent numbers in `[0, 1)`,
    and inverts the distribution at them.

    Args:
        process: the process that the agent was made for.
        agent: to export; its parameters become constants.
        folder: created if it does not exist; it must be empty.
        num_rounds: T of the episodes, for agents whose memory depends on it; the process's own by default.
        batch_size: B; every array then has a leading axis B, and each episode its own seed. None for one
            episode.
        format: `"jax"` or `"onnx"`.
        overwrite: write even if the folder is not empty, over an earlier export.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty, or is a file.
        TypeError: the agent is not JAX, such as a `HostAgent`; or it cannot be written as ONNX.
        ModuleNotFoundError: flatbuffers, or for ONNX jax2onnx or onnxruntime, is not installed.
        ValueError: the format is unknown; the agent was made for another process, or cannot read its own marks.

    >>> import tempfile, undelude as ud
    >>> bandit = ud.tasks.bandit(num_rounds=2)
    >>> agent = ud.GRUAgent(bandit, 4, key=jax.random.key(0))
    >>> folder = export(bandit, agent, tempfile.mkdtemp())
    >>> init, act = (jax.export.deserialize((folder / f"{f}.bin").read_bytes()).call for f in ("init", "act"))
    >>> action, log_probs, *memory = act(*init(), jnp.array([0, 1], jnp.uint32))
    >>> log_probs.shape
    (5,)
    """
    path = Path(folder)
    check_free(path, overwrite=overwrite)
    if not isinstance(agent, AbstractAgent):
        raise TypeError(
            f"export: a {type(agent).__name__} cannot be exported, because JAX cannot compile it; "
            "run it in Python, or teach an agent of undelude's."
        )
    _check_format(format)
    check_world(process)
    check_mark(agent, agent.own_actions)
    check_fit(process, agent)
    num_rounds = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    batch_size = None if batch_size is None else check_count("batch_size", batch_size)
    # `init` decides the size of the memory: a window may be shorter than the episode, and a cache is as long.
    memory = jax.eval_shape(lambda: agent.init(num_rounds=num_rounds))
    distribution = jax.eval_shape(agent.f_A, memory)
    random = "seed" if format == "jax" else "uniforms"
    drawn = jax.ShapeDtypeStruct((2,), jnp.uint32) if format == "jax" else _uniforms(agent, distribution)

    def init() -> PyTree:
        return agent.init(num_rounds=num_rounds)

    def act(m: PyTree, drawn: Array) -> PyTree:
        predicted = agent.f_A(m)
        if format == "jax":
            a, m = agent.act(m, key=jax.random.wrap_key_data(drawn, impl="threefry2x32"))
        else:
            # A caller's number may be rounded up to 1.
            a = invert(predicted, jnp.clip(drawn, 0, 1 - jnp.finfo(drawn.dtype).epsneg))
        return a, predicted, agent.g_A(a, m, intervened=agent.own_actions == "do")

    def observe(m: PyTree, o: PyTree) -> PyTree:
        return agent.g_O(o, m)

    def step(m: PyTree, o: PyTree, drawn: Array) -> PyTree:
        return act(observe(m, o), drawn)

    action, observation = (spec.value for spec in process.specs)
    named = {
        "memory": memory,
        random: drawn,
        "action": action,
        "distribution": distribution,
        "observation": observation,
    }
    functions: dict[str, tuple[Callable[..., PyTree], tuple[str, ...], tuple[str, ...]]] = {
        "init": (init, (), ("memory",)),
        "act": (act, ("memory", random), ("action", "distribution", "memory")),
        "observe": (observe, ("memory", "observation"), ("memory",)),
        "step": (step, ("memory", "observation", random), ("action", "distribution", "memory")),
    }
    written: dict[str, bytes] = {}
    flats: dict[str, Callable[..., list]] = {}
    described = {}
    for name, (f, takes, gives) in functions.items():
        shapes = [_batched(named[x], batch_size) for x in takes]
        flat, treedef = jax.tree.flatten(tuple(shapes))
        flats[name] = _flat(f, treedef, batch_size)
        if format == "jax":
            written |= _for_jax(flats[name], flat, name)
        else:
            written[f"{name}.onnx"] = convert(flats[name], flat, name)
        described[name] = {
            "arguments": [row for x in takes for row in _rows(x, _batched(named[x], batch_size))],
            "results": [row for x in gives for row in _rows(x, _batched(named[x], batch_size))],
        }
    if format == "onnx":
        models = {name: written[f"{name}.onnx"] for name in functions}
        check_equal(flats, models, _draws(agent, named, drawn, batch_size))
        for name, model in models.items():
            described[name]["operators"] = count_operators(model)
    manifest = {
        "format": FORMAT,
        "task": process.name,
        "agent": type(agent).__name__,
        "own_actions": agent.own_actions,
        "distribution": type(distribution).__name__,
        "num_rounds": num_rounds,
        "batch_size": batch_size,
        "written_as": format,
        "random": {random: RANDOM[random]},
        **({"platforms": PLATFORMS} if format == "jax" else {"opset": OPSET}),
        "versions": versions(),
        "functions": described,
    }
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).unlink(missing_ok=True)
    for left in (MANIFEST, *(f"{name}.{ending}" for name in functions for ending in sum(ENDINGS.values(), ()))):
        sweep(path / left)
        if left not in written:
            (path / left).unlink(missing_ok=True)
    for file, data in written.items():
        write_atomically(path / file, data)
    # Written last: a manifest means that the export is complete.
    write_atomically(path / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return path


def read_export(folder: Path) -> tuple[dict[str, Any], dict[str, Callable[..., Any]]]:
    """Read an export; return its manifest and its functions by name."""
    manifest = json.loads((folder / MANIFEST).read_text())
    names = manifest["functions"]
    if manifest["written_as"] == "onnx":
        return manifest, {name: read_onnx((folder / f"{name}.onnx").read_bytes()) for name in names}
    data = {name: bytearray((folder / f"{name}.bin").read_bytes()) for name in names}
    return manifest, {name: jax.export.deserialize(data[name]).call for name in names}


def check_free(path: Path, *, overwrite: bool, option: str = "overwrite=True") -> None:
    """Raise `FileExistsError` if `path` is a file, or a folder that is not empty without `overwrite`."""
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file: name a folder to export into.")
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty: export into another folder, or overwrite it with {option}.")


def _check_format(format: Format) -> None:
    """Raise if the format is unknown, or a package that it needs is not installed."""
    if format not in get_args(Format):
        raise ValueError(f'export: format must be "jax" or "onnx", not {format!r:.99}.')
    if format == "onnx":
        check_can_convert()
    elif importlib.util.find_spec("flatbuffers") is None:
        raise ModuleNotFoundError(
            f"JAX needs flatbuffers to write and to read exported functions: {installing('export')}."
        )


def _uniforms(agent: AbstractAgent, distribution: AbstractDistribution) -> jax.ShapeDtypeStruct:
    """Return the shape of the uniform numbers of one action.

    Raises:
        TypeError: the agent does not sample its prediction, or the inverse of its distribution is not known.
    """
    if type(agent).act is not AbstractAgent.act:
        raise TypeError(
            f"export: a {type(agent).__name__} chooses actions by its own method act, with random keys, which ONNX "
            'does not have. Export it with the format "jax".'
        )
    return jax.ShapeDtypeStruct((num_uniforms(distribution),), jnp.result_type(float))


def _draws(
    agent: AbstractAgent, named: dict[str, PyTree], drawn: jax.ShapeDtypeStruct, batch_size: int | None
) -> Callable[[list], tuple[list, list]]:
    """Return a function that draws the uniform numbers of a round, and an observation that the agent predicts.

    Args:
        agent: whose observations are predicted.
        named: the shapes and types of `"memory"` and `"observation"`.
        drawn: those of the uniform numbers of one episode.
        batch_size: B, or None for one episode.
    """
    seed = jax.ShapeDtypeStruct((2,), jnp.uint32)
    rng = np.random.default_rng(0)

    def predict(m: PyTree, seed: Array) -> PyTree:
        o = agent.f_O(m).sample(jax.random.wrap_key_data(seed, impl="threefry2x32"))
        # Parts that are not predicted, such as a mask of actions, are floats in the prediction.
        return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), o, named["observation"])

    observe = jax.jit(_flat(predict, jax.tree.structure((named["memory"], seed)), batch_size))

    def draw(memory: list) -> tuple[list, list]:
        uniforms, seeds = (_batched(x, batch_size).shape for x in (drawn, seed))
        return [rng.random(uniforms, drawn.dtype)], observe(*memory, rng.integers(2**32, size=seeds, dtype=np.uint32))

    return draw


def _for_jax(f: Callable[..., list], arguments: list, name: str) -> dict[str, bytes]:
    """Return the files of a function for `jax.export` and for compilers of StableHLO."""
    # Keep unused arguments, because the manifest lists them.
    jitted = jax.jit(f, keep_unused=True)
    # For one platform: for several, the text would take the platform as another argument.
    text = jax.export.export(jitted, platforms=PLATFORMS[:1])(*arguments).mlir_module()
    exported = jax.export.export(jitted, platforms=PLATFORMS)(*arguments)
    return {f"{name}.bin": bytes(exported.serialize()), f"{name}.mlir": text.encode()}


def _flat(f: Callable[..., PyTree], treedef: Any, batch_size: int | None) -> Callable[..., list]:
    """Return `f` with flat arguments and results, for one episode or for a batch."""

    def call(*leaves: Any) -> list:
        if batch_size is None:
            return jax.tree.leaves(f(*treedef.unflatten(leaves)))
        if not leaves:
            return [jnp.broadcast_to(x, (batch_size, *jnp.shape(x))) for x in jax.tree.leaves(f())]
        return jax.tree.leaves(jax.vmap(f)(*treedef.unflatten(leaves)))

    return call


def _batched(shapes: PyTree, batch_size: int | None) -> PyTree:
    lead = () if batch_size is None else (batch_size,)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), shapes)


def _rows(name: str, shapes: PyTree) -> list[dict[str, Any]]:
    """Return the manifest's entries for the arrays of `shapes`."""
    leaves, _ = tree_flatten_with_path(shapes)
    return [{"name": name + keystr(path), "shape": list(x.shape), "dtype": str(x.dtype)} for path, x in leaves]
