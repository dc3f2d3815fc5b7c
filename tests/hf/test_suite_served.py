"""`undelude suite run` of a language model behind a server on loopback."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hf.chat_server import ChatServer, Messages
from hf.exact_model import ExactModel
from undelude._cli import main
from undelude._suite.results import read_result
from undelude._versioned_tasks import find_task
from undelude.hf import MenuDialogue, served_agent


@pytest.fixture(scope="module")
def model() -> ExactModel:
    """The exact deluded agent of menu-v1, on a menu of letters, whose replies have the same distribution."""
    letters = MenuDialogue(dishes=("a", "b", "c", "d", "e"), num_turns=20)
    model = ExactModel(letters.process, "see", letters.probe)
    model.dishes = find_task("menu-v1").make().task.dishes
    return model


@pytest.fixture(scope="module")
def server(model: ExactModel) -> Iterator[ChatServer]:
    with ChatServer(model, tokenize=str) as server:
        yield server


def first_word(text: str) -> str:
    return text.split()[0]


def suite(server: ChatServer, *more: str) -> list[str]:
    return ["suite", "run", server.endpoint, "--model", "tiny", "--num-episodes", "8", *more]


def test_a_served_model_plays_the_dialogues(server: ChatServer, tmp_path: Path) -> None:
    """The exact deluded agent, asked once a turn, is at distance 0 from itself by utterances and by words.

    The result has no address.
    """
    out = tmp_path / "tiny.json"
    tasks = ("menu-v1", "menu_by_token-v1", "frog-v1")
    assert main(suite(server, "--tasks", *tasks, "--yes", "--out", str(out))) == 0
    assert "127.0.0.1" not in out.read_text()
    found = read_result(out)
    assert (found.agent, found.source) == ("tiny", "served:tiny, 20 samples")
    for name in ("undelude/menu-v1", "undelude/menu_by_token-v1"):
        assert found.tasks[name].score("action_kl_see").value == pytest.approx(0, abs=1e-5)
        assert found.tasks[name].score("action_kl_do").value > 0.05
    assert found.tasks["undelude/frog-v1"].status == "not played"
    assert "asked in words" in str(found.tasks["undelude/frog-v1"].why)


def test_only_tasks_without_words_are_left(server: ChatServer, tmp_path: Path) -> None:
    """An interrupted command goes on, and makes no calls, though no dialogue is left to play."""
    command = suite(server, "--tasks", "menu-v1", "frog-v1", "--yes", "--out", str(tmp_path / "x.json"))
    assert main(command) == 0
    kept = json.loads((tmp_path / "x.json").read_text())
    del kept["tasks"]["undelude/frog-v1"]
    (tmp_path / "x.json").write_text(json.dumps(kept))
    before = len(server.requests)
    assert main([*command, "--resume"]) == 0
    assert read_result(tmp_path / "x.json").tasks["undelude/frog-v1"].status == "not played"
    assert len(server.requests) == before


def test_no_call_without_agreement(server: ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Eight episodes of 20 turns: 160 answers."""
    before = len(server.requests)
    assert main(suite(server, "--tasks", "menu-v1", "--out", str(tmp_path / "x.json"))) == 2
    assert "up to 161 calls" in capsys.readouterr().err
    assert main(suite(server, "--tasks", "menu-v1", "--max-calls", "150", "--yes")) == 2
    assert "--max-calls is 150, and measuring takes up to 161" in capsys.readouterr().err
    assert len(server.requests) == before
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize("several", [False, True])
def test_answers_that_begin_alike_are_sampled_within_the_budget(
    several: bool, model: ExactModel, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Two dishes begin with "fish". A record answers all of it again; another number of samples is another agent."""
    out, again, record = (tmp_path / name for name in ("x.json", "again.json", "record.jsonl"))
    with ChatServer(model, tokenize=first_word, several=several) as server:
        command = [*suite(server, "--tasks", "menu-v1", "menu_by_token-v1"), "--num-episodes", "2"]
        recorded = [*command, "--samples", "2", "--record", str(record), "--yes"]
        assert main([*recorded, "--out", str(out)]) == 0
        num_calls = len(server.requests)
        assert main([*recorded, "--out", str(again)]) == 0
        assert len(server.requests) == num_calls
        assert main([*command, "--samples", "3", "--out", str(out), "--resume"]) == 2
    assert "served:tiny, 2 samples" in capsys.readouterr().err
    first, second = (read_result(file).tasks for file in (out, again))
    for name, found in first.items():
        assert found.notes["answers"] == "estimated from 2 samples each. 100.0% of the sampled texts name a dish."
        assert found.scores == second[name].scores


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_model_that_names_no_dish_declines(
    share: float, model: ExactModel, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Its texts say nothing about what it would choose, and equal probabilities would look half sober."""
    few, many = tmp_path / "few.json", tmp_path / "many.json"

    def sorry(messages: Messages) -> dict[str, float]:
        return {dish: share * p for dish, p in model(messages).items()} | {"I am sorry.": 1 - share}

    with ChatServer(sorry, logprobs=False) as server:
        command = [*suite(server, "--tasks", "menu-v1", "--yes"), "--samples", "5"]
        assert main([*command, "--num-episodes", "2", "--out", str(few)]) == 0
        assert main([*command, "--num-episodes", "64", "--out", str(many)]) == 0
        assert len(server.requests) < 2 * 20 + 2 * 64 + 3  # It is not asked to the end.
    for out in (few, many):
        found = read_result(out).tasks["undelude/menu-v1"]
        assert (found.status, found.scores) == ("not played", {})
        assert "of the sampled texts name a dish: what it would choose is not known" in str(found.why)
    assert "does not play undelude/menu-v1" in capsys.readouterr().out


def test_an_agent_in_python_warns_of_texts_that_name_no_dish() -> None:
    process = find_task("menu-v1").make()
    with ChatServer(lambda messages: {"I am sorry.": 1.0}, logprobs=False) as server:
        agent = served_agent(process, endpoint=server.endpoint, model="tiny", max_calls=9, num_samples=2)
        with pytest.warns(UserWarning, match=r"0\.0% of the sampled texts name a dish: the others are left out"):
            agent.predict(agent.reset(1), None, None)


def test_words_of_no_dish_are_refused() -> None:
    process = find_task("menu_by_token-v1").make()
    agent = served_agent(process, endpoint="http://127.0.0.1:9", model="tiny", max_calls=1)
    with pytest.raises(ValueError, match=r"the words \[.*\] name no dish"):
        agent.predict(agent.reset(1), np.array([process.action_spec.n - 1]), np.array([3]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["http://127.0.0.1:9/v1"], "name the model there with --model"),
        (["exact:do", "--max-calls", "9"], "--max-calls is for a served model, whose address begins"),
        (["exact:do", "--yes"], "--yes is for a served model"),
        (["http://127.0.0.1:9/v1", "--model", "m", "--tasks", "frog-v1", "--yes"], "no task of --tasks is one"),
        (["http://127.0.0.1:9/v1", "--model", "m", "--extra-body", json.dumps({"seed": 1})], "seed cannot be given"),
    ],
)
def test_wrong_usage(wrong: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["suite", "run", *wrong]) == 2
    assert message in capsys.readouterr().err
