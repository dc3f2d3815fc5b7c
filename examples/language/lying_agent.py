"""Interventional SFT (de Freitas and Ortega, 2026) on an agent that lies in half of its answers and is corrected.

    python examples/language/lying_agent.py --model Qwen/Qwen2.5-0.5B

Two models are fine-tuned on the same transcripts. SFT scores the agent's words, lies included; interventional SFT
scores the user's words alone. Then the true and the false answer to each question are compared: the margin
log P(true) - log P(false), in nats. The setting is that of their notebook, with questions of our own. Nobody who wrote
the agent's words knew more than the model, which is the case in which interventional SFT is right (docs/language.md).
"""

import argparse
import copy
import random
import tempfile
from typing import Any

import numpy as np
from facts import FACTS
from transformers import AutoModelForCausalLM, AutoTokenizer

from undelude.hf import CounterfactualConfig, CounterfactualTrainer, answer_log_probs


def transcripts(number: int, p_lie: float = 0.5, seed: int = 0) -> list[dict[str, Any]]:
    """Return conversations: a question, the agent's answer, and what the user says to it."""
    rng, rows = random.Random(seed), []
    for _ in range(number):
        question, true, false = rng.choice(FACTS)
        lies = rng.random() < p_lie
        reply = f"No. {true}" if lies else f"Yes. {true}"
        answer = {"role": "assistant", "content": false if lies else true, "author": "self"}
        user = [{"role": "user", "content": text, "author": "other"} for text in (question, reply)]
        rows.append({"messages": [user[0], answer, user[1]]})
    return rows


def margins(model: Any, tokenizer: Any) -> np.ndarray:
    """Return log P(true) - log P(false) of each question, in nats."""
    conversations = [[{"role": "user", "content": question}] for question, _, _ in FACTS]
    log_probs = answer_log_probs(model, tokenizer, conversations, [fact[1:] for fact in FACTS])
    return np.array([true - false for true, false in log_probs])


def main(model: Any, tokenizer: Any, number: int = 480, **settings: Any) -> dict[str, np.ndarray]:
    """Return the margins before training, and after it with each objective."""
    found = {"before": margins(model, tokenizer)}
    for objective in ("sft", "isft"):
        with tempfile.TemporaryDirectory() as folder:
            trainer = CounterfactualTrainer(
                model=copy.deepcopy(model),
                train_dataset=transcripts(number),
                processing_class=tokenizer,
                args=CounterfactualConfig(
                    folder, objective=objective, report_to="none", save_strategy="no", **settings
                ),
            )
            trainer.train()
            found[objective] = margins(trainer.model, tokenizer)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
    parser.add_argument("--epochs", type=float, default=3)
    args = parser.parse_args()
    found = main(
        AutoModelForCausalLM.from_pretrained(args.model),
        AutoTokenizer.from_pretrained(args.model),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=8,
        learning_rate=1e-5,
    )
    for name, values in found.items():
        print(
            f"{name:7s} prefers the lie on {(values < 0).sum()} of {len(values)}; mean margin {values.mean():+.2f} nats"
        )
