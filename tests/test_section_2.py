"""Section 2: prize or frog, equations 1 and 2, and Remarks 1 to 8, from the library's own objects."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import undelude as ud
from answers import MARKS, after_action, belief, predictions


def test_eq_1(frog: ud.InteractionProcess):
    """`P(a) = sum_theta P(a | theta) P(theta) = 1/2`."""
    P_A, _ = predictions(ud.ExactAgent(frog), ud.Episodes.of(frog, actions=[0], observations=[0]))
    np.testing.assert_allclose(P_A.probs, [[1 / 2, 1 / 2]])


@pytest.mark.parametrize("a", [0, 1])
def test_section_2_self_delusion(frog: ud.InteractionProcess, a: int):
    """Conditioning on the action: `P(theta | a)` is certain, and so is the prize: `P(O = 1 | a) = 1` for either box."""
    P_theta, P_O = after_action(frog, "see", a)
    np.testing.assert_allclose(P_theta, np.arange(2) == a)
    np.testing.assert_allclose(P_O, [0, 1])


@pytest.mark.parametrize("a", [0, 1])
def test_section_2_addressing_the_delusion(frog: ud.InteractionProcess, a: int):
    """`P(theta | do(a)) = P(theta)`, and by the back-door adjustment `P(O | do(a)) = 1/2`."""
    P_theta, P_O = after_action(frog, "do", a)
    np.testing.assert_allclose(P_theta, [1 / 2, 1 / 2])
    np.testing.assert_allclose(P_O, [1 / 2, 1 / 2])


class ShownTask(ud.AbstractTask[Array]):
    """Prize or frog whose opening shows theta: symbols 0 and 1 for the box, then 2 for the frog and 3 for the prize."""

    theta_free_memory: ClassVar[bool] = True

    def init(self, theta):
        return jnp.array(-1)

    def Q_O(self, theta, w):
        shown = jnp.where(w < 0, theta, 2 + (w == theta))
        return ud.Categorical(log_probs=jnp.log(jax.nn.one_hot(shown, 4)))

    def g_A(self, theta, a, w):
        return jnp.asarray(a)

    def g_O(self, theta, o, w):
        return w

    def reward(self, theta, w, a, o):
        return jnp.where(o == 3, 1.0, -1.0)


@pytest.mark.parametrize("theta", [0, 1])
def test_section_2_fully_observable(frog: ud.InteractionProcess, theta: int):
    """Where Theta is seen, acting imitates the expert, and `P(O | Theta, A) = P(O | Theta, do(A))`."""
    shown = ud.InteractionProcess(frog.prior, frog.thetas, ShownTask(), frog.expert, num_rounds=1, opening=True)
    for a in (0, 1):
        for mark in (True, False) if a == theta else (True,):
            history = ud.Episodes.of(
                shown, opening=theta, actions=[a], observations=[2 + (a == theta)], intervened=mark
            )
            P_A, P_O = predictions(ud.ExactAgent(shown), history)
            np.testing.assert_allclose(P_A.probs[0], np.arange(2) == theta)
            np.testing.assert_allclose(P_O.probs[0], [1 / 2, 1 / 2, 0, 0])
            np.testing.assert_allclose(P_O.probs[1], [0, 0, a != theta, a == theta])


def test_eq_2(frog: ud.InteractionProcess):
    """Both posteriors of equation 2 for box 1: after a prize both are certain; after a frog, see is impossible."""
    np.testing.assert_allclose(belief(frog, "see", [0], [1]), [1, 0])
    np.testing.assert_allclose(belief(frog, "do", [0], [1]), [1, 0])
    np.testing.assert_allclose(belief(frog, "do", [0], [0]), [0, 1])
    with pytest.raises(ValueError, match="impossible evidence"):
        belief(frog, "see", [0], [0])


def test_remark_2():
    """The same where the expert's choices and the outcomes are stochastic.

    Expert right with 4/5, content right with 2/3. P(theta = 1 | a = 1) = 4/5; P(O = 1 | a = 1) = 4/5 2/3 + 1/5 1/3 =
    3/5; under do, 1/2 and 1/2.
    """
    right = np.eye(2)
    pays = np.where(right == 1, 2 / 3, 1 / 3)
    process = ud.tasks.from_tables(
        prior=[0.5, 0.5], expert=np.where(right == 1, 4 / 5, 1 / 5), task=np.stack([1 - pays, pays], -1), num_rounds=1
    )
    (seen_theta, seen_O), (done_theta, done_O) = (after_action(process, mark, 0) for mark in ("see", "do"))
    np.testing.assert_allclose(seen_theta, [4 / 5, 1 / 5], rtol=1e-6)
    np.testing.assert_allclose(seen_O, [2 / 5, 3 / 5], rtol=1e-6)
    np.testing.assert_allclose(done_theta, [1 / 2, 1 / 2], rtol=1e-6)
    np.testing.assert_allclose(done_O, [1 / 2, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize(("a", "o"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)])
def test_remark_3(a: int, o: int):
    """The two posteriors differ by the evidence of the action: `P(theta | a, o) ~ P(theta | do(a), o) P(a | theta)`."""
    rng = np.random.default_rng(3)
    prior, expert, task = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3), 4), rng.dirichlet(np.ones(2), (4, 3))
    process = ud.tasks.from_tables(prior=prior, expert=expert, task=task, num_rounds=1)
    seen, done = (belief(process, mark, [a], [o]) for mark in ("see", "do"))
    by_hand = prior * task[:, a, o]
    np.testing.assert_allclose(done, by_hand / by_hand.sum(), rtol=1e-5)
    by_hand = by_hand * expert[:, a]
    np.testing.assert_allclose(seen, by_hand / by_hand.sum(), rtol=1e-5)
    np.testing.assert_allclose(seen, done * expert[:, a] / (done * expert[:, a]).sum(), rtol=1e-5)


def test_remark_7(frog: ud.InteractionProcess):
    """Observations that hold the task identifier bring the problem back to the fully observable case: do = see.

    On its own histories the deluded agent's predictions are those of the sober one, once theta was shown.
    """
    shown = ud.InteractionProcess(frog.prior, frog.thetas, ShownTask(), frog.expert, num_rounds=3, opening=True)
    deluded = ud.ExactAgent(shown, own_actions="see")
    episodes = ud.rollout(shown, deluded, key=jax.random.key(0), num_episodes=16)
    as_do, as_see = (ud.posterior(shown, episodes, own_actions=mark) for mark in MARKS)
    np.testing.assert_allclose(np.exp(as_do), np.exp(as_see))
