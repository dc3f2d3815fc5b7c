"""Starts: demonstrations far apart for expectation maximisation, clusters of them for fits by gradients."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude.offline._data.demos import Demos
from undelude.offline._model.contexts import column

# Parts of an episode, whose means describe a demonstration for the first clusters; rounds and starts of k-means.
PARTS, CLUSTER_ROUNDS, CLUSTER_STARTS = 3, 20, 5


def spread_seeds(rows: Float[np.ndarray, "n M"], runs: int, K: int, rng: np.random.Generator) -> Int[np.ndarray, "R K"]:
    """Draw K rows for each run, each with a probability proportional to its squared distance from those before.

    This is the seeding of k-means++ (Arthur and Vassilvitskii 2007). Seeds that are alike would start two values of
    theta at the same place, which the M-steps of a nearly deterministic expert never leave.
    """
    squares = (rows**2).sum(-1)
    seeds = np.empty((runs, K), np.int64)
    seeds[:, 0] = rng.integers(len(rows), size=runs)
    distance = np.full((runs, len(rows)), np.inf)
    for k in range(1, K):
        last = rows[seeds[:, k - 1]]
        distance = np.minimum(distance, squares + (last**2).sum(-1)[:, None] - 2 * last @ rows.T)
        cumulative = np.cumsum(np.maximum(distance, 1e-9), -1)
        draws = rng.random(runs)[:, None] * cumulative[:, -1:]
        seeds[:, k] = (cumulative < draws).sum(-1)
    return seeds


def clusters(demos: Demos, K: Sequence[int], key: Key[Array, ""]) -> Float[np.ndarray, "N R K"]:
    """Return first responsibilities for each run: k-means on the means of actions and fields in parts of an episode.

    A mean is in units of its standard error, as if rounds were independent: what is the same in all rounds of a
    demonstration, and differs between demonstrations, counts most.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    described = []
    for name in ["action", *demos.observations, *demos.hidden]:
        own = column(demos, name)
        x = own.values if own.levels is None else np.eye(len(own.levels), dtype=np.float32)[own.values]
        part = np.arange(demos.num_rounds)[None] * PARTS // demos.lengths[:, None]
        for i in range(PARTS):
            chosen = ((part == i) & (demos.demonstrated if name == "action" else demos.mask))[..., None]
            count = np.maximum(chosen.sum(1), 1)
            mean = (x * chosen).sum(1) / count
            if name == "action" and demos.has_interventions:
                # Without an action of a demonstrator, the mean of the others: no cluster for the experimenter's plans.
                own = chosen.any(1)[:, 0]
                mean[~own] = mean[own].mean(0, keepdims=True)
            squares = (((x - mean[:, None]) * chosen) ** 2).sum(1) / count**2
            described.append(mean / np.sqrt(np.maximum(squares.mean(0), 1e-6 * (x**2).mean())))
    x = np.concatenate(described, -1)
    found = np.zeros((demos.num_episodes, len(K), max(K)), np.float32)
    for run, k in enumerate(K):
        codes = _k_means(x, demos.labels, k, rng)
        smooth = np.full((demos.num_episodes, k), 0.1 / k, np.float32)
        smooth[np.arange(demos.num_episodes), codes] += 0.9
        found[:, run, :k] = smooth
    labelled = demos.labels >= 0
    found[labelled] = np.eye(max(K), dtype=np.float32)[demos.labels[labelled]][:, None]
    return found


def _k_means(x: np.ndarray, labels: np.ndarray, K: int, rng: np.random.Generator) -> np.ndarray:
    """Return the cluster of each row: the best of several starts from centres far from one another (k-means++)."""
    best, least = np.zeros(len(x), int), np.inf
    for _ in range(CLUSTER_STARTS):
        centres = np.zeros((0, x.shape[-1]))
        for k in range(K):
            weights = np.ones(len(x)) if len(centres) == 0 else _distances(x, centres).min(-1)
            total = weights.sum()
            new = x[rng.choice(len(x), p=weights / total)] if total > 0 else x[rng.integers(len(x))]
            own = labels == k
            centres = np.concatenate([centres, (x[own].mean(0) if own.any() else new)[None]])
        for _ in range(CLUSTER_ROUNDS):
            codes = _distances(x, centres).argmin(-1)
            for k in np.unique(codes):
                centres[k] = x[codes == k].mean(0)
        distances = _distances(x, centres)
        if distances.min(-1).sum() < least:
            best, least = distances.argmin(-1), distances.min(-1).sum()
    return best


def _distances(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the squared distance of each row from each centre."""
    found = (x**2).sum(-1)[:, None] + (centres**2).sum(-1)[None] - 2 * x @ centres.T
    return np.maximum(found, 0)
