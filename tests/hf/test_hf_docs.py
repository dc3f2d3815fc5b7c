"""The pages about language models are true: their code runs, and the reference has the signatures."""

import operator
import re

import pytest

pytest.importorskip("torch")

import transformers
from dry_run import NUMBERS, expected_losses

import undelude as ud
from hf.tiny import make_model, make_tokenizer, words_of
from pages import DOCS, HF_PAGES, check_code, check_entry, reference
from undelude.hf import CounterfactualConfig, MenuDialogue

ENTRIES = {name: entry for name, entry in reference().items() if name.startswith("hf.")}
# What the pages name, and what is run in its place: no model is downloaded, and training is two steps.
SMALLER = (
    ("max_steps=300", 'max_steps=2, per_device_train_batch_size=2, report_to="none", dataloader_pin_memory=False'),
    ("num_conversations=20", "num_conversations=2"),
    ("rows(4000)", "rows(8)"),
    ("rows[:20]", "rows[:2]"),
)


@pytest.mark.parametrize("name", sorted(ENTRIES.keys() - {"hf.CounterfactualConfig"}))
def test_reference_has_the_signature_and_the_docstring(name):
    check_entry(ENTRIES[name], operator.attrgetter(name)(ud))


def test_reference_has_the_fields_of_the_configuration():
    """Its own fields; those of `transformers.TrainingArguments` are documented there."""
    own = {*CounterfactualConfig.__annotations__} - {*transformers.TrainingArguments.__annotations__}
    assert len(own) > 10
    assert all(f"- `{name}`: " in ENTRIES["hf.CounterfactualConfig"] for name in own)


@pytest.mark.parametrize("page", HF_PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_code_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    dialogue = MenuDialogue()
    said = f"{dialogue.prompt} {dialogue.probe} On the menu: Yes. No. {' '.join(dialogue.dishes)}"
    tokenizer = make_tokenizer(words_of(said, page.read_text()))
    make_model(len(tokenizer), length=2048).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    check_code(page, capsys, [("Qwen/Qwen2.5-0.5B-Instruct", str(tmp_path / "tiny")), *SMALLER])
    assert (tmp_path / "out" / "model" / "config.json").exists()


@pytest.mark.slow
def test_expected_losses_are_those_of_exact_models():
    """The table of the losses on the menu of the page, to the last digit that it shows."""
    found = expected_losses(MenuDialogue(num_turns=6), num=1500)
    table = re.findall(
        r"^\| (?:knows|is) (.*?) \| (\S+) \| (\S+) \|$", (DOCS / "language.md").read_text(), re.MULTILINE
    )
    assert [row[0].split(",")[0].split(":")[0] for row in table] == ["the dish", "sober", "uninformed", "deluded"]
    for (_, *shown), losses in zip(table, found.values(), strict=True):
        for text, x in zip(shown, losses, strict=True):
            assert float(text) == pytest.approx(x, abs=0.7 * 10 ** -len(text.split(".")[1]))


def test_the_dry_run_prints_what_the_page_shows():
    """Its numbers by name; the values are those of one machine."""
    shown = re.search(r"dry_run.py.*?```", (DOCS / "language.md").read_text(), re.DOTALL)[0]
    assert re.findall(r"^([a-z_]+)  ", shown, re.MULTILINE) == [name for name, *_ in NUMBERS]
