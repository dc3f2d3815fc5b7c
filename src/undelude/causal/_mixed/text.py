"""Graphs as text: in Graphviz's DOT, in dagitty's language, and as TikZ pictures."""

import re
import warnings
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import NamedTuple, NoReturn

from undelude.causal._expressions.notation import latex_name
from undelude.causal._mixed.layout import layout
from undelude.causal._names import Parents, listed

# Tokens: quoted names, operators, then names and numbers.
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|<->|->|<-|--|[][{}=,;:]|[^\W\d][\w.]*|-?(?:\.\d+|\d+(?:\.\d*)?)', re.DOTALL)
SKIPPED = re.compile(r"\s+|//[^\n]*|/\*.*?\*/|#[^\n]*", re.DOTALL)
EDGES = ("->", "<-", "<->")
WORDS = ("graph", "digraph", "subgraph", "node", "edge", "strict")
# Attributes of nodes and their values: True if they make the node latent. dagitty has abbreviations.
MARKS = ("observed", "latent", "unobserved")
LATENT = {(key, x): True for key in ("latent", "unobserved", "l", "u") for x in ("", "yes", "true")}
LATENT |= {("observed", x): x in ("no", "false") for x in ("", "yes", "true", "no", "false")}
LATENT |= {(key, x): False for key in ("latent", "unobserved") for x in ("no", "false")}
# Roles of nodes in dagitty that matter, and that a graph does not keep.
ROLES = {"adjusted": "adjusted", "a": "adjusted", "selected": "selected", "s": "selected"}
# Units of TikZ between columns and between rows.
COLUMN, ROW = 2.0, 1.6


class GraphText(NamedTuple):
    """The parts of a graph that texts have.

    Attributes:
        parents: the parents of each name.
        bidirected: the pairs joined by a bidirected edge.
        latent: the latent variables, without those of bidirected edges.
    """

    parents: Parents
    bidirected: tuple[tuple[str, str], ...]
    latent: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------- reading


def read(text: str, kind: str) -> GraphText:
    """Return the graph of a text.

    Args:
        text: the text.
        kind: `"digraph"` or `"dag"`, with which it begins.

    Raises:
        ValueError: the text is not such a graph, with the line and what stands there.
    """
    if not isinstance(text, str):
        raise TypeError(f"the graph must be a text that begins with {kind}, not {text!r:.99}.")
    return _Reader(text, kind).graph()


class _Reader:
    """A recursive descent over the tokens of a text."""

    def __init__(self, text: str, kind: str):
        self.kind, self.text = kind, text
        self.tokens, self.at = list(self.scan()), 0
        self.parents: dict[str, dict[str, None]] = {}
        self.bidirected: dict[tuple[str, str], None] = {}
        self.latent: dict[str, bool] = {}
        self.skipped: dict[str, list[str]] = {}

    def scan(self) -> Iterator[tuple[str, int]]:
        """Yield the tokens and their places."""
        place = 0
        while place < len(self.text):
            if found := SKIPPED.match(self.text, place):
                place = found.end()
            elif found := TOKEN.match(self.text, place):
                yield found[0], place
                place = found.end()
            else:
                self.fail("this is not a name, an arrow or a bracket", place)

    def fail(self, why: str, place: int | None = None) -> NoReturn:
        """Raise `ValueError` with the line of a place, by default that of the next token."""
        if place is None:
            place = self.tokens[self.at][1] if self.at < len(self.tokens) else len(self.text)
        line = self.text.count("\n", 0, place) + 1
        near = self.text[place : place + 30].partition("\n")[0]
        raise ValueError(f"line {line} of the graph, at {near!r}: {why}." if near else f"the graph ends early: {why}.")

    def peek(self, ahead: int = 0) -> str:
        """Return the next token, or a later one; '' at the end."""
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """Return the next token; raise `ValueError` unless it is one of those wanted, if some are given."""
        token = self.peek()
        if not token or (wanted and token.lower() not in wanted):
            self.fail(f"expected {' or '.join(map(repr, wanted)) or 'more'}")
        self.at += 1
        return token

    def name(self) -> str:
        """Return the next token as a name, without its quotes."""
        token = self.peek()
        if token.startswith('"'):
            self.at += 1
            return re.sub(r'\\(["\\])', r"\1", token[1:-1])
        if not re.match(r"[\w.-]", token) or token in (*EDGES, "--"):
            self.fail("expected a name; quote it if it has other characters than letters, digits, _ and .")
        self.at += 1
        return token

    def graph(self) -> GraphText:
        """Return the graph."""
        if self.peek().lower() == "strict":
            self.at += 1
        if self.peek().lower() != self.kind:
            self.fail(f"the text must begin with {self.kind}, a graph of arrows")
        self.at += 1
        if self.peek() != "{":
            self.name()
        self.take("{")
        while self.peek() != "}":
            self.statement()
        self.take("}")
        if self.peek():
            self.fail("the text goes on after the end of the graph")
        for role, names in self.skipped.items():
            warnings.warn(
                f"the graph marks {listed(names)} as {role}, which a graph here does not keep: "
                "name it by see= in each question.",
                stacklevel=4,
            )
        latent = tuple(name for name in self.parents if self.latent.get(name))
        return GraphText({name: tuple(found) for name, found in self.parents.items()}, tuple(self.bidirected), latent)

    def statement(self) -> None:
        """Read a node, a chain of edges, or an attribute of the whole graph."""
        word = self.peek().lower()
        if word == ";":
            self.at += 1
        elif word in ("graph", "node", "edge") and self.peek(1) == "[":
            self.at += 1
            for key, _ in self.attributes():
                if key in (*MARKS, "dir"):
                    self.fail(f"{key} as the default of each {word} is not read; write it at the {word}s themselves")
        elif self.peek(1) == "=":
            self.name()
            self.take("=")
            self.name()
        else:
            self.chain()

    def chain(self) -> None:
        """Read a node with its attributes, or edges with theirs."""
        ends, edges = [self.group()], []
        while self.peek() in EDGES:
            edges.append(self.take())
            ends.append(self.group())
        if self.peek() == "--":
            self.fail("an undirected edge is not read: say by -> which is the cause, or by <-> that both have one")
        place = self.at
        attributes = self.attributes()
        if not edges:
            for name in ends[0]:
                self.mark(name, attributes, place)
            return
        for key, value in attributes:
            if key in MARKS or (key, value) in LATENT:
                self.fail(f"{key} is a mark of a node, and not of an edge; write it at the node", self.tokens[place][1])
        way = next((value for key, value in attributes if key == "dir"), "forward")
        for edge, (before, after) in zip(edges, pairwise(ends), strict=True):
            if way == "both" and edge == "->":
                edge = "<->"
            elif way != "forward":
                self.fail(f"dir={way} is not read; write the arrow from the cause to its effect", self.tokens[place][1])
            for x in before:
                for y in after:
                    self.join(x, edge, y)

    def group(self) -> list[str]:
        """Return the names of a node, or of several in braces."""
        if (word := self.peek().lower()) in WORDS:
            self.fail(f"{word} is a word of the language: subgraphs are not read, and a name like it needs quotes")
        if word != "{":
            names = [self.name()]
        else:
            self.at += 1
            names = []
            while self.peek() != "}":
                if self.peek() in (";", ","):
                    self.at += 1
                else:
                    names.append(self.name())
            self.at += 1
        if self.peek() == ":":
            self.fail("ports are not read; remove them")
        for name in names:
            self.parents.setdefault(name, {})
        return names

    def attributes(self) -> list[tuple[str, str]]:
        """Return the attributes in brackets, with values in lower case; an attribute alone has the value ''."""
        found = []
        while self.peek() == "[":
            self.at += 1
            while self.peek() != "]":
                if self.peek() in (";", ","):
                    self.at += 1
                    continue
                key, value = self.name(), ""
                if self.peek() == "=":
                    self.at += 1
                    value = self.name()
                found.append((key.lower(), value.lower()))
            self.at += 1
        return found

    def mark(self, name: str, attributes: list[tuple[str, str]], place: int) -> None:
        """Note whether a node is latent, and roles that the graph does not keep."""
        for key, value in attributes:
            if (key, value) in LATENT:
                self.latent[name] = LATENT[key, value]
            elif key in MARKS:
                self.fail(f'{key}={value} must be "yes" or "no"', self.tokens[place][1])
            elif key in ROLES and not value:
                self.skipped.setdefault(ROLES[key], []).append(name)

    def join(self, x: str, edge: str, y: str) -> None:
        """Add an edge."""
        if edge == "<->":
            self.bidirected[min(x, y), max(x, y)] = None
        else:
            cause, effect = (x, y) if edge == "->" else (y, x)
            self.parents[effect][cause] = None


# ------------------------------------------------------------------------------------------------------- writing


def dot(parents: Parents, latent: Collection[str]) -> str:
    """Return a `digraph` whose latent variables have `observed="no"`."""
    marks = dict.fromkeys(latent, ' [observed="no"]')
    nodes = [f"  {_quoted(name)}{marks.get(name, '')};" for name in parents]
    arrows = [f"  {_quoted(parent)} -> {_quoted(name)};" for name, found in parents.items() for parent in found]
    return "\n".join(["digraph {", *nodes, *arrows, "}"])


def dagitty(graph: GraphText) -> str:
    """Return a `dag` of dagitty."""
    nodes = [f"  {_quoted(name)}{' [latent]' if name in graph.latent else ''}" for name in graph.parents]
    arrows = [f"  {_quoted(parent)} -> {_quoted(name)}" for name, found in graph.parents.items() for parent in found]
    edges = [f"  {_quoted(x)} <-> {_quoted(y)}" for x, y in graph.bidirected]
    return "\n".join(["dag {", *nodes, *arrows, *edges, "}"])


def tikz(graph: GraphText, done: Collection[str]) -> str:
    """Return a `tikzpicture`, laid out as in notebooks."""
    places = layout(graph.parents, above=[name for name in graph.latent if not graph.parents[name]])
    label = {name: f"n{i}" for i, name in enumerate(places)}
    lines = [r"\begin{tikzpicture}[>=latex, every node/.style={draw, circle, minimum size=8mm, inner sep=1pt}]"]
    for name, (column, row) in places.items():
        look = "[rectangle, double] " if name in done else "[dashed] " if name in graph.latent else ""
        at = f"({COLUMN * column:g}, {0 - ROW * row:g})"
        lines.append(rf"  \node {look}({label[name]}) at {at} {{{_tex(name, name in done)}}};")
    for name, found in graph.parents.items():
        for parent in () if name in done else found:
            bend = "[bend left] " if _is_crossed(places, parent, name) else ""
            lines.append(rf"  \draw[->] ({label[parent]}) to {bend}({label[name]});")
    kept = [pair for pair in graph.bidirected if not set(pair) & set(done)]
    lines += [rf"  \draw[<->, dashed] ({label[x]}) to [bend left=45] ({label[y]});" for x, y in kept]
    return "\n".join([*lines, r"\end{tikzpicture}"])


def _is_crossed(places: dict[str, tuple[float, float]], a: str, b: str) -> bool:
    """Return whether a straight line from one node to the other passes over a third."""
    (x, y), (u, v) = places[a], places[b]
    for name, (p, q) in places.items():
        if name not in (a, b):
            t = ((p - x) * (u - x) + (q - y) * (v - y)) / ((u - x) ** 2 + (v - y) ** 2)
            if 0 < t < 1 and (x + t * (u - x) - p) ** 2 + (y + t * (v - y) - q) ** 2 < 0.1:
                return True
    return False


def _quoted(name: str) -> str:
    """Return a name as it stands if it is a word, and otherwise in quotes."""
    if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and name.lower() not in WORDS:
        return name
    return '"{}"'.format(name.replace("\\", "\\\\").replace('"', '\\"'))


def _tex(name: str, is_done: bool) -> str:
    """Return the label of a node: a symbol if the name is a word, otherwise text with special characters escaped."""
    if re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
        return rf"$\mathrm{{do}}({latex_name(name)})$" if is_done else f"${latex_name(name)}$"
    special = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}"}
    text = "".join(special.get(x, f"\\{x}" if x in "&%$#_{}" else x) for x in name)
    return f"do({text})" if is_done else text
