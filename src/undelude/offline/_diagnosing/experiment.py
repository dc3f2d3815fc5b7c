"""The result of comparing experiments: plans of first actions, and what each is expected to tell."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from undelude.offline._data.columns import Level

# The share of the error that is left by a plan that is hardly worth its episodes.
USELESS = 0.9
# Rows of the table in the text.
SHOWN = 12


@dataclass(frozen=True)
class Trial:
    """One plan, and what it is expected to tell.

    Attributes:
        actions: the actions of the first rounds, in order.
        score: the standard error that is expected after the experiment, the root of the mean variance of all probes;
            for `Hypotheses`, the nats about the hypothesis that one episode tells.
        widest: the standard error then expected of the probe that is the least known now; None for `Hypotheses`.
    """

    actions: tuple[Level, ...]
    score: float
    widest: float | None


@dataclass(frozen=True)
class Experiment:
    """Plans of first actions, the most telling first.

    Attributes:
        trials: in this order.
        num_episodes: n, the new episodes that would begin with a plan.
        now: the score before the experiment; for `Hypotheses`, the nats that are missing: the entropy of the weights.
        probe: the name of the probe that is the least known now; None for `Hypotheses`.
        probe_now: its standard error now, between models too; None for `Hypotheses`.
        measure: "standard error", of which less is better, or "nats", of which more is better.
        assumptions: what the numbers rest on.
    """

    trials: tuple[Trial, ...]
    num_episodes: int
    now: float
    probe: str | None
    probe_now: float | None
    measure: str
    assumptions: tuple[str, ...]

    @property
    def actions(self) -> tuple[Level, ...]:
        """The first plan: the actions to take at the start of the next episodes."""
        return self.trials[0].actions

    def __str__(self) -> str:
        """Return the plans as a table."""
        names = [_said(trial.actions) for trial in self.trials[:SHOWN]]
        width = max(map(len, [*names, "as it is"]))
        if self.measure == "nats":
            lines = [f"nats about the hypothesis that one episode tells; {self.now:.3f} are missing"]
            lines += [f"  {name:{width}} {x.score:8.4f}" for name, x in zip(names, self.trials, strict=False)]
        else:
            lines = [
                f"standard errors expected after {self.num_episodes} new episodes that begin with it",
                f"  {'':{width}} {'all probes':>11} {self.probe}",
                f"  {'as it is':{width}} {self.now:11.3f} {self.probe_now or 0.0:.3f}",
            ]
            lines += [
                f"  {name:{width}} {x.score:11.3f} {x.widest or 0.0:.3f}"
                for name, x in zip(names, self.trials, strict=False)
            ]
            if self.trials[0].score > USELESS * self.now:
                lines.append("  no plan narrows this by a tenth: more episodes are needed")
        if len(self.trials) > SHOWN:
            lines.append(f"  (the best {SHOWN} of {len(self.trials)} plans)")
        return "\n".join([*lines, *(f"assuming {one}" for one in self.assumptions)])


def _said(actions: Sequence[Level]) -> str:
    """Return a plan in words; repetitions are counted."""
    runs = [(action, len(list(same))) for action, same in itertools.groupby(actions)]
    if len(runs) > 6:
        return f"do({', '.join(f'{action}' for action, _ in runs[:5])}, ...) for {len(actions)} rounds"
    return f"do({', '.join(f'{action}' if count == 1 else f'{count} x {action}' for action, count in runs)})"
