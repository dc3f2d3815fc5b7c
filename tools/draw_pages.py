"""Draws two pictures of the first pages: docs/figures/graph.svg and docs/figures/certificate.svg.

    python tools/draw_pages.py    about a minute: it trains an agent on the bandit

The first is the causal graph of a task, once with the action seen and once with it done. The second is the head of the
page of a certificate, as `undelude train bandit` draws it.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import undelude as ud
from undelude._drawing.dag import Panel, draw_dag
from undelude._drawing.svg import Svg, to_file
from undelude._report import figures
from undelude._runs.contents import read_run

FOLDER = Path(__file__).parent.parent / "docs" / "figures"


def graph() -> list[Svg]:
    """Draw the prize-or-frog problem with an action that is seen, and with one that is done."""
    frog = ud.tasks.prize_or_frog().causal_model(num_rounds=1)
    seen, done = tuple(frog.graph.paths("A_1", "O_1")), tuple(frog.graph.paths("A_1", "O_1", do="A_1"))
    panels = [
        Panel(frog.graph, "the expert's action is seen", latent=("Theta",), seen=("A_1",), paths=seen),
        Panel(frog.graph, "the agent's own action is done", latent=("Theta",), done=("A_1",), paths=done),
    ]
    return [draw_dag(panel) for panel in panels]


def certificate() -> list[Svg]:
    """Draw the distances of a trained agent and one of its episodes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "undelude", "train", "bandit", "--out", f"{folder}/bandit"]
        subprocess.run(command, check=True)
        run = read_run(Path(folder) / "bandit")
    distances, episode = figures.distances(run), run.episode
    assert distances is not None
    assert episode is not None
    return [distances, figures.strips(episode)]


def main() -> None:
    """Write both pictures."""
    for name, drawn in (("graph", graph()), ("certificate", certificate())):
        (FOLDER / f"{name}.svg").write_text(to_file(*drawn))
        print(f"Written to {FOLDER / name}.svg.")


if __name__ == "__main__":
    main()
