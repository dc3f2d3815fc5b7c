"""The logs as a process: theta is the number of the demonstration, which the expert and Nature then repeat.

Teaching in which the expert executes every action works on it as on any other process, so that one loop serves models
and logs. An action of anybody else would change nothing, since the logs do not say what would have come of it.
"""

import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

from undelude._agents.base import AbstractAgent, AbstractSequenceAgent, M, Predictions, predict
from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, Normal
from undelude._process.episodes import EXPERT, Episodes
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._tree import where
from undelude._types import Action, Observation, Theta
from undelude.offline._data.demos import Demos
from undelude.offline._model.process import ObservedFields

Memory = dict[str, Array]
# The scale of a logged real value, in units of its standard deviation: almost certain.
REPEATED_SCALE = 1e-6


class AnyOf(AbstractDistribution[Int[Array, ""]]):
    """The uniform distribution over `0 .. n-1`, without an array of n probabilities."""

    n: int = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Int[Array, ""]:
        """Draw one of the numbers."""
        return jax.random.randint(key, (), 0, self.n)

    def log_prob(self, x: Int[Array, ""]) -> Float[Array, ""]:
        """Return `-log n`."""
        del x
        return jnp.asarray(-math.log(self.n))

    def entropy(self) -> Float[Array, ""]:
        """Return `log n`."""
        return jnp.asarray(math.log(self.n))


class Repeated(eqx.Module):
    """Logged values, each as a distribution that is certain of it.

    Attributes:
        values: `[N, T, ...]`, or `[N, ...]` of an opening.
        scale: of real values; None for symbols.
        num_symbols: None for real values.
    """

    values: Shaped[Array, "N ..."]
    scale: Float[Array, " d"] | None
    num_symbols: int | None = eqx.field(static=True)

    def at(self, *place: Int[Array, ""]) -> AbstractDistribution:
        """Return the distribution of the value at a place."""
        x = self.values[place]
        if self.scale is not None:
            return Normal(x, self.scale)
        assert self.num_symbols is not None
        return Categorical(log_probs=jnp.where(jnp.arange(self.num_symbols) == x, 0.0, -jnp.inf))


def _repeated(values: np.ndarray, num_symbols: int | None) -> Repeated:
    if num_symbols is not None:
        return Repeated(jnp.asarray(values, jnp.int32), None, num_symbols)
    spread = values.reshape(-1, values.shape[-1]).std(0)
    return Repeated(jnp.asarray(values), jnp.asarray(REPEATED_SCALE * np.maximum(spread, 1e-3)), None)


class LoggedTask(AbstractTask[Memory]):
    """Nature as logged.

    Attributes:
        observations: the symbol, or a dictionary of it and the real fields.
        opening: likewise; None without an opening.
    """

    theta_free_memory: ClassVar[bool] = True
    observations: Repeated | dict[str, Repeated]
    opening: Repeated | dict[str, Repeated] | None

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Return round 0."""
        del theta
        return {"round": jnp.zeros((), jnp.int32), "opened": jnp.asarray(self.opening is None)}

    def Q_O(self, theta: Int[Array, ""], w: Memory) -> AbstractDistribution:
        """Return the logged observation of the round."""
        later = _at(self.observations, theta, w["round"])
        return later if self.opening is None else where(w["opened"], later, _at(self.opening, theta))

    def g_A(self, theta: Int[Array, ""], a: Action, w: Memory) -> Memory:
        """Return the memory unchanged."""
        del theta, a
        return w

    def g_O(self, theta: Int[Array, ""], o: Observation, w: Memory) -> Memory:
        """Count the round."""
        del theta, o
        return {"round": w["round"] + w["opened"], "opened": jnp.asarray(True)}

    def reward(self, theta: Int[Array, ""], w: Memory, a: Action, o: Observation) -> Float[Array, ""]:
        """Return 0: what an action would have earned is not in the logs."""
        del theta, w, a, o
        return jnp.zeros(())


def _at(logged: Repeated | dict[str, Repeated], *place: Int[Array, ""]) -> AbstractDistribution:
    if isinstance(logged, Repeated):
        return logged.at(*place)
    return Joint({name: part.at(*place) for name, part in logged.items()})


class EndingTask(AbstractTask[Memory]):
    """Nature as logged, in episodes of different lengths; the observation says whether it is the last.

    Attributes:
        task: Nature as logged.
        lengths: `[N]`.
    """

    theta_free_memory: ClassVar[bool] = True
    task: LoggedTask
    lengths: Int[Array, " N"]

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Return round 0."""
        return self.task.init(theta)

    def Q_O(self, theta: Int[Array, ""], w: Memory) -> AbstractDistribution:
        """Return the logged observation of the round, and whether it is the last."""
        last = w["opened"] & (w["round"] + 1 >= self.lengths[theta])
        return Joint({"observation": self.task.Q_O(theta, w), "end": Given(last.astype(float))})

    def g_A(self, theta: Int[Array, ""], a: Action, w: Memory) -> Memory:
        """Return the memory unchanged."""
        return self.task.g_A(theta, a, w)

    def g_O(self, theta: Int[Array, ""], o: Observation, w: Memory) -> Memory:
        """Count the round."""
        return self.task.g_O(theta, o["observation"], w)

    def reward(self, theta: Int[Array, ""], w: Memory, a: Action, o: Observation) -> Float[Array, ""]:
        """Return 0: what an action would have earned is not in the logs."""
        return self.task.reward(theta, w, a, o["observation"])

    def ends(self, o: Observation) -> Bool[Array, ""]:
        """Return whether the observation is the last."""
        return o["end"] > 0.5


class LoggedExpert(AbstractExpert[Memory]):
    """The demonstrators as logged.

    Attributes:
        actions: theirs.
        opening: whether an observation comes before the first action.
    """

    theta_free_memory: ClassVar[bool] = True
    actions: Repeated
    opening: bool = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Memory:
        """Return round 0."""
        del theta
        return {"round": jnp.asarray(-1 if self.opening else 0, jnp.int32)}

    def Q_A(self, theta: Int[Array, ""], e: Memory) -> AbstractDistribution:
        """Return the logged action of the round."""
        return self.actions.at(theta, e["round"])

    def g_A(self, theta: Int[Array, ""], a: Action, e: Memory) -> Memory:
        """Return the memory unchanged."""
        del theta, a
        return e

    def g_O(self, theta: Int[Array, ""], o: Observation, e: Memory) -> Memory:
        """Count the round."""
        del theta, o
        return {"round": e["round"] + 1}


class EndBlindAgent(AbstractSequenceAgent[M]):
    """An agent that is not told whether an observation is the last.

    It is thus the same agent in logs whose episodes have different lengths, and in a process that does not end early.

    Attributes:
        agent: the agent, which reads and predicts the observation alone.
    """

    agent: AbstractAgent[M]

    def __init__(self, agent: AbstractAgent[M]):
        self.agent = agent
        self.reading = agent.reading

    @property
    def full_history(self) -> bool:
        """True if the memory of `agent` can keep the whole history."""
        return self.agent.full_history

    @property
    def trainable(self) -> bool:
        """True if `agent` has parameters that `teach` can change."""
        return self.agent.trainable

    @property
    def thetas(self) -> Theta | None:
        """The values of Theta that the belief of `agent` is about."""
        return self.agent.thetas

    def init(self, *, num_rounds: int) -> M:
        """Return the memory of `agent`."""
        return self.agent.init(num_rounds=num_rounds)

    def f_A(self, m: M) -> AbstractDistribution:
        """Return the prediction of `agent`."""
        return self.agent.f_A(m)

    def f_O(self, m: M) -> AbstractDistribution:
        """Return the prediction of `agent`; the end is not predicted."""
        return Joint({"observation": self.agent.f_O(m), "end": Given(jnp.zeros(()))})

    def g_A(self, a: Action, m: M, *, intervened: Bool[Array, ""] | bool) -> M:
        """Return the memory of `agent` after an action."""
        return self.agent.g_A(a, m, intervened=intervened)

    def g_O(self, o: Observation, m: M) -> M:
        """Return the memory of `agent` after an observation."""
        return self.agent.g_O(o["observation"], m)

    def predict(self, episode: Episodes) -> Predictions:
        """Return the predictions of `agent` in a stored episode."""
        opening = None if episode.opening is None else episode.opening["observation"]
        told = eqx.tree_at(
            lambda e: (e.observations, e.opening),
            episode,
            (episode.observations["observation"], opening),
            is_leaf=lambda x: x is None or x is episode.observations or x is episode.opening,
        )
        P_A, P_O = predict(self.agent, told)
        return P_A, Joint({"observation": P_O, "end": Given(jnp.zeros(len(jax.tree.leaves(P_O)[0])))})


def is_ragged(demos: Demos) -> bool:
    """Return whether episodes have different lengths."""
    return bool((demos.lengths < demos.num_rounds).any())


def check_demonstrated(demos: Demos) -> None:
    """Raise `ValueError` if an action was an intervention, which must not be read as the expert's."""
    if demos.has_interventions:
        raise ValueError(
            f"{demos!r}: the action of an intervention is not the demonstrators', and would be learned as theirs: pass "
            "demos.without_interventions()."
        )


def logged_process(demos: Demos) -> InteractionProcess:
    """Return the logs as a process, whose actions and observations have the specs of the induced process.

    If episodes have different lengths, the observation is `{"observation": ..., "end": 0.0 or 1.0}`, and an agent of
    the induced process learns from it as an `EndBlindAgent`.

    Args:
        demos: the logs, without interventions.
    """
    check_demonstrated(demos)
    fields = ObservedFields.of(demos)

    def repeated(o: Any) -> Repeated | dict[str, Repeated]:
        if not fields.reals:
            return _repeated(o, fields.num_symbols)
        return {name: _repeated(x, fields.num_symbols if name == fields.symbol else None) for name, x in o.items()}

    levels = demos.action.levels
    opening = _opening(fields, demos)
    observations = fields.observation({name: c.values for name, c in demos.observations.items()})
    task: AbstractTask = LoggedTask(repeated(observations), None if opening is None else repeated(opening))
    if is_ragged(demos):
        task = EndingTask(task, jnp.asarray(demos.lengths, jnp.int32))
    actions = _repeated(demos.action.values, None if levels is None else len(levels))
    return InteractionProcess(
        AnyOf(demos.num_episodes),
        None,
        task,
        LoggedExpert(actions, opening is not None),
        demos.num_rounds,
        opening=opening is not None,
        name=f"logs from {demos.source}",
    )


def _opening(fields: ObservedFields, demos: Demos) -> PyTree[np.ndarray] | None:
    """Return the openings as observations; a field without an opening is at its first level, or 0."""
    if not demos.opening:
        return None
    values: dict[str, np.ndarray] = {name: np.zeros(demos.num_episodes, np.int32) for name, _ in fields.finite}
    values |= {name: np.zeros((demos.num_episodes, d), np.float32) for name, d in fields.reals}
    return fields.observation(values | {name: c.values for name, c in demos.opening.items()})


def logged_episodes(demos: Demos) -> Episodes:
    """Return the demonstrations as episodes of the induced process, in order: all actions are the expert's, seen.

    Args:
        demos: the logs, without interventions.

    Returns:
        `[N, T]`; theta, the expert's distributions and the rewards are None.
    """
    check_demonstrated(demos)
    fields = ObservedFields.of(demos)
    as_jax = lambda tree: jax.tree.map(jnp.asarray, tree)  # noqa: E731
    actions = jnp.asarray(demos.action.values)
    lead = (demos.num_episodes, demos.num_rounds)
    return Episodes(
        theta=None,
        opening=as_jax(_opening(fields, demos)),
        actions=actions,
        observations=as_jax(fields.observation({name: c.values for name, c in demos.observations.items()})),
        executor=jnp.full(lead, EXPERT),
        intervened=jnp.zeros(lead, bool),
        expert=None,
        expert_actions=actions,
        reward=None,
        mask=jnp.asarray(demos.mask),
    )
