"""Logs of nine kinds: the interval of each test of `diagnose` for an effect, and how often it holds the truth.

python studies/offline_cases.py                       all parts, about 20 minutes
python studies/offline_cases.py --parts learners      one part; the others keep their stored results
python studies/offline_cases.py --data-sets 1         a trial run, which is printed

"cases" bounds one effect in each kind of logs. "starts" counts how often the range of the starts and the profile hold
the truth, with fewer logs. "learners" has demonstrators who know nothing hidden, and learn.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store
from jaxtyping import Array, Float

import undelude as ud
from undelude import offline
from undelude._compiled import compiled_for
from undelude.offline import Demos, Episode, LatentSpec, Probe
from undelude.offline._diagnosing.likelihood import Likelihood
from undelude.offline._diagnosing.nearby import vector
from undelude.offline._diagnosing.probes import Effect
from undelude.offline._diagnosing.profile import SLACK, extremes, polish
from undelude.offline._fitting.runs import run_em

NUM_DEMOS, STARTS, DELTA = 1000, 10, 2.0
# Data sets that share compiled programs: those of more would use up the memory maps of the process.
KEPT = 8


def logs(process: ud.InteractionProcess, num_demos: int, seed: int, agent: Any = None) -> Demos:
    """Return demonstrations of the process's expert, or of an agent in its place."""
    executor = "expert" if agent is None else "agent"
    episodes = ud.rollout(process, agent, key=jax.random.key(seed), num_episodes=num_demos, executor=executor)
    return Demos.from_episodes(episodes, process, intervened=False)


def of_each_round(num_demos: int, seed: int) -> Demos:
    """Return demonstrations of the bandit with another best arm in each of 20 rounds."""
    rng = np.random.default_rng(seed)
    theta, other = rng.integers(5, size=(2, num_demos, 20))
    actions = np.where(rng.random(theta.shape) < 0.5, theta, other)
    paid = rng.random(theta.shape) < np.where(actions == theta, 0.75, 0.25)
    return Demos.from_arrays(actions, paid.astype(int))


def of_bandit(**settings: Any) -> tuple[Callable[[int], Demos], LatentSpec, float]:
    """Return a case of the bandit."""
    process = ud.tasks.bandit(**settings)
    return lambda seed: logs(process, NUM_DEMOS, seed), LatentSpec(Episode(5)), 0.35


# Of each case: the logs by seed, the declared model, and the true effect of the first action on the symbol 1.
CASES = {f"{n} round{'s' * (n > 1)}": of_bandit(num_rounds=n) for n in (20, 5, 3, 2, 1)}
CASES["expert right in .98 of rounds"] = of_bandit(expert_accuracy=0.98)
CASES["expert never errs"] = of_bandit(expert_accuracy=1.0)
CASES["prize or frog, 1 round"] = (
    lambda seed: logs(ud.tasks.prize_or_frog(), NUM_DEMOS, seed),
    LatentSpec(Episode(2)),
    0.5,
)
CASES["theta of each round"] = lambda seed: of_each_round(NUM_DEMOS, seed), LatentSpec(Episode(range(1, 7))), 0.35


def cases(num: int) -> dict[str, Any]:
    """Return the interval of each test for the effect in each data set, and the results of the other tests."""
    rows = {}
    for name, (demos_of, spec, truth) in CASES.items():
        intervals: dict[str, list[Any]] = {}
        reports, numbers = [], []
        for seed in range(num):
            demos = demos_of(seed)
            fit, found, report = measured(demos, spec, [0], seed)
            reports.append(report)
            numbers.append(fit.K)
            for test, ends in found[0].items():
                intervals.setdefault(test, []).append([round(x, 3) for x in ends])
            if seed % KEPT == KEPT - 1:
                jax.clear_caches()
        jax.clear_caches()
        rows[name] = {
            "truth": truth,
            "K": dict(Counter(map(str, numbers))),
            "held": {test: holding(ends, truth) for test, ends in intervals.items()},
            "width": {test: store.over(np.diff(ends)[:, 0]) for test, ends in intervals.items()},
            "least_support": store.over([report.support.least for report in reports]),
            "kruskal_passes": sum(report.kruskal[0] >= report.kruskal[1] for report in reports),
            "flat": store.over([report.num_flat[0] for report in reports]),
            "directions": reports[0].num_flat[1],
            "verdicts": dict(Counter(report.verdict for report in reports)),
            "intervals": intervals,
        }
        print(name, {key: x for key, x in rows[name].items() if key != "intervals"}, flush=True)
    return {"data_sets": num, "num_demos": NUM_DEMOS, "rows": rows}


def starts(num: int) -> dict[str, Any]:
    """Return how often each interval holds the true effects of the first two arms, with 300 logs of ten rounds."""
    process, found = ud.tasks.bandit(num_rounds=10), {}
    for seed in range(num):
        both = measured(logs(process, 300, seed), LatentSpec(Episode(5)), [0, 1], seed)[1]
        for arm, intervals in enumerate(both):
            for test, ends in intervals.items():
                found.setdefault(test, [[], []])[arm].append(ends)
        if seed % KEPT == KEPT - 1:
            jax.clear_caches()
    rows = {
        test: {"held": [holding(ends, 0.35) for ends in both], "width": store.over(np.diff(both)[..., 0].ravel())}
        for test, both in found.items()
    }
    print(*rows.items(), sep="\n", flush=True)
    return {"data_sets": num, "num_demos": 300, "rows": rows}


def holding(ends: list[Any], truth: float) -> int:
    """Return how many intervals hold the truth."""
    return sum(low <= truth <= high for low, high in ends)


def measured(
    demos: Demos, spec: LatentSpec, actions: list[int], seed: int
) -> tuple[offline.Fit, list[dict[str, tuple[float, float]]], offline.Diagnosis]:
    """Return a fit, the interval of each test for the effect of each action, and the diagnosis by default probes."""
    key = jax.random.key(seed)
    fit = offline.fit(demos, spec, key=key, starts=STARTS, select="bic")
    report = offline.diagnose(fit, demos, passive=False, structure=False)
    probes = [Probe(str(a), Effect(a, 1)) for a in actions]
    asked = offline.diagnose(fit, demos, probes=probes, delta=DELTA, passive=False, structure=False)
    alone = without_rivals(fit, demos, probes)
    ends = starts_of(fit, demos, key)[:, actions]
    found = []
    for i, probe in enumerate(asked.probes):
        assert probe.profile is not None
        assert probe.manski is not None
        found.append(
            {
                "starts": (float(ends[:, i].min()), float(ends[:, i].max())),
                "two_se": (probe.value - probe.two_se, probe.value + probe.two_se),
                "profile": alone[i],
                "with_rivals": probe.profile,
                "manski": probe.manski,
            }
        )
    return fit, found, report


def starts_of(fit: offline.Fit, demos: Demos, key: Array) -> Float[np.ndarray, "starts A"]:
    """Return the effect of each action at the end of each start from which the fit was chosen."""
    final = jax.random.split(key, 3)[-2]
    settings: dict[str, Any] = {"init": "actions_first", "max_iterations": 1000, "tolerance": 1e-6}
    runs = run_em(fit.layout, demos, Episode(fit.K), key=final, starts=STARTS, **settings)
    task = fit.layout.factors[1]
    tables = np.asarray(runs.parameters.eta)[:, :, fit.layout.columns(task)]
    paid = np.exp(tables.reshape(*tables.shape[:2], task.num_cells, task.width))[..., 1]
    effects = np.einsum("rk,rka->ra", np.exp(np.asarray(runs.parameters.log_prior)), paid)
    assert np.isclose(effects[runs.best(fit.K), 0], float(Effect(0, 1)(fit.process)), atol=1e-4)
    return effects


def without_rivals(fit: offline.Fit, demos: Demos, probes: list[Probe]) -> list[tuple[float, float]]:
    """Return the profile of each effect that is found from the fit alone."""
    with jax.enable_x64(True):
        likelihood = Likelihood.of(fit.layout, demos, fit.K, markov=False)
        values = tuple(probe.value for probe in probes)
        first = jnp.asarray(likelihood.pack(fit.fitted))
        at, ends, totals, least = map(np.asarray, _climbed(likelihood, values, fit.process, first))
    allowed = totals > least - SLACK
    return [
        (
            min(float(at[i]), *ends[i, 0][allowed[i, 0]].tolist(), 1.0),
            max(float(at[i]), *ends[i, 1][allowed[i, 1]].tolist(), 0.0),
        )
        for i in range(len(probes))
    ]


@compiled_for(runs=2)
def _climbed(likelihood: Likelihood, values: tuple, process: ud.InteractionProcess, first: Array) -> tuple:
    """Return the effects at the best likelihood near the fit, their ends, the likelihoods there, and the least one."""
    f = vector(likelihood, values, process, {})
    near, total = polish(likelihood, first[None])
    least = total[0] - DELTA
    return f(near[0]), *extremes(likelihood, f, len(values), near, least), least


# Demonstrators who learn ----------------------------------------------------------------------------------------------


def learners(num: int) -> dict[str, Any]:
    """Return the reward of agents that learned from the logs of an agent which knows nothing hidden, and learns."""
    process, found, reports = ud.tasks.bandit(), {}, []
    demonstrator = ud.ExactAgent(process)
    for seed in range(num):
        demos = logs(process, NUM_DEMOS, seed, demonstrator)
        key = jax.random.key(seed)
        fit = offline.fit(demos, key=key, starts=STARTS)
        reports.append(offline.diagnose(fit, demos, structure=False))
        clone = offline.clone(demos, ud.LSTMAgent(fit.process, 32, key=key), key=key).agent
        agents = {"do in the fit": ud.ExactAgent(fit.process), "clone (LSTM)": clone, "demonstrator": demonstrator}
        for name, agent in agents.items():
            report = ud.certify(process, agent, key=jax.random.key(10_000 + seed), num_episodes=2048, baselines=False)
            found.setdefault(name, []).append(float(report.reward))
        print(seed, fit.K, reports[-1].verdict, {name: x[-1] for name, x in found.items()}, flush=True)
        jax.clear_caches()
    gains = [report.passive.action[0] for report in reports if report.passive is not None]
    return {
        "data_sets": num,
        "num_demos": NUM_DEMOS,
        "reward": {name: store.over(x) for name, x in found.items()},
        "nats": store.over(gains),
        "verdicts": dict(Counter(report.verdict for report in reports)),
        "unless_refuted": dict(Counter(_unless_refuted(report) for report in reports)),
    }


def _unless_refuted(report: offline.Diagnosis) -> str:
    """Return whether a test other than the comparison with a sequence model speaks against the fit."""
    return "something" if len(report.reasons) > (report.verdict == "refuted") else "nothing"


PARTS = {"cases": (cases, 8), "starts": (starts, 10), "learners": (learners, 4)}

if __name__ == "__main__":
    settings = {"starts": STARTS, "delta": DELTA, "steps": "those of offline.clone and of the comparison, by default"}
    store.run_parts("offline_cases", PARTS, store.parser(__doc__, PARTS).parse_args(), settings)
