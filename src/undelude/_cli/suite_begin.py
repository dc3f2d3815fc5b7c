"""The results with which `undelude suite run` begins: none, or with --resume those of an interrupted run."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

from undelude._cli.errors import UsageError
from undelude._cli.suite_options import RunSuite, chosen
from undelude._suite.contestants import EXACT, Contestant
from undelude._suite.definitions import digest
from undelude._suite.leaderboard import other_origin, stored_baselines
from undelude._suite.results import Result, TaskResult, read_result
from undelude._versioned_tasks import SUITE, VersionedTask
from undelude._versions import versions


def begin(options: RunSuite, contestant: Contestant, file: Path) -> Result:
    """Return the results so far: those of an interrupted run with --resume, or none."""
    name, seed = options.name or contestant.name, contestant.seed if options.seed is None else options.seed
    if contestant.seed is not None and seed != contestant.seed:
        raise UsageError(f"--seed {seed} contradicts the run, whose seed is {contestant.seed}: leave it out.")
    if contestant.source.startswith(EXACT) and seed is not None:
        raise UsageError(f"{contestant.source} is not trained, and has no --seed: leave it out.")
    if len(name) > 80:
        raise UsageError(f"the name {name!r} is longer than 80 characters: give a shorter one with --name.")
    fresh = Result(name, contestant.source, seed, options.about, today(), versions(), {})
    for stored in stored_baselines():
        if stored.agent == name and (other := other_origin(fresh, stored)):
            raise UsageError(
                f"{name!r} is the name of a stored baseline, and this is another agent or seed ({other}): use another "
                "--name."
            )
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        return fresh
    before = _read(file, resume=options.resume)
    for what in ("source", "seed", "agent"):
        if (have := getattr(before, what)) != (want := getattr(fresh, what)):
            instead = f"--name {shlex.quote(str(have))}, or " if what == "agent" else ""
            raise UsageError(f"{file} has {what} {have!r}, and this command has {want!r}: use {instead}another --out.")
    if not options.resume:
        raise UsageError(f"{file} exists already: use --resume to go on with it, or another --out.")
    if options.about and options.about != before.about:
        raise UsageError(
            f"{file} has the sentence --about {shlex.quote(before.about)}, which --resume keeps: leave --about out, or "
            "use another --out."
        )
    for task in chosen(options.tasks):
        stored, asked = before.tasks.get(task.id), options.num_episodes or task.num_episodes
        if stored is not None and stored.status == "played" and stored.num_episodes != asked:
            raise UsageError(
                f"{file} has {task.id} on {stored.num_episodes} episodes, and this command asks for {asked}: use "
                "another --out, so that nothing measured is lost."
            )
    if before.versions != fresh.versions:
        changed = [x for x in fresh.versions if before.versions.get(x) != fresh.versions[x]]
        raise UsageError(
            f"{file} was begun with other versions of {', '.join(changed) or 'libraries'}: use another --out, so that "
            "one file has one set of versions."
        )
    _check_same_agent(file, before, contestant)
    return before


def _read(file: Path, *, resume: bool) -> Result:
    """Return the results in a file; raise `UsageError` if there are none and the user did not say that there are."""
    try:
        return read_result(file)
    except ValueError as error:
        if resume:
            raise
        raise UsageError(f"{file} exists already, and is not a file of results: use another --out.") from error


def _check_same_agent(file: Path, before: Result, contestant: Contestant) -> None:
    """Raise `UsageError` if a task that is done was measured on another agent than the present one of this name."""
    for name, stored in before.tasks.items():
        now = contestant.measured(SUITE[name])
        if not is_done(stored, SUITE[name]) or stored.measured == now.digest:
            continue
        if stored.measured is None:
            what = f"{file} does not say on which state of {now.of} {name} was measured"
        elif now.digest is None:
            what = f"{file} has {name}, measured on {now.of}, which has no agent now"
        else:
            what = (
                f"{now.of} has changed since {name} in {file} was measured (digest {stored.measured} then, "
                f"{now.digest} now)"
            )
        raise UsageError(
            f"{what}, and one file has the results of one agent: use another --out; or remove {file} to measure all "
            "tasks again. It is left as it is."
        )


def is_done(found: TaskResult | None, task: VersionedTask) -> bool:
    """Return whether a stored result is of this definition; a task not run is tried again.

    Its number of episodes is that of this command: `begin` has refused another.
    """
    return found is not None and found.status != "not run" and found.definition == digest(task)


def today() -> str:
    """Return the date of today, `2026-01-31`."""
    return datetime.now(UTC).date().isoformat()
