"""An expert behind a server is told theta, and its answers are samples; a record answers the same training again."""

import json
import warnings
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from hf import worlds
from hf.chat_server import ChatServer
from hf.tiny import make_tokenizer
from undelude.hf import EndpointExpert
from undelude.hf._measuring import client
from undelude.hf._measuring.client import ServerError
from undelude.hf._teaching.experts import Query

TOKENIZER = make_tokenizer(["menu", "fish", "soup", "tacos", "theta", "is"])
MENU = [{"role": "user", "content": "menu", "author": "other"}]


def teacher(messages):
    """Say what the privileged context says, in three turns of four; without it, all alike."""
    said = messages[0]["content"].split()
    return {dish: (0.75 if dish in said else 0.25 / 2) for dish in ("soup", "tacos", "fish")}


def queries(num, **others):
    row = {"privileged_context": "theta is soup"}
    return [Query(MENU, row, np.random.default_rng(i), **others) for i in range(num)]


def words(utterances):
    return Counter(TOKENIZER.decode(u.ids[:-1]) for u in utterances)


def test_it_is_told_and_its_answers_are_samples(tmp_path):
    with ChatServer(teacher) as server:
        expert = EndpointExpert(server.endpoint, "tiny", TOKENIZER, record=tmp_path / "answers.jsonl")
        drawn = words(expert.speak(queries(400), 4))
        assert abs(drawn["soup"] / 400 - 0.75) < 4 * (0.75 * 0.25 / 400) ** 0.5
        body = server.requests[0]
        assert body["messages"] == [{"role": "user", "content": "menu\n\ntheta is soup"}]
        assert (body["temperature"], body["top_p"], body["max_tokens"]) == (1.0, 1.0, 4)
        asked = len(server.requests)
        # Equal questions get answers of their own, and those of the record are the same again.
        again = EndpointExpert(server.endpoint, "tiny", TOKENIZER, record=tmp_path / "answers.jsonl")
        assert words(again.speak(queries(400), 4)) == drawn
        assert len(server.requests) == asked == 400
        expert.speak(queries(1, is_told=False), 4)
        assert server.requests[-1]["messages"] == [{"role": "user", "content": "menu"}]


def test_what_a_server_cannot_say_is_refused():
    expert = EndpointExpert("http://127.0.0.1:1/v1", "tiny", TOKENIZER)
    with pytest.raises(ValueError, match="granularity="):
        expert.score(queries(1), [[1]])
    with pytest.raises(ValueError, match="does not use"):
        EndpointExpert("http://127.0.0.1:1/v1", "tiny", TOKENIZER, template="{prompt}")


def test_a_long_answer_is_cut():
    with ChatServer(lambda messages: {"fish soup tacos": 1.0}) as server:
        (utterance,) = EndpointExpert(server.endpoint, "tiny", TOKENIZER).speak(queries(1), 2)
    assert TOKENIZER.decode(utterance.ids) == "fish soup"


class Ending(ChatServer):
    """A server that says one thing, and why it ended."""

    def __init__(self, content, end):
        super().__init__(lambda messages: {"": 1.0})
        self.answer = {"choices": [{"message": {"content": content}, "finish_reason": end}]}

    def complete(self, body):
        return self.answer


def one_answer(content, end, most=4):
    with Ending(content, end) as server:
        return EndpointExpert(server.endpoint, "tiny", TOKENIZER).speak(queries(1), most)[0]


def test_an_answer_that_the_server_cut_does_not_end():
    """The server counts in tokens of its own, so that a cut answer may have fewer than the student may write."""
    assert one_answer("fish soup", "stop").ids[-1] == TOKENIZER.eos_token_id
    cut = one_answer("fish soup", "length")
    assert TOKENIZER.decode(cut.ids) == "fish soup"
    assert len(cut.ids) == len(cut.targets) == 2


@pytest.mark.parametrize(
    ("content", "end"), [(None, "length"), ("", "length"), ("fish", "content_filter"), (None, "tool_calls")]
)
def test_what_the_model_did_not_say_is_not_taught(content, end):
    """A thought that took all tokens leaves no content, which is not the answer to say nothing."""
    with pytest.raises(ServerError, match=end):
        one_answer(content, end)


def test_an_expert_that_says_nothing_is_mentioned():
    with pytest.warns(UserWarning, match="nothing"):
        assert one_answer("", "stop").ids == [TOKENIZER.eos_token_id]


def test_thoughts_in_an_answer_are_mentioned():
    with pytest.warns(UserWarning, match="answers with its thoughts.*enable_thinking"):
        one_answer("<think> fish </think> soup", "stop", most=8)


def test_messages_name_the_arguments_of_the_expert(monkeypatch):
    """It has num_threads, and it is training that sets the temperature."""
    monkeypatch.setattr(client, "FIRST_WAIT", 0.001)
    with pytest.raises(ValueError, match="temperature cannot be given, because EndpointExpert sets it"):
        EndpointExpert("http://127.0.0.1:1/v1", "tiny", TOKENIZER, extra_body={"temperature": 0})
    limited = lambda server, headers, body: (429, {"error": {"message": "slow down"}})  # noqa: E731
    with ChatServer(teacher, refuses=limited) as server, pytest.raises(ServerError, match=r"\(num_threads\)"):
        EndpointExpert(server.endpoint, "tiny", TOKENIZER).speak(queries(1), 4)


@pytest.mark.parametrize(("answer", "tries"), [((200, "<html>"), 1), ((500, "boom"), 3)])
def test_trouble_that_will_not_pass_is_not_waited_out(answer, tries, monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT", 0.001)
    with ChatServer(teacher, refuses=lambda server, headers, body: answer) as server:
        expert = EndpointExpert(server.endpoint, "tiny", TOKENIZER)
        with pytest.raises(ServerError, match=r"not JSON|status 500"):
            expert.speak(queries(1), 4)
    assert expert.client.num_calls == tries


def test_an_end_token_within_a_text_ends_the_turn():
    ids = one_answer(f"fish {TOKENIZER.eos_token} soup", "stop").ids
    assert ids == [TOKENIZER.convert_tokens_to_ids("fish"), TOKENIZER.eos_token_id]


def test_a_server_without_temperature_is_mentioned(tmp_path):
    """Its answers have another distribution than the model's, and the student would learn that one."""

    def without_temperature(server, headers, body):
        return (400, {"error": {"message": "temperature is not supported"}}) if "temperature" in body else None

    record = tmp_path / "answers.jsonl"
    with ChatServer(teacher, refuses=without_temperature) as server:
        for _ in range(2):  # Asked, and from the record.
            expert = EndpointExpert(server.endpoint, "tiny", TOKENIZER, record=record)
            with pytest.warns(UserWarning, match="temperature"):
                expert.speak(queries(1), 4)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                expert.speak(queries(1), 4)


def test_a_server_with_a_fixed_seed_gives_other_samples():
    class Fixed(ChatServer):
        def complete(self, body):
            self.rng = np.random.default_rng(body.get("seed", 0))
            return super().complete(body)

    with Fixed(teacher) as server:
        drawn = words(EndpointExpert(server.endpoint, "tiny", TOKENIZER, num_threads=1).speak(queries(100), 4))
    assert abs(drawn["soup"] / 100 - 0.75) < 4 * (0.75 * 0.25 / 100) ** 0.5


def test_a_record_outlives_a_write_that_was_cut_off(tmp_path):
    """What was answered before and after stays, however often the training is killed."""
    record = tmp_path / "new" / "answers.jsonl"
    with ChatServer(teacher) as server:
        for num, more in ((2, '{"call": "0a'), (3, '{"call": "0a'), (4, None), (5, "")):
            expert = EndpointExpert(server.endpoint, "tiny", TOKENIZER, record=record)
            expert.speak(queries(num), 4)
            whole = record.read_text()
            record.write_text(whole[:-1] if more is None else whole + more)  # The line, or its end, is lost.
        assert len(server.requests) == 5
    assert len([json.loads(line) for line in record.read_text().splitlines()]) == 5


def test_all_that_a_message_says_is_sent():
    messages = [*MENU, {"role": "assistant", "content": "soup", "tool_calls": [{"id": "1"}], "author": "self"}]
    messages += [{"role": "tool", "tool_call_id": "1", "content": "no", "author": "other"}]
    query = Query(messages, {"privileged_context": "theta is soup"}, np.random.default_rng(0))
    with ChatServer(teacher) as server:
        EndpointExpert(server.endpoint, "tiny", TOKENIZER).speak([query], 4)
        sent = server.requests[0]["messages"]
    assert sent[1:] == [{name: x for name, x in m.items() if name != "author"} for m in messages[1:]]
    parts = Query([{"role": "user", "content": [{"type": "text", "text": "menu"}]}], query.row, query.rng)
    with pytest.raises(TypeError, match="content"):
        EndpointExpert("http://127.0.0.1:1/v1", "tiny", TOKENIZER).speak([parts], 4)


def test_a_password_in_the_address_is_refused():
    """Messages and records would repeat it."""
    with pytest.raises(ValueError, match="password") as caught:
        EndpointExpert("http://me:secret@127.0.0.1:1/v1", "tiny", TOKENIZER)
    assert "secret" not in str(caught.value)


def test_a_student_is_taught_by_a_server(tmp_path):
    """It learns to say what the server, which sees theta, says on average: each dish in a third of first turns."""

    def told(messages):
        return {dish: (0.8 if f"theta is {dish}" in messages[0]["content"] else 0.1) for dish in worlds.DISHES}

    with ChatServer(told) as server:
        expert = EndpointExpert(server.endpoint, "tiny", worlds.TOKENIZER)
        trainer = worlds.make_trainer(tmp_path, teacher=expert, max_steps=12)
        trainer.train()
        first = [r["messages"][0]["content"] for r in server.requests if len(r["messages"]) == 1]
    assert {text.partition("theta is ")[2] for text in first} == {*worlds.DISHES}
    losses = [row["action_loss"] for row in trainer.state.log_history if "action_loss" in row]
    assert losses[-1] < losses[0] / 2
