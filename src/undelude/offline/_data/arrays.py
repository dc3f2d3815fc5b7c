"""Demonstrations from arrays and lists."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from undelude._checks import one_line
from undelude.offline._data.assemble import check_action, check_labels, check_names, pad
from undelude.offline._data.columns import Column, encode

_WORDS = {bool: "truth values", int: "numbers", float: "numbers", str: "strings"}


def read_arrays(
    actions: Any,
    observations: Any,
    *,
    hidden: Mapping[str, Any] | None = None,
    opening: Any = None,
    lengths: Any = None,
    mask: Any = None,
    labels: Any = None,
    demonstrator: Any = None,
    reals: Sequence[str] = (),
    levels: Mapping[str, Any] | None = None,
    source: str = "arrays",
) -> dict[str, Any]:
    """Return the fields of `Demos`; the arguments are those of `Demos.from_arrays`."""
    named = isinstance(observations, Mapping)
    observations = dict(observations) if named else {"observation": observations}
    hidden = dict(hidden or {})
    if opening is None:
        opening = {}
    elif not isinstance(opening, Mapping):
        if named:
            raise ValueError(
                "opening must be a mapping from the names of observations to [N] values, as observations is."
            )
        opening = {"observation": opening}
    check_names(observations, hidden, opening)
    levels = dict(levels or {})
    for option, names in (("reals", reals), ("levels", levels)):
        for name in names:
            if name not in {"action", "demonstrator", *observations, *hidden}:
                columns = ", ".join(["action", *observations, *hidden])
                raise ValueError(f"{option} has {name!r:.99}, which is not a column; there are {columns}.")
    rounds = _lengths(actions, lengths, mask)
    N, starts = len(rounds), np.cumsum(rounds) - rounds

    def column(name: str, values: Any, where: str, first: Any = None) -> tuple[Column, Column | None]:
        flat = _flat(where, values, rounds, is_padded=lengths is not None or mask is not None)
        if first is not None:
            before = _per_episode(f"opening {name!r}", first, N)
            if before.shape[1:] != flat.shape[1:] or (before.dtype.kind in "US") != (flat.dtype.kind in "US"):
                raise ValueError(f"opening {name!r} has other values than {where}: {before.dtype} and {flat.dtype}.")
            flat = np.concatenate([before, flat])
        shift = 0 if first is None else N

        def at(row: int) -> str:
            if row < shift:
                return f"opening {name!r}, episode {row},"
            episode = int(np.searchsorted(starts, row - shift, side="right")) - 1
            return f"{where}[{episode}, {row - shift - int(starts[episode])}]"

        whole = encode(name, flat, at, levels=levels.get(name), real=name in reals)
        if first is None:
            return whole, None
        return Column(name, whole.values[N:], whole.levels), Column(name, whole.values[:N], whole.levels)

    action, _ = column("action", actions, "actions")
    check_action(action)
    label = "observations[{!r}]" if named else "observations"
    seen = {name: column(name, x, label.format(name), opening.get(name)) for name, x in observations.items()}
    unseen = {name: column(name, x, f"hidden[{name!r}]")[0] for name, x in hidden.items()}
    who = None
    if demonstrator is not None:
        values = _per_episode("demonstrator", demonstrator, N)
        who = encode("demonstrator", values, "demonstrator[{}]".format, levels=levels.get("demonstrator"))
    return {
        "action": pad(action, rounds),
        "observations": {name: pad(x, rounds) for name, (x, _) in seen.items()},
        "hidden": {name: pad(x, rounds) for name, x in unseen.items()},
        "opening": {name: first for name, (_, first) in seen.items() if first is not None},
        "lengths": rounds,
        "labels": check_labels(labels, N),
        "demonstrator": who,
        "source": source,
    }


def _lengths(actions: Any, lengths: Any, mask: Any) -> Int[np.ndarray, " N"]:
    """Return the rounds of each episode."""
    if not hasattr(actions, "__len__") or isinstance(actions, str):
        raise ValueError(f"actions must be an array [N, T] or a list of episodes, not {one_line(repr(actions))}.")
    if len(actions) == 0:
        raise ValueError("actions is empty: there is no episode.")
    if getattr(actions, "ndim", 2) < 2 or not hasattr(actions[0], "__len__") or isinstance(actions[0], str):
        raise ValueError(
            "actions must be [N, T], one row for each episode; put a single episode in brackets: [actions]."
        )
    N = len(actions)
    found = np.array([len(x) for x in actions]) if not hasattr(actions, "ndim") else np.full(N, actions.shape[1])
    T = int(found.max())
    if lengths is not None and mask is not None:
        raise ValueError("give lengths= or mask=, not both.")
    if mask is not None:
        exists = np.asarray(mask)
        if exists.dtype != bool or exists.shape != (N, T):
            raise ValueError(f"mask must be truth values of the shape {(N, T)}, not {exists.dtype} {exists.shape}.")
        if (exists[:, 1:] > exists[:, :-1]).any():
            episode = int(np.argmax((exists[:, 1:] > exists[:, :-1]).any(-1)))
            raise ValueError(
                f"mask[{episode}] is false before a round that exists; only the last rounds may be missing."
            )
        found = exists.sum(-1)
    elif lengths is not None:
        given = np.asarray(lengths)
        if given.shape != (N,) or given.dtype.kind not in "iu":
            raise ValueError(
                f"lengths must be {N} whole numbers, one for each episode, not {given.dtype} {given.shape}."
            )
        if (given > found).any() or (given < 0).any():
            episode = int(np.argmax((given > found) | (given < 0)))
            raise ValueError(
                f"lengths[{episode}] is {given[episode]}, but actions[{episode}] has {found[episode]} rounds."
            )
        found = given
    if (found == 0).any():
        raise ValueError(f"episode {int(np.argmin(found))} is empty: it has no rounds. Leave it out.")
    return found.astype(np.int32)


def _flat(where: str, values: Any, rounds: Int[np.ndarray, " N"], *, is_padded: bool) -> Shaped[np.ndarray, "R ..."]:
    """Return one value a row, episode by episode."""
    N = len(rounds)
    if not hasattr(values, "__len__") or isinstance(values, str) or len(values) != N:
        size = f"{len(values)} episodes" if hasattr(values, "__len__") else one_line(repr(values))
        raise ValueError(f"{where} has {size}, but actions has {N} episodes.")
    if hasattr(values, "ndim") and np.asarray(values).dtype.kind != "O":
        array = np.asarray(values)
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.dtype.kind not in "fiu"):
            raise ValueError(f"{where} must be [N, T], or [N, T, d] real numbers, not {array.dtype} {array.shape}.")
        T = array.shape[1]
        if (rounds.max() > T) if is_padded else (rounds != T).any():
            episode = int(np.argmax(rounds > T if is_padded else rounds != T))
            raise ValueError(f"{where}[{episode}] has {T} rounds, but actions[{episode}] has {rounds[episode]}.")
        if is_padded:
            return array[np.arange(T) < rounds[:, None]]
        return array.reshape(-1, *array.shape[2:])
    for episode, (x, length) in enumerate(zip(values, rounds.tolist(), strict=True)):
        size = len(x) if hasattr(x, "__len__") and not isinstance(x, str) else None
        if size is None or (size < length if is_padded else size != length):
            has = one_line(repr(x)) if size is None else f"{size} rounds"
            raise ValueError(f"{where}[{episode}] has {has}, but actions[{episode}] has {length}.")
    rows = [x[:length] for x, length in zip(values, rounds.tolist(), strict=True)]
    if all(isinstance(x, np.ndarray) and x.dtype.kind != "O" and x.ndim == rows[0].ndim for x in rows):
        kinds = {"s" if x.dtype.kind in "US" else "b" if x.dtype.kind == "b" else "n" for x in rows}
        if len(kinds) == 1:
            return np.concatenate(rows)
    starts = np.cumsum(rounds) - rounds

    def at(row: int) -> str:
        episode = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{where}[{episode}, {row - int(starts[episode])}]"

    return plain_array(list(itertools.chain.from_iterable(rows)), at)


def _per_episode(where: str, values: Any, N: int) -> Shaped[np.ndarray, "N ..."]:
    array = values if hasattr(values, "ndim") else list(values)
    if len(array) != N:
        raise ValueError(f"{where} has {len(array)} values, but actions has {N} episodes.")
    is_plain = hasattr(array, "ndim") and np.asarray(array).dtype.kind != "O"
    return np.asarray(array) if is_plain else plain_array(list(array), lambda row: f"{where}[{row}]")


def plain_array(values: list[Any], at: Any) -> Shaped[np.ndarray, "R ..."]:
    """Return a list of Python values as an array of one type.

    Raises:
        ValueError: a value is missing, or of another type than the others; the message names its place.
    """
    kinds = np.array([_word(x) for x in values])
    for row in np.unique(kinds, return_index=True)[1]:
        if kinds[row] == "missing":
            raise ValueError(
                f"{at(int(row))} is missing (None). Fill in a value of its own, such as 'unknown', or drop the episode."
            )
        if kinds[row] == "other":
            raise ValueError(f"{at(int(row))} is {one_line(repr(values[row]))}, not a number, string or truth value.")
    if (kinds != kinds[0]).any():
        row = int(np.argmax(kinds != kinds[0]))
        raise ValueError(
            f"{at(row)} is {one_line(repr(values[row]))}, but {at(0)} is {one_line(repr(values[0]))}: a column needs "
            f"values of one type, not {kinds[0]} and {kinds[row]}."
        )
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{at(0)} and later values do not form an array: {error}.") from error
    if array.dtype.kind == "O":
        raise ValueError(f"{at(0)} or a later value is too large a whole number for 64 bits.")
    return array


def _word(x: Any) -> str:
    if x is None:
        return "missing"
    if isinstance(x, bool | np.bool_):
        return "truth values"
    if isinstance(x, int | float | np.integer | np.floating):
        return "numbers"
    if isinstance(x, str):
        return "strings"
    if isinstance(x, list | tuple | np.ndarray) and np.asarray(x).dtype.kind in "fiu":
        return "vectors of numbers"
    return "other"
