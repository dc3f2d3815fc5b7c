"""Logs become demonstrations: the same from every source, and faulty ones are refused with the place of the fault."""

import datetime
import sys
from decimal import Decimal

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import undelude as ud
from undelude.offline import Column, Demos

LENGTHS = [3, 1, 4]
ARMS = [["left", "right", "left"], ["stay"], ["right", "right", "stay", "left"]]
WINS = [[0, 1, 1], [0], [1, 0, 0, 1]]
SPEEDS = [[0.25, 1.5, -2.0], [3.125], [0.5, 0.75, 8.0, 9.5]]
STARTS = ["home", "road", "home"]
ROLES = {"episode": "user", "time": "t", "action": "arm", "observation": ["win", "speed"], "hidden": "cost"}


@pytest.fixture
def table():
    """Columns of a log, one row a round."""
    flat = {"arm": ARMS, "win": WINS, "speed": SPEEDS}
    columns = {name: [x for episode in values for x in episode] for name, values in flat.items()}
    columns["cost"] = [win == 0 for win in columns["win"]]
    for name, values in {"user": "xyz", "skill": ("novice", "old hand", "novice"), "theta": (2, 0, 1)}.items():
        columns[name] = [x for x, length in zip(values, LENGTHS, strict=True) for _ in range(length)]
    columns["t"] = [t for length in LENGTHS for t in range(length)]
    return columns


@pytest.fixture
def demos():
    """The same log from lists."""
    costs = [[win == 0 for win in episode] for episode in WINS]
    return Demos.from_arrays(ARMS, {"win": WINS, "speed": SPEEDS}, hidden={"cost": costs})


def rows(table, indices):
    return {name: [values[i] for i in indices] for name, values in table.items()}


# Sources --------------------------------------------------------------------------------------------------------------


def test_codes_and_numbers_are_those_of_the_lists(demos):
    assert demos.action.levels == ("left", "right", "stay")
    assert demos.observations["win"].levels == (0, 1)
    assert demos.hidden["cost"].levels == (False, True)
    assert demos.observations["speed"].levels is None
    assert demos.lengths.tolist() == LENGTHS
    assert demos.mask.sum() == demos.num_steps == sum(LENGTHS)
    for n, length in enumerate(LENGTHS):
        assert [demos.action.levels[i] for i in demos.action.values[n, :length]] == ARMS[n]
        assert demos.observations["speed"].values[n, :length, 0].tolist() == SPEEDS[n]
        assert not demos.action.values[n, length:].any()


@pytest.mark.parametrize("kind", ["dictionary", "pandas", "categories", "pyarrow", "polars"])
def test_frames_agree_with_arrays(kind, table, demos):
    if kind == "polars":
        frame = pytest.importorskip("polars").DataFrame(table)
    elif kind == "pyarrow":
        frame = pa.table(table)
    else:
        frame = table if kind == "dictionary" else pd.DataFrame(table)
    if kind == "categories":
        frame = frame.astype({"arm": "category", "user": "category"})
    assert Demos.from_frame(frame, **ROLES).digest() == demos.digest()


def test_scattered_files_agree_with_arrays(table, demos, tmp_path):
    """Without the first row of each episode, so that episodes begin in the same order."""
    order = [0, 3, 4, 7, 2, 5, 1, 6]
    for i, part in enumerate(np.array_split(order, 3)):
        pq.write_table(pa.table(rows(table, part)), tmp_path / f"{i}.parquet", row_group_size=2)
    assert Demos.from_parquet(str(tmp_path / "*.parquet"), **ROLES).digest() == demos.digest()
    assert Demos.from_parquet(tmp_path, **ROLES).digest() == demos.digest()
    with pytest.raises(
        ValueError, match=r"episode 'x' is in row 0 .* of .*0\.parquet and in row 0 .* of .*2\.parquet.*time="
    ):
        Demos.from_parquet(tmp_path, **ROLES | {"time": None})


def test_csv_agrees_with_arrays(table, demos, tmp_path):
    pd.DataFrame(table).to_csv(tmp_path / "log.csv.gz", index=False)
    assert Demos.from_csv(tmp_path, **ROLES).digest() == demos.digest()


def test_tabs_separate_columns_too(table, demos, tmp_path):
    pd.DataFrame(table).to_csv(tmp_path / "log.tsv.gz", index=False, sep="\t")
    assert Demos.from_csv(tmp_path, **ROLES).digest() == demos.digest()


def test_rows_keep_their_order_without_time(table, demos):
    """Episodes may alternate in one file."""
    order = [0, 3, 4, 1, 5, 6, 2, 7]
    assert Demos.from_frame(rows(table, order), **ROLES | {"time": None}).digest() == demos.digest()


def test_time_stamps_order_the_rows(table, demos):
    frame = pd.DataFrame(table)
    frame["t"] = pd.Timestamp("2024-05-01") + pd.to_timedelta(frame["t"], unit="min")
    assert Demos.from_frame(frame[::-1].iloc[[7, 4, 3, *range(3), 5, 6]], **ROLES).digest() == demos.digest()


def test_opening_from_its_own_column(table):
    table["start"] = [x for x, length in zip(STARTS, LENGTHS, strict=True) for _ in range(length)]
    table["place"] = ["road", "home", "town", "road", "town", "town", "home", "home"]
    places = [table["place"][:3], table["place"][3:4], table["place"][4:]]
    roles = {"episode": "user", "action": "arm", "observation": "place", "opening": {"place": "start"}}
    demos = Demos.from_frame(table, **roles)
    assert demos.opening["place"].levels == demos.observations["place"].levels == ("home", "road", "town")
    assert demos.digest() == Demos.from_arrays(ARMS, {"place": places}, opening={"place": STARTS}).digest()
    table["start"][1] = "town"
    with pytest.raises(ValueError, match=r"one value an episode.*'x'.*'home' in row 0.*'town' in row 1"):
        Demos.from_frame(table, **roles)


def test_opening_recorded_before_the_action():
    """A log of (state, action, reward): the state of the next row came back, and the last row ends the episode."""
    log = {
        "run": [1, 1, 1, 2, 2],
        "state": ["s0", "s1", "s2", "s1", "s0"],
        "act": ["a", "b", None, "b", None],
        "reward": [0, 1, None, 1, None],
    }
    demos = Demos.from_frame(log, episode="run", action="act", observation=["state", "reward"], opening="state")
    same = Demos.from_arrays(
        [["a", "b"], ["b"]],
        {"state": [["s1", "s2"], ["s0"]], "reward": [[0, 1], [1]]},
        opening={"state": ["s0", "s1"]},
    )
    assert demos.digest() == same.digest()
    roles = {"episode": "run", "action": "act", "observation": "state", "opening": "state"}
    with pytest.raises(ValueError, match=r"column 'act' in row 1 of the frame \(episode 1\) is missing"):
        Demos.from_frame({**log, "act": ["a", None, None, "b", None]}, **roles)
    with pytest.raises(ValueError, match="episode 2 has only one row, row 3"):
        Demos.from_frame(rows(log, range(4)), **roles)


def test_labels_and_demonstrators(table):
    roles = {"label": "theta", "demonstrator": "skill"}
    demos = Demos.from_frame(table, **ROLES, **roles)
    assert demos.labels.tolist() == [2, 0, 1]
    assert demos.demonstrator.levels == ("novice", "old hand")
    assert demos.demonstrator.values.tolist() == [0, 1, 0]
    assert "theta is known in 3 episodes" in demos.summary()
    partly = [None if user == "y" else k for user, k in zip(table["user"], table["theta"], strict=True)]
    for frame in (pd.DataFrame({**table, "theta": partly}), pa.table({**table, "theta": partly})):
        assert Demos.from_frame(frame, **ROLES, **roles).labels.tolist() == [2, -1, 1]
    words = ["abc"[k] for k in table["theta"]]
    with pytest.raises(ValueError, match=r"is 'c', not an index of theta.*levels="):
        Demos.from_frame({**table, "theta": words}, **ROLES, **roles)
    demos = Demos.from_frame({**table, "theta": words}, **ROLES, **roles, levels={"theta": ["c", "b", "a"]})
    assert demos.labels.tolist() == [0, 2, 1]


def test_vectors_are_real(table):
    table["where"] = [[float(i), 0.5] for i in range(8)]
    demos = Demos.from_frame(table, episode="user", action="arm", observation="where")
    assert demos.observations["where"].values.shape == (3, 4, 2)
    again = Demos.from_arrays(ARMS, {"where": [table["where"][:3], table["where"][3:4], table["where"][4:]]})
    assert demos.digest() == again.digest()
    table["where"][5] = [1.0]
    with pytest.raises(ValueError, match=r"column 'where' in the frame has lists of the lengths \[2, 1\]"):
        Demos.from_frame(table, episode="user", action="arm", observation="where")


@pytest.mark.filterwarnings("ignore:`eval_env` is set to None", "ignore:env_spec is None")
def test_minari_round_trip(tmp_path, monkeypatch):
    """Observation t + 1 and reward t came back in round t."""
    minari = pytest.importorskip("minari")
    gym = pytest.importorskip("gymnasium")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    buffer = minari.data_collector.EpisodeBuffer
    states, acts, rewards = [[0, 2, 1], [1, 1, 0, 2]], [[1, 0], [0, 1, 1]], [[0.0, 1.0], [1.0, 0.0, 0.0]]
    buffers = [
        buffer(id=i, observations=o, actions=a, rewards=r, terminations=[False] * len(a), truncations=[False] * len(a))
        for i, (o, a, r) in enumerate(zip(states, acts, rewards, strict=True))
    ]
    spaces = {"action_space": gym.spaces.Discrete(3), "observation_space": gym.spaces.Discrete(4)}
    about = {"algorithm_name": "x", "author": "x", "author_email": "x@x.x", "code_permalink": "x", "description": "x"}
    data = minari.create_dataset_from_buffers("toy/walk-v0", buffers, **spaces, **about, data_format="arrow")
    after = {"observation": [x[1:] for x in states], "reward": rewards}
    levels = {"action": range(3), "observation": range(4)}
    opening = {"observation": [x[0] for x in states]}
    same = Demos.from_arrays(acts, after, opening=opening, levels=levels)
    assert Demos.from_minari(data, reward_observed=True).digest() == same.digest()
    unseen = Demos.from_minari("toy/walk-v0", reward_observed=False)
    assert [*unseen.observations] == ["observation"]
    assert [*unseen.hidden] == ["reward"]
    parity = Demos.from_minari(data, reward_observed=False, encode=lambda o: {"odd": o % 2 == 1})
    assert parity.observations["odd"].levels == (False, True)
    assert parity.opening["odd"].values.tolist() == [0, 1]
    with pytest.raises(ValueError, match="episode 0 has 2 values of 'odd', not 3"):
        Demos.from_minari(data, reward_observed=False, encode=lambda o: {"odd": o[1:] % 2})


@pytest.fixture(scope="module")
def rollouts():
    process = ud.tasks.bandit(num_rounds=6)
    return process, ud.rollout(process, None, key=jax.random.key(0), num_episodes=40, executor="expert")


def test_rollouts_become_demonstrations_without_theta(rollouts):
    process, episodes = rollouts
    demos = Demos.from_episodes(episodes, process)
    assert demos.action.levels == tuple(range(5))
    np.testing.assert_array_equal(demos.action.values, episodes.actions)
    np.testing.assert_array_equal(demos.observations["observation"].values, episodes.observations)
    assert (demos.labels == -1).all()
    kept = Demos.from_episodes(episodes, process, keep_theta=True)
    np.testing.assert_array_equal(kept.labels, episodes.theta)
    plain = ud.Episodes.of(process, actions=episodes.actions, observations=episodes.observations)
    assert Demos.from_episodes(plain, process, intervened=False).digest() == demos.digest()
    with pytest.raises(ValueError, match="keep_theta"):
        Demos.from_episodes(plain, process, keep_theta=True)


# Parts ----------------------------------------------------------------------------------------------------------------


@hypothesis.settings(max_examples=30)
@hypothesis.given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=6), st.data())
def test_mask_equals_trimming(episodes, data):
    """Padding of any length and of any values changes nothing."""
    hypothesis.assume(len({x for episode in episodes for x in episode}) > 1)
    numbers = [[x / 7 + n for x in episode] for n, episode in enumerate(episodes)]
    trimmed = Demos.from_arrays(episodes, {"o": episodes, "x": numbers}, reals=["x"])
    T = max(map(len, episodes)) + data.draw(st.integers(0, 3))
    a, x = np.full((len(episodes), T), 99), np.full((len(episodes), T), np.nan)
    for n, episode in enumerate(episodes):
        a[n, : len(episode)], x[n, : len(episode)] = episode, numbers[n]
    lengths = np.array([len(episode) for episode in episodes])
    for ending in ({"lengths": lengths}, {"mask": np.arange(T) < lengths[:, None]}):
        padded = Demos.from_arrays(a, {"o": a, "x": x}, reals=["x"], **ending)
        assert padded.digest() == trimmed.digest()
        assert padded.action.levels == trimmed.action.levels
        np.testing.assert_array_equal(padded.mask, trimmed.mask)


def test_split_is_a_partition(rollouts):
    demos = Demos.from_episodes(rollouts[1], keep_theta=True)
    first, second = demos.split(0.25, key=jax.random.key(3))
    assert (first.num_episodes, second.num_episodes) == (30, 10)
    assert first.action.levels == demos.action.levels
    assert first.num_rounds == demos.num_rounds
    both = np.concatenate([first.action.values, second.action.values])
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, demos.action.values.tolist()))
    assert demos.split(0.25, key=jax.random.key(3))[1].digest() == second.digest()
    assert demos.split(0.25, key=jax.random.key(4))[1].digest() != second.digest()
    assert demos.split(0.25, seed=1)[0].digest() == demos.split(0.25, seed=1)[0].digest()


def test_subset_keeps_levels_and_rounds(demos):
    part = demos.subset([1])
    assert part.action.levels == demos.action.levels
    assert part.mask.tolist() == [[True, False, False, False]]
    assert part.digest() == demos.subset(np.array([False, True, False])).digest() != demos.digest()


def test_digest_depends_on_every_part(table):
    roles = ROLES | {"label": "theta", "demonstrator": "skill"}
    whole = Demos.from_frame(table, **roles).digest()
    changes = {"arm": "stay", "win": 1, "speed": 7.0, "cost": False}
    digests = {
        Demos.from_frame({**table, name: [x, *table[name][1:]]}, **roles).digest() for name, x in changes.items()
    }
    roles_without = [{k: v for k, v in roles.items() if k != name} for name in ("label", "demonstrator", "hidden")]
    digests |= {Demos.from_frame(table, **x).digest() for x in roles_without}
    assert len(digests | {whole}) == 8


# Which columns are finite ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0.0, 1.0, -0.0, 3.0], (0.0, 1.0, 3.0)),
        ([0.5, 1.5, 0.5, 1.5], (0.5, 1.5)),
        ([0.5, 1.5, 2.5, 1.5], None),
        ([True, False, True, True], (False, True)),
        (["10", "9", "10", "9"], ("10", "9")),
        ([2**40, 5, 5, 5], (5, 2**40)),
    ],
)
def test_finite_columns(values, levels):
    """Decimal numbers are levels if they are whole or repeated."""
    for demos in (
        Demos.from_arrays([[0, 1, 1, 0]], [values]),
        Demos.from_frame({"e": [1] * 4, "a": [0, 1, 1, 0], "o": values}, episode="e", action="a", observation="o"),
    ):
        [column] = demos.observations.values()
        assert column.levels == levels
        assert column.finite == (levels is not None)


def test_many_decimal_numbers_are_real():
    for num, is_finite in ((64, True), (65, False)):
        values = np.tile(np.arange(num) / 4, 100)[None]
        demos = Demos.from_arrays(np.arange(num * 100)[None] % 2, values)
        assert demos.observations["observation"].finite == is_finite


def test_users_choose_levels_and_reals():
    demos = Demos.from_arrays([["b", "a"]], [[0, 2]], levels={"action": ["c", "b", "a"], "observation": range(4)})
    assert demos.action.values.tolist() == [[1, 2]]
    assert demos.observations["observation"].levels == (0, 1, 2, 3)
    real = Demos.from_arrays([["b", "a"]], [[0, 2]], reals=["observation"])
    assert real.observations["observation"].values.tolist() == [[[0.0], [2.0]]]


def test_arrays_of_objects_are_lists():
    """The form in which NumPy stores episodes of different lengths."""
    actions, wins = np.empty(3, object), np.empty(3, object)
    actions[:], wins[:] = ARMS, [np.array(x) for x in WINS]
    assert Demos.from_arrays(actions, {"win": wins}).digest() == Demos.from_arrays(ARMS, {"win": WINS}).digest()
    frame = pd.DataFrame([[0, 1], [1, 0]])
    assert Demos.from_arrays(frame, frame).num_steps == 4


def test_levels_that_come_late_are_found():
    """Codes are right although the first rows have none of the later values."""
    values = np.concatenate([np.zeros(70_000, int), np.arange(3000) % 7])
    demos = Demos.from_arrays(np.arange(73_000)[None] % 2, values[None])
    column = demos.observations["observation"]
    np.testing.assert_array_equal(np.array(column.levels)[column.values[0]], values)


# Faults ---------------------------------------------------------------------------------------------------------------

FAULTS = {
    "missing column": ({"arm": None}, {}, "the frame has no column 'arm'"),
    "misspelt column": ({}, {"action": "arms"}, "no column 'arms'. Did you mean 'arm'"),
    "null": ({"arm": ["left", None, *"abcabc"]}, {}, "column 'arm' in row 1 of the frame .episode 'x'. is missing"),
    "NaN": ({"speed": [0.5, 1.0, np.nan, *range(5)]}, {}, "'speed' in row 2 of the frame .episode 'x'. is missing"),
    "infinite": ({"speed": [0.5, 1.0, np.inf, *range(5)]}, {}, "'speed' in row 2 .* is infinite"),
    "mixed types": ({"arm": ["left", 3, *"abcabc"]}, {}, "'arm' in row 1 of the frame is 3, but .* 'left'.*one type"),
    "constant action": ({"arm": ["left"] * 8}, {}, "the action is the same in all 8 rounds .'left'."),
    "double time": ({"t": [0, 1, 1, *range(5)]}, {}, "episode 'x' has t 1 twice: in row 1 of the frame and row 2"),
    "time in words": ({"t": list("01234567")}, {}, "'t' in the frame has the type .*string; time needs numbers"),
    "null time": ({"t": [0, None, 2, *range(5)]}, {}, "column 't' in row 1 of the frame is missing"),
    "null episode": ({"user": ["x", None, *"xxyyyy"]}, {}, "column 'user' in row 1 of the frame is missing"),
    "no rows": (dict.fromkeys(("arm", "win", "speed", "cost", "user", "t"), ()), {}, "a data frame has no rows"),
    "dates": ({"win": [pd.Timestamp("2024-05-01")] * 8}, {}, "'win' in the frame has the type timestamp.*time="),
    "not a level": ({}, {"levels": {"arm": ["left", "stay"]}}, "'arm' in row 1 .* is 'right', which is not among"),
    "level twice": ({}, {"levels": {"arm": ["left", "left"]}}, "levels of 'arm' contain 'left' twice"),
    "levels of a stranger": ({}, {"levels": {"leg": [0, 1]}}, "levels has 'leg', which is not among the columns"),
    "real words": ({}, {"reals": ["arm"]}, "'arm' in row 0 .* is 'left', not a number; leave it out of reals="),
    "two roles": ({}, {"observation": ["win", "arm"]}, "column 'arm' cannot be both action and observation"),
    "seen and hidden": ({}, {"hidden": "win"}, "'win' is both observed and hidden"),
    "opening of a stranger": ({}, {"opening": ["arm"]}, "opening has 'arm', which is not an observation"),
    "no observations": ({}, {"observation": [], "hidden": []}, "no observations"),
    "two demonstrators": ({}, {"demonstrator": "arm"}, "cannot be both action and demonstrator"),
    "label that varies": ({}, {"label": "win2"}, "one value an episode, but in episode 'x' it is 0 .* and 1 in row 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_a_frame_is_named(fault, table):
    change, roles, message = FAULTS[fault]
    frame = {name: x for name, x in {**table, "win2": table["win"], **change}.items() if x is not None}
    with pytest.raises(ValueError, match=message):
        Demos.from_frame(frame, **ROLES | roles)


ARRAY_FAULTS = {
    "empty": ([], [], {}, "actions is empty"),
    "one episode": ([0, 1], [0, 1], {}, "put a single episode in brackets"),
    "empty episode": ([[0, 1], []], [[0, 1], []], {}, "episode 1 is empty"),
    "fewer episodes": ([[0, 1], [1]], [[0, 1]], {}, "observations has 1 episodes, but actions has 2"),
    "fewer rounds": ([[0, 1], [1, 0]], [[0, 1], [1]], {}, r"observations\[1\] has 1 rounds, but actions\[1\] has 2"),
    "missing": ([[0, 1], [1, 0]], [[0, 1], [None, 1]], {}, r"observations\[1, 0\] is missing"),
    "NaN": ([[0, 1], [1, 0]], np.array([[0, 1], [1, np.nan]]), {}, r"observations\[1, 1\] is missing"),
    "mixed types": ([[0, 1], [1, "b"]], [[0, 1]] * 2, {}, r"actions\[1, 1\] is 'b', but .* is 0.*one type"),
    "objects": ([[0, 1]], [[{}, {}]], {}, r"observations\[0, 0\] is \{\}, not a number"),
    "gap": ([[0, 1, 0]], [[0, 1, 0]], {"mask": np.array([[True, False, True]])}, r"mask\[0\] is false before"),
    "long": ([[0, 1, 0]], [[0, 1, 0]], {"lengths": [4]}, r"lengths\[0\] is 4, but actions\[0\] has 3 rounds"),
    "lengths and mask": ([[0, 1]], [[0, 1]], {"lengths": [1], "mask": [[True, True]]}, "not both"),
    "label": ([[0, 1]], [[0, 1]], {"labels": [-2]}, "labels must be indices of theta.*not -2"),
    "many labels": ([[0, 1]], [[0, 1]], {"labels": [1, 2]}, "labels has the shape"),
    "opening": ([[0, 1]], [[0, 1]], {"opening": ["a"]}, "opening.'observation'. has <U1 .* but observations has int64"),
    "reals": ([[0, 1]], [[0, 1]], {"reals": ["reward"]}, "reals has 'reward', which is not a column; there are action"),
    "a set": ([[0, 1]], [[0, 1]], {"levels": {"action": {0, 1}}}, "must be a tuple"),
}


@pytest.mark.parametrize("fault", ARRAY_FAULTS)
def test_fault_in_arrays_is_named(fault):
    actions, observations, options, message = ARRAY_FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        Demos.from_arrays(actions, observations, **options)


def test_too_many_levels_are_refused():
    many = np.arange(5000)[None]
    with pytest.raises(ValueError, match="column 'observation' has 5000 distinct values, of 4096 at most"):
        Demos.from_arrays(many % 2, many)
    words = pa.table({"e": [0] * 5000, "a": many[0] % 2, "o": many[0].astype(str)})
    with pytest.raises(ValueError, match="column 'o' has 5000 distinct values"):
        Demos.from_frame(words, episode="e", action="a", observation="o")


def test_faulty_files_are_named(table, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*there is no such file"):
        Demos.from_parquet(tmp_path / "nowhere", **ROLES)
    with pytest.raises(FileNotFoundError, match=r"no file \.parquet"):
        Demos.from_parquet(tmp_path, **ROLES)
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match=r"b\.parquet is not a Parquet file"):
        Demos.from_parquet(tmp_path, **ROLES)
    pq.write_table(pa.table({**table, "arm": range(8)}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"column 'arm' in .*b\.parquet has numbers, but .*a\.parquet has strings"):
        Demos.from_parquet(tmp_path, **ROLES)
    again = {**table, "user": [*"pppqrrrr"], "arm": [*"abc", None, *"abca"]}
    pq.write_table(pa.table(again), tmp_path / "b.parquet")
    with pytest.raises(
        ValueError, match=r"column 'arm' in row 3 .counted from 0. of .*b\.parquet \(episode 'q'\) is missing"
    ):
        Demos.from_parquet(tmp_path, **ROLES | {"time": None})
    (tmp_path / "c.csv").write_text("user,t,arm,win,speed,cost\nx,0,left,1,.5,1\nx,1,,1,.5,1\n")
    with pytest.raises(ValueError, match=r"column 'arm' in line 3 of .*c\.csv \(episode 'x'\) is missing"):
        Demos.from_csv(tmp_path, **ROLES)


def test_a_frame_must_be_a_table():
    with pytest.raises(TypeError, match="frame must be a data frame"):
        Demos.from_frame(3, **ROLES)


@pytest.mark.parametrize(
    ("package", "remedy"), [("pyarrow", r'pip install .*"\.\[offline\]", in a clone'), ("minari", "minari")]
)
def test_missing_packages_are_named(package, remedy, monkeypatch, table):
    for name in [x for x in sys.modules if x.startswith("undelude.offline._data.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("frames", "from_minari"):
        monkeypatch.delattr(f"undelude.offline._data.{name}", raising=False)
    read = {
        "pyarrow": lambda: Demos.from_frame(table, **ROLES),
        "minari": lambda: Demos.from_minari("x", reward_observed=True),
    }
    with pytest.raises(ModuleNotFoundError, match=f"needs {package}: .*{remedy}"):
        read[package]()


# What stands out ------------------------------------------------------------------------------------------------------


def test_summary_says_what_stands_out():
    demos = Demos.from_arrays([["a"], ["b"]], {"o": [[1], [1]], "r": [[0.0], [0.0]]})
    summary = demos.summary()
    assert summary.startswith("2 episodes of 1 round from arrays: 2 rounds")
    assert "'a' 50 %" in summary
    assert "every episode has one round; nothing about theta is identified" in summary
    assert "o is the same in all rounds" in summary
    assert "r has few distinct decimal numbers" in summary
    assert repr(demos) == "Demos(2 episodes, 2 rounds, from arrays)"


def test_columns_of_another_shape_are_refused(demos):
    action = Column("action", np.zeros((3, 5), np.int32), ("a", "b"))
    with pytest.raises(ValueError, match=r"column 'win' has the shape \(3, 4\), not \(3, 5\)"):
        Demos(**{**vars(demos), "action": action})


def test_long_names_of_episodes_stay_apart(tmp_path):
    """Databases export whole numbers as exact decimals; a float of 64 bits would make all of these one episode."""
    names = [Decimal(10**17 + i // 2) for i in range(8)]
    rows = {"a": [0, 1] * 4, "o": [0, 1, 1, 0] * 2}
    roles = {"episode": "e", "action": "a", "observation": "o"}
    frame = pa.table({"e": pa.array(names, pa.decimal128(38, 0))} | rows)
    assert Demos.from_frame(frame, **roles).lengths.tolist() == [2, 2, 2, 2]
    # What cannot be told apart is refused: CSV has no whole numbers of more than 63 bits.
    lines = [f"{2**64 - 100 + i // 2},{a},{o}" for i, (a, o) in enumerate(zip(*rows.values(), strict=True))]
    (tmp_path / "long.csv").write_text("\n".join(["e,a,o", *lines]))
    with pytest.raises(ValueError, match=r"line 2 of .*long\.csv is 1\.84.*cannot tell whole numbers.*strings"):
        Demos.from_csv(tmp_path / "long.csv", **roles)
    with pytest.raises(ValueError, match=r"actions\[0, 0\] is 1e\+17, a decimal number"):
        Demos.from_arrays([[1e17, 1e17 + 64]], [[0, 1]])


def test_time_stamps_of_two_units_are_not_mixed(tmp_path):
    start = datetime.datetime(2024, 1, 1)
    for name, unit, seconds in (("a", "us", [1, 2]), ("b", "ms", [3, 4])):
        times = pa.array([start + datetime.timedelta(seconds=s) for s in seconds], pa.timestamp(unit))
        table = pa.table({"e": [1, 1], "t": times, "a": [0, 1], "o": [0, 1]})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"b\.parquet has the type timestamp\[ms\], but .*a\.parquet has .*\[us\]"):
        Demos.from_parquet(tmp_path, episode="e", time="t", action="a", observation="o")


def test_masked_values_are_missing():
    actions, outcomes = [[0, 1], [1, 0]], np.ma.masked_array([[0, 1], [1, 0]], [[0, 0], [0, 1]])
    with pytest.raises(ValueError, match=r"observations\[1, 1\] is missing \(masked\)"):
        Demos.from_arrays(actions, outcomes)
    assert Demos.from_arrays(actions, outcomes, lengths=[2, 1]).num_steps == 3
    with pytest.raises(ValueError, match=r"demonstrator has missing \(masked\)"):
        Demos.from_arrays(actions, actions, demonstrator=np.ma.masked_array([0, 1], [0, 1]))


def test_real_numbers_that_32_bits_cannot_tell_apart_are_refused():
    seconds = np.random.default_rng(0).normal(size=(20, 10))
    actions = np.arange(200).reshape(20, 10) % 2
    with pytest.raises(ValueError, match=r"observations\[0, 0\] is 1700000000\.1.*Subtract a constant .*, 17000000"):
        Demos.from_arrays(actions, 1.7e9 + seconds)
    column = Demos.from_arrays(actions, 1e3 + seconds).observations["observation"]
    np.testing.assert_allclose(column.values[..., 0] - 1e3, seconds, atol=1e-4)


def test_strings_and_numbers_are_not_joined():
    logs = Demos.from_arrays([[0, 1], [1, 1]], [[0, 1], [1, 1]])
    own = Demos.from_arrays([["0", "1"]], [[1, 0]], intervened=True)
    with pytest.raises(ValueError, match=r"'action' has strings in one part, such as '1', and numbers .* 1,"):
        Demos.concat(logs, own)


def test_columns_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"different lengths \('e' 2, 'a' 1, 'o' 2\)"):
        Demos.from_frame({"e": [1, 1], "a": [0], "o": [0, 1]}, episode="e", action="a", observation="o")


# Rows and levels that were not what they seem -------------------------------------------------------------------------

PLAIN = {"episode": "s", "action": "a", "observation": "o"}


def test_rows_of_others_in_between_are_noted_without_time():
    """Sessions that are shuffled, or pasted twice, look like longer sessions."""
    frame = {"s": [*"xxyyxx"], "t": [0, 1, 0, 1, 2, 3], "a": [0, 1, 1, 0, 1, 0], "o": [0, 1, 0, 1, 0, 1]}
    (note,) = Demos.from_frame(frame, **PLAIN).notes
    assert "1 of 2 episodes" in note
    assert "Episode 'x', for one, goes on in row 4 of the frame after row 1 of the frame" in note
    assert note in Demos.from_frame(frame, **PLAIN).summary()
    assert Demos.from_frame(frame, **PLAIN, time="t").notes == ()
    together = rows(frame, [0, 1, 4, 5, 2, 3])
    assert Demos.from_frame(together, **PLAIN).notes == ()
    both = Demos.concat(Demos.from_frame(frame, **PLAIN), Demos.from_frame(together, **PLAIN))
    assert both.notes == both.subset([0]).notes == (note,)


def test_levels_that_look_alike_are_noted():
    demos = Demos.from_arrays([["low", "LOW", "high "], ["high", "mid", "low"]], [[0, 1, 1]] * 2)
    summary = demos.summary()
    assert "'LOW' and 'low'; 'high' and 'high '. If they mean the same" in summary
    assert "mid" not in summary.split("Note:")[1]
    seen = Demos.from_arrays([[0, 1, 1]], [["A", "b", "a"]])
    assert "levels of observation differ in case or spaces alone, and count as different: 'A' and 'a'" in seen.summary()
    assert "Note" not in Demos.from_arrays([[0, 1, 1]], [["A", "b", "c"]]).summary()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_faults_in_csv_files_name_the_line(tmp_path, end):
    lines = ["", "s,a,o", "x,0,1", "x,1,0", "", "x,1,", "y,1,", "y,0,0"]
    (tmp_path / "log.csv").write_bytes(end.join(lines).encode())
    line = lines.index("x,1,") + 1
    with pytest.raises(ValueError, match=rf"'o' in line {line} of .*log\.csv .* is missing \(null, like 2 rows in all"):
        Demos.from_csv(tmp_path / "log.csv", **PLAIN)
