"""`HostWorld`: a Gymnasium environment, with contexts and an expert who is shown them, as the world of an agent."""

import contextlib
import dataclasses
import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, SupportsFloat, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._agents.networks.action_mask import ACTION_MASK
from undelude._checks import check_between, check_count
from undelude._compiled import compiled
from undelude._distributions import GivenArray, Spec
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, Prediction
from undelude._process.world import EpisodeKeys
from undelude._types import Action, Belief, Frame, Observation
from undelude.gym._host import inert, pictures
from undelude.gym._host.arguments import (
    check_told,
    check_unused,
    in_one_line,
    makers_of,
    name_of,
    prior_over,
)
from undelude.gym._host.cues import AbstractCue
from undelude.gym._host.expert import Expert
from undelude.gym._host.failures import Failures
from undelude.gym._host.hiding import HideKeys, Visible
from undelude.gym._host.masks import Masks, check_played, nearest
from undelude.gym._host.own_loop import check_seen
from undelude.gym._host.parts import CUE, ENDED, REWARD, Moment, added_specs
from undelude.gym._host.pictures import Scene
from undelude.gym._host.probes import leak_of, no_advice_of
from undelude.gym._host.rows import Rows, host
from undelude.gym._host.simulated import AbstractSimulated
from undelude.gym._host.simulators import HostState, Joint, Played, Separate, alone, contexts_of
from undelude.gym._host.slots import Recipe, Slot, Step
from undelude.gym._host.spaces import action_spec
from undelude.gym._host.together import NEXT_STEP, Together, is_vector
from undelude.gym.keyboard import KeyboardExpert

# Why a vector environment has no films, and no pairs of actions without effect.
NOT_AGAIN = "the environments of a vector environment step together, and one of them cannot be played again."
# Why the context may change nothing.
IGNORED = 'reset ignores options["context"]'


class HostWorld(AbstractSimulated, AbstractHostWorld[HostState]):
    """Episodes of a Gymnasium environment under a hidden context, with an expert who knows it.

        theta   index of the context, drawn for each episode and kept to its end
        O_0     what the agent sees of the observation of reset
        A_t     an action, whoever executes it; `expert(observation, context)` says what the expert would do
        O_t     what it sees after the action, and the cue, the reward and the end of an episode if declared

    Args:
        env: an id (`"Reacher-v5"`), a factory, or a list of factories or ids, one for each context; or a vector
            environment of yours, whose environments step together, with arrays of NumPy, JAX or Torch.
        num_rounds: `T`, the rounds of a lifetime, in which an agent keeps its memory and theta stays the same.
        expert: `(observation, context) -> advice`, on the whole observation. Advice is an action of the environment;
            probabilities, if actions are Discrete; or `(mean, scale)` of a normal distribution, if they are a Box. A
            `ug.KeyboardExpert` is a person. A third parameter called `mask` is given the mask of actions.
        contexts: the K values of theta, on a leading axis or in a list; draws from its prior if theta is continuous.
            With a list of environments, they are numbered 0 to K - 1 by default.
        reward_observed: whether the agent is shown the rewards. A reward often tells theta: say it.
        prior: `[K]`, probabilities of the contexts; uniform by default.
        num_envs: environments side by side, 16 by default; of a vector environment all.
        set_context: `(env, context) -> observation or None`, called after each reset. By default the context goes to
            `env.reset(options={"context": context})`. A vector environment gets the contexts of all its environments;
            after some of them started again, `set_context` must leave the others as they are.
        hide: what the agent does not see: indices of an observation that is one array, `ug.HideKeys(...)` for keys of a
            dictionary, or `{name: indices}`.
        cue: a `ug.WarmerColder` or another cue, told after each action.
        predict: whether real numbers of an observation are predicted too. By default agents read them and predict only
            symbols, such as the cue.
        at_end: what follows the end of an episode of the environment within a lifetime: `"restart"`, another episode
            under the same context, with the part `ended` in the observation (0 no, 1 terminated, 2 truncated, 3 begun
            by a step that played no action, in Gymnasium's mode NextStep); or `"end"` of the lifetime.
        batched: whether the expert takes all observations and contexts at once, `[B, ...]`, in the library of a vector
            environment.
        make_expert: `(env, context) -> (observation -> advice)`, in place of `expert`: one that lives beside its
            environment, such as a planner that reads its state. It is made at each reset. With a vector environment
            it is made at the start of each batch, for all contexts, and takes all observations.
        action_mask: which actions can be taken, if they are Discrete: `env -> mask`, a number for each action, 0 if it
            cannot; by default `info["action_mask"]`, if the environment publishes one when it is reset. Masked actions
            have probability 0 under networks, and must have under the expert; agents read the mask, the part
            `action_mask` of an observation. False: the environment takes every action, whatever its info says.
        vectorization: `"sync"`: one after the other, best for steps under a millisecond; `"async"`: in processes.
        num_workers: processes, with `"async"`; by default as many as cores.
        timeout: seconds to wait for an answer of a process.
        max_failures: the share of episodes that may be lost to failures of environments before an error is raised. It
            counts over at least 64 episodes: with 0.1, up to 6 may be lost from the start; with 0, none.
        draw: `(frame, context, observation, belief) -> None`, for films: draws on a `ud.Frame`; `belief` pairs contexts
            with their probabilities, and is empty if it is not known. By default a film shows what `env.render()`
            returns and, below, the belief.
        name: in messages and run directories.

    Attributes:
        failures: the episodes that were lost so far, counted by `(cause, theta)`.

    Raises:
        TypeError: a space or an argument is of the wrong kind.
        ValueError: `hide` names what does not exist, or the prior is not a distribution.
    """

    opening = True
    theta_changes = False
    finite = True
    num_envs: int

    def __init__(
        self,
        env: Any,
        *,
        num_rounds: int,
        expert: Callable[[Any, Any], Any] | None = None,
        contexts: Sequence[Any] | np.ndarray | None = None,
        reward_observed: bool | None = None,
        prior: Sequence[float] | np.ndarray | None = None,
        num_envs: int | None = None,
        set_context: Callable[[Any, Any], Any] | None = None,
        hide: HideKeys | dict[str, Iterable[int]] | Iterable[int] = (),
        cue: AbstractCue | None = None,
        predict: bool = False,
        at_end: Literal["restart", "end"] = "restart",
        batched: bool = False,
        make_expert: Callable[[Any, Any], Any] | None = None,
        action_mask: Callable[[Any], Any] | Literal[False] | None = None,
        vectorization: Literal["sync", "async"] = "sync",
        num_workers: int | None = None,
        timeout: float = 60.0,
        max_failures: float = 0.1,
        draw: Callable[[Any, Any, Any, Any], None] | None = None,
        name: str | None = None,
    ):
        together = is_vector(env)
        makers = (lambda: env,) if together else makers_of(env)
        if contexts is None:
            if len(makers) == 1:
                raise TypeError(
                    "HostWorld: give contexts=, the values of theta, or a list with an environment for each."
                )
            contexts = np.arange(len(makers))
        if len(makers) not in (1, len(contexts)):
            raise ValueError(f"HostWorld: {len(makers)} environments, but {len(contexts)} contexts; give one for each.")
        if (expert is None) == (make_expert is None):
            raise TypeError("HostWorld: give either expert= or make_expert=.")
        check_told("HostWorld", reward_observed, at_end, cue)
        if vectorization not in ("sync", "async"):
            raise ValueError(f'HostWorld: vectorization must be "sync" or "async", not {vectorization!r}.')
        self.num_rounds = check_count("HostWorld: num_rounds", num_rounds)
        if together:
            check_unused(env, num_envs=num_envs, vectorization=vectorization, num_workers=num_workers, timeout=timeout)
            num_envs = int(env.num_envs)
        self.num_envs = check_count("HostWorld: num_envs", 16 if num_envs is None else num_envs)
        self.contexts, self.num_thetas = contexts, len(contexts)
        self.prior = prior_over("HostWorld", prior, self.num_thetas)
        self.expert, self.make_expert = expert, make_expert
        self.cue, self.reward_observed, self.ends_early = cue, bool(reward_observed), True
        if action_mask is not None and action_mask is not False and not callable(action_mask):
            raise TypeError(f"HostWorld: action_mask must be a function of the environment, or False: {action_mask!r}.")
        of_env = action_mask if callable(action_mask) else None
        self.recipe = Recipe(makers, set_context, at_end == "restart", make_expert, of_env)
        self._spare = Slot(self.recipe)
        example = self._spare.env
        self.together: Together | None = None
        if together:
            if of_env is not None:
                raise TypeError("HostWorld: action_mask= is for environments that the world makes itself.")
            settings = {"restarts": self.recipe.restarts, "make_expert": make_expert}
            self.together = Together(env, set_context, ignores_masks=action_mask is False, **settings)
            self.observation_space, self.action_space = example.single_observation_space, example.single_action_space
        else:
            self.observation_space, self.action_space = example.observation_space, example.action_space
            self.recipe = self._spare.recipe = dataclasses.replace(self.recipe, space=self.observation_space)
        self.name = name or name_of(env, example)
        self.visible = Visible(self.observation_space, hide)
        are_read = action_mask is not False and not together and (of_env is not None or self._publishes_mask())
        self._masks = Masks(self.name, self.action_space, are_read=are_read, are_ignored=action_mask is False)
        self.specs = action_spec(self.action_space), self._observation_spec(predict)
        self._failures = Failures(self.name, check_between("HostWorld: max_failures", max_failures, 0, 1))
        self._expert = Expert(
            expert, contexts, self.action_space, self.specs[0], is_batched=batched, together=self.together
        )
        self.expert_is_person = self._expert.is_person
        if isinstance(expert, KeyboardExpert):
            expert.check(self.action_space)
            if self.num_envs > 1 or vectorization != "sync" or together:
                raise ValueError(
                    "HostWorld: a person is asked about one environment at a time: give num_envs=1, and neither "
                    'vectorization="async" nor a vector environment.'
                )
        if self.together is not None:
            self._simulators: Separate | Joint = Joint(
                self.together, contexts, self.action_space, name=self.name, failures=self._failures
            )
        else:
            self._simulators = Separate(
                self.recipe,
                contexts,
                self.action_space,
                num_envs=self.num_envs,
                vectorization=vectorization,
                num_workers=num_workers,
                timeout=timeout,
                spare=self._spare,
                failures=self._failures,
                masks=self._masks,
            )
            weakref.finalize(self, self._simulators.close)
        self.drawing = draw
        self._is_closed = False

    def __repr__(self) -> str:
        return f"HostWorld({in_one_line(self)})"

    def _observation_spec(self, predict: bool) -> Spec:
        if ACTION_MASK in self.visible.kept:
            raise ValueError(
                f"{self.name}: the observation has a part action_mask. Hide it, hide=ug.HideKeys('action_mask'), and "
                "give action_mask=, a function of the environment, if it says which actions can be taken; if it is "
                "something else, rename it by a wrapper."
            )
        begins_by_steps = self.together is not None and self.together.mode == NEXT_STEP
        ends = (4 if begins_by_steps else 3) if self.recipe.restarts else None
        added = added_specs(self.cue, reward_observed=self.reward_observed, predict=predict, num_ends=ends)
        if self._masks.are_read:
            added[ACTION_MASK] = GivenArray((self._masks.num_actions,), "float32")
        self._added = tuple(added)
        return self.visible.spec(added, predict=predict, name=self.name)

    def _publishes_mask(self) -> bool:
        """Return whether the environment says which actions can be taken when it is reset.

        One that cannot be reset is told of when it is played.
        """
        try:
            return self._spare.begin(0, 0, self.contexts[0]).mask is not None
        except Exception:
            self._spare.drop()
            return False

    # The world --------------------------------------------------------------------------------------------------------

    def begin(self, keys: Key[Array, " B"], theta: int | None = None) -> tuple[HostState, Observation | None]:
        """Draw contexts and start the environments."""
        u, seeds, noise = (np.asarray(x) for x in _draw_begin(keys, self.num_rounds if self.cue is not None else 0))
        if theta is None:
            thetas = np.minimum(np.searchsorted(np.cumsum(self.prior), u, side="right"), self.num_thetas - 1)
        elif not 0 <= theta < self.num_thetas:
            raise ValueError(
                f"{self.name}: theta={theta} is outside the support; it is from 0 to {self.num_thetas - 1}."
            )
        else:
            thetas = np.full(len(u), theta)
        if self._is_closed:
            raise RuntimeError(f"{self.name} was closed: make another world.")
        self._failures.num_played += len(u)
        state = HostState(thetas, np.ones(len(u), bool), np.zeros(len(u), bool), noise)
        self._simulators.begin(state, seeds)
        cue = None if self.cue is None else np.full(len(u), self.cue.num_symbols, np.int32)
        zeros = np.zeros(len(u), np.float32)
        return state, self.see(state.whole, cue, zeros, zeros.astype(np.int32), state.masks)

    @property
    def failures(self) -> Counter[tuple[str, int]]:
        """The episodes that were lost so far, counted by `(cause, theta)`."""
        return self._failures.counts

    @property
    def num_played(self) -> int:
        """How many episodes were begun so far."""
        return self._failures.num_played

    def failures_in_words(self) -> str | None:
        """Return how many episodes were lost to failures, by cause and context; None if none was."""
        return self._failures.in_words()

    @property
    def reads_masks(self) -> bool:
        """Whether agents and expert are told which actions can be taken."""
        return self._masks.are_read

    def unread_in_words(self) -> str | None:
        """Return that the environment publishes a mask of actions which is not read; None if it does not."""
        return self._masks.unread_in_words()

    def settings_in_words(self) -> str:
        """Return name, rounds, specs, prior, and the contexts if they are numbers."""
        contexts: Any = len(self.contexts)
        if isinstance(self.contexts, list | tuple | np.ndarray):  # Others may be on a device, where they stay.
            with contextlib.suppress(TypeError, ValueError):
                contexts = np.asarray(self.contexts, float).tolist()
        return f"{self.name}, {self.num_rounds} rounds, {self.specs}, prior {self.prior.tolist()}, contexts {contexts}"

    def theta(self, state: HostState) -> PyTree:
        """Return the indices of the contexts."""
        return jnp.asarray(state.thetas, jnp.int32)

    def lost(self, state: HostState) -> Bool[np.ndarray, " B"]:
        """Return which episodes were lost to a failure of their environment."""
        return state.lost

    def consult(self, state: HostState, keys: Key[Array, " B"]) -> tuple[Prediction, Action]:
        """Ask the expert about the present observations."""
        del keys
        try:
            return self._expert.advise(state, self._some_advice, self._simulators)
        except Exception as error:
            raise ValueError(
                f"{self.name}: the expert failed in round {state.t} with {type(error).__name__}: {error}"
            ) from error

    def ask(self, whole: Sequence[Any], thetas: np.ndarray, masks: np.ndarray | None = None) -> Sequence[Any]:
        """Return the expert's advice, one answer for each whole observation and index of a context."""
        return self._expert.ask(whole, thetas, masks)

    def tell(self, before: Sequence[Any], after: Sequence[Any], thetas: np.ndarray) -> Float[np.ndarray, "N n"]:
        """Return the distributions of the cue after many steps under the contexts of these indices."""
        assert self.cue is not None
        if self.together is None:
            return self.cue.of_many(before, after, [self.contexts[k] for k in thetas])
        return self.cue.of_many(*(self.together.rows(x) for x in (before, after, contexts_of(self.contexts, thetas))))

    def _some_advice(self) -> Any:
        step = self._spare.begin(0, 0, self.contexts[0])
        if self.make_expert is not None:
            return step.advice
        return self.ask([step.observation], np.zeros(1, int), self._masks.of(np.ones(1, bool), [step]))[0]

    def respond(
        self, state: HostState, a: Action, keys: Key[Array, " B"]
    ) -> tuple[HostState, Observation, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Play the actions."""
        del keys  # What the world draws, it drew at the start.
        if state.masks is not None:
            try:
                check_played(np.asarray(a), state.masks, state.open)
            except ValueError as error:
                raise ValueError(f"{self.name}, round {state.t}: {error}") from error
        later = dataclasses.replace(state, open=state.open.copy(), t=state.t + 1)
        rewards, ended = self._simulators.step(later, a)
        cue = None
        if self.cue is not None:
            # After the end of an episode within a lifetime, the next observation is of another episode.
            told = np.flatnonzero(state.open & ~later.lost & ((ended == 0) | (not self.recipe.restarts)))
            cue = np.full(len(state.open), self.cue.num_symbols, np.int32)
            if len(told):
                probs = self.tell(_take(state.whole, told), _take(later.whole, told), state.thetas[told])
                u = state.noise[told, state.t][:, None]
                cue[told] = np.minimum((np.cumsum(probs, -1) <= u).sum(-1), probs.shape[-1] - 1)
        return later, self.see(later.whole, cue, rewards, ended, later.masks), rewards, ~later.open

    def see(
        self,
        whole: Sequence[Any],
        cue: np.ndarray | None,
        rewards: np.ndarray,
        ended: np.ndarray,
        masks: np.ndarray | None = None,
    ) -> Observation:
        """Return what the agents see, with a leading axis B."""
        added = {CUE: cue, REWARD: rewards, ENDED: ended, ACTION_MASK: masks}
        parts = self.visible.parts(whole) | {name: added[name] for name in self._added}
        return next(iter(parts.values())) if len(parts) == 1 else parts

    def as_seen(
        self,
        observation: Any,
        *,
        cue: SupportsIndex | None = None,
        reward: SupportsFloat = 0.0,
        ended: int = 0,
        mask: Any = None,
    ) -> Observation:
        """Return a whole observation as an agent of this world reads it, for `ud.Policy` in a loop of your own.

        Args:
            observation: of the environment, with what `hide` hides.
            cue: told after the last action. Leave it out at the opening, and after an end if `at_end="restart"`: the
                agent then reads the value that stands for none.
            reward: of the last action, if agents are shown rewards.
            ended: if `at_end="restart"`, 1 if the last episode was terminated before this observation, 2 if truncated.
            mask: of the actions that can be taken, if agents read it.

        Raises:
            ValueError: the observation is not in its space, or the cue is not a cue.
        """
        check_seen(self, observation, cue, mask, reads_mask=self._masks.are_read)
        told = None if self.cue is None else np.full(1, self.cue.num_symbols if cue is None else cue, np.int32)
        masks = None if mask is None else np.asarray(mask, np.float32)[None]
        seen = self.see([observation], told, np.full(1, reward, np.float32), np.full(1, ended, np.int32), masks)
        return jax.tree.map(lambda x: np.asarray(x)[0], seen)

    # What is known without tables -------------------------------------------------------------------------------------

    @functools.cached_property
    def leak(self) -> str | None:
        """Where the agent sees the context other than by the cue, found by playing; None if it was not seen to.

        The same seed and the same random actions under two contexts must give the same observations; and so they must
        under one context, or nothing can be said.
        """
        return leak_of(self, self._path, self.num_compared)

    @functools.cached_property
    def no_advice(self) -> str | None:
        """Why the expert cannot be asked in exact answers, found by playing; None if it can."""
        return no_advice_of(self, self._path, self.num_compared)

    @property
    def filling(self) -> str:
        """Code by which an expert puts theta in place of hidden numbers."""
        if self._expert.is_batched:
            return "o = observations.copy(); o[:, {hidden}] = contexts"
        return "o = observation.copy(); o[{hidden}] = context"

    def context_at(self, theta: int) -> Any:
        """Return one of the contexts, in NumPy if it is an array."""
        context = self.contexts[theta]
        return host(context) if hasattr(context, "shape") else context

    @property
    def ignored(self) -> str:
        """The likely mistake if the context changes nothing in the environment."""
        if self.recipe.set_context is not None:
            return "set_context has no effect"
        return "the environments are all the same" if len(self.recipe.makers) > 1 else IGNORED

    def possible(self, state: HostState, a: Action) -> Action:
        """Return the actions, each of which the mask forbids replaced by the next one that it allows."""
        return a if state.masks is None else nearest(np.asarray(a), state.masks)

    def _path(self, theta: int, seed: int, actions: list[Any]) -> list[Moment]:
        """Return what happens in an episode of these actions, without cues and rewards."""
        return [
            Moment(self._shown(x._replace(rewards=np.zeros(len(x.rewards)))), list(x.whole), x.rewards, x.info)
            for x in self._simulators.path(theta, seed, actions)
        ]

    def see_one(self, step: Step) -> Observation:
        """Return what an agent sees of one step, with a leading axis 1, and a cue that says nothing."""
        return self._shown(alone(step, self._masks, restarts=self.recipe.restarts))

    def _shown(self, x: Played) -> Observation:
        cue = None if self.cue is None else np.zeros(len(x.rewards), np.int32)
        return self.see(x.whole, cue, x.rewards.astype(np.float32), x.ended, x.masks)

    def without_effect(
        self, episodes: Episodes, rounds: Int[np.ndarray, " B"], others: Action, *, key: Key[Array, ""], most: int
    ) -> tuple[list[int] | str, Action]:
        """Find rounds in which another action has the effect of the one that was played, by playing both.

        Under several contexts and seeds, all that the environment answers must be the same, seen or not.
        """
        if self.together is not None:
            return NOT_AGAIN, others
        if self.num_thetas > inert.MAX_CONTEXTS:
            return (
                f"an action would have to be tried under {self.num_thetas} contexts; {inert.MAX_CONTEXTS} are.",
                others,
            )
        if self.expert_is_person:
            return "the expert is a person, who would be asked in each round.", others
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, np.arange(len(rounds)))
        seeds = _draw_begin(keys, 0)[1]
        return inert.without_effect(self, self._spare, episodes, rounds, others, np.asarray(seeds), most)

    # Films ------------------------------------------------------------------------------------------------------------

    def say(self, o: Observation) -> str:
        """Describe one observation by its symbols; the cue of a guide in words."""
        if self.cue is None:
            return super().say(o)
        cue = int(o[CUE]) if isinstance(o, dict) else int(o)
        if cue == self.cue.num_symbols:
            return ""  # None was given.
        return self.cue.words[cue] if self.cue.words else f"{CUE} {cue}"

    @functools.cached_property
    def no_film(self) -> str | None:
        """Why there are no films; None if there are: the environment renders, or `draw=` was given."""
        if self.together is not None:
            return NOT_AGAIN
        return None if self.drawing is not None else pictures.why_not_rendered(self.recipe)

    def replay(self, episode: Episodes, key: Key[Array, ""]) -> list[Scene]:
        """Play an episode again, for a film: its seed and its actions.

        Raises:
            ValueError: there are no films, or the agent sees something else than in the episode.
        """
        if self.no_film is not None:
            raise ValueError(f"{self.name}: no film, since {self.no_film}")
        return pictures.replay(self, self.recipe, episode, int(_draw_begin(key[None], 0)[1][0]))

    def draw(self, frame: Frame, theta: int, w: Scene, belief: Belief) -> None:
        """Draw one round: by the function that was given, or what the environment rendered above the belief."""
        if self.drawing is not None:
            self.drawing(frame, self.contexts[theta], w.observation, [(self.contexts[k], p) for k, p in belief])
            return
        assert w.picture is not None
        frame.picture((0, 0), (1, pictures.BARS_TOP - 0.02 if belief else 1), w.picture)
        if belief:
            frame.bars([p for _, p in belief], framed=theta, top=pictures.BARS_TOP)

    def close(self) -> None:
        """Close all environments, and end their processes; the world can play no more."""
        self._is_closed = True
        self._simulators.close()
        self._spare.drop()


def _take(whole: Sequence[Any], rows: np.ndarray) -> Sequence[Any]:
    return whole.take(rows) if isinstance(whole, Rows) else [whole[i] for i in rows]


@compiled
def _draw_begin(keys: Array, num_rounds: int) -> tuple[Array, Array, Array]:
    """Return uniform numbers for theta, seeds of environments, and uniform numbers for the cues of all rounds."""

    def one(key: Array) -> tuple[Array, Array, Array]:
        keys = EpisodeKeys.of(key)
        seed = jax.random.randint(keys.opening, (), 0, 2**31 - 1)
        return jax.random.uniform(keys.theta), seed, jax.random.uniform(keys.rounds, (num_rounds,))

    return jax.vmap(one)(keys)
