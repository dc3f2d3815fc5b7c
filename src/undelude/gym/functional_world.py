"""`FunctionalWorld`: an environment of pure functions in JAX, such as one of gymnax, as a compiled world."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal, SupportsFloat, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._checks import check_count
from undelude._compiled import compiled
from undelude._distributions import AbstractDistribution, Categorical, Spec
from undelude._process.world import AbstractWorld, EpisodeKeys, RoundKeys
from undelude._tree import index, where
from undelude._types import Action, Observation
from undelude.gym._host import advice
from undelude.gym._host.arguments import check_called, check_told, in_one_line, prior_over
from undelude.gym._host.cues import AbstractCue, stacked
from undelude.gym._host.declared import check_observation
from undelude.gym._host.hiding import HideKeys, Visible
from undelude.gym._host.own_loop import check_seen
from undelude.gym._host.parts import CUE, ENDED, REWARD, Moment, added_specs
from undelude.gym._host.probes import leak_of, no_advice_of
from undelude.gym._host.rows import Rows, actions_like, host
from undelude.gym._host.simulated import AbstractSimulated
from undelude.gym._host.spaces import action_spec, from_action

# Episodes in which `leak` compares what the agent sees.
LEAK_EPISODES = 8
# Contexts under which a new world is tried.
MAX_TRIED = 8


class FunctionalState(eqx.Module):
    """One episode: the index of the context, and what the agent is not shown.

    Attributes:
        theta: the index of the context.
        state, params: of the environment.
        whole: the whole observation.
    """

    theta: Int[Array, ""]
    state: PyTree
    params: PyTree
    whole: PyTree


class _Found:
    """What was found by playing, by name; as a static field it is compared by identity."""

    def __init__(self):
        self.notes: dict[str, str | None] = {}


class FunctionalWorld(AbstractSimulated, AbstractWorld[FunctionalState]):
    """Episodes of an environment written in JAX, under a hidden context, with an expert who knows it.

        theta   index of the context, drawn for each episode and kept to its end, whatever `reset` draws
        O_0     what the agent sees of the first observation
        A_t     an action, whoever executes it; `expert(observation, context)` says what the expert would do
        O_t     what it sees after the action, and the cue, the reward and the end of an episode if declared

    Episodes are played, and agents taught, in one compiled program. `ug.from_gymnax` makes one of a gymnax environment.

    Args:
        reset: `(key, params) -> (observation, state)`.
        step: `(key, state, action, params) -> (observation, state, reward, terminated, truncated, info)`, or without
            `truncated`; it must not begin the next episode by itself.
        observation_space: of whole observations, a space of Gymnasium.
        action_space: of actions, a space of Gymnasium.
        num_rounds: `T`, the rounds of a lifetime, in which an agent keeps its memory and theta stays the same.
        contexts: the K values of theta, arrays with a leading axis K.
        set_context: `(state, params, context) -> (state, params)`, after each reset: writes theta into the state or
            the parameters.
        expert: `(observation, context) -> advice`, on the whole observation. Advice is an action, probabilities, or
            `(mean, scale)`, as for `ug.HostWorld`.
        reward_observed: whether the agent is shown the rewards. A reward often tells theta: say it.
        params: of the environment.
        observe: `(key, state, params) -> observation` of a state, if `set_context` changes the first observation.
        prior: `[K]`, probabilities of the contexts; uniform by default.
        hide: what the agent does not see, as for `ug.HostWorld`.
        cue: told after each action, as for `ug.HostWorld`; its distance must be written in JAX.
        predict: whether real numbers of an observation are predicted too.
        at_end: what follows the end of an episode of the environment within a lifetime, as for `ug.HostWorld`.
        state_expert: `(state, params, context) -> advice`, in place of `expert`: one that reads the state. There are no
            exact answers then.
        name: in messages and run directories.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the first step cannot be played, or the expert's answer is none.
    """

    reset: Callable[..., Any] = eqx.field(static=True)
    step: Callable[..., Any] = eqx.field(static=True)
    observation_space: Any = eqx.field(static=True)
    action_space: Any = eqx.field(static=True)
    num_rounds: int = eqx.field(static=True)
    contexts: PyTree[Array]
    set_context: Callable[..., Any] = eqx.field(static=True)
    expert: Callable[..., Any] | None = eqx.field(static=True)
    state_expert: Callable[..., Any] | None = eqx.field(static=True)
    reward_observed: bool = eqx.field(static=True)
    params: PyTree
    observe: Callable[..., Any] | None = eqx.field(static=True)
    log_prior: Float[Array, " K"]
    visible: Visible = eqx.field(static=True)
    cue: AbstractCue | None = eqx.field(static=True)
    restarts: bool = eqx.field(static=True)
    name: str = eqx.field(static=True)
    specs: tuple[Spec, Spec] = eqx.field(static=True)
    _found: _Found = eqx.field(static=True)

    def __init__(
        self,
        reset: Callable[..., Any],
        step: Callable[..., Any],
        *,
        observation_space: Any,
        action_space: Any,
        num_rounds: int,
        contexts: PyTree,
        set_context: Callable[..., Any],
        expert: Callable[[Any, Any], Any] | None = None,
        reward_observed: bool | None = None,
        params: PyTree = None,
        observe: Callable[..., Any] | None = None,
        prior: Sequence[float] | np.ndarray | None = None,
        hide: HideKeys | dict[str, Iterable[int]] | Iterable[int] = (),
        cue: AbstractCue | None = None,
        predict: bool = False,
        at_end: Literal["restart", "end"] = "restart",
        state_expert: Callable[[Any, Any, Any], Any] | None = None,
        name: str | None = None,
    ):
        if (expert is None) == (state_expert is None):
            raise TypeError("FunctionalWorld: give either expert= or state_expert=.")
        check_told("FunctionalWorld", reward_observed, at_end, cue)
        if expert is not None:
            check_called("FunctionalWorld", expert)
        self.reset, self.step, self.set_context, self.observe = reset, step, set_context, observe
        self.observation_space, self.action_space = observation_space, action_space
        self.num_rounds = check_count("FunctionalWorld: num_rounds", num_rounds)
        self.contexts = jax.tree.map(jnp.asarray, stacked(contexts) if isinstance(contexts, list) else contexts)
        self.params = jax.tree.map(jnp.asarray, params)
        probs = prior_over("FunctionalWorld", prior, len(Rows(self.contexts)))
        with np.errstate(divide="ignore"):
            self.log_prior = jnp.asarray(np.log(probs), float)
        self.expert, self.state_expert, self.reward_observed = expert, state_expert, bool(reward_observed)
        self.cue, self.restarts = cue, at_end == "restart"
        self.name = name or getattr(reset, "__qualname__", "world").split(".")[0]
        self.visible = Visible(observation_space, hide)
        ends = 3 if self.restarts else None
        added = added_specs(cue, reward_observed=self.reward_observed, predict=predict, num_ends=ends)
        self.specs = action_spec(action_space), self.visible.spec(added, predict=predict, name=self.name)
        self._found = _Found()
        self._try()

    def _try(self) -> None:
        """Raise if an episode cannot begin, or if the expert's first answers are none."""
        B = min(self.num_thetas, MAX_TRIED)
        keys = jax.random.split(jax.random.key(0), B)
        try:
            state, _ = _begin_all(self, keys, jnp.arange(B))
            answers = _ask_all(self, state)
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
            raise TypeError(
                f"{self.name}: reset, step, set_context and the expert must be functions of JAX: write jax.numpy in "
                f"place of NumPy, and neither float() nor `if` of an array. JAX says: {str(error).splitlines()[0]}"
            ) from error
        advice.batched(Rows(answers), self.action_space, self.specs[0])

    def __repr__(self) -> str:
        return f"FunctionalWorld({in_one_line(self)})"

    @property
    def opening(self) -> bool:
        """Whether Nature opens with an observation: always."""
        return True

    @property
    def theta_changes(self) -> bool:
        """Whether theta may change between rounds: never."""
        return False

    @property
    def ends_early(self) -> bool:
        """Whether a lifetime may end with an episode of the environment."""
        return not self.restarts

    @property
    def finite(self) -> bool:
        """Whether the distributions of observations are known: never."""
        return False

    @property
    def num_thetas(self) -> int:
        """`K`."""
        return self.log_prior.shape[0]

    @property
    def prior(self) -> np.ndarray:
        """`[K]`, probabilities of the contexts."""
        return np.exp(np.asarray(self.log_prior, float))

    # The world --------------------------------------------------------------------------------------------------------

    def begin(
        self, key: Key[Array, ""], theta: Int[Array, ""] | None = None
    ) -> tuple[FunctionalState, Observation | None]:
        """Draw the context, unless its index is given, and the first observation."""
        keys = EpisodeKeys.of(key)
        theta = Categorical(log_probs=self.log_prior).sample(keys.theta) if theta is None else theta
        theta = jnp.asarray(theta, jnp.int32)
        state = self._start(keys.opening, theta)
        return state, self._see(state.whole, None, jnp.zeros(()), jnp.zeros((), jnp.int32))

    def _start(self, key: Key[Array, ""], theta: Int[Array, ""]) -> FunctionalState:
        reset_key, observe_key = jax.random.split(key)
        whole, state = self.reset(reset_key, self.params)
        state, params = self.set_context(state, self.params, index(self.contexts, theta))
        if self.observe is not None:
            whole = self.observe(observe_key, state, params)
        return FunctionalState(theta, *(jax.tree.map(jnp.asarray, x) for x in (state, params, whole)))

    def theta(self, state: FunctionalState) -> PyTree[Array]:
        """Return the index of the context."""
        return state.theta

    def consult(self, state: FunctionalState, key: Key[Array, ""]) -> tuple[AbstractDistribution | None, Action]:
        """Ask the expert about the present observation, or state."""
        Q_A, a_bar = advice.traced(self._ask(state), self.action_space, self.specs[0])
        return Q_A, a_bar if Q_A is None else Q_A.sample(RoundKeys.of(key).expert)

    def _ask(self, state: FunctionalState) -> Any:
        context = index(self.contexts, state.theta)
        if self.state_expert is not None:
            return self.state_expert(state.state, state.params, context)
        assert self.expert is not None
        return self.expert(state.whole, context)

    def respond(
        self, state: FunctionalState, a: Action, key: Key[Array, ""]
    ) -> tuple[FunctionalState, Observation, Float[Array, ""], Bool[Array, ""]]:
        """Play an action. If an episode of the environment ends within the lifetime, begin the next one."""
        step_key, cue_key, reset_key = jax.random.split(RoundKeys.of(key).observation, 3)
        one = jax.tree.map(lambda x: jnp.asarray(x)[None], a)
        action = actions_like(self.action_space, one, np.ones(1, bool), 1, jnp.zeros(()))
        action = jax.tree.map(lambda x: x[0], action)
        whole, later, reward, terminated, truncated = self._step(step_key, state, action)
        after = FunctionalState(state.theta, _as(later, state.state), state.params, _as(whole, state.whole))
        ended = jnp.where(terminated, 1, jnp.where(truncated, 2, 0)).astype(jnp.int32)
        is_over = ended > 0
        cue = None
        if self.cue is not None:
            probs = self.cue.traced(state.whole, after.whole, index(self.contexts, state.theta))
            u = jax.random.uniform(cue_key)
            cue = jnp.minimum((jnp.cumsum(probs) <= u).sum(), self.cue.num_symbols - 1).astype(jnp.int32)
            if self.restarts:  # The next observation is of another episode.
                cue = jnp.where(is_over, self.cue.num_symbols, cue)
        if self.restarts:
            after = where(is_over, self._start(reset_key, state.theta), after)
        reward = jnp.asarray(reward, float)
        return after, self._see(after.whole, cue, reward, ended), reward, is_over & (not self.restarts)

    def _step(self, key: Key[Array, ""], state: FunctionalState, action: Any) -> tuple[Any, ...]:
        """Return observation, state, reward, terminated, truncated."""
        found = self.step(key, state.state, action, state.params)
        if len(found) not in (5, 6):
            raise ValueError(
                f"{self.name}: step returned {len(found)} values; it must return (observation, state, reward, "
                "terminated, truncated, info), or the five without truncated."
            )
        whole, later, reward, terminated = found[:4]
        truncated = found[4] if len(found) == 6 else False
        return whole, later, reward, jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)

    def _see(self, whole: Any, cue: Array | None, reward: Array, ended: Array) -> Observation:
        """Return what the agent sees."""
        check_observation(self.name, self.observation_space, whole)
        one = Rows(jax.tree.map(lambda x: jnp.asarray(x)[None], whole))
        parts = {name: x[0] for name, x in self.visible.parts(one).items()}
        if self.cue is not None:
            parts[CUE] = jnp.asarray(self.cue.num_symbols, jnp.int32) if cue is None else cue
        if self.reward_observed:
            parts[REWARD] = reward.astype(jnp.float32)
        if self.restarts:
            parts[ENDED] = ended
        return next(iter(parts.values())) if len(parts) == 1 else parts

    def as_seen(
        self, observation: Any, *, cue: SupportsIndex | None = None, reward: SupportsFloat = 0.0, ended: int = 0
    ) -> Observation:
        """Return a whole observation as an agent of this world reads it, for `ud.Policy` in a loop of your own.

        Args:
            observation: of the environment, with what `hide` hides.
            cue: told after the last action. Leave it out at the opening, and after an end if `at_end="restart"`: the
                agent then reads the value that stands for none.
            reward: of the last action, if agents are shown rewards.
            ended: if `at_end="restart"`, 1 if the last episode was terminated before this observation, 2 if truncated.

        Raises:
            ValueError: the observation is not in its space, or the cue is not a cue.
        """
        check_seen(self, observation, cue)
        told = None if cue is None else jnp.asarray(cue, jnp.int32)
        seen = self._see(observation, told, jnp.asarray(reward, float), jnp.asarray(ended, jnp.int32))
        return jax.tree.map(np.asarray, seen)

    # What is known without tables -------------------------------------------------------------------------------------

    expert_is_person: ClassVar[bool] = False

    @property
    def make_expert(self) -> Callable[..., Any] | None:
        """The expert that reads the state, if there is one: it cannot be asked about another context."""
        return self.state_expert

    def ask(self, whole: Sequence[Any], thetas: np.ndarray, masks: np.ndarray | None = None) -> Sequence[Any]:
        """Return the expert's advice, one answer for each whole observation and index of a context."""
        del masks
        assert self.expert is not None
        answers = _ask_about(self, jax.tree.map(jnp.asarray, stacked(whole)), jnp.asarray(thetas))
        return list(Rows(jax.tree.map(host, answers)))

    def tell(self, before: Sequence[Any], after: Sequence[Any], thetas: np.ndarray) -> Float[np.ndarray, "N n"]:
        """Return the distributions of the cue after many steps under the contexts of these indices."""
        assert self.cue is not None
        before, after = (jax.tree.map(jnp.asarray, stacked(x)) for x in (before, after))
        return np.asarray(_tell_all(self, before, after, jnp.asarray(thetas)))

    @property
    def leak(self) -> str | None:
        """Where the agent sees the context other than by the cue, found by playing; None if it was not seen to."""
        return self._found_by("leak", leak_of)

    @property
    def no_advice(self) -> str | None:
        """Why the expert cannot be asked in exact answers; None if it can."""
        return self._found_by("no_advice", no_advice_of)

    def _found_by(self, name: str, find: Callable[..., str | None]) -> str | None:
        if name not in self._found.notes:
            self._found.notes[name] = find(self, self._path, self.num_compared)
        return self._found.notes[name]

    # How an expert puts theta in place of hidden numbers.
    filling: ClassVar[str] = "o = observation.at[np.array({hidden})].set(context)"

    def context_at(self, theta: int) -> Any:
        """Return one of the contexts, in NumPy."""
        return jax.tree.map(lambda x: np.asarray(x)[theta], self.contexts)

    # What may be wrong if the context changes nothing in the environment.
    ignored: ClassVar[str] = "set_context writes it to a place that reset, step and observe do not read"

    def _path(self, theta: int, seed: int, actions: list[Any]) -> list[Moment]:
        """Return what happens in some episodes of these actions, without cues and rewards."""
        keys = jax.random.split(jax.random.key(seed), LEAK_EPISODES)
        state, opening = _begin_all(self, keys, jnp.full(LEAK_EPISODES, theta))
        hidden = (CUE, REWARD)

        def moment(state: FunctionalState, o: Observation, reward: Array) -> Moment:
            seen = {n: x for n, x in o.items() if n not in hidden} if isinstance(o, dict) else o
            return Moment(seen, list(Rows(jax.tree.map(np.asarray, state.whole))), np.asarray(reward))

        path = [moment(state, opening, jnp.zeros(LEAK_EPISODES))]
        for t, a in enumerate(actions):
            a = jax.tree.map(jnp.asarray, from_action(self.action_space, a))
            state, o, reward, ended = _respond_all(self, state, a, keys, jnp.asarray(t))
            path.append(moment(state, o, reward))
            if bool(ended.any()):
                break
        return path


@compiled
def _begin_all(world: FunctionalWorld, keys: Array, thetas: Array) -> tuple[FunctionalState, Observation]:
    return jax.vmap(world.begin)(keys, thetas)


@compiled
def _respond_all(
    world: FunctionalWorld, state: FunctionalState, a: Action, keys: Array, t: Array
) -> tuple[FunctionalState, Observation, Array, Array]:
    def one(state: FunctionalState, key: Array) -> tuple[FunctionalState, Observation, Array, Array]:
        return world.respond(state, a, jax.random.fold_in(key, t))

    return jax.vmap(one)(state, keys)


@compiled
def _ask_all(world: FunctionalWorld, state: FunctionalState) -> Any:
    return jax.vmap(lambda state: jax.tree.map(jnp.asarray, world._ask(state)))(state)


@compiled
def _ask_about(world: FunctionalWorld, whole: Any, thetas: Array) -> Any:
    expert: Any = world.expert
    return jax.vmap(lambda o, k: jax.tree.map(jnp.asarray, expert(o, index(world.contexts, k))))(whole, thetas)


@compiled
def _tell_all(world: FunctionalWorld, before: Any, after: Any, thetas: Array) -> Array:
    cue: Any = world.cue
    return jax.vmap(lambda o, p, k: cue.traced(o, p, index(world.contexts, k)))(before, after, thetas)


def _as(new: PyTree, old: PyTree) -> PyTree:
    """Return `new` with the dtypes of `old`, as a loop of JAX needs it."""
    return jax.tree.map(lambda x, y: jnp.asarray(x) if jnp.asarray(x).dtype == y.dtype else x.astype(y.dtype), new, old)
