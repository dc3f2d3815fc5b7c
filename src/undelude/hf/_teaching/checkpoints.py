"""Saved models and checkpoints: ordinary models that a stock class loads, and from which training resumes exactly."""

import os
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from undelude.hf._marks.do_tokens import OFFSET, DoTokens, load_offset, save_granularity

# The folder of an adapter, within that of the model into which it was merged.
ADAPTER_FOLDER = "adapter"


class Checkpoints(transformers.Trainer):
    """The part of the trainer that saves and loads models with marked words."""

    processing_class: Any

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save an ordinary model with 2V words, which `AutoModelForCausalLM.from_pretrained` loads.

        An adapter of PEFT is merged into it, and is also saved by itself, in the folder `adapter`. Checkpoints of an
        adapter hold the adapter alone.
        """
        model = self.accelerator.unwrap_model(self.model)
        marks = DoTokens.of(model)
        if _internal_call or not hasattr(model, "peft_config") or marks is None:
            super().save_model(output_dir, _internal_call)
            if marks is not None and hasattr(model, "peft_config") and self.args.should_save:
                save_granularity(model, output_dir or self.args.output_dir or ".")
            return
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError(
                "FSDP or DeepSpeed may shard the model, into which the adapter must be merged. Load the adapter of a "
                "checkpoint in one process, and merge it there: DoTokens.of(model).save(folder)."
            )
        folder = Path(output_dir or self.args.output_dir or ".")
        if self.args.should_save:
            marks.save(folder)
            model.save_pretrained(folder / ADAPTER_FOLDER)
            save_granularity(model, folder / ADAPTER_FOLDER)
            self.processing_class.save_pretrained(folder)
            torch.save(self.args, folder / "training_args.bin")
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the weights of a checkpoint into the model; those of marked words are in their own file."""
        model = self.model if model is None else model
        marks = DoTokens.of(model)
        # FSDP has files of its own, with the offset in them.
        if marks is None or marks.is_exported or hasattr(model, "peft_config") or self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        folder = Path(resume_from_checkpoint)
        weights = _weights(folder)
        own = model.state_dict()
        for name, x in own.items():
            if name in weights and len(weights[name]) == 2 * marks.vocab_size == 2 * len(x):
                weights[name] = weights[name][: marks.vocab_size]
        missing, unexpected = model.load_state_dict(weights, strict=False)
        # The offset is in a file of its own, and a tied head is not stored.
        tied = {*(getattr(model, "all_tied_weights_keys", None) or ())}
        missing = [name for name in missing if OFFSET not in name and name not in tied]
        if missing or unexpected:
            raise ValueError(
                f"{os.fspath(folder)} is a checkpoint of another model: it lacks {missing[:3]} and has "
                f"{unexpected[:3]}."
            )
        load_offset(model, folder)

    def _load_best_model(self) -> None:
        """Load the weights of the best checkpoint."""
        best, model = self.state.best_model_checkpoint, self.accelerator.unwrap_model(self.model)
        is_stock = DoTokens.of(model) is None or hasattr(model, "peft_config")
        if best is None or is_stock or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(best, model)


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights in a folder, of one file or of several."""
    if (folder / SAFE_WEIGHTS_NAME).exists():
        return load_file(folder / SAFE_WEIGHTS_NAME)
    if (folder / SAFE_WEIGHTS_INDEX_NAME).exists():
        return {
            name: x
            for file in sorted(folder.glob("*.safetensors"))
            if "model-" in file.name
            for name, x in load_file(file).items()
        }
    raise ValueError(f"{os.fspath(folder)} holds no model: resume_from_checkpoint must be a folder of a checkpoint.")
