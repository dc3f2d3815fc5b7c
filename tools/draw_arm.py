"""Draws docs/figures/arm.gif, the film of the first pages: a sober and a deluded arm look for the same hidden target.

    python tools/draw_arm.py    about fifteen seconds

The episode is a typical one. Of `NUM_EPISODES` pairs of episodes, which share theta and their random numbers, it is the
one with the median difference in the number of rounds at the target, and the first of several.
"""

from pathlib import Path
from typing import Literal

import jax
import numpy as np

import undelude as ud

FILE = Path(__file__).parent.parent / "docs" / "figures" / "arm.gif"
# An odd number, so that the median is the difference of a pair.
NUM_EPISODES = 201
# Enough for either arm to settle.
NUM_ROUNDS = 40
AGENTS: dict[Literal["do", "see"], str] = {"do": "sober", "see": "deluded"}
TITLE = "The same hidden target. The arm on the right takes its own moves for hints."


def play() -> dict[Literal["do", "see"], ud.Episodes]:
    """Return the episodes of the exact agents, by how they read their own actions."""
    size = {"key": jax.random.key(0), "num_episodes": NUM_EPISODES, "num_rounds": NUM_ROUNDS}
    arm = ud.tasks.arm()
    return {own_actions: ud.rollout(arm, ud.ExactAgent(arm, own_actions), **size) for own_actions in AGENTS}


def typical(episodes: dict[Literal["do", "see"], ud.Episodes]) -> int:
    """Return the index of the first pair with the median difference in reward."""
    earned = {own_actions: np.asarray(x.reward).sum(-1) for own_actions, x in episodes.items()}
    difference = earned["do"] - earned["see"]
    return int(np.flatnonzero(difference == np.median(difference))[0])


def main() -> None:
    """Write the film."""
    episodes, arm = play(), ud.tasks.arm()
    look = {"episode": typical(episodes), "size": 357, "frames_per_round": 3}
    films = [ud.film(arm, episodes[own_actions], title=title, **look) for own_actions, title in AGENTS.items()]
    ud.write_gif(FILE, ud.side_by_side(films, title=TITLE), fps=20)
    print(f"Written to {FILE}.")


if __name__ == "__main__":
    main()
