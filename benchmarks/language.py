"""Language models: the cost of marked words and of turns, against Transformers alone.

    python benchmarks/language.py    about two minutes, in an environment with the dependency group `bench`

All models are made from configurations. Each pair runs in turn, in one process; a ratio is the median over rounds of
the ratio of two neighbours.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Threads that spin while they wait would take the time of the others.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import transformers

from undelude.hf import DoTokens, generate_turn

END = 1
# Words, width, layers, and a batch of sequences.
SIZES = {
    "small": {"vocab_size": 512, "hidden_size": 64, "layers": 2, "batch": 64, "length": 64},
    "medium": {"vocab_size": 32_000, "hidden_size": 256, "layers": 4, "batch": 8, "length": 128},
}


def make(vocab_size: int, hidden_size: int, layers: int, **_: int) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=3 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        pad_token_id=0,
        eos_token_id=END,
        bos_token_id=None,
    )
    return transformers.AutoModelForCausalLM.from_config(config)


def step(model: transformers.PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Return a gradient step of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    model.train()

    def run() -> None:
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()

    return run


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> dict[str, float]:
    """Time two functions in turn; the first round of each is not counted."""
    times: list[tuple[float, float]] = []
    for _ in range(rounds + 1):
        pair = []
        for f in (ours, theirs):
            started = time.perf_counter()
            f()
            pair.append(time.perf_counter() - started)
        times.append((pair[0], pair[1]))
    rest = times[1:]
    return {
        "ms": 1e3 * statistics.median(a for a, _ in rest),
        "their_ms": 1e3 * statistics.median(b for _, b in rest),
        "ratio": statistics.median(a / b for a, b in rest),
    }


def main(rounds: int, file: Path | None) -> None:
    """Measure and print."""
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, load {os.getloadavg()[0]:.1f}")
    rows = []
    for name, size in SIZES.items():
        V, shape = size["vocab_size"], (size["batch"], size["length"])
        ids = torch.randint(2, V, shape)
        marked = torch.where(torch.rand(shape) < 0.5, ids + V, ids)
        plain, wrapped = make(**size), DoTokens.wrap(make(**size))
        assert torch.equal(wrapped(marked).logits, plain(ids).logits)
        exported = DoTokens.of(wrapped).export()
        ones = torch.ones_like(ids)
        torch.manual_seed(0)
        written = {"max_new_tokens": 32, "eos_token_id": END, "pad_token_id": 0}
        stock = {**written, "do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0}

        def ours(model, granularity, written=written, marked=marked, ones=ones):
            return lambda: generate_turn(model, marked, ones, granularity=granularity, **written)

        def alone(model=plain, stock=stock, ids=ids, ones=ones):
            return model.eval().generate(ids, attention_mask=ones, **stock)

        pairs = {
            "gradient step, wrapped": (step(wrapped, marked, ids), step(plain, ids, ids)),
            "gradient step, exported": (step(exported, marked, ids), step(plain, ids, ids)),
            "a turn of 32 words, generate_turn by turn": (ours(wrapped, "turn"), alone),
            "a turn of 32 words, generate_turn by token": (ours(wrapped, "token"), alone),
        }
        for what, (one, other) in pairs.items():
            row = {"size": name, "what": what, **ratio(one, other, rounds)}
            rows.append(row)
            print(
                f"{name:7s} {what:45s} {row['ms']:8.1f} ms, alone {row['their_ms']:8.1f} ms, ratio {row['ratio']:.3f}"
            )
    if file is not None:
        file.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    main(args.rounds, args.json)
