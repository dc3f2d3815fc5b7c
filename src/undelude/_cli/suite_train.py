"""The command `undelude suite train`: one recipe on every task of the suite."""

import dataclasses
from pathlib import Path
from typing import Any

from undelude._cli import train
from undelude._cli.console import make_console
from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._cli.options import Call, Train
from undelude._cli.suite_options import TrainSuite, chosen
from undelude._named_tasks import SETTINGS
from undelude._runs.config import SIZES, Config, difference, option
from undelude._runs.directory import RunDirectory
from undelude._runs.layout import is_run, seed_folder
from undelude._suite.contestants import runs_in, seeds_in
from undelude._versioned_tasks import VersionedTask

# Settings of the tasks of the suite that `undelude train` does not know by name.
RECIPES: dict[str, dict[str, Any]] = {
    "parking": {"hidden_size": 32, "steps": 600, "batch_size": 64, "learning_rate": 0.01, "observation_weight": 0.1},
}
# Options that the command line may change on every task.
GIVEN = ("hidden_size", "steps", "learning_rate")


def run(options: TrainSuite, call: Call) -> ExitCode:
    """Run the command."""
    _check_seeds(options)
    progress = make_console(stderr=True)
    tasks = [task for task in chosen(options.tasks) if task.missing is None]
    for task in chosen(options.tasks):
        if task.missing is not None:
            progress.print(f"{task.id} is left out: it {task.missing}.", soft_wrap=True)
    if not tasks:
        raise CommandError("nothing was taught: each of these tasks needs an extra that is not installed.")
    for seed in range(options.seed, options.seed + options.num_seeds):
        folder = options.out if options.num_seeds == 1 else seed_folder(options.out, seed)
        for i, task in enumerate(tasks, 1):
            progress.print(f"{task.id}, seed {seed}, {i} of {len(tasks)}", soft_wrap=True)
            _train(config_of(task, options, seed), folder / task.short_id, task, options, call)
    make_console(stderr=False).print(
        f"Taught in {options.out}. Measure them: undelude suite run {options.out}", soft_wrap=True
    )
    return ExitCode.OK


def _check_seeds(options: TrainSuite) -> None:
    """Raise `UsageError` if the folder holds runs of one seed and the command asks for several, or the reverse."""
    if options.num_seeds == 1 and (seeds := seeds_in(options.out)):
        raise UsageError(
            f"{options.out} holds {', '.join(x.name for x in seeds)}, of a command with --num-seeds: repeat its "
            "--num-seeds, and its --seed if it had one, to go on; or use another --out for one seed."
        )
    if options.num_seeds > 1 and (runs := [*runs_in(options.out).values()]):
        seed = RunDirectory.open(runs[0]).config.seed
        raise UsageError(
            f"{options.out} holds runs of one seed, such as {runs[0]}: leave --num-seeds out to go on with them, or "
            f"use another --out. To add seeds, first move its tasks into {seed_folder(options.out, seed)}."
        )


def config_of(task: VersionedTask, options: TrainSuite, seed: int) -> Config:
    """Return the options of the run on one task: the settings of its recipe, and what the command line says."""
    settings = dict(RECIPES.get(task.recipe) or SETTINGS.get(task.recipe, {}))
    if options.agent != Config(task.id).agent:  # Sizes are those of the architecture that was measured.
        settings = {name: value for name, value in settings.items() if name not in SIZES}
    settings |= {name: value for name in GIVEN if (value := getattr(options, name)) is not None}
    return Config(task.id, agent=options.agent, teaching=options.teaching, seed=seed, **settings)


def check_same_recipe(out: Path, have: Config, want: Config) -> None:
    """Raise `UsageError`, naming the option, if the run in `out` has another recipe than this command."""
    if (name := difference(vars(have), vars(want))) is not None:
        raise UsageError(
            f"the run in {out} has {option(name)} {getattr(have, name)}, and this command {getattr(want, name)}: use "
            "another --out for another recipe."
        )


def _train(config: Config, out: Path, task: VersionedTask, options: TrainSuite, call: Call) -> None:
    """Train one run, unless it is finished."""
    resumes = is_run(out)
    if resumes:
        run = RunDirectory.open(out)
        check_same_recipe(out, run.config, config)
        if run.is_finished:
            make_console(stderr=True).print("  finished before", soft_wrap=True)
            return
    command = Train(config, out=out, resume=resumes)
    command.check()
    args = [config.task, "--out", str(out)]
    for field in dataclasses.fields(Config)[1:]:
        if (value := getattr(config, field.name)) is not None:
            args += [option(field.name), str(value)]
    try:
        train.carry_out(command, Call(args, call.started), certifies=False)
    except CommandError as error:
        what = str(error).partition(" To resume:")[0].rstrip(".")
        raise CommandError(f"{what}; the same command with --resume goes on.", error.code) from None
