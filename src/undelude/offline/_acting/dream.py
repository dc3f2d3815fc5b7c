"""Counterfactual teaching inside the induced process: a sequence model of your own becomes the agent."""

from typing import Literal, TypedDict, Unpack

import optax
from jaxtyping import Array, Key

from undelude._agents.base import AbstractAgent
from undelude._teaching.loop import OnLog, Run, teach
from undelude._teaching.settings import Behaviour, Blind, Counterfactual
from undelude._teaching.updates import TeachingState
from undelude._types import Target
from undelude.offline._acting.agent import HasVerdict, check_verdict
from undelude.offline._fitting.result import Fit


class TeachOptions(TypedDict, total=False):
    """The options of `ud.teach` that pass through."""

    batch_size: int
    microbatch_size: int | None
    reuse: int
    learning_rate: float
    optimizer: optax.GradientTransformation | None
    state: TeachingState | None
    log_every: int
    on_log: OnLog | None


def dream(
    fit: Fit,
    agent: AbstractAgent,
    diagnosis: HasVerdict | None = None,
    *,
    key: Key[Array, ""],
    steps: int = 2000,
    behaviour: Behaviour | Literal["own"] = "own",
    target: Target = "posterior",
    strict: bool = False,
    **options: Unpack[TeachOptions],
) -> Run:
    """Teach `agent` to act in the induced process: counterfactual teaching without the world or the demonstrators.

    The agent acts in the induced process, its actions are marked do, and it learns `Q(A_t+1 | do(a_1:t), o_1:t)` of the
    fitted model. It can be no better than the fit: certify the run's agent on `fit.process` to see how well it learned,
    and diagnose the fit to see whether that is worth anything.

    Args:
        fit: the fitted model.
        agent: to start from, made for `fit.process`.
        diagnosis: of the fit; its verdict is treated as in `ud.offline.agent`.
        key: for all random draws.
        steps: updates.
        behaviour: the policy that acts in the dreams: the agent's `"own"`, `"uniform"`, a distribution or another agent
            (`ud.Blind`). All have the same limit, because none is shown theta. An agent with a truncated memory needs
            its own.
        target: what the prediction of the action is scored against: the exact `"posterior"` predictive, which has the
            least noise; the expert's `"distribution"` for the theta of the episode, or a `"sample"` of it. These are
            the paper's signal and have the same limit.
        strict: as in `ud.offline.agent`.
        **options: of `ud.teach`: batch_size, microbatch_size, reuse, learning_rate, optimizer, state, log_every,
            on_log.

    Returns:
        The run of `ud.teach`.

    Raises:
        ValueError, TypeError, NotFinite, MemoryError: as `ud.teach`; with `strict`, a verdict against acting.

    Warns:
        UserWarning: as `ud.offline.agent` and `ud.teach`.

    >>> import undelude as ud
    >>> student = ud.TransformerAgent(fit.process, key=jax.random.key(1))  # doctest: +SKIP
    >>> run = ud.offline.dream(fit, student, diagnosis, key=jax.random.key(2))  # doctest: +SKIP
    >>> report = ud.certify(fit.process, run.agent, key=jax.random.key(3))  # doctest: +SKIP
    """
    check_verdict("dream", diagnosis, strict=strict)
    teaching = Counterfactual(target) if isinstance(behaviour, str) and behaviour == "own" else Blind(behaviour, target)
    return teach(fit.process, agent, teaching, key=key, steps=steps, **options)
