"""The order of the rows of a table: episode by episode, each in the order of its time."""

import numpy as np
from jaxtyping import Int

from undelude.offline._data.columns import check_exact
from undelude.offline._data.gather import Gatherer, Raw


def order_rows(
    episode: Raw, time: Raw | None, gatherer: Gatherer
) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " N"]]:
    """Return the rows episode by episode, each in order, and the number of rows of each episode.

    Episodes count in the order in which they begin in the files.

    Raises:
        ValueError: an episode or a time is missing, a time occurs twice, or an episode is in two files without time.
    """
    codes, lengths = _number_episodes(episode, gatherer)
    is_together = bool((np.diff(codes) >= 0).all())
    if time is None:
        order = np.arange(len(codes)) if is_together else np.argsort(codes, kind="stable")
        _check_one_part(order, lengths, episode, gatherer)
        return order, lengths
    _check_time(time, gatherer)
    times = time.values
    if is_together and (times[1:] > times[:-1])[codes[1:] == codes[:-1]].all():
        return np.arange(len(codes)), lengths
    order = np.lexsort((times, codes))
    _check_distinct(order, codes, episode, time, gatherer)
    return order, lengths


def _number_episodes(episode: Raw, gatherer: Gatherer) -> tuple[Int[np.ndarray, " R"], Int[np.ndarray, " N"]]:
    """Return the number of the episode of each row, and the number of rows of each episode."""
    episode.check_present(lambda row: f"column {episode.name!r} in {gatherer.place(row)}")
    values = episode.values
    if values.ndim == 2 or (values.dtype.kind == "f" and np.isnan(values).any()):
        raise ValueError(f"column {episode.name!r} has vectors or NaN; it must tell the episodes apart.")
    check_exact(values, lambda row: f"column {episode.name!r} in {gatherer.place(row)}")
    # Runs of rows of one episode, because sorting them is faster than sorting the rows.
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    _, begins, index = np.unique(values[starts], return_index=True, return_inverse=True)
    number = np.empty(len(begins), np.int32)
    number[np.argsort(begins)] = np.arange(len(begins), dtype=np.int32)
    sizes = np.diff(np.append(starts, len(values)))
    of_run = number[index.reshape(-1)]
    lengths = np.bincount(of_run, weights=sizes, minlength=len(begins)).astype(np.int64)
    return np.repeat(of_run, sizes), lengths


def _check_time(time: Raw, gatherer: Gatherer) -> None:
    where = f"column {time.name!r} in "
    time.check_present(lambda row: where + gatherer.place(row))
    if time.values.ndim == 2 or time.values.dtype == bool:
        raise ValueError(f"column {time.name!r} has {time[0]!r:.50}; time needs one number or time stamp a row.")
    if time.values.dtype.kind == "f" and np.isnan(time.values).any():
        raise ValueError(f"{where}{gatherer.place(int(np.argmax(np.isnan(time.values))))} is missing (NaN).")


def _check_distinct(
    order: Int[np.ndarray, " R"], codes: Int[np.ndarray, " R"], episode: Raw, time: Raw, gatherer: Gatherer
) -> None:
    """Raise `ValueError` if an episode has the same time twice."""
    times, codes = time.values[order], codes[order]
    doubled = (codes[1:] == codes[:-1]) & (times[1:] == times[:-1])
    if doubled.any():
        one, two = order[int(np.argmax(doubled)) :][:2].tolist()
        raise ValueError(
            f"episode {episode[one]!r:.50} has {time.name} {time[one]!r} twice: in {gatherer.place(one)} and "
            f"{gatherer.place(two)}. Drop one, or make the times distinct."
        )


def _check_one_part(
    order: Int[np.ndarray, " R"], lengths: Int[np.ndarray, " N"], episode: Raw, gatherer: Gatherer
) -> None:
    """Raise `ValueError` if an episode is in two files, whose order is not known without time."""
    ends = np.cumsum(lengths)
    first, last = order[ends - lengths], order[ends - 1]
    apart = gatherer.part(first) != gatherer.part(last)
    if apart.any():
        one, two = int(first[np.argmax(apart)]), int(last[np.argmax(apart)])
        raise ValueError(
            f"episode {episode[one]!r:.50} is in {gatherer.place(one)} and in {gatherer.place(two)}. If it is one "
            "episode, give time=, the column that orders its rows; if not, make the names of the episodes distinct."
        )


def scattered(
    order: Int[np.ndarray, " R"], lengths: Int[np.ndarray, " N"], episode: Raw, gatherer: Gatherer
) -> str | None:
    """Return a note on the episodes with rows of others in between, whose order is not known without time."""
    ends = np.cumsum(lengths)
    apart = np.flatnonzero(order[ends - 1] - order[ends - lengths] >= lengths)
    if not len(apart):
        return None
    n = int(apart[0])
    rows = order[ends[n] - lengths[n] : ends[n]]
    i = int(np.argmax(np.diff(rows) > 1))
    of = f"{len(apart):,} of {len(lengths):,} episodes" if len(lengths) > 1 else "the episode"
    return (
        f"no time column: the rows of {of} have those of others in between, and are taken in the order of the file. "
        f"Episode {episode[int(rows[0])]!r:.50}, for one, goes on in {gatherer.place(int(rows[i + 1]))} after "
        f"{gatherer.place(int(rows[i]))}. If the rows are shuffled, or an episode is there twice, the fit is wrong: "
        "give the column that orders them (time=, on the command line --time)."
    )
