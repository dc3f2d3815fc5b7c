"""The nats that an experiment is expected to tell about which of several hypotheses is right.

An action is worth the mutual information between the hypothesis and the outcome.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.experiment import Experiment, Trial
from undelude.offline._diagnosing.plans import NUM_DRAWN, Plan, enumerated, play
from undelude.offline._fitting.result import Fit
from undelude.offline._model.evidence import log_evidence
from undelude.offline._model.hypotheses import Hypotheses
from undelude.offline._model.process import as_demos


def compare_by_nats(fit: Fit, demos: Demos, plans: list[Plan], n: int, key: Key[Array, ""]) -> Experiment:
    """Return the plans by the mutual information between the hypothesis and the outcome of one episode."""
    assert fit.weights is not None
    weights = np.asarray([*fit.weights.values()])
    trials = []
    levels = demos.action.levels or ()
    for plan in plans:
        every = enumerated(fit.columns, plan)
        outcomes = every
        if outcomes is None:
            outcomes = as_demos(play(fit.process, plan, key=key, num_episodes=NUM_DRAWN), fit.columns)
        possible = [h for h, w in enumerate(weights) if w > 0]
        log_p = np.stack([log_evidence(_given(fit.process, h), outcomes) for h in possible], -1)
        # A drawn outcome stands for itself; an enumerated one, for its probability.
        with np.errstate(divide="ignore"):
            joint = np.exp(log_p + np.log(weights[possible]))
        total = joint.sum(-1)
        shares = total if every is not None else np.full(len(total), 1 / len(total))
        after = joint / np.where(total > 0, total, 1.0)[:, None]
        told = _entropy(weights[possible]) - float(shares @ np.stack([_entropy(x) for x in after]))
        trials.append(Trial(tuple(levels[a] for a in plan), max(told, 0.0), None))
    holds = fit.spec.latent[0].holds if isinstance(fit.spec.latent[0], Hypotheses) else "always"
    return Experiment(
        tuple(sorted(trials, key=lambda trial: -trial.score)),
        n,
        _entropy(weights),
        None,
        None,
        "nats",
        (
            "one of the hypotheses is right" if holds == "always" else "each episode has one of the hypotheses",
            "that the actions are taken whatever comes back, and theta is drawn as in the logs",
        ),
    )


def _given(process: InteractionProcess, hypothesis: int) -> InteractionProcess:
    """Return the mixed process with one hypothesis alone."""
    # Of `mixed_process`, which has finitely many thetas and numbers their hypotheses.
    thetas: Any = process.thetas
    prior: Any = process.prior
    own = jnp.where(thetas.hypothesis == hypothesis, prior, 0.0)
    return eqx.tree_at(lambda one: one.prior, process, own / own.sum())


def _entropy(p: Float[np.ndarray, " H"]) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())
