"""The certificate: how far an agent is, in nats, from the interventional and from the deluded answer."""

import dataclasses
import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._certificate.attributes import Measured, StandardError
from undelude._certificate.baselines import BASELINES, Baselines, advise, measure_baselines
from undelude._certificate.host_worlds import measure_in_world, measure_world_baselines
from undelude._certificate.notes import describe_marks, describe_notes
from undelude._certificate.per_episode import measure
from undelude._certificate.quantity import Quantity
from undelude._certificate.verdict import Kind, judge
from undelude._checks import check_key
from undelude._process.host_world import AbstractHostWorld, World
from undelude._process.process import InteractionProcess, check_process
from undelude._rollout.host import play, sampled
from undelude._rollout.rollout import run, run_once
from undelude._types import Mark, OnProgress
from undelude._versions import versions

# Nats: a KL that is estimated from samples may be slightly negative.
MIN_KL = -1.0


class Measurement(NamedTuple):
    """What was measured: a page plays an example episode and a film of the same.

    Attributes:
        process, agent, key: the arguments of `certify`.
        kl_by_round: `[B, T]`, as in `per_episode.MeasuredEpisodes`, from which the suite takes the worst round.
    """

    process: InteractionProcess | AbstractHostWorld
    agent: AbstractAgent | HostAgent
    key: Key[Array, ""]
    kl_by_round: Float[np.ndarray, "B T"] | None


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The result of `certify`: an agent's predictions on its own histories, compared with both exact answers.

    Every quantity is a mean over episodes, or None if it could not be measured; then `notes` gives the reason. `x_se`
    is the standard error of `x`. Within an episode, distances are averaged over the rounds that exist, and rewards over
    T: rounds after an early end pay nothing. Every episode has the same weight, except in log-losses and calibration
    gaps, where every symbol has: weighted by episode, the gap of right predictions would differ from 0 if outcomes end
    episodes.

    Attributes:
        task: the name of the process.
        agent: the type of the agent.
        own_actions: how the agent read its own actions, `"do"` or `"see"`; of a `HostAgent`, how they were marked,
            which its policy need not heed.
        num_episodes: B.
        num_rounds: T.
        seconds: the time that measuring took; in a run, without the baselines, which were measured while it trained.
        versions: of undelude and the libraries in use.
        notes: the reason for each quantity that is None or infinite; which policy earns `reward_best`; how often a
            reading of the histories is impossible; under "expert", that the expert earns much less than is possible, if
            so; and, under "imitation", a warning if imitation is the wrong goal.
        quantities: the quantities below by name, each with its value, standard error, and reason if it is None.
        measurement: the process, the agent and the key, for `save` and `html`.
    """

    task: str
    agent: str
    own_actions: Mark
    num_episodes: int
    num_rounds: int
    seconds: float
    versions: dict[str, str]
    notes: dict[str, str]
    quantities: dict[str, Quantity]
    measurement: Measurement | None = dataclasses.field(default=None, repr=False, compare=False)

    action_kl_do = Measured(MIN_KL)
    """`E KL(Q(A | do(a), o) || P(A | m))`, nats per action; 0 for a sober agent."""
    action_kl_do_se = StandardError(action_kl_do)
    action_kl_see = Measured(MIN_KL)
    """`E KL(Q(A | a, o) || P(A | m))`, nats per action; 0 for a deluded agent."""
    action_kl_see_se = StandardError(action_kl_see)
    observation_kl_do = Measured(MIN_KL)
    """`E KL(Q(O | do(a), o) || P(O | m))`, nats per observation; 0 for a sober agent."""
    observation_kl_do_se = StandardError(observation_kl_do)
    observation_kl_see = Measured(MIN_KL)
    """`E KL(Q(O | a, o) || P(O | m))`, nats per observation; 0 for a deluded agent."""
    observation_kl_see_se = StandardError(observation_kl_see)
    action_tv_do = Measured(0.0, 1.0)
    """Total variation between `Q(A | do(a), o)` and `P(A | m)`, from 0 to 1; finite where the KL is not."""
    action_tv_do_se = StandardError(action_tv_do)
    action_tv_see = Measured(0.0, 1.0)
    """Total variation between `Q(A | a, o)` and `P(A | m)`, from 0 to 1."""
    action_tv_see_se = StandardError(action_tv_see)
    observation_tv_do = Measured(0.0, 1.0)
    """Total variation between `Q(O | do(a), o)` and `P(O | m)`, from 0 to 1."""
    observation_tv_do_se = StandardError(observation_tv_do)
    observation_tv_see = Measured(0.0, 1.0)
    """Total variation between `Q(O | a, o)` and `P(O | m)`, from 0 to 1."""
    observation_tv_see_se = StandardError(observation_tv_see)
    action_log_loss = Measured()
    """`E[-log P(a_bar | m)]`, nats per action, where `a_bar` is the action that the expert would have taken."""
    action_log_loss_se = StandardError(action_log_loss)
    observation_log_loss = Measured()
    """`E[-log P(o | m)]`, nats per observation."""
    observation_log_loss_se = StandardError(observation_log_loss)
    action_calibration_gap = Measured()
    """Log-loss minus `E[H(P(A | m))]`, nats per action; 0 for a sober agent.

    It needs no exact answer. It is necessary and not sufficient: an agent that knows nothing can be calibrated too.
    """
    action_calibration_gap_se = StandardError(action_calibration_gap)
    observation_calibration_gap = Measured()
    """Log-loss minus `E[H(P(O | m))]`, nats per observation; 0 for a sober agent."""
    observation_calibration_gap_se = StandardError(observation_calibration_gap)
    reward = Measured()
    """The agent's reward per round."""
    reward_se = StandardError(reward)
    reward_expert = Measured()
    """The reward per round of the expert, who is shown theta, on its own histories."""
    reward_expert_se = StandardError(reward_expert)
    reward_exact_do = Measured()
    """The reward per round of the exact sober agent, the perfect imitator, on its own histories."""
    reward_exact_do_se = StandardError(reward_exact_do)
    reward_exact_see = Measured()
    """The reward per round of the exact deluded agent, on its own histories."""
    reward_exact_see_se = StandardError(reward_exact_see)
    reward_best = Measured()
    """The reward per round of the best policy found that is not shown theta, over at most 1,024 episodes.

    `notes["reward_best"]` names the policy, and says if it is optimal.
    """
    reward_best_se = StandardError(reward_best)
    reward_constant = Measured()
    """The reward per round of the best policy that always takes the same action.

    It is chosen on one half of at most 1,024 episodes, and measured on the other.
    """
    reward_constant_se = StandardError(reward_constant)
    imitation_gap_first = Measured(MIN_KL)
    """`E KL(Q(A_t | theta, e) || Q(A_t | do(a), o))` in the first round of the exact sober agent, nats.

    How much of the expert's knowledge the perfect imitator lacks.
    """
    imitation_gap_first_se = StandardError(imitation_gap_first)
    imitation_gap_last = Measured(MIN_KL)
    """The imitation gap in the last round, nats."""
    imitation_gap_last_se = StandardError(imitation_gap_last)
    deluded_fraction = Measured(0.0, 1.0)
    """The fraction of episodes at whose end the agent gives a wrong theta a probability above 0.9.

    By its own belief if it keeps one, otherwise by the belief that its policy implies.
    """
    deluded_fraction_se = StandardError(deluded_fraction)

    @property
    def verdict(self) -> Kind:
        """Whether the agent is sober or deluded, by its distances to both exact answers and their standard errors.

        - `"sober"`: at least five times nearer to the interventional answer than to the deluded one;
        - `"deluded"`: at least five times nearer to the deluded answer;
        - `"neither"`;
        - `"agree"`: both answers agree about actions on its histories, so that delusion would not show in them: the
          distances to both are below 0.001, or have the same means and standard errors, as KL and as total variation,
          and not by symmetry alone (`notes["answers_differ"]`);
        - `"undecided"`: the standard errors are too large to say;
        - `"unknown"`: a distance was not measured.
        """
        return judge(self.quantities, self.notes).kind

    def __str__(self) -> str:
        """Return the verdict, a line for each quantity that was measured, and the notes."""
        lines = [
            str(judge(self.quantities, self.notes)),
            f"{self.agent} on {self.task}; {describe_marks(self.agent, self.own_actions)}; "
            f"{self.num_episodes} episodes of {self.num_rounds} rounds",
        ]
        for name, quantity in self.quantities.items():
            if quantity.value is not None:
                error = "" if quantity.standard_error is None else f" +- {quantity.standard_error:.5f}"
                lines.append(f"  {name:28} {quantity.value:9.5f}{error}")
        return "\n".join([*lines, *describe_notes(self.quantities, self.notes)])

    def _repr_html_(self) -> str:
        from undelude._report.notebook import of_certificate  # In a notebook alone: it needs matplotlib.

        return of_certificate(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: `x` and `x_se` for each quantity; an infinite value is the string "inf"."""
        about = ("task", "agent", "own_actions", "num_episodes", "num_rounds", "seconds", "versions", "notes")
        data = {name: getattr(self, name) for name in about} | {"verdict": self.verdict}
        for name, quantity in self.quantities.items():
            data[name] = "inf" if quantity.value == math.inf else quantity.value
            data[f"{name}_se"] = quantity.standard_error
        return data

    def __getstate__(self) -> dict[str, Any]:
        """Return the state to pickle or copy: without the process and the agent, which may hold functions."""
        return self.__dict__ | {"measurement": None}

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the certificate and its page: `certificate.json`, `report.html`, and `episode.gif` if the task draws.

        An example episode is played for them, with the agent that was measured.

        Args:
            folder: it is made if it is not there; files of an earlier certificate are replaced.

        Returns:
            The page.

        >>> import jax
        >>> import undelude as ud
        >>> process = ud.tasks.bandit(num_rounds=3)
        >>> report = ud.delusion_gap(process, key=jax.random.key(0), num_episodes=64)  # doctest: +SKIP
        >>> report.save("certificates/deluded-bandit")  # doctest: +SKIP
        PosixPath('certificates/deluded-bandit/report.html')
        """
        from undelude._report.certificate_page import save_certificate  # Needs matplotlib and Jinja.

        return save_certificate(self, Path(folder))

    def html(self, file: str | os.PathLike[str]) -> Path:
        """Write the page of the certificate alone, as one file that needs no other; see `save`.

        Args:
            file: the page to write.

        Returns:
            The page.
        """
        from undelude._report.certificate_page import write_page  # Needs matplotlib and Jinja.

        return write_page(self, Path(file))


# The least and the greatest value that each quantity can have.
RANGES = {name: (x.low, x.high) for name, x in vars(Certificate).items() if isinstance(x, Measured)}
QUANTITIES = tuple(RANGES)


def certify(
    process: World,
    agent: AbstractAgent | HostAgent,
    *,
    key: Key[Array, ""],
    num_episodes: int = 4096,
    num_rounds: int | None = None,
    baselines: bool = True,
    on_progress: OnProgress | None = None,
) -> Certificate:
    """Let an agent act, and compare its predictions with both exact answers at every symbol of its own histories.

    Args:
        process: for the exact answers, with finitely many values of Theta; otherwise the quantities that need them are
            None. A simulator, such as `undelude.gym.HostWorld`, has exact answers about actions if theta shows in its
            cue alone.
        agent: any agent: exact, taught, your own, or one from outside JAX (`ud.HostAgent`).
        key: for sampling.
        num_episodes: B.
        num_rounds: T; by default, the number of rounds of the process.
        baselines: also measure the rewards of the expert, both exact agents and a planner.
        on_progress: called after each round that is played in Python, by a world or an agent that is not JAX, with
            the number of rounds so far, of all, and the party that acts. Compiled episodes call it never.

    Raises:
        ValueError: the agent was not taught the marks with which it reads its own actions, or its probabilities do not
            sum to one.

    Warns:
        UserWarning: imitation is the wrong goal on this process. The message, also in `notes["imitation"]`, says why.

    >>> import jax
    >>> import undelude as ud
    >>> process = ud.tasks.bandit(num_rounds=5)
    >>> report = ud.certify(process, ud.ExactAgent(process), key=jax.random.key(0), num_episodes=64, baselines=False)
    >>> abs(report.action_kl_do) < 1e-6 < report.action_kl_see
    True
    """
    process = sampled(process)
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}

    def measured() -> Baselines:
        return measure_baselines_of(process, key=key, on_progress=on_progress, **size)

    return certify_with(process, agent, measured if baselines else None, key=key, on_progress=on_progress, **size)


def measure_baselines_of(
    process: InteractionProcess | AbstractHostWorld,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    on_progress: OnProgress | None = None,
) -> Baselines:
    """Return the baselines of a certificate, of which all are known in a process alone."""
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}
    if isinstance(process, AbstractHostWorld):
        return measure_world_baselines(process, key=key, on_progress=on_progress, **size)
    return measure_baselines(process, key=key, **size)


def certify_with(
    process: InteractionProcess | AbstractHostWorld,
    agent: AbstractAgent | HostAgent,
    baselines: Callable[[], Baselines] | None,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    on_progress: OnProgress | None = None,
) -> Certificate:
    """Return `certify(...)` with the baselines that a function returns: they are the same for all agents."""
    if not isinstance(process, AbstractHostWorld):
        check_process(process)
    check_key(key)
    started = time.perf_counter()
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}
    if isinstance(agent, HostAgent):
        episodes, P_A, P_O = play(process, agent, key=key, on_progress=on_progress, **size)
        predictions = P_A, P_O
    else:
        episodes = run(run_once, process, agent, key=key, on_progress=on_progress, **size)
        predictions = None
    # A key that no episode was drawn from.
    key_estimates = jax.random.fold_in(key, num_episodes)
    if isinstance(process, AbstractHostWorld):
        found = measure_in_world(process, agent, episodes, key=key_estimates, predictions=predictions)
    else:
        found = measure(process, agent, episodes, key=key_estimates, predictions=predictions)
    if baselines is None:
        others, notes = dict.fromkeys(BASELINES, Quantity(why_none="not measured (baselines=False).")), {}
    else:
        others, notes = baselines()
    if isinstance(process, AbstractHostWorld) and (lost := process.failures_in_words()) is not None:
        notes = notes | {"failures": lost}
    quantities = {name: (found.quantities | others)[name] for name in QUANTITIES}
    notes = notes | {name: note for name, quantity in quantities.items() if (note := quantity.note) is not None}
    if warning := advise(quantities):
        notes["imitation"] = warning
        warnings.warn(f"{process.name}: {warning}", stacklevel=3)
    return Certificate(
        task=process.name,
        agent=type(agent).__name__,
        own_actions=agent.own_actions,
        num_episodes=num_episodes,
        num_rounds=episodes.num_rounds,
        seconds=time.perf_counter() - started,
        versions=versions(),
        notes=notes | found.notes,
        quantities=quantities,
        measurement=Measurement(process, agent, key, found.kl_by_round),
    )


def delusion_gap(
    process: InteractionProcess | AbstractHostWorld,
    *,
    key: Key[Array, ""],
    num_episodes: int = 4096,
    num_rounds: int | None = None,
    baselines: bool = True,
) -> Certificate:
    """Measure what delusion costs on a process: certify the exact deluded agent.

    `action_kl_do` is the cost in nats per action, and `reward_exact_do - reward` the cost in reward. The latter is
    negative if it pays on this process to commit to a theta, as a deluded agent does.

    Args:
        process: with finitely many values of Theta; or a world that runs in Python and has exact agents.
        key: for sampling.
        num_episodes: B.
        num_rounds: T; by default, the number of rounds of the process.
        baselines: as for `certify`; without them it takes about half the time.

    Returns:
        The certificate of the exact deluded agent.

    Raises:
        TypeError: there are no exact agents, such as if Theta is continuous.
    """
    deluded = process.exact_agent("see") if isinstance(process, AbstractHostWorld) else ExactAgent(process, "see")
    return certify(process, deluded, key=key, num_episodes=num_episodes, num_rounds=num_rounds, baselines=baselines)
