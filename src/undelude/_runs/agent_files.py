"""Agents on disk: weights in safetensors, everything else in JSON. Loading an agent runs no code from its files."""

import hashlib
import json
import math
import os
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path, tree_unflatten
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from undelude._agents.base import AbstractAgent
from undelude._agents.networks.network import AbstractLearnedAgent, check_agent_config
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._files import json_object, read_json, write_atomically

FORMAT = 3
SHA = "weights_sha256"
AGENTS = {agent.__name__: agent for agent in ARCHITECTURES.values()}
# Most bytes of an agent's description and of the list of its arrays; usually a few thousand.
MAX_DESCRIPTION = 2**18
# NumPy's names for the dtypes of safetensors.
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I32": "int32", "I64": "int64"}


def save(agent: AbstractAgent, path: str | os.PathLike[str]) -> None:
    """Write a learned agent into the folder `path`: `agent.json` and `weights.safetensors`.

    Raises:
        TypeError: the agent is not a learned one; an exact agent is built from its process.
        ValueError: it has more arrays than `load` accepts.
    """
    if not (isinstance(agent, AbstractLearnedAgent) and type(agent) in AGENTS.values()):
        raise TypeError(
            f"{type(agent).__name__} cannot be saved; these can: {', '.join(AGENTS)}. "
            "An exact agent is built from its process."
        )
    weights = save_safetensors(_named_arrays(agent))
    # The digest ties the two files together: it finds a crash between their writing, and a flipped bit.
    about = {"format": FORMAT, "agent": type(agent).__name__, "config": agent.config, SHA: digest(weights)}
    header = json.dumps(about, indent=2).encode()
    if max(len(header), int.from_bytes(weights[:8], "little")) > MAX_DESCRIPTION:
        raise ValueError("an agent of so many layers or parts cannot be saved; give it fewer and wider ones.")
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "weights.safetensors", weights)
    write_atomically(folder / "agent.json", header)


def load(path: str | os.PathLike[str]) -> AbstractAgent:
    """Read the agent that `save` wrote. Sizes are checked before anything is allocated.

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
        num_parts = check_agent_config(agent_type, header.get("config"))
        if num_parts > len(found):
            raise ValueError(f"it has {num_parts} layers and parts, but {weights_file.name} only {len(found)} arrays")
        # Shapes alone, so that nothing of the claimed size is made.
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
    except (SafetensorError, KeyError) as error:  # KeyError for a dtype that NumPy lacks.
        why = " ".join(str(error).split())
        raise ValueError(f"{weights_file} is damaged: {why:.200}. {_RESTORE}") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{weights_file} is damaged: {name} holds numbers that are not finite. {_RESTORE}")
    if header.get(SHA) != digest(weights):
        raise ValueError(f"{weights_file} does not match the digest in {header_file.name}. {_RESTORE}")
    leaves, treedef = tree_flatten_with_path(agent)
    return tree_unflatten(treedef, [jax.numpy.asarray(arrays[keystr(path)]) for path, _ in leaves])


_RESTORE = "Restore it from a copy, or teach the agent again."


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def _read_header(file: Path) -> tuple[dict[str, str], int]:
    """Return dtype and shape of each array that a safetensors file lists, and the size of its header in bytes."""
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
            raise ValueError(f"{file} is damaged: {name!r:.99} in its header is not an array. {_RESTORE}")
        found[name] = f"{TYPES.get(entry['dtype'], repr(entry['dtype']))} {entry['shape']}"
    return found, 8 + size


def _named_arrays(agent: AbstractAgent) -> dict[str, np.ndarray]:
    leaves, _ = tree_flatten_with_path(eqx.filter(agent, eqx.is_array))
    return {keystr(path): np.asarray(leaf) for path, leaf in leaves}
