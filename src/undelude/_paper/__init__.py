"""The paper, recomputed: its figures, equations and remarks, and its appendix, as blocks of the page."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from undelude._paper.blocks import BLOCKS
from undelude._paper.item import KINDS, Block, Item, Settings
from undelude._paper.words import count, required


def recompute(settings: Settings) -> Iterator[Block]:
    """Compute the blocks of the page, in the paper's order, one by one.

    Args:
        settings: the seed and the number of episodes.

    Yields:
        Each block as soon as it is computed.
    """
    for block in BLOCKS:
        yield block(settings)


def to_json(blocks: list[Block], settings: Settings, versions: dict[str, str]) -> dict[str, Any]:
    """Return the counts of each kind, the settings, and all items with the data behind each verdict.

    `{"counts": {"paper": {"met": ..., "of": ..., ...}, ...}, "settings": {...}, "versions": {...}, "items": [...]}`.
    An item has

    - "item", its name; "kind", "paper", "example" or "related"; "claim", the statement; "place" in the paper;
    - "value", computed, and "standard_error", or null;
    - "relation", "reference", "tolerance", "standard_errors" and "reference_error", the criterion (`Criterion`);
      "criterion", the same in words; and "met", the verdict that follows from value and criterion;
    - "computed", "now" or "stored"; "study", "date" and "seeds" of a stored value, else null; "parameters",
      to compute it again.
    """
    items = [item for block in blocks for item in block.items]
    return {
        "counts": {kind: count(items)[kind]._asdict() for kind in KINDS},
        "settings": dataclasses.asdict(settings),
        "versions": versions,
        "items": [_entry(item) for item in items],
    }


def _entry(item: Item) -> dict[str, Any]:
    criterion, stored = item.criterion, item.stored
    return {
        "item": item.name,
        "kind": item.kind,
        "claim": item.claim,
        "place": item.place,
        "value": item.value,
        "standard_error": item.standard_error,
        "relation": criterion.relation,
        "reference": criterion.reference,
        "tolerance": criterion.tolerance,
        "standard_errors": criterion.errors,
        "reference_error": criterion.reference_error,
        "criterion": required(criterion),
        "met": item.met,
        "computed": "now" if stored is None else "stored",
        "study": None if stored is None else stored.study,
        "date": None if stored is None else stored.date,
        "seeds": None if stored is None else list(stored.seeds),
        "parameters": dict(item.parameters),
    }


__all__ = ["BLOCKS", "Block", "Item", "Settings", "recompute", "to_json"]
