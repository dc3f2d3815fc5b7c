"""`ud.check_task` finds each kind of defect, in a task with this defect alone, and measures sound tasks."""

import cProfile
import json
import random
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from processes import opening
from undelude._certificate.bound_checks import check_bounds
from undelude._certificate.bounds import matters, watch
from undelude._certificate.fixed_draws import draws_from_fixed_key
from undelude._certificate.method_checks import check_methods
from undelude._certificate.task_checks import check_memories, differs
from undelude._certificate.task_episodes import player, replay_under_others
from undelude._cli import main
from undelude.tasks import registry

KEY = jax.random.key(3)
LOG = jnp.log(jnp.array([[[0.8, 0.2], [0.3, 0.7]], [[0.2, 0.8], [0.6, 0.4]]]))


class Informed(ud.AbstractExpert):
    """Right nine times in ten; its memory counts rounds."""

    theta_free_memory = True

    def init(self, theta):
        return jnp.zeros((), jnp.int32)

    def Q_A(self, theta, e):
        return ud.Categorical(log_probs=jnp.log(jnp.where(jnp.arange(2) == theta, 0.9, 0.1)))

    def g_A(self, theta, a, e):
        return e

    def g_O(self, theta, o, e):
        return e + 1


class Clocked(ud.AbstractTask):
    """A task whose memory counts rounds. Defects below set in after the first, which the constructor checks."""

    theta_free_memory = True

    def init(self, theta):
        return jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)

    def Q_O(self, theta, w):
        return ud.Categorical(log_probs=LOG[theta, w[0]])

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32), w[1]

    def g_O(self, theta, o, w):
        return w[0], w[1] + 1

    def reward(self, theta, w, a, o):
        return jnp.zeros(())


def process(task, expert=None, **more):
    return ud.InteractionProcess(
        np.array([0.5, 0.5]), jnp.arange(2), task, expert or Informed(), 6, name="mine", **more
    )


class Leaky(Clocked):
    def Q_O(self, theta, w):
        told = jnp.where(w[1] > 2, theta, 0).astype(float)
        return ud.Joint({"bit": super().Q_O(theta, w), "view": ud.Given(told)})


class Shown(Clocked):
    """A Given part of the opening reveals theta, through the end of its range."""

    def Q_O(self, theta, w):
        told = jnp.where(w[1] == 0, theta, 0).astype(float)
        return ud.Joint({"bit": super().Q_O(theta, w), "view": ud.Given(0.0 * told, up_to=told)})


class Honest(Leaky):
    """The given part depends on the action, and not on theta."""

    def Q_O(self, theta, w):
        return ud.Joint({"bit": Clocked.Q_O(self, theta, w), "view": ud.Given(w[0].astype(float))})


class Swollen(Clocked):
    def Q_O(self, theta, w):
        distribution = super().Q_O(theta, w)
        return ud.Categorical(log_probs=distribution.log_probs + jnp.where(w[1] == 3, 0.5, 0.0))


class Random(Clocked):
    def Q_O(self, theta, w):
        return ud.Categorical(log_probs=jnp.log(jnp.array(np.random.default_rng().dirichlet([1, 1]))))


class Coin(Clocked):
    """Python's random numbers decide between two programs."""

    def reward(self, theta, w, a, o):
        return 1.0 * o if random.random() < 0.5 else 0.5 * o


class FixedKey(Clocked):
    def g_O(self, theta, o, w):
        return w[0], w[1] + jax.random.bernoulli(jax.random.key(0)).astype(int)


class FixedKeyField(Clocked):
    """The key is a field, and the numbers are drawn in a loop."""

    key: jax.Array

    def Q_O(self, theta, w):
        keys = jax.random.split(self.key, 3)
        p, _ = jax.lax.scan(lambda p, key: (p * jax.random.uniform(key), None), 1.0, keys)
        return ud.Categorical(probs=jnp.stack([p, 1 - p]))


class Generated(Clocked):
    """A world that theta generates, by a key of its own."""

    def Q_O(self, theta, w):
        p = jax.random.uniform(jax.random.fold_in(jax.random.key(0), theta))
        return ud.Categorical(probs=jnp.stack([p, 1 - p]))


class CallsBack(Clocked):
    def Q_O(self, theta, w):
        p = jax.pure_callback(
            lambda w: np.float32(np.random.default_rng().random()),
            jax.ShapeDtypeStruct((), jnp.float32),
            w,
            vmap_method="sequential",
        )
        return ud.Categorical(probs=jnp.stack([p, 1 - p]))


class FromOne(Clocked):
    """A table of two rows, for thetas 1 and 2."""

    def Q_O(self, theta, w):
        return ud.Categorical(log_probs=LOG[theta, w[0]])


class InformedFromOne(Informed):
    def Q_A(self, theta, e):
        return super().Q_A(theta - 1, e)


class TooLong(Clocked):
    """A schedule of four entries in an episode of six rounds."""

    def reward(self, theta, w, a, o):
        return jnp.arange(4.0)[w[1]]


class Switching(Clocked):
    """`jax.lax.switch` clamps its index too."""

    def reward(self, theta, w, a, o):
        return jax.lax.switch(w[1], [lambda: 0.0, lambda: 1.0])


class TooLongInALoop(Clocked):
    """The schedule is read in a branch, and in two loops."""

    loop: str = "scan"

    def reward(self, theta, w, a, o):
        entry = jnp.arange(4.0)
        match self.loop:
            case "cond":
                return jax.lax.cond(w[1] > 0, lambda: entry[w[1]], lambda: entry[0])
            case "scan":
                return jax.lax.scan(lambda x, i: (x + entry[i + w[1]], None), 0.0, jnp.arange(2))[0]
        return jax.lax.fori_loop(0, w[1] + 1, lambda i, x: x + entry[i], 0.0)


class Sampling(Clocked):
    """A transition that is sampled in the task, in place of a distribution."""

    def g_A(self, theta, a, w):
        return jax.random.categorical(jax.random.key(0), LOG[theta, a]), w[1]


class Guarded(Clocked):
    """Reads and writes outside an array, whose results are discarded, or held by a memory after the last round."""

    def init(self, theta):
        return jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros(())

    def g_A(self, theta, a, w):
        return jnp.asarray(a, jnp.int32), *w[1:]

    def g_O(self, theta, o, w):
        return w[0], w[1] + 1, jnp.arange(6.0)[w[1] + 1]

    def reward(self, theta, w, a, o):
        table, t = jnp.arange(4.0), w[1]
        written = jnp.where(t < 4, table.at[t].set(0.0).sum(), 0.0)
        in_branch = jax.lax.cond(t < 4, lambda: table[t], lambda: 0.0)
        masked = jax.lax.dynamic_index_in_dim(table, t, keepdims=False) * (t < 4)
        return jnp.where(t < 4, table[t], 0.0) + written + in_branch + masked


class Clipped(Clocked):
    """The same schedule, with a rule for what comes after it."""

    def reward(self, theta, w, a, o):
        return jnp.take(jnp.arange(4.0), w[1], mode="clip")


class Landscape(Clocked):
    """Fixed random tables: by a key, by a key for each entry, and by NumPy."""

    def Q_O(self, theta, w):
        probs = jax.random.uniform(jax.random.key(0), (2, 2))[theta, w[0]]
        return ud.Categorical(probs=jnp.stack([probs, 1 - probs]))

    def reward(self, theta, w, a, o):
        return jax.vmap(jax.random.normal)(jax.random.split(jax.random.key(0), 2))[a]

    def g_A(self, theta, a, w):
        return jnp.array(np.random.default_rng(0).permutation(2))[a].astype(jnp.int32), w[1]


class Short(Clocked):
    """A slice that reaches beyond the end, and a count in an array that is too short."""

    def reward(self, theta, w, a, o):
        return jax.lax.dynamic_slice(jnp.arange(5.0), (w[1],), (3,)).sum()

    def g_O(self, theta, o, w):
        return w[0], jnp.asarray(w[1] + jnp.zeros(3).at[w[1]].add(1.0).sum(), jnp.int32)


class Remembering(Clocked):
    """A memory that declares `theta_free_memory` and depends on theta."""

    def g_O(self, theta, o, w):
        return w[0], jnp.where(w[1] == 2, w[1] + theta + 1, w[1] + 1)


class Unpaid(Clocked):
    def reward(self, theta, w, a, o):
        return jnp.where(w[1] == 4, jnp.nan, 0.0)


class Wide(Clocked):
    def reward(self, theta, w, a, o):
        return jnp.zeros(2)


class Telling(Clocked):
    def Q_O(self, theta, w):
        first = jnp.log(jnp.stack([1.0 * (theta == 0), 1.0 * (theta == 1)]))
        return ud.Categorical(log_probs=jnp.where(w[1] == 0, first, LOG[theta, w[0]]))


class Always(ud.Categorical):
    """Samples 0, also if its probability is zero."""

    def sample(self, key):
        return jnp.zeros((), jnp.int32)


class Absent(Informed):
    def Q_A(self, theta, e):
        distribution = super().Q_A(theta, e)
        return Always(log_probs=jnp.where(e > 1, jnp.array([-jnp.inf, 0.0]), distribution.log_probs))


class Blank(Clocked):
    """NaN in a Given part, which has no probability that could be NaN too."""

    def Q_O(self, theta, w):
        blank = jnp.where(w[1] > 2, jnp.nan, 0.0)
        return ud.Joint({"bit": super().Q_O(theta, w), "view": ud.Given(blank)})


class Void(Clocked):
    """NaN in a Given part of the opening."""

    def Q_O(self, theta, w):
        return ud.Joint({"bit": super().Q_O(theta, w), "view": ud.Given(jnp.where(w[1] == 0, jnp.nan, 0.0))})


class Knowing(Clocked):
    """A memory that depends on theta, as it may, because it does not declare otherwise."""

    theta_free_memory = False

    def g_O(self, theta, o, w):
        return w[0], w[1] + theta


class Broken(Clocked):
    def reward(self, theta, w, a, o):
        raise KeyError("door")


class Heavy(Informed):
    """A mixture whose weights sum to two, after a while."""

    def Q_A(self, theta, e):
        distribution = super().Q_A(theta, e)
        return ud.Mixture(
            jax.tree.map(lambda x: jnp.stack([x, x]), distribution),
            log_weights=jnp.log(jnp.where(e > 1, 1.0, 0.5) * jnp.ones(2)),
        )


class Negative(Clocked):
    def Q_O(self, theta, w):
        return ud.Categorical(probs=jnp.where(w[1] > 2, jnp.array([1.05, -0.05]), jnp.array([0.5, 0.5])))


class Scrawled(Clocked):
    def draw(self, frame, theta, w, belief):
        frame.scrawl()


class Speechless(Clocked):
    def say(self, o):
        return {0: "no"}[int(o)]


class Wordless(Clocked):
    def say_action(self, a):
        return int(a)


def lossy(theta, w):
    """A transition that is normalised only until the third round."""
    rest = jnp.where(w[1] > 2, 0.4, 0.5)
    return ud.Categorical(log_probs=jnp.log(jnp.where(jnp.arange(2) == theta, 0.5, rest)))


# The smallest; tests/test_menu.py checks one with blocks and an early end, and `make test-all` the others.
SMALL_TASKS = ("frog",)

DEFECTS = {
    "not a number": (lambda: process(Blank()), "task.Q_O samples an observation that is not finite, first in round 4"),
    "a method that fails": (lambda: process(Broken()), "task.reward fails: KeyError: 'door'"),
    "opening": (lambda: process(Void(), opening=True), "samples an opening that is not finite, first with theta"),
    "weights": (lambda: process(Clocked(), Heavy()), r"expert.Q_A does not sum to one, .*off by 1"),
    "transition": (lambda: process(Clocked(), transition=lossy), "transition does not sum to one, first in round 3"),
    "leak": (lambda: process(Leaky()), "a Given part of the observations differs between thetas"),
    "leak in the opening": (
        lambda: process(Shown(), opening=True),
        "a Given part of the observations differs between thetas",
    ),
    "not normalised": (lambda: process(Swollen()), r"task.Q_O does not sum to one, first in round 4 .*off by 0.649"),
    "negative": (
        lambda: process(Negative()),
        "task.Q_O contains NaN, first in round 4 .*: the logarithm of a negative",
    ),
    "words": (lambda: process(Speechless()), "task.say fails: KeyError: 1"),
    "no words": (lambda: process(Wordless()), "task.say_action returns int, not a string"),
    "random": (lambda: process(Random()), "task.Q_O draws random numbers in Python"),
    "coin": (lambda: process(Coin()), "task.reward draws random numbers in Python"),
    "fixed key": (
        lambda: process(FixedKey()),
        "task.g_O draws a single number or a choice from a fixed key",
    ),
    "fixed key in a field": (
        lambda: process(FixedKeyField(jax.random.key(1))),
        "task.Q_O draws a single number or a choice from a fixed key",
    ),
    "callback": (lambda: process(CallsBack()), "observations differ between two plays"),
    "thetas from one": (
        lambda: ud.InteractionProcess([0.5, 0.5], jnp.arange(1, 3), FromOne(), InformedFromOne(), 6, name="mine"),
        "task.Q_O reads entry 2 of an axis of length 2, with theta 2",
    ),
    "schedule": (lambda: process(TooLong()), "task.reward reads entry 4 of an axis of length 4, first in round 5"),
    "switch": (lambda: process(Switching()), r"task.reward chooses branch 2 of 2 \(jax.lax.switch\), first in round 3"),
    "in a branch": (lambda: process(TooLongInALoop("cond")), "task.reward reads entry 4 of .* 4, first in round 5"),
    "in a scan": (lambda: process(TooLongInALoop("scan")), "task.reward reads entry 4 of .* 4, first in round 4"),
    "in a loop": (lambda: process(TooLongInALoop("while")), "task.reward reads entry 4 of .* 4, first in round 5"),
    "sampling": (lambda: process(Sampling()), "task.g_A draws a single number or a choice"),
    "draws": (lambda: process(Scrawled()), "task.draw fails: AttributeError"),
    "memory of theta": (lambda: process(Remembering()), "task declares theta_free_memory"),
    "no reward": (lambda: process(Unpaid()), "task.reward is not finite, first in round 5"),
    "two rewards": (lambda: process(Wide()), r"task.reward returns float32\[2\]"),
    "told": (lambda: process(Telling(), opening=True), "the opening reveals theta"),
    "absent expert": (
        lambda: process(Clocked(), Absent()),
        "expert.Q_A gives zero probability to its own sample, first in round 3",
    ),
}


# Each is another form of a defect before or after it, and is found by the same check.
FORMS = {
    "leak in the opening", "no words", "coin", "fixed key in a field", "in a branch", "in a loop", "in a scan",
    "sampling", "opening", "transition", "negative", "switch",
}  # fmt: skip


@pytest.mark.parametrize("defect", [pytest.param(x, marks=[pytest.mark.slow] * (x in FORMS)) for x in DEFECTS])
def test_names_the_defect(defect):
    make, message = DEFECTS[defect]
    with pytest.raises(ValueError, match="mine: 1 problem:") as error:
        ud.check_task(make())
    error.match(message)


@pytest.mark.usefixtures("without_gap")
def test_many_thetas_and_a_transition():
    assert ud.check_task(ud.tasks.switching_bandit(num_arms=20, num_rounds=4), num_episodes=8).entropy > 2.9


@pytest.fixture
def without_gap(monkeypatch):
    """Leave out the certificate of the deluded agent, half of the time, in tests that look for problems alone."""
    monkeypatch.setattr("undelude._certificate.check_task._certify_deluded", lambda *_: None)


@pytest.mark.usefixtures("without_gap")
@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] * (x not in SMALL_TASKS)) for x in registry.TASKS]
)
def test_named_tasks_are_sound(name):
    assert "no problems found" in str(ud.check_task(registry.make(name), num_rounds=4))


def test_nan_under_some_thetas_is_a_leak():
    """NaN differs from numbers, but not from NaN; under an impossible theta nothing counts."""
    some, possible = np.array([[np.nan], [1.0]])[None], np.ones((1, 2, 1), bool)
    assert differs(some, possible)
    assert not differs(np.full_like(some, np.nan), possible)
    assert not differs(some, np.array([False, True]).reshape(1, 2, 1))


@pytest.mark.usefixtures("without_gap")
@pytest.mark.parametrize(
    "task",
    [Honest, Knowing, Guarded, *(pytest.param(x, marks=pytest.mark.slow) for x in (Clocked, Generated, Clipped))],
)
def test_sound_task_passes(task):
    """Nor is there a warning, or a note on its arrays or its random numbers."""
    report = ud.check_task(process(task()), num_episodes=8)
    assert "no problems" in str(report)
    assert report.warning is None
    assert not [note for note in report.notes if note.startswith(("task.", "expert."))]


@pytest.mark.usefixtures("without_gap")
def test_notes_what_may_be_meant():
    """The count stays at 3, so that the slice begins there at the last."""
    write, slice_ = sorted(x for x in ud.check_task(process(Short()), num_episodes=8).notes if x.startswith("task."))
    assert write.startswith("task.g_O writes to entry 3 of an axis of length 3, first in round 4")
    assert slice_.startswith("task.reward reads entries 3 to 5 of an axis of length 5, first in round 4")


def outside(f, *arguments):
    """Return, for each access of `f` that is outside an array, whether it changes the result."""
    found = watch(f, *arguments)
    return [bool(matters(f, *arguments, number=i)) for i, access in enumerate(found) if access.is_outside]


def test_a_loop_that_another_value_keeps_going_ends():
    """Parent 3 does not exist; in its place any value but 0 to 2 is a parent of itself."""
    parent = jnp.array([0, 0, 1])

    def depth(node):
        return jax.lax.while_loop(lambda c: c[1] != 0, lambda c: (c[0] + 1, parent[c[1]]), (0, node))[0]

    def rounds(i):
        """The loop reads nothing; how long it runs depends on what is read before it."""
        return jax.lax.while_loop(lambda x: x != 1, lambda x: x - 2, 2 * parent[i] + 1)

    assert outside(depth, 2) == []
    assert outside(depth, 3) == [True]
    assert outside(lambda i: rounds(i) * 0, 3) == [True]
    assert outside(lambda i: jax.lax.fori_loop(0, 2, lambda _, x: x + depth(i), 0), 3) == [True]


def test_a_long_loop_does_not_make_a_discarded_read_count():
    def long(i):
        x = jnp.where(i < 3, jnp.arange(3)[i], 0)
        return x + jax.lax.while_loop(lambda x: x < 20_000, lambda x: x + 1, 0)

    assert outside(long, 3) == [False]


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.uint32, jnp.int32, jnp.float32])
def test_reads_outside_count_behind_a_modulo(dtype):
    for modulus in (1, 2, 3, 4, 5, 7, 10, 20, 25, 50, 100) if dtype == jnp.float32 else (2, 3, 4, 5, 7, 10, 50, 100):
        assert outside(lambda i, m=modulus: jnp.array([1, 3, 4], dtype)[i] % dtype(m), 3) == [True]
    assert outside(lambda i: jnp.array([1, 3, 4], dtype)[i] % dtype(2) * dtype(0), 3) == [False]
    assert outside(lambda i: jnp.array([False, True])[i] * dtype(1), 3) == [True]


def test_reads_in_the_condition_of_a_loop_are_watched():
    """The first round is inside the table, the fourth is not."""
    going = jnp.array([True, True, True])

    def rounds(most):
        return jax.lax.while_loop(lambda i: going[i] & (i < most), lambda i: i + 1, 0)

    assert outside(rounds, 2) == []
    assert outside(rounds, 9) == [True]

    def both(most):
        return jax.lax.while_loop(lambda i: going[i] & (i < most), lambda i: i + jnp.ones(2, int)[i], 0)

    assert [access.kind for access in watch(both, 9)] == ["read", "read", "loop"]
    assert outside(both, 9) == [True, True]


class Late(Clocked):
    """A schedule of one entry, read for the round after the first; the episode may end in the first."""

    ending: bool = False

    def g_O(self, theta, o, w):
        return w[0], jnp.arange(1)[w[1] + 1]

    def ends(self, o):
        return jnp.asarray(self.ending)


def test_the_memory_after_the_last_round_is_not_read():
    """The last round is the one that ends the episode, or the last of those asked for."""
    (finding,) = check_bounds(process(Late()), 6)
    assert finding.text.startswith("task.g_O reads entry 1 of an axis of length 1, with theta 0")
    assert not list(check_bounds(process(Late()), 1))
    assert not list(check_bounds(process(Late(ending=True)), 6))


class Padding(Clocked):
    """Theta 2 has no row in the table, and leaves a mark in the memory after the second round."""

    def g_O(self, theta, o, w):
        return w[0], w[1] + 1 + ((theta == 2) & (w[1] == 1))


class InformedOfPadding(Informed):
    def Q_A(self, theta, e):
        return super().Q_A(theta % 2, e)


def test_a_theta_that_never_occurs_does_not_count():
    def padded(prior):
        return ud.InteractionProcess(prior, jnp.arange(3), Padding(), InformedOfPadding(), 2, name="mine")

    never, sometimes = padded([0.5, 0.5, 0.0]), padded([0.4, 0.4, 0.2])
    assert not list(check_bounds(never, 2))
    (finding,) = check_bounds(sometimes, 2)
    assert finding.text.startswith("task.Q_O reads entry 2 of an axis of length 2, with theta 2")
    episodes = player(never, KEY, 2)().episodes
    assert not list(check_memories(replay_under_others(never, episodes, KEY)))
    assert len(list(check_memories(replay_under_others(sometimes, episodes, KEY)))) == 1


def test_notes_fixed_tables():
    """A single number or a choice is a problem, unless it is an entry of a table; an array of another use is not."""
    of_Q_O, of_g_A, of_reward = check_methods(process(Landscape()))
    assert not any(finding.is_problem for finding in (of_Q_O, of_g_A, of_reward))
    assert of_Q_O.text.startswith(
        "task.Q_O draws random numbers from a fixed key, such as jax.random.key(0), of shape [2, 2]"
    )
    assert of_g_A.text.startswith(
        "task.g_A draws random numbers in Python from a seeded generator (np.random.default_rng)"
    )
    assert of_reward.text.startswith(
        "task.reward draws random numbers from a fixed key, such as jax.random.key(0), of shape [2]"
    )


class Biased(Clocked):
    """A fixed table of an observation's shape, which nothing is read from."""

    def Q_O(self, theta, w):
        bias = jax.random.normal(jax.random.key(0), (2,))
        return ud.Normal(theta + bias, jnp.ones(2))


def test_notes_a_fixed_table_of_the_shape_of_an_observation():
    (finding,) = check_methods(process(Biased()))
    assert not finding.is_problem
    assert "from a fixed key, such as jax.random.key(0), of shape [2]." in finding.text


def test_condition_and_body_of_a_loop_have_keys_of_their_own():
    """The key that the condition draws from does not come from theta, which the body alone uses; and the reverse."""

    def reward(key, theta):
        return jax.lax.while_loop(lambda x: x < jax.random.uniform(key), lambda x: x + theta, 0.0)

    def draws(reward):
        return [draw.shape for draw in draws_from_fixed_key(jax.make_jaxpr(reward)(1).jaxpr)]

    assert draws(lambda theta: reward(jax.random.key(0), theta)) == [()]
    assert draws(lambda theta: reward(jax.random.key(theta), jax.random.uniform(jax.random.key(0), (2,))[0])) == [(2,)]


def test_methods_are_checked_under_a_profiler():
    """A profiler of the user's, which Python allows one of, stays in place."""
    profiler = cProfile.Profile()
    profiler.enable()
    findings = list(check_methods(ud.tasks.bandit()))
    profiler.disable()
    assert not findings
    assert len(profiler.getstats()) > 100


def test_measurements_on_bandit(monkeypatch):
    """`first_sight` is H(O) - H(O | theta), for an action by the expert of any theta; the gap is that of `certify`."""
    bandit = ud.tasks.bandit()
    # Without the rewards of other policies, of which the warning of `test_warns_if_imitation_is_the_wrong_goal` comes.
    monkeypatch.setattr("undelude._certificate.check_task.delusion_gap", partial(ud.delusion_gap, baselines=False))
    report = ud.check_task(bandit)
    # By hand: the arm is the right one with probability 1/5; it pays with probability .75, any other with .25.
    p = 0.2 * 0.75 + 0.8 * 0.25

    def h(x):
        return -x * np.log(x) - (1 - x) * np.log(1 - x)

    assert report.first_sight == pytest.approx(h(p) - h(0.75), abs=0.03)
    assert report.entropy == pytest.approx(np.log(5), abs=1e-6)
    assert report.least_mass == pytest.approx(0.1, abs=1e-6)
    gap = ud.certify(bandit, ud.ExactAgent(bandit, "see"), key=KEY, num_episodes=512, baselines=False)
    assert report.action_kl_do == pytest.approx(gap.action_kl_do, abs=4 * gap.action_kl_do_se + 0.01)


@pytest.mark.usefixtures("without_gap")
def test_first_sight_of_opening():
    """The opening is right with probability .8: it leaves the entropy of that coin."""
    left = -0.8 * np.log(0.8) - 0.2 * np.log(0.2)
    assert ud.check_task(opening(telling=0.8)).first_sight == pytest.approx(np.log(2) - left, abs=1e-5)


@pytest.mark.usefixtures("without_gap")
def test_notes_an_expert_that_never_errs():
    """An action counts only if the expert of some theta takes it after the same history."""

    class Alternating(Informed):
        def Q_A(self, theta, e):
            even = super().Q_A(theta, e).log_probs
            return ud.Categorical(log_probs=jnp.where(e % 2 == 0, even, jnp.array([0.0, -jnp.inf])))

    assert ud.check_task(process(Clocked(), Alternating())).least_mass == pytest.approx(0.1, abs=1e-6)

    class Certain(Informed):
        def Q_A(self, theta, e):
            return ud.Categorical(log_probs=jnp.where(jnp.arange(2) == theta, 0.0, -jnp.inf))

    report = ud.check_task(process(Clocked(), Certain()))
    assert report.least_mass == 0
    assert "never does" in str(report)


class Blind(Clocked):
    def Q_O(self, theta, w):
        return ud.Categorical(log_probs=LOG[0, w[0]])


@pytest.mark.usefixtures("without_gap")
def test_notes_observations_without_theta():
    assert "observations did not depend on theta" in str(ud.check_task(process(Blind()), num_episodes=8))


FLAT = """
import undelude as ud

def make():
    task = [[[0.5, 0.5], [0.2, 0.8]]] * 2
    return ud.tasks.from_tables(prior=[0.5, 0.5], expert=[[0.9, 0.1], [0.1, 0.9]], task=task, num_rounds=3)
"""


@pytest.mark.usefixtures("without_gap")
def test_tables_without_theta_are_named_and_a_warning_is_exit_status_1(tmp_path, monkeypatch, capsys):
    """A user of tables has never heard of Q_O."""
    (tmp_path / "flat_tables.py").write_text(FLAT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["check", "flat_tables:make", "--num-episodes", "8"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "Check that the table of the task differs between thetas." in out
    assert "Q_O" not in out


@pytest.mark.usefixtures("without_gap")
def test_notes_an_expert_that_ignores_theta():
    class Ignorant(Informed):
        def Q_A(self, theta, e):
            return ud.Categorical(probs=[0.5, 0.5])

    assert "acted alike for every theta" in ud.check_task(process(Clocked(), Ignorant()), num_episodes=8).warning


@pytest.mark.usefixtures("without_gap")
def test_transition():
    """The two thetas swap after each round."""
    swap = process(Clocked(), transition=lambda theta, w: ud.Categorical(probs=1.0 * (jnp.arange(2) != theta)))
    assert ud.check_task(swap).first_sight is None


def test_continuous_theta():
    report = ud.check_task(ud.tasks.arm(num_targets=None, num_rounds=5))
    assert report.entropy is None
    assert report.action_kl_do is None


@pytest.mark.slow
def test_infinite_gap_has_a_total_variation_and_strict_json(capsys):
    """The expert of the frog never errs, so that the deluded agent rules out what others do; JSON has no infinity."""
    assert main(["check", "frog", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert found["action_kl_do"] == "inf"
    assert found["entropy"] == pytest.approx(np.log(2))
    assert 0 < found["action_tv_do"] < 1
    assert any("Use the total variation instead" in note for note in found["notes"])


@pytest.mark.slow
def test_warns_if_imitation_is_the_wrong_goal():
    report = ud.check_task(ud.tasks.doors(), num_episodes=256)
    assert report.warning is not None
    assert "always taking the same action earns more" in report.warning
    assert str(report).startswith("doors: imitation is the wrong goal here")
