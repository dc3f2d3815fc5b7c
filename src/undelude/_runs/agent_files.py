"""Agents on disk: weights in safetensors, everything else in JSON. Loading an agent runs no code from its files."""

import hashlib
import json
import math
import os
import warnings
from pathlib import Path
from typing import NamedTuple

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
from undelude._files import json_object, read_bytes, read_json, write_atomically
from undelude._process.episodes import Episodes
from undelude._runs import layout

FORMAT = 3
SHA = "weights_sha256"
AGENTS = {agent.__name__: agent for agent in (named.load() for named in ARCHITECTURES.values())}
# Most bytes of an agent's description and of the list of its arrays; usually a few thousand.
MAX_DESCRIPTION = 2**18
# The files of an agent.
DESCRIPTION, WEIGHTS = "agent.json", "weights.safetensors"
# NumPy's names for the dtypes of safetensors.
TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I32": "int32", "I64": "int64"}


def save(agent: AbstractAgent, path: str | os.PathLike[str]) -> None:
    """Write a learned agent into the folder `path`: `agent.json` and `weights.safetensors`.

    Raises:
        TypeError: the agent is not a learned one; an exact agent is built from its process.
        ValueError: it has more arrays than `ud.load` accepts.
    """
    write_agent(agent, Path(path))


def write_agent(agent: AbstractAgent, folder: Path, **origin: str) -> None:
    """Do the same; `origin` are more entries for `agent.json`, which `load` ignores."""
    if isinstance(agent, Episodes):
        raise TypeError(
            "ud.save stores agents, and these are episodes: write them with ug.to_minari(world, episodes, ...) of "
            "undelude.gym, and read them with ug.from_minari."
        )
    if not (isinstance(agent, AbstractLearnedAgent) and type(agent) in AGENTS.values()):
        raise TypeError(
            f"{type(agent).__name__} cannot be saved; these can: {', '.join(AGENTS)}. "
            "An exact agent is built from its process."
        )
    weights = save_safetensors(_named_arrays(agent))
    # The digest ties the two files together: it finds a crash between their writing, and a flipped bit.
    description = {"format": FORMAT, "agent": type(agent).__name__, "config": agent.config, SHA: digest(weights)}
    header = json.dumps(description | origin, indent=2).encode()
    if max(len(header), int.from_bytes(weights[:8], "little")) > MAX_DESCRIPTION:
        raise ValueError("an agent of so many layers or parts cannot be saved; give it fewer and wider ones.")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / DESCRIPTION, header)


def load(path: str | os.PathLike[str]) -> AbstractAgent:
    """Read the agent that `ud.save` wrote. Sizes are checked before anything is allocated.

    An agent that was saved in another precision is cast to the present one, that of `jax_enable_x64`.

    Raises:
        FileNotFoundError: there is no agent at `path`.
        ValueError: a file is damaged or does not fit; the message names it.

    Warns:
        UserWarning: 64-bit weights are rounded to 32 bits.
    """
    folder = Path(path)
    header_file, weights_file = folder / DESCRIPTION, folder / WEIGHTS
    for file in (header_file, weights_file):
        if not file.is_file():
            inside = folder / layout.AGENT
            hint = f" The agent of a run is in its folder {layout.AGENT}: {inside}." if inside.is_dir() else ""
            raise FileNotFoundError(f"no agent at {folder}: {file.name} is missing.{hint}")
    header = read_json(header_file, most=MAX_DESCRIPTION, follow=True)
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
        want = Stored(str(expected[name].dtype), str([*expected[name].shape])) if name in expected else None
        if not _agree(have := found.get(name), want):
            shown = name if name in expected else f"{name!r:.99}"
            missing = "missing"
            raise ValueError(
                f"{weights_file}: {shown} is {f'{have or missing}':.99}, but {header_file.name} needs "
                f"{want or missing}."
            )
    size += sum(math.prod(x.shape) * np.dtype(found[name].dtype).itemsize for name, x in expected.items())
    weights = read_bytes(weights_file, most=size, remedy=_RESTORE, follow=True)
    if len(weights) != size:
        raise ValueError(f"{weights_file} is damaged: it has {len(weights)} bytes, not {size}. {_RESTORE}")
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
    with np.errstate(over="ignore"):
        cast = {name: array.astype(expected[name].dtype) for name, array in arrays.items()}
    if any(x.itemsize < arrays[name].itemsize for name, x in cast.items()):
        if not all(np.isfinite(x).all() for x in cast.values()):
            raise ValueError(f"{weights_file} holds numbers that are too large for 32 bits: set jax_enable_x64.")
        message = f"{folder} was saved with jax_enable_x64 on, and is rounded to 32 bits, because it is off now."
        warnings.warn(message, stacklevel=2)
    leaves, treedef = tree_flatten_with_path(agent)
    return tree_unflatten(treedef, [jax.numpy.asarray(cast[keystr(path)]) for path, _ in leaves])


_RESTORE = "Restore it from a copy, or teach the agent again."


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


class Stored(NamedTuple):
    """The dtype and the shape of an array."""

    dtype: str
    shape: str

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


# Types that differ only by the precision that JAX had when the agent was saved.
PRECISIONS = ({"float32", "float64"}, {"int32", "int64"})


def _agree(have: Stored | None, want: Stored | None) -> bool:
    """Return whether a stored array can be the array `want`, after a cast to JAX's precision."""
    if have is None or want is None or have.shape != want.shape:
        return False
    return have.dtype == want.dtype or any({have.dtype, want.dtype} <= types for types in PRECISIONS)


def _read_header(file: Path) -> tuple[dict[str, Stored], int]:
    """Return the arrays that a safetensors file lists, and the size of its header in bytes."""
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
        found[name] = Stored(TYPES.get(entry["dtype"], repr(entry["dtype"])), str(entry["shape"]))
    return found, 8 + size


def _named_arrays(agent: AbstractAgent) -> dict[str, np.ndarray]:
    leaves, _ = tree_flatten_with_path(eqx.filter(agent, eqx.is_array))
    return {keystr(path): np.asarray(leaf) for path, leaf in leaves}
