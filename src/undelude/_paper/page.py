"""The page of `undelude paper`: one file that opens no address and runs no script."""

import math
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from undelude._paper.item import Block, Item, Settings, Value

CODE = re.compile(r"`([^`]+)`")
# Between words, where a line may break; not that of "1-10", and no minus.
HYPHEN = re.compile(r"(?<=[\w)])-(?=[^\W\d])|(?<=[^\W\d])-(?=\w)")
# Numbers in a list beyond which the page shows the first ones only.
MAX_LISTED = 10


def render(blocks: Sequence[Block], settings: Settings, *, versions: dict[str, str], seconds: float) -> str:
    """The page as HTML.

    Args:
        blocks: in the order of the page.
        settings: that they were computed with.
        versions: of the packages that computed them.
        seconds: that it took.
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
    """What stands in backticks as code."""
    return Markup(CODE.sub(r"<code>\1</code>", escape(text, quote=False)))


def label(name: str) -> str:
    """What an item is called within its block, in words."""
    return HYPHEN.sub(" ", name.partition("/")[2].replace("/", ": "))


def said(item: Item) -> str:
    """What the paper says, or, so marked, what its words imply for a case of ours."""
    return f"ours: {item.paper}" if item.ours else item.paper


def computed(item: Item) -> str:
    """The value, with its standard error where it is sampled."""
    if item.standard_error is None:
        return written(item.value)
    digits = -math.floor(math.log10(item.standard_error)) if item.standard_error else 4
    return f"{item.value:.{digits}f} \N{PLUS-MINUS SIGN} {item.standard_error:.{digits}f}"


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
