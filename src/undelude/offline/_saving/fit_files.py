"""A fit in a folder: `fit.json` has what was declared and found, `fit.safetensors` the numbers of the model.

Reading runs no code from the files. The data are not needed: their columns and a digest are stored.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from undelude._files import read_bytes, read_json, write_atomically
from undelude.offline._data.columns import Column
from undelude.offline._data.demos import Demos
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._fitting.result import Fit
from undelude.offline._model.mechanisms import Factor, Table
from undelude.offline._model.process import induced_process
from undelude.offline._model.spec import LatentSpec, Layout, layout
from undelude.offline._saving.as_json import TYPES, from_json, to_json

FORMAT = 1
FIT, NUMBERS = "fit.json", "fit.safetensors"
SHA = "numbers_sha256"
# Most bytes of the numbers.
MAX_BYTES = 2**30
RESTORE = "Restore it from a copy, or fit the logs again."
# Fields of a fit that are written as they are.
PLAIN = ("spec", "latent", "K", "log_likelihood", "candidates", "starts", "digest", "demonstrator")


def save(fit: Fit, folder: str | os.PathLike[str]) -> None:
    """Write a fit into a folder: `fit.json` and `fit.safetensors`.

    The folder is also the name of a task on the command line: `undelude play FOLDER` and `undelude train FOLDER` use
    the induced process.

    Args:
        fit: of `fit`.
        folder: is made if it is not there.

    Raises:
        TypeError: the fit has a network, a known function or the user's hypotheses, which have no file format.
    """
    folder = Path(folder)
    check_may_save(fit.spec)
    numbers = save_safetensors(_arrays(fit))
    content = {"format": FORMAT} | {name: to_json(getattr(fit, name)) for name in PLAIN}
    content["columns"] = _columns(fit.columns)
    content["standard"] = to_json(fit.layout.standard)
    content[SHA] = hashlib.sha256(numbers).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / NUMBERS, numbers)
    write_atomically(folder / FIT, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def check_may_save(spec: LatentSpec) -> None:
    """Raise `TypeError` if fits of a spec have no file format."""
    mechanisms = [x for x in (spec.expert, *(spec.task or ())) if x is not None]
    for part in (*spec.latent, *mechanisms):
        if type(part).__name__ not in TYPES:
            raise TypeError(
                f"a fit with {type(part).__name__}(...) has no file format; one with Episode, Markov, PerStep, Table "
                "and Gaussian has. Keep the fit in Python."
            )


def load(folder: str | os.PathLike[str]) -> Fit:
    """Return the fit that `save` wrote, with its process; the data are not needed.

    Raises:
        FileNotFoundError: there is no fit.
        ValueError: a file is damaged; the message names it.
    """
    file, numbers_file = Path(folder) / FIT, Path(folder) / NUMBERS
    for one in (file, numbers_file):
        if not one.is_file():
            raise FileNotFoundError(f"there is no fit in {folder}: {one.name} is missing.")
    content = read_json(file, remedy=RESTORE)
    if content.get("format") != FORMAT:
        raise ValueError(f"{file} has format {content.get('format')!r:.99}; this version reads format {FORMAT}.")
    numbers = read_bytes(numbers_file, most=MAX_BYTES, remedy=RESTORE)
    if content.get(SHA) != hashlib.sha256(numbers).hexdigest():
        raise ValueError(f"{numbers_file} does not match the digest in {file.name}. {RESTORE}")
    try:
        return _fit(content, load_safetensors(numbers))
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{file} is damaged: {why:.300}. {RESTORE}") from error


def _fit(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> Fit:
    fields = {name: from_json(content[name]) for name in PLAIN}
    if not isinstance(fields["spec"], LatentSpec) or not isinstance(fields["K"], int):
        raise ValueError("its spec or its K is of another type")
    like = _as_demos(content["columns"])
    plan = layout(fields["spec"], like)
    plan = Layout(plan.factors, from_json(content["standard"]), plan.reward)
    K = fields["K"]
    parameters = Parameters(
        _array(arrays, "log_prior", (1, K)),
        _array(arrays, "eta", (1, K, plan.num_columns)),
        _array(arrays, "log_transition", (1, K, K)) if "log_transition" in arrays else None,
    )
    tables = {factor.field: _table(arrays, factor, K) for factor in plan.factors}
    columns = like.subset(np.zeros(0, int))
    transition = None if parameters.log_transition is None else parameters.log_transition[0]
    process = induced_process(
        plan, columns, parameters.log_prior[0], tables, transition, demonstrator=fields["demonstrator"]
    )
    return Fit(process=process, layout=plan, parameters=parameters, tables=tables, columns=columns, **fields)


def _arrays(fit: Fit) -> dict[str, np.ndarray]:
    arrays: dict[str, Any] = {"log_prior": fit.fitted.log_prior, "eta": fit.fitted.eta}
    if fit.fitted.log_transition is not None:
        arrays["log_transition"] = fit.fitted.log_transition
    for factor in fit.layout.factors:
        table = fit.tables[factor.field]
        names = _names(factor)
        arrays |= dict(zip(names, table if isinstance(table, tuple) else (table,), strict=True))
    return {name: np.ascontiguousarray(np.asarray(x)) for name, x in arrays.items()}


def _names(factor: Factor) -> tuple[str, ...]:
    """Return the names of the arrays of a factor's table."""
    if isinstance(factor.mechanism, Table):
        return (f"log_probs of {factor.field}",)
    return f"mean of {factor.field}", f"scale of {factor.field}"


def _table(arrays: dict[str, np.ndarray], factor: Factor, K: int) -> PyTree:
    shape = (1 if factor.mechanism.tied else K, *factor.sizes, factor.width)
    found = tuple(_array(arrays, name, shape) for name in _names(factor))
    return found[0] if isinstance(factor.mechanism, Table) else found


def _array(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> Any:
    array = arrays[name]
    if array.shape != shape or array.dtype.kind != "f" or np.isnan(array).any():
        raise ValueError(f"{name!r} is not an array of numbers of the shape {shape}")
    return jnp.asarray(array)


def _columns(columns: Demos) -> dict[str, Any]:
    """Return the names, levels and dimensions of the columns."""

    def of(column: Column) -> dict[str, Any]:
        dims = {} if column.levels is not None else {"dims": column.values.shape[-1]}
        return {"name": column.name, "levels": to_json(column.levels)} | dims

    def all_of(group: dict[str, Column]) -> list[Any]:
        return [[name, of(column)] for name, column in group.items()]

    return {
        "num_rounds": columns.num_rounds,
        "action": of(columns.action),
        "observations": all_of(columns.observations),
        "hidden": all_of(columns.hidden),
        "opening": all_of(columns.opening),
        "demonstrator": None if columns.demonstrator is None else of(columns.demonstrator),
        "source": columns.source,
    }


def _as_demos(content: dict[str, Any]) -> Demos:
    """Return the columns with one episode of zeros, since a spec is resolved against data."""
    T = int(content["num_rounds"])

    def of(column: dict[str, Any], *shape: int) -> Column:
        levels = from_json(column["levels"])
        values = np.zeros(shape, np.int32) if levels is not None else np.zeros((*shape, column["dims"]), np.float32)
        return Column(column["name"], values, levels)

    def all_of(group: list[Any], *shape: int) -> dict[str, Column]:
        return {name: of(column, *shape) for name, column in group}

    return Demos(
        of(content["action"], 1, T),
        all_of(content["observations"], 1, T),
        all_of(content["hidden"], 1, T),
        all_of(content["opening"], 1),
        np.full(1, T, np.int32),
        np.full(1, -1, np.int32),
        None if content["demonstrator"] is None else of(content["demonstrator"], 1),
        content["source"],
    )
