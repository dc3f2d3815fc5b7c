"""The page of `undelude paper`: one HTML file that loads nothing and runs no script."""

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from undelude._paper import words
from undelude._paper.item import KINDS, MEANINGS, Block, Settings

CODE = re.compile(r"`([^`]+)`")


def render(blocks: Sequence[Block], settings: Settings, *, versions: dict[str, str], seconds: float) -> str:
    """Return the page as HTML.

    Args:
        blocks: the blocks in the order of the page.
        settings: the settings they were computed with.
        versions: versions of the packages.
        seconds: duration of the computation.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"prose": prose, "computed": words.computed, "label": words.label, "origin": words.origin}
    template = environment.from_string(files("undelude._paper").joinpath("page.html.j2").read_text(encoding="utf-8"))
    items = [item for block in blocks for item in block.items]
    return template.render(
        style=Markup(files("undelude._report").joinpath("style.css").read_text(encoding="utf-8")),
        blocks=blocks,
        kinds=KINDS,
        meanings=MEANINGS,
        counts=words.count(items),
        unmet=[item for item in items if not item.met],
        words=words,
        settings=settings,
        versions=versions,
        seconds=seconds,
    )


def prose(text: str) -> Markup:
    """Return text as HTML, with the parts in backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", escape(text, quote=False)))
