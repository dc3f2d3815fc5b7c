"""Bounds that hold whatever the confounder: Manski's, for effects of one action in a memoryless model."""

import numpy as np
from jaxtyping import Int

from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.probes import Effect, Probe, Reward
from undelude.offline._fitting.result import Fit
from undelude.offline._model.mechanisms import Table


def manski(fit: Fit, demos: Demos, probe: Probe, *, averaged: bool = False) -> tuple[float, float] | None:
    """Return bounds of `P(O = o | do(A = a))`, or of the mean reward, that hold whatever the time scale of theta.

        P(o, a) <= P(o | do(a)) <= P(o, a) + 1 - P(a)

    Args:
        fit: the fitted model.
        demos: of the fit.
        probe: an effect.
        averaged: whether the opening is averaged out, if there is one, where the probe names none.

    Returns:
        The bounds from the shares in all rounds of the demonstrators, in episodes with the opening of the probe if it
        has one; None for a probe of another kind, for a real reward, which has no least and greatest value, or if the
        action or a field depends on more than the action of the round.
    """
    effect = probe.value
    action, *others = fit.layout.factors
    fields = [f for f in others if f.field in demos.observations or f.field == fit.layout.reward]
    if not isinstance(effect, Effect | Reward) or action.contexts or not isinstance(action.mechanism, Table):
        return None
    if any([c.given for c in f.contexts] != ["action"] or not isinstance(f.mechanism, Table) for f in fields):
        return None
    mask = demos.demonstrated
    if demos.opening and effect.first is None and not averaged:
        return None
    if effect.first is not None:
        mask = mask & (_openings(demos) == int(effect.first))[:, None]
        if not mask.any():
            return None
    did = demos.action.values[mask] == int(effect.a)
    share = float(did.mean())
    if isinstance(effect, Reward):
        column = (demos.observations | demos.hidden)[fit.layout.reward or ""]
        levels = np.asarray([float(x) for x in column.levels or ()])
        total = float((did * levels[column.values[mask]]).mean())
        return total + (1 - share) * float(levels.min()), total + (1 - share) * float(levels.max())
    symbols = np.zeros(int(mask.sum()), int)
    for column in demos.observations.values():
        symbols = symbols * len(column.levels or ()) + column.values[mask]
    both = float((did & (symbols == int(effect.o))).mean())
    return both, both + 1 - share


def _openings(demos: Demos) -> Int[np.ndarray, " N"]:
    """Return the symbol of each opening; a field without an opening is at its first level."""
    symbols = np.zeros(demos.num_episodes, int)
    for name, column in demos.observations.items():
        own = demos.opening[name].values if name in demos.opening else 0
        symbols = symbols * len(column.levels or ()) + own
    return symbols
