"""Rounds a second of the tasks under a fixed policy, and of common environments of the same kind.

    python benchmarks/tasks.py        about a minute

Every task is compiled once, then 4,096 episodes are played at once, five times; the median counts. The peers are
FrozenLake-v1 of Gymnasium, one environment, and Leduc poker of OpenSpiel, both with random moves, in Python's loop.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pyspiel

import undelude as ud
from undelude._agents.fixed import FixedPolicy
from undelude._distributions import Symbols, num_symbols
from undelude._rollout.scan import run_episode

GOALS = {"grid": 1_000_000, "merge": 1_000_000, "arm": 500_000, "leduc": 200_000}


def rounds_a_second(process: ud.InteractionProcess, num_episodes: int) -> float:
    """Return rounds a second under a fixed policy: uniform over symbols, or turns of the joints from N(0, .1)."""
    spec = process.action_spec
    fixed = ud.Categorical(logits=jnp.zeros(num_symbols(spec))) if isinstance(spec, Symbols) else None
    actor = FixedPolicy(fixed or ud.Normal(jnp.zeros(2), 0.1))

    @eqx.filter_jit
    def play(key: jax.Array) -> tuple:
        def one(i: jax.Array) -> tuple:
            whole = run_episode(process, actor, jax.random.fold_in(key, i), num_rounds=process.num_rounds)[0]
            return whole.actions, whole.observations, whole.reward

        return jax.vmap(one)(jnp.arange(num_episodes))

    jax.block_until_ready(play(jax.random.key(0)))
    seconds = timed(lambda seed: jax.block_until_ready(play(jax.random.key(seed))))
    return num_episodes * process.num_rounds / seconds


def timed(call: Callable[[int], object]) -> float:
    """Return the median of five timings."""
    found = []
    for seed in range(1, 6):
        started = time.perf_counter()
        call(seed)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def frozen_lake(num_rounds: int = 20_000) -> float:
    """Return steps a second of Gymnasium's environment."""
    env = gymnasium.make("FrozenLake-v1")
    env.reset(seed=0)

    def play(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for a in rng.integers(0, 4, num_rounds).tolist():
            *_, terminated, truncated, _ = env.step(a)
            if terminated or truncated:
                env.reset()

    return num_rounds / timed(play)


def leduc(num_hands: int = 3000) -> float:
    """Return hands a second of OpenSpiel's game."""
    game = pyspiel.load_game("leduc_poker")

    def play(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(num_hands):
            state = game.new_initial_state()
            while not state.is_terminal():
                legal = state.legal_actions()
                state.apply_action(legal[rng.integers(len(legal))])

    return num_hands / timed(play)


def main() -> None:
    """Measure, and print a line for each task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-episodes", type=int, default=4096)
    num_episodes = parser.parse_args().num_episodes
    # Units of the peer a second, and our rounds in one unit: a hand of ours always has four.
    peers = {"grid": ("FrozenLake-v1", frozen_lake(), 1), "leduc": ("OpenSpiel, in hands", leduc(), 4)}
    for name, goal in GOALS.items():
        speed = rounds_a_second(getattr(ud.tasks, name)(), num_episodes)
        peer, theirs, rounds = peers.get(name, ("", float("nan"), 1))
        beside = f", {speed / rounds / theirs:.1f} times {peer} ({theirs:,.0f})" if peer else ""
        print(f"{name:<6} {speed:>12,.0f} rounds a second (goal {goal:,}){beside}")


if __name__ == "__main__":
    main()
