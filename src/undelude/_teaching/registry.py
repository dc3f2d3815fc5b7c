"""The teachings by name: the choices of the command line and of run directories."""

from collections.abc import Callable

from undelude._teaching.settings import Blind, Cloning, Counterfactual, DAgger, Factual, Mixed, Teaching

TEACHINGS: dict[str, Callable[..., Teaching]] = {
    "counterfactual": Counterfactual,
    "factual": Factual,
    "mixed": Mixed,
    "blind": Blind,
    "cloning": Cloning,
    "dagger": DAgger,
}
