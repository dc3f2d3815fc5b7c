"""The environments of a vector environment, which start and step together."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from undelude._checks import one_line
from undelude.gym._host.cues import stacked
from undelude.gym._host.declared import check_observation
from undelude.gym._host.rows import Rows, host, is_torch, like, own

# In `Steps.ended`: this round began the next episode, and its action was not played.
BEGAN = 3
# Values of `metadata["autoreset_mode"]`, as Gymnasium writes them.
NEXT_STEP, SAME_STEP, DISABLED = "NextStep", "SameStep", "Disabled"
MODES = NEXT_STEP, SAME_STEP, DISABLED
# Names under which environments report the last observation of an episode that ended in this step.
FINAL = "final_obs", "final_observation"


class Steps(NamedTuple):
    """What N environments answered.

    Attributes:
        whole: whole observations; of the next episode where one ended and the lifetime goes on.
        advice: what an expert that lives beside the environments answered, if there is one.
        rewards: of the actions.
        ended: 0 if the episode goes on, 1 if it was terminated, 2 if it was truncated, `BEGAN`.
        is_finite: whether observations and rewards are.
    """

    whole: Rows
    advice: Any
    rewards: np.ndarray
    ended: np.ndarray
    is_finite: np.ndarray


def is_vector(env: Any) -> bool:
    """Return whether `env` is a vector environment, or has the shape of one."""
    return not isinstance(env, type) and all(hasattr(env, name) for name in ("num_envs", "reset", "step"))


class Together:
    """A vector environment, whose environments keep their contexts to the end of a lifetime.

    Args:
        env: the vector environment.
        set_context: `(env, contexts) -> observations or None`, after each reset; None if contexts go to `reset`.
        restarts: whether the lifetime goes on when an episode of the environment ends.
        make_expert: `(env, contexts) -> (observations -> advice)`, for an expert that lives beside the environments.
        ignores_masks: whether masks of actions that it reports are left unread.

    Raises:
        TypeError: the environment does not name its spaces or how it restarts.
        ValueError: it cannot keep its contexts.
    """

    def __init__(
        self,
        env: Any,
        set_context: Callable[[Any, Any], Any] | None,
        *,
        restarts: bool,
        make_expert: Callable[[Any, Any], Any] | None,
        ignores_masks: bool = False,
    ):
        self.ignores_masks = ignores_masks
        self.env, self.set_context, self.restarts, self.make_expert = env, set_context, restarts, make_expert
        self.name = type(getattr(env, "unwrapped", env)).__name__
        missing = [x for x in ("single_observation_space", "single_action_space") if not hasattr(env, x)]
        if missing:
            raise TypeError(f"{self.name} has no {missing[0]}: give it the space of one environment, of Gymnasium.")
        self.num_envs = int(env.num_envs)
        mode = (getattr(env, "metadata", None) or {}).get("autoreset_mode")
        self.mode = getattr(mode, "value", mode)
        if self.mode not in MODES:
            raise TypeError(
                f'{self.name}: metadata["autoreset_mode"] is {one_line(repr(mode))}, so that it is not known to which '
                'episode the observation after an end belongs. Set env.metadata = {"autoreset_mode": ...} to '
                '"SameStep" if the step that ends an episode returns the first observation of the next one, '
                '"NextStep" if the step after it does, "Disabled" if the environment waits for '
                'reset(options={"reset_mask": mask}).'
            )
        is_list = type(getattr(env, "unwrapped", env)).__name__ in ("SyncVectorEnv", "AsyncVectorEnv")
        if is_list and set_context is None:
            raise ValueError(
                f"{self.name} gives the same options to all its environments, so that they cannot have different "
                "contexts: give HostWorld the factory of one environment, or set_context=(envs, contexts)."
            )
        # Contexts are reset by us in one mode, and by `set_context` in the others.
        self._trusts = restarts and self.mode != DISABLED and set_context is None
        self.contexts: Any = None
        self.example: Any = None
        self._expert: Any = None
        self._begins = np.zeros(self.num_envs, bool)

    def begin(self, seed: int, contexts: Any) -> Steps:
        """Start all environments, from one seed, under these contexts."""
        self.contexts = contexts
        options = None if self.set_context is not None else {"context": contexts}
        observations, info = self.env.reset(seed=seed, options=options)
        if isinstance(info, dict) and info.get("action_mask") is not None and not self.ignores_masks:
            raise ValueError(
                f'{self.name} reports info["action_mask"], and masks of a vector environment are not read: give '
                "HostWorld the factory of one environment, or action_mask=False if agents may take any action."
            )
        observations = own(observations)
        self.example = jax.tree.leaves(observations)[0]
        self._begins[:] = False
        if self.set_context is not None:
            after = self.set_context(self.env, self.contexts)
            observations = observations if after is None else own(after)
        self._check_contexts(info, np.ones(self.num_envs, bool))
        if self.make_expert is not None:
            self._expert = self.make_expert(self.env, self.contexts)
        return self._steps(Rows(observations), np.zeros(self.num_envs, np.float32), np.zeros(self.num_envs, np.int32))

    def step(self, actions: Any) -> Steps:
        """Play actions, and begin the next episodes as the environment's mode says."""
        observations, reward, terminated, truncated, info = self.env.step(actions)
        whole = Rows(own(observations))
        terminated, truncated = host(terminated).astype(bool), host(truncated).astype(bool)
        ended = np.where(terminated, 1, np.where(truncated, 2, 0)).astype(np.int32)
        over = ended > 0
        match self.mode:
            case "NextStep":
                ended, began, self._begins = np.where(self._begins, BEGAN, ended), self._begins, over & ~self._begins
                whole = self._under_contexts(whole, began, info)
            case "SameStep":
                whole = self._under_contexts(whole, over, info) if self.restarts else self._last(whole, over, info)
            case _:
                fresh = self._reset(over, whole) if over.any() else whole
                whole = fresh if self.restarts else whole
        return self._steps(whole, host(reward).astype(np.float32), ended)

    def rows(self, values: Any) -> Rows:
        """Return observations or contexts in the library and on the device of the environment.

        Contexts that are not numbers stay as they are.
        """
        if isinstance(values, Rows):
            return values
        return Rows(jax.tree.map(self._as_env, stacked(values) if isinstance(values, list) else values))

    def _as_env(self, x: Any) -> Any:
        if not is_torch(x) and x.dtype.kind not in "biuf":
            return x
        if is_torch(x) and is_torch(self.example):
            return x.to(self.example.device)
        return like(host(x), self.example)

    def _reset(self, mask: np.ndarray, whole: Rows) -> Rows:
        """Start the environments of `mask` again, under the same contexts; the others must stay as they are."""
        options = {"reset_mask": mask.copy()} | ({} if self.set_context is not None else {"context": self.contexts})
        observations, info = self.env.reset(options=options)
        fresh = Rows(own(observations))
        if self.set_context is not None and (after := self.set_context(self.env, self.contexts)) is not None:
            fresh = Rows(own(after))
        if not mask.all() and (fresh.differs(whole) & ~mask).any():
            raise ValueError(
                f'{self.name}: reset(options={{"reset_mask": mask}}) or set_context changed environments outside the '
                'mask, in the middle of their episodes. A mode "Disabled" must reset those of the mask alone.'
            )
        self._check_contexts(info, mask)
        return fresh

    def _under_contexts(self, whole: Rows, began: np.ndarray, info: Any) -> Rows:
        """Return the observations after the environments of `began` started again by themselves."""
        if not (self.restarts and began.any()):
            return whole
        if self.set_context is not None:
            after = self.set_context(self.env, self.contexts)
            return whole if after is None else Rows(own(after)).where(began, whole)
        if not self._check_contexts(info, began) and self._trusts:
            warnings.warn(
                f"{self.name} starts its next episodes by itself, without a call of reset, and does not report "
                'info["context"], so that nobody checks that the context stays. If it draws another, labels are '
                'wrong: report it, or give set_context=, or take the mode "Disabled" or at_end="end".',
                stacklevel=2,
            )
            self._trusts = False
        return whole

    def _check_contexts(self, info: Any, which: np.ndarray) -> bool:
        """Raise if the environments report other contexts than ours; return whether they report any."""
        reported = info.get("context") if isinstance(info, dict) else None
        if reported is None or self.set_context is not None:
            return False
        reported, ours = host(reported), host(self.contexts)
        if reported.shape != ours.shape:
            return False
        # The environment may keep the context in fewer digits.
        is_real = ours.dtype.kind == "f"
        same = (np.isclose(reported, ours, 1e-5) if is_real else reported == ours).reshape(len(which), -1).all(1)
        if (wrong := np.flatnonzero(which & ~same)).size:
            i = int(wrong[0])
            raise ValueError(
                f"{self.name}: environment {i} began an episode under context {reported[i]}, and not under "
                f"{ours[i]}, which it was given for the whole lifetime. It must keep the context when it starts again; "
                'or give set_context=, or take the mode "Disabled" or at_end="end".'
            )
        return True

    def _last(self, whole: Rows, over: np.ndarray, info: Any) -> Rows:
        """Return the last observations of the episodes that ended: those in `whole` are of the next ones."""
        if not over.any():
            return whole
        final = next((info[name] for name in FINAL if isinstance(info, dict) and info.get(name) is not None), None)
        if final is None:
            raise ValueError(
                f"{self.name} returns the first observation of the next episode with the end of one, and does not "
                'report info["final_obs"], so that the last observation is not known. Report it, or let lifetimes go '
                'on, at_end="restart", or take the mode "Disabled".'
            )
        if isinstance(final, np.ndarray) and final.dtype == object:  # Gymnasium: one value for each that ended.
            some = next(x for x in final if x is not None)
            filled = [some if x is None else x for x in final]
            return self.rows(filled).where(over, whole)
        return Rows(own(final)).where(over, whole)

    def _steps(self, whole: Rows, rewards: np.ndarray, ended: np.ndarray) -> Steps:
        check_observation(self.name, self.env.single_observation_space, whole.batch, lead=(self.num_envs,))
        advice = None if self._expert is None else Rows(own(self._expert(whole.batch)))
        return Steps(whole, advice, rewards, ended, whole.finite() & np.isfinite(rewards))
