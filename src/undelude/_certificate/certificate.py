"""The certificate: how far an agent is, in nats, from the interventional answer and from the deluded one."""

import dataclasses
import math
import time
import warnings
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._certificate.baselines import advice, measure_baselines
from undelude._certificate.per_episode import MARKS, measure
from undelude._checks import TOLERANCE, check_key
from undelude._distributions.spec import Symbols
from undelude._process.process import InteractionProcess, check_process
from undelude._rollout.host import play
from undelude._rollout.rollout import rollout
from undelude._types import Mark
from undelude._versions import versions


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
        reward: a round; beside it the expert's and the exact agents', each on its own histories, and `reward_best`,
            of policies that are not shown theta; a note says which, and whether it is the best there is.
            `reward_constant` is that of always taking the same action, the best one.
        imitation_gap_first, imitation_gap_last: `E KL(Q(A_t | theta, e) || Q(A_t | do(a), o))` in the first and in the
            last round of the exact do agent's own histories, nats: what the perfect imitator lacks of the expert's
            knowledge.
        deluded_fraction: of episodes at whose end the agent gives a wrong theta a probability above .9, by the belief
            that its policy implies.
        seconds: of measuring.
        versions: of what it was measured with.
        notes: for each quantity that is None or infinite, why; what `reward_best` is; how often a reading of the
            histories is impossible; and, under "imitation", a warning where imitation is the wrong goal.
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
    reward_best: float | None = None
    reward_best_se: float | None = None
    reward_constant: float | None = None
    reward_constant_se: float | None = None
    imitation_gap_first: float | None = None
    imitation_gap_first_se: float | None = None
    imitation_gap_last: float | None = None
    imitation_gap_last_se: float | None = None
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
    process: InteractionProcess,
    agent: AbstractAgent | HostAgent,
    *,
    key: Key[Array, ""],
    num_episodes: int = 4096,
    num_rounds: int | None = None,
    baselines: bool = True,
) -> Certificate:
    """Let `agent` act, and compare what it predicts with both exact answers at every symbol of its own histories.

    Args:
        process: with finitely many values of Theta; without, what needs the exact answers is None, and a note says so.
        agent: exact, taught, the user's own, or from elsewhere (`ud.HostAgent`).
        key: of the histories.
        num_episodes: B.
        num_rounds: T; the process's own by default.
        baselines: also roll out the expert, both exact agents and a planner, for their rewards.

    Raises:
        ValueError: the agent cannot read its own marks.

    Warns:
        UserWarning: imitation is the wrong goal on this process; the message says why, and `notes["imitation"]` too.

    >>> import undelude as ud
    >>> process = ud.tasks.bandit(num_rounds=5)
    >>> report = ud.certify(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=64, baselines=False)
    >>> abs(report.action_kl_do) < 1e-6 < report.action_kl_see
    True
    """
    check_process(process)
    check_key(key)
    started = time.perf_counter()
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}
    if isinstance(agent, HostAgent):
        episodes, P_A, P_O = play(process, agent, key=key, **size)
        source = P_A, P_O
    else:
        episodes, source = rollout(process, agent, key=key, **size), agent
    per_episode = measure(process, source, episodes, jax.random.fold_in(key, num_episodes))
    for distribution in ("A", "O"):
        if (excess := float(np.max(per_episode.get(f"excess_{distribution}", 0.0)))) > TOLERANCE:
            raise ValueError(
                f"{type(agent).__name__}: the probabilities that f_{distribution} returns do not sum to one (off by "
                f"{excess:.3g}); Categorical(log_probs=) takes them as they are, Categorical(logits=) normalises."
            )
    notes: dict[str, str] = {}
    if baselines:
        others, notes = measure_baselines(process, key=key, **size)
        per_episode |= others

    values = {}
    for name in QUANTITIES:
        if name in per_episode:
            values[name], values[f"{name}_se"] = _mean_and_se(per_episode[name])
        if values.get(name) is None:
            notes.setdefault(name, _why_none(process, name, baselines, agent, per_episode))
        elif values[name] == math.inf:
            notes[name] = "infinite: at least once the agent gave no probability to what the answer allows."
    if baselines and (warning := advice(values)):
        notes["imitation"] = warning
        warnings.warn(f"{process.name}: {warning}", stacklevel=2)
    for mark in MARKS:
        if process.finite and (share := float(np.mean(per_episode[f"impossible_{mark}"]))) > 0:
            notes[f"impossible_{mark}"] = (
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
    return certify(process, deluded, key=key, num_episodes=num_episodes, num_rounds=num_rounds)


def _mean_and_se(x: Array) -> tuple[float | None, float | None]:
    values = np.asarray(x, dtype=np.float64)
    if np.isnan(values).any():
        return None, None
    if np.isinf(values).any():
        return math.inf, None
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def _why_none(
    process: InteractionProcess, name: str, baselines: bool, agent: AbstractAgent | HostAgent, per_episode: dict
) -> str:
    if name.startswith(("reward_", "imitation")) and not baselines:
        return "not measured (baselines=False)."
    exact = ("_kl_", "_tv_", "reward_exact", "reward_best", "reward_constant", "imitation", "deluded")
    if not process.finite and any(part in name for part in exact):
        return "Theta is continuous: there is no exact reference."
    of_observations = name.startswith("observation")
    if (
        isinstance(agent, HostAgent)
        and name not in per_episode
        and (of_observations or "action_kl_do" not in per_episode)
    ):
        return f"the HostAgent does not predict {'observations' if of_observations else 'actions'}."
    if name == "deluded_fraction":
        if not isinstance(process.action_spec, Symbols):
            return "actions are no symbols: a policy implies no belief about theta."
        return (
            "the policy implies no belief about theta: at the end of some episode the expert's distributions, one "
            "for each "
            "theta, are linearly dependent, or nearly so."
        )
    return "not a number in at least one episode."
