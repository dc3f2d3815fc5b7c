"""The server of the inspector: a page, and answers about the history that the page sends.

It keeps nothing between two requests: the history is in the browser. So two people at once do not meet, and a link or a
file holds the whole episode.
"""

import hmac
import ipaddress
import json
import secrets
import socket
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from undelude._files import json_object
from undelude._inspector import host_view, view
from undelude._inspector.examples import examples
from undelude._inspector.history import History
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.inspection import MARKED, Inspection

# Most bytes of a request, and the seconds within which it must arrive.
MAX_BYTES, SECONDS = 2**24, 30
# Most rounds that one request adds.
MAX_ROUNDS = 10_000
# The header of each request for answers. A page from elsewhere cannot send it without permission, which none gets.
TOKEN_HEADER = "X-Undelude-Token"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
# The files of the page, by path: in the folders of this package and of the report, whose style it shares.
FILES = {
    "/": ("_inspector", "page", "page.html"),
    "/report.css": ("_report", "style.css"),
    "/inspector.css": ("_inspector", "page", "inspector.css"),
    **{
        f"/{name}.js": ("_inspector", "page", f"{name}.js")
        for name in ("app", "state", "score", "numbers", "densities", "tables", "sharing")
    },
}


class Service:
    """The answers to the page's requests.

    Args:
        inspection: gives the answers.
        first: the episode with which the page begins.
        task: the name under which the task can be made again, for saved episodes; None if it has none.
        actor: the party that acts, until the page chooses another.
        notes: a sentence about a party, by its name; "" for one about the first episode.
        logs: of a process that was fitted to logs: the verdict, and bounds with the keys name, fit, range and manski.
    """

    def __init__(
        self,
        inspection: Inspection | HostInspection,
        first: History,
        *,
        task: str | None = None,
        actor: str = MARKED,
        notes: Mapping[str, str] | None = None,
        logs: Mapping[str, Any] | None = None,
    ):
        inspection.check_party(actor)
        self.inspection, self.first, self.task, self.actor = inspection, first, task, actor
        self.notes, self.logs = dict(notes or {}), logs
        self._lock = threading.Lock()

    def answer(self, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to the request `name`.

        Raises:
            ValueError: the request makes no sense; the message says why.
        """
        answers = {
            "describe": self._describe,
            "read": self._read,
            "marks": self._marks,
            "begin": self._begin,
            "play": self._play,
            "picture": self._picture,
            "compare": self._compare,
            "densities": self._densities,
        }
        if name not in answers:
            raise ValueError(f"there is no request {name!r:.99}.")
        with self._lock:
            return answers[name](request)

    def _describe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        del request
        if isinstance(self.inspection, HostInspection):
            about, stored = host_view.describe(self.inspection, notes=self.notes), {}
        else:
            about, stored = view.describe(self.inspection, notes=self.notes), examples(self.inspection)
        written = {name: self.inspection.to_json(history, task=self.task) for name, history in stored.items()}
        about |= {"actor": self.actor, "note": self.notes.get("", ""), "examples": written, "served": True}
        about["logs"] = self.logs
        return about | {"state": self._view(self.first)}

    def _read(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._view(self._history(request))

    def _marks(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a change of marks alone changes, so that a flip neither computes nor sends anything else."""
        history, x = self._history(request), self.inspection
        return host_view.after_flip(x, history) if isinstance(x, HostInspection) else view.after_flip(x, history)

    def _begin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        seed, theta = _whole(request, "seed", 2**32 - 1), None
        if request.get("theta") is not None:
            theta = _whole(request, "theta", self.inspection.num_thetas - 1)
        return self._view(self.inspection.begin(seed=seed, theta=theta))

    def _play(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, flags = self._history(request), {}
        for name, default in (("observe", True), ("label", False)):
            if type(flag := request.get(name, default)) is not bool:
                raise ValueError(f"{name} must be true or false, not {flag!r:.99}.")
            flags[name] = flag
        actor, rounds = str(request.get("actor", "marked")), _whole(request, "rounds", MAX_ROUNDS)
        return self._view(self.inspection.play(history, rounds=rounds, actor=actor, **flags))

    def _picture(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, x = self._history(request), self.inspection
        return {"picture": host_view.picture(x, history) if isinstance(x, HostInspection) else view.picture(x, history)}

    def _compare(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history, x = self._history(request), self.inspection
        return host_view.compare(x, history) if isinstance(x, HostInspection) else view.compare(x, history)

    def _densities(self, request: Mapping[str, Any]) -> dict[str, Any]:
        history = self._history(request)
        if type(outcome := request.get("outcome", False)) is not bool:
            raise ValueError(f"outcome must be true or false, not {outcome!r:.99}.")
        most = len(history) - 1 if outcome else history.num_observations
        return view.densities(self.inspection, history, _whole(request, "round", most), outcome=outcome)

    def _history(self, request: Mapping[str, Any]) -> History:
        episode = request.get("episode")
        if not isinstance(episode, Mapping):
            raise ValueError(f"episode must be an object, not {episode!r:.99}.")
        return self.inspection.from_json(episode, task=self.task)

    def _view(self, history: History) -> dict[str, Any]:
        x = self.inspection
        if isinstance(x, HostInspection):
            return host_view.view(x, x.read(history), task=self.task)
        return view.view(x, x.read(history), task=self.task)


def _whole(request: Mapping[str, Any], name: str, most: int) -> int:
    number = request.get(name)
    if type(number) is not int or not 0 <= number <= most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}, not {number!r:.99}.")
    return number


class Server:
    """An HTTP server for one inspection, in a thread of its own.

    Only this machine can reach it by default. On another host each request for answers needs a random token, which is
    part of the link. Requests of pages from elsewhere are refused.

    Args:
        service: gives the answers.
        host: the address to listen on.
        port: 0 for any free one.
        token: whether a token is needed; by default unless `host` is of this machine alone.
        embedded: whether other pages, such as a notebook, may show the page in a frame.

    Attributes:
        url: the link to the page.
        listens_everywhere: whether the host is the address of every network, such as 0.0.0.0.

    Raises:
        OSError: the host is unknown, or the port is in use.
    """

    def __init__(
        self, service: Service, *, host: str = "127.0.0.1", port: int = 0, token: bool | None = None,
        embedded: bool = False,
    ):  # fmt: skip
        family, _, _, _, (address, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        is_local = ipaddress.ip_address(str(address)).is_loopback
        self.token = secrets.token_urlsafe(24) if (not is_local if token is None else token) else ""
        self._http = _Http((str(address), port), _Handler, family)
        self._http.service, self._http.token = service, self.token
        self._http.ancestors = "*" if embedded else "'none'"
        names = {"localhost", "127.0.0.1", "::1", str(address), host.lower()}
        self._http.hosts = names if is_local else None
        self.listens_everywhere = ipaddress.ip_address(str(address)).is_unspecified
        host = own_address(family) if self.listens_everywhere else host
        shown = f"[{host}]" if ":" in host else host
        query = f"?token={self.token}" if self.token else ""
        self.url = f"http://{shown}:{self._http.server_address[1]}/{query}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True, name="undelude inspector")
        self._thread.start()

    def wait(self) -> None:
        """Return when the server was stopped; interruptible."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Stop the server and free its port."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def own_address(family: int) -> str:
    """Return the address that this machine has in its network, or that of this machine alone if it has none.

    A name of this machine may not resolve on another one.
    """
    # Connecting a datagram socket sends nothing: it only chooses the network. These addresses are of no machine.
    far, alone = ("2001:db8::1", "::1") if family == socket.AF_INET6 else ("192.0.2.1", "127.0.0.1")
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))
        except OSError:
            return alone
        return str(probe.getsockname()[0])


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    service: Service
    token: str
    ancestors: str
    # The names of this machine in a request; None for any. A page that makes its own name point here has another.
    hosts: set[str] | None

    def __init__(self, address: tuple[str, int], handler: Any, family: int):
        self.address_family = family
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that breaks or is too slow; show any other error on stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    server: _Http

    def do_GET(self) -> None:
        """Send a file of the page."""
        path = urlsplit(self.path).path
        if not self._is_welcome():
            self._refuse(HTTPStatus.FORBIDDEN, "this host or origin may not use the inspector.")
        elif path not in FILES:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page.")
        else:
            file = files("undelude").joinpath(*FILES[path])
            self._send(HTTPStatus.OK, file.read_bytes(), f"{TYPES[file.name.rpartition('.')[2]]}; charset=utf-8")

    def do_POST(self) -> None:
        """Answer a request of the page."""
        given = self.headers.get(TOKEN_HEADER)
        length = self.headers.get("Content-Length", "")
        if not self._is_welcome() or given is None:
            self._refuse(HTTPStatus.FORBIDDEN, "this host or origin may not use the inspector.")
        elif not hmac.compare_digest(given.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "the token is wrong: open the link that undelude inspect printed.")
        elif not (length.isascii() and length.isdecimal() and len(length) < 10) or int(length) > MAX_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has {MAX_BYTES} bytes at most.")
        else:
            self._answer(self.rfile.read(int(length)))

    def _answer(self, body: bytes) -> None:
        try:
            answer = self.server.service.answer(self.path.removeprefix("/api/"), json_object(body))
        except (ValueError, IndexError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except Exception as error:  # From the user's task or agent: the page shows it, and the server goes on.
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error!s:.400}")
        else:
            self._send_answer(answer)

    def _send_answer(self, answer: Mapping[str, Any]) -> None:
        try:
            body = json.dumps(answer, allow_nan=False).encode()
        except (ValueError, TypeError) as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"the answer is not JSON: {error!s:.400}")
        else:
            self._send(HTTPStatus.OK, body, "application/json")

    def _is_welcome(self) -> bool:
        """Return whether the request is from this page, and names this machine as its host."""
        named, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        site = self.headers.get("Sec-Fetch-Site", "none")
        try:
            host = urlsplit(f"//{named}").hostname
        except ValueError:
            return False
        is_own = origin is None or origin == f"http://{named}"
        is_known = self.server.hosts is None or host in self.server.hosts
        is_page = self.command == "GET" and urlsplit(self.path).path == "/"
        return is_known and is_own and (is_page or site in ("same-origin", "none"))

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        # Whatever the request still holds is not read.
        self.close_connection = True
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in HEADERS.items():
            self.send_header(name, value.replace("{ancestors}", self.server.ancestors))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Return the name of the server, without versions."""
        return "undelude"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal shows the link alone."""
        del format, args
