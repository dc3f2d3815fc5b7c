"""The answer of a query: an array that names its axes and their values."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.lib.mixins import NDArrayOperatorsMixin

from undelude._tree import is_concrete
from undelude._versions import explaining
from undelude.causal._names import listed
from undelude.causal._variables.soft import as_assignment
from undelude.causal._variables.variable import index

# Rows and columns that are printed.
MAX_ROWS, MAX_COLUMNS = 24, 8


class Answer(NDArrayOperatorsMixin, eqx.Module):
    """Probabilities of the values of variables, with an axis for each variable.

    It stands for its array: NumPy and `jax.numpy` take it, arithmetic and indexing by numbers return arrays, and all
    that an array has, such as `shape` or `sum()`, it has too. It is a PyTree whose leaf is the array, so that `jit`,
    `vmap` and `grad` pass it through. It prints as a table.

    Attributes:
        array: the probabilities, `[*names]`; `vmap` puts further axes in front.
        names: the name of each axis.
        values: the values of each axis.

    >>> import undelude as ud
    >>> frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    >>> answer = frog.query(("Theta", "O_1"), do={"A_1": 1})
    >>> print(answer)
             O_1=0  O_1=1
    Theta=0    0.5      0
    Theta=1      0    0.5
    >>> print(answer[{"O_1": 1}])
    Theta=0  Theta=1
          0      0.5
    >>> answer.to_dict()[1, 1]
    0.5
    """

    array: Float[Array, "..."]
    names: tuple[str, ...] = eqx.field(static=True)
    values: tuple[tuple[Hashable, ...], ...] = eqx.field(static=True)

    # -------------------------------------------------------------------------------------------------- as an array

    def __jax_array__(self) -> Float[Array, "..."]:
        return self.array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply operators and NumPy's functions to the array, by JAX if it has the function."""
        arrays = [x.array if isinstance(x, Answer) else x for x in inputs]
        if method == "__call__" and not options and (function := getattr(jnp, ufunc.__name__, None)):
            return function(*arrays)
        return getattr(ufunc, method)(*map(np.asarray, arrays), **options)

    def __eq__(self, other: Any) -> Any:
        """Compare entries, as an array does. An answer does not equal None or a text."""
        if other is None or isinstance(other, str) or getattr(other, "__array_ufunc__", True) is None:
            return NotImplemented
        return np.equal(self, other)

    def __ne__(self, other: Any) -> Any:
        """Compare entries, as an array does. An answer does not equal None or a text."""
        return NotImplemented if other is None or isinstance(other, str) else np.not_equal(self, other)

    __hash__ = None  # pyright: ignore[reportAssignmentType] - of what compares by entries, as of an array.

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "array":
            raise AttributeError(name)
        return getattr(self.array, name)

    def __getitem__(self, at: Any) -> Any:
        """Return the part at values by name, `answer[{"O": 1}]`, an answer; or at positions, an array.

        Raises:
            ValueError: an unknown name or value.
        """
        if isinstance(at, str):
            raise ValueError(
                f"say the value too, answer[{{{at!r}: value}}]: the answer has the axes {listed(self.names)}."
            )
        if not isinstance(at, Mapping):
            return self.array[at]
        self._check_labels()
        places = {}
        for name, value in as_assignment("the index", at).items():
            if name not in self.names:
                raise ValueError(f"the answer has no axis {name!r}; it has {listed(self.names)}.")
            places[name] = index(name, self.values_of[name], value)
        kept = [name for name in self.names if name not in places]
        part = self.array[tuple(places.get(name, slice(None)) for name in self.names)]
        return Answer(part, tuple(kept), tuple(self.values_of[name] for name in kept))

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Array]:
        return iter(self.array)

    def __float__(self) -> float:
        return float(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __round__(self, digits: int | None = None) -> Any:
        return round(float(self.array), digits)

    def __format__(self, spec: str) -> str:
        return format(float(self.array), spec) if spec else str(self)

    def __bool__(self) -> bool:
        return bool(self.array)

    # --------------------------------------------------------------------------------------------------- with names

    @property
    def values_of(self) -> dict[str, tuple[Hashable, ...]]:
        """The values of each axis by name."""
        return dict(zip(self.names, self.values, strict=True))

    def to_dict(self) -> dict[Any, float]:
        """Return the probability of each value, or of each tuple of values if there are several names.

        Raises:
            ValueError: the answer is a batch, or is traced.
        """
        self._check_known()
        numbers = np.asarray(self.array, float)
        cells = {tuple(x[i] for x, i in zip(self.values, at, strict=True)): float(numbers[at]) for at in _places(self)}
        return {at[0]: p for at, p in cells.items()} if len(self.names) == 1 else cells

    def to_frame(self) -> Any:
        """Return a pandas data frame with a column for each name, and the column `P`.

        Raises:
            ValueError: as for `to_dict`; a variable is called `P`.
            ModuleNotFoundError: pandas is not installed.
        """
        with explaining("pandas", "causal"):
            import pandas as pd

        if "P" in self.names:
            raise ValueError("a variable is called 'P', as the column of probabilities would be: use to_dict().")
        self._check_known()
        columns = {name: [self.values[k][at[k]] for at in _places(self)] for k, name in enumerate(self.names)}
        return pd.DataFrame({**columns, "P": np.asarray(self.array, float).ravel()})

    def to_xarray(self) -> Any:
        """Return an `xarray.DataArray`, whose dimensions are the names and whose coordinates are the values.

        Raises:
            ValueError: as for `to_dict`.
            ModuleNotFoundError: xarray is not installed.
        """
        with explaining("xarray", "causal"):
            import xarray as xr

        self._check_known()
        return xr.DataArray(np.asarray(self.array, float), {k: list(v) for k, v in self.values_of.items()}, self.names)

    def __str__(self) -> str:
        if not self.is_labelled:
            return f"Answer({self.array} of {', '.join(self.names)})"
        head, rows = self.table()
        if not self.names:
            return rows[0][0]
        return in_columns(head, rows, has_titles=len(self.names) > 1)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_answer  # In a notebook alone: it needs matplotlib.

        return of_answer(self)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the head and the rows of the printed table, in which the last name has a column for each value.

        Of a large table it has the first rows and columns, and says how many are missing.
        """
        numbers = np.asarray(self.array, float)
        if not self.names:
            return [""], [[_number(float(numbers))]]
        *others, last = self.names
        count = numbers.shape[-1]
        cut = count > MAX_COLUMNS
        head = [f"{last}={x}" for x in self.values[-1][:MAX_COLUMNS]] + [f"... ({count} in all)"] * cut
        head = ["", *head] if others else head
        rows = []
        for k, at in enumerate(np.ndindex(numbers.shape[:-1])):
            if k == MAX_ROWS:
                rows.append([f"... ({numbers[..., 0].size:,} rows in all)", *[""] * (len(head) - 1)])
                break
            title = ", ".join(f"{name}={x[i]}" for name, x, i in zip(others, self.values, at, strict=False))
            cells = [_number(p) for p in numbers[at][:MAX_COLUMNS]] + [""] * cut
            rows.append([title, *cells] if others else cells)
        return head, rows

    @property
    def is_labelled(self) -> bool:
        """Whether the axes of the array are those of the names: not of a batch, and not while it is traced."""
        return is_concrete(self.array) and np.shape(self.array) == tuple(map(len, self.values))

    def _check_known(self) -> None:
        """Raise `ValueError` if the numbers of the answer are traced, or its axes are not those of the names."""
        if not is_concrete(self.array):
            raise ValueError("the answer is traced: take its labels outside jit, vmap and grad.")
        self._check_labels()

    def _check_labels(self) -> None:
        """Raise `ValueError` if the axes of the array are not those of the names."""
        if np.shape(self.array) != tuple(map(len, self.values)):
            raise ValueError(f"an answer of shape {np.shape(self.array)} is a batch: index its leading axes first.")


def in_columns(head: list[str], rows: list[list[str]], *, has_titles: bool) -> str:
    """Return a table as text: titles of rows, if the first column has them, on the left, and numbers on the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            x.ljust(n) if i < has_titles else x.rjust(n) for i, (x, n) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines)


def _places(answer: Answer) -> Iterator[tuple[int, ...]]:
    return np.ndindex(*map(len, answer.values))


def _number(p: float) -> str:
    """Return a probability with at most four significant digits."""
    return f"{p:.4g}"
