"""The architectures by name: the choices of the command line, and the classes that an agent file may hold.

A class is imported when it is needed, so that the command line can list the names without JAX.
"""

import pkgutil
from typing import Any, NamedTuple


class NamedArchitecture(NamedTuple):
    """An architecture with a name.

    Attributes:
        path: its class, as `module:name`.
        options: the sizes that its constructor takes.
    """

    path: str
    options: tuple[str, ...]

    def load(self) -> Any:
        """Import and return the class."""
        return pkgutil.resolve_name(self.path)


ARCHITECTURES: dict[str, NamedArchitecture] = {
    "lstm": NamedArchitecture("undelude._agents.networks.lstm:LSTMAgent", ("hidden_size", "num_components")),
    "gru": NamedArchitecture("undelude._agents.networks.gru:GRUAgent", ("hidden_size", "num_components")),
    "linear": NamedArchitecture(
        "undelude._agents.networks.linear:LinearRecurrentAgent", ("hidden_size", "num_layers", "num_components")
    ),
    "transformer": NamedArchitecture(
        "undelude._agents.networks.transformer:TransformerAgent",
        ("hidden_size", "num_layers", "num_heads", "window", "num_components"),
    ),
    "markov": NamedArchitecture(
        "undelude._agents.networks.markov:MarkovAgent", ("order", "hidden_size", "num_components")
    ),
    "predictor": NamedArchitecture("undelude._agents.networks.markov:SequencePredictor", ("order", "hidden_size")),
}
