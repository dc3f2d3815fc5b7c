"""The round in which an agent's policy is farthest from the interventional answer."""

import numpy as np
from jaxtyping import Float

from undelude._certificate.certificate import Certificate
from undelude._certificate.quantity import Quantity

# Most episodes whose rounds are compared.
MAX_EPISODES = 1024
# The least share of episodes that must have a round for it to count.
MIN_SHARE = 0.1


def worst_round(report: Certificate) -> tuple[Quantity, int | None]:
    """Return the greatest mean distance over the rounds of a certificate, and its round, counted from 1.

        max_t E KL(Q(A_t | do(a), o) || P(A_t | m))    nats

    Args:
        report: from `ud.certify`, in the same process of Python.

    Returns:
        The distance and its round; none of both, with the reason, if `action_kl_do` was not measured.
    """
    distance = report.quantities["action_kl_do"]
    if distance.value is None:
        return Quantity(why_none=distance.why_none), None
    assert report.measurement is not None
    assert report.measurement.kl_by_round is not None
    return worst_of(report.measurement.kl_by_round)


def worst_of(kl: Float[np.ndarray, "B T"]) -> tuple[Quantity, int]:
    """Return the mean of the worst round, and its number.

    The greatest of many noisy means is too large on average. So the even episodes, of at most 1,024, choose the round,
    and the odd ones measure it.

    Args:
        kl: the distances, nats; NaN in rounds that do not exist.
    """
    kl = np.asarray(kl[:MAX_EPISODES], np.float64)
    chooser, judge = (kl[0::2], kl[1::2]) if len(kl) > 1 else (kl, kl)
    counts = (~np.isnan(chooser)).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.nansum(chooser, 0) / counts
    enough = (counts >= max(1, MIN_SHARE * len(chooser))) & ~np.isnan(judge).all(0)
    worst = int(np.where(enough, means, -np.inf).argmax())
    found = judge[:, worst]
    return Quantity.over_episodes(found[~np.isnan(found)]), worst + 1
