"""The command `undelude paper`: recompute the statements of the paper, as a table, a page and JSON."""

import json as json_format
import time
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode
from undelude._cli.options import Call, Paper
from undelude._files import write_atomically
from undelude._versions import versions

if TYPE_CHECKING:
    from undelude._paper import Block


def run(options: Paper, call: Call) -> ExitCode:
    """Run the command; it fails if a statement of the paper, or an example of ours, is not met."""
    del call
    backend.configure()
    import undelude._paper as paper  # Imports matplotlib, which takes long to load.
    from undelude._paper import words
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
        print(json_format.dumps(paper.to_json(blocks, settings, versions()), indent=2))
    items = [item for block in blocks for item in block.items]
    for line in words.summary(items):
        console.print(line)
    console.print(f"{seconds:.0f} s. Page: {options.out}")
    return ExitCode.FAILED if any(not item.met for item in items if item.kind != "related") else ExitCode.OK


def _print_block(console: Console, block: "Block") -> None:
    from undelude._paper import words  # Imports matplotlib, which takes long to load.

    console.print(block.title, style="bold", soft_wrap=True)
    for kind, items in words.by_kind(block.items).items():
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, expand=True)
        table.add_column(words.KINDS[kind], ratio=9, overflow="fold")
        table.add_column("computed", ratio=4, overflow="fold")
        table.add_column("criterion", ratio=4, overflow="fold")
        table.add_column("from", width=6)
        table.add_column("met", width=3)
        before = ""
        for item in items:
            met, style = ("yes", "") if item.met else ("NO", "bold red")
            own = words.own_parameters(item, block)
            # The place only if it is not that of the row before.
            notes = "; ".join(x for x in (item.place if item.place != before else "", own) if x)
            note = f"{item.claim} [{notes}]" if notes else item.claim
            before = item.place
            claim = Text.assemble(words.label(item.name), "\n", (note.replace("`", ""), "" if style else "dim"))
            table.add_row(
                claim, words.computed(item), words.required(item.criterion), words.origin(item), met, style=style
            )
        console.print(table)
    for sentence in words.origins(block):
        console.print(sentence, style="dim")
    console.print()
