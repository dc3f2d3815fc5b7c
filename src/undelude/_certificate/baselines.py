"""Rewards that other policies earn on a process, with and without theta, and whether imitation is the right goal.

An expert who knows theta never gathers information about it. If its imitator therefore never finds out either,
imitation is the wrong goal, however well it is learned: "impossibly good experts" (Weihs et al., 2021,
arXiv:2007.12173).
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent
from undelude._agents.fixed import FixedPolicy
from undelude._agents.planning import PlanningAgent, num_nodes
from undelude._certificate.per_episode import MARKS
from undelude._certificate.quantity import THETA_IS_CONTINUOUS, Quantity
from undelude._certificate.rounds import reward_per_round
from undelude._checks import check_count
from undelude._compiled import compiled_for
from undelude._distributions import Categorical, Symbols, divergences, num_symbols
from undelude._pieces import episode_ids, in_pieces
from undelude._process.process import InteractionProcess
from undelude._rollout.scan import run_episode
from undelude._tree import index

BASELINES = (
    "reward_expert",
    "reward_exact_do",
    "reward_exact_see",
    "reward_best",
    "reward_constant",
    "imitation_gap_first",
    "imitation_gap_last",
)
# The quantities `BASELINES`, and notes.
Baselines = tuple[dict[str, Quantity], dict[str, str]]
# Limits on a plan: nodes x thetas x observations for each action, and episodes to carry it out in.
MAX_WORK, MAX_EPISODES = 30_000, 1024
# The imitator does not learn if its last gap to the expert is more than this fraction of its first.
LASTING = 0.9
# Nats of first gap to the expert below which there is nothing to learn.
NEGLIGIBLE = 0.05
# Standard errors by which one reward must exceed another to count as greater.
CLEARLY = 4.0
# The expert could be better if it earns less than this share of the possible reward, counted from uniformly random
# actions, by this many standard errors.
ENOUGH, NOTABLY = 0.75, 2.0


def measure_baselines(
    process: InteractionProcess, *, key: Key[Array, ""], num_episodes: int, num_rounds: int | None
) -> Baselines:
    """Measure the rewards of the expert, the exact agents and a planner, and the imitator's gap to the expert.

    Returns:
        The quantities `BASELINES`; notes, of which that of `reward_best` names the policy.
    """
    T = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    num_episodes = check_count("num_episodes", num_episodes)
    if not process.finite:
        found = {"reward_expert": _rewards(process, None, key, num_episodes, T)}
        reasons = dict.fromkeys(BASELINES, THETA_IS_CONTINUOUS)
        notes = {}
    else:
        # A key from which neither episodes were drawn nor, in `certify`, estimates.
        key_gaps = jax.random.fold_in(key, num_episodes + 1)
        ids = episode_ids(num_episodes)
        found = in_pieces(lambda piece: _play_expert_and_exact_agents(process, key, piece, key_gaps, T), ids)
        best, uniform, note = _measure_best(process, key, min(num_episodes, MAX_EPISODES), T, found)
        found |= best
        reasons = {"reward_constant": "actions are not symbols."}
        notes = {"reward_best": note}
        if better := describe_expert(
            *(Quantity.over_episodes(x) for x in (found["reward_expert"], found["reward_best"])),
            uniform=None if uniform is None else Quantity.over_episodes(uniform),
            optimum=_optimum(process, T),
        ):
            notes["expert"] = better
    quantities = {name: Quantity.over_episodes(values) for name, values in found.items()}
    return quantities | {name: Quantity(why_none=why) for name, why in reasons.items() if name not in found}, notes


@compiled_for(runs=16)
def _play_expert_and_exact_agents(
    process: InteractionProcess, key: Array, ids: Int[Array, " B"], key_gaps: Array, num_rounds: int
) -> dict[str, Float[Array, " B"]]:
    """Return the rewards of the expert and of both exact agents, and the gap between expert and do agent.

    The gap is `KL(Q(A_t | theta, e_t) || Q(A_t | do(a), o))` in the first and in the last round that exists, nats.
    """
    agent = ExactAgent(process)

    def play(x: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        by_expert, own_is_do = x

        def one(i: Array) -> tuple[Array, Array, Array]:
            episode, predictions = run_episode(
                process,
                agent,
                jax.random.fold_in(key, i),
                num_rounds=num_rounds,
                marks=(own_is_do, False),
                expert_share=by_expert,
                predicts=True,
            )
            assert predictions is not None
            pairs = (episode.expert, predictions[0])
            last = episode.mask.sum() - 1
            first_gap, last_gap = (
                divergences(*index(pairs, t), key=k)[0]
                for t, k in zip((0, last), jax.random.split(jax.random.fold_in(key_gaps, i)), strict=True)
            )
            return reward_per_round(episode.reward, episode.mask), first_gap, last_gap

        return jax.vmap(one)(ids)

    # One program for three policies, which differ in two numbers: compiling takes longer than running.
    policies = jnp.array([1.0, 0.0, 0.0]), jnp.array([False, True, False])
    (expert, do, see), (_, first, _), (_, last, _) = jax.lax.map(play, policies)
    rewards = {"reward_expert": expert, "reward_exact_do": do, "reward_exact_see": see}
    return rewards | {"imitation_gap_first": first, "imitation_gap_last": last}


def _measure_best(
    process: InteractionProcess,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int,
    exact: dict[str, Array],
) -> tuple[dict[str, Array], Float[Array, " B"] | None, str]:
    """Return the rewards of the best policy that is not shown theta, of the best constant action, of uniform ones.

    A plan to the end of the episode is the best policy. If there is none, take the one that earned most.

    Returns:
        The quantities `reward_best` and `reward_constant`; the rewards of uniformly random actions, None if actions are
        not symbols; and a note that names the best policy.
    """
    policies = {
        f"the exact agent that reads its own actions as {mark}": exact[f"reward_exact_{mark}"] for mark in MARKS
    }
    found = {}
    depth, uniform = 0, None
    if isinstance(process.action_spec, Symbols):
        found["reward_constant"], uniform = _constant(process, key, num_episodes, num_rounds)
        policies["a policy that always takes the same action"] = found["reward_constant"]
        depth = _affordable_depth(process, num_rounds)
    if depth > 0:
        plan = _rewards(process, PlanningAgent(process, depth), key, num_episodes, num_rounds)
        if depth >= num_rounds:
            note = (
                "an agent that plans to the end of the episode. No policy that is not shown theta earns more "
                f"(Bayes-optimal). Measured over {num_episodes} episodes."
            )
            return found | {"reward_best": plan}, uniform, note
        policies[f"an agent that plans {depth} of the {num_rounds} rounds ahead"] = plan
    best = max(policies, key=lambda name: float(policies[name].mean()))
    note = f"{best}. It earned the most of the policies that were tried without theta; a better one may exist."
    return found | {"reward_best": policies[best]}, uniform, note


def _optimum(process: InteractionProcess, num_rounds: int) -> float | None:
    """Return the greatest expected reward per round of a party that is shown theta; None if the task does not know."""
    if process.transition is not None:
        return None
    total = 0.0
    for k, p in enumerate(np.exp(np.asarray(process.log_prior, float))):
        optimum = process.task.optimal_reward(process.theta_value(jnp.asarray(k)), num_rounds)
        if optimum is None:
            return None
        total += float(p) * optimum / num_rounds
    return total


def describe_expert(expert: Quantity, best: Quantity, *, uniform: Quantity | None, optimum: float | None) -> str | None:
    """Return a note if the expert earns less than three quarters of the possible reward; otherwise None.

    They are counted from uniformly random actions: `expert < uniform + .75 (possible - uniform)`, by two standard
    errors.

    Args:
        expert: its reward per round.
        best: that of the best policy found that is not shown theta.
        uniform: that of uniformly random actions; None if actions are not symbols.
        optimum: that of the best party that is shown theta; if None, `best` counts as the possible reward.
    """
    possible = best if optimum is None else Quantity(optimum, 0.0)
    quantities = (expert, possible, uniform)
    if any(x is None or x.value is None or x.standard_error is None for x in quantities):
        return None
    (expert_mean, possible_mean, uniform_mean), errors = zip(
        *((x.value, x.standard_error) for x in quantities if x is not None), strict=True
    )
    enough = uniform_mean + ENOUGH * max(possible_mean - uniform_mean, 0.0)
    if enough - expert_mean < NOTABLY * math.hypot(*errors) + 1e-6:
        return None
    worse_than_random = uniform_mean - expert_mean > NOTABLY * math.hypot(errors[0], errors[2]) + 1e-6
    advice = (
        "It earns less than random actions: is the sign of the reward right?"
        if worse_than_random
        else "If reward matters, give another expert, for example one with a lower temperature."
    )
    who = "a policy that is not shown theta" if optimum is None else "the best party that is shown theta"
    return (
        f"the expert could be better: it earns {expert_mean:.3g} per round, uniformly random actions earn "
        f"{uniform_mean:.3g}, and {who} earns {possible_mean:.3g}. Its imitator learns to act like it. {advice}"
    )


def advise(quantities: Mapping[str, Quantity]) -> str | None:
    """Return a warning if imitation is the wrong goal, judged by the quantities of a certificate; otherwise None.

    It is the wrong goal if a policy without theta earns clearly more than the perfect imitator, and

    - the imitator does not learn: its gap to the expert is as large in the last round as in the first; or
    - always taking one action also earns clearly more than the imitator, and the expert clearly more than that: the
      expert's knowledge is valuable, and acting like the expert does not reveal it.
    """
    names = ("imitation_gap_first", "imitation_gap_last", "reward_exact_do", "reward_expert", "reward_best")
    first, last, imitator, expert, best = (quantities[name].value if name in quantities else None for name in names)
    if first is None or last is None or imitator is None or expert is None or best is None:
        return None

    def exceeds(one: str, other: str) -> bool:
        """Return whether both were measured and the first is clearly greater."""
        x, y = (quantities.get(name, Quantity()) for name in (one, other))
        if x.value is None or y.value is None or x.standard_error is None or y.standard_error is None:
            return False
        return x.value - y.value > CLEARLY * math.hypot(x.standard_error, y.standard_error) + 1e-6

    imitator_is_beaten = exceeds("reward_best", "reward_exact_do")
    # The gaps are equal if there is only one round, in which nobody can learn.
    never_learns = first > NEGLIGIBLE and LASTING * first < last != first
    better_not_imitate = exceeds("reward_constant", "reward_exact_do") and exceeds("reward_expert", "reward_constant")
    if not (imitator_is_beaten and (never_learns or better_not_imitate)):
        return None
    if never_learns:
        why = (
            "the expert never gathers the information that its imitator lacks "
            f"({first:.3f} nats in the first round, {last:.3f} in the last)"
        )
    else:
        constant = quantities["reward_constant"].value
        why = f"always taking the same action earns more ({constant:.3f} per round) than imitating the expert"
    remedy = "Use an expert that gathers the information it needs, or act for reward (ud.PlanningAgent)."
    if exceeds("reward_best", "reward_expert"):
        remedy = f"This is more than the expert itself earns, so it is not a good expert for this reward. {remedy}"
    return (
        f"imitation is the wrong goal here: {why}. Per round, the perfect imitator earns {imitator:.3f}, the expert "
        f"{expert:.3f}, and a policy that is not shown theta {best:.3f}. {remedy}"
    )


def _rewards(
    process: InteractionProcess, actor: AbstractAgent | None, key: Array, num_episodes: int, num_rounds: int
) -> Float[Array, " B"]:
    """Return the rewards of an agent, or of the expert if there is none."""
    ids = episode_ids(num_episodes)
    return in_pieces(lambda piece: _play(process, actor, key, piece, num_rounds), ids)


@compiled_for(runs=4)
def _play(
    process: InteractionProcess, actor: AbstractAgent | None, key: Array, ids: Int[Array, " B"], num_rounds: int
) -> Float[Array, " B"]:
    def one(i: Array) -> Array:
        episode, _ = run_episode(process, actor, jax.random.fold_in(key, i), num_rounds=num_rounds)
        return reward_per_round(episode.reward, episode.mask)

    return jax.vmap(one)(ids)


@compiled_for(runs=1)
def _constant(
    process: InteractionProcess, key: Array, num_episodes: int, num_rounds: int
) -> tuple[Float[Array, " B2"], Float[Array, " B"]]:
    """Return the rewards of the best constant action, and those of uniformly random actions.

    The best action is chosen on one half of the episodes, and measured on the other.
    """
    num_actions = num_symbols(process.action_spec)

    def always(a: Array) -> Float[Array, " B"]:
        taken = (jnp.arange(num_actions) == a) | (a == num_actions)
        actor = FixedPolicy(Categorical(logits=jnp.where(taken, 0.0, -jnp.inf)))

        def one(i: Array) -> Array:
            episode, _ = run_episode(process, actor, jax.random.fold_in(key, i), num_rounds=num_rounds)
            return reward_per_round(episode.reward, episode.mask)

        return jax.vmap(one)(jnp.arange(num_episodes))

    rewards = jax.lax.map(always, jnp.arange(num_actions + 1))
    rewards, uniform = rewards[:-1], rewards[-1]
    half = num_episodes // 2
    return rewards[rewards[:, : max(half, 1)].mean(1).argmax(), half:], uniform


def _affordable_depth(process: InteractionProcess, num_rounds: int) -> int:
    """Return how many rounds ahead a plan can look within `MAX_WORK`; 0 if observations are not symbols."""
    if not isinstance(process.observation_spec, Symbols):
        return 0
    # At each node, every theta and every observation is weighed.
    depth, work = 0, process.num_thetas * num_symbols(process.observation_spec)
    while depth < num_rounds and work * num_nodes(process, depth + 1) <= MAX_WORK:
        depth += 1
    return depth
