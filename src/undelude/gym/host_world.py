"""`HostWorld`: a Gymnasium environment, with contexts and an expert who is shown them, as the world of an agent."""

import copy
import dataclasses
import functools
import inspect
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from undelude._agents.host import HostAgent
from undelude._agents.networks.action_mask import ACTION_MASK
from undelude._checks import check_between, check_count, check_probabilities, one_line
from undelude._compiled import compiled
from undelude._distributions import GivenArray, Parts, Reals, Spec, Symbols
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, Evidence, Prediction, difference
from undelude._process.world import EpisodeKeys
from undelude._types import Action, Mark, Observation
from undelude.gym._host import exact, masks
from undelude.gym._host.advice import batched, kind_of
from undelude.gym._host.cues import AbstractCue, stacked
from undelude.gym._host.exact import CUE
from undelude.gym._host.hiding import WHOLE, HideKeys, Visible
from undelude.gym._host.slots import Call, Failure, Here, InWorkers, Recipe, Slot, Step
from undelude.gym._host.spaces import action_spec, flatten, from_action, leaves_of, observed_spec, read, to_actions
from undelude.gym.keyboard import KeyboardExpert

# Parts of an observation that this world adds, beside the cue.
REWARD, ENDED = "reward", "ended"
# Rounds in which `leak` compares what the agent sees.
LEAK_ROUNDS = 20
# Up to here beyond its Box an action counts as inside: 32-bit numbers are rounded.
EDGE = 1e-6


@dataclasses.dataclass
class HostState:
    """A batch of episodes: whole observations and contexts, which the agent is not shown."""

    thetas: np.ndarray
    whole: list[Any]
    advice: list[Any]
    open: np.ndarray
    lost: np.ndarray
    noise: np.ndarray
    t: int = 0
    masks: np.ndarray | None = None


class HostWorld(AbstractHostWorld[HostState]):
    """Episodes of a Gymnasium environment under a hidden context, with an expert who knows it.

        theta   index of the context, drawn for each episode and kept to its end
        O_0     what the agent sees of the observation of reset
        A_t     an action, whoever executes it; `expert(observation, context)` says what the expert would do
        O_t     what it sees after the action, and the cue, the reward and the end of an episode if declared

    Args:
        env: an id (`"Reacher-v5"`), a factory, or a list of factories or ids, one for each context.
        num_rounds: `T`, the rounds of a lifetime, in which an agent keeps its memory and theta stays the same.
        expert: `(observation, context) -> advice`, on the whole observation. Advice is an action of the environment;
            probabilities, if actions are Discrete; or `(mean, scale)` of a normal distribution, if they are a Box. A
            `ug.KeyboardExpert` is a person.
        contexts: the K values of theta, on a leading axis or in a list. With a list of environments, they are
            numbered 0 to K - 1 by default.
        reward_observed: whether the agent is shown the rewards. A reward often tells theta: say it.
        prior: `[K]`, probabilities of the contexts; uniform by default.
        num_envs: environments side by side.
        set_context: `(env, context) -> observation or None`, called after each reset. By default the context goes to
            `env.reset(options={"context": context})`.
        hide: what the agent does not see: indices of an observation that is one array, `ug.HideKeys(...)` for keys of a
            dictionary, or `{name: indices}`.
        cue: a `ug.WarmerColder` or another cue, told after each action.
        predict: whether real numbers of an observation are predicted too. By default agents read them and predict only
            symbols, such as the cue.
        at_end: what follows the end of an episode of the environment within a lifetime: `"restart"`, another episode
            under the same context, with the part `ended` in the observation (0 no, 1 terminated, 2 truncated); or
            `"end"` of the lifetime.
        batched: whether the expert takes all observations and contexts at once, `[B, ...]`.
        make_expert: `(env, context) -> (observation -> advice)`, in place of `expert`: one that lives beside its
            environment, such as a planner that reads its state. It is made at each reset.
        action_mask: which actions can be taken, if they are Discrete: `env -> mask`, a number for each action, 0 if it
            cannot; by default `info["action_mask"]`, if the environment publishes one when it is reset. Masked actions
            have probability 0 under networks, and must have under the expert; agents read the mask, the part
            `action_mask` of an observation. False: the environment takes every action, whatever its info says.
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
        num_envs: int = 16,
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
        name: str | None = None,
    ):
        makers = _makers(env)
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
        self.num_envs = check_count("HostWorld: num_envs", num_envs)
        self.contexts, self.num_thetas = contexts, len(contexts)
        self.prior = np.full(self.num_thetas, 1 / self.num_thetas) if prior is None else np.asarray(prior, float)
        check_probabilities(self.prior, "HostWorld: prior")
        if self.prior.shape != (self.num_thetas,):
            raise ValueError(f"HostWorld: prior must have {self.num_thetas} probabilities, not {self.prior.shape}.")
        self.expert, self.batched, self.make_expert = expert, batched, make_expert
        self.cue, self.reward_observed, self.ends_early = cue, reward_observed, True
        self.max_failures = check_between("HostWorld: max_failures", max_failures, 0, 1)
        if action_mask is not None and action_mask is not False and not callable(action_mask):
            raise TypeError(f"HostWorld: action_mask must be a function of the environment, or False: {action_mask!r}.")
        recipe = Recipe(
            makers, set_context, at_end == "restart", make_expert, action_mask if callable(action_mask) else None
        )
        self._try = Slot(recipe)
        example = self._try.env
        self.observation_space, self.action_space = example.observation_space, example.action_space
        self.name = name or _name(env, example)
        self.expert_is_person = isinstance(expert, KeyboardExpert)
        if isinstance(expert, KeyboardExpert):
            expert.check(self.action_space)
            if self.num_envs > 1 or vectorization != "sync":
                raise ValueError(
                    "HostWorld: a person is asked about one environment at a time: give num_envs=1, and not "
                    'vectorization="async".'
                )
        self.visible = Visible(self.observation_space, hide)
        self.expert_reads_mask = expert is not None and "mask" in _parameters(expert)
        self.masks_ignored, self.is_masked = action_mask is False, False
        if action_mask is not False:
            self.is_masked = callable(action_mask) or self._publishes_mask()
            if self.is_masked and type(self.action_space).__name__ != "Discrete":
                raise TypeError(
                    f"{self.name}: a mask of actions is for Discrete actions, and these are {self.action_space}: "
                    "action_mask=False leaves it unread."
                )
        self.mask_seen = False
        self.specs = action_spec(self.action_space), self._observation_spec(predict, restarts=at_end == "restart")
        self.failures: Counter[tuple[str, int]] = Counter()
        self.num_played, self._last_failure = 0, ""
        self._how = recipe, vectorization, num_workers, timeout
        self._slots: Here | InWorkers | None = None
        self._is_closed = False

    def _observation_spec(self, predict: bool, *, restarts: bool) -> Spec:
        parts: dict[str, Spec] = {}
        for name, kept in self.visible.kept.items():
            num_kept = None if kept is None else len(kept)
            where = f"{self.name}: observation {name}"
            parts[name] = observed_spec(self.visible.leaves[name], where, predicted=predict, num_kept=num_kept)
        if ACTION_MASK in parts:
            raise ValueError(
                f"{self.name}: the observation has a part action_mask. Hide it, hide=ug.HideKeys('action_mask'), and "
                "give action_mask=, a function of the environment, if it says which actions can be taken; if it is "
                "something else, rename it by a wrapper."
            )
        added: dict[str, Spec] = {}
        if self.cue is not None:
            added[CUE] = Symbols(self.cue.num_symbols + 1)
        if self.reward_observed:
            added[REWARD] = Reals(()) if predict else GivenArray((), "float32")
        if restarts:
            added[ENDED] = Symbols(3)
        if self.is_masked:
            added[ACTION_MASK] = GivenArray((int(self.action_space.n),), "float32")
        if both := parts.keys() & added.keys():
            raise ValueError(f"{self.name}: the observation already has a part {min(both)!r}: rename it by a wrapper.")
        parts |= added
        return next(iter(parts.values())) if len(parts) == 1 else Parts.of(parts)

    def _publishes_mask(self) -> bool:
        """Return whether the environment says which actions can be taken when it is reset.

        One that cannot be reset is told of when it is played.
        """
        try:
            return self._try.begin(0, 0, self.contexts[0]).mask is not None
        except Exception:
            self._try.drop()
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
        calls = [
            (i, "begin", (int(seed), int(k), self.contexts[k]))
            for i, (seed, k) in enumerate(zip(seeds, thetas, strict=True))
        ]
        self.num_played += len(calls)
        state = HostState(
            thetas, [None] * len(u), [None] * len(u), np.ones(len(u), bool), np.zeros(len(u), bool), noise
        )
        steps = self._answers(state, np.arange(len(u)), calls)
        for i, step in enumerate(steps):
            if step is None:  # The episode is lost; any observation will do for it.
                step = self._any(i)
                state.open[i] = False
            state.whole[i], state.advice[i] = step.observation, step.advice
        cue = None if self.cue is None else np.full(len(u), self.cue.num_symbols, np.int32)
        zeros = np.zeros(len(u), np.float32)
        state.masks = self._masks(state.open, steps)
        return state, self.see(state.whole, cue, zeros, zeros.astype(np.int32), state.masks)

    def _masks(self, is_open: Bool[np.ndarray, " B"], steps: Sequence[Step | None]) -> np.ndarray | None:
        """Return which actions can be taken now, `[B, A]`; None if all can."""
        found = [None if step is None else step.mask for step in steps]
        self.mask_seen |= any(mask is not None for mask in found)
        if not self.is_masked:
            if self.mask_seen and not self.masks_ignored:
                raise ValueError(
                    f'{self.name}: info["action_mask"] comes after a step and not after reset, so that no agent was '
                    "prepared for it: give action_mask=, a function of the environment, or False to leave it unread."
                )
            return None
        for i in np.flatnonzero(is_open):
            if found[i] is None:
                raise ValueError(f"{self.name}: the environment gave no mask of actions, as it did after reset.")
        try:
            return masks.stack([x if each else None for x, each in zip(found, is_open, strict=True)], self._num_actions)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    @property
    def _num_actions(self) -> int:
        return int(self.action_space.n)

    def _any(self, i: int) -> Step:
        """Return a step of shape alone, for an episode that was lost before it began."""
        return self._try.begin(i, 0, self.contexts[0])

    def _answers(self, state: HostState, rows: np.ndarray, calls: list[Any]) -> list[Step | None]:
        """Return the answers of the environments; None, and `lost`, if there is none."""
        if self._is_closed:
            raise RuntimeError(f"{self.name} was closed: make another world.")
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
        if (lost := sum(self.failures.values())) > max(1, self.max_failures * max(self.num_played, 64)):
            raise RuntimeError(
                f"{self.name}: {lost} of {self.num_played} episodes were lost, more than "
                f"max_failures={self.max_failures:g}: {self._causes}. The last: {self._last_failure}"
            )
        return answers

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

    def unread_in_words(self) -> str | None:
        """Return that the environment publishes a mask of actions which is not read; None if it does not."""
        if self.is_masked or not self.mask_seen:
            return None
        return (
            'The environment says which actions can be taken, info["action_mask"], and action_mask=False leaves it '
            "unread: agents and expert may take any."
        )

    def settings_in_words(self) -> str:
        """Return name, rounds, specs, prior, and the contexts if they are numbers."""
        try:
            contexts = np.asarray(self.contexts, float).tolist()
        except (TypeError, ValueError):
            contexts = len(self.contexts)
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
            return self._advised(state)
        except Exception as error:
            raise ValueError(
                f"{self.name}: the expert failed in round {state.t} with {type(error).__name__}: {error}"
            ) from error

    def _advised(self, state: HostState) -> tuple[Prediction, Action]:
        """Return the expert's distributions, or its actions; rows of ended episodes are copies of another."""
        if isinstance(self.expert, KeyboardExpert):
            return batched([self._by_person(self.expert, state)], self.action_space, self.specs[0])
        told = state.masks if self.expert_reads_mask else None
        advice = state.advice if self.make_expert is not None else self.ask(state.whole, state.thetas, told)
        if state.masks is not None:
            advice = self.within_mask(advice, state.masks, state.open)
        known = [x for x, is_open in zip(advice, state.open, strict=True) if is_open and x is not None]
        filler = known[0] if known else self._some_advice()
        rows = [x if is_open and x is not None else filler for x, is_open in zip(advice, state.open, strict=True)]
        return batched(rows, self.action_space, self.specs[0])

    def _by_person(self, person: KeyboardExpert, state: HostState) -> int:
        """Return what the person would do in the one episode; any action if it has ended."""
        if not state.open[0]:
            return int(self.action_space.start)
        assert isinstance(self._slots, Here)
        context, allowed = self.contexts[state.thetas[0]], None if state.masks is None else state.masks[0]
        return person.action(self._slots.slots[0].env, state.whole[0], context, allowed)

    def within_mask(self, advice: list[Any], allowed: np.ndarray, is_open: np.ndarray) -> list[Any]:
        """Return the expert's advice; raise `ValueError` if it gives mass to an action that cannot be taken."""
        checked = list(advice)
        for i in np.flatnonzero(is_open):
            is_action = kind_of(advice[i], self.specs[0]) == "an action"
            number = int(from_action(self.action_space, advice[i])) if is_action else None
            checked[i] = masks.advice_within(advice[i], allowed[i], number)
        return checked

    def ask(self, whole: list[Any], thetas: np.ndarray, allowed: np.ndarray | None = None) -> list[Any]:
        """Return the expert's advice, one answer for each whole observation and index of a context.

        The masks of actions are for an expert that takes them.
        """
        assert self.expert is not None
        contexts = [self.contexts[k] for k in thetas]
        more = () if allowed is None else (allowed,)
        if not self.batched:
            return [self.expert(*each) for each in zip(whole, contexts, *more, strict=True)]
        answered = self.expert(stacked(whole), stacked(contexts), *more)
        if isinstance(answered, tuple):
            return list(zip(*answered, strict=True))
        return list(answered)

    def _some_advice(self) -> Any:
        step = self._try.begin(0, 0, self.contexts[0])
        told = self._masks(np.ones(1, bool), [step]) if self.expert_reads_mask else None
        return step.advice if self.make_expert is not None else self.ask([step.observation], np.zeros(1, int), told)[0]

    def respond(
        self, state: HostState, a: Action, keys: Key[Array, " B"]
    ) -> tuple[HostState, Observation, Float[np.ndarray, " B"], Bool[np.ndarray, " B"]]:
        """Play the actions."""
        host = jax.tree.map(np.asarray, a)
        rows = np.flatnonzero(state.open)
        if state.masks is not None:
            try:
                masks.check_played(host, state.masks, state.open)
            except ValueError as error:
                raise ValueError(f"{self.name}, round {state.t}: {error}") from error
        played = to_actions(self.action_space, host, rows)
        calls: list[Call] = [(i, "step", (x,)) for i, x in zip(rows.tolist(), played, strict=True)]
        B = len(state.open)
        rewards, ended = np.zeros(B, np.float32), np.zeros(B, np.int32)
        whole, advice, is_open, lost = list(state.whole), list(state.advice), state.open.copy(), state.lost
        cue = None if self.cue is None else np.full(B, self.cue.num_symbols, np.int32)
        del keys  # What the world draws, it drew at the start.
        recipe = self._how[0]
        told = []
        found: list[Step | None] = [None] * B
        for i, step in zip(rows, self._answers(state, rows, calls), strict=True):
            found[i] = step
            if step is None:
                is_open[i] = False
                continue
            whole[i], advice[i] = step.observation, step.advice
            rewards[i], ended[i] = step.reward, step.ended
            if not (step.ended and recipe.restarts):  # The next observation is of another episode.
                told.append(i)
            if step.ended and not recipe.restarts:
                is_open[i] = False
        if cue is not None and told:
            assert self.cue is not None
            before, after = [state.whole[i] for i in told], [whole[i] for i in told]
            probs = self.cue.of_many(before, after, [self.contexts[k] for k in state.thetas[told]])
            u = state.noise[told, state.t][:, None]
            cue[told] = np.minimum((np.cumsum(probs, -1) <= u).sum(-1), probs.shape[-1] - 1)
        allowed = self._masks(is_open, found)
        later = HostState(state.thetas, whole, advice, is_open, lost, state.noise, state.t + 1, allowed)
        return later, self.see(whole, cue, rewards, ended, allowed), rewards, ~is_open

    def see(
        self,
        whole: list[Any],
        cue: np.ndarray | None,
        rewards: np.ndarray,
        ended: np.ndarray,
        allowed: np.ndarray | None = None,
    ) -> Observation:
        """Return what the agents see, with a leading axis B."""
        spec = self.specs[1]
        parts: dict[str, np.ndarray] = {}
        is_one = list(self.visible.leaves) == [WHOLE]
        flat = [] if is_one else [flatten(self.observation_space, x, "") for x in whole]
        for name, kept in self.visible.kept.items():
            x = read(self.visible.leaves[name], whole if is_one else [each[name] for each in flat])
            parts[name] = x if kept is None else x[:, kept]
        added = {CUE: cue, REWARD: rewards, ENDED: ended, ACTION_MASK: allowed}
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
        rng = np.random.default_rng(0)
        T = min(self.num_rounds, LEAK_ROUNDS)
        actions = to_actions(self.action_space, self.random_actions(rng, T), np.arange(T))
        pairs = [(0, k) for k in sorted({0, 1, self.num_thetas // 2, self.num_thetas - 1}) if k < self.num_thetas]
        for pair in pairs:
            seed = int(rng.integers(2**31))
            paths = [self._path(k, seed, actions) for k in pair]
            if (found := self.difference(*paths)) is None:
                continue
            parts, t = found
            when = "from the start" if t == 0 else f"from round {t} on"
            if pair == (0, 0):
                return (
                    f"the same seed and actions twice under context 0 show the agent another {parts} {when}: the "
                    "environment draws random numbers that the seed of reset does not set (self.np_random is set), "
                    "or keeps something from the episode before. What its contexts show cannot be compared then."
                )
            return (
                f"the same seed and actions under contexts {pair[0]} and {pair[1]} show the agent another {parts} "
                f"{when}, so that theta shows in more than the cue. Hide what tells it (hide=), or take it for granted "
                "that there is no exact answer."
            )
        return None

    def random_actions(self, rng: np.random.Generator, num_episodes: int) -> Action:
        """Return actions that the space of the environment samples, `[B, ...]`."""
        space = copy.deepcopy(self.action_space)
        space.seed(int(rng.integers(2**31)))
        actions = [from_action(space, space.sample()) for _ in range(num_episodes)]
        return jax.tree.map(lambda *xs: np.stack(xs), *actions)

    def possible(self, state: HostState, a: Action) -> Action:
        """Return the actions, each of which the mask forbids replaced by the next one that it allows."""
        return a if state.masks is None else masks.nearest(np.asarray(a), state.masks)

    def difference(self, one: Sequence[Observation], other: Sequence[Observation]) -> tuple[str, int] | None:
        """Return in words what differs between the observations of two batches, and in which of them first.

        Numbers of an array are called by their indices in the whole observation.
        """
        return difference(one, other, indices=self.visible.kept)

    def clipped(self, a: Action) -> Bool[np.ndarray, " B"] | None:
        """Return which actions have a number outside its Box; None if actions have no Box."""
        leaves = leaves_of(self.action_space, "")
        parts = {"": a} if list(leaves) == [""] else a
        found = None
        for name, space in leaves.items():
            if type(space).__name__ == "Box":
                x = np.asarray(parts[name])
                out = ((x < space.low - EDGE) | (x > space.high + EDGE)).reshape(len(x), -1).any(-1)
                found = out if found is None else found | out
        return found

    def _path(self, theta: int, seed: int, actions: list[Any]) -> list[Observation]:
        """Return what the agent sees in an episode of these actions, without cues and rewards."""
        steps = [self._try.begin(seed, theta, self.contexts[theta])]
        for a in actions:
            if (allowed := self._masks(np.ones(1, bool), steps[-1:])) is not None:
                start = int(self.action_space.start)
                a = int(masks.nearest(np.array([a - start]), allowed)[0]) + start
            steps.append(self._try.step(a))
            if steps[-1].ended and not self._how[0].restarts:
                break
        zero = np.zeros(1, np.float32)
        cue = None if self.cue is None else np.zeros(1, np.int32)
        return [
            self.see(
                [step.observation],
                cue,
                zero,
                np.asarray([step.ended], np.int32),
                self._masks(np.array([not step.ended or self._how[0].restarts]), [step]),
            )
            for step in steps
        ]

    def close(self) -> None:
        """Close all environments, and end their processes; the world can play no more."""
        self._is_closed = True
        if self._slots is not None:
            self._slots.close()
        self._try.drop()


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


def _parameters(f: Callable[..., Any]) -> Collection[str]:
    try:
        return inspect.signature(f).parameters
    except (TypeError, ValueError):  # Some built-in functions have no signature.
        return ()


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
