"""The processes of a run meet: threads and real sockets in place of processes."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from undelude._cli.errors import CommandError, UsageError
from undelude._cli.meeting import LINE, PROTOCOL, STRANGERS, Address, Meeting

SETTINGS = {"--seed": 7, "--out": None, "jax_enable_x64": False}


def free_address() -> Address:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return Address(*listening.getsockname())


class Processes:
    """Processes of one run, threads that hold the meeting; `lines` is what they print, `errors` how they end."""

    def __init__(self) -> None:
        self.address = free_address()
        self.lines: dict[int, list[str]] = {}
        self.errors: dict[int, CommandError | None] = {}
        self.threads: list[threading.Thread] = []

    def start(
        self, index: int, *, number: int = 2, name: int | None = None, timeout: float = 20.0, **settings: Any
    ) -> None:
        name = index if name is None else name
        said = self.lines.setdefault(name, [])
        meeting = Meeting(self.address, number, index, SETTINGS | settings, timeout, said.append)

        def run() -> None:
            try:
                meeting.hold()
                self.errors[name] = None
            except CommandError as error:
                self.errors[name] = error

        self.threads.append(threading.Thread(target=run, daemon=True))
        self.threads[-1].start()

    def until_told(self, name: int, word: str) -> None:
        wait_until(lambda: any(word in line for line in self.lines[name]))

    def ends(self) -> dict[int, str | None]:
        """Return the message with which each process ended, None if it found the others."""
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive()
        return {name: None if error is None else str(error) for name, error in self.errors.items()}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def run() -> Processes:
    return Processes()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_processes_meet_in_any_order(run: Processes, order: tuple[int, ...]) -> None:
    """The port is free afterwards, for JAX. Who waits says so at once, and for how long."""
    for index in order:
        run.start(index, number=3)
        if index == order[0]:
            run.until_told(index, "waiting for")
    assert run.ends() == {0: None, 1: None, 2: None}
    limit = f"at {run.address}, for at most 20 s (--join-timeout) ..."
    first = run.lines[order[0]][0]
    assert first == f"waiting for process {'0' if order[0] else '1, 2 of 3'} {limit}"
    with socket.create_server(run.address):
        pass


def test_missing_process_is_named_after_the_timeout(run: Processes) -> None:
    run.start(0, number=3, timeout=2.0)
    run.start(2, number=3, timeout=20.0)
    message = f"process 1 of 3 did not join at {run.address} within 2 s (--join-timeout): start it."
    assert run.ends() == {0: message, 2: message}


def test_missing_process_0_is_named_after_the_timeout(run: Processes) -> None:
    run.start(1, timeout=0.3)
    (message,) = run.ends().values()
    assert message.startswith(f"process 0 was not at {run.address} within 0.3 s (--join-timeout) (Connection refused)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--seed": 8}, "--seed is 8 in process 1, and 7 in process 0"),
        ({"jax_enable_x64": True}, "jax_enable_x64 is True in process 1, and False in process 0"),
        ({"number": 3}, "--num-processes is 3 in process 1, and 2 in process 0"),
    ],
)
def test_difference_is_told_to_every_process(run: Processes, change: dict, message: str) -> None:
    run.start(0)
    run.start(1, **change)
    told = run.ends()
    assert told[0] == told[1]
    assert told[0].startswith(message)
    assert all(isinstance(error, UsageError) or error.code == 2 for error in run.errors.values())


def test_second_process_of_an_index_is_refused_alone(run: Processes) -> None:
    run.start(0, number=3)
    run.start(1, number=3)
    run.until_told(1, "waiting for the other processes")
    run.start(1, number=3, name=10)
    wait_until(lambda: 10 in run.errors)
    run.start(2, number=3)
    ends = run.ends()
    assert ends.pop(10) == "process 1 is there already: give each process its own --process-id."
    assert ends == {0: None, 1: None, 2: None}


def test_garbage_on_the_port_changes_nothing(run: Processes) -> None:
    """Neither do connections that say nothing, or say part of a line, however many are open."""
    run.start(0)
    run.until_told(0, "waiting")
    hello = {"protocol": PROTOCOL, "process_id": 1, "num_processes": 2, "settings": SETTINGS}
    sent = [
        b"",
        b"\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\n",
        b"[" * 30_000 + b"\n",
        b"{}\n",
        b"x" * LINE * 2,
    ]
    sent += [
        json.dumps(hello | change).encode() + b"\n"
        for change in ({"protocol": 0}, {"settings": []}, {"process_id": []})
    ]
    sent += [json.dumps(hello).encode()]
    with contextlib.ExitStack() as stack:
        for data in sent + [b""] * STRANGERS * 2:
            connection = stack.enter_context(socket.create_connection(run.address))
            with contextlib.suppress(OSError):
                connection.sendall(data)
        run.start(1)
        assert run.ends() == {0: None, 1: None}


def test_process_that_leaves_may_join_again(run: Processes) -> None:
    run.start(0, number=3)
    run.until_told(0, "waiting")
    hello = {"protocol": PROTOCOL, "process_id": 1, "num_processes": 3, "settings": SETTINGS}
    with socket.create_connection(run.address) as connection:
        connection.sendall(json.dumps(hello).encode() + b"\n")
        time.sleep(0.1)
    run.until_told(0, "process 1 has left")
    run.start(1, number=3)
    run.start(2, number=3)
    assert run.ends() == {0: None, 1: None, 2: None}


@pytest.mark.parametrize("answer", [b"", b"\x00\x00\x18\x04\x00\n", b"HTTP/1.1 400 Bad Request\n"])
def test_port_of_another_program_is_named(run: Processes, answer: bytes) -> None:
    """A run that is under way answers like this too: it is not disturbed."""
    with socket.create_server(run.address) as other:
        run.start(1)
        connection, _ = other.accept()
        connection.sendall(answer)
        connection.close()
        assert "does not answer as process 0 of a run that is starting" in run.ends()[1]
        run.start(0)
        wait_until(lambda: 0 in run.errors)
    used = f"process 0 cannot listen on port {run.address.port} of --coordinator: another program or run has the port"
    assert run.ends()[0].startswith(used)


def test_unknown_host_is_named() -> None:
    meeting = Meeting(Address("no-such-host.invalid", 7000), 2, 1, {}, 5.0, pytest.fail)
    with pytest.raises(CommandError, match=r"the host no-such-host\.invalid of --coordinator is unknown"):
        meeting.hold()


@pytest.mark.parametrize(
    "text",
    [
        "here",
        "",
        ":7000",
        "h:0",
        "h:65536",
        "h:x",
        "h:\u0663",
        "h:-1",
        "a b:1",
        "::1:7",
        "h:" + "9" * 5000,
        "http://h:1",
        "[::1:7",
        "h\x00:1",
    ],
)
def test_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--coordinator must be HOST:PORT of process 0"):
        Address.parse(text)


def test_addresses_are_parsed() -> None:
    assert Address.parse("node-1.cluster:7000") == ("node-1.cluster", 7000)
    assert str(Address.parse("[::1]:7000")) == "[::1]:7000"
    assert Address.parse("[::1]:7000").bind == "::1"
    assert Address.parse("127.0.0.1:1").bind == "127.0.0.1"
    assert Address.parse("0.0.0.0:1").bind is None
