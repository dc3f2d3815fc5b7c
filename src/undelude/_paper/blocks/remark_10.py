"""Remark 10: the recursion for the posterior."""

import itertools

import numpy as np

import undelude as ud
from undelude._paper.blocks.processes import exact, game_twice, tiring_twice
from undelude._paper.criterion import equal, near
from undelude._paper.item import Block, Rows, Settings


def differences(process: ud.InteractionProcess, model: ud.CausalModel, *, num_rounds: int) -> tuple[float, float]:
    """Return the largest differences of recursion and enumeration over all histories and marks.

    Args:
        process: a process with a transition.
        model: its causal model.
        num_rounds: number of rounds of the histories, one fewer than the model has.

    Returns:
        The difference for the next theta and for the next action.
    """
    A, O, n = len(model["A_1"].values), len(model["O_1"].values), num_rounds
    rows = np.array(list(itertools.product(*[range(A)] * n, *[range(O)] * n, *[(0, 1)] * n)))
    # One more round, for the prediction before it.
    a, o, do = (np.pad(rows[:, i * n : (i + 1) * n], ((0, 0), (0, 1))) for i in range(3))
    histories = ud.Episodes.of(process, actions=a, observations=o, intervened=do == 1)
    answers = exact(process, histories)
    belief, policy = np.asarray(answers.belief)[:, n], np.asarray(answers.P_A)[:, n]
    worst = [0.0, 0.0]
    for i in range(len(rows)):
        done = {f"A_{t + 1}": int(a[i, t]) for t in range(n) if do[i, t]}
        seen = {f"A_{t + 1}": int(a[i, t]) for t in range(n) if not do[i, t]}
        seen |= {f"O_{t + 1}": int(o[i, t]) for t in range(n)}
        for j, (name, answer) in enumerate(((f"Theta_{n + 1}", belief[i]), (f"A_{n + 1}", policy[i]))):
            worst[j] = max(worst[j], float(np.abs(model.query(name, see=seen, do=done) - answer).max()))
    return worst[0], worst[1]


def block(settings: Settings) -> Block:
    """Compare the recursive posterior with enumeration."""
    (model, process, again), (tiring, tiring_model) = game_twice(), tiring_twice()
    # The remark's product of conditionals: P(theta_2 | theta_1, a_1, o_1) P(o_1 | theta_1, a_1) P(theta_1).
    step = 0.0
    for a, o in itertools.product((0, 1), (0, 1)):
        product = np.stack(
            [
                model.query("Theta_2", see={"Theta_1": i, "A_1": a, "O_1": o})
                * model.query("O_1", see={"Theta_1": i, "A_1": a})[o]
                * model.query("Theta_1")[i]
                for i in (0, 1)
            ]
        )
        done = model.query(("Theta_1", "Theta_2"), do={"A_1": a}, see={"O_1": o})
        step = max(step, float(np.abs(product / product.sum() - done).max()))
    path = differences(process, again, num_rounds=1)
    moving = differences(tiring, tiring_model, num_rounds=2)
    before, after = (model.graph.d_separated("Theta_1", "A_1", do=do) for do in ((), "A_1"))
    dependence = f"{'independent' if before else 'dependent'}; done, {'independent' if after else 'dependent'}"
    rows = Rows("remark-10", "Remark 10, p. 8", {"game": "that of Figure 3, tables from seed 139"})
    moving_arm = {"game": "bandit of three arms whose best arm moves, three rounds"}
    recursion = "recursion = enumeration, for all histories and marks"
    text = [
        "The exact agents compute the belief by a recursion without the likelihood of intervened actions. "
        "`process.causal_model(num_rounds=...)` is the same process as a graph: a query removes the arrows into "
        "intervened variables and sums over the hidden ones. The two share no code beyond the mechanisms.",
        "Listed is the largest difference of any probability over all histories and all marks of their actions: in "
        "Figure 3's game, with the path of thetas as the state, and in three rounds of a bandit whose best arm moves.",
    ]
    items = [
        rows.paper(
            "largest-difference/product-and-query",
            "P(theta_1:t+1 | do(a_1:t), o_1:t) is proportional to P(theta_t+1 | ...) P(o_t | ...) P(theta_1:t | ...)",
            step,
            near(0),
        ),
        rows.paper(
            "largest-difference/game/next-action",
            "P(a_t+1 | do(a_1:t), o_1:t) = sum_theta P(a_t+1 | theta, a, o) P(theta | do(a_1:t), o_1:t)",
            path[1],
            near(0),
        ),
        rows.paper(
            "Theta_1-and-A_1",
            '"the likelihood of the action is absent from the product because it was treated as an intervention"',
            dependence,
            equal("dependent; done, independent"),
        ),
        rows.example("largest-difference/game/posterior", f"{recursion}, of theta_1:2", path[0], near(0)),
        rows.example(
            "largest-difference/moving-arm/posterior", f"{recursion}, of Theta_3", moving[0], near(0), **moving_arm
        ),
        rows.example(
            "largest-difference/moving-arm/next-action", f"{recursion}, of A_3", moving[1], near(0), **moving_arm
        ),
    ]
    return Block("remark-10", "Remark 10: the recursion", text, items)
