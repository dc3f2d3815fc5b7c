"""The command `undelude offline fit`."""

import contextlib
import dataclasses
import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from undelude import offline
from undelude._cli import backend, distributed
from undelude._cli.console import make_console, working
from undelude._cli.errors import ExitCode, UsageError
from undelude._cli.interrupts import Interrupts
from undelude._cli.offline_options import (
    COLUMNS,
    FIT,
    REQUIRED,
    SETTINGS,
    STARTS,
    WHERE,
    FitLogs,
    check_fit_begun,
    check_free,
    counts,
    flag,
    last,
)
from undelude._cli.options import Call
from undelude._files import read_json, write_atomically
from undelude._teaching.sharding import gather
from undelude._user_code import UserCodeError, import_object
from undelude.offline._fitting.result import size_notes
from undelude.offline._model.spec import layout
from undelude.offline._saving.as_json import from_json, to_json
from undelude.offline._saving.fit_files import check_may_save

# Endings of CSV files, and of text files that are read as such if they are named; all others are Parquet.
CSV = tuple(f"{text}{packed}" for text in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".zst"))
TEXT = (".txt",)
RESTORE = "Restore it from a copy, or fit the logs again with another --out."


def run(options: FitLogs, call: Call) -> ExitCode:
    """Run the command."""
    cluster = distributed.Cluster(options.coordinator, options.num_processes, options.process_id, options.join_timeout)
    if not options.distributed:
        cluster.check_unused()
        return _lead(options, call)
    cluster.check()
    backend.configure(batch_size=1, num_processes=options.num_processes or 1)
    with distributed.name_lost_process():
        cluster.join(_declared(options) | {"resume": options.resume})
        return _lead(options, call) if distributed.is_first() else _follow(options)


def _lead(options: FitLogs, call: Call) -> ExitCode:
    """Fit, write and print."""
    if options.distributed:
        check_fit_begun(options.out) if options.resume else check_free(options.out)
    stored = read_settings(options.out) if options.resume else None
    if stored is not None:
        options = _as_stored(options, stored, call.args)
    console = make_console(stderr=True)
    if (options.out / FIT).exists():
        gather("")
        distributed.leave()
        print_fit(make_console(stderr=False), offline.load(options.out), options.out)
        return ExitCode.OK
    backend.configure(batch_size=1)
    files = [str(Path(x).expanduser().absolute()) for x in options.logs] if stored is None else stored["files"]
    with working(console, "reading the logs"):
        demos = read_logs(files, options)
    console.print(demos.summary(), soft_wrap=True)
    if options.time is None and not demos.notes:
        console.print("No time column (--time): rows are taken in the order of the files.", soft_wrap=True)
    if unused := unused_columns(files, options):
        console.print(f"Not used: {', '.join(unused)}.", soft_wrap=True)
    spec = make_spec(options, demos) if stored is None else from_json(stored["spec"])
    check_may_save(spec)  # Before anything is written.
    if layout(spec, demos).reward is None:
        console.print("No column is the reward (--reward): no page will say what an agent earns.", soft_wrap=True)
    content = {"options": _declared(options), "files": list(files), "spec": to_json(spec)}
    if stored is None:
        _begin(options.out, content)
    gather(json.dumps(content))
    interrupts = Interrupts()
    try:
        with interrupts, fitting_progress(console) as advance:
            fit = _fit(options, demos, spec, on_progress=advance, checkpoint=options.out / STARTS)
            distributed.leave()
            with interrupts.held():
                offline.save(fit, options.out)
    except KeyboardInterrupt:
        command = f"undelude offline fit --out {shlex.quote(str(options.out))} --resume"
        raise interrupts.error(f"the starts so far are in {options.out}. To resume:\n  {command}") from None
    except Exception:
        if stored is None:
            _discard(options.out)
        raise
    shutil.rmtree(options.out / STARTS, ignore_errors=True)
    print_fit(make_console(stderr=False), fit, options.out, size_notes(fit, demos))
    return ExitCode.OK


def _follow(options: FitLogs) -> ExitCode:
    """Fit together with process 0, from its options; write and print nothing."""
    if told := gather("")[0]:
        content = json.loads(told)
        options = stored_options(options.out, content)
        _fit(options, read_logs(content["files"], options), from_json(content["spec"]))
    distributed.leave()
    return ExitCode.OK


def _fit(options: FitLogs, demos: "offline.Demos", spec: "offline.LatentSpec", **others: Any) -> "offline.Fit":
    return offline.fit(
        demos,
        spec,
        key=jax.random.key(options.seed),
        starts=options.starts,
        imitate=_level(options.imitate, demos),
        held_out=options.held_out,
        **others,
    )


def _declared(options: FitLogs) -> dict[str, Any]:
    """Return the options that decide the fit, as they are in JSON."""
    return json.loads(json.dumps({name: x for name, x in dataclasses.asdict(options).items() if name not in WHERE}))


def read_settings(folder: Path) -> dict[str, Any]:
    """Return the content of `settings.json`.

    Raises:
        UsageError: the fit was saved from Python, so that its folder does not say where the logs are.
        ValueError: it is damaged.
    """
    file = folder / SETTINGS
    if not file.exists():
        raise UsageError(
            f"{folder} has no {SETTINGS}, as after offline.save in Python, and so does not say what the columns of the "
            "logs are: use offline.diagnose(offline.load(...), demos) there, or fit the logs with undelude offline fit."
        )
    content = read_json(file, remedy=RESTORE)
    hints = {"options": dict, "files": list, "spec": dict}
    for name, kind in hints.items():
        if not isinstance(content.get(name), kind):
            raise ValueError(f"{file} is damaged: {name!r} is missing, or of another type. {RESTORE}")
    for name in REQUIRED:
        if not content["options"].get(name):
            raise ValueError(f"{file} is damaged: {flag(name)} is missing. {RESTORE}")
    if not all(isinstance(x, str) for x in content["files"]):
        raise ValueError(f"{file} is damaged: 'files' must be names. {RESTORE}")
    return content


def stored_options(folder: Path, content: dict[str, Any]) -> FitLogs:
    """Return the options of a fit."""
    fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in content["options"].items()}
    try:
        return FitLogs(**fields, out=folder)
    except TypeError as error:
        raise ValueError(f"{folder / SETTINGS} is damaged: {error}. {RESTORE}") from error


def _as_stored(options: FitLogs, content: dict[str, Any], args: Sequence[str]) -> FitLogs:
    """Return the stored options; an option of the command line that differs is an error."""
    stored = dataclasses.replace(stored_options(options.out, content), resume=False)
    given = tyro.cli(FitLogs, args=list(args)[1:], default=stored, config=(tyro.conf.FlagCreatePairsOff,))
    for field in dataclasses.fields(FitLogs):
        want, have = getattr(given, field.name), getattr(stored, field.name)
        if field.name not in WHERE and want != have:
            raise UsageError(
                f"{'LOGS' if field.name == 'logs' else flag(field.name)} {want!r} contradicts "
                f"{options.out / SETTINGS}, which says {have!r}: leave it out to resume, or use another --out."
            )
    return stored


def read_logs(files: Sequence[str], options: FitLogs) -> "offline.Demos":
    """Return the demonstrations in files."""
    columns: dict[str, Any] = {name: getattr(options, name) for name in COLUMNS}
    if pairs := [x for x in options.opening if "=" in x]:
        if len(pairs) < len(options.opening):
            raise UsageError("--opening takes names of observations, or observation=column for each of them.")
        columns["opening"] = dict(x.split("=", 1) for x in pairs)
    read = offline.Demos.from_csv if _kind(files) == "csv" else offline.Demos.from_parquet
    return read(list(files), **columns)


def unused_columns(files: Sequence[str], options: FitLogs) -> list[str]:
    """Return the columns of the files that no option names."""
    from undelude.offline._data.frames import column_names

    named = [getattr(options, name) for name in COLUMNS]
    used = {x for names in named for x in ([names] if isinstance(names, str) else names or ())}
    used |= {x.split("=", 1)[1] for x in options.opening if "=" in x}
    return [name for name in column_names(files, _kind(files)) if name not in used]


def _kind(files: Sequence[str]) -> Literal["csv", "parquet"]:
    kinds = {_is_csv(Path(file)) for file in files}
    if len(kinds) > 1:
        raise UsageError("LOGS are CSV and Parquet files: give one kind, since a fit reads one.")
    return "csv" if kinds == {True} else "parquet"


def _is_csv(file: Path) -> bool:
    if file.is_dir():
        return not any(x.suffix in (".parquet", ".pq") for x in file.rglob("*")) and any(
            x.name.endswith(CSV) for x in file.rglob("*")
        )
    return file.name.endswith((*CSV, *TEXT))


def make_spec(options: FitLogs, demos: "offline.Demos") -> "offline.LatentSpec":
    """Return what the options declare."""
    if options.spec is not None:
        found = import_object(options.spec, kind="spec")
        if callable(found):
            try:
                found = found()
            except (Exception, SystemExit) as error:
                raise UserCodeError("spec", options.spec) from error
        if not isinstance(found, offline.LatentSpec):
            raise TypeError(f"{options.spec} is a {type(found).__name__}; it must be a ud.offline.LatentSpec.")
        return found
    latents: list[Any] = [offline.Episode(counts("--K", options.K))]
    if options.markov is not None:
        latents.append(offline.Markov(counts("--markov", options.markov)))
    columns = demos.observations | demos.hidden
    if unknown := [name for name in options.tied if name not in columns]:
        raise UsageError(f"--tied names {unknown[0]!r}, which is not an observation; there are {[*columns]}.")
    pasts = [_given("--observation-given", x) for x in options.observation_given]
    task = []
    for name, column in columns.items():
        mechanism = offline.Table if column.finite else offline.Gaussian
        task.append(mechanism(name, ["action", *pasts], tied=name in options.tied))
    memory = [_given("--expert-given", x) for x in options.expert_given]
    expert = offline.Table(given=memory) if demos.action.finite else offline.Gaussian(given=memory)
    return offline.LatentSpec(latents, expert, task, reward=options.reward)


def _given(option: str, text: str) -> "offline.Last | str":
    found = last(option, text)
    return found if isinstance(found, str) else offline.Last(*found)


def _level(text: str | None, demos: "offline.Demos") -> Any:
    """Return the demonstrator whose name is `text`, or the text if there is none."""
    levels = demos.demonstrator.levels or () if demos.demonstrator is not None else ()
    return next((x for x in levels if str(x) == text), text)


def _begin(out: Path, content: dict[str, Any]) -> None:
    """Write `settings.json` into a new folder."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the folder {out} cannot be made ({error.strerror}): use another --out.") from error
    write_atomically(out / SETTINGS, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def _discard(folder: Path) -> None:
    """Delete a fit that failed before it kept any start, so that the corrected command can use the same folder."""
    if any((folder / STARTS).glob("*.safetensors")):
        return
    (folder / SETTINGS).unlink(missing_ok=True)
    for empty in (folder / STARTS, folder):
        with contextlib.suppress(OSError):  # It is not empty, or not there.
            empty.rmdir()


@contextlib.contextmanager
def fitting_progress(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar of the starts that have ended, or print lines if the output is not a terminal."""
    started = time.perf_counter()
    if not console.is_terminal:
        before: list[Any] = [None, -1]

        def lines(done: int, runs: int, latent: str) -> None:
            if (now := [(latent, runs), 10 * done // runs]) != before:
                before[:] = now
                seconds = time.perf_counter() - started
                console.print(f"{latent}: {done} of {runs} starts have ended, {seconds:.1f} s", soft_wrap=True)

        console.print("compiling, then fitting ...", soft_wrap=True)
        yield lines
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, expand=True) as progress:
        task = progress.add_task("compiling", total=None)

        def advance(done: int, runs: int, latent: str) -> None:
            progress.update(task, description=f"{latent}: starts", completed=done, total=runs)

        yield advance


def print_fit(console: Console, fit: "offline.Fit", folder: Path, notes: Sequence[str] = ()) -> None:
    """Print the table of candidates, notes on it, and the command that comes next."""
    console.print(str(fit), soft_wrap=True)
    for note in notes:
        console.print(f"Note: {note}.", soft_wrap=True)
    columns = {"the action": fit.columns.action, **fit.columns.observations}
    reals = [name for name, column in columns.items() if not column.finite]
    if reals:
        console.print(
            f"The fit is in {folder}. It says nothing yet about identification, and `undelude offline diagnose` "
            f"cannot: it has no bounds if {' and '.join(reals)} are real numbers. Bin the column and fit again, or use "
            "offline.diagnose with probes= in Python.",
            soft_wrap=True,
        )
        return
    console.print(f"The fit is in {folder}. It says nothing yet about identification:", soft_wrap=True)
    console.print(f"  undelude offline diagnose {shlex.quote(str(folder))}", soft_wrap=True)
