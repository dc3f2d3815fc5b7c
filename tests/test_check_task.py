"""`ud.check_task` finds each defect that a task may have, in a task that has it and nothing else."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude._certificate.check_task import _differs
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
    """A task whose memory counts rounds: the defects below set in after the first, which is looked at anyway."""

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
    """Only the opening tells theta, and what counts as no evidence is how."""

    def Q_O(self, theta, w):
        told = jnp.where(w[1] == 0, theta, 0).astype(float)
        return ud.Joint({"bit": super().Q_O(theta, w), "view": ud.Given(0.0 * told, up_to=told)})


class Honest(Leaky):
    """What is given depends on what was done, and on theta only where an observation has told it."""

    def Q_O(self, theta, w):
        return ud.Joint({"bit": Clocked.Q_O(self, theta, w), "view": ud.Given(w[0].astype(float))})


class Swollen(Clocked):
    def Q_O(self, theta, w):
        distribution = super().Q_O(theta, w)
        return ud.Categorical(log_probs=distribution.log_probs + jnp.where(w[1] == 3, 0.5, 0.0))


class Random(Clocked):
    def Q_O(self, theta, w):
        return ud.Categorical(log_probs=jnp.log(jnp.array(np.random.default_rng().dirichlet([1, 1]))))


class Remembering(Clocked):
    """Declares `theta_free_memory`, as `TableTask` does."""

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
    """Draws 0, whatever it says of it."""

    def sample(self, key):
        return jnp.zeros((), jnp.int32)


class Absent(Informed):
    def Q_A(self, theta, e):
        distribution = super().Q_A(theta, e)
        return Always(log_probs=jnp.where(e > 1, jnp.array([-jnp.inf, 0.0]), distribution.log_probs))


class Blank(Clocked):
    """Given parts are not scored: only that they are no numbers says so."""

    def Q_O(self, theta, w):
        blank = jnp.where(w[1] > 2, jnp.nan, 0.0)
        return ud.Joint({"bit": super().Q_O(theta, w), "view": ud.Given(blank)})


class Broken(Clocked):
    def reward(self, theta, w, a, o):
        raise KeyError("door")


class Heavy(Informed):
    """A mixture whose weights come to two, after a while."""

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


def lossy(theta, w):
    """As it should be until the third round."""
    rest = jnp.where(w[1] > 2, 0.4, 0.5)
    return ud.Categorical(log_probs=jnp.log(jnp.where(jnp.arange(2) == theta, 0.5, rest)))


DEFECTS = {
    "not a number": (lambda: process(Blank()), "task.Q_O draws what is not finite, first in round 4"),
    "a method that fails": (lambda: process(Broken()), "task.reward fails: KeyError: 'door'"),
    "weights": (lambda: process(Clocked(), Heavy()), r"expert.Q_A does not sum to one, .*off by 1"),
    "transition": (lambda: process(Clocked(), transition=lossy), "transition does not sum to one, first in round 3"),
    "leak": (lambda: process(Leaky()), "Given part of the observations differs between thetas"),
    "leak in the opening": (lambda: process(Shown(), opening=True), "Given part of the observations differs between"),
    "not normalised": (lambda: process(Swollen()), r"task.Q_O does not sum to one, first in round 4 .*off by 0.649"),
    "negative": (lambda: process(Negative()), "task.Q_O holds nan, first in round 4 .*: the logarithm of a negative"),
    "words": (lambda: process(Speechless()), "task.say fails: KeyError: 1"),
    "random": (lambda: process(Random()), "observations differ between two plays"),
    "draws": (
        lambda: process(Scrawled()),
        "task.draw fails: AttributeError: 'Frame' object has",
    ),
    "memory of theta": (lambda: process(Remembering()), "task declares theta_free_memory"),
    "no reward": (lambda: process(Unpaid()), "task.reward is not finite, first in round 5"),
    "two rewards": (lambda: process(Wide()), r"task.reward has the shape \(2,\)"),
    "told": (lambda: process(Telling(), opening=True), "the opening tells theta"),
    "absent expert": (lambda: process(Clocked(), Absent()), "expert.Q_A gives no mass to what"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found_and_named(defect):
    make, words = DEFECTS[defect]
    with pytest.raises(ValueError, match="mine: 1 problem:") as error:
        ud.check_task(make())
    error.match(words)


def test_many_thetas_that_change_are_checked_too():
    assert ud.check_task(ud.tasks.switching_bandit(num_arms=20, num_rounds=4), num_episodes=8).entropy > 2.9


@pytest.mark.parametrize("name", registry.TASKS)
def test_the_tasks_that_have_a_name_have_no_defect(name):
    assert ud.check_task(registry.make(name), num_rounds=4, num_episodes=32).action_kl_do >= 0


def test_what_is_not_a_number_under_some_theta_is_a_leak():
    """Among numbers nan is a difference; where it is nan under all, there is none."""
    some, possible = np.array([[np.nan], [1.0]])[None], np.ones((1, 2, 1), bool)
    assert _differs(some, possible)
    assert not _differs(np.full_like(some, np.nan), possible)
    assert not _differs(some, np.array([False, True]).reshape(1, 2, 1))


@pytest.mark.parametrize("task", [Clocked, Honest])
def test_a_sound_task_passes(task):
    assert "no problems" in str(ud.check_task(process(task())))


def test_what_is_measured_of_the_bandit():
    """The first sight is worth H(O) - H(O | theta) nats, the actor an expert of any theta; the gap is the exact one."""
    bandit = ud.tasks.bandit()
    report = ud.check_task(bandit)
    # An arm is the right one with probability 1/5: .75, else .25; by hand, binary entropies in nats.
    p = 0.2 * 0.75 + 0.8 * 0.25

    def h(x):
        return -x * np.log(x) - (1 - x) * np.log(1 - x)

    assert report.first_sight == pytest.approx(h(p) - h(0.75), abs=0.03)
    assert report.entropy == pytest.approx(np.log(5), abs=1e-6)
    assert report.least_mass == pytest.approx(0.1, abs=1e-6)
    gap = ud.certify(bandit, ud.ExactAgent(bandit, "see"), key=KEY, num_episodes=512, baselines=False)
    assert report.action_kl_do == pytest.approx(gap.action_kl_do, abs=4 * gap.action_kl_do_se + 0.01)


def test_an_expert_that_nobody_could_be_taken_for_is_noted():
    """It depends on what was done, not on theta alone: an action that no theta's expert takes then is no gap."""

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


def test_a_theta_that_changes_is_checked_too():
    """An exchange of the two thetas after each round: no history is impossible, whatever the first was."""
    swap = process(Clocked(), transition=lambda theta, w: ud.Categorical(probs=1.0 * (jnp.arange(2) != theta)))
    assert ud.check_task(swap).first_sight is None


def test_a_continuous_theta_is_checked_too():
    report = ud.check_task(ud.tasks.arm(num_targets=None, num_rounds=5))
    assert report.entropy is None
    assert report.action_kl_do is None


def test_the_command_prints_json_that_any_program_reads(capsys):
    """A box is opened, or not: the deluded answer rules the truth out, which is infinitely many nats."""
    assert main(["check", "frog", "--json"]) == 0
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["action_kl_do"] == "inf"
    assert found["entropy"] == pytest.approx(np.log(2))


def test_where_imitation_is_the_wrong_goal_it_warns():
    report = ud.check_task(ud.tasks.doors(), num_episodes=256)
    assert report.warning is not None
    assert "always taking one and the same action earns more" in report.warning
    assert str(report).startswith("doors: imitation is the wrong goal here")


def test_a_gap_that_is_infinite_has_a_total_variation():
    """An expert that never errs: the deluded agent is certain, and rules out what another theta's expert would do."""
    report = ud.check_task(ud.tasks.bandit(expert_accuracy=1.0), num_episodes=64)
    assert report.action_kl_do == np.inf
    assert report.action_tv_do is not None
    assert 0 < report.action_tv_do < 1
    assert any("total variation" in note for note in report.notes)
