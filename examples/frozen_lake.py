"""Gymnasium's FrozenLake with the goal in a corner that only the expert knows. Needs the extra `[gym]`.

The agent knows the ice and its holes, but not the corner. It sees its cell and the reward. After a hole or the goal it
starts again in the centre of the same lake.

The deluded agent reaches the goal more often than the sober agent that draws a corner anew every step: holding on to a
guess helps here, and delusion makes the agent hold on. Its certificate still shows the delusion. A Thompson agent that
keeps a guess for as long as it is plausible holds on without being deluded.
"""

import gymnasium as gym
import jax
import tyro

import undelude as ud

ICE = [
    "FFFFFFF",
    "FHFFFHF",
    "FFFFFFF",
    "FFFSFFF",
    "FFFFFFF",
    "FHFFFHF",
    "FFFFFFF",
]
CORNERS = [(0, 0), (0, 6), (6, 0), (6, 6)]


def lake(goal: tuple[int, int]) -> gym.Env:
    cells = [list(row) for row in ICE]
    cells[goal[0]][goal[1]] = "G"
    return gym.make("FrozenLake-v1", desc=["".join(row) for row in cells], is_slippery=False)


def main(num_rounds: int = 100, num_episodes: int = 2048) -> dict[str, ud.Certificate]:
    lakes = [lake(goal) for goal in CORNERS]
    process = ud.tasks.tabular_from_gymnasium(lakes, num_rounds=num_rounds, name="frozen_lake")
    agents = {
        "deluded": ud.ExactAgent(process, own_actions="see"),
        "sober, a new draw every step": ud.ThompsonAgent(process),
        "sober, holds a plausible guess": ud.ThompsonAgent(process, resample="belief"),
    }
    print(f"{'agent':<32}{'goals in ' + str(num_rounds) + ' steps':>20}{'KL to do':>11}{'KL to see':>11}")
    reports = {}
    for name, agent in agents.items():
        report = ud.certify(process, agent, key=jax.random.key(0), num_episodes=num_episodes, baselines=False)
        goals = report.reward * num_rounds
        print(f"{name:<32}{goals:>20.2f}{report.action_kl_do:>11.3f}{report.action_kl_see:>11.3f}")
        reports[name] = report
    expert = ud.rollout(process, None, key=jax.random.key(0), num_episodes=num_episodes, executor="expert")
    print(f"{'expert, knows the corner':<32}{float(expert.reward.sum(-1).mean()):>20.2f}")
    return reports


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
