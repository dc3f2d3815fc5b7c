"""The server of the inspector: a page, and answers about the history that the page sends.

It keeps nothing between two requests: the history is in the browser. So two people at once do not meet, and a link or a
file holds the whole episode.
"""

import contextlib
import hmac
import io
import ipaddress
import json
import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from undelude._files import json_object
from undelude._inspector.service import Service

# Most bytes of a request, and the seconds within which all of it must arrive.
MAX_BYTES, SECONDS = 2**24, 30
# Most connections at once, each of which has a thread. If one more comes, the one that has waited longest for a request
# is closed, and the new one has so many seconds to get its place.
MAX_CONNECTIONS, PATIENCE = 64, 1.0
# The header of each request for answers. A page from elsewhere cannot send it without permission, which none gets.
TOKEN_HEADER = "X-Undelude-Token"
POLICY = "Content-Security-Policy"
HEADERS = {
    POLICY: (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'"
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
        for name in ("app", "state", "score", "numbers", "densities", "tables", "picture", "sharing")
    },
}
# The page of a link without the token.
NO_TOKEN = "_inspector", "page", "no-token.html"

# What is answered if there are too many connections, none of which can be closed.
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"error": "the inspector has too many connections: try again."}'
)


class Server:
    """An HTTP server for one inspection, in a thread of its own.

    Only this machine can reach it by default. The page, and each request for answers, need a random token, which is
    part of the link: others may share this machine or its network. Requests of pages from elsewhere are refused.

    Args:
        service: gives the answers.
        host: the address to listen on.
        port: 0 for any free one.
        embedded: whether other pages, such as a notebook, may show the page in a frame.

    Attributes:
        url: the link to the page.
        listens_everywhere: whether the host is the address of every network, such as 0.0.0.0.

    Raises:
        OSError: the host is unknown, or the port is in use.
    """

    def __init__(self, service: Service, *, host: str = "127.0.0.1", port: int = 0, embedded: bool = False):
        family, _, _, _, (address, *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        is_local = ipaddress.ip_address(str(address)).is_loopback
        self.token = secrets.token_urlsafe(24)
        self._http = _Http((str(address), port), _Handler, family)
        self._http.service, self._http.token = service, self.token
        # Without a word on ancestors, pages of any scheme may frame this one, as those of editors; * means http alone.
        self._http.ancestors = "" if embedded else "; frame-ancestors 'none'"
        names = {"localhost", "127.0.0.1", "::1", str(address), host.lower()}
        self._http.hosts = names if is_local else None
        self.listens_everywhere = ipaddress.ip_address(str(address)).is_unspecified
        host = own_address(family) if self.listens_everywhere else host
        shown = f"[{host}]" if ":" in host else host
        self._page = f"http://{shown}:{self._http.server_address[1]}/"
        self.url = f"{self._page}?token={self.token}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True, name="undelude inspector")
        self._thread.start()

    def link_for_once(self) -> str:
        """Return a link that opens the page one time, to start a browser with: others can see its arguments."""
        code = secrets.token_urlsafe(24)
        self._http.codes.add(code)
        return f"{self._page}?once={code}"

    def wait(self) -> None:
        """Return when the server was stopped; interruptible."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def stop(self) -> None:
        """Stop the server and free its port."""
        self._http.shutdown()
        self._http.server_close()
        self._http.end_connections()
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
        # Of links that open the page one time, and were not opened yet.
        self.codes: set[str] = set()
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        # Those whose next request has not arrived, the one that has waited longest first: a dictionary keeps the order.
        self.waiting: dict[socket.socket, None] = {}
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; if there are too many, say so and close it."""
        if not self._has_place():
            request.setblocking(False)
            with contextlib.suppress(OSError):
                request.send(BUSY)
            return self.shutdown_request(request)
        self._open.add(request)
        try:
            super().process_request(request, client_address)
        except BaseException:  # No thread could be started.
            self._forget(request)
            raise

    def _has_place(self) -> bool:
        """Take a place for one more connection, if need be that of a connection which waits for a request."""
        if self._free.acquire(blocking=False):
            return True
        # Whoever takes a connection out of `waiting` decides: this method, or the thread that has read its request.
        idle = next((x for x in list(self.waiting) if self.waiting.pop(x, True) is None), None)
        if idle is None:
            return False
        with contextlib.suppress(OSError):
            idle.shutdown(socket.SHUT_RDWR)
        return self._free.acquire(timeout=PATIENCE)

    def _forget(self, request: Any) -> None:
        self._open.discard(request)
        self.waiting.pop(request, None)
        self._free.release()

    def end_connections(self) -> None:
        """End the connections that are open, each of which would be answered as long as it stays so."""
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that breaks or is too slow; show any other error on stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Arriving(io.RawIOBase):
    """What arrives by a connection, until a deadline: a limit for each piece would not limit their number."""

    def __init__(self, connection: socket.socket):
        self.connection, self.deadline = connection, 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        rest = self.deadline - time.monotonic()
        if rest <= 0:
            raise TimeoutError("the request did not arrive in time.")
        self.connection.settimeout(rest)
        return self.connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http

    def setup(self) -> None:
        """Read with a deadline."""
        super().setup()
        self.rfile.close()
        self._arriving = _Arriving(self.connection)
        self.rfile = io.BufferedReader(self._arriving)

    def handle_one_request(self) -> None:
        """Answer the next request, if it arrives in time."""
        self._arriving.deadline = time.monotonic() + SECONDS
        self.server.waiting[self.connection] = None
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Read the rest of the headers, for which, and for the body, the time begins with the first line."""
        self._arriving.deadline = time.monotonic() + SECONDS
        is_request = super().parse_request()
        self.server.waiting.pop(self.connection, None)
        return is_request

    def do_GET(self) -> None:
        """Send a file of the page, which itself is for those who have the token."""
        try:
            address = urlsplit(self.path)
            path, query = address.path, parse_qs(address.query)
        except ValueError:
            return self._refuse(HTTPStatus.BAD_REQUEST, "the address of the request cannot be read.")
        if not self._is_welcome():
            self._refuse(HTTPStatus.FORBIDDEN, "this host or origin may not use the inspector.")
        elif path not in FILES:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page.")
        elif path == "/" and self._uses_code(query.get("once", [""])[0]):
            self._send(HTTPStatus.SEE_OTHER, b"", "text/html", Location=f"/?token={self.server.token}")
        elif path == "/" and not self._has_token(query.get("token", [""])[0]):
            self._send_file(HTTPStatus.FORBIDDEN, NO_TOKEN)
        else:
            self._send_file(HTTPStatus.OK, FILES[path])

    def do_POST(self) -> None:
        """Answer a request of the page."""
        given = self.headers.get(TOKEN_HEADER)
        length = self.headers.get("Content-Length", "")
        if not self._is_welcome() or given is None:
            self._refuse(HTTPStatus.FORBIDDEN, "this host or origin may not use the inspector.")
        elif not self._has_token(given):
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

    def _uses_code(self, code: str) -> bool:
        """Return whether a link for once is used now, for the first time."""
        try:
            self.server.codes.remove(code)
        except KeyError:
            return False
        return True

    def _has_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self.server.token.encode())

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        # Leave the rest of the request unread.
        self.close_connection = True
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send_file(self, status: HTTPStatus, place: tuple[str, ...]) -> None:
        file = files("undelude").joinpath(*place)
        self._send(status, file.read_bytes(), f"{TYPES[file.name.rpartition('.')[2]]}; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        self.connection.settimeout(SECONDS)  # Of all that is sent.
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in (HEADERS | headers).items():
            self.send_header(name, value + (self.server.ancestors if name == POLICY else ""))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Return the name of the server, without versions."""
        return "undelude"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal shows the link alone."""
        del format, args
