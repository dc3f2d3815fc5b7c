"""What the user's code reads from outside its arguments: a changed value changes the answer."""

import argparse
import collections
import functools
import itertools
import sys
import types
from importlib.metadata import version

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude._compiled import compiled, compiled_for
from undelude._programs import work

SHARE = 0.25
SETTINGS = types.SimpleNamespace(share=0.25)
TABLE = np.array([0.25, 0.5])


def from_a_helper():
    return SHARE


@jax.jit
def from_a_jitted_helper():
    return SHARE


class Reads(eqx.Module):
    """A module whose method reads a number in one of several ways."""

    way: str = eqx.field(static=True)
    of_the_class = 0.25

    def __call__(self):
        match self.way:
            case "global":
                return SHARE
            case "global in a lambda":
                return (lambda: SHARE)()
            case "entry of a global array":
                return TABLE[0]
            case "attribute of a global":
                return SETTINGS.share
            case "helper":
                return from_a_helper()
            case "jitted helper":
                return from_a_jitted_helper()
            case "attribute of the class":
                return self.of_the_class


def set_all(monkeypatch, value):
    monkeypatch.setitem(globals(), "SHARE", value)
    monkeypatch.setattr(SETTINGS, "share", value)
    monkeypatch.setattr(Reads, "of_the_class", value)
    TABLE[0] = value


@pytest.fixture
def change(monkeypatch):
    yield functools.partial(set_all, monkeypatch)
    TABLE[0] = 0.25


@compiled
def call(f):
    return jnp.asarray(f(), float)


@pytest.mark.parametrize(
    "way",
    [
        "global",
        "global in a lambda",
        "entry of a global array",
        "attribute of a global",
        "helper",
        "jitted helper",
        "attribute of the class",
    ],
)
def test_changed_value_is_read(change, way):
    assert call(Reads(way)) == 0.25
    change(0.75)
    assert call(Reads(way)) == 0.75
    change(0.25)
    assert call(Reads(way)) == 0.25


def test_changed_enclosing_variable_is_read():
    share = 0.25

    def f():
        return share

    assert call(f) == 0.25
    share = 0.75
    assert call(f) == 0.75
    assert call(functools.partial(lambda f: f(), f)) == 0.75


def test_nothing_changed_compiles_nothing(compilations):
    call(Reads("global"))
    compilations()
    call(Reads("global"))
    assert compilations() == 0


def test_records_of_the_code_itself_lead_to_no_more_compilations():
    """A list to which the code appends while it is traced changes with each compilation."""
    calls = []

    def f():
        calls.append(1)
        return 0.25

    for _ in range(5):
        call(f)
    assert len(calls) == 3


class Slotted:
    __slots__ = ("share",)

    def __init__(self, share):
        self.share = share


class Lazy:
    """A setting from which a value is computed on first use."""

    def __init__(self, share):
        self.share = share

    @functools.cached_property
    def table(self):
        return [self.share]


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (Slotted, lambda x: x.share),
        (Lazy, lambda x: x.table[0]),
        (lambda share: argparse.Namespace(share=share), lambda x: x.share),
        (lambda share: collections.deque([share]), lambda x: x[0]),
        (lambda share: {"share": share}, lambda x: x["share"]),
    ],
)
def test_replaced_object_is_read(make, read):
    settings = make(0.25)

    def f():
        return read(settings)

    assert [call(f), call(f)] == [0.25, 0.25]
    for share in (0.75, 0.5, 0.25):
        settings = make(share)
        assert [call(f), call(f)] == [share, share]


def test_module_imported_inside_a_function_is_read(monkeypatch):
    module = types.ModuleType("settings_of_a_test")
    module.share = 0.25
    monkeypatch.setitem(sys.modules, "settings_of_a_test", module)

    def f():
        import settings_of_a_test  # pyright: ignore[reportMissingImports]

        return settings_of_a_test.share

    assert call(f) == 0.25
    module.share = 0.75
    assert call(f) == 0.75


class PaidBySetting(ud.AbstractTask):
    """A task whose reward is a global, and whose observations follow another one."""

    def init(self, theta):
        return jnp.zeros((), jnp.int32)

    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.stack([1 - SETTINGS.share, jnp.asarray(SETTINGS.share)]))

    def g_A(self, theta, a, w):
        return w

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return SHARE


def test_rollout_follows_a_changed_global(change):
    expert = ud.tasks.bandit().expert
    process = ud.InteractionProcess(jnp.full(5, 0.2), jnp.arange(5), PaidBySetting(), expert, 3)

    def play():
        episodes = ud.rollout(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=400)
        return float(episodes.reward.mean()), float(episodes.observations.mean())

    reward, share = play()
    assert reward == 0.25
    assert abs(share - 0.25) < 0.06  # 4 standard errors
    change(0.75)
    reward, share = play()
    assert reward == 0.75
    assert abs(share - 0.75) < 0.06


NUM_READS = itertools.count()


class Watched:
    """A setting that counts how often it is read."""

    __slots__ = ("share",)

    def __getattribute__(self, name):
        if name == "share":
            next(NUM_READS)
        return object.__getattribute__(self, name)


def test_python_loop_reads_once(monkeypatch):
    """A longer episode in Python reads a setting of the task no more often."""
    setting = Watched()
    setting.share = 0.5
    monkeypatch.setitem(globals(), "SETTINGS", setting)
    expert = ud.tasks.bandit().expert
    process = ud.InteractionProcess(jnp.full(5, 0.2), jnp.arange(5), PaidBySetting(), expert, 3)
    agent = ud.HostAgent(lambda n: None, lambda m, a, o: (np.full((2, 5), 0.2), m))

    def count(num_rounds):
        before = next(NUM_READS)
        ud.rollout(process, agent, key=jax.random.key(0), num_episodes=2, num_rounds=num_rounds)
        return next(NUM_READS) - before

    count(2)
    assert count(2) == count(6)


def test_options_depend_on_the_work(monkeypatch):
    """A program is optimised by the work of this call: a number that is no array, such as `num_rounds`, changes it."""
    monkeypatch.setattr("undelude._compiled.KNOWN_JAXLIB", (version("jaxlib"),))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr("undelude._compiled.LITTLE", 10_000)
    monkeypatch.setattr("undelude._compiled.MUCH_OPTIONS", {"xla_cpu_option_of_programs_that_do_much": True})
    monkeypatch.setattr("undelude._compiled.LITTLE_OPTIONS", {})
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        add = compiled_for(runs=10)(lambda x, n: jax.lax.fori_loop(0, n, lambda _, x: x + 1, x))
    finally:
        jax.config.update("jax_disable_most_optimizations", True)
    assert add(jnp.zeros(10), 5).sum() == 50
    with pytest.raises(Exception, match="programs_that_do_much"):
        add(jnp.zeros(10), 500)


def test_work_counts_numbers():
    """Ten rounds of six sums, and four sums of 32 products, each worth two numbers."""
    x = jnp.ones((2, 3))
    loop = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, _: (c + x, None), x, length=10)[0])(x)
    assert work(loop.jaxpr) == 10 * 6
    product = jax.make_jaxpr(jnp.dot)(jnp.ones((2, 32)), jnp.ones((32, 2)))
    assert work(product.jaxpr) == 4 * 2
