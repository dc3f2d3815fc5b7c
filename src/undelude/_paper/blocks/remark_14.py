"""Remark 14: x and do(x) are different symbols."""

import itertools

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import undelude as ud
from undelude._drawing.svg import DO, MUTED, SEE, STYLE, WIDTH, Svg, to_figure
from undelude._paper.blocks.processes import PastExpert, PastTask, policies
from undelude._paper.item import Block, Item, Settings, equal, holds
from undelude._paper.results import load, origin

MARKINGS = tuple(itertools.product((False, True), repeat=3))
# The three that the paper writes out: do(x_1), x_2, x_3; x_1, do(x_2), x_3; x_1, do(x_2), do(x_3).
NAMED = ((True, False, False), (False, True, False), (False, True, True))


def four_symbols(num_thetas: int = 3, seed: int = 14, concentration: float = 0.6) -> ud.InteractionProcess:
    """X_1 to X_4, binary, each listening to theta and all before it; observations are of a single symbol."""
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
    """All pasts of three symbols: `[64, 3]` which, `[64, 3]` whether done, and as histories of four rounds."""
    rows = [(x, done) for x in itertools.product((0, 1), repeat=3) for done in MARKINGS]
    x, done = np.array([x for x, _ in rows]), np.array([done for _, done in rows])
    # A fourth round, so that the agent is asked before it.
    symbols, marks = np.pad(x, ((0, 0), (0, 1))), np.pad(done, ((0, 0), (0, 1)))
    return x, done, ud.Episodes.of(process, actions=symbols, observations=np.zeros_like(symbols), intervened=marks)


def block(settings: Settings) -> Block:
    """A symbol that was done is another symbol than the same one seen."""
    process = four_symbols()
    model = process.causal_model()
    x, done, histories = pasts(process)
    P = np.asarray(policies(process, histories))[:, 3]
    belief = np.exp(np.asarray(ud.posterior(process, histories)))[:, 3]
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
        "Four binary symbols in a row, drawn by people who know a hidden theta; any of the first three may instead "
        "have been written by the agent. In the library this is a process whose actions are the symbols, whose "
        "observations are of a single kind, and whose history carries a mark for each action.",
        "All 64 pasts of three symbols were put to the exact agent and to the graph. The same three symbols under "
        "other marks predict another fourth symbol: the figure shows, for each of the eight, the predictions under its "
        "eight ways of being marked. For the three markings that the paper writes out, what is listed is the least "
        "difference between two of them, over all three symbols.",
    ]
    items = [
        equal(
            "remark-14/largest-difference/next-symbol",
            apart[0],
            0,
            "exact agent = surgery on the graph, for all 64 pasts",
            ours=True,
        ),
        equal(
            "remark-14/largest-difference/posterior",
            apart[1],
            0,
            "`ud.posterior` = surgery on the graph, for all 64 pasts",
            ours=True,
        ),
        equal(
            "remark-14/number-of-distributions-of-X_4",
            len(np.unique(P[:, 1].round(5))),
            64,
            "4 to the third, not 2 to the third",
            ours=True,
        ),
        holds(
            "remark-14/least-difference-of-the-three-markings", gaps, "three different distributions", min(gaps) > 1e-3
        ),
    ]
    figures = [(_marks_figure(p), "Probability that the fourth symbol is 1, by the first three and their marks.")]
    study = load("remark_14")
    text += [
        "Then a net was taught all of them at once, on a milder process of the same kind: each symbol written by "
        "either party at random, and truly marked (`Mixed`). Beside it the same net without marks (`DAgger`), for "
        "which the eight ways of marking three symbols are one past: it can give but one answer to them.",
        origin(study, "one seed"),
    ]
    items += _net_items(study)
    figures.append((_nets_figure(study), "What two nets say of the fourth symbol after each of the 64 pasts."))
    return Block("remark-14", "Remark 14: x and do(x) are different symbols", text, items, figures)


def _net_items(study: dict) -> list[Item]:
    said = {name: np.array(x) for name, x in study["probability_of_1"].items()}
    exact = said["exact"].reshape(8, len(MARKINGS))
    # One answer for all markings of the same symbols is off by half their spread somewhere.
    floor = float((exact.max(1) - exact.min(1)).max() / 2)
    off = {name: float(np.abs(said[name] - said["exact"]).max()) for name in ("marked", "unmarked")}
    name = "remark-14/largest-total-variation-of-64-pasts"
    return [
        holds(
            f"{name}/one-net-with-marks", off["marked"], "each past must be meta-learned: it was", off["marked"] < 0.01
        ),
        holds(
            f"{name}/one-net-without-marks",
            off["unmarked"],
            f"x and do(x) best seen as different symbols: as one, no net is nearer than {floor:.3f}",
            off["unmarked"] >= floor - 1e-3,
        ),
    ]


def _nets_figure(study: dict) -> Svg:
    said = study["probability_of_1"]
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = canvas.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, lw=0.6)
        axes.plot(said["exact"], said["unmarked"], "s", color=SEE, ms=3.5, mew=0, label="without marks")
        axes.plot(said["exact"], said["marked"], "o", color=DO, ms=3.5, mew=0, label="with marks")
        low, high = min(said["exact"]) - 0.05, max(said["exact"]) + 0.05
        axes.set(xlim=(low, high), ylim=(low, high), xlabel="exact", title="probability that X_4 = 1, by the net")
        axes.legend(frameon=False, loc="upper left", handletextpad=0.2)
        off = {name: np.abs(np.array(said[name]) - said["exact"]).max() for name in ("marked", "unmarked")}
        words = f"with marks at most {off['marked']:.4f} from the exact answer, without {off['unmarked']:.3f}"
        return to_figure(canvas, "nets", f"64 predictions of two nets: {words}.")


def _marks_figure(p: np.ndarray) -> Svg:
    with matplotlib.rc_context(STYLE):
        canvas = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        axes = canvas.subplots()
        rows = np.arange(8)
        axes.plot(p[:, 1:-1].ravel(), np.repeat(rows, 6), "|", color=MUTED, ms=8, label="mixed marks")
        axes.plot(p[:, 0], rows, "s", color=SEE, ms=5, mew=0, label="all seen")
        axes.plot(p[:, -1], rows, "o", color=DO, ms=5, mew=0, label="all done")
        axes.set(xlim=(0, 1), ylim=(7.6, -0.6), title="probability that X_4 = 1", ylabel="X_1 X_2 X_3")
        axes.set_yticks(rows, ["".join(map(str, x)) for x in itertools.product((0, 1), repeat=3)])
        canvas.legend(frameon=False, loc="outside lower center", ncols=3, handletextpad=0.2, columnspacing=1.2)
        spread = np.ptp(p, axis=1)
        alt = (
            f"Eight rows of eight predictions; within a row they spread over {spread.min():.2f} to {spread.max():.2f}."
        )
        return to_figure(canvas, "marks", alt)
