"""The command `undelude paper`: recompute the statements of the paper, as a table, a page and JSON."""

import dataclasses
import json as json_format
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from undelude._cli import backend
from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode, UsageError, check_seed
from undelude._files import write_atomically
from undelude._versions import versions

if TYPE_CHECKING:
    from undelude._paper import Block


@dataclasses.dataclass(frozen=True)
class Paper:
    """Recompute the statements of the paper; print a table and write a page with every figure."""

    out: Path = Path("paper.html")
    """The page to write."""
    json: bool = False
    """Print the items as JSON to stdout, and everything else to stderr."""
    num_episodes: int = 20_000
    """Number of episodes behind most sampled numbers; some use a fixed multiple or fraction of it."""
    seed: int = 0
    """Seed of the sampled numbers."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Run the command; it fails if an item does not agree."""
        del args
        if self.num_episodes < 100:
            raise UsageError(f"--num-episodes must be at least 100, for standard errors, not {self.num_episodes}.")
        check_seed(self.seed)
        if self.out.is_dir() or not self.out.parent.is_dir():
            raise UsageError(f"--out must name a file in a directory that exists, not {self.out}.")
        backend.configure()
        import undelude._paper as paper  # Imports matplotlib, which takes long to load.
        from undelude._paper.page import render

        settings, console = paper.Settings(self.seed, self.num_episodes), make_console(stderr=self.json)
        start, blocks = time.perf_counter(), []
        with working(make_console(stderr=True), "computing"):
            for block in paper.recompute(settings):
                blocks.append(block)
                _print_block(console, block)
        seconds = time.perf_counter() - start
        page = render(blocks, settings, versions=versions(), seconds=seconds)
        write_atomically(self.out, page.encode())
        if self.json:
            print(json_format.dumps(paper.to_json(blocks), indent=2))
        items = [item for block in blocks for item in block.items]
        num_ours = sum(item.ours for item in items)
        disagreeing = [item.name for item in items if not item.agrees]
        console.print(f"{len(items) - len(disagreeing)} of {len(items)} agree. {seconds:.0f} s. Page: {self.out}")
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
