"""An expert behind a server is told theta, and its answers are samples; a record answers the same training again."""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from hf import worlds
from hf.chat_server import ChatServer
from hf.tiny import make_tokenizer
from undelude.hf import EndpointExpert
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
