"""Named tasks from Gymnasium's toy-text environments: frozen_lake, taxi and cliff_walking."""

from typing import Any

import numpy as np

from undelude._process.process import InteractionProcess
from undelude._versions import installing
from undelude.gym.tabular import tabular_from_gymnasium


def frozen_lake(num_rounds: int = 40) -> InteractionProcess:
    """Return FrozenLake-v1 on four 3 x 3 maps: the goal is in a hidden corner, holes are in the other three.

    A step goes in its direction with probability .8, and the reward shown is right with probability .8. So arriving in
    a corner is weak evidence, but the expert's steps point to the goal at once. An agent that reads its own steps as
    evidence stays with the corner that it happened to walk to first.

    Args:
        num_rounds: T.
    """
    gymnasium = _gymnasium()
    corners = [(0, 0), (0, 2), (2, 0), (2, 2)]
    envs = []
    for goal in corners:
        lake = np.full((3, 3), "F")
        lake[1, 1] = "S"
        for corner in corners:
            lake[corner] = "G" if corner == goal else "H"
        envs.append(gymnasium.make("FrozenLake-v1", desc=["".join(row) for row in lake], success_rate=0.8))
    return tabular_from_gymnasium(
        envs, reward=0.8, temperature=0.1, discount=0.95, num_rounds=num_rounds, name="frozen_lake"
    )


def taxi(num_rounds: int = 40) -> InteractionProcess:
    """Return Taxi-v4 with the passenger's destination hidden: one of four places.

    An agent finds the right place by trying; each wrong try is an illegal drop-off (reward -10).

    Args:
        num_rounds: T.
    """
    env = _gymnasium().make("Taxi-v4")
    # A state's number is (taxi and passenger) * 4 + destination.
    start = np.asarray(env.unwrapped.initial_state_distrib)
    initial = np.stack([np.where(np.arange(500) % 4 == destination, start, 0.0) for destination in range(4)])
    initial /= initial.sum(-1, keepdims=True)
    return tabular_from_gymnasium(
        [env] * 4,
        observe=np.arange(500) // 4,
        initial=initial,
        temperature=1.0,
        discount=0.97,
        num_rounds=num_rounds,
        name="taxi",
    )


def cliff_walking(num_rounds: int = 50) -> InteractionProcess:
    """Return CliffWalking-v1, slippery or not: the expert walks along the edge on firm ground and keeps away on ice.

    Args:
        num_rounds: T.
    """
    gymnasium = _gymnasium()
    envs = [gymnasium.make("CliffWalking-v1", is_slippery=slippery) for slippery in (False, True)]
    # Only the effect of a step tells the grounds apart.
    return tabular_from_gymnasium(envs, reward="hidden", temperature=5.0, num_rounds=num_rounds, name="cliff_walking")


def _gymnasium() -> Any:
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"this task needs Gymnasium: {installing('gym')}.") from error
    return gymnasium
