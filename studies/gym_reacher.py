"""A robot simulator: what teaching, cloning and DAgger make of Reacher-v5 (MuJoCo) with a hidden target.

    pip install -c constraints.txt ".[gym,mujoco]"
    export OMP_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false
    python studies/gym_reacher.py --arms taught            about 10 minutes of one core
    python studies/gym_reacher.py --arms taught --few      a trial run
    pip install -c constraints.txt torch==2.13.0 stable-baselines3 sb3-contrib
    python studies/gym_reacher.py --arms RecurrentPPO      takes as many environment steps as the taught agent

In stages: episodes are collected, and the agent learns from all episodes so far. Each arm is stored as soon as it ends.
Its `core_seconds` are those of the process, on all its threads: of collection, compilation and learning, without the
certificate.
"""

import argparse
import functools
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import store

import undelude as ud

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from reacher import TARGETS, distance, reacher

HIDDEN_SIZE, BATCH_SIZE, LEARNING_RATE, OBSERVATION_WEIGHT = 128, 32, 0.03, 0.1
REUSE = 4
# (who executes, episodes to collect, update up to which is learned then, from all episodes so far). Any policy that is
# not shown theta may execute (Appendix A). A young agent comes to states to which no better one comes: the exact agent
# begins. None: `teach` collects, and uses each batch for `REUSE` updates.
STAGES = {
    "taught": (("exact, do", 4096, 1500), ("agent", 2048, 3000)),
    "cloned": (("expert", 4096, 1000),),
    "DAgger": ((None, None, 1000),),
}
PPO = "RecurrentPPO"
FEW = (("exact, do", 64, 8), ("agent", 64, 16))
TEACHINGS = {
    "taught": ud.Counterfactual(observation_weight=OBSERVATION_WEIGHT),
    "cloned": ud.Cloning(observation_weight=OBSERVATION_WEIGHT),
    "DAgger": ud.DAgger(observation_weight=OBSERVATION_WEIGHT),
}
# The share of these last rounds in which the fingertip is this near, in metres, is reported.
LAST, NEAR = 20, 0.02
SHOWN = ("reward", "reward_se", "action_kl_do", "action_kl_do_se", "action_kl_see", "action_kl_see_se", "verdict")


def core_seconds() -> float:
    """Return the seconds of all threads of this process."""
    times = os.times()
    return times.user + times.system


def join(parts: list[ud.Episodes]) -> ud.Episodes:
    return jax.tree.map(lambda *xs: np.concatenate(xs), *[jax.tree.map(np.asarray, part) for part in parts])


def taught(teaching: ud.Teaching, stages: Any, folder: Path | None) -> tuple[Any, int, float, float]:
    """Teach an agent, and save it at each row of metrics.

    Returns:
        The agent, the environment steps that it took, the last loss of its actions, and the core-seconds.
    """
    started, key, world = core_seconds(), jax.random.key(0), reacher()
    typical = ud.rollout(world, None, executor="expert", key=key, num_episodes=64)
    agent = ud.normalise(ud.GRUAgent(world, HIDDEN_SIZE, key=key), typical)
    schedule = optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, 10, stages[-1][2])
    settings = {"batch_size": BATCH_SIZE, "optimizer": optax.contrib.muon(schedule), "log_every": 50}
    state, loss, env_steps, update, pool = None, float("nan"), 0, 0, []

    def show(state: Any, row: dict[str, Any]) -> None:
        print(f"{core_seconds() - started:.0f} s", row, flush=True)
        if folder is not None:
            ud.save(state.agent, folder)

    for i, (who, num_episodes, stop) in enumerate(stages):
        if who is None:  # Expert and agent execute in turns, which `teach` alone can collect.
            source, num_episodes = {"reuse": REUSE}, (stop - update) // REUSE * BATCH_SIZE
        else:
            actor = {"expert": None, "agent": agent, "exact, do": world.exact_agent("do")}[who]
            executor = "expert" if actor is None else "agent"
            key_i = jax.random.fold_in(key, 1 + i)
            pool.append(ud.rollout(world, actor, executor=executor, key=key_i, num_episodes=num_episodes))
            source = {"data": join(pool)}
            print(f"{core_seconds() - started:.0f} s: {num_episodes} episodes", flush=True)
        run = ud.teach(world, agent, teaching, key=key, steps=stop, state=state, on_log=show, **source, **settings)
        agent, state, loss = run.agent, run.state, run.metrics[-1]["action_loss"]
        env_steps, update = env_steps + num_episodes * world.num_rounds, stop
    jax.block_until_ready(jax.tree.leaves(agent))
    return agent, env_steps, loss, core_seconds() - started


def at_target(episodes: ud.Episodes) -> list[float]:
    """Return the share of the last rounds in which the fingertip is near the target, and its standard error."""
    seen = np.asarray(episodes.observations["state"])[:, -LAST:]
    whole = np.zeros((*seen.shape[:2], 10))
    whole[..., [0, 1, 2, 3, 6, 7]] = seen
    targets = np.broadcast_to(TARGETS[np.asarray(episodes.theta)][:, None], (*seen.shape[:2], 2))
    near = distance(whole.reshape(-1, 10), targets.reshape(-1, 2)).reshape(seen.shape[:2]) <= NEAR
    return store.over(near.mean(-1))


def row_of(world: Any, name: str, agent: Any, num_episodes: int, **known: Any) -> dict[str, Any]:
    """Return the certificate of an agent, or of the expert if it is None, and how often it is at the target."""
    row = {"agent": name} | known
    if agent is not None and not isinstance(agent, ud.HostAgent):
        report = ud.certify(world, agent, key=jax.random.key(1), num_episodes=num_episodes, baselines=False)
        row |= {x: getattr(report, x) for x in SHOWN}
    episodes = ud.rollout(
        world, agent, key=jax.random.key(2), num_episodes=num_episodes, executor="expert" if agent is None else "agent"
    )
    row["at_target"], row["at_target_se"] = at_target(episodes)
    row["reward"], row["reward_se"] = store.over(np.asarray(episodes.reward).mean(-1))
    print(row, flush=True)
    return row


def film(folder: Path, file: Path) -> None:
    """Draw an episode of each party side by side, with one target and one beginning, from the agents in `folder`."""
    import reacher_ppo

    world, key = reacher(), jax.random.key(SHOWN_EPISODE)
    parties = {"expert": None, "exact, do": world.exact_agent("do"), "exact, see": world.exact_agent("see")}
    parties |= {name: ud.load(folder / name) for name in STAGES} | {PPO: reacher_ppo.load(folder / PPO)}
    films = []
    for name, agent in parties.items():
        executor = "agent" if agent is not None else "expert"
        one = ud.rollout(world, agent, key=key, num_episodes=1, theta=SHOWN_TARGET, executor=executor)
        whole = ud.film(world, one, key=key, title=name, size=150)
        films.append(ud.Film(whole.frames[:: len(whole) // SHOWN_FRAMES], whole.legend))
    ud.write_gif(file, ud.side_by_side(films), fps=8)
    print(f"Written to {file}, {file.stat().st_size / 1000:.0f} kB.")


# Of the film.
SHOWN_EPISODE, SHOWN_TARGET, SHOWN_FRAMES = 1, 3, 50


def study(name: str, few: bool, keep: str | None) -> dict[str, Any]:
    """Measure an arm, and return it beside the others that are stored."""
    world, num_episodes = reacher(), 16 if few else 256
    started = core_seconds()
    if name == "others":
        rows = [row_of(world, "expert", None, num_episodes)]
        rows += [row_of(world, f"exact, {x}", world.exact_agent(x), num_episodes) for x in ("do", "see")]
    elif name == PPO:
        import reacher_ppo

        env_steps = 64 * world.num_rounds if few else sum(n for _, n, _ in STAGES["taught"]) * world.num_rounds
        model = reacher_ppo.learn(env_steps, HIDDEN_SIZE)
        known = {"core_seconds": core_seconds() - started, "env_steps": model.num_timesteps}
        if keep is not None:
            model.save(Path(keep) / PPO)
        rows = [row_of(world, name, reacher_ppo.as_host_agent(model), num_episodes, **known)]
    else:
        folder = None if keep is None else Path(keep) / name.replace(" ", "_")
        agent, env_steps, loss, seconds = taught(TEACHINGS[name], FEW if few else STAGES[name], folder)
        known = {"core_seconds": seconds, "env_steps": env_steps, "action_loss": loss}
        rows = [row_of(world, name, agent, num_episodes, **known)]
    stored = store.earlier("gym_reacher")
    known = {*STAGES, PPO, "expert", "exact, do", "exact, see"} - {row["agent"] for row in rows}
    others = [row for row in stored.get("rows", []) if row["agent"] in known]
    settings = {
        "agent": "gru",
        "hidden_size": HIDDEN_SIZE,
        "num_components": 8,
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
        "observation_weight": OBSERVATION_WEIGHT,
        "steps": {name: stages[-1][2] for name, stages in STAGES.items()},
        "stages": STAGES,
        "num_episodes": num_episodes,
        "near": NEAR,
        "last_rounds": LAST,
    }
    spent = round(core_seconds() - started + stored.get("seconds", 0.0), 1)
    return {"seeds": [0], "settings": settings, "rows": others + rows, "seconds": spent}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--arms", nargs="+", choices=[*STAGES, PPO, "others"], default=[*STAGES, "others"])
    parser.add_argument("--save", help="folder for the agents")
    parser.add_argument("--film", help="draw the film of the docs from the agents in this folder")
    args = parser.parse_args()
    if args.film:
        film(Path(args.film), Path(__file__).parents[1] / "docs" / "figures" / "gym_reacher.gif")
        sys.exit()
    for arm in args.arms:
        store.run("gym_reacher", functools.partial(study, arm, args.few, args.save), keep=not args.few)
