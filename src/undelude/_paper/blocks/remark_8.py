"""Remark 8: the efference copy."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from jaxtyping import Array, Float, Int
from matplotlib.figure import Figure

import undelude as ud
from undelude._agents.base import predict_stepwise
from undelude._distributions import as_categorical
from undelude._drawing.colours import DO, DO_TEXT, MUTED, SEE, SEE_TEXT
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.models import log_tables
from undelude._paper.item import Block, Item, Settings, equal, sampled
from undelude._process.inference import Belief


class Unmarked(eqx.Module):
    """Memory of `CutAgent`: the belief, and the number of its own actions."""

    belief: Belief
    t: Int[Array, ""]


class CutAgent(ud.AbstractAgent[Unmarked]):
    """An exact agent that receives the marks of its own actions for `cut` rounds only.

    Attributes:
        exact: the agent with all marks.
        cut: number of rounds with marks.
    """

    exact: ud.ExactAgent
    cut: Int[Array, ""] | int = eqx.field(converter=jnp.asarray)

    def init(self, *, num_rounds: int) -> Unmarked:
        """Return the prior and round 0."""
        return Unmarked(self.exact.init(num_rounds=num_rounds), jnp.zeros((), jnp.int32))

    def f_A(self, m: Unmarked) -> Any:
        """Return the exact agent's prediction of the action."""
        return self.exact.f_A(m.belief)

    def f_O(self, m: Unmarked) -> Any:
        """Return the exact agent's prediction of the observation."""
        return self.exact.f_O(m.belief)

    def g_A(self, a: Any, m: Unmarked, *, intervened: Any) -> Unmarked:
        """Update the belief; from round `cut` on the mark is lost."""
        return Unmarked(self.exact.g_A(a, m.belief, intervened=intervened & (m.t < self.cut)), m.t + 1)

    def g_O(self, o: Any, m: Unmarked) -> Unmarked:
        """Update the belief."""
        return Unmarked(self.exact.g_O(o, m.belief), m.t)


@eqx.filter_jit
def expected(agent: Any, episodes: ud.Episodes) -> tuple[Float[Array, "B T A"], Float[Array, "B T O"]]:
    """Return an agent's predictions of each action and each observation of episodes."""
    P_A, P_O = jax.vmap(lambda episode: predict_stepwise(agent, episode))(episodes)
    return as_categorical(P_A).probs, as_categorical(P_O).probs


def block(settings: Settings) -> Block:
    """Compare an agent with and without the efference copy of its actions."""
    bandit, boxes = ud.tasks.bandit(), ud.tasks.prize_or_frog()
    cut, key, size = 10, jax.random.key(settings.seed), max(settings.num_episodes, 1000)
    agent = CutAgent(exact=ud.ExactAgent(bandit), cut=cut)
    episodes = ud.rollout(bandit, agent, key=key, num_episodes=size)
    P_A, P_O = expected(agent, episodes)
    by_hand, deluded = (_policy_by_marks(bandit, episodes, np.arange(bandit.num_rounds) < n) for n in (cut, 0))
    never, _ = expected(CutAgent(exact=ud.ExactAgent(bandit), cut=0), episodes)
    predicted = np.asarray(P_O[..., 1], float)
    surplus = predicted - np.asarray(episodes.observations)
    after_cut = surplus[:, cut:].mean(1)
    error = float(after_cut.std(ddof=1) / np.sqrt(size))
    one_box = ud.Episodes.of(boxes, actions=[[0]], observations=[[1]])
    prize = {
        rounds: expected(CutAgent(exact=ud.ExactAgent(boxes), cut=rounds), one_box)[1][0, 0, 1] for rounds in (1, 0)
    }
    return Block(
        "remark-8",
        "Remark 8: the efference copy",
        [
            "In this library the efferent copy of the motor system is one bit for each action, `intervened`. Here an "
            "agent that treats its actions as interventions loses the bit from round 11 of a bandit on: it then reads "
            "its own actions as those of the expert.",
            f"Before the cut the expected reward of its actions equals the actual one, over {size:,} episodes. After "
            "it the agent takes its own actions for evidence and expects more than it gets. With the cut before the "
            "first round it is the deluded agent. Its predictions are compared with equation 2, evaluated in NumPy "
            "with the factors of the unmarked actions.",
        ],
        [
            equal(
                "remark-8/boxes/P(O=+1)-with-and-without-the-mark",
                [prize[1], prize[0]],
                [1 / 2, 1],
                "own actions are not mistaken for environmental ones: 1/2 with the mark, 1 without",
                ours=True,
            ),
            equal(
                "remark-8/largest-difference-from-equation-2/cut-before-round-1",
                np.abs(never - deluded).max(),
                0,
                "all actions are evidence: the deluded agent",
                ours=True,
            ),
            equal(
                "remark-8/largest-difference-from-equation-2/cut-before-round-11",
                np.abs(P_A - by_hand).max(),
                0,
                "actions 11 to 20 are evidence, 1 to 10 are not",
                ours=True,
            ),
            sampled(
                "remark-8/expected-less-actual-reward/rounds-1-10",
                surplus[:, :cut].mean(1),
                0,
                "0 with the mark",
                ours=True,
            ),
            Item(
                "remark-8/expected-less-actual-reward/rounds-11-20",
                round(float(after_cut.mean()), 6),
                "above 0 without it: over-confident",
                bool(after_cut.mean() > 4 * error),
                ours=True,
                standard_error=error,
            ),
        ],
        figures=[
            (
                _cut_figure(predicted.mean(0), np.asarray(episodes.observations, float).mean(0), cut),
                "Expected and actual reward of the agent's actions; the mark is lost at the dotted line.",
            )
        ],
    )


def _policy_by_marks(process: ud.InteractionProcess, episodes: ud.Episodes, done: np.ndarray) -> np.ndarray:
    """Return the predictions of actions, `[B, T, A]`, by equation 2 in NumPy; `done[t]` is the mark of round t."""
    log_expert, log_task = log_tables(process)
    a, o = np.asarray(episodes.actions), np.asarray(episodes.observations)
    evidence = log_task.transpose(1, 2, 0)[a, o] + np.where(done[:, None], 0, log_expert.T[a])
    before = np.concatenate([np.zeros_like(evidence[:, :1]), evidence.cumsum(1)[:, :-1]], 1)
    belief = np.asarray(process.prior) * np.exp(before - before.max(-1, keepdims=True))
    return belief / belief.sum(-1, keepdims=True) @ np.exp(log_expert)


def _cut_figure(predicted: np.ndarray, actual: np.ndarray, cut: int) -> Svg:
    rounds = np.arange(1, len(actual) + 1)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.plot(rounds, actual, color=DO, lw=1.6)
        axes.plot(rounds, predicted, color=SEE, lw=1.6, ls="--")
        axes.axvline(cut + 0.5, color=MUTED, lw=0.8, ls=":")
        axes.text(rounds[-1], predicted[-1] + 0.01, "expected", color=SEE_TEXT, ha="right", va="bottom")
        axes.text(rounds[-1], actual[-1] - 0.015, "actual", color=DO_TEXT, ha="right", va="top")
        axes.set(xlabel="round", title="reward of the own action", xlim=(1, len(actual)))
        axes.set_xticks([1, 5, 10, 15, 20])
        axes.margins(y=0.15)
        return to_figure(
            figure,
            "cut",
            f"Expected and actual reward agree until round {cut}; in the last round they are {predicted[-1]:.2f} and "
            f"{actual[-1]:.2f}.",
        )
