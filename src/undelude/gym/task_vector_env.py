"""`TaskVectorEnv`: episodes of a process side by side, as a vector environment of Gymnasium."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, PyTree

from undelude._checks import check_count
from undelude._process.blank import REST, has_symbols
from undelude._process.process import InteractionProcess, check_process
from undelude._process.world import key_of
from undelude._rollout.checks import check_theta
from undelude._tree import Bound, index
from undelude.gym._envs import episode
from undelude.gym._envs.picture import can_draw, picture
from undelude.gym._envs.spaces import check_action, shown
from undelude.gym.task_env import METADATA, check_render_mode, read_options, spaces, wrapped


class TaskVectorEnv(VectorEnv[Any, Any, Any]):
    """`num_envs` episodes of a process, which one compiled call steps.

    It is what `gymnasium.make_vec("undelude.gym:undelude/Bandit-v0", num_envs=64)` makes, and shows what
    `gymnasium.vector.SyncVectorEnv` shows of as many `TaskEnv` with the same seed: environment i is seeded with
    `seed + i`. The information has the entries of `TaskEnv` with a leading axis, and for each its mask, such as
    `_theta`: false in the rows that a `reset_mask` left as they were, or that did not end (`final_info`).

    Args:
        process: with a task, an expert and a prior.
        num_envs: the number of episodes.
        autoreset_mode: when an episode that has ended is followed by the next one.
            `NEXT_STEP`: at the next step, whose action is not played in that row; its reward is 0. Mask such steps out
            of a loss. `SAME_STEP`: at once; the last observation and information are `info["final_obs"]` and
            `info["final_info"]`. `DISABLED`: by `reset(options={"reset_mask": mask})`.
        render_mode: None, or `"rgb_array"`: `render` returns a picture of each episode.
        size: width of a picture in pixels.

    Raises:
        TypeError, ValueError: as `TaskEnv`.

    >>> import numpy as np
    >>> import undelude as ud
    >>> import undelude.gym
    >>> envs = undelude.gym.TaskVectorEnv(ud.tasks.bandit(), num_envs=3)
    >>> o, info = envs.reset(seed=0, options={"theta": [0, 1, 2]})
    >>> o.tolist(), info["theta"].tolist()
    ([2, 2, 2], [0, 1, 2])
    >>> envs.step(np.array([0, 1, 2]))[4]["belief_see"].shape
    (3, 5)
    """

    metadata: dict[str, Any] = METADATA

    def __init__(
        self,
        process: InteractionProcess,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        size: int = 240,
    ):
        check_process(process)
        check_render_mode(process, render_mode)
        self.process, self.render_mode, self.size = process, render_mode, size
        self.num_envs, self.autoreset_mode = check_count("num_envs", num_envs), AutoresetMode(autoreset_mode)
        self.metadata = METADATA | {"autoreset_mode": self.autoreset_mode}
        if not can_draw(process):
            self.metadata["render_modes"] = []
        self.single_observation_space, self.single_action_space = spaces(process)
        self._specs = process.specs  # Computing them takes as long as a step.
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        functions = episode.begin_all, episode.begin_some, episode.step_all
        self._begin_all, self._begin_some, self._step_all = (Bound(f, process) for f in functions)
        self._keys: Any = None
        self._numbers = np.zeros(self.num_envs, np.int32)
        self._states: Any = None
        self._over = np.ones(self.num_envs, bool)
        self._shown: Any = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> tuple[PyTree, dict[str, Any]]:
        """Begin episodes.

        Args:
            seed: environment i gets `seed + i`, or entry i of a list.
            options: `{"theta": k}` or `{"theta": [k_0, ..., k_(n-1)]}` fixes the indices of theta; `{"reset_mask":
                mask}` leaves the episodes in which it is false as they are.

        Raises:
            ValueError: an option or the number of seeds is wrong.
        """
        super().reset(seed=seed if isinstance(seed, int) else None)
        options = read_options(options, {"theta", "reset_mask"})
        mask = self._mask(options.get("reset_mask"))
        self._seed(seed)
        thetas = self._thetas(options["theta"]) if options.get("theta") is not None else None
        seen, info = self._start(mask, thetas)
        return seen, info | {name: mask for name in info if name.startswith("_")}

    def _mask(self, mask: Any) -> Bool[np.ndarray, " N"]:
        if mask is None:
            return np.ones(self.num_envs, bool)
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"reset_mask must be {self.num_envs} booleans, at least one of them true, not {mask.dtype}"
                f"{list(mask.shape)}."
            )
        if self._states is None and not mask.all():
            raise ValueError("the first reset must begin all episodes; leave out reset_mask.")
        return mask

    def _seed(self, seed: int | Sequence[int | None] | None) -> None:
        if isinstance(seed, int | np.integer):
            seeds: list[int | None] = [int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = [None] * self.num_envs if seed is None else [None if s is None else operator.index(s) for s in seed]
        if len(seeds) != self.num_envs:
            raise ValueError(f"{len(seeds)} seeds, but {self.num_envs} environments; give one for each, or one number.")
        known = self._keys
        if known is None:
            seeds = [int(self.np_random.integers(2**31)) if s is None else s for s in seeds]
        if all(s is None for s in seeds):
            return
        keys = [known[i] if s is None and known is not None else key_of(s or 0) for i, s in enumerate(seeds)]
        self._keys = jnp.stack(keys)
        self._numbers[[s is not None for s in seeds]] = 0

    def _thetas(self, theta: Any) -> Any:
        indices = np.broadcast_to(np.asarray(theta), self.num_envs) if np.size(theta) in (1, self.num_envs) else None
        if indices is None:
            raise ValueError(f"theta must be one index, or {self.num_envs}, not {np.size(theta)}.")
        for k in np.unique(indices):
            check_theta(self.process, k)
        return jnp.asarray(indices, jnp.int32)

    def _start(self, mask: Bool[np.ndarray, " N"], thetas: Any = None) -> tuple[PyTree, dict[str, Any]]:
        """Begin the next episode in the rows of `mask`."""
        more = () if thetas is None else (thetas,)
        if mask.all():
            self._states, outcome = self._begin_all(self._keys, self._numbers, *more)
        else:
            self._states, outcome = self._begin_some(self._states, mask, self._keys, self._numbers, *more)
        self._numbers = self._numbers + mask
        self._over = np.where(mask, False, self._over)
        outcome = episode.to_host(outcome)
        seen = shown(self.observation_space, self._wrapped(outcome.observation))
        self._shown = _merge(mask, (seen, outcome.info), self._shown)
        seen, info = self._shown
        return _copy(seen), self._with_masks(info)

    def step(self, actions: PyTree) -> tuple[PyTree, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play one round of all episodes.

        Raises:
            ValueError: an action is outside the action space.
            gymnasium.error.ResetNeeded: an episode is over and must be reset first.
        """
        if self._states is None:
            raise gymnasium.error.ResetNeeded(f"{self.process.name}: no episode is under way; call reset() first.")
        before = self._over
        if before.any() and self.autoreset_mode is not AutoresetMode.NEXT_STEP:
            raise gymnasium.error.ResetNeeded(
                f"{self.process.name}: {int(before.sum())} episodes are over, and autoreset_mode is "
                f'{self.autoreset_mode.name}; call reset(options={{"reset_mask": terminated | truncated}}) first.'
            )
        a = check_action(self._specs[0], actions, self.process.name, (self.num_envs,))
        zeros = np.zeros(self.num_envs)
        if before.all():
            seen, info = self._start(before)
            return seen, zeros, zeros.astype(bool), zeros.astype(bool), info
        self._states, outcome = self._step_all(self._states, a)
        outcome = episode.to_host(outcome)
        reward = np.where(before, 0.0, outcome.reward.astype(float))
        terminated, truncated = outcome.terminated & ~before, outcome.truncated & ~before
        seen = shown(self.observation_space, self._wrapped(outcome.observation))
        self._shown = seen, outcome.info
        self._over = over = terminated | truncated
        if before.any():
            seen, info = self._start(before)
            self._over = over
            return seen, reward, terminated, truncated, info
        if over.any() and self.autoreset_mode is AutoresetMode.SAME_STEP:
            final = {"final_obs": self._rows(seen, over), "_final_obs": over}
            final |= {"final_info": self._with_masks(outcome.info, over), "_final_info": over}
            seen, info = self._start(over)
            return seen, reward, terminated, truncated, info | final
        return _copy(seen), reward, terminated, truncated, self._with_masks(outcome.info)

    def _wrapped(self, o: PyTree) -> PyTree:
        return wrapped(self._specs[1], o, opening=self.process.opening, num_envs=self.num_envs)

    def _rows(self, seen: PyTree, over: Bool[np.ndarray, " N"]) -> np.ndarray:
        """Return the last observations of the episodes that are over, and None for the others, as Gymnasium does."""
        rows = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(over):
            rows[i] = jax.tree.map(lambda x: np.array(x)[()], index(seen, int(i)))
        return rows

    def _with_masks(self, info: dict[str, Any], mask: Any = None) -> dict[str, Any]:
        mask = np.ones(self.num_envs, bool) if mask is None else mask
        return dict(info) | {f"_{name}": mask for name in info}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Return a picture of each episode; None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn('render() draws nothing without a render mode: make the envs with "rgb_array".')
            return None
        if self._states is None:
            raise gymnasium.error.ResetNeeded(f"{self.process.name}: call reset() before render().")
        seen, _ = self._shown
        seen = seen if self.process.opening or has_symbols(self._specs[1]) else seen[REST]
        return tuple(self._picture(index(self._states, i), index(seen, i)) for i in range(self.num_envs))

    def _picture(self, state: episode.EpisodeState, o: PyTree) -> np.ndarray:
        return picture(self.process, state, o if self.process.opening or state.t > 0 else None, self.size)

    def __repr__(self) -> str:
        return f"TaskVectorEnv({self.process.name}, num_envs={self.num_envs})"


def _merge(mask: Bool[np.ndarray, " N"], new: PyTree, old: PyTree) -> PyTree:
    """Return `new` in the rows of `mask`, and `old` in the others."""
    if mask.all():
        return new

    def merge(x: Any, y: Any) -> np.ndarray:
        return np.where(mask.reshape(-1, *[1] * (np.ndim(x) - 1)), x, y)

    return jax.tree.map(merge, new, old)


def _copy(seen: PyTree) -> PyTree:
    return jax.tree.map(np.copy, seen)
