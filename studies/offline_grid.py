"""Logs of a latent Markov decision process: transitions with a table for each theta, and one that is tied.

python studies/offline_grid.py                     both grids, about ten minutes of CPU time
python studies/offline_grid.py --data-sets 1       a trial run, which is printed

A walker on a grid looks for the one of four corners that pays well. The demonstrator knows it. Moves slip, and the logs
have cells, actions and payments, but not the corner. The agent acts in the true grid, which is simulated here in NumPy,
with the belief and the policy written out; nothing but the fit is the library's.
"""

import argparse
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np
import store

from undelude import offline
from undelude.offline import Demos, Episode, Last, LatentSpec, Table

SIZES, NUM_DEMOS, LENGTH, ROUNDS, EPISODES = (3, 5), (100, 300, 1000), 30, 40, 2048
SLIP, ERROR, PAYS, ELSEWHERE = 0.1, 0.15, 0.7, 0.2
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
K = 4


class Model(NamedTuple):
    """Probabilities: of theta, of actions `[K, S, A]`, of next cells `[K, S, A, S]`, and of payment there `[K, S]`."""

    prior: np.ndarray
    action: np.ndarray
    cell: np.ndarray
    paid: np.ndarray


def world(size: int) -> Model:
    """Return the true grid, with the demonstrator as its actions."""
    cells = np.stack(np.unravel_index(np.arange(size**2), (size, size)), -1)
    goals = np.array([0, size - 1, size * (size - 1), size**2 - 1])
    step = np.ravel_multi_index(np.clip(cells[:, None] + MOVES, 0, size - 1).T, (size, size)).T
    moves = (1 - SLIP) * np.eye(size**2)[step] + SLIP * np.eye(size**2)[step].mean(1, keepdims=True)
    distance = np.abs(cells[:, None] - cells[goals]).sum(-1).T
    nearer = distance[:, step]
    best = nearer == nearer.min(-1, keepdims=True)
    action = (1 - ERROR) * best / best.sum(-1, keepdims=True) + ERROR / len(MOVES)
    paid = np.where(np.isin(np.arange(size**2), goals), ELSEWHERE, 0.0) + np.zeros((K, 1))
    paid[np.arange(K), goals] = PAYS
    return Model(np.full(K, 1 / K), action, np.broadcast_to(moves, (K, *moves.shape)), paid)


def of_fit(fit: offline.Fit, size: int) -> Model:
    """Return the fitted model; a tied table says the same for all thetas."""
    tables = {name: np.exp(np.asarray(table, float)) for name, table in fit.tables.items()}
    cell = np.broadcast_to(tables["cell"], (fit.K, *tables["cell"].shape[1:]))
    return Model(np.asarray(fit.process.prior, float), tables["action"], cell, tables["paid"][..., 1])


def choose(rng: np.random.Generator, probs: np.ndarray) -> np.ndarray:
    """Draw one index from each row."""
    return (rng.random(len(probs))[:, None] < probs.cumsum(-1)).argmax(-1)


def demonstrations(truth: Model, size: int, num: int, rng: np.random.Generator) -> Demos:
    """Return logs of the demonstrator, without theta; the cell before the first move is the opening."""
    theta, s = choose(rng, np.tile(truth.prior, (num, 1))), np.full(num, size**2 // 2)
    opening, actions, cells, paid = s, [], [], []
    for _ in range(LENGTH):
        a = choose(rng, truth.action[theta, s])
        s = choose(rng, truth.cell[theta, s, a])
        actions.append(a)
        cells.append(s)
        paid.append(rng.random(num) < truth.paid[theta, s])
    observations = {"cell": np.stack(cells, -1), "paid": np.stack(paid, -1).astype(int)}
    levels = {"action": range(len(MOVES)), "cell": range(size**2), "paid": range(2)}
    return Demos.from_arrays(np.stack(actions, -1), observations, opening={"cell": opening}, levels=levels)


def policy(model: Model, log_belief: np.ndarray, s: np.ndarray) -> np.ndarray:
    """Return `P(A_t | do(a), o)`, equation (3) of docs/offline.md."""
    belief = np.exp(log_belief - log_belief.max(-1, keepdims=True))
    return np.einsum("nk,kna->na", belief / belief.sum(-1, keepdims=True), model.action[:, s])


def act(truth: Model, model: Model, size: int, rng: np.random.Generator, *, see: bool = False) -> tuple[float, float]:
    """Return how often the agent is at the goal in the last ten rounds, and its divergence from exact do, nats a round.

    `see` makes own actions evidence.
    """
    theta, s = choose(rng, np.tile(truth.prior, (EPISODES, 1))), np.full(EPISODES, size**2 // 2)
    goals = np.array([0, size - 1, size * (size - 1), size**2 - 1])[theta]
    own, exact = (np.tile(np.log(m.prior), (EPISODES, 1)) for m in (model, truth))
    divergence, there = 0.0, 0.0
    for t in range(ROUNDS):
        p, right = policy(model, own, s), policy(truth, exact, s)
        divergence += float((right * np.log(right / p)).sum(-1).mean()) / ROUNDS
        a = choose(rng, p)
        if see:
            own = own + np.log(model.action[:, s, a]).T
        after = choose(rng, truth.cell[theta, s, a])
        paid = rng.random(EPISODES) < truth.paid[theta, after]
        for m, belief in ((model, own), (truth, exact)):
            pays = m.paid[:, after]
            with np.errstate(divide="ignore"):
                belief += np.log(m.cell[:, s, a, after]).T + np.log(np.where(paid, pays, 1 - pays)).T
        s = after
        if t >= ROUNDS - 10:
            there += float((s == goals).mean()) / 10
    return there, divergence


def over(values: Any) -> list[float]:
    """Return the mean over data sets and its standard error."""
    x = np.asarray(values, float)
    return [float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")]


def study(num: int, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Return, by size, number of logs and kind of transitions: share at the goal, divergence, and the chosen K."""
    found = store.earlier("offline_grid").get("grids", {})
    for size in sizes:
        truth = world(size)
        rng = np.random.default_rng(0)
        rows: dict[str, Any] = {}
        for name, see in (("exact, do", False), ("exact, see", True)):
            rows[name] = {"goal": act(truth, truth, size, rng, see=see)[0]}
        for N in NUM_DEMOS:
            for kind in ("own", "tied"):
                results = []
                for seed in range(num):
                    rng = np.random.default_rng((size, N, seed))
                    demos = demonstrations(truth, size, N, rng)
                    moves = Table("cell", given=[Last("cell"), "action"], tied=kind == "tied")
                    spec = LatentSpec(
                        Episode(range(1, 9)), expert=Table(given=Last("cell")), task=[moves, Table("paid", given="cell")]
                    )
                    fit = offline.fit(demos, spec, key=jax.random.key(seed), starts=10)
                    there, divergence = act(truth, of_fit(fit, size), size, rng)
                    deluded = act(truth, of_fit(fit, size), size, rng, see=True)[0]
                    results.append((there, divergence, deluded, fit.K))
                goal, kl, see, chosen = zip(*results, strict=True)
                row = {"goal": over(goal), "kl_do": over(kl), "see": over(see), "K": dict(Counter(map(str, chosen)))}
                rows[f"{N}, {kind}"] = row
                print(size, N, kind, row, flush=True)
        found = {**found, str(size): rows}
    return {"seeds": list(range(num)), "settings": {"starts": 10, "steps": "EM to convergence"}, "grids": found}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=4)
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    given = parser.parse_args()
    store.run("offline_grid", lambda: study(given.data_sets, tuple(given.sizes)), keep=given.data_sets == 4)
