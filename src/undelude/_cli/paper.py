"""The command `undelude paper`: recompute the statements of the paper, as a table, a page and JSON."""

import json as json_format
import time
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode
from undelude._cli.options import Call, Paper
from undelude._files import write_atomically
from undelude._versions import versions

if TYPE_CHECKING:
    from undelude._paper import Block


def run(options: Paper, call: Call) -> ExitCode:
    """Run the command; it fails if an item does not agree."""
    del call
    backend.configure()
    import undelude._paper as paper  # Imports matplotlib, which takes long to load.
    from undelude._paper.page import render

    settings, console = paper.Settings(options.seed, options.num_episodes), make_console(stderr=options.json)
    start, blocks = time.perf_counter(), []
    with working(make_console(stderr=True), "computing"):
        for block in paper.recompute(settings):
            blocks.append(block)
            _print_block(console, block)
    seconds = time.perf_counter() - start
    page = render(blocks, settings, versions=versions(), seconds=seconds)
    write_atomically(options.out, page.encode())
    if options.json:
        print(json_format.dumps(paper.to_json(blocks), indent=2))
    items = [item for block in blocks for item in block.items]
    num_ours = sum(item.ours for item in items)
    disagreeing = [item.name for item in items if not item.agrees]
    console.print(f"{len(items) - len(disagreeing)} of {len(items)} agree. {seconds:.0f} s. Page: {options.out}")
    stated = f"{len(items) - num_ours} are the paper's own statements"
    console.print(f"{stated}; {num_ours} are numbers of ours that its words imply.")
    if disagreeing:
        console.print(f"These do not agree: {', '.join(disagreeing)}.", soft_wrap=True)
    return ExitCode.FAILED if disagreeing else ExitCode.OK


def _print_block(console: Console, block: "Block") -> None:
    from undelude._paper.page import computed, label, said  # Imports matplotlib, which takes long to load.

    console.print(block.title, style="bold", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, expand=True)
    table.add_column("item", ratio=5, overflow="fold")
    table.add_column("computed", ratio=3, overflow="fold")
    table.add_column("the paper says", ratio=4)
    table.add_column("agrees", width=6)
    for item in block.items:
        agrees, style = ("yes", "") if item.agrees else ("NO", "bold red")
        table.add_row(label(item.name), computed(item), said(item).replace("`", ""), agrees, style=style)
    console.print(table)
    console.print()
