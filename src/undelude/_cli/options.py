"""The commands and their options. Each is carried out by the module of its name, which `app` imports after `check`.

Nothing here needs JAX, so that the help and the errors of the command line appear at once.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

from undelude._cli.errors import UsageError, check_seed
from undelude._cli.server_options import Server
from undelude._named_tasks import check_task_name
from undelude._runs import layout
from undelude._runs.config import SECONDS_BETWEEN, Config, Number, Text, WholeNumber, check_config
from undelude._user_code import check_reference

# Episodes per certificate.
NUM_EPISODES = 4096

Task = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")]
Directory = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]


class Call(NamedTuple):
    """One call of a command: the arguments after its name, and the time at which it began (`time.perf_counter`)."""

    args: Sequence[str]
    started: float

    def line(self, command: str) -> str:
        """Return the whole command line, for a message that says what to add to it."""
        return shlex.join(["undelude", command, *self.args])


@dataclasses.dataclass(frozen=True)
class Train:
    """Teach an agent, certify it, and draw the page of the run.

    The named tasks have defaults of their own: undelude train TASK --help shows them.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The run directory, which this command creates."""
    resume: bool = False
    """Resume the run in DIR; if it is finished, make it longer with more --steps. TASK may be left out."""
    num_episodes: WholeNumber = None
    """Number of the agent's own episodes in its certificate; 4096 by default."""
    json: bool = False
    """Print the certificate as JSON to stdout, and everything else to stderr."""
    num_seeds: int = 1
    """Train one agent per seed, counting up from --seed, each in DIR/seed-N; write intervals to DIR/seeds.json."""
    tensorboard: bool = False
    """Also write the metrics for TensorBoard, into DIR/tensorboard."""
    distributed: bool = False
    """Run as one of several processes that share each batch. Slurm, Open MPI and Kubernetes need no other option."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """With --distributed on other systems: the address of process 0, with a free port."""
    num_processes: WholeNumber = None
    """With --coordinator: the number of processes."""
    process_id: WholeNumber = None
    """With --coordinator: the index of this process, from 0. Only process 0 writes DIR and prints."""
    join_timeout: Number = None
    """With --distributed: seconds to wait for the other processes to start; 300 by default."""
    checkpoint_every: float = SECONDS_BETWEEN
    """Seconds between two checkpoints. A crash loses at most the training of these seconds and of one write."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        if not self.checkpoint_every >= 0:
            raise UsageError(f"--checkpoint-every must be at least 0, not {self.checkpoint_every}.")
        if self.num_episodes is not None:
            check_num_episodes(self.num_episodes)
        # Only process 0 of several needs the directory; the directories of several seeds are checked one by one.
        if self.num_seeds == 1 and not self.distributed:
            layout.check_run(self.out) if self.resume else layout.check_free(self.out)
        if self.resume and not self.config.task and self.num_seeds != 1:
            raise UsageError("name the TASK too: --num-seeds begins the seeds that have no run yet.")
        if not self.resume:
            try:
                check_config(self.config)
            except ValueError as error:
                raise UsageError(str(error)) from error
            check_task_name(self.config.task)


@dataclasses.dataclass(frozen=True)
class Certify:
    """Measure an agent and write its certificate.json: the agent of a run, or one of your own."""

    agent: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DIR|package.module:agent")]
    """A run directory; or your own agent, such as a ud.HostAgent, or a function that returns it for a process."""
    num_episodes: int = NUM_EPISODES
    """Number of the agent's own episodes to measure on."""
    task: Text = None
    """The task to measure your own agent on. For a run that you did not make on this machine: its task, which allows
    calling it."""
    out: Annotated[Text, tyro.conf.arg(metavar="DIR")] = None
    """Folder for the certificate and the page of your own agent; by default, the names of agent and task."""
    json: bool = False
    """Print the certificate as JSON to stdout, and everything else to stderr."""

    @property
    def is_run(self) -> bool:
        """Whether the agent is that of a run."""
        return ":" not in self.agent or layout.is_run(Path(self.agent))

    @property
    def folder(self) -> Path:
        """The folder for the certificate of the user's own agent."""
        names = f"{self.agent.rpartition(':')[2]}-{(self.task or '').rpartition(':')[2]}"
        return Path(names if self.out is None else self.out)

    def check(self) -> None:
        """Raise if the options cannot be right."""
        check_num_episodes(self.num_episodes)
        if self.is_run:
            layout.check_run(Path(self.agent))
            if self.out is not None:
                raise UsageError(f"--out is for an agent of your own; the certificate of a run is in {self.agent}.")
            return
        check_reference(self.agent, kind="agent")
        if self.task is None:
            raise UsageError(f"--task is missing: name the task to measure {self.agent} on, such as --task bandit.")
        check_task_name(self.task)
        layout.check_may_save(self.folder)


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw the page of a run from its files and print its path."""

    directory: Directory
    """The run directory, or the folder of a certificate."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        layout.check_has_page(self.directory)


@dataclasses.dataclass(frozen=True)
class Export:
    """Export the agent of a run as functions that run without undelude, and measure their latency."""

    directory: Directory
    """The run directory."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """The folder for init, act, observe and step, and manifest.json."""
    format: Literal["jax", "onnx"] = "jax"
    """jax: each function as .bin (jax.export) and .mlir (StableHLO); onnx: each as .onnx (ONNX Runtime)."""
    num_rounds: WholeNumber = None
    """Number of rounds per episode; the task's own by default."""
    batch_size: WholeNumber = None
    """Number of episodes at a time; by default one, without a batch axis."""
    overwrite: bool = False
    """Also write into a folder that is not empty, over an earlier export."""
    task: Text = None
    """The task, package.module:factory, of a run that you did not make on this machine: allows calling it."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        for name, number in (("--num-rounds", self.num_rounds), ("--batch-size", self.batch_size)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}.")
        layout.check_run(self.directory)


@dataclasses.dataclass(frozen=True)
class Tasks:
    """List the named tasks."""

    json: bool = False
    """Print the list as JSON."""

    def check(self) -> None:
        """Raise nothing: all options are right."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Check a task for errors that make training on it worthless, and measure the cost of delusion.

    The exit status is 1 if there are problems or a warning: nothing to learn about theta, or the wrong goal.
    """

    task: Task
    """A name from `undelude tasks`, or your own package.module:factory."""
    num_episodes: int = 512
    """Number of episodes of the deluded agent, for action_kl_do."""
    json: bool = False
    """Print the measurements as JSON."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        if self.num_episodes < 1:
            raise UsageError(f"--num-episodes must be at least 1, not {self.num_episodes}.")
        check_task_name(self.task)


@dataclasses.dataclass(frozen=True)
class Play:
    """Play Nature: answer the actions of a sober and of a deluded agent, and watch their beliefs change."""

    task: Task = "bandit"
    """A task whose actions and observations are symbols, such as bandit, frog or menu."""
    seed: WholeNumber = None
    """Seed of all random choices; a new one in each game by default."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        if self.seed is not None:
            check_seed(self.seed)
        check_task_name(self.task)


@dataclasses.dataclass(frozen=True)
class Paper:
    """Recompute the statements of the paper; print a table and write a page with every figure.

    Each row has a claim, the computed value, the criterion that it has to meet, and whether the value was computed now
    or is a stored result of a study. The paper's own statements, our examples of them, and related work are counted
    apart. The exit status is 1 if a criterion of the first two is not met.
    """

    out: Path = Path("paper.html")
    """The page to write."""
    json: bool = False
    """Print counts and items as JSON to stdout, and everything else to stderr."""
    num_episodes: int = 20_000
    """Number of episodes behind most sampled numbers; some use a fixed multiple or fraction of it."""
    seed: int = 0
    """Seed of the sampled numbers."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        if self.num_episodes < 100:
            raise UsageError(f"--num-episodes must be at least 100, for standard errors, not {self.num_episodes}.")
        check_seed(self.seed)
        if self.out.is_dir() or not self.out.parent.is_dir():
            raise UsageError(f"--out must name a file in a directory that exists, not {self.out}.")


@dataclasses.dataclass(frozen=True)
class Measure:
    """Measure whether a language model takes its own words for evidence: one behind a server, or in a folder.

    The model plays a game: it finds out which dish is on the menu. After each of its guesses it is asked what it
    believes. A served model needs no GPU and no PyTorch here, and the command asks before it makes calls. The API key
    is read from an environment variable. The exit status is 1 if measuring ended early.
    """

    folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="FOLDER")] = None
    """A local model of Hugging Face, with its tokenizer; needs the extra [hf]."""
    endpoint: Annotated[Text, tyro.conf.arg(metavar="URL")] = None
    """The address of an OpenAI-compatible server, such as http://localhost:8000/v1."""
    server: tyro.conf.OmitArgPrefixes[Server] = dataclasses.field(default_factory=Server)
    dishes: str = "tacos, soup, cheeseburgers, lasagne, pizza"
    """The dishes of the game. Names that begin with different letters need the fewest calls."""
    prompt: Annotated[Text, tyro.conf.arg(metavar="TEXT")] = None
    """The customer's first message; by default, the rules of the game. For a model that was taught another one."""
    probe: Annotated[Text, tyro.conf.arg(metavar="TEXT")] = None
    """The question about the dish on the menu. The reply "What's on the menu?" asks for the model's next guess."""
    num_conversations: int = 20
    """Number of conversations, over which standard errors are computed."""
    num_turns: int = 3
    """Number of guesses in a conversation. Delusion shows most in the first."""
    seed: int = 0
    """Seed of the conversations."""
    chat_template_kwargs: Annotated[Text, tyro.conf.arg(metavar="JSON")] = None
    """With FOLDER: arguments of its chat template, such as '{"enable_thinking": false}'."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PAGE")] = None
    """A page to write, .html, or the data, .json."""
    json: bool = False
    """Print the report as JSON to stdout, and everything else to stderr."""

    @property
    def names(self) -> tuple[str, ...]:
        """The dishes."""
        return tuple(name.strip() for name in self.dishes.split(","))

    def check(self) -> None:
        """Raise if the options cannot be right."""
        if (self.folder is None) == (self.endpoint is None):
            raise UsageError(
                "name a model: either the FOLDER of a local one, or --endpoint and --model of a served one."
            )
        if (self.endpoint is None) != (self.server.model is None):
            raise UsageError("--endpoint and --model belong together: the address of the server, and the model's name.")
        if self.folder is not None and self.server.extra_body is not None:
            raise UsageError(
                "--extra-body is for the requests to a server, and FOLDER is a local model; arguments of its template "
                "are --chat-template-kwargs."
            )
        calls = {*self.server.given(Server())} - {"--samples", "--yes"}
        if self.folder is not None and calls:
            raise UsageError(f"{min(calls)} is for the calls to a server, and FOLDER is a local model: leave it out.")
        if self.endpoint is not None and self.chat_template_kwargs is not None:
            raise UsageError(
                "--chat-template-kwargs is for a local model. A server takes them, if it does, by --extra-body "
                "'{\"chat_template_kwargs\": {...}}'."
            )
        kinds = ("config.json", "adapter_config.json")
        if self.folder is not None and not any((self.folder / name).is_file() for name in kinds):
            raise UsageError(f"{self.folder} is not the folder of a model: it has no config.json.")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise UsageError(f"--endpoint must be an address such as http://localhost:8000/v1, not {self.endpoint!r}.")
        if len(set(self.names)) < max(2, len(self.names)) or "" in self.names:
            raise UsageError(f"--dishes must be two or more different names with commas between, not {self.dishes!r}.")
        for name, least in (("num_conversations", 2), ("num_turns", 1)):
            if (number := getattr(self, name)) < least:
                raise UsageError(f"--{name.replace('_', '-')} must be at least {least}, not {number}.")
        check_seed(self.seed)
        self.server.check()
        if self.out is not None and (self.out.suffix not in (".html", ".json") or not self.out.parent.is_dir()):
            raise UsageError(f"--out must name a .html or .json file in a directory that exists, not {self.out}.")


def check_num_episodes(num_episodes: int) -> None:
    """Raise `UsageError` if a certificate cannot have so many episodes."""
    if num_episodes < 2:
        raise UsageError(f"--num-episodes must be at least 2, for a standard error, not {num_episodes}.")
