"""Write the page of a fit to logs, and of its diagnosis."""

import shlex
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from undelude import offline
from undelude._certificate.numbers import with_error
from undelude._files import write_atomically
from undelude._report import logs_figures as figures
from undelude._report import logs_words as words
from undelude._runs.layout import REPORT
from undelude._versions import versions
from undelude.offline._diagnosing.cloned import Cloned
from undelude.offline._saving.diagnosis_file import read_diagnosis


def write_logs_report(folder: Path) -> Path:
    """Write `report.html` into the folder of a fit, from the files in it; return it.

    The page opens no URL and runs no script. Without a diagnosis it shows the fit alone.

    Raises:
        FileNotFoundError: the folder has no fit.
        ValueError: a file is damaged; the message names it and says what to do.
    """
    fit = offline.load(folder)
    found = read_diagnosis(folder, fit)
    page = folder / REPORT
    command = f"undelude offline diagnose {shlex.quote(str(folder))}"
    write_atomically(page, render(fit, *(found or (None, None)), diagnose_command=command).encode())
    return page


def render(
    fit: "offline.Fit", diagnosis: "offline.Diagnosis | None", clone: Cloned | None, *, diagnose_command: str
) -> str:
    """Return the page as HTML."""
    source = files("undelude._report")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"with_error": lambda x: with_error(*x), "number": words.number, "interval": words.interval}
    template = environment.from_string(source.joinpath("logs.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(source.joinpath("style.css").read_text(encoding="utf-8")),
        fit=fit,
        diagnosis=diagnosis,
        clone=clone,
        verdict=words.verdict(diagnosis),
        byline=words.byline(fit),
        advice=words.advice(fit, diagnosis),
        structures=words.structures(diagnosis),
        prices=words.prices(diagnosis),
        cloning=words.cloning(clone),
        gap=figures.gaps(diagnosis),
        selection=figures.selection(fit),
        mechanisms=figures.mechanisms(fit),
        bounds=figures.bounds(diagnosis),
        versions=versions(),
        diagnose_command=diagnose_command,
    )
