"""Logs alone, beside others: mixtures by hmmlearn and pomegranate, d3rlpy's cloning and offline RL, a clone of ours.

python studies/offline_peers.py                                  all, about forty minutes of CPU time
python studies/offline_peers.py --ways undelude hmmlearn         of these alone, a minute; the others keep their results
python studies/offline_peers.py --numbers 300 --data-sets 1      a trial run, which is printed

pip install hmmlearn pomegranate d3rlpy. All learn from the same demonstrations of the bandit of Remark 11, and play the
true bandit. A mixture that another library learned acts as ours does: with do, or with its own actions as evidence, as
its library would predict. Policies of d3rlpy see the whole history of their episode. All are played by the same NumPy.
"""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import numpy as np
import store

import undelude as ud
from undelude import offline
from undelude._versions import versions
from undelude.offline import Demos
from undelude.offline._diagnosing.passive import losses_per_step

T, A, O = 20, 5, 2
DATA_SETS, NUMBERS = 4, (300, 1000)
WAYS = ("undelude", "hmmlearn", "pomegranate", "clone", "d3rlpy")
STARTS, PEER_STARTS, PLAYED, CLIP = 10, 4, 4096, 1e-4
EXPERT = np.where(np.eye(A, dtype=bool), 0.6, 0.1)
CLONE_STEPS, BC_STEPS, CQL_STEPS = 400, 800, 1000

Score = dict[str, float | None]
# From the actions and the outcomes of some rounds, `[B, t]`, to the distribution of the next action, `[B, A]`.
Policy = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Mixture(NamedTuple):
    """A finite theta of the episode, with tables.

    Attributes:
        prior: `[K]`.
        policy: `[K, A]`.
        task: `[K, A, O]`.
    """

    prior: np.ndarray
    policy: np.ndarray
    task: np.ndarray

    @classmethod
    def of_pairs(cls, prior: np.ndarray, pairs: np.ndarray) -> "Mixture":
        """Return a mixture over pairs (action, outcome); frequencies of 0 become small ones."""
        joint = np.maximum(pairs.reshape(-1, A, O), CLIP)
        joint /= joint.sum((1, 2), keepdims=True)
        policy = joint.sum(-1)
        return cls(np.maximum(prior, CLIP), policy, joint / policy[..., None])

    def acting(self, *, see: bool) -> Policy:
        """Return the policy with do, or with its own actions as evidence."""

        def policy(actions: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
            belief = np.log(self.prior) + np.log(self.task[:, actions, outcomes]).sum(-1).T
            if see:
                belief += np.log(self.policy[:, actions]).sum(-1).T
            weights = np.exp(belief - belief.max(-1, keepdims=True))
            return weights / weights.sum(-1, keepdims=True) @ self.policy

        return policy


def by_hmmlearn(actions: np.ndarray, outcomes: np.ndarray, K: int, seed: int) -> Mixture:
    """Return a hidden Markov model that never moves: the best of three starts, with the true number of thetas."""
    from hmmlearn.hmm import CategoricalHMM

    pairs, lengths = (actions * O + outcomes).reshape(-1, 1), np.full(len(actions), T)
    best: Any = None
    for start in range(3):
        rng = np.random.default_rng(100 * seed + start)
        model = CategoricalHMM(K, n_iter=60, tol=1.0, init_params="", params="se", implementation="scaling")
        model.n_features = A * O
        model.startprob_, model.transmat_ = np.full(K, 1 / K), np.eye(K)
        model.emissionprob_ = rng.dirichlet(np.ones(A * O), K)
        model.fit(pairs, lengths)
        total = model.score(pairs, lengths)
        best = max(best or (-np.inf, None), (total, model), key=lambda x: x[0])
    return Mixture.of_pairs(best[1].startprob_, best[1].emissionprob_)


def by_pomegranate(actions: np.ndarray, outcomes: np.ndarray, seed: int) -> tuple[Mixture, int]:
    """Return a mixture of counts of pairs, and its number of components, by BIC among 1 to 8, with four starts each."""
    import torch
    from pomegranate.distributions import Poisson
    from pomegranate.gmm import GeneralMixtureModel

    pairs = actions * O + outcomes
    counts = np.stack([np.bincount(row, minlength=A * O) for row in pairs]).astype(np.float32)
    rng = np.random.default_rng(seed)
    best: tuple[float, Any, int] = (np.inf, None, 0)
    for K in range(1, 9):
        for _ in range(PEER_STARTS if K > 1 else 1):
            starts = [Poisson(T * row.astype(np.float32)) for row in rng.dirichlet(np.ones(A * O), K)]
            model = GeneralMixtureModel(starts, priors=np.full(K, 1 / K, np.float32), max_iter=100, tol=0.1)
            model.fit(torch.tensor(counts))
            size = K * (A * O - 1) + K - 1
            bic = size * np.log(len(counts)) - 2 * float(model.log_probability(torch.tensor(counts)).sum())
            if bic < best[0]:
                best = (bic, model, K)
    table = np.stack([d.lambdas.numpy() for d in best[1].distributions]) / T
    return Mixture.of_pairs(best[1].priors.numpy(), table), best[2]


def by_our_clone(fit: offline.Fit, demos: Demos, seed: int) -> ud.AbstractAgent:
    """Return a network cloned from six sevenths of the logs, as it was when it predicted the rest best."""
    train, validation = demos.split(1 / 7, key=jax.random.key(seed))
    best: list[Any] = [np.inf, None]

    def look(state: Any, row: Any) -> None:
        del row
        loss = losses_per_step(state.agent, validation)[0].sum()
        if loss < best[0]:
            best[:] = [loss, state.agent]

    agent = ud.LSTMAgent(fit.process, 32, key=jax.random.key(seed))
    offline.clone(train, agent, key=jax.random.key(seed), steps=CLONE_STEPS, log_every=50, on_log=look)
    return best[1]


def windows(actions: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Return, for each round, all rounds before it as one vector: for each a one-hot pair, the latest first."""
    N, length = actions.shape
    symbols = np.eye(A * O, dtype=np.float32)[actions * O + outcomes]
    seen = np.zeros((N, length + 1, T, A * O), np.float32)
    for t in range(1, length + 1):
        seen[:, t, :t] = symbols[:, :t][:, ::-1]
    return seen.reshape(N, length + 1, -1)


def by_d3rlpy(actions: np.ndarray, outcomes: np.ndarray, seed: int) -> dict[str, Policy]:
    """Return policies that clone, and one of conservative Q-learning, all with the whole history as the state."""
    import d3rlpy
    import torch

    d3rlpy.seed(seed)
    x = windows(actions, outcomes)
    ends = np.zeros((len(x), T), np.float32)
    ends[:, -1] = 1
    data = d3rlpy.dataset.MDPDataset(
        x[:, :-1].reshape(-1, x.shape[-1]),
        actions.reshape(-1, 1),
        outcomes.reshape(-1, 1).astype(np.float32),
        ends.ravel(),
        action_space=d3rlpy.ActionSpace.DISCRETE,
        action_size=A,
    )

    def fitted(config: Any, steps: int) -> Any:
        algorithm = config.create(device="cpu:0")
        with tempfile.TemporaryDirectory() as folder:
            algorithm.fit(
                data,
                n_steps=steps,
                n_steps_per_epoch=steps,
                show_progress=False,
                logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
                experiment_name=folder,
            )
        return algorithm

    cloned = fitted(d3rlpy.algos.DiscreteBCConfig(batch_size=256, beta=0.0), BC_STEPS)
    learned = fitted(d3rlpy.algos.DiscreteCQLConfig(batch_size=256, gamma=1.0), CQL_STEPS)

    def probabilities(actions: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return cloned.impl.modules.imitator(torch.tensor(windows(actions, outcomes)[:, -1])).probs.numpy()

    def greedy(algorithm: Any) -> Policy:
        return lambda actions, outcomes: np.eye(A)[algorithm.predict(windows(actions, outcomes)[:, -1])]

    return {
        "d3rlpy DiscreteBC, sampled": probabilities,
        "d3rlpy DiscreteBC, as it predicts (greedy)": greedy(cloned),
        "d3rlpy DiscreteCQL (greedy)": greedy(learned),
    }


def played(policy: Policy, seed: int) -> Score:
    """Return a policy's reward per round in the true bandit, and its divergence from exact do in its own histories.

    The divergence is None if it is infinite.
    """
    rng = np.random.default_rng(30_000 + seed)
    theta = rng.integers(A, size=PLAYED)
    actions = np.zeros((PLAYED, T), int)
    outcomes = np.zeros((PLAYED, T), int)
    belief, divergence = np.full((PLAYED, A), 1 / A), np.zeros(PLAYED)
    for t in range(T):
        given = policy(actions[:, :t], outcomes[:, :t]).astype(float)
        exact = belief @ EXPERT
        with np.errstate(divide="ignore"):
            divergence += (exact * (np.log(exact) - np.log(given))).sum(-1) / T
        draws = rng.random((PLAYED, 1))
        actions[:, t] = np.minimum((given.cumsum(-1) < draws).sum(-1), A - 1)
        outcomes[:, t] = rng.random(PLAYED) < np.where(actions[:, t] == theta, 0.75, 0.25)
        pays = np.where(np.arange(A) == actions[:, t : t + 1], 0.75, 0.25)
        belief = belief * np.where(outcomes[:, t : t + 1] == 1, pays, 1 - pays)
        belief /= belief.sum(-1, keepdims=True)
    kl = float(divergence.mean())
    return {"reward": float(outcomes.mean()), "kl": kl if np.isfinite(kl) else None}


def learn(world: ud.InteractionProcess, N: int, seed: int, ways: list[str]) -> tuple[dict[str, Score], dict[str, Any]]:
    """Return the scores of these ways on one data set, and what they chose."""
    episodes = ud.rollout(world, None, executor="expert", key=jax.random.key(seed), num_episodes=N)
    demos = Demos.from_episodes(episodes, world)
    actions, outcomes = np.asarray(episodes.actions), np.asarray(episodes.observations)
    mixtures: dict[str, Mixture] = {}
    policies: dict[str, Policy] = {}
    scores: dict[str, Score] = {}
    chosen: dict[str, int] = {}
    if "undelude" in ways or "clone" in ways:
        fit = offline.fit(demos, key=jax.random.key(seed), starts=STARTS)
        own = (fit.fitted.log_prior[0], fit.tables["action"], fit.tables["observation"])
        mixtures["undelude"], chosen["undelude"] = Mixture(*(np.exp(np.asarray(x, float)) for x in own)), fit.K
        if "clone" in ways:
            clone = by_our_clone(fit, demos, seed)
            report = ud.certify(world, clone, key=jax.random.key(seed), num_episodes=PLAYED, baselines=False)
            scores["offline.clone, LSTM"] = {"reward": float(report.reward), "kl": float(report.action_kl_do)}
    if "hmmlearn" in ways:
        mixtures["hmmlearn, K = 5 given"] = by_hmmlearn(actions, outcomes, A, seed)
    if "pomegranate" in ways:
        mixtures["pomegranate, K by BIC"], chosen["pomegranate"] = by_pomegranate(actions, outcomes, seed)
    if "d3rlpy" in ways:
        policies |= by_d3rlpy(actions, outcomes, seed)
    for name, model in mixtures.items():
        policies[f"{name}, do"] = model.acting(see=False)
        policies[f"{name}, own actions as evidence"] = model.acting(see=True)
    scores |= {name: played(policy, seed) for name, policy in policies.items()}
    print(N, seed, scores, chosen, flush=True)
    return scores, chosen


def over(values: list[float | None]) -> list[float] | None:
    """Return the mean over data sets and its standard error; None if a value is not defined."""
    if any(x is None for x in values):
        return None
    x = np.asarray(values, float)
    return [float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")]


def study(numbers: list[int], data_sets: int, ways: list[str]) -> dict[str, Any]:
    """Learn and play for each number of demonstrations; other ways keep their stored results."""
    warnings.simplefilter("ignore")
    world = ud.tasks.bandit(num_rounds=T)
    pays = np.where(np.eye(A, dtype=bool), 0.75, 0.25)
    truth = Mixture(np.full(A, 1 / A), EXPERT, np.stack([1 - pays, pays], -1))
    rows: dict[str, Any] = store.earlier("offline_peers").get("rows", {})
    rows["exact"] = {name: played(truth.acting(see=name == "exact see"), 0) for name in ("exact do", "exact see")}
    for N in numbers:
        found = [learn(world, N, seed, ways) for seed in range(data_sets)]
        own = {
            name: {"data_sets": data_sets}
            | {x: over([scores[name][x] for scores, _ in found]) for x in ("reward", "kl")}
            for name in found[0][0]
        }
        rows[str(N)] = rows.get(str(N), {}) | own | {f"K of {x}": [K[x] for _, K in found] for x in found[0][1]}
    settings = {"starts": STARTS, "steps": {"clone": CLONE_STEPS, "BC": BC_STEPS, "CQL": CQL_STEPS}, "played": PLAYED}
    peers = {name: version(name) for name in ways if name in ("hmmlearn", "pomegranate", "d3rlpy")}
    peers = store.earlier("offline_peers").get("versions", {}) | versions() | peers
    return {"versions": peers, "seeds": list(range(DATA_SETS)), "settings": settings, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="+", default=list(NUMBERS), help="of demonstrations")
    parser.add_argument("--data-sets", type=int, default=DATA_SETS, help="a result of one alone is printed")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="the others keep their results")
    given = parser.parse_args()
    usual = set(given.numbers) <= {*NUMBERS} and given.data_sets > 1
    store.run("offline_peers", lambda: study(given.numbers, given.data_sets, given.ways), keep=usual)
