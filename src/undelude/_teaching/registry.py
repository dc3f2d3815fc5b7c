"""The teachings by name: the choices of the command line and of run directories."""

from collections.abc import Callable
from typing import Any

from undelude._teaching.settings import Blind, Cloning, Counterfactual, DAgger, Factual, Mixed

TEACHINGS: dict[str, Callable[..., Any]] = {
    "counterfactual": Counterfactual,
    "factual": Factual,
    "mixed": Mixed,
    "blind": Blind,
    "cloning": Cloning,
    "dagger": DAgger,
}
