"""Agents whose memory is the last K symbols (Remark 13)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import Reading
from undelude._agents.networks.decoder import linear
from undelude._agents.networks.heads import freeze, thaw
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import AbstractLearnedAgent, AbstractNetworkAgent, make_spec, symbols, turns
from undelude._checks import check_count
from undelude._distributions.distributions import Categorical
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._types import Action, Observation


class Window(eqx.Module):
    """A function of `K` symbols in a row: what each pair of neighbours says, weighted by its place, summed; an MLP.

    A symbol comes as `[2 D]`: what it says about itself, and what it says to its successor.
    """

    weights: Float[Array, "K D"]
    up: Float[Array, "D H"]
    bias: Float[Array, " H"]
    down: Float[Array, "H D"]

    def __init__(self, order: int, width: int, *, key: Key[Array, ""]):
        key_weights, key_up, key_down = jax.random.split(key, 3)
        # The oldest first. Nearly alike, so that it begins as a count, and not quite, so that it can tell orders apart.
        noise = jax.random.normal(key_weights, (order, width))
        self.weights = (1 + 0.1 * noise) / jnp.sqrt(order)
        self.up, self.down = linear(width, 2 * width, key=key_up), linear(2 * width, width, key=key_down)
        self.bias = jnp.zeros(2 * width)

    def __call__(self, xs: Float[Array, "K E"]) -> Float[Array, " D"]:
        """Of one window."""
        return self.along(xs)[0]

    def along(self, xs: Float[Array, "KN E"]) -> Float[Array, "N1 D"]:
        """Of each window in a row of `K + N` symbols, `[N + 1, D]`."""
        order = len(self.weights)
        now, later = jnp.split(xs, 2, axis=-1)
        alone, pairs = jax.nn.silu(now), jax.nn.silu(now[1:] + later[:-1])
        # Window n starts at symbol n; of its oldest symbol the predecessor is not known.
        num_windows = len(xs) - order + 1
        place = jnp.arange(len(pairs))[None] - jnp.arange(num_windows)[:, None] + 1
        inside = (place >= 1) & (place < order)
        weights = jnp.where(inside[..., None], self.weights[jnp.clip(place, 0, order - 1)], 0.0)
        h = jnp.einsum("nsd,sd->nd", weights, pairs) + self.weights[0][None] * alone[:num_windows]
        return h + jax.nn.silu(h @ self.up + self.bias[None]) @ self.down


class MarkovAgent(AbstractNetworkAgent[Float[Array, "K E"]]):
    """A K-order Markov model: `f_A` and `f_O` see the last `order` symbols, and nothing of what was before.

    A round has two symbols. Where the answer depends on more than that, what such an agent learns depends on who acted
    while it was taught: teach it on its own behaviour.

    Args:
        process: whose actions and observations it is to read and predict (or the description in its `config`).
        order: K, in symbols, two a round.
        hidden_size: D.
        key: of the initial weights.

    Raises:
        TypeError: there is no head for the process's distributions.
    """

    interface: Interface
    start: Float[Array, " E"]
    window: Window
    order: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(
        self,
        process: InteractionProcess | dict[str, Any],
        order: int = 40,
        hidden_size: int = 32,
        *,
        key: Key[Array, ""],
    ):
        spec, hidden_size = make_spec(process), check_count("hidden_size", hidden_size)
        order, width = check_count("order", order), 2 * hidden_size
        key_interface, key_start, key_window = jax.random.split(key, 3)
        self.interface = Interface(spec, reads=width, features=hidden_size, scale=1.0, key=key_interface)
        self.start = jax.random.uniform(key_start, (width,), minval=-1.0)
        self.window = Window(order, hidden_size, key=key_window)
        self.reading = Reading("do")
        self.order, self.hidden_size, self.spec = order, hidden_size, freeze(spec)

    @property
    def full_history(self) -> bool:
        """False: the memory keeps the last `order` symbols."""
        return False

    def init(self, *, num_rounds: int) -> Float[Array, "K E"]:
        """Marks of the beginning, `K` times."""
        del num_rounds
        return jnp.broadcast_to(self.start, (self.order, len(self.start)))

    def step(self, x: Float[Array, " E"], m: Float[Array, "K E"]) -> Float[Array, "K E"]:
        """The window without its oldest symbol, and with the new one."""
        return jnp.concatenate([m[1:], x[None]])

    def features(self, m: Float[Array, "K E"]) -> Float[Array, " D"]:
        """A function of the window."""
        return self.window(m)

    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """All windows at once."""
        return self.window.along(jnp.concatenate([self.init(num_rounds=len(xs)), xs]))


class SequencePredictor(AbstractLearnedAgent[Int[Array, " K"]]):
    """One function `P(X_(t+1) | X_1 = x_1, ..., X_t = x_t) = f([x_1, ..., x_t])` for actions and observations alike.

    Remark 13's other form, with the context truncated to the last `order` symbols. Actions and observations are symbols
    of one vocabulary, and so are their do-forms (Remark 14). The memory is the context itself. What f says of
    the symbols that cannot come next is left out: `f_A` is its distribution over the actions and `f_O` its
    distribution over the
    observations, each renormalised.

    Symbols, V = A + O: action `a` is `a`, observation `o` is `A + o`; their do-forms are these plus V, and `2 V` stands
    for what was before the beginning.

    Args:
        process: whose actions and observations are symbols (or the description in its `config`).
        order: K.
        hidden_size: D.
        key: of the initial weights.

    Raises:
        TypeError: actions or observations are not symbols.

    >>> import undelude as ud
    >>> agent = ud.SequencePredictor(ud.tasks.bandit(), order=4, key=jax.random.key(0))
    >>> m = agent.g_O(jnp.array(1), agent.g_A(jnp.array(2), agent.init(num_rounds=1), intervened=True))
    >>> m.tolist(), agent.f(m).num_categories
    ([14, 14, 9, 6], 7)
    """

    table: Float[Array, "n E"]
    window: Window
    out: Float[Array, "D V"]
    bias: Float[Array, " V"]
    order: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    spec: tuple[Any, ...] = eqx.field(static=True)

    def __init__(
        self,
        process: InteractionProcess | dict[str, Any],
        order: int = 40,
        hidden_size: int = 32,
        *,
        key: Key[Array, ""],
    ):
        spec, hidden_size = make_spec(process), check_count("hidden_size", hidden_size)
        for name in ("actions", "observations"):
            if spec[name]["kind"] != "categorical":
                raise TypeError(f"SequencePredictor: {name} must be symbols (Categorical), not {spec[name]['kind']}.")
        vocabulary = spec["actions"]["num_categories"] + spec["observations"]["num_categories"]
        key_table, key_window, key_out = jax.random.split(key, 3)
        self.table = jax.random.uniform(key_table, (2 * vocabulary + 1, 2 * hidden_size), minval=-1.0)
        self.order = check_count("order", order)
        self.window = Window(self.order, hidden_size, key=key_window)
        self.out, self.bias = linear(hidden_size, vocabulary, key=key_out), jnp.zeros(vocabulary)
        self.reading = Reading("do")
        self.hidden_size, self.spec = hidden_size, freeze(spec)

    @property
    def num_actions(self) -> int:
        """A: of the vocabulary's symbols, the first A are actions."""
        return thaw(self.spec)["actions"]["num_categories"]

    def f(self, context: Int[Array, " K"]) -> Categorical:
        """The distribution of the next symbol, over the whole vocabulary."""
        return Categorical(logits=self.window(self.table[context]) @ self.out + self.bias)

    @property
    def full_history(self) -> bool:
        """False: the memory keeps the last `order` symbols."""
        return False

    def init(self, *, num_rounds: int) -> Int[Array, " K"]:
        """Nothing has come yet."""
        del num_rounds
        return jnp.full(self.order, len(self.table) - 1, jnp.int32)

    def f_A(self, m: Int[Array, " K"]) -> Categorical:
        """`f`, where an action comes next."""
        return self._actions(self.f(m))

    def f_O(self, m: Int[Array, " K"]) -> Categorical:
        """`f`, where an observation comes next."""
        return self._observations(self.f(m))

    def g_A(self, a: Action, m: Int[Array, " K"], *, intervened: Bool[Array, ""] | bool) -> Int[Array, " K"]:
        """The context with `a` or `do(a)` at its end."""
        return jnp.append(m[1:], self._action(a, intervened))

    def g_O(self, o: Observation, m: Int[Array, " K"]) -> Int[Array, " K"]:
        """The context with `o` at its end."""
        return jnp.append(m[1:], self._observation(o))

    def predict(self, episode: Episodes) -> tuple[Categorical, Categorical]:
        """All contexts at once."""
        ids = jnp.concatenate(
            [self.init(num_rounds=episode.num_rounds), symbols(episode, self._action, self._observation)]
        )
        distributions = jax.vmap(Categorical)(self.window.along(self.table[ids]) @ self.out + self.bias[None])
        before_actions, before_observations = turns(episode)
        P_A = jax.vmap(self._actions)(jax.tree.map(lambda x: x[before_actions], distributions))
        return P_A, jax.vmap(self._observations)(jax.tree.map(lambda x: x[before_observations], distributions))

    def _action(self, a: Action, intervened: Bool[Array, ""] | bool) -> Int[Array, ""]:
        return jnp.asarray(a + jnp.where(intervened, len(self.bias), 0), jnp.int32)

    def _observation(self, o: Observation) -> Int[Array, ""]:
        return jnp.asarray(o + self.num_actions, jnp.int32)

    def _actions(self, distribution: Categorical) -> Categorical:
        return Categorical(logits=distribution.log_probs[: self.num_actions])

    def _observations(self, distribution: Categorical) -> Categorical:
        return Categorical(logits=distribution.log_probs[self.num_actions :])
