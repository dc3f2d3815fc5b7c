"""`TaskEnv`: a process as an environment of Gymnasium, one episode at a time."""

from collections.abc import Mapping
from typing import Any, Final

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree, UInt8

from undelude._checks import one_line
from undelude._distributions import Spec
from undelude._process.blank import FIRST, REST, blank, has_symbols
from undelude._process.process import InteractionProcess, check_process
from undelude._process.world import key_of
from undelude._rollout.checks import check_theta
from undelude._tree import Bound
from undelude._types import Observation
from undelude.gym._envs import episode
from undelude.gym._envs.picture import can_draw, picture
from undelude.gym._envs.spaces import check_action, observation_space, shown, space_of

# Rounds of a film in a second.
FPS = 4


METADATA: Final = {"render_modes": ["rgb_array"], "render_fps": FPS}


class TaskEnv(gymnasium.Env[Any, Any]):
    """A process as an environment of Gymnasium: the agent's side of one episode after the other.

    Every named task is registered: `gymnasium.make("undelude.gym:undelude/Bandit-v0")`; arguments of the task are
    arguments of `make`.

        reset   draws theta, unless `options={"theta": k}` gives its index, and shows the opening O_0
        step    plays an action and shows O_t; the reward is the task's
        ends    after T rounds by `truncated`, and by `terminated` if the task ends the episode (`AbstractTask.ends`)

    If Nature does not open, reset shows a blank, which no later observation equals: symbols and blocks have one value
    more than the process, n, and the blank is n; numbers are 0. An observation of numbers alone becomes a dict of
    `"observation"` and `"first"`, which is 1 in the blank and 0 later.

    The information describes the present state, at each step, for teaching and measurements. The agent must not see it.

        theta           the index of theta, or its value if Theta is continuous
        expert_probs    [A] probabilities of the expert's next action; of a block, an axis for each symbol
        expert_mean, expert_std    in place of `expert_probs`, if the action is normally distributed
        expert_action   a sample of that distribution
        belief_do       [K], P(theta | do(actions), observations), exact: own actions are interventions
        belief_see      [K], P(theta | actions, observations), the belief of the deluded agent

    The beliefs are missing if Theta is continuous, and the expert's distribution if it is of another kind. Episode n
    after `reset(seed=s)`, counted from 0, draws as episode n of `ud.rollout(..., key=jax.random.key(s))` does: with the
    same actions it has the same theta, observations and rewards, and a `ud.Policy` with the same seed the same actions.

    Args:
        process: with a task, an expert and a prior.
        render_mode: None, or `"rgb_array"`: `render` returns a picture by the task's `draw`, with the belief that reads
            actions as do.
        size: width of a picture in pixels.

    Raises:
        TypeError: `process` is not a process, or its actions or observations have no space in Gymnasium.
        ValueError: `render_mode` is another, or the task has no drawing.

    >>> import undelude as ud
    >>> import undelude.gym
    >>> env = undelude.gym.TaskEnv(ud.tasks.bandit(num_rounds=2))
    >>> o, info = env.reset(seed=0, options={"theta": 3})
    >>> print(o, info["expert_probs"].round(2))
    2 [0.1 0.1 0.1 0.6 0.1]
    >>> o, reward, terminated, truncated, info = env.step(3)
    >>> print(info["belief_do"].round(2), info["belief_see"].round(2))
    [0.14 0.14 0.14 0.43 0.14] [0.05 0.05 0.05 0.82 0.05]
    """

    metadata: dict[str, Any] = METADATA

    def __init__(self, process: InteractionProcess, render_mode: str | None = None, *, size: int = 240):
        check_process(process)
        check_render_mode(process, render_mode)
        self.process, self.render_mode, self.size = process, render_mode, size
        self.metadata = METADATA if can_draw(process) else METADATA | {"render_modes": []}
        self.observation_space, self.action_space = spaces(process)
        self._specs = process.specs  # Computing them takes as long as a step.
        self._begin, self._step = Bound(episode.begin, process), Bound(episode.step, process)
        self._key: Any = None
        self._number = 0
        self._state: episode.EpisodeState | None = None
        self._is_over = True
        self._last: Observation | None = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[PyTree, dict]:
        """Begin an episode.

        Args:
            seed: of this episode and all after it.
            options: `{"theta": k}` fixes the index of theta for this episode.

        Raises:
            ValueError: theta is outside the support, or an option is unknown.
        """
        super().reset(seed=seed)
        theta = read_options(options, {"theta"}).get("theta")
        if theta is not None:
            check_theta(self.process, theta)
        if seed is not None or self._key is None:
            number = seed if seed is not None else int(self.np_random.integers(2**31))
            self._key, self._number = key_of(number), 0
        arguments = (self._key, np.int32(self._number), *(() if theta is None else (jnp.int32(theta),)))
        self._state, outcome = self._begin(*arguments)
        self._number += 1
        outcome = episode.to_host(outcome)
        self._is_over, self._last = False, outcome.observation
        return self._show(outcome.observation), dict(outcome.info)

    def step(self, action: PyTree) -> tuple[PyTree, float, bool, bool, dict]:
        """Play one round.

        Raises:
            ValueError: the action is outside the action space.
            gymnasium.error.ResetNeeded: an episode must be begun first.
        """
        if self._is_over:
            raise gymnasium.error.ResetNeeded(f"{self.process.name}: no episode is under way; call reset() first.")
        a = check_action(self._specs[0], action, self.process.name)
        self._state, outcome = self._step(self._state, a)
        outcome = episode.to_host(outcome)
        terminated, truncated = bool(outcome.terminated), bool(outcome.truncated)
        self._is_over, self._last = terminated or truncated, outcome.observation
        return self._show(outcome.observation), float(outcome.reward), terminated, truncated, dict(outcome.info)

    def render(self) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return the present round as the task draws it; None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn('render() draws nothing without a render mode: make the env with "rgb_array".')
            return None
        if self._state is None:
            raise gymnasium.error.ResetNeeded(f"{self.process.name}: call reset() before render().")
        return picture(self.process, self._state, self._last, self.size)

    def _show(self, o: Observation | None) -> PyTree:
        return shown(self.observation_space, wrapped(self._specs[1], o, opening=self.process.opening))

    def __repr__(self) -> str:
        return f"<TaskEnv({self.process.name})>"


def spaces(process: InteractionProcess) -> tuple[Any, Any]:
    """Return the spaces of observations and of actions."""
    action, observation = process.specs
    seen = observation_space(observation, process.name, opening=process.opening)
    return seen, space_of(action, f"{process.name}: the action")


def wrapped(spec: Spec, o: Observation | None, *, opening: bool, num_envs: int | None = None) -> PyTree:
    """Return an observation as an environment shows it, and None as the blank.

    Args:
        spec: of observations.
        o: one observation, or a batch.
        opening: whether Nature opens, so that a blank is not needed.
        num_envs: the size of a batch; None for one observation.
    """
    lead = () if num_envs is None else (num_envs,)
    shown = o
    if o is None:
        shown = jax.tree.map(lambda x: np.broadcast_to(x, (*lead, *x.shape)), blank(spec))
    if opening or has_symbols(spec):
        return shown
    return {FIRST: np.full(lead, int(o is None)), REST: shown}


def check_render_mode(process: InteractionProcess, render_mode: str | None) -> None:
    """Raise `ValueError` if the process cannot be drawn in this way."""
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f'{process.name}: render_mode must be None or "rgb_array", not {one_line(repr(render_mode))}.')
    if render_mode is not None and not can_draw(process):
        raise ValueError(
            f"{process.name}: it has no drawing, because Theta is continuous; give {type(process.task).__name__} a "
            "method draw(frame, theta, w, belief), or make the environment without a render_mode."
        )


def read_options(options: Mapping[str, Any] | None, known: set[str]) -> dict[str, Any]:
    """Return the options of `reset` as a dict.

    Raises:
        ValueError: one is unknown.
    """
    options = dict(options or {})
    if unknown := options.keys() - known:
        raise ValueError(
            f"reset knows the options {', '.join(sorted(known))}, not {', '.join(sorted(map(str, unknown)))}."
        )
    return options
