"""Compare two exact agents on the bandit of Remark 11. They differ only in how they read their own actions.

Prints three episodes of each, as the paper does, and then the averages over 4,096.

    python examples/delusion.py    half a minute on two cores
"""

import jax
import tyro

import undelude as ud


def main(num_rounds: int = 20, num_episodes: int = 4096) -> dict[str, ud.Certificate]:
    process = ud.tasks.bandit(num_rounds=num_rounds)
    agents = {mark: ud.ExactAgent(process, own_actions=mark) for mark in ("see", "do")}

    print("The best arm is arm 1.")
    for mark, agent in agents.items():
        print(f"Own actions read as {mark}:")
        shown = ud.rollout(process, agent, key=jax.random.key(0), num_episodes=3, theta=0)
        for actions, rewards in zip(shown.actions + 1, shown.observations, strict=True):
            print(f"  actions {_digits(actions)}   rewards {_digits(rewards)}")

    print(f"\n{'own actions':<14}{'reward a round':>16}{'sure of a wrong arm':>22}{'KL to do':>11}{'KL to see':>11}")
    reports = {}
    for mark, agent in agents.items():
        report = ud.certify(process, agent, key=jax.random.key(1), num_episodes=num_episodes, baselines=False)
        print(
            f"{mark:<14}{report.reward:>16.3f}{report.deluded_fraction:>22.1%}"
            f"{report.action_kl_do:>11.3f}{report.action_kl_see:>11.3f}"
        )
        reports[mark] = report
    return reports


def _digits(symbols: jax.Array) -> str:
    groups = range(0, len(symbols), 5)
    return " ".join("".join(str(int(x)) for x in symbols[i : i + 5]) for i in groups)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
