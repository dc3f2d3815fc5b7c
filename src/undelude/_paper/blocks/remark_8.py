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
from undelude._agents.base import scan
from undelude._distributions import as_categorical
from undelude._drawing.svg import DO, DO_TEXT, MUTED, SEE, SEE_TEXT, STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.models import log_tables
from undelude._paper.item import Block, Item, Settings, equal, sampled
from undelude._process.inference import Belief


class Unmarked(eqx.Module):
    """What an agent remembers whose mark is cut: a belief, and the round."""

    belief: Belief
    t: Int[Array, ""]


class CutAgent(ud.AbstractAgent[Unmarked]):
    """A sober agent that is told which actions are its own for `cut` rounds; then they reach it unmarked.

    Attributes:
        exact: who it is with the mark.
        cut: rounds before the mark is cut.
    """

    exact: ud.ExactAgent
    cut: Int[Array, ""] | int = eqx.field(converter=jnp.asarray)

    def init(self, *, num_rounds: int) -> Unmarked:
        """The prior, before the first round."""
        return Unmarked(self.exact.init(num_rounds=num_rounds), jnp.zeros((), jnp.int32))

    def f_A(self, m: Unmarked) -> Any:
        """As the exact agent."""
        return self.exact.f_A(m.belief)

    def f_O(self, m: Unmarked) -> Any:
        """As the exact agent."""
        return self.exact.f_O(m.belief)

    def g_A(self, a: Any, m: Unmarked, *, intervened: Any) -> Unmarked:
        """The mark is lost from the cut on."""
        return Unmarked(self.exact.g_A(a, m.belief, intervened=intervened & (m.t < self.cut)), m.t + 1)

    def g_O(self, o: Any, m: Unmarked) -> Unmarked:
        """As the exact agent."""
        return Unmarked(self.exact.g_O(o, m.belief), m.t)


@eqx.filter_jit
def expected(agent: Any, episodes: ud.Episodes) -> tuple[Float[Array, "B T A"], Float[Array, "B T O"]]:
    """What an agent predicted before each action and each observation of its episodes."""
    P_A, P_O = jax.vmap(lambda episode: scan(agent, episode))(episodes)
    return as_categorical(P_A).probs, as_categorical(P_O).probs


def block(settings: Settings) -> Block:
    """The efference copy, and what happens without it."""
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
            "What the brain's motor system sends to the senses is, in this library, one bit beside each action: "
            "`intervened`. Here the bit is cut. The agent is sober, and stays the same; but from round 11 of a bandit "
            "its own actions reach it as if somebody else had taken them.",
            f"Up to the cut the rewards that it expects of its actions are those that come, over "
            f"{size:,} episodes. After it, the agent hears an expert in its own actions and expects "
            "more than it gets. Cut before the first round, it is the deluded agent. What it predicts is compared "
            "with equation 2, evaluated in NumPy with the factors of the unmarked actions in it.",
        ],
        [
            equal(
                "remark-8/boxes/P(O=+1)-with-and-without-the-mark",
                [prize[1], prize[0]],
                [1 / 2, 1],
                "own actions are not mistaken for the environment's: 1/2 with the mark, 1 without",
                ours=True,
            ),
            equal(
                "remark-8/largest-difference-from-equation-2/cut-before-round-1",
                np.abs(never - deluded).max(),
                0,
                "the factors of all actions are evidence: the deluded agent's prediction",
                ours=True,
            ),
            equal(
                "remark-8/largest-difference-from-equation-2/cut-before-round-11",
                np.abs(P_A - by_hand).max(),
                0,
                "the factors of actions 11 to 20 are evidence, those of 1 to 10 are not",
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
                "Reward of the own action, as the agent expects it and as it comes; the mark is cut at the line.",
            )
        ],
    )


def _policy_by_marks(process: ud.InteractionProcess, episodes: ud.Episodes, done: np.ndarray) -> np.ndarray:
    """What an exact agent predicts before each action, `[B, T, A]`, by equation 2 in NumPy; `done[t]` marks round t."""
    log_expert, log_task = log_tables(process)
    a, o = np.asarray(episodes.actions), np.asarray(episodes.observations)
    evidence = log_task.transpose(1, 2, 0)[a, o] + np.where(done[:, None], 0, log_expert.T[a])
    before = np.concatenate([np.zeros_like(evidence[:, :1]), evidence.cumsum(1)[:, :-1]], 1)
    belief = np.asarray(process.prior) * np.exp(before - before.max(-1, keepdims=True))
    return belief / belief.sum(-1, keepdims=True) @ np.exp(log_expert)


def _cut_figure(predicted: np.ndarray, actual: np.ndarray, cut: int) -> Svg:
    rounds = np.arange(1, len(actual) + 1)
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 2.3), layout="constrained")
        axes = canvas.subplots()
        axes.plot(rounds, actual, color=DO, lw=1.6)
        axes.plot(rounds, predicted, color=SEE, lw=1.6, ls="--")
        axes.axvline(cut + 0.5, color=MUTED, lw=0.8, ls=":")
        axes.text(rounds[-1], predicted[-1] + 0.01, "expected", color=SEE_TEXT, ha="right", va="bottom")
        axes.text(rounds[-1], actual[-1] - 0.015, "actual", color=DO_TEXT, ha="right", va="top")
        axes.set(xlabel="round", title="reward of the own action", xlim=(1, len(actual)))
        axes.set_xticks([1, 5, 10, 15, 20])
        axes.margins(y=0.15)
        return to_figure(
            canvas,
            "cut",
            f"Expected and actual reward agree until round {cut}; in the last round {predicted[-1]:.2f} is expected "
            f"and {actual[-1]:.2f} comes.",
        )
