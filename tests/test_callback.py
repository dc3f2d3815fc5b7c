"""A simulator in Python inside a compiled task: one call at a time, and what it returns is checked."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import undelude as ud
from undelude import gym as ug

KEY = jax.random.key(0)


class Simulator:
    """A simulator with one state, which two calls at once would spoil."""

    def __init__(self):
        self.callers, self.is_busy = set(), False

    def __call__(self, x, a):
        assert not self.is_busy
        self.is_busy = True
        self.callers.add(threading.get_ident())
        time.sleep(0.002)
        self.is_busy = False
        return 0.9 * x + a


def test_two_devices_call_one_at_a_time():
    simulator = Simulator()
    step = ug.callback(simulator, np.zeros(2, np.float32))
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("rows",))
    rows = PartitionSpec("rows")

    @jax.jit
    @lambda f: jax.shard_map(f, mesh=mesh, in_specs=(rows, rows), out_specs=rows, check_vma=False)
    def both(xs, actions):
        return jax.lax.fori_loop(0, 10, lambda _, xs: jax.vmap(step)(xs, actions), xs)

    xs = both(jnp.zeros((8, 2)), jnp.arange(16.0).reshape(8, 2))
    np.testing.assert_allclose(xs, np.arange(16.0).reshape(8, 2) * (1 - 0.9**10) / 0.1, rtol=1e-5)
    assert len(simulator.callers) == 2


def test_batches_of_any_depth_and_trees():
    step = ug.callback(
        lambda state, a: {"at": state["at"] + a, "n": state["n"] + 1}, {"at": np.zeros(3), "n": np.int32(0)}
    )
    at, n, a = np.random.default_rng(0).normal(size=(2, 5, 3)), np.arange(10).reshape(2, 5), np.arange(2.0)
    found = jax.jit(jax.vmap(jax.vmap(step, in_axes=(0, None))))({"at": at, "n": n}, a)
    np.testing.assert_allclose(found["at"], at + a[:, None, None], rtol=1e-5)
    np.testing.assert_array_equal(found["n"], n + 1)
    assert found["n"].dtype == jnp.int32


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros(3), r"returned shape \[3\], not \[2\]"),
        (np.full(2, np.nan), "not finite"),
        ((np.zeros(2),), "not the form of result"),
    ],
)
def test_what_is_not_as_promised_is_named(returned, message):
    step = ug.callback(lambda x: returned, np.zeros(2))
    with pytest.raises(Exception, match=message):
        jax.block_until_ready(jax.jit(step)(jnp.zeros(2)))
    with pytest.raises(TypeError, match="function must be a function"):
        ug.callback(3, np.zeros(2))


class Slide(ud.AbstractTask):
    """A slide that goes left or right; the position is seen with noise."""

    step: object = None

    def init(self, theta):
        return jnp.zeros(1)

    def Q_O(self, theta, w):
        return ud.Normal(w, 3.0)

    def g_A(self, theta, a, w):
        return self.step(w, jnp.asarray(theta * (2.0 * a - 1))[None])

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return w[0]


class Guide(ud.AbstractExpert):
    theta_free_memory = True

    def init(self, theta):
        return jnp.zeros(())

    def Q_A(self, theta, e):
        return ud.Categorical(logits=jnp.stack([-theta, theta]))

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e


@pytest.mark.slow
def test_exact_answers_are_those_of_the_same_simulator_in_jax():
    """The certificate of an agent that deludes itself, with the simulator in Python and in JAX."""
    reports = []
    for step in (ug.callback(lambda x, a: 0.9 * x + a, np.zeros(1)), lambda x, a: 0.9 * x + a):
        task = Slide(jax.tree_util.Partial(step))
        process = ud.InteractionProcess([0.5, 0.5], jnp.array([-1.0, 1.0]), task, Guide(), 4, name="slide")
        reports.append(ud.certify(process, ud.ExactAgent(process, "see"), key=KEY, num_episodes=32, baselines=False))
    for name in ("action_kl_do", "action_kl_see", "observation_kl_do", "reward"):
        np.testing.assert_allclose(*(getattr(report, name) for report in reports), atol=1e-5)
    assert reports[0].action_kl_do > 0.01
