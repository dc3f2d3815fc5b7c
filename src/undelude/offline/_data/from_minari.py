"""Demonstrations from data sets of Minari (https://minari.farama.org)."""

from collections.abc import Callable, Mapping
from typing import Any

import minari
import numpy as np
from gymnasium import spaces

from undelude._checks import one_line
from undelude.offline._data.arrays import read_arrays
from undelude.offline._data.columns import MAX_LEVELS


def read_minari(
    dataset: Any,
    *,
    reward_observed: bool,
    encode: Callable[[Any], Mapping[str, Any]] | None,
    labels: Any,
    demonstrator: Any,
    reals: Any,
    levels: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the fields of `Demos`; the arguments are those of `Demos.from_minari`."""
    if not isinstance(reward_observed, bool):
        raise TypeError(f"reward_observed must be True or False, not {one_line(repr(reward_observed))}.")
    if isinstance(dataset, str):
        dataset = minari.load_dataset(dataset)
    if not isinstance(dataset, minari.MinariDataset):
        raise TypeError(f"dataset must be a data set of Minari or its name, not {one_line(repr(dataset))}.")
    name = dataset.spec.dataset_id
    if not isinstance(dataset.action_space, spaces.Discrete | spaces.Box):
        raise ValueError(f"{name}: actions are {dataset.action_space}; they must be Discrete or Box.")
    actions: list[np.ndarray] = []
    rewards: list[np.ndarray] = []
    seen: dict[str, list[np.ndarray]] = {}
    for episode in dataset.iterate_episodes():
        T = len(episode.rewards)
        found = _columns(episode.observations) if encode is None else _encoded(encode, episode.observations, name)
        if seen and found.keys() != seen.keys():
            raise ValueError(f"{name}: episode {episode.id} has the columns {[*found]}, but earlier ones {[*seen]}.")
        for column, values in found.items():
            if len(values) != T + 1:
                raise ValueError(
                    f"{name}: episode {episode.id} has {len(values)} values of {column!r}, not {T + 1}: one before "
                    f"the first of {T} actions and one after each."
                )
            seen.setdefault(column, []).append(values)
        actions.append(_flat(episode.actions))
        rewards.append(np.asarray(episode.rewards))
    if not actions:
        raise ValueError(f"{name} has no episodes.")
    if "reward" in seen:
        raise ValueError(f'{name}: an observation has the name "reward"; give encode=, with another name.')
    known = _levels_of_spaces(dataset, encode)
    after = {column: [x[1:] for x in values] for column, values in seen.items()}
    reward = {"reward": rewards}
    return read_arrays(
        actions,
        after | reward if reward_observed else after,
        hidden={} if reward_observed else reward,
        opening={column: np.stack([x[0] for x in values]) for column, values in seen.items()},
        labels=labels,
        demonstrator=demonstrator,
        reals=reals,
        levels=known | dict(levels or {}),
        source=f"the Minari data set {name}",
    )


def _columns(observations: Any, name: str = "observation") -> dict[str, np.ndarray]:
    """Return the parts of the observations of an episode by name; a name of Minari's dictionary replaces ours."""
    if isinstance(observations, Mapping):
        parts = [(key if name == "observation" else f"{name}_{key}", x) for key, x in observations.items()]
    elif isinstance(observations, tuple):
        parts = [(f"{name}_{i}", x) for i, x in enumerate(observations)]
    else:
        return {name: _flat(observations)}
    return {key: x for part, values in parts for key, x in _columns(values, part).items()}


def _flat(values: Any) -> np.ndarray:
    """Return whole numbers `[T]` as they are, and arrays `[T, ...]` as vectors `[T, d]`."""
    array = np.asarray(values)
    return array if array.ndim == 1 else array.reshape(len(array), -1)


def _encoded(encode: Callable[[Any], Mapping[str, Any]], observations: Any, name: str) -> dict[str, np.ndarray]:
    columns = encode(observations)
    if not isinstance(columns, Mapping) or not columns:
        raise TypeError(
            f"{name}: encode must return a dictionary of columns, such as {{'state': array [T + 1]}}, "
            f"not {one_line(repr(columns))}."
        )
    return {column: np.asarray(x) for column, x in columns.items()}


def _levels_of_spaces(dataset: Any, encode: object) -> dict[str, range]:
    """Return the levels of the columns whose Gymnasium space is Discrete."""
    found = {}
    parts = {"action": dataset.action_space}
    if encode is None:
        parts |= _parts(dataset.observation_space)
    for column, space in parts.items():
        if isinstance(space, spaces.Discrete) and space.n <= MAX_LEVELS:
            found[column] = range(int(space.start), int(space.start + space.n))
    return found


def _parts(space: Any, name: str = "observation") -> dict[str, Any]:
    """Return the parts of a space by the names that `_columns` gives them."""
    if isinstance(space, spaces.Dict):
        parts = [(key if name == "observation" else f"{name}_{key}", x) for key, x in space.spaces.items()]
    elif isinstance(space, spaces.Tuple):
        parts = [(f"{name}_{i}", x) for i, x in enumerate(space.spaces)]
    else:
        return {name: space}
    return {key: x for part, inner in parts for key, x in _parts(inner, part).items()}
