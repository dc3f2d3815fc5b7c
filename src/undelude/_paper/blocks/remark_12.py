"""Remark 12 and equations 4 to 8: language models."""

import itertools

import numpy as np

import undelude as ud
from undelude._paper.item import Block, Item, Settings, equal, holds

WORDS = ("X_1", "X_2", "X_3", "X_4")
VOCABULARY = 3
INFORMATIVE = (0.0, 0.3, 0.6, 0.9, 0.99)
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def dialogue(informative: float = 0.3, seed: int = 12) -> ud.CausalModel:
    """Four words of three kinds, each listening to theta and to all words before it.

    Args:
        informative: how much the first and the third word, which are the expert's, tell of theta: 0 nothing, 1 all.
        seed: of the tables.
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
    """`P(x_4 | x_1, x_2, x_3)`, `P(x_4 | x_1, do(x_2), x_3)`, and how often dialogues with the model get there.

    Returns:
        Two arrays `[x_1, x_2, x_3, x_4]`, and `P(x_1) P(x_2 | x_1) P(x_3 | x_1, do(x_2))`: the model writes x_2.
    """
    see = np.asarray(model.query(WORDS))
    do = np.empty_like(see)  # P(x_3, x_4 | x_1, do(x_2))
    for x_1, x_2 in itertools.product(range(VOCABULARY), repeat=2):
        do[x_1, x_2] = model.query(WORDS[2:], see={"X_1": x_1}, do={"X_2": x_2})
    weight = np.asarray(model.query(WORDS[:2]))[..., None] * do.sum(-1)
    return see / see.sum(-1, keepdims=True), do / do.sum(-1, keepdims=True), weight


def corpus(model: ud.CausalModel, share: float, generated: np.ndarray, *, fourth: str = "machine") -> ud.CausalModel:
    """Text of which a share comes from dialogues whose second word a machine wrote, theta-blind.

    Args:
        model: of the text that people write.
        share: of the dialogues with the machine.
        generated: `[x_1, x_2, x_3, x_4]`, how the machine continues three words.
        fourth: who writes the fourth word of these dialogues, "machine" or "human".
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
    """`P(x_4 | x_1, x_2, x_3)` in that corpus: what a predictor learns from it, given text without end."""
    joint = np.asarray(corpus(model, share, generated, fourth=fourth).query(WORDS))
    return joint / joint.sum(-1, keepdims=True)


def _distance(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    """Mean total variation between two predictions of the fourth word."""
    return float((weight * np.abs(x - y).sum(-1) / 2).sum())


def _by_formula(model: ud.CausalModel, mark: str) -> tuple[np.ndarray, float]:
    """Equations 4 and 5, or 6 and 7, for all texts: the prediction, and how far the posterior is from the query's."""
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
    # A model that is wrong to begin with: its predictions are mixed with those of an ignorant one.
    wrong = (see + 1 / VOCABULARY) / 2
    again = [relearned(model, share, see) for share in SHARES]
    apart = _distance(see, do, weight)
    drift, stays = ([_distance(x, y, weight) for x in again] for y in (see, do))
    heals = [_distance(relearned(model, share, see, fourth="human"), do, weight) for share in SHARES]
    left = [_distance(relearned(model, s, wrong), see, weight) / _distance(wrong, see, weight) for s in SHARES]
    rises, falls = (np.diff(left) > 0).all(), (np.diff(heals) < 0).all()
    all_left, all_healed = abs(left[-1] - 1) < 1e-5, heals[-1] < 1e-5
    name = "remark-12/relearning"
    return [
        equal(f"{name}/distance-moved", drift, [0] * 5, "confirms what it predicts"),
        equal(f"{name}/distance-to-do", stays, [apart] * 5, f"the delusion stays: {apart:.4f} at any share", ours=True),
        holds(
            f"{name}/bias-left", left, "confirms the model's biases: the more, the larger the share", rises and all_left
        ),
        holds(
            f"{name}/distance-to-do-where-people-write-x_4",
            heals,
            "falls to 0: counterfactual teaching",
            falls and all_healed,
            ours=True,
        ),
    ]


def block(settings: Settings) -> Block:
    """Language models: a word of one's own is an intervention."""
    model = dialogue()
    see, do, _ = readings(model)
    (eq_4, eq_5), (eq_6, eq_7) = (_by_formula(model, mark) for mark in ("see", "do"))
    apart = np.abs(see - do).sum(-1) / 2
    distances = [_distance(*readings(dialogue(informative))) for informative in INFORMATIVE]
    doors = model.back_door("X_2", "X_4")
    only_door = doors == (frozenset({"Theta", "X_1"}),) and not model.back_door("X_2", "X_4", latent="Theta")
    falls = (np.diff(distances) < 0).all() and distances[-1] < 0.1 * distances[0]
    text = [
        "A language of three words and texts of four. A hidden theta, say the intention of the writer, and all earlier "
        "words decide about each word, by tables drawn at random. People write the first and the third word; who "
        "wrote the second is the question. Equations 4 to 7 were evaluated as they stand, for all 27 texts of three "
        "words, and compared with queries to the model. The two predictions agree where the words of people tell much "
        "about theta, and part where they do not: listed is their mean total variation, from words that tell nothing "
        "to words that tell nearly all.",
        "Then a share of 0, 1/4, 1/2, 3/4 or all of the text comes from dialogues in which the machine wrote the "
        "second word, knowing nothing of theta, and continued with the fourth; and a predictor learns again from "
        "everything. Each row of numbers is over these five shares, and each distance a mean total variation between "
        "two predictions of the fourth word, over the dialogues that people have with the machine.",
        "If the machine writes as equation 4 predicts, what is learned again is equation 4: the distance moved is "
        "that between the prediction before and after, and the distance to `do` is that from equation 6, the right "
        "answer. Bias left is another case: there the machine begins with predictions that are wrong even of the "
        "text of people, halfway between equation 4 and a blind guess; of its distance from equation 4, what is shown "
        "is the fraction that remains: none if all text is by people, all if all is of dialogues with it. Had people "
        "written the fourth word after the machine's second, the distance to `do` would fall to 0: that is "
        "counterfactual teaching.",
    ]
    door = "; ".join(" and ".join(sorted(s)) for s in doors)
    items = [
        equal("remark-12/equation-4/largest-difference", np.abs(eq_4 - see).max(), 0, "the sum over theta"),
        equal("remark-12/equation-5/largest-difference", eq_5, 0, "four factors, that of the second word among them"),
        equal("remark-12/equation-6/largest-difference", np.abs(eq_6 - do).max(), 0, "the sum over theta"),
        equal("remark-12/equation-7/largest-difference", eq_7, 0, "three factors, that of the second word gone"),
        holds(
            "remark-12/equation-8/least-and-largest-total-variation",
            [apart.min(), apart.max()],
            "the two are different",
            apart.min() > 1e-3,
        ),
        holds("remark-12/back-door-sets", door, "theta and the first word", only_door, ours=True),
        holds(
            "remark-12/mean-total-variation-as-words-tell-more",
            distances,
            "very different if words tell little, else small",
            falls,
        ),
        *_relearning_items(model),
    ]
    return Block("remark-12", "Remark 12: language models", text, items)
