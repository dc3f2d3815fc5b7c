"""The meeting of the processes of one run, before JAX connects them.

JAX's own start says nothing while it waits, and ends some processes with a stack. So every process first connects to
the coordinator's port, where process 0 listens, and says in one line of JSON how it was started. Process 0 answers
each in one line: all are there, or why they cannot start. Only then does JAX use the port. A connection that is not a
process of this run is closed and changes nothing.
"""

import contextlib
import dataclasses
import errno
import json
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from undelude._cli.errors import CommandError, ExitCode, UsageError
from undelude._types import MAX_PORT

# The name and version of these lines.
PROTOCOL = "undelude-meeting-1"
# The name of the number of processes in messages.
NUMBER = "--num-processes"
# Most bytes of a line, and the seconds within which a connection must send one.
LINE, SECONDS = 2**16, 10.0
# Most connections at a time beyond those of the run: the oldest is closed if one more comes.
STRANGERS = 64
# Seconds between two attempts to connect.
BETWEEN = 0.2


class Address(NamedTuple):
    """The address of process 0."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Return the address in `HOST:PORT`; raise `UsageError` if it is malformed."""
        host, _, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        is_port = port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) <= MAX_PORT
        if not (is_port and host and host.isascii() and host.isprintable() and not {*host} & {*" /@[]"}):
            raise UsageError(
                f"--coordinator must be HOST:PORT of process 0, with a port from 1 to {MAX_PORT}, not {text!r:.99}."
            )
        return cls(host, int(port))

    @property
    def bind(self) -> str | None:
        """The numeric host that process 0 listens on if the address is of this machine alone, else None for all."""
        hosts = {found[4][0] for found in self.resolve()}
        loopback = sorted(str(x) for x in hosts if str(x) == "::1" or str(x).startswith("127."))
        return loopback[0] if len(loopback) == len(hosts) else None

    def resolve(self) -> list[Any]:
        """Look the host up; raise `CommandError` if it is unknown."""
        try:
            return socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise CommandError(f"the host {self.host} of --coordinator is unknown ({_reason(error)}).") from error


@dataclasses.dataclass(frozen=True)
class Meeting:
    """A meeting of all processes of a run.

    Attributes:
        address: of process 0.
        num_processes: their number.
        process_id: the index of this process.
        settings: what must be the same in all processes, by the name that a message gives it.
        timeout: seconds to wait for the others.
        say: prints a line.
    """

    address: Address
    num_processes: int
    process_id: int
    settings: dict[str, Any]
    timeout: float
    say: Callable[[str], None]

    def hold(self) -> None:
        """Return when all processes are there.

        Raises:
            UsageError: they were started with different settings, or two with the same index.
            CommandError: they do not find each other in time, or the port is in use.
        """
        if self.process_id == 0:
            with self._listen() as listening:
                _Host(self, listening).wait()
        else:
            self._join()

    @property
    def limit(self) -> str:
        """The time limit in words."""
        return f"{self.timeout:g} s (--join-timeout)"

    def _listen(self) -> socket.socket:
        host = self.address.bind
        both = host is None and socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both or (host and ":" in host) else socket.AF_INET
        try:
            return socket.create_server((host or "", self.address.port), family=family, dualstack_ipv6=both)
        except OSError as error:
            used = "another program or run has the port, choose another"
            why = used if error.errno == errno.EADDRINUSE else _reason(error)
            raise CommandError(
                f"process 0 cannot listen on port {self.address.port} of --coordinator: {why}."
            ) from error

    def _join(self) -> None:
        deadline = time.monotonic() + self.timeout
        with self._connect(deadline) as connection:
            hello = {"protocol": PROTOCOL, "process_id": self.process_id, "num_processes": self.num_processes}
            answer = b""
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(hello | {"settings": self.settings}).encode() + b"\n")
                answer = self._receive(connection, deadline)
        said = _parse(answer)
        if said is None:
            raise CommandError(
                f"{self.address} does not answer as process 0 of a run that is starting: process 0 has ended, its run "
                "is under way already, or another program has the port."
            )
        if not said.get("go"):
            raise CommandError(f"{said.get('problem')}", ExitCode(said.get("code", ExitCode.FAILED)))

    def _connect(self, deadline: float) -> socket.socket:
        waits = False
        while True:
            try:
                self.address.resolve()
                return socket.create_connection(
                    self.address, timeout=max(0.1, min(SECONDS, deadline - time.monotonic()))
                )
            except OSError as error:
                if time.monotonic() > deadline:
                    raise CommandError(
                        f"process 0 was not at {self.address} within {self.limit} ({_reason(error)}): start it, or "
                        "check --coordinator."
                    ) from error
                if not waits:
                    self.say(f"waiting for process 0 at {self.address}, for at most {self.limit} ...")
                waits = True
                time.sleep(BETWEEN)

    def _receive(self, connection: socket.socket, deadline: float) -> bytes:
        """Return the line that process 0 sends when all are there or cannot start; it ends early if the time is up."""
        data, patience = b"", 1.0
        while b"\n" not in data and len(data) < LINE:
            connection.settimeout(max(0.1, min(patience, deadline + SECONDS - time.monotonic())))
            try:
                if not (more := connection.recv(LINE)):
                    break
                data += more
            except TimeoutError:
                if time.monotonic() > deadline + SECONDS:  # Process 0 has the same limit, and tells who is missing.
                    raise CommandError(f"not all processes were at {self.address} within {self.limit}.") from None
                if patience == 1.0:
                    self.say(f"waiting for the other processes at {self.address}, for at most {self.limit} ...")
                patience = SECONDS
        return data


class _Host:
    """Process 0 in a meeting."""

    def __init__(self, meeting: Meeting, listening: socket.socket):
        self.meeting, self.listening = meeting, listening
        self.joined: dict[int, socket.socket] = {}
        # The bytes received on each connection, and the time by which its line must be there.
        self.received: dict[socket.socket, tuple[bytes, float]] = {}
        self.selector = selectors.DefaultSelector()

    def wait(self) -> None:
        """Accept connections until all processes are there, and tell them; or raise, after telling them why."""
        meeting = self.meeting
        self.listening.setblocking(False)
        self.selector.register(self.listening, selectors.EVENT_READ)
        deadline = time.monotonic() + meeting.timeout
        if self.missing:
            meeting.say(f"waiting for {self.missing} at {meeting.address}, for at most {meeting.limit} ...")
        try:
            while self.missing:
                if (now := time.monotonic()) > deadline:
                    self._end(f"{self.missing} did not join at {meeting.address} within {meeting.limit}: start it.")
                ready = [key.fileobj for key, _ in self.selector.select(min(1.0, deadline - now + 0.01))]
                for connection in ready:
                    if isinstance(connection, socket.socket) and connection is not self.listening:
                        self._read(connection)
                if self.listening in ready:  # Last: a connection that has ended makes room.
                    self._accept()
                for connection, (_, until) in [*self.received.items()]:
                    if time.monotonic() > until:
                        self._drop(connection)
            self._tell_all({"go": True})
        finally:
            for connection in [*self.received, *self.joined.values()]:
                connection.close()
            self.selector.close()

    @property
    def missing(self) -> str:
        """The processes that have not joined, in words."""
        names = [str(i) for i in range(1, self.meeting.num_processes) if i not in self.joined]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"process {', '.join(names[:8])}{more} of {self.meeting.num_processes}" if names else ""

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self.listening.accept()
            connection.setblocking(False)
            if len(self.received) > STRANGERS + self.meeting.num_processes:
                self._drop(next(iter(self.received)))  # The oldest: a process of the run says its line at once.
            self.received[connection] = b"", time.monotonic() + SECONDS
            self.selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: socket.socket) -> None:
        try:
            more = connection.recv(LINE)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if connection not in self.received:  # A process that joined says nothing more: it has ended.
            index = next(i for i, x in self.joined.items() if x is connection)
            del self.joined[index]
            self._close(connection)
            self.meeting.say(f"process {index} has left; waiting for it to join again ...")
            return
        data, until = self.received[connection]
        self.received[connection] = data + more, until
        if b"\n" in data + more:
            self._greet(connection, data + more)
        elif not more or len(data) > LINE:
            self._drop(connection)

    def _greet(self, connection: socket.socket, data: bytes) -> None:
        """Let the process join that has sent `data`, or refuse it, or end the meeting if it was started otherwise."""
        said = _parse(data)
        if said is None or said.get("protocol") != PROTOCOL or not isinstance(said.get("settings"), dict):
            self._drop(connection)
            return
        index, settings = said.get("process_id"), {NUMBER: said.get("num_processes")} | said["settings"]
        if not isinstance(index, int):
            self._drop(connection)
        elif problem := difference({NUMBER: self.meeting.num_processes} | self.meeting.settings, settings, index):
            self._end(problem, connection)
        elif not 0 < index < self.meeting.num_processes or index in self.joined:
            problem = f"process {index} is there already: give each process its own --process-id."
            _tell(connection, {"problem": problem, "code": ExitCode.USAGE})
            self._drop(connection)
        else:
            self.joined[index] = connection
            del self.received[connection]

    def _end(self, problem: str, *more: socket.socket) -> NoReturn:
        """Raise the error, and tell it to all processes that have joined and to `more`."""
        code = ExitCode.USAGE if more else ExitCode.FAILED
        for connection in more:
            _tell(connection, {"problem": problem, "code": code})
        self._tell_all({"problem": problem, "code": code})
        raise CommandError(problem, code)

    def _tell_all(self, answer: dict[str, Any]) -> None:
        """Send an answer to all that joined, and let them close first, so that the port is free at once."""
        for connection in self.joined.values():
            _tell(connection, answer)
        for connection in self.joined.values():
            with contextlib.suppress(OSError):
                connection.settimeout(2.0)
                connection.recv(1)

    def _drop(self, connection: socket.socket) -> None:
        del self.received[connection]
        self._close(connection)

    def _close(self, connection: socket.socket) -> None:
        self.selector.unregister(connection)
        connection.close()


def difference(mine: dict[str, Any], theirs: dict[str, Any], index: int) -> str | None:
    """Return the first difference between the settings of process 0 and of process `index` in words; None if equal."""
    for name, value in mine.items():
        if theirs.get(name) != value:
            return (
                f"{name} is {theirs.get(name)!s:.99} in process {index}, and {value} in process 0: start all with the "
                "same options, versions and settings of JAX."
            )
    return None


def _tell(connection: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.settimeout(2.0)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _parse(data: bytes) -> dict[str, Any] | None:
    """Return the first line as a JSON object; None if it is not one."""
    try:
        said = json.loads(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
