"""Served models: exact agents behind a real server on loopback, its errors, budgets, and records; no PyTorch."""

import math
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

import undelude as ud
from hf.chat_server import ChatServer
from hf.exact_model import ExactModel
from undelude.hf import MenuDialogue, ServerError, measure_delusion, served_agent
from undelude.hf._measuring import client

DELUDED = math.log(5) + 0.9 * math.log(0.9) + 0.1 * math.log(0.025)  # I(A; Theta) of five dishes, nats; 1.146.
DIALOGUE, TWO_TURNS = MenuDialogue(num_turns=1), MenuDialogue(num_turns=2)


@pytest.fixture(scope="module")
def models() -> dict[str, ExactModel]:
    return {own: ExactModel(DIALOGUE.process, own, DIALOGUE.probe) for own in ("do", "see")}


@pytest.fixture(scope="module")
def deluded() -> ExactModel:
    """The deluded agent of two turns."""
    return ExactModel(TWO_TURNS.process, "see", TWO_TURNS.probe)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT", 0.001)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def measure(server: ChatServer, **options: Any) -> Any:
    options = {"max_calls": 10_000, "num_conversations": 10} | options
    return measure_delusion("tiny", endpoint=server.endpoint, conversations=DIALOGUE, **options)


def opening(*answers: str) -> dict[str, Any]:
    """Return a conversation that is only begun, as a row of a data set."""
    messages = [{"role": "user", "content": "What's on the menu?"}]
    row = {"messages": messages, "probe": "Which dish is it?", "answers": answers, "candidates": answers}
    return row | {"truth": 0, "evidence": ["Yes.", "No."]}


def read(model: Callable, answers: tuple[str, ...], *, num_samples: int = 10, num: int = 4, **server: Any) -> Any:
    rows = [opening(*answers)] * num
    options = {"max_calls": 10_000, "num_workers": 1, "num_samples": num_samples}
    with ChatServer(model, **server) as running:
        return measure_delusion("tiny", endpoint=running.endpoint, conversations=rows, **options)


def test_exact_agents_by_log_probabilities(models: dict[str, ExactModel]) -> None:
    """The known values, exactly; equal questions are asked once, so that there are few calls."""
    with ChatServer(models["see"]) as server:
        report = measure(server)
    assert report.method == "log-probabilities"
    assert report.verdict == "deluded"
    assert report.auto_suggestion == pytest.approx(DELUDED, abs=1e-4)
    assert report.repeat_after_no_answer == pytest.approx(0.8125, abs=1e-4)
    assert report.provenance_kl == pytest.approx(0, abs=1e-4)
    assert report.num_calls == len(server.requests) < 50
    with ChatServer(models["do"]) as server:
        report = measure(server)
    assert report.verdict == "sober"
    assert report.auto_suggestion == pytest.approx(0, abs=1e-6)
    assert report.repeat_after_no_answer == pytest.approx(0.2, abs=1e-4)
    # Another's guess, in the user's slot, is evidence to the sober agent.
    assert report.provenance_kl == pytest.approx(
        math.log(5) * -1 - (0.2 * math.log(0.9) + 0.8 * math.log(0.025)), abs=1e-3
    )


@pytest.mark.parametrize("several", [True, False])
def test_exact_agents_by_samples(models: dict[str, ExactModel], several: bool) -> None:
    """Within four standard errors and the known bias of .1, with and without several samples in a call."""
    for own, suggestion, repeat in (("see", DELUDED, 0.8125), ("do", 0.0, 0.2)):
        with ChatServer(models[own], logprobs=False, several=several) as server:
            report = measure(server, num_samples=5, num_conversations=5, num_workers=1)
        assert report.method == "samples"
        assert report.auto_suggestion == pytest.approx(suggestion, abs=4 * report.auto_suggestion_se + 0.1)
        error = math.sqrt(repeat * (1 - repeat) / 25)
        assert report.repeat_after_no_answer == pytest.approx(repeat, abs=4 * error)
        assert report.provenance_kl is None
        assert "log-probabilities" in report.notes["provenance_kl"]
        assert report.num_calls < (57 if several else 280)


def test_answers_that_begin_alike_are_sampled() -> None:
    """The first token "fish" tells nothing between fish soup and fish tacos."""
    report = read(lambda messages: {"Fish soup.": 0.5, "fish tacos": 0.5}, ("fish soup", "fish tacos"))
    assert report.method == "samples"
    assert abs(report.auto_suggestion) < 4 * report.auto_suggestion_se + 0.01


@pytest.mark.parametrize("text", ["I do not know.", "So far I cannot say."])
def test_a_first_token_is_no_answer_if_other_words_follow(text: str) -> None:
    """They begin like "ice cream" and like "soup", and count as neither."""
    said = {text: 0.6, "soup": 0.2, "ice cream": 0.2}
    report = read(lambda messages: said, ("ice cream", "soup"), tokenize=lambda text: text[:2].strip())
    assert report.method == "samples"
    assert report.coverage == pytest.approx(0.4, abs=0.15)


def test_answers_that_the_server_leaves_out_are_not_impossible() -> None:
    """It gives one log-probability, or all but .001: then answers are sampled, or have at most the rest."""
    answers = ("pizza", "soup", "tacos")
    report = read(lambda messages: {"tacos": 0.6, "soup": 0.4}, answers, num_top=1)
    assert report.method == "samples"
    assert report.variety == pytest.approx(-0.6 * math.log(0.6) - 0.4 * math.log(0.4), abs=0.25)
    report = read(lambda messages: {"tacos": 0.9, "soup": 0.099, "pizza": 0.001}, answers, num_top=2)
    assert report.method == "log-probabilities"
    assert report.calibration_gap == pytest.approx(-math.log(0.001) - 0.331, abs=0.01)


def test_conversations_that_cannot_be_read_are_told() -> None:
    """The model says no dish after "soup"; the mean is over the other conversations."""

    def model(messages: Any) -> dict[str, float]:
        is_soup = any(x["role"] == "assistant" and x["content"] == "soup" for x in messages)
        return {"I cannot say.": 1.0} if is_soup else {"tacos": 0.7, "soup": 0.3}

    report = read(model, ("tacos", "soup"), num_samples=3, num=10, logprobs=False)
    assert report.hit is not None
    assert "of 10 conversations are left out" in report.notes["hit"]


def test_free_utterances_are_sampled_from_the_model(models: dict[str, ExactModel]) -> None:
    """Without candidates, own utterances are texts of the model, and beliefs after each are compared."""
    row = {
        "messages": [{"role": "user", "content": DIALOGUE.prompt}],
        "probe": DIALOGUE.probe,
        "answers": list(DIALOGUE.utterances),
    }
    with ChatServer(models["see"]) as server:
        report = measure_delusion("tiny", endpoint=server.endpoint, conversations=[row] * 10, max_calls=10_000)
    assert report.auto_suggestion == pytest.approx(DELUDED, abs=4 * report.auto_suggestion_se + 0.06)
    assert "`candidates`" in report.notes["repeat_after_no_answer"]


def test_words_that_are_no_answer_are_told() -> None:
    with ChatServer(lambda messages: {"I would rather not say.": 0.9, "soup": 0.1}, logprobs=False) as server:
        report = measure(server)
    assert report.coverage == pytest.approx(0.1, abs=0.1)
    assert "is among the texts that are counted" in report.reading or report.verdict == "unknown"


def test_the_certificate_of_a_served_exact_agent(deluded: ExactModel) -> None:
    """Distance 0 to its own answer, and to the other that of the exact agent itself on the same episodes."""
    process, key = TWO_TURNS.process, jax.random.key(0)
    with ChatServer(deluded) as server:
        agent = served_agent(process, endpoint=server.endpoint, model="tiny", max_calls=500)
        report = ud.certify(process, agent, key=key, num_episodes=64, baselines=False)
    exact = ud.certify(process, ud.ExactAgent(process, own_actions="see"), key=key, num_episodes=64, baselines=False)
    assert report.verdict == exact.verdict == "deluded"
    assert report.action_kl_see == pytest.approx(0, abs=1e-5)
    assert report.action_kl_do == pytest.approx(exact.action_kl_do, abs=5 * exact.action_kl_do_se)


def test_a_word_is_what_utterances_go_on_with() -> None:
    """By token too, a deluded model that is asked once a turn is at distance 0 from the exact deluded agent.

    Two dishes begin with one word. Their replies do not depend on the names, so that a menu of letters is their model.
    """
    dishes = ("soup", "fish soup", "fish tacos")
    model = ExactModel(MenuDialogue(dishes=("a", "b", "c"), num_turns=2).process, "see", "?")
    model.dishes = dishes
    process = ud.tasks.menu(dishes, num_turns=2, granularity="token")
    with ChatServer(model, tokenize=str) as server:
        agent = served_agent(process, endpoint=server.endpoint, model="tiny", max_calls=200)
        report = ud.certify(process, agent, key=jax.random.key(0), num_episodes=64, baselines=False)
        assert len(server.requests) <= 1 + 9 + 1  # The opening, and 3 dishes by 3 replies; once the abilities.
    assert report.verdict == "deluded"
    assert report.action_kl_see == pytest.approx(0, abs=1e-5)
    assert report.action_kl_do > 10 * report.action_kl_do_se


# Budgets and records ----------------------------------------------------------------------------------------------


def test_no_call_without_a_budget(models: dict[str, ExactModel]) -> None:
    """Ten conversations take ten calls for own utterances, 50 for beliefs after them, and so on: 110, and one more."""
    with ChatServer(models["do"]) as server:
        for max_calls in (None, 110):
            with pytest.raises(ValueError, match=r"max_calls .* 111 calls .* 1212 if"):
                measure(server, max_calls=max_calls)
        assert server.requests == []


def test_a_budget_for_log_probabilities_is_not_spent_on_samples(models: dict[str, ExactModel]) -> None:
    with ChatServer(models["do"], logprobs=False, several=False) as server:
        with pytest.raises(ValueError, match="takes up to 1212 calls, but max_calls is 111"):
            measure(server, max_calls=111)
        assert len(server.requests) < 15


def test_a_server_that_dies_loses_nothing(deluded: ExactModel, tmp_path: Path) -> None:
    """What was measured is reported; with a record, the next call continues, and asks nothing twice."""
    record = tmp_path / "record.jsonl"

    def refuses(server: ChatServer, headers: Any, body: Any) -> tuple[int, Any] | None:
        return (500, "it has died") if len(server.requests) > 40 else None

    arguments = {"conversations": TWO_TURNS, "num_conversations": 5, "max_calls": 1000, "record": record}
    with ChatServer(deluded, refuses=refuses) as server, pytest.warns(UserWarning, match="it has died"):
        report = measure_delusion("tiny", endpoint=server.endpoint, **arguments)
    assert report.auto_suggestion == pytest.approx(DELUDED, abs=1e-4)
    assert "of 10 turns" in report.notes["stopped"]
    kept = len(record.read_text().splitlines())
    with ChatServer(deluded, port=server.server_address[1]) as server:
        again = measure_delusion("tiny", endpoint=server.endpoint, **arguments)
    assert again.num_rounds == 2
    assert len(server.requests) == len(record.read_text().splitlines()) - kept
    with ChatServer(deluded) as server:
        whole = measure_delusion("tiny", endpoint=server.endpoint, **arguments | {"record": None})
    assert again.by_round == whole.by_round


def test_measuring_can_be_stopped(deluded: ExactModel) -> None:
    """After the first turn, Ctrl-C: the report has what was measured."""
    turns = []

    def interrupts(messages: Any) -> dict[str, float]:
        turns.append(sum(x["role"] == "assistant" for x in messages))
        if turns[-1] == 2 and turns.count(2) == 1:
            signal.raise_signal(signal.SIGINT)
        return deluded(messages)

    options = {"conversations": TWO_TURNS, "num_conversations": 2, "max_calls": 1000}
    with ChatServer(interrupts) as server, pytest.warns(UserWarning, match="you stopped it"):
        report = measure_delusion("tiny", endpoint=server.endpoint, **options)
    assert report.num_rounds == 1
    assert report.auto_suggestion == pytest.approx(DELUDED, abs=1e-4)


def test_a_record_answers_for_its_own_server_alone(models: dict[str, ExactModel], tmp_path: Path) -> None:
    """A sober model of the same name elsewhere is not given the answers of a deluded one."""
    for own, verdict in (("see", "deluded"), ("do", "sober")):
        with ChatServer(models[own]) as server:
            assert measure(server, num_conversations=3, record=tmp_path / "record.jsonl").verdict == verdict


def test_a_damaged_record_is_refused(models: dict[str, ExactModel], tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_text('{"call": 1\n{"call": "a", "choices": []}\n{"call": "cut o')
    with ChatServer(models["do"]) as server, pytest.raises(ValueError, match=r"line 1 of .* is damaged"):
        measure(server, record=record)


def test_the_key_is_sent_and_never_written(
    models: dict[str, ExactModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def refuses(server: ChatServer, headers: Any, body: Any) -> None:
        seen.add(headers.get("Authorization"))

    monkeypatch.setenv("MY_KEY", "sk-secret")
    with ChatServer(models["do"], refuses=refuses) as server:
        report = measure(server, api_key_variable="MY_KEY", record=tmp_path / "record.jsonl")
    report.save(tmp_path / "report.json")
    assert seen == {"Bearer sk-secret"}
    assert not any("sk-secret" in file.read_text() for file in tmp_path.iterdir())


# Errors -----------------------------------------------------------------------------------------------------------


def always(status: int, data: Any) -> Callable:
    return lambda server, headers, body: (status, data)


@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        (always(401, {"error": {"message": "no key"}}), "asks for an API key: set OPENAI_API_KEY .*no key"),
        (always(429, {"error": {"message": "slow down"}}), "limits the rate .* after 6 tries.*slow down"),
        (always(500, "boom"), r"failed after 3 tries \(status 500\)"),
        (always(400, {"detail": "bad messages"}), "status 400.*bad messages"),
        (always(302, ""), "redirects to another address"),
        (always(200, "<html>"), "not JSON"),
        (always(200, {"text": "hello"}), "not with chat completions"),
    ],
)
def test_errors_of_servers(refuses: Callable, message: str) -> None:
    with (
        ChatServer(lambda messages: {}, refuses=refuses) as server,
        pytest.raises(ServerError, match=message) as raised,
    ):
        measure(server)
    assert "\n" not in str(raised.value)


def test_a_wrong_model_is_told_the_right_ones(models: dict[str, ExactModel]) -> None:
    with (
        ChatServer(models["do"], name="llama") as server,
        pytest.raises(ServerError, match=r"no model 'tiny'. It has: llama"),
    ):
        measure(server)


def test_a_key_that_is_refused(models: dict[str, ExactModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with ChatServer(models["do"], refuses=always(401, "")) as server, pytest.raises(ServerError) as raised:
        measure(server)
    assert "refused the API key in OPENAI_API_KEY" in str(raised.value)
    assert "sk-secret" not in str(raised.value)


def test_nothing_answers() -> None:
    with ChatServer(lambda messages: {}) as server:
        endpoint = server.endpoint
    with pytest.raises(ServerError, match=r"nothing answers at .*is the server running"):
        measure_delusion("tiny", endpoint=endpoint, conversations=DIALOGUE, max_calls=10_000)
    with pytest.raises(ValueError, match="must be an address"):
        measure_delusion("tiny", endpoint="localhost:8000", conversations=DIALOGUE, max_calls=10_000)


def test_passing_trouble_is_waited_out(models: dict[str, ExactModel]) -> None:
    """Every third call is refused for a moment, and a field that the server does not know is left out."""

    def refuses(server: ChatServer, headers: Any, body: Any) -> tuple[int, Any] | None:
        if "max_tokens" in body:
            return 400, {"error": {"message": "Unsupported parameter: use 'max_completion_tokens', not 'max_tokens'."}}
        return (503, "busy") if len(server.requests) % 3 == 0 else None

    with ChatServer(models["see"], refuses=refuses) as server:
        report = measure(server, num_conversations=2)
    assert report.auto_suggestion == pytest.approx(DELUDED, abs=1e-4)
    assert all(body["max_completion_tokens"] > 1 for body in server.requests[-5:])


@pytest.mark.parametrize("name", ["temperature", "top_p"])
def test_refused_sampling_is_noted(name: str, tmp_path: Path) -> None:
    """One call learns that the server refuses it; other words of the message that begin alike are not taken for it."""

    def refuses(server: ChatServer, headers: Any, body: Any) -> tuple[int, Any] | None:
        if name in body:
            return 400, {"error": {"message": f"Unsupported parameter: {name} is not supported with this model."}}
        return None

    for _ in range(2):  # And from the record.
        with ChatServer(
            lambda messages: {"tacos": 0.5, "soup": 0.5}, logprobs=False, refuses=refuses, port=0
        ) as server:
            report = measure(server, num_conversations=2, num_samples=2)
        assert f"refused {name}" in report.notes["sampling"]
        assert server.requests[-1]["n"] == 2


def test_further_fields_are_sent(models: dict[str, ExactModel], tmp_path: Path) -> None:
    with ChatServer(models["see"]) as server:
        measure(server, num_conversations=1, extra_body={"top_k": -1})
        assert all(body["top_k"] == -1 for body in server.requests)
        with pytest.raises(TypeError, match="are for local models"):
            measure(server, chat_template_kwargs={"enable_thinking": False})
        with pytest.raises(ValueError, match="temperature cannot be given"):
            measure(server, extra_body={"temperature": 0})


def test_answers_that_read_alike_are_refused() -> None:
    row = {"messages": [{"role": "user", "content": "?"}], "probe": "Which?", "answers": ["taco", "tacos"]}
    with pytest.raises(ValueError, match="answers of conversation 0: 'taco' and 'tacos' cannot be told apart"):
        measure_delusion("tiny", endpoint="http://localhost:1", conversations=[row], max_calls=100)


def test_calls_of_tools_are_not_left_out_of_what_a_server_reads() -> None:
    said = {"role": "user", "content": "?", "name": None}
    row = {"messages": [said], "probe": "Which?", "answers": ["soup", "pizza"]}
    with pytest.raises(ServerError):
        measure_delusion("tiny", endpoint="http://localhost:1", conversations=[row], max_calls=100)
    row["messages"] = [said | {"tool_calls": [{"name": "f"}]}]
    with pytest.raises(ValueError, match="conversation 0 have tool_calls, and a server is sent texts alone"):
        measure_delusion("tiny", endpoint="http://localhost:1", conversations=[row], max_calls=100)


def test_a_served_model_needs_no_torch() -> None:
    modules = ("measure", "served", "host_agents")
    imports = "\n".join(f"import undelude.hf._measuring.{name}" for name in modules)
    program = f"{imports}\nimport sys\nprint({{'torch', 'transformers'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
