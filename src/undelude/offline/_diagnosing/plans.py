"""Plans: actions that are taken blindly at the start of new episodes, and their outcomes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from undelude._compiled import compiled
from undelude._process.episodes import AGENT, Episodes
from undelude._process.process import InteractionProcess
from undelude.offline._data.columns import Column
from undelude.offline._data.demos import Demos
from undelude.offline._model.process import ObservedFields

# Outcomes of a plan that are enumerated at most, and that are drawn if there are more.
MAX_ENUMERATED, NUM_DRAWN = 256, 512

# The codes of the actions of the first rounds.
Plan = tuple[int, ...]


def play(process: InteractionProcess, plan: Sequence[int], *, key: Key[Array, ""], num_episodes: int) -> Episodes:
    """Return episodes of a process in which the actions of a plan are taken, one a round, and nothing else."""
    return _play(process, jnp.asarray(plan, jnp.int32), jax.random.split(key, num_episodes))


@compiled
def _play(process: InteractionProcess, plan: Int[Array, " L"], keys: Key[Array, " B"]) -> Episodes:
    def one(key: Array) -> Episodes:
        key_begin, key_rounds = jax.random.split(key)
        state, opening = process.begin(key_begin)

        def round(state: Any, x: tuple[Array, Array]) -> tuple[Any, tuple[Any, Array]]:
            later, o, reward, _ = process.respond(state, *x)
            return later, (o, reward)

        _, (observations, reward) = jax.lax.scan(round, state, (plan, jax.random.split(key_rounds, len(plan))))
        yes = jnp.ones(len(plan), bool)
        return Episodes(
            theta=process.theta(state) if not process.theta_changes else None,
            opening=opening,
            actions=plan,
            observations=observations,
            executor=jnp.full(len(plan), AGENT),
            intervened=yes,
            expert=None,
            expert_actions=None,
            reward=reward,
            mask=yes,
        )

    return jax.vmap(one)(keys)


def enumerated(columns: Demos, plan: Plan) -> Demos | None:
    """Return every outcome of a plan once, or None if there are too many, or infinitely many."""
    fields = ObservedFields.of(columns)
    if fields.reals or columns.opening or fields.num_symbols ** len(plan) > MAX_ENUMERATED:
        return None
    symbols = np.stack([x.ravel() for x in np.indices((fields.num_symbols,) * len(plan))], -1)
    shape = symbols.shape
    values = fields.values(symbols)
    return Demos(
        Column("action", np.broadcast_to(np.asarray(plan, np.int32), shape), columns.action.levels),
        {name: Column(name, np.asarray(values[name], np.int32), c.levels) for name, c in columns.observations.items()},
        {},
        {},
        np.full(len(symbols), len(plan), np.int32),
        np.full(len(symbols), -1, np.int32),
        None,
        "plans",
        np.ones(shape, bool),
    )
