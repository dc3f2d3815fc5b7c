"""Real numbers on the page: the values that an episode has, in the order in which they come, and their words."""

from typing import Any

import numpy as np

# Most numbers of a value in its narrow column; significant digits of a number.
MAX_IN_LABEL, DIGITS = 2, 3


class Listing:
    """The values that an episode has; symbols are their own places.

    Args:
        num_symbols: n; None for real numbers and texts.
    """

    def __init__(self, num_symbols: int | None):
        self.num_symbols = num_symbols
        self.symbols: list[dict[str, Any]] = []
        self._places: dict[Any, int] = {}

    def place(self, value: Any) -> Any:
        """Return the place of a value, which is added if it is new; None for None."""
        if value is None:
            return None
        if self.num_symbols is not None:
            return int(value)
        if isinstance(value, str):
            return self._add(value, value, value, value)
        x = np.asarray(value)
        few = x.ravel()[:MAX_IN_LABEL]
        label = f"{written(few)}{' …' if x.size > len(few) else ''}"
        plain = np.asarray([float(str(y)) for y in x.ravel()]).reshape(x.shape).tolist()
        return self._add(x.tobytes(), label, written(x.ravel()), plain)

    def _add(self, key: Any, label: str, text: str, value: Any) -> int:
        if key not in self._places:
            self._places[key] = len(self.symbols)
            self.symbols.append({"label": label, "text": text, "value": value})
        return self._places[key]


def written(x: Any) -> str:
    """Return numbers with three significant digits."""
    rounded = [float(f"{y:.{DIGITS}g}") for y in np.ravel(x)]
    return " ".join(f"{y + 0.0:g}" for y in rounded)
