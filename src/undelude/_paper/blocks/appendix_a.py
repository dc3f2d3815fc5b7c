"""Appendix A, equations 9 and 10: the minimum of the expected losses is the interventional distribution."""

import numpy as np

from undelude._paper.blocks import limits
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings


def block(settings: Settings) -> Block:
    """Minimise the losses of counterfactual and of factual teaching over all episodes of a small process."""
    own, other, demonstrated = limits.limit(0.0), limits.limit(0.0, policy_seed=1), limits.limit(1.0)
    done, seen = list(limits.histories(1)), list(limits.histories(0))
    P_A = np.stack([limits.answer_A(h) for h in done])
    rows_A = [h.index for h in done]
    P_O = np.stack([limits.answer_O(h, a) for h in done for a in range(limits.A)])
    rows_O = [limits.append_action(h.index, a, 1) for h in done for a in range(limits.A)]
    deluded = np.stack([limits.answer_A(h) for h in seen])
    # Equality (c): the expectation of cross-entropies, with the policy of the agent that acted.
    entropies = -(P_A * np.log(limits.actor(0)[rows_A])).sum(-1)
    decomposed = float(own.weight_A[rows_A] @ entropies)
    rows = Rows("appendix-a", "Appendix A, p. 15", {**limits.PARAMETERS, "agent acts by a random policy from seed": 0})
    equation_9, equation_10 = "Appendix A, equation 9, p. 15", "Appendix A, equation 10, p. 15"
    items = [
        rows.paper(
            "equation-9/largest-difference",
            "minimizing L(A_t) implies P(a_t | a_<t, o_<t) = Q(a_t | do(a_<t), o_<t) for all histories",
            np.abs(own.P_A[rows_A] - P_A).max(),
            near(0),
            equation_9,
        ),
        rows.paper(
            "equation-10/largest-difference",
            "minimizing L(O_t) implies P(o_t | a_<=t, o_<t) = Q(o_t | do(a_<=t), o_<t)",
            np.abs(own.P_O[rows_O] - P_O).max(),
            near(0),
            equation_10,
        ),
        rows.paper(
            "expected-loss-and-expected-cross-entropies",
            '"L(A_t) is an expectation over a collection of cross-entropies": relative difference of the two',
            own.loss / decomposed - 1,
            near(0),
        ),
        rows.paper(
            "largest-difference/another-policy",
            '"all histories": the minimum is the same in episodes of another policy',
            max(np.abs(other.P_A[rows_A] - P_A).max(), np.abs(other.P_O[rows_O] - P_O).max()),
            near(0),
            **{"agent acts by a random policy from seed": 1},
        ),
        rows.example(
            "largest-difference/do-and-see",
            "so that the equations could fail: the deluded answer is another one",
            np.abs(P_A - deluded).max(),
            at_least(0.05),
        ),
        rows.example(
            "factual-teaching/largest-difference-from-see",
            "in the expert's episodes the same loss has its minimum at Q(a_t | a_<t, o_<t)",
            np.abs(demonstrated.P_A[[h.index for h in seen]] - deluded).max(),
            near(0),
            equation_9,
        ),
    ]
    text = [
        f"All {len(limits.ROUNDS) ** limits.T:,} episodes of a small process were enumerated: who executes each "
        "action, "
        "the action, the expert's action and the observation. Each is weighted by its probability under the braided "
        "distribution `B`, computed in NumPy from the tables, and scored by `ud.log_losses`, with one free "
        "distribution "
        "for each history. The expected loss is linear in the log-probabilities, so that its derivatives give its "
        "minimum: the derivative by `log P(x | history)` is minus the probability of scoring `x` there.",
        f"The minima after all {len(done)} histories of own actions are compared with surgery on the graph.",
        "In the derivation of `L(O_t)` the paper prints the weight `Q(A_t = a_bar_t | theta, a_<t, o_<t)` in its first "
        "line. The loss of an observation is incurred with the probability of the observation, as in its second line. "
        "The library's loss follows the second line.",
    ]
    return Block("appendix-a", "Appendix A: why factual and counterfactual teaching works", text, items)
