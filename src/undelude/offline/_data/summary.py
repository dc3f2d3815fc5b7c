"""The summary of demonstrations."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from undelude.offline._data.columns import Column

# Levels whose share is shown.
_SHOWN = 6


def summarise(demos: Any) -> str:
    """Return the counts, the levels of each column with their shares, and what stands out in the data."""
    low, high = int(demos.lengths.min()), int(demos.lengths.max())
    rounds = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    plural = "s" if demos.num_episodes > 1 else ""
    head = f"{demos.num_episodes:,} episode{plural} of {rounds} round{'s' if high > 1 else ''} from {demos.source}"
    lines = [f"{head}: {demos.num_steps:,} rounds"]
    mask = demos.mask
    lines.append(f"  action: {_about(demos.action, mask)}")
    lines += [f"  {name}: {_about(column, mask)}" for name, column in demos.observations.items()]
    lines += [f"  {name} (hidden): {_about(column, mask)}" for name, column in demos.hidden.items()]
    lines += [f"  opening {name}: {_about(column)}" for name, column in demos.opening.items()]
    if demos.demonstrator is not None:
        lines.append(f"  demonstrator: {_about(demos.demonstrator)}")
    if demos.has_interventions:
        done = demos.intervened & mask
        lines.append(
            f"  interventions: {int(done.sum()):,} rounds in {int(done.any(-1).sum()):,} episodes; their actions are "
            "not the demonstrators'"
        )
    if num_labels := int((demos.labels >= 0).sum()):
        lines.append(f"  labels: theta is known in {num_labels:,} episodes")
    return "\n".join([*lines, *(f"  Note: {note}" for note in notes(demos))])


def notes(demos: Any) -> list[str]:
    """Return what stands out in the data, one sentence each."""
    found = [*demos.notes]
    short = int((demos.lengths == 1).sum())
    if short == demos.num_episodes:
        found.append("every episode has one round; nothing about theta is identified from one round.")
    elif short:
        found.append(f"{short:,} episodes have only one round, which tells little about theta.")
    found += _look_alike("the action", demos.action)
    if demos.demonstrator is not None:
        found += _look_alike("the demonstrator", demos.demonstrator)
    for name, column in {**demos.observations, **demos.hidden}.items():
        found += _look_alike(name, column)
        values = column.values[demos.mask]
        if len(values) and (values == values[:1]).all():
            found.append(f"{name} is the same in all rounds; it is not evidence of theta.")
        if column.levels and any(isinstance(x, float) for x in column.levels):
            found.append(f"{name} has few distinct decimal numbers, which count as levels; if not, list it in reals=.")
    return found


def _look_alike(what: str, column: Column) -> list[str]:
    """Return a note on the levels that differ in case or in spaces at their ends alone."""
    alike: dict[str, list[str]] = {}
    for level in column.levels or ():
        if isinstance(level, str):
            alike.setdefault(level.strip().casefold(), []).append(level)
    groups = [" and ".join(f"{x!r:.40}" for x in group[:_SHOWN]) for group in alike.values() if len(group) > 1]
    if not groups:
        return []
    more = f", and {len(groups) - _SHOWN} more" if len(groups) > _SHOWN else ""
    return [
        f"levels of {what} differ in case or spaces alone, and count as different: {'; '.join(groups[:_SHOWN])}{more}. "
        "If they mean the same, make them one."
    ]


def _about(column: Column, mask: Bool[np.ndarray, "N T"] | None = None) -> str:
    """Return the levels of a column with their shares, or the range of its numbers."""
    values = column.values if mask is None else column.values[mask]
    if column.levels is None:
        d = values.shape[-1]
        span = f"{values.min():.4g} to {values.max():.4g}" if values.size else "none"
        return f"real numbers from {span}" if d == 1 else f"vectors of {d} real numbers from {span}"
    counts = np.bincount(values, minlength=len(column.levels))
    order = np.argsort(-counts, kind="stable")[:_SHOWN]
    total = max(int(counts.sum()), 1)
    shares = ", ".join(f"{column.levels[i]!r:.40} {_percent(int(counts[i]) / total)} %" for i in order.tolist())
    more = len(column.levels) - len(order)
    return (
        f"{len(column.levels)} level{'s' if len(column.levels) > 1 else ''}, {shares}{f', {more} more' if more else ''}"
    )


def _percent(share: float) -> str:
    """Return a share in per cent, with two digits if it is small."""
    return f"{100 * share:.0f}" if share >= 0.1 or share == 0 else f"{100 * share:.2g}"
