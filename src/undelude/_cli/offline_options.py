"""The commands `undelude offline fit`, `diagnose`, `report` and `dream`, and their options.

Nothing here needs JAX, so that the help and the errors of the command line appear at once.
"""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import tyro

from undelude._cli.errors import UsageError, check_seed
from undelude._runs.config import AgentName, Number, Text, WholeNumber
from undelude._user_code import check_reference
from undelude.offline._model.latent import MAX_VALUES

# The files of a folder of `undelude offline fit`.
SETTINGS, FIT, DIAGNOSIS, REPORT, STARTS, AGENT = (
    *("settings.json", "fit.json", "diagnosis.json", "report.html"),
    *("starts", "agent"),
)
# Options of `fit` that say what the columns of the logs are, by their names in `Demos.from_csv`.
COLUMNS = (
    *("episode", "action", "observation", "hidden", "opening"),
    *("time", "label", "demonstrator", "intervened", "reals"),
)
# Options of `fit` that say where it runs, and not what it does.
WHERE = ("out", "resume", "distributed", "coordinator", "num_processes", "process_id", "join_timeout")
# Those without which no logs can be read.
REQUIRED = ("episode", "action", "observation")
# Options of `fit` that declare the model, and that --spec replaces.
DECLARED = ("K", "markov", "expert_given", "observation_given", "tied", "reward")

Folder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
Names = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class FitLogs:
    """Fit a causal model of the demonstrators to logs, and choose its hidden variable theta by held-out logs.

    Logs have one row for each round. The command writes DIR/fit.json and DIR/fit.safetensors. If it is interrupted,
    it keeps its starts, and --resume goes on from there.
    """

    logs: Annotated[tyro.conf.Positional[Names], tyro.conf.arg(metavar="LOGS")] = ()
    """Parquet or CSV files (also with tabs), folders of them, or patterns in quotes, such as "logs/*.parquet"."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = dataclasses.field(kw_only=True)
    """The folder of the fit, which this command creates."""
    episode: Text = None
    """The column that tells episodes apart."""
    action: Text = None
    """The column with the demonstrator's action."""
    observation: Names = ()
    """Columns with what came back after the action, and the agent will see it too."""
    hidden: Names = ()
    """Columns in the logs that the agent will not see, such as a reward that it is not told."""
    opening: Names = ()
    """Observations that are recorded before the action of their row, such as the state of an environment; or
    observation=column for an opening in a column of its own."""
    time: Text = None
    """The column that orders the rows of an episode; by default they are in order, in one file."""
    label: Text = None
    """The column with the number of theta, where it is known; otherwise empty or -1."""
    demonstrator: Text = None
    """The column with who acted."""
    intervened: Text = None
    """The column that is true, or 1, where the action was an intervention, and not the demonstrator's own."""
    imitate: Text = None
    """With --expert-given demonstrator: the demonstrator to imitate."""
    reals: Names = ()
    """Columns of numbers that are real in any case."""
    reward: Text = None
    """The column that is the reward; by default the one called reward, if there is one."""
    K: str = "1:8"
    """Numbers of values of theta to try, such as 5 or 1:8 (from 1 to 8), for a theta that lasts the episode."""
    markov: Text = None
    """Also try a theta that may change after each round, with so many values, such as 2:6."""
    expert_given: Names = ()
    """What else the action depends on: last:COLUMN, or last:COLUMN:2 for the value two rounds before; or
    demonstrator."""
    observation_given: Names = ()
    """What else each observation depends on, besides theta and the action, likewise."""
    tied: Names = ()
    """Observations that do not depend on theta, such as the state of a known environment."""
    spec: Text = None
    """package.module:name of a ud.offline.LatentSpec, for what these options cannot say."""
    starts: int = 20
    """Starts of each number of values."""
    held_out: float = 0.25
    """Share of the episodes that chooses theta."""
    seed: int = 0
    """Random seed."""
    resume: bool = False
    """Go on with an interrupted fit in DIR. Other options may be left out."""
    distributed: bool = False
    """Run as one of several processes that share the work, and read the same logs. Slurm, Open MPI and Kubernetes need
    no other option."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """With --distributed on other systems: the address of process 0, with a free port."""
    num_processes: WholeNumber = None
    """With --coordinator: the number of processes."""
    process_id: WholeNumber = None
    """With --coordinator: the index of this process, from 0. Only process 0 writes DIR and prints."""
    join_timeout: Number = None
    """With --distributed: seconds to wait for the other processes to start; 300 by default."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        if self.resume:
            # Only process 0 of several needs the directory.
            None if self.distributed else check_fit_begun(self.out)
            return
        None if self.distributed else check_free(self.out)
        if not self.logs:
            raise UsageError("name the LOGS: files, folders, or patterns in quotes, such as 'logs/*.parquet'.")
        for name in REQUIRED:
            if not getattr(self, name):
                raise UsageError(f"--{name} is missing: name the column of the logs, such as --{name} COLUMN.")
        if self.spec is not None:
            check_reference(self.spec, kind="spec")
            changed = [name for name in DECLARED if getattr(self, name) != _default(name)]
            if changed:
                raise UsageError(
                    f"{flag(changed[0])} contradicts --spec, which says everything: leave one of them out."
                )
        counts("--K", self.K)
        if self.markov is not None:
            counts("--markov", self.markov, least=2)
        for name in ("expert_given", "observation_given"):
            for given in getattr(self, name):
                last(flag(name), given)
        if self.starts < 1:
            raise UsageError(f"--starts must be at least 1, not {self.starts}.")
        if not 0 < self.held_out < 1:
            raise UsageError(f"--held-out must be between 0 and 1, not {self.held_out}.")
        check_seed(self.seed)


@dataclasses.dataclass(frozen=True)
class Diagnose:
    """Say what may be concluded from a fit: whether the logs identify how to act, given what was declared.

    The logs are read again. The command writes DIR/diagnosis.json and draws DIR/report.html.
    """

    directory: Folder
    """The folder of the fit."""
    logs: Annotated[Names, tyro.conf.arg(metavar="LOGS")] = ()
    """The logs, if they are in another place now."""
    quick: bool = False
    """Leave out the comparisons with a sequence model and with other time scales of theta, which take most of the time.
    Nothing can then refute the fit."""
    json: bool = False
    """Print the diagnosis as JSON to stdout, and everything else to stderr."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        check_fitted(self.directory)


@dataclasses.dataclass(frozen=True)
class DrawReport:
    """Draw the page of a fit and its diagnosis, DIR/report.html, and print its path."""

    directory: Folder
    """The folder of the fit."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        check_fitted(self.directory)


@dataclasses.dataclass(frozen=True)
class Dream:
    """Teach a network to act in the fitted model, without the world or the demonstrators, and certify it there.

    The result is a run directory like that of `undelude train`, for certify, report and export.
    """

    directory: Folder
    """The folder of the fit."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """The run directory; DIR/agent by default."""
    agent: AgentName = "lstm"
    """Architecture of the agent."""
    hidden_size: WholeNumber = None
    """Units of its memory; the architecture's own by default."""
    steps: int = 2000
    """Number of updates."""
    batch_size: int = 64
    """Episodes per update."""
    learning_rate: float = 3e-2
    """Peak learning rate."""
    seed: int = 0
    """Random seed."""
    strict: bool = False
    """Stop if the fit is not diagnosed, or if its diagnosis is "refuted" or "not identified"."""
    resume: bool = False
    """Resume the run."""

    @property
    def run_directory(self) -> Path:
        """The run directory."""
        return self.directory / AGENT if self.out is None else self.out

    def check(self) -> None:
        """Raise if the options cannot be right."""
        check_fitted(self.directory)
        check_seed(self.seed)


@dataclasses.dataclass(frozen=True)
class Offline:
    """From logs alone: fit a causal model of the demonstrators, diagnose it, draw its page, teach an agent in it."""

    command: Annotated[
        Annotated[FitLogs, tyro.conf.subcommand("fit")]
        | Annotated[Diagnose, tyro.conf.subcommand("diagnose")]
        | Annotated[DrawReport, tyro.conf.subcommand("report")]
        | Annotated[Dream, tyro.conf.subcommand("dream")],
        tyro.conf.arg(name=""),
    ]

    def check(self) -> None:
        """Raise if the options cannot be right."""
        self.command.check()


def flag(name: str) -> str:
    """Return the name of a field on the command line."""
    return f"--{name.replace('_', '-')}"


def _default(name: str) -> object:
    return next(field.default for field in dataclasses.fields(FitLogs) if field.name == name)


def counts(option: str, text: str, *, least: int = 1) -> range:
    """Return the numbers that `5` or `1:8` means."""
    match = re.fullmatch(r"(\d{1,4})(?::(\d{1,4}))?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not least <= low <= high <= MAX_VALUES:
        raise UsageError(
            f"{option} must be a number such as 5, or a range such as {least}:8, from {least} to {MAX_VALUES}, not "
            f"{text!r}."
        )
    return range(low, high + 1)


def last(option: str, text: str) -> tuple[str, int] | str:
    """Return the column and the number of rounds that `last:COLUMN` or `last:COLUMN:2` means; or "demonstrator"."""
    if text == "demonstrator":
        return text
    match = re.fullmatch(r"last:(.+?)(?::(\d{1,4}))?", text)
    if match is None or match[2] == "0":
        raise UsageError(f"{option} must be last:COLUMN, or last:COLUMN:2 for two rounds before, not {text!r}.")
    return match[1], int(match[2] or 1)


def check_free(path: Path) -> None:
    """Raise `UsageError` if no fit can begin at `path`."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file: use another --out.")
    if (path / SETTINGS).exists():
        what = "a fit" if (path / FIT).exists() else "an unfinished fit"
        raise UsageError(f"{path} holds {what} already: use --resume or another --out.")
    if path.exists() and any(x.name[0] != "." for x in path.iterdir()):
        raise UsageError(f"{path} is not empty, and not a fit: use another --out.")


def check_fit_begun(path: Path) -> None:
    """Raise `UsageError` if no fit was begun at `path`."""
    if not (path / SETTINGS).is_file():
        raise UsageError(f"there is no fit at {path}: {SETTINGS} is missing. Begin one with undelude offline fit.")


def check_fitted(path: Path) -> None:
    """Raise `UsageError` if there is no finished fit at `path`."""
    if (path / FIT).is_file():
        return
    check_fit_begun(path)
    raise UsageError(f"the fit in {path} is not finished: go on with undelude offline fit --out {path} --resume")
