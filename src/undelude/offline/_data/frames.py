"""Demonstrations from tables with one row a round: data frames, Parquet, CSV."""

import csv
import functools
import glob
import io
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from undelude._checks import one_line
from undelude.offline._data.gather import Gatherer
from undelude.offline._data.lists import plain_array
from undelude.offline._data.roles import Roles
from undelude.offline._data.rows import episodes_of_rows

Files: TypeAlias = str | Path | Sequence[str | Path]

# Rows that are read at a time.
_BATCH = 2**17
# Bytes of CSV that are read at a time; the types of the columns are those of the first ones.
_BLOCK = 2**24
# Endings of the files that are read in a folder.
_ENDINGS = {
    "parquet": (".parquet", ".pq"),
    "csv": tuple(f"{text}{packed}" for text in (".csv", ".tsv") for packed in ("", ".gz", ".bz2", ".zst")),
}
# Bytes in which a CSV file's header is looked for.
_HEADER = 2**16


def read_frame(frame: Any, roles: Roles) -> dict[str, Any]:
    """Return the fields of `Demos` from a table in memory."""
    gatherer = Gatherer(roles.columns, roles.time)
    gatherer.add("the frame", _batches_of(frame, roles))
    return episodes_of_rows(gatherer, roles, source="a data frame")


def read_files(files: Files, roles: Roles, kind: Literal["parquet", "csv"]) -> dict[str, Any]:
    """Return the fields of `Demos` from files, one after the other."""
    names = _files(files, _ENDINGS[kind])
    read = _parquet if kind == "parquet" else _csv
    gatherer = Gatherer(roles.columns, roles.time)
    for name in names:
        named = functools.partial(_line, name) if kind == "csv" else "row {} (counted from 0)".format
        gatherer.add(name, read(name, roles), named)
    source = names[0] if len(names) == 1 else f"{len(names)} files, {names[0]} to {names[-1]}"
    return episodes_of_rows(gatherer, roles, source=source)


def column_names(files: Files, kind: Literal["parquet", "csv"]) -> list[str]:
    """Return the names of the columns of files, each once."""
    found: dict[str, None] = {}
    for name in _files(files, _ENDINGS[kind]):
        if kind == "parquet":
            with pyarrow.parquet.ParquetFile(name) as file:
                found |= dict.fromkeys(file.schema_arrow.names)
            continue
        with pa.input_stream(name) as file:
            lines = io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8-sig", errors="replace", newline="")
            header = next((row for row in csv.reader(lines, delimiter=_delimiter(name)) if row), [])
        found |= dict.fromkeys(header)
    return list(found)


def _batches_of(frame: Any, roles: Roles) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a data frame, a table of PyArrow, or a mapping from names to values."""
    if isinstance(frame, dict) or type(frame).__module__.startswith("pandas"):
        roles.check(frame if isinstance(frame, dict) else frame.columns, "the frame")
        columns = {name: _as_arrow(frame[name], name) for name in roles.columns}
        if len({len(x) for x in columns.values()}) > 1:
            lengths = ", ".join(f"{name!r} {len(x)}" for name, x in columns.items())
            raise ValueError(f"columns of the frame have different lengths ({lengths}); each needs one value a row.")
        table = pa.table(columns)
        yield from table.to_batches(max_chunksize=2**20)
        return
    if not hasattr(frame, "__arrow_c_stream__"):
        raise TypeError(
            f"frame must be a data frame of pandas, Polars or PyArrow, or a dictionary of columns, not {type(frame)}."
        )
    reader = pa.RecordBatchReader.from_stream(frame)
    roles.check(reader.schema.names, "the frame")
    yield from reader


def _as_arrow(values: Any, name: str) -> pa.Array | pa.ChunkedArray:
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        plain_array(list(values), lambda row: f"column {name!r} in row {row} of the frame")
        raise ValueError(f"column {name!r} of the frame cannot be read: {one_line(error)}.") from error


def _files(files: Files, endings: tuple[str, ...]) -> list[str]:
    """Return the files that paths, patterns or folders name, sorted within each."""
    found: list[str] = []
    for one in [files] if isinstance(files, str | os.PathLike) else files:
        path = os.path.expanduser(os.fspath(one))
        if os.path.isdir(path):
            inside = glob.glob(os.path.join(glob.escape(path), "**", "*"), recursive=True)
            here = sorted(x for x in inside if x.endswith(endings) and os.path.isfile(x))
        else:
            here = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        if not here:
            what = f"the folder has no file {endings[0]}" if os.path.isdir(path) else "there is no such file"
            raise FileNotFoundError(f"{path}: {what} (working folder: {os.getcwd()}).")
        found += here
    if not found:
        raise ValueError("no files are given.")
    return found


def _parquet(name: str, roles: Roles) -> Iterator[pa.RecordBatch]:
    try:
        with pyarrow.parquet.ParquetFile(name) as file:
            roles.check(file.schema_arrow.names, name)
            yield from file.iter_batches(batch_size=_BATCH, columns=roles.columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(error, f"{name} is not a Parquet file, or it is damaged") from error


def _csv(name: str, roles: Roles) -> Iterator[pa.RecordBatch]:
    read = pyarrow.csv.ReadOptions(block_size=_BLOCK)
    # Empty fields are missing, quoted ones are not.
    convert = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
    try:
        parse = pyarrow.csv.ParseOptions(delimiter=_delimiter(name))
        with pyarrow.csv.open_csv(name, read_options=read, parse_options=parse, convert_options=convert) as file:
            roles.check(file.schema.names, name)
            for batch in file:
                yield batch.select(roles.columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(error, f"{name} cannot be read as CSV") from error


def _line(name: str, row: int) -> str:
    """Return the line of a row of a CSV file, counted from 1; empty lines are not rows."""
    with pa.input_stream(name) as file:
        lines = io.TextIOWrapper(io.BufferedReader(file), encoding="utf-8", errors="replace")
        found = (i for i, line in enumerate(lines, 1) if line != "\n")
        return f"line {next(itertools.islice(found, row + 1, None), row + 2)}"


def _delimiter(name: str) -> str:
    """Return the character between the columns of a CSV file: a tab if its header has tabs and no comma."""
    with pa.input_stream(name) as file:
        header = file.read(_HEADER).split(b"\n", 1)[0]
    return "\t" if b"\t" in header and b"," not in header else ","


def _unreadable(error: Exception, what: str) -> Exception:
    """Return the error of a file; those of the operating system, such as a missing permission, stay."""
    is_system = isinstance(error, OSError) and error.errno is not None
    return error if is_system else ValueError(f"{what}: {one_line(error)}.")
