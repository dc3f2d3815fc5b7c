"""Sections 1 to 4 of the paper recomputed: every figure, equation and remark, by the library's own objects."""

from collections.abc import Iterator
from typing import Any

from undelude.paper.blocks import BLOCKS
from undelude.paper.item import Block, Item, Settings


def recompute(settings: Settings = Settings()) -> Iterator[Block]:  # noqa: B008, it is frozen.
    """Compute the blocks of the page, in the paper's order, one by one.

    Args:
        settings: how much to sample.

    Yields:
        A block, when it is done.
    """
    for block in BLOCKS:
        yield block(settings)


def to_json(blocks: list[Block]) -> list[dict[str, Any]]:
    """`[{"item": ..., "value": ..., "paper": ..., "agrees": ...}, ...]`."""
    return [
        {"item": item.name, "value": item.value, "paper": item.paper, "agrees": item.agrees}
        for block in blocks
        for item in block.items
    ]


__all__ = ["BLOCKS", "Block", "Item", "Settings", "recompute", "to_json"]
