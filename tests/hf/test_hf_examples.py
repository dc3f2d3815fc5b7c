"""The scripts of examples/language run on tiny models made from configurations, end to end."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import facts
import lying_agent
import menu_lora
import numpy as np
import self_conditioning
import self_correction
from transformers import AutoModelForCausalLM

from hf.tiny import make_model, make_tokenizer
from undelude.hf import DoTokens, MenuDialogue

FOLDER = Path(__file__).parents[2] / "examples" / "language"


def words_of(*texts):
    """Return the words of texts as the tiny tokenizer splits them."""
    split = make_tokenizer([]).backend_tokenizer.pre_tokenizer.pre_tokenize_str
    return [word for text in texts for word, _ in split(text)]


ASKED = 'Is this true: "" Answer "Yes." or "No." Somebody says:'
FACTS = make_tokenizer(words_of(*(text for fact in facts.FACTS for text in fact), ASKED))


def test_all_examples_are_tested():
    assert {path.stem for path in FOLDER.glob("*.py")} == {
        "facts", "lying_agent", "menu_lora", "self_conditioning", "self_correction",
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
