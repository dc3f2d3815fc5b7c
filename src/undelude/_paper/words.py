"""Items in words, for the terminal and the page."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from undelude._paper.criterion import Criterion, Value
from undelude._paper.item import KINDS, Block, Item, Kind

# Hyphens between words, but not in "1-10" or as a minus.
HYPHEN = re.compile(r"(?<=[\w)])-(?=[^\W\d])|(?<=[^\W\d])-(?=\w)")
# Numbers of a list that are shown.
MAX_LISTED = 16
ERRORS = "standard errors"


class Count(NamedTuple):
    """Counts of the items of one kind, met and in total: overall, computed in this run, and stored."""

    met: int
    of: int
    now_met: int
    now: int
    stored_met: int
    stored: int


def count(items: Iterable[Item]) -> dict[Kind, Count]:
    """Count the items of each kind."""
    items = list(items)
    counts: dict[Kind, Count] = {}
    for kind in KINDS:
        mine = [item for item in items if item.kind == kind]
        now = [item.met for item in mine if item.stored is None]
        stored = [item.met for item in mine if item.stored is not None]
        counts[kind] = Count(sum(now + stored), len(mine), sum(now), len(now), sum(stored), len(stored))
    return counts


def summary(items: Iterable[Item]) -> list[str]:
    """Return the counts of each kind, the number of stored values, and the items that are not met."""
    items = list(items)
    counts = count(items)
    now, stored = (sum(getattr(n, name) for n in counts.values()) for name in ("now", "stored"))
    of_stored = ", ".join(f"{n.stored} of {KINDS[kind][0].lower()}{KINDS[kind][1:]}" for kind, n in counts.items())
    lines = [
        " ".join(f"{KINDS[kind]}: {n.met} of {n.of}." for kind, n in counts.items()),
        f"{now} values were computed in this run; {stored} are stored results of studies: {of_stored}.",
    ]
    unmet = [f"{item.name} ({item.kind})" for item in items if not item.met]
    return [*lines, f"Not met: {', '.join(unmet)}."] if unmet else lines


def by_kind(items: Iterable[Item]) -> dict[Kind, list[Item]]:
    """Return the items of each kind that there is, the paper's first."""
    items = list(items)
    found: dict[Kind, list[Item]] = {kind: [item for item in items if item.kind == kind] for kind in KINDS}
    return {kind: mine for kind, mine in found.items() if mine}


def label(name: str) -> str:
    """Return the name of an item within its block, in words."""
    return HYPHEN.sub(" ", name.partition("/")[2].replace("/", ": "))


def computed(item: Item) -> str:
    """Return the value as text, with its standard error if it is sampled."""
    if item.standard_error is None:
        return written(item.value)
    digits = -math.floor(math.log10(item.standard_error)) if item.standard_error else 4
    return f"{item.value:.{digits}f} \N{PLUS-MINUS SIGN} {item.standard_error:.{digits}f}"


def required(criterion: Criterion) -> str:
    """Return a criterion as text."""
    reference = listed(criterion.written) if len(criterion.written) > 1 else "".join(criterion.written)
    reference = reference or written(criterion.reference)
    if criterion.reference_error:
        reference += f" \N{PLUS-MINUS SIGN} {criterion.reference_error:.2g}"
    clear = f", by {criterion.errors:g} {ERRORS}" if criterion.errors else ""
    match criterion.relation:
        case "near":
            return f"{reference}, {_margin(criterion)}"
        case "at most" | "at least":
            return f"{criterion.relation} {reference}{clear}"
        case "falls" | "rises":
            return f"{criterion.relation} each time, by {reference} or more"
        case _:
            return f"exactly: {reference}"


def _margin(criterion: Criterion) -> str:
    """Return the margin of a criterion in words."""
    parts = [f"{criterion.tolerance:g}"] if criterion.tolerance or not criterion.errors else []
    if parts == ["0"]:
        return "exactly"
    if criterion.errors:
        parts.append(f"{criterion.errors:g} {ERRORS}")
    return f"within {' and '.join(parts)}"


def origin(item: Item) -> str:
    """Return "now" for a value computed in this run, else "stored"."""
    return "now" if item.stored is None else "stored"


def origins(block: Block) -> list[str]:
    """Return a sentence on each origin of the items of a block, with the parameters that these items share."""
    sentences = []
    for source, items in _sources(block).items():
        shared = parameters(_shared(items))
        head = f"Stored: {source}" if source else "Now: computed in this run"
        sentences.append(f"{head}; {shared}." if shared else f"{head}.")
    return sentences


def own_parameters(item: Item, block: Block) -> str:
    """Return the parameters of an item that others of its origin in the block do not have."""
    shared = _shared(_sources(block)[_source(item)])
    return parameters({name: value for name, value in item.parameters.items() if name not in shared})


def parameters(values: Mapping[str, Any]) -> str:
    """Return parameters as text.

    >>> parameters({"episodes": 20_000, "task": "bandit"})
    'episodes 20,000; task bandit'
    """
    return "; ".join(f"{name.replace('_', ' ')} {_parameter(value)}" for name, value in values.items())


def written(value: Value) -> str:
    """Return a value as text, with at most four decimals; of a long list only the first numbers."""
    match value:
        case str():
            return value
        case list():
            return listed([written(x) for x in value])
        case float() if value and abs(value) < 1e-3:
            return f"{value:.1g}"
        case _:
            return f"{value:.4f}".rstrip("0").rstrip(".")


def listed(entries: Sequence[str]) -> str:
    """Return a list as text: equal entries once, and of a long list only the first.

    >>> listed(["1", "0"]), listed(["0"] * 5)
    ('(1, 0)', '0 (5 times)')
    """
    if len(entries) > 2 and len(set(entries)) == 1:
        return f"{entries[0]} ({len(entries)} times)"
    shown = ", ".join(entries[:MAX_LISTED])
    return f"({shown}, ...)" if len(entries) > MAX_LISTED else f"({shown})"


def _parameter(value: Any) -> str:
    match value:
        case bool() | str():
            return str(value)
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case dict():
            return ", ".join(f"{name} {_parameter(x)}" for name, x in value.items())
        case list() | tuple():
            return ", ".join(map(_parameter, value))
        case _:
            return str(value)


def _source(item: Item) -> str:
    return "" if item.stored is None else str(item.stored)


def _sources(block: Block) -> dict[str, list[Item]]:
    """Return the items of each origin: computed now, and of each study."""
    found: dict[str, list[Item]] = {}
    for item in block.items:
        found.setdefault(_source(item), []).append(item)
    return found


def _shared(items: Sequence[Item]) -> dict[str, Any]:
    """Return the parameters that all items have, with equal values."""
    first, *others = (item.parameters for item in items)
    return {name: x for name, x in first.items() if all(name in other and other[name] == x for other in others)}
