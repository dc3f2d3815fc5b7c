"""A world as a batch of episodes in Python, such as a simulator that JAX cannot trace."""

import abc
import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._checks import one_line
from undelude._distributions import AbstractDistribution, Block, Parts, Spec, Symbols
from undelude._process.world import AbstractWorld
from undelude._types import Action, Belief, Frame, Mark, Observation, S

if TYPE_CHECKING:
    from undelude._process.episodes import Episodes

# Indices of numbers that a message lists.
MAX_NUMBERS = 8
# Why a world has no exact answers, unless it says otherwise.
SAMPLED_ONLY = "what observations say about theta is not known: this world can only be sampled."
# Predictions of a whole batch: arrays have a leading axis B. None if nothing is predicted.
Prediction = AbstractDistribution | None


class Evidence(eqx.Module):
    """What each of K values of Theta says about B stored episodes, so that exact answers exist without tables.

    Attributes:
        experts: `Q(A | theta, e)`, arrays `[B, T + 1, K, ...]`, before each round and after the last.
        log_likelihood: `[B, T + 1, K]`, nats, up to a term that theta does not change: the log-prior with the opening,
            then `log P(o_t | theta, history)` of each observation.
        symbols: by name, the parts of an observation that theta changes: `P(part | theta, history, other parts)`,
            Categoricals `[B, T, K, n]`. In worlds of `undelude.gym`, `experts` and `symbols` of round t depend on the
            observations before and after it alone.
    """

    experts: Any
    log_likelihood: Float[Array, "*B T1 K"]
    symbols: Mapping[str, Any] = eqx.field(default_factory=dict)

    def log_posterior(self, episode: "Episodes", intervened: Bool[Array, " T"] | bool) -> Float[Array, "T1 K"]:
        """Return `log P(theta | history)` of one episode before each round and after the last, by Bayes' rule.

        After a round that is impossible under every theta the belief stays as it was.

        The fields are of that episode, without the axis B.

            P(theta | do(a), o)   is proportional to P(theta) prod_s P(o_s | theta, h_s)
            P(theta | a, o)       has the factors Q(a_s | theta, e_s) too

        Args:
            episode: the history.
            intervened: which actions are read as do; the others are read as see.
        """
        experts = jax.tree.map(lambda x: x[:-1], self.experts)
        of_actions = jax.vmap(lambda Q, a: jax.vmap(lambda Q: Q.log_prob(a))(Q))(experts, episode.actions)
        do = jnp.broadcast_to(jnp.asarray(intervened), episode.mask.shape)
        log_likelihood = self.log_likelihood.at[1:].add(jnp.where((do | ~episode.mask)[:, None], 0, of_actions))

        def update(belief: Array, x: Array) -> tuple[Array, Array]:
            later = belief + x
            belief = jnp.where(jnp.isneginf(later).all(), belief, jax.nn.log_softmax(later))
            return belief, belief

        return jax.lax.scan(update, jnp.zeros(log_likelihood.shape[-1]), log_likelihood)[1]


class AbstractHostWorld(abc.ABC, Generic[S]):
    """A batch of episodes in Python: the methods of `AbstractWorld` with a leading axis B, never traced.

    Rows of episodes that have ended are still passed and returned; their values are ignored.

    Attributes:
        name, num_rounds, specs, opening, theta_changes, ends_early, finite: as in `AbstractWorld`.
        num_envs: the greatest B; None if there is no limit.
        expert_is_person: whether each question to the expert goes to a person, so that none is asked in vain.
    """

    name: str
    num_rounds: int
    specs: tuple[Spec, Spec]
    opening: bool = False
    theta_changes: bool = False
    ends_early: bool = True
    num_envs: int | None = None
    finite: bool = False
    expert_is_person: bool = False

    @abc.abstractmethod
    def begin(self, keys: Key[Array, " B"], theta: int | None = None) -> tuple[S, Observation | None]:
        """Sample theta, unless it is given, and the openings."""

    @abc.abstractmethod
    def theta(self, state: S) -> PyTree:
        """Return theta of each episode."""

    @abc.abstractmethod
    def consult(self, state: S, keys: Key[Array, " B"]) -> tuple[Prediction, Action | None]:
        """Return the expert's distributions, or None if they are not known, and its actions.

        The actions may be None if the distributions are known: the loop draws from them when it needs to.
        """

    @abc.abstractmethod
    def respond(
        self, state: S, a: Action, keys: Key[Array, " B"]
    ) -> tuple[S, Observation, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Return the next state, observations, rewards, and whether each episode has ended."""

    def lost(self, state: S) -> Bool[np.ndarray, " B"] | None:
        """Return which episodes were lost to a failure; None, the default, if none can be."""
        del state

    def evidence(self, episodes: "Episodes") -> Evidence | str:
        """Return what each theta says about stored episodes, or why it is not known."""
        del episodes
        return SAMPLED_ONLY

    @property
    def no_exact_agent(self) -> str | None:
        """Why there is no exact agent; None if there is."""
        return SAMPLED_ONLY

    def exact_agent(self, own_actions: Mark = "do") -> Any:
        """Return the exact agent as a `ud.HostAgent`.

        Raises:
            TypeError: there is none; the message is that of `no_exact_agent`.
        """
        del own_actions
        raise TypeError(f"{self.name} has no exact agents: {self.no_exact_agent}")

    def context_in_words(self, theta: int) -> str:
        """Return a value of theta for a message; by default its number."""
        return f"context {theta}"

    @property
    def leak(self) -> str | None:
        """Where agents were found to see theta other than as `evidence` knows; None, the default, if they were not."""
        return None

    def random_actions(self, rng: np.random.Generator, num_episodes: int) -> Action:
        """Return actions for a check of the world, `[B, ...]`: by default symbols of equal probability, or normal."""

        def draw(spec: Spec) -> Any:
            if isinstance(spec, Parts):
                return spec.structure.unflatten(draw(part) for part in spec.leaves)
            shape = (num_episodes, *spec.value.shape)
            if isinstance(spec, Symbols | Block):
                return rng.integers(0, spec.n, shape).astype(np.int32)
            return rng.normal(size=shape).astype(np.float32)

        return draw(self.action_spec)

    def possible(self, state: S, a: Action) -> Action:
        """Return the actions of a check of the world, with others in place of those that cannot be taken now."""
        del state
        return a

    def clipped(self, a: Action) -> Bool[np.ndarray, " B"] | None:
        """Return which actions are clipped when they are played; None, the default, if none ever is."""
        del a

    def difference(self, one: Sequence[Observation], other: Sequence[Observation]) -> tuple[str, int] | None:
        """Return in words what differs between the observations of two batches, and in which of them first."""
        return difference(one, other)

    def say(self, o: Observation) -> str:
        """Describe one observation for films and reports: by default its symbols, such as "cue 1, ended 0"."""
        spec, parts = self.observation_spec, _parts(o)
        named = (spec.named or {}) if isinstance(spec, Parts) else {"observation": spec}
        symbols = [name for name, part in named.items() if isinstance(part, Symbols | Block)]
        return ", ".join(f"{name if len(named) > 1 else ''} {parts[name]}".strip() for name in symbols)

    def on_contexts(self) -> list[str]:
        """Return what a check of the world should note of the values of theta; by default nothing."""
        return []

    def outside(self, o: Observation) -> str | None:
        """Return which number of some observations is outside its declared bounds; None, the default, if none is."""
        del o

    def without_effect(
        self, episodes: "Episodes", rounds: Int[np.ndarray, " B"], others: Action, *, key: Key[Array, ""], most: int
    ) -> tuple[list[int] | str, Action]:
        """Find rounds in which another action has the effect of the one that was played, whatever theta.

        Args:
            episodes: a rollout.
            rounds: one of each episode.
            others: an action for each.
            key: of the rollout.
            most: the number of episodes that are enough.

        Returns:
            The episodes, or why it is not known; the other actions, as they were compared.
        """
        del episodes, rounds, key, most
        return "it is not known whether an action has an effect, since this world cannot play an episode again.", others

    @property
    def no_film(self) -> str | None:
        """Why there are no films; None if there are."""
        return "a world that can only be sampled has no drawing of a round."

    def replay(self, episode: "Episodes", key: Key[Array, ""]) -> Sequence[Any]:
        """Play an episode again from its key; return what `draw` needs before the first action and after each.

        Raises:
            ValueError: there are no films, or the agent sees something else than in the episode.
        """
        del episode, key
        raise ValueError(f"{self.name}: no film, since {self.no_film}")

    def draw(self, frame: Frame, theta: int, w: Any, belief: Belief) -> None:
        """Draw the world in one round for `ud.film`, as `AbstractTask.draw` does; by default, draw only the belief.

        Args:
            frame: a `ud.Frame` from (0, 0) to (1, 1) that has its title already.
            theta: the index of the true value.
            w: an entry of `replay`.
            belief: the index of each value with its probability; empty if it is not known.
        """
        del w
        if belief:
            frame.bars([p for _, p in belief], framed=theta)

    def failures_in_words(self) -> str | None:
        """Return how many episodes were lost to failures, by cause; None, the default, if none was."""
        return None

    def unread_in_words(self) -> str | None:
        """Return what the world says and this class does not use; None, the default, if there is nothing."""
        return None

    def settings_in_words(self) -> str:
        """Return what several processes that share a run must agree on: name, rounds and specs by default."""
        return f"{self.name}, {self.num_rounds} rounds, {self.specs}"

    def close(self) -> None:
        """End what the world started, such as processes; by default nothing."""

    @property
    def action_spec(self) -> Spec:
        """The spec of actions: the set of their values."""
        return self.specs[0]

    @property
    def observation_spec(self) -> Spec:
        """The spec of observations: the set of their values."""
        return self.specs[1]


# Either kind.
World: TypeAlias = AbstractWorld | AbstractHostWorld


@contextlib.contextmanager
def closing(process: World) -> Iterator[World]:
    """Close a world that runs in Python when the block ends, so that none of its processes outlives the block."""
    try:
        yield process
    finally:
        if isinstance(process, AbstractHostWorld):
            process.close()


def check_world(world: object) -> None:
    """Raise `TypeError` if `world` is neither a process nor another world."""
    if not isinstance(world, World):
        raise TypeError(
            f"process must be an ud.InteractionProcess, such as ud.tasks.bandit(), not {one_line(repr(world))}."
        )


def difference(
    one: Sequence[Observation],
    other: Sequence[Observation],
    *,
    but: Collection[str] = (),
    indices: Mapping[str, Any] | None = None,
) -> tuple[str, int] | None:
    """Return in words what differs between what two agents saw, and the first round in which something does.

    Args:
        one: observations of one episode, each with a leading axis; the first is the opening.
        other: those of the other episode; rounds after the end of one of them are not compared.
        but: parts that are not compared.
        indices: by part, the numbers by which a message calls its entries, if other than 0, 1, and so on.
    """
    numbers: dict[str, np.ndarray] = {}
    first: int | None = None
    for t, pair in enumerate(zip(one, other, strict=False)):
        parts = [{name: np.asarray(x) for name, x in _parts(o).items() if name not in but} for o in pair]
        for name, x in parts[0].items():
            differs = (x != parts[1][name]) & ~((x != x) & (parts[1][name] != parts[1][name]))  # NaN equals NaN.
            if differs.any():
                first = t if first is None else first
                anywhere = differs.any(0)
                numbers[name] = numbers[name] | anywhere if name in numbers else anywhere
    if first is None:
        return None
    called = indices or {}
    return " and ".join(_in_words(name, where, called.get(name)) for name, where in numbers.items()), first


def _parts(o: Observation) -> dict[str, Any]:
    return o if isinstance(o, dict) else {"observation": o}


def _in_words(name: str, where: np.ndarray | np.bool, called: Any) -> str:
    if where.ndim != 1:
        return name
    indices = np.flatnonzero(where) if called is None else np.asarray(called)[where]
    shown = ", ".join(map(str, indices[:MAX_NUMBERS])) + (", ..." if len(indices) > MAX_NUMBERS else "")
    return f"{name} (number{'s' * (len(indices) > 1)} {shown})"
