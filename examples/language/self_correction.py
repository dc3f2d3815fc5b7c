"""Does a model see its own mistake as readily as another's? In the manner of Self-Correction Bench (arXiv:2507.02778).

    python examples/language/self_correction.py --model Qwen/Qwen2.5-0.5B-Instruct

The same false answer stands once in the model's own turn and once in the user's, and the model is asked whether it is
true. A model whose own words are evidence to it believes itself more. Questions are our own.
"""

import argparse
from typing import Any

import numpy as np
from facts import FACTS
from transformers import AutoModelForCausalLM, AutoTokenizer

from undelude.hf import answer_log_probs

ANSWERS = ("Yes.", "No.")


def conversations(by: str) -> list[list[dict[str, Any]]]:
    """Return for each question a conversation in which the model itself or the user has given the false answer."""
    found = []
    for question, _, false in FACTS:
        asked = f'Is this true: "{false}" Answer "Yes." or "No."'
        if by == "self":
            answer = {"role": "assistant", "content": false, "author": "self"}
            found.append([{"role": "user", "content": question}, answer, {"role": "user", "content": asked}])
        else:
            found.append([{"role": "user", "content": f"{question} Somebody says: {false} {asked}"}])
    return found


def main(model: Any, tokenizer: Any) -> dict[str, np.ndarray]:
    """Return the probability of "No." for each false answer, by who gave it."""
    found = {}
    for by in ("self", "user"):
        log_probs = answer_log_probs(model, tokenizer, conversations(by), [ANSWERS] * len(FACTS))
        found[by] = np.array([np.exp(no - np.logaddexp(yes, no)) for yes, no in log_probs])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct")
    name = parser.parse_args().model
    found = main(AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name))
    for by, p in found.items():
        print(
            f"the {'model' if by == 'self' else by}'s mistake is seen in {(p > 0.5).mean():.0%}; P(No) {p.mean():.2f}"
        )
    difference = found["user"] - found["self"]
    print(f"blind spot {difference.mean():+.2f} +- {difference.std(ddof=1) / len(difference) ** 0.5:.2f}")
