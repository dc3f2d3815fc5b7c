"""Auto-suggestion in simulators, compared with Bayes' rule by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import environments
import undelude as ud
import undelude.gym as ug

KEY = jax.random.key(0)
# Q(a | theta) of three experts.
EXPERTS = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])


class Reader(ud.AbstractAgent):
    """Believes the experts' table; its belief moves by its own actions alone, or not at all."""

    reads: bool
    table: jax.Array = eqx.field(converter=jnp.asarray)

    def init(self, *, num_rounds=None):
        return jnp.log(jnp.full(3, 1 / 3))

    def f_A(self, m):
        return ud.Categorical(logits=jax.nn.logsumexp(jax.nn.log_softmax(m)[:, None] + jnp.log(self.table), axis=0))

    def g_A(self, a, m, *, intervened):
        return m + jnp.log(self.table)[:, a] if self.reads else m

    def f_O(self, m):
        return ud.Categorical(logits=jnp.zeros(2))

    def g_O(self, o, m):
        return m


def world_of(env, **options):
    settings = {"num_rounds": 5, "contexts": [0, 1, 2], "reward_observed": False, "at_end": "end"} | options
    return ug.HostWorld(env, expert=lambda o, c: EXPERTS[c], **settings)


def informations():
    """`I(B; A_{t+1} | h)` by hand, of every history of actions and every pair of the first two."""
    found = {}
    for counts in np.ndindex(5, 5, 5):
        if sum(counts) < 5:
            prior = np.prod(EXPERTS ** np.array(counts), -1)
            rows = [(prior * EXPERTS[:, a]) @ EXPERTS / (prior * EXPERTS[:, a]).sum() for a in (0, 1)]
            found[counts] = np.mean([np.sum(p * np.log(2 * p / sum(rows))) for p in rows])
    return np.array(list(found.values()))


def test_deluded_agent_reads_what_it_did_and_a_sober_one_does_not():
    """By buttons that do nothing; the mean lies in the range of what Bayes' rule gives in single histories."""
    world = world_of(environments.Buttons)
    deluded = ud.auto_suggestion(world, Reader(True, EXPERTS), key=KEY, num_episodes=64)
    assert informations().min() - 1e-6 < deluded.value < informations().max() + 1e-6
    assert deluded.value > 4 * deluded.standard_error
    sober = ud.auto_suggestion(world, Reader(False, EXPERTS), key=KEY, num_episodes=64)
    assert abs(sober.value) < 1e-6


def test_first_round_is_exact():
    """In a single round there is one history: the value is that of Bayes' rule."""
    world = world_of(environments.Buttons, num_rounds=1)
    found = ud.auto_suggestion(world, Reader(True, EXPERTS), key=KEY, num_episodes=64)
    assert found.value == pytest.approx(informations()[0], abs=1e-5)
    assert found.standard_error == pytest.approx(0, abs=1e-6)


def test_same_answer_by_luck_is_no_pair_without_effect():
    """Two levers often pay alike, and no two of them have the same effect."""
    found = ud.auto_suggestion(world_of(environments.Levers), Reader(True, EXPERTS), key=KEY, num_episodes=64)
    assert found.value is None
    assert "of 64 pairs of actions that were tried" in found.why_none


def test_numbers_beyond_the_box_have_no_effect():
    """A network reads every number of an action; the simulator clips it."""
    key = jax.random.key(1)
    world = ug.HostWorld(
        environments.Lamp,
        num_rounds=4,
        num_envs=8,
        contexts=[0.2, 0.8],
        hide=[1],
        expert=lambda o, c: (np.clip(c - o[:1], -0.1, 0.1), 0.2),
        reward_observed=False,
        at_end="end",
    )
    found = ud.auto_suggestion(world, ud.GRUAgent(world, 8, key=key), key=key, num_episodes=32)
    assert 0 < found.value < np.log(2)


def test_what_cannot_be_asked_is_refused():
    world = world_of(environments.Buttons)
    bandit = ud.tasks.bandit(num_rounds=2)
    with pytest.raises(TypeError, match=r"ud\.certify compares with the exact answers"):
        ud.auto_suggestion(bandit, ud.ExactAgent(bandit), key=KEY)
    with pytest.raises(TypeError, match="HostAgent cannot be asked about a history with another action"):
        ud.auto_suggestion(world, ud.HostAgent(lambda n: None, lambda m, a, o: None), key=KEY)
