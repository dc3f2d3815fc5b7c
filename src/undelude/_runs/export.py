"""Export of an agent as compiled functions, for programs without undelude or without Python."""

import importlib.util
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import jax
import jax.export

from undelude._agents.base import AbstractAgent, check_mark
from undelude._checks import check_count
from undelude._files import read_json, sweep, write_atomically
from undelude._process.host_world import World, check_world
from undelude._rollout.checks import check_fit
from undelude._runs.exported import Exported, Format
from undelude._runs.onnx_files import OPSET, check_can_convert, check_equal, convert, count_operators, read_onnx
from undelude._versions import installing, versions

FORMAT = 1
MANIFEST = "manifest.json"
PLATFORMS = ("cpu", "cuda", "tpu")
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
    """Write `agent` into `folder` as five functions, `init`, `act`, `take`, `observe` and `step`, weights included.

        init()                -> memory                          at the start of an episode
        act(memory, seed)     -> action, distribution, memory    the action, its predicted distribution, and the memory
                                                                 after it, read with the agent's own mark
        take(memory, action)  -> memory                          after an action that you chose in place of `act`
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
        num_rounds: T of the episodes, for agents whose memory depends on it; the process's own by default. The
            functions count no rounds: an agent whose memory is full forgets the oldest symbols, where `ud.Policy`
            raises.
        batch_size: B; every array then has a leading axis B, and each episode its own seed. None for one
            episode.
        format: `"jax"` or `"onnx"`.
        overwrite: write even if the folder is not empty, over an earlier export.

    Returns:
        The folder.

    Raises:
        FileExistsError: the folder is not empty, or is a file, or has a `manifest.json` of something else.
        TypeError: the agent is not JAX, such as a `HostAgent`; or it cannot be written as ONNX.
        ModuleNotFoundError: flatbuffers, or for ONNX jax2onnx or onnxruntime, is not installed.
        ValueError: the format is unknown; the agent was made for another process, or cannot read its own marks.

    >>> import tempfile
    >>> import jax, jax.numpy as jnp, undelude as ud
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
    check_world(process)
    if not isinstance(agent, AbstractAgent):
        raise TypeError(
            f"export: a {type(agent).__name__} cannot be exported, because JAX cannot compile it; "
            "run it in Python, or teach an agent of undelude's."
        )
    _check_format(format)
    check_mark(agent, agent.own_actions)
    check_fit(process, agent)
    num_rounds = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    batch_size = None if batch_size is None else check_count("batch_size", batch_size)
    exported = Exported(process, agent, format=format, num_rounds=num_rounds, batch_size=batch_size)
    files: dict[str, bytes] = {}
    flats: dict[str, Callable[..., list]] = {}
    for name in exported.functions:
        flats[name], arguments = exported.flat(name)
        if format == "jax":
            files |= _for_jax(flats[name], arguments, name)
        else:
            files[f"{name}.onnx"] = convert(flats[name], arguments, name)
    described = {name: exported.described(name) for name in exported.functions}
    if format == "onnx":
        models = {name: files[f"{name}.onnx"] for name in exported.functions}
        check_equal(flats, models, exported.draws(), num_actions=exported.num_actions)
        for name, model in models.items():
            described[name]["operators"] = count_operators(model)
    manifest = {
        "format": FORMAT,
        "task": process.name,
        "agent": type(agent).__name__,
        "own_actions": agent.own_actions,
        "distribution": exported.distribution,
        "num_rounds": num_rounds,
        "batch_size": batch_size,
        "written_as": format,
        "random": {exported.random: RANDOM[exported.random]},
        **({"platforms": PLATFORMS} if format == "jax" else {"opset": OPSET}),
        "versions": versions(),
        "functions": described,
    }
    _write(path, files, manifest)
    return path


def _write(path: Path, files: dict[str, bytes], manifest: dict[str, Any]) -> None:
    """Write the files of an export, and remove those of an earlier one."""
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).unlink(missing_ok=True)
    for left in (MANIFEST, *files_of(manifest["functions"], *ENDINGS)):
        sweep(path / left)
        if left not in files:
            (path / left).unlink(missing_ok=True)
    for file, data in files.items():
        write_atomically(path / file, data)
    # Written last: a manifest means that the export is complete.
    write_atomically(path / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def files_of(names: Iterable[str], *formats: Format) -> list[str]:
    """Return the files of functions in some formats."""
    return [f"{name}.{ending}" for name in names for format in formats for ending in ENDINGS[format]]


def num_bytes(folder: Path) -> int:
    """Return the size of an export, without other files in its folder."""
    manifest = json.loads((folder / MANIFEST).read_text())
    return sum(
        (folder / file).stat().st_size for file in (MANIFEST, *files_of(manifest["functions"], manifest["written_as"]))
    )


def read_export(folder: Path) -> tuple[dict[str, Any], dict[str, Callable[..., Any]]]:
    """Read an export; return its manifest and its functions by name."""
    manifest = json.loads((folder / MANIFEST).read_text())
    names = manifest["functions"]
    if manifest["written_as"] == "onnx":
        return manifest, {name: read_onnx((folder / f"{name}.onnx").read_bytes()) for name in names}
    data = {name: bytearray((folder / f"{name}.bin").read_bytes()) for name in names}
    return manifest, {name: jax.export.deserialize(data[name]).call for name in names}


def check_free(path: Path, *, overwrite: bool, option: str = "overwrite=True") -> None:
    """Raise `FileExistsError` if `path` is a file, or a folder that is not empty without `overwrite`.

    With `overwrite`, a manifest that is not that of an export is refused.
    """
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file: name a folder to export into.")
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty: export into another folder, or overwrite it with {option}.")
    if (path / MANIFEST).exists() and not _is_export(path / MANIFEST):
        raise FileExistsError(f"{path / MANIFEST} is not that of an export: export into another folder.")


def _is_export(manifest: Path) -> bool:
    try:
        found = read_json(manifest)
    except (OSError, ValueError):
        return False
    return {"format", "written_as", "functions"} <= found.keys()


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


def _for_jax(f: Callable[..., list], arguments: list, name: str) -> dict[str, bytes]:
    """Return the files of a function for `jax.export` and for compilers of StableHLO."""
    # Keep unused arguments, because the manifest lists them.
    jitted = jax.jit(f, keep_unused=True)
    # For one platform: for several, the text would take the platform as another argument.
    text = jax.export.export(jitted, platforms=PLATFORMS[:1])(*arguments).mlir_module()
    exported = jax.export.export(jitted, platforms=PLATFORMS)(*arguments)
    return {f"{name}.bin": bytes(exported.serialize()), f"{name}.mlir": text.encode()}
