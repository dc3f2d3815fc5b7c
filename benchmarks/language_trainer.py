"""A gradient step of `CounterfactualTrainer` against that of `transformers.Trainer`, on the same batch and model.

The model is a random Llama on the CPU. The two are timed in turn, in CPU seconds, and the median of the ratios is
printed. Playing conversations and asking the expert are not part of it.

    python benchmarks/language_trainer.py      about a minute
"""

import argparse
import statistics
import tempfile
import time

import torch
from language import SIZES, make_model
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments

from undelude.hf import CounterfactualConfig, CounterfactualTrainer
from undelude.hf._teaching.losses import Targets
from undelude.hf._teaching.sequences import Scored, collate


def compare(width: int, V: int, B: int, T: int, repeats: int, folder: str) -> tuple[float, float, float]:
    """Return the median CPU milliseconds of both, and the median ratio."""
    torch.manual_seed(1)
    ids = torch.randint(2, V, (B, T))
    scored = [Scored(x.tolist(), actions=[(list(range(T - 1)), Targets.of_tokens(x[1:]))]) for x in ids]
    batch = collate(scored)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1}, unk_token="<pad>")),
        pad_token="<pad>", eos_token="<end>",
        chat_template="{% for m in messages %}{% generation %}{{ m['content'] }}<end>{% endgeneration %}{% endfor %}",
    )  # fmt: skip
    settings = {"output_dir": folder, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    row = {"prompt": "", "messages": []}
    ours = CounterfactualTrainer(
        model=make_model(width, V, tied=False), args=CounterfactualConfig(objective="sft", **settings),
        train_dataset=[row], processing_class=tokenizer,
    )  # fmt: skip
    stock = Trainer(model=make_model(width, V, tied=False), args=TrainingArguments(**settings), train_dataset=[row])
    num = torch.tensor(B * (T - 1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    steps = {
        "stock": lambda: stock.training_step(stock.model, dict(inputs), num),
        "ours": lambda: ours.training_step(ours.model, {"input_ids": ids, "batch": batch}, batch.counts()),
    }
    for trainer in (stock, ours):
        trainer.create_optimizer()
        trainer.current_gradient_accumulation_steps = 1
    losses = {name: float(step()) for name, step in steps.items()}
    assert abs(losses["stock"] - losses["ours"]) < 1e-3 * losses["stock"], losses
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(repeats):
        for name in list(steps) if i % 2 == 0 else reversed(list(steps)):
            started = time.process_time()
            steps[name]()
            seconds[name].append(time.process_time() - started)
    ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["stock"], strict=True))
    return 1000 * statistics.median(seconds["stock"]), 1000 * statistics.median(seconds["ours"]), ratio


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), choices=list(SIZES), help="widths")
    parser.add_argument("--repeats", type=int, default=21)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            stock, ours, ratio = compare(*SIZES[size], given.repeats, folder)
        print(f"width {size}: transformers {stock:.1f} ms, ours {ours:.1f} ms, {100 * (ratio - 1):+.1f} %", flush=True)
