"""Remark 12 for ten generations: each agent learns from a corpus that the one before it wrote."""

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.dialogues import Dialogues, interval, normalised
from undelude._paper.criterion import at_least, at_most, falls, near, sampled
from undelude._paper.item import Block, Item, Rows, Settings, mean
from undelude._paper.results import load, origin, stored

NAME, PLACE = "remark-12-generations", "Remark 12, p. 10"
GENERATIONS = 10
# Corpora in which people continue: the share of dialogues that the expert wrote alone, and of turns in the others.
CONTINUED = {"people": 0.5, "expert_share": 0.25}
LOOKS = {
    "unmarked, own text": ("own text alone, no marks", SEE, "-"),
    "unmarked, expert continues": ("expert continues, no marks", MUTED, "--"),
    "marked, expert continues": ("expert continues, marks", DO, "-"),
}
# Dialogues in a corpus of the tables.
SIZES = (100, 1000, 10_000)
RUNS = 200


def limits(dialogues: Dialogues, **corpus: float) -> Float[np.ndarray, " G"]:
    """Return KL(Q(A | do(a), o) || P) of each generation without marks, in the limit of large corpora.

    Args:
        dialogues: the world and the expert.
        corpus: what the corpora consist of; see `Dialogues.next_generation`.
    """
    policy, found = dialogues.see, []
    for _ in range(GENERATIONS + 1):
        found.append(dialogues.kl(policy).mean())
        policy = dialogues.next_generation(policy, **corpus)
    return np.array(found)


def resampled(dialogues: Dialogues, size: int, seed: int) -> dict[str, np.ndarray]:
    """Return what is left after ten generations of tables, whose predictions are the frequencies in a finite corpus.

    A dialogue has two turns. A table keeps its prediction after a history that the corpus lacks.

    Args:
        dialogues: the world and the expert.
        size: dialogues in a corpus.
        seed: of the corpora.

    Returns:
        For each of `RUNS` runs: `distance`, the mean total variation of the second prediction from the interventional
        one; `repeat`, the probability that a dish is named again without an answer; and `variety`, the probability that
        two first dishes differ.
    """
    rng, K, expert = np.random.default_rng(seed), dialogues.num_dishes, dialogues.expert
    # Q(o | theta, a), leading axes a and o; and the two predictions after a and o.
    nature = dialogues.replies[np.eye(K, dtype=int)].transpose(1, 2, 0)
    do, see = normalised(nature) @ expert, normalised(nature * expert.T[:, None]) @ expert
    first, second = np.full((RUNS, K), 1 / K), np.broadcast_to(see, (RUNS, *see.shape))
    for _ in range(GENERATIONS):
        # The agent was not shown theta.
        counts = rng.multinomial(size, (first[..., None] * nature.mean(-1)).reshape(RUNS, -1)).reshape(RUNS, K, 3)
        again = rng.multinomial(counts, second)
        second = np.where(counts[..., None] > 0, again / np.maximum(counts, 1)[..., None], second)
        first = counts.sum(-1) / size
    weight = first[..., None] * nature.mean(-1)
    a = np.arange(K)
    return {
        "distance": (weight * np.abs(second - do).sum(-1) / 2).sum((1, 2)),
        "repeat": second[:, a, -1, a].mean(-1),
        "variety": 1 - (first**2).sum(-1),
    }


def block(settings: Settings) -> Block:
    """Compute ten generations in the limit of large corpora and by tables, and list those of networks."""
    study, dialogues = load("generations"), Dialogues()
    kl = {name: np.array([row["action_kl_do"] for row in study["rows"] if row["arm"] == name]) for name in LOOKS}
    own, continued = limits(dialogues), limits(dialogues, **CONTINUED)
    rows = Rows(NAME, PLACE, dialogues.parameters | {"generations": GENERATIONS})
    then = Rows(NAME, PLACE, study["settings"], stored(study))
    left = {name: x[:, -1] / x[:, 0] for name, x in kl.items()}
    items = [
        rows.paper(
            "limit/KL/own-text",
            '"relearning from this dataset will only confirm the model\'s biases, that is, its delusions": KL to do, '
            "ten generations after the first, minus that of the first",
            own[1:] - own[0],
            near([0] * GENERATIONS),
        ),
        rows.example(
            "limit/KL/expert-continues-over-first",
            "without marks, an expert who continues and dialogues of people remove a part of the delusion",
            continued[-1] / continued[0],
            at_least(0.3),
            **CONTINUED,
        ),
        *_table_items(settings),
        then.example(
            "network/KL/own-text-over-first",
            "networks that learn from own text alone stay deluded: of five seeds the least in generation 10",
            left["unmarked, own text"].min(),
            at_least(0.9),
        ),
        then.example(
            "network/KL/expert-continues-over-first",
            "an expert who continues removes a part of the delusion if nothing is marked: of five seeds the least",
            left["unmarked, expert continues"].min(),
            at_least(0.3),
        ),
        then.example(
            "network/KL/expert-continues",
            "as far as the limit of large corpora has it: all five seeds in generation 10, nats of KL to do",
            kl["unmarked, expert continues"][:, -1],
            near([continued[-1]] * len(study["seeds"]), 0.08),
        ),
        then.example(
            "network/KL/marked-over-first",
            "and more than nine tenths of it if own words are marked: of five seeds the most in generation 10",
            left["marked, expert continues"].max(),
            at_most(0.1),
        ),
        then.example(
            "network/KL/marked-over-first-in-generation-1",
            "in the first generation already",
            (kl["marked, expert continues"][:, 1] / kl["marked, expert continues"][:, 0]).max(),
            at_most(0.1),
        ),
    ]
    text = [
        "The first agent learns from dialogues of an expert who has read the menu; it is deluded when it acts. Each "
        "later one learns from a corpus of the same size that the one before it wrote, with the replies of customers. "
        "Its own words are in the corpus as text, so that the next generation learns to say them: in the limit of "
        "large corpora its policy does not move, exactly.",
        "In other corpora half of the dialogues are the expert's, and in the others the expert writes one turn in "
        "four, after the agent's own. If nothing is marked, the limit of each generation follows from the mixture of "
        "authors after every history, and a part of the delusion stays. If own words are marked do, they are not "
        "targets, and the expert's words after them teach the answers after do.",
        "A finite corpus has another effect, which is not delusion. Tables of frequencies are resampled: on average "
        "no prediction moves, and the delusion stays as large as it was; but they lose variety, by a factor of "
        "1 - 1/N a generation for the first word in corpora of N dialogues. An expert who has not read the menu "
        "leaves nothing to be deluded about. The tables still move away from the interventional answer, by less in "
        "larger corpora. That is the collapse of models that are trained on their own text.",
        "Networks were taught from scratch in each generation. "
        + " ".join(
            f"{LOOKS[name][0].capitalize()}: KL {x[:, 0].mean():.3f} in generation 0, {x[:, -1].mean():.3f} in "
            f"generation 10, 95 % interval of the mean of five seeds {low:.3f} to {high:.3f}."
            for name, x in kl.items()
            for low, high in [interval(x[:, -1])]
        ),
        origin(study),
    ]
    caption = "KL(interventional ‖ agent) by generation: limits without marks (thin) and networks of five seeds."
    figure = _figure({"unmarked, own text": own, "unmarked, expert continues": continued}, kl)
    return Block(NAME, "Remark 12, for ten generations", text, items, [(figure, caption)])


def _table_items(settings: Settings) -> list[Item]:
    """Return the items of finite corpora: the mean of the tables, which is the delusion, and their spread."""
    knows, ignorant = Dialogues(num_turns=2), Dialogues(num_turns=2, expert_accuracy=1 / 5)
    deluded = {size: resampled(knows, size, settings.seed) for size in SIZES}
    control = {size: resampled(ignorant, size, settings.seed + 1) for size in SIZES}
    rows = Rows(NAME, PLACE, {"turns": 2, "generations": GENERATIONS, "runs": RUNS})
    shrinks = (1 - 1 / knows.num_dishes) * (1 - 1 / SIZES[0]) ** GENERATIONS
    return [
        rows.example(
            "tables/P(repeat)",
            "resampling moves no prediction on average: the probability of the same dish after no answer stays that of "
            "the deluded agent",
            mean(deluded[SIZES[1]]["repeat"]),
            sampled(knows.repeat(knows.see)),
            dialogues=SIZES[1],
        ),
        rows.example(
            "tables/variety-of-the-first-dish",
            "variety is lost by a factor of 1 - 1/N a generation",
            mean(control[SIZES[0]]["variety"]),
            sampled(shrinks),
            dialogues=SIZES[0],
        ),
        rows.example(
            "tables/distance-to-do-without-a-latent",
            "collapse without delusion: total variation from do if the expert has not read the menu, which was 0, by "
            "the size of the corpus",
            [control[size]["distance"].mean() for size in SIZES],
            falls(0.01),
            dialogues=list(SIZES),
        ),
        rows.example(
            "tables/distance-to-do-without-a-latent-over-deluded",
            "delusion without collapse: with the largest corpus the first is small beside the second",
            control[SIZES[-1]]["distance"].mean() / deluded[SIZES[-1]]["distance"].mean(),
            at_most(0.2),
            dialogues=SIZES[-1],
        ),
    ]


def _figure(limits: dict[str, np.ndarray], kl: dict[str, np.ndarray]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        for name, (label, colour, line) in LOOKS.items():
            low, high = np.array([interval(x) for x in kl[name].T]).T
            axes.fill_between(range(GENERATIONS + 1), np.maximum(low, 1e-3), high, color=colour, alpha=0.15, lw=0)
            axes.plot(kl[name].mean(0), line, color=colour, marker="o", ms=3, mew=0, label=label)
            if name in limits:
                axes.plot(limits[name], line, color=colour, lw=0.6)
        axes.set(title="KL(interventional ‖ agent), nats", xlabel="generation", ylim=(0, None))
        axes.set_xticks(range(0, GENERATIONS + 1, 2))
        figure.legend(frameon=False, loc="outside lower center", ncols=1, handlelength=1.8)
        words = "; ".join(f"{LOOKS[name][0]}: {np.round(x.mean(0), 3).tolist()}" for name, x in kl.items())
        return to_figure(figure, "generations", f"KL to the interventional answer by generation. {words}.")
