"""The standard errors that are expected after an experiment, of a fit with tables.

The expected Fisher information of n episodes that begin with do(a) is added to that of the data:

    variance of a probe = g' (F + n I_a + L)^-1 g,      g its gradient, L the information of one observation

L gives every distribution of a table what one observation of it would tell. It keeps the variance of what no data
reach finite, about .5 squared for a probability, so that an action that a theta never takes comes before one that is
measured already. F is taken at the fit, whose pseudo-counts keep such a probability in the middle.

Where the best fit is at a boundary, F says too much. The models of the profile, which explain the data nearly as well,
then differ. If the variance between these, with the mean of their own, is greater, it counts instead. After the
experiment they weigh `exp(-n KL)`, with the divergence of their answers to do(a) from those of the one that is true.
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._compiled import compiled_for
from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.experiment import Experiment, Trial
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._diagnosing.nearby import Nearby, nearby, vector
from undelude.offline._diagnosing.plans import NUM_DRAWN, Plan, enumerated, play
from undelude.offline._diagnosing.probes import Probe
from undelude.offline._diagnosing.profile import information
from undelude.offline._fitting.result import Fit
from undelude.offline._model.mechanisms import Table
from undelude.offline._model.process import as_demos

# Nats below the best likelihood at which another model still counts.
DELTA = 2.0
# Information of a direction that no data and no prior reach.
MIN_INFORMATION = 1e-6


def compare_by_errors(
    fit: Fit,
    demos: Demos,
    probes: list[Probe],
    plans: list[Plan],
    n: int,
    key_rivals: Key[Array, ""],
    key_outcomes: Key[Array, ""],
) -> Experiment:
    """Return the plans by the mean variance of the probes that is expected after them."""
    values = tuple(probe.value for probe in probes)
    with jax.enable_x64(True):
        near = nearby(fit, demos, values, DELTA, key_rivals)
        _, first = np.unique(np.asarray(near.xs), axis=0, return_index=True)
        xs = jnp.concatenate([jnp.asarray(near.likelihood.pack(fit.fitted))[None], near.xs[np.sort(first)]])
        models = [_Model.of(fit, near, values, x) for x in xs]
        now = _variances(models, None, 0)
        after = []
        for plan in plans:
            outcomes = [_outcomes(fit, near, x, plan, key_outcomes) for x in xs]
            after.append(_variances(models, _Told.of(xs, outcomes), n))
    worst = int(np.argmax(now))
    levels = demos.action.levels or ()
    trials = [
        Trial(tuple(levels[a] for a in plan), float(np.sqrt(v.mean())), float(np.sqrt(v[worst])))
        for plan, v in zip(plans, after, strict=True)
    ]
    return Experiment(
        tuple(sorted(trials, key=lambda trial: trial.score)),
        n,
        float(np.sqrt(now.mean())),
        probes[worst].name,
        float(np.sqrt(now[worst])),
        "standard error",
        (
            "the declared model, and that the fit and its rivals are near the truth",
            "large numbers of episodes: the errors are those of the delta method",
            "that the actions are taken whatever comes back, and theta is drawn as in the logs",
            *([f"{', '.join(f.field for f in fit.layout.tied)} known as fitted (tied)"] if fit.layout.tied else []),
            *([f"that {', '.join(demos.hidden)} will not be recorded (hidden)"] if demos.hidden else []),
        ),
    )


@dataclass(frozen=True)
class _Model:
    """One model near the best.

    Attributes:
        f: the probes.
        jacobian: their gradients in the basis.
        known: the information of the data, and of one observation of each distribution, in the basis.
        basis: orthonormal directions that change some probability.
    """

    f: Float[np.ndarray, " probes"]
    jacobian: Float[np.ndarray, "probes Q"]
    known: Float[np.ndarray, "Q Q"]
    basis: Float[np.ndarray, "P Q"]

    @classmethod
    def of(cls, fit: Fit, near: Nearby, values: tuple, x: Float[Array, " P"]) -> "_Model":
        f, jacobian, fisher = _slopes(near.likelihood, values, fit.process, near.fixed, x)
        # Directions that change no probability are left out.
        gauges = near.likelihood.gauges
        basis = np.linalg.svd(gauges)[0][:, gauges.shape[1] :]
        known = np.asarray(fisher) + _of_one_observation(near.likelihood, np.asarray(x))
        return cls(np.asarray(f), np.asarray(jacobian) @ basis, basis.T @ known @ basis, basis)

    def variances(self, added: Float[np.ndarray, "P P"] | float) -> Float[np.ndarray, " probes"]:
        """Return the variances of the probes by the delta method."""
        own = self.known if isinstance(added, float) else self.known + self.basis.T @ added @ self.basis
        eigenvalues, vectors = np.linalg.eigh(own)
        return ((self.jacobian @ vectors) ** 2 / np.maximum(eigenvalues, MIN_INFORMATION)).sum(-1)


@compiled_for(runs=4)
def _slopes(likelihood: Likelihood, values: tuple, process: InteractionProcess, fixed: dict, x: Array) -> tuple:
    f = vector(likelihood, values, process, fixed)
    return f(x), jax.jacrev(f)(x), information(likelihood, x)


def _of_one_observation(likelihood: Likelihood, x: Float[np.ndarray, " P"]) -> Float[np.ndarray, "P P"]:
    """Return the Fisher information of one observation of each distribution."""
    blocks = []
    for _, factor, part in likelihood.parts(jnp.asarray(x)):
        if factor is None or isinstance(factor.mechanism, Table):
            for logits in np.asarray(part):
                p = np.exp(logits - logits.max())
                p = p / p.sum()
                blocks.append(np.diag(p) - np.outer(p, p))
        else:  # Of a normal distribution: the mean, and the logarithm of the scale.
            for _, log_scale in np.asarray(part).reshape(-1, 2):
                blocks.append(np.diag([np.exp(-2 * log_scale), 2.0]))
    total = np.zeros((len(x), len(x)))
    start = 0
    for block in blocks:
        own = slice(start, start + len(block))
        total[own, own] = block
        start += len(block)
    return total


def _outcomes(fit: Fit, near: Nearby, x: Float[Array, " P"], plan: Plan, key: Key[Array, ""]) -> Likelihood:
    """Return the likelihood of the outcomes of one episode of a plan; the weights are their probabilities."""
    markov = near.likelihood.markov
    every = enumerated(fit.columns, plan)
    if every is not None:
        found = Likelihood.of(fit.layout, every, near.likelihood.K, markov=markov)
        return eqx.tree_at(lambda one: one.weights, found, found.weights * jnp.exp(_rowwise(found, x)))
    process = near.likelihood.process(x, fit.process, near.fixed)
    drawn = as_demos(play(process, plan, key=key, num_episodes=NUM_DRAWN), fit.columns)
    found = Likelihood.of(fit.layout, drawn, near.likelihood.K, markov=markov)
    return eqx.tree_at(lambda one: one.weights, found, found.weights / NUM_DRAWN)


@compiled_for(runs=100)
def _rowwise(likelihood: Likelihood, x: Float[Array, " P"]) -> Float[Array, " n"]:
    return likelihood.rowwise(x)


@compiled_for(runs=100)
def _information(likelihood: Likelihood, x: Float[Array, " P"]) -> Float[Array, "P P"]:
    return information(likelihood, x)


@dataclass(frozen=True)
class _Told:
    """What one episode of a plan tells.

    Attributes:
        information: of each model about its own parameters.
        divergence: `[S, S]`, nats from the outcomes under the first model to those under the second.
    """

    information: list[Float[np.ndarray, "P P"]]
    divergence: Float[np.ndarray, "S S"]

    @classmethod
    def of(cls, xs: Float[Array, "S P"], outcomes: list[Likelihood]) -> "_Told":
        S = len(xs)
        divergence = np.zeros((S, S))
        for s, found in enumerate(outcomes):
            weights = np.asarray(found.weights)
            rows = np.stack([np.asarray(_rowwise(found, x)) for x in xs])
            divergence[s] = np.maximum(((rows[s] - rows) * weights).sum(-1), 0.0)
        return cls([np.asarray(_information(o, x)) for o, x in zip(outcomes, xs, strict=True)], divergence)


def _variances(models: list[_Model], told: _Told | None, n: int) -> Float[np.ndarray, " probes"]:
    """Return the variance of each probe: in the first model, the fit, or of the others and between them, if greater."""
    added = [0.0] * len(models) if told is None else [n * one for one in told.information]
    own, *others = (model.variances(x) for model, x in zip(models, added, strict=True))
    f = np.stack([model.f for model in models[1:]])
    divergence = np.zeros((len(f),) * 2) if told is None else told.divergence[1:, 1:]
    weights = np.exp(-n * divergence)
    weights = weights / weights.sum(-1, keepdims=True)  # [true model, believed model]
    between = weights @ f**2 - (weights @ f) ** 2
    return np.maximum(own, np.mean(others, 0) + np.maximum(between, 0.0).mean(0))
