"""The trainer does what transformers' does, and its loss is a mean over the whole optimiser step."""

import logging.handlers
import warnings

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import transformers
from transformers.utils.generic import ModelOutput

from hf.tiny import EMPTY_THOUGHT, make_model, make_tokenizer
from hf.worlds import DISHES, TOKENIZER, WORDS, make_trainer, rows, uniform, world
from undelude.hf import CallableExpert, CounterfactualConfig, DoTokens, PromptedExpert, generate_turn
from undelude.hf._teaching.experts import Query
from undelude.hf._teaching.packing import packs
from undelude.hf._teaching.sequences import collate, predictions


def weights(trainer):
    return {name: x.detach().clone() for name, x in trainer.model.state_dict().items()}


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name, x in a.items():
        torch.testing.assert_close(x, b[name], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def scored(trainer, num=6):
    """Return the scored sequences of a batch."""
    from undelude.hf._teaching.sequences import score

    keys = [(0, i) for i in range(num)]
    conversations = trainer.converse(rows(num), keys)
    rngs = [np.random.default_rng(i) for i in range(num)]
    settings = {"V": trainer.offset, "granularity": trainer.args.granularity, "max_new_tokens": 3}
    return score(conversations, rngs, trainer.objective, trainer.expert, **settings)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2"])
def test_one_pass_for_all_turns_scores_as_one_sequence_a_turn(architecture, tmp_path):
    """With the same logits, and so the same gradient."""
    trainer = make_trainer(tmp_path, model=make_model(len(TOKENIZER), architecture), rollouts=uniform)
    assert packs(trainer.model, len(TOKENIZER), torch.device("cpu"))
    tree = scored(trainer)
    assert all(len(s.branches) == 3 for s in tree)
    found = []
    for sequences in (tree, [row for s in tree for row in s.rows()]):
        batch = collate(sequences)
        logits = predictions(trainer.model, batch, torch.device("cpu"))
        loss = trainer.compute_loss(trainer.model, {"batch": batch})
        trainer.model.zero_grad()
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])
        found.append((loss.detach(), gradient, batch.counts(), logits.shape))
    (loss, gradient, counts, _), (loss_rows, gradient_rows, counts_rows, _) = found
    torch.testing.assert_close(loss, loss_rows, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, gradient_rows, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(counts, counts_rows)


def test_a_model_that_ignores_the_mask_is_scored_turn_by_turn():
    class Bag(torch.nn.Module):
        """Predicts from the mean of all words before."""

        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(30, 30)

        def forward(self, input_ids, attention_mask, position_ids=None):
            x = self.table(input_ids).cumsum(1) / torch.arange(1, input_ids.shape[1] + 1)[:, None]
            return ModelOutput(logits=x)

    assert not packs(Bag(), 30, torch.device("cpu"))


def test_the_replies_in_a_batch_are_those_that_the_policy_saw(tmp_path):
    """Replies drawn anew would not be evidence about the theta that answered the turns before."""
    heard = []

    def recording(messages, row, rng):
        reply = world(messages, row, rng)
        heard.append((row["number"], tuple(m["content"] for m in messages), reply))
        return reply

    trainer = make_trainer(tmp_path, environment=recording, rollouts=uniform)
    data = rows(4)
    (batch,) = trainer.make_batches(data, [(0, i) for i in range(4)], [4])
    ids = batch["input_ids"].tolist()
    for i in range(4):
        text = TOKENIZER.decode([x % len(TOKENIZER) for x in ids[i]])
        said = [x for number, history, reply in heard if number == i and reply for x in (history[-1], reply)]
        assert len(said) == 4
        kept = [word for word in text.split() if word in (*DISHES, "yes", "no")]
        assert kept[: len(said)] == said


def test_own_words_are_marked_and_the_words_of_others_are_not(tmp_path):
    trainer = make_trainer(tmp_path, rollouts=uniform)
    V = len(TOKENIZER)
    assert trainer.offset == V
    (conversation,) = trainer.converse(rows(1), [(0, 0)])
    marked = conversation.marked(V)
    own = {t for turn in conversation.turns for t in range(turn.start, turn.end)}
    assert len(conversation.turns) == 3
    assert all((x >= V) == (t in own) for t, x in enumerate(marked))
    # The dish and the end of the turn.
    assert all(turn.end - turn.start == 2 for turn in conversation.turns)
    said = [
        TOKENIZER.decode([x]) for x, observed in zip(conversation.ids, conversation.observed, strict=True) if observed
    ]
    assert said == [m["content"] for m in conversation.messages[2::2]]


@pytest.mark.parametrize("granularity", ["turn", "token"])
def test_two_batches_of_four_are_one_of_eight(granularity, tmp_path):
    """Each step's mean is over all its tokens, whatever they are divided into."""
    settings = {"granularity": granularity, "max_grad_norm": 0.0, "optim": "sgd"}
    whole, halves = (
        make_trainer(tmp_path, per_device_train_batch_size=b, gradient_accumulation_steps=8 // b, **settings)
        for b in (8, 4)
    )
    for trainer in (whole, halves):
        trainer.train()
    assert_same(weights(whole), weights(halves), rtol=1e-4, atol=1e-6)
    for a, b in zip(whole.state.log_history[:2], halves.state.log_history[:2], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert a["loss"] == pytest.approx(a["action_loss"] + a["observation_loss"], rel=1e-4)


def test_a_resumed_run_equals_one_without_interruption(tmp_path):
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2.0}
    whole = make_trainer(tmp_path / "a", **settings)
    whole.train()
    resumed = make_trainer(tmp_path / "b", model=make_model(len(TOKENIZER), seed=9), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert_same(weights(whole), weights(resumed), rtol=0, atol=0)


def test_the_best_model_is_loaded_at_the_end(tmp_path):
    """Here that with the greatest loss, which is not the last one."""
    trainer = make_trainer(
        tmp_path, rollouts=uniform, eval_dataset=rows(8), save_strategy="steps", save_steps=1.0, eval_strategy="steps",
        eval_steps=1.0, load_best_model_at_end=True, greater_is_better=True,
    )  # fmt: skip
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-1")
    best = DoTokens.load(tmp_path / "checkpoint-1")
    assert_same(weights(trainer), best.state_dict(), rtol=0, atol=0)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    make_trainer(tmp_path, model=make_model(len(TOKENIZER), layers=1)).save_model(str(tmp_path / "small"))
    with pytest.raises(ValueError, match=r"checkpoint of another model: it lacks .*layers\.1"):
        make_trainer(tmp_path)._load_from_checkpoint(str(tmp_path / "small"))


def test_nothing_is_printed_that_the_user_did_not_cause(tmp_path, capfd):
    """No pinned memory without an accelerator, no bar of one shard, no wish for a mask, no old name in PEFT."""
    peft = pytest.importorskip("peft")
    has_accelerator = torch.accelerator.is_available()
    assert CounterfactualConfig(str(tmp_path)).dataloader_pin_memory == has_accelerator
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = make_trainer(tmp_path, peft_config=peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    padded, handler = torch.full((1, 4), TOKENIZER.pad_token_id), logging.handlers.BufferingHandler(9)
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addHandler(handler)
    generate_turn(make_model(len(TOKENIZER), "gpt2"), padded, torch.ones_like(padded), eos_token_id=1, max_new_tokens=2)
    logger.removeHandler(handler)
    assert not handler.buffer
    trainer.save_model(str(tmp_path / "model"))
    assert "Writing model shards" not in capfd.readouterr().err


def test_a_stock_class_loads_what_is_saved(tmp_path):
    trainer = make_trainer(tmp_path)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    V = len(TOKENIZER)
    ids = torch.tensor([[2, 5, 3 + V, 1 + V, 2, 6]])
    with torch.no_grad():
        torch.testing.assert_close(stock(ids).logits[..., :V], trainer.model.eval()(ids).logits, rtol=1e-5, atol=1e-5)
    assert float(DoTokens.of(trainer.model).offsets().detach().abs().max()) > 0


def test_templates_that_add_an_empty_thought(tmp_path):
    """As Qwen3's: each turn, played or stored, follows the thought that stood before it when it was written."""
    tokenizer = make_tokenizer([*WORDS, "<think>"], EMPTY_THOUGHT)
    settings = {"tokenizer": tokenizer, "rollouts": uniform, "max_steps": 1}
    teacher = PromptedExpert(make_model(len(tokenizer), seed=1), tokenizer)
    trainer = make_trainer(tmp_path, teacher=teacher, chat_template_kwargs={"enable_thinking": False}, **settings)
    (c,) = trainer.converse(rows(1), [(0, 0)])
    thought = tokenizer.convert_tokens_to_ids("<think>")
    assert [c.ids[turn.start - 1] for turn in c.turns] == [thought] * 3
    assert teacher.prompt_ids(c.query(c.turns[1], np.random.default_rng(0)))[-1] == thought
    (stored,) = trainer.converse([rows(1)[0] | {"messages": c.messages}], [(0, 0)])
    assert stored.ids == c.ids
    trainer.train()
    with pytest.raises(ValueError, match="rewrites earlier messages"):
        make_trainer(tmp_path, **settings).converse(rows(1), [(0, 0)])


def test_functions_may_change_the_messages_that_they_are_shown(tmp_path):
    """An expert that writes the context into the prompt, in place, tells it to nobody else."""

    def expert(messages, row):
        messages[0]["content"] += " " + row["privileged_context"]
        messages.append({"role": "user", "content": "yes"})
        return {row["theta"]: 1.0}

    def guess(messages, row, rng):
        seen.append([(m["role"], m["content"]) for m in messages])
        for m in messages:
            m["role"] = "assistant" if m["role"] == "user" else "user"
        return DISHES[rng.integers(3)]

    def reply(messages, row, rng):
        messages.append({"role": "system", "content": row["theta"]})
        return "no" if len(messages) == 3 else None

    seen = []
    for objective, rollouts in (("counterfactual", guess), ("sft", "expert")):
        teacher = CallableExpert(expert, TOKENIZER)
        trainer = make_trainer(
            tmp_path, teacher=teacher, environment=reply, rollouts=rollouts, objective=objective, max_steps=1
        )
        trainer.train()
        for c in trainer.converse(rows(8), [(0, i) for i in range(8)]):
            assert [(m["role"], m["content"]) for m in c.messages[::2]] == [("user", "menu"), ("user", "no")]
            assert [turn.message for turn in c.turns] == [1, 3]
    assert {x for messages in seen for x in messages} <= {
        ("user", "menu"), ("user", "no"), *(("assistant", dish) for dish in DISHES)
    }  # fmt: skip


def test_the_share_of_cut_turns_is_logged(tmp_path):
    """A turn that is cut has no room for its end among three words; the expert never ends its turns of odd rows."""
    end, words = TOKENIZER.eos_token_id, np.full(len(TOKENIZER), -np.inf)
    words[TOKENIZER.convert_tokens_to_ids([*DISHES])] = 0.0

    def next_token(messages, row, ids):
        return words if row["number"] % 2 else np.log(np.eye(len(TOKENIZER))[end] + 1e-30)

    teacher = CallableExpert(next_token=next_token, tokenizer=TOKENIZER)
    trainer, turns = make_trainer(tmp_path, teacher=teacher, max_steps=1), []
    converse = trainer.converse

    def recording(rows, keys):
        conversations = converse(rows, keys)
        turns.extend((turn.end - turn.start == 4, c.row["number"] % 2) for c in conversations for turn in c.turns)
        return conversations

    trainer.converse = recording
    trainer.train()
    own, others = np.mean(turns, axis=0)
    log = trainer.state.log_history[0]
    assert (log["cut_turns"], log["expert_cut_turns"]) == pytest.approx((own, others))
    assert all(0 < x < 1 for x in (own, others))


def test_conversations_serve_several_steps(tmp_path):
    """The batch of the second step is that of the first, and the third is new."""
    trainer = make_trainer(tmp_path, max_steps=4, steps_per_generation=2)
    seen = []
    collect = trainer._collect
    trainer._collect = lambda parts, step: (
        seen.append((step, [r["number"] for p in parts for r in p["rows"]])) or collect(parts, step)
    )
    trainer.train()
    assert [step for step, _ in seen] == [0, 2]
    assert not set(seen[0][1]) & set(seen[1][1])
    with pytest.raises(ValueError, match="not a multiple"):
        make_trainer(tmp_path, save_strategy="steps", save_steps=3.0, steps_per_generation=2)


def test_conversations_are_determined_by_the_row_and_its_key(tmp_path):
    """By default each row has one; with the same key, a row has the same conversation at another place."""
    trainer, data = make_trainer(tmp_path, rollouts=uniform), rows(6)
    first, again = trainer.converse(data), trainer.converse(data)
    assert [c.messages for c in first] == [c.messages for c in again]
    keys = [(7, 1), (7, 2)]
    played = trainer.converse(data[:2], keys)
    assert [c.messages for c in trainer.converse(data[1::-1], keys[::-1])] == [c.messages for c in played[::-1]]
    assert len({str(c.messages) for c in trainer.converse(data[:1] * 6)}) > 1
    with pytest.raises(ValueError, match="6 rows need as many keys, not 2"):
        trainer.converse(data, keys)


def test_evaluation_has_the_same_conversations_each_time(tmp_path):
    trainer = make_trainer(tmp_path)
    losses = [trainer.evaluate(rows(10))["eval_loss"] for _ in range(2)]
    assert losses[0] == losses[1] > 0


def test_the_default_optimiser_learns_the_dishes(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=30, rollouts=uniform, steps_per_generation=2)
    with warnings.catch_warnings():
        trainer.train()
    history = [row["action_loss"] for row in trainer.state.log_history if "action_loss" in row]
    assert np.mean(history[-5:]) < 0.5 * history[0]


def test_models_in_bfloat16_are_packed():
    """Their rounding is not mistaken for branches that see each other; an error of the device is not hidden."""
    model = make_model(30).bfloat16()
    assert packs(model, 30, torch.device("cpu"))

    def out_of_memory(*args, **inputs):
        raise RuntimeError("out of memory")

    model.forward = out_of_memory
    with pytest.raises(RuntimeError, match="out of memory"):
        packs(model, 30, torch.device("cpu"))


def test_windows_are_not_packed():
    """A mask of whole sequences would take the place of the window."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.MistralConfig(vocab_size=30, num_key_value_heads=2, sliding_window=16, **size)
    model = transformers.AutoModelForCausalLM.from_config(config)
    assert packs(model, 30, torch.device("cpu"), 16)
    assert not packs(model, 30, torch.device("cpu"), 17)


def test_an_expert_may_not_say_more_than_the_model_can():
    expert = CallableExpert(lambda messages, row: " ".join(["soup"] * 4), TOKENIZER)
    query = Query([{"role": "user", "content": "no", "author": "other"}], {}, np.random.default_rng(0))
    assert len(expert.speak([query], 4)[0].ids) == 5
    with pytest.raises(ValueError, match="has 5 tokens, and the model may write 3"):
        expert.speak([query], 3)
