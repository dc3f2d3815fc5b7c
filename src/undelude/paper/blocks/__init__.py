"""The blocks of the page, in the paper's order: a file for each section, remark or equation, one for the figures."""

from collections.abc import Callable

from undelude.paper.blocks import (
    convergence,
    equation_3,
    figures,
    kl_direction,
    remark_1,
    remark_2,
    remark_3,
    remark_4,
    remark_5,
    remark_6,
    remark_7,
    remark_8,
    remark_9,
    remark_10,
    remark_11,
    remark_12,
    remark_13,
    remark_14,
    section_2,
    section_3,
    section_4,
    section_4_2,
)
from undelude.paper.item import Block, Settings

BLOCKS: tuple[Callable[[Settings], Block], ...] = (
    figures.figure_1,
    section_2.block,
    figures.figure_2,
    remark_1.block,
    remark_2.block,
    remark_3.block,
    remark_4.block,
    remark_5.block,
    remark_6.block,
    remark_7.block,
    remark_8.block,
    section_3.block,
    figures.figure_3,
    equation_3.block,
    convergence.block,
    remark_9.block,
    remark_10.block,
    remark_11.block,
    remark_12.block,
    section_4.block,
    figures.figure_4,
    kl_direction.block,
    remark_13.block,
    remark_14.block,
    section_4_2.block,
)

__all__ = ["BLOCKS"]
