"""Several processes for one run, `undelude train --distributed`; only process 0 writes and prints."""

import contextlib
import ctypes
import dataclasses
import json
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax

from undelude._cli.console import make_console
from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._cli.meeting import Address, Meeting, difference
from undelude._runs.config import Config, option
from undelude._runs.config_file import numerics
from undelude._teaching.sharding import gather
from undelude._versions import versions

# Seconds without a heartbeat after which a process counts as lost. Heartbeats come from a separate thread, so that
# neither compiling nor writing delays them.
HEARTBEAT_SECONDS = 20
# Seconds that a process waits for the others to start, unless --join-timeout says otherwise.
JOIN_SECONDS = 300.0
# Seconds that JAX has to connect processes that are there.
CONNECT_SECONDS = 60
LOST = (
    "another process of this run has ended or cannot be reached, and this one cannot go on without it; the output of "
    "that process may say why. Start all of them again with --resume: they continue from the last checkpoint."
)
# Seconds for one thread to print its message before another thread ends the process.
MESSAGE_SECONDS = 5
_ending = threading.Lock()
# Seconds after which a process says that it waits.
MOMENT_SECONDS = 2
# The log file and the handler of SIGABRT, kept alive for as long as the process lives.
_kept: list[Any] = []
# Message of a process that misses another one, by stage.
_missing = LOST
# The index of this process.
_index = 0


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The processes of one run, as the options of the command line describe them.

    Attributes:
        coordinator: `HOST:PORT` of process 0; None under Slurm, Open MPI and Kubernetes, which JAX detects.
        num_processes: number of processes.
        process_id: index of this process.
        join_timeout: seconds to wait for the other processes.
    """

    coordinator: str | None
    num_processes: int | None
    process_id: int | None
    join_timeout: float | None = None

    def check_unused(self) -> None:
        """Raise `UsageError` if an option is given that needs --distributed."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) is not None:
                raise UsageError(f"{option(field.name)} is for --distributed: add that.")

    def check(self) -> None:
        """Raise `UsageError` if the options do not fit together."""
        missing = [x is None for x in (self.coordinator, self.num_processes, self.process_id)]
        if any(missing) != all(missing):
            raise UsageError(
                "--coordinator, --num-processes and --process-id go together; Slurm, Open MPI and Kubernetes need none."
            )
        if not 0 < self._timeout < math.inf:
            raise UsageError(f"--join-timeout must be a positive number of seconds, not {self._timeout:g}.")
        if self.coordinator is not None and self.num_processes is not None and self.process_id is not None:
            Address.parse(self.coordinator)
            if not 0 <= self.process_id < self.num_processes:
                raise UsageError(
                    f"--process-id must be from 0 to --num-processes - 1, not {self.process_id} of "
                    f"{self.num_processes}."
                )

    @property
    def _timeout(self) -> float:
        return JOIN_SECONDS if self.join_timeout is None else self.join_timeout

    def join(self, settings: dict[str, Any]) -> None:
        """Wait for all processes, and check that all were started with the same settings and versions.

        Args:
            settings: the options of the run, by field name.

        Raises:
            CommandError: the processes do not find each other.
            UsageError: a setting or version differs between processes, or JAX detects no cluster.
        """
        global _index, _missing
        mine = {option(name): value for name, value in settings.items()} | versions() | numerics()
        timeout, bind = self._timeout, None
        if self.coordinator is not None and self.num_processes is not None and self.process_id is not None:
            _index = self.process_id
            address = Address.parse(self.coordinator)
            Meeting(address, self.num_processes, self.process_id, mine, timeout, _say).hold()
            timeout, bind = CONNECT_SECONDS, address.bind and str(Address(address.bind, address.port))
        # This service would turn a scheduler's SIGTERM into a mere notice.
        jax.config.update("jax_enable_preemption_service", False)
        _catch_abort()
        problem = f"not all processes were there within {timeout:g} s (--join-timeout): start all of them."
        _missing = problem
        try:
            with _waiting(timeout, problem):
                jax.distributed.initialize(
                    self.coordinator,
                    self.num_processes,
                    self.process_id,
                    initialization_timeout=math.ceil(timeout),
                    heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
                    coordinator_bind_address=bind,
                    cluster_detection_method="deactivate" if self.coordinator else None,
                )
                _index = jax.process_index()
        except ValueError as error:
            raise UsageError(
                "--distributed finds neither Slurm, Open MPI nor Kubernetes here: give --coordinator HOST:PORT, "
                "--num-processes and --process-id."
            ) from error
        except RuntimeError as error:
            raise CommandError(problem) from error
        _missing = LOST
        if why := _different_devices() or _difference(mine):
            leave()  # All processes come here, so that none takes the end of another for a loss.
            raise UsageError(why)


def _say(line: str) -> None:
    make_console(stderr=True).print(f"{label()}: {line}", soft_wrap=True)


def _different_devices() -> str | None:
    """Return which process has another number of devices than process 0, in words; None if there is none."""
    counts = Counter(device.process_index for device in jax.devices())
    for i in range(jax.process_count()):
        if counts[i] != counts[0]:
            return (
                f"process {i} has {counts[i]} devices, and process 0 has {counts[0]}: give all the same number; on "
                "CPUs, set JAX_NUM_CPU_DEVICES."
            )
    return None


def _difference(mine: dict[str, Any]) -> str | None:
    """Return the first difference between the settings of the processes, in words; None if there is none."""
    first, *others = map(json.loads, gather(json.dumps(mine)))
    found = (difference(first, other, i) for i, other in enumerate(others, 1))
    return next((x for x in found if x), None)


@contextlib.contextmanager
def _waiting(seconds: float, problem: str) -> Iterator[None]:
    """Say if the block takes longer than a moment, and end the process if it takes much longer than `seconds`.

    JAX waits in C++, which no signal ends.
    """

    def say() -> None:
        _say(f"waiting for the other processes, for at most {seconds:g} s (--join-timeout) ...")

    def end() -> None:
        claim_last_message()
        _say(problem)
        os._exit(ExitCode.FAILED)

    timers = [threading.Timer(MOMENT_SECONDS, say), threading.Timer(seconds + HEARTBEAT_SECONDS, end)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def is_first() -> bool:
    """Return whether this process writes and prints; a single process does."""
    return jax.process_index() == 0


def from_first(config: Config | None) -> Config:
    """Return the options of process 0, the only process that can read those of a resumed run."""
    return Config(**json.loads(gather(json.dumps(config and dataclasses.asdict(config)))[0]))


def leave() -> None:
    """Shut the cluster down; process 0 then goes on alone, with its own devices."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


@contextlib.contextmanager
def name_lost_process() -> Iterator[None]:
    """Raise `CommandError` if another process is lost while the block runs."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # From a compiled program, and from `gather`.
        if jax.distributed.is_initialized() and any(name in str(error).lower() for name in ("gloo", "nccl")):
            raise CommandError(LOST) from error
        raise


def claim_last_message() -> None:
    """Let only the first thread that calls this print its message: two threads may notice the same loss."""
    if not _ending.acquire(blocking=False):
        time.sleep(MESSAGE_SECONDS)
        os._exit(ExitCode.FAILED)


def label() -> str:
    """Return the prefix of error messages, with the index of the process unless it is process 0."""
    return f"undelude, process {_index}" if _index else "undelude"


def _catch_abort() -> None:
    """Print a one-line message if JAX aborts, as it does when it loses a process, and hide the output of C++.

    The handler must be a C function: Python would run its own only after control returns to the main thread, which is
    too late. Output of C++, on stdout too, goes to a temporary file unless UNDELUDE_DEBUG=1.
    """
    if _kept:
        return
    log = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process lives
    if not os.environ.get("UNDELUDE_DEBUG"):
        for name, number in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            stream.flush()
            copy = open(os.dup(number), "w", encoding=stream.encoding, errors=stream.errors, buffering=1)  # noqa: SIM115
            os.dup2(log.fileno(), number)
            setattr(sys, name, copy)

    def handle(_: int) -> None:
        output = os.pread(log.fileno(), 1 << 20, 0).decode(errors="replace")
        # JAX names this service if the connection to process 0 or a heartbeat is missing.
        message = _missing if "distributed service" in output else "JAX aborted. UNDELUDE_DEBUG=1 shows what it says."
        claim_last_message()
        sys.stderr.write(f"{label()}: {message}\n")
        sys.stderr.flush()
        os._exit(ExitCode.FAILED)

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
    libc = ctypes.CDLL(None)
    libc.signal.argtypes, libc.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(handler, ctypes.c_void_p))
    _kept.extend([log, handler])
