"""The certificate: how far an agent is, in nats, from the interventional answer and from the deluded one."""

import dataclasses
import math
import platform
import time
from importlib.metadata import version
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude.agent import AbstractAgent, Mark, scan, unroll
from undelude.agents.exact import ExactAgent
from undelude.distributions import AbstractDistribution, Categorical, divergences, estimate_entropy
from undelude.inference import expert_laws, filter, reread
from undelude.process import InteractionProcess
from undelude.rollout import Episodes, rollout
from undelude.teaching import score_observations

MARKS: tuple[Mark, ...] = ("do", "see")
# "Confident" in `deluded_fraction`.
CONFIDENT = 0.9
# Episodes scored at a time: what is measured does not depend on it, memory does.
CHUNK = 1024
# The expert's laws tell the thetas apart where the smallest singular value of [A, K] exceeds this.
MIN_SINGULAR_VALUE = 1e-2


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What `certify` measured on the agent's own histories; `x_se` is the standard error of `x`, over episodes.

    Attributes:
        task, agent, own_actions: what was measured, and how the agent read its own actions.
        num_episodes, num_rounds: B and T.
        action_kl_do: `E KL(Q(A | do(a), o) || P(A | m))`, nats an action; 0 for a sober agent.
        action_kl_see: `E KL(Q(A | a, o) || P(A | m))`; 0 for a deluded one.
        observation_kl_do, observation_kl_see: the same of observations, nats an observation.
        action_tv_do, action_tv_see, observation_tv_do, observation_tv_see: total variation, in [0, 1].
        action_log_loss: `E[-log P(a_bar | m)]` of the queried expert's actions, nats.
        observation_log_loss: `E[-log P(o | m)]`, nats.
        action_calibration_gap, observation_calibration_gap: log-loss less `E[H(P(. | m))]`. It needs no exact answer,
            and is 0 for a sober agent. It is not sufficient: an ignorant agent is calibrated too.
        reward: a round; beside it the expert's and the exact agents', each on its own histories.
        deluded_fraction: of episodes at whose end the agent gives a wrong theta a probability above .9, by the belief
            that its policy implies.
        seconds: of measuring.
        versions: of what it was measured with.
        notes: for each quantity that is None or infinite, why; and how often a reading of the histories is impossible.
    """

    task: str
    agent: str
    own_actions: Mark
    num_episodes: int
    num_rounds: int
    seconds: float
    versions: dict[str, str]
    notes: dict[str, str]
    action_kl_do: float | None = None
    action_kl_do_se: float | None = None
    action_kl_see: float | None = None
    action_kl_see_se: float | None = None
    observation_kl_do: float | None = None
    observation_kl_do_se: float | None = None
    observation_kl_see: float | None = None
    observation_kl_see_se: float | None = None
    action_tv_do: float | None = None
    action_tv_do_se: float | None = None
    action_tv_see: float | None = None
    action_tv_see_se: float | None = None
    observation_tv_do: float | None = None
    observation_tv_do_se: float | None = None
    observation_tv_see: float | None = None
    observation_tv_see_se: float | None = None
    action_log_loss: float | None = None
    action_log_loss_se: float | None = None
    observation_log_loss: float | None = None
    observation_log_loss_se: float | None = None
    action_calibration_gap: float | None = None
    action_calibration_gap_se: float | None = None
    observation_calibration_gap: float | None = None
    observation_calibration_gap_se: float | None = None
    reward: float | None = None
    reward_se: float | None = None
    reward_expert: float | None = None
    reward_expert_se: float | None = None
    reward_exact_do: float | None = None
    reward_exact_do_se: float | None = None
    reward_exact_see: float | None = None
    reward_exact_see_se: float | None = None
    deluded_fraction: float | None = None
    deluded_fraction_se: float | None = None

    def __str__(self) -> str:
        """A line for each quantity, and the notes."""
        what = f"{self.agent} on {self.task}, own actions read as {self.own_actions}; {self.num_episodes} episodes"
        lines = [f"{what} of {self.num_rounds} rounds"]
        for name in QUANTITIES:
            value, se = getattr(self, name), getattr(self, f"{name}_se")
            if value is not None:
                lines.append(f"  {name:28} {value:9.5f}" + ("" if se is None else f" +- {se:.5f}"))
        return "\n".join([*lines, *(f"  {name}: {note}" for name, note in self.notes.items())])

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON, in which an infinite value is the string "inf"."""
        return {name: "inf" if value == math.inf else value for name, value in dataclasses.asdict(self).items()}


QUANTITIES = tuple(f.name for f in dataclasses.fields(Certificate) if f.default is None and not f.name.endswith("_se"))


def certify(
    agent: AbstractAgent,
    process: InteractionProcess,
    *,
    key: Key[Array, ""],
    num_episodes: int = 4096,
    num_rounds: int | None = None,
    baselines: bool = True,
) -> Certificate:
    """Let `agent` act, and compare what it predicts with both exact answers at every symbol of its own histories.

    Args:
        agent: exact, taught or the user's own.
        process: with finitely many values of Theta; without, what needs the exact answers is None, and a note says so.
        key: of the histories.
        num_episodes: B.
        num_rounds: T; the process's own by default.
        baselines: also roll out the expert and both exact agents, for their rewards.

    Raises:
        ValueError: the agent cannot read its own marks.

    >>> import undelude as ud
    >>> process = ud.tasks.bandit(num_rounds=5)
    >>> report = ud.certify(ud.ExactAgent(process), process, key=jax.random.key(0), num_episodes=64, baselines=False)
    >>> abs(report.action_kl_do) < 1e-6 < report.action_kl_see
    True
    """
    started = time.perf_counter()
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}
    episodes = rollout(process, agent, key=key, **size)
    per_episode = _measure(process, agent, episodes, jax.random.fold_in(key, num_episodes))
    if baselines:
        per_episode["reward_expert"] = rollout(process, None, key=key, executor="expert", **size).reward.mean(-1)
        if process.finite:
            for mark in MARKS:
                own = rollout(process, ExactAgent(process, mark), key=key, **size)
                per_episode[f"reward_exact_{mark}"] = own.reward.mean(-1)

    values, notes = {}, {}
    for name in QUANTITIES:
        if name in per_episode:
            values[name], values[f"{name}_se"] = _mean_and_se(per_episode[name])
        if values.get(name) is None:
            notes[name] = _why_none(process, name, baselines)
        elif values[name] == math.inf:
            notes[name] = "infinite: at least once the agent gave no probability to what the answer allows."
    for mark in MARKS:
        if process.finite and (share := float(np.mean(per_episode[f"impossible_{mark}"]))) > 0:
            notes[f"action_kl_{mark}"] = (
                f"read as {mark}, what happened is impossible in {share:.1%} of the episodes; "
                "from there on the answer is that of the last possible belief."
            )
    return Certificate(
        task=process.name,
        agent=type(agent).__name__,
        own_actions=agent.own_actions,
        num_episodes=num_episodes,
        num_rounds=episodes.num_rounds,
        seconds=time.perf_counter() - started,
        versions=versions(),
        notes=notes,
        **values,
    )


def delusion_gap(
    process: InteractionProcess, *, key: Key[Array, ""], num_episodes: int = 4096, num_rounds: int | None = None
) -> Certificate:
    """How much there is to lose: the certificate of the exact deluded agent, on its own histories.

    `action_kl_do` is what delusion costs in nats an action; `reward_exact_do - reward` is what it costs in reward
    (where it is negative, commitment pays on this process and the delusion happens to bring it).

    Args:
        process: with finitely many values of Theta.
        key: of the histories.
        num_episodes: B.
        num_rounds: T; the process's own by default.
    """
    deluded = ExactAgent(process, own_actions="see")
    return certify(deluded, process, key=key, num_episodes=num_episodes, num_rounds=num_rounds)


def trace(
    agent: AbstractAgent, process: InteractionProcess, *, key: Key[Array, ""], num_episodes: int = 256
) -> dict[str, Any]:
    """One episode to look at: of `num_episodes`, the one over which the two exact answers differ most.

    Returns:
        Plain data: `num_episodes`; `theta` (`[T + 1]` with a transition), `opening`, and `actions`, `observations` and
        `rewards`, `[T]`; `policy`, the probabilities of the actions before each round and after the last,
        `[T + 1, A]`, of `"agent"`, `"exact_do"` and `"exact_see"`; and `belief`, `[T + 1, K]` of the same three, None
        where a policy implies none.

    Raises:
        TypeError: Theta is continuous, or actions are not symbols.
    """
    if not isinstance(process.action_law, Categorical):
        raise TypeError(
            f"{process.name}: an episode is traced for actions that are symbols, "
            f"not {type(process.action_law).__name__}."
        )
    process.check_finite()
    episodes = rollout(process, agent, key=key, num_episodes=num_episodes)
    policies, beliefs = _trace(process, agent, episodes)
    gap = np.abs(np.asarray(policies["exact_do"]) - np.asarray(policies["exact_see"])).sum((-1, -2))
    i = int(gap.argmax())

    def plain(tree: Any) -> Any:
        return jax.tree.map(lambda x: np.asarray(x[i]).tolist(), tree)

    belief = {name: None if np.isnan(np.asarray(b[i])).any() else plain(b) for name, b in beliefs.items()}
    return {
        "num_episodes": num_episodes,
        "theta": plain(episodes.theta),
        "opening": plain(episodes.opening),
        "actions": plain(episodes.actions),
        "observations": plain(episodes.observations),
        "rewards": plain(episodes.reward),
        "policy": plain(policies),
        "belief": {"agent": None} | belief,
    }


@eqx.filter_jit
def _trace(process: InteractionProcess, agent: AbstractAgent, episodes: Episodes) -> tuple[dict, dict]:
    def one(episode: Episodes) -> tuple[dict, dict]:
        policies: dict[str, Any] = {}
        beliefs: dict[str, Array] = {}
        whole = _with_one_more_round(episode)
        exact = ExactAgent(process)
        for mark in MARKS:
            policies[f"exact_{mark}"] = scan(exact, reread(whole, mark))[0]
            beliefs[f"exact_{mark}"] = jnp.exp(filter(process, reread(episode, mark)).log_posterior)
        policies["agent"], _ = unroll(agent, whole)
        laws = jax.vmap(lambda belief: expert_laws(process, belief))(filter(process, episode))
        implied = jax.vmap(_implied)(laws, policies["agent"])
        if implied is not None:
            beliefs["agent"] = implied
        return {name: jnp.exp(law.log_probs) for name, law in policies.items()}, beliefs

    return jax.vmap(one)(episodes)


def versions() -> dict[str, str]:
    """Of undelude and what its numbers depend on."""
    packages = ("undelude", "jax", "equinox", "optax", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


@eqx.filter_jit
def _measure(process: InteractionProcess, agent: AbstractAgent, episodes: Episodes, key: Array) -> dict[str, Array]:
    """Each quantity of the certificate that one episode can answer, `[B]`."""

    def one(x: tuple[Episodes, Array]) -> dict[str, Array]:
        return measure_episode(process, agent, x[0], key=x[1])

    keys = jax.random.split(key, episodes.mask.shape[0])
    return jax.lax.map(one, (episodes, keys), batch_size=CHUNK)


def measure_episode(
    process: InteractionProcess, agent: AbstractAgent, episode: Episodes, *, key: Key[Array, ""]
) -> dict[str, Float[Array, ""]]:
    """What one of the agent's own episodes says of it: means over its symbols, in nats."""
    T = episode.num_rounds
    # One round more than there was: its first half is the policy after the last observation.
    P_A, P_O = unroll(agent, _with_one_more_round(episode))
    after_last = jax.tree.map(lambda x: x[T], P_A)
    P_A, P_O = jax.tree.map(lambda x: x[:T], P_A), jax.tree.map(lambda x: x[:-1], P_O)

    key_answer, key_A, key_O = jax.random.split(key, 3)
    action = jax.vmap(lambda law, a: -law.log_prob(a))(P_A, episode.expert_actions).mean()
    observation = score_observations(P_O, episode).mean()
    result = {
        "reward": episode.reward.mean(),
        "action_log_loss": action,
        "observation_log_loss": observation,
        "action_calibration_gap": action - _mean_entropy(P_A, key_A),
        "observation_calibration_gap": observation - _mean_entropy(P_O, key_O),
    }
    if not process.finite:
        return result
    for mark in MARKS:
        marked = reread(episode, mark)
        result[f"impossible_{mark}"] = filter(process, marked).impossible[-1].astype(float)
        answers = scan(ExactAgent(process), marked)
        for name, answer, prediction in zip(("action", "observation"), answers, (P_A, P_O), strict=True):
            keys = jax.random.split(key_answer, len(jax.tree.leaves(answer)[0]))
            kl, tv = jax.vmap(lambda p, q, k: divergences(p, q, key=k))(answer, prediction, keys)
            result |= {f"{name}_kl_{mark}": kl.mean(), f"{name}_tv_{mark}": tv.mean()}
    belief = implied_belief(process, episode, after_last)
    if belief is not None:
        theta = episode.theta[-1] if process.transition is not None else episode.theta
        deluded = (belief.max() > CONFIDENT) & (belief.argmax() != theta)
        result["deluded_fraction"] = jnp.where(jnp.isnan(belief).any(), jnp.nan, deluded)
    return result


def _mean_entropy(laws: AbstractDistribution, key: Key[Array, ""]) -> Float[Array, ""]:
    keys = jax.random.split(key, len(jax.tree.leaves(laws)[0]))
    return jax.vmap(estimate_entropy)(laws, keys).mean()


def implied_belief(
    process: InteractionProcess, episode: Episodes, policy: AbstractDistribution
) -> Float[Array, " K"] | None:
    """The belief b with `policy = sum_theta b(theta) Q(A | theta, e)` at the end of an episode.

    An exact agent's is its own. By least squares, then clipped and normalised. NaN where the expert's laws do not tell
    the thetas apart; None where they never can, because there are fewer actions than thetas or because actions are not
    symbols.
    """
    last = jax.tree.map(lambda x: x[-1], filter(process, episode))
    return _implied(expert_laws(process, last), policy)


def _implied(laws: AbstractDistribution, policy: AbstractDistribution) -> Float[Array, " K"] | None:
    if not (isinstance(policy, Categorical) and isinstance(laws, Categorical)):
        return None
    columns = laws.probs.T  # [A, K]
    if columns.shape[0] < columns.shape[1]:
        return None
    belief = jnp.maximum(jnp.linalg.pinv(columns) @ policy.probs, 0.0)
    told_apart = jnp.linalg.svd(columns, compute_uv=False).min() > MIN_SINGULAR_VALUE
    return jnp.where(told_apart, belief / belief.sum(), jnp.nan)


def _with_one_more_round(episode: Episodes) -> Episodes:
    # What the round holds does not matter, for only what comes before it is looked at.
    fixed = {"theta", "opening"}
    rounds = {f.name: getattr(episode, f.name) for f in dataclasses.fields(episode) if f.name not in fixed}
    return dataclasses.replace(episode, **jax.tree.map(lambda x: jnp.concatenate([x, x[-1:]]), rounds))


def _mean_and_se(x: Array) -> tuple[float | None, float | None]:
    values = np.asarray(x, dtype=np.float64)
    if np.isnan(values).any():
        return None, None
    if np.isinf(values).any():
        return math.inf, None
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _why_none(process: InteractionProcess, name: str, baselines: bool) -> str:
    if not process.finite and ("_kl_" in name or "_tv_" in name or name.startswith(("reward_exact", "deluded"))):
        return "Theta is continuous: there is no exact reference."
    if name == "deluded_fraction":
        return (
            "the policy implies no belief: the expert's laws do not tell the thetas apart at the end of every episode."
        )
    if name.startswith("reward_") and not baselines:
        return "not measured (baselines=False)."
    return "not a number in at least one episode."
