"""Expert and cue in exact answers, where the hidden numbers of an observation are NaN: they must not read them."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from undelude._agents.networks.action_mask import ACTION_MASK
from undelude._distributions import AbstractDistribution, Categorical, Normal
from undelude._process.episodes import Episodes
from undelude.gym._host.advice import batched
from undelude.gym._host.hiding import WHOLE
from undelude.gym._host.parts import ENDED, Moment
from undelude.gym._host.rows import host
from undelude.gym._host.spaces import read

if TYPE_CHECKING:
    from undelude.gym._host.simulated import AbstractSimulated

NO_DISTRIBUTION = "the expert returns actions and no distribution."
# Differences of a probability, and of a mean or a scale in units of the scale, that rounding to 32 bits explains.
SAME_PROBABILITY, SAME_NORMAL = 1e-3, 0.05
# The share of rounds in which an expert may jump between a number and the same number in 32 bits.
JUMPS = 0.01


def rebuild(world: "AbstractSimulated", seen: Float[np.ndarray, "B ..."]) -> list[np.ndarray]:
    """Return whole observations, with NaN in place of numbers that are hidden from the agent."""
    kept = world.visible.kept[WHOLE]
    whole = np.full((len(seen), *world.observation_space.shape), np.nan)
    whole[:, slice(None) if kept is None else kept] = seen
    return list(whole)


def masks_in(o: Any) -> np.ndarray | None:
    """Return the masks of actions in an observation; None without a mask."""
    return np.asarray(o[ACTION_MASK]) if ACTION_MASK in o else None


def advice_in_round(
    world: "AbstractSimulated", whole: list[np.ndarray], thetas: Int[np.ndarray, " N"], masks: np.ndarray | None, t: int
) -> AbstractDistribution | None:
    """Return the expert's distributions given observations without hidden numbers; None if it returns actions.

    Raises:
        ValueError: it fails, or its answers are not distributions.
    """
    try:
        return batched(world.ask(whole, thetas, masks), world.action_space, world.specs[0])[0]
    except Exception as error:
        raise ValueError(
            f"{world.name}, round {t}: asked for exact answers, the expert failed with {type(error).__name__}: {error} "
            f"{_what_to_do(world)}"
        ) from error


def check_one_moment(world: "AbstractSimulated", moment: Moment, theta: int, t: int) -> str | None:
    """Return why exact answers do not exist if the expert returns actions; None if it returns distributions.

    Raises:
        ValueError: it answers something else if it is not told the hidden numbers.
    """
    whole, seen, masks = _in_32_bits(world, moment), rebuild(world, _seen(moment)), masks_in(moment.o)
    thetas = np.full(len(whole), theta)
    answer = advice_in_round(world, seen, thetas, masks, t)
    if answer is None:
        return NO_DISTRIBUTION
    told = batched(world.ask(whole, thetas, masks), world.action_space, world.specs[0])[0]
    assert told is not None
    wrong = np.flatnonzero(_differ(told, answer, lead=1))
    if wrong.size:
        one, other = (_in_words(jax.tree.map(lambda x: np.asarray(x)[wrong[0]], Q)) for Q in (told, answer))
        raise ValueError(_reads_hidden(world, "the expert", theta, t, one, other))
    return None


def check_one_step(world: "AbstractSimulated", before: Moment, after: Moment, theta: int, t: int) -> None:
    """Raise `ValueError` if the cue has another distribution if it is not told the hidden numbers."""
    ended = after.o.get(ENDED, np.zeros(1, int))
    rows = np.flatnonzero(np.broadcast_to(np.asarray(ended) == 0, len(_seen(after))))
    if not rows.size:
        return
    thetas = np.full(len(rows), theta)
    told = world.tell(*([_in_32_bits(world, x)[i] for i in rows] for x in (before, after)), thetas=thetas)
    try:
        answer = world.tell(*([rebuild(world, _seen(x))[i] for i in rows] for x in (before, after)), thetas=thetas)
    except Exception as error:
        raise ValueError(
            f"{world.name}, round {t}: asked for exact answers, the cue failed with {type(error).__name__}: {error} "
            f"{_what_to_do(world)}"
        ) from error
    wrong = np.flatnonzero(np.abs(told - answer).max(-1) > SAME_PROBABILITY)
    if wrong.size:
        one, other = (_numbers(x[wrong[0]]) for x in (told, answer))
        raise ValueError(_reads_hidden(world, "the cue", theta, t, one, other))


def check_labels(world: "AbstractSimulated", episodes: Episodes, experts: AbstractDistribution) -> None:
    """Compare the expert's labels of stored episodes with its answers under the true context, without hidden numbers.

    Args:
        world: the world.
        episodes: `[B, T]`.
        experts: `[B, T + 1, K]`, the answers.

    Raises:
        ValueError: they differ in more rounds than rounding explains.
    """
    if episodes.theta is None or not isinstance(episodes.expert, type(experts)):
        return
    theta, mask = np.asarray(episodes.theta), np.asarray(episodes.mask)
    B, T = mask.shape
    rows = np.arange(B)[:, None], np.arange(T)[None], theta[:, None]
    answers = jax.tree.map(lambda x: np.asarray(x)[rows], experts)
    wrong = _differ(episodes.expert, answers, lead=2) & mask
    if wrong.sum() > JUMPS * mask.sum():
        i, t = (int(x[0]) for x in np.nonzero(wrong))
        one, other = (_in_words(jax.tree.map(lambda x: np.asarray(x)[i, t], Q)) for Q in (episodes.expert, answers))
        raise ValueError(_reads_hidden(world, "the expert", int(theta[i]), t, one, other))


def _reads_hidden(world: "AbstractSimulated", who: str, theta: int, t: int, one: str, other: str) -> str:
    return (
        f"{world.name}, round {t}, {world.context_in_words(theta)}: {who} answered {one} to the whole observation, and "
        f"{other} in exact answers. {_what_to_do(world)}"
    )


def _what_to_do(world: "AbstractSimulated") -> str:
    kept = world.visible.kept[WHOLE]
    if kept is None:
        return (
            "These ask about what the agent read, the observation in 32 bits: let the environment return float32, and "
            "the expert answer the same each time."
        )
    hidden = [i for i in range(world.observation_space.shape[0]) if i not in kept]
    where = hidden[0] if len(hidden) == 1 and np.ndim(world.context_at(0)) == 0 else hidden
    return (
        f"There the hidden numbers of an observation (hide={hidden}) are NaN. Take theta from the context in place of "
        f"them, such as by {world.filling.format(hidden=where)}."
    )


def _seen(moment: Moment) -> np.ndarray:
    return np.asarray(moment.o[WHOLE])


def _in_32_bits(world: "AbstractSimulated", moment: Moment) -> list[np.ndarray]:
    """Return whole observations, rounded as the agent sees them, so that only hidden numbers differ."""
    return list(np.asarray(read(world.visible.leaves[WHOLE], [host(x) for x in moment.whole]), float))


def _differ(one: AbstractDistribution, other: AbstractDistribution, *, lead: int) -> Bool[np.ndarray, "..."]:
    """Return which distributions of an expert differ by more than rounding; `lead` axes in front."""
    if isinstance(one, Categorical) and isinstance(other, Categorical):
        return np.asarray(np.abs(np.asarray(one.probs) - np.asarray(other.probs)).max(-1) > SAME_PROBABILITY)
    assert isinstance(one, Normal)
    assert isinstance(other, Normal)
    scale = np.asarray(one.scale)
    far = [np.abs(np.asarray(x) - np.asarray(y)) for x, y in ((one.loc, other.loc), (scale, other.scale))]
    differs = (far[0] > SAME_NORMAL * scale) | (far[1] > SAME_NORMAL * scale)
    return np.asarray(differs.reshape(*differs.shape[:lead], -1).any(-1))


def _in_words(Q: AbstractDistribution) -> str:
    if isinstance(Q, Categorical):
        return f"the probabilities {_numbers(np.exp(np.asarray(Q.log_probs)))}"
    assert isinstance(Q, Normal)
    return f"the mean {_numbers(Q.loc)}"


def _numbers(x: Any) -> str:
    return np.array2string(np.asarray(x, float), precision=3, separator=", ", threshold=8).replace("\n", "")
