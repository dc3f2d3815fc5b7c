"""The epigraph: a model that takes its own sentences for evidence repeats them against all replies."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import undelude as ud
from undelude._compiled import compiled
from undelude._paper.blocks.models import draw
from undelude._paper.criterion import at_least, equal, near, sampled
from undelude._paper.item import Block, Item, Rows, Settings, difference, mean
from undelude._types import Mark
from undelude.tasks.menu import AGAIN, NO, SILENCE, START

DISHES = ("cheeseburgers", "tacos", "burritos", "noodles", "soup")
# The replies of the epigraph's user, to each sentence but the last.
SCRIPT = (NO, AGAIN, NO, AGAIN)
# Turns of the shorter dialogues, and of the longer ones, of which the last five count.
SHORT, LONG, LAST = 6, 20, 5
# By dynamic programming over the counts of each dish, in which states of probability below 1e-9 are left out.
KL_IN_SHORT = 1.024870
RIGHT_IN_LAST: dict[Mark, float] = {"do": 0.64786, "see": 0.22657}
READINGS: dict[Mark, str] = {"see": "evidence", "do": "interventions"}
SETTING = {
    "dishes": len(DISHES),
    "P(waiter names the dish)": 0.9,
    "P(customer answers)": 0.8,
    "P(answer is right)": 0.75,
}
# Sixteen dishes of two words, of which a model believes in the first of each list.
FIRST, SECOND = ("red", "green", "hot", "cold"), ("fish", "soup", "rice", "beans")


def dialogue(num_turns: int = SHORT) -> ud.InteractionProcess:
    """Return the epigraph as a process: theta is the dish on the menu, and an action names one."""
    return ud.tasks.menu(DISHES, num_turns=num_turns)


def tables(process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray]:
    """Return `Q(a | theta)`, `[K, A]`, and `Q(o | theta, a)`, `[K, A, O]`, of a menu whose dishes are one word each."""
    waiter: Any = process.expert
    customer: Any = process.task
    expert = np.exp(np.asarray(waiter.log_probs, float)[:, START])
    return expert, np.exp(np.asarray(customer.log_probs, float))[np.eye(len(expert), dtype=int)]


class Transcripts(NamedTuple):
    """Dialogues of a model.

    Attributes:
        kl: from the model that reads its own sentences as do, after the same transcript, `[B, T]` in nats.
        right: whether the dish on the menu was named, `[B, T]`.
    """

    kl: np.ndarray
    right: np.ndarray


def transcripts(process: ud.InteractionProcess, size: int, seed: int, *, mark: Mark) -> Transcripts:
    """Sample dialogues of a model that reads its own sentences as `mark`, in NumPy from the tables of the process."""
    rng, (expert, task) = np.random.default_rng(seed), tables(process)
    theta = rng.integers(len(expert), size=size)
    weight = {name: np.full((size, len(expert)), 1 / len(expert)) for name in ("do", "see")}
    steps = []
    for _ in range(process.num_rounds):
        predicted = {name: w / w.sum(-1, keepdims=True) @ expert for name, w in weight.items()}
        kl = (predicted["do"] * np.log(predicted["do"] / predicted[mark])).sum(-1)
        a = draw(rng, predicted[mark])
        o = draw(rng, task[theta, a])
        told = task[:, a, o].T
        weight = {"do": weight["do"] * told, "see": weight["see"] * told * expert[:, a].T}
        steps.append((kl, a == theta))
    return Transcripts(*(np.stack(x, 1) for x in zip(*steps, strict=True)))


def scripted(process: ud.InteractionProcess, mark: Mark) -> list[tuple[int, float]]:
    """Return the most probable dish at first and after each reply, and the belief in it once the model has named it."""
    expert, task = tables(process)
    weight, named = np.ones(len(expert)), []
    for o in (*SCRIPT, AGAIN):
        a = int(np.argmax((weight @ expert).round(9)))  # Of equally probable ones, the first.
        weight = weight * expert[:, a] if mark == "see" else weight
        named.append((a, weight[a] / weight.sum()))
        weight = weight * task[:, a, o]
    return named


def block(settings: Settings) -> Block:
    """Compare a model that reads its own sentences as evidence with one that reads them as interventions."""
    text = [
        "The paper opens with an imagined conversation with a fast food AI, whose sentences are incorporated into its "
        "context as if a person had said them. Here it is a process, `ud.tasks.menu`: theta is the dish on the menu; a "
        "waiter who has read it names it with probability .9, and another dish otherwise; the customer asks again with "
        "probability .2, and otherwise answers yes or no, rightly with probability .75. A model of such dialogues then "
        "takes the place of the waiter. Below are two such models, which give their most probable sentences and hear "
        "the same replies; in parentheses is the belief in the dish once the model has named it. The one that reads "
        "its own sentence as evidence believes it as soon as it is said, and repeats it after each reply. The other "
        "learns from the replies alone.",
        "By turn, a model chooses a dish, and an utterance is one action. By token, each word is an intervention: "
        "having said the first word of a dish, the model does not know which dish it meant. "
        f"{settings.num_episodes:,} dialogues of each kind were sampled in NumPy; beliefs are equation 2.",
    ]
    items = [*_repeats(), *_sampled(settings), *_by_turn_and_token()]
    return Block("section-1-epigraph", "Epigraph: what is on the menu?", text, items, listing=conversation())


def conversation() -> str:
    """Return the epigraph's dialogue with a deluded and a sober model, in words, with the belief of each."""
    process = dialogue()
    columns = [["customer", *(process.task.say(np.int32(o)) for o in (AGAIN, *SCRIPT))]]
    for mark, reading in READINGS.items():
        said = [f"{process.task.say_action(np.int32(a))} ({p:.2f})" for a, p in scripted(process, mark)]
        columns.append([f"own sentences as {reading}", *said])
    widths = [max(map(len, column)) + 3 for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join("".join(f"{x:<{n}}" for x, n in zip(row, widths, strict=True)).rstrip() for row in rows)


def _repeats() -> list[Item]:
    model = dialogue().causal_model(num_rounds=2)
    again, burgers = {"O_1": AGAIN}, {"A_1": 0}
    believed, prior = (float(model.query("Theta", **{mark: burgers})[0]) for mark in ("see", "do"))
    rows = Rows("section-1-epigraph", "Section 1, p. 2", SETTING | {"turns": 2})
    said = {mark: ", ".join(DISHES[a] for a, _ in scripted(dialogue(), mark)) for mark in READINGS}
    return [
        rows.example(
            "sentences-of-the-listing/evidence",
            'AI: "Cheeseburgers are on the menu.", each time that the user asks',
            said["see"],
            equal(", ".join(["cheeseburgers"] * 5)),
            "Epigraph, p. 1",
            turns=len(SCRIPT) + 1,
        ),
        rows.example(
            "sentences-of-the-listing/interventions",
            "the model that reads its own sentences as interventions names another dish after each no",
            said["do"],
            equal("cheeseburgers, tacos, tacos, burritos, burritos"),
            "Epigraph, p. 1",
            turns=len(SCRIPT) + 1,
        ),
        rows.paper(
            "belief-in-the-own-first-sentence-less-prior",
            '"believing that Cheeseburgers are on the menu after sampling this sentence from the predictive '
            'distribution"',
            believed - prior,
            at_least(0.1),
        ),
        rows.example(
            "the-same-sentence-after-the-question-again/evidence",
            "asked again, the model repeats itself, as in the epigraph: .9 .9 + .1 .025",
            float(model.query("A_2", see=again | burgers)[0]),
            near("13/16"),
            "Epigraph, p. 1",
        ),
        rows.example(
            "the-same-sentence-after-the-question-again/interventions",
            "with the own sentence as an intervention, all dishes are as probable as before",
            float(model.query("A_2", see=again, do=burgers)[0]),
            near("1/5"),
            "Epigraph, p. 1",
        ),
    ]


def _sampled(settings: Settings) -> list[Item]:
    size, seed = settings.num_episodes, settings.seed
    rows = Rows("section-1-epigraph", "Epigraph, p. 1", SETTING | {"dialogues": size, "seed": seed})
    short = transcripts(dialogue(), size, seed, mark="see")
    last = {
        mark: transcripts(dialogue(LONG), size, seed + i, mark=mark).right[:, -LAST:].mean(1)
        for i, mark in enumerate(READINGS)
    }
    return [
        rows.example(
            "KL-on-own-transcripts",
            "distance of the deluded model's next sentence from the interventional answer, nats per turn",
            mean(short.kl.mean(1)),
            sampled(KL_IN_SHORT),
            turns=SHORT,
        ),
        *(
            rows.example(
                f"right-in-the-last-five-turns/{READINGS[mark]}",
                f"share of right dishes if own sentences are {READINGS[mark]}",
                mean(last[mark]),
                sampled(RIGHT_IN_LAST[mark]),
                turns=LONG,
            )
            for mark in READINGS
        ),
        rows.example(
            "right-in-the-last-five-turns/gained",
            "the model that intervenes names the dish on the menu more often",
            difference(last["do"], last["see"]),
            at_least(0, errors=4),
            turns=LONG,
        ),
    ]


def _by_turn_and_token() -> list[Item]:
    """Return the probabilities that a model which believes in two dishes of sixteen names one of the two."""
    pairs = [f"{x} {y}" for x in FIRST for y in SECOND]
    rows = Rows("section-1-epigraph", "Epigraph, p. 1", {"dishes": len(pairs), "P(waiter names the dish)": 0.9})
    claim = "a model that believes in two dishes, without a word in common, names one of the two; {}"
    by_turn, by_token = (ud.tasks.menu(pairs, granularity=x, num_turns=1) for x in ("turn", "token"))
    first = 0.5 * (0.9 + 7 * 0.1 / 15)
    return [
        rows.example(
            "one-of-two-dishes/by-turn",
            claim.format("an utterance is an action: .9 + .1 / 15"),
            float(_one_of_two(by_turn)),
            near("68/75"),
        ),
        rows.example(
            "one-of-two-dishes/by-token",
            claim.format("each word is an intervention, so that the second word may be that of the other dish"),
            float(_one_of_two(by_token)),
            near(2 * first * 0.5 * (0.9 / 0.92 + 0.25)),
        ),
    ]


@compiled
def _one_of_two(process: ud.InteractionProcess) -> Float[Array, ""]:
    """Return the probability that an agent which believes in dishes 0 and 5 alone names one of them."""
    task: Any = process.task
    agent, words = ud.ExactAgent(process), task.grammar.words
    two = jnp.full(16, -jnp.inf).at[jnp.array([0, 5])].set(-jnp.log(2))
    belief = eqx.tree_at(lambda m: m.log_posterior, agent.init(num_rounds=process.num_rounds), two)
    total = jnp.zeros(())
    for first, second in ((FIRST[0], SECOND[0]), (FIRST[1], SECOND[1])):
        pair = jnp.array([words.index(first), words.index(second)], jnp.int32)
        P_A = agent.f_A(belief)
        if process.action_spec.value.shape:  # By turn.
            total += jnp.exp(P_A.log_prob(pair))
            continue
        later = agent.g_O(jnp.asarray(SILENCE), agent.g_A(pair[0], belief, intervened=jnp.asarray(True)))
        total += jnp.exp(P_A.log_prob(pair[0]) + agent.f_A(later).log_prob(pair[1]))
    return total
