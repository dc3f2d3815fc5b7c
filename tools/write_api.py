"""Write the reference: signatures and docstrings of the public names, into the pages of docs/api.

    python tools/write_api.py            a second; `make docs` runs it
    python tools/write_api.py --check    write nothing, and fail if a page is out of date; `make lint` runs it

A page names what it documents by comments, and the text between them is written here:

    <!-- undelude.teach --> ... <!-- end of undelude.teach -->

The pages are read in the repository and on the site, so that they have Markdown that both render alike.
"""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "api"
BLOCK = re.compile(r"<!-- (undelude[\w.]*) -->\n(.*?)<!-- end of \1 -->", re.DOTALL)
# Characters of a signature on one line.
WIDTH = 80
# The titles of the lists that a docstring may have.
TITLES = {
    "parameters": "Arguments",
    "attributes": "Attributes",
    "returns": "Returns",
    "raises": "Raises",
    "warns": "Warns",
}


def load() -> griffe.Module:
    """Return the package as griffe reads it, without importing it."""
    options = {"warn_unknown_params": False}
    loader = griffe.GriffeLoader(
        search_paths=[ROOT / "src"], docstring_parser=griffe.Parser.google, docstring_options=options
    )
    package = loader.load("undelude")
    loader.resolve_aliases()
    return package


class Reference:
    """The text of the reference.

    Args:
        pages: each page by its name.
    """

    def __init__(self, pages: dict[str, str]):
        self.package = load()
        self.page_of = {name: page for page, text in pages.items() for name, _ in BLOCK.findall(text)}
        # The addresses of the methods of the class that is being written, by name.
        self.methods: dict[str, str] = {}

    def page(self, name: str, text: str) -> str:
        """Return a page with the text of its names; each has a heading below the one that it stands under."""
        level, start, parts = 1, 0, []
        for block in BLOCK.finditer(text):
            between = text[start : block.start()]
            headings = re.findall(r"^(#+) ", re.sub(r"^```.*?^```", "", between, flags=re.DOTALL | re.M), re.M)
            level = len(headings[-1]) if headings else level
            body = "\n".join(self.entry(block[1], name, level + 1)).rstrip()
            parts += [between, f"<!-- {block[1]} -->\n\n{body}\n\n<!-- end of {block[1]} -->"]
            start = block.end()
        return "".join([*parts, text[start:]])

    def entry(self, path: str, page: str, level: int) -> Iterator[str]:
        """Yield the lines of a public name."""
        thing = self.find(path)
        public = self.public_members(thing)
        self.methods = {x.name: f"#{path}.{x.name}" for x in public if x.is_function}
        name = path.replace("undelude", "ud", 1)
        yield from self.heading(path, name.removeprefix("ud."), level)
        if thing.is_function:
            yield from self.signature(name, thing.parameters, thing.returns)
            yield from self.docstring(thing, page)
            return
        if not thing.name.startswith("Abstract"):
            yield from self.signature(name, constructor(thing), None)
        yield from self.bases(thing, page)
        yield from self.docstring(thing, page)
        attributes = [x for x in public if x.is_attribute]
        if attributes:
            yield from ["**Properties**", ""]
            for x in attributes:
                annotation = f": {x.annotation}" if x.annotation is not None else ""
                yield from self.item(f"{x.name}{annotation}", x.docstring.value, page)
            yield ""
        for method in (x for x in public if x.is_function):
            yield from self.heading(f"{path}.{method.name}", f"{thing.name}.{method.name}", level + 1)
            own = [x for x in method.parameters if x.name not in ("self", "cls")]
            yield from self.signature(f"{thing.name}.{method.name}", own, method.returns)
            yield from self.docstring(method, page)

    @functools.cached_property
    def names_of_methods(self) -> set[str]:
        """The names of the methods of all documented classes."""
        classes = [x for x in map(self.find, self.page_of) if x.is_class]
        return {name for x in classes for name, member in x.all_members.items() if member.is_function}

    def find(self, path: str) -> Any:
        """Return what a public name stands for."""
        thing: Any = self.package[path.removeprefix("undelude.")]
        if thing.is_module:  # A function has the name of its module, such as `tasks.arm`.
            thing = thing[thing.name]
        return thing.final_target if thing.is_alias else thing

    def public_members(self, thing: Any) -> list[Any]:
        """Return the members with a docstring: those of a class, then those of base classes that it alone has.

        A base class without bases of its own may have two of the documented classes.
        """
        found = dict(thing.members)
        for base in thing.mro() if thing.is_class else []:
            under = self.documented_under(base.path)
            if len(under) == 1 or (len(under) == 2 and not base.mro()):
                found |= {name: x for name, x in base.members.items() if name not in found}
        return [x for x in found.values() if not x.name.startswith("_") and x.docstring]

    @functools.cache  # noqa: B019 - there is one reference.
    def documented_under(self, base: str) -> list[str]:
        """Return the documented classes that are, or have as a base class, the one at this path."""
        things = {name: self.find(name) for name in self.page_of}
        classes = {name: x for name, x in things.items() if x.is_class}
        return [name for name, x in classes.items() if base in {y.path for y in (x, *x.mro())}]

    def heading(self, path: str, title: str, level: int) -> Iterator[str]:
        """Yield an anchor, which the repository and the site know by the same name, and a heading."""
        yield from [f'<a id="{path}"></a>', "", f"{'#' * level} {title}", ""]

    def signature(self, name: str, parameters: Any, returns: Any) -> Iterator[str]:
        """Yield a signature, and what the type aliases in it stand for."""
        yield from layout(name, parameters, returns)
        annotations = [x for x in (*(x.annotation for x in parameters), returns) if isinstance(x, griffe.Expr)]
        names = [x for y in annotations for x in (y, *y.iterate()) if isinstance(x, griffe.ExprName)]
        meanings = {x.name: meaning for x in names if (meaning := self.alias(x))}
        if meanings:
            yield from ["where " + ", ".join(f"`{alias}` is `{value}`" for alias, value in meanings.items()) + ".", ""]

    def alias(self, name: griffe.ExprName) -> str | None:
        """Return the type that a name stands for; None if it is no alias, or stands for any type."""
        package, _, path = name.canonical_path.partition(".")
        if package != "undelude":
            return None
        try:
            thing: Any = self.package[path]
        except KeyError:  # The name of a member of the class itself.
            return None
        thing = thing.final_target if thing.is_alias else thing
        meaning = str(thing.value).replace("'", '"') if thing.is_attribute else "Any"
        return None if meaning == "Any" or "TypeVar(" in meaning else meaning

    def bases(self, thing: Any, page: str) -> Iterator[str]:
        """Yield the nearest base class with a public name."""
        for base in thing.mro():
            if f"undelude.{base.name}" in self.page_of:
                yield from [self.linked(f"A subclass of `{base.name}`.", page), ""]
                return

    def docstring(self, thing: Any, page: str) -> Iterator[str]:
        """Yield the text and the lists of a docstring."""
        for section in thing.docstring.parsed if thing.docstring else []:
            kind = section.kind.value
            if kind == "text":
                yield from [self.linked(fence(section.value), page), ""]
                continue
            yield from [f"**{TITLES[kind]}**", ""]
            for x in section.value:
                name = x.annotation if kind in ("raises", "warns") else None if kind == "returns" else x.name
                yield from self.item(name, x.description, page)
            yield ""

    def item(self, name: Any, text: str, page: str) -> Iterator[str]:
        """Yield an item of a list."""
        lines = self.linked(text, page).splitlines()
        yield f"- `{name}`: {lines[0]}" if name is not None else f"- {lines[0]}"
        yield from (f"    {line}".rstrip() for line in lines[1:])

    def linked(self, text: str, page: str) -> str:
        """Return a text in which each public name in backticks, outside code blocks, is a link to its place.

        In the text of a class, the name of one of its methods is a link to that, and not to a function of that name.
        Elsewhere a function that shares its name with methods is linked as `ud.name` alone.
        """

        def link(found: re.Match[str]) -> str:
            path = f"undelude.{found[1]}"
            if path not in self.page_of:
                return found[0]
            if found[1] in self.methods and found[0] == f"`{found[1]}`":
                return f"[{found[0]}]({self.methods[found[1]]})"
            if found[0] == f"`{found[1]}`" and found[1] in self.names_of_methods:
                return found[0]
            there = "" if self.page_of[path] == page else self.page_of[path]
            return f"[{found[0]}]({there}#{path})"

        parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
        return "".join(x if x.startswith("```") else re.sub(r"`(?:ud\.)?((?:tasks\.)?\w+)`", link, x) for x in parts)


def layout(name: str, parameters: Any, returns: Any) -> Iterator[str]:
    """Yield a signature as code, with one argument a line if it is long."""
    arguments, kinds = [], griffe.ParameterKind
    keyword_only = False
    for x in parameters:
        stars = {kinds.var_positional: "*", kinds.var_keyword: "**"}.get(x.kind, "")
        if x.kind is kinds.keyword_only and not keyword_only:
            arguments.append("*")
        keyword_only = keyword_only or x.kind in (kinds.keyword_only, kinds.var_positional)
        annotation = f": {x.annotation}" if x.annotation is not None else ""
        default = "" if x.default is None or stars else f" = {x.default}" if annotation else f"={x.default}"
        arguments.append(f"{stars}{x.name}{annotation}{default}")
        if x.kind is kinds.positional_only and all(y.kind is not kinds.positional_only for y in after(x, parameters)):
            arguments.append("/")
    end = f" -> {returns}" if returns is not None else ""
    line = f"{name}({', '.join(arguments)}){end}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {x},\n" for x in arguments) + f"){end}"
    yield from ["```py", line.replace("'", '"'), "```", ""]


def after(x: Any, parameters: Any) -> list[Any]:
    """Return the parameters after one."""
    rest = list(parameters)
    return rest[rest.index(x) + 1 :]


def constructor(thing: Any) -> list[Any]:
    """Return the parameters of a class: of `__init__`, or the fields of an Equinox module or a named tuple."""
    if "__init__" in thing.members:
        return [x for x in thing.parameters if x.name != "self"]
    fields = []
    for x in thing.members.values():
        if x.is_attribute and x.annotation is not None and "instance-attribute" in x.labels:
            kind = griffe.ParameterKind.positional_or_keyword
            fields.append(griffe.Parameter(x.name, annotation=x.annotation, kind=kind, default=default(x.value)))
    return fields


def default(value: Any) -> str | None:
    """Return the default of a field; None if it has none."""
    call = None if value is None else ast.parse(str(value), mode="eval").body
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in ("eqx.field", "dataclasses.field"):
        return None if value is None else str(value)
    given = {x.arg: ast.unparse(x.value) for x in call.keywords}
    return given.get("default")


def fence(text: str) -> str:
    """Return a text whose examples, lines from `>>>` to the next empty one, are code blocks."""
    return re.sub(
        r"^>>> .*?(?=\n\n|\Z)", lambda x: f"```pycon\n{x[0].rstrip()}\n```", text, flags=re.DOTALL | re.MULTILINE
    )


def main() -> None:
    """Write the pages, or check them."""
    pages = {file.name: file.read_text() for file in sorted(FOLDER.glob("*.md"))}
    reference = Reference(pages)
    written = {name: reference.page(name, text) for name, text in pages.items()}
    stale = [name for name, text in pages.items() if text != written[name]]
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"Out of date in docs/api: {', '.join(stale)}. Write them again with: python tools/write_api.py")
        return
    for name in stale:
        (FOLDER / name).write_text(written[name])
    print(f"Written: {', '.join(stale) or 'nothing new'}.")


if __name__ == "__main__":
    main()
