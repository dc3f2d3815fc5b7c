"""The numbers of the inspector, without a browser: against enumeration, the exact agents, the paper and rollouts."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from machines import process_of
from oracle import enumerate_joint, random_machine
from undelude._agents.base import with_reading
from undelude._inspector.history import FIELDS, ROUND_FIELDS, History, Round
from undelude._inspector.inspection import DO, EXACT, MARKED, SEE, TOLD, Inspection
from undelude._inspector.inspector import history_of as history_of_rollout
from undelude._inspector.start import first_history
from undelude._inspector.view import ALL, after_flip, compare, describe, picture, view
from undelude.tasks.menu import AGAIN, NO, YES


def history_of(actions, marks, observations, theta=(0,), **rest):
    rounds = [Round(a, mark, observation=o) for a, mark, o in itertools.zip_longest(actions, marks, observations)]
    return History(theta, tuple(rounds), **rest)


@pytest.fixture(scope="module")
def in_bandit(bandit):
    """The bandit with an untaught network, whose numbers are as good as any."""
    return Inspection(bandit, [ud.LSTMAgent(bandit, hidden_size=8, key=jax.random.key(1))])


@pytest.fixture(scope="module")
def in_frog(frog):
    return Inspection(frog)


def test_section_2_flips_with_the_switch(in_frog):
    """Box 1 was opened: read as see, it holds the prize; read as do, nothing was learned."""
    seen = history_of([0], ["see"], [None], theta=(1,))
    for history, belief, prize in (
        (seen, [1, 0], 1),
        (seen.flip(0), [0.5, 0.5], 0.5),
        (seen.flip(0).flip(0), [1, 0], 1),
    ):
        account = in_frog.read(history).accounts[MARKED]
        np.testing.assert_allclose(account.acted_belief[0], belief, atol=1e-6)
        np.testing.assert_allclose(account.observations[0], [1 - prize, prize], atol=1e-6)


def test_outcome_that_delusion_excludes_is_reported(in_frog):
    """Out jumps the frog: impossible for the deluded reading, whose belief stays; the sober one now knows theta."""
    state = in_frog.read(history_of([0], ["see"], [0], theta=(1,)))
    assert state.accounts[MARKED].impossible.tolist() == state.accounts[SEE].impossible.tolist() == [True]
    assert not state.accounts[DO].impossible.any()
    np.testing.assert_allclose(state.accounts[MARKED].belief[-1], [1, 0], atol=1e-6)
    np.testing.assert_allclose(state.accounts[DO].belief[-1], [0, 1], atol=1e-6)


def test_cheeseburgers_are_on_the_menu():
    """The epigraph: after "hm", the deluded reading repeats its own guess with .8125, the sober one with .2."""
    menu = ud.tasks.menu(("tacos", "soup", "cheeseburgers", "lasagne", "pizza"), num_turns=3)
    inspection = Inspection(menu)
    said = inspection.actions.index(2, "cheeseburgers")
    state = inspection.read(history_of([said], ["see"], [AGAIN]))
    assert inspection.actions.labels[said] == "Cheeseburgers"
    assert inspection.observations.labels == ("no", "yes", "again")
    assert state.accounts[SEE].actions[1, said] == pytest.approx(0.9**2 + 0.1 * 0.1 / 4, abs=1e-5)
    assert state.accounts[DO].actions[1, said] == pytest.approx(0.2, abs=1e-5)
    after_no = inspection.read(history_of([said], ["do"], [NO])).accounts[MARKED].actions[1, said]
    after_yes = inspection.read(history_of([said], ["do"], [YES])).accounts[MARKED].actions[1, said]
    assert after_no < 0.2 < after_yes


@pytest.mark.parametrize("kind", [{}, {"opening": True}, {"transition": True, "theta_free": True}])
def test_every_mark_pattern_matches_enumeration(kind):
    """Beliefs and predictions at each point, for each pattern of marks, with executors mixed."""
    rng = np.random.default_rng(3)
    machine, T = random_machine(rng, **kind), 2
    joint = enumerate_joint(machine, T)
    inspection = Inspection(process_of(machine, num_rounds=T, theta_free=kind.get("theta_free", False)))
    opening = 1 if kind.get("opening") else None
    theta = (0,) * (T + 1) if kind.get("transition") else (0,)
    for marks in itertools.product(("do", "see"), repeat=T):
        for (a, b), (o, p) in itertools.product([(0, 1), (1, 1)], [(0, 2), (1, 0)]):
            history = History(theta, (Round(a, marks[0], "agent", o), Round(b, marks[1], "expert", p)), opening)
            state = inspection.read(history)
            do = {MARKED: [m == "do" for m in marks], DO: [True, False], SEE: [False, False]}
            for party, read in do.items():
                account, known = state.accounts[party], (np.array([a, b]), np.array(read))
                for t in range(T + 1):
                    given = (*known, np.array([o, p][:t]), opening)
                    np.testing.assert_allclose(account.belief[t], joint.theta(*given), atol=1e-5)
                    if t < T:
                        np.testing.assert_allclose(account.actions[t], joint.next_action(*given), atol=1e-5)
                        np.testing.assert_allclose(account.observations[t], joint.next_observation(*given), atol=1e-5)
            if opening is not None:
                first = np.bincount(joint.opening, joint.mutilated(np.zeros(0, int), np.zeros(0, bool)), 3)
                np.testing.assert_allclose(state.accounts[MARKED].opening, first / first.sum(), atol=1e-5)


def test_parties_are_the_agents_of_the_library(in_bandit, bandit):
    """Step by step through f_A, g_A, f_O, g_O, the same numbers for exact agents and the network."""
    history = in_bandit.play(in_bandit.begin(seed=2), rounds=4, actor=SEE).flip(1)
    state, network = in_bandit.read(history), in_bandit.agents["agent"]
    readers = {
        DO: (ud.ExactAgent(bandit), lambda mark: True),
        SEE: (ud.ExactAgent(bandit, "see"), lambda mark: False),
        MARKED: (ud.ExactAgent(bandit), lambda mark: mark == "do"),
        "agent": (network, lambda mark: mark == "do"),
    }
    assert network.marks == ("do", "see")
    for party, (agent, reads) in readers.items():
        account, m = state.accounts[party], agent.init(num_rounds=20)
        for t, r in enumerate(history.rounds):
            np.testing.assert_allclose(account.actions[t], agent.f_A(m).probs, atol=1e-5)
            m = agent.g_A(jnp.asarray(r.action), m, intervened=reads(r.mark))
            np.testing.assert_allclose(account.observations[t], agent.f_O(m).probs, atol=1e-5)
            m = agent.g_O(jnp.asarray(r.observation), m)
        np.testing.assert_allclose(account.actions[-1], agent.f_A(m).probs, atol=1e-5)


def test_expert_is_told_theta(in_bandit):
    """Its belief is the truth, its prediction Q(A | theta); for theta seen, see and do are the same."""
    history = in_bandit.play(in_bandit.begin(seed=0, theta=3), rounds=3)
    account = in_bandit.read(history).accounts[TOLD]
    np.testing.assert_allclose(account.belief, np.tile(np.eye(5)[3], (4, 1)), atol=1e-6)
    np.testing.assert_allclose(account.actions, np.tile(np.where(np.arange(5) == 3, 0.6, 0.1), (4, 1)), atol=1e-6)


def test_kl_is_answer_to_party(in_bandit):
    """KL(answer || party) by hand in one round, 0 for the answer itself, and total variation beside it."""
    history = in_bandit.play(in_bandit.begin(seed=5), rounds=6, actor=SEE)
    state = in_bandit.read(history)
    p, q = state.accounts[DO].actions[4], state.accounts[SEE].actions[4]
    found = state.divergence(DO, SEE)
    assert found.actions[4] == pytest.approx(float(np.sum(p * np.log(p / q))), abs=1e-9)
    assert found.actions_tv[4] == pytest.approx(0.5 * float(np.abs(p - q).sum()), abs=1e-9)
    assert (state.divergence(DO, DO).actions == 0).all()
    assert (state.divergence(SEE, SEE).observations == 0).all()


def test_infinite_kl_is_infinite(in_frog):
    state = in_frog.read(history_of([0], ["see"], [None]))
    assert state.divergence(DO, MARKED).observations[0] == np.inf
    assert state.divergence(DO, MARKED).observations_tv[0] == pytest.approx(0.5)
    shown = view(in_frog, state, task="frog")
    assert shown["parties"][MARKED]["kl"]["do"]["observations"] == ["inf"]
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize(("actor", "agent"), [(DO, "do"), (SEE, "see"), ("agent", None)])
def test_playing_on_is_a_rollout(in_bandit, bandit, actor, agent):
    """From the first round on, the episode is number 0 of the rollout with that seed."""
    played = in_bandit.play(in_bandit.begin(seed=7), rounds=99, actor=actor)
    agent = in_bandit.agents["agent"] if agent is None else ud.ExactAgent(bandit, agent)
    rolled = ud.rollout(bandit, agent, key=jax.random.key(7), num_episodes=1)
    assert [r.action for r in played.rounds] == rolled.actions[0].tolist()
    assert [r.observation for r in played.rounds] == rolled.observations[0].tolist()
    assert played.theta == (int(rolled.theta[0]),)
    state = in_bandit.read(played)
    assert state.ended
    assert state.rewards.tolist() == rolled.reward[0].tolist()
    assert {r.mark for r in played.rounds} == {agent.own_actions}


def test_same_luck_returns_after_a_rewind(in_bandit):
    whole = in_bandit.play(in_bandit.begin(seed=4), rounds=8)
    step = in_bandit.begin(seed=4)
    for _ in range(8):
        step = in_bandit.play(step, rounds=1, observe=False)
        assert step.rounds[-1].observation is None
        step = in_bandit.play(step, rounds=0)
    assert step == whole == in_bandit.play(whole.truncate(3), rounds=5)


def test_expert_executes_and_is_asked(in_bandit, bandit):
    """Its actions are marked see; a label of every round gives the counterfactual loss of each party."""
    demonstrated = in_bandit.play(in_bandit.begin(seed=1), rounds=5, actor=TOLD)
    assert {(r.mark, r.by) for r in demonstrated.rounds} == {("see", "expert")}
    labelled = in_bandit.play(in_bandit.begin(seed=1), rounds=5, actor=DO, label=True)
    rolled = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(1), num_episodes=1)
    assert [r.expert_action for r in labelled.rounds] == rolled.expert_actions[0, :5].tolist()
    state = in_bandit.read(labelled)
    expected = [-np.log(state.accounts[SEE].actions[t, r.expert_action]) for t, r in enumerate(labelled.rounds)]
    np.testing.assert_allclose(state.losses(SEE), expected)


def test_theta_of_a_switching_bandit_is_a_path():
    inspection = Inspection(ud.tasks.switching_bandit(num_rounds=6))
    history = inspection.play(inspection.begin(seed=3), rounds=6, actor=DO)
    assert len(history.theta) == 7
    assert inspection.from_json(inspection.to_json(history)) == history
    account = inspection.read(history).accounts[TOLD]
    assert account.belief.argmax(1).tolist() == list(history.theta)
    assert len(history.truncate(2).theta) == 3


@pytest.fixture(scope="module")
def in_talk():
    """A menu by token, whose customer leaves after one dish."""
    return Inspection(ud.tasks.menu(granularity="token", num_turns=1))


def test_episode_ends_where_its_task_ends_it(in_talk):
    """Nothing follows the goodbye, and rounds after it are refused by their numbers."""
    assert in_talk.process.ends_early
    history = in_talk.play(in_talk.begin(seed=0, theta=0), rounds=9, actor=DO)
    rolled = ud.rollout(in_talk.process, ud.ExactAgent(in_talk.process), key=jax.random.key(0), num_episodes=1, theta=0)
    assert len(history) == int(rolled.mask[0].sum()) < in_talk.num_rounds
    assert in_talk.has_ended(history)
    assert in_talk.play(history) == history
    longer = dataclasses.replace(history, rounds=(*history.rounds, Round(0, "see", observation=3)))
    end = len(history)
    with pytest.raises(ValueError, match=rf"round {end} ends the episode, and round {end + 1} comes after it"):
        in_talk.from_json(in_talk.to_json(longer))


def test_offered_actions_are_those_of_the_cursor(in_talk):
    """After "fish" the waiter may say "tacos" or "soup"; each action has a label of its own."""
    fish = in_talk.actions.labels.index("fish")
    state = in_talk.read(history_of([fish], ["do"], [3]))
    first, second = (np.flatnonzero(row).tolist() for row in state.offered)
    assert [in_talk.actions.labels[i] for i in first] == ["tacos", "fish", "cheeseburgers", "pea"]
    assert [in_talk.actions.labels[i] for i in second] == ["tacos", "soup"]
    assert view(in_talk, state, task=None)["offered"] == [first, second]
    assert len({*in_talk.actions.labels}) == len(in_talk.actions)


def test_long_rows_hold_the_symbol_that_happened():
    """Of 36 utterances the page gets the same ones of each party, with their true probabilities, and NaN as null."""
    inspection = Inspection(ud.tasks.menu(num_turns=2))
    assert len({*inspection.actions.labels}) == 36
    state = inspection.read(history_of([35], ["do"], [NO]))
    rows = {name: x["actions"] for name, x in view(inspection, state, task=None)["parties"].items()}
    assert len({tuple(i for i, _ in x[0]) for x in rows.values()}) == 1
    for name, account in state.accounts.items():
        sent = dict(rows[name][0])
        assert 35 in sent
        assert {*np.flatnonzero(state.offered[0])} <= sent.keys()
        assert sent == pytest.approx({i: account.actions[0, i] for i in sent}, abs=1e-6)
    state.accounts[DO].actions[0] = np.nan
    json.dumps(view(inspection, state, task=None), allow_nan=False)


def test_impossible_opening_is_not_blamed_on_the_action():
    """No hand of Kuhn poker opens with 2; one that opens with 1 is possible."""
    inspection = Inspection(ud.tasks.kuhn())
    for opening, impossible in ((2, True), (1, False)):
        for account in inspection.read(History((2,), (Round(0, "do"),), opening)).accounts.values():
            assert (account.opening[opening] == 0) == account.opening_impossible == impossible
            assert not account.acted_impossible.any()


def test_alarm_of_an_exact_agent_inside_another(frog):
    """Its own probability of what happened raises it; an action that is marked do raises none."""
    agent = ud.TemperedAgent(ud.ExactAgent(frog, "see"), temperature=1.0)
    inspection = Inspection(frog, [agent])
    account = inspection.read(history_of([0], ["see"], [0], theta=(1,))).accounts["agent"]
    assert account.impossible.tolist() == [True]
    assert inspection.read(history_of([0], ["do"], [0])).accounts[TOLD].acted_impossible.tolist() == [False]


def test_episode_of_another_process_is_refused(in_bandit):
    """Of the same name and shapes, but with other numbers; or of another task, which the message names."""
    other, again = Inspection(ud.tasks.bandit(expert_accuracy=0.9)), Inspection(ud.tasks.bandit(num_rounds=3))
    stored = other.to_json(other.begin())
    assert stored["task"] is None
    with pytest.raises(ValueError, match="another process"):
        in_bandit.from_json(stored)
    assert in_bandit.from_json(stored | {"process": None}) == other.begin()
    assert in_bandit.from_json(again.to_json(again.begin())) == again.begin()
    with pytest.raises(ValueError, match="of frog, and the task inspected here is bandit"):
        in_bandit.from_json(stored | {"task": "frog"}, task="bandit")


def test_flips_compile_nothing(bandit, compilations):
    """Nothing is compiled again after a flip, or for another length."""
    inspection = Inspection(bandit, [ud.LSTMAgent(bandit, hidden_size=8, key=jax.random.key(0))])
    history = inspection.play(inspection.begin(), rounds=20, actor=SEE)
    view(inspection, inspection.read(history), task="bandit")
    compilations()
    for t in range(3):
        history = history.flip(7 * t)
        view(inspection, inspection.read(history), task="bandit")
    inspection.read(history.truncate(3))
    assert compilations() == 0


def test_flip_sends_what_marks_change(bandit):
    """Of all parties the same as the whole answer; those that read no marks are neither asked nor sent."""
    asked = []

    def predict(belief, a, o):
        asked.append(a)
        return next_in_numpy(belief, a, o)

    agents = {"lstm": ud.LSTMAgent(bandit, 4, key=jax.random.key(0)), "host": ud.HostAgent(sober_in_numpy, predict)}
    inspection = Inspection(bandit, agents, num_rounds=4)
    history = inspection.play(inspection.begin(), rounds=4, actor=SEE)
    before = view(inspection, inspection.read(history), task=None)["parties"]
    flipped = view(inspection, inspection.read(history.flip(1)), task=None)["parties"]
    asked.clear()
    sent = after_flip(inspection, history.flip(1))["parties"]
    assert sent.keys() == {MARKED, "lstm"}
    assert not asked
    assert before | sent == flipped != before
    in_talk = Inspection(ud.tasks.menu())
    assert len(in_talk.actions) > ALL
    said = in_talk.play(in_talk.begin(seed=0), rounds=2, actor=DO).flip(0)
    assert after_flip(in_talk, said)["parties"].keys() == {*EXACT}, "rows of a long alphabet depend on all parties"


def test_learned_agent_is_never_shown_a_mark_it_was_not_taught(bandit):
    """A network that was taught do alone reads every action so, and the page says it."""
    agent = ud.LSTMAgent(bandit, hidden_size=8, key=jax.random.key(0))
    taught = with_reading(agent, ud.Counterfactual().reading)
    assert taught.marks == ("do",)
    inspection = Inspection(bandit, {"lstm": taught})
    history = inspection.play(inspection.begin(), rounds=3, actor="lstm")
    first, second = (inspection.read(x).accounts["lstm"].actions for x in (history, history.mark_all("see")))
    assert (first == second).all()
    text = next(party["text"] for party in describe(inspection, notes={})["parties"] if party["key"] == "lstm")
    assert "every past action as an intervention. It was taught no other mark." in text
    exact = Inspection(bandit, {"exact": ud.ExactAgent(bandit, "see")})
    assert "taught" not in describe(exact, notes={})["parties"][-1]["text"]


def test_belief_about_other_thetas_is_not_shown(bandit):
    """An exact agent of another process with as many thetas: only what its predictions imply is shown."""
    other = dataclasses.replace(bandit, thetas=bandit.thetas + 1)
    inspection = Inspection(bandit, [ud.ExactAgent(dataclasses.replace(other, task=bandit.task))])
    assert inspection.read(inspection.begin()).accounts["agent"].acted_belief is None


def test_first_episode_costs_the_truth_belief(in_bandit, in_frog):
    history = first_history(in_bandit, SEE)
    accounts = in_bandit.read(history).accounts
    do, see = (accounts[party].belief[-1, history.theta[0]] for party in (DO, SEE))
    assert do - see > 0.5
    opened = first_history(in_frog, SEE)
    assert opened.rounds[0].action != opened.theta[0]
    assert opened.rounds[0].observation is None
    assert first_history(in_bandit, SEE, seed=3).seed == 3


# A round of the bandit in a file.
ROUND = {"action": 0, "mark": "do", "by": "agent", "observation": 0, "expert_action": None}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "undelude-episode-9"}, "format"),
        ({"theta": 5}, "theta"),
        ({"theta": [1, 1]}, "theta"),
        ({"theta": True}, "theta"),
        ({"seed": -1}, "seed"),
        ({"opening": 0}, "opening"),
        ({"rounds": 3}, "rounds"),
        ({"rounds": [3]}, "rounds"),
        ({"rounds": [ROUND | {"action": 9}]}, r"rounds\[0\].action"),
        ({"rounds": [ROUND | {"action": [0]}]}, r"rounds\[0\].action"),
        ({"rounds": [ROUND | {"mark": "did"}]}, r"rounds\[0\].mark"),
        ({"rounds": [ROUND | {"by": "me"}]}, r"rounds\[0\].by"),
        ({"rounds": [ROUND | {"observation": 0.0}]}, r"rounds\[0\].observation"),
        ({"rounds": [ROUND | {"observation": None}] * 2}, "only the last round"),
        ({"foo": 3}, "foo is not a field of an episode; its fields are format, task"),
        ({"rounds": [ROUND | {"label": 1}]}, r"rounds\[0\].label is not a field"),
        ({"rounds": [ROUND | {"reward": 77}]}, r"rounds\[0\].reward is 77, and bandit pays 0 in this round"),
        ({"rounds": [ROUND | {"reward": "1"}]}, r"rounds\[0\].reward must be a number, not '1'"),
        ({"rounds": [ROUND | {"reward": 10**400}]}, r"rounds\[0\].reward must be a number, not 1000"),
        ({"rounds": [ROUND, ROUND | {"ended": True}]}, r"rounds\[1\].ended is true, and bandit does not end"),
        ({"rounds": [ROUND | {"ended": 1}]}, r"rounds\[0\].ended must be true or false, not 1"),
        ({"rounds": [ROUND | {"observation": None, "reward": 0}]}, r"rounds\[0\].reward comes before its observation"),
        (
            {"rounds": [ROUND] * 40},
            "has 40 rounds, and this page takes 20 at most: start undelude inspect with --num-rounds 40, or ud.inspect "
            "with num_rounds=40",
        ),
    ],
)
def test_damaged_episode_is_refused_by_name(in_bandit, change, named):
    good = in_bandit.to_json(in_bandit.begin())
    assert in_bandit.from_json(json.loads(json.dumps(good))) == in_bandit.begin()
    with pytest.raises(ValueError, match=named):
        in_bandit.from_json(good | change)


def test_no_field_of_an_episode_may_lack(in_bandit):
    good = in_bandit.to_json(in_bandit.begin(seed=3)) | {"rounds": [ROUND]}
    in_bandit.from_json(good)
    for name in FIELDS:
        with pytest.raises(ValueError, match="must be" if name == "format" else f"^{name} is missing"):
            in_bandit.from_json({x: y for x, y in good.items() if x != name})
    for name in ROUND_FIELDS:
        with pytest.raises(ValueError, match=rf"^rounds\[0\].{name} is missing"):
            in_bandit.from_json(good | {"rounds": [{x: y for x, y in ROUND.items() if x != name}]})


def test_rewards_and_ends_of_a_file_are_those_of_the_process(in_bandit, in_talk):
    """They may be there if they are right."""
    for inspection in (in_bandit, in_talk):
        history = inspection.play(inspection.begin(seed=1), rounds=20)
        data = inspection.to_json(history)
        for t, (row, reward) in enumerate(zip(data["rounds"], inspection.read(history).rewards, strict=True)):
            row |= {"reward": float(reward), "ended": t == len(history) - 1}
        assert inspection.from_json(data) == history
    data["rounds"][-1]["ended"] = False
    assert len(history) < in_talk.num_rounds
    with pytest.raises(ValueError, match=rf"rounds\[{len(history) - 1}\].ended is false, and .* ends the episode"):
        in_talk.from_json(data)


def sober_in_numpy(num_episodes):
    """Return the prior of a policy of the bandit that reads its actions as do, by Bayes' rule in NumPy."""
    return np.full((num_episodes, 5), 0.2)


def next_in_numpy(belief, a, o):
    if a is not None:
        paid = np.where(np.arange(5) == np.asarray(a)[:, None], 0.75, 0.25)
        belief = belief * np.where(np.asarray(o)[:, None] == 1, paid, 1 - paid)
        belief = belief / belief.sum(-1, keepdims=True)
    return belief @ np.where(np.eye(5) == 1, 0.6, 0.1), belief


@pytest.fixture(scope="module")
def with_host(bandit):
    """A policy in Python that predicts no outcomes."""
    return Inspection(bandit, {"host": ud.HostAgent(sober_in_numpy, next_in_numpy)}, num_rounds=12)


def test_policy_in_python_reads_any_history(with_host):
    """It is exact do, whatever the switches say, and its belief is the one that its predictions imply."""
    rng = np.random.default_rng(0)
    for n in (0, 1, 12):
        history = history_of(rng.integers(5, size=n), rng.choice(["do", "see"], n), rng.integers(2, size=n))
        accounts = with_host.read(history).accounts
        np.testing.assert_allclose(accounts["host"].actions, accounts[DO].actions, atol=1e-6)
        np.testing.assert_allclose(accounts["host"].belief, accounts[DO].belief, atol=1e-5)
        assert accounts["host"].observations.shape == (n, 2)
    sent = view(with_host, with_host.read(history), task=None)["parties"]["host"]
    assert sent["observations"][0] == sent["kl"][DO]["observations"][:1] * 2 == [None, None]
    assert "not told the marks" in describe(with_host, notes={})["parties"][-1]["text"]
    open_round = dataclasses.replace(history, rounds=(*history.rounds[:3], Round(2, "do")))
    assert with_host.read(open_round).accounts["host"].actions.shape == (4, 5)


def test_policy_in_python_plays_a_rollout(with_host, bandit):
    played = with_host.play(with_host.begin(seed=5), rounds=12, actor="host")
    one = ud.rollout(bandit, with_host.agents["host"], key=jax.random.key(5), num_episodes=1, num_rounds=12)
    assert [(r.action, r.observation) for r in played.rounds] == [
        (r.action, r.observation) for r in history_of_rollout(with_host, one).rounds
    ]
    rewound = dataclasses.replace(played, rounds=played.rounds[:4])
    assert with_host.play(rewound, rounds=8, actor="host") == played
    asked = with_host.play(rewound, rounds=1, actor="host", label=True, observe=False).rounds[-1]
    assert (asked.observation, asked.by, asked.mark) == (None, "agent", "do")
    assert asked.expert_action == with_host.play(rewound, actor=TOLD).rounds[-1].action


@pytest.mark.slow
def test_choices_of_a_policy_in_python_are_those_of_a_rollout_however_it_is_played(bandit):
    """Its `act` draws from a generator and changes the memory: at once, step by step, and after a rewind."""

    def predict(m, a, o):
        return np.eye(5)[m % 5] * 0.8 + 0.04, m

    def act(m, distribution, rng):
        a = rng.integers(5, size=len(m))
        return a, m + 1

    host = ud.HostAgent(lambda num_episodes: np.zeros(num_episodes, int), predict, act)
    inspection = Inspection(bandit, [host], num_rounds=8)
    start = inspection.begin(seed=5)
    at_once = inspection.play(start, rounds=8, actor="agent")
    stepped = start
    for _ in range(8):
        stepped = inspection.play(stepped, rounds=1, actor="agent")
    rewound = inspection.play(dataclasses.replace(at_once, rounds=at_once.rounds[:3]), rounds=5, actor="agent")
    assert at_once == stepped == rewound
    one = ud.rollout(bandit, host, key=jax.random.key(5), num_episodes=1, num_rounds=8)
    assert [r.action for r in at_once.rounds] == one.actions[0].tolist()
    # The prediction moves on as the memory does, which `act` alone changes; not if the expert executed.
    assert inspection.read(at_once).accounts["agent"].actions.argmax(1).tolist() == [t % 5 for t in range(9)]
    by_expert = inspection.play(start, rounds=8, actor=TOLD)
    assert inspection.read(by_expert).accounts["agent"].actions.argmax(1).tolist() == [0] * 9


def test_policy_in_python_that_errs_is_named(bandit):
    wrong = Inspection(bandit, [ud.HostAgent(sober_in_numpy, lambda m, a, o: (m[:, :3], m))], num_rounds=2)
    with pytest.raises(ValueError, match=r"predict \(round 0\) returned probabilities of shape \[1, 3\]"):
        wrong.read(wrong.begin())


def test_what_cannot_be_shown_is_refused(bandit):
    continuous = ud.InteractionProcess(ud.Categorical(probs=bandit.prior), None, bandit.task, bandit.expert, 5)
    with pytest.raises(TypeError, match=r"particles"):
        Inspection(continuous)
    with pytest.raises(TypeError, match=r"particles"):
        Inspection(ud.tasks.arm(num_targets=None))
    with pytest.raises(TypeError, match="agent"):
        Inspection(bandit, [bandit])
    with pytest.raises(ValueError, match="another process"):
        Inspection(bandit, [ud.ExactAgent(ud.tasks.prize_or_frog())])
    with pytest.raises(ValueError, match="name"):
        Inspection(bandit, {"do": ud.ExactAgent(bandit)})
    assert EXACT == ("marked", "do", "see", "told")


@pytest.mark.slow
def test_given_parts_are_read_along():
    """The grid shows the agent its cell, which is given: an episode is that of the rollout, and so is its belief."""
    grid = ud.tasks.grid(num_rounds=6)
    inspection = Inspection(grid)
    history = inspection.play(inspection.begin(seed=5), rounds=6, actor=DO)
    rolled = ud.rollout(grid, ud.ExactAgent(grid), key=jax.random.key(5), num_episodes=1)
    assert [r.action for r in history.rounds] == rolled.actions[0].tolist()
    asked = inspection.play(inspection.begin(seed=5), rounds=6, actor=DO, label=True)
    assert history_of_rollout(inspection, rolled).rounds == asked.rounds
    state = inspection.read(history)
    np.testing.assert_allclose(state.accounts[DO].belief, np.exp(ud.posterior(grid, rolled)[0]), atol=1e-5)
    np.testing.assert_allclose(state.rewards, rolled.reward[0])
    assert picture(inspection, history).startswith("data:image/png;base64,iVBOR")


def test_rollout_of_another_process_is_refused(in_bandit):
    """Ten arms have actions, or a theta, that five have not."""
    ten = ud.tasks.bandit(num_arms=10)
    rolled = ud.rollout(ten, ud.ExactAgent(ten), key=jax.random.key(0), num_episodes=1, theta=9)
    five = jax.tree.map(lambda x: x, rolled)
    with pytest.raises(ValueError, match=r"actions\[0\]|theta"):
        history_of_rollout(in_bandit, dataclasses.replace(five, actions=five.actions % 5, expert_actions=None))


def test_others_play_alone_with_the_same_luck(in_bandit, bandit):
    """Each has the episode of its own rollout under that theta, which the person's edits do not touch."""
    history = in_bandit.play(in_bandit.begin(seed=9, theta=2), rounds=7, actor=DO)
    alone = in_bandit.alone(history.edit(3, action=0))
    assert alone.keys() == {DO, SEE, TOLD, "agent"}
    assert alone[DO] == history
    rolled = ud.rollout(bandit, ud.ExactAgent(bandit, "see"), key=jax.random.key(9), num_episodes=1, theta=2)
    assert [r.action for r in alone[SEE].rounds] == rolled.actions[0, :7].tolist()
    found = compare(in_bandit, history)
    assert found[""]["rewards"] == found[DO]["rewards"]
    assert found[""]["truth"] == pytest.approx(float(in_bandit.read(history).accounts[DO].belief[-1, 2]), abs=1e-6)
    json.dumps(found, allow_nan=False)


def test_epigraph_is_one_click_away():
    """Told no twice, the deluded reading believes in the cheeseburgers that it has said; the sober one does not."""
    inspection = Inspection(ud.tasks.menu())
    history = inspection.examples()["The epigraph"]
    said = [inspection.actions.labels[r.action] for r in history.rounds]
    assert said == ["Cheeseburgers", "Tacos", "Cheeseburgers", "Tacos", "Cheeseburgers"]
    accounts = inspection.read(history).accounts
    assert accounts[MARKED].acted_belief[-1, 2] == pytest.approx(0.8, abs=0.01)
    assert accounts[DO].acted_belief[-1, 2] == pytest.approx(0.027, abs=0.001)
    assert accounts[MARKED].actions[1].argmax() == history.rounds[0].action, "after the first no"
    assert Inspection(ud.tasks.menu(num_turns=2)).examples() == {}


def test_policy_that_is_told_the_marks_reads_them(bandit):
    """By Bayes' rule in NumPy it is exact inference as marked; in a rollout it is told its own marks."""
    told = []

    def predict(belief, a, o, intervened):
        if a is not None:
            told.extend(intervened.tolist())
            chosen = np.where(np.arange(5) == a[:, None], 0.6, 0.1)
            belief = belief * np.where(intervened[:, None], 1, chosen)
        return next_in_numpy(belief, a, o)

    agent = ud.HostAgent(sober_in_numpy, predict, told_marks=True)
    inspection = Inspection(bandit, [agent], num_rounds=6)
    history = history_of([0, 3, 3, 1], ["see", "do", "see", "do"], [1, 0, 1, 0])
    for one in (history, history.flip(1), history.mark_all("see")):
        accounts = inspection.read(one).accounts
        np.testing.assert_allclose(accounts["agent"].actions, accounts[MARKED].actions, atol=1e-6)
    assert "is told the marks" in describe(inspection, notes={})["parties"][-1]["text"]
    told.clear()
    played = inspection.play(dataclasses.replace(history.truncate(2), theta=(1,)), rounds=2, actor="agent")
    assert told == [False, True, True]
    assert len(played) == 4
    told.clear()
    ud.rollout(bandit, agent, key=jax.random.key(0), num_episodes=2, num_rounds=2)
    assert told == [True] * 4
    with pytest.raises(TypeError, match="intervened"):
        ud.HostAgent(sober_in_numpy, next_in_numpy, told_marks=True)


def test_words_of_a_game_follow_its_structure_and_not_its_name():
    tables = {"prior": [0.5, 0.5], "expert": [[0.8, 0.2], [0.2, 0.8]]}
    pays = np.where(np.eye(2), 0.7, 0.2)
    arms = ud.tasks.from_tables(**tables, task=np.stack([1 - pays, pays], -1), num_rounds=3, name="levers")
    assert describe(Inspection(arms), notes={})["words"]["theta_is"] == "The best arm is {}."
    other = np.stack([1 - pays, pays], -1)[:, ::-1]
    not_arms = ud.tasks.from_tables(**tables, task=other, num_rounds=3, name="my_bandit")
    assert describe(Inspection(not_arms), notes={})["words"]["plural"] == "thetas"
    assert describe(Inspection(ud.tasks.bandit(name="levers")), notes={})["theta_names"][0] == "arm 1"
