"""Kuhn poker and Leduc hold'em against OpenSpiel, the source of the game trees: rules, opponent, best response."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pyspiel
import pytest
from open_spiel.python import policy as policies
from open_spiel.python.algorithms import exploitability

import undelude as ud
from undelude.tasks.cards import _load, states

OPENED = {"kuhn": "kuhn_poker", "leduc": "leduc_poker(suit_isomorphism=True)"}
KEY = jax.random.key(0)


def spiel_policy(game, table):
    """Convert a table of ours to a policy of OpenSpiel."""
    rows = dict(zip(_load(game)["states"], np.asarray(table), strict=True))

    def probabilities(state):
        row = rows[state.information_state_string()]
        return {a: row[a] / row[state.legal_actions()].sum() for a in state.legal_actions()}

    spiel = pyspiel.load_game(OPENED[game])
    return policies.tabular_policy_from_callable(spiel, probabilities)


@pytest.mark.parametrize("game", OPENED)
def test_opponent_is_nearly_nash(game):
    """OpenSpiel's exploitability of it is the stored one, and below .001."""
    table = _load(game)["nash"]
    have = exploitability.exploitability(pyspiel.load_game(OPENED[game]), spiel_policy(game, table))
    assert have < 0.001
    assert have == pytest.approx(_load(game)["exploitability"], abs=1e-4)


def worth(game, opponent, expert):
    """Return the value of `expert(state, seat) -> probabilities` by OpenSpiel's rules, averaged over seats."""

    def value(state, seat):
        if state.is_terminal():
            return state.returns()[seat]
        if state.is_chance_node():
            return sum(p * value(state.child(a), seat) for a, p in state.chance_outcomes())
        if state.current_player() == seat:
            distribution = expert(state, seat)
        else:
            row = opponent[state.information_state_string()]
            distribution = {a: row[a] / sum(row[b] for b in state.legal_actions()) for a in state.legal_actions()}
        return sum(p * value(state.child(a), seat) for a, p in distribution.items() if p > 0)

    root = pyspiel.load_game(OPENED[game]).new_initial_state()
    return (value(root, 0) + value(root, 1)) / 2


def card(state, seat):
    """Return the rank dealt to a seat."""
    return state.history()[seat]


@pytest.mark.parametrize("game", OPENED)
@pytest.mark.parametrize("opponent", ["nash", "random"])
def test_expert_value_matches_openspiel(game, opponent):
    """The mean payoff of our hands is the value of the same policy under OpenSpiel's rules."""
    process = getattr(ud.tasks, game)(opponent)
    names, log_pi = states(game), np.asarray(process.expert.log_probs)
    table = dict(zip(names, np.array(_load(game)["nash"]), strict=True))
    if opponent == "random":
        table = {name: np.ones(len(row)) for name, row in table.items()}

    def expert(state, seat):
        distribution = np.exp(log_pi[card(state, 1 - seat), names.index(state.information_state_string())])
        moves = collections.defaultdict(float)
        for a, p in enumerate(distribution):
            moves[a if a in state.legal_actions() else 1] += p
        return moves

    want = worth(game, table, expert)
    paid = np.asarray(ud.rollout(process, None, key=KEY, num_episodes=10_000, executor="expert").reward).sum(1)
    assert abs(paid.mean() - want) < 4 * paid.std() / np.sqrt(len(paid))


@pytest.mark.parametrize("game", OPENED)
def test_cold_expert_is_best_response(game):
    """It takes a best move at every state, by backward induction over OpenSpiel's game."""
    process = getattr(ud.tasks, game)(temperature=1e-3)
    names, log_pi = states(game), np.asarray(process.expert.log_probs)
    table = dict(zip(names, np.array(_load(game)["nash"]), strict=True))

    def best(state, seat):
        if state.is_terminal():
            return state.returns()[seat]
        if state.is_chance_node():
            return sum(p * best(state.child(a), seat) for a, p in state.chance_outcomes())
        values = {a: best(state.child(a), seat) for a in state.legal_actions()}
        if state.current_player() != seat:
            row = table[state.information_state_string()]
            return sum(row[a] * v for a, v in values.items()) / sum(row[a] for a in values)
        distribution = np.exp(log_pi[card(state, 1 - seat), names.index(state.information_state_string())])
        # All its mass is on best moves, up to ties.
        right = [a for a, v in values.items() if v > max(values.values()) - 0.02]
        right += [a for a in range(len(distribution)) if a not in values and 1 in right]
        assert distribution[right].sum() > 0.99
        return max(values.values())

    root = pyspiel.load_game(OPENED[game]).new_initial_state()
    for seat in (0, 1):
        best(root, seat)


def by_all_histories(process, own_actions):
    """Return chips per hand of an exact agent, and its nats per action from the sober one, summed over all hands."""
    P, pi = np.exp(np.asarray(process.task.log_probs, float)), np.exp(np.asarray(process.expert.log_probs, float))
    rewards, row_of = np.asarray(process.task.rewards, float), np.asarray(process.task.row_of)
    before, T = P.shape[1] - 1, process.num_rounds

    def go(state, t, moves, done, seen):
        """Sum over the hands below a history of probability `moves * done.sum()`; the two beliefs are unnormalised."""
        if t == T or state == before - 1:
            return np.zeros(2)
        sober, deluded = (belief @ pi[:, state] / belief.sum() for belief in (done, seen))
        acts = sober if own_actions == "do" else deluded
        total = np.array([0.0, moves * done.sum() * (sober * np.log(sober / acts)).sum() / T])
        for a, o in np.argwhere(P[:, state].any(0)):
            told = done * P[:, state, a, o]
            total[0] += moves * acts[a] * (told * rewards[:, state, a, o]).sum()
            total += go(row_of[o], t + 1, moves * acts[a], told, seen * pi[:, state, a] * P[:, state, a, o])
        return total

    openings = np.asarray(process.prior, float)[:, None] * P[:, before, 0]
    each = [go(row_of[o], 0, 1.0, openings[:, o], openings[:, o]) for o in np.flatnonzero(openings.any(0))]
    return np.sum(each, axis=0)


# The large game in two cases, in which each value occurs; the opponents of the small one share their programs.
@pytest.mark.parametrize(
    ("game", "opponent", "own_actions"),
    [
        pytest.param("leduc", "nash", "do", marks=pytest.mark.slow),
        pytest.param("leduc", "random", "see", marks=pytest.mark.slow),
        pytest.param("kuhn", "nash", "see", marks=pytest.mark.slow),
        pytest.param("kuhn", "random", "see", marks=pytest.mark.slow),
        pytest.param("kuhn", "random", "do", marks=pytest.mark.slow),
        ("kuhn", "nash", "do"),
    ],
)
def test_exact_players_match_enumeration(game, opponent, own_actions):
    process = getattr(ud.tasks, game)(opponent)
    chips, nats = by_all_histories(process, own_actions)
    agent = ud.ExactAgent(process, own_actions)
    paid = np.asarray(ud.rollout(process, agent, key=KEY, num_episodes=20_000).reward).sum(1)
    assert abs(paid.mean() - chips) < 4 * paid.std() / np.sqrt(len(paid))
    report = ud.certify(process, agent, key=KEY, num_episodes=4000, baselines=False)
    assert report.action_kl_do == pytest.approx(nats, abs=4 * report.action_kl_do_se + 1e-5)


def test_delusion_in_leduc():
    """It costs little in two to four moves, pays a little against a random opponent, and is nil in Kuhn poker."""
    process = {game: getattr(ud.tasks, game)() for game in OPENED}
    assert by_all_histories(process["leduc"], "see") == pytest.approx([-0.222, 0.098], abs=0.001)
    assert by_all_histories(process["leduc"], "do")[0] == pytest.approx(-0.180, abs=0.001)
    assert by_all_histories(process["kuhn"], "see")[1] < 0.001
    blind = ud.tasks.leduc("random")
    assert by_all_histories(blind, "see")[0] > by_all_histories(blind, "do")[0] + 0.05


def test_nothing_happens_after_hand():
    """The expert is uniform, no reward is paid, and the observation stays the same."""
    process = ud.tasks.leduc()
    episodes = ud.rollout(process, ud.ExactAgent(process), key=KEY, num_episodes=500)
    over = np.asarray(episodes.observations) == process.observation_spec.n - 1
    assert over[:, -1].mean() > 0.3
    assert not np.asarray(episodes.reward)[over].any()
    assert (np.diff(over.astype(int), axis=1) >= 0).all()
    distribution = process.expert.Q_A(jnp.asarray(0), jnp.asarray(len(states("leduc"))))
    np.testing.assert_allclose(distribution.probs, 1 / 3, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": 0.0}, "greater than 0"),
        ({"opponent": "mean"}, "nash"),
        ({"opponent": np.ones((3, 3)) / 3}, "shape"),
        ({"opponent": np.tile([1.0, 0.0, 0.0], (288, 1))}, "illegal move in state 0"),
    ],
)
def test_bad_opponents_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        ud.tasks.leduc(**settings)
