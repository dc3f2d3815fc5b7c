"""The scripts of examples/language run on tiny models made from configurations, end to end."""

import itertools
import json
import shlex
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("torch")

import dry_run
import facts
import lying_agent
import menu_lora
import numpy as np
import self_conditioning
import self_correction
import serve
import torch
from transformers import AutoModelForCausalLM

from hf.tiny import make_model, make_tokenizer, words_of
from undelude import _cli as cli
from undelude.hf import DoTokens, MenuDialogue, encode_chat, generate_turn, measure_delusion

FOLDER = Path(__file__).parents[2] / "examples" / "language"


ASKED = 'Is this true: "" Answer "Yes." or "No." Somebody says:'
FACTS = make_tokenizer(words_of(*(text for fact in facts.FACTS for text in fact), ASKED))


def test_all_examples_are_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == {
        "dry_run", "facts", "lying_agent", "menu_lora", "self_conditioning", "self_correction", "serve", "tiny",
    }  # fmt: skip


def test_lying_agent():
    found = lying_agent.main(
        make_model(len(FACTS)),
        FACTS,
        64,
        max_steps=3,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        dataloader_pin_memory=False,
    )
    assert {name: len(x) for name, x in found.items()} == dict.fromkeys(("before", "sft", "isft"), len(facts.FACTS))
    assert all(np.isfinite(x).all() for x in found.values())


def test_menu_lora(tmp_path):
    dialogue = MenuDialogue(num_turns=2, prompt="What's on the menu?")
    tokenizer = make_tokenizer(words_of(dialogue.prompt, dialogue.probe, *dialogue.dishes, "Yes. No. On the menu: "))
    reports = menu_lora.main(
        make_model(len(tokenizer)), tokenizer, tmp_path, dialogue, target_modules=["q_proj"], num_conversations=2,
        max_steps=2, per_device_train_batch_size=4, dataloader_pin_memory=False,
    )  # fmt: skip
    assert {*reports} == {"before", "after"}
    assert DoTokens.of(AutoModelForCausalLM.from_pretrained(tmp_path / "model")).is_exported


def test_self_correction():
    found = self_correction.main(make_model(len(FACTS)), FACTS)
    assert all(((p >= 0) & (p <= 1)).all() for p in found.values())


def test_self_conditioning():
    digits = [str(i) for i in range(-9, 99)]
    tokenizer = make_tokenizer([*words_of(self_conditioning.RULES, "Add ."), *digits])
    stock = make_model(len(tokenizer))
    assert {*self_conditioning.main(stock, tokenizer, num_turns=2, number=4, error_rates=(0.5,))} == {"self"}
    marked = self_conditioning.main(DoTokens.wrap(stock), tokenizer, num_turns=2, number=4, error_rates=(0.5,))
    assert marked["self"] == marked["other"]  # The offset is still 0.


@pytest.mark.slow
def test_dry_run(tmp_path, capsys):
    """Forty steps of imitation are enough to delude the model; what it says of the numbers has them all."""
    reports, log = dry_run.main(tmp_path, imitation_steps=40, steps=10)
    # With random weights it seldom answers, so that what it knows cannot be measured.
    assert [x.verdict for x in reports.values()][:2] == ["unmeasured", "deluded"]
    assert len(log) == 1
    assert DoTokens.of(AutoModelForCausalLM.from_pretrained(tmp_path / "model")).is_exported
    printed = capsys.readouterr().out
    assert f"{log[-1]['action_loss']:.3f}" in printed
    assert all(name in printed for name, *_ in dry_run.NUMBERS)
    # The command that it prints measures the same.
    assert cli.main([*shlex.split(dry_run.measuring(tmp_path / "model"))[1:], "--json"]) == 0
    taught = [*reports.values()][-1]
    measured = json.loads(capsys.readouterr().out)
    assert "tokenizer" not in measured["notes"]
    assert measured["auto_suggestion"] == pytest.approx(taught.auto_suggestion, rel=1e-4)


def test_expected_losses():
    """Of two turns, by enumeration of Bayes' rule over theta, both guesses and the reply between them."""
    dialogue, K = MenuDialogue(dishes=dry_run.DISHES, num_turns=2, reply=(0.9, 0.2), no_answer=0.1), 3
    Q = np.full((K, K), 0.05) + 0.85 * np.eye(K)  # The expert's guesses given theta.
    # The replies no, yes and again, after a wrong dish and after the right one.
    R = np.array([[0.72, 0.18, 0.1], [0.09, 0.81, 0.1]])
    exact = {name: np.zeros(2) for name in ("expert", "sober", "uninformed")} | {"deluded": np.zeros(2)}
    for mark in ("do", "see"):
        for theta, a, o in itertools.product(range(K), range(K), range(3)):
            right = np.arange(K) == a
            heard = R[right.astype(int)]  # [theta, reply]
            first = np.full(K, 1 / K)
            after = Q[:, a] / Q[:, a].sum() if mark == "see" else first
            second = after * heard[:, o] / (after @ heard[:, o])
            p = heard[theta, o] / K**2  # Both agents name all dishes equally often at first.
            beliefs = {"deluded": (first, after, second)} if mark == "see" else {"sober": (first, after, second)}
            if mark == "do":
                beliefs |= {"expert": (np.eye(K)[theta],) * 3, "uninformed": (first,) * 3}
            for name, (b1, b2, b3) in beliefs.items():
                actions = -Q[theta] @ (np.log(b1 @ Q) + np.log(b3 @ Q)) / 2
                exact[name] += p * np.array([actions, -np.log((b2 @ heard)[o])])
    found = dry_run.expected_losses(dialogue, num=4000)
    for name, losses in exact.items():
        np.testing.assert_allclose(found[name], losses, atol=0.02)
    assert exact["expert"][0] < exact["sober"][0] < exact["uninformed"][0] < exact["deluded"][0]


SERVED = make_tokenizer(words_of("What's on the menu? Yes. No. tacos soup pizza"))
ASKS = [{"role": "user", "content": "What's on the menu?"}]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Return an exported model whose marks matter, as a stock class loads it."""
    model, folder = DoTokens.wrap(make_model(len(SERVED))), tmp_path_factory.mktemp("taught")
    torch.nn.init.normal_(model.get_input_embeddings().do_offset.rows, std=0.5)
    model.save_pretrained(folder)
    return AutoModelForCausalLM.from_pretrained(folder)


def likeliest(model, ids):
    ids = torch.tensor([ids])
    turn = generate_turn(model, ids, torch.ones_like(ids), eos_token_id=1, max_new_tokens=4, temperature=0)[0].tolist()
    return turn if 1 in turn else [*turn, 1]


def test_own_words_are_marked_in_a_served_chat(taught):
    """Those and no other; the next turn is the model's answer to the marked history, and not to the plain one."""
    V, chat, differ, ids = len(SERVED), serve.Chat(taught, SERVED), False, []
    for said in ("What's on the menu?", "No.", "No."):
        chat.say(said, max_new_tokens=4, temperature=0)
        prompt = encode_chat([{"role": "user", "content": said}], SERVED, mark=False, add_generation_prompt=True)
        ids += prompt.input_ids.tolist()
        differ |= likeliest(taught, [x % V for x in ids]) != likeliest(taught, ids)
        ids += [x + V for x in likeliest(taught, ids)]
        assert chat.ids == ids
    assert differ
    with pytest.raises(ValueError, match="This model has no marks"):
        serve.Chat(make_model(V), SERVED)


def test_the_endpoint_marks_own_words(taught):
    """A request that goes on from a reply, one that does not, and one with words of another in the assistant's slot."""
    server = serve.Server(taught, SERVED, "menu")
    fields = {"model": "menu", "temperature": 0, "max_tokens": 4}

    def answer(messages):
        return server.complete({"messages": messages, **fields})["choices"][0]["message"]["content"]

    chat = serve.Chat(taught, SERVED)
    first = {"role": "assistant", "content": chat.say(ASKS, max_new_tokens=4, temperature=0)}
    no = {"role": "user", "content": "No."}
    assert answer(ASKS) == first["content"]
    assert answer([*ASKS, first, no]) == chat.say([no], max_new_tokens=4, temperature=0)
    assert [*server.chats.values()][-1].ids == chat.ids
    for author in ({}, {"author": "expert"}):
        messages = [*ASKS, {"role": "assistant", "content": "soup", **author}, no]
        ids = encode_chat(messages, SERVED, vocab_size=len(SERVED), add_generation_prompt=True).input_ids.tolist()
        assert (max(ids) >= len(SERVED)) != bool(author)
        assert answer(messages) == SERVED.decode(likeliest(taught, ids)[:-1], skip_special_tokens=True)
    assert len(server.complete({"messages": ASKS, **fields, "n": 3})["choices"]) == 3
    for wrong in ({"stream": True}, {"top_p": 0.5}, {"model": "other"}):
        with pytest.raises(ValueError, match=r"not supported|no model"):
            server.complete({"messages": ASKS, **fields, **wrong})
    server.server_close()


def test_delusion_is_measured_at_the_endpoint(taught):
    server = serve.Server(taught, SERVED, "menu")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    dialogue = MenuDialogue(dishes=dry_run.DISHES, num_turns=1, prompt="What's on the menu?")
    options = {"conversations": dialogue, "num_conversations": 1, "num_samples": 2, "max_calls": 30}
    report = measure_delusion("menu", endpoint=url, **options)
    assert report.method == "samples"
    assert "stopped" not in report.notes
    assert json.load(urllib.request.urlopen(f"{url}/models"))["data"][0]["id"] == "menu"
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"{url}/embeddings", data=b"{}")
    server.shutdown()
    server.server_close()
