"""Remark 13: a function of the last K symbols must be taught in its own episodes (Appendix A)."""

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
from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.item import Block, Settings, equal, holds
from undelude._tree import prepend
from undelude.tasks.tables import TableExpert, TableTask

# Symbols: one action and one observation.
ORDER = 2
TEMPERATURE = 0.25
UPDATES = 200


def policy_of(agent: ud.TemperedAgent, process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions and the policy of an agent that remembers one round, for each window.

    Returns:
        Two arrays `[1 + A O, A]`: at the beginning, and after each `(a, o)`.
    """
    task = process.task
    assert isinstance(task, TableTask)
    _, A, O = task.log_probs.shape
    start = agent.init(num_rounds=2)

    def after(a: Array, o: Array) -> Any:
        return agent.g_O(o, agent.g_A(a, start, intervened=True))

    a, o = jnp.divmod(jnp.arange(A * O), O)
    windows = prepend(start, jax.vmap(after)(a, o))

    def probs(distribution: Callable[[Any], Any]) -> np.ndarray:
        return np.asarray(jax.vmap(lambda m: distribution(m).probs)(windows), float)

    return probs(agent.f_A), probs(agent.policy)


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
    answer = right_answers(process, np.full((1 + 5 * 2, 5), 0.2))[0]
    for _ in range(200):
        acted = answer ** (1 / TEMPERATURE)
        answer = right_answers(process, acted / acted.sum(1, keepdims=True))[0]
    return answer


def belief(answer: np.ndarray) -> float:
    """Return `P(theta = a | a, o = 1)`, from the prediction .6 p + .1 (1 - p) of the window's arm; mean over arms."""
    return float(np.mean([(answer[1 + 2 * a + 1, a] - 0.1) / 0.5 for a in range(5)]))


def block(settings: Settings) -> Block:
    """Teach a function of the last two symbols in episodes of a blind policy, and in its own."""
    bandit = ud.tasks.bandit()
    key_agent, key_teach = jax.random.split(jax.random.key(settings.seed))
    agent = ud.TemperedAgent(ud.SequencePredictor(bandit, order=ORDER, hidden_size=16, key=key_agent), TEMPERATURE)
    size: dict[str, Any] = {"key": key_teach, "steps": UPDATES, "batch_size": 64, "log_every": UPDATES}
    with warnings.catch_warnings():
        # `teach` warns of the blind policy, as intended.
        warnings.simplefilter("ignore", UserWarning)
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
        "One function `f([x_1, ..., x_t])` over one vocabulary of actions, observations and intervened actions, with a "
        "context of the last two symbols: one round of the bandit. It acts by its own prediction with temperature "
        f"{TEMPERATURE:g} (`TemperedAgent`), so that it mostly stays with an arm that paid and leaves one that did "
        "not.",
        "The posterior given such a window depends on the policy that acted. If arms are uniform, an arm that paid is "
        "the best one with probability 3/7. In the agent's own episodes the probability is higher, because it mostly "
        "pulls an arm that paid before. Both networks are taught counterfactually, in episodes of a policy that does "
        "not depend on theta. For an agent with full memory this is all that Appendix A requires. An agent with "
        "truncated memory must be taught in its own episodes: the derivation then holds with the window instead of the "
        "history, because the forgotten symbols are averaged under the policy that produced them.",
    ]
    name = "remark-13"
    items = [
        equal(
            f"{name}/P(theta = a | a, o=1)/blind-behaviour",
            belief(uniform),
            3 / 7,
            "3/7: arms are not selected by past rewards",
            ours=True,
        ),
        holds(
            f"{name}/P(theta = a | a, o=1)/its-own-behaviour",
            belief(own),
            "another value for the same two symbols",
            belief(own) > 0.6,
            ours=True,
        ),
        holds(
            f"{name}/P(theta = a | a, o=1)/taught-blind/network-and-truth-in-its-episodes",
            beliefs["blind"],
            "3/7, which is not the truth in its episodes",
            abs(beliefs["blind"][0] - 3 / 7) < 0.03 and beliefs["blind"][1] - beliefs["blind"][0] > 0.1,
            ours=True,
        ),
        holds(
            f"{name}/P(theta = a | a, o=1)/taught-in-own-episodes/network-and-truth-in-its-episodes",
            beliefs["own"],
            "equal, and equal to the fixed point",
            max(abs(x - belief(own)) for x in beliefs["own"]) < 0.03,
            ours=True,
        ),
        holds(
            f"{name}/KL-from-the-best-prediction-with-this-memory",
            [distance["blind"], distance["own"]],
            "taught blind it stays positive, taught in own episodes it converges to 0",
            distance["own"] < 0.001 < 0.004 < distance["blind"],
            ours=True,
        ),
    ]
    figure = _belief_figure(belief(uniform), belief(own), beliefs)
    caption = "P(theta = a | a, o = 1): the network's prediction, and the truth in the network's own episodes."
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
