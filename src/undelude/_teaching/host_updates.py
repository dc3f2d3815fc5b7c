"""The updates of teaching on batches from Python: played by a world that runs there, or drawn from stored episodes."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key, PyTree

from undelude._agents.base import AbstractAgent
from undelude._process.episodes import Episodes
from undelude._rollout.host import Execution, play
from undelude._teaching.settings import Teaching
from undelude._teaching.sharding import check_same, local
from undelude._teaching.updates import Learner, Progress, actor_of

# `(agent, key, update, rows, stopped) -> episodes`: those of a batch with the numbers `rows`; `stopped` is set if they
# are not wanted any more.
Collect = Callable[[AbstractAgent, Key[Array, ""], int, Int[np.ndarray, " n"], threading.Event], Episodes]


class HostUpdates:
    """The updates of `teach`, as `Learner.until` makes them, on episodes that Python collects.

    While the learner works on one batch, a thread collects the next one with the weights from before that batch.
    Appendix A holds for any behaviour that is not shown theta, so that the agent learns the same from them. An agent
    with a truncated memory is not given such episodes (Remark 13): it collects and learns in turn.

    Of several JAX processes each collects the episodes of its own devices, in environments of its own.

    The first batch of each call is collected with the present weights. A run that continues at such a point is
    therefore the same, whether or not it was interrupted there.

    Args:
        learner: the compiled part.
        mesh: the devices over which a batch is spread.
        collect: the episodes of an update, in NumPy.
        executes: whether the agent executes actions in them.

    Attributes:
        compile_seconds: the time that compilation took, once the first batch was learned from.
    """

    def __init__(self, learner: Learner, mesh: Mesh, collect: Collect, *, executes: bool):
        self.learner, self.collect, self.executes = learner, collect, executes
        self.spread = NamedSharding(mesh, PartitionSpec("episodes"))
        own = [i for i, device in enumerate(mesh.devices.flat) if device.process_index == jax.process_index()]
        self.rows = np.concatenate([i * learner.share + np.arange(learner.share) for i in own])
        everywhere, split = PartitionSpec(), PartitionSpec("episodes")

        def learn(progress: Progress, batch: Episodes, starts_batch: Array) -> Progress:
            return learner.learn(progress, batch, starts_batch=starts_batch)

        mapped = jax.shard_map(
            learn, mesh=mesh, in_specs=(everywhere, split, everywhere), out_specs=everywhere, check_vma=False
        )
        self._jitted = jax.jit(mapped)
        self._learn: Any = None
        self.compile_seconds = 0.0
        self._stopped = threading.Event()

    def __call__(self, arrays: PyTree, key: Key[Array, ""], stop: int) -> Progress:
        """Make updates up to number `stop`, or up to the first one that is not finite."""
        learner, progress = self.learner, self.learner.start(arrays)
        update = self._update_of(progress)
        overlaps = eqx.combine(arrays, learner.static).agent.full_history or not self.executes
        self._stopped.clear()
        with ThreadPoolExecutor(1) as executor, self._stopping():
            waiting: Future[Episodes] | None = None
            while update < stop and bool(progress.is_finite):
                batch = self._collect(progress.arrays, key, update) if waiting is None else waiting.result()
                last, waiting = min(update + learner.reuse, stop), None
                if overlaps and last < stop:
                    waiting = executor.submit(self._collect, progress.arrays, key, last)
                batch = jax.tree.map(self._place, batch)
                for i in range(update, last):
                    progress = self._step(progress, batch, jnp.asarray(i == update))
                    if not bool(progress.is_finite):
                        break
                update = self._update_of(progress)
            if waiting is not None:
                waiting.result()
        return progress

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Stop the thread that collects if the block ends with an error, such as Ctrl-C: its episodes are not used."""
        try:
            yield
        except BaseException:
            self._stopped.set()
            raise

    def _place(self, x: np.ndarray) -> Array:
        """Return an array of this process's episodes as its part of that of the whole batch."""
        return jax.make_array_from_process_local_data(self.spread, x)

    def _step(self, progress: Progress, batch: Episodes, starts_batch: Array) -> Progress:
        if self._learn is None:
            started = time.perf_counter()
            lowered = self._jitted.lower(progress, batch, starts_batch)
            if jax.process_count() > 1:
                check_same("What is computed", lowered.as_text())
            self._learn = lowered.compile()
            self.compile_seconds = time.perf_counter() - started
        return self._learn(progress, batch, starts_batch)

    def _collect(self, arrays: PyTree, key: Key[Array, ""], update: int) -> Episodes:
        agent = eqx.combine(local(arrays), self.learner.static).agent
        return self.collect(agent, local(key), update, self.rows, self._stopped)

    def _update_of(self, progress: Progress) -> int:
        return int(eqx.combine(progress.arrays, self.learner.static).update)


def collect_in(
    world: Any,
    agent: AbstractAgent,
    teaching: Teaching,
    key: Key[Array, ""],
    update: int,
    num_episodes: int,
    stopped: threading.Event | None = None,
    rows: Int[np.ndarray, " n"] | None = None,
) -> Episodes:
    """Return the episodes of an update, executed and marked as `teaching` says; those with the numbers `rows` alone."""
    actor = actor_of(world, agent, teaching)
    marks = (teaching.agent_mark == "do", teaching.expert_mark == "do")
    reads = (actor.own_actions == "do", False) if actor is not None and teaching.behaviour is not None else marks
    execution = Execution(marks, reads, teaching.expert_share, teaching.per)
    key = jax.random.fold_in(key, update)
    size = {"num_episodes": num_episodes if rows is None else len(rows), "stopped": stopped, "ids": rows}
    episodes, _, _ = play(world, actor, key=key, execution=execution, predicts=False, **size)
    return jax.tree.map(np.asarray, episodes)
