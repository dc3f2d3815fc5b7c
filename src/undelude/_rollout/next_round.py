"""What comes after a history: the next action, and the next observation."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from undelude._agents.base import AbstractAgent, check_mark
from undelude._agents.exact import ExactAgent
from undelude._distributions import AbstractDistribution, Symbols, num_symbols
from undelude._process.episodes import Episodes, check_symbols
from undelude._process.host_world import World
from undelude._process.inference import posterior, reread
from undelude._process.process import check_process
from undelude._rollout.checks import check_fit
from undelude._tree import is_concrete, where
from undelude._types import Action, Mark, Observation


class NextRound(NamedTuple):
    """The predictions of the round after a history.

    Attributes:
        action: `P(A_t+1 | history)`.
        observation: `P(O_t+1 | history, a)` for each action a, with a leading axis for them, or for the one that was
            given.
    """

    action: AbstractDistribution[Action]
    observation: AbstractDistribution[Observation]


def predict(
    process: World,
    history: Episodes | None = None,
    *,
    agent: AbstractAgent | None = None,
    action: Action | None = None,
    own_actions: Mark | None = None,
    opening: Observation | None = None,
) -> NextRound:
    """Predict the next action and observation after a history (equations 1 to 3).

        P(A_t+1 | do(a), o) = sum_theta Q(A | theta, a, o) P(theta | do(a), o)    with own_actions="do"
        P(A_t+1 | a, o)     = sum_theta Q(A | theta, a, o) P(theta | a, o)        with own_actions="see"

    Args:
        process: the process of the history.
        history: one history, `Episodes.of(process, actions=[...], observations=[...])`; None before the first round.
        agent: whose predictions; by default those of exact inference, `ud.ExactAgent(process)`.
        action: of the next round, by which `observation` is predicted; by default all actions, one after the other, if
            they are symbols.
        own_actions: reads the actions that the expert did not execute, and the next one, as `"do"` or as `"see"`; by
            default the history's marks, and the next one as the agent reads its own.
        opening: the observation before the first action, if there is no history and the process has one.

    Raises:
        ValueError: a value is outside the specs, the history is of a batch, the agent was made for other values or was
            not taught a mark; actions are real numbers, and none is given.
        TypeError: a policy in Python, of which `ud.Policy` is a way to ask; or no `ud.InteractionProcess`, without an
            agent.

    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit()
    >>> history = ud.Episodes.of(bandit, actions=[2], observations=[1])  # arm 2 paid
    >>> for mark in ("do", "see"):
    ...     new = ud.predict(bandit, history, own_actions=mark)
    ...     print(new.action.probs.round(3), round(float(new.observation.probs[2, 1]), 3))
    [0.171 0.171 0.314 0.171 0.171] 0.464
    [0.123 0.123 0.509 0.123 0.123] 0.732
    """
    exact = check_process(process) if agent is None else None
    agent = ExactAgent(exact) if exact is not None else agent
    if not isinstance(agent, AbstractAgent):
        raise TypeError(
            f"agent must be an agent of undelude, not {type(agent).__name__}: ask a policy in Python by ud.Policy."
        )
    check_fit(process, agent)
    mark = agent.own_actions if own_actions is None else own_actions
    check_mark(agent, mark)
    if history is not None:
        if not isinstance(history, Episodes):
            raise TypeError(f"history must be ud.Episodes, such as Episodes.of(process, ...), not {history!r:.99}.")
        if opening is not None:
            raise ValueError("the opening is part of the history: Episodes.of(process, opening=...).")
        history = reread(history, own_actions)
        if jnp.ndim(history.mask) != 1:
            raise ValueError("predict takes one history, not a batch: call it for each, such as episodes[i].")
        check_symbols(process, history)
        for seen, name in ((~history.intervened, "see"), (history.intervened, "do")):
            if is_concrete(seen) and bool((seen & history.mask).any()):
                check_mark(agent, name)
        opening = history.opening
        if exact is not None and bool(np.asarray(history.mask).any()):
            posterior(exact, history)  # Raises if no theta allows the history.
    elif (opening is not None) != process.opening:
        raise ValueError(
            f"{process.name} opens with an observation: say opening=, what was seen before the first action."
            if process.opening
            else f"{process.name} does not open with an observation: leave opening out."
        )
    spec = process.action_spec
    if action is not None:
        spec.check(f"{process.name}: action", action)
    elif not isinstance(spec, Symbols):
        raise ValueError(f"{process.name}: actions are not symbols: say by action= after which one to predict.")
    return _predict(agent, history, opening, action, mark == "do", 0 if action is not None else num_symbols(spec))


@eqx.filter_jit
def _predict(
    agent: AbstractAgent, history: Episodes | None, opening: Any, action: Any, intervened: bool, num_actions: int
) -> NextRound:
    m = agent.init(num_rounds=1 + (0 if history is None else history.num_rounds))
    if opening is not None:
        m = agent.g_O(opening, m)
    if history is not None:

        def round(m: Any, x: Any) -> tuple[Any, None]:
            a, done, o, exists = x
            return where(exists, agent.g_O(o, agent.g_A(a, m, intervened=done)), m), None

        m, _ = jax.lax.scan(round, m, (history.actions, history.intervened, history.observations, history.mask))

    def outcome(a: Any) -> AbstractDistribution:
        return agent.f_O(agent.g_A(a, m, intervened=jnp.asarray(intervened)))

    by = outcome(action) if action is not None else jax.vmap(outcome)(jnp.arange(num_actions))
    return NextRound(agent.f_A(m), by)
