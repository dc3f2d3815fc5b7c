"""Runs of several seeds, `undelude train --num-seeds`, and confidence intervals over them."""

import dataclasses
import json as json_format
from collections.abc import Callable
from pathlib import Path
from typing import Any

from undelude._certificate.certificate import QUANTITIES
from undelude._certificate.replicates import interval
from undelude._cli.console import make_console
from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._cli.tables import print_intervals
from undelude._files import sweep, write_atomically
from undelude._runs import layout
from undelude._runs.config import Config, check_config
from undelude._runs.directory import RunDirectory


def run_seeds(
    config: Config,
    out: Path,
    train_seed: Callable[[Config, Path], RunDirectory],
    *,
    num_seeds: int,
    resume: bool,
    json: bool,
) -> ExitCode:
    """Train one agent per seed into `DIR/seed-0`, `DIR/seed-1`, ..., then write `DIR/seeds.json`.

    Args:
        config: options of the run with the first seed.
        out: `DIR`.
        train_seed: trains one agent with these options into this folder, or resumes the run in it.
        num_seeds: number of seeds.
        resume: whether `out` may hold runs already.
        json: whether to print the summary as JSON to stdout.
    """
    if num_seeds < 1:
        raise UsageError(f"--num-seeds must be at least 1, not {num_seeds}.")
    if layout.is_run(out):
        raise UsageError(f"{out} holds a run of one seed: use another --out, or leave --num-seeds out.")
    if out.exists() and not resume and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: use --resume to resume the runs in it, or another --out.")
    seeds = range(config.seed, config.seed + num_seeds)
    for folder in layout.seed_folders(out):
        if folder.is_symlink():
            raise UsageError(f"{folder} is a symbolic link: put the run itself there, or remove it.")
    try:
        check_config(dataclasses.replace(config, seed=seeds[-1]))
    except ValueError as error:
        raise UsageError(str(error)) from error
    console, certificates = make_console(stderr=json), []
    for i, seed in enumerate(seeds, 1):
        make_console(stderr=True).print(f"seed {seed}, {i} of {len(seeds)}")
        try:
            run = train_seed(dataclasses.replace(config, seed=seed), layout.seed_folder(out, seed))
        except CommandError as error:
            if error.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
                hint = f"the same command with --resume continues with seed {seed}"
                raise CommandError(f"{error.code.name.lower()}; {hint}.", error.code) from None
            raise
        certificates.append(run.read_certificate())
    summary = summarise(certificates, [*seeds])
    sweep(out / layout.SEEDS)
    write_atomically(out / layout.SEEDS, (json_format.dumps(summary, indent=2) + "\n").encode())
    if json:
        print(json_format.dumps(summary, indent=2))
    print_intervals(console, summary)
    console.print(f"Written to {out / layout.SEEDS}; each seed has its own page.", soft_wrap=True)
    return ExitCode.OK


def summarise(certificates: list[dict[str, Any]], seeds: list[int]) -> dict[str, Any]:
    """Return the content of `seeds.json`: mean, 95 % interval and values of each quantity that every seed has."""
    head = {name: certificates[0][name] for name in ("task", "agent", "teaching", "num_episodes")}
    quantities = {}
    for name in QUANTITIES:
        values = [certificate[name] for certificate in certificates]
        if all(isinstance(value, int | float) for value in values):
            quantities[name] = interval(values)._asdict()
    return {**head, "seeds": seeds, "versions": certificates[0]["versions"], "quantities": quantities}
