"""`undelude train --num-seeds`: a run for each seed, and intervals over them."""

import dataclasses
import json as json_format
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from undelude._certificate.certificate import QUANTITIES
from undelude._certificate.replicates import interval
from undelude._cli.console import make_console, print_intervals
from undelude._files import write_atomically
from undelude._runs.config import check_config
from undelude._runs.directory import SEEDS
from undelude._runs.errors import CommandError, ExitCode, UsageError

if TYPE_CHECKING:
    from undelude._cli.train import Train


def run_seeds(command: "Train", args: Sequence[str]) -> ExitCode:
    """Carry out a `train` of several seeds: `DIR/seed-0`, `DIR/seed-1`, ..., then `DIR/seeds.json`.

    Args:
        command: as it was given.
        args: the arguments after `train`.
    """
    if command.num_seeds < 1:
        raise UsageError(f"--num-seeds must be at least 1, not {command.num_seeds}.")
    if (command.out / "config.json").exists():
        raise UsageError(f"{command.out} holds a run of one seed: use another --out, or leave --num-seeds out.")
    if command.out.exists() and not command.resume and any(command.out.iterdir()):
        raise UsageError(f"{command.out} is not empty: use --resume to go on with what is there, or another --out.")
    seeds = range(command.config.seed, command.config.seed + command.num_seeds)
    try:
        check_config(dataclasses.replace(command.config, seed=seeds[-1]))
    except ValueError as error:
        raise UsageError(str(error)) from error
    console, certificates = make_console(stderr=command.json), []
    for i, seed in enumerate(seeds, 1):
        folder = command.out / f"seed-{seed}"
        make_console(stderr=True).print(f"seed {seed}, {i} of {len(seeds)}")
        one = dataclasses.replace(
            command,
            config=dataclasses.replace(command.config, seed=seed),
            out=folder,
            resume=(folder / "config.json").exists(),
        )
        try:
            run, _ = one.carry_out([*args, "--seed", str(seed), "--out", str(folder)])
        except CommandError as error:
            if error.code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
                again = f"the same command with --resume goes on with seed {seed}"
                raise CommandError(f"{error.code.name.lower()}; {again}.", error.code) from None
            raise
        certificates.append(run.read_certificate())
    summary = summarise(certificates, [*seeds])
    write_atomically(command.out / SEEDS, (json_format.dumps(summary, indent=2) + "\n").encode())
    if command.json:
        print(json_format.dumps(summary, indent=2))
    print_intervals(console, summary)
    console.print(f"Written to {command.out / SEEDS}; each seed has its page.", soft_wrap=True)
    return ExitCode.OK


def summarise(certificates: list[dict[str, Any]], seeds: list[int]) -> dict[str, Any]:
    """What `seeds.json` holds: for each quantity that every seed has, mean, 95 % interval over seeds, and values."""
    head = {name: certificates[0][name] for name in ("task", "agent", "teaching", "num_episodes")}
    quantities = {}
    for name in QUANTITIES:
        values = [certificate[name] for certificate in certificates]
        if all(isinstance(value, int | float) for value in values):
            quantities[name] = interval(values)._asdict()
    return {**head, "seeds": seeds, "versions": certificates[0]["versions"], "quantities": quantities}
