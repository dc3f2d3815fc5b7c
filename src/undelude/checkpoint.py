"""Agents on disk: weights in safetensors, everything else in JSON; loading one runs no code of the file's."""

import contextlib
import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from undelude.agent import AbstractAgent
from undelude.agents.gru import GRUAgent
from undelude.agents.linear_recurrent import LinearRecurrentAgent
from undelude.agents.lstm import LSTMAgent
from undelude.agents.markov import MarkovAgent, SequencePredictor
from undelude.agents.network import AbstractLearnedAgent, check_config
from undelude.agents.transformer import TransformerAgent

FORMAT = 2
SHA = "weights_sha256"
LEARNED = (LSTMAgent, GRUAgent, LinearRecurrentAgent, TransformerAgent, MarkovAgent, SequencePredictor)
AGENTS: dict[str, type[AbstractLearnedAgent]] = {agent.__name__: agent for agent in LEARNED}


# An agent's description and the list of its arrays are a few thousand bytes; a certificate with its episode is more.
MAX_DESCRIPTION = 2**18
MAX_JSON = 2**26
# The types of arrays, as safetensors calls them.
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I32": "int32", "I64": "int64"}


def save(agent: AbstractAgent, path: str | os.PathLike) -> None:
    """Write a learned agent into the folder `path`: `agent.json` and `weights.safetensors`.

    Raises:
        TypeError: only learned agents have something to save; an exact agent is its process.
        ValueError: it has more arrays than `load` reads.
    """
    if not (isinstance(agent, AbstractLearnedAgent) and type(agent) in AGENTS.values()):
        raise TypeError(
            f"{type(agent).__name__} cannot be saved; these can: {', '.join(AGENTS)}. "
            "An exact agent is built from its process."
        )
    weights = save_safetensors(_named_arrays(agent))
    # The digest ties the two files together: a crash between their writing, or a bit that has flipped, is found.
    about = {"format": FORMAT, "agent": type(agent).__name__, "config": agent.config, SHA: digest(weights)}
    header = json.dumps(about, indent=2).encode()
    if max(len(header), int.from_bytes(weights[:8], "little")) > MAX_DESCRIPTION:
        raise ValueError("an agent of so many layers or parts cannot be saved; make it of fewer and wider ones.")
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "weights.safetensors", weights)
    write_atomically(folder / "agent.json", header)


def load(path: str | os.PathLike) -> AbstractAgent:
    """Read the agent that `save` wrote; what the files say is compared before anything of that size is read or made.

    Raises:
        FileNotFoundError: there is no agent at `path`.
        ValueError: a file is damaged or does not fit; the message names it.
    """
    folder = Path(path)
    header_file, weights_file = folder / "agent.json", folder / "weights.safetensors"
    for file in (header_file, weights_file):
        if not file.is_file():
            raise FileNotFoundError(f"no agent at {folder}: {file.name} is missing.")
    header = read_json(header_file, most=MAX_DESCRIPTION)
    if header.get("format") != FORMAT:
        raise ValueError(f"{header_file} has format {header.get('format')!r:.99}; this version reads format {FORMAT}.")
    if header.get("agent") not in [*AGENTS]:
        raise ValueError(f"{header_file} holds a {header.get('agent')!r:.99}; this version knows {', '.join(AGENTS)}.")
    agent_type = AGENTS[header["agent"]]
    found, size = _read_header(weights_file)
    try:
        num_parts = check_config(agent_type, header.get("config"))
        if num_parts > len(found):
            raise ValueError(f"it has {num_parts} layers and parts, but {weights_file.name} only {len(found)} arrays")
        # Shapes alone: nothing of the size that the file claims is made.
        agent = eqx.filter_eval_shape(lambda: agent_type.from_config(header["config"]))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        why = str(error).rstrip(".").partition("\n")[0]
        raise ValueError(f"{header_file} does not describe a {header['agent']}: {why}.") from error
    expected = {keystr(path): leaf for path, leaf in tree_flatten_with_path(agent)[0]}
    for name in sorted(expected.keys() | found.keys()):
        want = f"{expected[name].dtype} {list(expected[name].shape)}" if name in expected else "missing"
        if (have := found.get(name, "missing")) != want:
            shown = name if name in expected else f"{name!r:.99}"
            raise ValueError(f"{weights_file}: {shown} is {have:.99}, but {header_file.name} needs {want}.")
    size += sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in expected.values())
    if (real := weights_file.stat().st_size) != size:
        raise ValueError(f"{weights_file} is damaged: it has {real} bytes, not {size}. {_RESTORE}")
    weights = weights_file.read_bytes()
    try:
        arrays = load_safetensors(weights)
    except (SafetensorError, KeyError) as error:  # A type that NumPy has not.
        why = " ".join(str(error).split())  # It quotes what it found, however long.
        raise ValueError(f"{weights_file} is damaged: {why:.200}. {_RESTORE}") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{weights_file} is damaged: {name} holds numbers that are not finite. {_RESTORE}")
    if header.get(SHA) != digest(weights):
        raise ValueError(f"{weights_file} is not what {header_file.name} was written with. {_RESTORE}")
    leaves, treedef = tree_flatten_with_path(agent)
    return tree_unflatten(treedef, [jax.numpy.asarray(arrays[keystr(path)]) for path, _ in leaves])


_RESTORE = "Restore it from a copy, or teach the agent again."


def digest(data: bytes) -> str:
    """By which a file is known again."""
    return hashlib.sha256(data).hexdigest()


def _read_header(file: Path) -> tuple[dict[str, str], int]:
    """Type and shape of each array that a safetensors file says it holds, and where its header ends."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        if size > MAX_DESCRIPTION:
            raise ValueError(
                f"{file} is damaged: its header claims {size} bytes, of {MAX_DESCRIPTION} at most. {_RESTORE}"
            )
        data = opened.read(size)
    try:
        header = json_object(data)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: of its header, {error}. {_RESTORE}") from error
    found = {}
    for name, entry in header.items():
        if not (
            isinstance(entry, dict) and isinstance(entry.get("dtype"), str) and isinstance(entry.get("shape"), list)
        ):
            raise ValueError(f"{file} is damaged: {name!r:.99} in its header is no array. {_RESTORE}")
        found[name] = f"{TYPES.get(entry['dtype'], repr(entry['dtype']))} {entry['shape']}"
    return found, 8 + size


def read_json(file: Path, *, most: int = MAX_JSON) -> dict[str, Any]:
    """A JSON object from `file`.

    Args:
        file: a regular file, or a link to one.
        most: bytes; a longer file is not read.

    Raises:
        ValueError: it is damaged; the message names it.
        OSError: it cannot be read.
    """
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no regular file.")
    if (size := file.stat().st_size) > most:
        raise ValueError(f"{file} is damaged: it has {size} bytes, of {most} at most.")
    try:
        return json_object(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}.") from error


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object; unlike `json.loads`, nothing that JSON has not, no name twice in it, and no float without end.

    Raises:
        ValueError: it is none; the message is one line, and goes on from the name of what was read.
    """
    try:
        value = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"{twice!r:.99} is there twice")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON's")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text:.99} is no number of 64 bits")
    return number


def write_atomically(file: Path, data: bytes) -> None:
    """Write next to `file`, then rename: a reader, or a crash, sees the old content or the new, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(handle)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, file)
        sync(file.parent)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # As on a full disk, which says no name.
            error.filename = str(file)
        raise


def sync(path: Path) -> None:
    """Have what was written to a file, or renamed in a folder, on the disk before anything that comes after it."""
    with contextlib.suppress(OSError):  # Some systems open no folders.
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _umask() -> int:
    """What the user forbids new files; it can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _named_arrays(agent: AbstractAgent) -> dict[str, np.ndarray]:
    leaves, _ = tree_flatten_with_path(eqx.filter(agent, eqx.is_array))
    return {keystr(path): np.asarray(leaf) for path, leaf in leaves}
