"""`undelude paper`: every item agrees, the JSON is as documented, and the page is complete and self-contained."""

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest

import undelude._paper as paper
from undelude._cli import main
from undelude._paper.blocks import models
from undelude._paper.item import Block, Item, Settings, equal, holds, sampled
from undelude._paper.page import computed, label, prose, render, written

REMARKS = [f"remark-{n}" for n in (*range(1, 16), 17, 18)]
FIGURES = [f"figure-{n}" for n in range(1, 5)]
NUM_EPISODES = 1000


@functools.cache
def compute(block: Callable[[Settings], Block]) -> Block:
    """Compute a block once for all tests, with few episodes: a sampled item is judged by its standard error."""
    return block(Settings(num_episodes=NUM_EPISODES))


def name_of(block: Callable[[Settings], Block]) -> str:
    return block.__module__.rpartition(".")[2] if block.__name__ == "block" else block.__name__


@pytest.mark.parametrize("block", paper.BLOCKS, ids=name_of)
def test_items_agree(block: Callable[[Settings], Block]):
    assert [item for item in compute(block).items if not item.agrees] == []


class Run(NamedTuple):
    code: int
    items: list[dict]
    page: str


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The command, with the blocks that `compute` has."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch, (folder / "stdout").open("w+") as stdout:
        patch.setattr(paper, "BLOCKS", [lambda settings, block=block: compute(block) for block in paper.BLOCKS])
        patch.setattr("sys.stdout", stdout)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        code = main(["paper", "--json", "--num-episodes", str(NUM_EPISODES), "--out", str(folder / "paper.html")])
        stdout.seek(0)
        items = json.load(stdout)
    return Run(code, items, (folder / "paper.html").read_text())


def test_items_are_as_documented(run: Run):
    assert run.code == 0
    names = [item["item"] for item in run.items]
    assert len(set(names)) == len(names)
    for item in run.items:
        assert item.keys() - {"standard_error"} == {"item", "value", "paper", "agrees", "ours"}
        assert isinstance(item["ours"], bool)
        assert isinstance(item.get("standard_error", 0.1), float)
        assert re.fullmatch(r"(section|remark|figure|equation)-[\w-]+/.+", item["item"])
        assert isinstance(item["value"], str | float | list)
        assert isinstance(item["paper"], str)
        assert item["paper"]
        assert isinstance(item["agrees"], bool)


def test_sampled_items_have_standard_errors(run: Run):
    errors = {item["item"]: item["standard_error"] for item in run.items if "standard_error" in item}
    p = 11 / 35
    assert errors["remark-5/frequency-of-arm-2"] == pytest.approx((p * (1 - p) / NUM_EPISODES) ** 0.5, rel=0.1)
    assert "remark-5/distribution-of-A_2-drawn-in-two-steps" not in errors
    assert "\N{PLUS-MINUS SIGN} 0.01</td>" in run.page


def test_page_marks_our_items(run: Run):
    ours = sum(item["ours"] for item in run.items)
    lead = " ".join(run.page.split("<header>")[1].split("</header>")[0].split())
    assert f"{len(run.items) - ours} of the {len(run.items)} items are the paper\u2019s own statements; {ours}" in lead
    assert run.page.count('<td data-label="the paper">ours: ') == ours


@pytest.mark.parametrize("name", REMARKS)
def test_remark_is_on_page(run: Run, name: str):
    assert any(item["item"].startswith(f"{name}/") for item in run.items)
    assert f'id="{name}"' in run.page


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_drawn(run: Run, name: str):
    section = run.page.split(f'id="{name}"')[1].split("</section>")[0]
    assert "<svg" in section


class _Page(HTMLParser):
    """Parser for the resources that a page loads or runs, its anchors and its links."""

    def __init__(self, page: str):
        super().__init__()
        self.loads, self.links, self.ids, self.names = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "iframe", "object", "embed", "img") or "src" in values:
            self.loads.append(tag)
        if tag == "a":
            self.links.append(values["href"])
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "svg":
            self.names.append(values.get("aria-label"))


def test_page_is_self_contained(run: Run):
    page = _Page(run.page)
    assert page.loads == []
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert [link for link in page.links if not link.startswith("#")] == ["https://arxiv.org/abs/2110.10819"]
    assert all(page.names)  # Every figure has a description.


def test_disagreeing_item_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    wrong = equal("remark-1/half", 0.4, 0.5, "1/2", ours=True)
    block = Block("remark-1", "Remark 1", ["One half."], [wrong, equal("remark-1/one", 1.0, 1.0, "1")])
    monkeypatch.setattr(paper, "BLOCKS", (lambda settings: block,))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["paper", "--out", str(tmp_path / "paper.html")]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 agree" in out
    assert "1 are the paper's own statements; 1 are numbers of ours" in " ".join(out.split())
    assert "ours: 1/2" in out
    assert "These do not agree: remark-1/half." in out
    assert "Items that do not agree" in (tmp_path / "paper.html").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--num-episodes", "7"], "--num-episodes must be at least 100"),
        (["--seed", "-1"], "--seed must be from 0"),
        (["--out", "nowhere/paper.html"], "--out must name a file in a directory that exists"),
    ],
)
def test_wrong_usage_is_refused_first(args: list[str], message: str, capsys: pytest.CaptureFixture):
    assert main(["paper", *args]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_agreement():
    assert equal("a/b", [1 / 3, 2 / 3], [1 / 3, 2 / 3], "").agrees
    assert not equal("a/b", [1 / 3, 2 / 3], [0.3333, 0.6667], "").agrees
    assert not equal("a/b", [0.5], 0.5, "").agrees  # Shapes differ.
    # A mean of 100 coins has a standard error of 1/20.
    coins = [0.0, 1.0] * 50
    assert sampled("a/b", coins, 0.69, "").agrees
    assert not sampled("a/b", coins, 0.71, "").agrees
    assert sampled("a/b", coins, 0.71, "", error=0.02).agrees
    assert not sampled("a/b", coins, 0.75, "", error=0.02).agrees  # Errors add in quadrature.
    assert sampled("a/b", coins, 0.75, "", slack=0.05).agrees
    assert sampled("a/b", [0.0] * 100, 0.01, "", spread=0.1).agrees
    assert sampled("a/b", coins, 0.5, "").standard_error == pytest.approx(0.5 / 99**0.5)
    assert holds("a/b", "refused", "", True) == Item("a/b", "refused", "", True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        (1.0, "1"),
        (1 / 3, "0.3333"),
        (2e-5, "2e-05"),
        (0.0, "0"),
        ([0.5, [1.0]], "(0.5, (1))"),
        ("x", "x"),
    ],
)
def test_values_as_text(value: float | list | str, text: str):
    assert written(value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("remark-6/success-of-conditioning-on-the-goal", "success of conditioning on the goal"),
        ("remark-1/largest-difference/P(x | do(a)) - P(x | a)", "largest difference: P(x | do(a)) - P(x | a)"),
        ("remark-8/rounds-1-10", "rounds 1-10"),
        ("remark-3/P(A=1, O=-1)-is-undefined", "P(A=1, O=-1) is undefined"),
    ],
)
def test_names_as_labels(name: str, text: str):
    assert label(name) == text


def test_sampled_value_has_digits_of_its_error():
    item = Item("a/b", 0.178321, "", True, standard_error=0.00288)
    assert computed(item) == "0.178 \N{PLUS-MINUS SIGN} 0.003"
    assert computed(dataclasses.replace(item, standard_error=None)) == "0.1783"


def test_refusal_catches_one_error_type():
    frog = models.frog()
    assert models.refusal(frog, "O", do={"A": 1}) == ""
    assert "cannot be computed" in models.refusal(frog.marginal(("A", "O")), "O", do={"A": 1})
    impossible = {"A": 1, "O": -1}
    assert models.refusal(frog, "Theta", see=impossible, of=ValueError).startswith("impossible evidence")
    with pytest.raises(ValueError, match="impossible evidence"):
        models.refusal(frog, "Theta", see=impossible)


def test_prose_is_escaped():
    assert prose("`a < b` & c") == "<code>a &lt; b</code> &amp; c"
    block = Block("remark-1", "<b>", ["<script>"], [])
    page = render([block], Settings(), versions={}, seconds=1.0)
    assert "<script>" not in page
    assert "<b>" not in page
    assert dataclasses.is_dataclass(block)
