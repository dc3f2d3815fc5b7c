"""Do mistakes in a model's own history make the next one likelier? Self-conditioning, as in arXiv:2509.09677.

    python examples/language/self_conditioning.py --model Qwen/Qwen2.5-0.5B-Instruct

In each turn the user names a number to add, and the assistant says the running sum. Some of the assistant's earlier
sums are replaced by wrong ones; each later sum is right given the one before it, so that the last turn
is the same. The history is read as the model's own and, if the model has marks, as somebody else's.
"""

import argparse
import random
from typing import Any

import numpy as np
from transformers import AutoModelForCausalLM, AutoTokenizer

from undelude.hf import DoTokens, answer_log_probs

RULES = "Keep a running sum, which starts at 0. I name a number in each turn. Reply with the sum alone."


def conversation(
    num_turns: int, error_rate: float, author: str, rng: random.Random
) -> tuple[list[dict[str, Any]], int]:
    """Return a conversation that ends with the user's number, and the right next sum."""
    messages, total = [], 0
    for turn in range(num_turns + 1):
        number = rng.randint(1, 9)
        text = f"Add {number}."
        messages.append({"role": "user", "content": f"{RULES}\n\n{text}" if turn == 0 else text})
        total += number
        if turn < num_turns:
            if rng.random() < error_rate:
                total += rng.choice([-2, -1, 1, 2])
            messages.append({"role": "assistant", "content": str(total), "author": author})
    return messages, total


def main(
    model: Any,
    tokenizer: Any,
    *,
    num_turns: int = 8,
    number: int = 50,
    error_rates: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0),
) -> dict[str, dict[float, float]]:
    """Return how often the right sum is the likeliest of those near it, by the author and the share of wrong turns."""
    found: dict[str, dict[float, float]] = {}
    for author in ("self",) if DoTokens.of(model) is None else ("self", "other"):
        found[author] = {}
        for rate in error_rates:
            rng = random.Random(0)
            pairs = [conversation(num_turns, rate, author, rng) for _ in range(number)]
            answers = [tuple(str(total + d) for d in range(-5, 6)) for _, total in pairs]
            log_probs = answer_log_probs(model, tokenizer, [messages for messages, _ in pairs], answers)
            found[author][rate] = float(np.mean([np.argmax(x) == 5 for x in log_probs]))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct")
    name = parser.parse_args().model
    found = main(AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name))
    for author, accuracy in found.items():
        print(
            f"history of {author}: " + ", ".join(f"{x:.0%} right at {rate:.0%} wrong" for rate, x in accuracy.items())
        )
