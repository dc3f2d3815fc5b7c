"""The page of `undelude paper`: one file that opens no address and runs no script."""

import re
import textwrap
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from undelude.paper.item import Block, Settings, Value

CODE = re.compile(r"`([^`]+)`")
# Numbers in a list beyond which the page shows the first ones only.
MAX_LISTED = 10
# Characters of a line in a listing.
WIDTH = 88


def render(blocks: Sequence[Block], settings: Settings, *, versions: dict[str, str], seconds: float) -> str:
    """The page as HTML.

    Args:
        blocks: in the order of the page.
        settings: that they were computed with.
        versions: of the packages that computed them.
        seconds: that it took.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"prose": prose, "value": written, "wrapped": wrapped, "label": label}
    template = environment.from_string(files("undelude.paper").joinpath("page.html.j2").read_text(encoding="utf-8"))
    items = [item for block in blocks for item in block.items]
    return template.render(
        style=Markup(files("undelude.report").joinpath("style.css").read_text(encoding="utf-8")),
        blocks=blocks,
        items=items,
        disagreeing=[item for item in items if not item.agrees],
        settings=settings,
        versions=versions,
        seconds=seconds,
    )


def prose(text: str) -> Markup:
    """What stands in backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", escape(text, quote=False)))


def label(name: str) -> str:
    """What an item is called within its block."""
    return name.partition("/")[2].replace("/", ": ")


def wrapped(listing: str) -> str:
    """Long lines broken between words, short ones as they are."""
    lines = listing.splitlines()
    return "\n".join(line if len(line) <= WIDTH else textwrap.fill(line, WIDTH) for line in lines)


def written(value: Value) -> str:
    """Four digits after the point, or as many as say something; the first numbers of a long list."""
    match value:
        case str():
            return value
        case list():
            shown = ", ".join(map(written, value[:MAX_LISTED]))
            return f"({shown}, ...)" if len(value) > MAX_LISTED else f"({shown})"
        case float() if value and abs(value) < 1e-3:
            return f"{value:.1g}"
        case _:
            return f"{value:.4f}".rstrip("0").rstrip(".")
