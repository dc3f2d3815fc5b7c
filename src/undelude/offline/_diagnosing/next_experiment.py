"""The next experiment: which actions, taken blindly at the start of new episodes, would narrow the bounds most."""

import itertools
from collections.abc import Sequence

import jax
from jaxtyping import Array, Key

from undelude._checks import check_count
from undelude._distributions import Symbols
from undelude.offline._data.columns import Level
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.expected_errors import compare_by_errors
from undelude.offline._diagnosing.expected_nats import compare_by_nats
from undelude.offline._diagnosing.experiment import Experiment
from undelude.offline._diagnosing.plans import Plan
from undelude.offline._diagnosing.probes import Probe, default_probes
from undelude.offline._fitting.result import Fit

# Plans that are compared by default, at most.
MAX_PLANS = 64


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
        return compare_by_nats(fit, demos, codes, num_episodes, key)
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
    return compare_by_errors(fit, demos, chosen, codes, num_episodes, key_rivals, key_outcomes)


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
