"""The prize-or-frog problem (Section 2, Figure 1)."""

import numpy as np

from undelude._process.process import InteractionProcess
from undelude.tasks.tables import from_tables


def prize_or_frog(num_rounds: int = 1) -> InteractionProcess:
    """Return the prize-or-frog problem. Theta is the box with the prize, which the expert opens.

    An observation is the content of the box, -1 or +1 (symbols 0 and 1), without noise. Boxes 1 and 2 of the paper are
    symbols 0 and 1 here.

    Args:
        num_rounds: T; the paper's problem has one round.
    """
    right = np.eye(2)
    task = np.stack([1 - right, right], axis=-1)
    return from_tables(prior=[0.5, 0.5], expert=right, task=task, rewards=[-1, 1], num_rounds=num_rounds, name="frog")
