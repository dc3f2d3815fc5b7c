"""`undelude train --distributed`: one run by several processes, of which process 0 alone writes and prints."""

import contextlib
import ctypes
import dataclasses
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax

from undelude._runs.config import Config, option
from undelude._runs.errors import CommandError, ExitCode, UsageError
from undelude._teaching import sharding as _distributed
from undelude._versions import versions

if TYPE_CHECKING:
    from undelude._cli.train import Train

# A process that is silent for as long, without having closed its connections, is given up. A heartbeat comes from a
# thread of its own: neither compiling nor writing delays it.
HEARTBEAT_SECONDS = 20
# How long the first process waits for the last one to be started.
START_SECONDS = 300
LOST = (
    "another process of this run has ended or cannot be reached, and none can go on without it; its own output may say "
    "why. Start all of them again, with --resume: they go on from the last checkpoint."
)
# How long the thread that prints the message has until the other one ends the process.
SAYING_SECONDS = 5
_ending = threading.Lock()
# The handler of SIGABRT, which must not be collected, and the file that it looks into.
_kept: list[Any] = []


def check_options(command: "Train") -> None:
    """Raise `UsageError` where the options of several processes do not go together."""
    address = (command.coordinator, command.num_processes, command.process_id)
    if not command.distributed:
        names = ("coordinator", "num_processes", "process_id")
        for name, value in zip(names, address, strict=True):
            if value is not None:
                raise UsageError(f"{option(name)} is for --distributed: add that.")
        return
    if command.num_seeds != 1:
        raise UsageError(
            "--num-seeds is not for --distributed: seeds have nothing to exchange. Start a command for each --seed."
        )
    if any(x is None for x in address) != all(x is None for x in address):
        raise UsageError(
            "--coordinator, --num-processes and --process-id go together; Slurm, Open MPI and Kubernetes need none."
        )
    if command.coordinator is not None and command.num_processes is not None and command.process_id is not None:
        host, _, port = command.coordinator.rpartition(":")
        if not (host and port.isdecimal()):
            raise UsageError(f"--coordinator must be HOST:PORT of process 0, not {command.coordinator}.")
        if not 0 <= command.process_id < command.num_processes:
            raise UsageError(
                f"--process-id must be from 0 to --num-processes - 1, not {command.process_id} of "
                f"{command.num_processes}."
            )


def join(command: "Train") -> None:
    """Wait for all processes, and check that they were started with the same options.

    Raises:
        CommandError: they do not find each other.
        UsageError: they were not; the message names what differs.
    """
    # With it, JAX would take the termination that a scheduler asks for as a mere notice.
    jax.config.update("jax_enable_preemption_service", False)
    _catch_abort()
    try:
        jax.distributed.initialize(
            command.coordinator,
            command.num_processes,
            command.process_id,
            initialization_timeout=START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            cluster_detection_method="deactivate" if command.coordinator else None,
        )
    except ValueError as error:
        raise UsageError(
            "--distributed finds neither Slurm, Open MPI nor Kubernetes here: give --coordinator HOST:PORT, "
            "--num-processes and --process-id."
        ) from error
    except RuntimeError as error:
        raise CommandError(f"the processes do not find each other: {error}") from error
    settings = dataclasses.asdict(command.config) | {"resume": command.resume}
    mine = {option(name): value for name, value in settings.items()} | versions()
    first, *others = map(json.loads, _distributed.gather(json.dumps(mine)))
    for i, other in enumerate(others, 1):
        for name, value in first.items():
            if other.get(name) != value:
                raise UsageError(
                    f"{name} is {other.get(name)} in process {i}, and {value} in process 0: "
                    "start all with the same options and versions."
                )


def is_first() -> bool:
    """Whether this process writes and prints; where there is one, it does."""
    return jax.process_index() == 0


def from_first(config: Config | None) -> Config:
    """The options as process 0, which alone can read those of a run that is resumed, has them."""
    return Config(**json.loads(_distributed.gather(json.dumps(config and dataclasses.asdict(config)))[0]))


def leave() -> None:
    """All part in peace; process 0 then goes on alone, with its own devices."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


@contextlib.contextmanager
def losses_named() -> Iterator[None]:
    """Where another process is lost while the block runs, say so."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # The one from a program, the other from a gathering.
        if jax.distributed.is_initialized() and any(name in str(error).lower() for name in ("gloo", "nccl")):
            raise CommandError(LOST) from error
        raise


def have_the_last_word() -> None:
    """Go on only in the thread that is first to say why this process ends: a loss is noticed in two ways at a time."""
    if not _ending.acquire(blocking=False):
        time.sleep(SAYING_SECONDS)
        os._exit(ExitCode.FAILED)


def label() -> str:
    """What errors begin with: those of another process than the first say of which."""
    process = jax.process_index() if jax.distributed.is_initialized() else 0
    return f"undelude, process {process}" if process else "undelude"


def _catch_abort() -> None:
    """Have one line said where JAX aborts, as it does when it loses a process, and nothing else that C++ prints.

    A handler of Python's own would run when its main thread comes back, which is too late: this is one of C. What C++
    prints, on stdout too, goes to a file, unless UNDELUDE_DEBUG=1 wants to see it.
    """
    if _kept:
        return
    log = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the process lives
    if not os.environ.get("UNDELUDE_DEBUG"):
        for name, number in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            stream.flush()
            own = open(os.dup(number), "w", encoding=stream.encoding, errors=stream.errors, buffering=1)  # noqa: SIM115 - so too
            os.dup2(log.fileno(), number)
            setattr(sys, name, own)

    def handle(_: int) -> None:
        said = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
        # Where the connection to process 0, or a heartbeat, is missing.
        what = LOST if "distributed service" in said else "JAX aborted. UNDELUDE_DEBUG=1 shows what it says."
        have_the_last_word()
        sys.stderr.write(f"{label()}: {what}\n")
        sys.stderr.flush()
        os._exit(ExitCode.FAILED)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    _kept.extend([log, handler])
