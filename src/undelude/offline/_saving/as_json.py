"""Declarations, fits and diagnoses as JSON: each is a dictionary of its fields and of its type's name.

Reading calls the constructors of the types below, with the values in the file, and nothing else.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from undelude.offline._diagnosing.cloned import Cloned
from undelude.offline._diagnosing.diagnose import Diagnosis, ProbeReport
from undelude.offline._diagnosing.passive import Passive
from undelude.offline._diagnosing.sensitivity import Relaxed, Sensitivity
from undelude.offline._diagnosing.structure import Alternative, Structure
from undelude.offline._diagnosing.support import Support
from undelude.offline._fitting.selection import Candidate
from undelude.offline._model.contexts import Last, Round
from undelude.offline._model.latent import Episode, Markov, PerStep
from undelude.offline._model.mechanisms import Gaussian, Table
from undelude.offline._model.spec import LatentSpec

# The types that are written; their fields are the arguments of their constructors.
TYPES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(LatentSpec, Episode, Markov, PerStep, Table, Gaussian, Last, Round, Candidate),
        *(Diagnosis, Support, ProbeReport, Passive, Structure, Alternative, Sensitivity, Relaxed, Cloned),
    )
}
# The entry that names the type.
TYPE = "type"
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def to_json(value: Any) -> Any:
    """Return a value of `TYPES`, and what it contains, for JSON.

    Raises:
        TypeError: a part is of another type, such as a mechanism that has no file format.
    """
    if type(value).__name__ in TYPES and type(value) is TYPES[type(value).__name__]:
        fields = {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {TYPE: type(value).__name__} | fields
    if isinstance(value, np.ndarray):
        return {TYPE: "array", "values": to_json(value.tolist())}
    if isinstance(value, dict):
        return {TYPE: "dict", "items": [[to_json(name), to_json(x)] for name, x in value.items()]}
    if isinstance(value, list | tuple):
        return [to_json(x) for x in value]
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return {TYPE: "float", "value": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be written into a file.")


def from_json(value: Any) -> Any:
    """Return the value that `to_json` wrote; a list is a tuple.

    Raises:
        ValueError: it is not such a value.
    """
    if isinstance(value, list):
        return tuple(from_json(x) for x in value)
    if not isinstance(value, dict):
        return value
    fields = dict(value)
    kind = fields.pop(TYPE, None)
    try:
        match kind:
            case "array":
                return np.asarray(_numbers(fields["values"]))
            case "dict":
                return {from_json(name): from_json(x) for name, x in fields["items"]}
            case "float":
                return NOT_FINITE[fields["value"]]
            case "Round":
                return Round(*from_json(fields["edges"]))
            case str() if kind in TYPES:
                return TYPES[kind](**{name: from_json(x) for name, x in fields.items()})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        why = str(error).partition("\n")[0]
        raise ValueError(f"its {kind} cannot be read: {why:.200}") from error
    raise ValueError(f"it has an entry of the unknown type {kind!r:.99}")


def _numbers(value: Any) -> Any:
    """Return the nested lists of numbers of an array."""
    return [_numbers(x) for x in value] if isinstance(value, list) else from_json(value)
