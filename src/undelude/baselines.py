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

from undelude.agent import scan
from undelude.agents.exact import ExactAgent
from undelude.agents.planning import PlanningAgent, num_nodes
from undelude.distributions import Categorical, divergences
from undelude.measurement import MARKS
from undelude.process import InteractionProcess
from undelude.rollout import Episodes, LawOnly, episode, rollout

# Of a plan: the nodes for each action taken, times thetas and observations, and the episodes it is carried out in.
MAX_WORK, MAX_EPISODES = 30_000, 1024
# Of the imitator's gap to the expert, what must be left at the end for it to count as not shrinking.
STILL_MISSING = 0.9
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
            found["imitation_gap_first"], found["imitation_gap_last"] = _gaps(process, own, key)
    T = own.num_rounds
    size["num_episodes"] = min(num_episodes, MAX_EPISODES)
    if not isinstance(process.action_law, Categorical):
        return found, dict.fromkeys(("reward_best", "reward_constant"), "actions are no symbols.")
    found["reward_constant"] = _constant(process, key, size["num_episodes"], T)
    try:
        depth = _affordable_depth(process, T)
    except TypeError as error:
        return found, {"reward_best": f"no plan: {error}"}
    if depth == 0:
        return found, {"reward_best": "no plan: even one round ahead there is too much that may happen."}
    found["reward_best"] = rollout(process, PlanningAgent(process, depth), key=key, **size).reward.mean(-1)
    if depth >= T:
        return found, {"reward_best": "what the best policy earns that is not shown theta (Bayes-optimal)."}
    return found, {"reward_best": f"at least; the policy of a plan {depth} of {T} rounds ahead."}


def advice(values: dict[str, float | None]) -> str | None:
    """A warning where imitation is the wrong goal, by the values and standard errors of a certificate; else None.

    It is, where the perfect imitator earns clearly less than a policy that is not shown theta either, and

    - one and the same action, always taken, is such a policy; or
    - what the imitator lacks of the expert's knowledge is by the last round still what it was in the first.
    """
    names = ("imitation_gap_first", "imitation_gap_last", "reward_exact_do", "reward_expert")
    first, last, imitator, expert = (values.get(name) for name in names)
    if first is None or last is None or imitator is None or expert is None:
        return None
    best = max(values.get(name) or -math.inf for name in ("reward_best", "reward_constant"))

    def clearly_more(name: str) -> bool:
        value, errors = values.get(name), [values.get(f"{x}_se") or 0.0 for x in (name, "reward_exact_do")]
        return value is not None and value - imitator > CLEARLY * (errors[0] ** 2 + errors[1] ** 2) ** 0.5 + 1e-6

    never_learns = last > STILL_MISSING * first and first > 1e-6 and clearly_more("reward_best")
    if not (never_learns or clearly_more("reward_constant")):
        return None
    return (
        "imitation is the wrong goal here: the expert never gathers the information that its imitator lacks "
        f"({first:.3f} nats of it in the first round, {last:.3f} in the last). The perfect imitator earns "
        f"{imitator:.3f} a round, the expert {expert:.3f}, and a policy that is not shown theta {best:.3f}. Take an "
        "expert who finds out what it needs to know, or act for reward (ud.PlanningAgent)."
    )


@eqx.filter_jit
def _constant(process: InteractionProcess, key: Array, num_episodes: int, num_rounds: int) -> Float[Array, " B"]:
    """Rewards of the best one of the policies that always take the same action."""
    law = process.action_law
    assert isinstance(law, Categorical)

    def always(a: Array) -> Float[Array, " B"]:
        actor = LawOnly(Categorical(logits=jnp.where(jnp.arange(law.num_categories) == a, 0.0, -jnp.inf)))

        def one(i: Array) -> Array:
            return episode(process, actor, jax.random.fold_in(key, i), num_rounds=num_rounds).reward.mean()

        return jax.vmap(one)(jnp.arange(num_episodes))

    rewards = jax.lax.map(always, jnp.arange(law.num_categories))
    return rewards[rewards.mean(1).argmax()]


def _affordable_depth(process: InteractionProcess, num_rounds: int) -> int:
    """How many rounds ahead a plan can look; 0 where not even one."""
    depth, nodes = 0, num_nodes(process, 1)
    # Each node weighs every theta and every observation; nodes(2) / nodes(1) = A O.
    work = process.num_thetas * num_nodes(process, 2) / nodes**2
    while depth < num_rounds and work * num_nodes(process, depth + 1) <= MAX_WORK:
        depth += 1
    return depth


@eqx.filter_jit
def _gaps(process: InteractionProcess, episodes: Episodes, key: Array) -> tuple[Array, Array]:
    """`KL(Q(A_t | theta, e_t) || Q(A_t | do(a), o))` in the first and in the last round, nats."""

    def one(episode: Episodes, key: Array) -> tuple[Array, Array]:
        P_A, _ = scan(ExactAgent(process), episode)
        laws = episode.expert, P_A
        gap = [divergences(*jax.tree.map(lambda x, t=t: x[t], laws), key=key)[0] for t in (0, -1)]
        return gap[0], gap[1]

    return jax.vmap(one)(episodes, jax.random.split(key, episodes.mask.shape[0]))
