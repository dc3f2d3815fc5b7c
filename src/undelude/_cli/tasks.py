"""The command `undelude tasks`."""

import importlib.util
import json as json_format

from rich import box
from rich.console import Console
from rich.table import Table

from undelude._cli.console import make_console
from undelude._cli.errors import ExitCode
from undelude._cli.options import Call, Tasks
from undelude._named_tasks import TASKS, NamedTask

# Characters of a line below which the list is not a table.
NARROW = 76
# The sizes of a task and their letters.
SIZES = {"K": "num_thetas", "T": "num_rounds", "A": "num_actions", "O": "num_observations"}


def run(options: Tasks, call: Call) -> ExitCode:
    """Run the command."""
    del call
    if options.json:
        shown = ("summary", *SIZES.values(), "extra")
        rows = [{"name": name} | {x: getattr(task, x) for x in shown} for name, task in TASKS.items()]
        print(json_format.dumps(rows, indent=2))
        return ExitCode.OK
    console = make_console(stderr=False)
    if console.width < NARROW:
        for name, task in TASKS.items():
            sizes = ", ".join(f"{letter} {size}" for letter, size in _sizes(task).items())
            console.print(f"{name}: {task.summary}. {sizes}.")
        console.print()
    else:
        _print_table(console)
    console.print("K: values of theta. T: rounds of an episode. A: actions. O: observations.")
    console.print("+: also deterministic parts, such as a position, which carry no evidence.")
    console.print("Name your own task as package.module:factory.")
    if importlib.util.find_spec("gymnasium") is None:
        names = ", ".join(name for name, task in TASKS.items() if task.extra == "gym")
        console.print(f'{names} need Gymnasium: pip install "undelude[gym]".', soft_wrap=True, markup=False)
    return ExitCode.OK


def _print_table(console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("task", no_wrap=True)
    table.add_column("hidden theta", overflow="fold")
    for letter in SIZES:
        table.add_column(letter, justify="right", no_wrap=True)
    for name, task in TASKS.items():
        table.add_row(name, task.summary, *_sizes(task).values())
    console.print(table)


def _sizes(task: NamedTask) -> dict[str, str]:
    return {letter: str(getattr(task, name)) for letter, name in SIZES.items()}
