"""From logs to acting a little: is the next experiment the right one, and what does it gain?

python studies/offline_experiment.py                        both parts, about ten minutes of CPU time
python studies/offline_experiment.py --parts ranking        one part; the other keeps its stored result
python studies/offline_experiment.py --data-sets 1          a trial run, which is printed

"ranking" plays plans in the true world, fits again, and compares the errors with those that were predicted. "acting"
begins with logs of an expert that never errs, from which the effects of most actions are not identified.
"""

from typing import Any

import jax
import numpy as np
import store

import undelude as ud
from undelude import offline
from undelude.offline import Demos, Episode, Fit, LatentSpec, Probe
from undelude.offline._diagnosing.plans import play
from undelude.offline._diagnosing.probes import Effect, Policy
from undelude.tasks.tables import from_tables

T = 20
# Episodes of an experiment, and times that a plan is played for one data set.
TRIED, REPEATS = 50, 20
# Episodes that are played before each new fit.
BATCHES = 50, 150


def logs(world: ud.InteractionProcess, num_episodes: int, seed: int) -> Demos:
    """Return demonstrations of the expert."""
    episodes = ud.rollout(world, None, key=jax.random.key(seed), num_episodes=num_episodes, executor="expert")
    return Demos.from_episodes(episodes, world)


# Is the ranking right? ------------------------------------------------------------------------------------------------

# Two thetas and three arms, which pay with chances that are drawn uniformly for each data set.
RANKED = {
    "the first theta never pulls the last arm": [[0.5, 0.5, 0.0], [0.2, 0.2, 0.6]],
    "it seldom does": [[0.49, 0.49, 0.02], [0.2, 0.2, 0.6]],
}
PLANS = [(0,), (1,), (2,), (2,) * 6, (0, 1, 2) * 2, (0, 1) * 3]
# A history after which the policy is probed.
HISTORY = {"actions": [2, 2, 0], "observations": [1, 1, 0]}


def ranking(num: int) -> dict[str, Any]:
    """Return, for each plan, the error that was predicted, and the one found by playing it and fitting again.

    The second is in NumPy alone, and shares no code with the library.
    """
    rows = {}
    for name, expert in RANKED.items():
        expert = np.asarray(expert)
        predicted, squares = [], []
        for seed in range(num):
            rng = np.random.default_rng(seed)
            pays = rng.random((2, 3))
            actions, paid = _drawn(rng, pays, 300, expert)
            demos = Demos.from_arrays(actions, paid, levels={"action": range(3), "observation": range(2)})
            fit = offline.fit(demos, LatentSpec(Episode(2)), key=jax.random.key(seed), starts=4, select="bic")
            history = ud.Episodes.of(fit.process, **HISTORY)
            probes = [Probe(f"effect {a}", Effect(a, 1)) for a in range(3)]
            probes += [Probe(f"policy {a}", Policy(history, a), True) for a in (0, 2)]
            found = offline.next_experiment(fit, demos, num_episodes=TRIED, plans=PLANS, probes=probes)
            by_plan = {trial.actions: trial.score for trial in found.trials}
            predicted.append([found.now, *(by_plan[plan] for plan in PLANS)])
            truth = _probed(np.array([0.5, 0.5]), expert, pays)
            logs = _counts(actions, paid)
            done = [None] * REPEATS, *([_drawn(rng, pays, TRIED, plan=plan) for _ in range(REPEATS)] for plan in PLANS)
            squares.append([np.mean([(_refitted(rng, logs, x) - truth) ** 2 for x in tries]) for tries in done])
        realised, mean = (np.sqrt((np.asarray(x) ** power).mean(0)) for x, power in ((squares, 1), (predicted, 2)))
        plans = ["as it is", *(str(plan) for plan in PLANS)]
        rows[name] = {
            plan: {"predicted": float(p), "realised": float(r)}
            for plan, p, r in zip(plans, mean, realised, strict=True)
        }
        print(name, *rows[name].items(), sep="\n  ", flush=True)
    return {"data_sets": num, "repeats": REPEATS, "num_demos": 300, "num_episodes": TRIED, "rows": rows}


def _drawn(rng: np.random.Generator, pays: np.ndarray, num: int, expert: Any = None, plan: Any = None) -> Any:
    """Return actions and payments of the expert, for six rounds, or of a plan."""
    theta = rng.integers(2, size=num)
    if plan is None:
        actions = (rng.random((num, 6, 1)) > expert.cumsum(-1)[theta][:, None]).sum(-1)
    else:
        actions = np.broadcast_to(plan, (num, len(plan)))
    return actions, (rng.random(actions.shape) < pays[theta[:, None], actions]).astype(int)


def _counts(actions: np.ndarray, paid: np.ndarray) -> np.ndarray:
    """Return how often each episode pulled each arm and was paid 0 or 1, `[N, 3, 2]`."""
    return np.stack([((actions == a) & (paid == o)).sum(-1) for a in range(3) for o in (0, 1)], -1).reshape(-1, 3, 2)


def _refitted(rng: np.random.Generator, logs: np.ndarray, played: Any) -> np.ndarray:
    """Return the probes after expectation maximisation from four starts, with the library's pseudo-counts."""
    tried = np.zeros((0, 3, 2)) if played is None else _counts(*played)
    outcomes = np.concatenate([logs, tried])
    pulls = np.concatenate([logs.sum(-1), np.zeros((len(tried), 3))])
    best, found = -np.inf, np.zeros(5)
    for _ in range(4):
        prior, expert, task = np.full(2, 0.5), rng.dirichlet(np.ones(3), 2), rng.dirichlet(np.ones(2), (2, 3))
        for _ in range(300):
            joint = np.log(prior) + pulls @ np.log(expert).T + np.einsum("nao,kao->nk", outcomes, np.log(task))
            evidence = np.logaddexp(joint[:, 0], joint[:, 1])
            r = np.exp(joint - evidence[:, None])
            objective = evidence.sum() + 0.5 * (np.log(expert).sum() + np.log(task).sum())
            prior = (r.sum(0) + 0.01) / (len(r) + 0.02)
            expert = r.T @ pulls + 0.5
            expert /= expert.sum(-1, keepdims=True)
            task = np.einsum("nk,nao->kao", r, outcomes) + 0.5
            task /= task.sum(-1, keepdims=True)
        if objective > best:
            best, found = objective, _probed(prior, expert, task[..., 1])
    return found


def _probed(prior: np.ndarray, expert: np.ndarray, pays: np.ndarray) -> np.ndarray:
    """Return the effects of the arms, and the policy after the history."""
    belief = prior.copy()
    for a, o in zip(HISTORY["actions"], HISTORY["observations"], strict=True):
        belief = belief * (pays[:, a] if o else 1 - pays[:, a])
    return np.concatenate([prior @ pays, (belief / belief.sum() @ expert)[[0, 2]]])


# What does acting a little gain? --------------------------------------------------------------------------------------


def acting(num: int) -> dict[str, Any]:
    """Return divergence from exact do, reward and width of the bounds, by the episodes that were played, and how."""
    world = ud.tasks.bandit(expert_accuracy=1.0, num_rounds=T)
    found: dict[str, list[Any]] = {}
    for seed in range(num):
        demos = logs(world, 300, seed)
        first, figures = _measured(world, demos, seed)
        found.setdefault("0", []).append(figures)
        for how in ("chosen", "sober agent", "uniform"):
            joined, fit, earned = demos, first, []
            for batch in BATCHES:
                new, reward = _played(how, world, fit, joined, batch, seed)
                joined, earned = Demos.concat(joined, new), [*earned, reward * batch]
                fit, figures = _measured(world, joined, seed)
                played = joined.num_episodes - demos.num_episodes
                figures |= {"reward_meanwhile": sum(earned) / played}
                found.setdefault(f"{played}, {how}", []).append(figures)
                print(seed, played, how, figures, flush=True)
    rows = {name: {key: store.over([x[key] for x in each]) for key in each[0]} for name, each in found.items()}
    rows["no logs, Thompson sampling from a uniform prior"] = _from_scratch(world)
    print(*rows.items(), sep="\n", flush=True)
    return {"data_sets": num, "num_demos": 300, "rows": rows}


def _measured(world: ud.InteractionProcess, demos: Demos, seed: int) -> tuple[Fit, dict[str, float]]:
    """Return a fit, and its agent's divergence from exact do and reward in the world, and the widest bounds."""
    fit = offline.fit(demos, LatentSpec(Episode(5)), key=jax.random.key(seed), starts=10, select="bic")
    probes = [Probe(f"P(paid | do({a}))", Effect(a, 1)) for a in range(5)]
    report = offline.diagnose(fit, demos, probes=probes, passive=False, structure=False)
    return fit, _certified(world, fit.process, seed) | {"width": max(probe.width for probe in report.probes)}


def _certified(world: ud.InteractionProcess, process: ud.InteractionProcess, seed: int) -> dict[str, float]:
    report = ud.certify(world, ud.ExactAgent(process), key=jax.random.key(10_000 + seed), num_episodes=1024)
    return {"kl_do": float(report.action_kl_do), "reward": float(report.reward)}


def _played(
    how: str, world: ud.InteractionProcess, fit: Fit, demos: Demos, batch: int, seed: int
) -> tuple[Demos, float]:
    """Return a batch of own episodes, and the reward per round in them."""
    key = jax.random.fold_in(jax.random.key(50_000 + seed), batch)
    if how == "chosen":
        found = offline.next_experiment(fit, demos, num_episodes=batch, num_rounds=T)
        print(found, flush=True)
        episodes = play(world, found.actions, key=key, num_episodes=batch)
    else:
        agent = ud.ExactAgent(fit.process if how == "sober agent" else ud.tasks.bandit(5, 0.2, num_rounds=T))
        episodes = ud.rollout(world, agent, key=key, num_episodes=batch)
    return Demos.from_episodes(episodes, world), float(episodes.reward.mean())


def _from_scratch(world: ud.InteractionProcess) -> dict[str, list[float]]:
    """Return the figures of Thompson sampling without logs: chances of all arms uniform, the best arm is pulled."""
    chances = np.random.default_rng(0).random((1000, 5))
    task = np.stack([1 - chances, chances], -1)
    best = np.eye(5)[chances.argmax(-1)]
    process = from_tables(prior=np.full(1000, 1e-3), expert=best, task=task, num_rounds=T, name="uniform")
    return {name: [x] for name, x in _certified(world, process, 0).items()}


PARTS = {"ranking": (ranking, 10), "acting": (acting, 4)}

if __name__ == "__main__":
    settings = {"starts": {"ranking": 4, "acting": 10}, "steps": "none: expectation maximisation"}
    store.run_parts("offline_experiment", PARTS, store.parser(__doc__, PARTS).parse_args(), settings)
