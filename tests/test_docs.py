"""What README and docs show is true: their code runs and prints what stands below it, and what they name exists.

The blocks of a page run in order, as one session. Above a block may stand

    <!-- tested with steps=20, num_episodes=64 -->   to run it smaller; its output is then not compared
    <!-- from examples/x.py -->                      it is a passage of that file, imports aside
"""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest
import tyro

import undelude as ud
from undelude._cli.app import Command

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<note>.*?) -->\n)?```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<output>.*?)```)?", re.DOTALL
)
COMMAND = re.compile(r"^\$ undelude (.*)$", re.MULTILINE)
NUMBER = re.compile(r"-?\d+\.\d+")
# What is sampled is the same everywhere; what is computed from it may differ in the last digit that is shown.
TOLERANCE = 0.02


def name_of(page):
    return str(page.relative_to(ROOT))


def pages_with(pattern):
    return [pytest.param(page, id=name_of(page)) for page in PAGES if pattern.search(page.read_text())]


@pytest.mark.parametrize("page", pages_with(BLOCK))
def test_code_runs_and_prints_what_is_shown(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session = {}
    for block in BLOCK.finditer(page.read_text()):
        note, code, output = block["note"] or "", block["code"], block["output"]
        if note.startswith("from "):
            passage = re.sub(r"\A(import .*\n)+\n", "", code)
            assert passage in (ROOT / note.removeprefix("from ")).read_text(), f"{name_of(page)} and {note} differ"
        smaller = note.removeprefix("tested with ") if note.startswith("tested with ") else None
        exec(compile(shrink(code, smaller) if smaller else code, name_of(page), "exec"), session)
        printed = capsys.readouterr().out
        if output is not None and not smaller:
            assert NUMBER.sub("#", printed) == NUMBER.sub("#", output)
            shown = [float(x) for x in NUMBER.findall(output)]
            assert [float(x) for x in NUMBER.findall(printed)] == pytest.approx(shown, rel=TOLERANCE, abs=1e-4)


def shrink(code, settings):
    for setting in settings.split(", "):
        name = setting.split("=")[0]
        code, count = re.subn(rf"\b{name}=\d+", setting, code)
        assert count, f"the block has no {name}= to be tested with {setting}"
    return code


@pytest.mark.parametrize("page", pages_with(COMMAND))
def test_commands_are_understood(page):
    for command in COMMAND.findall(page.read_text()):
        tyro.cli(Command, args=shlex.split(command, comments=True))


def test_every_public_name_is_documented():
    directives = "\n".join(path.read_text() for path in (DOCS / "api").glob("*.md"))
    documented = re.findall(r"^::: undelude\.(\w+)$", directives, re.MULTILINE)
    assert sorted(documented) == sorted(ud.__all__)
    tasks = re.search(r"members: \[(.*)\]", directives)[1].split(", ")
    assert sorted(tasks) == sorted(ud.tasks.__all__)


@pytest.mark.parametrize("name", ud.__all__)
def test_every_public_name_has_a_docstring_of_its_own(name):
    thing = getattr(ud, name)
    inherited = [base.__doc__ for base in thing.__mro__[1:]] if inspect.isclass(thing) else []
    assert thing.__doc__
    assert thing.__doc__ not in inherited


def test_the_paper_map_names_what_exists():
    page = (DOCS / "paper-map.md").read_text()
    for name in re.findall(r"`(undelude(?:\.\w+)+)`", page):
        assert resolves(name), name
    for anchor in re.findall(r"`#([\w-]+)`", page):
        assert any(anchor in path.read_text() for path in (ROOT / "src/undelude/_paper/blocks").glob("*.py")), anchor
    for file, test in re.findall(r"`(?:tests/)?(test_\w+\.py)::(\w+)`", page):
        assert test in functions(ROOT / "tests" / file), f"{file}::{test}"


def resolves(name):
    parts = name.split(".")
    for i in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            thing = getattr(thing, part, None)
        return thing is not None
    return False


def functions(file):
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def test_the_first_page_leads_to_all_others():
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text())
    assert {*linked} == {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(page in navigation for page in linked)


@pytest.mark.parametrize("page", pages_with(re.compile(r"\]\(")))
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target
