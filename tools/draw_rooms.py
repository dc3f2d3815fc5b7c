"""Draws docs/figures/rooms.svg, the packages of undelude and their imports; writes the table of docs/architecture.md.

    python tools/draw_rooms.py    a second

Layers come from the import contract in pyproject.toml, arrows from the code's own import statements.
"""

import ast
import functools
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "undelude"
FILE = ROOT / "docs" / "figures" / "rooms.svg"
PAGE = ROOT / "docs" / "architecture.md"

# Each package: what it holds, in full for the table and in short for the picture.
ROOMS = {
    "_cli": ("The command line: the options of all commands, and one file for each command.", "one file a command"),
    "hf": ("Language models: Hugging Face's, and any behind a server.", "language models"),
    "torch": ("PyTorch networks of the user's own: taught by our loop, and certified.", "networks of your own"),
    "_suite": ("The benchmark: frozen tasks, one protocol, results and the leaderboard.", "frozen tasks to compare on"),
    "plot": ("Figures on matplotlib axes, for papers and notebooks.", "figures for papers"),
    "_inspector": (
        "An episode in the browser: a switch at each action reads it as see or do.",
        "see or do, in a page",
    ),
    "_report": ("A run as one HTML page.", "a run as a page"),
    "_paper": ("The paper recomputed, item by item, with its own figures.", "the paper recomputed"),
    "offline": ("From logs alone: the causal model, or the reason why there is none.", "from logs to a process"),
    "_drawing": ("SVG figures, causal graphs, beliefs, films.", "figures and films"),
    "_runs": ("Everything on disk: run directories, saved agents, checkpoints, exports.", "everything on disk"),
    "gym": ("Gymnasium's tables as processes.", "Gymnasium's tables"),
    "_certificate": ("Measurements of agents and tasks: `certify`, `replicate`, `check_task`.", "certify, check_task"),
    "_teaching": ("Teachings, their losses, the training loop.", "losses, the training loop"),
    "_rollout": ("One loop in JAX and one in Python that play episodes.", "plays episodes"),
    "_agents": ("Agents: exact, networks, acting rules, and policies from elsewhere.", "f_A, f_O, g_A, g_O"),
    "tasks": ("Ready-made processes, one file each, and their registry.", "ready-made processes"),
    "_process": ("Theta, task and expert; episodes; exact inference; the causal model.", "task, expert, exact belief"),
    "causal": ("Finite causal models on any graph; identification.", "any causal graph"),
    "_distributions": ("Distributions, divergences, and the values they range over.", "and the values they take"),
}
HELPERS = "helpers"
# Pixels: the centres of the columns of a layer with one, two and three packages; a box; between the rows.
COLUMNS = {1: (380,), 2: (260, 500), 3: (140, 380, 620)}
# Centres that keep the arrows apart.
PLACES = {"tasks": 620, "_agents": 380, "_drawing": 140, "_runs": 380}
WIDTH, BOX, TALL, STEP, TOP = 760, 190, 46, 70, 22

COLOURS = {
    "paper": ("#ffffff", "#16181b"),
    "edge": ("#e2e2de", "#2c2f33"),
    "ink": ("#1b1b1b", "#e9e7e3"),
    "muted": ("#666663", "#a5a5a1"),
    "box": ("#f4f6f8", "#1f2429"),
    "core": ("#e6f1f8", "#182b38"),
    "line": ("#7d8287", "#878c91"),
    "do": ("#0072b2", "#56b4e9"),
}
CORE = {"causal", "_distributions", "_process", "_agents", "tasks", "_rollout", "_teaching", "_certificate"}


def contract() -> tuple[list[list[str]], set[tuple[str, str]]]:
    """Return the layers of packages from the top, and the exceptions `(from, to)`, as pyproject.toml states them."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in tool["contracts"] if c["type"] == "layers")
    rows = [re.findall(r"\w+", row) for row in layers["layers"]]
    exceptions = {tuple(package(x.strip()) for x in pair.split("->")) for pair in layers["ignore_imports"]}
    return [row for row in ([x for x in row if (SOURCE / x).is_dir()] for row in rows) if row], exceptions


def helper_names() -> list[str]:
    """Return the single-file modules that any package may use: the lowest layer."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = next(c for c in tool["contracts"] if c["type"] == "layers")["layers"]
    return sorted(re.findall(r"\w+", layers[-1]))


def package(module: str) -> str:
    """Return the package of `undelude` that holds a module, or `helpers` for the single-file modules."""
    name = module.split(".")[1]
    return name if (SOURCE / name).is_dir() else HELPERS


@functools.cache
def imports() -> dict[str, set[str]]:
    """Return for each package the packages that it imports, read from its source, type-checking imports aside."""
    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for file in sorted(SOURCE.glob("*/**/*.py")):
        name = file.relative_to(SOURCE).parts[0]
        for module in imported(ast.parse(file.read_text())):
            if module.startswith("undelude.") and package(module) != name:
                found[name].add(package(module))
    return found


def imported(tree: ast.AST) -> list[str]:
    """Return the modules that a syntax tree imports, at any depth."""
    modules = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "undelude":
            modules += [f"undelude.{name.name}" for name in node.names if (SOURCE / name.name).is_dir()]
        elif isinstance(node, ast.ImportFrom):
            modules.append(node.module or "")
        modules += imported(node)
    return modules


def reduced(edges: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the edges that do not follow from others (the transitive reduction)."""

    def reach(start: str) -> set[str]:
        return edges[start].union(*(reach(x) for x in edges[start]))

    return [(a, b) for a in edges for b in sorted(edges[a]) if not any(b in reach(c) for c in edges[a] - {b})]


def places() -> dict[str, tuple[int, int]]:
    """Return the centre of each package's box."""
    found = {}
    for i, row in enumerate(contract()[0]):
        for name, x in zip(row, COLUMNS[len(row)], strict=True):
            found[name] = PLACES.get(name, x), TOP + i * STEP + TALL // 2
    return found


def arrow(start: tuple[int, int], stop: tuple[int, int], shift: int) -> str:
    """Return the path from one box down to another; long ways go straight down and enter from the side."""
    (x0, y0), (x1, y1) = start, stop
    bottom, top = y0 + TALL // 2, y1 - TALL // 2
    if y1 - y0 <= STEP:
        entry = x1 + max(-60, min(60, (x0 - x1) // 4))
        leave = x0 + max(-60, min(60, (x1 - x0) // 4))
        middle = (bottom + top) // 2
        return f"M{leave} {bottom}C{leave} {middle} {entry} {middle} {entry} {top - 3}"
    if abs(x0 - x1) < BOX // 2:
        return f"M{x0} {bottom}V{top - 3}"
    side, turn = (x1 - BOX // 2 - 3, 8) if x0 < x1 else (x1 + BOX // 2 + 3, -8)
    x = x0 + shift
    return f"M{x} {bottom}V{y1 - 8}q0 8 {turn} 8H{side}"


def upward(start: tuple[int, int], stop: tuple[int, int]) -> str:
    """Return the path of an exception, from one box up to another."""
    (x0, y0), (x1, y1) = start, stop
    if x0 == x1:
        return f"M{x0 + 50} {y0 - TALL // 2}V{y1 + TALL // 2 + 3}"
    x = x1 + 50 if x1 + 58 < x0 - BOX // 2 else x1
    return f"M{x0 - BOX // 2} {y0}H{x + 8}q-8 0 -8 -8V{y1 + TALL // 2 + 3}"


def style(mode: int) -> str:
    """Return the CSS rules of the colours, light (0) or dark (1)."""
    c = {name: pair[mode] for name, pair in COLOURS.items()}
    return (
        f".card{{fill:{c['paper']};stroke:{c['edge']}}}.name{{fill:{c['ink']}}}.what{{fill:{c['muted']}}}"
        f".box{{fill:{c['box']};stroke:{c['line']}}}.core{{fill:{c['core']};stroke:{c['do']}}}"
        f".arrow{{stroke:{c['line']}}}.head{{fill:{c['line']}}}"
    )


def draw() -> str:
    """Return the picture as an SVG document."""
    rows, exceptions = contract()
    centre, every = places(), imports()
    down = {a: {b for b in found - {HELPERS} if (a, b) not in exceptions} for a, found in every.items()}
    height = TOP + (len(rows) + 1) * STEP + 24
    shifts = dict.fromkeys(ROOMS, 0)
    lines = []
    for a, b in reduced(down):
        lines.append(f'<path class="arrow" d="{arrow(centre[a], centre[b], shifts[a])}" marker-end="url(#head)"/>')
        if centre[b][1] - centre[a][1] > STEP:
            shifts[a] += 12
    for a, b in sorted((a, b) for a, b in exceptions if b in every[a]):
        path = upward(centre[a], centre[b])
        lines.append(f'<path class="arrow" stroke-dasharray="4 3" d="{path}" marker-end="url(#head)"/>')
    boxes = []
    for name, (x, y) in centre.items():
        kind = "core" if name in CORE else "box"
        left, top = x - BOX // 2, y - TALL // 2
        boxes += [
            f'<rect class="{kind}" x="{left}" y="{top}" width="{BOX}" height="{TALL}" rx="7"/>',
            f'<text class="name" x="{x}" y="{y - 3}">{name}</text>',
            f'<text class="what" x="{x}" y="{y + 14}">{ROOMS[name][1]}</text>',
        ]
    y = TOP + len(rows) * STEP
    helpers = " · ".join(helper_names())
    boxes += [
        f'<rect class="box" x="45" y="{y}" width="{WIDTH - 90}" height="{TALL}" rx="7"/>',
        f'<text class="name" x="{WIDTH // 2}" y="{y + TALL // 2 - 3}">helpers, open to all</text>',
        f'<text class="what" x="{WIDTH // 2}" y="{y + TALL // 2 + 14}">{helpers}</text>',
        f'<text class="what" x="{WIDTH // 2}" y="{height - 16}">Blue: the core. Arrows point to imports; '
        "those that follow from others are left out. Dashed: exceptions</text>",
    ]
    alt = "The packages of undelude in layers; each imports only from layers below its own."
    head = '<path class="head" d="M0 0L7 3.5L0 7z"/>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{alt}">',
            "<style>",
            "text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif}",
            "text{text-anchor:middle}",
            ".name{font-size:14px;font-weight:600}.arrow{fill:none;stroke-width:1.4}",
            style(0),
            f"@media (prefers-color-scheme:dark){{{style(1)}}}",
            "</style>",
            f'<defs><marker id="head" markerUnits="userSpaceOnUse" markerWidth="7" markerHeight="7" refX="5" refY="3.5"'
            f' orient="auto">{head}</marker></defs>',
            f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
            *lines,
            *boxes,
            "</svg>",
            "",
        ]
    )


def table() -> str:
    """Return the table of packages from the top, with everything that each imports."""
    order, every = [name for row in contract()[0] for name in row], imports()
    lines = ["| package | what it holds | imports |", "|---|---|---|"]
    for name in order:
        below = ", ".join(f"`{x}`" for x in order if x in every[name])
        lines.append(f"| `{name}` | {ROOMS[name][0]} | {below} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """Return the page with its table as the code is now."""
    begin, end = "<!-- rooms -->", "<!-- end of rooms -->"
    return re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n\n{table()}\n\n{end}", text, flags=re.DOTALL)


def main() -> None:
    """Draw the picture and write the table."""
    FILE.write_text(draw())
    PAGE.write_text(with_table(PAGE.read_text()))
    print(f"Written to {FILE} and {PAGE}.")


if __name__ == "__main__":
    main()
