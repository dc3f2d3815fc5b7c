"""What marked words cost a language model: a training step, an exported model, and a turn that is generated.

The models are random Llamas on the CPU. The ways are timed in turn, in CPU seconds, and the median of the ratios is
printed, so that a busy machine slows them alike.

    python benchmarks/language.py                     some minutes
    python benchmarks/language.py --sizes 64 --repeats 5
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig

from undelude.hf import DoTokens, generate_turn

# Width, words of the vocabulary, conversations in a batch, words of each.
SIZES = {64: (64, 64, 32, 64), 256: (256, 4096, 8, 128)}
NEW_TOKENS = 32


def exported(model: Any) -> Any:
    """Return the ordinary model with 2V words."""
    marks = DoTokens.of(model)
    assert marks is not None
    return marks.export()


def make_model(width: int, V: int, *, tied: bool) -> Any:
    """Return a Llama of two layers with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=V,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=tied,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=1,
    )
    return AutoModelForCausalLM.from_config(config)


def training_step(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """Return a step of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        model(ids, labels=labels).loss.backward()
        optimizer.step()

    return step


def turns(models: dict[str, Any], ids: torch.Tensor, marked: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """Return ways to write a turn.

    All write the most words that they may: a batch goes on until each of its turns has drawn the end, one word of V.
    """
    mask = torch.ones_like(ids)
    config = GenerationConfig(
        do_sample=True, top_k=0, top_p=1.0, max_new_tokens=NEW_TOKENS, eos_token_id=1, pad_token_id=0
    )
    for model in models.values():
        model.eval()

    def stock() -> torch.Tensor:
        return models["stock"].generate(ids, attention_mask=mask, generation_config=config)

    def turn(name: str, granularity: Any) -> Callable[[], torch.Tensor]:
        options = {"eos_token_id": 1, "max_new_tokens": NEW_TOKENS, "granularity": granularity}
        return lambda: generate_turn(models[name], marked, mask, **options)

    names = [(granularity, name) for granularity in ("turn", "token") for name in ("wrapped", "exported")]
    return {"generate() of a stock model": stock, **{f"by {g}, {name}": turn(name, g) for g, name in names}}


def compare(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Return the median CPU seconds of each way, and the median of its ratios to the first, timed in turn."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for i in range(repeats):
        for name in names if i % 2 == 0 else reversed(names):
            start = time.process_time()
            ways[name]()
            seconds[name].append(time.process_time() - start)
    first = seconds[names[0]]
    return {
        name: (statistics.median(xs), statistics.median(x / y for x, y in zip(xs, first, strict=True)))
        for name, xs in seconds.items()
    }


def measure(width: int, V: int, B: int, T: int, repeats: int) -> dict[str, Any]:
    """Return seconds and ratios for a model of a size."""
    torch.manual_seed(1)
    ids, own = torch.randint(2, V, (B, T)), torch.rand(B, T) < 0.5
    marked = ids + V * own
    results: dict[str, Any] = {}
    for tied in (False, True):
        model = make_model(width, V, tied=tied)
        wrapped = {
            kind: DoTokens.wrap(make_model(width, V, tied=tied), kind) for kind in ("shared", "low_rank", "full")
        }
        ways = {"stock": training_step(model, ids, ids)}
        ways |= {f"wrapped, {kind}": training_step(x, marked, ids) for kind, x in wrapped.items()}
        ways["exported"] = training_step(exported(wrapped["shared"]), marked, ids)
        results["training step, " + ("tied" if tied else "untied")] = compare(ways, repeats)
    wrapped = DoTokens.wrap(make_model(width, V, tied=False))
    models = {"stock": make_model(width, V, tied=False), "wrapped": wrapped, "exported": exported(wrapped)}
    results[f"a turn of {NEW_TOKENS} words"] = compare(turns(models, ids, marked), repeats)
    return results


def main() -> None:
    """Print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES), help="widths")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--json", help="write the results into this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"torch {version('torch')}, transformers {version('transformers')}, {args.threads} threads")
    results: dict[str, Any] = {}
    for size in args.sizes:
        width, V, B, T = SIZES[size]
        results[str(size)] = measure(width, V, B, T, args.repeats)
        print(f"\nwidth {width}, {V} words, batch {B}, length {T}")
        for title, rows in results[str(size)].items():
            print(f"  {title}")
            for name, (seconds, ratio) in rows.items():
                print(f"    {name:34} {1000 * seconds:8.1f} ms {100 * (ratio - 1):+7.1f} %")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
