"""The suite: one file has the results of one agent, and one name is of one recipe."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest

from run_files import write_run
from undelude._certificate.quantity import Quantity
from undelude._cli import main, suite_train
from undelude._suite import leaderboard, protocol
from undelude._suite.contestants import contestants
from undelude._suite.results import SCORES, TaskResult, parse_result, read_result, write_result
from undelude._suite.schema import json_schema
from undelude._versioned_tasks import find_task

BANDIT, FROG, KUHN = (find_task(name) for name in ("bandit-v1", "frog-v1", "kuhn-v1"))
AGENT = """
import numpy as np
import undelude as ud

def a(process, task):
    if task == "undelude/kuhn-v1" and BREAKS:
        raise ValueError("not yet")
    return ud.HostAgent(lambda B: B, lambda m, a, o: (np.full((m, process.action_spec.n), .5), m))
"""
BASELINES = Path(leaderboard.__file__).parent / "baselines"
FEW = ("--tasks", "frog-v1", "kuhn-v1")


def suite(*arguments):
    return main(["suite", *map(str, arguments)])


def words(captured):
    return " ".join(captured.readouterr().err.split())


def played(process, agent, definition, *, num_episodes):
    """Stand in for `protocol.measure`."""
    scores = dict.fromkeys(SCORES, Quantity(why_none="not measured.")) | {"reward": Quantity(0.5, 0.1)}
    return TaskResult("played", None, definition, num_episodes, process.num_rounds, "do", "unknown", 1, 0.1, scores)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(protocol, "measure", played)
    monkeypatch.delitem(sys.modules, "own_agent", raising=False)
    return tmp_path


def write_agent(monkeypatch, text):
    """Write the user's module, as a new process of Python reads it."""
    Path("own_agent.py").write_text(text)
    monkeypatch.delitem(sys.modules, "own_agent", raising=False)


# One file, one agent --------------------------------------------------------------------------------------------------


def test_changed_code_is_not_put_into_the_same_file(folder, capfd, monkeypatch):
    write_agent(monkeypatch, AGENT.replace("BREAKS", "True"))
    assert suite("run", "own_agent:a", *FEW, "--out", "x.json") == 1
    assert "are in x.json; --resume goes on there, unless the source of own_agent changes." in words(capfd)
    first = read_result(Path("x.json"))
    assert [*first.tasks] == [FROG.id]
    write_agent(monkeypatch, AGENT.replace("BREAKS", "False") + "# Mended.\n")
    capfd.readouterr()
    assert suite("run", "own_agent:a", *FEW, "--out", "x.json", "--resume") == 2
    assert "the source of own_agent has changed since undelude/frog-v1 in x.json was measured" in words(capfd)
    assert read_result(Path("x.json")) == first
    assert suite("run", "own_agent:a", "--tasks", "kuhn-v1", "--out", "x.json", "--resume") == 2  # Nor beside it.
    assert "use another --out; or remove x.json to measure all tasks again" in words(capfd)
    Path("x.json").unlink()
    assert suite("run", "own_agent:a", "--tasks", "frog-v1", "--out", "x.json") == 0
    assert suite("run", "own_agent:a", *FEW, "--out", "x.json", "--resume") == 0  # The same code goes on.
    assert "undelude/frog-v1: measured before" in words(capfd)
    digests = {entry.measured for entry in read_result(Path("x.json")).tasks.values()}
    assert len(digests) == 1
    assert digests != {first.tasks[FROG.id].measured}


def test_another_run_in_the_same_folder_is_not_put_into_the_same_file(folder, capfd):
    write_run(Path("runs/frog-v1"), FROG.id)
    command = ("run", "runs", *FEW, "--out", "x.json")
    assert suite(*command) == 0
    first = read_result(Path("x.json"))
    assert first.tasks[FROG.id].measured == contestants("runs", num_tasks=1)[0].measured(FROG).digest
    assert (first.tasks[KUHN.id].status, first.tasks[KUHN.id].measured) == ("not run", None)
    write_run(Path("runs/kuhn-v1"), KUHN.id)
    assert suite(*command, "--resume") == 0
    assert read_result(Path("x.json")).tasks[FROG.id] == first.tasks[FROG.id]
    shutil.rmtree("runs/frog-v1")
    capfd.readouterr()
    assert suite(*command, "--resume") == 2
    assert "x.json has undelude/frog-v1, measured on the run in runs/frog-v1, which has no agent now" in words(capfd)
    write_run(Path("runs/frog-v1"), FROG.id, learning_rate=0.5)
    assert suite(*command, "--resume") == 2
    assert "the run in runs/frog-v1 has changed since undelude/frog-v1 in x.json was measured" in words(capfd)
    assert read_result(Path("x.json")).tasks[FROG.id] == first.tasks[FROG.id]


def test_file_that_does_not_say_what_was_measured_does_not_go_on(folder, capfd):
    write_run(Path("runs/frog-v1"), FROG.id)
    assert suite("run", "runs", *FEW, "--out", "x.json") == 0
    data = json.loads(Path("x.json").read_text())
    del data["tasks"][FROG.id]["measured"]
    Path("x.json").write_text(json.dumps(data))
    capfd.readouterr()
    assert suite("run", "runs", *FEW, "--out", "x.json", "--resume") == 2
    assert "x.json does not say on which state of the run in runs/frog-v1" in words(capfd)


def test_digests_are_optional_and_checked(folder):
    stored = leaderboard.stored_baselines()[0]
    assert all(entry.measured is None for entry in stored.tasks.values())
    write_result(Path("x.json"), stored)
    data = json.loads(Path("x.json").read_text())
    assert not {"measured", "recipe"} & {*data["tasks"][FROG.id]}
    assert read_result(Path("x.json")) == stored
    data["tasks"][FROG.id] |= {"measured": "0123456789ab", "recipe": {"agent": "gru", "steps": 3, "learning_rate": 0.5}}
    assert parse_result(data).tasks[FROG.id].measured == "0123456789ab"
    task = json_schema()["$defs"]["task"]
    assert {"measured", "recipe"} <= {*task["properties"]}
    assert not {"measured", "recipe"} & {*task["required"]}
    damaged = json.loads(json.dumps(data))
    damaged["tasks"][FROG.id]["measured"] = None
    with pytest.raises(ValueError, match=r"frog-v1\.measured must be 12 hexadecimal digits, not None"):
        parse_result(damaged)
    pytest.importorskip("jsonschema").validate(data, json_schema())


@pytest.mark.parametrize("recipe", [[], {"steps": None}, {"steps": [1]}, {"steps": True}, {"steps": math.inf}])
def test_damaged_recipe_is_named(recipe):
    data = json.loads((BASELINES / "exact-do.json").read_text())
    data["tasks"][FROG.id]["recipe"] = recipe
    with pytest.raises(ValueError, match=r"frog-v1\.recipe must be an object of strings and numbers"):
        parse_result(data)


def test_exact_agents_have_no_digest(folder):
    assert suite("run", "exact:do", *FEW, "--out", "x.json") == 0
    assert suite("run", "exact:do", *FEW, "--out", "x.json", "--resume") == 0
    assert {entry.measured for entry in read_result(Path("x.json")).tasks.values()} == {None}


# One name, one recipe -------------------------------------------------------------------------------------------------


def measured_runs(name, **options):
    """Measure a run of the frog, and return the file of its result."""
    write_run(Path("runs", name, "frog-v1"), FROG.id, **options)
    assert suite("run", f"runs/{name}", "--tasks", "frog-v1", "--out", f"{name}.json") == 0
    return f"{name}.json"


def test_seeds_of_one_recipe_are_pooled(folder):
    """What is logged, and the memory that an update takes, are no part of it."""
    one, two = (measured_runs(f"seed{seed}", seed=seed, log_every=[3, 6][seed]) for seed in (0, 1))
    recipe = read_result(Path(one)).tasks[FROG.id].recipe
    assert recipe is not None
    assert {name: recipe[name] for name in ("agent", "steps", "hidden_size")} == {
        "agent": "lstm",
        "steps": 6,
        "hidden_size": 4,
    }
    assert not {"seed", "task", "log_every", "microbatch_size"} & {*recipe}
    assert recipe == read_result(Path(two)).tasks[FROG.id].recipe
    assert suite("table", one, two) == 0


def test_different_recipes_of_one_name_are_refused(folder, capfd):
    files = [measured_runs("slow"), measured_runs("fast", seed=1, learning_rate=0.5)]
    assert suite("table", *files) == 2
    said = words(capfd)
    assert "slow.json and fast.json are both of 'lstm, counterfactual'" in said
    assert "undelude/frog-v1, one has --learning-rate 0.03 and the other --learning-rate 0.5" in said
    assert "with another --name" in said
    assert not Path("leaderboard.html").exists()
    parts = measured_runs("parts", seed=2, num_components=2)
    assert suite("table", files[0], parts) == 2
    assert "one has no --num-components and the other --num-components 2" in words(capfd)
    assert suite("run", "runs/fast", "--tasks", "frog-v1", "--name", "fast", "--out", "named.json") == 0
    assert suite("table", files[0], "named.json") == 0


def test_recipe_that_is_known_of_one_result_alone_is_refused(folder, capfd, monkeypatch):
    one = measured_runs("one")
    write_agent(monkeypatch, AGENT)
    own = ("--tasks", "frog-v1", "--name", "lstm, counterfactual", "--seed", 1, "--out", "own.json")
    assert suite("run", "own_agent:a", *own) == 0
    for files in ((one, "own.json"), ("own.json", one)):
        assert suite("table", *files) == 2
        assert "the recipe of one.json is known, and that of own.json is not" in words(capfd)


# One folder, one number of seeds --------------------------------------------------------------------------------------


@pytest.fixture
def trained(folder, monkeypatch):
    """The folders that `undelude suite train` begins to train."""
    found: list[Path] = []
    monkeypatch.setattr(suite_train, "_train", lambda config, out, *_: found.append(out))
    return found


def test_resume_without_the_number_of_seeds_is_refused(trained, capfd):
    write_run(Path("runs/seed-0/frog-v1"), FROG.id)
    assert suite("train", "--out", "runs", "--tasks", "frog-v1", "--resume") == 2
    assert "runs holds seed-0, of a command with --num-seeds: repeat its --num-seeds" in words(capfd)
    assert trained == []
    assert suite("train", "--out", "runs", "--tasks", "frog-v1", "--num-seeds", 2, "--resume") == 0
    assert trained == [Path("runs/seed-0/frog-v1"), Path("runs/seed-1/frog-v1")]


def test_resume_of_one_seed_with_several_is_refused(trained, capfd):
    write_run(Path("runs/frog-v1"), FROG.id, seed=3)
    assert suite("train", "--out", "runs", "--tasks", "frog-v1", "--num-seeds", 2, "--resume") == 2
    said = words(capfd)
    assert "runs holds runs of one seed, such as runs/frog-v1: leave --num-seeds out" in said
    assert "first move its tasks into runs/seed-3" in said
    assert trained == []
    assert suite("train", "--out", "runs", "--tasks", "frog-v1", "--seed", 3, "--resume") == 0
    assert trained == [Path("runs/frog-v1")]


def test_run_beside_folders_of_seeds_is_not_ignored(folder, capfd):
    write_run(Path("runs/seed-0/frog-v1"), FROG.id)
    write_run(Path("runs/frog-v1"), FROG.id)
    assert suite("run", "runs", "--tasks", "frog-v1", "--out", "x.json") == 2
    assert "runs holds folders of seeds, such as seed-0, and beside them the run frog-v1" in words(capfd)
    assert suite("run", "runs/seed-0", "--tasks", "frog-v1", "--out", "x.json") == 0


def test_moved_runs_go_on_as_a_seed(folder, capfd, monkeypatch):
    """What the message says to do works: the run is found, finished, where it was moved."""
    write_run(Path("runs/frog-v1"), FROG.id)
    Path("runs/seed-0").mkdir()
    Path("runs/frog-v1").rename("runs/seed-0/frog-v1")
    begun = []
    monkeypatch.setattr("undelude._cli.train.carry_out", lambda command, *_, **__: begun.append(command.out))
    recipe = ("--tasks", "frog-v1", "--hidden-size", 4, "--steps", 6)
    assert suite("train", "--out", "runs", *recipe, "--num-seeds", 2, "--resume") == 0
    assert "finished before" in words(capfd)
    assert begun == [Path("runs/seed-1/frog-v1")]


# What no leaderboard would show ---------------------------------------------------------------------------------------


def test_exact_agents_have_no_seed(folder, capfd):
    assert suite("run", "exact:do", "--tasks", "frog-v1", "--seed", 3) == 2
    assert "exact:do is not trained, and has no --seed: leave it out." in words(capfd)
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("agent", "name"),
    [("exact:do", "exact see"), ("own_agent:a", "exact see"), ("own_agent:a", "RecurrentPPO")],
)
def test_name_of_a_baseline_is_for_its_agent_alone(folder, capfd, monkeypatch, agent, name):
    write_agent(monkeypatch, AGENT)
    assert suite("run", agent, "--tasks", "frog-v1", "--name", name) == 2
    assert f"{name!r} is the name of a stored baseline, and this is another agent or seed ({agent}" in words(capfd)
    assert not Path("results").exists()


def test_agent_of_a_baseline_may_have_its_name(folder):
    assert suite("run", "exact:see", "--tasks", "frog-v1", "--name", "exact see", "--out", "x.json") == 0
    stored = next(x for x in leaderboard.stored_baselines() if x.agent == "LSTM, counterfactual")
    write_run(Path(stored.source, "frog-v1"), FROG.id)
    assert suite("run", stored.source, "--tasks", "frog-v1", "--name", stored.agent, "--out", "y.json") == 0
    write_run(Path("runs/other/frog-v1"), FROG.id)
    assert suite("run", "runs/other", "--tasks", "frog-v1", "--name", stored.agent, "--out", "z.json") == 2


# Messages -------------------------------------------------------------------------------------------------------------


def test_file_of_another_folder_is_named_at_once(folder, capfd):
    for name in ("one", "two"):
        write_run(Path(name, "frog-v1"), FROG.id)
    assert suite("run", "one", "--tasks", "frog-v1") == 0
    capfd.readouterr()
    assert suite("run", "two", "--tasks", "frog-v1") == 2
    said = words(capfd)
    assert "results/lstm-counterfactual.json has source 'one', and this command has 'two': use another --out." in said
    assert "--resume" not in said
    assert suite("run", "one", "--tasks", "frog-v1") == 2
    assert "results/lstm-counterfactual.json exists already: use --resume" in words(capfd)


def test_file_without_results_is_left_alone(folder, capfd):
    Path("x.json").write_text("{}")
    assert suite("run", "exact:do", "--tasks", "frog-v1", "--out", "x.json") == 2
    assert "x.json exists already, and is not a file of results: use another --out." in words(capfd)
    assert suite("run", "exact:do", "--tasks", "frog-v1", "--out", "x.json", "--resume") == 1
    assert "x.json is not a result of undelude-suite-1" in words(capfd)
    assert Path("x.json").read_text() == "{}"


@pytest.mark.parametrize("resume", [(), ("--resume",)])
def test_folder_in_place_of_a_file_is_named(folder, capfd, resume):
    Path("results").mkdir()
    assert suite("run", "exact:do", "--tasks", "frog-v1", "--out", "results", *resume) == 2
    assert "--out results is a folder: name a file, such as results/mine.json." in words(capfd)


@pytest.mark.parametrize("run", ["runs/frog-v1", "runs/seed-0/frog-v1"])
@pytest.mark.parametrize("command", [("export", "runs", "--out", "x"), ("inspect", "runs"), ("report", "runs")])
def test_folder_of_runs_names_one(folder, capfd, command, run):
    write_run(Path(run), FROG.id)
    assert main([*command]) in (1, 2)
    assert f"runs is not a run, and holds 1 in its folders: name one, such as {run}." in words(capfd)


def test_folder_without_a_run_is_described(folder, capfd):
    Path("runs/model").mkdir(parents=True)
    Path("runs/model/config.json").write_text("{}")  # Of another program.
    assert main(["export", "runs", "--out", "x"]) in (1, 2)
    assert "there is no run at runs: the folder holds model, and no config.json. Begin one" in words(capfd)
    assert main(["export", "none", "--out", "x"]) in (1, 2)
    assert "there is no run at none: config.json is missing. Begin one" in words(capfd)
