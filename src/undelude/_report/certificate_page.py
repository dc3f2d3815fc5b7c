"""The page of a certificate that is not part of a run, such as that of an agent from elsewhere."""

import tempfile
from pathlib import Path

from undelude._certificate.certificate import Certificate
from undelude._certificate.example_episode import example_entries
from undelude._drawing.gif import write_gif
from undelude._files import write_atomically
from undelude._report.actors import film_of_actors
from undelude._report.page import render, write_report
from undelude._runs.certificate_file import write_certificate
from undelude._runs.contents import read_run
from undelude._runs.layout import CERTIFICATE, FILM, check_may_save


def save_certificate(certificate: Certificate, folder: Path) -> Path:
    """Write `certificate.json`, `report.html`, and `episode.gif` if the task draws; return the page.

    Raises:
        RunError: the folder holds a run.
    """
    check_may_save(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _write_files(certificate, folder)
    return write_report(folder)


def write_page(certificate: Certificate, file: Path) -> Path:
    """Write the page alone; return it."""
    with tempfile.TemporaryDirectory() as folder:
        _write_files(certificate, Path(folder))
        write_atomically(file, render(read_run(Path(folder))).encode())
    return file


def _write_files(certificate: Certificate, folder: Path) -> None:
    """Write the certificate with an example episode, and the film; both are played with the measured agent."""
    data = certificate.to_dict()
    if certificate.measurement is not None:
        process, agent, key, _ = certificate.measurement
        data |= example_entries(process, agent, certificate.notes, key=key, num_rounds=certificate.num_rounds)
        try:
            frames = film_of_actors(process, agent, key=key)
        except Exception as error:  # Of a drawing, or of an environment that does not repeat itself.
            data["notes"] = data["notes"] | {"film": f"none: {error}"}
            frames = None
        if frames is not None:
            write_gif(folder / FILM, frames)
    write_certificate(folder / CERTIFICATE, data)
