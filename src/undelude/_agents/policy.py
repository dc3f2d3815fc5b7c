"""`Policy`: an agent in a loop of the user's own, one observation at a time, in NumPy."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from undelude._agents.base import AbstractAgent, check_mark
from undelude._checks import check_count, one_line
from undelude._distributions import (
    AbstractDistribution,
    Autoregressive,
    Categorical,
    Given,
    Joint,
    Normal,
    Parts,
    Spec,
    spec_of,
)
from undelude._process.blank import FIRST, REST, has_symbols, is_blank
from undelude._process.world import EpisodeKeys, RoundKeys, key_of
from undelude._tree import Bound, where
from undelude._types import Action, Memory, Observation


class Turn(NamedTuple):
    """The state of a batch of episodes between two rounds; `Policy.predict` returns it.

    Attributes:
        m: `[B, ...]`, memories, which have not read the last actions yet.
        a: `[B, ...]`, the last actions.
        rounds: `[B]`, keys of the rounds.
        t: `[B]`, the number of actions chosen.
    """

    m: Memory
    a: Action
    rounds: Key[Array, " B"]
    t: Int[Array, " B"]


class Policy:
    """An agent in a loop of your own: a robot's, a game's, or that of another library. Actions are NumPy arrays.

        a = policy.reset(seed=0)        the first action; opening=o if Nature opens with an observation
        a = policy.step(o)              reads the observation after the last action; the next action

    It acts as the agent does (`agent.act`) and reads its own actions as the agent says: as interventions, if
    `agent.own_actions` is `"do"`. With the same seed, observations and agent, episode n after the seed has the actions
    of episode n of `ud.rollout(..., key=jax.random.key(seed))`, both counted from 0.

    The agent's parameters are those of now: make another policy after further teaching.

    Args:
        agent: any agent that is JAX.
        num_rounds: T. Needed only by agents whose memory depends on it, such as a transformer; they refuse more rounds.
        num_envs: B, for B episodes side by side: actions and observations then have a leading axis. None for one.
        deterministic: whether `step` takes the most probable action in place of the agent's own choice. Such a policy
            is not the one that was taught and certified.

    Raises:
        TypeError: `agent` is not an agent, or is deterministic but predicts actions of a kind that has no mode.
        ValueError: the agent cannot read its own actions, or needs `num_rounds`.

    >>> import undelude as ud
    >>> policy = ud.Policy(ud.ExactAgent(ud.tasks.bandit()))
    >>> a = policy.reset(seed=0)
    >>> for _ in range(3):
    ...     a = policy.step(np.int32(a == 2))
    >>> policy.belief.shape
    (5,)
    """

    def __init__(
        self,
        agent: AbstractAgent,
        *,
        num_rounds: int | None = None,
        num_envs: int | None = None,
        deterministic: bool = False,
    ):
        if not isinstance(agent, AbstractAgent):
            raise TypeError(
                f"Policy needs an agent such as ud.ExactAgent(process), not {one_line(repr(agent))}. "
                "A ud.HostAgent acts in Python already: call its functions."
            )
        check_mark(agent, agent.own_actions)
        self.agent, self.deterministic = agent, deterministic
        self.num_envs = None if num_envs is None else check_count("num_envs", num_envs)
        num_rounds = None if num_rounds is None else check_count("num_rounds", num_rounds)
        self._limit = num_rounds if _needs_num_rounds(agent) else None
        if num_rounds is None and _needs_num_rounds(agent):
            raise ValueError(
                f"the memory of this {type(agent).__name__} depends on the number of rounds: give Policy(num_rounds=)."
            )
        self._players = {greedy: Player(agent, num_rounds or 1, greedy) for greedy in (False, True)}
        self.action_spec, self.observation_spec = _specs(self._players[False])
        self._bound: dict[Any, Any] = {}
        self._key, self._number = key_of(0), 0
        self._turn: Turn | None = None
        if deterministic:
            _check_mode(self._players[True])

    def reset(self, *, seed: int | None = None, opening: Observation | None = None) -> Action:
        """Begin an episode, or `num_envs` of them, and return the first action.

        Args:
            seed: of this episode and all after it; each row of a batch is an episode of its own.
            opening: `O_0`, if Nature opens. The blank, which a `TaskEnv` shows otherwise, counts as None.

        Raises:
            ValueError: the opening has the wrong shape, or is outside the agent's observations.
        """
        if seed is not None:
            self._key, self._number = key_of(seed), 0
        B = self.num_envs or 1
        o, is_opening = (None, np.zeros(B, bool)) if opening is None else self._read(opening, self.num_envs, "opening")
        if is_opening.any() != is_opening.all():
            raise ValueError("Policy.reset: some openings are blank and others are not; one process has either.")
        self._turn, a = self._begin(o if is_opening.all() else None, B, self.deterministic)
        return self._out(a, self.num_envs)

    def step(self, o: Observation) -> Action:
        """Read the observation after the last action, and return the next action.

        Raises:
            RuntimeError: there was no `reset`, or the agent was made for fewer rounds.
            ValueError: the observation has the wrong shape, or is outside the agent's observations.
        """
        if self._turn is None:
            raise RuntimeError("Policy.step: no episode is under way; call reset(), which returns the first action.")
        o, is_real = self._read(o, self.num_envs, "observation")
        if not is_real.all():
            raise ValueError("Policy.step: the observation is blank, which begins an episode; call reset().")
        self._check_limit(self._turn)
        self._turn, a = self._program(go_on, self.deterministic)(self._turn, o)
        return self._out(a, self.num_envs)

    @property
    def belief(self) -> Float[np.ndarray, "*B K"] | None:
        """`P(theta | history)` after the last observation, probabilities over `agent.thetas`; None without a belief.

        The action that was returned last is not in the history yet.
        """
        if self._turn is None:
            raise RuntimeError("Policy.belief: no episode is under way; call reset() first.")
        log_belief = self._program(belief_of, False)(self._turn)
        if log_belief is None:
            return None
        belief = np.exp(np.asarray(log_belief))
        return belief[0] if self.num_envs is None else belief

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Action, Any]:
        """Return actions and the next state, as a policy of Stable-Baselines3 does: for its `evaluate_policy`.

        All that it knows of the episodes is in the state, and nothing of those of `step`. The first observation of an
        episode is the opening, or the blank of a `TaskEnv`.

        Args:
            observation: one, or a batch with a leading axis B.
            state: that of the last call; None at the start.
            episode_start: `[B]`, whether the observation is the first of an episode; by default only without a state.
            deterministic: whether to take the most probable action in place of the agent's own choice.

        Returns:
            Actions, and the state for the next call.

        Raises:
            RuntimeError: the agent was made for fewer rounds.
            TypeError: `deterministic`, and the agent predicts actions of a kind that has no mode.
            ValueError: an observation has the wrong shape, or is outside the agent's observations.
        """
        if deterministic:
            _check_mode(self._players[True])
        size = _batch_size(self.observation_spec, observation)
        B = size or 1
        o, is_real = self._read(observation, size, "observation")
        starts = np.full(B, state is None) if episode_start is None else np.broadcast_to(episode_start, B).astype(bool)
        if state is None and not starts.all():
            raise ValueError("Policy.predict: an episode that goes on needs the state that the last call returned.")
        if (~is_real & ~starts).any():
            raise ValueError("Policy.predict: an observation is blank, which begins an episode; give episode_start.")
        if state is not None and len(state.t) != B:
            raise ValueError(f"Policy.predict: {B} observations, but a state of {len(state.t)} episodes.")
        if starts.all() and is_real.any() == is_real.all():
            state, a = self._begin(o if is_real.all() else None, B, deterministic)
            return self._out(a, size), state
        if state is not None and not starts.any():
            self._check_limit(state)
            state, a = self._program(go_on, deterministic)(state, o)
            return self._out(a, size), state
        numbers = np.asarray(self._number + np.cumsum(starts) - 1, np.int32)
        self._number += int(starts.sum())
        state = self._begin(None, B, deterministic)[0] if state is None else state
        state, a = self._program(either, deterministic)(state, o, starts, is_real, self._key, numbers)
        return self._out(a, size), state

    def _begin(self, o: Observation | None, B: int, deterministic: bool) -> tuple[Turn, Action]:
        numbers = np.arange(self._number, self._number + B, dtype=np.int32)
        self._number += B
        return self._program(begin, deterministic)(self._key, numbers, *(() if o is None else (o,)))

    def _program(self, f: Any, deterministic: bool) -> Any:
        if (f, deterministic) not in self._bound:
            self._bound[f, deterministic] = Bound(f, self._players[deterministic])
        return self._bound[f, deterministic]

    def _check_limit(self, turn: Turn) -> None:
        if self._limit is not None and int(np.max(np.asarray(turn.t))) >= self._limit:
            raise RuntimeError(
                f"this {type(self.agent).__name__} was given num_rounds={self._limit} and has chosen as many actions, "
                "so that its memory is full. Begin an episode, or make the Policy with more num_rounds."
            )

    def _read(self, o: Observation, size: int | None, what: str) -> tuple[Observation, Bool[np.ndarray, " B"]]:
        """Return observations as a batch in the agent's types, and which of them are real, and not blank."""
        spec, first = self.observation_spec, None
        if not has_symbols(spec) and isinstance(o, dict) and o.keys() == {FIRST, REST}:
            first, o = np.atleast_1d(np.asarray(o[FIRST])) == 1, o[REST]
        lead = () if size is None else (size,)
        o = _in_types(spec, o, lead, f"Policy: the {what}")
        o = o if lead else jax.tree.map(lambda x: x[None], o)
        blanks = is_blank(spec, o) if first is None else first
        is_real = np.ones(size or 1, bool) if blanks is None else ~blanks
        real = o if is_real.all() else jax.tree.map(lambda x: x[is_real], o)
        spec.check(f"Policy: the {what}", real)
        return o, is_real

    def _out(self, a: Action, size: int | None) -> Action:
        return jax.tree.map(lambda x: np.array(np.asarray(x)[0] if size is None else x)[()], a)


# Programs -------------------------------------------------------------------------------------------------------------


class Player(eqx.Module):
    """An agent and how it plays.

    Attributes:
        agent: the agent.
        num_rounds: T, for its memory.
        greedy: whether it takes the most probable action.
    """

    agent: AbstractAgent
    num_rounds: int = eqx.field(static=True)
    greedy: bool = eqx.field(static=True)

    def act(self, m: Memory, rounds: Key[Array, ""], t: Int[Array, ""]) -> tuple[Turn, Action]:
        """Choose the action of round `t`."""
        if self.greedy:
            a, later = mode(self.agent.f_A(m)), m
        else:
            # Equal to the entry `t` of `split(rounds, T)`, which `run_episode` takes.
            a, later = self.agent.act(m, key=RoundKeys.of(jax.random.fold_in(rounds, t)).act)
        return Turn(later, a, rounds, t + 1), a

    def first(self, key: Key[Array, ""], number: Int[Array, ""]) -> tuple[Memory, Key[Array, ""]]:
        """Return the memory at the start of episode `number`, and the key of its rounds."""
        return self.agent.init(num_rounds=self.num_rounds), EpisodeKeys.of(jax.random.fold_in(key, number)).rounds

    def read(self, turn: Turn, o: Observation) -> Memory:
        """Return the memory after the last action and its observation."""
        return self.agent.g_O(o, self.agent.g_A(turn.a, turn.m, intervened=self.agent.own_actions == "do"))


def begin(
    player: Player, key: Key[Array, ""], numbers: Int[Array, " B"], o: Observation | None = None
) -> tuple[Turn, Action]:
    """Begin episodes, with openings if there are any."""

    def one(number: Int[Array, ""], o: Observation | None) -> tuple[Turn, Action]:
        m, rounds = player.first(key, number)
        return player.act(m if o is None else player.agent.g_O(o, m), rounds, jnp.zeros((), jnp.int32))

    return jax.vmap(one)(numbers, o)


def go_on(player: Player, turn: Turn, o: Observation) -> tuple[Turn, Action]:
    """Read the last round of each episode, and choose the next action."""
    return jax.vmap(lambda turn, o: player.act(player.read(turn, o), turn.rounds, turn.t))(turn, o)


def either(
    player: Player,
    turn: Turn,
    o: Observation,
    starts: Bool[Array, " B"],
    opens: Bool[Array, " B"],
    key: Key[Array, ""],
    numbers: Int[Array, " B"],
) -> tuple[Turn, Action]:
    """Begin episodes in the rows `starts`, with an opening in the rows `opens`, and go on in the others."""

    def one(turn: Turn, o: Observation, starts: Array, opens: Array, number: Array) -> tuple[Turn, Action]:
        fresh, rounds = player.first(key, number)
        fresh = where(opens, player.agent.g_O(o, fresh), fresh)
        m = where(starts, fresh, player.read(turn, o))
        return player.act(m, jnp.where(starts, rounds, turn.rounds), jnp.where(starts, 0, turn.t))

    return jax.vmap(one)(turn, o, starts, opens, numbers)


def belief_of(player: Player, turn: Turn) -> Float[Array, "B K"] | None:
    """Return the log-beliefs of the agent, if it has any."""
    return jax.vmap(player.agent.belief)(turn.m)


def mode(distribution: AbstractDistribution) -> Any:
    """Return the most probable value.

    Raises:
        TypeError: it is not known for this distribution.
    """
    match distribution:
        case Categorical():
            return jnp.argmax(distribution.log_probs).astype(jnp.int32)
        case Normal():
            return distribution.loc
        case Given():
            return distribution.value
        case Joint():
            return jax.tree.map(mode, distribution.parts, is_leaf=lambda x: isinstance(x, AbstractDistribution))
        case Autoregressive() if (blocks := distribution.support) is not None:
            return jnp.asarray(blocks)[jnp.argmax(jax.vmap(distribution.log_prob)(jnp.asarray(blocks)))]
    raise TypeError(
        f"the most probable action of a {type(distribution).__name__} is not known; leave out deterministic=True."
    )


# Checks ---------------------------------------------------------------------------------------------------------------


def _check_mode(player: Player) -> None:
    eqx.filter_eval_shape(
        lambda player: mode(player.agent.f_A(player.agent.init(num_rounds=player.num_rounds))), player
    )


def _specs(player: Player) -> tuple[Spec, Spec]:
    """Return the specs of the actions and observations that the agent predicts."""

    def predict(player: Player) -> Any:
        m = player.agent.init(num_rounds=player.num_rounds)
        return player.agent.f_A(m), player.agent.f_O(m)

    P_A, P_O = eqx.filter_eval_shape(predict, player)
    return spec_of(P_A), spec_of(P_O)


def _needs_num_rounds(agent: AbstractAgent) -> bool:
    """Return whether the memory at the start depends on the number of rounds."""
    one, two = (jax.tree.flatten(agent.init(num_rounds=n)) for n in (1, 2))
    pairs = zip(one[0], two[0], strict=False)
    return one[1] != two[1] or not all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in pairs)


def _leaves(spec: Spec, o: Observation, what: str) -> list[tuple[Spec, Any]]:
    """Return the specs of the parts of an observation, and the parts."""
    if not isinstance(spec, Parts):
        return [(spec, o)]
    try:
        return list(zip(spec.leaves, spec.structure.flatten_up_to(o), strict=True))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{what} must have the parts {spec}, not {one_line(repr(o))}.") from error


def _in_types(spec: Spec, o: Observation, lead: tuple[int, ...], what: str) -> Observation:
    """Return observations with the leading axes `lead` in the types of `spec`.

    Raises:
        ValueError: a structure or a shape is another.
    """
    if isinstance(spec, Parts):
        parts = zip(spec.names, _leaves(spec, o, what), strict=True)
        return spec.structure.unflatten(
            [_in_types(part, x, lead, f"{what}, part {name},") for name, (part, x) in parts]
        )
    x, shape = np.asarray(o), (*lead, *spec.value.shape)
    if x.shape != shape:
        raise ValueError(f"{what} must have the shape {list(shape)}, not {list(x.shape)}.")
    if np.issubdtype(spec.value.dtype, np.integer) and not np.issubdtype(x.dtype, np.integer):
        raise ValueError(f"{what} must be of integers, not {x.dtype}.")
    if np.issubdtype(spec.value.dtype, np.inexact) and not np.isfinite(np.asarray(x, float)).all():
        raise ValueError(f"{what} must be finite numbers, not {one_line(x)}.")
    return x.astype(spec.value.dtype)


def _batch_size(spec: Spec, o: Observation) -> int | None:
    """Return the length of the leading axis of observations; None if there is a single one."""
    if not has_symbols(spec) and isinstance(o, dict) and o.keys() == {FIRST, REST}:
        o = o[REST]
    x: Any = o
    while isinstance(spec, Parts):
        spec, x = _leaves(spec, x, "Policy: the observation")[0]
    return None if np.ndim(x) <= len(spec.value.shape) else len(x)
