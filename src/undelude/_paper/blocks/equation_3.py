"""Equation 3: the policy treats its own past actions as interventions."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.processes import exact
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings


def block(settings: Settings) -> Block:
    """Compute equation 3 after one round of the bandit."""
    bandit = ud.tasks.bandit(num_rounds=2)
    model = bandit.causal_model()
    histories = ud.Episodes.of(
        bandit, actions=[[1, 0]] * 2, observations=[[1, 0]] * 2, intervened=[[True, True], [False, False]]
    )
    done, seen = np.asarray(exact(bandit, histories).P_A)[:, 1]
    surgery = model.query("A_2", do={"A_1": 1}, see={"O_1": 1}), model.query("A_2", see={"A_1": 1, "O_1": 1})
    gaps = [np.abs(x - y).max() for x, y in zip((done, seen), surgery, strict=True)]
    text = [
        "The smallest example in which the two readings differ: on the five-armed bandit, arm 2 was pulled once and "
        "it paid. As an intervention the pull carries no evidence, and only the reward favours arm 2. As a condition "
        "the pull is evidence too: the expert is six times as likely to pull arm 2 if it is the best.",
        "Each number is computed by the recursion of the agent and by surgery on the graph of two rounds.",
    ]
    rows = Rows("equation-3", "Section 3, equation 3, p. 7", {"task": "bandit", "history": "arm 2 pulled once, paid"})
    items = [
        rows.paper(
            "largest-difference/do-and-see",
            '"we cannot sample actions from P(A_t+1 | a_1:t, o_1:t)": it is not the policy of equation 3',
            np.abs(surgery[0] - surgery[1]).max(),
            at_least(0.1),
        ),
        rows.paper(
            "largest-difference/agent-and-surgery",
            '"past actions are incorporated as causal interventions": the exact agent is the query of the graph',
            gaps[0],
            near(0),
        ),
        rows.example("P(A_2 | do(A_1), O_1=1)/same-arm", "3/7 .6 + 4/7 .1", done[1], near("11/35")),
        rows.example("P(A_2 | do(A_1), O_1=1)/other-arms", "1/7 .6 + 6/7 .1", np.delete(done, 1), near(["6/35"] * 4)),
        rows.example("P(A_2 | A_1, O_1=1)/same-arm", "9/11 .6 + 2/11 .1", seen[1], near("56/110")),
        rows.example("P(A_2 | A_1, O_1=1)/other-arms", "1/22 .6 + 21/22 .1", np.delete(seen, 1), near(["27/220"] * 4)),
        rows.example(
            "largest-difference/deluded-agent-and-surgery", "the deluded agent is the other query", gaps[1], near(0)
        ),
    ]
    return Block("equation-3", "Equation 3: past actions as interventions", text, items)
