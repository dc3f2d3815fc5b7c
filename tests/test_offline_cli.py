"""The commands `undelude offline`, and fits in files: what was fitted comes back, and what does not fit is refused."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

import undelude as ud
from undelude import offline
from undelude._cli import inspect as inspect_command
from undelude._cli import main
from undelude._cli.inspect_options import Inspect
from undelude._report import logs_words
from undelude._report.logs_page import write_logs_report
from undelude._runs.config import train_command
from undelude._runs.directory import RunDirectory
from undelude.offline import Demos, Episode, Fit, Gaussian, Last, LatentSpec, Markov, Round, Table
from undelude.offline._diagnosing import profile
from undelude.offline._diagnosing.experiment import Experiment, Trial
from undelude.offline._diagnosing.passive import Passive
from undelude.offline._diagnosing.structure import Alternative, Structure
from undelude.offline._fitting import runs
from undelude.offline._saving.as_json import from_json, to_json
from undelude.offline._saving.diagnosis_file import read_diagnosis, write_diagnosis

pytest.importorskip("pyarrow")

ROLES = ["--episode", "session", "--action", "choice", "--observation", "outcome"]
BANDIT = ud.tasks.bandit(2, num_rounds=4)


def write_logs(file: Path, *, num_episodes: int = 120) -> None:
    """Write episodes of the bandit's expert, one row a round."""
    played = ud.rollout(BANDIT, None, key=jax.random.key(0), num_episodes=num_episodes, executor="expert")
    with file.open("w", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(["session", "choice", "outcome"])
        for n, (actions, outcomes) in enumerate(zip(played.actions, played.observations, strict=True)):
            rows.writerows([n, f"arm {a}", int(o)] for a, o in zip(actions, outcomes, strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with logs, their fit `mine`, and its diagnosis."""
    folder = tmp_path_factory.mktemp("user")
    write_logs(folder / "logs.csv")
    fit = ["offline", "fit", str(folder / "logs.csv"), *ROLES, "--reward", "outcome", "--K", "1:2", "--starts", "3"]
    assert main([*fit, "--out", str(folder / "mine")]) == 0
    with pytest.MonkeyPatch.context() as patch:
        # What the diagnosis finds is tested in test_offline_diagnosis.py; here a short search serves.
        patch.setattr(profile, "POLISH", 20)
        patch.setattr(profile, "CLIMB", 10)
        assert main(["offline", "diagnose", str(folder / "mine"), "--quick"]) == 0
    return folder


def test_inspector_names_actions_as_the_logs_do_and_says_what_they_determine(folder: Path):
    options = Inspect(str(folder / "mine"))
    options.check()
    subject = inspect_command._subject(options, "undelude inspect")
    about = inspect_command._service(options, subject).answer("describe", {})
    assert [x["text"] for x in about["actions"]] == ["arm 0", "arm 1"]
    assert [x["text"] for x in about["observations"]] == ["outcome 0", "outcome 1"]
    diagnosis = offline.load_diagnosis(folder / "mine")
    assert about["logs"]["verdict"].lower().startswith(f"{diagnosis.verdict} given: theta")
    assert all(reason in about["logs"]["verdict"] for reason in diagnosis.reasons)
    assert [(x["name"], x["fit"]) for x in about["logs"]["bounds"]] == [(x.name, x.value) for x in diagnosis.probes]
    assert "no diagnosis yet" in inspect_command._Subject(str(bare_fit(folder)), {}, {}).logs["verdict"]


def bare_fit(folder: Path) -> Path:
    """Return a copy of the fit without its diagnosis."""
    shutil.copytree(folder / "mine", folder / "bare", dirs_exist_ok=True)
    (folder / "bare" / "diagnosis.json").unlink(missing_ok=True)
    return folder / "bare"


def mixed_demos() -> Demos:
    """Return episodes with a real field, a finite one with an opening, and a hidden reward."""
    rng = np.random.default_rng(0)
    shape = (24, 5)
    x, y, z = rng.integers(0, 2, shape), rng.normal(3, 2, shape).astype(np.float32), rng.integers(0, 3, shape)
    data = {"x": x, "y": y}
    return Demos.from_arrays(
        rng.integers(0, 3, shape),
        data,
        hidden={"reward": z},
        opening={"x": rng.integers(0, 2, 24)},
        reals=["y"],
    )


MIXED = LatentSpec(
    Markov(2),
    Table(given=[Last("x"), Round(2)]),
    [Table("x", [Last("x"), "action"], tied=True), Gaussian("y", "action"), Table("reward", ["action", "x"])],
)


def same(x: object, y: object) -> bool:
    equal = jax.tree.map(lambda a, b: bool(np.array_equal(np.asarray(a), np.asarray(b))), x, y)
    return jax.tree.structure(x) == jax.tree.structure(y) and jax.tree.all(equal)


@pytest.fixture(scope="module")
def mixed() -> Fit:
    return offline.fit(mixed_demos(), MIXED, key=jax.random.key(0), starts=2, max_iterations=10, select="bic")


def test_loaded_fit_is_the_saved_one(mixed: Fit, tmp_path: Path) -> None:
    offline.save(mixed, tmp_path / "fit")
    loaded = offline.load(tmp_path / "fit")
    assert same(loaded.process, mixed.process)
    assert same(loaded.parameters, mixed.parameters)
    for name in ("spec", "layout", "latent", "K", "candidates", "starts", "log_likelihood", "digest"):
        assert getattr(loaded, name) == getattr(mixed, name)


@pytest.mark.parametrize("name", ["fit.json", "fit.safetensors"])
def test_damaged_fit_is_refused(mixed: Fit, tmp_path: Path, name: str) -> None:
    offline.save(mixed, tmp_path)
    file = tmp_path / name
    data = bytearray(file.read_bytes())
    place = data.index(b'"spec"') + 3 if name == "fit.json" else len(data) - 3
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=name):
        offline.load(tmp_path)


def test_spec_survives_json() -> None:
    spec = LatentSpec([Episode(range(1, 4)), Markov(2)], MIXED.expert, MIXED.task, reward="reward")
    assert from_json(json.loads(json.dumps(to_json(spec)))) == spec


@pytest.mark.parametrize("after", [2, 5])
def test_interrupted_fit_goes_on_and_ends_in_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(runs, "ITERATIONS", 4)  # Three reports of progress for each of two fits.
    demos = mixed_demos()

    def fit(interrupt_after: int | None, *, seed: int = 0, checkpoint: Path | None = None) -> tuple[Fit, int]:
        calls: list[int] = []

        def report(*_: object) -> None:
            calls.append(1)
            if len(calls) == interrupt_after:
                raise KeyboardInterrupt

        settings = {"starts": 2, "max_iterations": 10, "select": "bic", "init": "random", "tolerance": 0.0}
        key = jax.random.key(seed)
        return offline.fit(demos, MIXED, key=key, on_progress=report, checkpoint=checkpoint, **settings), len(calls)

    whole, num_calls = fit(None)
    with pytest.raises(KeyboardInterrupt):
        fit(after, checkpoint=tmp_path)
    resumed, num_later = fit(None, checkpoint=tmp_path)
    assert num_later == num_calls - after
    assert same(resumed.parameters, whole.parameters)
    assert resumed.candidates == whole.candidates
    with pytest.raises(ValueError, match="another fit"):
        fit(None, seed=1, checkpoint=tmp_path)


def test_fit_of_csv_is_that_of_python(folder: Path) -> None:
    fit = offline.load(folder / "mine")
    columns = {"episode": "session", "action": "choice", "observation": ["outcome"]}
    demos = Demos.from_csv(folder / "logs.csv", **columns)
    spec = LatentSpec(Episode(range(1, 3)), Table(), Table("outcome", "action"), reward="outcome")
    assert fit.digest == demos.digest()
    assert fit.spec == spec
    assert same(fit.parameters, offline.fit(demos, spec, key=jax.random.key(0), starts=3).parameters)


def test_page_and_json_have_the_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offline", "report", str(folder / "mine")]) == 0
    page = (folder / "mine" / "report.html").read_text()
    stored = json.loads((folder / "mine" / "diagnosis.json").read_text())
    verdict = stored["diagnosis"]["verdict"]
    assert f"<span>{verdict.capitalize()}" in page
    assert "://" not in page
    assert re.findall(r"\binf\b|\bnan\b", page) == []
    assert page.count("<svg") == 4  # Bounds, the choice of K, and two mechanisms.
    for part in (*stored["diagnosis"]["assumptions"], "What cloning these logs would do"):
        assert part in page
    kl, error = stored["cloning"]["kl"]
    report = ud.certify(
        offline.load(folder / "mine").process,
        ud.ExactAgent(offline.load(folder / "mine").process, "see"),
        key=jax.random.key(1),
        num_episodes=512,
        baselines=False,
    )
    assert abs(report.action_kl_do - kl) < 5 * (error + report.action_kl_do_se)


def test_page_names_the_next_experiment(folder: Path, tmp_path: Path) -> None:
    fit, found = offline.load(folder / "mine"), read_diagnosis(folder / "mine", offline.load(folder / "mine"))
    assert found is not None
    trials = Trial(("arm 1", "arm 0"), 0.031, 0.042), Trial(("arm 0", "arm 0"), 0.17, 0.42)
    planned = Experiment(
        trials, 50, 0.2, "P(O_1 = outcome 1 | do(A_1 = arm 1))", 0.43, "standard error", ("the model",)
    )
    offline.save(fit, tmp_path)
    told = dataclasses.replace(found[0], verdict="not identified", experiment=planned)
    write_diagnosis(tmp_path, fit, told, found[1])
    assert read_diagnosis(tmp_path, fit) == (told, found[1])
    page = write_logs_report(tmp_path).read_text()
    assert "take arm 1, then arm 0 yourself at the start of 50 new episodes" in page
    assert "falls from 0.200 to 0.031, and that of P(O_1 = outcome 1 | do(A_1 = arm 1)) from 0.430 to 0.042" in page
    assert "After the least telling one, arm 0, then arm 0, it is 0.170." in page
    assert "do(arm 1, arm 0)" in str(told)


def test_other_logs_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_logs(tmp_path / "other.csv", num_episodes=60)
    assert main(["offline", "diagnose", str(folder / "mine"), "--logs", str(tmp_path / "other.csv"), "--quick"]) == 1
    assert "are not the logs" in capsys.readouterr().err.replace("\n", " ")
    fit = offline.load(folder / "mine")
    with pytest.raises(ValueError, match="other data"):
        offline.diagnose(fit, mixed_demos())


WRONG = [
    ([*ROLES, "--action", "choise"], 1, "Did you mean 'choice'?"),
    ([*ROLES, "--K", "0:3"], 2, "--K must be"),
    ([*ROLES, "--expert-given", "choice"], 2, "last:COLUMN"),
    ([*ROLES, "--expert-given", "last:outcom"], 1, "Did you mean 'outcome'?"),
    ([*ROLES, "--K", "64"], 1, "demonstrations bear"),
    ([*ROLES, "--expert-given", "demonstrator"], 1, "do not say who acted: name the column"),
    ([*ROLES, "--spec", "json:dumps", "--tied", "outcome"], 2, "contradicts --spec"),
    ([*ROLES, "--tied", "state"], 2, "not an observation"),
    (["--episode", "session"], 2, "--action is missing"),
]


@pytest.mark.parametrize(("options", "code", "message"), WRONG)
def test_bad_input_is_one_error_before_fitting(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    out = tmp_path / "none"
    assert main(["offline", "fit", str(folder / "logs.csv"), *options, "--starts", "2", "--out", str(out)]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("undelude: ")
    assert message in error
    assert not out.exists()


def test_other_folders_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit = ["offline", "fit", str(folder / "logs.csv"), *ROLES, "--out"]
    (tmp_path / "notes.txt").write_text("mine")
    for place, message in ((tmp_path, "not empty"), (folder / "mine", "already")):
        assert main([*fit, str(place)]) == 2
        assert message in capsys.readouterr().err
    assert main(["offline", "fit", "--out", str(folder / "mine"), "--resume", "--starts", "9"]) == 2
    assert "--starts 9 contradicts" in capsys.readouterr().err
    assert main(["offline", "diagnose", str(tmp_path)]) == 2
    capsys.readouterr()
    # A fit that was saved from Python, and settings without the columns of the logs.
    saved, settings = tmp_path / "saved", (folder / "mine" / "settings.json").read_text()
    offline.save(offline.load(folder / "mine"), saved)
    assert main(["offline", "diagnose", str(saved)]) == 2
    assert "has no settings.json, as after offline.save" in capsys.readouterr().err
    (saved / "settings.json").write_text(settings.replace('"episode": "session"', '"episode": null'))
    assert main(["offline", "diagnose", str(saved)]) == 1
    assert "is damaged: --episode is missing" in capsys.readouterr().err


def test_interrupted_command_resumes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "fit"
    chosen, write = offline._fitting.checkpoint.Kept, offline._fitting.checkpoint.Kept.write
    calls: list[str] = []

    def interrupt(self: object, progress: object) -> None:
        write(self, progress)  # type: ignore[arg-type]
        calls.append("")
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(chosen, "write", interrupt)
    args = [str(folder / "logs.csv"), *ROLES, "--reward", "outcome", "--K", "1:2", "--starts", "3"]
    assert main(["offline", "fit", *args, "--out", str(out)]) == 130
    assert "--resume" in capsys.readouterr().err
    assert [x.name for x in (out / "starts").iterdir()] == ["latent-0.safetensors"]
    assert main(["offline", "fit", "--out", str(out), "--resume"]) == 0
    assert (out / "fit.json").read_text() == (folder / "mine" / "fit.json").read_text()
    assert not (out / "starts").exists()


@pytest.mark.slow
def test_dream_is_a_run_that_certify_reads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = str(folder / "mine")
    size = ["--hidden-size", "4", "--batch-size", "4", "--steps", "2"]
    assert main(["offline", "dream", mine, *size]) == 0
    assert main(["certify", f"{mine}/agent", "--num-episodes", "16"]) == 0
    certificate = json.loads((folder / "mine" / "agent" / "certificate.json").read_text())
    assert certificate["task"] == mine
    assert certificate["own_actions"] == "do"
    run = RunDirectory.open(folder / "mine" / "agent")
    assert run.resume_command == f"undelude offline dream {mine} --out {run.path} --resume"
    assert train_command(vars(run.config) | {"target": "sample"}, run.path, resume=True).startswith("undelude train ")
    assert main(["offline", "dream", mine, "--resume", "--batch-size", "8"]) == 2
    assert "--batch-size 8 contradicts" in capsys.readouterr().err


def test_the_diagnosis_of_a_folder_is_read_for_the_agent(folder: Path, tmp_path: Path) -> None:
    stored = json.loads((folder / "mine" / "diagnosis.json").read_text())["diagnosis"]
    found = offline.load_diagnosis(folder / "mine")
    assert (found.verdict, list(found.assumptions)) == (stored["verdict"], stored["assumptions"])
    offline.save(offline.load(folder / "mine"), tmp_path / "other")
    with pytest.raises(FileNotFoundError, match="no diagnosis yet: undelude offline diagnose"):
        offline.load_diagnosis(tmp_path / "other")


def test_what_is_not_used_or_not_borne_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = tmp_path / "logs.csv"
    write_logs(logs, num_episodes=30)
    head, *rows = logs.read_text().splitlines()
    logs.write_text("\n".join([f"{head},ward", *(f"{row},B" for row in rows)]))
    fit = ["offline", "fit", str(logs), *ROLES, "--starts", "2"]
    assert main([*fit, "--K", "12", "--out", str(tmp_path / "one")]) == 0
    out, err = capsys.readouterr()
    assert "Not used: ward." in err
    assert "No time column (--time): rows are taken in the order of the files." in err
    # Actions 12 * 1, outcomes 12 * 2, theta 11.
    assert "Note: K = 12 has 47 parameters, for 120 rounds of 30 episodes" in out
    assert "Note: K = 12 alone was tried" in out
    assert "Chosen is" not in out
    logs.write_text("\n".join([f"{head},ward", *(f"{row},B" for row in [*rows[::2], *rows[1::2]])]))
    assert main([*fit, "--K", "1:2", "--out", str(tmp_path / "two"), "--hidden", "ward"]) == 0
    out, err = capsys.readouterr()
    assert "Not used" not in err
    assert "No time column (--time)" not in err
    assert "Note: no time column: the rows of 30 of 30 episodes have those of others in between" in err
    assert "Chosen is the greatest mean; of those of its time scale within 0.001 nats of it, the fewest values." in out
    assert "parameters" not in out


def test_tests_of_a_diagnosis_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["offline", "diagnose", str(folder / "mine"), "--quick"]) == 0
    err = capsys.readouterr().err
    assert "diagnosing: bounds of the widest probes ..." in err
    assert "sequence model" not in err


def test_advice_on_memory_can_be_followed(folder: Path, tmp_path: Path) -> None:
    fit = offline.load(folder / "mine")
    found, _ = read_diagnosis(folder / "mine", fit)  # type: ignore[misc]
    names = ("the last action and the last outcome", "the half of the episode")
    passive = Passive((-1.0, 0.1), (0.0, 0.1), (1.0, 1.0), (0.0, 1.0), dict.fromkeys(names, -9.0), 30)
    refuted = dataclasses.replace(found, verdict="refuted", passive=passive)
    text = " ".join(logs_words.advice(fit, refuted))
    options = re.search(r"--expert-given ([^.]*)\.", text)
    assert options is not None
    assert options[1] == "last:choice last:outcome"
    assert "offline.clone" in text
    expert = re.search(r"expert=(offline\.Table\(.*?\]\))", text)
    assert expert is not None
    declared = eval(expert[1], {"offline": offline})  # As a reader of the page would type it.
    assert declared == Table(given=[Round(2)])
    out = tmp_path / "again"
    fit_again = ["offline", "fit", str(folder / "logs.csv"), *ROLES, "--K", "1", "--starts", "1", "--out", str(out)]
    assert main([*fit_again, "--expert-given", *options[1].split()]) == 0
    assert [x.given for x in offline.load(out).layout.factors[0].contexts] == [Last("action"), Last("outcome")]


def test_time_scales_say_in_which_model_a_reward_is_earned() -> None:
    one = Alternative("none", 1, 0.0, {}, (0.5, 0.01), (0.0, 0.0))
    text = str(Structure((one,), "none", (), {}, {}))
    assert "Each reward is that of an agent in its own fitted model" in text
    unrewarded = Structure((dataclasses.replace(one, reward=None),), "none", (), {}, {})
    assert "Each reward" not in str(unrewarded)
