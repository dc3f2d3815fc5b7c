"""The leaderboard: result files as one HTML page, which opens no URL and runs no script."""

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from undelude._certificate.numbers import NONE, share, short, with_error
from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import WORDS
from undelude._files import write_atomically
from undelude._suite.aggregate import CLEARLY, GROUPS, Estimate, Group, Standing, baseline, normalised, span
from undelude._suite.definitions import digest
from undelude._suite.results import Result, read_result
from undelude._versioned_tasks import SUITE, VersionedTask
from undelude._versions import versions

EFFECTS = {"costs": "costs return", "nothing": "costs nothing", "helps": "helps"}
HEADINGS: dict[Group, str] = {
    "exact": "Exact agents",
    "taught": "Networks taught by undelude",
    "others": "Other libraries, and agents of your own",
}
# In the head of every page.
TITLE = b"<title>undelude suite: "
# A sign for each verdict, so that a table is read without its colours.
SIGNS: dict[str, str] = {"sober": "●", "deluded": "▲", "neither": "◆", "agree": "=", "undecided": "?", "unknown": "?"}


def baselines() -> list[Result]:
    """Return the results that are stored in the package."""
    folder = files("undelude._suite").joinpath("baselines")
    names = sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))
    return [baseline(name) for name in names]


def read_results(paths: Sequence[Path], *, baselines: bool, trials: bool) -> list[Result]:
    """Read result files, and add the stored baselines; a whole result of the same agent takes its baseline's place.

    Raises:
        ValueError: a file is damaged, was measured on another definition of a task, or is a trial; it has the name of a
            baseline, and is of another agent or not whole.
    """
    found = []
    for path in paths:
        result = read_result(path)
        for name, task in result.tasks.items():
            if task.definition != digest(SUITE[name]):
                raise ValueError(
                    f"{path} was measured on another definition of {name} ({task.definition}; here it is "
                    f"{digest(SUITE[name])}): measure it again with undelude suite run."
                )
            if task.is_trial(SUITE[name]) and not trials:
                raise ValueError(
                    f"{path} is a trial: {name} was measured on {task.num_episodes} episodes, and not on "
                    f"{SUITE[name].num_episodes}. Measure it without --num-episodes; or show it with --trials."
                )
        found.append(result)
    stored = {x.agent: x for x in _stored()} if baselines else {}
    for path, result in zip(paths, found, strict=True):
        if result.agent in stored and not _replaces(result, stored[result.agent]):
            raise ValueError(
                f"{path} has the name of a stored baseline, {result.agent!r}, and is of another agent or not whole: "
                "measure it with another --name, or leave the baselines out with --no-baselines."
            )
    own = {x.agent for x in found}
    return [x for x in stored.values() if x.agent not in own] + found


def _replaces(own: Result, stored: Result) -> bool:
    """Return whether a result is a whole one of the agent of a baseline."""
    is_whole = own.tasks.keys() == SUITE.keys() and not any(
        found.status == "not run" or found.is_trial(SUITE[name]) for name, found in own.tasks.items()
    )
    return is_whole and (own.source, own.seed) == (stored.source, stored.seed)


def is_leaderboard(file: Path) -> bool:
    """Return whether a file is a page that `write_page` wrote."""
    with file.open("rb") as opened:
        return TITLE in opened.read(2048)


def _stored() -> list[Result]:
    return baselines()


class Cell(NamedTuple):
    """An agent on a task, as text.

    Attributes:
        distance, reward: with their standard errors.
        brief: the distance with two digits, for the table of all tasks.
        verdict: in a word.
        kind: a class of the style sheet.
        sign: of the verdict.
    """

    distance: str
    reward: str
    brief: str
    verdict: str
    kind: str
    sign: str


def write_page(file: Path, standings: Sequence[Standing]) -> None:
    """Write the page of these standings."""
    write_atomically(file, render(standings).encode())


def render(standings: Sequence[Standing]) -> str:
    """Return the page as HTML."""
    source = files("undelude._suite")
    report = files("undelude").joinpath("_report")  # As a folder: importing the package would load matplotlib.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "estimate": _estimate,
        "estimate_share": lambda x: _estimate(x, share),
        "short": short,
        "share": share,
        "breakable": _breakable,
    }
    cells = {(x.agent, task): _cell(x, task) for x in standings for task in SUITE}
    shown = {cell.kind for cell in cells.values()}
    template = environment.from_string(source.joinpath("leaderboard.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(report.joinpath("style.css").read_text(encoding="utf-8")),
        more_style=Markup(source.joinpath("leaderboard.css").read_text(encoding="utf-8")),
        standings=standings,
        groups={HEADINGS[group]: found for group in GROUPS if (found := [x for x in standings if x.group == group])},
        signs={word.lower(): SIGNS[kind] for kind, word in WORDS.items() if kind in shown},
        tasks=list(SUITE.values()),
        scored={task: span(task) is not None for task in SUITE},
        cells=cells,
        worst={x.agent: worst_in_words(x) for x in standings},
        effects=EFFECTS,
        remarks={x.agent: _remark(x) for x in standings},
        trials=[_trials(x) for x in standings if _trials(x)],
        scale=_scale(standings),
        clearly=round(CLEARLY),
        words=WORDS,
        versions=versions(),
        played=_played,
    )


def _played(standing: Standing) -> int:
    return len(SUITE) - len(standing.not_run) - len(standing.not_played)


def _estimate(x: Estimate | None, number: Callable[[float], str] = short) -> Markup:
    """Return a number with its interval."""
    if x is None:
        return Markup("&ndash;")
    return Markup("{} <small>{} to {}</small>").format(number(x.value), number(x.low), number(x.high))


def _breakable(name: str) -> Markup:
    """Return a name that may break after an underscore."""
    return Markup("_<wbr>").join(name.split("_"))


def worst_in_words(standing: Standing) -> tuple[str, str]:
    """Return the greatest distance and the name of its task; no name if all distances are 0."""
    if standing.worst_kl is None:
        return short(None), ""
    text = short(standing.worst_kl[0])
    return text, "" if text == "0" else SUITE[standing.worst_kl[1]].short_id


def _scale(standings: Sequence[Standing]) -> tuple[float, float]:
    """Return the ends of the axis of the normalised return: at least 0 to 1."""
    ends = [y for x in standings if x.score for y in (x.score.low, x.score.high)]
    return min([-0.1, *ends]), max([1.1, *ends])


def _trials(standing: Standing) -> str:
    """Return which of an agent's results are trials, in words; empty if none is."""
    few = {
        SUITE[task].short_id
        for result in standing.results
        for task, entry in result.tasks.items()
        if entry.is_trial(SUITE[task])
    }
    return f"{standing.agent}: {', '.join(sorted(few))}" if few else ""


def _remark(standing: Standing) -> str:
    """Return what keeps an agent from a full comparison, in words; empty if nothing does."""
    found = ["trial"] * bool(_trials(standing)) + ["incomplete"] * (not standing.is_complete)
    return ", ".join(found)


def _cell(standing: Standing, task: str) -> Cell:
    entries = [result.tasks[task] for result in standing.results if task in result.tasks]
    statuses = {entry.status for entry in entries}
    if not entries or "not run" in statuses:
        return Cell("", "", "", "not run", "none", "")
    if "not played" in statuses:
        return Cell("", "", "", "declines", "none", NONE)
    kinds = {str(entry.verdict) for entry in entries}
    kind = kinds.pop() if len(kinds) == 1 else "undecided"
    distance = _over_seeds([entry.score("action_kl_do") for entry in entries])
    reward = _over_seeds([entry.score("reward") for entry in entries])
    scaled = normalised(task, reward)
    shown = reward if scaled.value is None else scaled
    return Cell(_text(distance), _text(shown), short(distance.value), kind, kind, SIGNS[kind])


def _text(x: Quantity) -> str:
    return with_error(x.value, x.standard_error).replace(
        " ±\N{NO-BREAK SPACE}", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
    )


def _over_seeds(scores: list[Quantity]) -> Quantity:
    """Return the mean over training seeds with its standard error; of one seed, the error over episodes."""
    if len(scores) == 1:
        return scores[0]
    values = [score.value for score in scores]
    if None in values:
        return Quantity(why_none="not measured for a seed.")
    return Quantity.over_episodes([x for x in values if x is not None])


def describe(task: VersionedTask) -> str:
    """Return the parameters of a task in one line."""
    return ", ".join(f"{name}={value!r}" for name, value in task.arguments.items())
