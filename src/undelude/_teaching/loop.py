"""Teaching: one loop that collects episodes and learns from them (Section 4.1, Figure 4, Appendix A).

Three things about an action slot are independent: who executes, how the executed action is marked, what is scored.
Factual and counterfactual teaching, their mixtures, behaviour cloning and DAgger are settings of these three.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree

from undelude._agents.base import AbstractAgent, with_reading
from undelude._checks import check_between, check_count, check_key, one_line
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, World, check_world
from undelude._process.process import check_process
from undelude._rollout.checks import check_fit
from undelude._teaching.host_updates import Collect, HostUpdates, collect_in
from undelude._teaching.memory import bytes_needed, naming_batch_size
from undelude._teaching.settings import Teaching
from undelude._teaching.sharding import check_same, episodes_mesh, local, spread
from undelude._teaching.stored import StoredEpisodes
from undelude._teaching.updates import Finite, Learner, Losses, Progress, TeachingState
from undelude._tree import outline

Row = dict[str, int | float]
OnLog = Callable[[TeachingState, Row], None]
# Compiled updates: (arrays of the state, key, stop) -> progress.
Program = Callable[[PyTree, Key[Array, ""], int], Progress]


@dataclasses.dataclass(frozen=True)
class Run:
    """The result of `teach`.

    Attributes:
        agent: the taught agent; it reads its own actions as the teaching marked them.
        metrics: one row every `log_every` updates: `update`, `action_loss` and `observation_loss` (means since the last
            row, nats per symbol), and `seconds` of training so far, without compilation.
        state: to continue from (`teach(state=)`).
        seconds: of training.
        compile_seconds: of compilation.
    """

    agent: AbstractAgent
    metrics: list[Row] = dataclasses.field(repr=False)
    state: TeachingState = dataclasses.field(repr=False)
    seconds: float
    compile_seconds: float


class NotFinite(FloatingPointError):
    """Training stopped because a loss, a gradient or a step was not finite.

    Attributes:
        run: the run up to the last state whose losses were finite; with the same arguments, continuing from its state
            leads here again. A state that `on_log` has received is not taken back: if the loss of the very next update
            is not finite, the agent of the run is the one with this loss, and the message says so.
        update: the update that was not finite, counted from 1.
        terms: the numbers that were not finite: `action_loss`, `observation_loss`; if both are finite, `gradient`; if
            that is finite too, the optimiser's `step`.
    """

    def __init__(self, run: Run, update: int, terms: tuple[str, ...]):
        self.run = run
        self.update = update
        self.terms = terms
        left = int(run.state.update)
        # A loss is that of the agent before the update.
        has_this_loss = left == update - 1 and any(term.endswith("loss") for term in terms)
        agent = "the agent that is left has this loss, that" if has_this_loss else "the last good agent is that"
        super().__init__(
            f"{' and '.join(terms)} stopped being finite at update {update}; {agent} of update {left}. "
            "Lower the learning rate, or look for a distribution that gives zero mass."
        )


def teach(
    process: World,
    agent: AbstractAgent,
    teaching: Teaching,
    *,
    key: Key[Array, ""],
    steps: int = 2000,
    batch_size: int = 64,
    microbatch_size: int | None = None,
    reuse: int = 1,
    learning_rate: float = 3e-2,
    optimizer: optax.GradientTransformation | None = None,
    state: TeachingState | None = None,
    data: Episodes | None = None,
    log_every: int = 50,
    on_log: OnLog | None = None,
) -> Run:
    """Meta-train `agent` to predict the expert and Nature from its memory, and so to act as the expert would.

    Each update collects `batch_size` fresh episodes (every k-th update, with `reuse=k`) and descends

        action_weight * mean_t l(a_bar_t) + observation_weight * mean_t l(o_t).

    Appendix A holds for any behaviour that is not shown theta, so that an agent that keeps the whole history may
    learn from episodes of its own past self.

    Episode i of a batch that update u collects draws from `fold_in(fold_in(key, u), i)`. The batch is spread over all
    devices (on a CPU, set `JAX_NUM_CPU_DEVICES` to the number of cores), and the data do not depend on how many there
    are. If `jax.distributed` was initialised, these are the devices of all JAX processes: each calls `teach` with the
    same arguments, the agent, the state and the key are taken from process 0, and all return the same.

    Args:
        process: the prior, the task and the expert; or a world that runs in Python, such as `undelude.gym.HostWorld`.
        agent: to start from; it is not changed.
        teaching: `Counterfactual()`, `Factual()`, `Mixed()`, `Blind()`, `Cloning()`, `DAgger()`, `Interventional()`,
            or any `Teaching()`.
        key: for all random draws.
        steps: total updates, those of `state` included.
        batch_size: episodes per update.
        microbatch_size: episodes that a device differentiates at a time; by default all of its share. A small number
            saves memory in long episodes. The sum of the gradients is the same, to rounding.
        reuse: updates on each batch of episodes.
        learning_rate: at its peak; unused if `optimizer` is given.
        optimizer: any of Optax; by default Muon (Adam for parameters that are not matrices) with warm-up and cosine
            decay.
        state: continue from here, with the same optimiser; `agent` is then ignored. With the same `steps` too, the run
            equals an uninterrupted one. More `steps` make a finished run longer: with the default optimiser, the
            learning rate is then that of the longer schedule at this update.
        data: stored episodes to learn from in place of fresh ones, such as demonstrations. Update u draws `batch_size`
            of them, without replacement, by `fold_in(key, u)`. Actions are marked as the teaching says, by their
            executor. The data must support the teaching: actions that the expert executed support `Factual` and
            `Cloning`; actions of a party that is not shown theta, each with the expert's label (`expert_actions`, or
            the distribution `expert`), support `Counterfactual` and `Blind`; both together `Mixed` and `DAgger`.
        log_every: updates between two rows of metrics, rounded up to whole batches of `reuse` updates.
        on_log: called with the state and the row, after each row; before `NotFinite`, with the last good state too.

    Raises:
        TypeError: the process or its distributions lack something that the target needs; the agent has nothing to
            learn.
        ValueError: the agent or the state was made for something else; `reuse` with an agent of truncated memory that
            executes; `microbatch_size` does not divide the episodes of a device; several JAX processes do not compute
            the same, or cannot share the batch evenly; `data` is of another process, too small, not finite, or does
            not support the teaching.
        NotFinite: a loss, the gradient or a step is not finite. It says at which update, and holds the run up to the
            last good agent.
        MemoryError: the updates of a batch need more memory than there is.

    Warns:
        UserWarning: an agent with a truncated memory learns from actions that it did not execute (Remark 13).
    """
    loop = Loop(
        process,
        teaching,
        steps=steps,
        batch_size=batch_size,
        microbatch_size=microbatch_size,
        reuse=reuse,
        learning_rate=learning_rate,
        optimizer=optimizer,
        data=data,
        log_every=log_every,
    )
    return loop.run(loop.begin(agent) if state is None else state, key=key, on_log=on_log)


class Loop:
    """The loop of `teach`, compiled once for all agents of one structure; its arguments are those of `teach`."""

    def __init__(
        self,
        process: World,
        teaching: Teaching,
        *,
        steps: int = 2000,
        batch_size: int = 64,
        microbatch_size: int | None = None,
        reuse: int = 1,
        learning_rate: float = 3e-2,
        optimizer: optax.GradientTransformation | None = None,
        data: Episodes | None = None,
        log_every: int = 50,
    ):
        check_world(process)
        if not isinstance(teaching, Teaching):
            raise TypeError(f"teaching must be a ud.Teaching, such as ud.Counterfactual(), not {teaching!r}.")
        if teaching.target == "posterior":
            check_process(process).check_finite()
        self.process = process
        self.teaching = teaching
        self.steps = check_count("steps", steps)
        self.batch_size = check_count("batch_size", batch_size)
        self.reuse = check_count("reuse", reuse)
        self.log_every = -(-check_count("log_every", log_every) // self.reuse) * self.reuse
        if optimizer is None:
            optimizer = default_optimizer(learning_rate, self.steps)
        elif not all(callable(getattr(optimizer, name, None)) for name in ("init", "update")):
            raise TypeError(
                f"optimizer must be an Optax optimiser, such as optax.adam(1e-3), not {one_line(repr(optimizer))}."
            )
        self.optimizer = optimizer
        self.mesh = episodes_mesh(self.batch_size)
        self.share = self.batch_size // self.mesh.size
        self.microbatch_size = microbatch_size
        if microbatch_size is not None and self.share % check_count("microbatch_size", microbatch_size):
            raise ValueError(
                f"microbatch_size {microbatch_size} does not divide the {self.share} episodes that each of "
                f"{self.mesh.size} devices has of a batch of {self.batch_size}."
            )
        self.data = None if data is None else StoredEpisodes(process, teaching, data, self.batch_size)
        # The compiled updates, and the outline of the states that they take.
        self._compiled: tuple[Program, tuple] | None = None

    def begin(self, agent: AbstractAgent) -> TeachingState:
        """Return the state in which a run of `agent` begins."""
        return initial_state(agent, self.teaching, self.optimizer)

    def run(self, state: TeachingState, *, key: Key[Array, ""], on_log: OnLog | None = None) -> Run:
        """Make the remaining updates; the arguments are those of `teach`."""
        check_key(key)
        self._check_state(state)
        arrays, static = eqx.partition(state, eqx.is_array)
        arrays, key = spread((arrays, key), self.mesh)
        program, compile_seconds = self._program(arrays, static, key)

        def on_one_device(arrays: PyTree) -> TeachingState:
            # Later computations with a state on all devices would run once on each of them.
            return eqx.combine(local(arrays), static)

        metrics: list[Row] = []
        seconds, update, terms = 0.0, int(state.update), ()
        needed = bytes_needed(program)  # XLA takes a while to say so: not once a row.
        while update < self.steps and not terms:
            stop = min(self.steps, (update // self.log_every + 1) * self.log_every)
            started = time.perf_counter()
            with naming_batch_size(self.batch_size, needed, [*self.mesh.devices.flat]):
                progress = jax.block_until_ready(program(arrays, key, stop))
            seconds += time.perf_counter() - started
            if isinstance(program, HostUpdates):  # It compiles when it has the first batch.
                seconds, compile_seconds = seconds - program.compile_seconds + compile_seconds, program.compile_seconds
            last = int(eqx.combine(progress.arrays, static).update)
            terms = _not_finite(progress.finite)
            arrays, sums = progress.arrays, progress.sums
            if terms:
                arrays, sums = progress.good_arrays, progress.good_sums
            before, update = update, int(eqx.combine(arrays, static).update)
            if update > before:
                metrics.append({"update": update, **self._per_symbol(sums, update - before), "seconds": seconds})
                if on_log is not None:
                    on_log(on_one_device(arrays), metrics[-1])
        final = on_one_device(arrays)
        run = Run(final.agent, metrics, final, seconds, compile_seconds)
        if terms:
            raise NotFinite(run, last, terms)
        return run

    def _per_symbol(self, sums: Losses, num_updates: int) -> dict[str, float]:
        """Return the mean losses over the symbols that exist, from the sums over updates."""
        means = {name: float(x) / num_updates for name, x in sums.items()}
        if (existing := means.pop("existing", None)) is not None:
            T, opening = self.process.num_rounds, int(self.process.opening)
            means["action_loss"] /= existing
            means["observation_loss"] *= (T + opening) / (T * existing + opening)
        return means

    def _check_state(self, state: TeachingState) -> None:
        """Raise if this loop cannot continue `state`, or if other JAX processes have other settings."""
        if not isinstance(state, TeachingState):
            raise TypeError(f"state must be that of a run, such as run.state, not of type {type(state).__name__}.")
        agent, teaching = state.agent, self.teaching
        if agent.reading != teaching.reading:
            raise ValueError(
                f"state belongs to a teaching that marks actions {' and '.join(agent.marks)}, and {teaching.name} "
                f"marks them {' and '.join(teaching.marks)}: start again from its agent, "
                "teach(process, state.agent, ...)."
            )
        fresh = jax.eval_shape(self.optimizer.init, eqx.filter(agent, eqx.is_inexact_array))
        if jax.tree.structure(fresh) != jax.tree.structure(state.optimizer_state):
            raise ValueError(
                "state belongs to another optimizer: continue with that one, or start again from its agent, "
                "teach(process, state.agent, ...)."
            )
        _check_memory(agent, teaching, self.reuse, is_stored=self.data is not None)
        check_fit(self.process, agent)
        settings = (self.steps, self.batch_size, self.microbatch_size, self.reuse, self.log_every)
        check_same("steps, batch_size, microbatch_size, reuse or log_every", repr(settings))
        if isinstance(self.process, AbstractHostWorld):
            check_same("The world", self.process.settings_in_words())
        if self.data is not None and jax.process_count() > 1:
            check_same("data", self.data.digest())

    def _program(self, arrays: PyTree, static: TeachingState, key: Key[Array, ""]) -> tuple[Program, float]:
        """Return the compiled updates of such a state, and the seconds that compilation took."""
        structure = outline(eqx.combine(arrays, static))
        if self._compiled is not None and self._compiled[1] == structure:
            return self._compiled[0], 0.0
        started = time.perf_counter()
        learner = Learner(
            process=self.process,
            teaching=self.teaching,
            optimizer=self.optimizer,
            static=static,
            share=self.share,
            microbatch_size=self.microbatch_size,
            reuse=self.reuse,
            masked=self.process.ends_early if self.data is None else self.data.masked,
        )
        if (collect := self._collect_in_python()) is not None:
            executes = self.data is None and self.teaching.agent_executes
            self._compiled = HostUpdates(learner, self.mesh, collect, executes=executes), structure
            return self._compiled[0], 0.0
        lowered = learner.jit(self.mesh).lower(arrays, key, 0)
        if jax.process_count() > 1:
            check_same("What is computed", lowered.as_text())
        program = lowered.compile()
        self._compiled = program, structure
        return program, time.perf_counter() - started

    def _collect_in_python(self) -> Collect | None:
        """Return the function that collects the batch of an update; None if the compiled updates do."""
        if self.data is not None:
            data = self.data
            return lambda agent, key, update, rows, stopped: data.batch(key, update, rows)
        if isinstance(self.process, AbstractHostWorld):
            world, teaching = self.process, self.teaching
            return lambda agent, key, update, rows, stopped: collect_in(
                world, agent, teaching, key, update, self.batch_size, stopped, rows
            )
        return None


def initial_state(agent: AbstractAgent, teaching: Teaching, optimizer: optax.GradientTransformation) -> TeachingState:
    """Return the state in which a run of `teach` begins: the agent reads as the teaching marks, the optimiser is fresh.

    Raises:
        TypeError: the agent has nothing to learn.
    """
    if not isinstance(agent, AbstractAgent):
        raise TypeError(
            f"{type(agent).__name__} cannot be taught: `teach` traces the agent, so it must be a ud.AbstractAgent."
        )
    if not agent.trainable:
        raise TypeError(
            f"{type(agent).__name__} has nothing to learn: teach an agent with parameters of its own, such as "
            "ud.LSTMAgent."
        )
    agent = with_reading(agent, teaching.reading)
    return TeachingState(agent, optimizer.init(eqx.filter(agent, eqx.is_inexact_array)), jnp.zeros((), jnp.int32))


def _check_memory(agent: AbstractAgent, teaching: Teaching, reuse: int, *, is_stored: bool) -> None:
    """Reject data that a truncated-memory agent cannot learn from.

    It averages over forgotten steps under the policy that produced them, so that policy must be its current one
    (Remark 13).
    """
    if agent.full_history:
        return
    name = type(agent).__name__
    if reuse > 1 and teaching.agent_executes and not is_stored:
        raise ValueError(
            f"{name} has a truncated memory, and reuse={reuse} teaches it from episodes of its past selves. The "
            "memory means something else in those than in its own episodes (Remark 13), so that it would learn a wrong "
            "answer: use reuse=1, or an agent that keeps the whole history."
        )
    if "do" in teaching.marks and (is_stored or teaching.expert_share > 0 or teaching.behaviour is not None):
        of_stored = "stored episodes" if is_stored else f"{teaching.name} teaching"
        warnings.warn(
            f"{name} has a truncated memory, and in {of_stored} it does not execute all actions. It "
            "learns the right answer for the taught histories, and a wrong one for its own (Remark 13); "
            "ud.Counterfactual() with fresh episodes teaches the latter.",
            stacklevel=5,  # The caller of `teach`.
        )


def default_optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Return Muon for matrices and Adam for the rest, with a short warm-up and cosine decay to zero.

    On the bandit it reaches the certificate in fewer seconds than Adam alone; see benchmarks/README.md.
    """
    check_between("learning_rate", learning_rate, 0, math.inf, ends=False)
    warmup = min(10, steps)
    return optax.contrib.muon(optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1)))


def _not_finite(finite: Finite) -> tuple[str, ...]:
    """Return the terms that ended training: the losses, or the first of the others, which follow from each other.

    A gradient that is not finite does not end training if the optimiser makes a finite step of it.
    """
    terms = [name for name, is_finite in finite.items() if not is_finite]
    if losses := [name for name in terms if name.endswith("loss")]:
        return tuple(losses)
    return tuple(terms[:1]) if "step" in terms else ()
