"""Expectation maximisation on logs: `offline.fit`, hmmlearn and pomegranate in one run; and how a fit's time grows.

python benchmarks/offline_peers.py               the peers, from the same starts for the same iterations; minutes
python benchmarks/offline_peers.py --growth      whole calls of offline.fit, by the number and length of logs; minutes

The logs are those of the bandit of Remark 11. The shared part is a mixture over pairs (action, outcome), which hmmlearn
and pomegranate can express although neither has a model of that name, and a hidden Markov model.
"""

import argparse
import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import undelude as ud
from undelude import offline
from undelude._versions import versions
from undelude.offline import Demos, Episode, LatentSpec, Table
from undelude.offline._fitting import em
from undelude.offline._fitting.parameters import Parameters
from undelude.offline._model import statistics
from undelude.offline._model.spec import layout

# Nats per demonstration by which the final log-likelihoods may differ.
TOLERANCE = 1e-3
# Starts of the Markov chain: the probability of staying.
STAY = 0.9

Tables = dict[str, np.ndarray]


def logs(num_episodes: int, num_rounds: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the actions and outcomes of the bandit's expert."""
    process = ud.tasks.bandit(num_rounds=num_rounds)
    episodes = ud.rollout(process, None, executor="expert", key=jax.random.key(seed), num_episodes=num_episodes)
    return np.asarray(episodes.actions), np.asarray(episodes.observations)


def random_tables(starts: int, K: int, num_pairs: int, seed: int) -> Tables:
    """Return a start each: the distribution of theta, its transition, and the distribution of pairs."""
    rng = np.random.default_rng(seed)
    transition = np.full((K, K), (1 - STAY) / max(K - 1, 1)) + (STAY - (1 - STAY) / max(K - 1, 1)) * np.eye(K)
    return {
        "prior": np.full((starts, K), 1 / K),
        "transition": np.broadcast_to(transition, (starts, K, K)).copy(),
        "pairs": rng.dirichlet(np.full(num_pairs, 2.0), (starts, K)),
    }


def log_likelihood(pairs: np.ndarray, prior: np.ndarray, transition: np.ndarray | None, table: np.ndarray) -> float:
    """Return that of all logs in double precision, of a mixture if there is no transition."""
    emissions = table.T[pairs]  # [N, T, K]
    if transition is None:
        joint = np.log(np.maximum(emissions, 1e-300)).sum(1) + np.log(np.maximum(prior, 1e-300))
        top = joint.max(-1, keepdims=True)
        return float((np.log(np.exp(joint - top).sum(-1)) + top[:, 0]).sum())
    total, belief = 0.0, np.broadcast_to(prior, emissions[:, 0].shape)
    for t in range(pairs.shape[1]):
        joint = (belief if t == 0 else belief @ transition) * emissions[:, t]
        scale = joint.sum(-1, keepdims=True)
        total, belief = total + float(np.log(scale).sum()), joint / scale
    return total


class Ours:
    """`offline.fit`'s iterations, all starts at once."""

    def __init__(self, actions: np.ndarray, outcomes: np.ndarray, tables: Tables, iterations: int, *, markov: bool):
        A, O = int(actions.max()) + 1, int(outcomes.max()) + 1
        spec = LatentSpec(Episode(2), Table(pseudo_count=0), Table("outcome", "action", pseudo_count=0))
        self.logs, self.spec, self.markov, self.iterations = (actions, outcomes), spec, markov, iterations
        pairs = tables["pairs"].reshape(*tables["pairs"].shape[:2], A, O)
        policy = pairs.sum(-1)
        eta = np.concatenate([policy, (pairs / policy[..., None]).reshape(*policy.shape[:2], A * O)], -1)
        self.start = Parameters(
            jnp.log(tables["prior"]),
            jnp.asarray(np.log(eta), jnp.float32),
            jnp.log(tables["transition"]) if markov else None,
        )

    def __call__(self) -> Tables:
        demos = Demos.from_arrays(self.logs[0], {"outcome": self.logs[1]})
        plan = layout(self.spec, demos)
        rows = statistics.of_steps(plan, demos) if self.markov else statistics.of_demos(plan, demos)
        R, K, _ = self.start.eta.shape
        progress = em.Progress(self.start, jnp.full(R, -jnp.inf), jnp.zeros(R, bool), jnp.zeros(R, jnp.int32))
        progress = em.iterate(
            progress,
            em.in_blocks(rows, R, K),
            plan.free,
            jnp.full(R, K, jnp.int32),
            jnp.asarray(-jnp.inf),
            jnp.asarray(self.iterations),
        )
        parameters = jax.block_until_ready(progress.parameters)
        policy, outcome = (np.exp(np.asarray(parameters.eta[..., plan.columns(f)], np.float64)) for f in plan.free)
        outcome = outcome.reshape(*policy.shape, -1)
        found = {"prior": np.exp(np.asarray(parameters.log_prior, np.float64))}
        if parameters.log_transition is not None:
            found["transition"] = np.exp(np.asarray(parameters.log_transition, np.float64))
        return found | {"pairs": (policy[..., None] * outcome).reshape(*policy.shape[:2], -1)}


def by_hmmlearn(pairs: np.ndarray, tables: Tables, iterations: int, *, markov: bool) -> Tables:
    """Return the tables after Baum and Welch's iterations; a mixture is a chain that never moves."""
    from hmmlearn.hmm import CategoricalHMM

    N, T = pairs.shape
    found = []
    for prior, transition, table in zip(*tables.values(), strict=True):
        model = CategoricalHMM(
            len(prior),
            n_iter=iterations,
            tol=-np.inf,
            init_params="",
            params="ste" if markov else "se",
            implementation="scaling",
        )
        model.n_features = table.shape[-1]
        model.startprob_, model.transmat_ = prior, transition if markov else np.eye(len(prior))
        model.emissionprob_ = table
        model.fit(pairs.reshape(-1, 1), np.full(N, T))
        found.append((model.startprob_, model.transmat_, model.emissionprob_))
    return dict(zip(tables, map(np.stack, zip(*found, strict=True)), strict=True))


def by_hmmlearn_counts(counts: np.ndarray, tables: Tables, iterations: int) -> Tables:
    """Return the tables of a mixture of multinomials: one observation, the counts, for each log."""
    from hmmlearn.hmm import MultinomialHMM

    found = []
    for prior, table in zip(tables["prior"], tables["pairs"], strict=True):
        model = MultinomialHMM(
            len(prior), n_trials=int(counts[0].sum()), n_iter=iterations, tol=-np.inf, init_params="", params="se"
        )
        model.n_features = table.shape[-1]
        model.startprob_, model.transmat_, model.emissionprob_ = prior, np.eye(len(prior)), table
        model.fit(counts, np.ones(len(counts), int))
        found.append((model.startprob_, model.emissionprob_))
    prior, table = map(np.stack, zip(*found, strict=True))
    return {"prior": prior, "pairs": table}


def by_pomegranate(pairs: np.ndarray, tables: Tables, iterations: int) -> Tables:
    """Return the tables of a chain that never moves; that it learns an end changes all of them by one factor."""
    import torch
    from pomegranate.distributions import Categorical
    from pomegranate.hmm import DenseHMM

    X = torch.tensor(pairs[..., None])
    found = []
    for prior, table in zip(tables["prior"], tables["pairs"], strict=True):
        K = len(prior)
        model = DenseHMM(
            [Categorical(row[None].astype(np.float32)) for row in table],
            starts=prior.astype(np.float32),
            ends=np.full(K, 0.5, np.float32),
            edges=np.eye(K, dtype=np.float32) / 2,
            max_iter=iterations,
            tol=0.0,
        )
        model.fit(X)
        learned = [d.probs[0].numpy() for d in model.distributions]
        found.append((np.exp(model.starts.numpy()), np.stack(learned)))
    prior, table = map(np.stack, zip(*found, strict=True))
    return {"prior": prior, "pairs": table}


def by_pomegranate_counts(counts: np.ndarray, tables: Tables, iterations: int) -> Tables:
    """Return the tables of a mixture of Poisson counts, which is that of multinomials if all totals are equal."""
    import torch
    from pomegranate.distributions import Poisson
    from pomegranate.gmm import GeneralMixtureModel

    X, total = torch.tensor(counts.astype(np.float32)), counts[0].sum()
    found = []
    for prior, table in zip(tables["prior"], tables["pairs"], strict=True):
        model = GeneralMixtureModel(
            [Poisson((total * row).astype(np.float32)) for row in table],
            priors=prior.astype(np.float32),
            max_iter=iterations,
            tol=0.0,
        )
        model.fit(X)
        found.append((model.priors.numpy(), np.stack([d.lambdas.numpy() for d in model.distributions]) / total))
    prior, table = map(np.stack, zip(*found, strict=True))
    return {"prior": prior, "pairs": table}


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Time all tools from the same starts; stop if their likelihoods differ."""
    import hmmlearn.hmm
    import pomegranate.gmm
    import pomegranate.hmm
    import torch

    del hmmlearn, pomegranate  # Imported now, so that it is not timed.
    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)
    actions, outcomes = logs(args.episodes, args.rounds, args.seed)
    A, O = int(actions.max()) + 1, int(outcomes.max()) + 1
    pairs = actions * O + outcomes
    counts = np.stack([np.bincount(row, minlength=A * O) for row in pairs])
    tables = random_tables(args.starts, args.thetas, A * O, args.seed)
    few = {name: x[: args.peer_starts] for name, x in tables.items()}
    I = args.iterations
    ways: dict[str, dict[str, Callable[[], Tables]]] = {
        "mixture": {
            "undelude": Ours(actions, outcomes, tables, I, markov=False),
            "hmmlearn, chain that never moves": lambda: by_hmmlearn(pairs, few, I, markov=False),
            "hmmlearn, counts": lambda: by_hmmlearn_counts(counts, few, I),
            "pomegranate, chain that never moves": lambda: by_pomegranate(pairs, few, I),
            "pomegranate, counts": lambda: by_pomegranate_counts(counts, few, I),
        },
        "hidden Markov model": {
            "undelude": Ours(actions, outcomes, tables, I, markov=True),
            "hmmlearn": lambda: by_hmmlearn(pairs, few, I, markov=True),
        },
    }
    result: dict[str, Any] = {}
    for model, tools in ways.items():
        markov = model != "mixture"
        started = time.perf_counter()
        ours = tools["undelude"]()
        compiling = time.perf_counter() - started
        seconds: dict[str, list[float]] = {name: [] for name in tools}
        cpu: dict[str, list[float]] = {name: [] for name in tools}
        reference = None
        for repeat in range(args.repeats):
            for name, way in tools.items():
                started, used = time.perf_counter(), time.process_time()
                found = way()
                size = len(found["prior"])
                seconds[name].append((time.perf_counter() - started) / size)
                cpu[name].append((time.process_time() - used) / size)
                print(f"{name}: {1e3 * seconds[name][-1]:.4g} ms a start, CPU {1e3 * cpu[name][-1]:.4g} ms", flush=True)
                if repeat == 0:
                    totals = [
                        log_likelihood(
                            pairs, found["prior"][r], found["transition"][r] if markov else None, found["pairs"][r]
                        )
                        for r in range(args.peer_starts)
                    ]
                    reference = totals if reference is None else reference
                    gap = max(abs(x - y) for x, y in zip(totals, reference, strict=True)) / len(pairs)
                    print(f"{model}, {name}: {totals[0]:.2f} nats, at most {gap:.1e} a log from ours", flush=True)
                    if not gap <= TOLERANCE:
                        raise SystemExit(f"{name} ends in another likelihood: nothing to time.")
        del ours
        result[model] = {"compiling": compiling, "seconds": seconds, "cpu_seconds": cpu}
        print(f"{'milliseconds a start':45}{'median':>10}{'CPU':>10}{'to ours':>10}{'CPU':>10}")
        for name in tools:
            wall, used = (float(np.median(x[name])) for x in (seconds, cpu))
            ratios = wall / np.median(seconds["undelude"]), used / np.median(cpu["undelude"])
            print(f"{name:45}{1e3 * wall:10.4g}{1e3 * used:10.4g}{ratios[0]:10.3g}{ratios[1]:10.3g}", flush=True)
    return result


def growth(args: argparse.Namespace) -> dict[str, Any]:
    """Time whole calls of `offline.fit`, K = 1 to 8, by the number and the length of logs."""
    rows = []
    for size in args.sizes:
        N, T = map(int, size.split("x"))
        actions, outcomes = logs(N, T, args.seed)
        demos = Demos.from_arrays(actions, {"outcome": outcomes})
        started, used = time.perf_counter(), time.process_time()
        fit = offline.fit(demos, LatentSpec(Episode(range(1, 9))), key=jax.random.key(args.seed), starts=args.starts)
        row = {
            "N": N,
            "T": T,
            "seconds": time.perf_counter() - started,
            "cpu_seconds": time.process_time() - used,
            "K": fit.K,
        }
        rows.append(row)
        print(row, flush=True)
    return {"growth": rows}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--thetas", type=int, default=5)
    parser.add_argument("--starts", type=int, default=20, help="of undelude, at once, as fit does")
    parser.add_argument("--peer-starts", type=int, default=3, help="of the others, one after the other")
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", action="store_true", help="time whole fits instead")
    sizes = ["10000x20", "5000x20", "2500x20", "10000x40"]
    parser.add_argument("--sizes", nargs="+", default=sizes, metavar="NxT", help="of the logs of whole fits")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    peers = [] if args.growth else ["hmmlearn", "pomegranate", "torch"]
    about = {"versions": versions() | {x: version(x) for x in peers}, "load_average": os.getloadavg()[0]}
    print(about)
    result = growth(args) if args.growth else compare(args)
    if args.json:
        with open(args.json, "w") as file:
            json.dump({**about, "arguments": vars(args), **result}, file, indent=1)


if __name__ == "__main__":
    main()
