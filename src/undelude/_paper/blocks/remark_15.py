"""Remark 15: each symbol in both its forms, exactly; and one network for every mixture, by stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, INK, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks import limits
from undelude._paper.criterion import at_least, at_most, near
from undelude._paper.item import Block, Item, Rows, Settings
from undelude._paper.results import load, origin, stored

# The expert's share of actions in each teaching.
SHARES = {"mixed": 0.5, "counterfactual": 0.0, "factual": 1.0}
ROLES = ("acting", "taking turns", "looking on")
LOOKS = {
    "mixed": ("Mixed(.5)", INK, "D"),
    "counterfactual": ("Counterfactual()", DO, "o"),
    "factual": ("Factual()", SEE, "s"),
    "dagger": ("DAgger(.5), no marks", MUTED, "v"),
}


def block(settings: Settings) -> Block:
    """Count the pasts that each teaching meets, and list networks taught with do, with see and with both."""
    mixed, met = limits.limit(0.5), {name: limits.limit(share).weight_A for name, share in SHARES.items()}
    marked = list(limits.histories(0, 1))
    exact = np.stack([limits.answer_A(h) for h in marked])
    long = [h.index for h in marked if h.rounds == limits.T - 1]
    rows = Rows("remark-15", "Remark 15, p. 12", limits.PARAMETERS)
    necessary = (
        '"it would be necessary to amortize each token both in its standard and intervened form using factual and '
        'counterfactual teaching signals"'
    )
    captured = (
        '"where we condition on actions [...] are not captured": pasts of two rounds with a teaching signal, of 64'
    )
    items = [
        rows.paper(
            "both-forms/largest-difference",
            f"{necessary}: with both, the minimum of the loss is right after every marked past",
            np.abs(mixed.P_A[[h.index for h in marked]] - exact).max(),
            near(0),
            expert_share=0.5,
        ),
        rows.paper(
            "pasts-met/counterfactual-and-factual-alone",
            captured,
            [(met[name][long] > 0).sum() for name in ("counterfactual", "factual")],
            near([16, 16], 0),
            "Section 4.1, p. 12; Remark 15",
        ),
        rows.paper("pasts-met/both", f"{necessary}: with both, all 64", (met["mixed"][long] > 0).sum(), near(64, 0)),
        *_network_items(),
    ]
    study = load("remark_15")
    kl = {name: _rows(study["rows"], name).mean(0) for name in LOOKS}
    text = [
        "It is not known ahead of time which party will produce which part of a conversation, so that each symbol must "
        "be learned in both its standard and its intervened form. In the small process of Appendix A, whose symbols "
        "are actions of either party and observations, the exact minimum of the loss is compared with surgery on the "
        "graph after every past and every marking of it.",
        "Then four networks were taught on the bandit: actions executed by either party at random and marked "
        "correctly, by the agent alone, by the expert alone, and by either party without marks. Each was evaluated as "
        "an actor, as an onlooker, and taking turns with the expert. Listed is the KL divergence of its prediction of "
        "the next action from the exact one for the history and its marks; of two seeds the worse.",
        origin(study),
    ]
    caption = "KL(exact ‖ network) in three roles, nats per action, mean of two seeds; logarithmic."
    return Block(
        "remark-15", "Remark 15: either party may produce a symbol", text, items, [(_roles_figure(kl), caption)]
    )


def _network_items() -> list[Item]:
    study = load("remark_15")
    rows = Rows("remark-15", "Remark 15, p. 12", study["settings"], stored(study))
    worst, best = ({name: f(_rows(study["rows"], name), 0) for name in LOOKS} for f in (np.max, np.min))
    acting, _, looking_on = range(3)
    claims = {
        "counterfactual": ("right when it acts", acting, "and not when it looks on", looking_on),
        "factual": ("right when it looks on", looking_on, "and not when it acts", acting),
    }
    items = [
        rows.example(
            "network/KL/mixed/acting-taking-turns-looking-on",
            "one network is right in all roles",
            worst["mixed"],
            at_most(0.006),
        )
    ]
    for name, (right, role, wrong, other) in claims.items():
        items += [
            rows.example(
                f"network/KL/{name}/{ROLES[role].replace(' ', '-')}", right, worst[name][role], at_most(0.006)
            ),
            rows.example(
                f"network/KL/{name}/{ROLES[other].replace(' ', '-')}", wrong, best[name][other], at_least(0.03)
            ),
        ]
    return [
        *items,
        rows.example(
            "network/KL/without-marks-over-mixed",
            "without marks it is wrong in every role: at least five times as far, its better seed against the worse",
            best["dagger"] / worst["mixed"],
            at_least(5),
        ),
    ]


def _rows(rows: list[dict], teaching: str) -> np.ndarray:
    """Return the KL divergences of a teaching, `[seed, role]`."""
    return np.array([[row["action_kl"][role] for role in ROLES] for row in rows if row["teaching"] == teaching])


def _roles_figure(kl: dict[str, np.ndarray]) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        for name, (label, colour, marker) in LOOKS.items():
            axes.semilogy(range(3), kl[name], marker, color=colour, ms=6, mew=0, label=label)
        axes.set(xlim=(-0.5, 2.5), title="KL(exact ‖ network), nats")
        axes.set_xticks(range(3), list(ROLES))
        axes.set_yticks([1e-3, 1e-2, 1e-1], ["0.001", "0.01", "0.1"])
        figure.legend(frameon=False, loc="outside lower center", ncols=2, handletextpad=0.2, columnspacing=1.2)
        words = "; ".join(f"{label}: {np.round(kl[name], 4).tolist()}" for name, (label, *_) in LOOKS.items())
        return to_figure(figure, "roles", f"KL divergences acting, taking turns and looking on. {words}.")
