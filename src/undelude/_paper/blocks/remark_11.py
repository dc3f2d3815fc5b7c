"""Remark 11: the multi-armed bandit."""

from collections.abc import Iterable
from typing import Any, Literal

import equinox as eqx
import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.beliefs import belief_plot
from undelude._drawing.colours import DO, INK, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.processes import policies
from undelude._paper.item import Block, Item, Settings, holds, sampled
from undelude._types import Mark

# The paper's table: actions, rewards, and the arm that the trajectory converges to.
PRINTED = {
    "see": (
        ("34333 33333 33333 33333", "10000 00100 00100 01010", 3),
        ("21212 11111 11111 11111", "01010 11110 11111 11011", 1),
        ("55222 25241 22222 22225", "00101 00011 11001 00000", 2),
    ),
    "do": (
        ("14431 11531 11411 11111", "00011 10001 11011 11101", 1),
        ("54534 53323 11155 11111", "10010 00100 10110 11101", 1),
        ("21115 45414 51111 14111", "01100 00000 11111 00111", 1),
    ),
}
# Reference values of an independent implementation, and the unit of their last digit where it is not .001.
REFERENCE_EPISODES = 100_000
REFERENCE: dict[Literal["expert"] | Mark, dict[str, float]] = {
    "do": {"first-5": 0.239, "last-5": 0.476, "reward": 0.434, "wrong": 0.0095, "truth": 0.806},
    "see": {"first-5": 0.240, "last-5": 0.323, "reward": 0.397, "wrong": 0.52, "truth": 0.45},
    "expert": {"first-5": 0.599, "last-5": 0.600, "reward": 0.550, "wrong": 0.0001, "truth": 0.999},
}
ROUNDED = {"see/wrong": 0.01, "see/truth": 0.01, "do/wrong": 0.0001, "expert/wrong": 0.0001}
# Share of conditioning agents that pull one arm as often as the first printed trajectory does.
REGULAR, REGULAR_EPISODES = 394e-6, 1_000_000
MEANING = {
    "first-5": "share of the best arm, rounds 1 to 5",
    "last-5": "share of the best arm, rounds 16 to 20",
    "reward": "per round",
    "wrong": "belief above .9 in a wrong arm after round 20",
    "truth": "belief in the best arm after round 20",
}
CONFIDENT = 0.9
T, LONG = 20, 100
# Episodes whose best arm is relabelled as arm 0, and the belief of the agent in each round, [B, LONG + 1, K].
Played = tuple[ud.Episodes, np.ndarray]


def play(settings: Settings, name: Literal["expert"] | Mark) -> Played:
    """Sample episodes of the expert, or of the exact agent that reads its own actions as `name`, and its beliefs.

    As in the paper the best arm is labelled as the first one; the mechanisms are symmetric in the labels.
    """
    bandit = ud.tasks.bandit()
    episodes = ud.rollout(
        bandit,
        None if name == "expert" else ud.ExactAgent(bandit, own_actions=name),
        key=jax.random.fold_in(jax.random.key(settings.seed), list(REFERENCE).index(name)),
        num_episodes=settings.num_episodes,
        num_rounds=LONG,
        executor="expert" if name == "expert" else "agent",
    )
    best = np.asarray(episodes.theta)[:, None]
    belief = np.exp(np.asarray(ud.posterior(bandit, episodes)))
    belief = np.take_along_axis(belief, (best + np.arange(5))[:, None] % 5, -1)
    return eqx.tree_at(lambda e: e.actions, episodes, (np.asarray(episodes.actions) - best) % 5), belief


def block(settings: Settings) -> Block:
    """Recompute the table, and compare its two columns and the expert over many episodes."""
    items, curves, played = _printed_items(), {}, {}
    for name in REFERENCE:
        episodes, belief = play(settings, name)
        best, end = episodes.actions == 0, belief[:, T]
        curves[name] = best.mean(0)
        if name != "expert":
            played[name] = episodes, belief
        if name == "see":
            items.append(_regularity(np.asarray(episodes.actions)[:, :T]))
        x = {
            "first-5": best[:, :5].mean(1),
            "last-5": best[:, T - 5 : T].mean(1),
            "reward": np.asarray(episodes.reward)[:, :T].mean(1),
            "wrong": end[:, 1:].max(1) > CONFIDENT,
            "truth": end[:, 0],
        }
        for quantity, reference in REFERENCE[name].items():
            key, paper = f"remark-11/{name}/{quantity}", f"{reference:.4g}: {MEANING[quantity]}"
            # The standard deviation of a uniform rounding error.
            rounding = ROUNDED.get(f"{name}/{quantity}", 0.001) / np.sqrt(12)
            if quantity == "wrong":
                items.append(_share(key, x[quantity], reference, paper, REFERENCE_EPISODES, rounding))
                continue
            error = float(np.hypot(x[quantity].std() / np.sqrt(REFERENCE_EPISODES), rounding))
            items.append(sampled(key, x[quantity], reference, paper, error=error, ours=True))
    do, see, expert = (float(curves[name][-10:].mean()) for name in ("do", "see", "expert"))
    near = abs(do - expert) < 0.01 + 1 / np.sqrt(settings.num_episodes)  # Each is a mean over ten rounds.
    paper = "intervening finds the best arm, conditioning often does not: intervening, conditioning, expert"
    items.append(
        holds("remark-11/share-of-the-best-arm-in-rounds-91-to-100", [do, see, expert], paper, near and see < 0.45)
    )
    text = [
        "Below is the paper's table with newly sampled trajectories: the best arm is labelled 1, actions and rewards "
        "are in blocks of five, and the last line has the final belief. Agents that condition on their own actions "
        "repeat them and often become certain of a wrong arm. Agents that intervene mostly end on arm 1.",
        "We also computed the beliefs of the paper's six printed trajectories with `ud.posterior`, each with actions "
        "marked as its own column says; listed is the final belief in the arms 1 to 5. Each column is more likely "
        "under its own reading than under the other. The conditioning trajectories are more regular than these "
        "mechanisms make them, though. An agent that is certain of an arm pulls it with probability .6, as the expert "
        "does, whereas the first trajectory has one arm in 19 of 20 rounds. About 4 in 10,000 conditioning agents are "
        "as regular.",
        f"The remaining items are means over {settings.num_episodes:,} episodes of each kind: how often the best arm "
        "is pulled, the reward, and the share of agents with a belief above .9 in a wrong arm after 20 rounds. The "
        "expert knows the best arm, and its actions are observed, so that they are genuine evidence.",
    ]
    figures = [*_belief_figures(played), (_curves_figure(curves), "Share of the best arm per round, over 100 rounds.")]
    return Block("remark-11", "Remark 11: the multi-armed bandit", text, items, figures, table(played))


def _printed_items() -> list[Item]:
    bandit = ud.tasks.bandit()
    items = []
    for mark, trajectories in PRINTED.items():
        arms = np.array([digits(a) for a, _, _ in trajectories]) - 1
        rewards = np.array([digits(o) for _, o, _ in trajectories])
        beliefs, log_likelihood = {}, {}
        for reading in ("do", "see"):
            histories = ud.Episodes.of(bandit, actions=arms, observations=rewards, intervened=reading == "do")
            beliefs[reading] = np.exp(np.asarray(ud.posterior(bandit, histories))[:, -1])
            P_A = np.take_along_axis(np.asarray(policies(bandit, histories)), arms[..., None], -1)
            log_likelihood[reading] = np.log(P_A).sum()
        for i, (belief, (_, _, arm)) in enumerate(zip(beliefs[mark], trajectories, strict=True), 1):
            agrees = belief.argmax() == arm - 1 and belief.max() > CONFIDENT
            paper = f"converges to arm {arm}, {'the best' if arm == 1 else 'a wrong one'}"
            items.append(holds(f"remark-11/printed/{mark}-{i}/belief-in-each-arm", belief, paper, agrees))
        ratio = float(log_likelihood[mark] - log_likelihood["see" if mark == "do" else "do"])
        paper = "above 0: the column is more likely under its own reading (nats)"
        items.append(holds(f"remark-11/printed/{mark}/log-likelihood-ratio", ratio, paper, ratio > 0, ours=True))
    return items


def _regularity(actions: np.ndarray) -> Item:
    """Compare the share of agents that keep to one arm as the first printed trajectory does with the reference."""
    pulls = max(digits(PRINTED["see"][0][0]).count(arm) for arm in range(1, 6))
    regular = (actions[..., None] == np.arange(5)).sum(1).max(1) >= pulls
    paper = f"share with one arm in {pulls} or more of 20 rounds, as this trajectory: about 4 in 10,000"
    return _share("remark-11/see/as-regular-as-printed-see-1", regular, REGULAR, paper, REGULAR_EPISODES)


def _share(
    name: str, x: np.ndarray, reference: float, paper: str, reference_episodes: int, rounding: float = 0.0
) -> Item:
    """Return an item for a share so small that a sample may have none, with the standard deviation of the reference."""
    spread = float(np.sqrt(reference * (1 - reference)))
    error = float(np.hypot(spread / np.sqrt(reference_episodes), rounding))
    # A small count is skewed: three more are within what four deviations allow to a normal variable.
    return sampled(name, x, reference, paper, error=error, slack=3 / len(x), spread=spread, ours=True)


def digits(blocks: str) -> list[int]:
    """Return the digits of a printed trajectory."""
    return [int(x) for x in blocks if x != " "]


def _column(name: str, episodes: ud.Episodes, belief: np.ndarray) -> list[str]:
    """Return half of the paper's table in its own format: three trajectories, with the final belief of each."""
    lines = {
        "see": ["Conditioning:", "a_t+1 ~ P(a_t+1 | a_1:t, o_1:t)"],
        "do": ["Intervening:", "a_t+1 ~ P(a_t+1 | do(a_1:t), o_1:t)"],
    }[name]
    for i in range(3):
        a, o, end = (np.asarray(x)[i] for x in (episodes.actions, episodes.observations, belief[:, T]))
        lines += ["", f"Actions: {_blocks(a[:T] + 1)}", f"Rewards: {_blocks(o[:T])}"]
        lines += [f"Belief:  {end.max():.2f} in arm {end.argmax() + 1}"]
    return lines


def _blocks(symbols: Iterable[Any]) -> str:
    digits = "".join(str(int(x)) for x in symbols)
    return " ".join(digits[i : i + 5] for i in range(0, len(digits), 5))


def table(played: dict[str, Played]) -> str:
    """Return the paper's table for sampled episodes of "see" and "do"."""
    left, right = (_column(name, *played[name]) for name in ("see", "do"))
    width = max(map(len, left)) + 3
    return "\n".join(f"{x:<{width}}{y}".rstrip() for x, y in zip(left, right, strict=True))


def first_confident(name: Mark, episodes: ud.Episodes, belief: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first episode that ends with a belief above .9: in a wrong arm ("see") or in the best one ("do").

    Returns:
        Belief `[T + 1, K]`, actions `[T]` and rewards `[T]`.
    """
    end = belief[:, T]
    i = int(np.argmax((end[:, 0] if name == "do" else end[:, 1:].max(1)) > CONFIDENT))
    actions, rewards = np.asarray(episodes.actions)[i, :T], np.asarray(episodes.observations)[i, :T]
    return belief[i, : T + 1], actions, rewards.astype(float)


def _belief_figures(played: dict[str, Played]) -> list[tuple[Svg, str]]:
    figures = []
    arms: dict[Mark, str] = {"see": "a wrong arm", "do": "the best arm"}
    for name, arm in arms.items():
        belief, actions, rewards = first_confident(name, *played[name])
        figure = belief_plot(belief, 0, actions, rewards, own_actions=name)
        figures.append((figure, f"The first of these agents that ends with a belief above .9 in {arm}."))
    return figures


def _curves_figure(curves: dict[str, np.ndarray]) -> Svg:
    looks = {
        "expert": ("expert, knows the arm", {"color": INK, "lw": 1.0}),
        "do": ("intervening", {"color": DO, "lw": 1.6}),
        "see": ("conditioning", {"color": SEE, "lw": 1.6, "ls": "--"}),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
        axes = figure.subplots()
        for name, (label, look) in looks.items():
            axes.plot(np.arange(1, LONG + 1), curves[name], label=label, **look)
        axes.set(xlabel="round", title="share of the best arm", ylim=(0, 0.7), xlim=(0, LONG + 1))
        axes.legend(frameon=False, loc="lower right", handlelength=2.6)
        ends = ", ".join(f"{label} {curves[name][-10:].mean():.2f}" for name, (label, _) in looks.items())
        alt = f"Share of the best arm over {LONG} rounds; in the last ten: {ends}."
        return to_figure(figure, "best-arm", alt)
