"""Write logs to try `undelude offline` on: sellers saw the customer, and the log does not say what they saw.

    python examples/logs.py          writes logs.csv

A customer likes one of three goods, and the seller, who has seen the customer, offers it in most rounds. The log has
the session, the offer and whether it was bought. It does not have what the customer likes. An offer that is made to all
alike would be bought in .42 of rounds; in the log, each is bought in .58.
"""

import csv
from collections.abc import Iterator

import numpy as np

GOODS = ("coffee", "juice", "tea")


def rounds(num_sessions: int = 600, num_rounds: int = 10, seed: int = 0) -> Iterator[tuple[int, str, int]]:
    """Return the rows: session, choice, and outcome, which is 1 if the customer bought."""
    rng = np.random.default_rng(seed)
    for session in range(num_sessions):
        likes = rng.integers(len(GOODS))
        for _ in range(num_rounds):
            offered = likes if rng.random() < 0.5 else rng.integers(len(GOODS))
            bought = rng.random() < (0.75 if offered == likes else 0.25)
            yield session, GOODS[offered], int(bought)


def main(out: str = "logs.csv") -> None:
    with open(out, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["session", "choice", "outcome"])
        rows = list(rounds())
        writer.writerows(rows)
    print(f"Written to {out}: {len(rows):,} rounds.")


if __name__ == "__main__":
    main()
