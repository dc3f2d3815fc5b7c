"""Remark 13: one function of the last K symbols, and whose behaviour it must be taught on (Appendix A)."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.svg import DO, MUTED, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, equal, holds
from undelude._tree import prepend
from undelude.tasks.tables import TableExpert, TableTask

# One round of a bandit: an action and what it brought.
ORDER = 2
TEMPERATURE = 0.25
UPDATES = 400


def policy_of(agent: ud.TemperedAgent, process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray]:
    """What an agent of one round's memory predicts, and by which distribution it acts, by its windows.

    Returns:
        Each `[1 + A O, A]`: at the beginning, and after each `(a, o)`.
    """
    task = process.task
    assert isinstance(task, TableTask)
    _, A, O = task.log_probs.shape  # noqa: E741 - the letter of the paper
    start = agent.init(num_rounds=2)

    def after(a: Array, o: Array) -> Any:
        return agent.g_O(o, agent.g_A(a, start, intervened=True))

    a, o = jnp.divmod(jnp.arange(A * O), O)
    windows = prepend(start, jax.vmap(after)(a, o))

    def probs(distribution: Callable[[Any], Any]) -> np.ndarray:
        return np.asarray(jax.vmap(lambda m: distribution(m).probs)(windows), float)

    return probs(agent.f_A), probs(agent.policy)


def right_answers(process: ud.InteractionProcess, acted: Float[np.ndarray, "S A"]) -> tuple[np.ndarray, np.ndarray]:
    """The best prediction from a window of one round, in episodes of an agent that acts by `acted`; exact.

    Returns:
        `sum_theta P(theta | window) Q(A | theta)` for each window, `[1 + A O, A]`, and how often it is the window.
    """
    task, demonstrator = process.task, process.expert
    assert isinstance(task, TableTask)
    assert isinstance(demonstrator, TableExpert)
    pays, expert = (np.exp(np.asarray(x.log_probs, float)) for x in (task, demonstrator))
    K, A, O = pays.shape  # noqa: E741 - the letter of the paper
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
    """The answer that is right for the behaviour that it brings about: iterated to where it stays, without a net."""
    answer = right_answers(process, np.full((1 + 5 * 2, 5), 0.2))[0]
    for _ in range(200):
        acted = answer ** (1 / TEMPERATURE)
        answer = right_answers(process, acted / acted.sum(1, keepdims=True))[0]
    return answer


def belief(answer: np.ndarray) -> float:
    """`P(theta = a | a, o = 1)`, by the expert's .6 p + .1 (1 - p) on the arm of the window; the mean over arms."""
    return float(np.mean([(answer[1 + 2 * a + 1, a] - 0.1) / 0.5 for a in range(5)]))


def block(settings: Settings) -> Block:
    """A function of the last K symbols is right for the behaviour that it was taught on."""
    bandit = ud.tasks.bandit()
    key_agent, key_teach = jax.random.split(jax.random.key(settings.seed))
    agent = ud.TemperedAgent(ud.SequencePredictor(bandit, order=ORDER, hidden_size=16, key=key_agent), TEMPERATURE)
    size: dict[str, Any] = {"key": key_teach, "steps": UPDATES, "batch_size": 64, "log_every": UPDATES}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # `teach` says that the one goes wrong, and that is the point here.
        taught = {
            "blind": ud.teach(bandit, agent, ud.Blind(), **size).agent,
            "own": ud.teach(bandit, agent, ud.Counterfactual(), **size).agent,
        }
    uniform, _ = right_answers(bandit, np.full((11, 5), 0.2))
    own = own_answers(bandit)
    beliefs, distance = {}, {}
    for name, net in taught.items():
        assert isinstance(net, ud.TemperedAgent)
        predicted, acted = policy_of(net, bandit)
        truth, often = right_answers(bandit, acted)
        beliefs[name] = (belief(predicted), belief(truth))
        distance[name] = float(often @ (truth * np.log(truth / predicted)).sum(-1))
    text = [
        "One function `f([x_1, ..., x_t])` over one vocabulary of actions, observations and their do-forms, its "
        "context cut to the last two symbols: one round of the bandit. It acts by its own prediction, sharpened "
        f"(`TemperedAgent`, temperature {TEMPERATURE:g}), so that it stays with an arm that paid and leaves one that "
        "did not.",
        "What such a window means depends on who filled it. Where arms are drawn blindly, an arm that paid is the best "
        "one with probability 3/7; in the agent's own episodes it is so more often, for it was mostly reached because "
        "it had paid before. Both nets are taught what the expert would do, both on episodes of somebody who does not "
        "see theta. For an agent that remembers everything that is all that Appendix A asks. For one that forgets, the "
        "episodes must be its own: the derivation then holds with the window in the place of the history, since what "
        "was forgotten is averaged under the distribution of whoever executed it.",
    ]
    name = "remark-13"
    items = [
        equal(
            f"{name}/P(theta = a | a, o=1)/blind-behaviour",
            belief(uniform),
            3 / 7,
            "3/7: no memory, no selection",
            ours=True,
        ),
        holds(
            f"{name}/P(theta = a | a, o=1)/its-own-behaviour",
            belief(own),
            "another, for the same two symbols",
            belief(own) > 0.6,
            ours=True,
        ),
        holds(
            f"{name}/P(theta = a | a, o=1)/net-taught-blind-and-truth-of-its-episodes",
            beliefs["blind"],
            "it says 3/7 where the truth is another",
            abs(beliefs["blind"][0] - 3 / 7) < 0.03 and beliefs["blind"][1] - beliefs["blind"][0] > 0.1,
            ours=True,
        ),
        holds(
            f"{name}/P(theta = a | a, o=1)/net-taught-on-its-own-and-truth-of-its-episodes",
            beliefs["own"],
            "alike, and as computed without a net",
            max(abs(x - belief(own)) for x in beliefs["own"]) < 0.03,
            ours=True,
        ),
        holds(
            f"{name}/KL-from-the-best-answer-of-that-memory",
            [distance["blind"], distance["own"]],
            "taught blind it stays away, on its own it arrives",
            distance["own"] < 0.001 < 0.004 < distance["blind"],
            ours=True,
        ),
    ]
    figure = _belief_figure(belief(uniform), belief(own), beliefs)
    caption = "What a window of one round says of its arm, and what it means in the net's own episodes."
    return Block(name, "Remark 13: one function of the last K symbols", text, items, [(figure, caption)])


def _belief_figure(uniform: float, own: float, beliefs: dict[str, tuple[float, float]]) -> Svg:
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 1.9), layout="constrained")
        axes = canvas.subplots()
        for y, name in enumerate(("blind", "own")):
            said, true = beliefs[name]
            axes.plot([said, true], [y, y], color=MUTED, lw=0.8, zorder=1)
            axes.plot(said, y, "s", color=SEE, ms=7, mew=0, label="the net says" if y == 0 else None)
            axes.plot(true, y, "o", color=DO, ms=5, mew=0, label="true in its own episodes" if y == 0 else None)
        for x in (uniform, own):
            axes.axvline(x, color=MUTED, lw=0.6, ls=":", zorder=0)
        axes.set(xlim=(0.35, 0.75), ylim=(1.6, -0.6), title="P(theta = a | a, o = 1)")
        axes.set_yticks([0, 1], ["taught blind", "on its own"])
        canvas.legend(frameon=False, loc="outside lower center", ncols=2, handletextpad=0.2)
        words = "; ".join(f"{name}: says {a:.2f}, truth {b:.2f}" for name, (a, b) in beliefs.items())
        return to_figure(canvas, "window", f"Beliefs from a window of one round. {words}.")
