"""Behaviour cloning of the logs: what a sequence model learns from them without a model of the confounder."""

import dataclasses
import warnings
from typing import Unpack

from jaxtyping import Array, Key

from undelude._agents.base import AbstractAgent
from undelude._teaching.loop import Run, teach
from undelude._teaching.settings import Cloning
from undelude.offline._acting.dream import TeachOptions
from undelude.offline._data.demos import Demos
from undelude.offline._model.logs import EndBlindAgent, is_ragged, logged_process


def clone(
    demos: Demos,
    agent: AbstractAgent,
    *,
    key: Key[Array, ""],
    steps: int = 2000,
    observation_weight: float = 1.0,
    **options: Unpack[TeachOptions],
) -> Run:
    """Teach `agent` to predict the logs, by behaviour cloning: the comparison that an induced model has to beat.

    Its limit is `P(A_t+1 | a_1:t, o_1:t)`. That is the right policy if the demonstrators knew nothing that the logs do
    not show. If they did, the clone reads its own actions as evidence of what they knew, and deludes itself. The clone
    of a small log learns its episodes by heart: give few `steps`, or watch `on_log`.

    Args:
        demos: the logs. Episodes with interventions are left out, because their actions are not the demonstrators'.
        agent: to start from, made for the process of a fit to logs with the same columns. The clone can act there, and
            be certified.
        key: for all random draws.
        steps: updates; each reads `batch_size` episodes, drawn with replacement.
        observation_weight: of the observations' log-loss; classic cloning has 0.
        **options: of `ud.teach`, as in `ud.offline.dream`.

    Returns:
        The run of `ud.teach`.

    Raises:
        ValueError: every episode has an intervention.
        ValueError, TypeError, NotFinite, MemoryError: as `ud.teach`.

    Warns:
        UserWarning: episodes are left out.
    """
    demos = _cloned_logs(demos)
    ragged = is_ragged(demos)
    told = EndBlindAgent(agent) if ragged else agent
    teaching = Cloning("sample", observation_weight)
    run = teach(logged_process(demos), told, teaching, key=key, steps=steps, **options)
    return dataclasses.replace(run, agent=run.agent.agent) if ragged else run  # type: ignore[union-attr]


def _cloned_logs(demos: Demos) -> Demos:
    """Return the episodes that are the demonstrators' alone."""
    if not demos.has_interventions:
        return demos
    logs = demos.without_interventions()
    if not logs.num_episodes:
        raise ValueError(f"clone: every episode of {demos!r} has an intervention, so that there is nothing to clone.")
    warnings.warn(
        f"clone: {demos.num_episodes - logs.num_episodes} episodes with interventions are left out, because their "
        "actions are not the demonstrators'.",
        stacklevel=3,
    )
    return logs
