"""The JSON Schema of a result file, for programs that are not this one."""

import math
from typing import Any

from undelude._certificate.certificate import RANGES
from undelude._suite.results import DATE, DIGEST, OPTIONAL, RESULT, SCHEMA, SCORES, STATUSES, TASK, VERDICTS, WORST
from undelude._versioned_tasks import SUITE


def json_schema() -> dict[str, Any]:
    """Return the schema that `results.parse_result` enforces, as JSON Schema 2020-12.

    It cannot say that all scores must be there if a task was played; `undelude suite table` checks that too.
    """
    text, null = {"type": "string"}, {"type": "null"}
    texts = {"type": "object", "additionalProperties": text}
    recipe = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}
    digest = {"type": "string", "pattern": f"^{DIGEST}$"}
    count = {"anyOf": [{"type": "integer", "minimum": 1}, null]}
    fields = {
        "status": {"enum": list(STATUSES)},
        "why": {"anyOf": [text, null]},
        "definition": digest,
        "num_episodes": count,
        "num_rounds": count,
        "own_actions": {"enum": ["do", "see", None]},
        "verdict": {"enum": [*VERDICTS, None]},
        "worst_round": count,
        "seconds": {"anyOf": [{"type": "number", "minimum": 0}, null]},
        "scores": _object({name: _score(name) for name in SCORES}, required=()),
        "notes": texts,
    }
    optional = {"measured": digest, "recipe": recipe}
    assert (fields.keys(), optional.keys()) == (TASK.keys(), OPTIONAL.keys())
    whole = {
        "schema": {"const": SCHEMA},
        "agent": {"type": "string", "minLength": 1, "maxLength": 80},
        "source": text,
        "seed": {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, null]},
        "about": text,
        "date": {"type": "string", "pattern": f"^{DATE}$"},
        "versions": texts,
        "tasks": _object({name: {"$ref": "#/$defs/task"} for name in SUITE}, required=()),
    }
    assert whole.keys() == {"schema", *RESULT}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA}
    return head | _object(whole) | {"$defs": {"task": _object(fields | optional, required=fields)}}


def _object(properties: dict[str, Any], required: Any = None) -> dict[str, Any]:
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _score(name: str) -> dict[str, Any]:
    low, high = RANGES["action_kl_do" if name == WORST else name]
    number: dict[str, Any] = {"type": "number"}
    number |= {"minimum": low} if math.isfinite(low) else {}
    infinite = [{"const": "inf"}] if high == math.inf else []
    error = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}]}
    value = {"anyOf": [number, {"type": "null"}, *infinite]}
    return _object({"value": value, "se": error, "why": {"type": "string"}}, required=("value", "se"))
