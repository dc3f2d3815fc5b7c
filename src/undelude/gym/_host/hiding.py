"""What an agent sees of an observation, and what is hidden: keys of a dictionary, or indices of an array."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from undelude._distributions import Parts, Spec
from undelude.gym._host.rows import Rows, columns, read
from undelude.gym._host.spaces import EDGE, flatten, leaves_of, observed_spec

# The name of an observation that is one array.
WHOLE = "state"


class HideKeys:
    """Keys of a Dict observation that the agent does not see, such as `HideKeys("desired_goal")` of a GoalEnv.

    Args:
        keys: names of parts; `"arm.joints"` is the part `joints` of the part `arm`.
    """

    def __init__(self, *keys: str):
        self.keys = keys

    def __repr__(self) -> str:
        return f"HideKeys({', '.join(map(repr, self.keys))})"


class Visible:
    """The parts of an observation that the agent sees.

    Args:
        space: of whole observations.
        hide: indices of an observation that is one array; a `HideKeys`; or a dictionary from the names of parts to
            indices.

    Attributes:
        kept: the kept indices of each visible part; None for a whole part.

    Raises:
        ValueError: an index or a key does not exist, or nothing is left to see.
    """

    def __init__(self, space: Any, hide: HideKeys | dict[str, Iterable[int]] | Iterable[int] = ()):
        self.space = space
        self.leaves = leaves_of(space, "" if type(space).__name__ in ("Dict", "Tuple") else WHOLE)
        if hide is None or isinstance(hide, str):
            raise TypeError(f"hide={hide!r}: give a list of indices, HideKeys(...) of a dictionary, or () for nothing.")
        by_part: dict[str, Iterable[int] | None]
        if isinstance(hide, HideKeys):
            by_part = dict.fromkeys(hide.keys)
        elif isinstance(hide, dict):
            by_part = {str(name): indices for name, indices in hide.items()}
        else:
            hidden = list(hide)
            if any(isinstance(x, str) for x in hidden):
                raise ValueError(f"hide={hidden!r} holds names: write hide=HideKeys({', '.join(map(repr, hidden))}).")
            by_part = {WHOLE: hidden} if hidden else {}
        self.kept: dict[str, np.ndarray | None] = dict.fromkeys(self.leaves)
        for part, indices in by_part.items():
            inside = [name for name in self.leaves if name == part or name.startswith(f"{part}.")]
            if not inside:
                raise ValueError(f"hide: the observation has no part {part!r}, but {', '.join(self.leaves)}.")
            if indices is None:
                for name in inside:
                    del self.kept[name]
            else:
                self.kept[part] = self._without(part, list(indices))
        if not self.kept:
            raise ValueError("hide leaves nothing of the observation to see.")

    def spec(self, added: dict[str, Spec], *, predict: bool, name: str) -> Spec:
        """Return the spec of what agents see: the visible parts, and those that a world adds.

        Args:
            added: by name.
            predict: whether real numbers are predicted.
            name: of the world, for messages.
        """
        parts: dict[str, Spec] = {}
        for part, kept in self.kept.items():
            num_kept = None if kept is None else len(kept)
            where = f"{name}: observation {part}"
            parts[part] = observed_spec(self.leaves[part], where, predicted=predict, num_kept=num_kept)
        if both := parts.keys() & added.keys():
            raise ValueError(f"{name}: the observation already has a part {min(both)!r}: rename it by a wrapper.")
        parts |= added
        return next(iter(parts.values())) if len(parts) == 1 else Parts.of(parts)

    def parts(self, whole: Sequence[Any]) -> dict[str, Any]:
        """Return what an agent sees of some whole observations: the visible parts by name, with a leading axis."""
        if list(self.leaves) == [WHOLE]:
            by_name: dict[str, Sequence[Any]] = {WHOLE: whole}
        elif isinstance(whole, Rows):
            by_name = dict(columns(self.space, whole, ""))
        else:
            flat = [flatten(self.space, x, "") for x in whole]
            by_name = {name: [each[name] for each in flat] for name in self.kept}
        found = {name: read(self.leaves[name], by_name[name]) for name in self.kept}
        return {name: x if self.kept[name] is None else x[:, self.kept[name]] for name, x in found.items()}

    def outside(self, o: Any) -> str | None:
        """Return in words which number of some observations, with leading axes, lies outside its Box.

        None if none does, beyond rounding to 32 bits.
        """
        for part, kept in self.kept.items():
            space: Any = self.leaves[part]
            if type(space).__name__ != "Box":
                continue
            x = np.asarray(o[part] if isinstance(o, dict) else o, float)
            low, high = (np.asarray(b, float)[... if kept is None else kept] for b in (space.low, space.high))
            margin = EDGE * np.maximum(1, np.abs(x))
            outside = np.argwhere((x < low - margin) | (x > high + margin))
            if len(outside):
                at = tuple(outside[0])
                entry = at[x.ndim - low.ndim :]
                number = "" if not entry else f" (number {entry[0] if kept is None or len(entry) > 1 else kept[entry]})"
                return f"{part}{number} was {x[at]:.4g}, and the Box is from {low[entry]:.4g} to {high[entry]:.4g}"
        return None

    def _without(self, part: str, indices: list[int]) -> np.ndarray:
        space: Any = self.leaves.get(part)
        if type(space).__name__ != "Box" or len(space.shape) != 1:
            raise ValueError(f"hide: indices are for a Box of one axis, and {part} is {space}: hide it whole.")
        n = space.shape[0]
        if wrong := [i for i in indices if not -n <= i < n]:
            raise ValueError(f"hide: {part} has the indices 0 to {n - 1}, and not {wrong[0]}.")
        kept = np.delete(np.arange(n), indices)
        if not len(kept):
            raise ValueError(f"hide takes all {n} numbers of {part}: hide it whole, HideKeys({part!r}).")
        return kept
