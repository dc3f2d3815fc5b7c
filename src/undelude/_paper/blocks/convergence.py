"""Section 3: the policy converges to the expert's if observations are informative."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import DO, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks import episodes
from undelude._paper.criterion import at_least, at_most, falls, near
from undelude._paper.item import Block, Rows, Settings, mean

SHOWN_ROUNDS = (1, 10, 30, 100)


def without_feedback() -> float:
    """Return the largest difference of `P(A_3 | do(a_1:2), o_1:2)` from `P(A_1)` if every arm pays half of the time."""
    model = episodes.without_feedback(ud.tasks.bandit()).causal_model(num_rounds=3)
    first, largest = np.asarray(model.query("A_1"), float), 0.0
    for a_1, a_2, o_1, o_2 in np.ndindex(5, 5, 2, 2):
        later = model.query("A_3", do={"A_1": a_1, "A_2": a_2}, see={"O_1": o_1, "O_2": o_2})
        largest = max(largest, float(np.abs(later - first).max()))
    return largest


def block(settings: Settings) -> Block:
    """Compare the policy of equation 3 with the expert's over 100 rounds."""
    played = {name: episodes.play(settings, name) for name in ("do", "see")}
    kl = {name: episodes.kl_to_expert(x) for name, x in played.items()}
    curves = {name: x.mean(0) for name, x in kl.items()}
    shown = np.array(SHOWN_ROUNDS) - 1
    name, first = "section-3-convergence", 0.6 * np.log(3) + 0.4 * np.log(0.5)
    rows = Rows(name, "Section 3, p. 7", {"rounds": list(SHOWN_ROUNDS)})
    parameters = {name: x.parameters for name, x in played.items()}
    converges = 'the policy "will converge to the expert\'s policy under broad conditions"'
    items = [
        rows.paper(
            "KL-to-the-expert/by-round",
            f"{converges}: mean KL divergence from it, nats per action, in rounds 1, 10, 30 and 100",
            curves["do"][shown],
            falls(0.01),
            **parameters["do"],
        ),
        rows.paper(
            "KL-to-the-expert/round-100",
            f"{converges}: it is almost 0 in round 100",
            mean(kl["do"][:, -1]),
            at_most(0.001, errors=4),
            **{**parameters["do"], "rounds": 100},
        ),
        rows.example(
            "KL-to-the-expert/round-1",
            "before any evidence: .6 log 3 + .4 log 1/2",
            curves["do"][0],
            near(first),
            **{**parameters["do"], "rounds": 1},
        ),
        rows.example(
            "KL-to-the-expert/own-actions-as-evidence/round-100",
            "deluded, it does not converge",
            mean(kl["see"][:, -1]),
            at_least(0.2, errors=4),
            **{**parameters["see"], "rounds": 100},
        ),
        rows.example(
            "without-feedback/largest-difference",
            "the conditions matter: if every arm pays with probability 1/2, the policy stays that of round 1",
            without_feedback(),
            near(0),
            rounds=3,
            history="all of two rounds",
        ),
    ]
    text = [
        f"{settings.num_episodes:,} agents play the bandit for 100 rounds each. Listed is the Kullback-Leibler "
        "divergence of their policy from that of the expert, who knows the best arm: nats per action, averaged over "
        "agents. It decreases towards 0 if the agent treats its actions as interventions. If the agent conditions on "
        "them, it becomes certain, often of a wrong arm, and the divergence stays.",
        "The conditions matter: with uninformative rewards and the same expert, the policy stays that of round 1.",
    ]
    caption = "KL divergence from the expert's policy by round; both axes are logarithmic."
    title = "Section 3: the policy converges to the expert's"
    return Block(name, title, text, items, figures=[(_convergence_figure(curves), caption)])


def _convergence_figure(kl: dict[str, np.ndarray]) -> Svg:
    rounds = np.unique(np.geomspace(1, SHOWN_ROUNDS[-1], 60).astype(int))
    looks = {
        "do": ("intervening", {"color": DO}),
        "see": ("conditioning", {"color": SEE, "ls": "--"}),
    }
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.subplots()
        for name, (label, look) in looks.items():
            axes.loglog(rounds, np.maximum(kl[name][rounds - 1], 1e-9), label=label, lw=1.6, **look)
        axes.set(xlabel="round", title="KL(expert ‖ agent), nats per action", ylim=(1e-3, 2))
        axes.set_xticks(SHOWN_ROUNDS, [f"{t:,}" for t in SHOWN_ROUNDS])
        axes.set_yticks([1e-3, 1e-2, 1e-1, 1], ["0.001", "0.01", "0.1", "1"])
        axes.legend(frameon=False, loc="lower left", handlelength=2.6)
        ends = ", ".join(f"{label} {kl[name][-1]:.2g}" for name, (label, _) in looks.items())
        alt = f"KL divergence from the expert over {SHOWN_ROUNDS[-1]} rounds; at the end, in nats: {ends}."
        return to_figure(figure, "convergence", alt)
