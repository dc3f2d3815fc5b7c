"""From the transition tables of Gymnasium's toy-text environments (`env.unwrapped.P`) to a process.

`tabular_from_gymnasium` stacks the tables of several environments; theta is which of them it is. Task and expert are
those of `undelude.tasks.tabular`. https://gymnasium.farama.org/environments/toy_text/
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from undelude._checks import as_numbers, check_between, check_count, check_ordered, check_probabilities, one_line
from undelude._process.process import InteractionProcess
from undelude.gym.outcomes import Moves, OutcomeTables, fill_tables, stack_moves
from undelude.gym.steps import compare_with_steps
from undelude.gym.transitions import Table, Transition, reach, read_table
from undelude.gym.wrappers import unwrap
from undelude.tasks.known_mdp import KnownMDP, can_end, choose_temperature, soft_policy
from undelude.tasks.tabular import TabularExpert, TabularTask


def tabular_from_gymnasium(
    envs: Sequence[Any] | Any,
    *,
    observe: Callable[[int], int] | ArrayLike | list | None = None,
    initial: ArrayLike | list | None = None,
    reward: Literal["seen", "hidden"] | float = "seen",
    prior: ArrayLike | list | None = None,
    temperature: float | None = None,
    discount: float = 0.99,
    num_rounds: int = 50,
    name: str = "tabular",
) -> InteractionProcess:
    """Stack Gymnasium environments with published tables into one process; theta is which of them it is.

    The process opens with the first state. An observation is one symbol for an outcome, (state, reward, terminated);
    `process.task.outcomes` lists them by symbol, with states by the environment's own numbers, or as `observe` shows
    them. In the round after a terminated transition any action leads to a new start under the same theta, with reward 0
    (Gymnasium's next-step autoreset), so that one lifetime holds many attempts.

    The expert knows theta, and maximises the discounted return of an attempt at a temperature tau:

        Q(s, a) = R(s, a) + discount E[V(s'), if the transition does not end the attempt]
        V(s) = tau log mean_a exp(Q(s, a) / tau),    Q(a | s) proportional to exp(Q(s, a) / tau)

    The mean in place of a sum makes idling earn nothing. The default tau is the greatest of `d, d/2, d/4, ...` at which
    the expert is nearly optimal under every theta. `d` is the greatest difference between the values of two actions in
    one state if all later actions are uniformly random. Nearly optimal: compared with the policy to which the expert
    tends as tau goes to 0, the discounted return of an attempt and the sum of rewards over T rounds are smaller by at
    most 5 % of themselves, and of their lead over uniformly random actions. `process.expert.temperature` is the tau in
    use.

    The tables are the process. What `step` or a wrapper adds to them is refused by name. A copy of each environment
    takes some steps, to see that they are possible by its tables. A time limit (`TimeLimit`) of T or more steps has no
    effect within T rounds; a shorter one is left out, with a warning.

    Args:
        envs: environments with `env.unwrapped.P`, one for each theta; repeat one to let only `initial` differ. One
            environment stands for a list of one. Wrappers that change nothing, such as those of `gymnasium.make`, may
            stay. An object with `P` and `initial_state_distrib` is enough.
        observe: the observed part of a state, as a whole number: a function of the state, or an array `[S]` in the
            order of `initial`; everything by default. Under each theta, the states in which an attempt goes on must
            look different, so that theta is all that is hidden.
        initial: `[S]` or `[K, S]`, the distribution of the first state; the environments' own by default.
        reward: `"seen"`, `"hidden"`, or the probability that the reward shown is the true one (otherwise it is one of
            the other rewards that occur, uniformly).
        prior: `[K]`; uniform by default.
        temperature: tau, in units of reward; greater than 0, so that every action keeps some mass. By default, chosen
            as above.
        discount: of the expert, in [0, 1]; 1 only if an attempt can end from every state.
        num_rounds: T.
        name: of the process, for messages.

    Raises:
        TypeError: an environment publishes no tables.
        ValueError: the environments do not fit together, tables are malformed in a state that occurs, the dynamics are
            not in the tables, theta does not explain a hidden state, the expert has no finite optimum, or there are too
            many outcomes.

    Warns:
        UserWarning: a time limit is left out, or the steps of an environment could not be compared with its tables.
    """
    num_rounds = check_count(f"{name}: num_rounds", num_rounds)
    if temperature is not None:
        why = "equation 2 needs an expert with no zero mass"
        temperature = check_between(f"{name}: temperature", temperature, 0, np.inf, ends=False, why=why)
    discount = check_between(f"{name}: discount", discount, 0, 1)
    share_shown = _share_shown(reward, name)
    envs = _as_list(envs, name)
    K = len(envs)
    where = [f"{name}: envs[{k}]" for k in range(K)]
    unwrapped = [unwrap(env, at, num_rounds) for env, at in zip(envs, where, strict=True)]
    bare = [env for env, _ in unwrapped]
    given = None if initial is None else np.atleast_1d(np.asarray(as_numbers(initial, f"{name}: initial"), float))
    tables = _read_tables(bare, where, given, name)
    starts = _first_states(tables, given, name)
    found = [reach(*each) for each in zip(tables, starts, where, strict=True)]
    left_out = [left_out for _, left_out in unwrapped]
    for k, moves in _moves_of_each(bare, found).items():
        first = None if given is not None else {s for s, p in zip(tables[k].states, starts[k], strict=True) if p > 0}
        shown = observe is None
        left_out[k] += compare_with_steps(bare[k], moves, first, where[k], num_rounds=num_rounds, shows_states=shown)
    # One warning for all environments that leave out the same.
    named = {remark: at for at, remarks in reversed(list(zip(where, left_out, strict=True))) for remark in remarks}
    for remark, at in named.items():
        warnings.warn(f"{at} {remark}", stacklevel=2)
    moves = stack_moves(found, starts, tables, observe, name)
    filled = fill_tables(moves, share_shown, name)
    expert = _make_expert(moves, filled, temperature, discount, num_rounds, name)
    return InteractionProcess(
        prior=np.full(K, 1 / K) if prior is None else prior,
        thetas=jnp.arange(K),
        task=TabularTask(
            jnp.asarray(filled.log_probs, float), jnp.asarray(filled.rewards, float), expert.row_of, filled.outcomes
        ),
        expert=expert,
        num_rounds=num_rounds,
        opening=True,
        name=name,
    )


def _share_shown(reward: object, name: str) -> float | None:
    """Return the probability that the reward shown is the true one; None if it is hidden."""
    if isinstance(reward, str) and reward in ("seen", "hidden"):
        return {"seen": 1.0, "hidden": None}[reward]
    if not isinstance(reward, str | bool):
        return check_between(f'{name}: reward, if not "seen" or "hidden",', reward, 0, 1)
    raise ValueError(
        f'{name}: reward must be "seen", "hidden", or the probability that the shown one is right, not {reward!r}.'
    )


def _as_list(envs: Any, name: str) -> list[Any]:
    if isinstance(envs, str | type) or hasattr(envs, "P") or hasattr(envs, "unwrapped"):
        return [envs]
    check_ordered(envs, f"{name}: envs", "theta numbers them in their order")
    try:
        envs = list(envs)
    except TypeError:
        raise TypeError(f"{name}: envs must be a list of environments, not {one_line(repr(envs))}.") from None
    if not envs:
        raise ValueError(f"{name}: envs is empty; give at least one environment with env.unwrapped.P.")
    return envs


def _read_tables(envs: list[Any], where: list[str], initial: np.ndarray | None, name: str) -> list[Table]:
    """Return the tables of each environment."""
    size = None if initial is None else initial.shape[-1]
    tables = [read_table(env, at, size) for env, at in zip(envs, where, strict=True)]
    if len({(table.states, table.num_actions) for table in tables}) > 1:
        sizes = ", ".join(f"{len(table.states)} states x {table.num_actions} actions" for table in tables)
        raise ValueError(f"{name}: the environments must have the same states and actions; these have {sizes}.")
    return tables


def _first_states(tables: list[Table], initial: np.ndarray | None, name: str) -> list[Float[np.ndarray, " S"]]:
    """Return the distribution of the first state of each environment."""
    K, S = len(tables), len(tables[0].states)
    if initial is None:
        starts = [table.initial for table in tables]
        assert all(start is not None for start in starts)
        return [start / start.sum() for start in starts if start is not None]
    if initial.shape not in ((S,), (K, S)):
        raise ValueError(f"{name}: initial has shape {initial.shape}; it must be [S] or [K, S]: ({S},) or ({K}, {S}).")
    check_probabilities(initial, f"{name}: initial")
    return list(np.broadcast_to(initial / initial.sum(-1, keepdims=True), (K, S)))


def _moves_of_each(envs: list[Any], found: list[list[Transition]]) -> dict[int, list[Transition]]:
    """Return the transitions that can occur in each environment; one that is given several times counts once."""
    moves: dict[int, set[Transition]] = {}
    first = {id(env): k for k, env in reversed(list(enumerate(envs)))}
    for env, transitions in zip(envs, found, strict=True):
        moves.setdefault(first[id(env)], set()).update(transitions)
    return {k: sorted(each) for k, each in moves.items()}


def _make_expert(
    moves: Moves, filled: OutcomeTables, temperature: float | None, discount: float, num_rounds: int, name: str
) -> TabularExpert:
    """Return the soft-optimal expert; between two attempts, where no action matters, it is uniform."""
    mdps = [_known_mdp(moves, k) for k in range(moves.num_thetas)]
    if discount == 1 and not all(map(can_end, mdps)):
        raise ValueError(
            f"{name}: discount must be less than 1, not 1, because there are states from which an attempt cannot end."
        )
    try:
        tau = temperature or choose_temperature(mdps, discount=discount, num_rounds=num_rounds)
        log_pi = np.stack([soft_policy(mdp, temperature=tau, discount=discount) for mdp in mdps])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    K, _, A = log_pi.shape
    log_pi = np.concatenate([log_pi, np.full((K, 1, A), -np.log(A))], axis=1)
    return TabularExpert(jnp.asarray(log_pi, float), jnp.asarray(filled.row_of, jnp.int32), tau)


def _known_mdp(moves: Moves, theta: int) -> KnownMDP:
    """Return one attempt under `theta`, which ends with a terminated transition."""
    S, A, last = moves.num_rows - 1, moves.num_actions, moves.num_rows - 1
    own = moves.theta == theta
    attempt, starts = own & (moves.row != last), own & (moves.row == last) & (moves.action == 0)
    gains = moves.probability * moves.reward
    rewards = np.bincount((moves.row * A + moves.action)[attempt], gains[attempt], minlength=S * A).reshape(S, A)
    start = np.bincount(moves.next_row[starts], moves.probability[starts], minlength=S)
    going_on = attempt & ~moves.terminated
    return KnownMDP(
        state=moves.row[going_on],
        action=moves.action[going_on],
        next_state=moves.next_row[going_on],
        probability=moves.probability[going_on],
        rewards=rewards,
        start=start,
    )
