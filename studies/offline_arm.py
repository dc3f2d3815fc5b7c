"""Offline imitation with networks: a two-link arm, from logs of an expert who knows the hidden target.

python studies/offline_arm.py               about three minutes of CPU time a seed
python studies/offline_arm.py --epochs 2    a trial run

The logs have no target. The pose after a command is known to the user (the arm's kinematics); who the targets are, what
the expert does for each, and how the cue depends on the pose is learned. Measured is the share of the last 20 rounds in
which the hand is at the true target, in the true world.
"""

import argparse
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import store

import undelude as ud
from undelude import offline
from undelude.offline import Demos, Episode, Known, Last, LatentSpec, Network, Training
from undelude.offline._model.evidence import as_episodes
from undelude.tasks.arm import RADIUS, START, tip, turn

SEEDS = (0, 1)
NUM_DEMOS, NUM_EPISODES, RANDOM_MOVES, LAST = 2000, 200, 0.15, 20
NUM_TARGETS = 8


def pose(joints: Any) -> Any:
    """Return what is seen of the joints: cosines, sines, and the hand."""
    return jnp.concatenate([jnp.cos(joints), jnp.sin(joints), tip(joints)])


def move(last: Any, a: Any) -> Any:
    """Return the pose after a command."""
    return pose(turn(jnp.arctan2(last[2:4], last[:2]), a))


def declared(K: Any) -> LatentSpec:
    """Return what is declared: expert and cue depend on theta and on the pose, and the pose on the command."""
    return LatentSpec(
        Episode(K),
        Network(given=Last("joints"), outliers=True),
        [
            Known("joints", move, [Last("joints"), "action"], start=np.asarray(pose(jnp.asarray(START)))),
            Network("cue", [Last("joints"), "joints"], width=24, depth=3),
        ],
    )


def at_target(arm: ud.InteractionProcess, agent: ud.AbstractAgent, seed: int) -> list[float]:
    """Return the share of the last rounds at the true target, and its standard error over episodes."""
    episodes = ud.rollout(arm, agent, num_episodes=NUM_EPISODES, key=jax.random.key(1000 + seed))
    share = np.asarray(episodes.reward)[:, -LAST:].mean(-1)
    return [float(share.mean()), float(share.std(ddof=1) / np.sqrt(len(share)))]


def clusters(fit: offline.Fit, demos: Demos, targets: Any) -> tuple[float, Any]:
    """Return the share of demonstrations in a cluster that is mostly of their target, and each target's cluster."""
    episodes = as_episodes(fit.process, demos)
    found = np.asarray(ud.posterior(fit.process, episodes))[:, -1].argmax(-1)
    counts = np.zeros((fit.K, NUM_TARGETS))
    np.add.at(counts, (found, targets), 1)
    return float(counts.max(-1).sum() / len(found)), counts.argmax(0)


def right_cues(arm: ud.InteractionProcess, fit: offline.Fit, demos: Demos, targets: Any, cluster: Any) -> float:
    """Return the share of rounds in which the learned likelier cue for `targets` is the true one for them."""
    task, poses = fit.process.task, demos.observations["joints"].values

    def likelier(theta: Any, actions: Any, poses: Any) -> Any:
        def step(w: Any, x: Any) -> Any:
            w = task.g_A(theta, x[0], w)
            cue = task.Q_O(theta, w).parts["cue"].log_probs.argmax()
            return task.g_O(theta, {"cue": jnp.asarray(0), "joints": x[1]}, w), cue

        return jax.lax.scan(step, task.init(theta), (actions, poses))[1]

    said = jax.jit(jax.vmap(likelier))(jnp.asarray(cluster)[targets], demos.action.values, poses)
    first = np.broadcast_to(np.asarray(tip(jnp.asarray(START))), (len(poses), 1, 2))
    hands = np.concatenate([first, poses[..., 4:]], 1)
    distance = np.linalg.norm(hands - np.asarray(arm.thetas)[targets][:, None], axis=-1)
    warmer = (distance[:, 1:] < distance[:, :-1]) | (distance[:, 1:] < RADIUS)
    return float((np.asarray(said) == warmer).mean())


def study(epochs: int, counts: tuple[int, ...]) -> dict[str, Any]:
    """Fit the logs of each seed, and act."""
    arm = ud.tasks.arm(random_moves=RANDOM_MOVES)
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        episodes = ud.rollout(arm, None, executor="expert", num_episodes=NUM_DEMOS, key=jax.random.key(seed))
        demos = Demos.from_episodes(episodes, arm)
        clock = time.process_time()
        training = Training(epochs=epochs, batch_size=16, learning_rate=4e-3, warm_up=min(4, epochs), patience=15)
        fit = offline.fit(demos, declared(counts), key=jax.random.key(seed), starts=1, training=training)
        seconds = time.process_time() - clock
        short = dataclasses.replace(training, epochs=max(epochs // 4, 1), warm_up=0)
        targets = np.asarray(episodes.theta)
        purity, cluster = clusters(fit, demos, targets)
        clone = offline.fit(demos, declared(1), key=jax.random.key(seed), starts=1, training=short)
        agents = {
            "exact do": ud.ExactAgent(arm),
            "exact see": ud.ExactAgent(arm, "see"),
            "learned do": ud.ExactAgent(fit.process),
            "learned see": ud.ExactAgent(fit.process, "see"),
            "clone of the pose": ud.ExactAgent(clone.process),
        }
        rows.append(
            {
                "seed": seed,
                "K": fit.K,
                "held_out": {str(c.K): c.held_out for c in fit.candidates},
                "purity": purity,
                "right_cues": {
                    "own target": right_cues(arm, fit, demos, targets, cluster),
                    "another target": right_cues(arm, fit, demos, (targets + 3) % NUM_TARGETS, cluster),
                },
                "cpu_seconds": seconds,
                "at_target": {name: at_target(arm, agent, seed) for name, agent in agents.items()},
            }
        )
        print(rows[-1], flush=True)
    settings = {"steps": epochs, "num_demos": NUM_DEMOS, "random_moves": RANDOM_MOVES, "last": LAST}
    return {"seeds": list(SEEDS), "settings": settings | {"num_episodes": NUM_EPISODES}, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--K", type=int, nargs="+", default=[NUM_TARGETS], help="numbers of values to choose from")
    options = parser.parse_args()
    trial = options.epochs < 80 or options.K != [NUM_TARGETS]
    store.run("offline_arm", lambda: study(options.epochs, tuple(options.K)), keep=not trial)
