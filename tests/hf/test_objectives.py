"""The baselines in the same trainer, adapters of PEFT, and two processes."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import transformers

from hf.tiny import make_model
from hf.worlds import REPLIES, TOKENIZER, make_trainer, rows
from undelude.hf import CallableExpert, DoTokens, PromptedExpert
from undelude.hf._teaching.experts import pad


def batch_of(trainer, data=None):
    (batch,) = trainer.make_batches(rows(6) if data is None else data, [(0, i) for i in range(6)], [6])
    return batch["batch"]


def test_sft_scores_the_experts_turns_as_transformers_does(tmp_path):
    """The loss is transformers' own, with labels on the assistant's tokens; nothing is marked."""
    trainer = make_trainer(tmp_path, objective="sft", marked=False, rollouts="expert")
    batch = batch_of(trainer)
    assert batch.observations is None
    conversations = trainer.converse(rows(6), [(0, i) for i in range(6)])
    ids, mask = pad([c.ids for c in conversations], 0, torch.device("cpu"))
    labels = torch.full_like(ids, -100)
    for row, c in enumerate(conversations):
        for turn in c.turns:
            labels[row, turn.start : turn.end] = ids[row, turn.start : turn.end]
    assert int(ids.max()) < len(TOKENIZER)
    model: Any = trainer.model
    expected = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    torch.testing.assert_close(trainer.compute_loss(trainer.model, {"batch": batch}), expected)


def test_isft_scores_only_the_words_of_others(tmp_path):
    batch = batch_of(make_trainer(tmp_path, objective="isft", marked=False, rollouts="expert"))
    assert batch.actions is None
    assert {str(TOKENIZER.decode(x)) for x in batch.observations.targets.ids} <= set(REPLIES)


def test_gkd_asks_an_expert_that_is_not_told(tmp_path):
    told = []
    teacher = CallableExpert(
        lambda messages, row: told.append(bool({"privileged_context", "theta"} & set(row))) or {"soup": 1.0}, TOKENIZER
    )
    trainer = make_trainer(tmp_path, objective="gkd", marked=False, teacher=teacher, granularity="token")
    assert batch_of(trainer).actions is not None
    assert told
    assert not any(told)


def test_a_prompted_expert_of_gkd_reads_the_plain_prompt(tmp_path):
    teacher = PromptedExpert(make_model(len(TOKENIZER), seed=3), TOKENIZER, template="{prompt} {privileged_context}")
    trainer = make_trainer(tmp_path, objective="gkd", marked=False, teacher=teacher, granularity="token", max_turns=1)
    (c,) = trainer.converse(rows(1), [(0, 0)])
    batch = batch_of(trainer, rows(1) * 6)
    start, model = c.turns[0].start, teacher.model
    with torch.no_grad():
        logits: Any = model(torch.tensor([c.ids[:start]])).logits
    torch.testing.assert_close(batch.actions.targets.log_probs[0], logits[0, -1].log_softmax(-1))


def test_an_adapter_is_its_own_fixed_teacher(tmp_path):
    """The teacher is the base model, with the privileged prompt, before training and after; a stock class loads all."""
    from peft import LoraConfig

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    teacher = PromptedExpert(None, TOKENIZER, template="{prompt} {privileged_context}")
    base = make_model(len(TOKENIZER))
    fixed = PromptedExpert(copy.deepcopy(base), TOKENIZER, template=teacher.template)
    trainer = make_trainer(
        tmp_path, model=base, teacher=teacher, peft_config=config, max_steps=4, save_strategy="steps", save_steps=2.0
    )
    (conversation,) = trainer.converse(rows(1), [(0, 0)])
    query = conversation.query(conversation.turns[0], np.random.default_rng(0))
    turn = [5, 1]
    (expected,) = fixed.score([query], [turn])
    trainer.train()
    (after,) = teacher.score([query], [turn])
    torch.testing.assert_close(after.log_probs, expected.log_probs)
    assert float(DoTokens.of(trainer.model).offsets().detach().abs().max()) > 0
    trainer.save_model(str(tmp_path / "model"))
    stock = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    V = len(TOKENIZER)
    ids = torch.tensor([[2, 5, 6 + V, 1 + V, 2, 7]])
    with torch.no_grad():
        torch.testing.assert_close(stock(ids).logits[..., :V], trainer.model.eval()(ids).logits, rtol=1e-4, atol=1e-4)
    resumed = make_trainer(
        tmp_path / "b", model=make_model(len(TOKENIZER)), max_steps=4,
        teacher=PromptedExpert(None, TOKENIZER, template=teacher.template),
        peft_config=config,
    )  # fmt: skip
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    a, b = (dict(t.model.named_parameters()) for t in (trainer, resumed))
    for name, x in a.items():
        if x.requires_grad:
            torch.testing.assert_close(x, b[name], rtol=0, atol=0)


PROCESS = """
import json, sys, torch
from hf.worlds import make_trainer
trainer = make_trainer(sys.argv[1], per_device_train_batch_size=int(sys.argv[2]), optim="sgd", max_grad_norm=0.0)
trainer.train()
if trainer.is_world_process_zero():
    norms = {name: float(x.detach().norm()) for name, x in trainer.model.named_parameters()}
    json.dump({"norms": norms, "log": trainer.state.log_history}, open(sys.argv[1] + "/result.json", "w"))
"""


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """The same conversations, the same loss and the same weights."""
    options = {"per_device_train_batch_size": 8, "optim": "sgd", "max_grad_norm": 0.0}
    trainer = make_trainer(tmp_path / "1", **options)
    trainer.train()
    norms = {name: float(x.detach().norm()) for name, x in trainer.model.named_parameters()}
    one = {"norms": norms, "log": trainer.state.log_history}
    file, folder = tmp_path / "run.py", tmp_path / "2"
    file.write_text(PROCESS)
    folder.mkdir()
    root = Path(__file__).parents[2]
    folders = [str(root / name) for name in ("tests", "examples/language", "src")]
    paths = [*folders, os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run(
        [sys.executable, *launch, str(file), str(folder), "4"], env=environment, check=True, timeout=300,
        capture_output=True,
    )  # fmt: skip
    two = json.loads((folder / "result.json").read_text())
    assert one["norms"] == pytest.approx(two["norms"], rel=1e-4)
    for a, b in zip(one["log"][:2], two["log"][:2], strict=True):
        for name in ("loss", "action_loss", "observation_loss", "grad_norm"):
            assert a[name] == pytest.approx(b[name], rel=1e-4)
