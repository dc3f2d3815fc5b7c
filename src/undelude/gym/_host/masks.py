"""Masks of actions: which of them can be taken, and what is wrong with a party that takes another one."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

# Up to here a probability of the expert is rounding.
ROUNDING = 1e-6


def stack(masks: list[np.ndarray | None], num_actions: int) -> Float[np.ndarray, "B A"]:
    """Return the masks of a batch as 0 and 1; all actions of an episode that has ended can be taken.

    Raises:
        ValueError: a mask has another shape, or allows nothing.
    """
    for mask in masks:
        if mask is not None and mask.shape != (num_actions,):
            raise ValueError(f"the mask of actions has shape {mask.shape}; there are {num_actions} actions.")
        if mask is not None and not (mask > 0).any():
            raise ValueError("the mask of actions allows none of them, and the episode goes on.")
    rows = [np.ones(num_actions) if mask is None else mask > 0 for mask in masks]
    return np.stack(rows).astype(np.float32)


def advice_within(advice: Any, mask: Float[np.ndarray, " A"], action: int | None) -> Any:
    """Return what an expert answered, without the rounding errors of its probabilities.

    Args:
        advice: probabilities `[A]`, or an action.
        mask: of the actions.
        action: its number, if it is one.

    Raises:
        ValueError: it gives mass to an action that cannot be taken.
    """
    if action is not None:
        if mask[action] == 0:
            raise ValueError(f"the expert returned action {action}, which the mask of actions forbids.")
        return advice
    probs = np.asarray(advice, float)
    worst = int(np.argmax(np.where(mask == 0, probs, 0)))
    if mask[worst] == 0 and probs[worst] > ROUNDING:
        raise ValueError(
            f"the expert gives probability {probs[worst]:.3g} to action {worst}, which the mask of actions forbids. "
            "Take it away there; an expert with a third parameter, mask, is told the mask."
        )
    kept = np.where(mask == 0, 0.0, probs)
    return kept / kept.sum()


def check_played(a: Int[np.ndarray, " B"], masks: Float[np.ndarray, "B A"], is_open: Bool[np.ndarray, " B"]) -> None:
    """Raise `ValueError` if an action that is played cannot be taken."""
    wrong = np.flatnonzero(is_open & (masks[np.arange(len(a)), a] == 0))
    if len(wrong):
        raise ValueError(
            f"the agent took action {a[wrong[0]]}, which the mask of actions forbids. Networks of undelude read the "
            "mask, the part action_mask of an observation; another agent must give such actions probability 0."
        )


def nearest(a: Int[np.ndarray, " B"], masks: Float[np.ndarray, "B A"]) -> Int[np.ndarray, " B"]:
    """Return the actions, each of which cannot be taken replaced by the next one that can."""
    A = masks.shape[1]
    order = (a[:, None] + np.arange(A)) % A
    first = (np.take_along_axis(masks, order, 1) > 0).argmax(1)
    return order[np.arange(len(a)), first].astype(a.dtype)
