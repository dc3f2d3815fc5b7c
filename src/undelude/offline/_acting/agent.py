"""An agent that acts in the induced process, if the diagnosis lets it."""

import warnings
from typing import Literal, Protocol, runtime_checkable

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent, ThompsonAgent
from undelude.offline._fitting.result import Fit

Resample = int | Literal["step", "episode", "belief"]
# Verdicts that speak against acting.
AGAINST = ("refuted", "not identified")


@runtime_checkable
class HasVerdict(Protocol):
    """A diagnosis: its verdict, and its reasons as text."""

    @property
    def verdict(self) -> str:
        """`"refuted"`, `"not identified"`, `"weak"` or `"identified"`."""
        ...


def agent(
    fit: Fit, diagnosis: HasVerdict | None = None, *, resample: Resample = "step", strict: bool = False
) -> AbstractAgent:
    """Return the exact agent of a fitted model, which reads its own actions as interventions.

        P(A_t+1 | do(a_1:t), o_1:t) = sum_theta P(theta | do(a_1:t), o_1:t) Q(A_t+1 | theta, e)

    A fit says nothing about identification: a model that the data do not identify, or refute, acts on inventions. Pass
    the diagnosis, so that its verdict decides: "refuted" and "not identified" are warnings with its reasons, or errors
    if `strict`; "weak" and "identified" pass. Without a diagnosis a warning says so.

    Args:
        fit: the fitted model.
        diagnosis: of the fit, `ud.offline.diagnose(fit, demos)`.
        resample: `"step"` samples the prediction above in each round, which is Thompson sampling with a new theta in
            each. A number of rounds, `"episode"` or `"belief"` holds a theta for longer (`ud.ThompsonAgent`), which
            pays if evidence comes only at the end of a course of action.
        strict: whether a verdict against acting, or the lack of a diagnosis, is an error.

    Raises:
        ValueError: with `strict`, the verdict is "refuted" or "not identified", or the diagnosis is missing;
            `resample` is out of range.

    Warns:
        UserWarning: the same without `strict`.

    >>> import undelude as ud
    >>> fit = ud.offline.fit(demos, key=jax.random.key(0))  # doctest: +SKIP
    >>> agent = ud.offline.agent(fit, ud.offline.diagnose(fit, demos), strict=True)  # doctest: +SKIP
    """
    check_verdict("agent", diagnosis, strict=strict)
    if resample == "step":
        return ExactAgent(fit.process)
    return ThompsonAgent(fit.process, resample)


def check_verdict(what: str, diagnosis: HasVerdict | None, *, strict: bool) -> None:
    """Warn of a verdict against acting, or of the lack of a diagnosis; raise if `strict`."""
    if diagnosis is None:
        message = (
            f"{what}: this fit has not been diagnosed, and the data may not identify it, or refute it: pass "
            "ud.offline.diagnose(fit, demos)."
        )
    elif diagnosis.verdict in AGAINST:
        reasons = str(diagnosis).strip().replace("\n", "\n    ")
        message = (
            f"{what}: the verdict on this fit is {diagnosis.verdict!r}, so do not rely on its actions.\n    {reasons}"
        )
    else:
        return
    if strict:
        raise ValueError(message)
    warnings.warn(message, stacklevel=3)
