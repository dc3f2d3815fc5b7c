"""Specs as JSON, and the readers, heads and units between a network and the symbols of a process."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import arm
from undelude._agents.networks.heads import MIN_SCALE, make_head
from undelude._agents.networks.normalise import is_continuous, normalise
from undelude._agents.networks.readers import make_reader
from undelude._distributions import Block, GivenArray, Parts, Reals, Symbols, spec_of
from undelude._distributions.spec import from_json, to_json

KEY = jax.random.key(0)
DISTRIBUTIONS = {
    "symbol": ud.Categorical(probs=[0.5, 0.5]),
    "block": ud.Autoregressive(probs=np.full((3, 3), 1 / 9)),
    "number": ud.Normal(jnp.zeros(()), 1.0),
    "vector": ud.Normal(jnp.zeros(2), 1.0),
    "box": ud.Squashed(ud.Normal(jnp.zeros(2), 1.0), -2.0, 2.0),
    "given": ud.Given(jnp.zeros(3)),
    "joint": ud.Joint(
        {"b": ud.Normal(jnp.zeros(2), 1.0), "a": ud.Categorical(probs=[0.5, 0.5]), "g": ud.Given(jnp.zeros(3))}
    ),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_head_and_reader_fit_spec(name):
    """A head predicts values of its spec, with finite scores, and the reader of that spec reads them."""
    spec = spec_of(DISTRIBUTIONS[name])
    x = DISTRIBUTIONS[name].sample(KEY)
    prediction = make_head(spec, 4, key=KEY)(jnp.ones(4))
    assert jax.tree.map(jax.typeof, prediction.sample(KEY)) == jax.tree.map(jax.typeof, x)
    assert np.isfinite(prediction.log_prob(x))
    assert np.isfinite(prediction.entropy())
    assert spec.agrees(spec_of(prediction))
    assert make_reader(spec, 5, scale=1.0, key=KEY)(x).shape == (5,)
    assert is_continuous(spec) == (name not in ("symbol", "block"))


@pytest.mark.parametrize("spec", [*map(spec_of, DISTRIBUTIONS.values()), GivenArray((2,), "int32")], ids=str)
def test_spec_survives_json(spec):
    assert from_json(json.loads(json.dumps(to_json(spec))), "actions") == spec
    assert spec.num_parts == (3 if isinstance(spec, Parts) else 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "actions must have a kind"),
        ({"kind": "categorical", "n": 2}, "actions must have a kind"),
        ({"kind": ["symbols"], "n": 2}, "actions must have a kind"),
        ({"kind": "symbols", "n": 2, "m": 2}, "actions must have a kind"),
        ({"kind": "symbols", "n": 0}, "actions: n"),
        ({"kind": "symbols", "n": True}, "actions: n"),
        ({"kind": "symbols", "n": 2.0}, "actions: n"),
        ({"kind": "block", "length": 2**31, "n": 2}, "actions: length"),
        ({"kind": "reals", "shape": 2, "low": None, "high": None, "dtype": None}, "actions: shape"),
        ({"kind": "reals", "shape": [2**20, 2**20], "low": None, "high": None, "dtype": None}, "actions: shape"),
        ({"kind": "reals", "shape": [], "low": 0.0, "high": None, "dtype": None}, "actions: high"),
        ({"kind": "reals", "shape": [], "low": 1.0, "high": 1.0, "dtype": None}, "actions: low must be less"),
        ({"kind": "reals", "shape": [], "low": 0.0, "high": 1e300, "dtype": None}, "actions: low must be less"),
        ({"kind": "given", "shape": [2], "dtype": "object"}, "actions: dtype"),
        ({"kind": "parts", "parts": {}}, "actions must have a kind"),
        ({"kind": "parts", "parts": {"a": {"kind": "symbols", "n": -1}}}, "actions: a: n"),
    ],
)
def test_spec_from_bad_json(data, message):
    with pytest.raises(ValueError, match=message):
        from_json(data, "actions")


def test_values_outside_a_box_are_refused():
    box = Reals((2,), low=-1.0, high=1.0)
    box.check("actions", np.array([[-1.0, 1.0], [0.0, 1.0000001]]))
    for values in ([[0.0, 1.1]], [[-7.0, 0.0]], [[np.nan, 0.0]]):
        with pytest.raises(ValueError, match="actions"):
            box.check("actions", np.array(values))


def test_boxes_agree_if_equal():
    box = Reals((2,), low=-1.0, high=1.0)
    assert box.agrees(box)
    assert box.agrees(Reals((2,)))
    assert not box.agrees(Reals((2,), low=0.0, high=5.0))
    assert not Reals((2,)).agrees(box)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_no_head_for_counts(dtype):
    """A mixture of normals would give them densities, where the truth has probabilities."""
    with pytest.raises(TypeError, match="no head"):
        ud.LSTMAgent((Symbols(2), Reals((3,), dtype=dtype)), 2, key=KEY)


def test_unsupported_specs_are_named():
    """An unknown number of symbols, and parts without names."""

    class Strange(ud.AbstractDistribution):
        def sample(self, key):
            return jnp.zeros((), jnp.int32)

        def log_prob(self, x):
            return jnp.zeros(())

        def entropy(self):
            return jnp.zeros(())

    pair = spec_of(ud.Joint([DISTRIBUTIONS["symbol"], DISTRIBUTIONS["symbol"]]))
    for spec in (spec_of(Strange()), pair, spec_of(ud.Joint({"a": ud.Joint({"b": Strange()})}))):
        with pytest.raises(TypeError, match="no head for"):
            ud.LSTMAgent((Symbols(2), spec), 2, key=KEY)
        with pytest.raises(TypeError, match="cannot be written"):
            to_json(spec)
    with pytest.raises(TypeError, match="no head for symbols"):
        make_head(spec_of(Strange()), 4, key=KEY)
    with pytest.raises(TypeError, match="process"):
        ud.LSTMAgent((2, 2), 2, key=KEY)


def test_predicted_scale_has_a_floor():
    """The density stays finite at the mean, even if the head predicts no spread at all."""
    head = make_head(spec_of(DISTRIBUTIONS["vector"]), 4, key=KEY)
    narrow = eqx.tree_at(lambda h: h.bias, head, head.bias.at[-8:].set(-1e9))
    distribution = narrow(jnp.zeros(4))
    assert np.isfinite(distribution.log_prob(distribution.sample(KEY)))
    assert float(distribution.components.scale.min()) == pytest.approx(MIN_SCALE)


def test_block_reader_sees_order():
    """(0, 1) is not (1, 0)."""
    read = make_reader(Block(length=2, n=3), 4, scale=1.0, key=KEY)
    vectors = [read(jnp.array(x)) for x in ((0, 1), (1, 0), (0, 0), (1, 1))]
    for i in range(4):
        for j in range(i):
            assert not np.allclose(vectors[i], vectors[j])


def test_units_do_not_matter():
    """A normalised agent makes the same predictions from the same values in other units."""
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
    def predict(agent, episodes):
        P_A, P_O = agent.predict(jax.tree.map(lambda x: x[0], episodes))
        return P_A.components.loc, P_A.components.scale, P_O.parts["cue"].log_probs

    loc, scale, cue = predict(normalise(agent, episodes), episodes)
    other_loc, other_scale, other_cue = predict(normalise(agent, other), other)
    np.testing.assert_allclose(other_loc, 5 + 100 * loc, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(other_scale, 100 * scale, rtol=1e-3)
    np.testing.assert_allclose(other_cue, cue, rtol=1e-3, atol=1e-4)


def test_units_are_kept(tmp_path, no_type_checks):
    """Neither teaching nor saving changes them."""
    process = arm(num_rounds=2)
    episodes = ud.rollout(process, None, key=KEY, num_episodes=8, executor="expert")
    agent = normalise(ud.LinearRecurrentAgent(process, 4, key=KEY), episodes)
    run = ud.teach(process, agent, ud.Counterfactual(), key=KEY, steps=2, batch_size=2)
    ud.save(run.agent, tmp_path)
    loaded = ud.load(tmp_path)
    for part in (lambda a: a.interface.read_do, lambda a: a.interface.head_A):
        np.testing.assert_array_equal(part(loaded).mean, part(agent).mean)
        np.testing.assert_array_equal(part(loaded).scale, part(agent).scale)
        assert not np.allclose(part(loaded).weight, part(agent).weight)
    assert float(agent.interface.read_do.mean[0]) == pytest.approx(float(episodes.actions.mean()), abs=1e-6)
    with pytest.raises(TypeError, match="no inputs to normalise"):
        normalise(ud.SequencePredictor(ud.tasks.bandit(), key=KEY), episodes)
