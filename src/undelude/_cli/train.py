"""`undelude train`."""

import contextlib
import dataclasses
import inspect
import json as json_format
import signal
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import jax
import tyro
from rich.console import Console

from undelude._agents.networks.gru import GRUAgent
from undelude._agents.networks.linear import LinearRecurrentAgent
from undelude._agents.networks.lstm import LSTMAgent
from undelude._agents.networks.markov import MarkovAgent, SequencePredictor
from undelude._agents.networks.network import AbstractLearnedAgent, options
from undelude._agents.networks.normalise import is_continuous, normalise
from undelude._agents.networks.transformer import TransformerAgent
from undelude._cli import backend, distributed
from undelude._cli.console import make_console, print_certificate, training_progress, working
from undelude._cli.interrupts import Interrupts
from undelude._cli.measure import keys, make_certificate, measurer, write_film
from undelude._cli.seeds import run_seeds
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import rollout
from undelude._runs import agent_files as checkpoint
from undelude._runs.checkpoints import SECONDS_BETWEEN, Checkpoints, updates_in
from undelude._runs.config import SHARING, SIZES, Config, WholeNumber, check_config, devices, option
from undelude._runs.directory import RunDirectory
from undelude._runs.errors import CommandError, ExitCode, UsageError, is_disk_full
from undelude._teaching.loop import NotFinite, Row, Run, default_optimizer, initial_state, teach
from undelude._teaching.settings import Blind, Cloning, Counterfactual, DAgger, Factual, Mixed, Teaching
from undelude._teaching.sharding import gather
from undelude._teaching.updates import TeachingState
from undelude._versions import versions
from undelude.tasks.registry import make

if TYPE_CHECKING:
    from undelude._runs.tensorboard import TensorBoard

AGENTS: dict[str, Any] = {
    "lstm": LSTMAgent,
    "gru": GRUAgent,
    "linear": LinearRecurrentAgent,
    "transformer": TransformerAgent,
    "markov": MarkovAgent,
    "predictor": SequencePredictor,
}
# Expert episodes behind the mean and the scale of what is continuous.
EPISODES_FOR_UNITS = 256
# What process 0 says to the others where updates are left.
UPDATES = "updates"
TEACHINGS = {
    "counterfactual": Counterfactual,
    "factual": Factual,
    "mixed": Mixed,
    "blind": Blind,
    "cloning": Cloning,
    "dagger": DAgger,
}


@dataclasses.dataclass(frozen=True)
class Train:
    """Teach an agent, certify it, and draw the page of the run."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The run directory; made by this command."""
    resume: bool = False
    """Go on with the run in DIR where it stopped."""
    json: bool = False
    """Print the certificate as JSON on stdout, and all else on stderr."""
    num_seeds: int = 1
    """Of several seeds, counted from --seed, each has a run in DIR; their intervals are in DIR/seeds.json."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into DIR/tensorboard."""
    distributed: bool = False
    """Be one of several processes that share each batch; under Slurm, Open MPI and Kubernetes, that is all to say."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Of --distributed elsewhere: where process 0 is to be found, at a free port."""
    num_processes: WholeNumber = None
    """How many there are."""
    process_id: WholeNumber = None
    """Which one this is, from 0; process 0 alone writes DIR and prints."""
    checkpoint_every: float = SECONDS_BETWEEN
    """Seconds between two checkpoints, each at a row of metrics: a crash costs these, a row and a write at most."""

    def run(self, args: Sequence[str]) -> ExitCode:
        """Carry it out; `args` are the arguments after `train`."""
        distributed.check_options(self)
        if self.num_seeds != 1:
            return run_seeds(self, args)
        if self.distributed:
            backend.configure(batch_size=self._batch_size(), num_processes=self.num_processes or 1)
            with distributed.losses_named():
                distributed.join(self)
                return self.lead(args) if distributed.is_first() else self.take_part()
        return self.lead(args)

    def _batch_size(self) -> int:
        """Of the run that is resumed, where this process can read it: JAX needs to know before the processes meet."""
        if self.resume:
            with contextlib.suppress(UsageError, ValueError, OSError):
                return RunDirectory.open(self.out).config.batch_size
        return self.config.batch_size

    def lead(self, args: Sequence[str]) -> ExitCode:
        """Carry it out for one seed, and print what came of it."""
        started = time.perf_counter()
        run, times = self.carry_out(args)
        certificate = run.read_certificate()
        if self.json:
            print(json_format.dumps(certificate, indent=2))
        console = make_console(stderr=self.json)
        print_certificate(console, certificate)
        times["total"] = time.perf_counter() - started
        console.print("Seconds: " + ", ".join(f"{what} {seconds:.1f}" for what, seconds in times.items()) + ".")
        console.print(f"Page: {run.report_file}", soft_wrap=True)
        return ExitCode.OK

    def carry_out(self, args: Sequence[str]) -> tuple[RunDirectory, dict[str, float]]:
        """Train, certify and draw what is missing; the run and the seconds of each."""
        if not self.checkpoint_every >= 0:
            raise UsageError(f"--checkpoint-every must be at least 0, not {self.checkpoint_every}.")
        progress = make_console(stderr=True)
        run = RunDirectory.open(self.out) if self.resume else None
        config = self.config if run is None else _stored_config(run, args, self)
        try:
            check_config(config)
            make_teaching(config)
            sizes(config)
        except ValueError as error:
            raise UsageError(str(error)) from error
        backend.configure(batch_size=config.batch_size)
        process = make(config.task)
        agent = make_agent(config, process)
        is_new = run is None
        run = run or RunDirectory.create(self.out, config)
        distributed.from_first(config)
        again = f"Go on with\n  {run.resume_command}"
        interrupts = Interrupts()
        options = {"tensorboard": self.tensorboard, "checkpoint_every": self.checkpoint_every}
        try:
            with run.locked(), interrupts:
                try:
                    times = Session(run, process, agent, progress, interrupts, **options).finish()
                except Exception:
                    if is_new:
                        run.discard_if_empty()
                    raise
        except KeyboardInterrupt:
            code = ExitCode.TERMINATED if interrupts.received == signal.SIGTERM else ExitCode.INTERRUPTED
            raise CommandError(f"{code.name.lower()}; what was done is in {self.out}. {again}", code) from None
        except Exception as error:
            if is_disk_full(error):
                last = max(updates_in(run.checkpoints_folder), default=0)
                then = again if run.config_file.exists() else "Then repeat the command."
                kept = f"no space left on the disk of {self.out} (ENOSPC); what is kept is update {last}"
                raise CommandError(f"{kept}. Make room. {then}") from error
            if isinstance(error, NotFinite) and run.agent_folder.exists():
                raise CommandError(
                    f"{error} It is in {run.agent_folder}; undelude certify {self.out} measures it."
                ) from error
            raise
        return run, times

    def take_part(self) -> ExitCode:
        """Make the updates with process 0, of whose options and state all is made; write and print nothing."""
        config = distributed.from_first(None)
        process = make(config.task)
        agent = make_agent(config, process)
        if gather("")[0] == UPDATES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # Process 0 warns.
                teach_run(process, agent, config)
        distributed.leave()
        return ExitCode.OK


def teach_run(process: InteractionProcess, agent: AbstractLearnedAgent, config: Config, **options: Any) -> Run:
    """`teach` with the options of a run."""
    teaching = make_teaching(config)
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


def sizes(config: Config) -> dict[str, int]:
    """The sizes that were given, which the architecture has.

    Raises:
        ValueError: it has no such size, or they do not go together.
    """
    given = {name: getattr(config, name) for name in SIZES if getattr(config, name) is not None}
    for name in given:
        if name not in options(AGENTS[config.agent]):
            having = [agent for agent, kind in AGENTS.items() if name in options(kind)]
            raise ValueError(f"{option(name)} is not for --agent {config.agent}, but for {' and '.join(having)}.")
    if config.agent == "transformer":
        parameters = inspect.signature(TransformerAgent).parameters
        hidden_size, num_heads = (given.get(x, parameters[x].default) for x in ("hidden_size", "num_heads"))
        if hidden_size % (2 * num_heads):
            raise ValueError(
                f"--hidden-size must be a multiple of twice --num-heads, {2 * num_heads}, not {hidden_size}."
            )
    return given


def make_agent(config: Config, process: InteractionProcess) -> AbstractLearnedAgent:
    """The agent that a run begins with; what is continuous, it reads in units of what the expert's episodes hold."""
    key = keys(config)["agent"]
    agent = AGENTS[config.agent](process, **sizes(config), key=key)
    if any(map(is_continuous, agent.specs)):
        size = {"num_episodes": EPISODES_FOR_UNITS, "executor": "expert"}
        agent = normalise(agent, rollout(process, None, key=jax.random.fold_in(key, 1), **size))
    return agent


def make_teaching(config: Config) -> Teaching:
    """The teaching of a run.

    Raises:
        ValueError: options that do not go together.
    """
    scored: dict[str, Any] = {"target": config.target, "observation_weight": config.observation_weight}
    if config.teaching in SHARING:
        scored["expert_share"] = config.expert_share
    if config.teaching == "dagger":
        scored["per"] = config.per
    return TEACHINGS[config.teaching](**scored)


def _stored_config(run: RunDirectory, args: Sequence[str], given: Train) -> Config:
    """The stored options, if those of the command line agree; one that was not given agrees."""
    flags = dict.fromkeys(("resume", "json", "tensorboard", "distributed"), False)
    stored = dataclasses.replace(given, config=run.config, **flags)
    merged = tyro.cli(Train, args=args, default=stored, config=(tyro.conf.FlagCreatePairsOff,)).config
    for field in dataclasses.fields(Config):
        want, have = getattr(merged, field.name), getattr(run.config, field.name)
        if want != have:
            raise UsageError(
                f"{option(field.name)} {want} contradicts {run.config_file}, where it is {have}: "
                "leave it out to resume, or use another --out."
            )
    return run.config


@dataclasses.dataclass
class Session:
    """One call of the command, on a run that is new or was interrupted."""

    run: RunDirectory
    process: InteractionProcess
    agent: AbstractLearnedAgent
    console: Console
    interrupts: Interrupts
    tensorboard: bool = False
    checkpoint_every: float = SECONDS_BETWEEN

    def finish(self) -> dict[str, float]:
        """Do what is missing of training, certificate and page; return the seconds of each."""
        run = self.run
        times = self.train()
        distributed.leave()
        self.interrupts.check()
        if run.certificate_file.exists() and run.report_file.exists():
            return times
        agent = checkpoint.load(run.agent_folder)
        if not run.certificate_file.exists():
            started = time.perf_counter()
            with working(self.console, "certifying"):
                certificate = make_certificate(agent, self.process, run.config)
            with self.interrupts.held():
                run.write_certificate(certificate)
                run.report_file.unlink(missing_ok=True)
            times["certificate"] = time.perf_counter() - started
        if not run.report_file.exists():
            started = time.perf_counter()
            write_film(run, agent, self.process, self.console)
            with working(self.console, "drawing the page"):
                from undelude._report import write_report

                write_report(run.path)
            times["page"] = time.perf_counter() - started
        self.interrupts.check()
        return times

    def train(self) -> dict[str, float]:
        """All updates that are not made yet."""
        run, config = self.run, self.run.config
        teaching = make_teaching(config)
        optimizer = default_optimizer(config.learning_rate, config.steps)
        state = initial_state(self.agent, teaching, optimizer)
        with Checkpoints(run.checkpoints_folder, self.checkpoint_every, run.metrics_file) as checkpoints:
            state = checkpoints.restore(state, warn=self._warn) or state
            start = int(state.update)
            if start == config.steps or (start == 0 and self._is_trained()):
                self.console.print(f"{run.path} is finished: all {config.steps} updates are made.", soft_wrap=True)
                if start:  # A crash may have left the agent of an earlier update.
                    checkpoint.save(state.agent, run.agent_folder)
                gather("")
                return {}
            if not start and run.read_metrics():
                self._begin_anew()
            rows = run.begin(start)
            gather(UPDATES)
            if start:
                self.console.print(f"Going on from update {start} of {config.steps}.")
            now = versions() | {"devices": devices()}
            if changed := [name for name, new in now.items() if run.versions.get(name, new) != new]:
                self.console.print(f"Since it began, {', '.join(changed)} changed: it may not go on bit for bit.")
            seconds_before = rows[-1]["seconds"] if rows else 0.0
            measure = measurer(self.process, config)
            board = self._board(start)

            def log(new: TeachingState, row: Row) -> None:
                nonlocal state
                whole = row | {"seconds": seconds_before + row["seconds"]} | measure(new.agent)
                with self.interrupts.held():
                    run.append_metrics(whole)
                    if board is not None:
                        board(new, whole)
                    state = new
                    checkpoints.save_if_due(state)
                advance(whole)

            try:
                with training_progress(self.console, mark=teaching.mark, steps=config.steps, start=start) as advance:
                    result = teach_run(self.process, self.agent, config, state=state, on_log=log)
            except Exception:
                # What went wrong is said, not what goes wrong after it: on a full disk nothing more can be written.
                with contextlib.suppress(Exception):
                    self._save(checkpoints, state)
                raise
            except KeyboardInterrupt:
                self._save(checkpoints, state)
                raise
            else:
                self._save(checkpoints, state)
            finally:
                if board is not None:
                    with contextlib.suppress(OSError):  # Its rows are on disk already.
                        board.close()
        return {"training": result.seconds, "compiling": result.compile_seconds}

    def _board(self, start: int) -> "TensorBoard | None":
        if not self.tensorboard:
            return None
        from undelude._runs.tensorboard import TensorBoard  # An optional dependency.

        return TensorBoard(self.run.path / "tensorboard", start=start)

    def _begin_anew(self) -> None:
        """There are rows, and no checkpoint to go on from."""
        run = self.run
        if run.agent_folder.exists():
            raise UsageError(
                f"{run.path} has an agent, and no checkpoint to go on from: restore {run.checkpoints_folder} from a "
                "copy, or train anew with another --out. undelude certify measures the agent that is there."
            )
        self.console.print("There is no checkpoint yet: beginning anew.")

    def _is_trained(self) -> bool:
        """Whether all is there but checkpoints, which somebody may have deleted to save space."""
        rows = self.run.read_metrics()
        return self.run.agent_folder.exists() and bool(rows) and rows[-1]["update"] == self.run.config.steps

    def _save(self, checkpoints: Checkpoints, state: TeachingState) -> None:
        """The agent first: a checkpoint of the last update then says that the agent is the final one."""
        if int(state.update):
            with self.interrupts.held():
                checkpoint.save(state.agent, self.run.agent_folder)
                checkpoints.save(state)
                checkpoints.wait()

    def _warn(self, message: str) -> None:
        self.console.print(f"Warning: {message}", soft_wrap=True)
