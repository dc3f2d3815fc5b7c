"""What comes after a history: by the tables of the process, and for agents as in `predict` of a longer episode."""

import jax
import numpy as np
import pytest

import undelude as ud
from undelude._agents.base import predict as predict_episode
from undelude._tree import index

FROG = ud.tasks.prize_or_frog(num_rounds=2)
KEY = jax.random.key(0)


def by_tables(process, actions, observations, mark):
    """Return P(A | history) and P(O | history, a), [A] and [A, O], by Bayes' rule in NumPy."""
    expert, task = (np.exp(np.asarray(x.log_probs, float)) for x in (process.expert, process.task))
    belief = np.asarray(process.prior, float)
    for a, o in zip(actions, observations, strict=True):
        belief = belief * (expert[:, a] if mark == "see" else 1) * task[:, a, o]
        belief = belief / belief.sum()
    weight = belief[:, None] * (expert if mark == "see" else 1)
    weight = weight / weight.sum(0)
    return belief @ expert, np.einsum("ka,kao->ao", np.broadcast_to(weight, expert.shape), task)


@pytest.mark.parametrize("mark", ["do", "see"])
@pytest.mark.parametrize("history", [([], []), ([2], [1]), ([2, 2, 0], [1, 0, 1])], ids=len)
def test_exact_predictions_are_those_of_the_tables(history, mark):
    bandit = ud.tasks.bandit(num_rounds=6)
    actions, observations = history
    episode = ud.Episodes.of(bandit, actions=actions, observations=observations) if actions else None
    found = ud.predict(bandit, episode, own_actions=mark)
    P_A, P_O = by_tables(bandit, actions, observations, mark)
    np.testing.assert_allclose(found.action.probs, P_A, atol=1e-6)
    np.testing.assert_allclose(found.observation.probs, P_O, atol=1e-6)
    one = ud.predict(bandit, episode, own_actions=mark, action=3)
    np.testing.assert_allclose(one.observation.probs, P_O[3], atol=1e-6)


def test_taught_agent_predicts_as_in_a_longer_episode():
    """The rounds that a mask leaves out are not read."""
    bandit = ud.tasks.bandit(num_rounds=5)
    agent = ud.LSTMAgent(bandit, 4, key=KEY)
    episode = index(ud.rollout(bandit, agent, key=KEY, num_episodes=1), 0)
    P_A, P_O = predict_episode(agent, episode)
    mask = np.arange(5) < 3
    short = ud.Episodes.of(bandit, actions=episode.actions, observations=episode.observations, mask=mask)
    found = ud.predict(bandit, short, agent=agent, action=episode.actions[3])
    np.testing.assert_allclose(found.action.probs, P_A.probs[3], atol=1e-6)
    np.testing.assert_allclose(found.observation.probs, P_O.probs[3], atol=1e-6)


def test_wrong_questions_are_named():
    bandit = ud.tasks.bandit(num_rounds=2)
    history = ud.Episodes.of(bandit, actions=[2], observations=[1])
    failure = ud.Episodes.of(FROG, actions=[0], observations=[0])  # The expert never fails.
    batch = ud.Episodes.of(bandit, actions=[[2]], observations=[[1]])
    agent = ud.LSTMAgent(bandit, 4, key=KEY).reading_as("do")
    for ask, message in (
        (lambda: ud.predict(bandit, batch), "one history, not a batch"),
        (lambda: ud.predict(bandit, history, action=7), "must be integers from 0 to 4"),
        (lambda: ud.predict(ud.tasks.bandit(num_arms=2), history), "from 0 to 1"),
        (lambda: ud.predict(FROG, failure, own_actions="see"), "impossible evidence"),
        (lambda: ud.predict(bandit, opening=1), "does not open with an observation"),
        (lambda: ud.predict(ud.tasks.kuhn()), "opens with an observation: say opening="),
        (lambda: ud.predict(ud.tasks.bandit(num_arms=2), agent=agent), "made for another process"),
        (lambda: ud.predict(ud.tasks.arm()), "say by action= after which one to"),
        (lambda: ud.predict(bandit, history, own_actions="maybe"), 'must be "do" or "see"'),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
    with pytest.raises(TypeError, match=r"not HostAgent: ask a policy in Python by ud\.Policy"):
        ud.predict(bandit, history, agent=ud.HostAgent(lambda n: n, lambda m, a, o: (m, m)))
