"""From the transition tables of Gymnasium's toy-text environments (`env.unwrapped.P`) to a process.

`tabular_from_gymnasium` stacks the tables of several environments; theta is which of them it is. Task and expert are
those of `undelude.tasks.tabular`. https://gymnasium.farama.org/environments/toy_text/
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from undelude._checks import check_ordered, check_probabilities
from undelude._process.process import InteractionProcess
from undelude.tasks.tabular import TabularExpert, TabularTask, soft_value_iteration


def tabular_from_gymnasium(
    envs: Sequence[Any],
    *,
    observe: Callable[[int], int] | ArrayLike | list | None = None,
    initial: ArrayLike | list | None = None,
    reward: Literal["seen", "hidden"] | float = "seen",
    prior: ArrayLike | list | None = None,
    temperature: float = 0.02,
    discount: float = 0.99,
    num_rounds: int = 50,
    name: str = "tabular",
) -> InteractionProcess:
    """Stack Gymnasium environments with published tables into one process; theta is which of them it is.

    The process opens with the first state. An observation is one symbol for (state shown, reward, terminated). In the
    round after a terminal state any action leads to a new start under the same theta, with reward 0 (Gymnasium's
    next-step autoreset), so that one lifetime holds many attempts. The expert is soft value iteration on the known MDP,
    for all theta at once: `V(s) = tau log mean_a exp(Q(s, a) / tau)`, `Q(a | s) ~ exp(Q(s, a) / tau)`, with the mean in
    place of a sum so that idling earns nothing.

    Args:
        envs: environments with `env.unwrapped.P`, one for each theta; repeat one to let only `initial` differ.
        observe: the observed part of a state, as a function of its index or an array `[S]`; everything by default.
            Under each theta, states that occur must look different, so that theta is all that is hidden.
        initial: `[S]` or `[K, S]`, the distribution of the first state; the environments' own by default.
        reward: `"seen"`, `"hidden"`, or the probability that the reward shown is the true one (otherwise it is one of
            the other rewards that occur, uniformly).
        prior: `[K]`; uniform by default.
        temperature: tau, in units of reward; greater than 0, so that every action keeps some mass.
        discount: of the expert.
        num_rounds: T.
        name: of the process, for messages.

    Raises:
        TypeError: an environment publishes no tables.
        ValueError: the environments do not fit together, theta does not explain a hidden state, or the reward is to be
            shown but state, action and next state do not determine it.
    """
    check_ordered(envs, f"{name}: envs", "theta numbers them in their order")
    tables = [_read_tables(env, i, reward) for i, env in enumerate(envs)]
    if not tables:
        raise ValueError(f"{name}: envs is empty; give at least one environment with env.unwrapped.P.")
    if len({table[0].shape for table in tables}) > 1:
        shapes = ", ".join(f"{t[0].shape[0]} states x {t[0].shape[1]} actions" for t in tables)
        raise ValueError(f"{name}: the environments must have the same states and actions; these have {shapes}.")
    if not 0 < temperature < np.inf:
        raise ValueError(
            f"{name}: temperature must be finite and greater than 0, not {temperature}: "
            "equation 2 needs an expert with no zero mass."
        )
    if not 0 <= discount < 1:
        raise ValueError(f"{name}: discount must be in [0, 1), not {discount}.")
    if not (reward in ("seen", "hidden") or (isinstance(reward, int | float) and 0 <= reward <= 1)):
        raise ValueError(
            f'{name}: reward must be "seen", "hidden", or the probability that the shown one is right, not {reward!r}.'
        )

    K, (S, A, _) = len(tables), tables[0][0].shape
    P = np.stack([t[0] for t in tables])  # [K, S, A, S]
    R = np.stack([t[1] for t in tables])  # [K, S, A, S], the mean reward of a transition
    terminal = np.stack([t[2] for t in tables])  # [K, S]
    start = np.stack([t[3] for t in tables]) if initial is None else np.asarray(initial, float)
    if start.shape not in ((S,), (K, S)):
        raise ValueError(f"{name}: initial has shape {start.shape}; it must be [S] or [K, S]: ({S},) or ({K}, {S}).")
    check_probabilities(start, f"{name}: initial")
    start = np.broadcast_to(start, (K, S))
    prior = np.full(K, 1 / K) if prior is None else np.asarray(prior, dtype=float)
    P, R = P.copy(), R.copy()
    P[terminal], R[terminal] = np.repeat(start[:, None], S, 1)[terminal][:, None], 0.0

    shown = (
        np.arange(S)
        if observe is None
        else np.asarray([observe(s) for s in range(S)] if callable(observe) else observe)
    )
    if shown.shape != (S,):
        raise ValueError(f"{name}: observe gives {shown.shape} values for {S} states; it needs one for each.")
    state_of_shown = _states_by_what_is_shown(P, start, shown, name)  # [K, X], -1 if it does not occur
    P, R, terminal, start = _by_what_is_shown(state_of_shown, P, R, terminal, start)

    log_probs, rewards, outcomes = _outcomes(P, R, terminal, start, reward)
    state_of = jnp.asarray([state for state, _, _ in outcomes], jnp.int32)
    log_pi = soft_value_iteration(P, (P * R).sum(-1), terminal, temperature=temperature, discount=discount)
    log_pi = np.concatenate([log_pi, np.full((K, 1, A), -np.log(A))], axis=1)
    return InteractionProcess(
        prior=jnp.asarray(prior, dtype=float),
        thetas=jnp.arange(K),
        task=TabularTask(jnp.asarray(log_probs, dtype=float), jnp.asarray(rewards, dtype=float), state_of, outcomes),
        expert=TabularExpert(jnp.asarray(log_pi, dtype=float), state_of),
        num_rounds=num_rounds,
        opening=True,
        name=name,
    )


def _read_tables(env: Any, i: int, reward: str | float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return an environment's P `[S, A, S]`, mean rewards `[S, A, S]`, terminal `[S]`, initial distribution `[S]`."""
    env = getattr(env, "unwrapped", env)
    table, start = getattr(env, "P", None), getattr(env, "initial_state_distrib", None)
    if table is None or start is None:
        raise TypeError(
            f"envs[{i}] ({type(env).__name__}) publishes no tables (env.unwrapped.P and initial_state_distrib); "
            "FrozenLake-v1, Taxi-v4 and CliffWalking-v1 do."
        )
    S, A = len(table), len(table[0])
    P, PR = np.zeros((S, A, S)), np.zeros((S, A, S))
    low, high = np.full((S, A, S), np.inf), np.full((S, A, S), -np.inf)
    arrivals = {True: np.zeros((S, S), bool), False: np.zeros((S, S), bool)}  # [s, s'] by whether the episode ends
    for s in range(S):
        for a in range(A):
            for p, s_next, r, done in table[s][a]:
                P[s, a, s_next] += p
                PR[s, a, s_next] += p * r
                if p > 0:
                    low[s, a, s_next] = min(low[s, a, s_next], r)
                    high[s, a, s_next] = max(high[s, a, s_next], r)
                arrivals[bool(done)][s, s_next] |= p > 0
    ends = np.asarray(arrivals[True].any(0))
    # Whether a state is terminal must follow from its number alone.
    alive = _reachable(P, np.asarray(start), ends) & ~ends
    both = ends & arrivals[False][alive].any(0)
    if both.any():
        raise ValueError(
            f"envs[{i}]: state {int(np.argmax(both))} ends the episode on some transitions and not on others."
        )
    check_probabilities(np.where(alive[:, None, None], P, 1 / S), f"envs[{i}].unwrapped.P")
    if not np.isfinite(PR[alive]).all():
        raise ValueError(f"envs[{i}].unwrapped.P holds a reward that is not finite.")
    mixed = np.argwhere((high > low) & alive[:, None, None])
    if len(mixed) and reward != "hidden":
        s, a, s_next = mixed[0]
        raise ValueError(
            f"envs[{i}]: action {a} in state {s} leads to state {s_next} with rewards of {low[s, a, s_next]:g} and of "
            f'{high[s, a, s_next]:g}, but only one reward can be shown for a transition. Hide it: reward="hidden".'
        )
    R = np.where(P > 0, PR / np.where(P > 0, P, 1), 0.0)
    return P, R, ends, np.asarray(start, dtype=float)


def _reachable(P: np.ndarray, start: np.ndarray, terminal: np.ndarray | None = None) -> np.ndarray:
    """Return `[S]`, whether a state can be reached from the initial states."""
    step = P.sum(-2) > 0  # [S, S]
    if terminal is not None:
        step = step & ~terminal[:, None]
    seen = start > 0
    while True:
        new = seen | step[seen].any(0)
        if (new == seen).all():
            return seen
        seen = new


def _states_by_what_is_shown(P: np.ndarray, start: np.ndarray, shown: np.ndarray, name: str) -> np.ndarray:
    """Return `[K, X]`, the state behind each value shown under each theta; -1 if it does not occur."""
    _, code = np.unique(shown, return_inverse=True)
    states = np.full((len(P), code.max() + 1), -1)
    for k in range(len(P)):
        for s in np.flatnonzero(_reachable(P[k], start[k])):
            if states[k, code[s]] >= 0:
                raise ValueError(
                    f"{name}: under theta {k}, states {states[k, code[s]]} and {s} look the same "
                    f"(observe gives {shown[s]}). "
                    "Theta must be all that is hidden: show more, or make what is hidden part of theta."
                )
            states[k, code[s]] = s
    return states[:, (states >= 0).any(0)]


def _by_what_is_shown(
    states: np.ndarray, P: np.ndarray, R: np.ndarray, terminal: np.ndarray, start: np.ndarray
) -> tuple:
    """Return the tables indexed by values shown in place of states; rows that cannot occur are filled arbitrarily."""
    k = np.arange(len(P))
    occurs = states >= 0
    s = np.where(occurs, states, 0)
    P = np.moveaxis(P[k[:, None, None], s[:, :, None], :, s[:, None, :]], -1, 2)
    R = np.moveaxis(R[k[:, None, None], s[:, :, None], :, s[:, None, :]], -1, 2)
    P = P * occurs[:, :, None, None] * occurs[:, None, None, :]
    start = np.take_along_axis(start, s, 1) * occurs
    P = np.where(occurs[:, :, None, None], P, start[:, None, None, :])
    return P, R, np.take_along_axis(terminal, s, 1) & occurs, start


def _outcomes(
    P: np.ndarray, R: np.ndarray, terminal: np.ndarray, start: np.ndarray, reward: str | float
) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Return `log Q(o | theta, s, a)` and expected rewards, both `[K, S + 1, A, O]`, and the meaning of each symbol."""
    K, S, A, _ = P.shape
    # "Before the opening" is one more state: every action leads from it to a start, with reward 0.
    P = np.concatenate([P, np.repeat(start[:, None, None], A, 2)], 1)
    R = np.concatenate([R, np.zeros((K, 1, A, S))], 1)
    values = np.unique(np.round(R[P > 0], 9))
    R = np.round(R, 9)
    if reward == "hidden":
        channel, labels = np.ones((len(values), 1)), [None]
    else:
        right = 1.0 if reward == "seen" else float(reward)
        n = len(values)
        channel = np.full((n, n), (1 - right) / max(n - 1, 1)) if n > 1 else np.ones((1, 1))
        if n > 1:
            np.fill_diagonal(channel, right)
        labels = [float(v) for v in values]

    # P(s', reward shown, end), and the same weighted by the true reward.
    probs, weighted, outcomes = [], [], []
    for x in range(S):
        for end in (False, True):
            lands = P[..., x] * (terminal[:, None, None, x] == end)
            for j, label in enumerate(labels):
                shares = [lands * (R[..., x] == v) * channel[i, j] for i, v in enumerate(values)]
                shown = np.sum(shares, axis=0)
                if (shown > 0).any():
                    probs.append(shown)
                    weighted.append(np.sum([share * v for share, v in zip(shares, values, strict=True)], axis=0))
                    outcomes.append((x, label, end))
    probs, weighted = np.stack(probs, -1), np.stack(weighted, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(probs), np.where(probs > 0, weighted / probs, 0.0), tuple(outcomes)
