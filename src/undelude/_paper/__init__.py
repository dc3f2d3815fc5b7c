"""The paper, recomputed: the figures, equations and remarks of Sections 2 to 4, as blocks of the page."""

from collections.abc import Iterator
from typing import Any

from undelude._paper.blocks import BLOCKS
from undelude._paper.item import Block, Item, Settings


def recompute(settings: Settings) -> Iterator[Block]:
    """Compute the blocks of the page, in the paper's order, one by one.

    Args:
        settings: the seed and the number of episodes.

    Yields:
        Each block as soon as it is computed.
    """
    for block in BLOCKS:
        yield block(settings)


def to_json(blocks: list[Block]) -> list[dict[str, Any]]:
    """Return the items as `[{"item": ..., "value": ..., "paper": ..., "agrees": ..., "ours": ...}, ...]`.

    A sampled item also has "standard_error".
    """
    return [_entry(item) for block in blocks for item in block.items]


def _entry(item: Item) -> dict[str, Any]:
    entry = {
        "item": item.name,
        "value": item.value,
        "paper": item.paper,
        "agrees": item.agrees,
        "ours": item.ours,
    }
    if item.standard_error is not None:
        entry["standard_error"] = round(item.standard_error, 6)
    return entry


__all__ = ["BLOCKS", "Block", "Item", "Settings", "recompute", "to_json"]
