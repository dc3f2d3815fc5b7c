"""The command line: parse a command, run it, and turn its errors into messages and exit codes."""

import contextlib
import difflib
import importlib
import os
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, get_args

import tyro

from undelude._cli.console import make_console
from undelude._cli.encoding import replacing
from undelude._cli.errors import CommandError, ExitCode, UsageError, explain
from undelude._cli.inspect_options import Inspect
from undelude._cli.offline_options import Offline
from undelude._cli.options import Call, Certify, Check, Export, Measure, Paper, Play, Report, Tasks, Train
from undelude._cli.streams import open_closed_streams
from undelude._cli.suite_options import Suite
from undelude._errors import users_line
from undelude._named_tasks import SETTINGS
from undelude._runs.config import Config
from undelude._runs.errors import RunError
from undelude._user_code import UnknownNameError, UserCodeError

# tyro joins lines that begin with a letter and does not wrap long lines.
DESCRIPTION = """Train agents that do not mistake their own actions for evidence.

A first run, about a minute on two cores:
  undelude train bandit --out runs/bandit

undelude --version prints the version.

Exit codes:
  0 done, 1 failed, 2 wrong usage, 130 interrupted by Ctrl-C, 143 by SIGTERM

Environment:
  UNDELUDE_DEBUG=1       show the traceback of an error, and what XLA says
  JAX_NUM_CPU_DEVICES    number of cores that share a batch; all by default
  XDG_CACHE_HOME         folder for compiled programs, in undelude/jax;
                         ~/.cache by default
"""

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Certify, tyro.conf.subcommand("certify")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Tasks, tyro.conf.subcommand("tasks")]
    | Annotated[Check, tyro.conf.subcommand("check")]
    | Annotated[Play, tyro.conf.subcommand("play")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Measure, tyro.conf.subcommand("measure")]
    | Annotated[Offline, tyro.conf.subcommand("offline")]
    | Annotated[Suite, tyro.conf.subcommand("suite")]
    | Annotated[Paper, tyro.conf.subcommand("paper")]
)
NAMES = [conf.name for _, conf in map(get_args, get_args(Command))]


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; the console script `undelude` calls this.

    Args:
        args: the arguments; by default those of the process.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.
    """
    open_closed_streams()
    with replacing(sys.stdout, sys.stderr):
        code = _run(list(sys.argv[1:] if args is None else args))
    if args is None and (code != ExitCode.OK or _is_one_of_several()):
        # End at once: threads that run XLA's programs would crash during Python's shutdown, and one of several
        # processes would wait for the others, which may be waiting for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(args: list[str]) -> int:
    started = time.perf_counter()
    try:
        if args == ["--version"]:
            print(f"undelude {version('undelude')}")
            return int(ExitCode.OK)
        _check_command(args)
        command = _parse(args)
        command.check()
        # Before JAX is imported: XLA's alarms, such as that a program compiles slowly, ask for bug reports to XLA.
        if not os.environ.get("UNDELUDE_DEBUG"):
            os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        name = type(command).__name__.lower()
        code = importlib.import_module(f"undelude._cli.{name}").run(
            command, Call(args[args.index(name) + 1 :], started)
        )
        sys.stdout.flush()
        return int(code)
    except SystemExit as exit:  # tyro has printed the error or the help.
        return int(exit.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted.", ExitCode.INTERRUPTED)
    except CommandError as error:
        return _fail(str(error), error.code)
    except (RunError, UnknownNameError) as error:
        return _fail(str(error), ExitCode.USAGE)
    except UserCodeError as error:
        return _fail(f"{error}: {explain(error.__cause__ or error)}", ExitCode.FAILED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not users_line(error):
            # The reader of stdout has gone, as after `| head`: discard the rest of the output.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(ExitCode.FAILED)
        return _fail(explain(error), ExitCode.FAILED)


def _parse(args: list[str]) -> Command:
    """Return the command.

    The help of `undelude train TASK` shows the settings of the task as defaults. With --resume, TASK may be left out.
    """
    flags = (tyro.conf.FlagCreatePairsOff,)
    if args[:1] == ["train"]:
        task = next((x for x in args if x in SETTINGS), None)
        asks_help = bool({"-h", "--help"} & {*args})
        config = Config(task, **SETTINGS[task]) if task and asks_help else Config("") if "--resume" in args else None
        if config is not None:
            default = Train(config, out=Path())
            object.__setattr__(default, "out", tyro.MISSING)  # Required, and no path.
            rest = ["--help"] if asks_help else args[1:]
            return tyro.cli(Train, prog="undelude train", args=rest, default=default, config=flags)
    return tyro.cli(Command, prog="undelude", description=DESCRIPTION, args=args, config=flags)


def _check_command(args: list[str]) -> None:
    if args and not args[0].startswith("-") and args[0] not in NAMES:
        near = difflib.get_close_matches(args[0], NAMES, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(NAMES)}."
        raise UsageError(f"there is no command {args[0]!r}. {hint}")


def _fail(message: str, code: ExitCode) -> int:
    if os.environ.get("UNDELUDE_DEBUG"):
        traceback.print_exc()
    label = "undelude"
    if "jax" in sys.modules:  # Without JAX, this process cannot be one of several.
        from undelude._cli import distributed

        if _is_one_of_several():
            distributed.claim_last_message()
        label = distributed.label()
    make_console(stderr=True).print(f"{label}: {message}", soft_wrap=True)
    return int(code)


def _is_one_of_several() -> bool:
    """Return whether this process is one of several that train together."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()
