"""Demonstrations as histories of a process, and their likelihood under it."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from undelude._compiled import compiled
from undelude._process import inference
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos


def as_episodes(process: InteractionProcess, demos: Demos) -> Episodes:
    """Return demonstrations as histories of a process: interventions were done, all other actions were seen.

    Raises:
        ValueError: the columns are not those of the process.
    """

    def values(columns: dict[str, Any], shape: tuple[int, ...]) -> Any:
        symbol, reals = np.zeros(shape, np.int32), {}
        for name, own in demos.observations.items():
            found = columns[name].values if name in columns else np.zeros_like(own.values, shape=shape)
            if own.levels is None:
                reals[name] = found
            else:
                symbol = symbol * len(own.levels) + found
        finite = [name for name, own in demos.observations.items() if own.levels is not None]
        if not reals:
            return symbol
        return reals | ({finite[0] if len(finite) == 1 else "symbol": symbol} if finite else {})

    counts = [len(c.levels) for c in demos.observations.values() if c.levels is not None]
    for what, spec, n in (
        ("actions", process.specs[0], len(demos.action.levels or ())),
        ("observations", process.specs[1], math.prod(counts)),
    ):
        own = getattr(spec, "n", None)
        if own is not None and own != n:
            raise ValueError(
                f"{process.name} has {own} {what}, but the demonstrations have {n}: name all levels in their order "
                "when the demonstrations are read, as in levels={...: range(" + str(own) + ")}."
            )
    return Episodes.of(
        process,
        actions=demos.action.values,
        observations=values(demos.observations, demos.mask.shape),
        intervened=demos.intervened,
        opening=values(demos.opening, (demos.num_episodes,)) if process.opening else None,
        mask=demos.mask,
    )


@compiled
def _log_evidence(process: InteractionProcess, episodes: Episodes) -> Float[Array, " N"]:
    def of_one(episode: Episodes) -> Float[Array, ""]:
        belief, total = inference.init(process), jnp.zeros(())
        if episode.opening is not None:
            total = inference.predict_observation(process, belief).log_prob(episode.opening)
            belief = inference.update_observation(process, belief, episode.opening)

        def round(carry: tuple[Any, Array], x: tuple[Any, Array, Any, Array]) -> tuple[tuple[Any, Array], None]:
            belief, total = carry
            a, done, o, exists = x
            log_probability = jnp.where(done, 0, inference.predict_action(process, belief).log_prob(a))
            belief = inference.update_action(process, belief, a, done)
            log_probability += inference.predict_observation(process, belief).log_prob(o)
            # Evidence that no theta allows does not change the belief, so that no NaN follows it.
            return (
                inference.update_observation(process, belief, o),
                total + jnp.where(exists, log_probability, 0),
            ), None

        rounds = (episode.actions, episode.intervened, episode.observations, episode.mask)
        (_, total), _ = jax.lax.scan(round, (belief, total), rounds)
        return total

    return jax.vmap(of_one)(episodes)


def log_evidence(process: InteractionProcess, demos: Demos) -> Float[np.ndarray, " N"]:
    """Return the log-likelihood of each demonstration under a process, `log Q(a_1:T, o_1:T)`, nats.

    An intervened action has no factor.
    """
    return np.asarray(_log_evidence(process, as_episodes(process, demos)), np.float64)
