"""Distributions: samples against probabilities, scores and divergences against closed forms."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude._agents.networks.heads import NeuralConditionals
from undelude._distributions import cross_entropy, divergences, estimate_entropy, mixture

NUM_SAMPLES = 20_000
# Standard errors that a frequency may be off: one number in 2 million is, by chance.
SIGMAS = 5


compiled_divergences = eqx.filter_jit(divergences)
compiled_cross_entropy = eqx.filter_jit(cross_entropy)


def draw(distribution: ud.AbstractDistribution) -> Any:
    """Return `NUM_SAMPLES` samples, in NumPy."""
    keys = jax.random.split(jax.random.key(0), NUM_SAMPLES)
    return jax.tree.map(
        np.asarray, eqx.filter_jit(lambda distribution: jax.vmap(distribution.sample)(keys))(distribution)
    )


def assert_mean(samples: Any, mean: Any, variance: Any):
    """Assert that the mean of the samples is within `SIGMAS` standard errors, computed from the true variance."""
    error = np.sqrt(np.asarray(variance) / len(samples))
    np.testing.assert_array_less(np.abs(np.mean(np.asarray(samples, float), 0) - mean), SIGMAS * error + 1e-12)


def assert_frequencies(samples: Any, probs: Any):
    probs = np.asarray(probs, float)
    counts = np.asarray(samples)[:, None] == np.arange(len(probs))
    assert_mean(counts, probs, probs * (1 - probs))


# ------------------------------------------------------------------------------------------------------- Categorical


@pytest.mark.parametrize("probs", [[0.5, 0.3, 0.2], [0.01, 0.98, 0.01], [0.0, 0.7, 0.0, 0.3, 0.0], [1.0]])
def test_categorical(probs: list[float]):
    distribution = ud.Categorical(probs=probs)
    assert distribution.num_categories == len(probs)
    assert_frequencies(draw(distribution), probs)
    np.testing.assert_allclose([np.exp(distribution.log_prob(x)) for x in range(len(probs))], probs, atol=1e-6)
    entropy = -sum(p * math.log(p) for p in probs if p > 0)
    np.testing.assert_allclose(distribution.entropy(), entropy, atol=1e-6)


def test_categorical_logits_are_normalised():
    logits = np.array([2.0, -1.0, 0.5, -np.inf])
    distribution = ud.Categorical(logits=logits)
    probs = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(distribution.probs, probs, atol=1e-6)
    np.testing.assert_allclose(ud.Categorical(log_probs=distribution.log_probs).probs, probs, atol=1e-6)
    np.testing.assert_allclose(ud.Categorical(logits=logits + 1000).probs, probs, atol=1e-6)


@pytest.mark.parametrize(("seed", "key"), [(20, 543837), (1, 6288612)])
def test_massless_symbol_is_never_drawn(seed: int, key: int):
    """Not even if rounding in a parallel cumulative sum gives it an interval.

    The keys were found by search: a plain inversion of the cumulative sum (counting the entries below u, or finding the
    first above it) draws a symbol of probability 0 with them on a CPU.
    """
    rng = np.random.default_rng(seed)
    distribution = ud.Categorical(logits=np.where(rng.random(512) < 0.5, -np.inf, rng.normal(size=512) * 2))
    assert distribution.log_prob(distribution.sample(jax.random.key(key))) > -jnp.inf
    assert (distribution.log_probs[draw(distribution)] > -jnp.inf).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ud.Categorical(probs=[0.5, 0.6]), r"does not sum to one \(sum 1.1\)"),
        (lambda: ud.Categorical(probs=[1.5, -0.5]), "negative entry"),
        (lambda: ud.Categorical(probs=[math.nan, 1.0]), "not finite"),
        (lambda: ud.Categorical(probs=[0.0, 0.0]), "no mass on any value"),
        (lambda: ud.Categorical(probs=0.5), "a single number"),
        (lambda: ud.Categorical(logits=[-math.inf, -math.inf]), "no symbol any mass"),
        (lambda: ud.Categorical(logits=[math.nan, 0.0]), "holds nan"),
        (lambda: ud.Categorical(logits=[math.inf, 0.0]), r"\+inf"),
        (lambda: ud.Categorical(logits=[0.0], probs=[1.0]), "exactly one of"),
        (lambda: ud.Mixture(ud.Normal([0.0], 1.0)), "either weights or log_weights"),
        (lambda: ud.Mixture(ud.Normal([0.0], 1.0), weights=[0.5]), r"Mixture\(weights=\).*does not sum to one"),
        (lambda: ud.Categorical(), "exactly one of"),
        (lambda: ud.Normal(0.0, 0.0), "positive and finite"),
        (lambda: ud.Normal([0.0, 1.0], [1.0, -1.0]), "positive and finite"),
        (lambda: ud.Normal(0.0, math.inf), "positive and finite"),
        (lambda: ud.Normal(math.nan, 1.0), r"Normal\(loc=\) must be finite"),
        (lambda: ud.Normal(jnp.zeros(2), jnp.ones(3)), r"scale has shape \[3\], .* that of loc, \[2\]"),
    ],
)
def test_bad_numbers_are_refused(make: Callable[[], Any], message: str):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ud.Categorical([0.5, 0.5]), r"name the argument, Categorical\(probs=\.\.\.\)"),
        (lambda: ud.Autoregressive([[0.5, 0.0], [0.0, 0.5]]), r"Autoregressive\(probs=\.\.\.\)"),
        (lambda: ud.Given(0.0, 1.0), "positional"),
        (lambda: ud.Mixture(jnp.zeros(1), ud.Normal([0.0], 1.0)), "positional"),
    ],
)
def test_ambiguous_positions_are_refused(make: Callable[[], Any], message: str, no_type_checks: None):
    """Probabilities and logits, weights and log-weights look alike."""
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ud.Joint([ud.Normal(0.0, 1.0), jnp.zeros(2)]), r"Joint: part 1 is an array, .* ud\.Given"),
        (lambda: ud.Joint({"a": {"b": 0.5}}), r"Joint: part a\.b is 0\.5, not a distribution"),
        (lambda: ud.Joint({"a": ud.Normal}), r"the class Normal, .* ud\.Normal\(\.\.\.\)"),
        (lambda: ud.Joint({}), "at least one distribution"),
        (lambda: ud.Mixture([ud.Normal(0.0, 1.0)] * 2, weights=[0.5, 0.5]), "components is a list"),
        (lambda: ud.Squashed(jnp.zeros(2)), "base is an array"),
    ],
)
def test_parts_must_be_distributions(make: Callable[[], Any], message: str, no_type_checks: None):
    with pytest.raises(TypeError, match=message):
        make()


def test_distributions_of_constants_under_jit():
    """Constants are concrete while tracing, so that they are checked there too."""
    zeros, ones = jnp.zeros(3), jnp.ones(2)

    @jax.jit
    def score(x: Any) -> Any:
        distributions = ud.Categorical(logits=zeros), ud.Categorical(probs=[0.5, 0.25, 0.25]), ud.Normal(ones, ones)
        return distributions[0].log_prob(x) + distributions[1].log_prob(x) + distributions[2].log_prob(ones)

    np.testing.assert_allclose(score(0), math.log(1 / 3) + math.log(0.5) - math.log(2 * math.pi), rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------ Normal


def test_normal():
    loc, scale = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    distribution = ud.Normal(loc, scale)
    samples = draw(distribution)
    assert_mean(samples, loc, scale**2)
    assert_mean((samples - loc) ** 2, scale**2, 2 * scale**4)
    x = np.array([1.3, 4.0])
    density = np.exp(-0.5 * ((x - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(distribution.log_prob(jnp.asarray(x)), np.log(density).sum(), rtol=1e-6)
    # The entropy as an integral of -p log p, one component at a time.
    for mu, sigma in zip(loc, scale, strict=True):
        one = ud.Normal(mu, sigma)
        grid = jnp.linspace(mu - 10 * sigma, mu + 10 * sigma, 4001)
        log_p = np.asarray(jax.vmap(one.log_prob)(grid), float)
        np.testing.assert_allclose(one.entropy(), np.trapezoid(-np.exp(log_p) * log_p, grid), rtol=1e-4)
    np.testing.assert_allclose(distribution.entropy(), np.log(scale * math.sqrt(2 * math.pi * math.e)).sum(), rtol=1e-6)


def test_normal_samples_are_reparameterised():
    """The gradient of a sample is 1 in loc and epsilon in scale, so that tests notice a missing stop-gradient."""
    key = jax.random.key(0)
    d_loc, d_scale = jax.grad(lambda loc, scale: ud.Normal(loc, scale).sample(key), (0, 1))(1.0, 2.0)
    np.testing.assert_allclose(d_loc, 1)
    np.testing.assert_allclose(1 + 2 * d_scale, ud.Normal(1.0, 2.0).sample(key), rtol=1e-6)


# -------------------------------------------------------------------------------------------- Given, Joint, Mixture


def test_given_is_not_scored():
    distribution = ud.Given(jnp.array([3.0, 4.0]))
    np.testing.assert_array_equal(distribution.sample(jax.random.key(0)), [3, 4])
    assert (
        distribution.log_prob(jnp.array([3.0, 4.0]))
        == distribution.log_prob(jnp.array([9.0, 9.0]))
        == distribution.entropy()
        == 0
    )


def test_given_up_to_is_uniform():
    distribution = ud.Given(
        {"eps": jnp.array([0.0, 2.0]), "mass": 1.0}, up_to={"eps": jnp.array([1.0, 2.0]), "mass": 4.0}
    )
    samples = draw(distribution)
    uniform, fixed = samples["eps"].T
    for x, low, high in ((uniform, 0.0, 1.0), (samples["mass"], 1.0, 4.0)):
        assert ((low <= x) & (x <= high)).all()
        assert_mean(x, (low + high) / 2, (high - low) ** 2 / 12)
        assert_mean((x - low) ** 2, (high - low) ** 2 / 3, (high - low) ** 4 * (1 / 5 - 1 / 9))
    assert (fixed == 2).all()
    assert_mean((uniform - 0.5) * (samples["mass"] - 2.5), 0, 1 / 12 * 9 / 12)
    assert distribution.log_prob(distribution.value) == distribution.entropy() == 0


@pytest.mark.parametrize(
    ("value", "up_to", "message"),
    [
        (0.0, jnp.ones(3), "alike in structure|same structure"),
        ([0.0], {"a": 1.0}, "same structure"),
        (0, 5, "must be of floats, not of int"),
        (jnp.array([0.0, 2.0]), jnp.array([1.0, 1.0]), "up_to must not be less than value"),
    ],
)
def test_given_bad_bounds_are_refused(value: Any, up_to: Any, message: str):
    with pytest.raises(ValueError, match=message):
        ud.Given(value, up_to=up_to)


def test_joint_adds_its_parts():
    parts = {"symbol": ud.Categorical(probs=[0.2, 0.8]), "size": ud.Normal(1.0, 2.0), "clock": ud.Given(jnp.array(7.0))}
    distribution = ud.Joint(parts)
    samples = draw(distribution)
    assert_frequencies(samples["symbol"], [0.2, 0.8])
    assert_mean(samples["size"], 1, 4)
    assert (samples["clock"] == 7).all()
    # Independent: no correlation between the parts.
    product = (samples["symbol"] - 0.8) * (samples["size"] - 1.0)
    assert_mean(product, 0, 0.16 * 4)
    x = {"symbol": jnp.array(1), "size": jnp.array(0.5), "clock": jnp.array(7.0)}
    np.testing.assert_allclose(
        distribution.log_prob(x), math.log(0.8) + parts["size"].log_prob(jnp.array(0.5)), rtol=1e-6
    )
    np.testing.assert_allclose(distribution.entropy(), parts["symbol"].entropy() + parts["size"].entropy(), rtol=1e-6)


def test_mixture_of_normals():
    weights, loc, scale = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 1.5])
    distribution = mixture(jnp.log(jnp.asarray(weights)), jax.vmap(ud.Normal)(jnp.asarray(loc), jnp.asarray(scale)))
    assert isinstance(distribution, ud.Mixture)
    mean = weights @ loc
    variance = weights @ (scale**2 + loc**2) - mean**2
    samples = draw(distribution)
    assert_mean(samples, mean, variance)
    grid = np.linspace(-12, 12, 4001)
    density = (weights * np.exp(-0.5 * ((grid[:, None] - loc) / scale) ** 2) / (scale * math.sqrt(2 * math.pi))).sum(1)
    log_p = jax.vmap(distribution.log_prob)(jnp.asarray(grid, jnp.float32))
    np.testing.assert_allclose(np.exp(log_p), density, atol=1e-6)
    left = np.trapezoid(density[grid <= -1], grid[grid <= -1])
    assert_mean(samples <= -1, left, left * (1 - left))
    # No closed form: 256 draws of each component, whose -log p has a standard deviation of about 1 nat here.
    entropy = np.trapezoid(-density * np.log(density), grid)
    np.testing.assert_allclose(distribution.entropy(), entropy, atol=SIGMAS / math.sqrt(512))


def test_mixture_of_categoricals_is_a_categorical():
    weights, probs = np.array([0.25, 0.75]), np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]])
    components = ud.Categorical(log_probs=jnp.log(jnp.asarray(probs)))
    distribution = mixture(jnp.log(jnp.asarray(weights)), components)
    assert isinstance(distribution, ud.Categorical)
    np.testing.assert_allclose(distribution.probs, weights @ probs, atol=1e-6)
    # The general mixture gives the same probabilities.
    general = ud.Mixture(components, weights=weights)
    np.testing.assert_allclose([general.log_prob(x) for x in range(3)], distribution.log_probs, atol=1e-6)
    assert_frequencies(draw(general), weights @ probs)


def test_mixture_entropy_ignores_zero_weights():
    certain = ud.Categorical(log_probs=jnp.log(jnp.eye(2)))
    assert ud.Mixture(ud.Joint((certain,)), weights=[1.0, 0.0]).entropy() == 0


# ------------------------------------------------------------------------------------------------------- divergences


def test_divergences_between_categoricals_are_exact():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.25, 0.5, 0.25])
    kl, tv = divergences(ud.Categorical(probs=p), ud.Categorical(probs=q), key=jax.random.key(0))
    np.testing.assert_allclose(kl, 0.5 * math.log(2), rtol=1e-6)
    np.testing.assert_allclose(tv, 0.25, rtol=1e-6)
    # In the other direction, q shows a symbol to which p gives no mass.
    kl, tv = divergences(ud.Categorical(probs=q), ud.Categorical(probs=p), key=jax.random.key(0))
    assert kl == jnp.inf
    np.testing.assert_allclose(tv, 0.25, rtol=1e-6)
    kl, tv = divergences(ud.Categorical(probs=p), ud.Categorical(probs=p), key=jax.random.key(0))
    assert kl == tv == 0


def test_underflow_makes_no_nan():
    """exp(-200) is 0 in float32; with a zero of q it must not give 0 * inf."""
    p, q = ud.Categorical(log_probs=jnp.array([0.0, -200.0])), ud.Categorical(log_probs=jnp.array([0.0, -jnp.inf]))
    assert divergences(p, q, key=jax.random.key(0)) == (0, 0)
    assert cross_entropy(p, q) == 0
    assert p.entropy() == 0


def test_divergences_by_sampling():
    """KL and total variation of two normals, and of two mixtures, against integrals."""
    p, q = ud.Normal(0.0, 1.0), ud.Normal(1.0, 2.0)
    grid = np.linspace(-12, 12, 8001)
    f, g = (np.exp(-0.5 * ((grid - m) / s) ** 2) / (s * math.sqrt(2 * math.pi)) for m, s in ((0, 1), (1, 2)))
    exact_kl, exact_tv = np.trapezoid(f * np.log(f / g), grid), np.trapezoid(np.abs(f - g), grid) / 2
    n = 20_000
    kl, tv = compiled_divergences(p, q, key=jax.random.key(1), num_samples=n)
    spread = math.sqrt(np.trapezoid(f * (np.log(f / g) - exact_kl) ** 2, grid) / n)
    assert abs(kl - exact_kl) < SIGMAS * spread
    assert abs(tv - exact_tv) < SIGMAS * 0.5 / math.sqrt(n)

    # A mixture of one component is that component: the ratio is 0 in every sample.
    single = ud.Mixture(jax.vmap(ud.Normal)(jnp.zeros(1), jnp.ones(1)), weights=[1.0])
    kl, tv = compiled_divergences(single, ud.Normal(0.0, 1.0), key=jax.random.key(2))
    np.testing.assert_allclose([kl, tv], 0, atol=1e-6)


def test_divergences_of_joints_add_up():
    """KL is the sum over independent parts, and given parts add nothing; checked over all four outcomes in NumPy."""
    given, (a, b), (c, d) = ud.Given(jnp.zeros(2)), ([0.7, 0.3], [0.5, 0.5]), ([0.1, 0.9], [0.4, 0.6])
    p, q = (ud.Joint({"x": ud.Categorical(probs=x), "view": given}) for x in (a, b))
    kl, tv = compiled_divergences(p, q, key=jax.random.key(0))
    np.testing.assert_allclose([kl, tv], [0.7 * math.log(1.4) + 0.3 * math.log(0.6), 0.2], rtol=1e-5)

    p, q = (ud.Joint([ud.Categorical(probs=x), given, ud.Categorical(probs=y)]) for x, y in ((a, c), (b, d)))
    kl, tv = compiled_divergences(p, q, key=jax.random.key(1), num_samples=100_000)
    P, Q = np.outer(a, c), np.outer(b, d)
    np.testing.assert_allclose(kl, (P * np.log(P / Q)).sum(), rtol=1e-5)
    np.testing.assert_allclose(tv, np.abs(P - Q).sum() / 2, atol=0.01)

    never = ud.Joint({"x": ud.Categorical(probs=[1.0, 0.0]), "view": given})
    often = ud.Joint({"x": ud.Categorical(probs=[1 - 1e-6, 1e-6]), "view": given})
    assert compiled_divergences(often, never, key=jax.random.key(2))[0] == jnp.inf


def test_mixture_of_joints_with_one_scored_part():
    """It is such a Joint again, with closed forms; given parts come from the likeliest component."""
    parts = {"x": ud.Categorical(probs=[[0.9, 0.1], [0.2, 0.8]]), "view": ud.Given(jnp.array([1.0, jnp.nan]))}
    distribution = mixture(jnp.log(jnp.array([1.0, 0.0])), ud.Joint(parts))
    assert distribution.sample(jax.random.key(0))["view"] == 1
    distribution = mixture(jnp.log(jnp.array([0.6, 0.4])), ud.Joint(parts))
    np.testing.assert_allclose(distribution.parts["x"].probs, [0.62, 0.38], rtol=1e-5)


def test_sampled_divergences_can_be_infinite():
    p, q = (ud.Joint((ud.Categorical(probs=x),)) for x in ([0.5, 0.5], [1.0, 0.0]))
    kl, tv = compiled_divergences(p, q, key=jax.random.key(0), num_samples=256)
    assert kl == jnp.inf
    assert abs(tv - 0.5) < SIGMAS * 0.5 / 16


def test_cross_entropy_has_closed_forms():
    p, q = ud.Categorical(probs=[0.25, 0.75]), ud.Categorical(probs=[0.5, 0.5])
    np.testing.assert_allclose(cross_entropy(p, q), math.log(2), rtol=1e-6)
    n, m = ud.Normal(0.0, 1.0), ud.Normal(1.0, 2.0)
    by_hand = math.log(2 * math.sqrt(2 * math.pi)) + (1 + 1) / 8
    np.testing.assert_allclose(cross_entropy(n, m), by_hand, rtol=1e-6)
    g = ud.Given(jnp.array(0.0))
    joint = cross_entropy(ud.Joint([p, n, g]), ud.Joint([q, m, g]))
    np.testing.assert_allclose(joint, math.log(2) + by_hand, rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(n, n), n.entropy(), rtol=1e-6)
    with pytest.raises(TypeError, match=r'cross-entropy of Normal under Categorical; .*target="sample"'):
        cross_entropy(p, n)


@pytest.mark.parametrize(
    "batch",
    [
        lambda: ud.Categorical(log_probs=jnp.log(jnp.array([[0.1, 0.9], [0.7, 0.3]]))),
        lambda: jax.vmap(ud.Normal)(jnp.array([[0.0, 1.0], [2.0, 3.0]]), jnp.ones((2, 2))),
        lambda: ud.Joint({"a": ud.Categorical(log_probs=jnp.log(jnp.full((2, 3), 1 / 3)))}),
        lambda: ud.Given(jnp.arange(2.0)),
    ],
)
def test_batch_has_leading_axes(batch: Callable[[], ud.AbstractDistribution]):
    """Each of the three methods under vmap gives, in entry i, the result of distribution i."""
    distribution = batch()
    keys = jax.random.split(jax.random.key(0), 2)
    samples = jax.vmap(lambda d, key: d.sample(key))(distribution, keys)
    scores = jax.vmap(lambda d, x: d.log_prob(x))(distribution, samples)
    entropies = jax.vmap(lambda d: d.entropy())(distribution)
    for i in range(2):
        one, x = jax.tree.map(lambda leaf, i=i: leaf[i], (distribution, samples))
        assert jax.tree.all(jax.tree.map(jnp.array_equal, one.sample(keys[i]), x))
        np.testing.assert_allclose(one.log_prob(x), scores[i], rtol=1e-6)
        np.testing.assert_allclose(one.entropy(), entropies[i], rtol=1e-6)


# ------------------------------------------------------------------------------------------------------------- blocks


def neural(length, n, width=3):
    keys = jax.random.split(jax.random.key(5), 4)
    shapes = (width,), (length, n, width), (length, width, n), (length, n)
    return NeuralConditionals(*(jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)))


JOINT = np.array([[0.1, 0.0, 0.2], [0.05, 0.25, 0.0], [0.0, 0.3, 0.1]])


def test_block_follows_table():
    distribution = ud.Autoregressive(probs=JOINT)
    blocks = np.array(list(np.ndindex(3, 3)))
    np.testing.assert_allclose([np.exp(distribution.log_prob(jnp.array(x))) for x in blocks], JOINT.ravel(), atol=1e-6)
    assert_frequencies(draw(distribution) @ np.array([3, 1]), JOINT.ravel())
    np.testing.assert_allclose(distribution.entropy(), -sum(p * math.log(p) for p in JOINT.ravel() if p), atol=1e-6)


def test_massless_prefix_stays_massless():
    distribution = ud.Autoregressive(probs=[[0.0, 0.0], [0.5, 0.5]])
    assert [float(distribution.log_prob(jnp.array(x))) for x in ((0, 0), (0, 1))] == [-math.inf] * 2


def test_neural_conditionals_formula():
    """P(x_i | x_<i) = softmax(b_i + V_i silu(h + sum_j W_j[x_j])), in NumPy; the sum over all blocks is one."""
    net = neural(3, 2)
    distribution = ud.Autoregressive(net)
    h, W, V, b = (np.asarray(x, float) for x in (net.hidden, net.tables, net.weight, net.bias))

    def probability(x):
        product = 1.0
        for i in range(3):
            z = h + sum((W[j, x[j]] for j in range(i)), np.zeros(3))
            logits = (z / (1 + np.exp(-z))) @ V[i] + b[i]
            product *= np.exp(logits[x[i]]) / np.exp(logits).sum()
        return product

    want = [probability(x) for x in np.ndindex(2, 2, 2)]
    assert math.isclose(sum(want), 1.0, abs_tol=1e-9)
    have = jax.jit(jax.vmap(distribution.log_prob))(jnp.array(list(np.ndindex(2, 2, 2))))
    np.testing.assert_allclose(np.exp(have), want, atol=1e-6)
    assert_frequencies(draw(distribution) @ np.array([4, 2, 1]), want)


def test_divergences_of_blocks_are_exact():
    """Computed over all blocks, for a mixture of blocks (a posterior predictive) too."""
    p, q = np.array([[0.4, 0.1], [0.2, 0.3]]), np.array([[0.25, 0.25], [0.4, 0.1]])
    table, net = ud.Autoregressive(probs=p), neural(2, 2)
    two = jax.tree.map(lambda *x: jnp.stack(x), table, ud.Autoregressive(probs=q))
    weights = np.array([0.75, 0.25])
    blocks = jnp.array(list(np.ndindex(2, 2)))
    agent = np.exp(jax.jit(jax.vmap(ud.Autoregressive(net).log_prob))(blocks))
    for distribution, probs in ((table, p), (ud.Mixture(two, weights=weights), weights[0] * p + weights[1] * q)):
        want = np.sum(probs.ravel() * np.log(probs.ravel() / agent))
        kl, tv = compiled_divergences(distribution, ud.Autoregressive(net), key=jax.random.key(0))
        np.testing.assert_allclose(kl, want, rtol=1e-5)
        np.testing.assert_allclose(tv, abs(probs.ravel() - agent).sum() / 2, rtol=1e-5)
        np.testing.assert_allclose(
            compiled_cross_entropy(distribution, ud.Autoregressive(net)),
            -np.sum(probs.ravel() * np.log(agent)),
            rtol=1e-5,
        )
        entropy = eqx.filter_jit(estimate_entropy)(distribution, jax.random.key(0))
        np.testing.assert_allclose(entropy, -np.sum(probs * np.log(probs)), rtol=1e-5)


def test_entropy_of_many_blocks_is_estimated(monkeypatch):
    """The estimate is within five standard errors of the exact entropy over all blocks."""
    distribution = ud.Autoregressive(neural(3, 2))
    exact = float(jax.jit(lambda: distribution.entropy())())
    losses = -np.asarray(jax.jit(jax.vmap(distribution.log_prob))(draw(distribution)))
    monkeypatch.setattr("undelude._distributions.discrete.MAX_SUPPORT", 7)
    estimate = float(jax.jit(lambda: distribution.entropy())())
    assert abs(estimate - exact) < SIGMAS * losses.std() / 16
    assert estimate != exact


def test_block_probabilities_are_checked():
    for table, message in (([[0.5, 0.6], [0.0, 0.0]], "sum"), ([[0.5, 0.25, 0.25]], "axes of one length")):
        with pytest.raises(ValueError, match=message):
            ud.Autoregressive(probs=table)
    with pytest.raises(ValueError, match="either conditionals or probs"):
        ud.Autoregressive()


# ----------------------------------------------------------------------------------------------------------- Squashed


def test_squashed_is_a_density():
    """Its integral is one; the mean of its samples and its entropy equal integrals of the density."""
    distribution = ud.Squashed(ud.Normal(0.4, 0.7), -2.0, 3.0)
    x = np.linspace(-2, 3, 20_002)[1:-1]
    density = np.exp(np.asarray(jax.vmap(distribution.log_prob)(jnp.asarray(x, jnp.float32))), dtype=float)
    dx = x[1] - x[0]
    assert math.isclose(density.sum() * dx, 1.0, abs_tol=1e-3)
    mean = (density * x).sum() * dx
    samples = draw(distribution)
    assert samples.min() >= -2
    assert samples.max() <= 3
    assert_mean(samples, mean, (density * (x - mean) ** 2).sum() * dx)
    assert abs(float(distribution.entropy()) + (density * np.log(density)).sum() * dx) < 0.25
    assert np.isfinite(distribution.log_prob(3.0))
    with pytest.raises(ValueError, match="finite bounds"):
        ud.Squashed(ud.Normal(0.0, 1.0), 1.0, 1.0)


def test_cross_entropy_uses_draw_without_closed_form():
    """Part by part: the symbol's part is exact, the continuous part is scored at the draw."""
    p = ud.Joint({"a": ud.Categorical(probs=[0.3, 0.7]), "b": ud.Normal(0.0, 1.0)})
    mixed = ud.Mixture(ud.Normal(jnp.array([-1.0, 1.0]), 1.0), weights=[0.5, 0.5])
    q = ud.Joint({"a": ud.Categorical(probs=[0.6, 0.4]), "b": mixed})
    draws = [float(mixed.log_prob(jnp.array(x))) for x in (0.5, -0.5)]
    want = -0.3 * math.log(0.6) - 0.7 * math.log(0.4) - np.mean(draws)
    np.testing.assert_allclose(cross_entropy(p, q, {"a": jnp.array(0), "b": jnp.array(0.5)}), want, rtol=1e-6)
    with pytest.raises(TypeError, match="no closed form"):
        cross_entropy(p, q)


def test_mirror_image_of_draw_removes_noise_and_no_signal():
    """The gradient of a location is exact if one component is near; the mean over draws is the cross-entropy."""
    p = ud.Normal(jnp.array([0.5, -1.0]), jnp.array([0.2, 0.3]))

    def loss(loc, x=None):
        q = ud.Normal(loc, jnp.array([0.4, 0.5]))
        if x is None:
            return cross_entropy(p, q)
        one = ud.Mixture(jax.tree.map(lambda leaf: leaf[None], q), weights=[1.0])
        return cross_entropy(p, one, x)

    loc, keys = jnp.array([0.0, 0.3]), jax.random.split(jax.random.key(0), 4096)
    xs = jax.vmap(p.sample)(keys)
    noisy = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(loc, xs)
    np.testing.assert_allclose(noisy, np.broadcast_to(jax.jit(jax.grad(loss))(loc), noisy.shape), rtol=1e-3)
    np.testing.assert_allclose(jax.jit(jax.vmap(loss, (None, 0)))(loc, xs).mean(), loss(loc), atol=0.03)
