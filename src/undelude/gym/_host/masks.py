"""Masks of actions: which of them can be taken, and what is wrong with a party that takes another one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from undelude._checks import check_probabilities
from undelude.gym._host.slots import Step

# Up to here a probability of the expert is rounding.
ROUNDING = 1e-6


class Masks:
    """What the environments of a world say of the actions that can be taken.

    Args:
        name: of the world, for messages.
        space: of actions.
        are_read: whether agents and expert are told the masks.
        are_ignored: whether the user left them unread.

    Raises:
        TypeError: masks are read, and actions are not Discrete.
    """

    def __init__(self, name: str, space: Any, *, are_read: bool, are_ignored: bool):
        if are_read and type(space).__name__ != "Discrete":
            raise TypeError(
                f"{name}: a mask of actions is for Discrete actions, and these are {space}: action_mask=False leaves "
                "it unread."
            )
        self.name, self.are_read, self.are_ignored = name, are_read, are_ignored
        self.num_actions = int(space.n) if are_read else 0
        self.start = int(space.start) if are_read else 0
        self._were_seen = False

    def of(self, is_open: Bool[np.ndarray, " B"], steps: Sequence[Step | None]) -> Float[np.ndarray, "B A"] | None:
        """Return which actions can be taken after these steps; None if masks are not read.

        Raises:
            ValueError: an environment gave no mask, or one that does not fit, or gave one for the first time.
        """
        found = [None if step is None else step.mask for step in steps]
        self._were_seen |= any(mask is not None for mask in found)
        if not self.are_read:
            if self._were_seen and not self.are_ignored:
                raise ValueError(
                    f'{self.name}: info["action_mask"] comes after a step and not after reset, so that no agent was '
                    "prepared for it: give action_mask=, a function of the environment, or False to leave it unread."
                )
            return None
        for i in np.flatnonzero(is_open):
            if found[i] is None:
                raise ValueError(f"{self.name}: the environment gave no mask of actions, as it did after reset.")
        try:
            return stack([x if each else None for x, each in zip(found, is_open, strict=True)], self.num_actions)
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def unread_in_words(self) -> str | None:
        """Return that there are masks which are not read; None if there are none."""
        if self.are_read or not self._were_seen:
            return None
        return (
            'The environment says which actions can be taken, info["action_mask"], and action_mask=False leaves it '
            "unread: agents and expert may take any."
        )

    def nearest_action(self, action: Any, step: Step) -> Any:
        """Return an action of the environment, or the next one that can be taken after `step`."""
        if (allowed := self.of(np.ones(1, bool), [step])) is None:
            return action
        return int(nearest(np.array([action - self.start]), allowed)[0]) + self.start


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
    check_probabilities(probs, "the expert's probabilities")
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
