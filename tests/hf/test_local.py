"""Local models: `measure_delusion` gives the numbers of forward passes by hand, and known ones of exact agents."""

import copy
import dataclasses
import json
import re
import shutil
import types
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import undelude as ud
from hf.exact_model import ExactModel
from hf.tiny import TEMPLATE, make_model, make_tokenizer
from hf.worlds import TOKENIZER, make_trainer
from undelude._cli import inspect as inspect_command
from undelude._cli import main
from undelude._cli.errors import UsageError
from undelude._cli.inspect_options import Inspect
from undelude._inspector.inspection import Inspection
from undelude._inspector.view import describe
from undelude.hf import DoTokens, MenuDialogue, answer_log_probs, local_agent, measure_delusion
from undelude.hf._measuring import local
from undelude.hf._measuring.local import LocalSpeaker, load_model
from undelude.hf._measuring.speakers import Request

DIALOGUE = MenuDialogue(dishes=("tacos", "soup", "pizza"), num_turns=1, prompt="What's on the menu?")
TEXTS = [DIALOGUE.prompt, DIALOGUE.probe, *DIALOGUE.utterances, "Yes. No."]
DELUDED = np.log(3) + 0.9 * np.log(0.9) + 0.1 * np.log(0.05)  # I(A; Theta) of three dishes, nats.


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(re.findall(r"\w+|[^\w\s]+", " ".join(TEXTS)))


class ExactCausalLM(torch.nn.Module):
    """A causal model whose next words are those of an exact agent: a dish after the role, then the end."""

    def __init__(self, tokenizer: Any, model: ExactModel):
        super().__init__()
        self.tokenizer, self.exact = tokenizer, model
        self.embedding = torch.nn.Embedding(len(tokenizer), 1)
        self.config = type("Config", (), {"name_or_path": "exact"})

    def get_input_embeddings(self) -> Any:
        return self.embedding

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        logits = torch.full((*input_ids.shape, len(self.tokenizer)), -1e9)
        logits[..., self.tokenizer.eos_token_id] = 0
        for row, ids in enumerate(input_ids.tolist()):
            for t, word in enumerate(self.tokenizer.convert_ids_to_tokens(ids)):
                if word == "<assistant>" and attention_mask[row, t]:
                    for dish, p in self.exact(self.read(ids[:t])).items():
                        logits[row, t, self.tokenizer.convert_tokens_to_ids(dish)] = float(np.log(p))
                    logits[row, t, self.tokenizer.eos_token_id] = -1e9
        return type("Output", (), {"logits": logits})

    def read(self, ids: list[int]) -> list[dict]:
        """Return the messages; a merged one of the user has its parts apart again."""
        messages = []
        for part in re.findall(r"<(user|assistant)> (.*?) <end>", " ".join(self.tokenizer.convert_ids_to_tokens(ids))):
            role, text = part
            known = {re.sub(r"\W", "", x): x for x in [*TEXTS[:-1], "Yes.", "No."]}
            squeezed, texts = re.sub(r"\W", "", text), []
            while squeezed:
                begun = next(x for x in sorted(known, key=len, reverse=True) if squeezed.startswith(x))
                texts.append(known[begun])
                squeezed = squeezed[len(begun) :]
            messages.append({"role": role, "content": "\n\n".join(texts)})
        return messages


@pytest.mark.parametrize(("own", "suggestion", "repeat"), [("do", 0.0, 1 / 3), ("see", DELUDED, 0.9**2 + 2 * 0.05**2)])
def test_exact_agents_as_causal_models(tokenizer: Any, own: str, suggestion: float, repeat: float) -> None:
    model = ExactCausalLM(tokenizer, ExactModel(DIALOGUE.process, own, DIALOGUE.probe))
    report = measure_delusion(model, tokenizer, DIALOGUE, num_conversations=3)
    assert report.auto_suggestion == pytest.approx(suggestion, abs=1e-4)
    assert report.repeat_after_no_answer == pytest.approx(repeat, abs=1e-4)
    assert report.coverage == pytest.approx(1, abs=1e-5)
    assert report.verdict == ("sober" if own == "do" else "deluded")


def probabilities(model: Any, tokenizer: Any, words: str, own: tuple[int, ...] = ()) -> np.ndarray:
    """Return the probabilities of the dishes, normalised, by one forward pass for each; `own` words are marked."""
    values = []
    for dish in DIALOGUE.utterances:
        text = tokenizer.tokenize(words.replace("\n", " "))
        ids = tokenizer.convert_tokens_to_ids([*text, dish, "<end>"])
        marked = [x + len(tokenizer) if t in own else x for t, x in enumerate(ids)]
        log_p = torch.log_softmax(model(input_ids=torch.tensor([marked])).logits[0], -1)
        values.append(float(log_p[-3, ids[-2]] + log_p[-2, ids[-1]]))
    p = np.exp(np.array(values) - max(values))
    return p / p.sum()


@pytest.mark.parametrize("marked", [False, True])
def test_numbers_are_those_of_forward_passes(tokenizer: Any, marked: bool) -> None:
    """`I(A; Y | h)` and the KL of provenance of a random model: own words as they are, or as do(x) = x + V."""
    model = make_model(len(tokenizer))
    if marked:
        with_random_marks(model)
    report = measure_delusion(model, tokenizer, DIALOGUE, num_conversations=1)

    @torch.no_grad()
    def read(text: str, own: tuple[int, ...] = ()) -> np.ndarray:
        return probabilities(model, tokenizer, text, own if marked else ())

    prompt = f"<user> {DIALOGUE.prompt} <end>"
    at = len(tokenizer.tokenize(prompt)) + 1
    weights = read(f"{prompt} <assistant>")
    beliefs = {
        dish: read(f"{prompt} <assistant> {dish} <end> <user> {DIALOGUE.probe} <end> <assistant>", (at, at + 1))
        for dish in DIALOGUE.utterances
    }
    table = np.stack(list(beliefs.values()))
    mean = weights @ table
    assert report.auto_suggestion == pytest.approx(weights @ (table * np.log(table / mean)).sum(-1), rel=1e-3)
    said = next(d for d, p in beliefs.items() if p @ p == pytest.approx(report.confidence, rel=1e-4))
    other = (
        read(f"{prompt} <assistant> {said} <end> <user> {DIALOGUE.probe} <end> <assistant>")
        if marked
        else read(f"<user> {DIALOGUE.prompt} {said} {DIALOGUE.probe} <end> <assistant>")
    )
    kl = beliefs[said] @ np.log(beliefs[said] / other)
    assert report.provenance_kl == pytest.approx(kl, rel=1e-3)


def with_random_marks(model: Any) -> Any:
    DoTokens.wrap(model)
    with torch.no_grad():
        model.get_input_embeddings().do_offset.rows.normal_(generator=torch.Generator().manual_seed(0))
    return model


def test_answers_are_scored_by_the_granularity_of_the_model(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By token, the end of an answer follows do(dish), by hand; a model that says so is scored by token by default."""
    model, marked = with_random_marks(make_model(len(tokenizer))), {}
    text = f"<user> {DIALOGUE.prompt} <end> <assistant>"
    at = len(tokenizer.tokenize(text))
    conversations, answers = [[{"role": "user", "content": DIALOGUE.prompt}]], [DIALOGUE.utterances]
    for granularity, own in (("turn", ()), ("token", (at,))):
        [log_p] = answer_log_probs(model, tokenizer, conversations, answers, granularity=granularity)
        with torch.no_grad():
            expected = probabilities(model, tokenizer, text, own)
        marked[granularity] = np.exp(log_p) / np.exp(log_p).sum()
        np.testing.assert_allclose(marked[granularity], expected, rtol=1e-4)
    assert abs(marked["turn"] - marked["token"]).max() > 1e-3
    assert LocalSpeaker(model, tokenizer, num_samples=1).granularity == "turn"
    marks = types.SimpleNamespace(vocab_size=len(tokenizer), granularity="token")
    monkeypatch.setattr(DoTokens, "of", staticmethod(lambda model: marks))
    [log_p] = answer_log_probs(model, tokenizer, conversations, answers)
    np.testing.assert_allclose(np.exp(log_p) / np.exp(log_p).sum(), marked["token"], rtol=1e-6)


def test_answers_of_the_same_tokens_are_refused(tokenizer: Any) -> None:
    """Both words are unknown: their probabilities are equal, whatever the model believes."""
    model, unknown = make_model(len(tokenizer)), MenuDialogue(dishes=("soup", "zebra", "giraffe"), num_turns=1)
    with pytest.raises(ValueError, match="'zebra' and 'giraffe' are the same tokens to the tokenizer, <unk> <end>"):
        measure_delusion(model, tokenizer, MenuDialogue(unknown.process, prompt=DIALOGUE.prompt))


@pytest.mark.parametrize("where", ["probe", "answers", "messages"])
def test_unknown_words_are_mentioned(where: str, tokenizer: Any) -> None:
    row = {"messages": [{"role": "user", "content": DIALOGUE.prompt}], "probe": DIALOGUE.probe}
    row |= {"answers": list(DIALOGUE.utterances), "candidates": list(DIALOGUE.utterances)}
    wrong = {"probe": "zebra", "answers": ["soup", "zebra"], "messages": [{"role": "user", "content": "zebra"}]}
    model = make_model(len(tokenizer))
    assert "tokenizer" not in measure_delusion(model, tokenizer, [row]).notes
    with pytest.warns(UserWarning, match="writes <unk> for it: 'zebra"):
        report = measure_delusion(model, tokenizer, [row | {where: wrong[where]}])
    assert "zebra" in report.notes["tokenizer"]


@pytest.mark.parametrize("candidates", [None, list(DIALOGUE.utterances)])
def test_nothing_is_measured_beyond_the_context(candidates: list[str] | None, tokenizer: Any) -> None:
    """A Llama would answer with positions that it has never seen."""
    row = {"messages": [{"role": "user", "content": "Yes. " * 60}], "probe": DIALOGUE.probe, "candidates": candidates}
    with pytest.raises(ValueError, match=r"has 1\d\d tokens, and the model's context allows 128"):
        measure_delusion(make_model(len(tokenizer)), tokenizer, [row | {"answers": list(DIALOGUE.utterances)}])


def test_a_name_and_swapped_arguments_are_told(tokenizer: Any) -> None:
    with pytest.raises(TypeError, match=r"model is a name, 'Qwen/x': load it.*endpoint="):
        measure_delusion("Qwen/x", tokenizer)
    with pytest.raises(TypeError, match="are swapped"):
        measure_delusion(tokenizer, make_model(len(tokenizer)))


def test_arguments_reach_the_chat_template(tokenizer: Any) -> None:
    """A template that writes a word before the answer, unless it is told not to."""
    model, other = make_model(len(tokenizer)), copy.deepcopy(tokenizer)
    other.chat_template = TEMPLATE.replace("<assistant> ", "<assistant> {% if not plain %}Yes {% endif %}")
    options = {"conversations": DIALOGUE, "num_conversations": 1}
    plain = measure_delusion(model, tokenizer, **options)
    same = measure_delusion(model, other, chat_template_kwargs={"plain": True}, **options)
    assert same.by_round == plain.by_round
    assert measure_delusion(model, other, **options).by_round != plain.by_round


def test_a_template_whose_turn_does_not_end_is_refused(tokenizer: Any) -> None:
    """The probability of an answer would lack that of its end."""
    endless = copy.deepcopy(tokenizer)
    endless.chat_template = TEMPLATE.replace(" <end>{% endg", " .{% endg")
    with pytest.raises(ValueError, match="does not end the assistant's turn"):
        measure_delusion(make_model(len(tokenizer)), endless, DIALOGUE)


@pytest.mark.parametrize("kind", ["shared", "low_rank"])
def test_a_checkpoint_of_an_adapter_is_loaded_with_its_marks(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    """The answers are those of the model in memory; the base model is read from its own folder."""
    make_model(len(tokenizer)).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=["do_offset"], init_lora_weights=False)
    model = get_peft_model(DoTokens.wrap(base, kind, rank=3), config)
    with torch.no_grad():
        for name, x in model.named_parameters():
            if "do_offset" in name:
                x.normal_(generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    messages = [{"role": "user", "content": DIALOGUE.prompt}, {"role": "assistant", "content": "soup"}]
    arguments = ([[*messages, {"role": "user", "content": DIALOGUE.probe}]], [DIALOGUE.utterances])
    loaded, its_tokenizer = load_model(tmp_path / "checkpoint")
    [expected] = answer_log_probs(model.eval(), tokenizer, *arguments)
    np.testing.assert_allclose(answer_log_probs(loaded, its_tokenizer, *arguments)[0], expected, rtol=1e-5)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(ValueError, match=r"base model .* is not on this computer"):
        load_model(tmp_path / "checkpoint")


def test_an_adapter_is_measured_as_it_was_taught(tmp_path: Path) -> None:
    """By token, also from a checkpoint and from the folder of the adapter, whose own files do not say it."""
    make_model(len(TOKENIZER)).save_pretrained(tmp_path / "base")
    trainer = make_trainer(
        tmp_path, model=AutoModelForCausalLM.from_pretrained(tmp_path / "base"), granularity="token", max_steps=1,
        peft_config=LoraConfig(target_modules=["q_proj"]), save_strategy="steps", save_steps=1.0,
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    with pytest.raises(ValueError, match=rf"adapter of PEFT without a tokenizer. Measure {tmp_path}/model, into"):
        load_model(tmp_path / "model" / "adapter")
    TOKENIZER.save_pretrained(tmp_path / "model" / "adapter")
    for folder in ("checkpoint-1", "model", "model/adapter"):
        assert LocalSpeaker(*load_model(tmp_path / folder), num_samples=1).granularity == "token"
    (tmp_path / "checkpoint-1" / "do_tokens.json").write_text('{"granularity": "word"}')
    with pytest.raises(ValueError, match=r"do_tokens\.json is damaged"):
        load_model(tmp_path / "checkpoint-1")


def test_the_certificate_of_a_local_model() -> None:
    """A random model, dishes of one word and two: log-loss and predictions are those of forward passes."""
    dishes = ("fish tacos", "soup", "pizza")
    dialogue = MenuDialogue(dishes=dishes, num_turns=2, prompt="What's on the menu?")
    tokenizer = make_tokenizer(re.findall(r"\w+|[^\w\s]+", " ".join([*TEXTS, *dishes])))
    model = make_model(len(tokenizer))
    agent, key = local_agent(dialogue, model, tokenizer), jax.random.key(0)
    report = ud.certify(dialogue.process, agent, key=key, num_episodes=2, baselines=False)
    episodes = ud.rollout(dialogue.process, agent, key=key, num_episodes=2)

    @torch.no_grad()
    def predict(messages: list[dict]) -> np.ndarray:
        values = []
        for dish in dishes:
            text = "".join(f"<{x['role']}> {x['content']} <end> " for x in messages) + f"<assistant> {dish} <end>"
            ids = torch.tensor([tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))])
            log_p = torch.log_softmax(model(input_ids=ids).logits[0], -1)
            n = len(tokenizer.tokenize(dish)) + 1
            values.append(float(sum(log_p[t - 1, ids[0, t]] for t in range(ids.shape[1] - n, ids.shape[1]))))
        p = np.exp(np.array(values) - max(values))
        return p / p.sum()

    losses, distances = [], []
    for i in range(2):
        messages = dialogue.decode(episodes.actions[i], episodes.observations[i])
        for t in range(2):
            history = messages[: 1 + 2 * t]
            p = predict(history)
            expert = dialogue.decode(episodes.expert_actions[i][t : t + 1], episodes.observations[i][t : t + 1])
            losses.append(-np.log(p[dialogue.read(expert[1]["content"])]))
            q = dialogue.belief(history) @ dialogue.expert_probs
            distances.append(q @ np.log(q / p))
    assert report.action_log_loss == pytest.approx(np.mean(losses), rel=1e-4)
    assert report.action_kl_do == pytest.approx(np.mean(distances), rel=1e-4)


def test_utterances_of_a_local_model_are_sampled(tokenizer: Any) -> None:
    """Without candidates; the same seed gives the same report."""
    row = {"messages": [{"role": "user", "content": DIALOGUE.prompt}], "probe": DIALOGUE.probe}
    rows = [row | {"answers": list(DIALOGUE.utterances)}]
    model = make_model(len(tokenizer))
    reports = [measure_delusion(model, tokenizer, rows, num_samples=4) for _ in range(2)]
    assert reports[0].by_round == reports[1].by_round
    assert (reports[0].method, reports[0].num_samples) == ("log-probabilities", 4)
    assert "by its log-probabilities of answers after 4 sampled utterances" in str(reports[0]).replace("\n", " ")
    assert reports[0].provenance_kl is not None


def test_conversations_that_begin_alike_have_samples_of_their_own(tokenizer: Any) -> None:
    """The standard error would be 0 if the samples of the first one served for all."""
    row = {"messages": [{"role": "user", "content": DIALOGUE.prompt}], "probe": DIALOGUE.probe}
    rows = [row | {"answers": list(DIALOGUE.utterances)}] * 4
    report = measure_delusion(make_model(len(tokenizer)), tokenizer, rows, num_samples=4)
    assert report.by_round["auto_suggestion"][0].standard_error > 0


def test_conversations_that_differ_in_calls_of_tools_are_told_apart(tokenizer: Any) -> None:
    """Messages of equal text, of which the template writes more than the text."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = TEMPLATE.replace("<user> {{", "<user> {{ message.tool_calls[0] if message.tool_calls }} {{")
    speaker = LocalSpeaker(make_model(len(tokenizer)), other, num_samples=1)

    def request(dish: str) -> Request:
        return Request(({"role": "user", "content": "Yes.", "tool_calls": [dish]},), DIALOGUE.utterances)

    together = speaker.answer([request("soup"), request("pizza")])
    alone = LocalSpeaker(speaker.model, other, num_samples=1).answer([request("pizza")])
    np.testing.assert_allclose(together[1].probs, alone[0].probs, rtol=1e-5)
    assert abs(together[0].probs - together[1].probs).max() > 1e-4


def test_the_command_hands_arguments_to_the_chat_template(
    tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The numbers of the command are those of the function with the same arguments, and not those without."""
    other = copy.deepcopy(tokenizer)
    other.chat_template = TEMPLATE.replace("<assistant> ", "<assistant> {% if not plain %}Yes {% endif %}")
    make_model(len(tokenizer)).save_pretrained(tmp_path)
    other.save_pretrained(tmp_path)
    game = {"dishes": "tacos, soup, pizza", "num_turns": "1", "num_conversations": "2"}
    command = ["measure", str(tmp_path), "--json", "--prompt", DIALOGUE.prompt]
    for name, value in game.items():
        command += [f"--{name.replace('_', '-')}", value]

    def number(*more: str) -> float:
        assert main([*command, *more]) == 0
        return json.loads(capsys.readouterr().out)["auto_suggestion"]

    dialogue = MenuDialogue(dishes=("tacos", "soup", "pizza"), num_turns=1, prompt=DIALOGUE.prompt)
    options = {"conversations": dialogue, "num_conversations": 2, "chat_template_kwargs": {"plain": True}}
    expected = measure_delusion(*load_model(tmp_path), **options).auto_suggestion
    assert number("--chat-template-kwargs", '{"plain": true}') == pytest.approx(expected, rel=1e-6)
    assert number() != pytest.approx(expected, rel=1e-3)
    assert main([*command, "--chat-template-kwargs", '{"plane": true}']) == 1
    assert "does not read 'plane'" in capsys.readouterr().err
    assert main([*command, "--chat-template-kwargs", "true"]) == 2
    assert (
        "--chat-template-kwargs must be a JSON object such as '{\"enable_thinking\": false}'" in capsys.readouterr().err
    )


def test_inspector_flips_the_marks_of_a_language_model() -> None:
    """A flipped utterance is read in plain words; a model without marked words reads all alike."""
    dishes = ("tacos", "soup", "pizza")
    dialogue = MenuDialogue(dishes=dishes, num_turns=3, prompt="What's on the menu?")
    tokenizer = make_tokenizer(re.findall(r"\w+|[^\w\s]+", " ".join([*TEXTS, *dishes])))
    model = DoTokens.wrap(make_model(len(tokenizer)), "full")
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if "do_offset" in name).normal_(0, 0.5)
    agents = {"marked": local_agent(dialogue, model, tokenizer)}
    plain = local_agent(dialogue, make_model(len(tokenizer)), tokenizer)
    inspection = Inspection(dialogue.process, {"words": agents["marked"], "plain": plain})
    history = inspection.play(inspection.begin(seed=0), rounds=2, actor="words")
    before = inspection.read(history).accounts
    for one, authors in ((history, ["self", "self"]), (history.flip(0), ["expert", "self"])):
        values = [np.asarray([getattr(r, x) for r in one.rounds]) for x in ("action", "observation")]
        messages = dialogue.decode(*values)
        for message, author in zip(messages[1::2], authors, strict=True):
            message["author"] = author
        (log_p,) = answer_log_probs(model, tokenizer, [messages], [dishes])
        p = np.exp(log_p - log_p.max())
        np.testing.assert_allclose(inspection.read(one).accounts["words"].actions[-1], p / p.sum(), atol=1e-5)
    after = inspection.read(history.flip(0)).accounts
    assert not np.allclose(after["words"].actions, before["words"].actions, atol=1e-3)
    np.testing.assert_array_equal(after["plain"].actions, before["plain"].actions)
    texts = {x["key"]: x["text"] for x in describe(inspection, notes={})["parties"]}
    assert "is told the marks" in texts["words"]
    assert "not told the marks" in texts["plain"]


def test_command_inspects_a_language_model_beside_exact_agents(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(re.findall(r"\w+|[^\w\s]+", " ".join(["fish cheeseburgers pea", *TEXTS])))
    DoTokens.wrap(make_model(len(tokenizer), length=512)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    options = Inspect("menu", second=str(tmp_path), prompt="What's on the menu?", num_rounds=2)
    options.check()
    about = inspect_command.service(options).answer("describe", {})
    assert about["parties"][-1]["name"] == "language model"
    assert "tokens of their own" in about["parties"][-1]["text"]
    with pytest.raises(UsageError, match=r"the process must be from ud\.tasks\.menu"):
        inspect_command.service(dataclasses.replace(options, target="bandit"))
    with pytest.raises(UsageError, match="--prompt is for the folder of a language model"):
        Inspect("menu", prompt="Hello").check()
    alone = Inspect(str(tmp_path), prompt=options.prompt, num_rounds=2)
    alone.check()
    opened = inspect_command.service(alone).answer("describe", {})
    assert (opened["task"], opened["state"]) == (about["task"], about["state"])
    assert "unless --task names another menu" in opened["parties"][-1]["text"]
    with pytest.raises(UsageError, match=r"leave out --second runs/one"):
        dataclasses.replace(alone, second="runs/one").check()
    with pytest.raises(UsageError, match=r"the process must be from ud\.tasks\.menu"):
        inspect_command.service(dataclasses.replace(alone, task="bandit"))


@pytest.mark.parametrize("what", ["tokenizer", "model"])
def test_code_in_a_folder_is_not_run(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration may name code beside it, which Transformers offers to run if the user types y."""
    TOKENIZER.save_pretrained(tmp_path)
    make_model(len(TOKENIZER)).save_pretrained(tmp_path)
    name, key = {"tokenizer": ("tokenizer_config.json", "AutoTokenizer"), "model": ("config.json", "AutoConfig")}[what]
    config = json.loads((tmp_path / name).read_text())
    kinds = {"AutoTokenizer": ["own.Own", None], "AutoConfig": "own.Own"}
    config |= {"auto_map": {key: kinds[key]}, "tokenizer_class": "Own", "model_type": "own"}
    (tmp_path / name).write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Own: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    said = r"has code of its own .* is not run\. If you trust it, load"
    with pytest.raises(ValueError, match=said):
        load_model(tmp_path)
    if what == "model":
        with pytest.raises(ValueError, match=said):
            local._load_adapter(tmp_path / "adapter", str(tmp_path))
    assert not (tmp_path / "ran").exists()
