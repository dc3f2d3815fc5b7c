"""The configuration of the trainer: that of `transformers.Trainer`, and the settings of counterfactual teaching."""

import dataclasses
import math
from typing import Any, Literal, get_args

import transformers

from undelude._checks import check_between, check_count
from undelude.hf._marks.do_tokens import Granularity
from undelude.hf._teaching.experts import PRIVILEGED
from undelude.hf._teaching.losses import Divergence
from undelude.hf._teaching.objectives import OBJECTIVES, Objective

Packing = Literal["auto", "tree", "rows"]
FIELDS: dict[str, tuple[str, ...]] = {
    "objective": tuple(OBJECTIVES),
    "granularity": ("turn", "token"),
    "mark": ("do", "none"),
    "divergence": get_args(Divergence),
    "packing": get_args(Packing),
    "privileged_leak": ("error", "warn"),
}


@dataclasses.dataclass
class CounterfactualConfig(transformers.TrainingArguments):
    """The settings of `CounterfactualTrainer`; all of `transformers.TrainingArguments` are valid too.

    Attributes:
        objective: `"counterfactual"`, or a baseline: `"gkd"` (on-policy distillation from an expert without privileged
            context), `"sft"` (imitation of transcripts), `"isft"` (transcripts; only the words of others are scored).
        granularity: the unit of intervention, a `"turn"` or a `"token"`.
        mark: `"do"`, or `"none"` for the ablation in which own words are not marked; by default, as the objective asks.
        divergence: between the expert's predictions and the model's. Only `"forward_kl"` has the interventional answer
            for its minimum; the others warn.
        factual_weight: of the mean loss on the words of others, relative to that on actions; by default, 1 if the
            objective scores them, else 0.
        transcript_weight: of a token in a stored transcript, relative to one in a conversation that was played.
        max_turns: of the assistant in a conversation that is played.
        max_new_tokens: of a turn.
        max_length: tokens of a conversation; by default, the model's context. A conversation with no room for another
            turn is over; a prompt is never cut.
        temperature: of the model when it executes; 0 takes the likeliest words. Any is right, because the behaviour
            need not be the model's own.
        steps_per_generation: optimiser steps on the same conversations. More need no importance weights.
        packing: by turn, `"tree"` scores all turns of a conversation in one pass, `"rows"` has one sequence for each
            turn. `"auto"` tries the first, and takes the second if the architecture gives another result.
        chat_template_kwargs: further arguments of the chat template, such as `{"enable_thinking": False}`.
        public_columns: columns that a function in `rollouts`, and an expert that is not told, may see beside `prompt`.
            Any other may tell theta.
        privileged_leak: whether to raise or to warn if the privileged context is part of what the model reads.
        expert_floor: for `divergence="reverse_kl"`, the share of the uniform distribution that is mixed into the
            expert's.

    Raises:
        ValueError: a value is not one of those above.
    """

    objective: str = "counterfactual"
    granularity: Granularity = "turn"
    mark: str | None = None
    divergence: Divergence = "forward_kl"
    factual_weight: float | None = None
    transcript_weight: float = 1.0
    max_turns: int = 8
    max_new_tokens: int = 64
    max_length: int | None = None
    temperature: float = 1.0
    steps_per_generation: int = 1
    packing: str = "auto"
    chat_template_kwargs: dict[str, Any] | None = None
    public_columns: list[str] = dataclasses.field(default_factory=list)
    privileged_leak: str = "error"
    expert_floor: float = 1e-3
    # The columns of the data set are the row, which the environment and the expert read.
    remove_unused_columns: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        # Memory is pinned for an accelerator; without one, PyTorch warns.
        self.dataloader_pin_memory = self.dataloader_pin_memory and self.device.type != "cpu"
        for name, choices in FIELDS.items():
            value = getattr(self, name)
            if value not in choices and not (name == "mark" and value is None):
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
        for name in ("max_turns", "max_new_tokens", "steps_per_generation"):
            check_count(name, getattr(self, name))
        check_between("transcript_weight", self.transcript_weight, 0, math.inf)
        check_between("temperature", self.temperature, 0, math.inf)
        if self.factual_weight is not None:
            check_between("factual_weight", self.factual_weight, 0, math.inf)
        check_between("expert_floor", self.expert_floor, 0, 1, ends=False)
        if isinstance(self.public_columns, str):
            raise ValueError(f"public_columns must be a list of names, not the text {self.public_columns!r}.")
        if PRIVILEGED in self.public_columns:
            raise ValueError(
                f"public_columns names {PRIVILEGED}, which tells theta: what acts without knowing theta is shown the "
                "public columns. Leave it out."
            )
        if self.remove_unused_columns:
            raise ValueError(
                "remove_unused_columns=True would remove prompt and privileged_context, which the model does not read "
                "but the expert does: leave it at False."
            )
        if self.save_strategy == "steps" and self.save_steps % self.steps_per_generation:
            raise ValueError(
                f"save_steps={self.save_steps} is not a multiple of steps_per_generation={self.steps_per_generation}: "
                "a run that is resumed from such a checkpoint would play its conversations again."
            )

    def resolve(self) -> tuple[Objective, float]:
        """Return the objective, and the weight of the words of others."""
        objective = OBJECTIVES[self.objective]
        weight = objective.factual_weight if self.factual_weight is None else self.factual_weight
        marked = objective.marked if self.mark is None else self.mark == "do"
        return dataclasses.replace(objective, marked=marked, factual=weight > 0), weight
