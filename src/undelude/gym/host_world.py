"""`HostWorld`: a Gymnasium environment, with contexts and an expert who is shown them, as the world of an agent."""

import copy
import dataclasses
import functools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from undelude._agents.host import HostAgent
from undelude._checks import check_between, check_count, check_probabilities, one_line
from undelude._compiled import compiled
from undelude._distributions import GivenArray, Parts, Reals, Spec, Symbols
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, Evidence, Prediction, difference
from undelude._process.world import EpisodeKeys
from undelude._types import Action, Mark, Observation
from undelude.gym._host import exact
from undelude.gym._host.advice import batched
from undelude.gym._host.cues import AbstractCue, stacked
from undelude.gym._host.exact import CUE, ENDED, REWARD, leak_of
from undelude.gym._host.hiding import WHOLE, HideKeys, Visible
from undelude.gym._host.rows import Rows, actions_like, columns, host, own, read
from undelude.gym._host.slots import Call, Failure, Here, InWorkers, Recipe, Slot, Step
from undelude.gym._host.spaces import action_spec, clipped, flatten, from_action, to_actions
from undelude.gym._host.together import NEXT_STEP, Steps, Together, is_vector

# Seconds to wait for an answer of a process, by default.
TIMEOUT = 60.0
# Rounds in which `leak` compares what the agent sees.
LEAK_ROUNDS = 20


@dataclasses.dataclass
class HostState:
    """A batch of episodes: whole observations and contexts, which the agent is not shown."""

    thetas: np.ndarray
    whole: Sequence[Any]
    advice: Any
    open: np.ndarray
    lost: np.ndarray
    noise: np.ndarray
    t: int = 0
    batch: int = 0


class HostWorld(AbstractHostWorld[HostState]):
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
            probabilities, if actions are Discrete; or `(mean, scale)` of a normal distribution, if they are a Box.
        contexts: the K values of theta, on a leading axis or in a list. With a list of environments, they are
            numbered 0 to K - 1 by default.
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
        vectorization: `"sync"`: one after the other, best for steps under a millisecond; `"async"`: in processes.
        num_workers: processes, with `"async"`; by default as many as cores.
        timeout: seconds to wait for an answer of a process.
        max_failures: the share of episodes that may be lost to failures of environments before an error is raised.
        name: in messages and run directories.

    Attributes:
        failures: the episodes that were lost so far, counted by `(cause, theta)`.

    Raises:
        TypeError: a space or an argument is of the wrong kind.
        ValueError: `hide` names what does not exist, or the prior is no distribution.
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
        reward_observed: bool,
        prior: Sequence[float] | np.ndarray | None = None,
        num_envs: int | None = None,
        set_context: Callable[[Any, Any], Any] | None = None,
        hide: HideKeys | dict[str, Iterable[int]] | Iterable[int] = (),
        cue: AbstractCue | None = None,
        predict: bool = False,
        at_end: Literal["restart", "end"] = "restart",
        batched: bool = False,
        make_expert: Callable[[Any, Any], Any] | None = None,
        vectorization: Literal["sync", "async"] = "sync",
        num_workers: int | None = None,
        timeout: float = 60.0,
        max_failures: float = 0.1,
        name: str | None = None,
    ):
        together = is_vector(env)
        makers = (lambda: env,) if together else _makers(env)
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
        if not isinstance(reward_observed, bool):
            raise TypeError(f"HostWorld: reward_observed must be True or False, not {reward_observed!r}.")
        if at_end not in ("restart", "end"):
            raise ValueError(f'HostWorld: at_end must be "restart" or "end", not {at_end!r}.')
        if vectorization not in ("sync", "async"):
            raise ValueError(f'HostWorld: vectorization must be "sync" or "async", not {vectorization!r}.')
        self.num_rounds = check_count("HostWorld: num_rounds", num_rounds)
        if together:
            _check_unused(env, num_envs=num_envs, vectorization=vectorization, num_workers=num_workers, timeout=timeout)
            num_envs = int(env.num_envs)
        self.num_envs = check_count("HostWorld: num_envs", 16 if num_envs is None else num_envs)
        self.contexts, self.num_thetas = contexts, len(contexts)
        self.prior = np.full(self.num_thetas, 1 / self.num_thetas) if prior is None else np.asarray(prior, float)
        check_probabilities(self.prior, "HostWorld: prior")
        if self.prior.shape != (self.num_thetas,):
            raise ValueError(f"HostWorld: prior must have {self.num_thetas} probabilities, not {self.prior.shape}.")
        self.expert, self.batched, self.make_expert = expert, batched, make_expert
        self.cue, self.reward_observed, self.ends_early = cue, reward_observed, True
        self.max_failures = check_between("HostWorld: max_failures", max_failures, 0, 1)
        recipe = Recipe(makers, set_context, restarts=at_end == "restart", make_expert=make_expert)
        self._try = Slot(recipe)
        example = self._try.env
        self.together: Together | None = None
        if together:
            self.together = Together(env, set_context, restarts=recipe.restarts, make_expert=make_expert)
            self.observation_space, self.action_space = example.single_observation_space, example.single_action_space
        else:
            self.observation_space, self.action_space = example.observation_space, example.action_space
        self.name = name or _name(env, example)
        self.visible = Visible(self.observation_space, hide)
        self.specs = action_spec(self.action_space), self._observation_spec(predict, restarts=at_end == "restart")
        self.failures: Counter[tuple[str, int]] = Counter()
        self.num_played, self._last_failure, self._batch = 0, "", 0
        self._how = recipe, vectorization, num_workers, timeout
        self._slots: Here | InWorkers | None = None
        self._is_closed = False

    def _observation_spec(self, predict: bool, *, restarts: bool) -> Spec:
        added: dict[str, Spec] = {}
        if self.cue is not None:
            added[CUE] = Symbols(self.cue.num_symbols + 1)
        if self.reward_observed:
            added[REWARD] = Reals(()) if predict else GivenArray((), "float32")
        if restarts:
            begins_by_steps = self.together is not None and self.together.mode == NEXT_STEP
            added[ENDED] = Symbols(4 if begins_by_steps else 3)
        return self.visible.spec(added, predict=predict, name=self.name)

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
        self.num_played += len(u)
        is_open, lost = np.ones(len(u), bool), np.zeros(len(u), bool)
        state = HostState(thetas, [None] * len(u), [None] * len(u), is_open, lost, noise)
        if self.together is not None:
            self._begin_together(state, int(seeds[0]))
        else:
            self._begin_each(state, seeds)
        cue = None if self.cue is None else np.full(len(u), self.cue.num_symbols, np.int32)
        zeros = np.zeros(len(u), np.float32)
        return state, self.see(state.whole, cue, zeros, zeros.astype(np.int32))

    def _begin_each(self, state: HostState, seeds: np.ndarray) -> None:
        whole, advice = [], []
        calls = [
            (i, "begin", (int(seed), int(k), self.contexts[k]))
            for i, (seed, k) in enumerate(zip(seeds, state.thetas, strict=True))
        ]
        for i, step in enumerate(self._answers(state, np.arange(len(calls)), calls)):
            if step is None:  # The episode is lost; any observation will do for it.
                step = self._any(i)
                state.open[i] = False
            whole.append(step.observation)
            advice.append(step.advice)
        state.whole, state.advice = whole, advice

    def _begin_together(self, state: HostState, seed: int) -> None:
        assert self.together is not None
        self._check_is_open()
        self._batch += 1
        state.batch, B = self._batch, len(state.thetas)
        if self.num_envs < B:
            raise ValueError(f"{self.name}: {B} episodes at once, but {self.num_envs} environments.")
        thetas = np.concatenate([state.thetas, np.repeat(state.thetas[:1], self.num_envs - B)])
        steps = self._count(state, self.together.begin(seed, self._contexts_of(thetas)))
        if not state.open.any():
            raise RuntimeError(f"{self.name}: no environment began with finite observations.")
        known = np.flatnonzero(state.open)[0]
        filler = steps.whole.take(np.full(B, known))
        state.whole, state.advice = steps.whole.where(state.open, filler), steps.advice

    def _count(self, state: HostState, steps: Steps) -> Steps:
        """Return the first B rows of what a vector environment answered, and count episodes that were lost."""
        first = np.arange(len(state.thetas))
        advice = None if steps.advice is None else steps.advice.take(first)
        failed = state.open & ~steps.is_finite[first]
        for k in state.thetas[failed]:
            self.failures["not finite", int(k)] += 1
            self._last_failure = "an observation or a reward is not finite"
        state.lost[failed], state.open[failed] = True, False
        self._check_failures()
        return Steps(steps.whole.take(first), advice, *(x[first] for x in steps[2:]))

    def _contexts_of(self, thetas: np.ndarray) -> Any:
        """Return the contexts of many episodes, in the library in which they were given."""
        if isinstance(self.contexts, list | tuple):
            return stacked([self.contexts[k] for k in thetas])
        return Rows(self.contexts).take(thetas).batch

    def _any(self, i: int) -> Step:
        """Return a step of shape alone, for an episode that was lost before it began."""
        return self._try.begin(i, 0, self.contexts[0])

    def _answers(self, state: HostState, rows: np.ndarray, calls: list[Any]) -> list[Step | None]:
        """Return the answers of the environments; None, and `lost`, if there is none."""
        self._check_is_open()
        if self._slots is None:
            recipe, how, num_workers, timeout = self._how
            if how == "sync":
                self._slots = Here(recipe, self.num_envs)
            else:
                self._slots = InWorkers(recipe, self.num_envs, num_workers or _num_cores(), "forkserver", timeout)
            weakref.finalize(self, self._slots.close)
        answers: list[Step | None] = []
        for i, found in zip(rows, self._slots.call(calls), strict=True):
            if isinstance(found, Failure):
                state.lost[i] = True
                self.failures[found.cause, int(state.thetas[i])] += 1
                self._last_failure = found.message
                answers.append(None)
            else:
                answers.append(found)
        self._check_failures()
        return answers

    def _check_is_open(self) -> None:
        if self._is_closed:
            raise RuntimeError(f"{self.name} was closed: make another world.")

    def _check_failures(self) -> None:
        if (lost := sum(self.failures.values())) > max(1, self.max_failures * max(self.num_played, 64)):
            raise RuntimeError(
                f"{self.name}: {lost} of {self.num_played} episodes were lost, more than "
                f"max_failures={self.max_failures:g}: {self._causes}. The last: {self._last_failure}"
            )

    @property
    def _causes(self) -> str:
        causes: Counter[str] = Counter()
        for (cause, _), n in self.failures.items():
            causes[cause] += n
        return ", ".join(f"{n} by {cause}" for cause, n in causes.items())

    def failures_in_words(self) -> str | None:
        """Return how many episodes were lost to failures, by cause and context; None if none was."""
        if not self.failures:
            return None
        of_theta: Counter[int] = Counter()
        for (_, k), n in self.failures.items():
            of_theta[k] += n
        contexts = ", ".join(f"{n} of context {k}" for k, n in sorted(of_theta.items()))
        return (
            f"{sum(self.failures.values())} of {self.num_played} episodes so far were lost to "
            f"failures and played again: {self._causes}; {contexts}. Failures that depend on theta bias what is left. "
            f"The last: {self._last_failure}"
        )

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
            return self._advised(state)
        except Exception as error:
            raise ValueError(
                f"{self.name}: the expert failed in round {state.t} with {type(error).__name__}: {error}"
            ) from error

    def _advised(self, state: HostState) -> tuple[Prediction, Action]:
        """Return the expert's distributions, or its actions; rows of ended episodes are copies of another."""
        advice = state.advice if self.make_expert is not None else self.ask(state.whole, state.thetas)
        if isinstance(advice, Rows):
            filler = advice.take(np.full(len(advice), np.flatnonzero(state.open)[0] if state.open.any() else 0))
            return batched(advice.where(state.open, filler), self.action_space, self.specs[0])
        known = [x for x, is_open in zip(advice, state.open, strict=True) if is_open and x is not None]
        filler = known[0] if known else self._some_advice() if self.together is None else advice[0]
        rows = [x if is_open and x is not None else filler for x, is_open in zip(advice, state.open, strict=True)]
        return batched(rows, self.action_space, self.specs[0])

    def ask(self, whole: Sequence[Any], thetas: np.ndarray) -> Sequence[Any]:
        """Return the expert's advice, one answer for each whole observation and index of a context."""
        assert self.expert is not None
        if self.together is not None:
            rows, given = (self.together.rows(x) for x in (whole, self._contexts_of(thetas)))
            if not self.batched:
                return [jax.tree.map(host, self.expert(x, c)) for x, c in zip(rows, given, strict=True)]
            answer = own(self.expert(rows.batch, given.batch))
            return Rows(answer) if isinstance(whole, Rows) else list(Rows(jax.tree.map(host, answer)))
        contexts = [self.contexts[k] for k in thetas]
        if not self.batched:
            return [self.expert(x, c) for x, c in zip(whole, contexts, strict=True)]
        answered = self.expert(stacked(whole), stacked(contexts))
        if isinstance(answered, tuple):
            return list(zip(*answered, strict=True))
        return list(answered)

    def tell(self, before: Sequence[Any], after: Sequence[Any], thetas: np.ndarray) -> Float[np.ndarray, "N n"]:
        """Return the distributions of the cue after many steps under the contexts of these indices."""
        assert self.cue is not None
        if self.together is None:
            return self.cue.of_many(before, after, [self.contexts[k] for k in thetas])
        return self.cue.of_many(*(self.together.rows(x) for x in (before, after, self._contexts_of(thetas))))

    def _some_advice(self) -> Any:
        step = self._try.begin(0, 0, self.contexts[0])
        return step.advice if self.make_expert is not None else self.ask([step.observation], np.zeros(1, int))[0]

    def respond(
        self, state: HostState, a: Action, keys: Key[Array, " B"]
    ) -> tuple[HostState, Observation, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Play the actions."""
        del keys  # What the world draws, it drew at the start.
        later = dataclasses.replace(state, open=state.open.copy(), t=state.t + 1)
        step = self._step_each if self.together is None else self._step_together
        rewards, ended = step(later, a)
        cue = None
        if self.cue is not None:
            # After the end of an episode within a lifetime, the next observation is of another episode.
            told = np.flatnonzero(state.open & ~later.lost & ((ended == 0) | (not self._how[0].restarts)))
            cue = np.full(len(state.open), self.cue.num_symbols, np.int32)
            if len(told):
                probs = self.tell(_take(state.whole, told), _take(later.whole, told), state.thetas[told])
                u = state.noise[told, state.t][:, None]
                cue[told] = np.minimum((np.cumsum(probs, -1) <= u).sum(-1), probs.shape[-1] - 1)
        return later, self.see(later.whole, cue, rewards, ended), rewards, ~later.open

    def _step_each(self, state: HostState, a: Action) -> tuple[np.ndarray, np.ndarray]:
        """Play actions one by one, or in workers; update the state, and return rewards and ends."""
        rows = np.flatnonzero(state.open)
        played = to_actions(self.action_space, jax.tree.map(np.asarray, a), rows)
        calls: list[Call] = [(i, "step", (x,)) for i, x in zip(rows.tolist(), played, strict=True)]
        rewards, ended = np.zeros(len(state.open), np.float32), np.zeros(len(state.open), np.int32)
        whole, advice = list(state.whole), list(state.advice)
        for i, step in zip(rows, self._answers(state, rows, calls), strict=True):
            if step is None:
                state.open[i] = False
                continue
            whole[i], advice[i] = step.observation, step.advice
            rewards[i], ended[i] = step.reward, step.ended
            if step.ended and not self._how[0].restarts:
                state.open[i] = False
        state.whole, state.advice = whole, advice
        return rewards, ended

    def _step_together(self, state: HostState, a: Action) -> tuple[np.ndarray, np.ndarray]:
        """Play the actions of all environments of a vector environment, as `_step_each` does."""
        assert self.together is not None
        if state.batch != self._batch:
            raise RuntimeError(f"{self.name}: other episodes were begun in the same environments: play one batch each.")
        actions = actions_like(self.action_space, a, state.open, self.num_envs, self.together.example)
        steps = self._count(state, self.together.step(actions))
        is_open = state.open.copy()
        state.whole, state.advice = steps.whole.where(is_open, cast(Rows, state.whole)), steps.advice
        if not self._how[0].restarts:
            state.open &= steps.ended == 0
        return np.where(is_open, steps.rewards, np.float32(0)), np.where(is_open, steps.ended, 0).astype(np.int32)

    def see(self, whole: Sequence[Any], cue: np.ndarray | None, rewards: np.ndarray, ended: np.ndarray) -> Observation:
        """Return what the agents see, with a leading axis B."""
        spec = self.specs[1]
        parts: dict[str, Any] = {}
        is_one = list(self.visible.leaves) == [WHOLE]
        if is_one:
            by_name: dict[str, Sequence[Any]] = {WHOLE: whole}
        elif isinstance(whole, Rows):
            by_name = dict(columns(self.observation_space, whole, ""))
        else:
            flat = [flatten(self.observation_space, x, "") for x in whole]
            by_name = {name: [each[name] for each in flat] for name in self.visible.kept}
        for name, kept in self.visible.kept.items():
            x = read(self.visible.leaves[name], by_name[name])
            parts[name] = x if kept is None else x[:, kept]
        added = {CUE: cue, REWARD: rewards, ENDED: ended}
        names = spec.named if isinstance(spec, Parts) else None
        for name, x in added.items():
            if x is not None and names is not None and name in names and name not in parts:
                parts[name] = x
        return parts if names is not None else next(iter(parts.values()))

    # What is known without tables -------------------------------------------------------------------------------------

    def evidence(self, episodes: Episodes) -> Evidence | str:
        """Return what each context says about stored episodes, if the cue alone depends on it; otherwise the reason."""
        return exact.evidence(self, episodes)

    def exact_agent(self, own_actions: Mark = "do") -> HostAgent | str:
        """Return the exact agent: Bayes' rule over the cues, and over its own actions too if `own_actions="see"`.

        If there is none, return the reason.
        """
        return exact.exact_agent(self, own_actions)

    @functools.cached_property
    def leak(self) -> str | None:
        """Where the agent sees the context other than by the cue, found by playing; None if it was not seen to.

        The same seed and the same random actions under two contexts must give the same observations; and so they must
        under one context, or nothing can be said.
        """
        return leak_of(self, self._path, min(self.num_rounds, LEAK_ROUNDS))

    def random_actions(self, rng: np.random.Generator, num_episodes: int) -> Action:
        """Return actions that the space of the environment samples, `[B, ...]`."""
        space = copy.deepcopy(self.action_space)
        space.seed(int(rng.integers(2**31)))
        actions = [from_action(space, space.sample()) for _ in range(num_episodes)]
        return jax.tree.map(lambda *xs: np.stack(xs), *actions)

    def difference(self, one: Sequence[Observation], other: Sequence[Observation]) -> tuple[str, int] | None:
        """Return in words what differs between the observations of two batches, and in which of them first.

        Numbers of an array are called by their indices in the whole observation.
        """
        return difference(one, other, indices=self.visible.kept)

    def clipped(self, a: Action) -> Bool[np.ndarray, " B"] | None:
        """Return which actions have a number outside its Box; None if actions have no Box."""
        return clipped(self.action_space, a)

    def _path(self, theta: int, seed: int, actions: list[Any]) -> list[Observation]:
        """Return what the agent sees in an episode of these actions, without cues and rewards."""
        if self.together is not None:
            return self._path_together(theta, seed, actions)
        steps = [self._try.begin(seed, theta, self.contexts[theta])]
        for a in actions:
            steps.append(self._try.step(a))
            if steps[-1].ended and not self._how[0].restarts:
                break
        zero = np.zeros(1, np.float32)
        cue = None if self.cue is None else np.zeros(1, np.int32)
        return [self.see([step.observation], cue, zero, np.asarray([step.ended], np.int32)) for step in steps]

    def _path_together(self, theta: int, seed: int, actions: list[Any]) -> list[Observation]:
        """Return what the agents see in all environments, which have the same context and actions."""
        N = self.num_envs
        thetas = np.full(N, theta)
        state = HostState(thetas, [], None, np.ones(N, bool), np.zeros(N, bool), np.zeros((N, self.num_rounds)))
        self._begin_together(state, seed)
        cue = None if self.cue is None else np.zeros(N, np.int32)
        path = [self.see(state.whole, cue, np.zeros(N, np.float32), np.zeros(N, np.int32))]
        for a in actions:
            a = jax.tree.map(lambda x: np.repeat(x[None], N, 0), from_action(self.action_space, a))
            _, ended = self._step_together(state, a)
            path.append(self.see(state.whole, cue, np.zeros(N, np.float32), ended))
            if not state.open.all():
                break
        return path

    def close(self) -> None:
        """Close all environments, and end their processes; the world can play no more."""
        self._is_closed = True
        if self._slots is not None:
            self._slots.close()
        self._try.drop()


def _take(whole: Sequence[Any], rows: np.ndarray) -> Sequence[Any]:
    return whole.take(rows) if isinstance(whole, Rows) else [whole[i] for i in rows]


def _check_unused(
    env: Any, *, num_envs: int | None, vectorization: str, num_workers: int | None, timeout: float
) -> None:
    """Raise if arguments were given that a vector environment decides by itself."""
    if num_envs not in (None, int(env.num_envs)):
        raise ValueError(
            f"HostWorld: num_envs={num_envs}, but the vector environment has {env.num_envs}: leave it out."
        )
    if vectorization != "sync" or num_workers is not None or timeout != TIMEOUT:
        raise TypeError(
            "HostWorld: vectorization, num_workers and timeout are for environments that the world makes itself; a "
            "vector environment steps as it does. Leave them out."
        )


def _makers(env: Any) -> tuple[Callable[[], Any], ...]:
    if isinstance(env, str):
        return (_ById(env),)
    if isinstance(env, list | tuple):
        if not env:
            raise TypeError("HostWorld: the list of environments is empty.")
        return tuple(maker for each in env for maker in _makers(each))
    if not isinstance(env, type) and hasattr(env, "step") and hasattr(env, "reset"):
        raise TypeError(
            f"HostWorld makes its environments itself, num_envs of them: give an id, or a factory such as lambda: "
            f"gymnasium.make(...), and not the environment {one_line(repr(env))}."
        )
    if not callable(env):
        raise TypeError(f"HostWorld: env must be an id, a factory or a list of them, not {one_line(repr(env))}.")
    return (env,)


@dataclasses.dataclass(frozen=True)
class _ById:
    id: str

    def __call__(self) -> Any:
        import gymnasium

        return gymnasium.make(self.id)


def _name(env: Any, example: Any) -> str:
    if isinstance(env, str):
        return env
    spec = getattr(example, "spec", None)
    return spec.id if spec is not None else type(getattr(example, "unwrapped", example)).__name__


def _num_cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@compiled
def _draw_begin(keys: Array, num_rounds: int) -> tuple[Array, Array, Array]:
    """Return uniform numbers for theta, seeds of environments, and uniform numbers for the cues of all rounds."""

    def one(key: Array) -> tuple[Array, Array, Array]:
        keys = EpisodeKeys.of(key)
        seed = jax.random.randint(keys.opening, (), 0, 2**31 - 1)
        return jax.random.uniform(keys.theta), seed, jax.random.uniform(keys.rounds, (num_rounds,))

    return jax.vmap(one)(keys)
