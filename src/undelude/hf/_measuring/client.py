"""A client of the OpenAI-compatible protocol: chat completions, by the standard library alone."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from undelude.hf._messages import without_authors

# Seconds before the first further try, doubled each time; seconds at most that a server may ask to wait.
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
# Tries of a call that may yet succeed: the server is overloaded or limits the rate.
TRIES = 6
# Tries of one that probably will not: nothing answers, or the server has an error of its own.
FEW_TRIES = 3
# Statuses after which to try again.
TRANSIENT = (408, 409, 425, 429, 500, 502, 503, 504)
# Bytes of a response.
MAX_BYTES = 2**24
# Fields that a server may refuse, and that a call can do without.
OPTIONAL = ("top_logprobs", "logprobs", "n", "top_p", "temperature", "max_tokens", "seed")
# Those of them without which the answers may have another distribution than the model's.
SAMPLING = ("temperature", "top_p")
# Fields that measuring sets, or that it could not work with.
OWN = ("model", "messages", "stream", "max_completion_tokens", *OPTIONAL)


def check_further(fields: Mapping[str, Any], who: str = "measuring") -> None:
    """Raise `ValueError` if further fields of the requests would change the answers.

    Args:
        fields: of every request.
        who: sets the others.
    """
    if "seed" in fields:
        raise ValueError("extra_body: seed cannot be given, because equal calls would have the same samples.")
    if own := sorted(fields.keys() & {*OWN}):
        raise ValueError(f"extra_body: {', '.join(own)} cannot be given, because {who} sets it.")


class ServerError(ConnectionError):
    """A server that cannot be reached, or that refuses a call; the message says what to do."""

    def __init__(self, message: str):
        super().__init__(message)


class _Refused(ServerError):
    """A field of the request that the server refuses."""

    def __init__(self, message: str, text: str):
        super().__init__(message)
        self.text = text


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A handler that follows no redirect, so that the API key goes to no other address."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        """Follow none."""


class Client:
    """A model behind an OpenAI-compatible server.

    Args:
        endpoint: the address, with or without `/v1`.
        model: its name there.
        api_key_variable: the environment variable that has the API key, if there is one. The key is never written.
        timeout: seconds to wait for a response.
        record: a file that keeps every response, and from which the same calls to the same address are answered again.
            Its folder is made if it is not there.
        extra_body: further fields of every request.
        who: makes the calls, and sets fields of the requests.
        calls_at_a_time: how the user sets it, for messages.

    Raises:
        ValueError: the address is not one, the record is damaged, or `extra_body` has a field that is set here.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        api_key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        record: str | os.PathLike[str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        who: str = "measuring",
        calls_at_a_time: str = "num_workers=, or --num-workers in a terminal",
    ):
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"endpoint must be an address such as http://localhost:8000/v1, not {endpoint!r}.")
        if parts.username is not None:
            raise ValueError(
                f"endpoint: the address of {parts.hostname} has a user or a password in it, which messages would "
                f"repeat. Leave it out, and put the key into the environment variable {api_key_variable}."
            )
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        self.endpoint = f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
        self.model, self.timeout = model, timeout
        self.num_calls, self.max_calls = 0, float("inf")
        self._key_variable, self._key = api_key_variable, os.environ.get(api_key_variable)
        self._extra = dict(extra_body or {})
        check_further(self._extra, who)
        self._calls_at_a_time = calls_at_a_time
        self._lock, self._dropped = threading.Lock(), set[str]()
        handlers: list[Any] = [_NoRedirect()]
        if parts.hostname in ("localhost", "127.0.0.1", "::1"):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)
        self._record = None if record is None else Path(record)
        self._known: dict[str, list[dict[str, Any]]] = {}
        if self._record is not None:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            self._known, self._dropped = _read_record(self._record)
        self.continues = bool(self._known)

    @property
    def refused(self) -> list[str]:
        """The fields of `SAMPLING` that the server refused, and that were left out."""
        return [name for name in SAMPLING if name in self._dropped]

    def complete(self, messages: Sequence[Mapping[str, Any]], repeat: int = 0, **fields: Any) -> list[dict[str, Any]]:
        """Return the choices with which a model continues a conversation.

        Args:
            messages: with `role` and `content`; other fields, such as `tool_calls`, are sent too, but `author` is not,
                which servers do not know.
            repeat: tells calls apart that are equal otherwise, such as several samples.
            **fields: of the request, such as `temperature`. One that the server refuses is left out if it can be.

        Raises:
            ServerError: the call failed, or there have been `max_calls` of them.
        """
        body = {"model": self.model, "messages": [dict(x) for x in messages]}
        body |= self._extra
        # With authors: conversations that differ in them alone are answered by draws of their own.
        call = json.dumps([self.endpoint, body, fields, repeat], sort_keys=True)
        key = hashlib.sha256(call.encode()).hexdigest()
        if key in self._known:
            return self._known[key]
        body["messages"] = without_authors(messages)
        while True:
            kept = {name: value for name, value in fields.items() if name not in self._dropped}
            if "max_tokens" in self._dropped:
                kept["max_completion_tokens"] = fields["max_tokens"]
            try:
                response = self._post("/chat/completions", body | kept)
                break
            except _Refused as error:
                refused = next((x for x in OPTIONAL if x in kept and re.search(rf"\b{x}\b", error.text)), None)
                if refused is None:
                    raise
                # Another thread may have dropped it by now.
                self._dropped.add(refused)
        choices = _choices(response, self.endpoint)
        self._keep(key, choices)
        return choices

    def models(self) -> list[str]:
        """Return the names of the models of the server; none if it does not tell."""
        try:
            listed = self._send("GET", "/models", None)
            return [str(model["id"]) for model in listed["data"]]
        except (OSError, KeyError, TypeError, ValueError):
            return []

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        wait = FIRST_WAIT
        for attempt in range(TRIES):
            with self._lock:
                if self.num_calls >= self.max_calls:
                    raise ServerError(f"the budget of {self.max_calls} calls is spent: raise max_calls.")
                self.num_calls += 1
            try:
                return self._send("POST", path, body)
            except urllib.error.HTTPError as error:
                text = _error_text(error)
                if error.code not in TRANSIENT or attempt == _tries(error.code) - 1 or "quota" in text:
                    raise self._explain(error.code, text, attempt + 1) from None
                wait = _retry_after(error, wait)
            except ServerError:  # The answer of something else, such as a page: it stays the same.
                raise
            except (OSError, http.client.HTTPException) as error:
                # Nothing answers at all: at the start there is nothing to wait for.
                if attempt == TRIES - 1 or (_is_refused(error) and attempt == FEW_TRIES - 1):
                    raise self._unreachable(error) from None
            time.sleep(min(wait, LONGEST_WAIT))
            wait *= 2
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.endpoint + path, data, headers, method=method)
        with self._opener.open(request, timeout=self.timeout) as response:
            text = response.read(MAX_BYTES)
        try:
            return json.loads(text)
        except ValueError:
            raise ServerError(
                f"{self.endpoint} answered with something that is not JSON ({text[:60]!r}): is it the address of an "
                "OpenAI-compatible server, such as http://localhost:8000/v1?"
            ) from None

    def _explain(self, status: int, text: str, tries: int) -> ServerError:
        said = f" It says: {text}" if text else ""
        if status in (401, 403):
            what = "refused the API key in" if self._key else "asks for an API key: set"
            return ServerError(f"{self.endpoint} {what} {self._key_variable} (status {status}).{said}")
        if status == 404:
            models = self.models()
            if models and self.model not in models:
                names = ", ".join(models[:20]) + (", ..." if len(models) > 20 else "")
                return ServerError(f"{self.endpoint} has no model {self.model!r}. It has: {names}.")
            return ServerError(
                f"{self.endpoint}/chat/completions was not found (status 404): check the address, which often ends in "
                f"/v1, and the model {self.model!r}.{said}"
            )
        if status == 429:
            return ServerError(
                f"{self.endpoint} limits the rate of calls (status 429), after {tries} tries: wait, or make fewer "
                f"calls at a time ({self._calls_at_a_time}).{said}"
            )
        if 300 <= status < 400:
            return ServerError(f"{self.endpoint} redirects to another address (status {status}): use that one.{said}")
        if status >= 500:
            tried = f"after {tries} tries" if tries > 1 else "at the first try"
            return ServerError(f"{self.endpoint} failed {tried} (status {status}), for the model {self.model!r}.{said}")
        message = f"{self.endpoint} refused the call for the model {self.model!r} (status {status}).{said}"
        return _Refused(message, text) if status in (400, 422) else ServerError(message)

    def _unreachable(self, error: BaseException) -> ServerError:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return ServerError(
                f"{self.endpoint} gave no answer within {self.timeout:g} seconds (timeout), {TRIES} times: allow "
                f"more, or make fewer calls at a time ({self._calls_at_a_time})."
            )
        if _is_refused(error):
            return ServerError(f"nothing answers at {self.endpoint} (connection refused): is the server running?")
        return ServerError(f"{self.endpoint} could not be reached: {reason}.")

    def _keep(self, key: str, choices: list[dict[str, Any]]) -> None:
        with self._lock:
            self._known[key] = choices
            if self._record is not None:
                with self._record.open("a", encoding="utf-8") as file:
                    entry = {"call": key, "choices": choices} | ({"refused": self.refused} if self.refused else {})
                    file.write(json.dumps(entry) + "\n")


def _tries(status: int) -> int:
    """Return how often a call is made that fails with a status: an error of the server's own program often stays."""
    return FEW_TRIES if status == 500 else TRIES


def _choices(response: Any, endpoint: str) -> list[dict[str, Any]]:
    """Return each choice: its text, why it ended, its first token, and the log-probabilities of that token's place."""
    try:
        found = []
        for choice in response["choices"]:
            content = (choice.get("logprobs") or {}).get("content") or None
            top = content and [[str(x["token"]), float(x["logprob"])] for x in content[0].get("top_logprobs") or []]
            token = str(content[0]["token"]) if top and content else None
            text, end = choice["message"].get("content") or "", choice.get("finish_reason")
            found.append({"text": text, "token": token, "top": top or None, "end": end})
        if not found:
            raise KeyError("choices")
        return found
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise ServerError(
            f"{endpoint} answered, but not with chat completions ({json.dumps(response)[:80]}): is it an "
            "OpenAI-compatible server?"
        ) from None


def _read_record(file: Path) -> tuple[dict[str, list[dict[str, Any]]], set[str]]:
    """Return the recorded choices by call, and the refused fields; a last line that was cut off is removed."""
    if not file.exists():
        return {}, set()
    text = file.read_text(encoding="utf-8")
    known, refused, lines = {}, set[str](), text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            choices = entry["choices"]
            known[entry["call"]] = [
                {name: x[name] for name in ("text", "token", "top")} | {"end": x.get("end")} for x in choices
            ]
            refused |= {*entry.get("refused", ())}
        except (ValueError, KeyError, TypeError):
            if number < len(lines):
                raise ValueError(f"record: line {number} of {file} is damaged; remove the line, or the file.") from None
            os.truncate(file, len(text.encode()) - len(line.encode()) - text.endswith("\n"))
            return known, refused
    if text and not text.endswith("\n"):  # The next response would be written into the last line.
        with file.open("a", encoding="utf-8") as opened:
            opened.write("\n")
    return known, refused


def _error_text(error: urllib.error.HTTPError) -> str:
    """Return the server's own message about an error, in one line."""
    try:
        text = error.read(2**16).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""
    with contextlib.suppress(ValueError):
        data = json.loads(text)
        said = data.get("error", data.get("detail", data)) if isinstance(data, dict) else data
        said = said.get("message", said) if isinstance(said, dict) else said
        text = said if isinstance(said, str) else json.dumps(said)
    return " ".join(text.split())[:300]


def _retry_after(error: urllib.error.HTTPError, wait: float) -> float:
    try:
        return max(float(error.headers.get("Retry-After", "")), 0.0)
    except ValueError:
        return wait


def _is_refused(error: BaseException) -> bool:
    return isinstance(getattr(error, "reason", error), ConnectionRefusedError)
