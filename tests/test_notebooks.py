"""The notebooks for four readers run from top to bottom and show what their text says."""

import ast
import re
import runpy
from pathlib import Path

import matplotlib
import numpy as np
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "examples" / "notebooks"
READERS = ["student", "engineer", "analyst", "causal"]


def run(name):
    """Run all cells and return the names that they define."""
    pytest.importorskip("marimo")
    matplotlib.use("Agg")
    _, names = runpy.run_path(str(NOTEBOOKS / f"{name}.py"))["app"].run()
    return names


def test_each_reader_has_a_notebook():
    assert {file.stem for file in NOTEBOOKS.glob("*.py")} == {*READERS}


@pytest.mark.parametrize("name", READERS)
def test_missing_marimo_is_one_sentence(name, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SystemExit, match=rf"needs marimo.*: pip install marimo.* marimo edit examples/notebooks/{name}.py"
    ):
        runpy.run_path(str(NOTEBOOKS / f"{name}.py"))


@pytest.mark.parametrize("name", READERS)
def test_cells_are_sound(name):
    """One cell returns a name, and each cell takes names that another returns: marimo finds their order by these."""
    cells = [x for x in ast.parse((NOTEBOOKS / f"{name}.py").read_text()).body if isinstance(x, ast.FunctionDef)]
    assert len(cells) > 10
    ends = [cell.body[-1] for cell in cells]
    assert all(isinstance(end, ast.Return) for end in ends)
    returned = [x.id for end in ends if isinstance(end.value, ast.Tuple) for x in end.value.elts]
    assert len(returned) == len({*returned})
    assert {x.arg for cell in cells for x in cell.args.args} <= {*returned}


@pytest.mark.parametrize("name", READERS)
def test_pages_and_settings_of_the_text_exist(name):
    text = (NOTEBOOKS / f"{name}.py").read_text()
    for page in re.findall(r"docs/[\w-]+\.md", text):
        assert (NOTEBOOKS.parent.parent / page).is_file()
    assert name == "student" or "docs/" in text


@pytest.mark.slow
def test_student():
    names = run("student")
    assert np.allclose(names["seen"], [0, 1])
    assert np.allclose(names["done"], [1 / 2, 1 / 2])
    for mark, belief in names["by_hand"].items():
        assert np.allclose(belief, names["computed"][mark], atol=1e-5)
    arm = names["arm"]
    assert names["by_hand"]["do"][arm] < 0.2 < names["by_hand"]["see"][arm]
    see, do = (names["beliefs"][mark][names["episode"], -1] for mark in ("see", "do"))
    assert see[1:].max() > 0.9  # sure of a wrong arm, as the strip is to show
    assert do[0] > 0.9
    assert names["wrong"]["see"] >= 4 * names["wrong"]["do"]
    assert names["gap"].deluded_fraction > 0.3
    assert names["gap"].reward < names["gap"].reward_exact_do < names["gap"].reward_expert


@pytest.mark.slow
def test_engineer():
    names = run("engineer")
    assert names["cloned_report"].verdict == "deluded"
    assert names["taught_report"].verdict == "sober"
    cloned, taught = (np.asarray(names["shares"][x]) for x in ("cloned", "taught"))
    assert taught.mean() - cloned.mean() > 3 * np.hypot(taught.std(), cloned.std()) / np.sqrt(len(taught))


@pytest.mark.slow
def test_analyst():
    names = run("analyst")
    assert names["fit"].K == 3
    assert names["diagnosis"].verdict == "identified"
    assert names["bought"].min() > 0.5 > 5 / 12
    sober, clone = (np.asarray(names["sales"][x]) for x in ("sober", "clone"))
    assert sober.mean() - clone.mean() > 2 * np.hypot(sober.std(), clone.std()) / np.sqrt(len(sober))


@pytest.mark.slow
def test_causal():
    """The claims of the chapter: estimands equal surgery, the bounds are the published ones."""
    pytest.importorskip("pyagrum")
    names = run("causal")
    assert names["seen"].to_dict() == {-1: 0, 1: 1}
    assert names["done"].to_dict() == names["new_case"].to_dict() == {-1: 0.5, 1: 0.5}
    assert names["imagined"].to_dict() == {-1: 1, 1: 0}
    assert float(names["surgery"]) > names["surgery_se"] > 0 > float(names["reversed_surgery"])
    assert np.allclose(names["by_front_door"], names["by_surgery"], atol=1e-6)
    assert np.allclose(names["by_ratio"], names["by_napkin_surgery"], atol=1e-6)
    assert np.allclose(names["effect_bounds"], (0.392, 0.780), atol=1e-6)  # Balke & Pearl 1997
    assert (names["hedge"].forest, names["hedge"].subforest) == ({"A", "O"}, {"O"})
    assert [*names["remedies"].experiment] == [("A",)]
    assert names["from_data"] == pytest.approx(float(names["from_twins"]), abs=1e-6)
    assert names["total"] == pytest.approx(names["direct"] - names["reverse"], abs=1e-6)
    assert names["explained"][1] < names["wet"][1]
    assert abs(names["rain_em"] - names["rain_true"]) < 0.02 < names["rain_true"] - names["rain_dropped"]
