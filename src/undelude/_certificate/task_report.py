"""The report of `check_task`."""

import dataclasses
from collections.abc import Iterable, Iterator


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """The measurements on a task in which `check_task` found no problem.

    Attributes:
        name: the name of the process.
        first_sight: the information about theta in the first observation, the mean in nats; None if Theta is continuous
            or has a transition.
        entropy: of the prior, nats; None if Theta is continuous.
        least_mass: the least probability that the expert of one theta gives, after some history, to an action that the
            expert of another theta takes with probability .001 or more; None if actions are not symbols.
        action_kl_do: the cost of delusion, nats per action (`delusion_gap`); None if Theta is continuous.
        action_kl_do_se: its standard error.
        action_tv_do: the cost of delusion in total variation, from 0 to 1. It is finite also if the deluded agent rules
            out an action that the exact answer allows, which makes `action_kl_do` infinite.
        warning: what makes training on this task worthless, such as observations that never depend on theta, or why
            imitation is the wrong goal, and what to do about it; None if neither was found.
        notes: other remarks.
    """

    name: str
    first_sight: float | None
    entropy: float | None
    least_mass: float | None
    action_kl_do: float | None
    action_kl_do_se: float | None
    action_tv_do: float | None
    warning: str | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """Return a table of the measurements, and the notes."""
        head = f"{self.name}: no problems found" if self.warning is None else f"{self.name}: {self.warning}"
        return "\n".join([head, *self._rows(), *(f"  {note}" for note in self.notes)])

    def _rows(self) -> Iterator[str]:
        error = "" if self.action_kl_do_se is None else f"+- {self.action_kl_do_se:.2g} "
        yield row("entropy of theta", self.entropy, "nats")
        yield row("... that the first observation removes", self.first_sight, "nats")
        yield row("least probability of an expert's action", self.least_mass)
        yield row("delusion gap, action_kl_do", self.action_kl_do, f"{error}nats per action")
        yield row("... as total variation, from 0 to 1", self.action_tv_do)


def as_warning(sentences: Iterable[str]) -> str | None:
    """Return sentences as they follow the name of a process and a colon; None if there are none."""
    text = " ".join(sentences)
    return f"{text[0].lower()}{text[1:]}" if text else None


def row(label: str, x: float | None, unit: str = "") -> str:
    """Return a line of the table."""
    return f"  {label:<42} {'not measured' if x is None else f'{x:.3g} {unit}'}".rstrip()
