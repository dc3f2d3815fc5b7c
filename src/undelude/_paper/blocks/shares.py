"""Remark 15 by the share of dialogues that an expert wrote: exact limits, and networks by stored results."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from undelude._drawing.colours import DO, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.dialogues import WORLDS, interval
from undelude._paper.criterion import at_least, at_most, near, rises
from undelude._paper.item import Block, Rows, Settings
from undelude._paper.results import load, origin, stored

SHARES = (0.1, 0.5, 0.9, 0.99)
NAME, PLACE = "remark-15-shares", "Remark 15, p. 12"


def block(settings: Settings) -> Block:
    """Compare the limits of teaching without marks with networks that were taught with marks and without."""
    dialogues, study = WORLDS["default"], load("shares")
    limits = [dialogues.unmarked(share) for share in SHARES]
    exact = np.array([dialogues.kl(limit).mean() for limit in limits])
    deluded, uniform = dialogues.kl(dialogues.see).mean(), dialogues.kl(dialogues.uniform).mean()
    kl = {name: kl_of(study["rows"], name) for name in ("marked", "unmarked")}
    weighted = kl_of(study["rows"], "marked, weighted")[0]
    now = Rows(NAME, PLACE, dialogues.parameters)
    then = Rows(NAME, PLACE, study["settings"], stored(study))
    shares = {"shares": list(SHARES)}
    items = [
        now.example(
            "limit/KL/unmarked-by-share",
            "without marks the limit is the more deluded the more of the dialogues the expert wrote, nats per action",
            exact,
            rises(0.05),
            **shares,
        ),
        now.example(
            "limit/KL/unmarked-share-.99-over-see",
            "with one own dialogue in a hundred most of the delusion is left",
            exact[-1] / deluded,
            at_least(0.8),
        ),
        now.example(
            "limit/hit/unmarked-share-.5-over-do",
            "with equal shares the rate of right dishes in the last turn does not show it",
            dialogues.hit(limits[1]) / dialogues.hit(dialogues.do),
            at_least(1),
        ),
        then.example(
            "network/KL/unmarked",
            "networks without marks are near their limits, of three seeds the worst; nats of KL to do",
            kl["unmarked"][np.arange(4), np.abs(kl["unmarked"] - exact[:, None]).argmax(1)],
            near(exact.tolist(), 0.08),
            **shares,
        ),
        then.example(
            "network/KL/marked-shares-.1-.5-.9",
            "with marks they are right if a tenth of the dialogues or more are their own: of three seeds the worst",
            kl["marked"][:3].max(1),
            at_most(0.02),
            **shares,
        ),
        then.example(
            "network/KL/marked-share-.99-over-unmarked",
            "with one own dialogue in a hundred, of batches of 128, the delusion is gone: worst over best seed",
            kl["marked"][3].max() / kl["unmarked"][3].min(),
            at_most(0.1),
        ),
        then.example(
            "network/KL/marked-share-.99",
            "and a part of the inference from replies is not learned in this budget; an agent that has learned "
            f"nothing has {uniform:.3f}: of three seeds the best",
            kl["marked"][3].min(),
            at_least(0.02),
        ),
        then.example(
            "network/KL/marked-share-.99-weighted",
            "if own dialogues are drawn 99 times as often, it is right; with marks the limit does not depend on the "
            "share: of three seeds the worst",
            weighted.max(),
            at_most(0.02),
        ),
    ]
    text = [
        "An expert who has read the menu writes a share of the dialogues, and the agent the others. An agent that is "
        "taught without marks reads every word as evidence in proportion to that share. Its limit is `Q(theta | h) ∝ "
        "Q(theta) [share prod_t pi_theta(a_t) + (1 - share) prod_t P(a_t | h_t)] prod_t Q(o_t | theta, a_t)`, computed "
        "here by enumeration of all dialogues of six turns. With marks the limit is the interventional answer at every "
        "share.",
        "A long dialogue tells by itself whether an expert wrote it. With equal shares marks are therefore a "
        "refinement, which does not show in the rate of right dishes. If nearly all dialogues are an expert's, as in "
        "fine-tuning on transcripts, marks decide.",
        'LSTMs were taught by `DAgger(share, per="episode")`, without marks, and by the same with true marks. With '
        "marks, the share of own dialogues sets only how fast the agent learns the answers after do. Own dialogues "
        "that are rare can be drawn more often, without a change of the limit: drawn 99 times as often at a share of "
        ".99, the teaching is that of equal shares. Without marks, this changes the limit.",
        intervals("KL of the networks without marks", SHARES, kl["unmarked"]),
        intervals("KL of the networks with marks", SHARES, kl["marked"]),
        origin(study),
    ]
    caption = "KL(interventional ‖ agent) on its own histories, nats per action, by the expert's share; logarithmic."
    figure = _figure(exact, kl, weighted)
    return Block(NAME, "Remark 15, by the share of dialogues that an expert wrote", text, items, [(figure, caption)])


def kl_of(rows: list[dict], teaching: str) -> np.ndarray:
    """Return the KL divergences of a teaching, `[share, seed]`."""
    shares = sorted({row["share"] for row in rows if row["teaching"] == teaching})
    return np.array(
        [[row["action_kl_do"] for row in rows if (row["teaching"], row["share"]) == (teaching, s)] for s in shares]
    )


def intervals(what: str, at: tuple, x: np.ndarray) -> str:
    """Return a sentence with the mean of the seeds and its 95 % interval, for each row of `x`."""
    each = (
        f"{row.mean():.3f} ({low:.3f} to {high:.3f}) at {a}"
        for a, row in zip(at, x, strict=True)
        for low, high in [interval(row)]
    )
    return f"{what}, mean of {x.shape[1]} seeds and its 95 % interval by Student's t: {', '.join(each)}."


def _figure(exact: np.ndarray, kl: dict[str, np.ndarray], weighted: np.ndarray) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        at = np.arange(len(SHARES))
        axes.semilogy(at, exact, "_", color=SEE, ms=22, mew=1.2, label="limit, no marks")
        for name, colour, marker in (("unmarked", SEE, "s"), ("marked", DO, "o")):
            for i, x in enumerate(kl[name].T):
                label = {"unmarked": "network, no marks", "marked": "network, marks"}[name]
                axes.semilogy(at, x, marker, color=colour, ms=4, mew=0, label=label if i == 0 else None)
        for i, x in enumerate(weighted):
            label = "marks, own ones weighted" if i == 0 else None
            axes.semilogy(at[-1], x, "o", mfc="none", mec=DO, ms=6, label=label)
        axes.set(xlim=(-0.5, len(SHARES) - 0.5), title="KL(interventional ‖ agent), nats", xlabel="expert's share")
        axes.set_xticks(at, [f"{share:g}" for share in SHARES])
        axes.set_yticks([1e-3, 1e-2, 1e-1, 1], ["0.001", "0.01", "0.1", "1"])
        figure.legend(frameon=False, loc="outside lower center", ncols=2, handletextpad=0.2, columnspacing=1.2)
        words = "; ".join(f"{name}: {np.round(x.mean(1), 4).tolist()}" for name, x in kl.items())
        return to_figure(
            figure, "shares", f"KL by the expert's share {list(SHARES)}. Limit: {exact.round(4)}. {words}."
        )
