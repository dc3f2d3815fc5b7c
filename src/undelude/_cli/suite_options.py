"""The commands `undelude suite list`, `run`, `train` and `table`, and their options.

Nothing here needs JAX, so that the help and the errors of the command line appear at once.
"""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import tyro

from undelude._cli.errors import UsageError, check_seed
from undelude._cli.server_options import Server
from undelude._runs.config import AgentName, Number, TeachingName, Text, WholeNumber
from undelude._versioned_tasks import SUITE, VersionedTask, find_task

Names = tuple[str, ...]
Tasks = Annotated[Names, tyro.conf.arg(metavar="TASK")]


@dataclasses.dataclass(frozen=True)
class ListSuite:
    """List the tasks of the suite."""

    json: bool = False
    """Print the list as JSON."""

    def check(self) -> None:
        """Raise nothing: all options are right."""


# Samples are more than of `undelude measure`: distances are too large by about (K - 1) / (2 samples) nats.
SERVER = Server(samples=20)


@dataclasses.dataclass(frozen=True)
class RunSuite:
    """Measure an agent on the tasks of the suite, and write one JSON file of results.

    The file is written after each task. After an interruption, --resume goes on with the next one.
    """

    agent: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="AGENT")]
    """exact:do, exact:see or exact:committed; a folder of undelude suite train; your own package.module:agent, a
    function that returns your agent for a process (and the id of the task, if it takes two arguments), or None for a
    task that it does not play; or the address of a server of a language model, which plays the dialogues."""
    out: Annotated[Text, tyro.conf.arg(metavar="FILE")] = None
    """The JSON file of results; results/NAME.json by default. With several seeds, results/NAME-seed-N.json for each."""
    name: Text = None
    """Name of the agent in tables, at most 80 characters; results of the same name are training seeds of one agent."""
    about: str = ""
    """A sentence on the agent and its training, which the leaderboard shows."""
    seed: WholeNumber = None
    """Seed of its training, for an agent of your own; that of a run is known."""
    tasks: Tasks = ()
    """Only these tasks, such as bandit-v1. The others are then missing from the leaderboard."""
    num_episodes: WholeNumber = None
    """A trial with another number of episodes than the tasks' own; a leaderboard shows it with --trials alone."""
    resume: bool = False
    """Go on with a file that an interrupted run has left."""
    server: tyro.conf.OmitArgPrefixes[Server] = dataclasses.field(default_factory=lambda: SERVER)

    @property
    def is_served(self) -> bool:
        """Whether the agent is a language model behind a server."""
        return self.agent.startswith(("http://", "https://"))

    def check(self) -> None:
        """Raise if the options cannot be right."""
        check_tasks(self.tasks)
        self.server.check()
        if self.is_served and self.server.model is None:
            raise UsageError(f"{self.agent} is the address of a server: name the model there with --model.")
        if not self.is_served and (given := self.server.given(SERVER)):
            raise UsageError(
                f"{given[0]} is for a served model, whose address begins with http:// or https://, and {self.agent} is "
                "not one: leave it out."
            )
        if self.num_episodes is not None and self.num_episodes < 2:
            raise UsageError(f"--num-episodes must be at least 2, for a standard error, not {self.num_episodes}.")
        if self.seed is not None:
            check_seed(self.seed)
        if self.out is not None and Path(self.out).is_dir():
            raise UsageError(f"--out {self.out} is a folder: name a file, such as {Path(self.out, 'mine.json')}.")
        if self.name is not None and not 1 <= len(self.name.strip()) <= 80:
            raise UsageError(f"--name must have 1 to 80 characters, not {len(self.name.strip())}.")

    def file_of(self, name: str, seed: int | None, *, several: bool) -> Path:
        """Return the file of the results of one seed."""
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "agent"
        plain = Path("results", f"{slug}.json") if self.out is None else Path(self.out)
        return plain.with_name(f"{plain.stem}-seed-{seed}{plain.suffix}") if several else plain


@dataclasses.dataclass(frozen=True)
class TrainSuite:
    """Teach an agent on each task of the suite, by one recipe; undelude suite run OUT then measures them.

    Sizes, updates and rates are those that undelude train has for the task, unless they are given here. A finished task
    is kept, so that --resume goes on after an interruption.
    """

    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The folder, in which each task gets a run directory."""
    agent: AgentName = "lstm"
    """Architecture of the agent."""
    teaching: TeachingName = "counterfactual"
    """Executor of the actions, and whether they are marked; see undelude train --help."""
    hidden_size: WholeNumber = None
    """Units of its memory; by default those of the task's settings for an LSTM, and the architecture's own."""
    steps: WholeNumber = None
    """Number of updates; the task's own by default."""
    learning_rate: Number = None
    """Peak learning rate; the task's own by default."""
    seed: int = 0
    """Random seed."""
    num_seeds: int = 1
    """Train once per seed, counting up from --seed, each in DIR/seed-N."""
    tasks: Tasks = ()
    """Only these tasks, such as bandit-v1."""
    resume: bool = False
    """Keep the finished runs in DIR, resume the interrupted one, and begin the others."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        check_tasks(self.tasks)
        check_seed(self.seed)
        if self.num_seeds < 1:
            raise UsageError(f"--num-seeds must be at least 1, not {self.num_seeds}.")
        check_seed(self.seed + self.num_seeds - 1)
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"{self.out} is a file: use another --out.")
        if not self.resume and self.out.exists() and any(x.name[0] != "." for x in self.out.iterdir()):
            raise UsageError(f"{self.out} is not empty: use --resume to go on, or another --out.")


@dataclasses.dataclass(frozen=True)
class WriteTable:
    """Write the leaderboard page of result files, beside the stored baselines, and print it as a table."""

    results: Annotated[tyro.conf.Positional[Names], tyro.conf.arg(metavar="FILE")] = ()
    """Files of undelude suite run, such as results/*.json."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("leaderboard.html")
    """The page to write."""
    no_baselines: bool = False
    """Leave out the baselines that undelude ships."""
    trials: bool = False
    """Also take results with other numbers of episodes than the tasks' own; the page then says so."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        for file in self.results:
            if Path(file).is_dir():
                raise UsageError(f"{file} is a folder: name its files of results, such as {Path(file, '*.json')}.")
            if not Path(file).is_file():
                raise UsageError(f"there is no file {file}. Write one with undelude suite run AGENT.")
        if self.no_baselines and not self.results:
            raise UsageError("name at least one file of results, or leave --no-baselines out.")
        if self.out.is_dir() or not self.out.parent.is_dir():
            raise UsageError(f"--out must name a file in a folder that exists, not {self.out}.")


@dataclasses.dataclass(frozen=True)
class Suite:
    """The benchmark: frozen tasks on which an agent is measured, and compared with others."""

    command: Annotated[
        Annotated[ListSuite, tyro.conf.subcommand("list")]
        | Annotated[RunSuite, tyro.conf.subcommand("run")]
        | Annotated[TrainSuite, tyro.conf.subcommand("train")]
        | Annotated[WriteTable, tyro.conf.subcommand("table")],
        tyro.conf.arg(name=""),
    ]

    def check(self) -> None:
        """Raise if the options cannot be right."""
        self.command.check()


def check_tasks(names: Names) -> None:
    """Raise if a name is not that of a task of the suite, or is given twice."""
    found = [find_task(name).id for name in names]
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise UsageError(f"--tasks names {twice[0]} twice.")


def chosen(names: Names) -> list[VersionedTask]:
    """Return the tasks of these names, in the order of the suite; all without names."""
    wanted = {find_task(name).id for name in names} or set(SUITE)
    return [task for task in SUITE.values() if task.id in wanted]
