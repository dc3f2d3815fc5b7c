"""Section 4, its opening: a learned predictor has a fixed signature."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import refusal
from undelude._paper.item import Block, Settings, equal, holds

KERNEL = np.array([[0.8, 0.2], [0.3, 0.7]])
# Of the chain with that kernel: it is in balance, so that the chain looks alike forwards and backwards.
STATIONARY = np.array([0.6, 0.4])
NOW, NEXT = "X_t", "X_t+1"


def chains() -> dict[str, ud.CausalModel]:
    """Three ways in which two symbols can come to follow each other with the same frequencies."""

    def variable(name: str, table: np.ndarray, parents: str | tuple = ()) -> ud.Variable:
        return ud.Variable(name, (0, 1), parents=parents, table=table)

    theta = variable("Theta", STATIONARY), variable(NOW, np.eye(2), "Theta"), variable(NEXT, KERNEL, "Theta")
    return {
        "forwards": ud.CausalModel([variable(NOW, STATIONARY), variable(NEXT, KERNEL, NOW)]),
        "backwards": ud.CausalModel([variable(NEXT, STATIONARY), variable(NOW, KERNEL, NEXT)]),
        "common-cause": ud.CausalModel(theta),
    }


def with_hidden_cause() -> ud.CausalModel:
    """The chain forwards whose two symbols may also have a hidden cause in common."""
    both = np.stack([KERNEL, KERNEL[::-1]])
    variables = [
        ud.Variable("Theta", (0, 1), table=STATIONARY),
        ud.Variable(NOW, (0, 1), parents="Theta", table=KERNEL),
        ud.Variable(NEXT, (0, 1), parents=("Theta", NOW), table=both),
    ]
    return ud.CausalModel(variables)


def block(settings: Settings) -> Block:
    """A transition kernel cannot tell what an intervention does."""
    models = chains()
    f = {name: np.stack([m.query(NEXT, see={NOW: x}) for x in (0, 1)]) for name, m in models.items()}
    do = {name: np.stack([m.query(NEXT, do={NOW: x}) for x in (0, 1)]).ravel() for name, m in models.items()}
    gaps = [np.abs(f[name] - f["forwards"]).max() for name in models]
    reason = refusal(with_hidden_cause().marginal((NOW, NEXT)), NEXT, do={NOW: 1})
    text = [
        "Three causal models of two binary symbols: the first causes the second, the second causes the first, or a "
        "hidden theta causes both. They were built to have one and the same transition kernel, so a function fitted "
        "to data from any of them is the same function.",
        "Setting the first symbol from outside gives that kernel in the first model, and changes nothing in the other "
        "two. What is asked is not in the function. Where a hidden cause cannot be excluded, the library refuses to "
        "answer, and says why.",
    ]
    kernel, unmoved, answer = KERNEL.ravel(), np.tile(STATIONARY, 2), "refused: not identifiable"
    items = [
        equal(
            "section-4/P(X_t+1 | X_t)",
            f["forwards"].ravel(),
            kernel,
            "the transition kernel, a row for each x_t",
            ours=True,
        ),
        equal(
            "section-4/largest-difference/f-in-each-of-the-three",
            gaps,
            [0] * 3,
            "one function for all three",
            ours=True,
        ),
        equal(
            "section-4/P(X_t+1 | do(X_t))/forwards",
            do["forwards"],
            kernel,
            "here f happens to be the answer",
            ours=True,
        ),
        equal(
            "section-4/P(X_t+1 | do(X_t))/backwards", do["backwards"], unmoved, "here it is not: no effect", ours=True
        ),
        equal("section-4/P(X_t+1 | do(X_t))/common-cause", do["common-cause"], unmoved, "nor here", ours=True),
        holds(
            "section-4/P(X_t+1 | do(X_t))/from-the-marginal",
            answer if reason else "answered",
            "using f, do cannot be computed",
            reason,
        ),
    ]
    return Block("section-4", "Section 4: a learned predictor has a fixed signature", text, items, listing=reason)
