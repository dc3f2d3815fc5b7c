"""Remark 12 and equations 4 to 8: language models."""

import itertools

import numpy as np

import undelude as ud
from undelude._paper.criterion import at_least, at_most, equal, falls, near, rises
from undelude._paper.item import Block, Item, Rows, Settings

WORDS = ("X_1", "X_2", "X_3", "X_4")
VOCABULARY = 3
INFORMATIVE = (0.0, 0.3, 0.6, 0.9, 0.99)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
ROWS = Rows(
    "remark-12",
    "Remark 12, p. 10",
    {"model": "four words, vocabulary of three, tables from seed 12", "informative": 0.3},
)


def dialogue(informative: float = 0.3, seed: int = 12) -> ud.CausalModel:
    """Return a model of four words from a vocabulary of three, each depending on theta and all words before it.

    Args:
        informative: how informative the expert's words, the first and the third, are about theta, from 0 to 1.
        seed: seed of the tables.
    """
    rng = np.random.default_rng(seed)
    values = tuple(range(VOCABULARY))
    variables = [ud.Variable("Theta", values, table=np.full(VOCABULARY, 1 / VOCABULARY))]
    for i, name in enumerate(WORDS):
        past = [VOCABULARY] * i
        if name in ("X_1", "X_3"):
            told = np.eye(VOCABULARY).reshape(VOCABULARY, *[1] * i, VOCABULARY)
            probs = informative * told + (1 - informative) * rng.dirichlet(np.ones(VOCABULARY), past)
        else:
            probs = rng.dirichlet(np.full(VOCABULARY, 0.7), [VOCABULARY, *past])
        variables.append(ud.Variable(name, values, parents=("Theta", *WORDS[:i]), table=probs))
    return ud.CausalModel(variables)


def readings(model: ud.CausalModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return both predictions of the fourth word, and the probability of the first three in dialogues.

    Returns:
        `P(x_4 | x_1, x_2, x_3)` and `P(x_4 | x_1, do(x_2), x_3)`, each `[x_1, x_2, x_3, x_4]`, and
        `P(x_1) P(x_2 | x_1) P(x_3 | x_1, do(x_2))`: the model writes x_2.
    """
    see = np.asarray(model.query(WORDS))
    do = np.empty_like(see)  # P(x_3, x_4 | x_1, do(x_2))
    for x_1, x_2 in itertools.product(range(VOCABULARY), repeat=2):
        do[x_1, x_2] = model.query(WORDS[2:], see={"X_1": x_1}, do={"X_2": x_2})
    weight = np.asarray(model.query(WORDS[:2]))[..., None] * do.sum(-1)
    return see / see.sum(-1, keepdims=True), do / do.sum(-1, keepdims=True), weight


def corpus(model: ud.CausalModel, share: float, generated: np.ndarray, *, fourth: str = "machine") -> ud.CausalModel:
    """Return the model of a corpus that contains a share of dialogues with a machine, which does not know theta.

    Args:
        model: the model of human text.
        share: the share of dialogues, in which the machine writes the second word.
        generated: the machine's distribution of the fourth word, `[x_1, x_2, x_3, x_4]`.
        fourth: the author of the fourth word in dialogues, "machine" or "human".
    """
    by = {v.name: v for v in model.variables}
    x_2 = np.asarray(model.query(WORDS[:2]))
    x_2 = np.broadcast_to(x_2 / x_2.sum(-1, keepdims=True), by["X_2"].table.shape)
    x_4 = np.broadcast_to(generated, by["X_4"].table.shape) if fourth == "machine" else by["X_4"].table
    variables = [by["Theta"], by["X_1"], by["X_3"], ud.Variable("Machine", (0, 1), table=[1 - share, share])]
    for name, written in (("X_2", x_2), ("X_4", x_4)):
        both = np.stack([by[name].table, written])
        variables.append(ud.Variable(name, by[name].values, parents=("Machine", *by[name].parents), table=both))
    return ud.CausalModel(variables)


def relearned(model: ud.CausalModel, share: float, generated: np.ndarray, *, fourth: str = "machine") -> np.ndarray:
    """Return `P(x_4 | x_1, x_2, x_3)` in that corpus, the limit of a predictor that is trained on it."""
    joint = np.asarray(corpus(model, share, generated, fourth=fourth).query(WORDS))
    return joint / joint.sum(-1, keepdims=True)


def _distance(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Return the mean total variation between two predictions of the fourth word."""
    return float((weight * np.abs(x - y).sum(-1) / 2).sum())


def _by_formula(model: ud.CausalModel, mark: str) -> tuple[np.ndarray, float]:
    """Evaluate equations 4 and 5, or 6 and 7: the predictions, and the largest difference of posterior and query."""
    prior, *words = (np.asarray(model[name].table, float) for name in ("Theta", *WORDS))
    x_2 = np.ones_like(words[1]) if mark == "do" else words[1]
    posterior = np.einsum("i,ia,iab,iabc->iabc", prior, words[0], x_2, words[2])
    posterior = posterior / posterior.sum(0)
    worst = 0.0
    for text in itertools.product(range(VOCABULARY), repeat=3):
        given: dict[str, int] = dict(zip(WORDS, text, strict=False))
        do = {"X_2": given.pop("X_2")} if mark == "do" else {}
        worst = max(worst, float(np.abs(model.query("Theta", see=given, do=do) - posterior[:, *text]).max()))
    return np.einsum("iabc,iabcx->abcx", posterior, words[3]), worst


def _relearning_items(model: ud.CausalModel) -> list[Item]:
    see, do, weight = readings(model)
    # A biased model: its predictions are mixed with uniform ones.
    wrong = (see + 1 / VOCABULARY) / 2
    again = [relearned(model, share, see) for share in SHARES]
    apart = _distance(see, do, weight)
    drift, stays = ([_distance(x, y, weight) for x in again] for y in (see, do))
    heals = [_distance(relearned(model, share, see, fourth="human"), do, weight) for share in SHARES]
    left = [_distance(relearned(model, s, wrong), see, weight) / _distance(wrong, see, weight) for s in SHARES]
    rows = ROWS
    shares = {"shares of generated text": list(SHARES), "average": "over dialogues of people with the machine"}
    return [
        rows.paper(
            "relearning/distance-moved",
            '"relearning from this dataset will only confirm the model\'s biases": it does not move at any share',
            drift,
            near([0] * 5),
            **shares,
        ),
        rows.paper(
            "relearning/bias-left",
            '"relearning from this dataset will only confirm the model\'s biases": what is left of a bias rises with '
            "the share",
            left,
            rises(0.01),
            **shares,
        ),
        rows.example("relearning/bias-left-at-share-1", "all of the bias is left", left[-1], near(1)),
        rows.example(
            "relearning/distance-to-do", "the delusion stays, at any share", stays, near([apart] * 5), **shares
        ),
        rows.example(
            "relearning/distance-to-do-if-people-write-x_4",
            "counterfactual teaching: people answer the machine's words",
            heals,
            falls(1e-3),
            **shares,
        ),
        rows.example(
            "relearning/distance-to-do-if-people-write-x_4-at-share-1", "and the delusion is gone", heals[-1], near(0)
        ),
    ]


def block(settings: Settings) -> Block:
    """Check equations 4 to 8, and the effect of training on generated text."""
    model = dialogue()
    see, do, _ = readings(model)
    (eq_4, eq_5), (eq_6, eq_7) = (_by_formula(model, mark) for mark in ("see", "do"))
    apart = np.abs(see - do).sum(-1) / 2
    distances = [_distance(*readings(dialogue(informative))) for informative in INFORMATIVE]
    doors = model.graph.back_door("X_2", "X_4")
    text = [
        "Texts of four words from a vocabulary of three. Each word depends on a hidden theta, say the intention of the "
        "writer, and on all earlier words, with random tables. People write the first and the third word; the second "
        "is written by people or by the model. Equations 4 to 7 were evaluated as printed for all 27 texts of three "
        "words, and compared with queries to the model. The two predictions are close if the words of people are "
        "informative about theta, and differ otherwise: listed is their mean total variation, from uninformative to "
        "nearly fully informative words.",
        "Then a share of 0, 1/4, 1/2, 3/4 or 1 of the corpus comes from dialogues in which the machine wrote the "
        "second word without knowing theta, and the fourth; and a predictor is trained on the corpus. Each item has "
        "these five shares. A distance is a mean total variation between two predictions of the fourth word, over "
        "dialogues of people with the machine.",
        "If the machine writes by equation 4, the predictor learns equation 4 again: `distance moved` is the distance "
        "between its predictions before and after, and `distance to do` that from equation 6, the right answer. "
        "`Bias left` is for a machine that is biased even on the text of people, halfway between equation 4 and the "
        "uniform distribution: the fraction of its distance from equation 4 that remains. It is 0 if all text is "
        "human, and 1 if all text comes from dialogues. If people write the fourth word after the machine's second "
        "one, the distance to `do` decreases to 0. This is counterfactual teaching.",
    ]
    door = "; ".join(" and ".join(sorted(s)) for s in doors)
    rows = ROWS
    p10 = "Remark 12, p. 10"
    items = [
        rows.paper(
            "equation-4/largest-difference",
            "P(x_4 | x_1, x_2, x_3) = sum_theta P(x_4 | theta, x_1, x_2, x_3) P(theta | x_1, x_2, x_3)",
            np.abs(eq_4 - see).max(),
            near(0),
            "Remark 12, equation 4, p. 9",
        ),
        rows.paper(
            "equation-5/largest-difference",
            "P(theta | x_1, x_2, x_3) has the factors P(x_3 | ...) P(x_2 | theta, x_1) P(x_1 | theta) P(theta)",
            eq_5,
            near(0),
            "Remark 12, equation 5, p. 9",
        ),
        rows.paper(
            "equation-6/largest-difference",
            "P(x_4 | x_1, do(x_2), x_3) = sum_theta P(x_4 | theta, x_1, x_2, x_3) P(theta | x_1, do(x_2), x_3)",
            np.abs(eq_6 - do).max(),
            near(0),
            "Remark 12, equation 6, p. 10",
        ),
        rows.paper(
            "equation-7/largest-difference",
            "P(theta | x_1, do(x_2), x_3) has the factors P(x_3 | theta, x_1, x_2) P(x_1 | theta) P(theta)",
            eq_7,
            near(0),
            "Remark 12, equation 7, p. 10",
        ),
        rows.paper(
            "equation-8/least-total-variation",
            "P(x_4 | x_1, x_2, x_3) and P(x_4 | x_1, do(x_2), x_3) are not equal, for any of the 27 texts",
            apart.min(),
            at_least(1e-3),
            "Remark 12, equation 8, p. 10",
        ),
        rows.paper(
            "back-door-sets",
            '"an application of the back-door criterion to the causal graph": adjust for theta and the first word',
            door,
            equal("Theta and X_1"),
            p10,
        ),
        rows.paper(
            "mean-total-variation-by-informativeness",
            '"If the observations are very informative about the latent information theta, then the difference between '
            "the "
            'two predictive models [...] will be small"',
            distances,
            falls(1e-3),
            p10,
            informative=list(INFORMATIVE),
        ),
        *_relearning_items(model),
        rows.example(
            "mean-total-variation/most-over-least-informative",
            "with nearly informative words less than a tenth is left",
            distances[-1] / distances[0],
            at_most(0.1),
            informative=[INFORMATIVE[-1], INFORMATIVE[0]],
        ),
        rows.example(
            "back-door-sets-with-Theta-hidden",
            "with theta hidden there is nothing to adjust for",
            len(model.graph.back_door("X_2", "X_4", latent="Theta")),
            near(0, 0),
        ),
    ]
    return Block("remark-12", "Remark 12: language models", text, items)
