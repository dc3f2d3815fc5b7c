"""`undelude paper`: verdicts follow from the data shown, can fail, and are counted by kind; the page is complete."""

import contextlib
import dataclasses
import functools
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import undelude as ud
import undelude._paper as paper
from undelude._cli import main
from undelude._paper import words
from undelude._paper.blocks import (
    doors,
    dpt,
    equation_3,
    generations,
    interventional,
    length,
    models,
    remark_1,
    remark_2,
    remark_3,
    remark_6,
    remark_12,
    remark_14,
    remark_15,
    remark_17,
    remark_18,
    section_2,
    shares,
)
from undelude._paper.criterion import Criterion, at_least, at_most, equal, falls, near, rises, sampled
from undelude._paper.item import KINDS, Block, Item, Measured, Rows, Settings, Stored, difference, mean
from undelude._paper.page import prose, render

REMARKS = [f"remark-{n}" for n in range(1, 19)]
FIGURES = [f"figure-{n}" for n in range(1, 5)]
EQUATIONS = range(1, 11)
NUM_EPISODES = 1000
# Blocks with results of studies.
STUDIED = [doors, dpt, generations, interventional, length, remark_14, remark_15, remark_17, remark_18, shares]
# Claims about related work that the stored results do not meet.
UNMET = {
    "related-doors/lstm/cloned/largest-difference-from-exact-see/round-1000",
    "related-doors/linear/cloned/largest-difference-from-exact-see/round-1000",
    "related-doors/transformer/cloned/largest-difference-from-exact-see/round-1000",
    "related-doors/transformer/counterfactual/largest-difference-from-exact-do/round-1000",
    "related-dpt/regret-at-500/network-by-its-own-episodes",
    "related-dpt/regret-at-500/network-by-their-policy",
    "related-length/KL/transformer/round-1000",
}


@functools.cache
def compute(block: Callable[[Settings], Block]) -> Block:
    """Compute a block once for all tests, with few episodes: a sampled item is judged by its standard error."""
    return block(Settings(num_episodes=NUM_EPISODES))


def name_of(block: Callable[[Settings], Block]) -> str:
    return block.__module__.rpartition(".")[2] if block.__name__ == "block" else block.__name__


each_block = pytest.mark.parametrize("block", paper.BLOCKS, ids=name_of)


@each_block
def test_items_are_met(block: Callable[[Settings], Block]):
    """All but those of related work that are known not to be."""
    unmet = {item.name for item in compute(block).items if not item.met}
    assert unmet == {name for name in UNMET if name.startswith(f"{compute(block).name}/")}


# Verdicts ------------------------------------------------------------------------------------------------------------


def failing(item: Item) -> Iterator[Any]:
    """Yield values near the computed one that must not fulfil the criterion of the item."""
    criterion, value = item.criterion, item.value
    entries = value if isinstance(value, list) else [value]

    def changed(i: int, x: Any) -> Any:
        return [*entries[:i], x, *entries[i + 1 :]] if isinstance(value, list) else x

    if criterion.relation == "equal":
        yield f"not {value}"
        yield ""
        return
    margin = criterion.margin(item.standard_error)
    step = margin + 1e-6 * (1 + margin)
    references = criterion.reference if isinstance(criterion.reference, list) else [criterion.reference] * len(entries)
    for i, reference in enumerate(references):
        match criterion.relation:
            case "near":
                yield from (changed(i, reference + step), changed(i, reference - step))
            case "at most":
                yield changed(i, reference - margin + 1e-6)
            case "at least":
                yield changed(i, reference + margin - 1e-6)
            case "falls" | "rises":
                yield changed(i, entries[i - 1] if i else entries[1])
        yield changed(i, math.nan)


@each_block
def test_every_item_can_fail(block: Callable[[Settings], Block]):
    """A value that is beyond its criterion by a little, in any one entry, or is NaN, turns the verdict."""
    for item in compute(block).items:
        values = list(failing(item))
        assert values
        for value in values:
            assert not dataclasses.replace(item, value=value).met, (item.name, value)


@each_block
def test_no_criterion_is_empty(block: Callable[[Settings], Block]):
    """A bound on a quantity that cannot be negative is above 0, and a margin is finite."""
    for item in compute(block).items:
        criterion = item.criterion
        assert math.isfinite(criterion.margin(item.standard_error))
        assert (criterion.errors > 0) == (item.standard_error is not None), item.name
        if criterion.relation == "at least" and not criterion.errors:
            assert criterion.reference > 0, item.name
        if criterion.relation in ("falls", "rises"):
            assert criterion.reference > 0
            assert len(item.value) > 1


@pytest.mark.parametrize(
    "block",
    [
        section_2.block,
        remark_1.block,
        remark_2.block,
        remark_3.block,
        remark_6.block,
        remark_12.block,
        equation_3.block,
    ],
    ids=name_of,
)
def test_conditioning_in_place_of_intervening_is_noticed(
    block: Callable[[Settings], Block], monkeypatch: pytest.MonkeyPatch
):
    """If the causal model conditions in place of intervening, a statement of the paper in the block is not met."""
    query = ud.CausalModel.query

    def conditioned(self: Any, asked: Any, *, see: Any = None, do: Any = None) -> Any:
        done = {name: x for name, x in (do or {}).items() if name not in (see or {})}
        return query(self, asked, see={**(see or {}), **done})

    monkeypatch.setattr(ud.CausalModel, "query", conditioned)
    with contextlib.suppress(ValueError):  # Evidence may be impossible under the deluded model.
        items = block(Settings(num_episodes=NUM_EPISODES)).items
        assert [item.name for item in items if item.kind == "paper" and not item.met]


@pytest.mark.parametrize("module", STUDIED)
def test_values_of_studies_are_marked_as_stored(module: Any, monkeypatch: pytest.MonkeyPatch):
    """If the results of the studies change, all items marked as stored may change, and no other item does."""

    def grown(x: Any) -> Any:
        if isinstance(x, dict):
            return {name: grown(value) for name, value in x.items()}
        if isinstance(x, list):
            return [grown(value) for value in x]
        return 1.5 * x if isinstance(x, float) else x

    load = module.load
    before = {item.name: item for item in compute(module.block).items}
    monkeypatch.setattr(module, "load", lambda name: {**grown(load(name)), "settings": load(name)["settings"]})
    after = {item.name: item for item in module.block(Settings(num_episodes=NUM_EPISODES)).items}
    assert before.keys() == after.keys()
    for name, item in before.items():
        if item.stored is None:
            assert after[name].value == item.value, name
    stored = [name for name, item in before.items() if item.stored is not None]
    assert stored
    assert any(after[name].value != before[name].value for name in stored)


def test_most_statements_of_the_paper_are_computed_now():
    """At least one statement of each remark and figure, and of each equation, does not come from a study."""
    items = [item for block in paper.BLOCKS for item in compute(block).items]
    now = [item for item in items if item.kind == "paper" and item.stored is None]
    for name in (*REMARKS, *FIGURES):
        assert any(item.name.startswith(f"{name}/") for item in now), name
    for n in EQUATIONS:
        assert any(re.search(rf"equation {n}\b", item.place) for item in now), n


# The command ---------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    code: int
    json: dict
    page: str
    text: str

    @property
    def items(self) -> list[dict]:
        return self.json["items"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The command, with the blocks that `compute` has."""
    folder = tmp_path_factory.mktemp("paper")
    with (
        pytest.MonkeyPatch.context() as patch,
        (folder / "stdout").open("w+") as stdout,
        (folder / "stderr").open("w+") as stderr,
    ):
        patch.setattr(paper, "BLOCKS", [lambda settings, block=block: compute(block) for block in paper.BLOCKS])
        patch.setattr("sys.stdout", stdout)
        patch.setattr("sys.stderr", stderr)
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("COLUMNS", "120")
        code = main(["paper", "--json", "--num-episodes", str(NUM_EPISODES), "--out", str(folder / "paper.html")])
        stdout.seek(0)
        stderr.seek(0)
        document, text = json.load(stdout), stderr.read()
    return Run(code, document, (folder / "paper.html").read_text(), text)


def verdict(item: dict) -> bool:
    """Return the verdict on an item of the JSON by the documented meaning of its criterion, in plain Python."""
    value, reference = item["value"], item["reference"]
    if item["relation"] == "equal":
        return value == reference
    x = value if isinstance(value, list) else [value]
    r = reference if isinstance(reference, list) else [reference] * len(x)
    error = math.sqrt((item["standard_error"] or 0.0) ** 2 + item["reference_error"] ** 2)
    margin = item["tolerance"] + item["standard_errors"] * error
    pairs = list(zip(x, r, strict=True))
    steps = [b - a for a, b in itertools.pairwise(x)]
    return {
        "near": all(abs(a - b) <= margin for a, b in pairs),
        "at most": all(a + margin <= b for a, b in pairs),
        "at least": all(a - margin >= b for a, b in pairs),
        "falls": all(-step >= r[0] for step in steps),
        "rises": all(step >= r[0] for step in steps),
    }[item["relation"]]


def test_verdicts_follow_from_json(run: Run):
    assert [item["item"] for item in run.items if verdict(item) != item["met"]] == []


def test_items_are_as_documented(run: Run):
    assert run.code == 0
    assert run.json.keys() == {"counts", "settings", "versions", "items"}
    assert run.json["settings"] == {"seed": 0, "num_episodes": NUM_EPISODES}
    documented = re.findall(r'"(\w+)"', (paper.to_json.__doc__ or "").split("An item has")[1])
    names = [item["item"] for item in run.items]
    assert len(set(names)) == len(names)
    for item in run.items:
        assert item.keys() == set(documented) - {"paper", "example", "related", "now", "stored"}
        assert item["kind"] in KINDS
        assert re.fullmatch(r"(section|remark|figure|equation|appendix|related)-[\w-]+/.+", item["item"])
        assert isinstance(item["value"], str | float | list)
        assert isinstance(item["met"], bool)
        assert item["claim"]
        assert item["criterion"]
        assert item["parameters"]
        assert (item["computed"] == "stored") == bool(item["study"] and item["date"] and item["seeds"])
        assert (item["kind"] == "related") == item["item"].startswith("related-")
        assert re.search(r"p\. \d+", item["place"]) or item["kind"] == "related"


def test_counts(run: Run):
    """By kind, and by origin, in the JSON, at the end of the terminal's output and at the head of the page."""
    for kind in KINDS:
        mine = [item for item in run.items if item["kind"] == kind]
        stored = [item for item in mine if item["computed"] == "stored"]
        expected = {"met": sum(item["met"] for item in mine), "of": len(mine), "stored": len(stored)}
        assert expected.items() <= run.json["counts"][kind].items()
        assert f"{KINDS[kind]}: {expected['met']} of {expected['of']}." in run.text
        assert f"{KINDS[kind]}</th><td>{expected['met']} of {expected['of']}</td>".replace("'", "&#39;") in run.page
    n = run.json["counts"]["paper"]
    assert f"<span>The paper\u2019s own statements: {n['met']} of {n['of']}.</span>" in run.page
    assert all(name in run.text for name in UNMET)


def test_rows_show_all(run: Run):
    """Each row of the page and of the terminal has claim, place, value, criterion, origin and verdict."""
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', run.page.split("<main>")[1], re.DOTALL)
    assert len(rows) == len(run.items)
    by_label = {}
    for row in rows:
        by_label.setdefault(re.sub(r"<.*", "", row.removeprefix('<tr><th scope="row">')), []).append(row)
    for item in run.items:
        label = prose(words.label(item["item"]))
        assert any(
            all(part in row for part in (prose(item["claim"]), prose(item["place"]), f">{item['computed']}<"))
            and ('class="no"' in row) != item["met"]
            for row in by_label[label]
        ), item["item"]
    flat = " ".join(run.text.split())
    assert "Stored: studies/doors.py, 2026-11-26, seed 0" in flat
    assert f"episodes {NUM_EPISODES:,}" in flat


def test_sampled_items_have_standard_errors(run: Run):
    errors = {item["item"]: item["standard_error"] for item in run.items}
    p = 11 / 35
    assert errors["remark-5/frequency-of-arm-2"] == pytest.approx((p * (1 - p) / NUM_EPISODES) ** 0.5, rel=0.1)
    assert errors["remark-5/distribution-of-A_2-drawn-in-two-steps"] is None
    assert "\N{PLUS-MINUS SIGN} 0.01</td>" in run.page


@pytest.mark.parametrize("name", REMARKS)
def test_remark_is_on_page(run: Run, name: str):
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


@pytest.mark.parametrize(("kind", "code"), [("paper", 1), ("example", 1), ("related", 0)])
def test_unmet_item_fails(
    kind: Any, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """The exit status is that of the paper's statements and our examples; all unmet items are named."""
    rows = Rows("remark-1", "Remark 1, p. 5", {"coins": 2})
    items = [rows.row(kind, "half", "one half", 0.4, near("1/2")), rows.paper("one", "one", 1.0, near(1))]
    monkeypatch.setattr(paper, "BLOCKS", (lambda settings: Block("remark-1", "Remark 1", ["One half."], items),))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["paper", "--out", str(tmp_path / "paper.html")]) == code
    out = " ".join(capsys.readouterr().out.split())
    counts = {"paper": "1 of 1", "example": "0 of 0", "related": "0 of 0"}
    counts[kind] = {"paper": "1 of 2"}.get(kind, "0 of 1")
    assert " ".join(f"{KINDS[name]}: {n}." for name, n in counts.items()) in out
    assert f"Not met: remark-1/half ({kind})." in out
    page = (tmp_path / "paper.html").read_text()
    assert "Not met" in page
    assert ">1/2, within 1e-05<" in page
    assert 'class="no">NO<' in page


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


def test_criteria():
    assert near(["1/3", "2/3"]).met([1 / 3, 2 / 3])
    assert not near(["1/3", "2/3"]).met([0.3333, 0.6667])
    assert not near(0.5).met([0.5])  # Shapes differ.
    assert near("1/2", 0.1).met(0.6)
    assert equal("refused").met("refused")
    assert not equal("refused").met("")
    assert at_most(0.1).met([0.1, 0.0])
    assert not at_most(0.1).met([0.2, 0.0])
    assert at_least(0.1).met([0.1, 0.2])
    assert not at_least(0.1).met([0.0, 0.2])
    assert falls(0.1).met([0.5, 0.3, 0.1])
    assert not falls(0.1).met([0.5, 0.3, 0.25])
    assert rises(0.1).met([0.1, 0.3])
    assert not any(criterion.met([]) for criterion in (near([]), at_most(1), at_least(0), falls(0), rises(0)))


def test_criteria_of_sampled_values():
    # A mean of 100 coins has a standard error of 1/20.
    coins = mean([0.0, 1.0] * 50)
    assert coins == Measured(0.5, pytest.approx(0.5 / 99**0.5))
    assert sampled(0.69).met(*coins)
    assert not sampled(0.71).met(*coins)
    assert sampled(0.71, error=0.02).met(*coins)
    assert not sampled(0.75, error=0.02).met(*coins)  # Errors add in quadrature.
    assert sampled(0.75, slack=0.05).met(*coins)
    assert mean([0.0] * 100, spread=0.1) == Measured(0.0, pytest.approx(0.01))
    # A bound has to be cleared.
    assert at_least(0.29, errors=4).met(*coins)
    assert not at_least(0.31, errors=4).met(*coins)
    assert at_most(0.71, errors=4).met(*coins)
    assert not at_most(0.69, errors=4).met(*coins)
    assert difference([1.0, 3.0], [0.0, 2.0]) == Measured(1.0, pytest.approx(2**0.5))


@pytest.mark.parametrize(
    ("criterion", "text"),
    [
        (near("11/35"), "11/35, within 1e-05"),
        (near(["1/2", 0]), "(1/2, 0), within 1e-05"),
        (near(18, 0), "18, exactly"),
        (sampled(0.434, error=0.0005), "0.434 \N{PLUS-MINUS SIGN} 0.0005, within 4 standard errors"),
        (sampled(0.0095, slack=0.003), "0.0095, within 0.003 and 4 standard errors"),
        (at_least(0, errors=4), "at least 0, by 4 standard errors"),
        (at_most(0.01), "at most 0.01"),
        (falls(0.001), "falls each time, by 0.001 or more"),
        (equal("none"), "exactly: none"),
    ],
)
def test_criteria_as_text(criterion: Criterion, text: str):
    assert words.required(criterion) == text


def test_parameters_are_shared_or_own():
    """Parameters that all items of one origin share are said once, and the others in the rows."""
    now = Rows("a", "p. 1", {"task": "bandit", "seed": 0})
    then = dataclasses.replace(now, stored=Stored("studies/b.py", "2026-11-25", (0, 1)), parameters={"steps": 20_000})
    items = [
        now.paper("x", "x", 1, near(1)),
        now.paper("y", "y", 1, near(1), seed=1),
        then.example("z", "z", 1, near(1)),
    ]
    block = Block("a", "A", [], items)
    assert words.origins(block) == [
        "Now: computed in this run; task bandit.",
        "Stored: studies/b.py, 2026-11-25, seeds 0, 1; steps 20,000.",
    ]
    assert [words.own_parameters(item, block) for item in items] == ["seed 0", "seed 1", ""]


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
    assert words.written(value) == text


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
    assert words.label(name) == text


def test_sampled_value_has_digits_of_its_error():
    item = Rows("a", "p. 1").paper("b", "b", Measured(0.178321, 0.00288), sampled(0))
    assert words.computed(item) == "0.178 \N{PLUS-MINUS SIGN} 0.003"
    assert words.computed(dataclasses.replace(item, standard_error=None)) == "0.1783"


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
