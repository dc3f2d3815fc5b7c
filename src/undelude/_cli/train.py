"""The command `undelude train`."""

import contextlib
import dataclasses
import inspect
import json as json_format
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import tyro
from rich.console import Console

from undelude._agents.networks.network import AbstractLearnedAgent
from undelude._agents.networks.normalise import is_continuous, normalise
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._cli import backend, distributed
from undelude._cli.console import make_console, print_seconds
from undelude._cli.errors import CommandError, ExitCode, UsageError, is_disk_full
from undelude._cli.interrupts import Interrupts
from undelude._cli.measurements import keys
from undelude._cli.options import NUM_EPISODES, Call, Train
from undelude._cli.seeds import run_seeds
from undelude._cli.session import UPDATES, Session, teach_run
from undelude._cli.tables import print_certificate
from undelude._named_tasks import SETTINGS
from undelude._process.host_world import World, closing
from undelude._rollout.rollout import rollout
from undelude._runs.checkpoints import updates_in
from undelude._runs.config import SIZES, Config, check_config, names_with, option
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


def run(options: Train, call: Call) -> ExitCode:
    """Run the command."""
    options = with_settings(options, call.args)
    cluster = distributed.Cluster(options.coordinator, options.num_processes, options.process_id, options.join_timeout)
    if not options.distributed:
        cluster.check_unused()
    if options.num_seeds != 1:
        if options.distributed:
            raise UsageError(
                "--num-seeds is not for --distributed: seeds have nothing to exchange. Start a command for each --seed."
            )
        return _run_seeds(options, call)
    if not options.distributed:
        return _lead(options, call)
    cluster.check()
    backend.configure(batch_size=_batch_size(options), num_processes=options.num_processes or 1)
    with distributed.name_lost_process():
        cluster.join(dataclasses.asdict(options.config) | {"resume": options.resume})
        return _lead(options, call) if distributed.is_first() else _follow()


def with_settings(options: Train, args: Sequence[str]) -> Train:
    """Return the options with the settings of the task in place of the defaults that the command line leaves."""
    task = options.config.task
    if task not in SETTINGS:
        return options
    settings = SETTINGS[task]
    if options.config.agent != Config(task).agent:  # Sizes are those of the architecture that was measured.
        settings = {name: value for name, value in settings.items() if name not in SIZES}
    return dataclasses.replace(options, config=_parse_with_defaults(options, args, Config(task, **settings)))


def _parse_with_defaults(given: Train, args: Sequence[str], config: Config) -> Config:
    """Return the options of the run in the arguments of the command, with others as their defaults."""
    flags = dict.fromkeys(("resume", "json", "tensorboard", "distributed"), False)
    default = dataclasses.replace(given, config=config, **flags)
    return tyro.cli(Train, args=args, default=default, config=(tyro.conf.FlagCreatePairsOff,)).config


def _run_seeds(options: Train, call: Call) -> ExitCode:
    def train_seed(config: Config, out: Path) -> RunDirectory:
        one = dataclasses.replace(options, config=config, out=out, resume=is_run(out))
        args = [*call.args, "--seed", str(config.seed), "--out", str(out)]
        run, _ = carry_out(one, Call(args, time.perf_counter()))
        return run

    return run_seeds(
        options.config, options.out, train_seed, num_seeds=options.num_seeds, resume=options.resume, json=options.json
    )


def _batch_size(options: Train) -> int:
    """Return the batch size, of a resumed run if this process can read it; JAX must know it before `join`."""
    if options.resume:
        with contextlib.suppress(RunError, ValueError, OSError):
            return RunDirectory.open(options.out).config.batch_size
    return options.config.batch_size


def _lead(options: Train, call: Call) -> ExitCode:
    """Run the command for one seed and print the results."""
    run, seconds = carry_out(options, call)
    certificate = run.read_certificate()
    if options.json:
        print(json_format.dumps(certificate, indent=2))
    console = make_console(stderr=options.json)
    print_certificate(console, certificate)
    print_seconds(console, seconds, total=time.perf_counter() - call.started)
    console.print(f"Page: {run.report_file}", soft_wrap=True)
    return ExitCode.OK


def carry_out(options: Train, call: Call, *, certifies: bool = True) -> tuple[RunDirectory, Mapping[str, float]]:
    """Train, certify and draw the page, each unless it is done; return the run and the seconds of each.

    Args:
        options: of the command.
        call: of the command.
        certifies: whether to do more than train.
    """
    progress = make_console(stderr=True)
    run = RunDirectory.open(options.out) if options.resume else None
    config = options.config if run is None else _stored_config(run, call.args, options)
    try:
        check_config(config)
        teaching = make_teaching(config)
        sizes(config)
    except ValueError as error:
        raise UsageError(str(error)) from error
    backend.configure(batch_size=config.batch_size)
    if run is not None:
        run.check_numerics()
        if config == run.config:  # A run that is made longer gets a new certificate.
            _check_num_episodes(run, options.num_episodes)
    process = make(config.task)  # The user named it on the command line.
    with closing(process):
        return _carry_out_on(process, config, run, options, call, teaching, progress, certifies=certifies)


def _carry_out_on(
    process: World,
    config: Config,
    run: RunDirectory | None,
    options: Train,
    call: Call,
    teaching: Teaching,
    progress: Console,
    *,
    certifies: bool,
) -> tuple[RunDirectory, Mapping[str, float]]:
    agent = make_agent(config, process)
    is_new = run is None
    run = run or RunDirectory.create(options.out, config)
    distributed.from_first(config)
    resume = f"To resume:\n  {run.resume_command}"
    interrupts = Interrupts()
    session = Session(
        run,
        config,
        process,
        agent,
        teaching,
        progress,
        interrupts,
        tensorboard=options.tensorboard,
        checkpoint_every=options.checkpoint_every,
        num_episodes=NUM_EPISODES if options.num_episodes is None else options.num_episodes,
        certifies=certifies,
        seconds={"starting": time.perf_counter() - call.started},
    )
    try:
        with run.locked(), interrupts:
            try:
                session.finish()
            except Exception:
                if is_new:
                    run.discard_if_empty()
                raise
    except KeyboardInterrupt:
        raise interrupts.error(f"the run so far is in {options.out}. {resume}") from None
    except Exception as error:
        if is_disk_full(error):
            last = max(updates_in(run.checkpoints_folder), default=0)
            then = resume if run.config_file.exists() else "Then repeat the command."
            kept = f"no space left on the disk of {options.out} (ENOSPC); the last saved update is {last}"
            raise CommandError(f"{kept}. Free some space. {then}") from error
        if isinstance(error, NotFinite) and run.agent_folder.exists():
            raise CommandError(
                f"{error} It is in {run.agent_folder}; undelude certify {options.out} measures it."
            ) from error
        raise
    return run, session.seconds


def _follow() -> ExitCode:
    """Make the updates together with process 0, from its options and state; write and print nothing."""
    config = distributed.from_first(None)
    with closing(make(config.task)) as process:
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
    parameters = inspect.signature(ARCHITECTURES[config.agent].load()).parameters
    if "num_heads" in parameters:
        hidden_size, num_heads = (given.get(x, parameters[x].default) for x in ("hidden_size", "num_heads"))
        if hidden_size % (2 * num_heads):
            raise ValueError(
                f"--hidden-size must be a multiple of twice --num-heads, {2 * num_heads}, not {hidden_size}."
            )
    return given


def make_agent(config: Config, process: World) -> AbstractLearnedAgent:
    """Return the untrained agent; it reads continuous values normalised by the expert's episodes."""
    key = keys(config)["agent"]
    architecture: Any = ARCHITECTURES[config.agent].load()
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
    named = TEACHINGS[config.teaching]
    taken = ("target", "observation_weight", *named.options)
    return named.load()(**{name: getattr(config, name) for name in taken})


def _check_num_episodes(run: RunDirectory, num_episodes: int | None) -> None:
    """Raise `UsageError` if the run has a certificate over another number of episodes."""
    if num_episodes is None or not run.certificate_file.exists():
        return
    if (measured := run.read_certificate()["num_episodes"]) != num_episodes:
        raise UsageError(
            f"--num-episodes {num_episodes} contradicts {run.certificate_file}, which measures {measured}: leave it "
            f"out, or measure again with undelude certify {run.path} --num-episodes {num_episodes}"
        )


def _stored_config(run: RunDirectory, args: Sequence[str], given: Train) -> Config:
    """Return the stored options, with more updates if the run is finished and the command line has more.

    Raises:
        UsageError: an option on the command line differs from the stored one.
    """
    merged = _parse_with_defaults(given, args, run.config)
    is_finished = run.is_finished
    for field in dataclasses.fields(Config):
        want, have = getattr(merged, field.name), getattr(run.config, field.name)
        if field.name == "steps" and want > have and is_finished:
            continue  # The run is made longer.
        if want != have:
            longer = ""
            if field.name == "steps" and is_finished:
                longer = f" To make the run longer, use --resume --steps N with N above {have}."
            elif field.name == "steps" and want > have:
                longer = " A run can be made longer once it is finished, with --resume --steps N."
            raise UsageError(
                f"{option(field.name)} {want} contradicts {run.config_file}, which says {have}: "
                f"leave it out to resume, or use another --out.{longer}"
            )
    return dataclasses.replace(run.config, steps=merged.steps)
