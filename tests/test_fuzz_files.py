"""A thousand damaged files for each reader: each is read, or refused in one line that names it."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import jax
import jaxtyping
import numpy as np
import pytest

import undelude as ud
from damage import damaged_json, flipped
from fuzzing import check_cases, outcome
from run_files import ROWS, write_run
from undelude._cli.console import make_console
from undelude._cli.seeds import summarise
from undelude._cli.tables import print_certificate
from undelude._distributions import Block, GivenArray, Parts, Reals
from undelude._report.page import render
from undelude._runs.config import Config
from undelude._runs.config_file import digests
from undelude._runs.contents import read_run
from undelude._runs.directory import RunDirectory
from undelude._suite import aggregate, leaderboard
from undelude._suite.results import read_result, write_result
from user_folder import without_compiling

REFUSED = (ValueError, FileNotFoundError)
NUMBER = 200
AGENTS = {
    "lstm": lambda process: ud.LSTMAgent(process, 4, key=jax.random.key(0)),
    "transformer": lambda process: ud.TransformerAgent(
        process, 4, num_layers=2, num_heads=1, window=4, key=jax.random.key(0)
    ),
    "predictor": lambda process: ud.SequencePredictor(process, order=3, hidden_size=4, key=jax.random.key(0)),
    "continuous": lambda process: ud.MarkovAgent(SPECS, order=2, hidden_size=3, key=jax.random.key(0)),
}
SPECS = (
    Reals((2,), low=-1.0, high=1.0),
    Parts.of({"block": Block(length=2, n=3), "place": GivenArray((2,), "float32")}),
)
LARGE = (10**7, 2**40, {"kind": "symbols", "n": 10**9}, "TransformerAgent", "LSTMAgent", "reals")
TYPES = ("F64", "F16", "BF16", "F8_E4M3", "U8", "I64", "BOOL", "F4", [2**62, 2**62], [10**12], [0, 2**63])


@pytest.fixture(scope="module", autouse=True)
def as_users_run_it() -> Iterator[None]:
    """Turn off the run-time type checks, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


# Agents -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save an agent of each kind; return their folders."""
    folder, process = tmp_path_factory.mktemp("agents"), ud.tasks.bandit(num_arms=2, num_rounds=2)
    for name, make in AGENTS.items():
        ud.save(without_compiling(lambda make=make: make(process)), folder / name)
    return {name: folder / name for name in AGENTS}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder for the damaged copy."""
    return tmp_path_factory.mktemp("scratch")


def check_loaded(folder: Path) -> None:
    """Load the agent in `folder`: either the error names a file, or the agent can be saved again."""
    agent = outcome(lambda: ud.load(folder), raises=REFUSED, names=("agent.json", "weights.safetensors"))
    if isinstance(agent, Exception):
        return
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(agent))
    ud.save(agent, folder)
    assert jax.tree.structure(ud.load(folder)) == jax.tree.structure(agent)


def test_damaged_agent_json(agents: dict[str, Path], scratch: Path) -> None:
    files = {name: (folder / "agent.json").read_text() for name, folder in agents.items()}
    weights = {name: (folder / "weights.safetensors").read_bytes() for name, folder in agents.items()}

    def check(rng: Random) -> None:
        name = rng.choice(sorted(agents))
        (scratch / "agent.json").write_bytes(damaged_json(rng, json.loads(files[name]), LARGE))
        (scratch / "weights.safetensors").write_bytes(weights[name])
        check_loaded(scratch)

    check_cases(NUMBER, check)


def damaged_weights(rng: Random, whole: bytes) -> bytes:
    """Change or cut bytes, or give the header wrong sizes, offsets, types or names."""
    size = int.from_bytes(whole[:8], "little")
    head, body = whole[8 : 8 + size], whole[8 + size :]
    match rng.choice(["header", "header", "size", "flip", "cut", "longer", "value"]):
        case "header":
            head = damaged_json(rng, json.loads(head), TYPES)
            return len(head).to_bytes(8, "little") + head + body
        case "size":
            claim = rng.choice([0, 1, size - 1, size + 1, len(whole), 10**8, 10**11, 2**63, 2**64 - 1])
            return claim.to_bytes(8, "little") + whole[8:]
        case "flip":
            return flipped(rng, whole)
        case "cut":
            return whole[: rng.randint(0, len(whole))]
        case "longer":
            return whole + rng.randbytes(rng.randint(1, 8))
    at = 8 + size + 4 * rng.randrange(len(body) // 4)
    value = rng.choice([np.nan, np.inf, -np.inf, 1e38, rng.uniform(-1, 1)])
    return whole[:at] + np.float32(value).tobytes() + whole[at + 4 :]


def test_damaged_weights(agents: dict[str, Path], scratch: Path) -> None:
    whole = {name: (agents[name] / "weights.safetensors").read_bytes() for name in ("lstm", "continuous")}

    def check(rng: Random) -> None:
        name = rng.choice(sorted(whole))
        shutil.copy(agents[name] / "agent.json", scratch)
        (scratch / "weights.safetensors").write_bytes(damaged_weights(rng, whole[name]))
        check_loaded(scratch)

    check_cases(NUMBER, check)


# A run directory ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files of a run without training."""
    return write_run(tmp_path_factory.mktemp("runs") / "run").path


@contextlib.contextmanager
def replaced(file: Path) -> Iterator[bytes]:
    """Yield the content of a file, and write it again afterwards."""
    whole = file.read_bytes()
    try:
        yield whole
    finally:
        file.write_bytes(whole)


def damaged_config(rng: Random, whole: bytes) -> bytes:
    """Damage a configuration; half of them get the right digest again, as by somebody who means harm."""
    text = damaged_json(rng, json.loads(whole), ("gru", "dagger", "sample", 64))
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        if rng.random() < 0.5:
            data = json.loads(text)
            text = json.dumps(data | digests(data)).encode()
    return text


def damaged_metrics(rng: Random) -> bytes:
    lines = [json.dumps(row).encode() for row in ROWS]
    i = rng.randrange(len(lines))
    lines[i] = damaged_json(rng, ROWS[i])
    return b"\n".join(lines) + rng.choice([b"\n", b"", b"\n\n", b"\r\n"])


def test_damaged_config(run: Path) -> None:
    with replaced(run / "config.json") as whole:

        def check(rng: Random) -> None:
            (run / "config.json").write_bytes(damaged_config(rng, whole))
            opened = outcome(lambda: RunDirectory.open(run), raises=(ValueError,), names=("config.json",))
            if not isinstance(opened, Exception):
                assert isinstance(opened.config, Config)
            outcome(lambda: read_run(run), raises=REFUSED, names=("config.json",))

        check_cases(NUMBER, check)


def test_damaged_metrics(run: Path) -> None:
    with replaced(run / "metrics.jsonl"):

        def check(rng: Random) -> None:
            (run / "metrics.jsonl").write_bytes(damaged_metrics(rng))
            opened = RunDirectory.open(run)
            rows = outcome(opened.read_metrics, raises=(ValueError,), names=("metrics.jsonl",))
            outcome(lambda: read_run(run), raises=(ValueError,), names=("metrics.jsonl",))
            if not isinstance(rows, Exception):
                assert all(np.isfinite(row["seconds"]) for row in rows)

        check_cases(NUMBER, check)


def test_damaged_certificate(run: Path) -> None:
    """An accepted certificate can be printed and summarised."""
    with replaced(run / "certificate.json") as whole:

        def check(rng: Random) -> None:
            (run / "certificate.json").write_bytes(damaged_json(rng, json.loads(whole), ("inf", -1.0)))
            opened = RunDirectory.open(run)
            certificate = outcome(opened.read_certificate, raises=(ValueError,), names=("certificate.json",))
            outcome(lambda: read_run(run), raises=(ValueError,), names=("certificate.json",))
            if not isinstance(certificate, Exception):
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    print_certificate(make_console(stderr=False), certificate)
                    summarise([certificate, certificate], [0, 1])
                assert "nan" not in out.getvalue()
                assert "\x1b" not in out.getvalue()

        check_cases(NUMBER, check)


def test_readable_run_is_drawn(run: Path) -> None:
    """The page of an accepted run is drawn, whatever its numbers."""
    names, drawn = ["config.json", "certificate.json", "metrics.jsonl"], []

    def check(rng: Random) -> None:
        name = rng.choice(names)
        with replaced(run / name) as whole:
            is_rows = name == "metrics.jsonl"
            text = damaged_metrics(rng) if is_rows else damaged_json(rng, json.loads(whole))
            (run / name).write_bytes(text)
            contents = outcome(lambda: read_run(run), raises=REFUSED, names=(name,))
            if not isinstance(contents, Exception) and drawn.count(name) < 2:
                outcome(lambda contents=contents: render(contents), raises=())
                drawn.append(name)

    # How many damaged files can still be read depends on their contents, such as the name of the machine.
    check_cases(NUMBER, check)
    assert set(drawn) == set(names)


# Results of the suite ---------------------------------------------------------------------------------------------


def test_damaged_suite_result(scratch: Path) -> None:
    """An accepted result has a place in the leaderboard, and comes back as it was written."""
    stored = json.loads((Path(leaderboard.__file__).parent / "baselines" / "exact-see.json").read_text())
    file = scratch / "result.json"

    def check(rng: Random) -> None:
        file.write_bytes(damaged_json(rng, stored, ("inf", "not run", "undelude/frog-v1")))
        result = outcome(lambda: read_result(file), raises=(ValueError,), names=("result.json",))
        if not isinstance(result, Exception):
            assert "nan" not in leaderboard.render(aggregate.standings([result])).lower()
            write_result(file, result)
            assert read_result(file) == result

    check_cases(NUMBER, check)
