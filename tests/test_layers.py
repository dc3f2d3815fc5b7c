"""The structure of the package: the picture is true, helpers stay at the bottom, classes are abstract or final."""

import importlib
import inspect
import pkgutil
import runpy
from importlib.metadata import version
from pathlib import Path

import equinox as eqx
import pytest

import undelude

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def rooms():
    return runpy.run_path(str(ROOT / "tools" / "draw_rooms.py"))


def test_picture_is_current(rooms):
    assert rooms["FILE"].read_text() == rooms["draw"](), "run python tools/draw_rooms.py"


def test_table_is_current(rooms):
    page = rooms["PAGE"].read_text()
    assert rooms["with_table"](page) == page, "run python tools/draw_rooms.py"
    assert all(f"| `{name}` |" in page for name in rooms["ROOMS"])


def test_dir_shows_public_names():
    packages = {"causal", "gym", "hf", "offline", "plot", "tasks", "torch"}
    assert {*dir(undelude)} == {*undelude.__all__, "__version__", *packages}
    assert dir(undelude.tasks) == sorted(undelude.tasks.__all__)
    assert undelude.__version__ == version("undelude")


def test_imports_follow_layers(rooms):
    """The contract of pyproject.toml, read a second time; import-linter checks it in `make lint`."""
    rows, exceptions = rooms["contract"]()
    level = {name: i for i, row in enumerate(rows) for name in row}
    assert level.keys() == rooms["ROOMS"].keys()
    for name, imported in rooms["imports"]().items():
        upward = {x for x in imported - {rooms["HELPERS"]} if level[x] <= level[name] and (name, x) not in exceptions}
        assert not upward, f"{name} imports {upward}"


def test_helpers_import_nothing(rooms):
    for name in rooms["helper_names"]():
        modules = rooms["imported"](rooms["ast"].parse((ROOT / f"src/undelude/{name}.py").read_text()))
        ours = {rooms["package"](module) for module in modules if module.startswith("undelude.")}
        assert ours <= {rooms["HELPERS"]}, name


def modules_of_ours():
    for info in pkgutil.walk_packages(undelude.__path__, "undelude."):
        # Torch may not be installed; no class of `hf` or `torch` is an Equinox module.
        if not info.name.endswith("__main__") and not info.name.startswith(("undelude.hf.", "undelude.torch.")):
            yield importlib.import_module(info.name)


def test_modules_are_abstract_or_final():
    """Only an Equinox module whose name begins with Abstract has subclasses."""
    classes = {x for module in modules_of_ours() for x in vars(module).values() if inspect.isclass(x)}
    ours = [x for x in classes if issubclass(x, eqx.Module) and x.__module__.startswith("undelude")]
    assert len(ours) > 30
    for one in ours:
        bases = [base for base in one.__mro__[1:] if base.__module__.startswith("undelude")]
        assert all(base.__name__.lstrip("_").startswith("Abstract") for base in bases), one
