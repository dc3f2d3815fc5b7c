"""Demonstrations from rollouts of our own."""

from typing import Any

import jax
import numpy as np

from undelude._distributions.spec import Parts, Spec, Symbols
from undelude._process.episodes import AGENT, Episodes
from undelude._process.process import InteractionProcess
from undelude.offline._data.arrays import read_arrays


def read_episodes(
    episodes: Episodes, process: InteractionProcess | None, *, keep_theta: bool, intervened: bool | None
) -> dict[str, Any]:
    """Return the fields of `Demos`; the arguments are those of `Demos.from_episodes`."""
    if not episodes.is_batch:
        episodes = jax.tree.map(lambda x: x[None], episodes)
    mask = np.asarray(episodes.mask)
    labels = None
    if keep_theta:
        labels = np.asarray(episodes.theta) if isinstance(episodes.theta, jax.Array | np.ndarray) else None
        if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError("keep_theta needs one index of theta for each episode; these episodes do not have it.")
    columns = _columns(episodes.observations)
    levels: dict[str, Any] = {}
    if process is not None:
        action, observation = process.specs
        parts = observation.named if isinstance(observation, Parts) else observation
        levels = {"action": _levels(action)}
        levels |= {name: _levels(spec) for name, spec in _columns(parts).items()}
    opening = None if episodes.opening is None else _columns(episodes.opening)
    return read_arrays(
        np.asarray(episodes.actions),
        columns,
        opening=opening,
        mask=mask,
        labels=labels,
        intervened=np.asarray(episodes.executor) == AGENT if intervened is None else intervened,
        levels={name: x for name, x in levels.items() if x is not None},
        source="rollouts" if process is None else f"rollouts of {process.name}",
    )


def _columns(observations: Any) -> dict[str, Any]:
    """Return the parts of an observation by name: "observation" for an array, `observation_0` for a part of a tuple."""
    if isinstance(observations, dict):
        return {str(name): _array(x) for name, x in observations.items()}
    if isinstance(observations, tuple):
        return {f"observation_{i}": _array(x) for i, x in enumerate(observations)}
    return {"observation": _array(observations)}


def _array(x: Any) -> Any:
    return np.asarray(x) if isinstance(x, jax.Array) else x


def _levels(spec: Spec) -> range | None:
    return range(spec.n) if isinstance(spec, Symbols) and spec.n is not None else None
