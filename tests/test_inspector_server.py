"""The server of the inspector: who may ask, what is refused, and the command that starts it."""

import contextlib
import dataclasses
import http.client
import ipaddress
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import jax
import pytest

import undelude as ud
from damage import damaged_json, flipped
from undelude._cli import inspect as command
from undelude._cli import main
from undelude._cli.errors import UsageError
from undelude._cli.inspect_options import Inspect
from undelude._inspector import server as server_module
from undelude._inspector.inspection import DO, SEE, Inspection
from undelude._inspector.limits import MAX_ROUNDS
from undelude._inspector.server import FILES, MAX_BYTES, Server, own_address
from undelude._inspector.service import Service
from undelude._inspector.start import first_history
from undelude._inspector.static_page import static_page
from undelude._runs.config import Config
from undelude._runs.directory import RunDirectory
from undelude._user_code import UnknownNameError


@pytest.fixture(scope="module")
def service(frog):
    inspection = Inspection(frog)
    return Service(inspection, first_history(inspection, SEE), task="frog", actor=SEE)


@pytest.fixture(scope="module")
def server(service):
    server = Server(service)
    yield server
    server.stop()


def ask(server, method, path, body=None, **headers):
    """Send a request as a page of the server would, and return the status and the answer."""
    parts = urlsplit(server.url)
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    given = {"X-Undelude-Token": server.token} | {name.replace("_", "-"): x for name, x in headers.items()}
    with contextlib.closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)) as connection:
        connection.request(method, path, data, {name: x for name, x in given.items() if x is not None})
        answer = connection.getresponse()
        content = answer.read()
    kind = answer.headers["Content-Type"]
    return answer.status, json.loads(content) if kind == "application/json" else content, answer.headers


def paths(server):
    """Return the paths of all files of the page, of which the first one is the page itself."""
    return [f"/?token={server.token}", *({*FILES} - {"/"})]


def test_page_is_its_own(server):
    """Each file is there, and the browser is told to load nothing from elsewhere."""
    for path in paths(server):
        status, content, headers = ask(server, "GET", path)
        assert status == 200
        assert b"://" not in content.replace(b"http://www.w3.org/2000/svg", b"")
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert ask(server, "GET", "/../server.py")[0] == 404
    assert sum(len(ask(server, "GET", path)[1]) for path in paths(server)) < 100_000


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=guess", "/?token=%ff", "/?once=", "/?once=guess"])
def test_link_without_the_token_says_what_to_do(server, path):
    """Whoever else is on this machine gets a page in words, and no answer."""
    status, content, headers = ask(server, "GET", path, X_Undelude_Token=None)
    assert status == 403
    assert headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"Open the link that <code>undelude inspect</code> printed" in content
    assert ask(server, "POST", "/api/describe", {}, X_Undelude_Token="")[0] == 403


def test_browser_is_started_with_a_link_for_once(server):
    """Others can see the arguments of a program: the token is not among them, and the link is of no use to them."""
    link = server.link_for_once()
    assert server.token not in link
    path = f"/?{urlsplit(link).query}"
    status, _, headers = ask(server, "GET", path)
    assert (status, headers["Location"]) == (303, paths(server)[0])
    assert ask(server, "GET", path)[0] == 403


def test_answers_are_those_of_the_inspection(server, service):
    status, about, _ = ask(server, "POST", "/api/describe", {})
    assert status == 200
    assert about["task"] == "frog"
    assert about["actor"] == SEE
    episode = about["state"]["episode"]
    assert about["state"]["parties"]["marked"]["observations"] == [[0.0, 1.0]]
    episode["rounds"][0]["mark"] = "do"
    status, flipped, _ = ask(server, "POST", "/api/read", {"episode": episode})
    assert status == 200
    assert flipped["parties"]["marked"]["observations"] == [[0.5, 0.5]]
    status, played, _ = ask(server, "POST", "/api/play", {"episode": episode, "rounds": 9, "actor": DO})
    assert played["ended"]
    expected = service.inspection.play(service.inspection.from_json(episode), rounds=9, actor=DO)
    assert service.inspection.from_json(played["episode"]) == expected
    status, begun, _ = ask(server, "POST", "/api/begin", {"seed": 3, "theta": 1})
    assert begun["theta"] == [1]
    assert begun["rounds"] == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"X_Undelude_Token": "guess"},
        {"X-Undelude-Token": None},
    ],
)
def test_stranger_is_refused(server, headers):
    """Another origin, a name that was made to point here (DNS rebinding), or a request without the header."""
    status, answer, _ = ask(server, "POST", "/api/describe", {}, **headers)
    assert status == 403
    assert "task" not in answer


def test_episode_of_another_task_is_refused_by_both_names(server, service):
    episode = service.inspection.to_json(service.first, task="bandit") | {"process": None}
    status, answer, _ = ask(server, "POST", "/api/read", {"episode": episode})
    assert status == 400
    assert "of bandit, and the task inspected here is frog" in answer["error"]


def test_link_to_another_loopback_address_is_answered(service):
    server = Server(service, host="127.0.0.2")
    try:
        assert ask(server, "POST", "/api/describe", {})[0] == 200
    finally:
        server.stop()


def test_link_to_another_host_names_it_and_has_the_token(service):
    server = Server(service, host="0.0.0.0")
    try:
        named, token = re.fullmatch(r"http://(.+?):\d+/\?token=([\w-]{32})", server.url).groups()
        assert named == own_address(socket.AF_INET)
        assert not ipaddress.ip_address(named).is_unspecified
        server.url = server.url.replace(named, "127.0.0.1")
        assert server.token == token
        assert ask(server, "GET", f"/?token={token}")[0] == 200
        assert ask(server, "POST", "/api/describe", {}, X_Undelude_Token=token[:-1])[0] == 403
        assert ask(server, "POST", "/api/describe", {})[0] == 200
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/api/nothing", {}, "nothing"),
        ("/api/read", b"{", "Expecting"),
        ("/api/read", b"[]", "object"),
        ("/api/read", b"[" * 20_000, "nested"),
        ("/api/read", {}, "episode"),
        ("/api/read", {"episode": {}}, "format"),
        ("/api/begin", {"seed": True}, "seed"),
        ("/api/begin", {"seed": 0, "theta": 2}, "theta"),
        ("/api/play", {"rounds": -1}, "episode"),
    ],
)
def test_senseless_request_is_explained(server, path, body, named):
    status, answer, _ = ask(server, "POST", path, body)
    assert status == 400
    assert named in answer["error"]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"rounds": -1}, "rounds"), ({"actor": "you"}, "you"), ({"observe": 1}, "observe")],
)
def test_senseless_play_is_explained(server, service, change, named):
    episode = service.inspection.to_json(service.first)
    status, answer, _ = ask(server, "POST", "/api/play", {"episode": episode, "rounds": 1} | change)
    assert status == 400
    assert named in answer["error"]


def test_request_that_is_too_large_is_not_read(server):
    assert ask(server, "POST", "/api/read", None, Content_Length=str(MAX_BYTES + 1))[0] == 413
    assert ask(server, "POST", "/api/read", None, Content_Length="many")[0] == 413


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connected(server, sent=b""):
    """Return a connection on which some bytes were sent."""
    parts = urlsplit(server.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=20)
    connection.sendall(sent)
    return connection


HEAD = "POST /api/describe HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Undelude-Token: {}\r\nContent-Length: 1000\r\n"


@pytest.mark.parametrize("begins", ["", "POST /api/de", HEAD, HEAD + "\r\n"], ids=["idle", "line", "headers", "body"])
def test_request_that_arrives_byte_by_byte_ends_at_its_deadline(server, begins, monkeypatch):
    """Each byte comes in time, and the whole request would not."""
    monkeypatch.setattr(server_module, "SECONDS", 0.5)
    with connected(server, begins.format(server.token).encode()) as connection:
        connection.settimeout(0.1)
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                try:
                    assert connection.recv(99) == b""
                    break
                except ConnectionError:
                    break
            with contextlib.suppress(ConnectionError):
                connection.sendall(b" " if begins else b"")
        else:
            pytest.fail("the server still waits for the request.")


def test_stopped_server_answers_no_open_connection(service):
    server = Server(service)
    parts = urlsplit(server.url)
    page = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    headers = {"X-Undelude-Token": server.token}
    page.request("POST", "/api/describe", "{}", headers)
    assert page.getresponse().read()
    server.stop()
    with contextlib.suppress(ConnectionError):
        page.request("POST", "/api/describe", "{}", headers)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        page.getresponse()
    page.close()


def test_time_of_a_request_begins_with_the_request(server, monkeypatch):
    """A page that was read for a while has its whole time for the next one."""
    monkeypatch.setattr(server_module, "SECONDS", 3)
    begin, rest = HEAD.format(server.token).replace("1000", "2").encode().split(b"\r\n", 1)
    with connected(server) as connection:
        time.sleep(2)
        connection.sendall(begin + b"\r\n" + rest + b"\r\n")
        time.sleep(2)
        connection.sendall(b"{}")
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_address_that_cannot_be_read_is_answered(server, capfd):
    with connected(server, b"GET http://[ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as connection:
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert "Traceback" not in capfd.readouterr().err


def test_idle_connections_keep_nobody_out(service, monkeypatch):
    """Neither does one whose headers do not end: that which has waited longest is closed."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    server = Server(service)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        connections = []
        for sent in (HEAD.encode(), b"", b"GET"):
            connections.append(stack.enter_context(connected(server, sent)))
            wait_until(lambda: len(server._http.waiting) == len(connections))
        first, *others = connections
        assert ask(server, "POST", "/api/describe", {})[0] == 200
        assert first.recv(9) == b""
        for other in others:
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(9)


def test_connections_are_bounded(service, monkeypatch):
    """If all are being answered, one more is told so; when another one ends, there is a place."""
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    answers = threading.Event()
    monkeypatch.setattr(service, "answer", lambda *_: {"came": answers.wait(60)})
    server = Server(service)
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop)
        stack.callback(answers.set)
        request = (HEAD.format(server.token).replace("1000", "2") + "\r\n{}").encode()
        busy = [stack.enter_context(connected(server, request)) for _ in range(2)]
        wait_until(lambda: not server._http.waiting and len(server._http._open) == 2)
        with connected(server) as third:
            assert third.recv(12) == b"HTTP/1.1 503"
        answers.set()
        assert busy[0].recv(12) == b"HTTP/1.1 200"
        wait_until(lambda: server._http.waiting)
        assert ask(server, "POST", "/api/describe", {})[0] == 200


def test_promises_of_the_security_page_are_those_of_the_server():
    page = " ".join((Path(__file__).parents[1] / "SECURITY.md").read_text().split())
    said = re.search(r"has (\d+) MiB at most, must arrive within (\d+) seconds, .* answers (\d+) connections", page)
    most, seconds, connections = map(int, said.groups())
    assert most * 2**20 == server_module.MAX_BYTES
    assert (seconds, connections) == (server_module.SECONDS, server_module.MAX_CONNECTIONS)


def test_inspector_stops_at_the_end_of_its_block(frog):
    with ud.inspect(frog) as inspector:
        assert ask(inspector._server, "POST", "/api/describe", {})[0] == 200
    with pytest.raises(ConnectionRefusedError):
        connected(inspector._server)
    inspector.stop()


def test_stopped_inspector_says_so_in_a_notebook(frog):
    inspector = ud.inspect(frog)
    try:
        assert "<iframe" in inspector._repr_html_()
        assert repr(inspector) == f"Inspector({inspector.url})"
    finally:
        inspector.stop()
    assert repr(inspector) == "Inspector(stopped)"
    shown = inspector._repr_html_()
    assert "iframe" not in shown
    assert inspector.url not in shown
    assert "was stopped: call <code>ud.inspect</code> again" in shown


def test_error_of_the_users_code_is_an_answer(service):
    """The page shows it, and the server goes on."""

    class Broken:
        process = service.inspection.process

        def begin(self, **rest):
            raise RuntimeError("the sensor is off")

    broken = Service(service.inspection, service.first)
    broken.inspection = Broken()
    server = Server(broken)
    try:
        status, answer, _ = ask(server, "POST", "/api/begin", {"seed": 0})
        assert status == 500
        assert "sensor is off" in answer["error"]
    finally:
        server.stop()


def test_answer_that_is_not_json_is_an_error(service):
    """A NaN that slips through is an answer too, and not a broken connection."""

    class Slips(Service):
        def answer(self, name, request):
            return {"p": float("nan")}

    server = Server(Slips(service.inspection, service.first))
    try:
        status, answer, _ = ask(server, "POST", "/api/read", {})
        assert status == 500
        assert "JSON" in answer["error"]
    finally:
        server.stop()


def test_inspect_shows_the_episode_of_a_rollout(bandit):
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit, "see"), key=jax.random.key(0), num_episodes=3)
    inspector = ud.inspect(bandit, ud.ExactAgent(bandit), episodes=episodes, episode=2)
    try:
        assert '<iframe src="http://127.0.0.1' in inspector._repr_html_()
        _, about, headers = ask(inspector._server, "POST", "/api/describe", {})
        assert [a for a, _, _ in about["state"]["rounds"]] == episodes.actions[2].tolist()
        assert {x["mark"] for x in about["state"]["episode"]["rounds"]} == {"see"}
        assert about["state"]["theta"] == [int(episodes.theta[2])]
        assert "frame-ancestors" not in headers["Content-Security-Policy"]
        assert inspector._server.token
    finally:
        inspector.stop()
    with pytest.raises(ValueError, match="episode must be"):
        ud.inspect(bandit, episodes=episodes, episode=3)
    with pytest.raises(ValueError, match="no theta"):
        ud.inspect(bandit, episodes=dataclasses.replace(episodes, theta=None))


def test_page_of_the_docs_is_current():
    kept = (Path(__file__).parents[1] / "docs" / "inspector-live.html").read_text()
    assert static_page([ud.tasks.prize_or_frog(num_rounds=2), ud.tasks.bandit()]) == kept, "run tools/draw_inspector.py"
    assert len(kept) < 150_000
    assert "http" not in kept.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    with pytest.raises(TypeError, match="tables"):
        static_page([ud.tasks.menu()])
    with pytest.raises(TypeError, match="changes theta"):
        static_page([ud.tasks.switching_bandit()])


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["chess"], "chess"),
        (["bandit", "--port", "70000"], "--port"),
        (["bandit", "--num-rounds", "0"], "--num-rounds"),
        (["bandit", "--num-rounds", "100000000"], "--num-rounds must be at most 20000"),
        (["bandit", "--seed", "-1"], "--seed"),
        (["bandit", "--second", "nowhere"], "nowhere"),
    ],
)
def test_command_line_that_makes_no_sense(args, named, capsys):
    assert main(["inspect", *args, "--no-browser"]) in (1, 2)
    assert named in capsys.readouterr().err


def test_module_without_a_function_is_told_what_lacks(tmp_path, monkeypatch, capsys):
    (tmp_path / "plumber.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "plumber", "--no-browser"]) == 2
    assert "plumber.py is here: name the function in it that makes the process, plumber:FACTORY" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("mine.py", "import undelude as ud", "as mine:FACTORY, where FACTORY is the function"),
        ("notes.txt", "to do", "given as package.module:factory."),
        ("picture.png", b"\x89PNG\xff", "given as package.module:factory."),
    ],
)
def test_file_that_is_no_episode_is_not_called_damaged(name, content, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["inspect", name, "--no-browser"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"{name} is not an episode, which is a JSON file that the page saved" in said
    assert named in said
    assert "damaged" not in said
    Path("cut.json").write_text('{"format": "undelude-episode-1", "ta')
    assert main(["inspect", "cut.json", "--no-browser"]) != 0
    assert "cut.json is damaged" in capsys.readouterr().err


def test_port_that_is_none_is_refused(bandit):
    with pytest.raises(ValueError, match="inspect: port must be from 1 to 65535, or 0 for any free one, not 80000"):
        ud.inspect(bandit, port=80000)


def test_rounds_that_no_page_can_show_are_refused():
    long = ud.tasks.bandit(num_rounds=MAX_ROUNDS + 1)
    with pytest.raises(ValueError, match="num_rounds is 100000000, and the page shows 20000 at most: give num_rounds="):
        ud.inspect(long, num_rounds=100_000_000)
    with pytest.raises(ValueError, match="bandit has 20001 rounds, and the page shows 20000 at most"):
        ud.inspect(long)
    assert Inspection(long, num_rounds=MAX_ROUNDS).num_rounds == MAX_ROUNDS


def test_agents_of_two_runs_read_one_episode(bandit, tmp_path, capsys):
    """The first one plays; the page says where both come from. A run on another task is refused."""
    for i, name in enumerate(("one", "two")):
        run = RunDirectory.create(tmp_path / name, Config("bandit", hidden_size=4, steps=6))
        run.save_agent(ud.LSTMAgent(bandit, 4, key=jax.random.key(i)))
    options = Inspect(str(tmp_path / "one"), second=str(tmp_path / "two"), seed=0)
    options.check()
    subject = command._subject(options, "undelude inspect")
    service = command._service(options, subject)
    about = service.answer("describe", {})
    texts = {party["key"]: party["text"] for party in about["parties"]}
    assert about["actor"] == "lstm"
    assert "one, teaching counterfactual" in texts["lstm"]
    assert "two, teaching counterfactual" in texts["lstm 2"]
    one, two = (about["state"]["parties"][name]["actions"] for name in ("lstm", "lstm 2"))
    assert one != two
    assert main(["inspect", "frog", "--second", str(tmp_path / "two"), "--no-browser"]) == 2
    assert "is a run on bandit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{}", "format"),
        ('{"format": "undelude-episode-1", "task": 3}', "task"),
        ('{"format": "undelude-episode-1", "task": null}', "--task my_tasks:corridor"),
        (
            '{"format": "undelude-episode-1", "task": "frog", "rounds": [' + ", ".join(["0"] * 20_001) + "]}",
            "20001 rounds",
        ),
        ('{"format": "undelude-episode-1", "task": "os:getcwd"}', "--task os:getcwd"),
        ('{"format": "undelude-episode-1", "task": "frog", "theta": 0, "rounds": []}', "process is missing"),
    ],
)
def test_episode_from_elsewhere_is_checked(content, named, tmp_path, capsys):
    """Above all, it cannot name a function that is then called."""
    file = tmp_path / "episode.json"
    file.write_text(content)
    assert main(["inspect", str(file), "--no-browser"]) == 2
    assert named in capsys.readouterr().err


def test_options_that_would_be_ignored_are_refused(bandit, tmp_path, service):
    file = tmp_path / "episode.json"
    file.write_text(json.dumps(service.inspection.to_json(service.first, task="frog")))
    with pytest.raises(UsageError, match="--seed 9 is for an episode that is played"):
        Inspect(str(file), seed=9).check()
    with pytest.raises(UsageError, match=r"--task is for an episode, a run, or .* undelude inspect bandit inspects"):
        Inspect("frog", task="bandit").check()
    Inspect(str(file), task="frog").check()
    episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(0), num_episodes=1, num_rounds=2)
    with pytest.raises(ValueError, match=r"seed=77 .* leave out seed="):
        ud.inspect(bandit, episodes=episodes, seed=77)
    with pytest.raises(ValueError, match=r"episode=3 .* give episodes="):
        ud.inspect(bandit, episode=3)


def test_remedy_keeps_the_options_that_were_given(tmp_path, capsys):
    file = tmp_path / "my episode.json"
    file.write_text('{"format": "undelude-episode-1", "task": "os:getcwd"}')
    given = [str(file), "--num-rounds", "3", "--host", "0.0.0.0", "--port", "7001", "--no-browser"]
    assert main(["inspect", *given]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"undelude inspect '{file}' --num-rounds 3 --host 0.0.0.0 --port 7001 --no-browser --task os:getcwd" in said


def test_longer_episode_is_not_called_damaged(tmp_path, capsys):
    file = tmp_path / "episode.json"
    file.write_text('{"format": "undelude-episode-1", "task": "frog", "rounds": [0, 0]}')
    assert main(["inspect", str(file), "--num-rounds", "1", "--no-browser"]) == 2
    assert "has 2 rounds, and --num-rounds is 1: leave it out, or give at least 2" in capsys.readouterr().err


def test_command_serves_until_interrupted(tmp_path, service):
    """A saved episode opens again, in the program that a user starts."""
    file = tmp_path / "episode.json"
    episode = service.inspection.to_json(service.first, task="frog")
    file.write_text(json.dumps(episode))
    launch = (  # A shell's background jobs ignore SIGINT.
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "runpy.run_module('undelude', run_name='__main__')"
    )
    command = [sys.executable, "-c", launch, "inspect", str(file), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url, token = re.search(r"(http://127\.0\.0\.1:\d+/)\?token=([\w-]+)", process.stdout.readline()).groups()
            connection = http.client.HTTPConnection(urlsplit(url).hostname, urlsplit(url).port, timeout=30)
            connection.request("POST", "/api/describe", b"{}", {"X-Undelude-Token": token})
            assert json.loads(connection.getresponse().read())["state"]["episode"] == episode
            connection.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_damaged_episodes_are_answered(server, service):
    """Each of 500 damaged requests is read, or refused in one line; none is an error of the server."""
    rng = Random(0)
    history = service.inspection.play(service.first, rounds=2)
    good = {"episode": service.inspection.to_json(history, task="frog"), "rounds": 1, "actor": SEE}
    counts = Counter()
    for i in range(500):
        body = flipped(rng, json.dumps(good).encode()) if i % 5 == 0 else damaged_json(rng, good)
        status, answer, _ = ask(server, "POST", f"/api/{rng.choice(['read', 'play', 'compare'])}", body)
        assert status in (200, 400), answer
        assert status == 200 or "\n" not in answer["error"]
        counts[status] += 1
    assert min(counts[200], counts[400]) > 5


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("runs/nosuch", "there is no run, fit or episode at 'runs/nosuch'"),
        ("nosuch.json", "there is no run, fit or episode at 'nosuch.json'"),
        ("my.module", "package.module:factory"),
        ("bandt", "Did you mean bandit?"),
    ],
)
def test_what_is_not_there_is_named(target, message):
    with pytest.raises((UsageError, UnknownNameError), match=re.escape(message)):
        Inspect(target).check()


def test_folder_without_a_run_says_what_it_holds(tmp_path):
    with pytest.raises(UsageError, match=r"holds nothing, and neither config\.json"):
        Inspect(str(tmp_path)).check()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"holds notes\.txt, and neither config\.json"):
        Inspect(str(tmp_path)).check()


def test_agent_in_place_of_a_process_is_called_an_agent(tmp_path, monkeypatch, capsys):
    code = "import undelude as ud\nagent = ud.ExactAgent(ud.tasks.prize_or_frog())\ndef make():\n    return agent\n"
    (tmp_path / "my_agents.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("agent", "make"):
        assert main(["inspect", f"my_agents:{name}", "--no-browser"]) == 2
        assert f"my_agents:{name} is an agent, of type ExactAgent" in capsys.readouterr().err


def test_agent_that_does_not_fit_is_named_by_place_and_type(bandit, frog):
    with pytest.raises(ValueError, match=r"agent 2 \(ExactAgent\) does not fit: bandit has actions of 5 symbols"):
        ud.inspect(bandit, ud.ExactAgent(bandit), ud.ExactAgent(frog))
    with pytest.raises(TypeError, match=r"agent must be an agent .* not the class ExactAgent"):
        ud.inspect(bandit, ud.ExactAgent)


def test_task_of_the_suite_is_inspected_by_its_name():
    Inspect("undelude/frog-v1").check()
