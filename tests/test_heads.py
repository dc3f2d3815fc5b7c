"""Readers, heads and units: what stands between a network and the symbols of a process."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm
from undelude._agents.networks import heads
from undelude._agents.networks.normalise import normalise
from undelude._agents.networks.readers import make_reader
from undelude._distributions.spec import spec_of

KEY = jax.random.key(0)
LAWS = {
    "symbol": ud.Categorical(probs=[0.5, 0.5]),
    "block": ud.Autoregressive(probs=np.full((3, 3), 1 / 9)),
    "number": ud.Normal(jnp.zeros(()), 1.0),
    "vector": ud.Normal(jnp.zeros(2), 1.0),
    "box": ud.Squashed(ud.Normal(jnp.zeros(2), 1.0), -2.0, 2.0),
    "given": ud.Given(jnp.zeros(3)),
    "joint": ud.Joint({"b": ud.Normal(jnp.zeros(2), 1.0), "a": ud.Categorical(probs=[0.5, 0.5])}),
}


@pytest.mark.parametrize("name", LAWS)
def test_what_is_predicted_can_be_read(name):
    """Each kind of head gives values that its reader takes, and finite scores; JSON describes both."""
    distribution = LAWS[name]
    spec = heads.describe(spec_of(distribution))
    assert heads.thaw(heads.freeze(spec)) == spec
    x = distribution.sample(KEY)
    said = heads.make_head(spec, 4, key=KEY)(jnp.ones(4))
    assert jax.tree.map(jnp.shape, said.sample(KEY)) == jax.tree.map(jnp.shape, x)
    assert np.isfinite(said.log_prob(x))
    assert np.isfinite(said.entropy())
    assert make_reader(spec, 5, scale=1.0, key=KEY)(x).shape == (5,)
    assert heads.describe(spec_of(said)) == spec


def test_a_deterministic_teacher_gives_a_finite_loss():
    """Whatever the net says, the scale keeps its floor: at the value itself the density is finite."""
    head = heads.make_head(heads.describe(spec_of(LAWS["vector"])), 4, key=KEY)
    narrow = eqx.tree_at(lambda h: h.bias, head, head.bias.at[-8:].set(-1e9))
    distribution = narrow(jnp.zeros(4))
    assert np.isfinite(distribution.log_prob(distribution.sample(KEY)))
    assert float(distribution.components.scale.min()) == pytest.approx(heads.MIN_SCALE)


def test_every_symbol_of_a_block_is_read():
    """And its place: (0, 1) is not (1, 0)."""
    read = make_reader(heads.describe(spec_of(LAWS["block"])), 4, scale=1.0, key=KEY)
    vectors = [read(jnp.array(x)) for x in ((0, 1), (1, 0), (0, 0), (1, 1))]
    for i in range(4):
        for j in range(i):
            assert not np.allclose(vectors[i], vectors[j])


def test_units_do_not_matter():
    """A normalised agent that is shown all values in other units says the same, in those units."""
    process = arm(num_rounds=2)
    agent = ud.LinearRecurrentAgent(process, 4, key=KEY)
    episodes = ud.rollout(process, None, key=KEY, num_episodes=8, executor="expert")
    cue, position = episodes.observations["cue"], episodes.observations["position"]
    other = eqx.tree_at(
        lambda e: (e.actions, e.observations),
        episodes,
        (5 + 100 * episodes.actions, {"cue": cue, "position": 100 * position}),
    )

    @eqx.filter_jit
    def say(agent, episodes):
        P_A, P_O = agent.predict(jax.tree.map(lambda x: x[0], episodes))
        return P_A.components.loc, P_A.components.scale, P_O.parts["cue"].log_probs

    loc, scale, cue = say(normalise(agent, episodes), episodes)
    other_loc, other_scale, other_cue = say(normalise(agent, other), other)
    np.testing.assert_allclose(other_loc, 5 + 100 * loc, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(other_scale, 100 * scale, rtol=1e-3)
    np.testing.assert_allclose(other_cue, cue, rtol=1e-3, atol=1e-4)


def test_units_are_kept(tmp_path, no_type_checks):
    """By teaching and by saving."""
    process = arm(num_rounds=2)
    episodes = ud.rollout(process, None, key=KEY, num_episodes=8, executor="expert")
    agent = normalise(ud.LinearRecurrentAgent(process, 4, key=KEY), episodes)
    run = ud.teach(process, agent, ud.Counterfactual(), key=KEY, steps=2, batch_size=2)
    ud.save(run.agent, tmp_path)
    again = ud.load(tmp_path)
    for part in (lambda a: a.interface.read_do, lambda a: a.interface.head_A):
        np.testing.assert_array_equal(part(again).mean, part(agent).mean)
        np.testing.assert_array_equal(part(again).scale, part(agent).scale)
        assert not np.allclose(part(again).weight, part(agent).weight)
    assert float(agent.interface.read_do.mean[0]) == pytest.approx(float(episodes.actions.mean()), abs=1e-6)
    with pytest.raises(TypeError, match="no inputs to normalise"):
        normalise(ud.SequencePredictor(ud.tasks.bandit(), key=KEY), episodes)
