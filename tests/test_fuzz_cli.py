"""Random command lines, in this process: success, wrong usage (2), or a failure explained in one line."""

import contextlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxtyping
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import undelude as ud
from fuzzing import examples, in_time
from undelude._agents.networks.registry import ARCHITECTURES
from undelude._cli import main
from undelude._runs import config
from undelude._runs.config import Config, option
from undelude._runs.directory import RunDirectory
from undelude._teaching.registry import TEACHINGS
from user_folder import TASKS, compiled_once, without_compiling

NUMBERS = [
    "0", "1", "-1", "2", "3", "1.5", "1e3", "nan", "inf", "-inf", "1e999", "", "x", "0x10", "1_0", "٣", " 1", "--",
    "None", "9" * 30, "9" * 5000, str(2**31), str(2**32), str(2**63),
]  # fmt: skip
UNKNOWN = [
    "", "x", ":", "x:", ":x", ".:x", "..:x", "a b:c", "os.:x", "fuzz_tasks", "fuzz_tasks:", "fuzz_tasks:nobody",
    "fuzz_tasks:wrong", "fuzz_tasks:raises", "json:JSONDecodeError", "bandti", "\x00:x", "é:é", "\udcff:x",
    "/etc/passwd:x", "x" * 3000, "[red]x[/]:y", "BANDIT", "-",
]  # fmt: skip
PLACES = [
    "", "missing", "file", "full", "file/inside", "run", "half", "damaged", "\x00", "x" * 300, "x/" * 1000,
    "\udcff", "[/]", "/dev/null", "/proc/x",
]  # fmt: skip
ANYTHING = [
    "--", "-", "-h", "--help", "--version", "--json", "--no-json", "--json=1", "--seed=", "--no-such", "@file", "é",
    "\udcff", "\x00", "--tyro-print-completion", "--config.task", "[/]", "{}", "train", "tasks", "'", "--steps",
]  # fmt: skip
CHOICES = {
    "--agent": [*ARCHITECTURES, "LSTM", "", "None"],
    "--teaching": [*TEACHINGS, "wish"],
    "--per": ["step", "episode", "week"],
    "--target": ["sample", "distribution", "posterior", "reverse", "x"],
}
SIZES = [option(name) for name in config.SIZES]
COUNTS = ["--steps", "--batch-size",
    "--reuse", "--log-every", "--seed", "--learning-rate", "--expert-share", "--observation-weight",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder with tasks, files and runs: the current directory of all commands."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "fuzz_tasks.py").write_text(TASKS)
    (folder / "file").write_text("{}")
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("keep")
    process = ud.tasks.bandit(num_arms=2, num_rounds=2)
    agent = without_compiling(lambda: ud.LSTMAgent(process, 4, key=jax.random.key(0)))
    for name, steps in (("run", 2), ("half", 4), ("damaged", 2)):
        run = RunDirectory.create(folder / name, Config("fuzz_tasks:tiny", hidden_size=4, batch_size=4, steps=steps))
        ud.save(agent, run.agent_folder)
        run.append_metrics({"update": 2, "seconds": 0.1, "action_loss": 1.0, "observation_loss": 1.0})
    (folder / "damaged" / "config.json").write_text("{")
    # Not an agent, so that no command goes on to measure, which would take most of the time.
    (folder / "half" / "metrics.jsonl").write_text("{\n")
    (folder / "run" / "agent" / "agent.json").write_text(json.dumps({"format": 2}))
    (folder / "half" / "agent" / "weights.safetensors").write_bytes(b"\x00" * 9)
    jaxtyping.config.update("jaxtyping_disable", True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("COLUMNS", "80")
        patch.setattr(sys, "path", [str(folder), *sys.path])
        with compiled_once(tmp_path_factory, patch):
            yield folder
    jaxtyping.config.update("jaxtyping_disable", False)


@st.composite
def options(draw: st.DrawFn, names: list[str], most: int = 3) -> list[list[str]]:
    """Draw options with values; most values are valid, or not numbers of the right kind."""
    chunks = []
    for name in draw(st.lists(st.sampled_from(names), max_size=most, unique=True)):
        sound = CHOICES.get(name, ["1", "2", "4"])
        value = draw(st.sampled_from(sound if draw(st.integers(0, 2)) else NUMBERS))
        chunks.append([f"{name}={value}"] if draw(st.booleans()) else [name, value])
    return chunks


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw nearly valid command lines; those that would train, measure or play for long have an error."""
    name = draw(
        st.sampled_from(
            ["train", "train", "train", "certify", "report", "export", "tasks", "check", "play", "paper", ""]
        )
    )
    place = draw(st.sampled_from(PLACES))
    match name:
        case "train":
            task = draw(st.sampled_from([*UNKNOWN, "fuzz_tasks:tiny"]))
            there = [x for x in PLACES if x not in ("missing", "\udcff", "[/]")]
            chunks = [[task], ["--out", draw(st.sampled_from(there))]]
            chunks += draw(options([*CHOICES, *SIZES, *COUNTS]))
            if draw(st.integers(0, 3)) == 0:
                chunks += [["--num-seeds", draw(st.sampled_from(["0", "-1", "x", "1", str(2**40)]))]]
            chunks += draw(st.sampled_from([[], [], [["--resume"]]]))
        case "certify":
            chunks = [[place], *draw(options(["--num-episodes"], 1))]
        case "export":
            out = draw(st.sampled_from(["file", "full", "run", "\x00", "file/x"]))
            chunks = [[place], ["--out", out], *draw(options(["--num-rounds", "--batch-size"], 2))]
        case "report":
            chunks = [[place]]
        case "check":
            chunks = [[draw(st.sampled_from(UNKNOWN))]]
        case "play":
            chunks = [[draw(st.sampled_from([*UNKNOWN, "frog"]))], *draw(options(["--seed"], 1))]
        case "paper":
            chunks = [
                ["--num-episodes", draw(st.sampled_from(["0", "99", "x", "-1", ""]))],
                *draw(options(["--seed"], 1)),
            ]
        case _:
            chunks = []
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        chunks.insert(draw(st.integers(0, len(chunks))), [draw(st.sampled_from(ANYTHING))])
    if len(chunks) > 1 and name != "paper" and draw(st.integers(0, 5)) == 0:
        del chunks[draw(st.integers(0, len(chunks) - 1))]
    return [*([name] if name else []), *(token for chunk in chunks for token in chunk)]


@given(args=command_lines(), answers=st.text(st.sampled_from("12yn\nq \x00é"), max_size=20))
@examples(40)
def test_any_command_line_is_handled(folder: Path, args: list[str], answers: str) -> None:
    before = sorted(path.name for path in folder.iterdir())
    streams = [
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True) for errors in ("strict", "backslashreplace")
    ]
    with pytest.MonkeyPatch.context() as patch, in_time():
        patch.setattr(sys, "stdin", io.StringIO(answers))
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            code = main(args)
    out, err = (stream.buffer.getvalue().decode() for stream in streams)
    assert code in (0, 1, 2), (code, err)
    assert "Traceback" not in out + err, err
    # `main` prints this for an unexpected exception.
    assert "UNDELUDE_DEBUG=1 shows" not in err, err
    if code == 1:
        message = err[err.rindex("undelude: ") :]
        assert message.count("\n") == 1, err
    if code:
        assert err.strip(), out
    after = {path.name for path in folder.iterdir()} - {"cache", "paper.html", "__pycache__"}
    assert after <= {*before}, "it wrote unexpected files"


# One example, always the same, would take a minute and tell no more than the trainings of test_cli.py.
@pytest.mark.skipif(settings.default.derandomize, reason="runs with --hypothesis-profile fuzz")
@given(data=st.data())
@examples(1, shrink=False)
def test_any_valid_training_is_handled(folder: Path, data: st.DataObject) -> None:
    """It trains, certifies and draws its page, or explains a failure in one line; resumed, it is finished."""
    draw = data.draw
    args = ["train", "fuzz_tasks:tiny", "--out", str(folder / "trained")]
    for name, values in CHOICES.items():
        args += [name, draw(st.sampled_from(values[:-1]))] if draw(st.booleans()) else []
    for name, values in {
        "--steps": "13", "--batch-size": "246", "--hidden-size": "4", "--reuse": "12", "--log-every": "123",
        "--expert-share": ["0", "0.3", "1"], "--observation-weight": ["0", "0.1"], "--microbatch-size": "12",
        "--num-layers": "12", "--num-heads": "12", "--window": "13", "--order": "13",
    }.items():  # fmt: skip
        if name == "--expert-share" and not {*config.SHARING} & {*args}:
            continue
        args += [name, draw(st.sampled_from(values))] if draw(st.booleans()) else []
    codes = []
    for more in ([], ["--resume"]):
        err = io.StringIO()
        with in_time(240), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
            codes.append(main([*args, *more]))
        assert "Traceback" not in err.getvalue(), err.getvalue()
        assert "UNDELUDE_DEBUG=1 shows" not in err.getvalue(), err.getvalue()
        assert codes[-1] in (0, 1, 2), err.getvalue()
    run = folder / "trained"
    if codes[0] == 0:
        assert codes[1] == 0
        assert "is finished" in err.getvalue()
        assert (run / "report.html").exists()
    else:
        assert not (run / "config.json").exists(), "the corrected command may use the same folder"
    shutil.rmtree(run, ignore_errors=True)
