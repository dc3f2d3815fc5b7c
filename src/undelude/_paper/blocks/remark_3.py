"""Remark 3 and equation 2: the evidence of the self-generated action."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import chance, frog, random_model, refusal
from undelude._paper.item import Block, Settings, equal, holds


def block(settings: Settings) -> Block:
    """Compare both posteriors of equation 2 with queries and with the recursion of the agents."""
    model = frog()
    seen = {"A": 1, "O": 1}
    impossible = refusal(model, "Theta", of=ValueError, see={"A": 1, "O": -1})
    # A model in which all evidence is possible.
    stochastic = random_model(np.random.default_rng(settings.seed + 3))
    P_Theta, P_A, P_O = (np.asarray(v.table, float) for v in stochastic.variables)
    process = ud.tasks.from_tables(prior=P_Theta, expert=P_A, task=P_O, num_rounds=1)
    apart = {"see": [], "do": [], "recursion": []}
    for a, o in np.ndindex(3, 3):
        see, do = stochastic.query("Theta", see={"A": a, "O": o}), stochastic.query("Theta", see={"O": o}, do={"A": a})
        for mark, x, numerator in (
            ("see", see, P_Theta * P_A[:, a] * P_O[:, a, o]),
            ("do", do, P_Theta * P_O[:, a, o]),
        ):
            apart[mark].append(np.abs(x - numerator / numerator.sum()).max())
            history = ud.Episodes.of(process, actions=[a], observations=[o], intervened=mark == "do")
            apart["recursion"].append(np.abs(np.exp(ud.posterior(process, history)[-1]) - x).max())
    return Block(
        "remark-3",
        "Remark 3, equation 2: the evidence of the self-generated action",
        [
            "Both posteriors of equation 2 for the boxes. After a prize in box 1 they agree. After a frog in box 1 the "
            "second posterior is certain of box 2. The first is undefined: given the action it is certain of a prize, "
            "and the frog has probability 0. The library raises an error, shown below.",
            "Then the printed formulas were evaluated in NumPy on random tables, for all actions and outcomes, and "
            "compared with queries to the model and with the recursion of the agents.",
        ],
        [
            equal(
                "remark-3/see/P(Theta=1 | A=1, O=+1)",
                chance(model, "Theta", 1, see=seen),
                1,
                "1: certain already",
                ours=True,
            ),
            holds(
                "remark-3/see/P(Theta=1 | A=1, O=-1)",
                impossible.partition(":")[0],
                "undefined: 0/0",
                impossible.startswith("impossible evidence"),
                ours=True,
            ),
            equal(
                "remark-3/do/P(Theta=1 | do(A=1), O=+1)",
                chance(model, "Theta", 1, do={"A": 1}, see={"O": 1}),
                1,
                "1: the prize is there",
                ours=True,
            ),
            equal(
                "remark-3/do/P(Theta=1 | do(A=1), O=-1)",
                chance(model, "Theta", 1, do={"A": 1}, see={"O": -1}),
                0,
                "0: it is in the other box",
                ours=True,
            ),
            equal(
                "remark-3/largest-difference/see-and-formula",
                max(apart["see"]),
                0,
                "three factors, the action's among them",
            ),
            equal(
                "remark-3/largest-difference/do-and-formula", max(apart["do"]), 0, "two factors, without the action's"
            ),
            equal(
                "remark-3/largest-difference/recursion-and-query",
                max(apart["recursion"]),
                0,
                "the agents' recursion is the same",
                ours=True,
            ),
        ],
        listing=impossible,
    )
