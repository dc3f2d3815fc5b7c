"""The command line of `undelude inspect`."""

import dataclasses
import os
import shlex
from pathlib import Path
from typing import Annotated

import tyro

from undelude._cli.errors import UsageError, check_seed
from undelude._cli.folders import check_holds_run, is_language_model, is_so
from undelude._inspector.limits import MAX_ROUNDS
from undelude._named_tasks import TASKS, check_task_name, is_fit
from undelude._runs import layout
from undelude._runs.config import Text, WholeNumber
from undelude._types import MAX_PORT
from undelude._versioned_tasks import NAMESPACE

# The dialogue of a language model, unless another is named.
MENU = "menu"


@dataclasses.dataclass(frozen=True)
class Inspect:
    """Open a page on one episode: a switch at each past action reads it as see or do, and all beliefs follow.

    By default only this machine can reach the server. The page opens only by the printed link, which holds a token. The
    server keeps nothing. Ctrl-C ends it.
    """

    target: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN|TASK|FIT|EPISODE|MODEL")] = "bandit"
    """A run directory, a task, the folder of a fit to logs, the JSON file of an episode that the page saved, or the
    folder of a language model, which reads the dialogue of a menu."""
    second: Annotated[Text, tyro.conf.arg(metavar="RUN|MODEL")] = None
    """A run on the same task, whose agent reads the same episode; or, on a menu, the folder of a language model."""
    prompt: Annotated[Text, tyro.conf.arg(metavar="TEXT")] = None
    """With a language model: the first message of the customer; by default the rules of the menu in words."""
    num_rounds: WholeNumber = None
    """Most rounds of the episode, up to 20000; the task's own by default."""
    seed: WholeNumber = None
    """Seed of the first episode; by default, of 32 the one in which see lowers the belief in the truth most."""
    host: str = "127.0.0.1"
    """Address to listen on; by default one that this machine alone can reach."""
    port: int = 0
    """Port to listen on; any free one by default."""
    no_browser: bool = False
    """Print the link, and do not open it."""
    task: Text = None
    """The task, package.module:factory, of an episode, or of a run that you did not make here: allows calling it. Of a
    language model, the menu that it reads; by default the task menu."""

    def check(self) -> None:
        """Raise if the options cannot be right."""
        if self.seed is not None:
            check_seed(self.seed)
        if self.num_rounds is not None and self.num_rounds < 1:
            raise UsageError(f"--num-rounds must be at least 1, not {self.num_rounds}.")
        if self.num_rounds is not None and self.num_rounds > MAX_ROUNDS:
            raise UsageError(f"--num-rounds must be at most {MAX_ROUNDS}, for the page to show, not {self.num_rounds}.")
        if not 0 <= self.port <= MAX_PORT:
            raise UsageError(f"--port must be from 1 to {MAX_PORT}, or 0 for any free one, not {self.port}.")
        if self.is_model:
            if self.second is not None:
                raise UsageError(
                    f"{self.target} is a language model, and the page shows one beside exact inference: leave out "
                    f"--second {self.second}."
                )
            check_task_name(self.task or MENU)
        elif self.is_run:
            check_holds_run(Path(self.target))
            layout.check_run(Path(self.target))
        elif not self.is_episode:
            is_path = ":" not in self.target and ("/" in self.target or os.sep in self.target or ".json" in self.target)
            if is_path and not (is_fit(self.target) or self.target.startswith(NAMESPACE)):
                raise UsageError(f"there is no run, fit or episode at {self.target!r} (working folder: {os.getcwd()}).")
            check_task_name(self.target)
        if self.prompt is not None and self.model is None:
            raise UsageError("--prompt is for the folder of a language model: undelude inspect FOLDER --prompt TEXT.")
        if self.seed is not None and self.is_episode:
            raise UsageError(
                f"--seed {self.seed} is for an episode that is played, and {self.target} is one already: leave it out."
            )
        has_run = self.is_run or (self.second is not None and self.model is None)
        if self.task is not None and not (has_run or self.is_model or self.is_episode):
            raise UsageError(
                "--task is for an episode, a run, or the folder of a language model. "
                f"undelude inspect {shlex.quote(self.task)} inspects that task; leave it out to inspect {self.target}."
            )
        if self.second is not None and self.model is None:
            layout.check_run(Path(self.second))

    @property
    def is_model(self) -> bool:
        """Whether the target is the folder of a model of Hugging Face, or of an adapter."""
        return self.target not in TASKS and is_so(Path(self.target).is_dir) and is_language_model(Path(self.target))

    @property
    def model(self) -> str | None:
        """The folder of a language model: the target, or else `second`; None without one."""
        if self.is_model:
            return self.target
        return self.second if self.second is not None and is_language_model(Path(self.second)) else None

    @property
    def is_run(self) -> bool:
        """Whether the target is the folder of a run."""
        is_other = self.target in TASKS or is_fit(self.target) or self.is_model
        return not is_other and is_so(Path(self.target).is_dir)

    @property
    def is_episode(self) -> bool:
        """Whether the target is a file."""
        return self.target not in TASKS and is_so(Path(self.target).is_file)
