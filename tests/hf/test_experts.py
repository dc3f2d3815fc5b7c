"""Experts give the distributions of their turns, token by token, and never move or lose what they were told."""

import copy
import math
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from hf.tiny import EMPTY_THOUGHT, make_model, make_tokenizer
from undelude.hf import CallableExpert, PromptedExpert
from undelude.hf._teaching.experts import Query, largest
from undelude.hf._teaching.losses import Targets, cross_entropy

TOKENIZER = make_tokenizer(["menu", "fish", "soup", "tacos", "pea", "theta", "is"])
V = len(TOKENIZER)
MENU = [{"role": "user", "content": "menu", "author": "other"}]
SAID = {"fish tacos": 0.5, "fish soup": 0.2, "tacos": 0.3}


def query(seed=0, **row):
    return Query(MENU, {"privileged_context": "theta is soup", **row}, np.random.default_rng(seed))


def ids(text):
    return [*TOKENIZER.encode(text, add_special_tokens=False), TOKENIZER.eos_token_id]


def probs(targets, i):
    return {TOKENIZER.decode([x]): float(p) for x, p in enumerate(targets.dense(V)[i].exp()) if p > 0}


def test_an_utterance_has_the_distributions_of_its_words():
    expert = CallableExpert(lambda messages, row: SAID, TOKENIZER)
    (targets,) = expert.score([query()], [ids("fish soup")])
    assert probs(targets, 0) == pytest.approx({"fish": 0.7, "tacos": 0.3})
    assert probs(targets, 1) == pytest.approx({"tacos": 5 / 7, "soup": 2 / 7})
    assert probs(targets, 2) == pytest.approx({"<end>": 1})
    # After words with which it begins no utterance, it ends the turn.
    (targets,) = expert.score([query()], [ids("pea soup")])
    assert probs(targets, 1) == pytest.approx({"<end>": 1})


def test_the_probability_of_an_utterance_is_that_of_its_words():
    expert = CallableExpert(lambda messages, row: SAID, TOKENIZER)
    for text, p in SAID.items():
        (targets,) = expert.score([query()], [ids(text)])
        assert math.prod(probs(targets, i)[TOKENIZER.decode([x])] for i, x in enumerate(ids(text))) == pytest.approx(p)


def test_utterances_are_drawn_with_their_probabilities():
    expert = CallableExpert(lambda messages, row: SAID, TOKENIZER)
    drawn = Counter(TOKENIZER.decode(u.ids[:-1]) for u in expert.speak([query(i) for i in range(1000)], 8))
    for text, p in SAID.items():
        assert abs(drawn[text] / 1000 - p) < 4 * (p * (1 - p) / 1000) ** 0.5


def test_a_text_is_a_sample_with_the_same_expected_loss():
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(0))
    whole = CallableExpert(lambda messages, row: SAID, TOKENIZER)
    losses = []
    for text, p in SAID.items():
        one = CallableExpert(lambda messages, row, text=text: text, TOKENIZER)
        (utterance,) = one.speak([query()], 8)
        losses.append(p * float(cross_entropy(logits[:1], utterance.targets[:1])))
    (targets,) = whole.score([query()], [ids("tacos")])
    assert sum(losses) == pytest.approx(float(cross_entropy(logits[:1], targets[:1])), rel=1e-5)
    with pytest.raises(ValueError, match="answered with a text"):
        one.score([query()], [ids("tacos")])


def test_probabilities_are_read_when_they_are_given():
    """An expert may answer with arrays, and change them before the next question."""
    array, number = np.zeros(3), {dish: torch.zeros(()) for dish in ("fish", "soup", "tacos")}
    known = CallableExpert(lambda messages, row: number, TOKENIZER)
    for i, dish in enumerate(number):
        array[:] = np.arange(3) == i
        for x, p in zip(number.values(), array, strict=True):
            x.fill_(p)
        (said,) = known.speak([query()], 8)
        assert said.ids == ids(dish)
    elsewhere = CallableExpert(lambda messages, row: dict(zip(number, jnp.asarray(array), strict=True)), TOKENIZER)
    assert elsewhere.speak([query()], 8)[0].ids == ids("tacos")


def test_log_probabilities_of_the_next_token_make_turns():
    def next_token(messages, row, said):
        end = TOKENIZER.eos_token_id
        return np.log(np.eye(V)[end if said else ids("soup")[0]] * 0.9 + 0.1 / V)

    expert = CallableExpert(next_token=next_token, tokenizer=TOKENIZER)
    drawn = [u.ids for u in expert.speak([query(i) for i in range(300)], 6)]
    share = np.mean([turn == ids("soup") for turn in drawn])
    p = (0.9 + 0.1 / V) ** 2
    assert abs(share - p) < 4 * (p * (1 - p) / 300) ** 0.5
    top = CallableExpert(next_token=lambda *_: ([3, 5], np.log([0.6, 0.3])), tokenizer=TOKENIZER)
    (targets,) = top.score([query()], [[3, 1]])
    assert targets.tail is not None
    assert targets.tail.exp().tolist() == pytest.approx([0.1, 0.1], abs=1e-6)
    with pytest.raises(ValueError, match="largest probabilities only"):
        top.speak([query()], 4)


@pytest.mark.parametrize(
    ("answer", "message"),
    [({"soup": -0.1}, "-0.1"), ({"soup": 0.0}, "positive"), ({}, "must answer"), (3, "must answer")],
)
def test_an_answer_that_is_not_a_distribution_is_refused(answer, message):
    expert = CallableExpert(lambda messages, row: answer, TOKENIZER)
    with pytest.raises((TypeError, ValueError), match=message):
        expert.speak([query()], 8)


def test_a_prompted_teacher_is_the_model_after_the_privileged_prompt():
    teacher = make_model(V)
    expert = PromptedExpert(teacher, TOKENIZER, template="{prompt} {privileged_context}")
    turn = ids("fish soup")
    (targets,) = expert.score([query()], [turn])
    told = [{"role": "user", "content": "menu theta is soup"}]
    prompt = TOKENIZER.apply_chat_template(told, add_generation_prompt=True, tokenize=True, return_dict=False)
    with torch.no_grad():
        expected = teacher(torch.tensor([prompt + turn])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    torch.testing.assert_close(targets.log_probs, expected)
    # Padding of other lengths changes nothing, and speaking scores its own turn.
    both = expert.score([query(), Query([*MENU, *MENU], query().row, query().rng)], [turn, turn[1:]])
    torch.testing.assert_close(both[0].log_probs, expected)
    (utterance,) = expert.speak([query()], 5)
    torch.testing.assert_close(utterance.targets.log_probs, expert.score([query()], [utterance.ids])[0].log_probs)


def test_the_largest_probabilities_keep_the_mass_of_the_others():
    log_probs = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    top = largest(log_probs, 3)
    assert top.tail is not None
    torch.testing.assert_close(top.log_probs.exp().sum(-1) + top.tail.exp(), torch.ones(4))
    assert isinstance(largest(log_probs, 9), Targets)


def test_a_prompt_that_does_not_fit_the_teacher_is_refused_and_not_cut():
    expert = PromptedExpert(make_model(V, length=8), TOKENIZER)
    with pytest.raises(ValueError, match="never cut"):
        expert.score([query(privileged_context="theta is " + "soup " * 9)], [ids("soup")])
    with pytest.raises(ValueError, match="no privileged_context"):
        expert.score([Query(MENU, {}, np.random.default_rng(0))], [ids("soup")])


def test_a_teacher_reads_whole_messages_and_not_their_author():
    seen = []
    tokenizer = copy.copy(TOKENIZER)
    tokenizer.apply_chat_template = lambda messages, **_: seen.extend(messages) or [1]
    call = {"role": "assistant", "tool_calls": [{"name": "look"}], "author": "self"}
    expert = PromptedExpert(make_model(V), tokenizer)
    expert.prompt_ids(Query([*MENU, call], query().row, query().rng))
    assert seen[1] == {"role": "assistant", "tool_calls": [{"name": "look"}]}


def test_a_teacher_has_the_template_arguments_of_each_trainer():
    """Not those of the first; its own come before them."""
    tokenizer = make_tokenizer(["menu", "theta", "is", "soup", "<think>"], EMPTY_THOUGHT)
    student, thought = make_model(len(tokenizer)), tokenizer.convert_tokens_to_ids("<think>")
    teacher = PromptedExpert(make_model(len(tokenizer)), tokenizer)
    for off in ({"enable_thinking": False}, None, {"enable_thinking": False}):
        teacher.bind(student, off)
        assert (teacher.prompt_ids(query())[-1] == thought) == (off is not None)
    stubborn = PromptedExpert(make_model(len(tokenizer)), tokenizer, chat_template_kwargs={"enable_thinking": True})
    stubborn.bind(student, {"enable_thinking": False})
    assert stubborn.prompt_ids(query())[-1] != thought


def test_a_teacher_that_would_move_is_refused():
    student = make_model(V)
    with pytest.raises(ValueError, match="would move"):
        PromptedExpert(student, TOKENIZER).bind(student)
    with pytest.raises(ValueError, match="no adapter"):
        PromptedExpert(None, TOKENIZER).bind(student)
    PromptedExpert(copy.deepcopy(student), TOKENIZER).bind(student)
    with pytest.raises(ValueError, match="knows no more"):
        PromptedExpert(student, TOKENIZER, template="{prompt}")
