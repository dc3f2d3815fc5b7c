"""Section 4, opening: a learned predictor has a fixed signature."""

import numpy as np

import undelude as ud
from undelude._paper.blocks.models import refusal
from undelude._paper.criterion import at_least, equal, near
from undelude._paper.item import Block, Rows, Settings

KERNEL = np.array([[0.8, 0.2], [0.3, 0.7]])
# The stationary distribution; by detailed balance the kernel of the reversed chain is the same.
STATIONARY = np.array([0.6, 0.4])
NOW, NEXT = "X_t", "X_t+1"


def chains() -> dict[str, ud.CausalModel]:
    """Return three causal models of two symbols with the same transition kernel."""

    def variable(name: str, table: np.ndarray, parents: str | tuple = ()) -> ud.Variable:
        return ud.Variable(name, (0, 1), parents=parents, table=table)

    theta = variable("Theta", STATIONARY), variable(NOW, np.eye(2), "Theta"), variable(NEXT, KERNEL, "Theta")
    return {
        "forwards": ud.CausalModel([variable(NOW, STATIONARY), variable(NEXT, KERNEL, NOW)]),
        "backwards": ud.CausalModel([variable(NEXT, STATIONARY), variable(NOW, KERNEL, NEXT)]),
        "common-cause": ud.CausalModel(theta),
    }


def with_hidden_cause() -> ud.CausalModel:
    """Return the forward chain with an additional hidden common cause of both symbols."""
    both = np.stack([KERNEL, KERNEL[::-1]])
    variables = [
        ud.Variable("Theta", (0, 1), table=STATIONARY),
        ud.Variable(NOW, (0, 1), parents="Theta", table=KERNEL),
        ud.Variable(NEXT, (0, 1), parents=("Theta", NOW), table=both),
    ]
    return ud.CausalModel(variables)


def block(settings: Settings) -> Block:
    """Compare the kernel with the effect of an intervention in three models."""
    models = chains()
    f = {name: np.stack([m.query(NEXT, see={NOW: x}) for x in (0, 1)]) for name, m in models.items()}
    do = {name: np.stack([m.query(NEXT, do={NOW: x}) for x in (0, 1)]).ravel() for name, m in models.items()}
    gaps = [np.abs(f[name] - f["forwards"]).max() for name in models]
    reason = refusal(with_hidden_cause().marginal((NOW, NEXT)), NEXT, do={NOW: 1})
    text = [
        "Three causal models of two binary symbols: the first causes the second, the second causes the first, or a "
        "hidden theta causes both. They have the same transition kernel, so that a function fitted to data of any of "
        "them is the same function.",
        "An intervention on the first symbol has the kernel as its effect in the first model, and no effect in the "
        "other two. The function does not determine it. If a hidden common cause cannot be excluded, the library "
        "raises an error that explains why.",
    ]
    kernel, unmoved = KERNEL.ravel(), np.tile(STATIONARY, 2)
    rows = Rows(
        "section-4", "Section 4, p. 10", {"kernel, a row for each x_t": KERNEL.tolist(), "P(X_t)": STATIONARY.tolist()}
    )
    items = [
        rows.paper(
            "P(X_t+1 | do(X_t))/spread-over-the-three-models",
            '"we cannot compute P(X_t+1 | do(x_t))" using f: models with the same f have different answers',
            max(np.abs(do[name] - do["forwards"]).max() for name in models),
            at_least(0.1),
        ),
        rows.paper(
            "P(X_t+1 | do(X_t))/from-the-marginal",
            '"we cannot compute P(X_t+1 | do(x_t))": the query is refused',
            reason.partition(" from ")[0],
            equal("P(X_t+1 | do(X_t)) cannot be computed"),
        ),
        rows.example("largest-difference/f-in-each-of-the-three", "one function for all three", gaps, near([0] * 3)),
        rows.example("P(X_t+1 | X_t)", "which is the kernel", f["forwards"].ravel(), near(kernel)),
        rows.example("P(X_t+1 | do(X_t))/forwards", "here equal to f", do["forwards"], near(kernel)),
        rows.example("P(X_t+1 | do(X_t))/backwards", "not f: no effect", do["backwards"], near(unmoved)),
        rows.example("P(X_t+1 | do(X_t))/common-cause", "not f: no effect", do["common-cause"], near(unmoved)),
    ]
    return Block("section-4", "Section 4: a learned predictor has a fixed signature", text, items, listing=reason)
