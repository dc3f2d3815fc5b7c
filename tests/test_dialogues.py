"""The exact distributions over the dialogues of the menu, against the causal model and brute force."""

import itertools

import numpy as np
import pytest

from undelude._paper.blocks.dialogues import Dialogues, interval, normalised

SMALL = Dialogues(num_dishes=3, num_turns=3)
REPLIES = range(3)


def histories(dialogues: Dialogues, t: int):
    """The histories before turn `t`, as the enumeration numbers them, each with its row."""
    rows = {(): 0}
    for level in dialogues.histories[1 : t + 1]:
        before = {row: h for h, row in rows.items()}
        rows = {
            (*before[p], (int(a), int(o))): row
            for row, (p, a, o) in enumerate(zip(level.parent, level.last, level.reply, strict=True))
        }
    return rows


def test_answers_are_those_of_the_causal_model():
    """Surgery on the graph, after every history of two turns up to the names of the dishes."""
    model = SMALL.process.causal_model()
    for history, row in histories(SMALL, 2).items():
        replies = {f"O_{t + 1}": o for t, (_, o) in enumerate(history)}
        dishes = {f"A_{t + 1}": a for t, (a, _) in enumerate(history)}
        np.testing.assert_allclose(SMALL.do[2][row], model.query("A_3", see=replies, do=dishes), atol=1e-5)
        np.testing.assert_allclose(SMALL.see[2][row], model.query("A_3", see={**replies, **dishes}), atol=1e-5)


def test_prototype_has_the_same_numbers():
    """Numbers of another program: dynamic programming, and 200,000 sampled dialogues for the mixtures."""
    dialogues = Dialogues()
    assert dialogues.kl(dialogues.see).mean() == pytest.approx(1.025, abs=5e-4)
    assert dialogues.kl(dialogues.uniform).mean() == pytest.approx(0.122, abs=5e-4)
    for share, kl, repeat, hit in ((0.5, 0.098, 0.506, 0.355), (0.99, 0.844, 0.806, 0.250)):
        policy = dialogues.unmarked(share)
        assert dialogues.kl(policy).mean() == pytest.approx(kl, abs=0.003)
        assert dialogues.repeat(policy) == pytest.approx(repeat, abs=5e-4)
        assert dialogues.hit(policy) == pytest.approx(hit, abs=0.003)
        assert [w.sum() for w in dialogues.weights(policy)] == pytest.approx([1.0] * 6)


def corpus(dialogues: Dialogues, policy, *, people: float, expert_share: float, t: int):
    """`P(a_t | h)` in a corpus, by the sum over theta, the kind of dialogue and all authors of its turns."""
    expert, replies = dialogues.expert, dialogues.replies
    rows = [histories(dialogues, s) for s in range(t + 1)]
    found = np.zeros((len(rows[t]), dialogues.num_dishes))
    for history, row in rows[t].items():
        for theta, authors in itertools.product(range(dialogues.num_dishes), itertools.product((0, 1), repeat=t + 1)):
            share = np.prod([expert_share if by_expert else 1 - expert_share for by_expert in authors])
            share = (1 - people) * share + people * all(authors)
            for s, (a, o) in enumerate(history):
                own = policy[s][rows[s][history[:s]], a]
                share *= (expert[theta, a] if authors[s] else own) * replies[int(a == theta), o]
            found[row] += share * (expert[theta] if authors[t] else policy[t][row])
    return normalised(found)


@pytest.mark.parametrize(("people", "expert_share"), [(0.0, 0.0), (0.0, 0.3), (0.6, 0.0), (0.6, 0.3)])
def test_next_generation_is_the_conditional_of_its_corpus(people: float, expert_share: float):
    """From a policy that is neither sober nor deluded."""
    policy = SMALL.unmarked(0.4)
    learned = SMALL.next_generation(policy, people=people, expert_share=expert_share)
    for t in range(3):
        want = corpus(SMALL, policy, people=people, expert_share=expert_share, t=t)
        np.testing.assert_allclose(learned[t], want, rtol=1e-9)


@pytest.mark.parametrize("per", ["step", "episode"])
def test_limit_without_marks_is_a_fixed_point(per: str):
    """An agent whose own words are executed but not targets: the expert's answer in the corpus of its limit."""
    policy, share = SMALL.unmarked(0.4, per=per), 0.4
    mix = {"people": share, "expert_share": 0.0} if per == "episode" else {"people": 0.0, "expert_share": share}
    shares = mix["expert_share"]
    for h, e, P in zip(SMALL.histories, SMALL.evidence(policy, shares), policy, strict=True):
        written = mix["people"] * h.pi + (1 - mix["people"]) * e
        np.testing.assert_allclose(P, normalised(h.nature * written) @ SMALL.expert, rtol=1e-9)


def test_interval_is_that_of_student():
    """Three numbers of mean 2 and standard deviation 1."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx([2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5])
