"""The teachings by name: the choices of the command line and of run directories.

A constructor is imported when it is needed, so that the command line can list the names without JAX.
"""

import pkgutil
from typing import Any, NamedTuple


class NamedTeaching(NamedTuple):
    """A teaching with a name.

    Attributes:
        path: its constructor, as `module:name`.
        executor: who executes the actions, in words.
        options: the options that its constructor takes beside the target and the weight of the observations.
        is_marked: whether the executed actions are marked.
    """

    path: str
    executor: str
    options: tuple[str, ...] = ()
    is_marked: bool = True

    def load(self) -> Any:
        """Import and return the constructor of the `Teaching`."""
        return pkgutil.resolve_name(self.path)


TEACHINGS: dict[str, NamedTeaching] = {
    "counterfactual": NamedTeaching("undelude._teaching.settings:Counterfactual", "the agent"),
    "factual": NamedTeaching("undelude._teaching.settings:Factual", "the expert"),
    "mixed": NamedTeaching("undelude._teaching.settings:Mixed", "either at random", ("expert_share",)),
    "blind": NamedTeaching("undelude._teaching.settings:Blind", "chance"),
    "cloning": NamedTeaching("undelude._teaching.settings:Cloning", "the expert", is_marked=False),
    "dagger": NamedTeaching(
        "undelude._teaching.settings:DAgger", "either at random", ("expert_share", "per"), is_marked=False
    ),
}
