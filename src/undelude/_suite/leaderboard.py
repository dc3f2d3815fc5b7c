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
from undelude._runs.config import Recipe, difference, option
from undelude._suite.aggregate import GROUPS, Estimate, Group, Standing, TaskStanding
from undelude._suite.definitions import digest
from undelude._suite.results import Result, TaskResult, read_result
from undelude._suite.scale import CLEARLY, baseline, span
from undelude._versioned_tasks import EFFECTS, SUITE
from undelude._versions import versions

HEADINGS: dict[Group, str] = {
    "exact": "Exact agents",
    "taught": "Networks taught by undelude",
    "others": "Other libraries, and agents of your own",
}
# In the head of every page.
TITLE = b"<title>undelude suite: "
# A sign for each verdict, so that a table is read without its colours.
SIGNS: dict[str, str] = {"sober": "●", "deluded": "▲", "neither": "◆", "agree": "=", "undecided": "?", "unknown": "?"}


def stored_baselines() -> list[Result]:
    """Return the results that are stored in the package."""
    folder = files("undelude._suite").joinpath("baselines")
    names = sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))
    return [baseline(name) for name in names]


class Collected(NamedTuple):
    """The results of a leaderboard.

    Attributes:
        results: those to show.
        notices: a sentence for each result file that is not shown, or that takes the place of a baseline.
    """

    results: list[Result]
    notices: list[str]


def read_results(paths: Sequence[Path], *, baselines: bool, trials: bool) -> Collected:
    """Read result files, and add the stored baselines.

    A result of a baseline's agent takes the baseline's place if it is whole; a trial, or a result without some tasks,
    is not shown.

    Raises:
        ValueError: a file is damaged, was measured on another definition of a task, or is a trial; or it has the name
            of a baseline and is of another agent, or that of another file and is of another recipe.
    """
    stored = {x.agent: x for x in stored_baselines()} if baselines else {}
    own: list[tuple[Path, Result]] = []
    notices = []
    for path in paths:
        result = read_result(path)
        _check_definitions(path, result)
        if (same := stored.get(result.agent)) is not None:
            _check_same_agent(path, result, same)
            if lacks := _what_it_lacks(result):
                flags = "--no-baselines" + " --trials" * result.is_trial
                notices.append(
                    f"{path} is not shown: it {lacks}, so that the stored baseline {result.agent!r} stays in its "
                    f"place. See it alone with {flags}."
                )
                continue
            notices.append(f"{path} takes the place of the stored baseline {result.agent!r}.")
        if not trials:
            _check_no_trial(path, result)
        own.append((path, result))
    _check_same_recipes(own)
    named = {x.agent for _, x in own}
    return Collected([x for x in stored.values() if x.agent not in named] + [x for _, x in own], notices)


def _check_same_recipes(results: Sequence[tuple[Path, Result]]) -> None:
    """Raise `ValueError` if two results of one name were taught by different recipes on a task."""
    seen: dict[tuple[str, str], tuple[Path, TaskResult]] = {}
    for path, result in results:
        for name, task in result.tasks.items():
            if task.status != "played":
                continue
            earlier, other = seen.setdefault((result.agent, name), (path, task))
            if (words := _differ(earlier, other.recipe, path, task.recipe)) is not None:
                raise ValueError(
                    f"{earlier} and {path} are both of {result.agent!r}, and results of one name are training seeds of "
                    f"one recipe; on {name}, {words}. Measure one of them with another --name, or write that name as "
                    '"agent" into its file.'
                )


def _differ(one: Path, recipe: Recipe | None, two: Path, other: Recipe | None) -> str | None:
    """Return how the recipes of two results differ, in words; None if they do not."""
    if recipe is None or other is None:
        if recipe is other:
            return None
        known, unknown = (one, two) if other is None else (two, one)
        return f"the recipe of {known} is known, and that of {unknown} is not (measured again, a run has its own)"
    if (name := difference(recipe, other)) is None:
        return None
    first, second = (f"{option(name)} {x[name]}" if name in x else f"no {option(name)}" for x in (recipe, other))
    return f"one has {first} and the other {second}"


def _check_same_agent(path: Path, result: Result, baseline: Result) -> None:
    """Raise `ValueError` if a result has the name of a baseline and is not of its agent and seed."""
    if other := other_origin(result, baseline):
        raise ValueError(
            f"{path} has the name of a stored baseline, {result.agent!r}, and is of another agent or seed ({other}): "
            "measure it with another --name, or leave the baselines out with --no-baselines."
        )


def other_origin(result: Result, baseline: Result) -> str:
    """Return of which agents and seeds two results are, in words; empty if they are of the same."""
    if (result.source, result.seed) == (baseline.source, baseline.seed):
        return ""
    return f"{_origin(result)}; the baseline is {_origin(baseline)}"


def _origin(result: Result) -> str:
    return f"{result.source}, " + ("without a seed" if result.seed is None else f"seed {result.seed}")


def _check_definitions(path: Path, result: Result) -> None:
    for name, task in result.tasks.items():
        if task.definition != digest(SUITE[name]):
            raise ValueError(
                f"{path} was measured on another definition of {name} ({task.definition}; here it is "
                f"{digest(SUITE[name])}): measure it again with undelude suite run."
            )
        rounds = baseline("exact-do").tasks[name].num_rounds  # It plays every task.
        if task.status == "played" and task.num_rounds != rounds:
            raise ValueError(f"{path}: tasks.{name}.num_rounds must be {rounds}, as in its definition.")


def _check_no_trial(path: Path, result: Result) -> None:
    for name, task in result.tasks.items():
        if task.is_trial(SUITE[name]):
            raise ValueError(
                f"{path} is a trial: {name} was measured on {task.num_episodes} episodes, and not on "
                f"{SUITE[name].num_episodes}. Measure it without --num-episodes; or show it with --trials."
            )


def _what_it_lacks(result: Result) -> str:
    """Return what keeps a result from a baseline's place, in words; empty if nothing does."""
    found: list[TaskResult | None] = [result.tasks.get(name) for name in SUITE]
    missing = sum(x is None or x.status == "not run" for x in found)
    return " and ".join(
        [f"was not run on {missing} of {len(SUITE)} tasks"] * bool(missing) + ["is a trial"] * result.is_trial
    )


def is_leaderboard(file: Path) -> bool:
    """Return whether a file is a page that `write_page` wrote."""
    with file.open("rb") as opened:
        return TITLE in opened.read(2048)


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
        "share": share,
    }
    cells = {(x.agent, task): _cell(found) for x in standings for task, found in x.tasks.items()}
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
        trials=[_trials(x) for x in standings if x.trials],
        scale=_scale(standings),
        clearly=round(CLEARLY),
        versions=versions(),
    )


def _estimate(x: Estimate | None, number: Callable[[float], str] = short) -> Markup:
    """Return a number with its interval."""
    if x is None:
        return Markup("&ndash;")
    return Markup("{} <small>{} to {}</small>").format(number(x.value), number(x.low), number(x.high))


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
    """Return which of an agent's results are trials, in words."""
    return f"{standing.agent}: {', '.join(SUITE[task].short_id for task in standing.trials)}"


def _remark(standing: Standing) -> str:
    """Return what keeps an agent from a full comparison, in words; empty if nothing does."""
    found = ["trial"] * bool(standing.trials) + ["incomplete"] * (not standing.is_complete)
    return ", ".join(found)


def _cell(found: TaskStanding) -> Cell:
    if found.verdict is None:
        verdict, sign = ("declines", NONE) if found.status == "not played" else ("not run", "")
        return Cell("", "", "", verdict, "none", sign)
    shown = found.reward if found.normalised.value is None else found.normalised
    kind, brief = found.verdict, short(found.distance.value)
    return Cell(_text(found.distance), _text(shown), brief, kind, kind, SIGNS[kind])


def _text(x: Quantity) -> str:
    return with_error(x.value, x.standard_error).replace(
        " ±\N{NO-BREAK SPACE}", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
    )
