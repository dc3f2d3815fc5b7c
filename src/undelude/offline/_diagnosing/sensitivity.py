"""What the agent of a fit would earn if a declared assumption were wrong.

For each assumption the model is fitted once more with that assumption relaxed, and the agent of the fit acts in it.
What it earns there, beside the agent of the relaxed model itself, is the price of the assumption if the relaxed model
is true.
"""

import dataclasses
import math
from typing import Any

import jax
from jaxtyping import Array, Key

from undelude._agents.exact import ExactAgent
from undelude._checks import check_count, check_key
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.passive import MAX_CELLS, MAX_STEPS, additions, at_most, bic
from undelude.offline._diagnosing.playing import Estimate, estimate, play
from undelude.offline._fitting.fit import refit
from undelude.offline._fitting.result import Fit
from undelude.offline._model.contexts import Given, Last
from undelude.offline._model.latent import Episode, Latent, Markov, latent_of
from undelude.offline._model.mechanisms import Factor, Gaussian, Table
from undelude.offline._model.spec import LatentSpec


@dataclasses.dataclass(frozen=True)
class Relaxed:
    """One assumption relaxed.

    Attributes:
        name: what holds in its place.
        K: the number of values of theta.
        bic: of the relaxed model less that of the fit; negative if the logs ask for the relaxation.
        tv: mean total variation between the two interventional policies, in histories of the fit's agent in the
            relaxed model, and its standard error.
        reward: per round, of the fit's agent in the relaxed model, and its standard error; None without a reward.
        attainable: of the relaxed model's own agent there, likewise. It imitates the demonstrators, so that it need not
            be the most that can be earned.
    """

    name: str
    K: int
    bic: float
    tv: Estimate
    reward: Estimate | None
    attainable: Estimate | None


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """The price of each declared assumption.

    Attributes:
        reward: per round, of the fit's agent in the fitted model, and its standard error; None without a reward.
        relaxed: the assumptions, relaxed one at a time.
        kept: the declared assumptions that hold in all rows, because they were not relaxed.
    """

    reward: Estimate | None
    relaxed: tuple[Relaxed, ...]
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        has_reward = self.reward is not None
        head = ["policies differ by", "BIC"] + (["agent's reward", "that model's own agent's"] if has_reward else [])
        rows = [("the agent, if an assumption is relaxed and the rest holds", head)]
        if self.reward is not None:
            rows.append(("  as declared", ["0.000", "+0", *[f"{self.reward[0]:.3f}"] * 2]))
        for x in self.relaxed:
            cells = [f"{x.tv[0]:.3f}", f"{x.bic:+.0f}"]
            cells += [f"{y[0]:.3f}" for y in (x.reward, x.attainable) if y is not None]
            rows.append((f"  {x.name}", cells))
        widths = [max(len(cells[i]) for _, cells in rows) for i in range(len(head))]
        width = max(len(name) for name, _ in rows)
        lines = [
            "  ".join([f"{name:{width}}", *(f"{x:>{w}}" for x, w in zip(cells, widths, strict=True))])
            for name, cells in rows
        ]
        return "\n".join([*lines, *(f"  not relaxed: {name}" for name in self.kept)])


def sensitivity(
    fit: Fit, demos: Demos, *, key: Key[Array, ""], starts: int = 4, num_episodes: int = 512
) -> Sensitivity:
    """Fit the model with each declared assumption relaxed, and let the agent of the fit act there.

    A relaxation with a much greater BIC is one that the logs speak against. One that they do not, and in which the
    agent earns much less than the relaxed model's own, is an assumption on which the decision to act rests.

    Args:
        fit: the fitted model; tables and normal mechanisms.
        demos: the logs; of large ones, a part is fitted.
        key: of the starts and of the episodes that are played.
        starts: of each fit.
        num_episodes: played in each model.
    """
    check_key(key)
    starts, num_episodes = check_count("starts", starts), check_count("num_episodes", num_episodes)
    key_few, key_fit, key_play = jax.random.split(key, 3)
    few = at_most(MAX_STEPS, demos, key=key_few)
    same = few is demos
    declared = fit if same else refit(few, fit.spec, latent_of(fit.latent, fit.K), key=key_fit, starts=starts)
    has_reward = fit.layout.reward is not None
    agent, relaxed = ExactAgent(fit.process), []
    for name, (spec, latent) in relaxations(fit, demos).items():
        fewer = isinstance(latent, Episode | Markov) and latent.K[0] < fit.K
        contains = None if fewer or (fit.latent == "Markov" and isinstance(latent, Episode)) else declared
        found = {"starts": starts, "demonstrator": fit.demonstrator, "contains": contains}
        other = refit(few, spec, latent, key=key_fit, **found)
        world, informed = other.process, ExactAgent(other.process)
        reward, tv = play(world, agent, informed, key_play, num_episodes)
        attainable = estimate(play(world, informed, informed, key_play, num_episodes)[0]) if has_reward else None
        relaxed.append(
            Relaxed(
                name,
                other.K,
                bic(other, few) - bic(declared, few),
                estimate(tv),
                estimate(reward) if has_reward else None,
                attainable,
            )
        )
    own = estimate(play(fit.process, agent, agent, key_play, num_episodes)[0]) if has_reward else None
    return Sensitivity(own, tuple(relaxed), not_relaxed(fit, demos))


def relaxations(fit: Fit, demos: Demos) -> dict[str, tuple[LatentSpec, Latent]]:
    """Return specs in which one assumption of the fit does not hold, by what holds in its place."""
    same, K = latent_of(fit.latent, fit.K), fit.K
    has_labels = bool((demos.labels >= 0).any())
    expert, *others = (f for f in fit.layout.factors if not f.field.startswith("opening "))
    found: dict[str, tuple[LatentSpec, Latent]] = {}
    if not has_labels:
        if K > 1:
            found[f"theta has {K - 1} value{'s' if K > 2 else ''}"] = fit.spec, latent_of(fit.latent, K - 1)
        found[f"theta has {K + 1} values"] = fit.spec, latent_of(fit.latent, K + 1)
        if K > 1 and fit.latent == "Episode":
            found["theta changes as a Markov chain"] = fit.spec, Markov(K)
        elif K > 1:
            found["theta lasts the episode"] = fit.spec, Episode(K)
    for name, extra in additions(expert, demos).items():
        found[f"the expert depends on {name}, too"] = _replaced(fit.spec, expert, others, expert, extra), same
    for factor in others:
        extra = _last_of(factor, demos)
        if extra:
            said = " and ".join(f"the last {x.name}" for x in extra)
            found[f"{factor.field} depends on {said}, too"] = _replaced(fit.spec, expert, others, factor, extra), same
    for factor in (expert, *others):
        if isinstance(factor.mechanism, Table | Gaussian) and factor.mechanism.tied and K > 1:
            spec = _replaced(fit.spec, expert, others, factor, (), tied=False)
            found[f"{'the expert' if factor is expert else factor.field} depends on theta, too"] = spec, same
    return found


def not_relaxed(fit: Fit, demos: Demos) -> tuple[str, ...]:
    """Return the declared assumptions that `relaxations` keeps, in words."""
    kept = []
    if (demos.labels >= 0).any():
        kept.append("the number of values of theta, and how long it lasts, because labels name its values")
    expert, *others = (f for f in fit.layout.factors if not f.field.startswith("opening "))
    reals = [name for name, c in {"action": demos.action, **demos.observations}.items() if c.levels is None]
    lasts = {name for name in ("action", *demos.observations) if name not in reals}
    for factor in (expert, *others):
        extra = [x for more in additions(expert, demos).values() for x in more] if factor is expert else []
        extra += [] if factor is expert else _last_of(factor, demos)
        wanted = lasts if factor is expert else lasts & {"action", factor.field}
        read = {x.name for x in (*extra, *(c.given for c in factor.contexts)) if isinstance(x, Last)}
        who = "the expert" if factor is expert else factor.field
        if not isinstance(factor.mechanism, Table | Gaussian):
            kept.append(f"{who} is a {type(factor.mechanism).__name__}")
        elif demos.num_rounds > 1 and wanted - read:
            why = "a hidden field" if factor.field in demos.hidden else "too many combinations for a table"
            names = " and ".join(f"the last {x}" for x in sorted(wanted - read))
            kept.append(f"{who} does not depend on {names} ({why})")
    if reals:
        kept.append(f"no mechanism depends on the last value of {' or '.join(reals)}, and real fields are normal")
    if demos.demonstrator is not None and not any(c.given == "demonstrator" for c in expert.contexts):
        kept.append("all demonstrators act alike")
    if demos.has_interventions:
        kept.append("interventions were chosen without knowing theta")
    if len(set(demos.lengths.tolist())) > 1:
        kept.append(f"ends of episodes say nothing about theta (rewards are of {demos.num_rounds} rounds)")
    return tuple(kept)


def _last_of(factor: Factor, demos: Demos) -> tuple[Last, ...]:
    """Return the last action and the last value of the field itself, as far as they are finite and not declared."""
    if demos.num_rounds < 2 or not isinstance(factor.mechanism, Table | Gaussian) or factor.field in demos.hidden:
        return ()
    columns = {"action": demos.action, factor.field: demos.observations[factor.field]}
    declared = [context.given for context in factor.contexts]
    new = [x for x, c in columns.items() if c.levels is not None and Last(x) not in declared]
    cells = factor.num_cells * math.prod(len(columns[x].levels or ()) + 1 for x in new)
    return tuple(Last(x) for x in new) if cells <= MAX_CELLS else ()


def _replaced(
    spec: LatentSpec, expert: Factor, others: list[Factor], chosen: Factor, extra: tuple[Given, ...], **changes: Any
) -> LatentSpec:
    """Return the spec with more contexts of one mechanism."""

    def of(factor: Factor) -> Any:
        if factor is not chosen:
            return factor.mechanism
        assert isinstance(factor.mechanism, Table | Gaussian)
        return dataclasses.replace(factor.mechanism, given=(*factor.mechanism.given, *extra), **changes)

    return LatentSpec(spec.latent, of(expert), [of(factor) for factor in others], reward=spec.reward)
