"""Teaching: one loop that collects episodes and learns from them (Section 4.1, Figure 4, Appendix A).

Three things about an action slot are independent: who executes, how the executed action is marked, what is scored.
Factual and counterfactual teaching, their mixtures, behaviour cloning and DAgger are settings of them.
"""

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree

from undelude._agents.base import AbstractAgent, with_marks
from undelude._agents.exact import ExactAgent, ThompsonAgent
from undelude._agents.planning import PlanningAgent
from undelude._agents.tempered import TemperedAgent
from undelude._checks import check_between, check_count, check_key, one_line
from undelude._process.process import InteractionProcess, check_process
from undelude._rollout.checks import check_fit
from undelude._teaching.settings import AbstractTeaching
from undelude._teaching.sharding import check_same, episodes_mesh, local, spread
from undelude._teaching.updates import TeachingState, compile_updates

Row = dict[str, int | float]


@dataclasses.dataclass(frozen=True)
class Run:
    """What `teach` returns.

    Attributes:
        agent: taught; it reads its own actions as the teaching marked them.
        metrics: one row every `log_every` updates: `update`, `action_loss` and `observation_loss` (means since the last
            row, nats per symbol), `seconds` of training so far, compilation apart.
        state: to go on from (`teach(state=)`).
        seconds: of training.
        compile_seconds: of compilation.
    """

    agent: AbstractAgent
    metrics: list[Row] = dataclasses.field(repr=False)
    state: TeachingState = dataclasses.field(repr=False)
    seconds: float
    compile_seconds: float


class NotFinite(FloatingPointError):
    """Training met a number that is not finite, and stopped.

    Attributes:
        run: up to the last state whose losses were finite: its agent, metrics, and the state to go on from, which with
            the same arguments leads here again. The state of a row that `on_log` has seen is not taken back: where the
            loss of the very next update is not finite, the agent is the one that has it, and the message says so.
        update: the one that was not finite, counted from 1.
        terms: those of it that were not: `action_loss`, `observation_loss`; while both are finite, `gradient`; while
            that is finite too, the optimiser's `step`.
    """

    def __init__(self, run: Run, update: int, terms: tuple[str, ...]):
        self.run, self.update, self.terms = run, update, terms
        left = int(run.state.update)
        # A loss is that of the agent before the update.
        seen = left == update - 1 and any(term.endswith("loss") for term in terms)
        what = "the agent that is left has this loss, that" if seen else "the last good agent is that"
        super().__init__(
            f"{' and '.join(terms)} stopped being finite at update {update}; {what} of update {left}. "
            "Lower the learning rate, or look for a distribution that gives zero mass."
        )


def teach(
    process: InteractionProcess,
    agent: AbstractAgent,
    teaching: AbstractTeaching,
    *,
    key: Key[Array, ""],
    steps: int = 2000,
    batch_size: int = 64,
    microbatch_size: int | None = None,
    reuse: int = 1,
    learning_rate: float = 3e-2,
    optimizer: optax.GradientTransformation | None = None,
    state: TeachingState | None = None,
    log_every: int = 50,
    on_log: Callable[[TeachingState, Row], None] | None = None,
) -> Run:
    """Meta-train `agent` to predict expert and Nature from its memory, and so to act as the expert would.

    Each update collects `batch_size` fresh episodes (every k-th, with `reuse=k`) and descends

        mean_t l(a_bar_t) + observation_weight * mean_t l(o_t).

    Appendix A holds for whatever theta-blind behaviour executed: an agent that keeps the whole history may go on
    learning from episodes of its own past self.

    Episode i of a batch that update u collects draws from `fold_in(fold_in(key, u), i)`; the batch is spread over all
    devices (on a CPU, set `JAX_NUM_CPU_DEVICES` to the number of cores), and the data do not depend on how many there
    are. Where `jax.distributed` was initialised, they are those of all processes: each calls `teach` with the same
    arguments, the agent, the state and the key are those of process 0, and all return the same.

    Args:
        process: the tasks and their expert.
        agent: to start from; it is not changed.
        teaching: `Counterfactual()`, `Factual()`, `Mixed()`, `Blind()`, `Cloning()`, `DAgger()`, or any `Teaching()`.
        key: of all that is drawn.
        steps: updates in all, those of `state` included.
        batch_size: episodes an update.
        microbatch_size: episodes that a device learns from at a time, all of its share by default. The sum of their
            gradients is the same to rounding, and what is kept for it takes so much less memory: for long episodes.
        reuse: updates on each batch of episodes.
        learning_rate: at its peak; unused where `optimizer` is given.
        optimizer: any of Optax; by default Muon (Adam for what is no matrix) with warm-up and cosine decay.
        state: go on from here, with the same `steps` and optimizer; `agent` is then ignored.
        log_every: updates between two rows of metrics, rounded up to whole batches of `reuse` updates.
        on_log: called with the state and the row, after each; before `NotFinite`, with the last good state too.

    Raises:
        TypeError: the target needs what the process or its distributions do not have; the agent has nothing to learn.
        ValueError: the agent or the state was made for something else; `reuse` of what an agent with a truncated memory
            executed; several processes that do not compute the same, or cannot share the batch evenly.
        NotFinite: a loss, the gradient or a step is no longer finite; it says at which update, and holds the run up to
            the last good agent.
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
        log_every=log_every,
    )
    return loop.run(loop.begin(agent) if state is None else state, key=key, on_log=on_log)


class Loop:
    """The loop of `teach`, compiled once for all agents of one structure; its arguments are those of `teach`."""

    def __init__(
        self,
        process: InteractionProcess,
        teaching: AbstractTeaching,
        *,
        steps: int = 2000,
        batch_size: int = 64,
        microbatch_size: int | None = None,
        reuse: int = 1,
        learning_rate: float = 3e-2,
        optimizer: optax.GradientTransformation | None = None,
        log_every: int = 50,
    ):
        check_process(process)
        if not isinstance(teaching, AbstractTeaching):
            raise TypeError(f"teaching must be an instance, such as ud.Counterfactual(), not {teaching!r}.")
        if teaching.target == "posterior":
            process.check_finite()
        self.process, self.teaching = process, teaching
        self.steps, log_every = check_count("steps", steps), check_count("log_every", log_every)
        self.batch_size, self.reuse = check_count("batch_size", batch_size), check_count("reuse", reuse)
        if optimizer is not None and not all(callable(getattr(optimizer, f, None)) for f in ("init", "update")):
            raise TypeError(
                f"optimizer must be one of Optax, such as optax.adam(1e-3), not {one_line(repr(optimizer))}."
            )
        self.log_every = -(-log_every // self.reuse) * self.reuse
        self.optimizer = default_optimizer(learning_rate, self.steps) if optimizer is None else optimizer
        self.mesh = episodes_mesh(self.batch_size)
        self.microbatch_size = microbatch_size
        share = self.batch_size // self.mesh.size
        if microbatch_size is not None and share % check_count("microbatch_size", microbatch_size):
            raise ValueError(
                f"microbatch_size {microbatch_size} does not divide the {share} episodes that each of {self.mesh.size} "
                f"devices has of a batch of {self.batch_size}."
            )
        # The program, and the structure of the states that it takes.
        self._compiled: tuple[Any, Any] | None = None

    def begin(self, agent: AbstractAgent) -> TeachingState:
        """Where a run begins from `agent`."""
        return initial_state(agent, self.teaching, self.optimizer)

    def run(
        self,
        state: TeachingState,
        *,
        key: Key[Array, ""],
        on_log: Callable[[TeachingState, Row], None] | None = None,
    ) -> Run:
        """All updates that are left."""
        check_key(key)
        if not isinstance(state, TeachingState):
            raise TypeError(f"state must be that of a run, such as run.state, not of type {type(state).__name__}.")
        teaching, steps = self.teaching, self.steps
        if (state.agent.own_actions, state.agent.marks) != (teaching.mark, teaching.marks):
            raise ValueError(
                f"state belongs to a teaching that marks actions {' and '.join(state.agent.marks)}, and "
                f"{type(teaching).__name__} marks them {' and '.join(teaching.marks)}: "
                "begin anew from its agent, teach(process, state.agent, ...)."
            )
        fresh = jax.eval_shape(self.optimizer.init, eqx.filter(state.agent, eqx.is_inexact_array))
        if jax.tree.structure(fresh) != jax.tree.structure(state.optimizer_state):
            raise ValueError(
                "state belongs to another optimizer: go on with that one, or begin anew from its agent, "
                "teach(process, state.agent, ...)."
            )
        _check_memory(state.agent, teaching, self.reuse)
        check_fit(self.process, state.agent)
        settings = (steps, self.batch_size, self.microbatch_size, self.reuse, self.log_every)
        check_same("steps, batch_size, microbatch_size, reuse or log_every", repr(settings))
        arrays, static = eqx.partition(state, eqx.is_array)
        arrays, key = spread((arrays, key), self.mesh)
        run, compile_seconds = self._program(arrays, static, key)

        def here(arrays: PyTree) -> TeachingState:
            # On one device: left as it is, on all of them, whatever used it next would run once on each.
            return eqx.combine(local(arrays), static)

        metrics, seconds, update = [], 0.0, int(eqx.combine(arrays, static).update)
        broken = None
        while update < steps:
            stop = min(steps, (update // self.log_every + 1) * self.log_every)
            started = time.perf_counter()
            new, losses, finite = jax.block_until_ready(run(arrays, key, stop))
            seconds += time.perf_counter() - started
            if terms := _not_finite(finite):
                # Made once more, the same updates end with the last state whose losses were finite.
                broken = int(eqx.combine(new, static).update), terms
                good = broken[0] - (2 if terms[0] in losses else 1)
                steps = max(update, good // self.reuse * self.reuse)
                continue
            row = {
                "update": stop,
                **{name: float(loss) / (stop - update) for name, loss in losses.items()},
                "seconds": seconds,
            }
            arrays, update = new, stop
            metrics.append(row)
            if on_log is not None:
                on_log(here(arrays), row)
        state = here(arrays)
        result = Run(state.agent, metrics, state, seconds, compile_seconds)
        if broken is not None:
            raise NotFinite(result, *broken)
        return result

    def _program(self, arrays: PyTree, static: Any, key: Array) -> tuple[Any, float]:
        """The compiled updates for such a state, and how long that took."""
        shapes = jax.tree.map(lambda x: (x.shape, x.dtype), arrays)
        structure = shapes, jax.tree.structure(static), jax.tree.leaves(static)
        if self._compiled is not None and self._compiled[1] == structure:
            return self._compiled[0], 0.0
        started = time.perf_counter()
        job = (
            self.process,
            self.teaching,
            self.optimizer,
            static,
            self.batch_size,
            self.microbatch_size,
            self.reuse,
            self.mesh,
        )
        lowered = compile_updates(*job).lower(arrays, key, 0)
        if jax.process_count() > 1:
            check_same("What is computed", lowered.as_text())
        run = lowered.compile()
        self._compiled = run, structure
        return run, time.perf_counter() - started


def initial_state(
    agent: AbstractAgent, teaching: AbstractTeaching, optimizer: optax.GradientTransformation
) -> TeachingState:
    """Where a run of `teach` begins: `agent`, reading the mark that the teaching gives, and a fresh optimiser.

    Raises:
        TypeError: the agent has nothing to learn.
    """
    learner = agent
    while isinstance(learner, TemperedAgent):
        learner = learner.agent
    if isinstance(learner, ExactAgent | ThompsonAgent | PlanningAgent):
        raise TypeError(f"{type(learner).__name__} has nothing to learn: its parameters are the process's.")
    if not isinstance(agent, AbstractAgent):
        raise TypeError(
            f"{type(agent).__name__} cannot be taught here: `teach` traces it, and it is no ud.AbstractAgent."
        )
    agent = with_marks(agent, teaching.mark, teaching.marks)
    return TeachingState(agent, optimizer.init(eqx.filter(agent, eqx.is_inexact_array)), jnp.zeros((), jnp.int32))


def _check_memory(agent: AbstractAgent, teaching: AbstractTeaching, reuse: int) -> None:
    """Reject data that a truncated-memory agent cannot learn from.

    It averages over forgotten steps under the policy that produced them, so that policy must be its current one
    (Remark 13).
    """
    if agent.full_history:
        return
    name = type(agent).__name__
    if reuse > 1 and teaching.agent_executes:
        raise ValueError(
            f"{name} has a truncated memory, and reuse={reuse} teaches it from episodes of its past selves. What it "
            "remembers then means something else than in its own episodes (Remark 13), so that it learns a wrong "
            "answer; use reuse=1, or an agent that keeps the whole history."
        )
    if "do" in teaching.marks and (teaching.expert_share > 0 or teaching.behaviour is not None):
        warnings.warn(
            f"{name} has a truncated memory, and in {type(teaching).__name__} others execute too. It learns the right "
            "answer for their histories, and a wrong one for its own (Remark 13); ud.Counterfactual() teaches the "
            "latter.",
            stacklevel=4,  # Where `teach` was called.
        )


def default_optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """Muon for matrices and Adam for the rest, with a short warm-up and cosine decay to zero.

    On the bandit it reaches the certificate in fewer seconds than Adam alone; see benchmarks/README.md.
    """
    check_between("learning_rate", learning_rate, 0, math.inf, ends=False)
    warmup = min(10, steps)
    return optax.contrib.muon(optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1)))


def _not_finite(finite: dict[str, Array]) -> tuple[str, ...]:
    """The terms that ended training, if any: both losses, or the first of the others, which follow from one another.

    A gradient that is not finite ends nothing where the optimiser makes a finite step of it.
    """
    terms = [name for name, is_finite in finite.items() if not is_finite]
    if losses := [name for name in terms if name.endswith("loss")]:
        return tuple(losses)
    return tuple(terms[:1]) if "step" in terms else ()
