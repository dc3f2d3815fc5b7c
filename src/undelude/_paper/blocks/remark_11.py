"""Remark 11: the multi-armed bandit."""

import dataclasses
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.beliefs import belief_plot
from undelude._drawing.colours import DO, INK, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.episodes import ROUNDS, SHORT, Played, belief, last_belief, play
from undelude._paper.blocks.models import demonstrations, log_tables
from undelude._paper.criterion import Criterion, at_least, at_most, near, sampled
from undelude._paper.item import Block, Item, Measured, Rows, Settings, difference, mean
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
EXPERT_SHARE = 0.6
# The tables of Remark 11: Q(theta), Q(a | theta) for a = theta and not, Q(O = 1 | theta, a) likewise.
MECHANISMS = ("1/5", 0.6, 0.1, 0.75, 0.25)
# For "see" and "do": episodes, and the belief before each of their first 20 rounds and after them, [B, 21, K].
Shown = dict[Mark, tuple[Played, np.ndarray]]


def labelled(played: Played) -> tuple[Played, np.ndarray]:
    """Return episodes and beliefs with the best arm labelled as the first one, as in the paper.

    The mechanisms are symmetric in the labels.
    """
    best = played.theta[:, None]
    by_round = np.take_along_axis(belief(played), (best + np.arange(5))[:, None] % 5, -1)
    return dataclasses.replace(played, actions=(played.actions - best) % 5), by_round


def expert_episodes(settings: Settings) -> Played:
    """Sample the expert, whose actions are evidence, in NumPy from the tables of the bandit."""
    bandit, rng = ud.tasks.bandit(), np.random.default_rng(settings.seed)
    theta, a, o = demonstrations(bandit, settings.num_episodes, SHORT, rng)
    parameters = {"task": "bandit", "episodes": settings.num_episodes, "seed": settings.seed}
    nothing = np.empty((0, SHORT, 5)), np.empty((0, SHORT))  # It predicts nothing.
    return Played(bandit, theta, a, o, *nothing, np.zeros(ROUNDS, bool), parameters)


def block(settings: Settings) -> Block:
    """Recompute the table, and compare its two columns and the expert over many episodes."""
    shown: Shown = {mark: labelled(play(settings, mark)) for mark in ("see", "do")}
    items = [*_mechanism_items(), *_printed_items(), *_paper_items(shown)]
    items += _reference_items("expert", *labelled(expert_episodes(settings)))
    for mark in ("do", "see"):
        items += _reference_items(mark, *shown[mark])
    items.append(_regularity(shown["see"][0]))
    text = [
        "Below is the paper's table with newly sampled trajectories: the best arm is labelled 1, actions and rewards "
        "are in blocks of five, and the last line has the final belief. Agents that condition on their own actions "
        "repeat them and often become certain of a wrong arm. Agents that intervene mostly end on arm 1.",
        "We also computed the beliefs of the paper's six printed trajectories with `ud.posterior`, each with actions "
        "marked as its own column says; listed is the final belief in the arm that it converges to. Each column is "
        "more "
        "likely under its own reading than under the other. The conditioning trajectories are more regular than these "
        "mechanisms make them, though. An agent that is certain of an arm pulls it with probability .6, as the expert "
        "does, whereas the first trajectory has one arm in 19 of 20 rounds. About 4 in 10,000 conditioning agents are "
        "as regular.",
        f"The remaining items are means over {settings.num_episodes:,} episodes of each kind, compared with those of "
        "an "
        f"independent implementation in NumPy over {REFERENCE_EPISODES:,} episodes: how often the best arm is pulled, "
        "the "
        "reward, and the share of agents with a belief above .9 in a wrong arm after 20 rounds. The expert knows the "
        "best arm, and its actions are observed, so that they are genuine evidence.",
    ]
    curves: dict[Mark, np.ndarray] = {mark: (x.actions == 0).mean(0) for mark, (x, _) in shown.items()}
    caption = "Share of the best arm per round, over 100 rounds; the expert's is .6."
    figures = [*_belief_figures(shown), (_curves_figure(curves), caption)]
    return Block("remark-11", "Remark 11: the multi-armed bandit", text, items, figures, table(shown))


def _mechanism_items() -> list[Item]:
    log_expert, log_task = log_tables(ud.tasks.bandit())
    prior, expert, pays = np.asarray(ud.tasks.bandit().prior, float), np.exp(log_expert), np.exp(log_task[..., 1])
    own, other = np.eye(5, dtype=bool), ~np.eye(5, dtype=bool)
    tables = [prior, expert[own], expert[other], pays[own], pays[other]]
    apart = max(np.abs(x - float(Fraction(p))).max() for x, p in zip(tables, MECHANISMS, strict=True))
    claim = (
        "P(theta) = 1/5; P(a | theta) = .6 or .1; P(O = 1 | theta, a) = .75 or .25: largest difference of the tables"
    )
    return [Rows("remark-11", "Remark 11, p. 9", {"task": "bandit"}).paper("mechanisms", claim, apart, near(0))]


def _paper_items(shown: Shown) -> list[Item]:
    """Return the items of the paper's sentences below its table."""
    (see, belief_see), (do, _) = shown["see"], shown["do"]
    rows = Rows("remark-11", "Remark 11, p. 9", {"rounds": SHORT})
    both = {**see.parameters, "key": "those of see and of do"}
    repeats = [(x.actions[:, 1:SHORT] == x.actions[:, : SHORT - 1]).mean(1) for x in (see, do)]
    arms = [(x.actions[:, :SHORT, None] == np.arange(5)).any(1).sum(-1) for x in (see, do)]
    wrong = belief_see[:, -1, 1:].max(1) > CONFIDENT
    return [
        rows.paper(
            "see-less-do/share-of-rounds-that-repeat-the-arm",
            'conditioning has "a tendency to repeating previously chosen actions": more than intervening',
            difference(repeats[0], repeats[1]),
            at_least(0, errors=4),
            **both,
        ),
        rows.paper(
            "see/certain-of-a-wrong-arm",
            '"often converging to the wrong arm": share of agents with a belief above .9 in one',
            mean(wrong),
            at_least(0.1, errors=4),
            **see.parameters,
        ),
        rows.paper(
            "do-less-see/number-of-arms-pulled",
            'intervening "leads to a richer exploratory strategy": more of the five arms',
            difference(arms[1], arms[0]),
            at_least(0, errors=4),
            **both,
        ),
        rows.paper(
            "do/belief-in-the-best-arm",
            'intervening "identifies the best arm": mean belief in it after 100 rounds',
            mean(last_belief(do)[:, 0]),
            at_least(0.9, errors=4),
            **{**do.parameters, "rounds": ROUNDS},
        ),
        rows.example(
            "do/best-arm-in-the-last-ten-of-100-rounds",
            "by then it pulls the best arm nearly as often as the expert does",
            mean((do.actions[:, -10:] == 0).mean(1)),
            at_least(0.55, errors=4),
            **{**do.parameters, "rounds": ROUNDS},
        ),
        rows.example(
            "see/best-arm-in-the-last-ten-of-100-rounds",
            "and the conditioning agent does not",
            mean((see.actions[:, -10:] == 0).mean(1)),
            at_most(0.45, errors=4),
            **{**see.parameters, "rounds": ROUNDS},
        ),
    ]


def _reference_items(name: Literal["expert"] | Mark, played: Played, by_round: np.ndarray) -> list[Item]:
    """Return the items of an independent implementation of the bandit and its agents."""
    best, end = played.actions == 0, by_round[:, SHORT]
    x = {
        "first-5": best[:, :5].mean(1),
        "last-5": best[:, SHORT - 5 : SHORT].mean(1),
        "reward": played.rewards[:, :SHORT].mean(1),
        "wrong": end[:, 1:].max(1) > CONFIDENT,
        "truth": end[:, 0],
    }
    rows = Rows("remark-11", "Remark 11, p. 9", {**played.parameters, "rounds": SHORT})
    items = []
    for quantity, reference in REFERENCE[name].items():
        # The standard deviation of a uniform rounding error.
        rounding = ROUNDED.get(f"{name}/{quantity}", 0.001) / np.sqrt(12)
        if quantity == "wrong":
            value, criterion = _share(x[quantity], reference, REFERENCE_EPISODES, rounding)
        else:
            error = float(np.hypot(x[quantity].std() / np.sqrt(REFERENCE_EPISODES), rounding))
            value, criterion = mean(x[quantity]), sampled(reference, error=error)
        items.append(rows.example(f"{name}/{quantity}", MEANING[quantity], value, criterion))
    return items


def _printed_items() -> list[Item]:
    bandit = ud.tasks.bandit()
    marks = list(PRINTED)
    printed = [(digits(a), digits(o)) for mark in marks for a, o, _ in PRINTED[mark]]
    arms, rewards = np.array([a for a, _ in printed]) - 1, np.array([o for _, o in printed])
    # All six under both readings, in one call.
    done = np.repeat([False, True], 6)[:, None] & np.ones(SHORT, bool)
    histories = ud.Episodes.of(
        bandit, actions=np.tile(arms, (2, 1)), observations=np.tile(rewards, (2, 1)), intervened=done
    )
    beliefs = np.exp(np.asarray(ud.posterior(bandit, histories), float)).reshape(2, 2, 3, SHORT + 1, 5)
    P_A = np.take_along_axis(beliefs[..., :-1, :] @ np.exp(log_tables(bandit)[0]), arms.reshape(1, 2, 3, SHORT, 1), -1)
    log_likelihood = np.log(P_A).sum((2, 3, 4))  # [reading, column]
    rows = Rows("remark-11", "Remark 11, p. 9", {"task": "bandit", "trajectories": "those of the paper's table"})
    items = []
    for column, mark in enumerate(marks):
        for i, (_, _, arm) in enumerate(PRINTED[mark]):
            which = "the best" if arm == 1 else "a wrong one"
            items.append(
                rows.paper(
                    f"printed/{mark}-{i + 1}/belief-in-arm-{arm}",
                    f"the printed trajectory converges to arm {arm}, {which}",
                    beliefs[column, column, i, -1, arm - 1],
                    at_least(CONFIDENT),
                )
            )
        items.append(
            rows.example(
                f"printed/{mark}/log-likelihood-ratio",
                "the column is more likely under its own reading than under the other, nats",
                log_likelihood[column, column] - log_likelihood[1 - column, column],
                at_least(1),
            )
        )
    return items


def _regularity(played: Played) -> Item:
    """Compare the share of agents that keep to one arm as the first printed trajectory does with the reference."""
    pulls = max(digits(PRINTED["see"][0][0]).count(arm) for arm in range(1, 6))
    regular = (played.actions[:, :SHORT, None] == np.arange(5)).sum(1).max(1) >= pulls
    rows = Rows("remark-11", "Remark 11, p. 9", {**played.parameters, "rounds": SHORT})
    claim = f"share with one arm in {pulls} or more of 20 rounds, as this trajectory: about 4 in 10,000"
    return rows.example("see/as-regular-as-printed-see-1", claim, *_share(regular, REGULAR, REGULAR_EPISODES))


def _share(
    x: np.ndarray, reference: float, reference_episodes: int, rounding: float = 0.0
) -> tuple[Measured, Criterion]:
    """Return a share so small that a sample may have none, with the standard deviation of the reference."""
    spread = float(np.sqrt(reference * (1 - reference)))
    error = float(np.hypot(spread / np.sqrt(reference_episodes), rounding))
    # A small count is skewed: three more are within what four deviations allow to a normal variable.
    return mean(x, spread=spread), sampled(reference, error=error, slack=3 / len(x))


def digits(blocks: str) -> list[int]:
    """Return the digits of a printed trajectory."""
    return [int(x) for x in blocks if x != " "]


def _column(name: Mark, played: Played, by_round: np.ndarray) -> list[str]:
    """Return half of the paper's table in its own format: three trajectories, with the final belief of each."""
    lines = {
        "see": ["Conditioning:", "a_t+1 ~ P(a_t+1 | a_1:t, o_1:t)"],
        "do": ["Intervening:", "a_t+1 ~ P(a_t+1 | do(a_1:t), o_1:t)"],
    }[name]
    for i in range(3):
        a, o, end = played.actions[i, :SHORT], played.rewards[i, :SHORT], by_round[i, SHORT]
        lines += ["", f"Actions: {_blocks(a + 1)}", f"Rewards: {_blocks(o)}"]
        lines += [f"Belief:  {end.max():.2f} in arm {end.argmax() + 1}"]
    return lines


def _blocks(symbols: Iterable[Any]) -> str:
    digits = "".join(str(int(x)) for x in symbols)
    return " ".join(digits[i : i + 5] for i in range(0, len(digits), 5))


def table(shown: Shown) -> str:
    """Return the paper's table for sampled episodes of "see" and "do"."""
    left, right = (_column(name, *shown[name]) for name in ("see", "do"))
    width = max(map(len, left)) + 3
    return "\n".join(f"{x:<{width}}{y}".rstrip() for x, y in zip(left, right, strict=True))


def first_confident(name: Mark, played: Played, by_round: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first episode that ends with a belief above .9: in a wrong arm ("see") or in the best one ("do").

    Returns:
        Belief `[T + 1, K]`, actions `[T]` and rewards `[T]`.
    """
    end = by_round[:, SHORT]
    i = int(np.argmax((end[:, 0] if name == "do" else end[:, 1:].max(1)) > CONFIDENT))
    return by_round[i], played.actions[i, :SHORT], played.rewards[i, :SHORT].astype(float)


def _belief_figures(shown: Shown) -> list[tuple[Svg, str]]:
    figures = []
    arms: dict[Mark, str] = {"see": "a wrong arm", "do": "the best arm"}
    for name, arm in arms.items():
        by_round, actions, rewards = first_confident(name, *shown[name])
        figure = belief_plot(by_round, 0, actions, rewards, own_actions=name)
        figures.append((figure, f"The first of these agents that ends with a belief above .9 in {arm}."))
    return figures


def _curves_figure(curves: dict[Mark, np.ndarray]) -> Svg:
    looks: dict[Mark, tuple[str, dict[str, Any]]] = {
        "do": ("intervening", {"color": DO, "lw": 1.6}),
        "see": ("conditioning", {"color": SEE, "lw": 1.6, "ls": "--"}),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
        axes = figure.subplots()
        for name, (label, look) in looks.items():
            axes.plot(np.arange(1, ROUNDS + 1), curves[name], label=label, **look)
        axes.axhline(EXPERT_SHARE, color=INK, lw=1.0, label="expert, knows the arm")
        axes.set(xlabel="round", title="share of the best arm", ylim=(0, 0.7), xlim=(0, ROUNDS + 1))
        axes.legend(frameon=False, loc="lower right", handlelength=2.6)
        ends = ", ".join(f"{label} {curves[name][-10:].mean():.2f}" for name, (label, _) in looks.items())
        alt = f"Share of the best arm over {ROUNDS} rounds; in the last ten: {ends}."
        return to_figure(figure, "best-arm", alt)
