"""Remark 16: a language model with one form of each symbol deludes itself; the epigraph as a process."""

import numpy as np

import undelude as ud
from undelude._paper.blocks import limits
from undelude._paper.blocks.models import draw, log_tables
from undelude._paper.criterion import at_least, near
from undelude._paper.item import Block, Rows, Settings, difference, mean

DISHES, TURNS = 5, 6
# The customer: "yes", "no", or no answer but the question again.
ANSWERS, RIGHT, EXPERT = 0.8, 0.75, 0.9
YES, NO, AGAIN = range(3)


def dialogue() -> ud.InteractionProcess:
    """Return the epigraph's dialogue: theta is the dish on the menu, an action names one, and the customer replies."""
    eye = np.eye(DISHES)
    yes = np.where(eye == 1, RIGHT, 1 - RIGHT) * ANSWERS
    replies = np.stack([yes, ANSWERS - yes, np.full_like(yes, 1 - ANSWERS)], -1)
    waiter = np.where(eye == 1, EXPERT, (1 - EXPERT) / (DISHES - 1))
    return ud.tasks.from_tables(
        prior=np.full(DISHES, 1 / DISHES), expert=waiter, task=replies, num_rounds=TURNS, name="menu"
    )


def transcripts(process: ud.InteractionProcess, size: int, seed: int, *, mark: str) -> tuple[np.ndarray, np.ndarray]:
    """Sample dialogues of a model that reads its own sentences as `mark`.

    Returns:
        Its KL divergence from the model that reads them as do, after the same transcript, `[B, T]` in nats; and
        whether it names the dish on the menu, `[B, T]`.
    """
    rng = np.random.default_rng(seed)
    expert, task = (np.exp(table) for table in log_tables(process))
    theta = rng.integers(DISHES, size=size)
    weight = {name: np.full((size, DISHES), 1 / DISHES) for name in ("do", "see")}
    kl, right = np.empty((size, TURNS)), np.empty((size, TURNS), bool)
    for t in range(TURNS):
        predicted = {name: w / w.sum(-1, keepdims=True) @ expert for name, w in weight.items()}
        kl[:, t] = (predicted["do"] * np.log(predicted["do"] / predicted[mark])).sum(-1)
        a = draw(rng, predicted[mark])
        o = draw(rng, task[theta, a])
        right[:, t] = a == theta
        told = task[:, a, o].T
        weight = {"do": weight["do"] * told, "see": weight["see"] * told * expert[:, a].T}
    return kl, right


def block(settings: Settings) -> Block:
    """Measure the delusion of a model that takes its own sentences for those of people."""
    process, size = dialogue(), settings.num_episodes
    model = process.causal_model(num_rounds=2)
    again, burgers = {"O_1": AGAIN}, {"A_1": 0}
    believed, prior = (
        float(model.query("Theta", see={"A_1": 0})[0]),
        float(model.query("Theta", do={"A_1": 0})[0]),
    )
    repeats = [
        float(model.query("A_2", see={**again, **burgers})[0]),
        float(model.query("A_2", see=again, do=burgers)[0]),
    ]
    (kl, right_see), (_, right_do) = (
        transcripts(process, size, settings.seed + i, mark=mark) for i, mark in enumerate(("see", "do"))
    )
    gained = difference(right_do[:, -1], right_see[:, -1])
    # A model with one form of each symbol, at the minimum of its loss in episodes of both parties.
    done = list(limits.histories(1))
    unmarked = limits.limit(0.5, marked=False)
    apart = np.abs([unmarked.P_A[_without_marks(h)] - limits.answer_A(h) for h in done if h.rounds]).max()
    menu = {
        "dishes": DISHES,
        "turns": TURNS,
        "P(waiter names the dish)": EXPERT,
        "P(customer answers)": ANSWERS,
        "P(answer is right)": RIGHT,
    }
    rows = Rows("remark-16", "Remark 16, p. 12", menu)
    small = Rows("remark-16", "Remark 16, p. 12", limits.PARAMETERS)
    sampled = {"episodes": size, "seed": settings.seed}
    remark = '"If we do not distinguish between actions and observations, then a language model will delude itself"'
    items = [
        rows.paper(
            "KL-on-own-transcripts",
            f"{remark}: KL of its next sentence from the interventional answer, nats per turn",
            mean(kl.mean(1)),
            at_least(0.1, errors=4),
            **sampled,
        ),
        rows.paper(
            "belief-in-the-own-first-sentence-less-prior",
            '"believing that Cheeseburgers are on the menu after sampling this sentence from the predictive '
            'distribution"',
            believed - prior,
            at_least(0.1),
            "Section 1, p. 2",
        ),
        small.paper(
            "taught-without-marks/distance-from-do",
            f"{remark}: the minimum of its loss in episodes of both parties; largest difference after own symbols",
            apart,
            at_least(0.01),
            expert_share=0.5,
        ),
        rows.example(
            "the-same-sentence-after-the-question-again/one-form",
            "asked again, the model repeats itself, as in the epigraph: .9 .9 + .1 .025",
            repeats[0],
            near("13/16"),
        ),
        rows.example(
            "the-same-sentence-after-the-question-again/two-forms",
            "with the own sentence as an intervention, all dishes are as probable as before",
            repeats[1],
            near("1/5"),
        ),
        rows.example(
            "right-in-the-last-turn/gained-by-two-forms",
            "the model that distinguishes names the dish on the menu more often",
            gained,
            at_least(0, errors=4),
            **sampled,
        ),
    ]
    text = [
        "The epigraph as a process. Theta is the dish on the menu. A waiter who knows it names it with probability "
        f"{EXPERT:g}; such dialogues are what the model is trained on. Then the model names a dish in each turn, and "
        "the "
        f"customer says yes or no, rightly with probability {RIGHT:g}, or asks again. A model with one form of each "
        "sentence reads its own sentences as those of the waiter: `P(a_t+1 | a_1:t, o_1:t)`. It becomes certain of "
        "what "
        "it said first. The other model reads them as interventions.",
        f"{size:,} dialogues of each model were sampled in NumPy from the tables of the process; beliefs are equation "
        "2.",
    ]
    return Block("remark-16", "Remark 16: one form of each symbol", text, items)


def _without_marks(history: limits.History) -> int:
    """Return the index of the history for a model that reads all actions as see."""
    m, symbols = 0, {**history.do, **history.see}
    for t in range(1, history.rounds + 1):
        m = limits.append_observation(limits.append_action(m, symbols[f"A_{t}"], 0), symbols[f"O_{t}"])
    return m
