"""From one value a row to padded arrays of episodes, with the checks that all constructors share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from undelude.offline._data.columns import Column


def pad(column: Column, lengths: Int[np.ndarray, " N"]) -> Column:
    """Return a column with one value a row, episode by episode, as `[N, T]` with 0 after the end of an episode."""
    values = column.values
    T = int(lengths.max())
    if (lengths == T).all():
        return Column(column.name, values.reshape(len(lengths), T, *values.shape[1:]), column.levels)
    padded = np.zeros((len(lengths), T, *values.shape[1:]), values.dtype)
    padded[np.arange(T) < lengths[:, None]] = values
    return Column(column.name, padded, column.levels)


def check_names(observations: Mapping[str, Any], hidden: Mapping[str, Any], opening: Mapping[str, Any]) -> None:
    """Raise `ValueError` if columns have no names, or names that mean something else."""
    if not observations and not hidden:
        raise ValueError("there are no observations; name at least one column with the outcome of an action.")
    for name in (*observations, *hidden):
        if not isinstance(name, str) or not name or name in ("action", "theta"):
            raise ValueError(f"{name!r} cannot be the name of an observation; choose another string.")
        if name in observations and name in hidden:
            raise ValueError(f"{name!r} is both observed and hidden; decide whether the agent will see it.")
    for name in opening:
        if name not in observations:
            raise ValueError(
                f"opening has {name!r}, which is not an observation ({', '.join(observations) or 'there are none'}); "
                "an opening is the value of an observation before the first action."
            )


def check_action(action: Column, intervened: Bool[np.ndarray, " R"]) -> None:
    """Raise `ValueError` if the demonstrators did the same thing in all rounds; they may have done nothing."""
    values = action.values[~intervened]
    if len(values) and (values == values[:1]).all():
        whose = "" if len(values) == len(intervened) else " of the demonstrators"
        what = "a single number" if action.levels is None else f"{action.levels[int(values[0])]!r:.99}"
        raise ValueError(
            f"the action is the same in all {len(values)} rounds{whose} ({what}), so that nothing can be learned from "
            "it. Is this the right column?"
        )


def check_labels(labels: Any, num_episodes: int) -> Int[np.ndarray, " N"]:
    """Return the index of theta of each episode, -1 if it is not known."""
    if labels is None:
        return np.full(num_episodes, -1, np.int32)
    array = np.asarray(labels)
    if array.shape != (num_episodes,):
        raise ValueError(f"labels has the shape {array.shape}, not {(num_episodes,)}: one label for each episode.")
    if array.dtype.kind not in "iu" or (array < -1).any():
        bad = array[array < -1][0] if array.dtype.kind in "iu" else f"of the type {array.dtype}"
        raise ValueError(f"labels must be indices of theta, 0, 1, ..., or -1 if it is not known, not {bad}.")
    return array.astype(np.int32)
