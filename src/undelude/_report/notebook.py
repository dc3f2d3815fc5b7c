"""What a notebook shows of a certificate, episodes, causal models, graphs and paths: HTML with its own style."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import equinox as eqx
import jax
import matplotlib
import numpy as np
from jax.core import Tracer
from matplotlib.figure import Figure

from undelude._certificate.certificate import Certificate
from undelude._certificate.notes import describe_marks, describe_notes
from undelude._certificate.numbers import with_error
from undelude._certificate.verdict import judge
from undelude._drawing.charts import distances, dots
from undelude._drawing.dag import draw_dag
from undelude._drawing.panel import Panel, panel_of, panel_of_class
from undelude._drawing.svg import STYLE, WIDTH, to_figure
from undelude._process.episodes import EXPERT, Episodes
from undelude.causal._expressions.derivation import Derivation
from undelude.causal._graphs.equivalence import EssentialGraph
from undelude.causal._graphs.path import Path
from undelude.causal._identifying.bounds import NOT_SHARP, Bounds
from undelude.causal._identifying.hedge import Hedge, NotIdentifiable, Thicket
from undelude.causal._identifying.remedies import LIMITED, Remedies
from undelude.causal._mixed.graph import Graph
from undelude.causal._model.counterfactual import Causation
from undelude.causal._model.effects import Effect
from undelude.causal._model.model import CausalModel
from undelude.causal._variables.answer import Answer

# Episodes and rounds that are shown.
MAX_EPISODES, MAX_ROUNDS = 4, 24
# Variables up to which a graph is drawn.
MAX_NODES = 60
ARROWS = {"->": "&rarr;", "<-": "&larr;", "<->": "&harr;"}
LEGEND = (
    '<p class="aside">Actions: <span class="do">blue</span> is marked do, an intervention, which says nothing about '
    'theta; <span class="see">orange</span> is marked see, evidence about theta, as if the expert had chosen it; '
    '<span class="expert">underlined</span> was executed by the expert, others by the agent.</p>'
)


def of_certificate(report: Certificate) -> str:
    """Return the verdict, the distances as a chart, all quantities as a table, and the notes."""
    rows = [
        [name, with_error(q.value, q.standard_error)] for name, q in report.quantities.items() if q.value is not None
    ]
    notes = "".join(f'<p class="aside">{escape(note)}</p>' for note in describe_notes(report.quantities, report.notes))
    about = (
        f"{report.agent} on {report.task}; {describe_marks(report.agent, report.own_actions)}; "
        f"{report.num_episodes:,} episodes of {report.num_rounds} rounds"
    )
    head = f'<p><b>{escape(str(judge(report.quantities, report.notes)))}</b></p><p class="aside">{escape(about)}</p>'
    return _page(head, _distances(report), _table([], rows), notes)


def _distances(report: Certificate) -> str:
    known = distances(report.quantities.__getitem__, "tv")
    if not known:
        return ""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 0.35 * len(known)), layout="constrained")
        dots(figure.subplots(), known, "total variation", log=False)
        drawn = to_figure(figure, f"notebook {report.task} {report.agent}", "Distances to both exact answers.").svg
    key = '<span class="do">from the interventional answer</span>, <span class="see">from the deluded one</span>'
    return f'{drawn}<p class="aside">{key}</p>'


def of_episodes(episodes: Episodes) -> str | None:
    """Return the first episodes as tables, if actions and observations are symbols; otherwise the shapes.

    None, so that the notebook shows the text, if they are not arrays of one episode or of a batch.
    """
    leaves = jax.tree.leaves(episodes)
    if any(isinstance(x, Tracer) or not eqx.is_array(x) for x in leaves):
        return None
    if episodes.mask is None or np.ndim(episodes.mask) not in (1, 2):
        return None
    one, batched = jax.tree.map(np.asarray, episodes), episodes.is_batch
    B, T = one.mask.shape if batched else (1, one.mask.shape[0])
    head = f"<p><b>{_count(B, 'episode')} of {_count(T, 'round')}</b></p>"
    if not (_are_symbols(one.actions, one.mask) and _are_symbols(one.observations, one.mask)):
        shapes = {name: jax.tree.map(np.shape, getattr(one, name)) for name in ("actions", "observations")}
        return _page(head, *(f'<p class="aside">{name}: {escape(str(shape))}</p>' for name, shape in shapes.items()))
    parts = []
    for i in range(min(B, MAX_EPISODES)):
        episode = jax.tree.map(lambda x, i=i: x[i], one) if batched else one
        parts.append(_episode(episode, i))
    cut = [f"{B - MAX_EPISODES:,} more episodes"] * (B > MAX_EPISODES) + ["later rounds"] * (T > MAX_ROUNDS)
    rest = f'<p class="aside">Not shown: {" and ".join(cut)}.</p>' if cut else ""
    return _page(head, *parts, rest, LEGEND)


def _episode(one: Any, i: int) -> str:
    n = min(int(one.mask.sum()), MAX_ROUNDS)
    actions = []
    for a, done, by in zip(one.actions[:n], one.intervened[:n], one.executor[:n], strict=True):
        kind = f"{'do' if done else 'see'}{' expert' if by == EXPERT else ''}"
        actions.append(f'<span class="{kind}">{int(a)}</span>')
    rows = [["round", *range(1, n + 1)], ["action", *actions], ["observation", *(int(o) for o in one.observations[:n])]]
    if one.reward is not None:
        rows.append(["reward", *(f"{r:g}" for r in one.reward[:n])])
    theta = ""
    if np.ndim(one.theta) == 1 and len(one.theta) == len(one.mask) + 1:
        rows.insert(1, ["theta", *one.theta[:n].tolist()])
    elif one.theta is not None:
        theta = f", theta {escape(str(jax.tree.map(lambda x: x.tolist(), one.theta)))}"
    if one.opening is not None:
        theta += f", opening {escape(str(jax.tree.map(lambda x: x.tolist(), one.opening)))}"
    return f'<p class="aside">Episode {i}{theta}</p>{_table([], rows, is_html=True)}'


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _are_symbols(x: Any, mask: np.ndarray) -> bool:
    return isinstance(x, np.ndarray) and x.shape == mask.shape and np.issubdtype(x.dtype, np.integer)


def of_model(model: CausalModel) -> str:
    """Return the graph of a model, hidden variables dashed, and the values and parents of each variable."""
    graph, structure = model.graph, model.structure
    drawn = _drawn(graph)
    rows = [
        [name, ", ".join(map(str, values)), ", ".join(graph[name])]
        for name, values in zip(graph, structure.values, strict=True)
    ]
    return _page(drawn, _table(["variable", "values", "parents"], rows))


def of_answer(answer: Answer) -> str:
    """Return the table of an answer, as it is printed."""
    if not answer.is_labelled:
        return _page(f"<pre>{escape(str(answer))}</pre>")
    head, rows = answer.table()
    return _page(_table(head, rows) if len(answer.names) > 1 else _table(["", *head], [["P", *row] for row in rows]))


def of_bounds(found: Bounds) -> str:
    """Return the table of bounds, as it is printed."""
    head, rows = found.table()
    table = _table(head, rows) if found.low.names else _table(["", *head], [["bounds", *row] for row in rows])
    return _page(table, "" if found.is_sharp else f'<p class="aside">{NOT_SHARP}</p>')


def of_graph(graph: Graph) -> str:
    """Return the drawing of a graph."""
    return _page(_drawn(graph))


def _drawn(graph: Graph) -> str:
    return _panel(panel_of(graph))


def _panel(panel: Panel) -> str:
    if len(panel.graph) > MAX_NODES:
        count = len(panel.edges) + len(panel.undirected)
        what = f"{_count(len(panel.graph), 'variable')} and {_count(count, 'arrow')}"
        return f'<p class="aside">{what}: too many to draw; at most {MAX_NODES} variables.</p>'
    return draw_dag(panel).svg if panel.graph else "<p>No variables.</p>"


def of_essential_graph(essential: EssentialGraph) -> str:
    """Return the drawing of an essential graph: arrows, and lines for those whose direction differs."""
    return _page(_panel(panel_of_class(essential)))


def of_derivation(derivation: Derivation) -> str:
    """Return the steps of a derivation: each equation, its rule, and why the rule applies."""
    return _page(_steps(derivation) or "<p>No step.</p>")


def _steps(derivation: Derivation) -> str:
    rows = [[derivation.equation(step), step.rule, step.because] for step in derivation.steps]
    return _table(["equation", "rule", "because"], rows) if rows else ""


def of_effect(effect: Effect) -> str:
    """Return the value of an effect with its definition, and the estimand."""
    rows = [[effect.definition, effect.shown()]]
    if effect.estimand is not None:
        rows.append(["estimand from observations", effect.formula()])
    return _page(_table([], rows, is_words=True))


def of_causation(causation: Causation) -> str:
    """Return the three probabilities, each with its name and meaning."""
    meanings = {
        "necessity": ("PN", "the effect fails without the cause, where both were seen"),
        "sufficiency": ("PS", "the effect follows from the cause, where neither was seen"),
        "both": ("PNS", "the effect follows from the cause, and fails without it"),
    }
    shown = causation.shown()
    rows = [[f"{short}, {name}", shown[name], text] for name, (short, text) in meanings.items()]
    return _page(_table([], rows, is_words=True))


def of_remedies(remedies: Remedies) -> str:
    """Return a row for each set of variables: what to do with it, and the estimand."""
    rows = remedies.table()
    shown = _table(["", "variables", "estimand"], rows) if rows else ""
    rest = "" if remedies.is_complete else f'<p class="aside">{escape(LIMITED)}</p>'
    return _page(shown, rest) if shown or rest else _page("<p>Nothing helps.</p>")


def of_hedge(hedge: Hedge) -> str:
    """Return the drawing of a hedge and its parts."""
    return _page(_hedge(hedge))


def _hedge(hedge: Hedge) -> str:
    graph = Graph(hedge.graph, bidirected=[(min(pair), max(pair)) for pair, _ in hedge.bidirected])
    return f"<p>{escape(hedge.title)}</p>{_drawn(graph)}{_table([], hedge.table(), is_words=True)}"


def of_thicket(thicket: Thicket) -> str:
    """Return the experiments of a thicket, each with the reason why it does not help."""
    return _page(_thicket(thicket))


def _thicket(thicket: Thicket) -> str:
    return f"<p>{escape(thicket.title)}</p>{_table([], thicket.table(), is_words=True)}"


def of_refusal(error: NotIdentifiable) -> str:
    """Return the message of a refusal, its witness, and the steps up to the failure."""
    witness = ""
    if error.thicket is not None:
        witness = _thicket(error.thicket)
    elif error.hedge is not None:
        witness = _hedge(error.hedge)
    elif error.conflict is not None:
        witness = f"<p>{escape(str(error.conflict))}</p>"
    steps = _steps(error.derivation)
    before = '<p class="aside">Steps up to the failure:</p>' if steps else ""
    return _page(f"<p>{escape(str(error))}</p>", witness, before, steps)


def of_paths(paths: Sequence[Path], *, is_more: bool) -> str:
    """Return paths, each with the nodes that block it crossed out."""
    rows = [[_path(path), escape(path.state)] for path in paths]
    rest = f'<p class="aside">Not shown: paths after the first {len(rows)}.</p>' if is_more else ""
    return _page(_table([], rows, is_html=True, is_words=True) if rows else "<p>No path.</p>", rest)


def _path(path: Path) -> str:
    def shown(node: str) -> str:
        return f"<s>{escape(node)}</s>" if node in path.blocked_by else escape(node)

    text = shown(path.nodes[0]) + "".join(f" {ARROWS[edge]} {shown(node)}" for edge, node in path.steps())
    return f'<span class="{"path" if path.is_open else "aside"}">{text}</span>'


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]], *, is_html: bool = False, is_words: bool = False) -> str:
    """Return a table whose first column holds headings; cells are text, unless they are HTML already.

    Cells are aligned like numbers, or like words if there is a head or `is_words`.
    """
    text = str if is_html else lambda x: escape(str(x))
    top = "".join(f'<th scope="col">{escape(x)}</th>' for x in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{text(x)}</td>" for x in others)
        lines.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    header = f"<thead><tr>{top}</tr></thead>" if top else ""
    kind = ' class="words"' if top or is_words else ""
    return f'<div class="wide"><table{kind}>{header}<tbody>{"".join(lines)}</tbody></table></div>'


def _page(*parts: str) -> str:
    """Return parts in a box with the colours and fonts of a report, light or dark as the reader prefers."""
    css, look = (files("undelude").joinpath("_report", name).read_text() for name in ("style.css", "notebook.css"))
    variables = re.findall(r":root \{.*?\n\s*\}", css, flags=re.DOTALL)
    light, dark = (x.replace(":root", ".undelude") for x in variables[:2])
    style = f"<style>{light}\n@media screen and (prefers-color-scheme: dark) {{ {dark} }}\n{look}</style>"
    return f'<div class="undelude">{style}{"".join(parts)}</div>'
