"""Posterior vectors a second on the bandit of Remark 11: `ud.posterior`, pyAgrum and pgmpy in one run.

A posterior vector is `P(Theta | do(a_1..a_t), o_1..o_t)` for one history and one t (equation 2). pyAgrum and pgmpy find
it in the mutilated graph: the arcs from Theta to the actions are cut, and actions are then evidence like any other.
"""

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import jax
import numpy as np
import pyagrum as gum
from jax.sharding import Mesh, NamedSharding, PartitionSpec

jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)

import undelude as ud  # noqa: E402
from undelude._versions import versions  # noqa: E402

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # pgmpy deprecates parts of itself as it is imported
    from pgmpy.factors.discrete import TabularCPD
    from pgmpy.inference import VariableElimination
    from pgmpy.models import DiscreteBayesianNetwork

GOAL, TOLERANCE = 10_000, 1e-5
BATCHED, ONE = "undelude, all histories in one call", "undelude, one history a call"
SPREAD = "undelude, the same over all CPU devices"
FULL, PREFIXES, RECURSION = "pyAgrum, full history", "pyAgrum, mean over prefixes", "pyAgrum, recursion by hand"
COMPARES = (
    "Not like with like: the batched throughput of a filter that knows the structure of the process, beside the\n"
    "one-at-a-time latency of general engines that take any graph and any query. Compilation and net building apart."
)

# From actions and observations, `[T]` each, to posterior vectors: after the last round only, or after each round.
Engine = Callable[[np.ndarray, np.ndarray], list[np.ndarray]]


def tables(process: ud.InteractionProcess) -> list[np.ndarray]:
    """Return `Q(Theta)`, `Q(A | Theta)` and `Q(O | Theta, A)` of the process, for the peers."""
    log_Q = (process.expert.log_probs, process.task.log_probs)
    return [np.asarray(process.prior, dtype=float), *(np.exp(np.asarray(x, dtype=float)) for x in log_Q)]


def pyagrum_net(process: ud.InteractionProcess, num_rounds: int) -> gum.BayesNet:
    """Return the mutilated graph, Theta -> O_t <- A_t; the distribution of A_t is never used."""
    Q_theta, _, Q_O = tables(process)
    K, num_actions, num_observations = Q_O.shape
    rounds = range(1, num_rounds + 1)
    net = gum.fastBN(";".join(f"Theta[{K}]->O{t}[{num_observations}]<-A{t}[{num_actions}]" for t in rounds))
    net.cpt("Theta").fillWith(Q_theta.tolist())
    for t in rounds:
        net.cpt(f"A{t}").fillWith(1 / num_actions)
        for theta, a in np.ndindex(Q_O.shape[:2]):
            net.cpt(f"O{t}")[{"Theta": theta, f"A{t}": a}] = Q_O[theta, a]
    return net


def pyagrum_engines(process: ud.InteractionProcess) -> dict[str, Engine]:
    """Return engines: all rounds in one graph, queried at the end or after each round; one round, fed back by hand."""
    net, one_round, prior = pyagrum_net(process, process.num_rounds), pyagrum_net(process, 1), tables(process)[0]
    ids = [net.idFromName(f"{name}{t}") for t in range(1, process.num_rounds + 1) for name in "AO"]
    theta, A_1, O_1 = (one_round.idFromName(name) for name in ("Theta", "A1", "O1"))

    def propagation(net: gum.BayesNet, evidence: dict) -> gum.LazyPropagation:
        engine = gum.LazyPropagation(net)
        engine.setTargets({"Theta"})
        engine.setEvidence(evidence)
        return engine

    # If every query observes the same nodes, the junction tree stays and only values change.
    whole = propagation(net, dict.fromkeys(ids, 0))
    growing = propagation(net, {})
    step = propagation(one_round, {theta: [1.0] * len(prior), A_1: 0, O_1: 0})

    def full(actions: np.ndarray, observations: np.ndarray) -> list[np.ndarray]:
        for node, x in zip(ids, np.stack([actions, observations], 1).ravel().tolist(), strict=True):
            whole.chgEvidence(node, x)
        whole.makeInference()
        return [whole.posterior("Theta").toarray()]

    def prefixes(actions: np.ndarray, observations: np.ndarray) -> list[np.ndarray]:
        growing.eraseAllEvidence()
        posteriors = []
        for A_t, a, O_t, o in zip(ids[::2], actions.tolist(), ids[1::2], observations.tolist(), strict=True):
            growing.addEvidence(A_t, a)
            growing.addEvidence(O_t, o)
            growing.makeInference()
            posteriors.append(growing.posterior("Theta").toarray())
        return posteriors

    def recursion(actions: np.ndarray, observations: np.ndarray) -> list[np.ndarray]:
        posteriors = [prior]
        for a, o in zip(actions.tolist(), observations.tolist(), strict=True):
            step.chgEvidence(theta, (posteriors[-1] / prior).tolist())  # soft: the last belief
            step.chgEvidence(A_1, a)
            step.chgEvidence(O_1, o)
            step.makeInference()
            posteriors.append(step.posterior(theta).toarray())
        return posteriors[1:]

    return {FULL: full, PREFIXES: prefixes, RECURSION: recursion}


def pgmpy_engines(process: ud.InteractionProcess) -> dict[str, Engine]:
    """Return engines on the causal graph: `do` cuts the arcs from Theta to the actions; default elimination."""
    Q_theta, Q_A, Q_O = tables(process)
    rounds, K, num_actions = range(1, process.num_rounds + 1), len(Q_theta), Q_O.shape[1]
    net = DiscreteBayesianNetwork()
    net.add_edges_from(edge for t in rounds for edge in (("Theta", f"A{t}"), ("Theta", f"O{t}"), (f"A{t}", f"O{t}")))
    net.add_cpds(TabularCPD("Theta", K, Q_theta[:, None]))
    for t in rounds:
        net.add_cpds(TabularCPD(f"A{t}", num_actions, Q_A.T, ["Theta"], [K]))
        Q_O_t = Q_O.reshape(K * num_actions, -1).T
        net.add_cpds(TabularCPD(f"O{t}", len(Q_O_t), Q_O_t, ["Theta", f"A{t}"], [K, num_actions]))
    engine = VariableElimination(net.do([f"A{t}" for t in rounds]))

    def query(actions: np.ndarray, observations: np.ndarray) -> np.ndarray:
        evidence = {f"{name}{t}": x for name, xs in (("A", actions), ("O", observations)) for t, x in enumerate(xs, 1)}
        return engine.query(["Theta"], evidence, show_progress=False).values

    return {
        "pgmpy, full history": lambda a, o: [query(a.tolist(), o.tolist())],
        "pgmpy, mean over prefixes": lambda a, o: [query(a[:t].tolist(), o[:t].tolist()) for t in rounds],
    }


def measure(num_rounds: int, num_episodes: int, repeats: int, seed: int) -> dict[str, dict[str, float]]:
    """Return seconds a posterior vector for each engine: `{engine: {median, min, max, set_up, gap}}`."""
    process = ud.tasks.bandit(num_rounds=num_rounds)
    episodes = ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(seed), num_episodes=num_episodes)
    actions, observations = np.asarray(episodes.actions), np.asarray(episodes.observations)
    one = ud.Episodes.of(process, actions=actions[0], observations=observations[0])
    ways, rows = {}, {}
    mesh = Mesh(np.asarray(jax.devices()), ("episodes",))
    cases = [(ONE, one, num_rounds), (BATCHED, episodes, num_episodes * num_rounds)]
    if mesh.size > 1 and num_episodes % mesh.size == 0:
        spread = jax.device_put(episodes, NamedSharding(mesh, PartitionSpec("episodes")))
        cases.append((SPREAD, spread, num_episodes * num_rounds))
    for name, histories, size in cases:
        started = time.perf_counter()
        truth = np.exp(ud.posterior(process, histories))[..., 1:, :]  # compiles
        rows[name] = {"set_up": time.perf_counter() - started, "gap": 0.0}
        ways[name] = size, lambda i, x=histories: ud.posterior(process, x).block_until_ready()
    for build in (pyagrum_engines, pgmpy_engines):
        started = time.perf_counter()
        engines = build(process)
        set_up = time.perf_counter() - started
        for name, engine in engines.items():
            answers = [np.stack(engine(actions[i], observations[i])) for i in range(3)]
            gap = max(float(np.abs(answer - truth[i, -len(answer) :]).max()) for i, answer in enumerate(answers))
            if not gap <= TOLERANCE:
                raise SystemExit(f"{name} and ud.posterior differ by {gap:.1e} at T = {num_rounds}: nothing to time.")
            rows[name] = {"set_up": set_up, "gap": gap}
            ways[name] = len(answers[0]), lambda i, engine=engine: engine(actions[i], observations[i])

    # Round robin, so that a slow minute of the machine affects all. The first of two calls refills the caches; the
    # second has another history, because an engine may notice that nothing changed.
    seconds = {name: [] for name in ways}
    for i in range(repeats):
        for name, (num_vectors, way) in ways.items():
            way(2 * i % num_episodes)
            started = time.perf_counter()
            way((2 * i + 1) % num_episodes)
            seconds[name].append((time.perf_counter() - started) / num_vectors)
    for name, x in seconds.items():
        rows[name] |= {"median": float(np.median(x)), "min": min(x), "max": max(x)}
    return rows


def show(num_rounds: int, rows: dict[str, dict[str, float]]) -> None:
    """Print one table, with ratios to the batched filter, and the goal."""
    ours = rows[BATCHED]["median"]
    gap = max(row["gap"] for row in rows.values())
    print(f"\nT = {num_rounds}: microseconds a posterior vector; all agree within {gap:.0e}")
    print(f"{'':38}{'median':>10}{'min':>10}{'max':>10}{'vectors/s':>14}{'to batched':>13}{'set-up, s':>11}")
    for name, row in rows.items():
        times = "".join(f"{1e6 * row[x]:10.4g}" for x in ("median", "min", "max"))
        print(f"{name:38}{times}{1 / row['median']:14,.0f}{row['median'] / ours:13,.1f}{row['set_up']:11.2f}")
    for name in (FULL, PREFIXES, RECURSION):
        ratio = rows[name]["median"] / ours
        print(f"{GOAL:,} times {name}: {'reached' if ratio >= GOAL else 'not reached'} ({ratio:,.0f})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, nargs="+", default=[20, 100], help="T, one table for each")
    parser.add_argument("--episodes", type=int, default=10_000, help="histories in a call of ud.posterior, at least 3")
    parser.add_argument("--repeats", type=int, default=15, help="timings of each; of pyAgrum and pgmpy, episodes")
    parser.add_argument("--seed", type=int, default=0, help="of the episodes")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, in seconds a vector")
    args = parser.parse_args()
    gum.setNumberOfThreads(1)  # tables this small gain nothing from more
    about = {"versions": versions() | {x: version(x) for x in ("pyagrum", "pgmpy")}, "load_average": os.getloadavg()[0]}
    print(COMPARES, about, sep="\n")
    results = {}
    for num_rounds in args.rounds:
        results[num_rounds] = measure(num_rounds, args.episodes, args.repeats, args.seed)
        show(num_rounds, results[num_rounds])
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"compares": COMPARES, **about, "arguments": vars(args), "results": results}, file, indent=2)


if __name__ == "__main__":
    main()
