"""The roles of the columns of a table."""

import dataclasses
import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undelude._checks import check_ordered, one_line
from undelude.offline._data.assemble import check_names


@dataclasses.dataclass(frozen=True)
class Roles:
    """The columns of a table with one row a round, by their names.

    Attributes:
        episode, action: columns.
        observation: names of the columns with what came back.
        hidden: names of the columns that the agent will not see.
        opening: the column with the value before the first action, by the name of an observation.
        before: names of the observations that are recorded before the action of their row.
        time, label, demonstrator, intervened: columns, or None.
        reals: names of columns that are real in any case.
        levels: of columns, by name.
    """

    episode: str
    action: str
    observation: tuple[str, ...]
    hidden: tuple[str, ...]
    opening: dict[str, str]
    before: tuple[str, ...]
    time: str | None
    label: str | None
    demonstrator: str | None
    intervened: str | None
    reals: tuple[str, ...]
    levels: dict[str, Iterable[Any]]

    @classmethod
    def named(cls, where: str, columns: Mapping[str, Any]) -> "Roles":
        """Return the roles in the keyword arguments of a reader; `TypeError` names one that is missing or unknown."""
        known = [*inspect.signature(cls.of).parameters]
        if unknown := [name for name in columns if name not in known]:
            close = difflib.get_close_matches(unknown[0], known)
            hint = f" Did you mean {close[0]}?" if close else f" It takes {', '.join(known)}."
            raise TypeError(f"Demos.{where} has no argument {unknown[0]!r}.{hint}")
        if missing := [name for name in known[:3] if name not in columns]:
            raise TypeError(f"Demos.{where} needs {missing[0]}=, the name of a column.")
        return cls.of(**columns)

    @classmethod
    def of(
        cls,
        *,
        episode: str,
        action: str,
        observation: str | Sequence[str],
        hidden: str | Sequence[str] = (),
        opening: str | Sequence[str] | Mapping[str, str] = (),
        time: str | None = None,
        label: str | None = None,
        demonstrator: str | None = None,
        intervened: str | None = None,
        reals: str | Sequence[str] = (),
        levels: Mapping[str, Iterable[Any]] | None = None,
    ) -> "Roles":
        """Return the roles; the arguments are those of `Demos.from_frame`.

        Raises:
            ValueError: a column has two roles, or an option names a column without a role.
        """
        seen, unseen = _names("observation", observation), _names("hidden", hidden)
        apart = dict(opening) if isinstance(opening, Mapping) else {}
        before = () if isinstance(opening, Mapping) else _names("opening", opening)
        check_names(dict.fromkeys(seen), dict.fromkeys(unseen), dict.fromkeys((*apart, *before)))
        reals, levels = _names("reals", reals), dict(levels or {})
        one = {"episode": episode, "action": action, "time": time, "label": label}
        one |= {"demonstrator": demonstrator, "intervened": intervened}
        for role, name in one.items():
            if not (name is None or isinstance(name, str)) or name == "":
                raise ValueError(f"{role} must be the name of a column, not {one_line(repr(name))}.")
        of_role: dict[str, str] = {}
        pairs = [(name, role) for role, name in one.items() if name is not None]
        for name, role in (*pairs, *((x, "observation") for x in seen), *((x, "hidden") for x in unseen)):
            if name in of_role and {role, of_role[name]} != {"episode", "label"}:
                raise ValueError(f"column {name!r} cannot be both {of_role[name]} and {role}.")
            of_role[name] = role
        for option, names in (("reals", reals), ("levels", levels)):
            if unknown := [name for name in names if name not in of_role]:
                raise ValueError(f"{option} has {unknown[0]!r:.99}, which is not among the columns {[*of_role]}.")
        return cls(episode, action, seen, unseen, apart, before, time, label, demonstrator, intervened, reals, levels)

    @property
    def columns(self) -> list[str]:
        """The columns to read, each once."""
        one = (self.episode, self.time, self.label, self.demonstrator, self.intervened, self.action)
        names = (*one, *self.observation, *self.hidden, *self.opening.values())
        return list(dict.fromkeys(x for x in names if x is not None))

    def check(self, names: Iterable[Any], where: str) -> None:
        """Raise `ValueError` if a table lacks a column or has it twice.

        Args:
            names: of the table's columns.
            where: the table, for the message.
        """
        names = list(names)
        for name in self.columns:
            if name not in names:
                near = difflib.get_close_matches(name, map(str, names), n=3, cutoff=0.5)
                remedy = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"It has {one_line(names)}."
                raise ValueError(f"{where} has no column {name!r}. {remedy}")
            if names.count(name) > 1:
                raise ValueError(f"{where} has {names.count(name)} columns {name!r}; rename one.")


def _names(option: str, names: str | Sequence[str]) -> tuple[str, ...]:
    """Return one name or several as a tuple."""
    check_ordered(names, option, "they keep their order")
    found = (names,) if isinstance(names, str) else tuple(names)
    for i, name in enumerate(found):
        if not isinstance(name, str):
            raise ValueError(f"{option} must be names of columns, not {one_line(repr(name))}.")
        if name in found[:i]:
            raise ValueError(f"{option} names {name!r} twice.")
    return found
