"""`transformers serve` on loopback, with a tiny model: no log-probabilities, one answer a call, real samples."""

import contextlib
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("uvicorn")

import torch
from transformers.cli.serve import Serve

from hf.tiny import make_model, make_tokenizer, words_of
from undelude.hf import DoTokens, MenuDialogue, ServerError, encode_chat, generate_turn, measure_delusion
from undelude.hf._measuring.client import Client

DIALOGUE = MenuDialogue(dishes=("tacos", "soup", "pizza"), num_turns=1, prompt="What's on the menu?")
TEXTS = [DIALOGUE.prompt, DIALOGUE.probe, *DIALOGUE.utterances, "Yes. No."]


@contextlib.contextmanager
def serving(model: Any, folder: Path, tokenizer: Any) -> Iterator[str]:
    """Serve a model from a folder; the value is the address."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logging.disable(logging.WARNING)
    server = Serve(str(folder), host="127.0.0.1", port=port, device="cpu", dtype="float32", non_blocking=True)
    while not server.server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.kill_server()
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, Any, Any]]:
    """Return the address of a server, the folder of its model, the model and the tokenizer."""
    tokenizer = make_tokenizer(words_of(*TEXTS))
    model, folder = make_model(len(tokenizer)), tmp_path_factory.mktemp("model")
    model.generation_config.do_sample = True  # Otherwise the server decodes greedily, whatever the temperature.
    with serving(model, folder, tokenizer) as address:
        yield address, folder, model, tokenizer


def test_it_gives_samples_of_the_model_and_nothing_else(served: tuple[str, Path, Any, Any]) -> None:
    """Frequencies of the first word are its probabilities, within four standard errors."""
    endpoint, folder, model, tokenizer = served
    client, messages = Client(endpoint, str(folder)), [{"role": "user", "content": DIALOGUE.prompt}]
    fields = {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "n": 3, "logprobs": True, "top_logprobs": 5}
    choices = [client.complete(messages, repeat, **fields) for repeat in range(25)]
    assert all(len(x) == 1 and x[0]["top"] is None for x in choices)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    with torch.no_grad():
        probs = torch.softmax(model(tokenizer(text, return_tensors="pt").input_ids).logits[0, -1], -1)
    said = Counter(x[0]["text"].strip() for x in choices)
    plain = [i for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids]
    word = max(plain, key=lambda i: probs[i])
    p = float(probs[word])
    assert said[tokenizer.convert_ids_to_tokens(word)] / 25 == pytest.approx(p, abs=4 * (p * (1 - p) / 25) ** 0.5)


def test_delusion_is_measured_by_samples(served: tuple[str, Path, Any, Any]) -> None:
    endpoint, folder, *_ = served
    options = {"conversations": DIALOGUE, "num_conversations": 2, "num_samples": 2, "max_calls": 100}
    report = measure_delusion(str(folder), endpoint=endpoint, **options)
    assert report.method == "samples"
    assert report.num_calls > 4
    with pytest.raises(ServerError, match=r"status 400.*requested 'other'"):
        measure_delusion("other", endpoint=endpoint, **options)


def test_it_gives_a_taught_model_its_own_words_without_marks(tmp_path: Path) -> None:
    """It writes plain words, as the folder's settings say; but its prompt is text, which has no marks."""
    tokenizer = make_tokenizer(words_of(*TEXTS))
    model, V = DoTokens.wrap(make_model(len(tokenizer))), len(tokenizer)
    torch.nn.init.normal_(model.get_input_embeddings().do_offset.rows, std=0.5)
    messages = [
        {"role": "user", "content": DIALOGUE.prompt},
        {"role": "assistant", "content": "soup"},
        {"role": "user", "content": "No."},
    ]
    answers = {}
    for mark in (True, False):
        chat = encode_chat(messages, tokenizer, vocab_size=V, mark=mark, add_generation_prompt=True)
        ids = chat.input_ids[None]
        turn = generate_turn(model, ids, torch.ones_like(ids), eos_token_id=1, max_new_tokens=4, temperature=0)[0]
        answers[mark] = tokenizer.decode(turn, skip_special_tokens=True)
    with serving(model, tmp_path / "taught", tokenizer) as endpoint:
        client = Client(endpoint, str(tmp_path / "taught"))
        [choice] = client.complete(messages, max_tokens=4, temperature=0.0)
    assert choice["text"].strip() == answers[False].strip() != answers[True].strip()
