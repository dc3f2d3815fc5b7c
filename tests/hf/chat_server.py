"""A server of the OpenAI-compatible protocol on loopback, for tests: any model that gives probabilities of texts."""

import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

Messages = Sequence[Mapping[str, Any]]
# Fields of a message in the protocol; strict servers refuse others.
MESSAGE_FIELDS = {"role", "content", "name", "tool_calls", "tool_call_id"}


class ChatServer(ThreadingHTTPServer):
    """A server; use it as a context manager.

    Args:
        model: returns the probability of each text that it may say next.
        logprobs: whether it gives the log-probabilities of first tokens, which are the first letters of texts.
        several: whether it heeds `n`.
        num_top: the most log-probabilities that it gives.
        tokenize: returns the first token of a text.
        port: where it listens; 0 for any.
        refuses: gives a status and a message to refuse a request with, or None.
    """

    daemon_threads = True

    def __init__(
        self,
        model: Callable[[Messages], Mapping[str, float]],
        *,
        name: str = "tiny",
        logprobs: bool = True,
        several: bool = True,
        num_top: int | None = None,
        tokenize: Callable[[str], str] = lambda text: text[:3],
        port: int = 0,
        refuses: Callable[["ChatServer", Mapping[str, str], dict[str, Any]], tuple[int, Any] | None] | None = None,
    ):
        super().__init__(("127.0.0.1", port), _Handler)
        self.model, self.name, self.logprobs, self.several, self.refuses = model, name, logprobs, several, refuses
        self.num_top, self.tokenize = num_top, tokenize
        self.requests: list[dict[str, Any]] = []
        self.lock, self.rng = threading.Lock(), np.random.default_rng(0)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> "ChatServer":
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        said = self.model(body["messages"])
        texts, probs = list(said), np.array(list(said.values()), float)
        n = body.get("n", 1) if self.several else 1
        with self.lock:
            drawn = [texts[i] for i in self.rng.choice(len(texts), size=n, p=probs / probs.sum())]
        choices: list[dict[str, Any]] = [{"message": {"role": "assistant", "content": text}} for text in drawn]
        if self.logprobs and body.get("logprobs"):
            by_token: dict[str, float] = {}
            for text, p in said.items():
                by_token[self.tokenize(text)] = by_token.get(self.tokenize(text), 0.0) + p
            ordered = sorted(by_token.items(), key=lambda x: -x[1])[: self.num_top]
            top = [{"token": token, "logprob": math.log(p)} for token, p in ordered if p > 0]
            choices[0]["logprobs"] = {"content": [{"token": self.tokenize(drawn[0]), "top_logprobs": top}]}
        return {"object": "chat.completion", "choices": choices}


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send(200, {"data": [{"id": self.server.name}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(body)
        if self.server.refuses and (refused := self.server.refuses(self.server, dict(self.headers), body)):
            self.send(*refused)
        elif not self.path.endswith("/chat/completions") or body["model"] != self.server.name:
            self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        elif unknown := {name for message in body["messages"] for name in message} - MESSAGE_FIELDS:
            self.send(400, {"error": {"message": f"Unknown fields of a message: {sorted(unknown)}."}})
        else:
            self.send(200, self.server.complete(body))

    def send(self, status: int, data: Any) -> None:
        text = data.encode() if isinstance(data, str) else json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """Print nothing."""
