"""Remark 14: x and do(x) are different symbols."""

import itertools

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.colours import DO, MUTED, SEE
from undelude._drawing.svg import STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.processes import PastExpert, PastTask, exact
from undelude._paper.criterion import at_least, at_most, near
from undelude._paper.item import Block, Item, Rows, Settings
from undelude._paper.results import load, origin, stored

MARKINGS = tuple(itertools.product((False, True), repeat=3))
# The three markings of the paper: do(x_1), x_2, x_3; x_1, do(x_2), x_3; x_1, do(x_2), do(x_3).
NAMED = ((True, False, False), (False, True, False), (False, True, True))


def four_symbols(num_thetas: int = 3, seed: int = 14, concentration: float = 0.6) -> ud.InteractionProcess:
    """Return a process of binary X_1 to X_4, each depending on theta and all before it; observations are constant."""
    rng = np.random.default_rng(seed)
    tables = np.full((num_thetas, 4, 8, 2), 0.5)
    for t in range(4):
        tables[:, t, : 2**t] = rng.dirichlet([concentration] * 2, (num_thetas, 2**t))
    return ud.InteractionProcess(
        prior=np.full(num_thetas, 1 / num_thetas),
        thetas=jnp.arange(num_thetas),
        task=PastTask(jnp.ones((num_thetas, 4, 16, 1)), 2),
        expert=PastExpert(jnp.asarray(tables, float), 1),
        num_rounds=4,
        name="four symbols",
    )


def pasts(process: ud.InteractionProcess) -> tuple[np.ndarray, np.ndarray, ud.Episodes]:
    """Return all pasts of three symbols: symbols `[64, 3]`, marks `[64, 3]`, and as histories of four rounds."""
    rows = [(x, done) for x in itertools.product((0, 1), repeat=3) for done in MARKINGS]
    x, done = np.array([x for x, _ in rows]), np.array([done for _, done in rows])
    # A fourth round, for the prediction before it.
    symbols, marks = np.pad(x, ((0, 0), (0, 1))), np.pad(done, ((0, 0), (0, 1)))
    return x, done, ud.Episodes.of(process, actions=symbols, observations=np.zeros_like(symbols), intervened=marks)


def block(settings: Settings) -> Block:
    """Compute the predictions after all 64 marked pasts of three binary symbols."""
    process = four_symbols()
    model = process.causal_model()
    x, done, histories = pasts(process)
    answers = exact(process, histories)
    P, belief = np.asarray(answers.P_A)[:, 3], np.asarray(answers.belief)[:, 3]
    apart = [0.0, 0.0]
    for i in range(len(x)):
        roles = {"see": {}, "do": {}}
        for t in range(3):
            roles["do" if done[i, t] else "see"][f"A_{t + 1}"] = int(x[i, t])
        for j, (name, answer) in enumerate((("A_4", P[i]), ("Theta", belief[i]))):
            apart[j] = max(apart[j], float(np.abs(model.query(name, **roles) - answer).max()))
    p = P[:, 1].reshape(8, len(MARKINGS))  # by symbols, by marks
    named = p[:, [MARKINGS.index(marks) for marks in NAMED]]
    gaps = [np.abs(named[:, i] - named[:, j]).min() for i, j in ((0, 1), (0, 2), (1, 2))]
    text = [
        "A sequence of four binary symbols, written by people who know a hidden theta; any of the first three may "
        "instead be written by the agent. In the library this is a process whose actions are the symbols and whose "
        "observations are constant; its histories have a mark for each action.",
        "The predictions of the exact agent after all 64 pasts of three symbols are compared with queries to the "
        "graph. The figure shows for each of the eight sequences of symbols the predictions under its eight markings. "
        "For the three markings of the paper, listed is the smallest difference between two of them over all symbols.",
    ]
    # One prediction for all markings of the same symbols has an error of at least half their range.
    floor = float((p.max(1) - p.min(1)).max() / 2)
    rows = Rows("remark-14", "Remark 14, p. 12", {"process": "four binary symbols, three thetas, tables from seed 14"})
    items = [
        rows.paper(
            "number-of-distributions-of-X_4",
            '"there are not 2^3 = 8, but 4^3 = 64 different pasts of length 3": different to five digits',
            len(np.unique(P[:, 1].round(5))),
            near(64, 0),
        ),
        rows.paper(
            "least-difference-of-the-three-markings",
            '"are three different conditional probability distributions": P(X_4 | do(x_1), x_2, x_3), '
            "P(X_4 | x_1, do(x_2), x_3), P(X_4 | x_1, do(x_2), do(x_3)); pairs, least over all symbols",
            gaps,
            at_least(1e-3),
        ),
        rows.paper(
            "least-error-without-marks",
            '"best seen as entirely different symbols": with one prediction for all markings the error is at least '
            "this",
            floor,
            at_least(0.05),
        ),
        rows.example(
            "largest-difference/next-symbol", "exact agent = surgery on the graph, for all 64 pasts", apart[0], near(0)
        ),
        rows.example(
            "largest-difference/posterior", "its belief = surgery on the graph, for all 64 pasts", apart[1], near(0)
        ),
    ]
    figures = [(_marks_figure(p), "Probability that the fourth symbol is 1, by the first three and their marks.")]
    study = load("remark_14")
    text += [
        "Then one network was taught all pasts, in a process of the same kind with less extreme tables: each symbol "
        "is written by either party at random and marked correctly (`Mixed`). A second network is taught without marks "
        "(`DAgger`): it has one prediction for the eight markings of the same symbols.",
        origin(study),
    ]
    items += _net_items(study)
    figures.append(
        (_nets_figure(study), "Predictions of the fourth symbol by two networks after each of the 64 pasts.")
    )
    return Block("remark-14", "Remark 14: x and do(x) are different symbols", text, items, figures)


def _net_items(study: dict) -> list[Item]:
    predictions = {name: np.array(x) for name, x in study["probability_of_1"].items()}
    exact = predictions["exact"].reshape(8, len(MARKINGS))
    floor = float((exact.max(1) - exact.min(1)).max() / 2)
    off = {name: float(np.abs(predictions[name] - predictions["exact"]).max()) for name in ("marked", "unmarked")}
    rows = Rows("remark-14", "Remark 14, p. 12", study["settings"], stored(study))
    name = "network/largest-total-variation-of-64-pasts"
    return [
        rows.example(f"{name}/with-marks", "one network learns each past separately", off["marked"], at_most(0.01)),
        rows.example(
            f"{name}/without-marks",
            "without marks it is as good as a network can be, which is the least error without marks",
            off["unmarked"],
            near(round(floor, 4), 0.005),
        ),
    ]


def _nets_figure(study: dict) -> Svg:
    p = study["probability_of_1"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.6)
        axes.plot(p["exact"], p["unmarked"], "s", color=SEE, ms=3.5, mew=0, label="without marks")
        axes.plot(p["exact"], p["marked"], "o", color=DO, ms=3.5, mew=0, label="with marks")
        low, high = min(p["exact"]) - 0.05, max(p["exact"]) + 0.05
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="exact", title="P(X_4 = 1), network")
        axes.legend(frameon=False, loc="upper left", handletextpad=0.2)
        off = {name: np.abs(np.array(p[name]) - p["exact"]).max() for name in ("marked", "unmarked")}
        words = f"with marks at most {off['marked']:.4f} from the exact answer, without {off['unmarked']:.3f}"
        return to_figure(figure, "nets", f"64 predictions of two networks: {words}.")


def _marks_figure(p: np.ndarray) -> Svg:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(8)
        axes.plot(p[:, 1:-1].ravel(), np.repeat(rows, 6), "|", color=MUTED, ms=8, label="mixed marks")
        axes.plot(p[:, 0], rows, "s", color=SEE, ms=5, mew=0, label="all see")
        axes.plot(p[:, -1], rows, "o", color=DO, ms=5, mew=0, label="all do")
        axes.set(xlim=(0, 1), ylim=(7.6, -0.6), title="P(X_4 = 1)", ylabel="X_1 X_2 X_3")
        axes.set_yticks(rows, ["".join(map(str, x)) for x in itertools.product((0, 1), repeat=3)])
        figure.legend(frameon=False, loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1.2)
        spread = np.ptp(p, axis=1)
        alt = (
            f"Eight rows of eight predictions; within a row they spread over {spread.min():.2f} to {spread.max():.2f}."
        )
        return to_figure(figure, "marks", alt)
