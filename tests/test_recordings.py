"""The inspector on simulators: recordings, read under any marks, against Bayes' rule and rollouts."""

import dataclasses
import json

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import environments
import undelude as ud
import undelude.gym as ug
from undelude._inspector import view
from undelude._inspector.digest import digest_of_world
from undelude._inspector.host_inspection import HostInspection
from undelude._inspector.service import Service
from undelude._inspector.start import begin_with

ROUNDS, RIGHT, SCALE = 6, 0.8, 0.05
WANTED = np.array([0.1, 0.5, 0.9])
ASKED = {"expert": 0}


def keeper(o, wanted):
    ASKED["expert"] += 1
    return np.clip(wanted - o[:1], -0.1, 0.1), SCALE


def lamp(**options):
    cue = ug.WarmerColder(lambda o, wanted: abs(o[0] - wanted), right=RIGHT)
    given = {"cue": cue, "hide": [1], "expert": keeper, "reward_observed": False, "at_end": "end", "contexts": WANTED}
    return ug.HostWorld(**{"env": environments.Lamp, "num_rounds": ROUNDS, "num_envs": 2, **given, **options})


@pytest.fixture(scope="module")
def world():
    return lamp()


@pytest.fixture(scope="module")
def agent(world):
    return ud.GRUAgent(world, 4, key=jax.random.key(0))


@pytest.fixture(scope="module")
def in_lamp(world, agent):
    return HostInspection(world, {"gru": agent, "sober policy": world.exact_agent()})


@pytest.fixture(scope="module")
def recording(in_lamp):
    return in_lamp.play(in_lamp.begin(seed=3), rounds=ROUNDS, actor="see", label=True)


def normal(x, loc):
    return np.exp(-0.5 * ((x - loc) / SCALE) ** 2) / (SCALE * np.sqrt(2 * np.pi))


def bayes(history):
    """Return beliefs before each action and after each, by Bayes' rule over cues and actions that are read as see."""
    belief, before, acted = np.full(3, 1 / 3), [], []
    level = float(history.opening["state"][0])
    for r in history.rounds:
        before.append(belief)
        advice = np.clip(WANTED - level, -0.1, 0.1)
        belief = belief * (normal(float(r.action[0]), advice) if r.mark == "see" else 1)
        acted.append(belief / belief.sum())
        later = float(r.observation["state"][0])
        is_warmer = np.abs(later - WANTED) < np.abs(level - WANTED)
        belief = belief * np.where(is_warmer == (r.observation["cue"] == 1), RIGHT, 1 - RIGHT)
        belief, level = belief / belief.sum(), later
    return np.array([*before, belief]), np.array(acted), level


@pytest.mark.parametrize("marks", ["dddddd", "ssssss", "dsdsds", "ddsssd"])
def test_marked_reading_is_bayes_over_cues_and_evidence(in_lamp, recording, marks):
    for t, letter in enumerate(marks):
        recording = recording.edit(t, mark="do" if letter == "d" else "see")
    before, acted, level = bayes(recording)
    account = in_lamp.read(recording).accounts["marked"]
    np.testing.assert_allclose(account.belief, before, atol=2e-5)
    np.testing.assert_allclose(account.acted_belief, acted, atol=2e-5)
    advice = np.clip(WANTED - level, -0.1, 0.1)
    mean = before[-1] @ advice
    np.testing.assert_allclose(account.actions.mean[-1, 0], mean, atol=1e-5)
    np.testing.assert_allclose(
        account.actions.deviation[-1, 0] ** 2, SCALE**2 + before[-1] @ (advice - mean) ** 2, atol=1e-5
    )


def test_exact_parties_are_the_exact_agents_of_the_world(in_lamp, world, recording):
    episode = jax.tree.map(lambda x: np.asarray(x)[None], in_lamp.recordings.episode(recording))
    one, evidence = jax.tree.map(lambda x: x[0], (episode, world.evidence(episode)))
    accounts = in_lamp.read(recording).accounts
    for name, done in (("do", True), ("see", False)):
        np.testing.assert_allclose(accounts[name].belief, np.exp(evidence.log_posterior(one, done)), atol=1e-6)
    np.testing.assert_allclose(accounts["sober policy"].actions.mean, accounts["do"].actions.mean, atol=1e-6)
    assert accounts["told"].belief[:, recording.theta[0]] == pytest.approx(1)


def test_expert_actions_are_evidence_for_exact_do(in_lamp, recording):
    both = recording.edit(1, by="expert").edit(1, mark="see").edit(4, by="expert")
    for t in (0, 2, 3, 5):
        both = both.edit(t, mark="do")
    np.testing.assert_allclose(in_lamp.read(both).accounts["do"].belief, bayes(both)[0], atol=2e-5)


@pytest.mark.parametrize("actor", ["do", "see", "gru", "sober policy", "told"])
def test_playing_on_is_a_rollout(in_lamp, world, agent, actor):
    history = in_lamp.play(in_lamp.begin(seed=5), rounds=2, actor=actor)
    history = in_lamp.play(history, rounds=ROUNDS, actor=actor)
    agents = {"do": world.exact_agent("do"), "see": world.exact_agent("see"), "gru": agent}
    agents |= {"sober policy": world.exact_agent(), "told": None}
    who = {"executor": "expert"} if actor == "told" else {}
    episode = jax.tree.map(
        lambda x: np.asarray(x)[0], ud.rollout(world, agents[actor], key=jax.random.key(5), num_episodes=1, **who)
    )
    assert history.theta == (int(episode.theta),)
    np.testing.assert_allclose([r.action for r in history.rounds], episode.actions, atol=1e-6)
    np.testing.assert_allclose([r.reward for r in history.rounds], episode.reward, atol=1e-6)
    assert [int(r.observation["cue"]) for r in history.rounds] == episode.observations["cue"].tolist()
    assert {r.by for r in history.rounds} == {"expert" if actor == "told" else "agent"}


def test_agent_reads_the_marks(in_lamp, agent, recording):
    marked = recording.mark_all("do").flip(2)
    account = in_lamp.read(marked).accounts["gru"]
    m = agent.g_O(marked.opening, agent.init(num_rounds=ROUNDS))
    for t, r in enumerate(marked.rounds):
        mean = jnp.exp(agent.f_A(m).log_weights) @ agent.f_A(m).components.loc[:, 0]
        np.testing.assert_allclose(account.actions.mean[t, 0], mean, atol=1e-5)
        m = agent.g_A(r.action, m, intervened=jnp.asarray(t != 2))
        np.testing.assert_allclose(account.observations[t], agent.f_O(m).parts["cue"].probs, atol=1e-6)
        m = agent.g_O(r.observation, m)


def test_policy_that_is_told_the_marks_reads_each_flip(world, recording):
    """Also after an earlier reading of the same recording; one that is not told them is not asked again."""
    calls = {True: 0, False: 0}

    def policy(*, told):
        def predict(m, a, o, intervened=None):
            calls[told] += 1
            done = m if not told or a is None else m + np.asarray(intervened)
            return ud.Normal(jnp.asarray(0.01 * done[:, None], jnp.float32), jnp.full((len(m), 1), SCALE)), done

        plain = predict if told else lambda m, a, o: predict(m, a, o)
        return ud.HostAgent(lambda num_episodes: np.zeros(num_episodes), plain, told_marks=told)

    agents = {"told": policy(told=True), "not told": policy(told=False)}
    agents = {f"{name} policy": agent for name, agent in agents.items()}
    inspection = HostInspection(world, agents)
    for marks in ("dddddd", "ssssss", "dsdsds"):
        marked = recording
        for t, letter in enumerate(marks):
            marked = marked.edit(t, mark="do" if letter == "d" else "see")
        accounts = inspection.read(marked).accounts
        done = np.cumsum([0, *(letter == "d" for letter in marks)])
        np.testing.assert_allclose(accounts["told policy"].actions.mean[:, 0], 0.01 * done, atol=1e-6)
        np.testing.assert_allclose(accounts["not told policy"].actions.mean[:, 0], 0, atol=1e-6)
    assert calls == {True: 3 * (ROUNDS + 1), False: ROUNDS + 1}


def test_evidence_of_each_observation_is_that_of_the_whole_episode(in_lamp, world, recording):
    """The boat returns to places from other sides, with the same cue: the place before counts too."""
    levels, cues = [0.6, 0.3, 0.6, 0.3, 0.3, 0.4], [1, 0, 1, 0, 0, 0]
    path = [{"state": np.array([x], np.float32), "cue": np.int32(c)} for x, c in zip(levels, cues, strict=True)]
    rounds = tuple(dataclasses.replace(r, observation=o) for r, o in zip(recording.rounds, path, strict=True))
    episode = in_lamp.recordings.episode(dataclasses.replace(recording, rounds=rounds))
    whole = world.evidence(jax.tree.map(lambda x: np.asarray(x)[None], episode))
    known = in_lamp.knowledge.of(recording.opening, path)
    np.testing.assert_allclose(known.log_likelihood, whole.log_likelihood[0], atol=1e-6)
    np.testing.assert_allclose(known.experts.loc, whole.experts.loc[0], atol=1e-6)
    np.testing.assert_allclose(known.symbols, whole.symbols["cue"].log_probs[0], atol=1e-6)


def test_flip_asks_neither_expert_nor_simulator(in_lamp, recording, monkeypatch):
    in_lamp.read(recording)
    monkeypatch.setattr(environments.Lamp, "step", None)
    monkeypatch.setattr(environments.Lamp, "reset", None)
    before = ASKED["expert"]
    found = [in_lamp.read(recording.flip(t)).accounts for t in range(ROUNDS)]
    assert ASKED["expert"] == before
    assert not np.allclose(found[0]["marked"].belief, found[1]["marked"].belief)
    np.testing.assert_array_equal(found[0]["do"].belief, found[1]["do"].belief)


def test_edited_cue_changes_beliefs_and_not_the_simulator(in_lamp, recording):
    o = recording.rounds[1].observation
    edited = recording.truncate(3).edit(1, observation=o | {"cue": 1 - o["cue"]})
    np.testing.assert_allclose(in_lamp.read(edited).accounts["see"].belief, bayes(edited)[0], atol=2e-5)
    longer = in_lamp.play(edited, rounds=1, actor="do")
    assert len(longer) == 4
    assert longer.rounds[1] is edited.rounds[1]


def test_other_state_cannot_be_played_on(in_lamp, recording):
    o = recording.rounds[1].observation
    edited = recording.truncate(3).edit(1, observation=o | {"state": o["state"] + 0.01})
    with pytest.raises(ValueError, match=r"another state .* from round 2 on"):
        in_lamp.play(edited, rounds=1, actor="do")


def test_others_who_play_the_world_do_not_disturb_an_episode(in_lamp, world, recording):
    start = in_lamp.play(in_lamp.begin(seed=3), rounds=2, actor="see")
    ud.rollout(world, world.exact_agent(), key=jax.random.key(9), num_episodes=2)
    found = in_lamp.play(start, rounds=1, actor="see")
    np.testing.assert_array_equal(found.rounds[2].observation["state"], recording.rounds[2].observation["state"])


def test_recording_returns_from_its_file(in_lamp, recording):
    stored = json.loads(json.dumps(in_lamp.to_json(recording)))
    again = in_lamp.from_json(stored)
    jax.tree.map(np.testing.assert_array_equal, again.rounds[4].observation, recording.rounds[4].observation)
    assert in_lamp.to_json(again) == stored
    assert again.rounds[0].reward == recording.rounds[0].reward


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda x: x["rounds"][1].update(action=[0.1, 0.2]), r"rounds\[1\].action must be numbers of shape \[1\]"),
        (lambda x: x["rounds"][1].update(action=[1e99]), "too large"),
        (lambda x: x["rounds"][1]["observation"].pop("state"), "must have the parts"),
        (lambda x: x["rounds"][1]["observation"].update(cue=7), "0 to 2"),
        (lambda x: x["rounds"][1].pop("reward"), r"rounds\[1\].reward is missing"),
        (lambda x: x["rounds"][1].pop("ended"), r"rounds\[1\].ended is missing"),
        (lambda x: x["rounds"][1].update(ended=True), "round 2 ends the episode, and rounds 3 to 6 come after it"),
        (lambda x: x.update(process="0" * 16), "another process"),
        (lambda x: x.update(rounds=x["rounds"] * 2), "12 rounds"),
    ],
)
def test_damaged_recording_is_refused_by_name(in_lamp, recording, change, named):
    data = json.loads(json.dumps(in_lamp.to_json(recording)))
    change(data)
    with pytest.raises(ValueError, match=named):
        in_lamp.from_json(data)


class Reversed(environments.Lamp):
    """A lamp that a positive action makes darker."""

    def step(self, action):
        return super().step(-action)


def other_cue():
    return ug.WarmerColder(lambda o, wanted: abs(o[0] - wanted), right=0.55)


@pytest.mark.parametrize(
    ("options", "is_same"),
    [
        ({}, True),
        ({"num_envs": 1, "num_rounds": 9}, True),
        ({"cue": other_cue()}, False),
        ({"expert": lambda o, wanted: (np.clip(wanted - o[:1], -0.1, 0.1), 2 * SCALE)}, False),
        ({"contexts": [0.1, 0.5, 0.8]}, False),
        ({"prior": [0.2, 0.3, 0.5]}, False),
        ({"env": Reversed, "name": "Lamp"}, False),
    ],
)
def test_recording_opens_in_its_own_world_alone(in_lamp, recording, options, is_same):
    """The cue and the expert are known by what they say; the number of rounds does not count."""
    other = HostInspection(lamp(**options))
    assert (other.digest == in_lamp.digest) == is_same
    if not is_same:
        with pytest.raises(ValueError, match="another process"):
            other.from_json(in_lamp.to_json(recording))


class Unseeded(environments.Lamp):
    """A lamp that starts anywhere, whatever the seed."""

    def reset(self, *, seed=None, options=None):
        _, info = super().reset(seed=seed, options=options)
        self.row[0] = np.random.default_rng().random()
        return self.row, info


def test_world_that_no_seed_repeats_is_known_without_its_answers():
    """Otherwise its recordings would never open again. Its expert gives the same first answers every fourth time."""
    same = {digest_of_world(lamp(env=Unseeded)) for _ in range(8)}
    assert len(same) == 1
    assert digest_of_world(lamp(env=Unseeded, prior=[0.2, 0.3, 0.5])) not in same


def test_observations_of_several_parts_without_a_cue_are_shown():
    """There are no exact answers then: the page shows the agent that was given."""
    world = lamp(cue=None, reward_observed=True)
    agent = ud.HostAgent(lambda n: n, lambda m, a, o: (ud.Normal(np.zeros((m, 1)), np.ones((m, 1))), m))
    inspection = HostInspection(world, {"mine": agent})
    about = Service(inspection, inspection.begin(), actor="mine").answer("describe", {})
    assert about["outcome_numbers"] is None
    assert about["numbers"]["shape"] == [1]


def test_densities_are_those_of_the_mixtures(in_lamp, recording):
    found = in_lamp.densities(recording, 0)
    x = found["grid"][0]
    level = float(recording.opening["state"][0])
    expected = np.mean([normal(x, np.clip(wanted - level, -0.1, 0.1)) for wanted in WANTED], 0)
    np.testing.assert_allclose(found["parties"]["do"][0], expected, rtol=1e-4)
    assert {*found["parties"]} == {"marked", "do", "see", "told", "gru", "sober policy"}


def test_page_shows_frames_words_and_what_cannot_be_done(in_lamp, recording):
    service = Service(in_lamp, recording)
    about = service.answer("describe", {})
    assert about["observations"][1]["text"] == "warmer"
    assert about["thetas"] == ["0.1", "0.5", "0.9"]
    assert {*about["cannot"]} == {"nature", "theta", "action", "observation"}
    assert about["state"]["seen"][0].startswith("state ")
    episode = about["state"]["episode"]
    assert service.answer("picture", {"episode": episode})["picture"].startswith("data:image/png")
    assert service.answer("densities", {"episode": episode, "round": 0})["grid"]
    rewards = service.answer("compare", {"episode": episode})["do"]["rewards"]
    assert len(rewards) == ROUNDS


def test_flip_of_a_recording_sends_what_marks_change(in_lamp, recording):
    before, after = (view.view(in_lamp, in_lamp.read(x), task=None)["parties"] for x in (recording, recording.flip(2)))
    sent = view.after_flip(in_lamp, recording.flip(2))["parties"]
    assert sent.keys() == {"marked", "gru"}
    assert before | sent == after != before


def test_without_a_cue_only_agents_are_shown(agent):
    blind = lamp(cue=None)
    with pytest.raises(TypeError, match=r"no cue= is declared.* Give an agent"):
        HostInspection(blind)
    inspection = HostInspection(blind, [ud.GRUAgent(blind, 4, key=jax.random.key(0))])
    history, _ = begin_with(inspection, seed=0)
    state = inspection.read(history.flip(0))
    assert {*state.accounts} == {"agent"}
    assert np.isnan(state.divergence("do", "agent").actions).all()
    about = view.describe(inspection, notes={})
    assert [name for name, _ in about["actors"]] == ["agent", "told"]
    assert "no cue=" in about["why_inexact"]


class Switch(gymnasium.Env):
    """Two buttons; nothing happens."""

    observation_space = gymnasium.spaces.Box(0, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.full(1, action, np.float32), 0.0, False, False, {}


class Hint(ug.WarmerColder):
    """A symbol of two, more often that of the context."""

    def __init__(self):
        super().__init__(lambda o, c: 0.0, right=0.7)

    def of_many(self, before, after, contexts):
        return np.array([[0.7, 0.3] if c == 0 else [0.3, 0.7] for c in contexts])


def test_symbols_have_exact_divergences():
    world = ug.HostWorld(
        Switch, num_rounds=3, num_envs=1, contexts=[0, 1], cue=Hint(), reward_observed=False, at_end="end",
        expert=lambda o, c: np.array([0.9, 0.1]) if c == 0 else np.array([0.2, 0.8]),
    )  # fmt: skip
    inspection = HostInspection(world)
    history = inspection.play(inspection.begin(seed=1), rounds=1, actor="do")
    r, state = history.rounds[0], inspection.read(history)
    a, cue = int(r.action), int(r.observation["cue"])
    experts, hints = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.7, 0.3], [0.3, 0.7]])
    do = hints[:, cue] / hints[:, cue].sum()
    see = do * experts[:, a] / (do @ experts[:, a])
    p, q = do @ experts, see @ experts
    np.testing.assert_allclose(state.accounts["see"].actions[1], q, atol=1e-6)
    np.testing.assert_allclose(state.divergence("do", "see").actions[1], (p * np.log(p / q)).sum(), atol=1e-5)
    acted = experts[:, a] / experts[:, a].sum()
    np.testing.assert_allclose(state.accounts["see"].observations[0], [*(acted @ hints), 0], atol=1e-6)


def test_environment_that_fails_to_render_is_asked_once(recording, monkeypatch):
    inspection = HostInspection(lamp())
    calls = []

    def render(env):
        calls.append(env)
        raise RuntimeError("no OpenGL")

    monkeypatch.setattr(environments.Lamp, "render", render)
    for history in (recording, recording.truncate(2)):
        with pytest.raises(ValueError, match="does not render: RuntimeError: no OpenGL"):
            inspection.scenes(history)
    assert len(calls) == 1


def test_inspect_shows_an_episode_of_a_rollout(world, agent):
    episodes = ud.rollout(world, agent, key=jax.random.key(1), num_episodes=2)
    inspector = ud.inspect(world, agent, episodes=episodes, episode=1)
    try:
        assert isinstance(inspector.inspection, HostInspection)
        history = inspector.inspection.recordings.history_of(jax.tree.map(lambda x: x[1], episodes))
        np.testing.assert_array_equal([r.action for r in history.rounds], episodes.actions[1])
        np.testing.assert_array_equal(
            [r.observation["state"] for r in history.rounds], episodes.observations["state"][1]
        )
        with pytest.raises(ValueError, match="the episode is of other luck"):
            inspector.inspection.play(history.truncate(3), actor="do")
        assert "undelude inspector of Lamp" in inspector._repr_html_()
    finally:
        inspector.stop()
