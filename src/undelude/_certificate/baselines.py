"""What others earn on a process, with theta and without; and whether imitating its expert is the right goal.

An expert who knows theta never gathers information about it. Where that keeps its imitator from ever finding out,
imitation is the wrong goal, however well it is learned: "impossibly good experts" (Weihs et al., 2021,
arXiv:2007.12173).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from undelude._agents.base import scan
from undelude._agents.exact import ExactAgent
from undelude._agents.fixed import FixedPolicy
from undelude._agents.planning import PlanningAgent, num_nodes
from undelude._certificate.per_episode import MARKS
from undelude._distributions import Categorical, Symbols, divergences, num_symbols
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._rollout.rollout import rollout
from undelude._rollout.scan import run_episode
from undelude._tree import index

# Of a plan: the nodes for each action taken, times thetas and observations, and the episodes it is carried out in.
MAX_WORK, MAX_EPISODES = 30_000, 1024
# Of the imitator's gap to the expert, what is left at the end where it does not shrink.
STILL_MISSING = 0.9
# Nats that it must lack in the first round, for that to be a measure.
SOMETHING = 0.05
# Standard errors by which another policy must be better.
CLEARLY = 4.0


def measure_baselines(
    process: InteractionProcess, *, key: Key[Array, ""], num_episodes: int, num_rounds: int | None
) -> tuple[dict[str, Float[Array, " B"]], dict[str, str]]:
    """Rewards of expert, exact agents and planner, and the imitator's gap to the expert; a number for each episode.

    Returns:
        Numbers by the names of the certificate's quantities, and notes on them.
    """
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}
    found = {"reward_expert": rollout(process, None, key=key, executor="expert", **size).reward.mean(-1)}
    if not process.finite:
        return found, {}
    for mark in MARKS:
        own = rollout(process, ExactAgent(process, mark), key=key, **size)
        found[f"reward_exact_{mark}"] = own.reward.mean(-1)
        if mark == "do":
            # Beside the keys that the episodes themselves drew from.
            gaps = _gaps(process, own, jax.random.fold_in(key, num_episodes))
            found["imitation_gap_first"], found["imitation_gap_last"] = gaps
    T = own.num_rounds
    size["num_episodes"] = min(num_episodes, MAX_EPISODES)
    blind = {"the exact agent that reads its own actions as do": found["reward_exact_do"]}
    blind["the exact agent that reads its own actions as see"] = found["reward_exact_see"]
    notes, depth = {}, 0
    if isinstance(process.action_spec, Symbols):
        blind["always the same action"] = found["reward_constant"] = _constant(process, key, size["num_episodes"], T)
        depth = _affordable_depth(process, T)
    else:
        notes["reward_constant"] = "actions are no symbols."
    if depth > 0:
        plan = rollout(process, PlanningAgent(process, depth), key=key, **size).reward.mean(-1)
        blind[f"a plan {depth} of {T} rounds ahead"] = plan
    who = max(blind, key=lambda name: float(blind[name].mean()))
    found["reward_best"] = blind[who]
    if depth >= T:
        found["reward_best"], notes["reward_best"] = (
            plan,
            (f"of all policies that are not shown theta (Bayes-optimal), in {size['num_episodes']} episodes."),
        )
    else:
        notes["reward_best"] = f"of policies that are not shown theta, at least; that of {who}."
    return found, notes


def advice(values: dict[str, float | None]) -> str | None:
    """A warning where imitation is the wrong goal, by the values and standard errors of a certificate; else None.

    It is, where the perfect imitator earns clearly less than a policy that is not shown theta either, and

    - what the imitator lacks of the expert's knowledge, if it does from the start, is by the last round still what it
      was in the first; or
    - one and the same action, always taken, is such a policy, and the expert earns clearly more than that: its
      knowledge is worth something, and not to be had by acting like it.
    """
    names = ("imitation_gap_first", "imitation_gap_last", "reward_exact_do", "reward_expert", "reward_best")
    first, last, imitator, expert, best = (values.get(name) for name in names)
    if first is None or last is None or imitator is None or expert is None or best is None:
        return None

    def more(one: str, other: str) -> bool:
        """Clearly more, if both were measured."""
        x, y = values.get(one), values.get(other)
        errors = [values.get(f"{name}_se") for name in (one, other)]
        if x is None or y is None or any(error is None for error in errors):
            return False
        return x - y > CLEARLY * math.hypot(*(error or 0.0 for error in errors)) + 1e-6

    imitator_is_beaten = more("reward_best", "reward_exact_do")
    # Equal numbers are those of one round, in which nobody could have learned anything.
    never_learns = first > SOMETHING and STILL_MISSING * first < last != first
    better_not_try = more("reward_constant", "reward_exact_do") and more("reward_expert", "reward_constant")
    if not (imitator_is_beaten and (never_learns or better_not_try)):
        return None
    if never_learns:
        why = (
            "the expert never gathers the information that its imitator lacks "
            f"({first:.3f} nats of it in the first round, {last:.3f} in the last)"
        )
    else:
        always = values["reward_constant"]
        why = f"always taking one and the same action earns more ({always:.3f} a round) than acting as the expert might"
    remedy = "Take an expert who finds out what it needs to know, or act for reward (ud.PlanningAgent)."
    if more("reward_best", "reward_expert"):
        remedy = f"That is more than the expert earns, who is no good one at this reward. {remedy}"
    return (
        f"imitation is the wrong goal here: {why}. The perfect imitator earns {imitator:.3f} a round, the expert "
        f"{expert:.3f}, and a policy that is not shown theta {best:.3f}. {remedy}"
    )


@eqx.filter_jit
def _constant(process: InteractionProcess, key: Array, num_episodes: int, num_rounds: int) -> Float[Array, " B"]:
    """Rewards of the best of the policies that always take the same action: best in one half, measured in the other."""
    num_actions = num_symbols(process.action_spec)

    def always(a: Array) -> Float[Array, " B"]:
        actor = FixedPolicy(Categorical(logits=jnp.where(jnp.arange(num_actions) == a, 0.0, -jnp.inf)))

        def one(i: Array) -> Array:
            return run_episode(process, actor, jax.random.fold_in(key, i), num_rounds=num_rounds)[0].reward.mean()

        return jax.vmap(one)(jnp.arange(num_episodes))

    rewards = jax.lax.map(always, jnp.arange(num_actions))
    half = num_episodes // 2
    return rewards[rewards[:, : max(half, 1)].mean(1).argmax(), half:]


def _affordable_depth(process: InteractionProcess, num_rounds: int) -> int:
    """How many rounds ahead a plan can look; 0 where not even one, or where observations are no symbols."""
    if not isinstance(process.observation_spec, Symbols):
        return 0
    # Each node weighs every theta and every observation.
    depth, work = 0, process.num_thetas * num_symbols(process.observation_spec)
    while depth < num_rounds and work * num_nodes(process, depth + 1) <= MAX_WORK:
        depth += 1
    return depth


@eqx.filter_jit
def _gaps(process: InteractionProcess, episodes: Episodes, key: Array) -> tuple[Array, Array]:
    """`KL(Q(A_t | theta, e_t) || Q(A_t | do(a), o))` in the first and in the last round, nats."""

    def one(episode: Episodes, key: Array) -> tuple[Array, Array]:
        P_A, _ = scan(ExactAgent(process), episode)
        distributions = episode.expert, P_A
        keys = jax.random.split(key)
        gap = [divergences(*index(distributions, t), key=key)[0] for t, key in zip((0, -1), keys, strict=True)]
        return gap[0], gap[1]

    return jax.vmap(one)(episodes, jax.random.split(key, episodes.mask.shape[0]))
