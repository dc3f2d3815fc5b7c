"""Remark 11: the multi-armed bandit."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import equinox as eqx
import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.beliefs import belief_plot
from undelude._drawing.svg import DO, INK, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.processes import policies
from undelude._paper.item import Block, Item, Settings, holds, sampled
from undelude._types import Mark

# The table of the paper: actions and rewards, and the arm that each trajectory settles on.
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
# From episodes of independent code, rounded to three digits, or as said.
REFERENCE_EPISODES = 100_000
ROUNDED = {"see/wrong": 0.01, "see/truth": 0.01, "do/wrong": 0.0001, "expert/wrong": 0.0001}
# Of conditioning agents: how many pull one arm as often as the first printed trajectory does, of a million.
REGULAR, REGULAR_EPISODES = 394e-6, 1_000_000
REFERENCE: dict[Literal["expert"] | Mark, dict[str, float]] = {
    "do": {"first-5": 0.239, "last-5": 0.476, "reward": 0.434, "wrong": 0.0095, "truth": 0.806},
    "see": {"first-5": 0.240, "last-5": 0.323, "reward": 0.397, "wrong": 0.52, "truth": 0.45},
    "expert": {"first-5": 0.599, "last-5": 0.600, "reward": 0.550, "wrong": 0.0001, "truth": 0.999},
}
MEANING = {
    "first-5": "share of the best arm, rounds 1 to 5",
    "last-5": "share of the best arm, rounds 16 to 20",
    "reward": "a round",
    "wrong": "belief over .9 in a wrong arm after round 20",
    "truth": "belief in the best arm after round 20",
}
CONFIDENT = 0.9
T, LONG = 20, 100


def live(settings: Settings, name: Literal["expert"] | Mark) -> tuple[ud.Episodes, np.ndarray]:
    """Long episodes of the expert, or of the exact agent that reads its own actions as `name`.

    As in the paper, the best arm is labelled as the first one; the mechanisms look alike under any labels.

    Returns:
        The episodes, and the belief `[B, LONG + 1, K]`, both with that label.
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
    """The bandit: three trajectories of either reader, and what becomes of many."""
    items, curves, lived = _printed_items(), {}, {}
    for name in REFERENCE:
        episodes, belief = live(settings, name)
        best, end = episodes.actions == 0, belief[:, T]
        curves[name] = best.mean(0)
        if name != "expert":
            lived[name] = episodes, belief
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
            key, said = f"remark-11/{name}/{quantity}", f"{reference:.4g}: {MEANING[quantity]}"
            rounding = ROUNDED.get(f"{name}/{quantity}", 0.001) / np.sqrt(
                12
            )  # The deviation of a uniform distribution.
            if quantity == "wrong":
                items.append(_share(key, x[quantity], reference, said, REFERENCE_EPISODES, rounding))
                continue
            error = float(np.hypot(x[quantity].std() / np.sqrt(REFERENCE_EPISODES), rounding))
            items.append(sampled(key, x[quantity], reference, said, error=error, ours=True))
    do, see, expert = (float(curves[name][-10:].mean()) for name in ("do", "see", "expert"))
    near = abs(do - expert) < 0.01 + 1 / np.sqrt(settings.num_episodes)  # Of ten rounds each.
    said = "intervening finds the best arm, conditioning often does not: intervening, conditioning, expert"
    items.append(
        holds("remark-11/share-of-the-best-arm-in-rounds-91-to-100", [do, see, expert], said, near and see < 0.45)
    )
    text = [
        "Below is the paper's table with trajectories of our own, the best arm labelled 1, actions and rewards in "
        "blocks of five, with the belief that each ends on. Agents that condition on their own actions repeat them "
        "and are often sure of a wrong arm; agents that intervene mostly end on arm 1.",
        "The paper's six printed trajectories were read again with `ud.posterior`, each as the agent that produced it "
        "would: what is listed is the belief in the arms 1 to 5 at its end. Either column is likelier under its own "
        "reader than under the other. They are more regular, though, than these mechanisms make them: who is certain "
        "of an arm still pulls it only six times in ten, as the expert does, whereas the first of them pulls one arm "
        "in 19 of its 20 rounds. About 4 in 10,000 conditioning agents do so as often.",
        f"Then {settings.num_episodes:,} agents of each kind: how often they pull the best arm, what they earn, and "
        "how many are more than 90 percent sure of a wrong arm after 20 rounds. The expert knows the best arm and its "
        "actions are seen, as they should be: evidence that is true deludes nobody.",
    ]
    figures = [*_belief_figures(lived), (_curves_figure(curves), "Share of the best arm per round, over 100 rounds.")]
    return Block("remark-11", "Remark 11: the multi-armed bandit", text, items, figures, table(lived))


def _printed_items() -> list[Item]:
    bandit = ud.tasks.bandit()
    items = []
    for mark, trajectories in PRINTED.items():
        arms = np.array([_digits(a) for a, _, _ in trajectories]) - 1
        rewards = np.array([_digits(o) for _, o, _ in trajectories])
        beliefs, log_likelihood = {}, {}
        for reading in ("do", "see"):
            histories = ud.Episodes.of(bandit, actions=arms, observations=rewards, intervened=reading == "do")
            beliefs[reading] = np.exp(np.asarray(ud.posterior(bandit, histories))[:, -1])
            P_A = np.take_along_axis(np.asarray(policies(bandit, histories)), arms[..., None], -1)
            log_likelihood[reading] = np.log(P_A).sum()
        for i, (belief, (_, _, arm)) in enumerate(zip(beliefs[mark], trajectories, strict=True), 1):
            sure = belief.argmax() == arm - 1 and belief.max() > CONFIDENT
            said = f"converges to arm {arm}, {'the best' if arm == 1 else 'a wrong one'}"
            items.append(holds(f"remark-11/printed/{mark}-{i}/belief-in-each-arm", belief, said, sure))
        ratio = float(log_likelihood[mark] - log_likelihood["see" if mark == "do" else "do"])
        said = "the column fits its own reader better, by so many nats"
        items.append(holds(f"remark-11/printed/{mark}/log-likelihood-ratio", ratio, said, ratio > 0, ours=True))
    return items


def _regularity(actions: np.ndarray) -> Item:
    """How many of the deluded agents keep to one arm as the first printed trajectory does."""
    pulls = max(_digits(PRINTED["see"][0][0]).count(arm) for arm in range(1, 6))
    regular = (actions[..., None] == np.arange(5)).sum(1).max(1) >= pulls
    said = f"agents that pull one arm {pulls} times in 20 or more, as this one does: about 4 in 10,000"
    return _share("remark-11/see/as-regular-as-printed-see-1", regular, REGULAR, said, REGULAR_EPISODES)


def _share(
    name: str, x: np.ndarray, reference: float, said: str, reference_episodes: int, rounding: float = 0.0
) -> Item:
    """A share that may be so small that few episodes hold none, and show no spread: it is that of the reference."""
    spread = float(np.sqrt(reference * (1 - reference)))
    error = float(np.hypot(spread / np.sqrt(reference_episodes), rounding))
    # A small count is skewed: three more are within what four deviations allow to a normal variable.
    return sampled(name, x, reference, said, error=error, slack=3 / len(x), spread=spread, ours=True)


def _digits(blocks: str) -> list[int]:
    return [int(x) for x in blocks if x != " "]


def _column(name: str, episodes: ud.Episodes, belief: np.ndarray) -> list[str]:
    """Half of the paper's table in its own format, the first three trajectories; and where the belief ended."""
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


def table(lived: dict[str, tuple[ud.Episodes, np.ndarray]]) -> str:
    """The paper's table, of what `live` gave for "see" and for "do"."""
    left, right = (_column(name, *lived[name]) for name in ("see", "do"))
    width = max(map(len, left)) + 3
    return "\n".join(f"{x:<{width}}{y}".rstrip() for x, y in zip(left, right, strict=True))


@dataclasses.dataclass(frozen=True)
class Lived:
    """An episode of the bandit whose best arm is arm 0.

    Attributes:
        actions, rewards: `[T]`.
        belief: of its own reader, before each round and after the last, `[T + 1, K]`.
    """

    actions: np.ndarray
    rewards: np.ndarray
    belief: np.ndarray


def remark_11_episodes(settings: Settings) -> dict[str, Lived]:
    """The first agents to end over 90 percent sure: deluded ("see") of a wrong arm, sober ("do") of the best one."""
    return {name: _first(name, *live(settings, name)) for name in ("see", "do")}


def _first(name: str, episodes: ud.Episodes, belief: np.ndarray) -> Lived:
    end = belief[:, T]
    i = int(np.argmax((end[:, 0] if name == "do" else end[:, 1:].max(1)) > CONFIDENT))
    a, o = np.asarray(episodes.actions)[i, :T], np.asarray(episodes.observations)[i, :T]
    return Lived(a, o.astype(float), belief[i, : T + 1])


def _belief_figures(lived: dict[str, tuple[ud.Episodes, np.ndarray]]) -> list[tuple[Svg, str]]:
    figures = []
    ending: dict[Mark, str] = {"see": "sure of a wrong arm", "do": "sure of the best"}
    for name, ends in ending.items():
        x = _first(name, *lived[name])
        figure = belief_plot(x.belief, 0, x.actions, x.rewards, own_actions=name)
        figures.append((figure, f"The first of these agents that ends over 90 percent {ends}."))
    return figures


def _curves_figure(curves: dict[str, np.ndarray]) -> Svg:
    looks = {
        "expert": ("expert, knows the arm", {"color": INK, "lw": 1.0}),
        "do": ("own actions done", {"color": DO, "lw": 1.6}),
        "see": ("own actions seen", {"color": SEE, "lw": 1.6, "ls": "--"}),
    }
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 2.5), layout="constrained")
        axes = canvas.subplots()
        for name, (label, look) in looks.items():
            axes.plot(np.arange(1, LONG + 1), curves[name], label=label, **look)
        axes.set(xlabel="round", title="share of the best arm", ylim=(0, 0.7), xlim=(0, LONG + 1))
        axes.legend(frameon=False, loc="lower right", handlelength=2.6)
        ends = ", ".join(f"{label} {curves[name][-10:].mean():.2f}" for name, (label, _) in looks.items())
        alt = f"Share of the best arm over {LONG} rounds; in the last ten: {ends}."
        return to_figure(canvas, "best-arm", alt)
