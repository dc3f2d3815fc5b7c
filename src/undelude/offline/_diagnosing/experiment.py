"""The next experiment: which actions, taken blindly at the start of new episodes, would narrow the bounds most.

For a fit with tables, the expected Fisher information of n episodes that begin with do(a) is added to that of the data:

    variance of a probe = g' (F + n I_a + L)^-1 g,      g its gradient, L the information of one observation

L gives every distribution of a table what one observation of it would tell. It keeps the variance of what no data
reach finite, about .5 squared for a probability, so that an action that a theta never takes comes before one that is
measured already. F is taken at the fit, whose pseudo-counts keep such a probability in the middle.

Where the best fit is at a boundary, F says too much. The models of the profile, which explain the data nearly as well,
then differ. If the variance between these, with the mean of their own, is greater, it counts instead. After the
experiment they weigh `exp(-n KL)`, with the divergence of their answers to do(a) from those of the one that is true.

For `Hypotheses`, an action is worth the mutual information between the hypothesis and the outcome.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._checks import check_count
from undelude._compiled import compiled, compiled_for
from undelude._distributions import Symbols
from undelude._process.episodes import AGENT, Episodes
from undelude._process.process import InteractionProcess
from undelude.offline._data.columns import Column, Level
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._diagnosing.nearby import Nearby, nearby, vector
from undelude.offline._diagnosing.probes import Probe, default_probes
from undelude.offline._diagnosing.profile import information
from undelude.offline._fitting.fit import Fit
from undelude.offline._model.evidence import log_evidence
from undelude.offline._model.hypotheses import Hypotheses
from undelude.offline._model.mechanisms import Table
from undelude.offline._model.process import ObservedFields, as_demos

# Outcomes of a plan that are enumerated at most, and that are drawn if there are more.
MAX_ENUMERATED, NUM_DRAWN = 256, 512
# Plans that are compared by default, at most.
MAX_PLANS = 64
# Nats below the best likelihood at which another model still counts.
DELTA = 2.0
# Information of a direction that no data and no prior reach.
LEAST_INFORMATION = 1e-6
# The share of the error that is left by a plan that is hardly worth its episodes.
USELESS = 0.9
# Rows of the table in the text.
SHOWN = 12

Plan = tuple[int, ...]


@dataclass(frozen=True)
class Trial:
    """One plan, and what it is expected to tell.

    Attributes:
        actions: the actions of the first rounds, in order.
        score: the standard error that is expected after the experiment, the root of the mean variance of all probes;
            for `Hypotheses`, the nats about the hypothesis that one episode tells.
        widest: the standard error then expected of the probe that is the least known now; None for `Hypotheses`.
    """

    actions: tuple[Level, ...]
    score: float
    widest: float | None


@dataclass(frozen=True)
class Experiment:
    """Plans of first actions, the most telling first.

    Attributes:
        trials: in this order.
        num_episodes: n, the new episodes that would begin with a plan.
        now: the score before the experiment; for `Hypotheses`, the nats that are missing: the entropy of the weights.
        probe: the name of the probe that is the least known now; None for `Hypotheses`.
        probe_now: its standard error now, between models too; None for `Hypotheses`.
        measure: "standard error", of which less is better, or "nats", of which more is better.
        assumptions: what the numbers rest on.
    """

    trials: tuple[Trial, ...]
    num_episodes: int
    now: float
    probe: str | None
    probe_now: float | None
    measure: str
    assumptions: tuple[str, ...]

    @property
    def actions(self) -> tuple[Level, ...]:
        """The first plan: the actions to take at the start of the next episodes."""
        return self.trials[0].actions

    def __str__(self) -> str:
        """Return the plans as a table."""
        names = [_said(trial.actions) for trial in self.trials[:SHOWN]]
        width = max(map(len, [*names, "as it is"]))
        if self.measure == "nats":
            lines = [f"nats about the hypothesis that one episode tells; {self.now:.3f} are missing"]
            lines += [f"  {name:{width}} {x.score:8.4f}" for name, x in zip(names, self.trials, strict=False)]
        else:
            lines = [
                f"standard errors expected after {self.num_episodes} new episodes that begin with it",
                f"  {'':{width}} {'all probes':>11} {self.probe}",
                f"  {'as it is':{width}} {self.now:11.3f} {self.probe_now or 0.0:.3f}",
            ]
            lines += [
                f"  {name:{width}} {x.score:11.3f} {x.widest or 0.0:.3f}"
                for name, x in zip(names, self.trials, strict=False)
            ]
            if self.trials[0].score > USELESS * self.now:
                lines.append("  no plan narrows this by a tenth: more episodes are needed")
        if len(self.trials) > SHOWN:
            lines.append(f"  (the best {SHOWN} of {len(self.trials)} plans)")
        return "\n".join([*lines, *(f"assuming {one}" for one in self.assumptions)])


def _said(actions: Sequence[Level]) -> str:
    """Return a plan in words; repetitions are counted."""
    runs = [(action, len(list(same))) for action, same in itertools.groupby(actions)]
    if len(runs) > 6:
        return f"do({', '.join(f'{action}' for action, _ in runs[:5])}, ...) for {len(actions)} rounds"
    return f"do({', '.join(f'{action}' if count == 1 else f'{count} x {action}' for action, count in runs)})"


def next_experiment(
    fit: Fit,
    demos: Demos,
    *,
    num_episodes: int = 50,
    num_rounds: int = 1,
    plans: Sequence[Sequence[Level]] | None = None,
    probes: Sequence[Probe] | None = None,
    key: Key[Array, ""] | None = None,
) -> Experiment:
    """Name the actions whose outcomes would narrow down what the agent needs to know the most.

    A plan is taken blindly at the start of new episodes, whatever comes back. Play it, mark its rounds as intervened,
    join the episodes to the logs with `Demos.concat`, and fit again.

    The numbers are asymptotic, and relative to the fit: they assume that the declared model is right. They rank
    experiments; `diagnose` the fit to the joined data for what is then known.

    Args:
        fit: of `fit`.
        demos: the demonstrations that it was fitted to.
        num_episodes: n, the new episodes.
        num_rounds: of a plan. One round tells the effect of an action, averaged over theta. Several rounds also tell
            which effects go together, which the policy after a history needs.
        plans: the plans to compare, as levels of the action; by default each action throughout, each two in turn, and
            all in turn.
        probes: the numbers to learn, as in `diagnose`, whose default they have. `Hypotheses` have none.
        key: of the rivals and of drawn outcomes; always the same by default.

    Returns:
        The plans, the most telling first.

    Raises:
        ValueError: the fit is of other data, or has a `Network`; a plan has an action that is not a level; actions are
            real; or probes are needed, and not given.

    >>> import undelude as ud
    >>> fit = ud.offline.fit(demos, key=jax.random.key(0))  # doctest: +SKIP
    >>> print(ud.offline.next_experiment(fit, demos, num_episodes=100))  # doctest: +SKIP
    """
    if demos.digest() != fit.digest:
        raise ValueError(
            f"next_experiment: the fit is of other data than {demos!r}: pass the demonstrations that it was fitted to."
        )
    num_episodes, num_rounds = check_count("num_episodes", num_episodes), check_count("num_rounds", num_rounds)
    levels = demos.action.levels
    if levels is None:
        raise ValueError("next_experiment: actions are real, and plans are compared of finitely many: bin the action.")
    codes = _default_plans(len(levels), num_rounds) if plans is None else _as_codes(plans, levels)
    key = jax.random.key(0) if key is None else key
    if fit.weights is not None:
        if probes is not None:
            raise ValueError("next_experiment: Hypotheses have no probes: their weights are what is to be learned.")
        return _between_hypotheses(fit, demos, codes, num_episodes, key)
    if fit.layout.networks:
        raise ValueError(
            "next_experiment: the fit has a Network, and the information is that of tables and normal fields alone. "
            "Bin the fields, and fit tables to them."
        )
    key_probes, key_rivals, key_outcomes = jax.random.split(key, 3)
    if probes is None and not all(isinstance(spec, Symbols) for spec in fit.process.specs):
        raise ValueError(
            'next_experiment: observations are real, so that there are no default probes: give probes=[Probe("name", '
            "function of the process)]."
        )
    chosen = list(default_probes(fit, key=key_probes) if probes is None else probes)
    if not chosen:
        raise ValueError("next_experiment: probes is empty; name at least one number to learn.")
    return _of_tables(fit, demos, chosen, codes, num_episodes, key_rivals, key_outcomes)


def _default_plans(num_actions: int, num_rounds: int) -> list[Plan]:
    """Return each action throughout, each two in turn, and all in turn."""
    sets: list[Plan] = [(a,) for a in range(num_actions)]
    if num_rounds > 1 and num_actions * (num_actions + 1) // 2 < MAX_PLANS:
        sets += itertools.combinations(range(num_actions), 2)
    if num_actions > 2 and num_rounds > 1:
        sets.append(tuple(range(num_actions)))
    return [tuple(itertools.islice(itertools.cycle(one), num_rounds)) for one in sets]


def _as_codes(plans: Sequence[Sequence[Level]], levels: tuple[Level, ...]) -> list[Plan]:
    found = []
    for plan in plans:
        actions = (plan,) if isinstance(plan, str) else tuple(plan)
        unknown = [x for x in actions if x not in levels]
        if not actions or unknown:
            what = f"the action {unknown[0]!r:.50}" if unknown else "no action"
            raise ValueError(f"next_experiment: a plan has {what}; the actions are {list(levels)[:20]}.")
        found.append(tuple(levels.index(x) for x in actions))
    if not found:
        raise ValueError("next_experiment: plans is empty; leave it out for each action.")
    return found


def play(process: InteractionProcess, plan: Sequence[int], *, key: Key[Array, ""], num_episodes: int) -> Episodes:
    """Return episodes of a process in which the actions of a plan are taken, one a round, and nothing else."""
    return _play(process, jnp.asarray(plan, jnp.int32), jax.random.split(key, num_episodes))


@compiled
def _play(process: InteractionProcess, plan: Int[Array, " L"], keys: Key[Array, " B"]) -> Episodes:
    def one(key: Array) -> Episodes:
        key_begin, key_rounds = jax.random.split(key)
        state, opening = process.begin(key_begin)

        def round(state: object, x: tuple[Array, Array]) -> tuple[object, tuple[Array, Array]]:
            later, o, reward, _ = process.respond(state, *x)  # type: ignore[arg-type]
            return later, (o, reward)

        _, (observations, reward) = jax.lax.scan(round, state, (plan, jax.random.split(key_rounds, len(plan))))
        yes = jnp.ones(len(plan), bool)
        return Episodes(
            theta=process.theta(state) if not process.theta_changes else None,
            opening=opening,
            actions=plan,
            observations=observations,
            executor=jnp.full(len(plan), AGENT),
            intervened=yes,
            expert=None,
            expert_actions=None,
            reward=reward,
            mask=yes,
        )

    return jax.vmap(one)(keys)


def _enumerated(columns: Demos, plan: Plan) -> Demos | None:
    """Return every outcome of a plan once, or None if there are too many, or infinitely many."""
    fields = ObservedFields.of(columns)
    if fields.reals or columns.opening or fields.num_symbols ** len(plan) > MAX_ENUMERATED:
        return None
    symbols = np.stack([x.ravel() for x in np.indices((fields.num_symbols,) * len(plan))], -1)
    shape = symbols.shape
    values = fields.values(symbols)
    return Demos(
        Column("action", np.broadcast_to(np.asarray(plan, np.int32), shape), columns.action.levels),
        {name: Column(name, np.asarray(values[name], np.int32), c.levels) for name, c in columns.observations.items()},
        {},
        {},
        np.full(len(symbols), len(plan), np.int32),
        np.full(len(symbols), -1, np.int32),
        None,
        "plans",
        np.ones(shape, bool),
    )


# Tables ---------------------------------------------------------------------------------------------------------------


def _of_tables(
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
        return ((self.jacobian @ vectors) ** 2 / np.maximum(eigenvalues, LEAST_INFORMATION)).sum(-1)


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
    every = _enumerated(fit.columns, plan)
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


# Hypotheses -----------------------------------------------------------------------------------------------------------


def _between_hypotheses(fit: Fit, demos: Demos, plans: list[Plan], n: int, key: Key[Array, ""]) -> Experiment:
    """Return the plans by the mutual information between the hypothesis and the outcome of one episode."""
    assert fit.weights is not None
    weights = np.asarray([*fit.weights.values()])
    trials = []
    levels = demos.action.levels or ()
    for plan in plans:
        every = _enumerated(fit.columns, plan)
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
    own = jnp.where(process.thetas.hypothesis == hypothesis, process.prior, 0.0)  # type: ignore[union-attr]
    return eqx.tree_at(lambda one: one.prior, process, own / own.sum())


def _entropy(p: Float[np.ndarray, " H"]) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())
