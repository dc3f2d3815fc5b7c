"""The run report: one self-contained page with the content of the run's files."""

import dataclasses
import itertools
import json
import math
import re
import shlex
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tyro

import undelude as ud
from processes import arm
from undelude._certificate.example_episode import example_episode
from undelude._certificate.numbers import short, with_error
from undelude._certificate.verdict import WORDS, are_distances_identical, judge
from undelude._cli.app import Command
from undelude._report import write_report
from undelude._report.words import story, verdict
from undelude._runs.config import Config
from undelude._runs.contents import read_run
from undelude._runs.directory import RunDirectory
from undelude._runs.errors import RunError
from undelude._versions import versions
from undelude.tasks.registry import make

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# HTML elements without a closing tag.
VOID = {"meta", "link", "br", "hr", "img", "input"}
SETTINGS = {
    "task": "bandit",
    "agent": "lstm",
    "hidden_size": 8,
    "teaching": "counterfactual",
    "target": "distribution",
    "observation_weight": 1.0,
    "steps": 40,
    "batch_size": 16,
    "learning_rate": 0.01,
    "seed": 7,
    "versions": versions(),
}
LOSSES = {"action_loss": 1.0123, "observation_loss": 0.6543}
ROWS = [
    LOSSES | {"update": 10 * i, "seconds": 0.25 * i, "action_kl_do": 0.0468 / i, "action_kl_see": 0.0579}
    for i in range(1, 5)
]
Files = dict[str, Any]


class Page(HTMLParser):
    """The addresses, ids, tags and text of a page, whose elements must all be closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            if name in ("href", "xlink:href", "src", "srcset", "data", "action"):
                self.addresses.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            else:
                self.addresses += re.findall(r"url\((.*?)\)", value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += data


def read(run_dir: Path) -> Page:
    return Page(write_report(run_dir).read_text(encoding="utf-8"))


def write(path: Path, certificate: Files | None, *, rows: list[Files] = ROWS, **settings: Any) -> Path:
    """Write the files of a run directory."""
    (path / "config.json").write_text(json.dumps(SETTINGS | settings))
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if certificate is not None:
        (path / "certificate.json").write_text(json.dumps(certificate))
    return path


@pytest.fixture(scope="module")
def sober() -> Files:
    """Return the certificate of the exact agent, with an example episode, as a run directory holds it."""
    process = ud.tasks.bandit(num_arms=3, num_rounds=6)
    agent = ud.ExactAgent(process)
    size = {"key": jax.random.key(0), "num_episodes": 64}  # Equal for both, so that their rollout is compiled once.
    report = ud.certify(process, agent, baselines=False, **size)
    assert report.verdict == report.to_dict()["verdict"] == "sober"
    assert str(report).startswith("Sober. 0 nats from the interventional answer, ")
    certificate = report.to_dict()
    # Handmade baselines save three compilations.
    for name, reward in (("expert", 0.55), ("exact_do", 0.4335), ("exact_see", 0.3973)):
        certificate |= {f"reward_{name}": reward, f"reward_{name}_se": 0.0021}
    for name, value in (("reward_best", 0.58), ("reward_constant", 0.35), ("gap_first", 0.382), ("gap_last", 0.095)):
        name = name if name.startswith("reward") else f"imitation_{name}"
        certificate |= {name: value, f"{name}_se": 0.0017}
    certificate |= {"notes": {}, "teaching": "counterfactual", "episode": example_episode(process, agent, **size)}
    return json.loads(json.dumps(certificate))


@pytest.fixture(scope="module")
def deluded(sober: Files) -> Files:
    """Return the certificate with do and see exchanged, except in the episode."""
    other = {"do": "see", "see": "do"}
    return {re.sub(r"_(do|see)(?=_se$|$)", lambda m: f"_{other[m[1]]}", name): value for name, value in sober.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, sober: Files) -> Path:
    """Write the page of a finished run."""
    return write_report(write(tmp_path_factory.mktemp("run"), sober))


def test_page_is_self_contained(finished: Path) -> None:
    """It refers to nothing outside itself and runs no script; all references and ids in it are valid."""
    html = finished.read_text(encoding="utf-8")
    page = Page(html)
    assert {f.name for f in finished.parent.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "certificate.json",
        "report.html",
    }
    assert "://" not in html
    assert "script" not in page.tags
    assert not re.search(r"@import|@font-face", html)
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert len(page.ids) == len(set(page.ids))
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert not {"None", "nan", "inf"} & set(page.text.split())


def test_page_is_accessible(finished: Path) -> None:
    """It has a language, one h1, no skipped heading level, a text per figure and a scope per table header."""
    html = finished.read_text(encoding="utf-8")
    levels = [int(tag[1]) for tag in Page(html).tags if re.fullmatch(r"h[1-6]", tag)]
    assert '<html lang="en">' in html
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    assert html.count("<svg") == html.count('<svg role="img" aria-label="') == 6
    assert not re.search(r"<th(?! scope|ead)", html)


def test_page_shows_all_numbers(finished: Path, sober: Files) -> None:
    """It shows quantities with their errors, settings, rows of metrics and rounds."""
    text = Page(finished.read_text(encoding="utf-8")).text
    names = [name for name in sober if f"{name}_se" in sober]
    assert len(names) == 21
    for name in names:
        value, se = sober[name], sober[f"{name}_se"]
        if se < 1e-6:  # The exact agent has distance 0 from its own answer.
            continue
        decimals = 1 - math.floor(math.log10(se))
        shown = f"{value:.{decimals}f} ± {se:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
        assert shown in text, name
    for name, value in SETTINGS.items():
        if name != "versions":
            assert f"{name.replace('_', ' ')}{value}" in text.replace(" ", " "), name
    assert all(number in text for number in SETTINGS["versions"].values())
    assert all(
        f"{row['update']}1.01230.6543{short(row['action_kl_do'])}{short(row['action_kl_see'])}" in text for row in ROWS
    )
    episode = sober["episode"]
    for t in range(6):
        beliefs = (f"{episode['belief'][who][t][episode['theta']]:.3f}" for who in ("agent", "exact_do", "exact_see"))
        row = f"{t + 1}{episode['actions'][t]}{episode['observations'][t]}{episode['rewards'][t]:g}"
        assert row + "".join(beliefs) in text
    assert "undelude train bandit --agent lstm --hidden-size 8" in text


def test_page_shows_the_size_that_was_used(tmp_path: Path, sober: Files) -> None:
    """The options leave it to the architecture, and `agent.json` has it; a damaged one costs the size alone."""
    run = write(tmp_path, sober)
    (run / "config.json").write_text(json.dumps(SETTINGS | {"hidden_size": None}))
    (run / "agent").mkdir(exist_ok=True)
    for text, shown in (('{"config": {"hidden_size": 24}}', "24"), ("{", "\N{EN DASH}")):
        (run / "agent" / "agent.json").write_text(text)
        assert f"hidden size{shown}" in read(run).text.replace("size ", "size")
    assert "Theta here: which of five arms pays best" in read(run).text


def test_headline_is_the_verdict(finished: Path, tmp_path: Path, sober: Files, deluded: Files) -> None:
    """The exact agent is sober and its twin deluded; the headline gives the distance to the other answer."""
    page, far = Page(finished.read_text(encoding="utf-8")), short(sober["action_kl_see"])
    assert f"Sober. 0 nats from the interventional answer, {far} from the deluded one" in page.text
    page = read(write(tmp_path, deluded))
    assert f"Deluded. 0 nats from the deluded answer, {far} from the interventional one" in page.text


@pytest.mark.parametrize(
    ("do", "see", "kind"),
    [
        ((0.002, 0.0001), (0.11, 0.001), "sober"),
        ((0.234, 0.002), (0.0022, 0.0001), "deluded"),
        ((0.22, 0.002), (0.22, 0.002), "neither"),
        ((0.0001, 1e-5), (0.0002, 1e-5), "agree"),
        ((0.02, 0.002), (0.11, 0.001), "undecided"),
        ((0.02, 0.0001), (0.11, None), "undecided"),
        ((0.02, 0.0001), (None, None), "unknown"),
    ],
)
def test_verdict_allows_errors(tmp_path: Path, sober: Files, do: tuple, see: tuple, kind: str) -> None:
    """The ratio is at most a fifth for all values within two standard errors; without an error there is no verdict."""
    names = ("action_kl_do", "action_kl_do_se", "action_kl_see", "action_kl_see_se")
    changes = dict(zip(names, (*do, *see), strict=True))
    assert verdict(read_run(write(tmp_path, sober | changes))).kind == kind


@pytest.mark.slow
@pytest.mark.parametrize("name", ["action_kl_do", "action_tv_do_se"])
def test_answers_agree_however_far_the_agent_is(name: str) -> None:
    """Answers that are the same on every history have the same distances; one number that differs refutes that."""
    task = ud.tasks.from_tables(prior=[0.5, 0.5], expert=[[0.9, 0.1]] * 2, task=[[[0.2, 0.8]] * 2, [[0.8, 0.2]] * 2])
    agent = ud.HostAgent(lambda n: n, lambda m, a, o: (np.full((m, 2), 1 / 2), m))
    quantities = dict(ud.certify(task, agent, key=jax.random.key(0), num_episodes=4, num_rounds=2).quantities)
    errors = {f"action_{x}_{y}": 0.01 for x in ("kl", "tv") for y in ("do", "see")}
    quantities |= {x: dataclasses.replace(quantities[x], standard_error=error) for x, error in errors.items()}
    assert judge(quantities, {}).kind == "agree"
    assert quantities["action_kl_do"].value > 0.1
    other = name.removesuffix("_se")
    field = "standard_error" if name != other else "value"
    changed = dataclasses.replace(quantities[other], **{field: getattr(quantities[other], field) * 1.01})
    assert judge(quantities | {other: changed}, {}).kind == "neither"


def test_answers_that_differ_by_symmetry_do_not_agree() -> None:
    """The sober answer is sure of one box of the frog and the deluded one of the other; the agent knows neither."""
    agent = ud.HostAgent(lambda n: n, lambda m, a, o: (np.full((m, 2), 1 / 2), m))
    report = ud.certify(make("undelude/frog-v1"), agent, key=jax.random.key(0), num_episodes=64, baselines=False)
    quantities = report.quantities
    assert are_distances_identical(quantities)
    assert quantities["action_kl_do"].value == pytest.approx(np.log(2) / 2, abs=1e-5)
    assert judge(quantities, {}).kind == "agree"
    assert report.verdict == "neither"
    assert str(report).startswith("Neither sober nor deluded. ")
    # The answers are opposite in round 2 of about half of the episodes.
    differ = re.search(r"\nNote: .* they differ: the total variation between them is ([\d.]+)\.", str(report))
    assert 0.15 < float(differ[1]) < 0.35
    assert "its own actions are marked do, and how it reads them is its own" in str(report)


def test_infinite_kl_is_judged_by_total_variation(tmp_path: Path, deluded: Files) -> None:
    infinite = deluded | {"action_kl_do": "inf", "action_kl_do_se": None}
    assert verdict(read_run(write(tmp_path, infinite))).kind == "deluded"
    page = read(tmp_path)
    assert "Deluded. 0 nats from the deluded answer, infinitely far from the interventional one" in page.text
    assert "∞" in page.text
    even = {"action_tv_do": 0.2, "action_tv_do_se": 0.001, "action_tv_see": 0.2, "action_tv_see_se": 0.001}
    assert verdict(read_run(write(tmp_path, infinite | even))).kind == "neither"


HOST = ud.HostAgent(lambda n: n, lambda m, a, o: (np.full((m, 3), 1 / 3), m))
SILENT = ud.HostAgent(
    lambda n: n, lambda m, a, o: (None, m), act=lambda m, P, rng: (rng.integers(3, size=m).astype(np.int32), m)
)


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "ways"), [(HOST, "three"), (SILENT, "two")], ids=["predicts", "only acts"])
def test_agent_from_elsewhere_has_the_same_page(tmp_path: Path, agent: ud.HostAgent, ways: str) -> None:
    """Headline, episode, film, certificate and return; the folder is read again from its files alone."""
    process = ud.tasks.bandit(num_arms=3, num_rounds=6)
    report = ud.certify(process, agent, key=jax.random.key(0), num_episodes=64, baselines=False)
    html = report.save(tmp_path / "saved").read_text(encoding="utf-8")
    page = Page(html)
    assert {f.name for f in (tmp_path / "saved").iterdir()} == {"certificate.json", "episode.gif", "report.html"}
    assert f"{WORDS[report.verdict]}." in page.text
    assert f"One episode, read {ways} ways" in page.text
    assert {"episode", "film", "certificate", "return"} <= {*page.ids}
    assert not {"None", "nan", "inf"} & set(page.text.split())
    assert write_report(tmp_path / "saved").read_text(encoding="utf-8") == html
    assert Page(report.html(tmp_path / "page.html").read_text(encoding="utf-8")).text == page.text
    lines = str(report).splitlines()
    assert sum(line.startswith("Not measured, ") for line in lines) == len({*report.notes.values()})


def test_certificate_is_not_saved_into_a_run(tmp_path: Path) -> None:
    process = ud.tasks.bandit(num_arms=3, num_rounds=6)
    size = {"key": jax.random.key(0), "num_episodes": 64}  # Those of the fixture, so that no program is compiled.
    report = ud.certify(process, ud.ExactAgent(process), baselines=False, **size)
    with pytest.raises(RunError, match="holds a run"):
        report.save(write(tmp_path, None))
    assert {f.name for f in tmp_path.iterdir()} == {"config.json", "metrics.jsonl"}


def test_continuous_actions_have_an_episode(tmp_path: Path, sober: Files) -> None:
    """Both exact beliefs are shown; a mixture of normals implies no belief of the agent."""
    process = arm()
    agent = ud.LSTMAgent(process, 2, key=jax.random.key(0))
    episode = example_episode(process, agent, key=jax.random.key(0), num_episodes=8)
    assert np.shape(episode["actions"]) == (process.num_rounds, 1)
    assert episode["policy"] is None
    data = json.loads(json.dumps(sober | {"task": process.name, "episode": episode}))
    page = read(write(tmp_path, data, task=process.name))
    assert "One episode, read two ways" in page.text
    assert "agent: probability" not in page.text
    assert "interventional answer: probability of each theta" in page.text


@pytest.mark.slow
def test_actions_are_shown_in_the_words_of_the_task(tmp_path: Path) -> None:
    """An utterance is a row of the figure and a cell of the table, and replies have a key."""
    process = ud.tasks.menu(num_turns=4)
    agent = ud.ExactAgent(process, "see")
    certificate = ud.certify(process, agent, key=jax.random.key(0), num_episodes=8, baselines=False).to_dict()
    episode = example_episode(process, agent, key=jax.random.key(0), num_episodes=8)
    words = [process.task.say_action(np.array(a, int)) for a in episode["actions"]]
    assert episode["said_actions"] == words
    data = json.loads(json.dumps(certificate | {"notes": {}, "episode": episode}))
    assert episode["said_thetas"] == ["tacos", "fish soup", "cheeseburgers", "fish tacos", "pea soup"]
    html = unescape(write_report(write(tmp_path, data, task=process.name)).read_text(encoding="utf-8"))
    assert f"Actions: {' '.join(words)}." in html
    truth = episode["said_thetas"][episode["theta"]]
    assert f"At the end the truth, {truth}, has probability" in html
    rows = zip(words, episode["said"], strict=True)
    assert all(f'scope="row">{t}</th><td>{a}</td><td>{o}</td>' in html for t, (a, o) in enumerate(rows, 1))


def test_best_reward_above_the_expert_is_explained(tmp_path: Path, sober: Files) -> None:
    """The fixture's best reward, .58, is above the expert's, .55."""
    why = "The best policy without theta earns more here than the expert, who knows theta."
    assert why in read(write(tmp_path, sober)).text
    assert why not in read(write(tmp_path, sober | {"reward_best": 0.5})).text


def test_exact_number_has_no_error() -> None:
    """A standard error that is rounding alone would show as ± 0.000000."""
    assert with_error(0.3819086, 2e-9) == "0.381909"
    assert with_error(0.3819086, 2e-6).startswith("0.381909 ±")


def test_missing_number_says_why(tmp_path: Path, sober: Files) -> None:
    """A null is shown as none and refers to its reason, which is listed once."""
    absent = [name for name in sober if re.match(r"(action|observation)_(kl|tv)_|deluded|reward_exact", name)]
    why = "Theta is continuous: there is no exact reference."
    nulls = dict.fromkeys(absent) | {"notes": dict.fromkeys(absent, why), "episode": None}
    page = read(write(tmp_path, sober | nulls, rows=[LOSSES | {"update": 40, "seconds": 1, "action_kl_do": None}]))
    assert "No verdict. Calibration gap of its actions" in page.text
    assert page.addresses.count("#note-1") == 11
    assert page.text.count(why) == 1
    assert "The certificate has none: an example episode needs a theta with finitely many values." in page.text
    assert "The distances to the exact answers were not measured during training." in page.text


def test_strips_show_policies_without_beliefs(tmp_path: Path, sober: Files) -> None:
    """Without the agent's belief, the strips and the story are about actions."""
    episode = sober["episode"] | {"belief": sober["episode"]["belief"] | {"agent": None}}
    page = read(write(tmp_path, sober | {"episode": episode}))
    assert "agent: probability of each action" in page.text
    assert "probability of each theta" not in page.text
    assert re.search(r"furthest apart (before round \d|at the end): action \d has probability", page.text)


def test_story_of_a_handmade_episode(tmp_path: Path, sober: Files) -> None:
    """It names the round in which the answers differ most and the first round with a wrong certainty."""
    even, unsure, right, wrong = [0.5, 0.5, 0.0], [0.4, 0.6, 0.0], [0.98, 0.01, 0.01], [0.02, 0.97, 0.01]
    distributions = {
        "agent": [unsure, wrong, wrong],
        "exact_do": [even, even, right],
        "exact_see": [even, wrong, wrong],
    }
    events = {"theta": 0, "opening": None, "actions": [1, 1], "observations": [0, 0], "rewards": [0.0, 0.5]}
    episode = read_run(
        write(tmp_path, sober | {"episode": events | {"policy": distributions, "belief": distributions}})
    ).episode
    assert episode is not None
    onset, apart, end = story(episode)
    assert onset == (
        "After 1 round the agent is sure of a wrong theta for the first time, theta 1 with probability 0.97; "
        "the interventional answer gives it 0.50."
    )
    assert "at the end: theta 1 has probability 0.97 by the deluded answer, 0.01 by the interventional one" in apart
    assert "action 1 in 2 of 2 rounds, at a mean reward of 0.25" in apart
    assert "theta 0, has probability 0.02 for the agent, 0.98 by the interventional answer and 0.02 by the" in end
    changing = dataclasses.replace(episode, theta=np.array([0, 1, 1]))
    assert story(changing)[0] == "In this episode the agent never gives a wrong theta a probability above 0.9."


def test_interrupted_run_names_missing_parts(tmp_path: Path) -> None:
    """It shows the results so far and the commands for the rest."""
    page = read(write(tmp_path, None, steps=90))
    assert (
        "No verdict. At the last measurement 0.012 nats from the interventional answer, 0.058 from the deluded"
        in page.text
    )
    assert "Training stopped after update 40 of 90." in page.text
    assert f"--out {tmp_path} --resume" in page.text
    assert f"undelude certify {tmp_path}" in page.text
    assert "learning" in page.ids


@pytest.mark.parametrize("done", [30, 40])
def test_commands_on_the_page_train_the_same_run(tmp_path: Path, done: int) -> None:
    """The run is finished or interrupted, and its folder has a space in its name."""
    config = Config("my.tasks:mine", agent="transformer", window=8, teaching="dagger", per="episode", steps=40, seed=7)
    run = RunDirectory.create(tmp_path / "a run", config)
    run.append_metrics(LOSSES | {"update": done, "seconds": 1.0})
    html = unescape(write_report(run.path).read_text(encoding="utf-8"))
    lines = re.findall(r"<pre><code>undelude (train .*?)</code></pre>", html)
    resumed, again = [None] * (done == 40) + [tyro.cli(Command, args=shlex.split(line)) for line in lines]
    assert again.config == config
    assert again.out == Path("a run-again")
    if done < 40:
        assert (resumed.resume, resumed.out, lines[0]) == (True, run.path, run.resume_command.removeprefix("undelude "))


@pytest.mark.parametrize("content", [None, "", '{"update": 10, "action_lo'])
def test_empty_metrics_are_reported(tmp_path: Path, content: str | None) -> None:
    """The file is missing, empty, or holds one incomplete row."""
    file = write(tmp_path, None) / "metrics.jsonl"
    file.unlink() if content is None else file.write_text(content)
    page = read(tmp_path)
    assert "metrics.jsonl is empty: training stopped before its first row." in page.text
    assert "learning" not in page.ids


def test_resumed_run_counts_updates_once(tmp_path: Path, sober: Files) -> None:
    """Rows that a resumed run logs again replace the earlier ones."""
    logged = ((10, 1.0), (20, 0.5), (10, 0.75), (20, 0.25))
    run = read_run(
        write(tmp_path, sober, rows=[{"update": u, "seconds": 1, "action_loss": loss} for u, loss in logged])
    )
    assert run.series("update").tolist() == [10, 20]
    assert run.series("action_loss").tolist() == [0.75, 0.25]


def test_infinite_distance_is_a_gap(tmp_path: Path) -> None:
    """The line has a gap, which the caption explains."""
    rows = [
        LOSSES | {"update": u, "seconds": u, "action_kl_do": kl, "action_kl_see": None}
        for u, kl in ((1, 0.1), (2, "inf"), (3, 0.2))
    ]
    page = read(write(tmp_path, None, rows=rows))
    assert "A gap in a line is an infinite distance." in page.text
    assert "∞" in page.text


def test_html_of_users_is_escaped(tmp_path: Path, sober: Files) -> None:
    """HTML in the name of a task, a setting or a note is shown as text."""
    name = '<img src=x onerror="alert(1)">'
    noted = sober | {"notes": {"deluded_fraction": name}, "deluded_fraction": None, "episode": None, "task": name}
    page = read(write(tmp_path, noted, task=name, target="</style><b>"))
    assert page.text.count(name) >= 4  # In the title, the header, a note and a setting.
    assert "</style><b>" in page.text
    assert "img" not in page.tags


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", '{"task": ', "config.json is damaged"),
        ("config.json", "[]", "config.json is damaged: it is not a JSON object"),
        ("config.json", '{"agent": "lstm"}', "config.json is damaged: it does not name a task"),
        ("metrics.jsonl", '{"update": 1, "seconds": 1}\n{"upd\n', "metrics.jsonl is damaged in line 2"),
        ("metrics.jsonl", '{"action_loss": 1}\n', "metrics.jsonl is damaged in line 1 (it has no update number)"),
        (
            "metrics.jsonl",
            '{"update": 1, "action_loss": "low"}\n',
            "metrics.jsonl is damaged in line 1 (action_loss must be a number",
        ),
        ("certificate.json", "\x00\xff", "certificate.json is damaged"),
        (
            "certificate.json",
            '{"episode": {"actions": [0]}}',
            "certificate.json is damaged: rewards in its episode must be numbers",
        ),
        ("certificate.json", '{"action_kl_do": "far"}', "certificate.json is damaged: action_kl_do must be a number"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    """The message names the file and the remedy; the old page stays as it was."""
    write(tmp_path, None)
    (tmp_path / "report.html").write_text("the old page")
    (tmp_path / file).write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        write_report(tmp_path)
    assert "again" in str(error.value), "it says how to get the file back"
    assert (tmp_path / "report.html").read_text() == "the old page"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"actions": [0, 1, 2]}, "has actions that are not indices"),
        ({"actions": [0, 1, 2, 0, 1, 9]}, "has actions that are not indices"),
        ({"theta": 7}, "has theta that are not indices"),
        ({"rewards": []}, "is empty"),
        ({"rewards": [0.0, 1.0]}, "needs 3 rows of probabilities of actions"),
    ],
)
def test_inconsistent_episode_is_refused(tmp_path: Path, sober: Files, change: Files, problem: str) -> None:
    """An edited or truncated certificate is named before any figure is drawn."""
    with pytest.raises(ValueError, match=rf"certificate\.json is damaged: its episode of \d rounds {problem}"):
        write_report(write(tmp_path, sober | {"episode": sober["episode"] | change}))


def test_report_needs_a_config(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"the folder holds nothing, and no config\.json"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_chromium_reports_no_errors(finished: Path, tmp_path: Path) -> None:
    """Headless Chromium renders the page and writes nothing to the console."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr", "--v=0"]
    command = [str(CHROMIUM), *flags, f"--user-data-dir={tmp_path}", "--dump-dom", finished.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert "Sober." in done.stdout
    assert "CONSOLE" not in done.stderr
