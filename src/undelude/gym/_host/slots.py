"""Environments side by side, in this process or in workers. A failure costs the episode in which it happens."""

import dataclasses
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NamedTuple

import numpy as np

from undelude._versions import installing
from undelude.gym._host import declared
from undelude.gym._host.declared import NotAsDeclared, name_of_env

# Why an episode was lost.
Cause = Literal["error", "not finite", "timeout", "died", "not as declared"]


@dataclasses.dataclass(frozen=True)
class Failure:
    """The end of an episode that was lost.

    Attributes:
        cause: an exception of the environment, an observation or reward that is not finite, no answer within the time
            limit, the death of its process, or an answer that is not what it declares, which no other episode mends.
        message: the exception, or what is known.
        theta: the index of the context, since failures that depend on it bias what is left.
    """

    cause: Cause
    message: str
    theta: int


class Step(NamedTuple):
    """What an environment answered.

    Attributes:
        observation: the whole one; of the next episode if this one ended and the lifetime goes on.
        reward: of the action.
        ended: 0 if the episode goes on, 1 if it was terminated, 2 if it was truncated.
        advice: what the expert of this environment answered, if it lives beside it.
        mask: a number for each action, 0 if it cannot be taken now; None if the environment does not say.
    """

    observation: Any
    reward: float = 0.0
    ended: int = 0
    advice: Any = None
    mask: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to make and to start an environment; it is sent to worker processes.

    Attributes:
        makers: factories; one for each context if contexts are environments, otherwise one.
        set_context: `(env, context) -> observation or None`, after each reset; None if the context goes to `reset`.
        restarts: whether the environment starts again, with the same context, if its episode ends before the lifetime.
        make_expert: `(env, context) -> expert`, for an expert that lives beside the environment.
        action_mask: `env -> mask` of the actions that can be taken; None if it is `info["action_mask"]`.
        space: of observations; None if they are not checked.
    """

    makers: tuple[Callable[[], Any], ...]
    set_context: Callable[[Any, Any], Any] | None
    restarts: bool
    make_expert: Callable[[Any, Any], Any] | None = None
    action_mask: Callable[[Any], Any] | None = None
    space: Any = None


class Slot:
    """One environment at a time, with its context."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.envs: dict[int, Any] = {}
        self.theta, self.context, self.seed, self.restarts = 0, None, 0, 0
        self.expert: Any = None
        self.info: Any = None

    @property
    def env(self) -> Any:
        """The environment of the present context."""
        which = self.theta if len(self.recipe.makers) > 1 else 0
        if which not in self.envs:
            self.envs[which] = _make(self.recipe.makers[which])
        return self.envs[which]

    def begin(self, seed: int, theta: int, context: Any) -> Step:
        """Start an episode under a context."""
        self.theta, self.context, self.seed, self.restarts = theta, context, seed, 0
        return self._reset()

    def _reset(self) -> Step:
        by_reset = self.recipe.set_context is None and len(self.recipe.makers) == 1
        options = {"context": self.context} if by_reset else None
        name = name_of_env(self.env)
        observation, info = declared.reset(name, self.env, (self.seed + self.restarts) % 2**31, options)
        self.info = dict(info)
        if by_reset:
            declared.check_context(name, info, self.context)
        if self.recipe.set_context is not None:
            after = self.recipe.set_context(self.env, self.context)
            observation = observation if after is None else after
        if self.recipe.make_expert is not None:
            self.expert = self.recipe.make_expert(self.env, self.context)
        return Step(self._checked(observation), advice=self._advice(observation), mask=self._mask(info))

    def _checked(self, observation: Any) -> Any:
        """Return a copy of an observation, because environments may change theirs in place."""
        if self.recipe.space is not None:
            declared.check_observation(name_of_env(self.env), self.recipe.space, observation)
        return _finite_copy(observation)

    def _mask(self, info: Any) -> np.ndarray | None:
        found = info.get("action_mask") if self.recipe.action_mask is None else self.recipe.action_mask(self.env)
        return None if found is None else np.array(found, np.float32)

    def _advice(self, observation: Any) -> Any:
        return None if self.expert is None else self.expert(observation)

    def step(self, action: Any) -> Step:
        """Play an action; if the episode ends and the lifetime goes on, start the next one under the same context."""
        observation, reward, terminated, truncated, info = declared.step(name_of_env(self.env), self.env, action)
        self.info = dict(info)
        reward = float(reward)
        if not np.isfinite(reward):
            raise NotFinite(f"the reward is {reward}")
        ended = 1 if terminated else 2 if truncated else 0
        if ended and self.recipe.restarts:
            self.restarts += 1
            fresh = self._reset()
            return Step(fresh.observation, reward, ended, fresh.advice, fresh.mask)
        advice, mask = (None, None) if ended else (self._advice(observation), self._mask(info))
        return Step(self._checked(observation), reward, ended, advice, mask)

    def drop(self) -> None:
        """Close the environments: after a failure the next episode makes new ones."""
        for env in self.envs.values():
            try:
                env.close()
            except Exception:
                continue
        self.envs, self.expert = {}, None


def _make(maker: Callable[[], Any]) -> Any:
    """Return an environment.

    Raises:
        ModuleNotFoundError: it needs MuJoCo, which is not installed; the message says how it is.
    """
    try:
        return maker()
    except Exception as error:
        # By name, since worker processes need not import Gymnasium.
        if type(error).__name__ == "DependencyNotInstalled" and "mujoco" in str(error).lower():
            raise ModuleNotFoundError(f"the environment needs MuJoCo: {installing('mujoco')}.") from error
        raise


class NotFinite(ValueError):
    """An environment answered with NaN or infinity."""


def _finite_copy(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: _finite_copy(x) for key, x in observation.items()}
    if isinstance(observation, tuple):
        return tuple(_finite_copy(x) for x in observation)
    if isinstance(observation, str):
        return observation
    x = np.array(observation)
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise NotFinite("the observation has numbers that are not finite")
    return x


# Seconds within which a worker must have imported the user's modules.
START_LIMIT = 120


@dataclasses.dataclass
class _Worker:
    """A process, our end of its pipe, and whether it has said that it is ready."""

    process: Any
    connection: Connection
    is_ready: bool = False


# One call of a slot: its number, the method, the arguments.
Call = tuple[int, Literal["begin", "step"], tuple]


def _run(slot: Slot, method: str, arguments: tuple) -> Step | Failure:
    try:
        return slot.begin(*arguments) if method == "begin" else slot.step(*arguments)
    except NotFinite as error:
        failure = Failure("not finite", str(error), slot.theta)
    except NotAsDeclared as error:
        failure = Failure("not as declared", str(error), slot.theta)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f" ({last.filename}, line {last.lineno})"
        failure = Failure("error", f"{type(error).__name__}: {error}{where}", slot.theta)
    slot.drop()
    return failure


class Here:
    """Slots in this process, one call after the other. There is no time limit: nothing could interrupt a call."""

    def __init__(self, recipe: Recipe, num_slots: int):
        self.slots = [Slot(recipe) for _ in range(num_slots)]

    def call(self, calls: Sequence[Call]) -> list[Step | Failure]:
        """Return the answers in the order of the calls."""
        return [_run(self.slots[i], method, arguments) for i, method, arguments in calls]

    def close(self) -> None:
        """Close all environments."""
        for slot in self.slots:
            slot.drop()


class InWorkers:
    """Slots in worker processes, for environments whose steps take more than about a millisecond.

    A worker that gives no answer within the limit, or dies, costs the present episodes of its own slots, and is
    replaced.

    Args:
        recipe: of the environments.
        num_slots: in all.
        num_workers: processes.
        method: `"forkserver"` or `"spawn"`. After a fork, JAX may hang.
        timeout: seconds within which a worker must answer.
    """

    def __init__(self, recipe: Recipe, num_slots: int, num_workers: int, method: str, timeout: float):
        import cloudpickle

        self.recipe = cloudpickle.dumps(recipe)
        self.num_workers, self.timeout = min(num_workers, num_slots), timeout
        self.context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            # Imported once, by the server of which workers are forks; it uses no device.
            self.context.set_forkserver_preload(["undelude.gym._host.slots", "gymnasium"])
        # None: it is started by the next call.
        self.workers: list[Any] = [self._start() for _ in range(self.num_workers)]
        self.thetas: dict[int, int] = {}

    def _start(self) -> "_Worker":
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_serve, args=(theirs, self.recipe), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def call(self, calls: Sequence[Call]) -> list[Step | Failure]:
        """Return the answers in the order of the calls; the workers compute side by side."""
        by_worker: dict[int, list[int]] = {}
        for at, (i, method, arguments) in enumerate(calls):
            by_worker.setdefault(i % self.num_workers, []).append(at)
            if method == "begin":
                self.thetas[i] = arguments[1]
        answers: dict[int, Step | Failure] = {}
        asked: set[int] = set()
        # They compute side by side, so that all have the same time, and many that hang cost no more than one.
        deadline = time.monotonic() + self.timeout
        try:
            for w, each in by_worker.items():
                asked.add(w)
                if not self._send(w, [calls[at] for at in each]):
                    asked.remove(w)
            for w, each in by_worker.items():
                found = self._receive(w, deadline) if w in asked else Failure("died", "its process was gone", 0)
                asked.discard(w)
                if isinstance(found, Failure):
                    found = [dataclasses.replace(found, theta=self.thetas.get(calls[at][0], 0)) for at in each]
                    self._end(w)
                for at, answer in zip(each, found, strict=True):
                    answers[at] = answer
        except BaseException:  # Such as Ctrl-C: an answer that comes later must not be taken for that of a later call.
            for w in asked:
                self._end(w)
            raise
        return [answers[at] for at in range(len(calls))]

    def _send(self, w: int, calls: list[Call]) -> bool:
        if self.workers[w] is None:
            self.workers[w] = self._start()
        try:
            self.workers[w].connection.send(calls)
        except OSError:
            return False
        return True

    def _receive(self, w: int, deadline: float) -> list[Step | Failure] | Failure:
        worker = self.workers[w]
        try:
            if not worker.is_ready:  # A worker imports the user's modules first; that is not a step.
                if not worker.connection.poll(START_LIMIT):
                    return Failure("timeout", f"its process did not start within {START_LIMIT} s", 0)
                worker.connection.recv()
                worker.is_ready = True
                deadline = time.monotonic() + self.timeout
            if not worker.connection.poll(max(0.0, deadline - time.monotonic())):
                return Failure("timeout", f"no answer within {self.timeout:g} s", 0)
            return worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join(1)
            return Failure("died", f"its process ended with exit code {worker.process.exitcode}", 0)

    def _end(self, w: int) -> None:
        """End a worker; the next call starts another."""
        worker, self.workers[w] = self.workers[w], None
        if worker is not None:
            worker.connection.close()
            worker.process.kill()
            worker.process.join()

    def close(self) -> None:
        """End the workers."""
        workers = [worker for worker in self.workers if worker is not None]
        for worker in workers:
            worker.connection.close()
        for worker in workers:
            worker.process.join(1)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _serve(connection: Connection, recipe: bytes) -> None:
    """Answer calls until the connection ends, also if the parent process dies."""
    import signal

    import cloudpickle

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    made, slots = cloudpickle.loads(recipe), {}
    connection.send("ready")
    while True:
        try:
            calls = connection.recv()
        except (EOFError, OSError):
            break
        answers = [_run(slots.setdefault(i, Slot(made)), method, arguments) for i, method, arguments in calls]
        try:
            connection.send(answers)
        except OSError:
            break
    for slot in slots.values():
        slot.drop()


def _end_with_parent() -> None:
    """End this process with its parent, also if an environment hangs and reads no connection."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
