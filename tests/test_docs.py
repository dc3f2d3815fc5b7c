"""The README and the docs are true: their code runs and prints the output shown, and the names they use exist.

The blocks of a page run in order, as one session. A block may have a comment above it:

    <!-- tested with steps=20, num_episodes=64 -->   run it smaller, and do not compare its output
    <!-- from examples/x.py -->                      it is a passage of that file, imports aside
"""

import ast
import importlib
import inspect
import operator
import re
import runpy
import shlex
import sys
import tomllib

import pytest
import tyro
from PIL import Image

import undelude as ud
from pages import (
    BLOCK,
    DOCS,
    HF_PAGES,
    NUMBER,
    ROOT,
    TORCH_PAGE,
    check_code,
    check_entry,
    name_of,
    reference,
    with_numbers,
)
from undelude._cli.app import Command
from undelude._paper.blocks import remark_13
from undelude._paper.results import load

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
# Their functions are called in faster tests: tests/test_offline_*.py, and tests/test_*_world.py and test_gym_*.py. The
# first steps are the README's, and then those of tests/test_certificate.py, test_replicates.py and test_gym_tables.py.
# The tasks are those of tests/test_tasks.py, test_menu.py and test_film.py, the concepts the README's.
SLOW_PAGES = [DOCS / f"{name}.md" for name in ("offline", "gym", "getting-started", "tasks", "concepts")]
# Pages whose certificates are measured without the rewards of other policies: the pages show none of them.
NO_BASELINES = [ROOT / "README.md", DOCS / "getting-started.md"]
MEASURED = "num_episodes=1000)", "num_episodes=1000, baselines=False)"
COMMAND = re.compile(r"^\$ undelude (.*)$", re.MULTILINE)


def pages_with(pattern):
    return [pytest.param(page, id=name_of(page)) for page in PAGES if pattern.search(page.read_text())]


def page_of_code(page):
    return pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] * (page in SLOW_PAGES))


CODE_PAGES = [x.values[0] for x in pages_with(BLOCK) if x.values[0] not in [*HF_PAGES, TORCH_PAGE]]


@pytest.mark.parametrize("page", [page_of_code(page) for page in CODE_PAGES])
def test_code_prints_its_output(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    check_code(page, capsys, [MEASURED] * (page in NO_BASELINES))


@pytest.mark.parametrize("page", pages_with(COMMAND))
def test_commands_parse(page):
    for command in COMMAND.findall(page.read_text()):
        tyro.cli(Command, args=shlex.split(command, comments=True))


def test_extras_are_installed_from_a_clone():
    """While there is no release, nothing says that pip finds undelude on an index."""
    assert "There is no release on the package index yet" in (ROOT / "README.md").read_text()
    folders = [ROOT / name for name in ("src", "docs", "examples", "studies")]
    files = [x for folder in folders for kind in ("*.py", "*.md") for x in folder.rglob(kind)]
    for file in [*files, *ROOT.glob("*.md"), ROOT / "pyproject.toml"]:
        assert not re.search(r"undelude\[|pip install ['\"]?undelude", file.read_text(encoding="utf-8")), name_of(file)


@pytest.mark.parametrize("page", ["causal", "causal-models"])
def test_pages_on_causal_models_say_which_extra_they_need(page):
    """Every package that a block imports is a dependency or in the extra that the head of the page names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["causal"]]
    known = {re.match(r"[\w-]+", x)[0] for x in needed} | {"undelude", *sys.stdlib_module_names}
    text = (DOCS / f"{page}.md").read_text()
    code = "\n".join(block["code"] for block in BLOCK.finditer(text))
    imported = set(re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE))
    assert imported - known == set()
    head = text.split("```", 1)[0]
    assert '`pip install -c constraints.txt ".[causal]"`' in head
    assert all(name.lower() in head.lower() for name in imported & {"pandas", "pyagrum", "xarray", "networkx"})


ENTRIES = reference()


def test_public_names_are_documented():
    tasks = {f"tasks.{name}" for name in ud.tasks.__all__}
    language = {f"hf.{name}" for name in ud.hf.__all__}
    networks = {f"torch.{name}" for name in ud.torch.__all__}
    logs = {f"offline.{name}" for name in ud.offline.__all__}
    gym = {f"gym.{name}" for name in ud.gym.__all__} - {"gym.Policy", "gym.tabular_from_gymnasium"}
    figures = {f"plot.{name}" for name in ud.plot.__all__}
    graphs = {f"causal.{name}" for name in {*ud.causal.__all__} - {*ud.__all__}}
    assert {*ENTRIES} == {*ud.__all__} - {"tasks"} | tasks | language | networks | logs | gym | figures | graphs


ELSEWHERE = ("Abstract", "gym.Abstract", "hf.", "torch.")


@pytest.mark.parametrize("name", [name for name in ENTRIES if not name.startswith(ELSEWHERE)])
def test_reference_has_the_signature_and_the_docstring(name):
    """Python's own view of the object agrees."""
    check_entry(ENTRIES[name], operator.attrgetter(name)(ud))


@pytest.mark.parametrize("name", ud.__all__)
def test_public_names_have_docstrings(name):
    thing = getattr(ud, name)
    inherited = [base.__doc__ for base in thing.__mro__[1:]] if inspect.isclass(thing) else []
    assert thing.__doc__
    assert thing.__doc__ not in inherited


def test_paper_map_names_exist():
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


def test_index_links_every_page():
    linked = re.findall(r"\]\(([\w-]+\.md)\)", (DOCS / "index.md").read_text())
    assert {*linked} == {page.name for page in DOCS.glob("*.md")} - {"index.md"}
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(page in navigation for page in linked)


@pytest.mark.parametrize("page", pages_with(re.compile(r"\]\(")))
def test_relative_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http", "#")):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_first_pages_state_the_results_of_the_arm():
    """The shares of rounds at the target are those of the study, and chance is one target of eight."""
    rows = {row["agent"]: row for row in load("when")["rows"] if (row["task"], row["quality"]) == ("arm", 0.8)}
    do, see = (f"{rows[name]['outcome']:.0%}" for name in ("do", "see"))
    assert rows["see"]["outcome"] == pytest.approx(1 / 8, abs=rows["see"]["se"])
    claim = f"the sober arm is at the target in {do} of rounds, the deluded arm in {see}, which is chance."
    for page in (ROOT / "README.md", DOCS / "index.md"):
        assert claim in " ".join(page.read_text().split())


def test_film_of_the_first_pages_is_small():
    """A page shows it at its own size, and loads it at once."""
    file = DOCS / "figures" / "arm.gif"
    with Image.open(file) as gif:
        assert gif.width == 720
        assert gif.info["loop"] == 0
        assert gif.n_frames == 1 + 3 * 25
    assert file.stat().st_size < 400_000


def test_concepts_state_the_numbers_of_the_paper_page():
    """Those of Remark 13 are exact, those of Remark 17 stored results; the page rounds both."""
    page = (DOCS / "concepts.md").read_text()
    bandit = ud.tasks.bandit()
    blind, own = remark_13.right_answers(bandit, remark_13.UNIFORM)[0], remark_13.own_answers(bandit)
    for answer in (blind, own):
        assert f"{remark_13.belief(answer):.3f}".removeprefix("0") in page
    assert remark_13.TEMPERATURE == 1 / 4
    rows = [row for row in load("remark_17")["rows"] if (row["theta"], row["teaching"]) == ("hidden", "cloning")]
    first = max(row["action_kl_do"][0] for row in rows)
    last = [row["action_kl_do"][-1] for row in rows if row["hidden_size"] == 64]
    assert f"from {first:.2f} to {sum(last) / 2:.2f} nats".replace(" 0.", " .") in page.replace("\n", " ")


def test_figure_of_a_belief_is_current():
    """The committed picture is the one that its script draws; a shade may differ by a rounding."""
    script = runpy.run_path(str(ROOT / "tools" / "draw_belief.py"))
    check_picture(script["draw"](script["play"]()), "belief.svg")


def test_figure_of_the_chapter_is_current():
    """It has the colours of light and of dark pages, and no other."""
    script = runpy.run_path(str(ROOT / "tools" / "draw_chapter.py"))
    drawn = script["draw"]()
    check_picture(drawn, "chapter.svg")
    style, rest = drawn.split("</style>", 1)
    assert "prefers-color-scheme:dark" in style
    assert not re.search(r"#[0-9a-f]{6}\b", rest)


def check_picture(drawn, name):
    kept = (DOCS / "figures" / name).read_text()
    (words, numbers), (kept_words, kept_numbers) = with_numbers(drawn, NUMBER), with_numbers(kept, NUMBER)
    assert words == kept_words
    assert numbers == pytest.approx(kept_numbers, abs=0.11)


def test_fast_tests_exist():
    """The files that `make test-fast` names are there."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    names = re.search(r"^FAST_TESTS := .*addsuffix \.py, (.*?)\)\)", makefile, re.MULTILINE)[1].split()
    assert names
    assert all((ROOT / "tests" / f"test_{name}.py").is_file() for name in names)
