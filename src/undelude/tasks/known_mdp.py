"""Soft-optimal control of a known Markov decision process: how the experts of the tabular tasks act.

The expert maximises the discounted return of one attempt, minus a price for departing from uniformly random actions
(Todorov 2006; Fox et al. 2016). Everything is computed exactly, by linear solves in float64.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

# The expert that `choose_temperature` chooses loses at most this share of the optimum.
MAX_LOSS = 0.05
# Halvings of the temperature after which the policy counts as the optimum.
COLDEST = 20
# Rounds that `choose_temperature` looks ahead, at most.
MAX_ROUNDS = 1000
# Steps of policy iteration; it converges quadratically, so that a few are enough.
MAX_STEPS = 200
# Total variation between two policies below which they are equal, and the error of a value in units of reward.
SAME_POLICY, SAME_VALUE = 1e-10, 1e-6
# States from which on the linear equations are solved by sparse elimination.
SPARSE = 200


class KnownMDP(NamedTuple):
    """One Markov decision process: N transitions between S states. Mass that is missing in a row ends the attempt.

    Attributes:
        state, action, next_state: of each transition.
        probability: of each transition, given its state and its action.
        rewards: `[S, A]`, the expected reward of an action.
        start: `[S]`, the distribution of the first state.
    """

    state: Int[np.ndarray, " N"]
    action: Int[np.ndarray, " N"]
    next_state: Int[np.ndarray, " N"]
    probability: Float[np.ndarray, " N"]
    rewards: Float[np.ndarray, "S A"]
    start: Float[np.ndarray, " S"]

    def Q(self, V: Float[np.ndarray, " S"], discount: float) -> Float[np.ndarray, "S A"]:
        """Return `Q(s, a) = R(s, a) + discount sum_s' P(s' | s, a) V(s')`."""
        S, A = self.rewards.shape
        later = np.bincount(self.state * A + self.action, self.probability * V[self.next_state], minlength=S * A)
        return self.rewards + discount * later.reshape(S, A)

    def V(
        self, policy: Float[np.ndarray, "S A"], gains: Float[np.ndarray, "S A"], discount: float
    ) -> Float[np.ndarray, " S"]:
        """Return the value of `policy` if an action earns `gains`: the solution of `V = gain + discount P V`."""
        S = len(self.start)
        step = discount * self.probability * policy[self.state, self.action]
        gain = (policy * gains).sum(-1)
        if S < SPARSE:
            P = np.bincount(self.state * S + self.next_state, step, minlength=S * S).reshape(S, S)
            return np.linalg.solve(np.eye(S) - P, gain)
        # Imported here because it takes half a second.
        from scipy import sparse
        from scipy.sparse.linalg import spsolve

        P = sparse.coo_array((step, (self.state, self.next_state)), shape=(S, S))
        return np.asarray(spsolve(sparse.csc_array(sparse.eye_array(S) - P), gain))


def soft_policy(
    mdp: KnownMDP, *, temperature: float, discount: float, guess: Float[np.ndarray, "S A"] | None = None
) -> Float[np.ndarray, "S A"]:
    """Return the soft-optimal policy `log pi(a | s) = (Q(s, a) - V(s)) / tau - log A`.

    `Q(s, a) = R(s, a) + discount sum_s' P(s' | s, a) V(s')` and `V(s) = tau log mean_a exp(Q(s, a) / tau)`. The mean in
    place of a sum makes idling earn nothing. Solved by policy iteration: its steps are those of Newton's method, so
    that a discount near 1 needs no more of them than a small one.

    Args:
        mdp: the process.
        temperature: tau, in units of reward, greater than 0.
        discount: in [0, 1]; 1 only if every state can reach the end of the attempt (`can_end`).
        guess: log-probabilities to begin with; uniform by default.

    Raises:
        ValueError: the values have no bound, or the numbers are too large for float64.
    """
    A = mdp.rewards.shape[1]
    log_pi = np.full(mdp.rewards.shape, -math.log(A)) if guess is None else guess
    last_change, error = math.inf, math.inf
    for _ in range(MAX_STEPS):
        pi = np.exp(log_pi)
        with np.errstate(all="ignore"):
            V = _solve(mdp, pi, mdp.rewards - temperature * (log_pi + math.log(A)), discount)
            if V is None:
                error = math.inf
                break
            Q = mdp.Q(V, discount)
            best = Q.max(-1)
            improved = best + temperature * np.log(np.exp((Q - best[:, None]) / temperature).mean(-1))
            log_pi = (Q - improved[:, None]) / temperature - math.log(A)
            log_pi -= np.log(np.exp(log_pi).sum(-1, keepdims=True))
            change = np.abs(np.exp(log_pi) - pi).sum(-1).max() / 2
            error = np.abs(improved - V).max() / max(np.abs(mdp.rewards).max(), 1e-300)
        # Actions of equal value may keep changing places, by rounding errors.
        if change <= SAME_POLICY or (error <= SAME_VALUE and change >= last_change):
            break
        last_change = change
    if not (error <= SAME_VALUE and np.isfinite(log_pi).all()):
        raise ValueError(
            f"the expert has no finite optimum at discount {discount:.15g} and temperature {temperature:g}: an attempt "
            "can go on and collect reward without end, or the numbers are too large. Give a smaller discount."
        )
    return log_pi


def choose_temperature(mdps: list[KnownMDP], *, discount: float, num_rounds: int) -> float:
    """Return the greatest temperature of `d, d/2, d/4, ...` at which the expert is nearly optimal in every process.

    `d` is the greatest difference between the values of two actions in one state, if all later actions are uniformly
    random. Nearly optimal: the expert's expected discounted return of an attempt, and its expected sum of rewards over
    T rounds, are as much as those of the policy to which it tends as tau goes to 0, but for 5 % of their absolute
    values, and of their lead over uniformly random actions.

    Args:
        mdps: the processes in which the expert acts.
        discount: of the expert.
        num_rounds: T, of which at most `MAX_ROUNDS` count.

    Returns:
        tau, in units of reward; 1 if no action makes a difference.
    """
    spread = 0.0
    for mdp in mdps:
        uniform = np.full(mdp.rewards.shape, 1 / mdp.rewards.shape[1])
        spread = max(spread, float(np.ptp(mdp.Q(mdp.V(uniform, mdp.rewards, discount), discount), axis=-1).max()))
    if spread <= 1e-12 * max(float(np.abs(mdp.rewards).max()) for mdp in mdps):
        return 1.0
    required = [_least_returns(mdp, spread / 2**COLDEST, discount, num_rounds) for mdp in mdps]
    halvings, policies = 0, [None] * len(mdps)
    while halvings < COLDEST:
        tau = spread / 2**halvings
        policies = [
            soft_policy(mdp, temperature=tau, discount=discount, guess=guess)
            for mdp, guess in zip(mdps, policies, strict=True)
        ]
        if all(
            (_returns(mdp, np.exp(log_pi), discount, num_rounds) >= least).all()
            for mdp, log_pi, least in zip(mdps, policies, required, strict=True)
        ):
            break
        halvings += 1
    return spread / 2**halvings


def _least_returns(mdp: KnownMDP, coldest: float, discount: float, num_rounds: int) -> Float[np.ndarray, "2"]:
    """Return the returns that count as nearly optimal."""
    log_pi = soft_policy(mdp, temperature=coldest, discount=discount)
    best = _returns(mdp, np.exp(log_pi), discount, num_rounds)
    lead = best - _returns(mdp, np.full_like(log_pi, 1 / log_pi.shape[1]), discount, num_rounds)
    # A loss cannot be measured by a return of 0, which rounding errors may have moved.
    measure = np.where(np.abs(best) > 1e-9 * lead, np.minimum(np.abs(best), lead), lead)
    matters = lead > 1e-9 * np.abs(best)
    return np.where(matters, best - MAX_LOSS * measure, -np.inf)


def _returns(
    mdp: KnownMDP, policy: Float[np.ndarray, "S A"], discount: float, num_rounds: int
) -> Float[np.ndarray, "2"]:
    """Return the discounted return of an attempt, and the sum of rewards over T rounds, in which a reset takes one."""
    attempt = mdp.start @ mdp.V(policy, mdp.rewards, discount)
    S, step = len(mdp.start), mdp.probability * policy[mdp.state, mdp.action]
    gain, ends = (policy * mdp.rewards).sum(-1), 1 - np.bincount(mdp.state, step, minlength=S)
    V, anew = np.zeros(S), 0.0
    for _ in range(min(num_rounds, MAX_ROUNDS)):
        later = np.bincount(mdp.state, step * V[mdp.next_state], minlength=S)
        V, anew = gain + later + ends * anew, mdp.start @ V
    return np.asarray([attempt, mdp.start @ V])


def can_end(mdp: KnownMDP) -> bool:
    """Return whether the attempt can end from every state."""
    S, A = mdp.rewards.shape
    continues = np.bincount(mdp.state * A + mdp.action, mdp.probability, minlength=S * A).reshape(S, A)
    ends = np.asarray((continues < 1 - 1e-9).any(-1))
    moves = mdp.probability > 0
    while True:
        more = ends.copy()
        more[mdp.state[moves & ends[mdp.next_state]]] = True
        if (more == ends).all():
            return bool(ends.all())
        ends = more


def _solve(
    mdp: KnownMDP, policy: Float[np.ndarray, "S A"], gains: Float[np.ndarray, "S A"], discount: float
) -> Float[np.ndarray, " S"] | None:
    """Return the value of a policy; None if the equations have no finite solution."""
    try:
        V = mdp.V(policy, gains, discount)
    except np.linalg.LinAlgError:
        return None
    return V if np.isfinite(V).all() else None
