"""Interaction processes for Section 3 and Remark 14: the game of Figure 3, and a bandit whose best arm moves."""

import functools
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

import undelude as ud
from undelude._distributions import as_categorical
from undelude._paper.blocks.models import GAME, game


class Past(eqx.Module):
    """A history: the round, and the index of the history among those of its length."""

    t: Int[Array, ""]
    code: Int[Array, ""]

    def then(self, symbol: Any, num_symbols: int, *, end: bool = False) -> "Past":
        """Append a symbol; `end` if it is the last one of its round."""
        return Past(self.t + end, self.code * num_symbols + symbol)


def _nothing_yet() -> Past:
    return Past(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


class PastTask(ud.AbstractTask[Past]):
    """`Q(O_t | theta, a_1:t, o_1:t-1)` by a table `[K, T, history, O]`."""

    theta_free_memory: ClassVar[bool] = True
    probs: Float[Array, "K T H O"]
    num_actions: int = eqx.field(static=True)

    def init(self, theta: Any) -> Past:
        """Return the empty history."""
        return _nothing_yet()

    def Q_O(self, theta: Any, w: Past) -> ud.Categorical:
        """Return a row of the table."""
        return ud.Categorical(probs=self.probs[theta, w.t, w.code])

    def g_A(self, theta: Any, a: Any, w: Past) -> Past:
        """Append the action."""
        return w.then(a, self.num_actions)

    def g_O(self, theta: Any, o: Any, w: Past) -> Past:
        """Append the observation."""
        return w.then(o, self.probs.shape[-1], end=True)

    def reward(self, theta: Any, w: Past, a: Any, o: Any) -> Array:
        """Return the observation."""
        return jnp.asarray(o, float)


class PastExpert(ud.AbstractExpert[Past]):
    """`Q(A_t | theta, a_1:t-1, o_1:t-1)` by a table `[K, T, history, A]`."""

    theta_free_memory: ClassVar[bool] = True
    probs: Float[Array, "K T H A"]
    num_observations: int = eqx.field(static=True)

    def init(self, theta: Any) -> Past:
        """Return the empty history."""
        return _nothing_yet()

    def Q_A(self, theta: Any, e: Past) -> ud.Categorical:
        """Return a row of the table."""
        return ud.Categorical(probs=self.probs[theta, e.t, e.code])

    def g_A(self, theta: Any, a: Any, e: Past) -> Past:
        """Append the action."""
        return e.then(a, self.probs.shape[-1])

    def g_O(self, theta: Any, o: Any, e: Past) -> Past:
        """Append the observation."""
        return e.then(o, self.num_observations, end=True)


# Values of Theta in the process of the game: theta_1 in the first round, theta_1:2 after it.
PATHS = ((0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1))


class Extend(eqx.Module):
    """The transition `Q(theta_1:2 | theta_1, a_1, o_1)`: the path of thetas grows once, after the first round."""

    probs: Float[Array, "2 4 2"]  # theta_1, (a_1, o_1), theta_2

    def __call__(self, theta: Any, w: Past) -> ud.Categorical:
        """Return the distribution over `PATHS`."""
        grown = jnp.zeros(len(PATHS)).at[jnp.array([2, 3]) + 2 * theta].set(self.probs[theta, w.code])
        return ud.Categorical(probs=jnp.where((theta < 2) & (w.t == 1), grown, jnp.eye(len(PATHS))[theta]))


def game_process(model: ud.CausalModel) -> ud.InteractionProcess:
    """Return the game as an interaction process whose Theta is the path `theta_1:t`.

    Args:
        model: the result of `game`.
    """
    table = {name: np.asarray(model[name].table) for name in GAME}
    first, second = slice(0, 2), slice(2, 6)
    # Entries of paths and histories that do not occur are uniform.
    Q_A, Q_O = np.full((6, 2, 4, 2), 0.5), np.full((6, 2, 8, 2), 0.5)
    Q_A[first, 0, 0] = table["A_1"]
    Q_O[first, 0, :2] = table["O_1"]
    Q_A[second, 1] = np.einsum("iaojx->ijaox", table["A_2"]).reshape(4, 4, 2)
    Q_O[second, 1] = np.einsum("iaojbx->ijaobx", table["O_2"]).reshape(4, 8, 2)
    return ud.InteractionProcess(
        prior=np.append(table["Theta_1"], np.zeros(4)),
        thetas=jnp.arange(6),
        task=PastTask(jnp.asarray(Q_O, float), 2),
        expert=PastExpert(jnp.asarray(Q_A, float), 2),
        num_rounds=2,
        transition=Extend(jnp.asarray(table["Theta_2"].reshape(2, 4, 2), float)),
        name="game of two rounds",
    )


class Tire(eqx.Module):
    """The transition of a bandit whose best arm moves with probability 1/2 if it was pulled, else 1/10."""

    num_arms: int = eqx.field(static=True)

    def __call__(self, theta: Any, w: Any) -> ud.Categorical:
        """Return the distribution of the next best arm; `w` is the last action."""
        p, arms = jnp.where(w == theta, 1 / 2, 1 / 10), jnp.arange(self.num_arms)
        moved = p * (arms == (theta + 1) % self.num_arms)
        return ud.Categorical(probs=jnp.where(arms == theta, 1 - p, moved))


def tiring_bandit(num_arms: int = 3, num_rounds: int = 3) -> ud.InteractionProcess:
    """Return Remark 11's bandit with a best arm that moves, `P(Theta_t+1 | theta_t, a_t)`."""
    b = ud.tasks.bandit(num_arms=num_arms, num_rounds=num_rounds)
    return ud.InteractionProcess(b.prior, b.thetas, b.task, b.expert, num_rounds, transition=Tire(num_arms))


@functools.cache
def game_twice() -> tuple[ud.CausalModel, ud.InteractionProcess, ud.CausalModel]:
    """Return Figure 3's game as a graph, as an interaction process, and as the graph of that process."""
    model = game()
    process = game_process(model)
    return model, process, process.causal_model()


@functools.cache
def tiring_twice() -> tuple[ud.InteractionProcess, ud.CausalModel]:
    """Return the bandit of three rounds whose best arm moves, and its graph."""
    process = tiring_bandit()
    return process, process.causal_model()


class Exact(eqx.Module):
    """Predictions and beliefs of an exact agent before each round of histories."""

    P_A: Float[Array, "*B A"]
    belief: Float[Array, "*B K"]


@eqx.filter_jit
def exact(process: ud.InteractionProcess, histories: ud.Episodes) -> Exact:
    """Return an exact agent's prediction of each action of each history and its belief, given the marks."""
    agent = ud.ExactAgent(process)

    def one(history: ud.Episodes) -> Exact:
        def round(m: Any, x: Any) -> tuple[Any, Exact]:
            a, intervened, o = x
            before = Exact(as_categorical(agent.f_A(m)).probs, jnp.exp(agent.belief(m)))
            return agent.g_O(o, agent.g_A(a, m, intervened=intervened)), before

        m = agent.init(num_rounds=history.num_rounds)
        return jax.lax.scan(round, m, (history.actions, history.intervened, history.observations))[1]

    return jax.vmap(one)(histories)
