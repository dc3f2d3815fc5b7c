"""The command `undelude train`."""

import contextlib
import dataclasses
import inspect
import json as json_format
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro

from undelude._agents.networks.network import AbstractLearnedAgent
from undelude._agents.networks.normalise import is_continuous, normalise
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._cli import backend, distributed
from undelude._cli.console import make_console, print_certificate
from undelude._cli.errors import CommandError, ExitCode, UsageError, is_disk_full
from undelude._cli.interrupts import Interrupts
from undelude._cli.measure import keys
from undelude._cli.seeds import run_seeds
from undelude._cli.session import UPDATES, Session, teach_run
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import rollout
from undelude._runs.checkpoints import SECONDS_BETWEEN, updates_in
from undelude._runs.config import SIZES, Config, Number, WholeNumber, check_config, names_with, option
from undelude._runs.directory import RunDirectory
from undelude._runs.errors import RunError
from undelude._runs.layout import is_run
from undelude._teaching.loop import NotFinite
from undelude._teaching.registry import TEACHINGS
from undelude._teaching.settings import Teaching
from undelude._teaching.sharding import gather
from undelude.tasks.registry import make

# Expert episodes from which the mean and scale of continuous values are estimated.
EPISODES_FOR_UNITS = 256


@dataclasses.dataclass(frozen=True)
class Train:
    """Teach an agent, certify it, and draw the page of the run."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """The run directory, which this command creates."""
    resume: bool = False
    """Resume the run in DIR."""
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

    def run(self, args: Sequence[str]) -> ExitCode:
        """Run the command; `args` are the arguments after `train`."""
        cluster = distributed.Cluster(self.coordinator, self.num_processes, self.process_id, self.join_timeout)
        if not self.distributed:
            cluster.check_unused()
        if self.num_seeds != 1:
            if self.distributed:
                raise UsageError(
                    "--num-seeds is not for --distributed: seeds have nothing to exchange. "
                    "Start a command for each --seed."
                )
            return self._run_seeds(args)
        if not self.distributed:
            return self._lead(args)
        cluster.check()
        backend.configure(batch_size=self._batch_size(), num_processes=self.num_processes or 1)
        with distributed.name_lost_process():
            cluster.join(dataclasses.asdict(self.config) | {"resume": self.resume})
            return self._lead(args) if distributed.is_first() else self._follow()

    def _run_seeds(self, args: Sequence[str]) -> ExitCode:
        def train_seed(config: Config, out: Path) -> RunDirectory:
            one = dataclasses.replace(self, config=config, out=out, resume=is_run(out))
            run, _ = one._carry_out([*args, "--seed", str(config.seed), "--out", str(out)])
            return run

        return run_seeds(
            self.config, self.out, train_seed, num_seeds=self.num_seeds, resume=self.resume, json=self.json
        )

    def _batch_size(self) -> int:
        """Return the batch size, of a resumed run if this process can read it; JAX must know it before `join`."""
        if self.resume:
            with contextlib.suppress(RunError, ValueError, OSError):
                return RunDirectory.open(self.out).config.batch_size
        return self.config.batch_size

    def _lead(self, args: Sequence[str]) -> ExitCode:
        """Run the command for one seed and print the results."""
        started = time.perf_counter()
        run, times = self._carry_out(args)
        certificate = run.read_certificate()
        if self.json:
            print(json_format.dumps(certificate, indent=2))
        console = make_console(stderr=self.json)
        print_certificate(console, certificate)
        times["total"] = time.perf_counter() - started
        console.print("Seconds: " + ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in times.items()) + ".")
        console.print(f"Page: {run.report_file}", soft_wrap=True)
        return ExitCode.OK

    def _carry_out(self, args: Sequence[str]) -> tuple[RunDirectory, dict[str, float]]:
        """Train, certify and draw the page, each unless it is done; return the run and the seconds of each."""
        if not self.checkpoint_every >= 0:
            raise UsageError(f"--checkpoint-every must be at least 0, not {self.checkpoint_every}.")
        progress = make_console(stderr=True)
        run = RunDirectory.open(self.out) if self.resume else None
        config = self.config if run is None else _stored_config(run, args, self)
        try:
            check_config(config)
            teaching = make_teaching(config)
            sizes(config)
        except ValueError as error:
            raise UsageError(str(error)) from error
        backend.configure(batch_size=config.batch_size)
        if run is not None:
            run.check_numerics()
        process = make(config.task)  # The user named it on the command line.
        agent = make_agent(config, process)
        is_new = run is None
        run = run or RunDirectory.create(self.out, config)
        distributed.from_first(config)
        resume = f"To resume:\n  {run.resume_command}"
        interrupts = Interrupts()
        options = {"tensorboard": self.tensorboard, "checkpoint_every": self.checkpoint_every}
        try:
            with run.locked(), interrupts:
                try:
                    times = Session(run, process, agent, teaching, progress, interrupts, **options).finish()
                except Exception:
                    if is_new:
                        run.discard_if_empty()
                    raise
        except KeyboardInterrupt:
            raise interrupts.error(f"the run so far is in {self.out}. {resume}") from None
        except Exception as error:
            if is_disk_full(error):
                last = max(updates_in(run.checkpoints_folder), default=0)
                then = resume if run.config_file.exists() else "Then repeat the command."
                kept = f"no space left on the disk of {self.out} (ENOSPC); the last saved update is {last}"
                raise CommandError(f"{kept}. Free some space. {then}") from error
            if isinstance(error, NotFinite) and run.agent_folder.exists():
                raise CommandError(
                    f"{error} It is in {run.agent_folder}; undelude certify {self.out} measures it."
                ) from error
            raise
        return run, times

    def _follow(self) -> ExitCode:
        """Make the updates together with process 0, from its options and state; write and print nothing."""
        config = distributed.from_first(None)
        process = make(config.task)
        agent = make_agent(config, process)
        if gather("")[0] == UPDATES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # Process 0 warns.
                teach_run(process, agent, make_teaching(config), config)
        distributed.leave()
        return ExitCode.OK


def sizes(config: Config) -> dict[str, int]:
    """Return the sizes that were given.

    Raises:
        ValueError: the architecture does not have such a size, or the sizes do not fit together.
    """
    given = {name: getattr(config, name) for name in SIZES if getattr(config, name) is not None}
    for name in given:
        if config.agent not in (names := names_with(ARCHITECTURES, name)):
            raise ValueError(f"{option(name)} is not for --agent {config.agent}, but for {' and '.join(names)}.")
    parameters = inspect.signature(ARCHITECTURES[config.agent]).parameters
    if "num_heads" in parameters:
        hidden_size, num_heads = (given.get(x, parameters[x].default) for x in ("hidden_size", "num_heads"))
        if hidden_size % (2 * num_heads):
            raise ValueError(
                f"--hidden-size must be a multiple of twice --num-heads, {2 * num_heads}, not {hidden_size}."
            )
    return given


def make_agent(config: Config, process: InteractionProcess) -> AbstractLearnedAgent:
    """Return the untrained agent; it reads continuous values normalised by the expert's episodes."""
    key = keys(config)["agent"]
    architecture: Any = ARCHITECTURES[config.agent]
    agent = architecture(process, **sizes(config), key=key)
    if any(map(is_continuous, agent.specs)):
        size = {"num_episodes": EPISODES_FOR_UNITS, "executor": "expert"}
        agent = normalise(agent, rollout(process, None, key=jax.random.fold_in(key, 1), **size))
    return agent


def make_teaching(config: Config) -> Teaching:
    """Return the teaching of a run.

    Raises:
        ValueError: its options do not fit together.
    """
    options = ("expert_share", "per", "target", "observation_weight")
    taken = [name for name in options if config.teaching in names_with(TEACHINGS, name)]
    return TEACHINGS[config.teaching](**{name: getattr(config, name) for name in taken})


def _stored_config(run: RunDirectory, args: Sequence[str], given: Train) -> Config:
    """Return the stored options; raise `UsageError` if an option on the command line differs from them."""
    flags = dict.fromkeys(("resume", "json", "tensorboard", "distributed"), False)
    stored = dataclasses.replace(given, config=run.config, **flags)
    merged = tyro.cli(Train, args=args, default=stored, config=(tyro.conf.FlagCreatePairsOff,)).config
    for field in dataclasses.fields(Config):
        want, have = getattr(merged, field.name), getattr(run.config, field.name)
        if want != have:
            raise UsageError(
                f"{option(field.name)} {want} contradicts {run.config_file}, which says {have}: "
                "leave it out to resume, or use another --out."
            )
    return run.config
