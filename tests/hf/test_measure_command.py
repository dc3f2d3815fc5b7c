"""The command `undelude measure`, against a server on loopback."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf.chat_server import ChatServer
from hf.exact_model import ExactModel
from undelude._cli import main
from undelude.hf import MenuDialogue
from undelude.hf._measuring import client


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    dialogue = MenuDialogue(dishes=("tacos", "soup", "pizza"), num_turns=1)
    with ChatServer(ExactModel(dialogue.process, "see", dialogue.probe)) as server:
        yield server


def arguments(server: ChatServer, *more: str) -> list[str]:
    game = ["--dishes", "tacos, soup, pizza", "--num-turns", "1", "--num-conversations", "3"]
    return ["measure", "--endpoint", server.endpoint, "--model", "tiny", *game, *more]


def test_the_report_is_printed_and_written(server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """JSON alone on stdout; the table with the exact values on stderr; a page that opens no URL."""
    page = tmp_path / "page.html"
    assert main(arguments(server, "--yes", "--json", "--out", str(page))) == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["verdict"] == "deluded"
    assert data["auto_suggestion"] == pytest.approx(0.7042, abs=1e-3)
    assert "Deluded. The model takes its own words for evidence" in err
    assert "sober, 1" in err
    html = page.read_text()
    assert "Deluded." in html
    assert "0.704" in html
    assert "http://" not in html
    assert "<script" not in html


def test_no_call_without_agreement(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The number of calls is told: 3 conversations of 9 requests. Neither a "no" nor a missing terminal agrees."""
    before = len(server.requests)
    assert main(arguments(server)) == 2
    err = capsys.readouterr().err
    assert "up to 28 calls" in err
    assert "up to 299 " in err
    assert "add --yes" in err

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert main(arguments(server)) == 1
    assert "no call was made" in capsys.readouterr().err
    assert len(server.requests) == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert main(arguments(server)) == 0
    assert len(server.requests) > before


def test_further_fields_are_in_every_request(server: ChatServer, capsys: pytest.CaptureFixture) -> None:
    fields = {"top_k": -1, "chat_template_kwargs": {"enable_thinking": False}}
    before = len(server.requests)
    assert main(arguments(server, "--yes", "--json", "--extra-body", json.dumps(fields))) == 0
    sent = server.requests[before:]
    assert sent
    assert all(body["messages"] and fields.items() <= body.items() for body in sent)
    assert json.loads(capsys.readouterr().out)["num_calls"] == len(sent)


@pytest.mark.parametrize("name", ["temperature", "stream", "seed"])
def test_fields_that_change_what_is_measured_are_refused_before_the_question(
    name: str, server: ChatServer, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments(server, "--extra-body", json.dumps({name: 1}))) == 1
    err = capsys.readouterr().err
    assert f"{name} cannot be given" in err
    assert "calls if" not in err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["measure"], "either the FOLDER of a local one, or --endpoint"),
        (["measure", "--endpoint", "http://localhost:1"], "belong together"),
        (["measure", "--endpoint", "localhost:1", "--model", "m"], "must be an address"),
        (["measure", "nowhere"], "not the folder of a model"),
        (["measure", "--endpoint", "http://localhost:1", "--model", "m", "--dishes", "soup"], "two or more different"),
        (
            ["measure", "--endpoint", "http://localhost:1", "--model", "m", "--samples", "1"],
            "--samples must be at least 2",
        ),
        (["measure", "--endpoint", "http://localhost:1", "--model", "m", "--out", "page.txt"], "--out must name"),
        (["measure", "--endpoint", "http://localhost:1", "--model", "m", "--record", "no/x"], "--record must name"),
        (["measure", "--endpoint", "http://localhost:1", "--model", "m", "--max-calls", "5"], "--max-calls is 5"),
        (
            ["measure", "--endpoint", "http://localhost:1", "--model", "m", "--extra-body", "[1]"],
            "must be a JSON object",
        ),
        (
            ["measure", "--endpoint", "http://localhost:1", "--model", "m", "--extra-body", "{top_k: -1}"],
            "--extra-body must be JSON, not",
        ),
        (
            ["measure", "--endpoint", "http://localhost:1", "--model", "m", "--chat-template-kwargs", "{}"],
            "--chat-template-kwargs is for a local model",
        ),
        (["measure", "src", "--max-calls", "9"], "--max-calls is for the calls to a server"),
        (["measure", "src", "--extra-body", "{}"], "--extra-body is for the requests to a server"),
    ],
)
def test_wrong_usage(wrong: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(wrong) == 2
    assert message in capsys.readouterr().err


def test_errors_of_the_server_are_one_line(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT", 0.001)
    wrong = arguments(server, "--yes")
    wrong[wrong.index("tiny")] = "large"
    assert main(wrong) == 1
    assert capsys.readouterr().err.endswith("has no model 'large'. It has: tiny.\n")
    assert main(["measure", "--endpoint", "http://127.0.0.1:9", "--model", "m", "--yes"]) == 1
    assert "is the server running?" in capsys.readouterr().err
