"""Logs alone: how near fits come to the exact agent, what the diagnosis says, and how often its bounds hold.

python studies/offline.py                                    all parts, about 20 minutes of CPU time
python studies/offline.py --parts verdicts                   one part; the others keep their stored results
python studies/offline.py --parts sizes --data-sets 1        a trial run, which is printed

The logs are demonstrations of the bandit of Remark 11, of variants of it, and of an adaptive expert. Measured is the
agent in the true process, by the certificate: its reward, and its divergence from exact do.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import store

import undelude as ud
from undelude import offline
from undelude.offline import Demos, Episode, LatentSpec, Markov

T, DREAM_STEPS = 20, 2000


def logs(process: ud.InteractionProcess, num_demos: int, seed: int, agent: Any = None) -> Demos:
    """Return demonstrations of the process's expert, or of an agent in its place."""
    executor = "expert" if agent is None else "agent"
    episodes = ud.rollout(process, agent, key=jax.random.key(seed), num_episodes=num_demos, executor=executor)
    return Demos.from_episodes(episodes, process, intervened=False)


def acting(process: ud.InteractionProcess, fit: offline.Fit, seed: int) -> tuple[float, float]:
    """Return the reward per round of a fit's agent in the true process, and its divergence from exact do."""
    report = ud.certify(process, ud.ExactAgent(fit.process), key=jax.random.key(10_000 + seed), num_episodes=2048)
    return float(report.reward), float(report.action_kl_do)


def sizes(num: int) -> dict[str, Any]:
    """Return the agent's reward and divergence by the number of demonstrations."""
    process = ud.tasks.bandit(num_rounds=T)
    rows = {}
    for N in (100, 300, 1000, 10_000):
        found = []
        for seed in range(num):
            fit = offline.fit(logs(process, N, seed), key=jax.random.key(seed), starts=10)
            found.append((*acting(process, fit, seed), fit.K))
        reward, kl, K = zip(*found, strict=True)
        rows[str(N)] = {"reward": store.over(reward), "kl_do": store.over(kl), "K": dict(Counter(map(str, K)))}
        print(N, rows[str(N)], flush=True)
    return {"data_sets": num, "rows": rows}


def lengths(num: int) -> dict[str, Any]:
    """Return the mean total variation to exact do over all histories of two rounds, by the length of the logs."""
    truth = ud.tasks.bandit(num_rounds=3)
    pairs = np.stack(np.meshgrid(range(5), range(2), range(5), range(2), indexing="ij"), -1).reshape(-1, 4)
    actions, observations = pairs[:, ::2], pairs[:, 1::2]

    def policies(process: ud.InteractionProcess) -> np.ndarray:
        histories = ud.Episodes.of(process, actions=actions, observations=observations)
        belief = np.exp(np.asarray(ud.posterior(process, histories)))[:, -1]
        experts = np.exp(np.stack([process.expert.Q_A(k, process.expert.init(k)).log_probs for k in process.thetas]))
        return belief @ experts

    exact, rows = policies(truth), {}
    for length in (1, 2, 3, 5, 10):
        found = []
        for seed in range(num):
            demos = logs(ud.tasks.bandit(num_rounds=length), 20_000, seed)
            fit = offline.fit(demos, LatentSpec(Episode(5)), key=jax.random.key(seed), starts=10, select="bic")
            found.append(float(np.abs(policies(fit.process) - exact).sum(-1).mean() / 2))
        rows[str(length)] = store.over(found)
        print(length, rows[str(length)], flush=True)
    return {"data_sets": num, "num_demos": 20_000, "tv_do": rows}


def verdicts(num: int, chosen: Sequence[str] | None = None) -> dict[str, Any]:
    """Return how often each verdict is given, without the comparison of predictions.

    Cases that are not `chosen` keep their stored results.
    """
    cases = {f"T = {length}": ud.tasks.bandit(num_rounds=length) for length in (1, 2, 3, 5, 10, 20)}
    cases |= {"an expert that never errs": ud.tasks.bandit(expert_accuracy=1.0, num_rounds=T)}
    rows = {} if chosen is None else store.earlier("offline")["parts"]["verdicts"]["rows"]
    for name in cases if chosen is None else chosen:
        process, found = cases[name], []
        for seed in range(num):
            demos = logs(process, 1000, seed)
            fit = offline.fit(demos, key=jax.random.key(seed), starts=10)
            found.append(offline.diagnose(fit, demos, passive=False, structure=False).verdict)
            jax.clear_caches()  # Each data set has programs of its own.
        rows[name] = dict(Counter(found))
        print(name, rows[name], flush=True)
    return {"data_sets": num, "num_demos": 1000, "rows": rows}


def coverage(num: int) -> dict[str, Any]:
    """Return how often the bounds hold the true effects of the first two arms; and the range over the starts."""
    process = ud.tasks.bandit(num_rounds=10)
    truth, inside, widths = 0.35, [], []
    for seed in range(num):
        demos = logs(process, 300, seed)
        fit = offline.fit(demos, LatentSpec(Episode(5)), key=jax.random.key(seed), starts=10, select="bic")
        report = offline.diagnose(fit, demos, passive=False, structure=False)
        for probe in report.probes:
            if probe.profile and not probe.is_policy:
                inside.append(probe.profile[0] <= truth <= probe.profile[1])
                widths.append(probe.width)
    print("coverage", np.mean(inside), len(inside), flush=True)
    return {
        "data_sets": num,
        "num_demos": 300,
        "held": int(np.sum(inside)),
        "of": len(inside),
        "width": store.over(widths),
    }


def refuted(num: int) -> dict[str, Any]:
    """Return the held-out comparison with a sequence model, for the confounded and for an adaptive expert."""
    process = ud.tasks.bandit(num_rounds=T)
    rows = {}
    for name, agent in (("expert", None), ("adaptive", ud.ExactAgent(process))):
        for N in (300, 1000):
            found = []
            for seed in range(num):
                demos = logs(process, N, seed, agent)
                fit = offline.fit(demos, key=jax.random.key(seed), starts=10)
                found.append(offline.diagnose(fit, demos, structure=False))
            gains = [report.passive.action[0] for report in found if report.passive is not None]
            rows[f"{name}, N = {N}"] = {"nats": store.over(gains), **Counter(report.verdict for report in found)}
            print(name, N, rows[f"{name}, N = {N}"], flush=True)
    return {"data_sets": num, "rows": rows}


def dreams(num: int) -> dict[str, Any]:
    """Return how far networks that were taught in the fitted model alone are from exact do in the true process."""
    process = ud.tasks.bandit(num_rounds=T)
    networks = {"LSTM": ud.LSTMAgent, "transformer": ud.TransformerAgent}
    found: dict[str, list[float]] = {name: [] for name in ("the fit itself", *networks, "clone (LSTM)")}
    for seed in range(num):
        demos = logs(process, 1000, seed)
        fit = offline.fit(demos, key=jax.random.key(seed), starts=10)
        diagnosis = offline.diagnose(fit, demos, passive=False, structure=False)
        students = {name: make(fit.process, 32, key=jax.random.key(seed)) for name, make in networks.items()}
        agents = {"the fit itself": offline.agent(fit, diagnosis)}
        for name, student in students.items():
            agents[name] = offline.dream(fit, student, diagnosis, key=jax.random.key(seed), steps=DREAM_STEPS).agent
        agents["clone (LSTM)"] = offline.clone(demos, students["LSTM"], key=jax.random.key(seed), steps=300).agent
        for name, agent in agents.items():
            report = ud.certify(process, agent, key=jax.random.key(10_000 + seed), num_episodes=2048, baselines=False)
            found[name].append(float(report.action_kl_do))
        print({name: values[-1] for name, values in found.items()}, flush=True)
    return {
        "data_sets": num,
        "num_demos": 1000,
        "steps": DREAM_STEPS,
        "kl_do": {k: store.over(x) for k, x in found.items()},
    }


def scales(num: int) -> dict[str, Any]:
    """Return how much BIC prefers a theta that changes, by the probability that it does."""
    rows = {}
    for switch in (0.0, 0.05, 0.2):
        found = []
        for seed in range(num):
            rng = np.random.default_rng(seed)
            N, length = 500, 40
            theta = np.empty((N, length), int)
            theta[:, 0] = rng.integers(5, size=N)
            for t in range(1, length):
                theta[:, t] = np.where(rng.random(N) < switch, rng.integers(5, size=N), theta[:, t - 1])
            actions = np.where(rng.random((N, length)) < 0.5, theta, rng.integers(5, size=(N, length)))
            outcomes = (rng.random((N, length)) < np.where(actions == theta, 0.75, 0.25)).astype(int)
            spec = LatentSpec([Episode(range(2, 7)), Markov(5)])
            demos = Demos.from_arrays(actions, outcomes)
            fit = offline.fit(demos, spec, key=jax.random.key(seed), starts=6, select="bic")
            least = {kind: min(c.bic for c in fit.candidates if c.latent == kind) for kind in ("Episode", "Markov")}
            found.append(least["Markov"] - least["Episode"])
        rows[str(switch)] = store.over(found)
        print("switch", switch, rows[str(switch)], flush=True)
    return {"data_sets": num, "bic_markov_minus_episode": rows}


PARTS = {
    "sizes": (sizes, 16),
    "lengths": (lengths, 4),
    "verdicts": (verdicts, 20),
    "coverage": (coverage, 20),
    "refuted": (refuted, 8),
    "scales": (scales, 4),
    "dreams": (dreams, 4),
}

if __name__ == "__main__":
    command = store.parser(__doc__, PARTS)
    command.add_argument("--cases", nargs="+", help="of the verdicts; the others keep their stored results")
    given = command.parse_args()
    parts = PARTS | {"verdicts": (partial(verdicts, chosen=given.cases), PARTS["verdicts"][1])}
    store.run_parts("offline", parts, given, {"starts": 10, "steps": "200 of the LSTM in the comparison"})
