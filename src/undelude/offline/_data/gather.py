"""The columns of a table, gathered batch by batch: numbers as NumPy arrays, strings as codes."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int, Shaped

from undelude._checks import one_line
from undelude.offline._data.columns import At, Column, Level, compact, encode, finite, in_all

# The name of a row of a file, such as its line, from its number from 0.
NameRow: TypeAlias = Callable[[int], str]


@dataclasses.dataclass(frozen=True, eq=False)
class Raw:
    """A column as it was read.

    Attributes:
        name: of the column.
        values: one number a row, or `[R, d]`; for strings, codes of `strings`.
        strings: the distinct strings, or None.
        missing: whether the row has no value; None if all have one.
    """

    name: str
    values: Shaped[np.ndarray, "R ..."]
    strings: pa.Array | None
    missing: Bool[np.ndarray, " R"] | None

    def __getitem__(self, row: int) -> Any:
        """Return the value of a row as a Python value."""
        value = self.values[row]
        return value.tolist() if self.strings is None else self.strings[int(value)].as_py()

    def take(self, rows: Int[np.ndarray, " M"]) -> "Raw":
        """Return the column with these rows."""
        missing = None if self.missing is None else self.missing[rows]
        return dataclasses.replace(self, values=self.values[rows], missing=missing)

    def shown(self, row: int) -> str:
        """Return the value of a row for a message."""
        return "missing" if self.missing is not None and self.missing[row] else f"{self[row]!r:.50}"

    def following(self, first: "Raw") -> "Raw":
        """Return the rows of `first`, then those of this column; none may be missing."""
        if (first.strings is None) != (self.strings is None):
            raise ValueError(
                f"column {first.name!r} has {first[0]!r:.50} and column {self.name!r} has {self[0]!r:.50}: an opening "
                "needs values of the same type as its observation."
            )
        if first.strings is None or self.strings is None:
            return dataclasses.replace(self, values=np.concatenate([first.values, self.values]), missing=None)
        both = pa.concat_arrays([first.strings, self.strings]).dictionary_encode()
        code, before = both.indices.to_numpy(), len(first.strings)
        values = np.concatenate([code[first.values], code[before + self.values]])
        return Raw(self.name, values, both.dictionary, None)

    def check_present(self, at: At) -> None:
        """Raise `ValueError` naming the first row without a value."""
        if self.missing is not None and self.missing.any():
            raise ValueError(
                f"{at(int(np.argmax(self.missing)))} is missing (null{in_all(self.missing)}). Fill in a value of its "
                "own, or drop the episodes with missing values."
            )

    def encode(self, at: At, *, levels: Iterable[Level] | None, real: bool) -> Column:
        """Return the column as codes or real numbers; the arguments are those of `columns.encode`."""
        self.check_present(at)
        if self.strings is None:
            return encode(self.name, self.values, at, levels=levels, real=real)
        if real:
            raise ValueError(f"{at(0)} is {self[0]!r:.99}, not a number; leave it out of reals=.")
        codes, used = compact(self.values, len(self.strings))
        return finite(self.name, codes, self.strings.take(pa.array(used)).to_pylist(), at, levels=levels)


class Gatherer:
    """The batches of a table that have been read.

    Args:
        names: of the columns to keep.
        time: the column whose time stamps count as numbers, or None.
    """

    def __init__(self, names: Sequence[str], time: str | None):
        self.names, self.time = names, time
        # The values and the missing rows of each batch, for each column.
        self.parts: dict[str, list[tuple[Any, np.ndarray | None]]] = {name: [] for name in names}
        self.first_type: dict[str, tuple[pa.DataType, str]] = {}
        # The first row of each part of the table, and its name.
        self.starts: list[int] = []
        self.sources: list[str] = []
        # The way in which messages name a row of each part.
        self.named: list[NameRow] = []
        self.num_rows = 0

    def add(self, source: str, batches: Iterable[pa.RecordBatch], named: NameRow = "row {}".format) -> None:
        """Add the batches of one part of the table, such as a file; `named` names one of its rows."""
        self.named.append(named)
        self.starts.append(self.num_rows)
        self.sources.append(source)
        for batch in batches:
            if not batch.num_rows:
                continue
            for name in self.names:
                array = batch.column(name)
                where = f"column {name!r} in {source}"
                values = _as_numbers_or_strings(array, where, is_time=name == self.time)
                self._check_type(name, values, where, array.type if name == self.time else None)
                missing = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
                self.parts[name].append((values, missing))
            self.num_rows += batch.num_rows

    def place(self, row: int) -> str:
        """Return the place of a row in words."""
        part = int(np.searchsorted(self.starts, row, side="right")) - 1
        return f"{self.named[part](row - self.starts[part])} of {self.sources[part]}"

    def part(self, rows: Int[np.ndarray, " M"]) -> Int[np.ndarray, " M"]:
        """Return the index of the part that each row is in."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def columns(self) -> dict[str, Raw]:
        """Return the whole columns, and forget the batches."""
        return {name: self._column(name, self.parts.pop(name)) for name in self.names}

    def _column(self, name: str, parts: list[tuple[Any, np.ndarray | None]]) -> Raw:
        missing = None
        if any(x is not None for _, x in parts):
            missing = np.concatenate([np.zeros(len(v), bool) if x is None else x for v, x in parts])
        if isinstance(parts[0][0], np.ndarray):
            widths = {x.shape[1:] for x, _ in parts}
            if len(widths) > 1:
                raise ValueError(f"column {name!r} has vectors of different lengths: {sorted(widths)}.")
            return Raw(name, np.concatenate([x for x, _ in parts]), None, missing)
        whole = pa.chunked_array([x for x, _ in parts]).unify_dictionaries()
        codes = np.concatenate([x.indices.fill_null(0).to_numpy() for x in whole.chunks])
        return Raw(name, codes, whole.chunk(0).dictionary, missing)

    def _check_type(self, name: str, values: Any, where: str, time: pa.DataType | None) -> None:
        """Raise `ValueError` if a column has two types; whole and decimal numbers are one.

        Args:
            name: of the column.
            values: as numbers or strings.
            where: the column and its source, for the message.
            time: the type of a column of times; the numbers of time stamps count in the units of their type.
        """
        if time is not None and pa.types.is_temporal(time):
            kind = f"the type {time}"
        elif isinstance(values, np.ndarray):
            kind = "vectors" if values.ndim == 2 else "truth values" if values.dtype == bool else "numbers"
        else:
            kind = "strings"
        first, before = self.first_type.setdefault(name, (kind, where))
        if first != kind:
            raise ValueError(f"{where} has {kind}, but {before} has {first}; a column needs values of one type.")


def _as_numbers_or_strings(array: pa.Array, where: str, *, is_time: bool) -> Any:
    """Return numbers as a NumPy array and strings as a dictionary array; missing values become any value."""
    kind = array.type
    types = pa.types
    if types.is_dictionary(kind):
        return _as_numbers_or_strings(array.dictionary_decode(), where, is_time=is_time)
    if types.is_decimal(kind):
        return _as_numbers_or_strings(_of_decimals(array, where), where, is_time=is_time)
    if types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind):
        if array.null_count:
            array = array.fill_null(False if types.is_boolean(kind) else 0)
        return array.to_numpy(zero_copy_only=False)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _as_vectors(array, where)
    if types.is_null(kind):
        return np.zeros(len(array))
    if is_time and types.is_temporal(kind):
        width = 32 if kind.bit_width == 32 else 64
        return array.cast(pa.int32() if width == 32 else pa.int64()).fill_null(0).to_numpy()
    if is_time:
        raise ValueError(f"{where} has the type {kind}; time needs numbers or time stamps, whose order is clear.")
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return array.cast(pa.string()).dictionary_encode()
    raise ValueError(
        f"{where} has the type {kind}; a column needs whole or decimal numbers, strings, truth values or vectors of "
        f"numbers.{' A time stamp can be time=.' if types.is_temporal(kind) else ''}"
    )


def _of_decimals(array: pa.Array, where: str) -> pa.Array:
    """Return exact decimals as whole numbers if they have no decimal places, so that long names stay apart."""
    if array.type.scale > 0:
        return array.cast(pa.float64())
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"{where} has a whole number of more than 64 bits ({one_line(error)}). Write the column as strings."
        ) from error


def _as_vectors(array: pa.Array, where: str) -> Shaped[np.ndarray, "R d"]:
    """Return lists of numbers, all of one length, as `[R, d]`."""
    is_fixed = pa.types.is_fixed_size_list(array.type)
    sizes = [array.type.list_size] if is_fixed else array.value_lengths().drop_null().unique().to_pylist()
    values = array.flatten()
    if array.null_count or len(sizes) != 1 or not sizes[0] or values.null_count:
        raise ValueError(
            f"{where} has lists of the lengths {sizes[:5]} or missing numbers; vectors need one length and no gaps."
        )
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise ValueError(f"{where} has lists of {values.type}; vectors need numbers.")
    return values.to_numpy(zero_copy_only=False).reshape(-1, sizes[0])
