"""Teach a small instruct model the menu by LoRA: its own adapter-free self, shown the menu, is the expert.

    python examples/language/menu_lora.py --model Qwen/Qwen2.5-0.5B-Instruct --out out/menu

It measures the model before and after. The expert is the same model without the adapter, with "On the menu: ..." below
the prompt; the customer is the one of `ud.tasks.menu`. It needs the extra `[hf]`, and for a model of this size
a GPU.
"""

import argparse
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from undelude.hf import (
    CounterfactualConfig,
    CounterfactualTrainer,
    DelusionReport,
    DoTokens,
    MenuDialogue,
    PromptedExpert,
    measure_delusion,
)


def main(
    model: Any,
    tokenizer: Any,
    out: Path,
    dialogue: MenuDialogue,
    *,
    target_modules: list[str],
    num_conversations: int = 20,
    **settings: Any,
) -> dict[str, DelusionReport]:
    """Measure, teach, measure again, and save a model that `AutoModelForCausalLM` loads."""
    reports = {"before": measure_delusion(model, tokenizer, dialogue, num_conversations=num_conversations)}
    trainer = CounterfactualTrainer(
        model=DoTokens.wrap(model),
        expert=PromptedExpert(None, tokenizer),
        environment=dialogue,
        train_dataset=dialogue.rows(4000, seed=1),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=target_modules),
        args=CounterfactualConfig(
            str(out), max_turns=dialogue.num_turns, max_new_tokens=8, report_to="none", save_strategy="no", **settings
        ),
    )
    trainer.train()
    reports["after"] = measure_delusion(trainer.model, tokenizer, dialogue, num_conversations=num_conversations)
    trainer.save_model(str(out / "model"))
    return reports


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct")
    parser.add_argument("--out", type=Path, default=Path("out/menu"))
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    reports = main(
        AutoModelForCausalLM.from_pretrained(args.model),
        AutoTokenizer.from_pretrained(args.model),
        args.out,
        MenuDialogue(num_turns=6),
        target_modules=["q_proj", "v_proj"],
        max_steps=args.steps,
        per_device_train_batch_size=8,
        learning_rate=2e-4,
    )
    for when, report in reports.items():
        print(f"{when}:\n{report}\n")
