"""Equation 3: the policy treats its own past actions as interventions."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.processes import policies
from undelude._paper.item import Block, Settings, equal


def block(settings: Settings) -> Block:
    """Compute equation 3 after one round of the bandit."""
    bandit = ud.tasks.bandit(num_rounds=2)
    model = bandit.causal_model()
    histories = ud.Episodes.of(
        bandit, actions=[[1, 0]] * 2, observations=[[1, 0]] * 2, intervened=[[True, True], [False, False]]
    )
    done, seen = np.asarray(policies(bandit, histories))[:, 1]
    surgery = model.query("A_2", do={"A_1": 1}, see={"O_1": 1}), model.query("A_2", see={"A_1": 1, "O_1": 1})
    gaps = [np.abs(x - y).max() for x, y in zip((done, seen), surgery, strict=True)]
    text = [
        "The smallest example in which the two readings differ: on the five-armed bandit, arm 2 was pulled once and "
        "it paid. As an intervention the pull carries no evidence, and only the reward favours arm 2. As a condition "
        "the pull is evidence too: the expert is six times as likely to pull arm 2 if it is the best.",
        "Each number is computed by the recursion of the agent and by surgery on the graph of two rounds.",
    ]
    items = [
        equal("equation-3/P(A_2 | do(A_1), O_1=1)/same-arm", done[1], 11 / 35, "11/35", ours=True),
        equal("equation-3/P(A_2 | do(A_1), O_1=1)/other-arms", np.delete(done, 1), [6 / 35] * 4, "6/35", ours=True),
        equal("equation-3/P(A_2 | A_1, O_1=1)/same-arm", seen[1], 56 / 110, "56/110", ours=True),
        equal("equation-3/P(A_2 | A_1, O_1=1)/other-arms", np.delete(seen, 1), [27 / 220] * 4, "27/220", ours=True),
        equal(
            "equation-3/largest-difference/agent-and-surgery",
            gaps,
            [0, 0],
            "two independent computations agree: do, see",
            ours=True,
        ),
    ]
    return Block("equation-3", "Equation 3: past actions as interventions", text, items)
