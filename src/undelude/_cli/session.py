"""One call of `undelude train` on one run: train, certify, and draw the page."""

import contextlib
import dataclasses
import importlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import jax
from rich.console import Console

from undelude._agents.networks.network import AbstractLearnedAgent
from undelude._certificate.baselines import Baselines
from undelude._cli import distributed
from undelude._cli.console import certifying, training_progress, working
from undelude._cli.errors import UsageError
from undelude._cli.interrupts import Interrupts, in_thread
from undelude._cli.measurements import keys, make_certificate, measurer, run_baselines, write_film
from undelude._cli.options import NUM_EPISODES
from undelude._process.host_world import AbstractHostWorld, World
from undelude._runs.checkpoints import Checkpoints
from undelude._runs.config import SECONDS_BETWEEN, Config
from undelude._runs.config_file import devices
from undelude._runs.directory import RunDirectory
from undelude._teaching.loop import Row, Run, default_optimizer, initial_state, teach
from undelude._teaching.settings import Teaching
from undelude._teaching.sharding import gather
from undelude._teaching.updates import TeachingState
from undelude._versions import versions

if TYPE_CHECKING:
    from undelude._runs.tensorboard import TensorBoard

# The message by which process 0 tells the other processes that there are updates to make.
UPDATES = "updates"


def teach_run(
    process: World,
    agent: AbstractLearnedAgent,
    teaching: Teaching,
    config: Config,
    **options: Any,
) -> Run:
    """Call `teach` with the options of a run."""
    return teach(
        process,
        agent,
        teaching,
        key=keys(config)["teaching"],
        steps=config.steps,
        batch_size=config.batch_size,
        microbatch_size=config.microbatch_size,
        reuse=config.reuse,
        learning_rate=config.learning_rate,
        log_every=config.log_every,
        **options,
    )


@dataclasses.dataclass
class Session:
    """One call of the command, on a new or an interrupted run.

    Attributes:
        run: the run directory.
        config: the options of the run; with more updates than those of a finished run, it is made longer.
        process: the task of the run.
        agent: the agent before its first update.
        teaching: the teaching of the run.
        console: shows progress.
        interrupts: handles Ctrl-C, SIGTERM and SIGHUP.
        tensorboard: whether to write the metrics for TensorBoard too.
        checkpoint_every: seconds between two checkpoints.
        num_episodes: number of episodes of the certificate.
        certifies: whether to certify the trained agent and draw the page.
        seconds: that each stage took.
    """

    run: RunDirectory
    config: Config
    process: World
    agent: AbstractLearnedAgent
    teaching: Teaching
    console: Console
    interrupts: Interrupts
    tensorboard: bool = False
    checkpoint_every: float = SECONDS_BETWEEN
    num_episodes: int = NUM_EPISODES
    certifies: bool = True
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    # Waits for the baselines of the certificate, if they are being measured.
    _baselines: Callable[[], Baselines] | None = dataclasses.field(default=None, init=False)

    def finish(self) -> None:
        """Train, certify and draw the page, each unless it is done."""
        run = self.run
        self.train(prepare=self.certifies)
        distributed.leave()
        self.interrupts.check()
        if not self.certifies or (run.certificate_file.exists() and run.report_file.exists()):
            return
        agent = run.load_agent()
        if not run.certificate_file.exists():
            with self._timed("certificate"), certifying(self.console) as advance:
                size = {"num_episodes": self.num_episodes, "on_progress": advance}
                certificate = self.interrupts.run(
                    lambda: make_certificate(agent, self.process, run.config, baselines=self._baselines, **size)
                )
            with self.interrupts.held():
                run.write_certificate(certificate)
                run.report_file.unlink(missing_ok=True)
        if not run.report_file.exists():
            with self._timed("page"), working(self.console, "drawing the page"):
                from undelude._report import write_report  # Matplotlib, which loads slowly.

                write_film(run, agent, self.process, self.console, self.interrupts)
                write_report(run.path)
        self.interrupts.check()

    def _prepare(self) -> Baselines:
        """Do on idle cores, while the agent trains, what does not depend on it: baselines, and imports for the page."""
        found = run_baselines(self.process, self.config, num_episodes=self.num_episodes)
        with contextlib.suppress(Exception):  # `write_report` raises it again, after the certificate is written.
            importlib.import_module("undelude._report")
        return found

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to those of the stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def train(self, *, prepare: bool = False) -> None:
        """Make the remaining updates.

        Args:
            prepare: whether to prepare certificate and page in another thread meanwhile.
        """
        run, config = self.run, self.config
        optimizer = default_optimizer(config.learning_rate, config.steps)
        state = initial_state(self.agent, self.teaching, optimizer)
        places = run.checkpoints_folder, self.checkpoint_every, run.metrics_file
        with Checkpoints(*places, config_digest=run.digest) as checkpoints:
            state = checkpoints.restore(state, warn=self._warn) or state
            start = int(state.update)
            if start == config.steps or (start == 0 and run.is_finished):
                self.console.print(
                    f"{run.path} is finished: all {config.steps} updates are made. "
                    f"To make it longer, use --resume --steps N with N above {config.steps}.",
                    soft_wrap=True,
                )
                if start:  # After a crash, the agent folder may still hold the agent of an earlier update.
                    run.save_agent(state.agent)
                gather("")
                return
            if not start and run.read_metrics():
                self._check_can_restart()
            if config != run.config:
                run.lengthen(config)
            rows = run.begin(start)
            gather(UPDATES)
            if start:
                self.console.print(f"Going on from update {start} of {config.steps}.")
            now = versions() | {"devices": devices()}
            if changed := [name for name, new in now.items() if run.began_with.get(name, new) != new]:
                names = ", ".join(changed)
                self.console.print(
                    f"Warning: {names} changed since the run began; the results may differ in the last bits.",
                    soft_wrap=True,
                )
            seconds_before = rows[-1]["seconds"] if rows else 0.0
            measure = measurer(self.process, config)
            board = self._board(start)

            def log(new: TeachingState, row: Row) -> None:
                nonlocal state
                with self._timed("metrics"):
                    whole = row | {"seconds": seconds_before + row["seconds"]} | measure(new.agent)
                with self._timed("saving"), self.interrupts.held():
                    run.append_metrics(whole)
                    if board is not None:
                        board(new, whole)
                    state = new
                    checkpoints.save_if_due(state)
                advance(whole)

            mark = self.teaching.mark
            # An environment cannot play for the baselines while it plays for the agent.
            if prepare and jax.process_count() == 1 and not isinstance(self.process, AbstractHostWorld):
                self._baselines = in_thread(self._prepare)
            try:
                with training_progress(self.console, mark=mark, steps=config.steps, start=start) as advance:
                    result = teach_run(self.process, self.agent, self.teaching, config, state=state, on_log=log)
            except Exception:
                # Report the first error: saving may fail for the same reason, such as a full disk.
                with contextlib.suppress(Exception):
                    self._save(checkpoints, state)
                run.check_place()  # If the folder is gone, that is the cause.
                raise
            except KeyboardInterrupt:
                self._save(checkpoints, state)
                raise
            else:
                self._save(checkpoints, state)
            finally:
                if board is not None:
                    with contextlib.suppress(OSError):  # The rows are in metrics.jsonl already.
                        board.close()
        self.seconds |= {"compiling": result.compile_seconds, "training": result.seconds}

    def _board(self, start: int) -> "TensorBoard | None":
        if not self.tensorboard:
            return None
        from undelude._runs.tensorboard import TensorBoard  # An optional dependency.

        return TensorBoard(self.run.tensorboard_folder, start=start)

    def _check_can_restart(self) -> None:
        """Raise `UsageError` if an agent is stored without a checkpoint: starting over would overwrite it."""
        run = self.run
        if run.agent_folder.exists():
            raise UsageError(
                f"{run.path} has an agent but no checkpoint to resume from: restore {run.checkpoints_folder} from a "
                "copy, or train again with another --out. undelude certify measures the stored agent."
            )
        self.console.print("There is no checkpoint yet: starting from the first update.")

    def _save(self, checkpoints: Checkpoints, state: TeachingState) -> None:
        """Save the agent, then the checkpoint: a checkpoint of the last update implies that the agent is final."""
        if int(state.update):
            with self._timed("saving"), self.interrupts.held():
                self.run.save_agent(state.agent)
                checkpoints.save(state)
                checkpoints.wait()

    def _warn(self, message: str) -> None:
        self.console.print(f"Warning: {message}", soft_wrap=True)
