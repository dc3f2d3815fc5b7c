"""Stored results of the studies: each states its origin and is small, and the docs show it."""

import ast
import importlib
from datetime import date
from pathlib import Path

import pytest

from undelude._named_tasks import SETTINGS
from undelude._paper.results import FOLDER, load, stored
from undelude._runs.config import Config

ROOT = Path(__file__).parent.parent
NAMES = sorted(file.stem for file in FOLDER.glob("*.json"))


def test_every_study_has_a_result():
    of_suite = {"suite", *(f"suite_{name}" for name in ("peers", "shared", "gru", "ppo", "bc"))}
    helpers = {"store", "draw", "muon", "reacher_ppo"} | of_suite  # The suite's results are stored with it.
    scripts = {file.stem for file in (ROOT / "studies").glob("*.py")} - helpers
    assert scripts == {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_result_states_its_origin(name):
    """The script, date, seeds, settings, versions and duration are stored with a result."""
    study = load(name)
    assert str(stored(study)).startswith(f"studies/{name}.py, 2026-")
    assert date.fromisoformat(study["date"])
    assert all(isinstance(seed, int) for seed in study["seeds"])
    assert study["study"] == f"studies/{name}.py"
    assert study["seconds"] > 0
    assert study["versions"].keys() >= {"jax", "undelude"}
    assert study["seeds"]
    assert "steps" in study["settings"]
    assert (FOLDER / f"{name}.json").stat().st_size < 40_000
    ast.parse((ROOT / study["study"]).read_text())


def test_result_is_written_to_the_clone(tmp_path, monkeypatch, capsys):
    """The path is in the clone, not in an installed package, and is printed; a trial run writes nothing."""
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    store = importlib.import_module("store")
    assert ROOT / "src/undelude/_paper/results" == store.FOLDER
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    store.run("length", lambda: {"settings": 1}, keep=False)
    assert (store.earlier("length"), [*tmp_path.iterdir()]) == ({}, [])
    capsys.readouterr()
    store.run("length", lambda: {"settings": 1}, keep=True)
    assert store.earlier("length")["settings"] == 1
    assert date.fromisoformat(store.earlier("length")["date"])
    assert capsys.readouterr().out == f"Written to {tmp_path / 'length.json'}.\n"


def test_part_is_stored_beside_the_others(tmp_path, monkeypatch, capsys):
    """A part that is run again replaces its own result alone; with other than the usual number it is printed."""
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    store = importlib.import_module("store")
    monkeypatch.setattr(store, "FOLDER", tmp_path)
    scale = 1
    parts = {"a": (lambda num: {"x": scale * num}, 2), "b": (lambda num: {"x": num}, 3)}

    def found(*arguments):
        store.run_parts("length", parts, store.parser("A study.", parts).parse_args(arguments), {"steps": 1})
        stored = store.earlier("length")
        return stored["seeds"], {name: part["x"] for name, part in stored["parts"].items()}

    assert found() == ([0, 1, 2], {"a": 2, "b": 3})
    scale = 10
    assert found("--parts", "a") == ([0, 1, 2], {"a": 20, "b": 3})
    assert found("--parts", "a", "--data-sets", "1") == ([0, 1, 2], {"a": 20, "b": 3})
    assert '"x": 10' in capsys.readouterr().out


# Studies whose results are tables.
TABLES = {"tasks", "language", "offline", "offline_arm", "offline_experiment", "offline_grid"}
TABLES |= {"offline_logs", "offline_peers", "gym_peers", "gym_reacher"}


def test_page_has_the_row_of_each_agent_in_reacher():
    page = (ROOT / "docs" / "gym.md").read_text()
    for row in load("gym_reacher")["rows"]:
        cells = [row["agent"]]
        cells += (
            [f"{row['core_seconds']:.0f}", f"{row['env_steps'] / 1000:.0f},000"] if "core_seconds" in row else ["", ""]
        )
        for name, digits in (("action_kl_do", 3), ("action_kl_see", 2), ("at_target", 2), ("reward", 3)):
            value = f"{row[name]:.{digits}f} ± {row[name + '_se']:.{digits}f}" if name in row else ""
            cells.append(value.replace("0.", "."))
        assert f"| {' | '.join(cells)} |" in page, row


def test_page_has_the_rewards_of_peers():
    page = (ROOT / "docs" / "gym.md").read_text()
    for row in load("gym_peers")["rows"]:
        cell = f"{row['reward']:.3f} ± {row['reward_se']:.3f}".replace("0.", ".")
        assert cell in page, row


@pytest.mark.parametrize("name", sorted({*NAMES} - TABLES))
def test_figure_is_in_docs(name):
    page = "offline.md" if name == "offline_cases" else "studies.md"
    assert f"figures/{name}.svg" in (ROOT / "docs" / page).read_text()
    assert (ROOT / "docs" / "figures" / f"{name}.svg").read_text().startswith("<svg")


def test_pages_have_measured_tables(monkeypatch):
    """The tables in the docs are exactly those that studies/draw.py writes."""
    monkeypatch.syspath_prepend(str(ROOT / "studies"))
    draw = importlib.import_module("draw")
    assert draw.tables().keys() == {"nats", "seen", "settings", "cases", *draw.OUTCOMES}
    for name in draw.PAGES:
        page = (ROOT / "docs" / name).read_text()
        assert draw.with_tables(page) == page
        assert any(f"| {head} |" in page for head in ("task", "cue 0.8", "case"))


def test_settings_are_those_that_were_measured():
    """A task whose settings have changed since must be measured again with studies/tasks.py."""
    rows = {row["task"]: row for row in load("tasks")["rows"]}
    assert {name: row["settings"] for name, row in rows.items()} == {name: SETTINGS.get(name, {}) for name in rows}
    for row in rows.values():
        assert row["steps"] == Config(row["task"], **row["settings"]).steps
        assert row["verdict"] in ("sober", "agree")
