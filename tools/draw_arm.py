"""Draws docs/figures/arm.gif, the film of the first pages: a sober and a deluded arm look for the same hidden target.

    python tools/draw_arm.py    about fifteen seconds

The episode is a typical one. Of `NUM_EPISODES` pairs of episodes, which share theta and their random numbers, it is the
one with the median difference in the number of rounds at the target, and the first of several.
"""

import dataclasses
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
FPS, FRAMES_PER_ROUND = 20, 3
# In the first rounds, in which the agents make up their minds, each frame is shown this many times.
SLOW_ROUNDS, SLOWER = 10, 3
# The film stops after this round: the arms hardly move any more.
LAST_ROUND = 25
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
    look = {"episode": typical(episodes), "size": 357, "frames_per_round": FRAMES_PER_ROUND}
    films = [ud.film(arm, episodes[own_actions], title=title, **look) for own_actions, title in AGENTS.items()]
    film = ud.side_by_side(films, title=TITLE)
    slow, end = SLOW_ROUNDS * FRAMES_PER_ROUND, 1 + LAST_ROUND * FRAMES_PER_ROUND
    shown = np.concatenate([np.arange(slow).repeat(SLOWER), np.arange(slow, end)])
    ud.write_gif(FILE, dataclasses.replace(film, frames=film.frames[shown]), fps=FPS)
    print(f"Written to {FILE}.")


if __name__ == "__main__":
    main()
