"""Read and check the files of a run directory for its report; errors name the damaged file."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from jaxtyping import Float, Int

from undelude._certificate.certificate import is_quantity
from undelude._files import json_object
from undelude._runs.metrics import MEASURED, read_metrics

CONFIG, METRICS, CERTIFICATE, FILM = "config.json", "metrics.jsonl", "certificate.json", "episode.gif"
READERS = ("agent", "exact_do", "exact_see")
# Number of episodes that the example was chosen from, if the file does not say.
TRACED = 256


class Quantity(NamedTuple):
    """A measured number with its standard error; `why_none` says why it is missing."""

    value: float | None
    se: float | None = None
    why_none: str | None = None


@dataclasses.dataclass(frozen=True)
class Episode:
    """One episode as the agent and both exact answers read it.

    Attributes:
        theta: `[T + 1]`, the true index before each round and after the last.
        opening: the observation before the first action, or None.
        actions: `[T]`.
        observations: `[T]`, or None if they are not plain symbols.
        descriptions: `T` observations in the task's words, or None if the task has none.
        rewards: `[T]`.
        policy: the policy of each of `READERS`, `[T + 1, A]`.
        belief: the belief of each of `READERS`, `[T + 1, K]`, or None if its policy implies none.
        num_episodes: number of episodes that this one was chosen from.
    """

    theta: Int[np.ndarray, " T1"]
    opening: Any
    actions: Int[np.ndarray, " T"]
    observations: Int[np.ndarray, " T"] | None
    descriptions: list[str] | None
    rewards: Float[np.ndarray, " T"]
    policy: dict[str, Float[np.ndarray, "T1 A"]]
    belief: dict[str, Float[np.ndarray, "T1 K"] | None]
    num_episodes: int

    @property
    def num_rounds(self) -> int:
        """`T`."""
        return len(self.actions)

    @property
    def distributions(self) -> tuple[str, dict[str, np.ndarray]]:
        """The strips to show: `("theta", beliefs)` if the agent's policy implies them, else `("action", policies)`."""
        beliefs = {name: b for name, b in self.belief.items() if b is not None}
        return ("theta", beliefs) if len(beliefs) == len(READERS) else ("action", self.policy)


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The content of a run directory.

    Attributes:
        path: the directory.
        config: the options of the run.
        metrics: one row per logged update, in order.
        certificate: None if the run has none yet.
        episode: the example episode; None if the certificate has none.
        film: a GIF of episodes, or None.
    """

    path: Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    certificate: dict[str, Any] | None
    episode: Episode | None
    film: bytes | None = None

    def quantity(self, name: str) -> Quantity:
        """Return a quantity of the certificate."""
        if self.certificate is None:
            return Quantity(None, why_none="there is no certificate.")
        file = self.path / CERTIFICATE
        value, se = (_number(file, key, self.certificate.get(key)) for key in (name, f"{name}_se"))
        notes = self.certificate.get("notes")
        return Quantity(value, se, (notes if isinstance(notes, dict) else {}).get(name) if value is None else None)

    def series(self, name: str) -> Float[np.ndarray, " R"]:
        """Return a column of the metrics, with NaN for missing numbers."""
        return np.array([math.nan if row[name] is None else row[name] for row in self.metrics], dtype=float)


def read_run(path: Path) -> RunFiles:
    """Read a run directory; only `config.json` must be there.

    Args:
        path: the directory.

    Raises:
        FileNotFoundError: `path` does not hold a run.
        ValueError: a file is damaged; the message names it and says what to do.
    """
    config_file = path / CONFIG
    if not config_file.is_file():
        raise FileNotFoundError(
            f"no run at {path}: {CONFIG} is missing. Write one with: undelude train TASK --out {path}"
        )
    config = _json_object(config_file, config_file.read_bytes(), "Restore it from a copy, or train again.")
    if not isinstance(config.get("task"), str):
        _damaged(config_file, 'it does not name a task ("task").', "Restore it from a copy, or train again.")
    certificate_file = path / CERTIFICATE
    certificate, episode = None, None
    if certificate_file.is_file():
        certificate = _json_object(certificate_file, certificate_file.read_bytes(), _how_to_rewrite(path))
        if certificate.get("episode") is not None:
            episode = _episode(certificate_file, certificate["episode"])
    film = path / FILM
    film = film.read_bytes() if film.is_file() else None
    rows = [dict.fromkeys(MEASURED) | row for row in read_metrics(path / METRICS)]
    return RunFiles(path, config, rows, certificate, episode, film)


def _episode(file: Path, data: Any) -> Episode:
    """Check the episode of a certificate and convert it to arrays."""
    try:
        rewards = np.asarray(data["rewards"], dtype=float)
        T = len(rewards)
        theta, actions = np.asarray(data["theta"]), np.asarray(data["actions"])
        policy = {name: np.asarray(data["policy"][name], dtype=float) for name in READERS}
        belief = {name: None if (b := data["belief"][name]) is None else np.asarray(b, dtype=float) for name in READERS}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        _damaged(file, f"its episode cannot be read ({type(error).__name__}: {error}).", _how_to_rewrite(file.parent))
    if problem := _misfit(T, theta, actions, policy, belief):
        _damaged(file, f"its episode of {T} rounds {problem}.", _how_to_rewrite(file.parent))
    theta = np.full(T + 1, theta) if theta.ndim == 0 else theta
    num_episodes = data.get("num_episodes", TRACED)
    return Episode(
        theta,
        data.get("opening"),
        actions,
        _symbols(data.get("observations"), T),
        _descriptions(data.get("said"), T),
        rewards,
        policy,
        belief,
        num_episodes,
    )


def _misfit(T: int, theta: np.ndarray, actions: np.ndarray, policy: dict, belief: dict) -> str | None:
    if T == 0:
        return "is empty"
    beliefs = [b for b in belief.values() if b is not None]
    for name, symbols, shapes, distributions in (
        ("actions", actions, [(T,)], list(policy.values())),
        ("theta", theta, [(), (T + 1,)], beliefs),
    ):
        if any(
            distribution.ndim != 2
            or distribution.shape != (T + 1, distributions[0].shape[1])
            or not np.isfinite(distribution).all()
            for distribution in distributions
        ):
            return f"needs {T + 1} rows of finite probabilities of {name}"
        top = min([distribution.shape[1] for distribution in distributions], default=np.inf)
        if symbols.dtype.kind not in "iu" or symbols.shape not in shapes or symbols.min() < 0 or symbols.max() >= top:
            return f"has {name} that are not indices, one a round"
    return None


def _symbols(data: Any, T: int) -> np.ndarray | None:
    if not (isinstance(data, list) and len(data) == T and all(isinstance(x, int) for x in data)):
        return None
    return np.asarray(data)


def _descriptions(data: Any, T: int) -> list[str] | None:
    fits = isinstance(data, list) and len(data) == T and all(isinstance(x, str) and len(x) < 100 for x in data)
    return data if fits and any(data) else None


def _json_object(file: Path, data: bytes, fix: str) -> dict[str, Any]:
    try:
        return json_object(data)
    except ValueError as error:
        _damaged(file, f"{error}.", fix)


def _number(file: Path, name: str, value: Any) -> float | None:
    if value is None or value == "inf":
        return None if value is None else math.inf
    if not is_quantity(value):
        _damaged(
            file,
            f'{name} is {value!r:.99}; it must be a number, null or "inf".',
            "Restore it from a copy, or write it again.",
        )
    return float(value)


def _how_to_rewrite(path: Path) -> str:
    return f"Write it again with: undelude certify {path}"


def _damaged(file: Path, problem: str, fix: str) -> NoReturn:
    raise ValueError(f"{file} is damaged: {problem} {fix}")
