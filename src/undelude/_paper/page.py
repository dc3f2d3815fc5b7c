"""The page of `undelude paper`: one HTML file that loads nothing and runs no script."""

import math
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from undelude._paper.item import Block, Item, Settings, Value

CODE = re.compile(r"`([^`]+)`")
# Hyphens between words, but not in "1-10" or as a minus.
HYPHEN = re.compile(r"(?<=[\w)])-(?=[^\W\d])|(?<=[^\W\d])-(?=\w)")
# Numbers of a list that the page shows.
MAX_LISTED = 10


def render(blocks: Sequence[Block], settings: Settings, *, versions: dict[str, str], seconds: float) -> str:
    """Return the page as HTML.

    Args:
        blocks: the blocks in the order of the page.
        settings: the settings they were computed with.
        versions: versions of the packages.
        seconds: duration of the computation.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"prose": prose, "value": written, "computed": computed, "label": label, "said": said}
    template = environment.from_string(files("undelude._paper").joinpath("page.html.j2").read_text(encoding="utf-8"))
    items = [item for block in blocks for item in block.items]
    return template.render(
        style=Markup(files("undelude._report").joinpath("style.css").read_text(encoding="utf-8")),
        blocks=blocks,
        items=items,
        num_ours=sum(item.ours for item in items),
        disagreeing=[item for item in items if not item.agrees],
        settings=settings,
        versions=versions,
        seconds=seconds,
    )


def prose(text: str) -> Markup:
    """Return text as HTML, with the parts in backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", escape(text, quote=False)))


def label(name: str) -> str:
    """Return the name of an item within its block, in words."""
    return HYPHEN.sub(" ", name.partition("/")[2].replace("/", ": "))


def said(item: Item) -> str:
    """Return the paper's statement; one that is not in the paper is marked "ours"."""
    return f"ours: {item.paper}" if item.ours else item.paper


def computed(item: Item) -> str:
    """Return the value as text, with its standard error if it is sampled."""
    if item.standard_error is None:
        return written(item.value)
    digits = -math.floor(math.log10(item.standard_error)) if item.standard_error else 4
    return f"{item.value:.{digits}f} \N{PLUS-MINUS SIGN} {item.standard_error:.{digits}f}"


def written(value: Value) -> str:
    """Return a value as text, with at most four decimals; of a long list only the first numbers."""
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
