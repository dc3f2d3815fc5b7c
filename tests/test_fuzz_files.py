"""Damaged and malicious files: each is read, or refused in one line that names it."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import undelude as ud
from fuzzing import damaged_json, examples, flipped, outcome
from run_files import ROWS, write_run
from undelude._cli.console import make_console, print_certificate
from undelude._cli.seeds import summarise
from undelude._distributions import Block, GivenArray, Parts, Reals
from undelude._report.page import render
from undelude._runs.config import Config
from undelude._runs.contents import read_run
from undelude._runs.directory import RunDirectory
from user_folder import without_compiling

REFUSED = (ValueError, FileNotFoundError)
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


@pytest.fixture(scope="module", autouse=True)
def as_users_run_it() -> Iterator[None]:
    """Turn off the run-time type checks, which users do not have."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def agents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save an agent of each kind; return their folders."""
    folder, process = tmp_path_factory.mktemp("agents"), ud.tasks.bandit(num_arms=2, num_rounds=2)
    for name, make in AGENTS.items():
        ud.save(without_compiling(lambda make=make: make(process)), folder / name)
    return {name: folder / name for name in AGENTS}


def check_loaded(folder: Path, change: str) -> None:
    """Load the agent in `folder`: either the error names a file, or the agent can be saved again."""
    agent = outcome(lambda: ud.load(folder), raises=REFUSED, names=("agent.json", "weights.safetensors"))
    if isinstance(agent, Exception):
        return
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(agent)), change
    ud.save(agent, folder)
    assert jax.tree.structure(ud.load(folder)) == jax.tree.structure(agent)


@pytest.fixture
def copied(agents: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {name: Path(shutil.copytree(folder, tmp_path / name)) for name, folder in agents.items()}


@given(data=st.data())
@examples(70)
def test_damaged_agent_json(agents: dict[str, Path], data: st.DataObject) -> None:
    source = agents[data.draw(st.sampled_from(sorted(agents)))]
    text = data.draw(damaged_json(json.loads((source / "agent.json").read_text()), LARGE))
    with scratch(source) as folder:
        (folder / "agent.json").write_bytes(text)
        check_loaded(folder, repr(text))


@given(data=st.data())
@examples(50)
def test_damaged_weights(agents: dict[str, Path], data: st.DataObject) -> None:
    """Bytes are changed or cut off, or the header has wrong sizes, offsets, types or names."""
    source = agents[data.draw(st.sampled_from(sorted(agents)))]
    whole = (source / "weights.safetensors").read_bytes()
    size = int.from_bytes(whole[:8], "little")
    head, body = whole[8 : 8 + size], whole[8 + size :]
    match data.draw(st.sampled_from(["header", "header", "size", "flip", "cut", "longer", "value"])):
        case "header":
            types = ("F64", "F16", "BF16", "F8_E4M3", "U8", "I64", "BOOL", "F4", [2**62, 2**62], [10**12], [0, 2**63])
            head = data.draw(damaged_json(json.loads(head), types))
            whole = len(head).to_bytes(8, "little") + head + body
        case "size":
            claim = data.draw(st.sampled_from([0, 1, size - 1, size + 1, len(whole), 10**8, 10**11, 2**63, 2**64 - 1]))
            whole = claim.to_bytes(8, "little") + whole[8:]
        case "flip":
            whole = flipped(data.draw, whole)
        case "cut":
            whole = whole[: data.draw(st.integers(0, len(whole)))]
        case "longer":
            whole += data.draw(st.binary(min_size=1, max_size=8))
        case "value":
            at = 8 + size + 4 * data.draw(st.integers(0, len(body) // 4 - 1))
            whole = (
                whole[:at]
                + np.float32(
                    data.draw(st.one_of(st.sampled_from([np.nan, np.inf, -np.inf, 1e38]), st.floats(width=32)))
                ).tobytes()
                + whole[at + 4 :]
            )
    with scratch(source) as folder:
        (folder / "weights.safetensors").write_bytes(whole)
        check_loaded(folder, repr(whole[:200]))


@contextlib.contextmanager
def scratch(source: Path) -> Iterator[Path]:
    """Copy a folder for one example, and delete the copy."""
    folder = source.with_name(f"{source.name}-damaged")
    shutil.copytree(source, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


# A run directory ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files of a run without training."""
    return write_run(tmp_path_factory.mktemp("runs") / "run").path


@given(data=st.data())
@examples(25)
def test_damaged_config(run: Path, data: st.DataObject) -> None:
    text = data.draw(damaged_json(json.loads((run / "config.json").read_text()), ("gru", "dagger", "sample", 64)))
    with scratch(run) as folder:
        (folder / "config.json").write_bytes(text)
        opened = outcome(lambda: RunDirectory.open(folder), raises=(ValueError,), names=("config.json",))
        if not isinstance(opened, Exception):
            assert isinstance(opened.config, Config)
        read = outcome(lambda: read_run(folder), raises=REFUSED, names=("config.json",))
        if not isinstance(read, Exception):
            assert "task" in read.config


@st.composite
def damaged_metrics(draw: st.DrawFn) -> bytes:
    lines = [json.dumps(row).encode() for row in ROWS]
    i = draw(st.integers(0, 2))
    lines[i] = draw(damaged_json(ROWS[i]))
    end = draw(st.sampled_from([b"\n", b"", b"\n\n", b"\r\n"]))
    return b"\n".join(lines) + end


@given(metrics=damaged_metrics())
@examples(25)
def test_damaged_metrics(run: Path, metrics: bytes) -> None:
    with scratch(run) as folder:
        (folder / "metrics.jsonl").write_bytes(metrics)
        rows = outcome(RunDirectory.open(folder).read_metrics, raises=(ValueError,), names=("metrics.jsonl",))
        if not isinstance(rows, Exception):
            assert all(np.isfinite(row["seconds"]) for row in rows), metrics
            outcome(lambda: RunDirectory.open(folder).begin(4), raises=(ValueError,), names=("metrics.jsonl",))
        outcome(lambda: read_run(folder), raises=(ValueError,), names=("metrics.jsonl",))


@given(data=st.data())
@examples(25)
def test_damaged_certificate(run: Path, data: st.DataObject) -> None:
    """An accepted certificate can be printed and summarised."""
    text = data.draw(damaged_json(json.loads((run / "certificate.json").read_text()), ("inf", -1.0)))
    with scratch(run) as folder:
        (folder / "certificate.json").write_bytes(text)
        read = RunDirectory.open(folder).read_certificate
        certificate = outcome(read, raises=(ValueError,), names=("certificate.json",))
        if not isinstance(certificate, Exception):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                print_certificate(make_console(stderr=False), certificate)
                summarise([certificate, certificate], [0, 1])
            assert "nan" not in out.getvalue()
        outcome(lambda: read_run(folder), raises=(ValueError,), names=("certificate.json",))


@given(data=st.data())
@examples(5)
def test_readable_run_is_drawn(run: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["config.json", "certificate.json", "metrics.jsonl"]))
    if name == "metrics.jsonl":
        text = data.draw(damaged_metrics())
    else:
        text = data.draw(damaged_json(json.loads((run / name).read_text()), ("inf", -1.0)))
    with scratch(run) as folder:
        (folder / name).write_bytes(text)
        outcome(lambda: render(read_run(folder)), raises=REFUSED, names=(name,))
