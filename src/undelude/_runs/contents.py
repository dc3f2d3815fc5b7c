"""The content of a run directory as its report needs it: complete or not, and of any version."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from undelude._certificate.certificate import QUANTITIES
from undelude._certificate.quantity import Quantity
from undelude._files import read_bytes, read_json
from undelude._runs import layout
from undelude._runs.agent_files import DESCRIPTION, MAX_DESCRIPTION
from undelude._runs.certificate_file import quantities_of, read_certificate, remedy
from undelude._runs.config import SIZES
from undelude._runs.config_file import read_settings
from undelude._runs.example_episode import ExampleEpisode, parse_episode
from undelude._runs.metrics import MEASURED, OWN_SCORES, read_metrics


@dataclasses.dataclass(frozen=True)
class RunContents:
    """The content of a run directory.

    Attributes:
        path: the directory.
        config: the options of the run; empty if there is a certificate alone.
        metrics: one row per logged update, in order.
        certificate: None if the run has none yet.
        episode: the example episode; None if the certificate has none.
        film: a GIF of episodes, or None.
        sizes: those of the agent, such as `hidden_size`, as its `agent.json` holds them; empty if there is none.
    """

    path: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    certificate: dict[str, Any] | None
    episode: ExampleEpisode | None
    film: bytes | None = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def quantities(self) -> dict[str, Quantity]:
        """The quantities of the certificate by name."""
        if self.certificate is None:
            return dict.fromkeys(QUANTITIES, Quantity(None, why_none="there is no certificate."))
        return quantities_of(self.certificate)

    def quantity(self, name: str) -> Quantity:
        """Return a quantity of the certificate."""
        return self.quantities[name]

    def series(self, name: str) -> Float[np.ndarray, " R"]:
        """Return a column of the metrics, with NaN for missing numbers."""
        return np.array([math.nan if row[name] is None else row[name] for row in self.metrics], dtype=float)


def read_run(path: Path) -> RunContents:
    """Read a run directory, of which only `config.json` must be there, or the folder of a certificate alone.

    Args:
        path: the directory.

    Raises:
        RunError: `path` holds neither a run nor a certificate.
        ValueError: a file is damaged; the message names it and says what to do.
    """
    layout.check_has_page(path)
    config = read_settings(path / layout.CONFIG) if layout.is_run(path) else {}
    certificate, episode = None, None
    if (file := path / layout.CERTIFICATE).is_file():
        certificate = read_certificate(file, config=config, partial=True)
        if certificate.get("episode") is not None:
            try:
                episode = parse_episode(certificate["episode"])
            except ValueError as error:
                raise layout.damaged(file, error, remedy(file)) from error
    rows = [dict.fromkeys((*MEASURED, *OWN_SCORES)) | row for row in read_metrics(path / layout.METRICS, config=config)]
    film = None
    if (file := path / layout.FILM).is_file():
        film = read_bytes(file, most=layout.MAX_BYTES[layout.FILM], remedy=remedy(file))
        if not film.startswith(b"GIF8"):
            raise layout.damaged(file, "it is not a GIF", remedy(file))
    return RunContents(path, config, rows, certificate, episode, film, _sizes(path / layout.AGENT))


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of a stored agent; none if it cannot be read, since the page needs nothing else of it."""
    try:
        config = read_json(folder / DESCRIPTION, most=MAX_DESCRIPTION).get("config")
    except (OSError, ValueError):
        return {}
    return {name: config[name] for name in SIZES if isinstance(config, dict) and isinstance(config.get(name), int)}
