"""An agent with one free distribution for each history: it can represent any target exactly."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

import undelude as ud


class TabularAgent(ud.AbstractAgent[Array]):
    """Its memory is the number of the history in `T` rounds; actions marked do and see lead to different ones."""

    logits_A: Array  # [histories, A]
    logits_O: Array  # [histories and an action, O]

    @classmethod
    def of(cls, process: ud.InteractionProcess) -> "TabularAgent":
        A, O = process.action_spec.n, process.observation_spec.n
        T = process.num_rounds
        nodes = sum((2 * A * O) ** t for t in range(T + 1))
        return cls(jnp.zeros((nodes, A)), jnp.zeros((nodes * 2 * A, O)))

    def init(self, *, num_rounds):
        return jnp.zeros((), jnp.int32)

    def f_A(self, m):
        return ud.Categorical(logits=self.logits_A[m])

    def f_O(self, m):
        return ud.Categorical(logits=self.logits_O[m])

    def g_A(self, a, m, *, intervened):
        A = self.logits_A.shape[1]
        return (m * 2 * A + A * jnp.asarray(intervened, jnp.int32) + a).astype(jnp.int32)

    def g_O(self, o, m):
        # Children of node m of a tree of degree d are d * m + 1, ..., d * m + d.
        return (m * self.logits_O.shape[1] + o + 1).astype(jnp.int32)


class WindowAgent(ud.AbstractAgent[Array]):
    """K-order Markov, with one free distribution for each window of one round (Remark 13): it forgets all but the
    last round.

    `greedy`, it takes its most probable action, drawn among those that are as good within 3 %.
    """

    logits_A: Array  # [1 + A * O, A]; the first row is that of the empty window
    logits_O: Array  # [A, O]
    greedy: bool = eqx.field(static=True, default=False)

    @classmethod
    def of(cls, process: ud.InteractionProcess, *, greedy: bool = False) -> "WindowAgent":
        A, O = process.action_spec.n, process.observation_spec.n
        return cls(jnp.zeros((1 + A * O, A)), jnp.zeros((A, O)), greedy=greedy)

    @property
    def full_history(self):
        return False

    def init(self, *, num_rounds):
        return jnp.zeros((), jnp.int32)

    def f_A(self, m):
        return ud.Categorical(logits=self.logits_A[m])

    def f_O(self, m):
        return ud.Categorical(logits=self.logits_O[m])

    def g_A(self, a, m, *, intervened):
        return jnp.asarray(a, jnp.int32)

    def g_O(self, o, m):
        return (1 + m * self.logits_O.shape[1] + o).astype(jnp.int32)

    def policy(self, m):
        """The distribution of its actions."""
        P = jax.nn.softmax(self.logits_A[m])
        best = P.max() * 0.97 < P
        return jnp.where(self.greedy, best / best.sum(), P)

    def act(self, m, *, key):
        return ud.Categorical(log_probs=jnp.log(self.policy(m))).sample(key), m
