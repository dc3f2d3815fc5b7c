"""Remark 3 and equation 2: the evidence of the self-generated action."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import chance, frog, random_model, refusal
from undelude._paper.criterion import equal, near
from undelude._paper.item import Block, Rows, Settings


def block(settings: Settings) -> Block:
    """Compare both posteriors of equation 2 with queries and with the recursion of the agents."""
    model = frog()
    seen = {"A": 1, "O": 1}
    impossible = refusal(model, "Theta", of=ValueError, see={"A": 1, "O": -1})
    # A model in which all evidence is possible.
    stochastic = random_model(np.random.default_rng(settings.seed + 3))
    P_Theta, P_A, P_O = (np.asarray(v.table, float) for v in stochastic.variables)
    process = ud.tasks.from_tables(prior=P_Theta, expert=P_A, task=P_O, num_rounds=1)
    # All actions and outcomes under both marks, in one call.
    a, o, done = (x.reshape(-1, 1) for x in np.indices((3, 3, 2)))
    histories = ud.Episodes.of(process, actions=a, observations=o, intervened=done == 1)
    recursion = np.exp(np.asarray(ud.posterior(process, histories), float))[:, -1].reshape(3, 3, 2, 3)
    apart = {"see": [], "do": [], "recursion": []}
    for a, o in np.ndindex(3, 3):
        see, do = stochastic.query("Theta", see={"A": a, "O": o}), stochastic.query("Theta", see={"O": o}, do={"A": a})
        factors = {"see": P_Theta * P_A[:, a] * P_O[:, a, o], "do": P_Theta * P_O[:, a, o]}
        for i, (mark, x) in enumerate((("see", see), ("do", do))):
            apart[mark].append(np.abs(x - factors[mark] / factors[mark].sum()).max())
            apart["recursion"].append(np.abs(recursion[a, o, i] - x).max())
    rows = Rows("remark-3", "Remark 3, equation 2, p. 6", {"model": "prize or frog"})
    drawn = {"model": "three values each, tables from Dirichlet(1, 1, 1)", "seed": settings.seed + 3}
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
            rows.paper(
                "largest-difference/see-and-formula",
                "P(theta | a, o) has the factors P(theta) P(a | theta) P(o | theta, a)",
                max(apart["see"]),
                near(0),
                **drawn,
            ),
            rows.paper(
                "largest-difference/do-and-formula",
                '"the intervention causes the dismissal of the evidence P(a | theta)": P(theta) P(o | theta, a)',
                max(apart["do"]),
                near(0),
                **drawn,
            ),
            rows.example(
                "largest-difference/recursion-and-query",
                "the agents' recursion gives the same two posteriors",
                max(apart["recursion"]),
                near(0),
                **drawn,
            ),
            rows.example(
                "see/P(Theta=1 | A=1, O=+1)",
                "certain already, by the own action",
                chance(model, "Theta", 1, see=seen),
                near(1),
            ),
            rows.example(
                "see/P(Theta=1 | A=1, O=-1)",
                "0/0: the deluded model gives the frog probability 0, and the library raises an error",
                impossible.partition(":")[0],
                equal("impossible evidence"),
            ),
            rows.example(
                "do/P(Theta=1 | do(A=1), O=+1)",
                "the prize is there",
                chance(model, "Theta", 1, do={"A": 1}, see={"O": 1}),
                near(1),
            ),
            rows.example(
                "do/P(Theta=1 | do(A=1), O=-1)",
                "it is in the other box",
                chance(model, "Theta", 1, do={"A": 1}, see={"O": -1}),
                near(0),
            ),
        ],
        listing=impossible,
    )
