"""The command `undelude tasks`."""

import importlib.util
import json as json_format

from rich import box
from rich.console import Console
from rich.table import Table

from undelude._certificate.numbers import short
from undelude._cli.console import make_console
from undelude._cli.errors import ExitCode
from undelude._cli.options import Call, Tasks
from undelude._named_tasks import SETTINGS, TASKS, NamedTask, measured
from undelude._runs.config import Config
from undelude._versions import installing

# Characters of a line below which the list is not a table.
NARROW = 80
# Hidden units of an LSTM agent, the default architecture, if the size is not given.
LSTM_UNITS = 64
# The sizes of a task and their letters.
SIZES = {"K": "num_thetas", "T": "num_rounds", "A": "num_actions", "O": "num_observations"}


def run(options: Tasks, call: Call) -> ExitCode:
    """Run the command."""
    del call
    if options.json:
        shown = ("summary", *SIZES.values(), "extra")
        found = measured()
        rows = [
            {"name": name}
            | {x: getattr(task, x) for x in shown}
            | {"settings": SETTINGS.get(name, {}), "measured": found.get(name)}
            for name, task in TASKS.items()
        ]
        print(json_format.dumps(rows, indent=2))
        return ExitCode.OK
    console = make_console(stderr=False)
    if console.width < NARROW:
        for name, task in TASKS.items():
            sizes = ", ".join(f"{letter} {size}" for letter, size in _sizes(task).items())
            console.print(f"{name}: {task.summary}. {sizes}.")
        console.print()
        for name in TASKS:
            console.print(f"{name}: {', '.join(f'{what} {x}' for what, x in _settings(name).items() if x)}.")
        console.print()
    else:
        _print_table(console)
    console.print("K: values of theta. T: rounds of an episode. A: actions. O: observations.")
    console.print("2 of 6: blocks of two symbols, such as an utterance of two words out of six.")
    console.print("+: also deterministic parts, such as a position, which carry no evidence.")
    console.print(
        "Settings: the defaults of undelude train TASK. Units: of the LSTM. Batch: episodes per update. Rate: learning "
        "rate. Weight: of the observations. KL: from Q(A | do(a), o) to the trained agent, nats per action. Sec: "
        "seconds of training on two cores. Empty: not measured."
    )
    console.print("Name your own task as package.module:factory.")
    if importlib.util.find_spec("gymnasium") is None:
        names = ", ".join(name for name, task in TASKS.items() if task.extra == "gym")
        console.print(f"{names} need Gymnasium: {installing('gym')}.", soft_wrap=True, markup=False)
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
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("settings", no_wrap=True)
    for what in _settings("bandit"):
        table.add_column(what, justify="right", no_wrap=True)
    for name in TASKS:
        table.add_row(name, *_settings(name).values())
    console.print(table)


def _sizes(task: NamedTask) -> dict[str, str]:
    return {letter: str(getattr(task, name)) for letter, name in SIZES.items()}


def _settings(name: str) -> dict[str, str]:
    """Return the settings of a task, and what was measured with them, in the words of the list."""
    config, row = Config(name, **SETTINGS.get(name, {})), measured().get(name, {})
    return {
        "units": str(config.hidden_size or LSTM_UNITS),
        "updates": str(config.steps),
        "batch": str(config.batch_size),
        "rate": f"{config.learning_rate:g}",
        "weight": f"{config.observation_weight:g}",
        "KL": short(row["action_kl_do"]) if row else "",
        "sec": f"{row['seconds']:.0f}" if row else "",
    }
