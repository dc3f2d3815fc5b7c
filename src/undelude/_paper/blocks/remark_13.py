"""Remark 13: a function of the last K symbols must be taught in its own episodes (Appendix A)."""

import dataclasses
import itertools

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.criterion import at_least, falls, near
from undelude._paper.item import Block, Rows, Settings
from undelude.tasks.tables import TableExpert, TableTask

TEMPERATURE = 0.25
# A policy for each window: the empty one, and each `(a, o)`.
UNIFORM = np.full((1 + 5 * 2, 5), 0.2)


def right_answers(process: ud.InteractionProcess, acted: Float[np.ndarray, "S A"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the best prediction given a window of one round, in episodes of the policy `acted`; exact.

    Returns:
        `sum_theta P(theta | window) Q(A | theta)`, `[1 + A O, A]`, and the frequency of each window.
    """
    task, demonstrator = process.task, process.expert
    assert isinstance(task, TableTask)
    assert isinstance(demonstrator, TableExpert)
    pays, expert = (np.exp(np.asarray(x.log_probs, float)) for x in (task, demonstrator))
    K, A, O = pays.shape
    now = np.zeros((K, 1 + A * O))
    now[:, 0] = np.asarray(process.prior)
    visits = now.copy()
    for _ in range(process.num_rounds - 1):
        filled = (now @ acted)[:, :, None] * pays
        now = np.concatenate([np.zeros((K, 1)), filled.reshape(K, -1)], 1)
        visits += now
    often = visits.sum(0)
    return (visits / np.maximum(often, 1e-300)).T @ expert, often / often.sum()


def own_answers(process: ud.InteractionProcess) -> np.ndarray:
    """Return the best predictions for the policy that they imply: the fixed point, by iteration."""
    answer = right_answers(process, UNIFORM)[0]
    for _ in range(200):
        answer = right_answers(process, policy(answer))[0]
    return answer


def policy(answer: np.ndarray) -> np.ndarray:
    """Return the policy of an agent that acts by its predictions with temperature `TEMPERATURE`."""
    acted = answer ** (1 / TEMPERATURE)
    return acted / acted.sum(1, keepdims=True)


def belief(answer: np.ndarray) -> float:
    """Return `P(theta = a | a, o = 1)`, from the prediction .6 p + .1 (1 - p) of the window's arm; mean over arms."""
    return float(np.mean([(answer[1 + 2 * a + 1, a] - 0.1) / 0.5 for a in range(5)]))


def window_gaps() -> list[float]:
    """Return `E KL(P(A_4 | all) || P(A_4 | the last k rounds))` for k from 0 to 3, own actions of a uniform policy."""
    model = ud.tasks.bandit(num_arms=2, num_rounds=4).causal_model()
    rounds = range(1, 4)
    gaps = []
    # P(o_1:3, A_4 | do(a_1:3)), [a_1, a_2, a_3, o_1, o_2, o_3, A_4]
    joint = np.empty([2] * 7)
    for a in itertools.product(range(2), repeat=3):
        done = {f"A_{t}": x for t, x in zip(rounds, a, strict=True)}
        joint[a] = model.query(("O_1", "O_2", "O_3", "A_4"), do=done)
    whole = joint / joint.sum(-1, keepdims=True)
    for k in range(4):
        # Forget the first rounds: their actions do not depend on theta, so that they carry no weight.
        forgotten = (*range(3 - k), *range(3, 6 - k))
        window = joint.sum(forgotten, keepdims=True)
        window = window / window.sum(-1, keepdims=True)
        gaps.append(float((joint / 8 * np.log(whole / window)).sum()))
    return gaps


def block(settings: Settings) -> Block:
    """Shorten the context of a predictor, and ask it in episodes of a blind policy and in its own."""
    bandit = ud.tasks.bandit()
    gaps = window_gaps()
    uniform, own = right_answers(bandit, UNIFORM)[0], own_answers(bandit)
    beliefs, distance = {}, {}
    for name, predicted in (("blind", uniform), ("own", own)):
        truth, often = right_answers(bandit, policy(predicted))
        beliefs[name] = (belief(predicted), belief(truth))
        distance[name] = float(often @ (truth * np.log(truth / predicted)).sum(-1))
    text = [
        "A predictor whose context is the whole past loses nothing, and one whose context is truncated to the last K "
        "symbols comes closer to it with larger K: listed is the KL divergence of its best prediction of the fourth "
        "action of a bandit of two arms from that with the whole past, for a context of 0 to 3 rounds, that is, 0 to 6 "
        "symbols. All histories are enumerated.",
        "A truncated context has a catch. Take a context of two symbols, one round of the bandit, and an agent that "
        "acts "
        f"by its own prediction with temperature {TEMPERATURE:g} (`TemperedAgent`), so that it mostly stays with an "
        "arm "
        "that paid. The posterior given such a window depends on the policy that acted. If arms are uniform, an arm "
        "that paid is the best one with probability 3/7. In the agent's own episodes the probability is higher, "
        "because "
        "it mostly pulls an arm that paid before. For an agent with full memory any policy that does not depend on "
        "theta will do (Appendix A). An agent with truncated memory must be taught in its own episodes: the derivation "
        "then holds with the window instead of the history. The numbers are exact; networks taught both ways with "
        "`ud.Blind()` and `ud.Counterfactual()` converge to them (`tests/test_teachings.py`).",
    ]
    name = "remark-13"
    rows = Rows(name, "Remark 13, p. 12", {"task": "bandit", "context": "one round", "temperature": TEMPERATURE})
    context = {"task": "bandit of two arms, four rounds", "context": "0 to 3 rounds", "behaviour": "uniform arms"}
    contexts = dataclasses.replace(rows, parameters=context)
    items = [
        contexts.paper(
            "KL/context-of-0-2-4-6-symbols",
            '"Even when the context is truncated to the most recent K symbols [...] it could still provide a good '
            'approximation [...] (provided K is sufficiently large)": nats',
            gaps,
            falls(0.001),
        ),
        rows.example(
            "P(theta = a | a, o=1)/blind-behaviour",
            "arms are not selected by past rewards",
            belief(uniform),
            near("3/7"),
        ),
        rows.example(
            "P(theta = a | a, o=1)/its-own-behaviour",
            "another value for the same two symbols, where the prediction is right for the episodes it leads to",
            belief(own),
            at_least(0.6),
        ),
        rows.example(
            "KL-from-the-best-prediction-in-its-episodes/taught-blind",
            "right for the blind policy, it is wrong in its own episodes; nats per action",
            distance["blind"],
            at_least(0.004),
        ),
        rows.example(
            "KL-from-the-best-prediction-in-its-episodes/taught-in-own-episodes",
            "at the fixed point it is right in them",
            distance["own"],
            near(0),
        ),
    ]
    figure = _belief_figure(belief(uniform), belief(own), beliefs)
    caption = (
        "P(theta = a | a, o = 1): the best prediction for each way of teaching, and the truth in its own episodes."
    )
    return Block(name, "Remark 13: one function of the last K symbols", text, items, [(figure, caption)])


def _belief_figure(uniform: float, own: float, beliefs: dict[str, tuple[float, float]]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 1.9), layout="constrained")
        axes = figure.subplots()
        for y, name in enumerate(("blind", "own")):
            predicted, true = beliefs[name]
            axes.plot([predicted, true], [y, y], color=MUTED, lw=0.8, zorder=1)
            axes.plot(predicted, y, "s", color=SEE, ms=7, mew=0, label="predicted" if y == 0 else None)
            axes.plot(true, y, "o", color=DO, ms=5, mew=0, label="true in its own episodes" if y == 0 else None)
        for x in (uniform, own):
            axes.axvline(x, color=MUTED, lw=0.6, ls=":", zorder=0)
        axes.set(xlim=(0.35, 0.75), ylim=(1.6, -0.6), title="P(theta = a | a, o = 1)")
        axes.set_yticks([0, 1], ["taught blind", "own episodes"])
        figure.legend(frameon=False, loc="outside lower center", ncols=2, handletextpad=0.2)
        words = "; ".join(f"{name}: predicted {a:.2f}, true {b:.2f}" for name, (a, b) in beliefs.items())
        return to_figure(figure, "window", f"Beliefs from a window of one round. {words}.")
