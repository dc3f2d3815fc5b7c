"""Reads the pages of the docs: runs their code, and compares the reference with the objects that it describes."""

import ast
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# Pages whose code needs Torch.
HF_PAGES = [DOCS / "language.md"]
TORCH_PAGE = DOCS / "torch.md"
BLOCK = re.compile(
    r"(?:<!-- (?P<note>.*?) -->\n)?```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```)?", re.DOTALL
)
NUMBER = re.compile(r"-?\d+\.\d+")
# Relative. Samples are the same on every machine; numbers computed from them may differ in the last digit shown.
TOLERANCE = 0.02


def name_of(page):
    return str(page.relative_to(ROOT))


def check_code(page, capsys, instead=()):
    """Run the blocks of a page in order, as one session, and compare what they print with the page.

    Args:
        page: its file.
        capsys: of pytest.
        instead: pairs of a text of the code and the text that is run in its place.
    """
    session = {}
    for block in BLOCK.finditer(page.read_text()):
        note, code, output = block["note"] or "", block["code"], block["output"]
        if note.startswith("from "):
            passage = re.sub(r"\A(import .*\n)+\n", "", code)
            assert passage in (ROOT / note.removeprefix("from ")).read_text(), f"{name_of(page)} and {note} differ"
        smaller = note.removeprefix("tested with ") if note.startswith("tested with ") else None
        for old, new in instead:
            code = code.replace(old, new)
        exec(compile(shrink(code, smaller) if smaller else code, name_of(page), "exec"), session)
        printed = capsys.readouterr().out
        if output is not None and not smaller:
            (words, numbers), (shown_words, shown) = with_numbers(printed, NUMBER), with_numbers(output, NUMBER)
            assert words == shown_words
            assert numbers == pytest.approx(shown, rel=TOLERANCE, abs=1e-4)


def with_numbers(text, pattern):
    """Split a text into the text without its numbers, and the numbers."""
    return pattern.sub("#", text), [float(x) for x in pattern.findall(text)]


def shrink(code, settings):
    for setting in settings.split(", "):
        name = setting.split("=")[0]
        code, count = re.subn(rf"\b{name}=\w+", setting, code)
        assert count, f"the block has no {name}= to be tested with {setting}"
    return code


def reference():
    """Return the entries of the reference by name, such as `hf.DoTokens`."""
    text = "\n".join(path.read_text() for path in sorted((DOCS / "api").glob("*.md")))
    return dict(re.findall(r"^<!-- undelude\.([\w.]+) -->\n(.*?)^<!-- end of", text, re.DOTALL | re.MULTILINE))


def check_entry(entry, thing):
    """Compare an entry of the reference with the object: arguments, which of them have a default, first line."""
    code = re.search(r"```py\nud\.[\w.]+(.*?)\n```", entry, re.DOTALL)[1]
    shown = ast.parse(f"def f{code}: ...").body[0].args
    real = inspect.signature(thing).parameters.values()
    names = [x.arg for x in (*shown.posonlyargs, *shown.args, shown.vararg, *shown.kwonlyargs, shown.kwarg) if x]
    assert names == [x.name for x in real]
    defaults = [x.name for x in real if x.default is not x.empty]
    positional = [x.arg for x in (*shown.posonlyargs, *shown.args)]
    with_default = positional[len(positional) - len(shown.defaults) :]
    assert with_default + [x.arg for x, y in zip(shown.kwonlyargs, shown.kw_defaults, strict=True) if y] == defaults
    plain = re.sub(r"\[(`[^`]*`)\]\([^)]*\)", r"\1", entry)
    assert inspect.getdoc(thing).splitlines()[0] in plain
