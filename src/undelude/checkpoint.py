"""Agents on disk: weights in safetensors, everything else in JSON; loading one runs no code of the file's."""

import json
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
from undelude.agents.network import AbstractLearnedAgent
from undelude.agents.transformer import TransformerAgent

FORMAT = 1
LEARNED = (LSTMAgent, GRUAgent, LinearRecurrentAgent, TransformerAgent, MarkovAgent, SequencePredictor)
AGENTS: dict[str, type[AbstractLearnedAgent]] = {agent.__name__: agent for agent in LEARNED}


def save(agent: AbstractAgent, path: str | os.PathLike) -> None:
    """Write a learned agent into the folder `path`: `agent.json` and `weights.safetensors`.

    Raises:
        TypeError: only learned agents have something to save; an exact agent is its process.
    """
    if not (isinstance(agent, AbstractLearnedAgent) and type(agent) in AGENTS.values()):
        raise TypeError(
            f"{type(agent).__name__} cannot be saved; these can: {', '.join(AGENTS)}. "
            "An exact agent is built from its process."
        )
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    header = {"format": FORMAT, "agent": type(agent).__name__, "config": agent.config}
    write_atomically(folder / "weights.safetensors", save_safetensors(_named_arrays(agent)))
    write_atomically(folder / "agent.json", json.dumps(header, indent=2).encode())


def load(path: str | os.PathLike) -> AbstractAgent:
    """Read the agent that `save` wrote.

    Raises:
        FileNotFoundError: there is no agent at `path`.
        ValueError: a file is damaged or does not fit; the message names it.
    """
    folder = Path(path)
    header_file, weights_file = folder / "agent.json", folder / "weights.safetensors"
    for file in (header_file, weights_file):
        if not file.is_file():
            raise FileNotFoundError(f"no agent at {folder}: {file.name} is missing.")
    header = read_json(header_file)
    if header.get("format") != FORMAT:
        raise ValueError(f"{header_file} has format {header.get('format')!r}; this version reads format {FORMAT}.")
    if header.get("agent") not in AGENTS:
        raise ValueError(f"{header_file} holds a {header.get('agent')!r}; this version knows {', '.join(AGENTS)}.")
    try:
        # Shapes alone: what the file claims is compared with the weights before anything of that size is made.
        agent = eqx.filter_eval_shape(lambda: AGENTS[header["agent"]].from_config(header["config"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{header_file} does not describe a {header['agent']}: {type(error).__name__}: {error}."
        ) from error
    try:
        arrays = load_safetensors(weights_file.read_bytes())
    except SafetensorError as error:
        raise ValueError(
            f"{weights_file} is damaged: {error}. Restore it from a copy, or teach the agent again."
        ) from error
    expected = {keystr(path): leaf for path, leaf in tree_flatten_with_path(agent)[0]}
    for name in sorted(expected.keys() | arrays.keys()):
        have, want = (_shape(x.get(name)) for x in (arrays, expected))
        if have != want:
            raise ValueError(f"{weights_file}: {name} is {have}, but {header_file.name} needs {want}.")
    leaves, treedef = tree_flatten_with_path(agent)
    return tree_unflatten(treedef, [jax.numpy.asarray(arrays[keystr(path)]) for path, _ in leaves])


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from `file`.

    Raises:
        ValueError: it is damaged; the message names it.
    """
    try:
        data = json.loads(file.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged: {error}.") from error
    if not isinstance(data, dict):
        raise ValueError(f"{file} is damaged: it holds no JSON object.")
    return data


def write_atomically(file: Path, data: bytes) -> None:
    """Write next to `file`, then rename: a reader, or a crash, sees the old content or the new, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(handle)
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:  # As on a full disk, which says no name.
            error.filename = str(file)
        raise


def _named_arrays(agent: AbstractAgent) -> dict[str, np.ndarray]:
    leaves, _ = tree_flatten_with_path(eqx.filter(agent, eqx.is_array))
    return {keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _shape(array: Any) -> str:
    return "missing" if array is None else f"{array.dtype} {list(array.shape)}"
