"""Draws docs/figures/belief.svg, one episode of the bandit as two exact agents see it.

    python tools/draw_belief.py    about ten seconds

The file is one SVG for light and dark: its colours are classes, and a media query replaces them.
"""

from html import escape
from pathlib import Path

import jax
import numpy as np

import undelude as ud

FILE = Path(__file__).parent.parent / "docs" / "figures" / "belief.svg"
# Of 200 episodes that share their random numbers, one in which the deluded agent is most plainly wrong: it pulls its
# favourite twelve times and is paid once. It ends sure of a wrong arm in half of all episodes.
BEST_ARM, NUM_EPISODES, EPISODE = 2, 200, 36

# Pixels.
CELL, ROW, GAP = 17, 25, 2
LEFT, TOP, BETWEEN, MARGIN = 50, 74, 52, 24
CURVE = 74

AGENTS = {
    "see": ("It reads its own actions as evidence", "deluded"),
    "do": ("It reads them as interventions", "sober"),
}
COLOURS = {
    "paper": ("#ffffff", "#16181b"),
    "edge": ("#e2e2de", "#2c2f33"),
    "ink": ("#1b1b1b", "#e9e7e3"),
    "muted": ("#666663", "#a5a5a1"),
    "tile": ("#f1f1ee", "#22252a"),
    "rule": ("#d8d8d4", "#3b3e43"),
    "see": ("#d55e00", "#ef7b2f"),
    "do": ("#0072b2", "#56b4e9"),
    "see-text": ("#b04c00", "#f39353"),
    "do-text": ("#00639c", "#6fc0ee"),
}


def play() -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return, by how an agent reads its own actions, its belief `[T + 1, K]`, its actions `[T]` and rewards `[T]`."""
    process, found = ud.tasks.bandit(), {}
    for own_actions in AGENTS:
        agent = ud.ExactAgent(process, own_actions=own_actions)
        episodes = ud.rollout(process, agent, key=jax.random.key(0), num_episodes=NUM_EPISODES, theta=BEST_ARM)
        belief = np.exp(np.asarray(ud.posterior(process, episodes, own_actions=own_actions)))
        found[own_actions] = tuple(np.asarray(x)[EPISODE] for x in (belief, episodes.actions, episodes.reward))
    return found


def panel(name: str, belief: np.ndarray, actions: np.ndarray, rewards: np.ndarray, x0: float) -> list[str]:
    """Return the elements of one agent's half: tiles of its belief, a dot for each pull, and a curve below."""
    (num_columns, K), (title, kind) = belief.shape, AGENTS[name]
    right, bottom = x0 + num_columns * CELL, TOP + K * ROW
    favourite, ends = int(belief[-1].argmax()), float(belief[-1].max())
    verdict = (
        f"{kind}: ends with {ends:.0%} on arm {favourite + 1}, {'the best' if favourite == BEST_ARM else 'a wrong'} one"
    )
    parts = [
        f'<text class="title {name}-text" x="{x0}" y="{TOP - 34}">{escape(title)}</text>',
        f'<text class="muted" x="{x0}" y="{TOP - 14}">{escape(verdict)}</text>',
    ]
    for t, k in np.ndindex(num_columns, K):
        box = f'x="{x0 + t * CELL}" y="{TOP + k * ROW}" width="{CELL - GAP}" height="{ROW - GAP}" rx="2"'
        parts.append(f'<rect class="tile" {box}/>')
        if belief[t, k] >= 0.005:
            parts.append(f'<rect class="{name}" {box} opacity="{belief[t, k]:.2f}"/>')
    for t, (a, paid) in enumerate(zip(actions, rewards, strict=True)):
        centre = f'cx="{x0 + t * CELL + (CELL - GAP) / 2}" cy="{TOP + a * ROW + (ROW - GAP) / 2}"'
        parts.append(f'<circle class="{"paid" if paid else "unpaid"}" {centre} r="4.25"/>')
    y = TOP + BEST_ARM * ROW - 2
    parts.append(
        f'<rect class="frame" x="{x0 - 2}" y="{y}" width="{num_columns * CELL + 2}" height="{ROW + 2}" rx="3"/>'
    )
    for k in range(K):
        weight = "ink strong" if k == BEST_ARM else "muted"
        parts.append(f'<text class="{weight}" x="{x0 - 9}" y="{TOP + k * ROW + 16}" text-anchor="end">{k + 1}</text>')

    top, low = bottom + 26, bottom + 26 + CURVE
    xs = [x0 + t * CELL + (CELL - GAP) / 2 for t in range(num_columns)]
    for share in (0, 0.5, 1):
        level = low - share * CURVE
        parts.append(f'<path class="grid" d="M{x0} {level}H{right - GAP}"/>')
        parts.append(f'<text class="muted" x="{x0 - 9}" y="{level + 4}" text-anchor="end">{share:g}</text>')
    points = " ".join(f"{x:g},{low - p * CURVE:.1f}" for x, p in zip(xs, belief[:, BEST_ARM], strict=True))
    parts.append(f'<polyline class="curve {name}-line" points="{points}"/>')
    parts.append(f'<circle class="{name}" cx="{xs[-1]}" cy="{low - belief[-1, BEST_ARM] * CURVE:.1f}" r="4"/>')
    parts.append(
        f'<text class="muted" x="{right - GAP}" y="{top - 8}" text-anchor="end">belief in arm {BEST_ARM + 1}</text>'
    )
    for t, label in ((0, "round 1"), (4, "5"), (9, "10"), (14, "15"), (num_columns - 1, "end")):
        parts.append(f'<text class="muted" x="{xs[t]}" y="{low + 18}" text-anchor="middle">{label}</text>')
    return parts


def legend(y: float, width: float) -> list[str]:
    """Return one line that explains dots, shades and frame."""
    x, shade = LEFT, "shade: belief that the arm is the best"
    return [
        f'<circle class="paid" cx="{x + 5}" cy="{y - 4}" r="4"/>',
        f'<text class="muted" x="{x + 15}" y="{y}">pulled, it paid</text>',
        f'<circle class="unpaid" cx="{x + 121}" cy="{y - 4}" r="4"/>',
        f'<text class="muted" x="{x + 131}" y="{y}">pulled, it did not</text>',
        f'<rect class="frame" x="{x + 254}" y="{y - 13}" width="30" height="17" rx="3"/>',
        f'<text class="muted" x="{x + 292}" y="{y}">the best arm</text>',
        f'<text class="muted" x="{width - MARGIN}" y="{y}" text-anchor="end">{shade}</text>',
    ]


def style(mode: int) -> str:
    """Return the CSS rules of the colours, light (0) or dark (1)."""
    c = {name: pair[mode] for name, pair in COLOURS.items()}
    fills = "".join(
        f".{name}{{fill:{c[name]}}}" for name in ("ink", "muted", "tile", "see", "do", "see-text", "do-text")
    )
    return (
        f"{fills}.card{{fill:{c['paper']};stroke:{c['edge']}}}.paid{{fill:{c['ink']};stroke:{c['paper']}}}"
        f".unpaid{{fill:{c['paper']};stroke:{c['ink']}}}.frame{{stroke:{c['ink']}}}.grid{{stroke:{c['rule']}}}"
        f".see-line{{stroke:{c['see']}}}.do-line{{stroke:{c['do']}}}"
    )


def draw(episodes: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> str:
    """Return the picture as an SVG document."""
    belief, _, _ = episodes["see"]
    num_columns, K = belief.shape
    starts = (LEFT, LEFT + num_columns * CELL + BETWEEN + LEFT - MARGIN)
    width = starts[1] + num_columns * CELL - GAP + MARGIN
    height = TOP + K * ROW + 26 + CURVE + 64
    alt = (
        f"One episode of {num_columns - 1} rounds of a bandit whose best arm is arm {BEST_ARM + 1}, played by two "
        "agents with exact inference. The one that reads its own actions as evidence becomes certain of a wrong arm "
        "that hardly ever pays; the one that reads them as interventions finds the best arm."
    )
    parts = [line for name, x in zip(AGENTS, starts, strict=True) for line in panel(name, *episodes[name], x)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{alt}">',
            "<style>",
            "text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif}",
            ".title{font-size:15px;font-weight:600}.strong{font-weight:700}",
            ".frame{fill:none;stroke-width:1.5}.curve{fill:none;stroke-width:2.5;stroke-linejoin:round}",
            ".paid,.unpaid{stroke-width:1.25}.grid{stroke-width:1}",
            style(0),
            f"@media (prefers-color-scheme:dark){{{style(1)}}}",
            "</style>",
            f'<rect class="card" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10"/>',
            *parts,
            *legend(height - 16, width),
            "</svg>",
            "",
        ]
    )


def main() -> None:
    """Play the episode and write the picture."""
    FILE.write_text(draw(play()))
    print(f"Written to {FILE}.")


if __name__ == "__main__":
    main()
