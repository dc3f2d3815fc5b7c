"""The command `undelude tasks`."""

import dataclasses
import importlib.util
import json as json_format
from collections.abc import Sequence

from rich import box
from rich.table import Table

from undelude._cli.console import make_console
from undelude._cli.errors import ExitCode
from undelude.tasks.registry import TASKS


@dataclasses.dataclass(frozen=True)
class Tasks:
    """List the named tasks."""

    json: bool = False
    """Print the list as JSON."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Run the command."""
        del args
        if self.json:
            rows = [{"name": name} | task._asdict() for name, task in TASKS.items()]
            print(json_format.dumps([{k: v for k, v in row.items() if k != "factory"} for row in rows], indent=2))
            return ExitCode.OK
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for heading in ("task", "hidden theta"):
            table.add_column(heading)
        for axis in "KTAO":
            table.add_column(axis, justify="right")
        for name, task in TASKS.items():
            sizes = (task.num_thetas, task.num_rounds, task.num_actions, task.num_observations)
            table.add_row(name, task.summary, *map(str, sizes))
        console = make_console(stderr=False)
        console.print(table)
        console.print("K: values of theta. T: rounds of an episode. A: actions. O: observations.")
        console.print("+: also deterministic parts, such as a position, which carry no evidence.")
        console.print("Name your own task as package.module:factory.")
        if importlib.util.find_spec("gymnasium") is None:
            names = ", ".join(name for name, task in TASKS.items() if task.extra == "gym")
            console.print(f'{names} need Gymnasium: pip install "undelude[gym]".', soft_wrap=True, markup=False)
        return ExitCode.OK
