"""Agents whose memory is the last K symbols (Remark 13)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import Reading, check_action
from undelude._agents.networks.decoder import linear
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.network import (
    AbstractLearnedAgent,
    AbstractNetworkAgent,
    make_num_components,
    make_specs,
    symbols,
    turns,
)
from undelude._checks import check_count
from undelude._distributions import Categorical, Spec, Symbols, num_symbols
from undelude._process.episodes import Episodes
from undelude._process.host_world import World
from undelude._types import Action, Observation


class Window(eqx.Module):
    """A function of `K` consecutive symbols: a weighted sum over pairs of neighbours, and an MLP on it.

    The vector of a symbol is `[2 D]`: one half for the symbol itself, and one that is added to its successor.

    Args:
        order: K.
        width: D.
        key: of the initial weights.
    """

    weights: Float[Array, "K D"]
    up: Float[Array, "D H"]
    bias: Float[Array, " H"]
    down: Float[Array, "H D"]

    def __init__(self, order: int, width: int, *, key: Key[Array, ""]):
        key_weights, key_up, key_down = jax.random.split(key, 3)
        # The oldest place first. Nearly equal weights start as a count of symbols; the noise lets the window tell
        # their order apart.
        noise = jax.random.normal(key_weights, (order, width))
        self.weights = (1 + 0.1 * noise) / jnp.sqrt(order)
        self.up = linear(width, 2 * width, key=key_up)
        self.bias = jnp.zeros(2 * width)
        self.down = linear(2 * width, width, key=key_down)

    def __call__(self, xs: Float[Array, "K E"]) -> Float[Array, " D"]:
        """Return the features of one window."""
        return self.along(xs)[0]

    def along(self, xs: Float[Array, "KN E"]) -> Float[Array, "N1 D"]:
        """Return the features of each window in a row of `K + N` symbols, `[N + 1, D]`."""
        order = len(self.weights)
        now, later = jnp.split(xs, 2, axis=-1)
        alone, pairs = jax.nn.silu(now), jax.nn.silu(now[1:] + later[:-1])
        # Window n starts at symbol n, without the predecessor of that symbol.
        num_windows = len(xs) - order + 1
        place = jnp.arange(len(pairs))[None] - jnp.arange(num_windows)[:, None] + 1
        inside = (place >= 1) & (place < order)
        weights = jnp.where(inside[..., None], self.weights[jnp.clip(place, 0, order - 1)], 0.0)
        h = jnp.einsum("nsd,sd->nd", weights, pairs) + self.weights[0][None] * alone[:num_windows]
        return h + jax.nn.silu(h @ self.up + self.bias[None]) @ self.down


class MarkovAgent(AbstractNetworkAgent[Float[Array, "K E"]]):
    """A K-order Markov model: `f_A` and `f_O` depend on the last `order` symbols only.

    A round has two symbols. If the right prediction depends on more than `order` symbols, the taught agent depends on
    who executed the actions in its data: teach it on its own behaviour.

    Args:
        process: whose actions and observations the agent reads and predicts; or the pair of their specs.
        order: K, in symbols, two a round.
        hidden_size: D.
        num_components: of the mixtures that predict real numbers; see `ud.LSTMAgent`.
        key: of the initial weights.

    Raises:
        TypeError: networks have no head for the process's actions or observations.
        ValueError: a size is out of range, or `num_components` is given and no real numbers are predicted.
    """

    interface: Interface
    start: Float[Array, " E"]
    window: Window
    order: int = eqx.field(static=True)
    hidden_size: int = eqx.field(static=True)
    num_components: int | None = eqx.field(static=True)
    specs: tuple[Spec, Spec] = eqx.field(static=True)

    def __init__(
        self,
        process: World | tuple[Spec, Spec],
        *,
        order: int = 40,
        hidden_size: int = 32,
        num_components: int | None = None,
        key: Key[Array, ""],
    ):
        self.specs = make_specs(process)
        self.num_components = make_num_components(process, self.specs, num_components)
        self.hidden_size = D = check_count("hidden_size", hidden_size)
        self.order = check_count("order", order)
        key_interface, key_start, key_window = jax.random.split(key, 3)
        self.interface = Interface(
            self.specs, reads=2 * D, features=D, scale=1.0, num_components=self.num_components, key=key_interface
        )
        self.start = jax.random.uniform(key_start, (2 * D,), minval=-1.0)
        self.window = Window(self.order, D, key=key_window)
        self.reading = Reading("do")

    @property
    def full_history(self) -> bool:
        """False: the memory keeps the last `order` symbols."""
        return False

    def init(self, *, num_rounds: int) -> Float[Array, "K E"]:
        """Return `K` times the start symbol."""
        del num_rounds
        return self.with_mask(self._empty())

    def _empty(self) -> Float[Array, "K E"]:
        return jnp.broadcast_to(self.start, (self.order, len(self.start)))

    def step(self, x: Float[Array, " E"], m: Float[Array, "K E"]) -> Float[Array, "K E"]:
        """Return the window with the new symbol and without the oldest one."""
        return jnp.concatenate([m[1:], x[None]])

    def features(self, m: Float[Array, "K E"]) -> Float[Array, " D"]:
        """Return the features of the window."""
        return self.window(m)

    def parallel(self, xs: Float[Array, "N E"]) -> Float[Array, "N1 D"]:
        """Return the features of all windows at once."""
        return self.window.along(jnp.concatenate([self._empty(), xs]))


class SequencePredictor(AbstractLearnedAgent[Int[Array, " K"]]):
    """One function `P(X_(t+1) | X_1 = x_1, ..., X_t = x_t) = f([x_1, ..., x_t])` for actions and observations alike.

    This is the second form of Remark 13, with the context truncated to the last `order` symbols; the memory is the
    context itself. Actions, observations and their do-forms (Remark 14) are symbols of one vocabulary. `f_A` is f
    restricted to the actions and renormalised, and `f_O` is f restricted to the observations and renormalised.

    With A actions, O observations and V = A + O, action `a` is symbol `a`, observation `o` is `A + o`, the do-forms are
    these plus V, and `2 V` stands for the time before the episode.

    Args:
        process: whose actions and observations are symbols; or the pair of their specs.
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
    specs: tuple[Spec, Spec] = eqx.field(static=True)

    def __init__(
        self,
        process: World | tuple[Spec, Spec],
        *,
        order: int = 40,
        hidden_size: int = 32,
        key: Key[Array, ""],
    ):
        self.specs = make_specs(process)
        self.hidden_size = D = check_count("hidden_size", hidden_size)
        self.order = check_count("order", order)
        for name, spec in zip(("actions", "observations"), self.specs, strict=True):
            if not isinstance(spec, Symbols):
                raise TypeError(f"SequencePredictor: {name} must be symbols (Categorical), not {spec}.")
        V = sum(map(num_symbols, self.specs))
        key_table, key_window, key_out = jax.random.split(key, 3)
        self.table = jax.random.uniform(key_table, (2 * V + 1, 2 * D), minval=-1.0)
        self.window = Window(self.order, D, key=key_window)
        self.out = linear(D, V, key=key_out)
        self.bias = jnp.zeros(V)
        self.reading = Reading("do")

    @property
    def num_actions(self) -> int:
        """A: the first A symbols of the vocabulary are actions."""
        return num_symbols(self.specs[0])

    def f(self, context: Int[Array, " K"]) -> Categorical:
        """Return the distribution of the next symbol, over the whole vocabulary."""
        return Categorical(logits=self.window(self.table[context]) @ self.out + self.bias)

    @property
    def full_history(self) -> bool:
        """False: the memory keeps the last `order` symbols."""
        return False

    def init(self, *, num_rounds: int) -> Int[Array, " K"]:
        """Return `K` times the symbol for the time before the episode."""
        del num_rounds
        return jnp.full(self.order, len(self.table) - 1, jnp.int32)

    def f_A(self, m: Int[Array, " K"]) -> Categorical:
        """Return `f(m)` restricted to the actions."""
        return self._actions(self.f(m))

    def f_O(self, m: Int[Array, " K"]) -> Categorical:
        """Return `f(m)` restricted to the observations."""
        return self._observations(self.f(m))

    def g_A(self, a: Action, m: Int[Array, " K"], *, intervened: Bool[Array, ""] | bool) -> Int[Array, " K"]:
        """Return the context followed by `do(a)` if `intervened`, otherwise by `a`."""
        check_action(self, self.specs[0], a, intervened)
        return jnp.append(m[1:], self._action(a, intervened))

    def g_O(self, o: Observation, m: Int[Array, " K"]) -> Int[Array, " K"]:
        """Return the context followed by `o`."""
        self.specs[1].check(f"{type(self).__name__}: an observation", o)
        return jnp.append(m[1:], self._observation(o))

    def predict(self, episode: Episodes) -> tuple[Categorical, Categorical]:
        """Return all predictions over an episode, from all contexts at once."""
        first = self.init(num_rounds=episode.num_rounds)
        ids = jnp.concatenate([first, symbols(episode, self._action, self._observation)])
        logits = self.window.along(self.table[ids]) @ self.out + self.bias[None]
        distributions = jax.vmap(lambda logits: Categorical(logits=logits))(logits)
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
