"""The inspector as one page without a server: exact answers by a few lines of JavaScript, from the library's tables."""

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jax.numpy as jnp
import numpy as np

from undelude._inspector.inspection import SEE, Inspection
from undelude._inspector.start import first_history
from undelude._inspector.view import describe
from undelude._process.process import InteractionProcess
from undelude.tasks.game_words import all_outcomes
from undelude.tasks.tables import TableExpert, TableTask

# The modules of the page in the order of their imports.
MODULES = ("state", "score", "numbers", "densities", "tables", "picture", "sharing", "local", "app")
# The page loads nothing; its own styles and scripts are inside.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"


def static_page(processes: Sequence[InteractionProcess]) -> str:
    """Return the inspector of processes in tables as one HTML page.

    Args:
        processes: without memories, as `ud.tasks.from_tables` makes them.

    Raises:
        TypeError: a process is not made of tables, opens with an observation, changes theta, or ends early.
    """
    folder = files("undelude._inspector").joinpath("page")
    page = folder.joinpath("page.html").read_text(encoding="utf-8")
    style = files("undelude._report").joinpath("style.css").read_text(encoding="utf-8")
    style += folder.joinpath("inspector.css").read_text(encoding="utf-8")
    script = _bundle({name: folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in MODULES})
    stored = json.dumps({process.name: _stored(process) for process in processes}, allow_nan=False)
    page = re.sub(r'<link rel="stylesheet" href="(report|inspector)\.css">\n', "", page)
    head = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<style>\n{style}</style>'
    page = page.replace('<script type="module" src="app.js"></script>', head)
    # A script that is a module sees the page that is above it.
    stored = stored.replace("<", "\\u003c")  # No text in it can end the element.
    data = f'<script type="application/json" id="stored">{stored}</script>'
    return page.replace("</body>", f'{data}\n<script type="module">\n{script}</script>\n</body>')


def _bundle(modules: dict[str, str]) -> str:
    """Return modules as one script; raise `ValueError` if two have a name in common."""
    names: dict[str, str] = {}
    parts = []
    for module, text in modules.items():
        text = re.sub(r"^import .*\n", "", text, flags=re.M)
        text = re.sub(r"^export ", "", text, flags=re.M)
        for name in re.findall(r"^(?:async )?(?:function|const|let|class) ([\w$]+)", text, flags=re.M):
            if names.setdefault(name, module) != module:
                raise ValueError(f"the name {name} is in {names[name]}.js and in {module}.js: rename one.")
        parts.append(text)
    return "\n".join(parts)


def _stored(process: InteractionProcess) -> dict[str, Any]:
    """Return the tables of a process and the description of its inspector."""
    if not isinstance(process.task, TableTask) or not isinstance(process.expert, TableExpert):
        raise TypeError(f"{process.name} is not made of tables, and a page without a server needs them.")
    if process.theta_changes or process.opening or process.ends_early:
        raise TypeError(
            f"{process.name} opens with an observation, changes theta or ends early, which a page without a server "
            "does not compute: use undelude inspect."
        )
    inspection = Inspection(process)
    probs, rewards = all_outcomes(process)
    first = inspection.to_json(first_history(inspection, SEE), task=process.name)
    stored = {name: inspection.to_json(x, task=process.name) for name, x in inspection.examples().items()}
    note = "This page computes everything itself. `undelude inspect` also reads along with the agents of your runs."
    about = describe(inspection, notes={}) | {"actor": SEE, "note": note.replace("`", ""), "examples": stored}
    return {
        "about": about | {"served": False, "drawing": False, "first": first},
        "prior": _exact(process.prior),
        "expert": _exact(jnp.exp(process.expert.log_probs)),
        "task": _exact(probs),
        "rewards": np.asarray(rewards, float).tolist(),
    }


def _exact(p: Any) -> list[Any]:
    """Return probabilities of single precision as the decimals that they were made from, normalised in double."""
    rounded = np.round(np.asarray(p, float), 7)
    return (rounded / rounded.sum(-1, keepdims=True)).tolist()
