"""Write the page of a run: fill the template with numbers and figures."""

import shlex
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from undelude._certificate import numbers
from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import RATIO
from undelude._files import write_atomically
from undelude._named_tasks import TASKS
from undelude._report import figures, words
from undelude._runs.config import train_command
from undelude._runs.config_file import EARLIER
from undelude._runs.contents import RunContents, read_run
from undelude._runs.example_episode import READERS, ExampleEpisode
from undelude._runs.layout import CERTIFICATE, METRICS, REPORT
from undelude._runs.metrics import EPISODES_A_ROW, OWN_SCORES

# How an agent reads its own actions.
MARKS = {"do": "interventions (do)", "see": "evidence (see)"}
# Largest number of rows in the table of a figure; a longer table shows evenly spaced rows.
MAX_TABLE_ROWS = 60


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run directory, from the files in it.

    The page of an interrupted run shows the results so far and the commands that complete them.

    Args:
        run_dir: the directory of `undelude train`.

    Returns:
        The path of the page. The page is self-contained: it opens no URL and runs no script.

    Raises:
        FileNotFoundError: `run_dir` does not hold a run.
        ValueError: a file is damaged; the message names it and says what to do.
    """
    run_dir = Path(run_dir)
    page = render(read_run(run_dir))
    file = run_dir / REPORT
    write_atomically(file, page.encode())
    return file


def render(run: RunContents) -> str:
    """Return the page as HTML."""
    source = files("undelude._report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "with_error": lambda q: numbers.with_error(q.value, q.standard_error),
        "short": numbers.short,
        "loss": numbers.loss,
        "setting": _setting,
    }
    template = environment.from_string(source.joinpath("template.html.j2").read_text(encoding="utf-8"))
    notes = _Notes()
    certificate = run.certificate or {}
    return template.render(
        style=Markup(source.joinpath("style.css").read_text(encoding="utf-8")),
        run=run,
        config=run.config,
        settings=run.config | {name: size for name, size in run.sizes.items() if run.config.get(name) is None},
        theta=_theta(run),
        certificate=certificate,
        verdict=words.verdict(run),
        byline=_byline(run),
        missing=_missing(run),
        q=lambda name: notes.mark(run.quantity(name)),
        notes=notes,
        number=run.quantity,
        episode=run.episode,
        film=b64encode(run.film).decode() if run.film else None,
        story=words.story(run.episode) if run.episode else [],
        strips=figures.strips(run.episode) if run.episode else None,
        bars=figures.distances(run),
        learning=figures.learning_curve(run),
        losses=figures.losses(run),
        chart=figures.certificate(run),
        returns=figures.returns(run),
        rounds=_rounds(run),
        rows=_thinned(run.metrics),
        own_scores=list(OWN_SCORES) if any(row[OWN_SCORES[0]] is not None for row in run.metrics) else [],
        versions=_versions(run),
        commands=_commands(run),
        task=run.config.get("task") or certificate.get("task", "an agent"),
        episodes_a_row=EPISODES_A_ROW,
        times_nearer=round(1 / RATIO),
        some_infinite=bool(np.isinf([run.series("action_kl_do"), run.series("action_kl_see")]).any()),
    )


class _Notes:
    """The reasons for missing numbers, each listed once; every gap refers to its reason."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def mark(self, q: Quantity) -> Markup:
        """Return a table cell."""
        if q.value is not None:
            value, _, error = numbers.with_error(q.value, q.standard_error).partition(" ±")
            return Markup("{} <span>±{}</span>").format(value, error) if error else Markup("{}").format(value)
        reason = q.why_none or "not in the certificate."
        if reason not in self.reasons:
            self.reasons.append(reason)
        i = self.reasons.index(reason) + 1
        return Markup('none<sup><a href="#note-{}" aria-label="note {}">{}</a></sup>').format(i, i, i)


def _byline(run: RunContents) -> list[str]:
    """Return the agent, the teaching, the number of updates, and how the agent reads its actions."""
    certificate, config = run.certificate or {}, run.config
    parts = [str(certificate.get("agent") or config.get("agent") or "an agent")]
    if config.get("teaching"):
        parts.append(f"{config['teaching']} teaching")
    if run.metrics:
        done, steps = run.metrics[-1]["update"], config.get("steps")
        parts.append(f"{done} updates" if steps in (None, done) else f"{done} of {steps} updates")
    if certificate.get("own_actions"):
        mark = str(certificate["own_actions"])
        is_host = certificate.get("agent") == "HostAgent"  # How its policy reads them is not known.
        parts.append(f"{'its own actions marked' if is_host else 'reading its own actions'} as {MARKS.get(mark, mark)}")
    return parts


def _missing(run: RunContents) -> list[tuple[str, str]]:
    """Return each missing part of an interrupted run, with the command that makes it."""
    if not run.config:  # A certificate alone.
        return []
    steps, done = run.config.get("steps"), run.metrics[-1]["update"] if run.metrics else 0
    resume = train_command(run.config, run.path, resume=True)
    missing = []
    if not run.metrics:
        missing.append((f"{METRICS} is empty: training stopped before its first row.", resume))
    elif isinstance(steps, int) and done < steps:
        missing.append((f"Training stopped after update {done} of {steps}.", resume))
    if run.certificate is None:
        certify = f"undelude certify {shlex.quote(str(run.path))}"
        missing.append((f"{CERTIFICATE} is missing: the agent was not measured. To measure it now:", certify))
    return missing


def _commands(run: RunContents) -> list[str]:
    """Return the commands that train the same agent again: several if the run was made longer."""
    if not run.config:
        return []
    out = f"{run.path.resolve().name}-again"
    first, *later = [*run.config.get(EARLIER, []), run.config.get("steps")]
    resume = train_command(run.config, out, resume=True).removesuffix(" --resume")
    return [train_command(run.config | {"steps": first}, out), *(f"{resume} --steps {n} --resume" for n in later)]


def _versions(run: RunContents) -> list[tuple[str, str, str]]:
    """Return `(package, version in training, version in measuring)` of each package."""
    taught, measured = (
        v if isinstance(v := (source or {}).get("versions"), dict) else {} for source in (run.config, run.certificate)
    )
    return [
        (name, str(taught.get(name, numbers.NONE)), str(measured.get(name, numbers.NONE)))
        for name in dict.fromkeys([*taught, *measured])
    ]


def _rounds(run: RunContents) -> list[dict[str, Any]]:
    """Return the numbers of the episode's figure, one row per round."""
    if run.episode is None:
        return []
    e = run.episode
    variable, distributions = e.distributions
    values = e.theta if variable == "theta" else np.append(e.actions, 0)
    columns = [distributions[name][np.arange(len(values)), values] for name in READERS if name in distributions]
    symbols = [None] * e.num_rounds if e.observations is None else e.observations
    return [
        {
            "round": t + 1,
            "action": _action(e, t),
            "observation": e.descriptions[t] if e.descriptions else symbols[t],
            "reward": f"{e.rewards[t]:g}",
            "distributions": [f"{column[t]:.3f}" for column in columns],
        }
        for t in range(e.num_rounds)
    ]


def _action(e: ExampleEpisode, t: int) -> str:
    """Return an action in the words of the task, or its numbers."""
    if e.action_descriptions is not None:
        return e.action_descriptions[t]
    return " ".join(f"{x:.3g}" for x in np.atleast_1d(e.actions[t]))


def _thinned(rows: Sequence[dict]) -> list[dict]:
    if len(rows) <= MAX_TABLE_ROWS:
        return list(rows)
    return [rows[i] for i in np.linspace(0, len(rows) - 1, MAX_TABLE_ROWS).round().astype(int)]


def _theta(run: RunContents) -> str | None:
    """Return what theta is, in the words of the list of named tasks; None for another task."""
    task = TASKS.get(str(run.config.get("task")))
    return None if task is None else task.summary


def _setting(value: Any) -> str:
    return numbers.NONE if value is None else str(value)
