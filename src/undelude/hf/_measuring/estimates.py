"""Entropies and divergences of a model's answers, from probabilities or from samples."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import digamma


@dataclasses.dataclass(frozen=True)
class Answers:
    """The distribution of an answer: from log-probabilities, or from samples.

    Attributes:
        probs: `[K]`, which sum to one over the answers that count; NaN if none was given.
        coverage: the probability of these answers, or the fraction of samples that gave one of them.
        num_samples: of samples that gave one of the answers; None if `probs` are not estimated.
        texts: the distinct texts of the samples, to which `probs` belong, if no answers were given.
    """

    probs: Float[np.ndarray, " K"]
    coverage: float = 1.0
    num_samples: int | None = None
    texts: tuple[str, ...] = ()

    @classmethod
    def from_log_probs(cls, log_probs: Float[np.ndarray, " K"]) -> "Answers":
        """Return the answers whose probabilities may sum to less than one."""
        p = np.exp(np.asarray(log_probs, float))
        total = float(p.sum())
        return cls(p / total if total > 0 else np.full(len(p), np.nan), total)

    @classmethod
    def from_samples(cls, indices: Sequence[int | None], num_answers: int) -> "Answers":
        """Return the frequencies of sampled answers; None stands for a text that gives none of them."""
        counts = np.bincount(np.array([i for i in indices if i is not None], int), minlength=num_answers).astype(float)
        n = int(counts.sum())
        probs = counts / n if n else np.full(num_answers, np.nan)
        return cls(probs, n / len(indices) if indices else 0.0, n)

    @classmethod
    def from_texts(cls, texts: Sequence[str]) -> "Answers":
        """Return the frequencies of the distinct texts among samples."""
        distinct = tuple(dict.fromkeys(text for text in texts if text))
        indices = [distinct.index(text) if text else None for text in texts]
        return dataclasses.replace(cls.from_samples(indices, len(distinct)), texts=distinct)


def mutual_information(weights: Answers, given: Sequence[Answers | None]) -> float:
    """Return `I(A; Y) = H(Y) - E_a H(Y | a)` in nats, corrected for bias if it is estimated by samples.

    The plug-in estimate from n samples is too large, by about `(K - 1) / 2n`. Here each `H(Y | a)` is estimated as in
    `entropy`, and `H(Y)` is raised by half of `sum_y Var(p(y)) / p(y)`, the first term of its bias. The result may be
    slightly negative.

    Args:
        weights: the distribution of A.
        given: the distribution of Y for each value of A; None if it was not asked for: the value is left out.
    """
    kept = [a for a, answers in enumerate(given) if answers is not None and weights.probs[a] > 0]
    answers = [x for a in kept if (x := given[a]) is not None]
    if not answers:
        return np.nan
    w, p = weights.probs[kept] / weights.probs[kept].sum(), np.stack([x.probs for x in answers])
    mean = w @ p
    # The variances of `p` and of `w @ p`, from the samples of Y and of A.
    variance = np.stack([_variance(x) for x in answers])
    of_mean = w**2 @ variance
    if weights.num_samples is not None and weights.num_samples > 1:
        between = w @ (p**2 - variance) - (mean**2 - of_mean)
        of_mean = of_mean + between / (weights.num_samples - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correction = np.where(mean > 0, of_mean / mean, 0.0).sum() / 2
    return float(_entropy(mean) + correction - w @ np.array([entropy(x) for x in answers]))


def entropy(answers: Answers) -> float:
    """Return the entropy in nats; from samples, by the estimator of Grassberger and Schürmann.

    Its bias is smaller than that of other simple estimators: with 10 samples of 5 answers below 0.005 if they are
    equally probable, and about -0.06 if one of them has 0.9 (Schürmann, 2004, cond-mat/0403192).
    """
    n = answers.num_samples
    if n is None:
        return float(_entropy(answers.probs))
    if n == 0:
        return np.nan
    counts = np.rint(n * answers.probs[answers.probs > 0])
    g = digamma(counts) + (-1.0) ** counts * (digamma((counts + 1) / 2) - digamma(counts / 2)) / 2
    return float(digamma(n) - counts @ g / n)


def kl(p: Answers, q: Answers) -> float:
    """Return `KL(p || q)` in nats; NaN if one of them is estimated by samples, which allows no finite estimate."""
    if p.num_samples is not None or q.num_samples is not None:
        return np.nan
    return float(_kl(p.probs, q.probs))


def agreement(answers: Answers) -> float:
    """Return `sum_y p(y)^2`: how probable it is that two answers are the same; without bias from samples."""
    n, p = answers.num_samples, answers.probs
    if n is None:
        return float(p @ p)
    return float(p @ (n * p - 1) / (n - 1)) if n > 1 else np.nan


def calibration_gap(answers: Answers, truth: int) -> float:
    """Return the log-loss of the truth minus the entropy, in nats; NaN if the answers are estimated by samples."""
    if answers.num_samples is not None:
        return np.nan
    p = answers.probs
    with np.errstate(divide="ignore"):
        return float(-np.log(p[truth]) - _entropy(p))


def _kl(p: Float[np.ndarray, "*n K"], q: Float[np.ndarray, "*n K"]) -> Float[np.ndarray, "*n"]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(p > 0, p * (np.log(p) - np.log(q)), 0.0).sum(-1))


def _entropy(p: Float[np.ndarray, " K"]) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(-np.where(p > 0, p * np.log(p), 0.0).sum())


def _variance(answers: Answers) -> Float[np.ndarray, " K"]:
    """Return the variance of each estimated probability: 0 if nothing was estimated."""
    p, n = answers.probs, answers.num_samples
    return np.zeros(len(p)) if n is None else p * (1 - p) / (n - 1) if n > 1 else np.full(len(p), np.nan)
