"""Remark 16: a language model with one form of each symbol deludes itself."""

import numpy as np

from undelude._paper.blocks import limits
from undelude._paper.blocks.epigraph import SETTING, SHORT, dialogue, transcripts
from undelude._paper.criterion import at_least
from undelude._paper.item import Block, Rows, Settings, mean


def block(settings: Settings) -> Block:
    """Measure the delusion of a model that takes its own sentences for those of people."""
    size = settings.num_episodes
    kl = transcripts(dialogue(), size, settings.seed, mark="see").kl
    # A model with one form of each symbol, at the minimum of its loss in episodes of both parties.
    done = list(limits.histories(1))
    unmarked = limits.limit(0.5, marked=False)
    apart = np.abs([unmarked.P_A[_without_marks(h)] - limits.answer_A(h) for h in done if h.rounds]).max()
    rows = Rows("remark-16", "Remark 16, p. 12", SETTING | {"turns": SHORT})
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
        small.paper(
            "taught-without-marks/distance-from-do",
            f"{remark}: the minimum of its loss in episodes of both parties; largest difference after own symbols",
            apart,
            at_least(0.01),
            expert_share=0.5,
        ),
    ]
    text = [
        "The dialogue of the epigraph. A model with one form of each sentence is trained on dialogues of a waiter, and "
        "reads its own sentences as those of the waiter: `P(a_t+1 | a_1:t, o_1:t)`. "
        f"{size:,} of its dialogues were sampled in NumPy from the tables of the process; beliefs are equation 2.",
    ]
    return Block("remark-16", "Remark 16: one form of each symbol", text, items)


def _without_marks(history: limits.History) -> int:
    """Return the index of the history for a model that reads all actions as see."""
    m, symbols = 0, {**history.do, **history.see}
    for t in range(1, history.rounds + 1):
        m = limits.append_observation(limits.append_action(m, symbols[f"A_{t}"], 0), symbols[f"O_{t}"])
    return m
