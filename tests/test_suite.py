"""The suite: a changed task is noticed, scores are those of the certificate, and nothing is left out silently."""

import dataclasses
import inspect
import json
import math
import pkgutil
import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

import undelude as ud
from run_files import write_run
from undelude._certificate.numbers import share
from undelude._certificate.quantity import Quantity
from undelude._cli import main, suite_train
from undelude._cli.errors import UsageError
from undelude._cli.suite import estimate, estimate_share
from undelude._cli.suite_options import TrainSuite
from undelude._cli.suite_train import config_of
from undelude._suite import aggregate, definitions, leaderboard, protocol, scale, worst_round
from undelude._suite.contestants import Contestant, Declines, NotRun, contestants, own_agent
from undelude._suite.results import SCORES, WORST, Result, TaskResult, parse_result, read_result, write_result
from undelude._suite.schema import json_schema
from undelude._versioned_tasks import PACKAGES, SUITE, find_task
from undelude._versions import versions
from undelude.tasks.registry import make

ROOT = Path(__file__).parent.parent
BANDIT, FROG, DOORS = (find_task(name) for name in ("bandit-v1", "frog-v1", "doors-v1"))
AGENTS = """
import numpy as np
import undelude as ud

def uniform(process, task):
    if task != "undelude/frog-v1":
        return None
    return ud.HostAgent(lambda B: B, lambda m, a, o: (np.full((m, process.action_spec.n), .5), m))

def declines(process):
    raise NotImplementedError("too few arms")

def breaks(process):
    return 1 / 0

def text(process):
    return "an agent"

single = uniform(ud.tasks.prize_or_frog(), "undelude/frog-v1")
number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite_agents.py").write_text(AGENTS)
    return tmp_path


def played(reward, kl=0.0, verdict="sober", se=0.0, episodes=4096):
    scores = dict.fromkeys(SCORES, Quantity(why_none="not measured."))
    scores |= {"reward": Quantity(reward, se), "action_kl_do": Quantity(kl, se), WORST: Quantity(2 * kl, se)}
    scores["action_kl_see"] = Quantity(10 * kl + 1 if verdict == "sober" else kl / 10, se)
    return TaskResult("played", None, "0" * 12, episodes, 20, "do", verdict, 1, 0.1, scores)


def result_of(tasks, agent="mine", seed=None):
    return Result(agent, "a:b", seed, "", "2026-01-31", {"undelude": "0"}, tasks)


def declined(task):
    return TaskResult("not played", "too hard", definitions.digest(SUITE[task]))


# The tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SUITE.values(), ids=lambda task: task.short_id)
def test_no_parameter_is_left_to_a_default(task):
    if task.missing:
        pytest.skip(task.missing)
    parameters = inspect.signature(pkgutil.resolve_name(task.factory)).parameters
    assert {*task.arguments} == {*parameters}
    assert re.fullmatch(r"undelude/[a-z_]+-v[1-9]", task.id)


def recomputed(task):
    definitions.check_definition(task, task.make())


@pytest.mark.parametrize("task", [BANDIT, DOORS], ids=lambda task: task.short_id)
def test_definition_is_the_stored_one(task):
    recomputed(task)


@pytest.mark.slow
@pytest.mark.parametrize("task", SUITE.values(), ids=lambda task: task.short_id)
def test_every_definition_is_the_stored_one(task):
    if task.missing:
        pytest.skip(task.missing)
    recomputed(task)


@pytest.mark.parametrize(
    ("changed", "moved"),
    [
        ({"expert_accuracy": 0.61}, "actions_do"),
        ({"reward": (0.74, 0.25)}, "actions_do|nature"),
    ],
)
def test_changed_task_needs_a_new_version(changed, moved):
    process = ud.tasks.bandit(**{**BANDIT.arguments, **changed})
    with pytest.raises(ValueError, match=rf"bandit-v1 is not the task that was frozen: ({moved}).*bandit-v2"):
        definitions.check_definition(BANDIT, process)


def test_changed_reward_needs_a_new_version():
    process = ud.tasks.doors(**{**DOORS.arguments, "price": 0.2})
    reward = np.asarray(definitions.describe(process, definitions.stored()[DOORS.id]["history"])["reward"])
    same = np.allclose(reward, definitions.stored()[DOORS.id]["numbers"]["reward"])
    process = ud.InteractionProcess(
        process.prior,
        process.thetas,
        dataclasses.replace(process.task, rewards=2 * process.task.rewards),
        process.expert,
        process.num_rounds,
        name="doors",
    )
    assert same  # Nobody looks in the stored histories, so that the price does not show: the digest has it.
    with pytest.raises(ValueError, match="reward of its stored histories"):
        definitions.check_definition(DOORS, process)


def test_digest_names_the_parameters():
    digests = {definitions.digest(task) for task in SUITE.values()}
    digests.add(definitions.digest(dataclasses.replace(BANDIT, num_episodes=8191)))
    digests.add(definitions.digest(dataclasses.replace(BANDIT, arguments={**BANDIT.arguments, "num_rounds": 21})))
    digests.add(definitions.digest(dataclasses.replace(BANDIT, version=2)))
    assert len(digests) == len(SUITE) + 3
    assert definitions.digest(BANDIT) == definitions.digest(dataclasses.replace(BANDIT, why="another sentence"))


def test_ids_name_processes_everywhere():
    assert make("undelude/bandit-v1").num_rounds == 20
    with pytest.raises(ud._user_code.UnknownNameError, match="Did you mean undelude/bandit-v1"):
        make("undelude/bandti-v1")


# One agent on one task ------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_certificate():
    process = BANDIT.make()
    found = protocol.measure(process, ud.ExactAgent(process, "see"), "0" * 12, num_episodes=64)
    key = jax.random.key(definitions.SEED)
    report = ud.certify(process, ud.ExactAgent(process, "see"), key=key, num_episodes=64, baselines=False)
    assert found.verdict == report.verdict == "deluded"
    for name in SCORES[:-1]:
        assert found.score(name) == report.quantities[name], name
    # The mean over rounds of the distances whose greatest is the worst round is the certificate's distance.
    kl = report.measurement.kl_by_round
    assert kl.shape == (64, 20)
    assert kl.mean() == pytest.approx(report.action_kl_do, rel=1e-4)
    assert (found.score(WORST), found.worst_round) == worst_round.worst_of(kl)
    assert found.score(WORST).value > report.action_kl_do
    assert 1 < found.worst_round <= 20


def test_agent_is_asked_as_often_as_by_certify():
    """A served model is paid by the answer."""
    process, calls = FROG.make(), []

    def predict(m, a, o):
        calls.append(m)
        return np.full((m, 2), 0.5), m

    agent = ud.HostAgent(lambda B: B, predict)
    ud.certify(process, agent, key=jax.random.key(definitions.SEED), num_episodes=8, baselines=False)
    num_calls = len(calls)
    found = protocol.measure(process, agent, "0" * 12, num_episodes=8)
    assert len(calls) == 2 * num_calls
    assert found.worst_round == 2


def test_own_function_is_given_what_it_takes():
    process, seen = FROG.make(), []

    def answer(function):
        return own_agent("mine:agent", function, FROG, process)

    def declines(process):
        raise NotImplementedError("too few boxes")

    assert answer(declines) == Declines("too few boxes")
    assert answer(lambda process: None) == Declines("mine:agent returns None.")
    answer(lambda process, width=3: seen.append((process, width)))
    answer(lambda process, task: seen.append((process, task)))
    assert seen == [(process, 3), (process, FROG.id)]
    agent = ud.ExactAgent(process)
    assert answer(agent) is answer(lambda process: agent) is agent
    with pytest.raises(TypeError, match="of type int for undelude/frog-v1"):
        answer(lambda process: 3)


def test_worst_round_is_chosen_and_measured_on_different_episodes():
    kl = np.zeros((4, 3))
    kl[0::2, 1], kl[1::2, 2] = 9.0, 5.0  # The even episodes choose round 2, and the odd ones know better.
    assert worst_round.worst_of(kl) == (Quantity(0.0, 0.0), 2)
    kl[1::2, 1] = 3.0, 5.0
    assert worst_round.worst_of(kl) == (Quantity(4.0, 1.0), 2)
    more = np.concatenate([np.tile(kl, (worst_round.MAX_EPISODES // 4, 1)), np.full((4, 3), 99.0)])
    assert worst_round.worst_of(more)[0].value == 4  # Of 1,024 episodes.


def test_worst_round_needs_a_tenth_of_the_episodes():
    kl = np.ones((40, 2))
    kl[:4, 1], kl[4:, 1] = 100.0, np.nan
    assert worst_round.worst_of(kl) == (Quantity(100.0, 0.0), 2)
    kl[2:, 1] = np.nan
    assert worst_round.worst_of(kl)[1] == 1


def test_agent_without_predictions_has_no_worst_round():
    process = FROG.make()
    silent = ud.HostAgent(lambda B: B, lambda m, a, o: (None, m), lambda m, d, rng: (rng.integers(0, 2, m), m))
    found = protocol.measure(process, silent, "0" * 12, num_episodes=8)
    assert (found.worst_round, found.verdict) == (None, "unknown")
    assert found.score(WORST).why_none == found.score("action_kl_do").why_none


def test_other_numbers_than_of_32_bits_are_refused():
    """With 64 bits, the same seed gives other episodes."""
    with jax.enable_x64(True), pytest.raises(ValueError, match="jax_enable_x64=True"):
        protocol.run_task(FROG, Contestant("x", "x", None, lambda task, process: None))


def test_expert_parks():
    pytest.importorskip("gymnasium")
    world = make("undelude/parking-v1")
    episodes = ud.rollout(world, None, executor="expert", key=jax.random.key(0), num_episodes=8)
    assert {*np.asarray(episodes.theta).tolist()} > {0, 3}
    assert np.asarray(episodes.reward)[:, -20:].min() == 1
    assert np.asarray(episodes.reward)[:, :5].max() == 0
    world.close()


def test_missing_extra_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = protocol.run_task(find_task("taxi-v1"), Contestant("x", "x", None, lambda task, process: None))
    assert (found.status, found.num_episodes) == ("not run", None)
    assert "needs the extra [gym]" in found.why


def test_task_that_was_not_taught_is_not_run(folder, capfd):
    """An interrupted `suite train` is not an agent that declines: its result is incomplete."""
    write_run(Path("part/frog-v1"), FROG.id)
    [contestant] = contestants("part", num_tasks=1)
    found = protocol.run_task(BANDIT, contestant)
    assert found.status == "not run"
    assert found.why == (
        "there is no run in part/bandit-v1: repeat the undelude suite train command that made part, with --resume "
        "and without --tasks."
    )
    assert suite("run", "part", "--tasks", "bandit-v1", "--out", "x.json") == 0
    assert "incomplete, not run on" in capfd.readouterr().out
    standing = aggregate.standing([read_result(folder / "x.json")])
    assert (standing.is_complete, standing.not_played, standing.median_kl) == (False, (), None)


# Results --------------------------------------------------------------------------------------------------------------


def test_result_comes_back(tmp_path):
    entry = played(0.5, math.inf, "unknown", se=0.25)
    result = result_of({BANDIT.id: entry, FROG.id: declined(FROG.id)}, seed=3)
    write_result(tmp_path / "x.json", result)
    again = read_result(tmp_path / "x.json")
    assert again == result
    assert json.loads((tmp_path / "x.json").read_text())["tasks"][BANDIT.id]["scores"]["action_kl_do"]["value"] == "inf"


def stored_json():
    return json.loads(json.dumps(STORED))


STORED = json.loads((ROOT / "src/undelude/_suite/baselines/exact-do.json").read_text())


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), "undelude-suite-2", "schema must be"),
        (("seed",), -1, "seed must be"),
        (("agent",), "", "agent must be a name"),
        (("date",), "today", "date must be"),
        (("extra",), 1, "extra is not a field"),
        (("tasks", "undelude/bandit-v9"), {}, "tasks.undelude/bandit-v9 is not a task"),
        (("tasks", BANDIT.id, "verdict"), "fine", "tasks.undelude/bandit-v1.verdict must be one of"),
        (("tasks", BANDIT.id, "num_episodes"), True, "num_episodes must be a whole number"),
        (("tasks", BANDIT.id, "status"), "not played", "num_episodes must be null"),
        (("tasks", BANDIT.id, "scores", "luck"), {}, "scores.luck is not a score"),
        (("tasks", BANDIT.id, "scores", "reward", "value"), "much", "scores.reward: reward must be a number"),
        (("tasks", BANDIT.id, "scores", "reward", "se"), -1.0, "scores.reward: reward_se must be"),
        (("tasks", BANDIT.id, "scores", "reward", "value"), None, "scores.reward.why must say why"),
        (("tasks", BANDIT.id, "scores", "reward", "value"), "inf", "scores.reward.value must be a number"),
        (("tasks", BANDIT.id, "scores", "action_tv_do", "value"), 1.5, "action_tv_do must be a number from 0 to 1"),
        (("tasks", BANDIT.id, "verdict"), "neither", "bandit-v1.verdict must be 'sober', as its distances say"),
        (("tasks", BANDIT.id, "worst_round"), 21, "worst_round must be from 1 to 20, its rounds, not 21"),
    ],
)
def test_damage_is_named(path, value, message):
    data = stored_json()
    place = data
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        parse_result(data)


def test_verdict_of_another_version_is_its_own():
    """Its rules may be others."""
    data = stored_json()
    data["tasks"][BANDIT.id]["verdict"] = "neither"
    data["versions"]["undelude"] = "0.0.1"
    assert parse_result(data).tasks[BANDIT.id].verdict == "neither"


def test_missing_score_is_named():
    data = stored_json()
    del data["tasks"][BANDIT.id]["scores"]["reward"]
    with pytest.raises(ValueError, match=r"tasks.undelude/bandit-v1.scores.reward is missing"):
        parse_result(data)


def test_published_schema_is_current():
    file = ROOT / "docs" / "undelude-suite-1.schema.json"
    assert json.loads(file.read_text()) == json_schema(), "run python studies/suite.py --schema"
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(STORED, json_schema())


# Aggregates -----------------------------------------------------------------------------------------------------------


def test_interquartile_mean():
    from scipy import stats  # Its import takes a second and a half of every process that collects tests.

    x = np.random.default_rng(0).normal(size=(5, 8))
    np.testing.assert_allclose(aggregate.interquartile_mean(x), stats.trim_mean(x, 0.25, axis=1))
    # The middle half of five is the third, and three quarters of its neighbours.
    five = np.array([[0.0, 1.0, 2.0, 4.0, 100.0]])
    assert aggregate.interquartile_mean(five)[0] == pytest.approx((0.15 * 1 + 0.2 * 2 + 0.15 * 4) / 0.5)


def test_exact_agents_are_the_ends_of_the_scale():
    for name, end in (("exact-do", 1.0), ("exact-see", 0.0)):
        found = aggregate.standing([scale.baseline(name)])
        assert found.score.value == pytest.approx(end)
        assert found.score.low < end < found.score.high
        assert found.is_complete
    sober, deluded = (aggregate.standing([scale.baseline(f"exact-{mark}")]) for mark in ("do", "see"))
    assert sober.median_kl.value == pytest.approx(0, abs=1e-5)
    assert sober.verdicts == {"sober": len(SUITE) - 1, "agree": 1}
    assert deluded.verdicts == {"deluded": len(SUITE) - 1, "agree": 1}


@pytest.mark.parametrize("task", SUITE.values(), ids=lambda task: task.short_id)
def test_effect_of_delusion_is_the_stated_one(task):
    do, see = scale.reference(task.id, "do"), scale.reference(task.id, "see")
    clear = scale.CLEARLY * math.hypot(do.standard_error, see.standard_error)
    difference = do.value - see.value
    assert task.effect == ("costs" if difference > clear else "helps" if difference < -clear else "nothing")
    assert (scale.span(task.id) is not None) == (task.effect == "costs")


def all_at(share, *, kl=0.1, seed=None, agent="mine", se=0.0, without=()):
    tasks = {}
    for task in SUITE:
        if task in without:
            continue
        see, width = scale.reference(task, "see").value, scale.span(task) or 0.0
        tasks[task] = played(see + share * width, kl, "sober", se=se * width)
    return result_of(tasks, agent, seed)


def test_standing_of_a_known_agent():
    found = aggregate.standing([all_at(0.5, se=0.1)])
    assert found.score.value == pytest.approx(0.5)
    assert 0.02 < found.score.high - found.score.low < 0.2
    assert found.median_kl.value == 0.1
    assert found.worst_kl[0] == pytest.approx(0.2)
    assert found.verdicts == {"sober": len(SUITE)}


def width(standing):
    return standing.score.high - standing.score.low


def test_interval_is_over_seeds_and_episodes():
    """Another seed plays the same episodes, so that one with the same numbers tells nothing new."""
    one = aggregate.standing([all_at(0.5, seed=0, se=0.1)])
    same = aggregate.standing([all_at(0.5, seed=seed, se=0.1) for seed in range(3)])
    assert width(same) == pytest.approx(width(one), rel=0.15)
    reward = same.tasks[BANDIT.id].normalised
    assert reward.standard_error == pytest.approx(one.tasks[BANDIT.id].normalised.standard_error)
    apart = [all_at(x, seed=seed, se=0.1) for seed, x in enumerate((0.4, 0.5, 0.6))]
    spread = scale.span(BANDIT.id) * 0.1 / math.sqrt(3)
    over_episodes = one.tasks[BANDIT.id].reward.standard_error
    assert aggregate.over_seeds(apart, BANDIT.id, "reward").standard_error == pytest.approx(
        math.hypot(spread, over_episodes)
    )
    far = aggregate.standing([all_at(0.2, seed=0), all_at(0.8, seed=1)])
    assert far.score.value == pytest.approx(0.5)
    assert far.score.low < 0.4 < 0.6 < far.score.high


def test_declined_tasks_count():
    """An agent that plays only what it is good at gains nothing."""
    scored = [task for task in SUITE if scale.span(task) is not None]
    good = all_at(1.0, without=scored[1:])
    tasks = {**good.tasks, **{task: declined(task) for task in scored[1:]}}
    found = aggregate.standing([dataclasses.replace(good, tasks=tasks)])
    assert found.score.value == pytest.approx(1 / len(scored))
    tasks[scored[1]] = all_at(1.0).tasks[scored[1]]  # Trimming would forgive some of the others.
    assert aggregate.standing([dataclasses.replace(good, tasks=tasks)]).score.value == pytest.approx(2 / len(scored))
    tasks = {**good.tasks, **{task: declined(task) for task in scored[1:]}}
    assert found.not_played == tuple(scored[1:])
    assert found.median_kl.value == math.inf
    assert found.is_complete


def test_unknown_tasks_make_a_result_incomplete():
    half = all_at(1.0, without=[BANDIT.id], agent="half")
    whole = all_at(0.3, agent="whole")
    first, second = aggregate.standings([half, whole])
    assert (first.agent, second.agent) == ("whole", "half")
    assert second.not_run == (BANDIT.id,)


def test_agents_are_in_groups():
    """What is best stands first among its kind: an agent of one's own never hides the references."""
    sources = {
        "exact": ("exact:do",),
        "taught": ("runs/gru", "/a b/runs", r"C:\runs\gru"),
        "others": ("mine:f", "a.b:c.d"),
    }
    for group, names in sources.items():
        assert [aggregate.group_of(name) for name in names] == [group] * len(names)
    runs = [dataclasses.replace(all_at(x, agent=f"gru {x}"), source=f"runs/{x}") for x in (0.2, 0.9)]
    standings = aggregate.standings([all_at(2.0), *runs, *leaderboard.stored_baselines()])
    own = [x.agent for x in standings if x.agent.startswith(("exact", "gru 0"))]
    assert own == ["exact do", "exact committed", "exact see", "gru 0.9", "gru 0.2"]
    groups = [x.group for x in standings]
    assert groups == sorted(groups, key=aggregate.GROUPS.index)
    assert next(x for x in standings if x.group == "others").agent == "mine"


def test_standing_on_each_task():
    """Over seeds: one that was not run, or declines, decides; a verdict is of all; numbers are means."""
    one = {task: played(0.5, 1.0, se=0.1) for task in (BANDIT.id, FROG.id, DOORS.id, "undelude/merge-v1")}
    other = {
        BANDIT.id: played(0.3, 3.0, "deluded", episodes=16),
        FROG.id: declined(FROG.id),
        DOORS.id: TaskResult("not run", "needs the extra", definitions.digest(DOORS)),
    }
    found = aggregate.standing([result_of(one, seed=0), result_of(other, seed=1)])
    bandit = found.tasks[BANDIT.id]
    assert (bandit.status, bandit.verdict, bandit.is_trial) == ("played", "undecided", True)
    # The errors over the two seeds, 1 and .1, and the mean of those over episodes, .1 and 0.
    assert bandit.distance == Quantity(2.0, pytest.approx(math.hypot(1.0, 0.05)))
    assert bandit.reward == Quantity(0.4, pytest.approx(math.hypot(0.1, 0.05)))
    assert bandit.normalised == scale.normalised(BANDIT.id, bandit.reward)
    assert bandit.normalised.value is not None
    assert found.tasks[FROG.id] == aggregate.TaskStanding("not played")
    assert found.tasks[DOORS.id] == found.tasks["undelude/merge-v1"] == aggregate.TaskStanding("not run")
    assert (found.played, found.not_played, found.trials) == ((BANDIT.id,), (FROG.id,), (BANDIT.id,))
    assert len(found.not_run) == len(SUITE) - 2
    alone = aggregate.standing([result_of(one)]).tasks[DOORS.id]
    assert (alone.verdict, alone.distance) == ("sober", Quantity(1.0, 0.1))
    assert alone.normalised.value is None  # Both exact agents earn the same there.


def test_same_seed_twice_is_refused():
    with pytest.raises(ValueError, match="two results of seed 1 of 'mine'"):
        aggregate.standings([all_at(0.1, seed=1), all_at(0.2, seed=1)])


# The stored baselines and the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", leaderboard.stored_baselines(), ids=lambda result: f"{result.agent} {result.seed}")
def test_baselines_are_of_the_present_definitions(result):
    assert {*result.tasks} == {*SUITE}
    for name, entry in result.tasks.items():
        assert entry.definition == definitions.digest(SUITE[name]), name
        assert entry.status != "not run"
        assert entry.num_episodes in (None, SUITE[name].num_episodes)
    assert result.about


def test_readme_has_the_range_of_each_teaching():
    """Of five architectures; the clones are within their intervals of 0."""
    found: dict[str, list[float]] = {}
    for x in aggregate.standings(leaderboard.stored_baselines()):
        architecture, _, teaching = x.agent.partition(", ")
        if architecture in ("LSTM", "GRU", "Linear", "Transformer", "Markov"):
            assert x.score is not None
            found.setdefault(teaching, []).append(round(x.score.value, 2))
    assert len(found["counterfactual"]) == 5
    clones = [*found["cloning"], *found["factual"]]
    assert max(map(abs, clones)) <= 0.02
    taught, between = ((min(found[x]), max(found[x])) for x in ("counterfactual", "DAgger"))
    words = " ".join((ROOT / "README.md").read_text().split())
    assert f"to {taught[0]:.2f} to {taught[1]:.2f} if they".replace("0.", ".") in words
    assert f"to {between[0]:.2f} to {between[1]:.2f} by DAgger".replace("0.", ".") in words


def test_page_stands_alone_and_names_everything(tmp_path):
    mine = all_at(0.5, agent="<mine>", without=[BANDIT.id])
    standings = aggregate.standings([*leaderboard.stored_baselines(), mine])
    leaderboard.write_page(tmp_path / "x.html", standings)
    page = (tmp_path / "x.html").read_text()
    assert "&lt;mine&gt;" in page
    assert "<mine>" not in page
    assert not re.search(r"https?:|<script|url\(", page)
    assert all(task.short_id in page for task in SUITE.values())
    assert "incomplete" in page
    assert page.index("exact do") < page.index("exact see") < page.index("&lt;mine&gt;")


def test_page_of_many_agents_tells_each_task(tmp_path):
    """The table of all tasks has a sign and a distance for each agent, and each task has a table of its numbers."""
    tasks = {**all_at(0.5, kl=0.125).tasks, BANDIT.id: declined(BANDIT.id), FROG.id: played(0.1, 3.5, "deluded")}
    many = [result_of(tasks, agent=f"agent {i}") for i in range(22)]
    exact = [scale.baseline(f"exact-{name}") for name in ("do", "see")]
    leaderboard.write_page(tmp_path / "x.html", aggregate.standings([*exact, *many]))
    page = (tmp_path / "x.html").read_text()
    matrix = page.partition('class="wide matrix"')[2].partition("</table>")[0]
    [row] = re.findall(r">agent 7</th>(.*?)</tr>", matrix, re.DOTALL)
    cells = re.findall(r"<td class=.(\w+). title=.(\S+): \w+.>(.)<span>(\S*)</span>", row)
    assert [cell[1] for cell in cells] == [task.short_id for task in SUITE.values()]
    assert ("deluded", "frog-v1", "▲", "3.5") in cells
    assert ("none", "bandit-v1", "\N{EN DASH}", "") in cells
    assert ("sober", "grid-v1", "●", "0.12") in cells
    tables = re.findall(r"<details>.*?</details>", page, re.DOTALL)
    assert len(tables) == len(SUITE)
    assert all(table.count("<tr>") == 1 + len(exact) + len(many) for table in tables)
    headings = [
        page.index(f'colspan="8">{heading}<') for heading in ("Exact agents", "Other libraries, and agents of your own")
    ]
    assert headings == sorted(headings)
    assert "Networks taught by undelude" not in page  # There are none.
    legend = page.partition("below the sign of the verdict: ")[2].partition("declines")[0]
    assert "● sober, ▲ deluded, " in legend
    assert "neither" not in legend


def test_results_of_other_definitions_and_trials_are_refused(tmp_path):
    file = tmp_path / "x.json"
    write_result(file, result_of({BANDIT.id: played(0.5)}))
    with pytest.raises(ValueError, match="another definition of undelude/bandit-v1"):
        leaderboard.read_results([file], baselines=False, trials=False)
    entry = dataclasses.replace(played(0.5, episodes=16), definition=definitions.digest(BANDIT))
    write_result(file, result_of({BANDIT.id: entry}))
    for task in SUITE.values():
        longer = dataclasses.replace(entry, num_rounds=101, definition=definitions.digest(task))
        write_result(tmp_path / "longer.json", result_of({task.id: longer}))
        with pytest.raises(ValueError, match=rf"{task.short_id}.num_rounds must be \d+, as in its definition"):
            leaderboard.read_results([tmp_path / "longer.json"], baselines=False, trials=True)
    with pytest.raises(ValueError, match="is a trial: undelude/bandit-v1 was measured on 16 episodes"):
        leaderboard.read_results([file], baselines=False, trials=False)
    assert len(leaderboard.read_results([file], baselines=False, trials=True).results) == 1


def test_docs_have_the_stored_numbers():
    study = runpy.run_path(str(ROOT / "studies" / "suite.py"))
    page = (ROOT / "docs" / "suite.md").read_text()
    assert study["with_tables"](page) == page, "run python studies/suite.py --tables"
    assert "| `bandit-v1` |" in page
    assert "| exact see |" in page
    assert "fifteen tasks" in " ".join(page.split())
    assert len(SUITE) == 15
    peers = {"imitation-bc": "behaviour cloning (imitation)", "recurrent-ppo": "RecurrentPPO"}
    peers["torch-gru"] = "PyTorch GRU, counterfactual"
    for x in aggregate.standings(leaderboard.stored_baselines()):
        for name in (name for name, agent in peers.items() if agent == x.agent):
            row = re.search(rf"\| `{name}`[^|]*\|[^|]*\| (\S+) \| (\d+) of 15 \|", page)
            assert row is not None
            assert row.groups() == (share(x.score.value), str(x.verdicts["sober"]))
    assert "On two tasks the deluded agent earns more" in " ".join(page.split())
    assert sum(task.effect == "helps" for task in SUITE.values()) == 2


# The command line -----------------------------------------------------------------------------------------------------


def suite(*arguments):
    return main(["suite", *map(str, arguments)])


def test_own_agent_is_measured_or_listed_as_declining(folder, capfd):
    assert suite("run", "suite_agents:uniform", "--tasks", "frog-v1", "bandit-v1", "--num-episodes", 16) == 0
    result = read_result(folder / "results" / "suite-agents-uniform.json")
    assert {name: entry.status for name, entry in result.tasks.items()} == {FROG.id: "played", BANDIT.id: "not played"}
    assert result.tasks[FROG.id].score("action_kl_do").value > 0
    assert result.tasks[BANDIT.id].why == "suite_agents:uniform returns None."
    out = capfd.readouterr().out
    assert "does not play undelude/bandit-v1" in out
    assert "incomplete, not run on" in out
    assert suite("table", "results/suite-agents-uniform.json") == 2
    assert "is a trial" in capfd.readouterr().err
    assert suite("table", "results/suite-agents-uniform.json", "--trials") == 0
    assert "suite_agents:uniform <small>trial, incomplete</small>" in (folder / "leaderboard.html").read_text()
    assert suite("table", "results/suite-agents-uniform.json", "--trials") == 0  # A page is written again.
    mine = "results/suite-agents-uniform.json"
    assert suite("table", mine, "--trials", "--out", mine) == 2
    assert "exists and is not a leaderboard" in capfd.readouterr().err
    assert read_result(folder / mine) == result


def test_run_goes_on_where_it_stopped(folder, capfd, monkeypatch):
    few = ("--tasks", "frog-v1", "kuhn-v1", "--num-episodes", 16, "--out", "x.json")
    real = protocol.run_task

    def interrupted(task, contestant, **options):
        if task.name == "kuhn":
            raise KeyboardInterrupt
        return real(task, contestant, **options)

    monkeypatch.setattr("undelude._cli.suite.run_task", interrupted)
    assert suite("run", "suite_agents:uniform", *few) == 130
    assert "the tasks so far are in x.json" in capfd.readouterr().err
    assert [*read_result(Path("x.json")).tasks] == [FROG.id]
    assert suite("run", "suite_agents:uniform", *few) == 2
    assert "exists already: use --resume" in capfd.readouterr().err
    assert suite("run", "suite_agents:declines", *few, "--resume") == 2
    assert "has source 'suite_agents:uniform'" in capfd.readouterr().err
    assert suite("run", "suite_agents:uniform", *few, "--resume", "--name", "other") == 2
    assert "use --name suite_agents:uniform, or another --out" in capfd.readouterr().err
    assert suite("run", "suite_agents:uniform", *few, "--resume", "--about", "Another sentence.") == 2
    assert "x.json has the sentence --about '', which --resume keeps" in capfd.readouterr().err
    assert suite("run", "suite_agents:uniform", *few, "--num-episodes", 32, "--resume") == 2
    assert "has undelude/frog-v1 on 16 episodes, and this command asks for 32" in capfd.readouterr().err
    monkeypatch.setattr("undelude._cli.suite.run_task", real)
    before = read_result(Path("x.json")).tasks[FROG.id]
    assert suite("run", "suite_agents:uniform", *few, "--resume") == 0
    assert "undelude/frog-v1: measured before" in capfd.readouterr().err
    tasks = read_result(Path("x.json")).tasks
    assert [*tasks] == [FROG.id, "undelude/kuhn-v1"]
    assert tasks[FROG.id] == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "exact:dont"), 2, "there are exact:do, exact:see, exact:committed"),
        (("run", "runs/none"), 2, "undelude suite train --out runs/none"),
        (("run", "no_module:agent"), 2, "no module 'no_module'"),
        (("run", "exact:do", "--tasks", "bandt-v1"), 2, "Did you mean undelude/bandit-v1?"),
        (("run", "exact:do", "--tasks", "frog-v1", "frog-v1"), 2, "names undelude/frog-v1 twice"),
        (("run", "http://localhost:1"), 2, "name the model there with --model"),
        (("run", "suite_agents:breaks", "--tasks", "frog-v1"), 1, "ZeroDivisionError"),
        (("run", "suite_agents:text", "--tasks", "frog-v1"), 1, "is of type str for undelude/frog-v1"),
        (("run", "suite_agents:single"), 2, "is one agent, and tasks differ in their actions"),
        (("run", "exact:do", "--num-episodes", "1"), 2, "at least 2"),
        (("table", "none.json"), 2, "there is no file none.json"),
        (("table", "."), 2, ". is a folder: name its files of results, such as *.json."),
        (("run", "suite_agents"), 2, "suite_agents is a module: name the agent in it, suite_agents:NAME."),
        (("run", "suite_agents.py"), 2, "suite_agents.py is a module: name the agent in it, suite_agents:NAME."),
        (
            ("run", "suite_agents:number", "--tasks", "frog-v1"),
            2,
            "suite_agents:number is of type int; it must be",
        ),
        (("train", "--out", "suite_agents.py"), 2, "is a file"),
        (("train", "--out", "."), 2, "is not empty: use --resume"),
    ],
)
def test_wrong_usage_is_named(folder, capfd, arguments, code, message):
    assert suite(*arguments) == code
    assert message in " ".join(capfd.readouterr().err.split())


def test_list_has_every_task(capfd):
    assert suite("list", "--json") == 0
    rows = json.loads(capfd.readouterr().out)
    assert [row["id"] for row in rows] == [*SUITE]
    assert suite("list") == 0
    assert "undelude/kuhn-v1 (delusion costs nothing)" in capfd.readouterr().out


def test_recipe_is_that_of_the_named_task():
    options = TrainSuite(Path("x"), steps=7)
    config = config_of(find_task("dark_room-v1"), options, 3)
    assert (config.task, config.hidden_size, config.batch_size, config.steps) == ("undelude/dark_room-v1", 128, 128, 7)
    config = config_of(find_task("grid-v1"), TrainSuite(Path("x"), agent="gru", teaching="dagger"), 0)
    assert (config.hidden_size, config.teaching, config.steps) == (None, "dagger", 1500)


def test_resuming_with_another_recipe_is_refused():
    have = config_of(BANDIT, TrainSuite(Path("x"), steps=7), 0)
    suite_train.check_same_recipe(Path("x"), have, dataclasses.replace(have))
    for options in (TrainSuite(Path("x"), steps=8), TrainSuite(Path("x"), steps=7, teaching="cloning")):
        with pytest.raises(UsageError, match=r"the run in x has --(steps 7|teaching counterfactual), and this command"):
            suite_train.check_same_recipe(Path("x"), have, config_of(BANDIT, options, 0))


def test_training_of_nothing_fails(folder, capfd, monkeypatch):
    monkeypatch.setitem(PACKAGES, "gym", "a_package_that_is_not_there")
    assert suite("train", "--out", "runs", "--tasks", "taxi-v1", "parking-v1") == 1
    out, err = capfd.readouterr()
    assert "nothing was taught" in err
    assert "needs the extra [gym]" in err
    assert "Taught" not in out


def test_table_breaks_no_number_in_a_narrow_terminal(folder, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert suite("table") == 0
    out = capfd.readouterr().out
    standings = aggregate.standings(leaderboard.stored_baselines())
    assert len(standings) > 20
    for x in standings:
        assert re.search(rf"{re.escape(estimate_share(x.score))} +{re.escape(estimate(x.median_kl))} ", out), x.agent


def test_exact_agent_without_gymnasium_beside_the_baselines(folder, capfd, monkeypatch):
    """The first commands of the docs: three tasks cannot be run, and the stored baseline stays in the table."""
    monkeypatch.setitem(PACKAGES, "gym", "a_package_that_is_not_there")
    see = next(x for x in leaderboard.stored_baselines() if x.agent == "exact see")
    tasks = {name: found for name, found in see.tasks.items() if SUITE[name].extra is None}
    write_result(Path("see.json"), dataclasses.replace(see, tasks=tasks, versions=versions()))
    assert suite("run", "exact:see", "--out", "see.json", "--resume") == 0
    assert [x.status for x in read_result(Path("see.json")).tasks.values()].count("not run") == 3
    capfd.readouterr()
    assert suite("table", "see.json") == 0
    assert "see.json is not shown: it was not run on 3 of 15 tasks" in capfd.readouterr().out
    page = Path("leaderboard.html").read_text()
    assert ">exact see<" in page
    assert "<small>incomplete" not in page
    assert suite("run", "exact:see", "--tasks", "frog-v1", "--num-episodes", 8, "--out", "few.json") == 0
    assert suite("table", "few.json") == 0
    out = capfd.readouterr().out
    assert "few.json is not shown: it was not run on 14 of 15 tasks and is a trial" in out
    assert "See it alone with --no-baselines --trials." in out


def test_options_of_a_server_are_a_group_of_the_help(capfd):
    for command in (["suite", "run"], ["measure"]):
        assert main([*command, "--help"]) == 0
        options, heading, server = capfd.readouterr().out.partition("server options")
        assert heading
        assert "--max-calls" in server
        assert "--max-calls" not in options


@pytest.mark.slow
def test_taught_runs_are_measured(folder, capfd):
    few = ("--tasks", "frog-v1", "kuhn-v1")
    recipe = ("train", "--out", "runs", *few, "--steps", 2, "--hidden-size", 4, "--num-seeds", 2)
    assert suite(*recipe) == 0
    assert suite(*recipe, "--resume") == 0
    assert "finished before" in capfd.readouterr().err
    assert not Path("runs/seed-0/frog-v1/certificate.json").exists()  # `suite run` measures.
    assert suite("run", "runs", *few, "--num-episodes", 16, "--about", "two updates") == 0
    results = [read_result(folder / "results" / f"lstm-counterfactual-seed-{seed}.json") for seed in (0, 1)]
    assert [result.seed for result in results] == [0, 1]
    assert all(result.tasks[FROG.id].status == "played" for result in results)
    assert aggregate.standings(results)[0].num_seeds == 2
    Path("results/lstm-counterfactual-seed-1.json").unlink()
    assert suite("run", "runs", *few, "--num-episodes", 16, "--resume") == 0  # As if the second seed had not begun.
    assert read_result(folder / "results" / "lstm-counterfactual-seed-1.json").seed == 1
    [one, _] = contestants("runs", num_tasks=1)
    assert isinstance(one.answer(BANDIT, None), NotRun)
    assert suite("run", "runs/seed-1", "--tasks", "bandit-v1", "--out", "y.json") == 0
    assert read_result(folder / "y.json").tasks[BANDIT.id].status == "not run"
    Path("runs/seed-1/frog-v1/metrics.jsonl").write_text("")  # As if it had been stopped after it had saved the agent.
    assert suite("run", "runs/seed-1", "--tasks", "frog-v1", "--out", "z.json") == 1
    assert "frog-v1 is not finished. Resume it with: undelude train" in " ".join(capfd.readouterr().err.split())


def test_file_of_a_baselines_agent_takes_its_place(tmp_path):
    """The exact agents, measured on one's own machine, stand beside the other baselines, once."""
    file = tmp_path / "see.json"
    see = next(x for x in leaderboard.stored_baselines() if x.agent == "exact see")
    write_result(file, see)
    found, notices = leaderboard.read_results([file], baselines=True, trials=False)
    assert notices == [f"{file} takes the place of the stored baseline 'exact see'."]
    assert sorted(x.agent for x in found) == sorted(x.agent for x in leaderboard.stored_baselines())
    aggregate.standings(found)
    other = dataclasses.replace(see, source="mine:agent")
    write_result(file, other)
    with pytest.raises(ValueError, match="the name of a stored baseline, 'exact see', and is of another agent"):
        leaderboard.read_results([file], baselines=True, trials=False)
    few = {**see.tasks, BANDIT.id: TaskResult("not run", "needs the extra", definitions.digest(BANDIT))}
    del few[FROG.id]
    write_result(file, dataclasses.replace(see, tasks=few))
    found = leaderboard.read_results([file], baselines=True, trials=False)
    assert found.results == leaderboard.stored_baselines()
    assert found.notices == [
        f"{file} is not shown: it was not run on 2 of 15 tasks, so that the stored baseline 'exact see' stays in its "
        "place. See it alone with --no-baselines."
    ]
    assert len(leaderboard.read_results([file], baselines=False, trials=False).results) == 1
