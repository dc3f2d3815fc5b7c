"""Objectives: who executes, what is marked, what is scored. Each is a baseline of the others."""

import dataclasses
from typing import Literal

Name = Literal["counterfactual", "gkd", "sft", "isft"]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A setting of the trainer, as `undelude.Teaching` is one of `undelude.teach`.

    Attributes:
        name: in the configuration.
        marked: whether own words are marked do(x) = x + V.
        actions: whether the assistant's turns are scored.
        asks: whether the expert is asked what it would say; if not, turns are scored as they are.
        privileged: whether the expert is shown the privileged context.
        factual_weight: of the words of others, by default.
        executes: who executes, by default: the model (`"policy"`), or the authors of the data set (`"dataset"`).
        limit: what it converges to.
    """

    name: Name
    marked: bool
    actions: bool
    asks: bool
    privileged: bool
    factual_weight: float
    executes: Literal["policy", "dataset"]
    limit: str
    factual: bool = True


OBJECTIVES = {
    o.name: o
    for o in (
        Objective(
            name="counterfactual",
            marked=True,
            actions=True,
            asks=True,
            privileged=True,
            factual_weight=1.0,
            executes="policy",
            limit="Q(A | do(a), o): its own past words are interventions, and no evidence about what the expert knows",
        ),
        Objective(
            name="gkd",
            marked=False,
            actions=True,
            asks=True,
            privileged=False,
            factual_weight=0.0,
            executes="policy",
            limit="the expert's own predictions without the privileged context: on-policy distillation, or DAgger",
        ),
        Objective(
            name="sft",
            marked=False,
            actions=True,
            asks=False,
            privileged=True,
            factual_weight=0.0,
            executes="dataset",
            limit="Q(A | a, o): it takes its own past words for those of somebody who knew, and deludes itself",
        ),
        Objective(
            name="isft",
            marked=False,
            actions=False,
            asks=False,
            privileged=True,
            factual_weight=1.0,
            executes="dataset",
            limit=(
                "Q(O | a, o) of the words of others (de Freitas and Ortega, 2026). It is the interventional answer if "
                "the author of the turns had not seen the privileged context"
            ),
        ),
    )
}
