"""The compiled part of teaching: collect a batch of episodes, differentiate its losses, make a step."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jax.stages import Wrapped
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._agents.base import AbstractAgent, AbstractSequenceAgent, Predictions, check_mark
from undelude._agents.fixed import FixedPolicy
from undelude._distributions import AbstractDistribution, Categorical, Symbols, num_symbols, spec_of
from undelude._process.episodes import Episodes
from undelude._process.host_world import World
from undelude._process.process import InteractionProcess
from undelude._process.world import AbstractWorld
from undelude._rollout.checks import check_fit
from undelude._rollout.scan import run_episode
from undelude._teaching.losses import log_losses, score
from undelude._teaching.settings import Behaviour, Teaching
from undelude._tree import index

# The episodes of an update, or the keys to sample them from.
Batch = Episodes | Key[Array, " B"]
# The batch means of `action_loss` and `observation_loss` over all T rounds, nats, 0 after an early end. If rounds may
# be missing, also `existing`, the share of rounds that exist.
Losses = dict[str, Float[Array, ""]]
# True for each loss, for "gradient" and for "step" (the parameters after it) if all its numbers are finite.
Finite = dict[str, Bool[Array, ""]]


class TeachingState(eqx.Module):
    """The state of a run. A run that continues from it, with the same key, goes on as if it had never stopped.

    Attributes:
        agent: after `update` updates.
        optimizer_state: of Optax.
        update: the number of updates made.
    """

    agent: AbstractAgent
    optimizer_state: PyTree
    update: Int[Array, ""]


class Progress(eqx.Module):
    """The carry of the compiled loop: the arrays of the present state, and of the last good one.

    Attributes:
        arrays: of the state.
        sums: the losses, summed over the updates so far.
        good_arrays: of the last state at the start of a batch whose losses there were finite, or of the first state.
        good_sums: the losses, summed up to that state.
        finite: of the last update.
    """

    arrays: PyTree
    sums: Losses
    good_arrays: PyTree
    good_sums: Losses
    finite: Finite

    @property
    def is_finite(self) -> Bool[Array, ""]:
        """True if training can go on. The gradient may be infinite if the optimiser makes a finite step of it."""
        return self.finite["action_loss"] & self.finite["observation_loss"] & self.finite["step"]


class Learner(eqx.Module):
    """The updates of `teach`, compiled: no Python runs between them.

    The methods see the part of a batch that one device has; `jit` runs them on all devices of a mesh, with the axis
    `"episodes"`.

    Attributes:
        process: the process that the episodes are from.
        teaching: how they are executed, marked and scored.
        optimizer: of Optax.
        static: a state without its arrays.
        share: episodes of a batch that one device has.
        microbatch_size: episodes that a device differentiates at a time; None for all.
        reuse: updates on each batch.
        masked: whether rounds of an episode may be missing.
    """

    process: World
    teaching: Teaching
    optimizer: optax.GradientTransformation = eqx.field(static=True)
    static: TeachingState
    share: int = eqx.field(static=True)
    microbatch_size: int | None = eqx.field(static=True)
    reuse: int = eqx.field(static=True)
    masked: bool = eqx.field(static=True)

    @property
    def compiled(self) -> AbstractWorld:
        """The world, which must be a compiled one: the updates themselves collect episodes."""
        assert isinstance(self.process, AbstractWorld)
        return self.process

    def jit(self, mesh: Mesh) -> Wrapped:
        """Return `until` as a jitted function of `(arrays, key, stop)` on all devices of `mesh`."""

        # A closure makes the arrays of the process constants of the program.
        def until(arrays: PyTree, key: Key[Array, ""], stop: Int[Array, ""]) -> Progress:
            return self.until(arrays, key, stop)

        everywhere = PartitionSpec()
        return jax.jit(jax.shard_map(until, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False))

    def start(self, arrays: PyTree) -> Progress:
        """Return the carry before the first update."""
        names = ("action_loss", "observation_loss", *(["existing"] if self.masked else []))
        zero = dict.fromkeys(names, jnp.zeros(()))
        finite = dict.fromkeys((*zero, "gradient", "step"), jnp.ones((), bool))
        return Progress(arrays, zero, arrays, zero, finite)

    def until(self, arrays: PyTree, key: Key[Array, ""], stop: Int[Array, ""]) -> Progress:
        """Make updates up to number `stop`, or up to the first one that is not finite."""

        def collect_and_learn(progress: Progress) -> Progress:
            state = eqx.combine(progress.arrays, self.static)
            batch = self.collect(state, key)
            if self.reuse == 1:
                return self.learn(progress, batch, starts_batch=True)
            start = state.update
            last = jnp.minimum(start + self.reuse, stop)

            def learn(progress: Progress) -> Progress:
                update = eqx.combine(progress.arrays, self.static).update
                return self.learn(progress, batch, starts_batch=update == start)

            return jax.lax.while_loop(lambda progress: self.goes_on(progress, last), learn, progress)

        return jax.lax.while_loop(lambda progress: self.goes_on(progress, stop), collect_and_learn, self.start(arrays))

    def goes_on(self, progress: Progress, stop: Int[Array, ""]) -> Bool[Array, ""]:
        """Return whether another update is to be made before number `stop`."""
        return (eqx.combine(progress.arrays, self.static).update < stop) & progress.is_finite

    def learn(self, progress: Progress, batch: Batch, *, starts_batch: Bool[Array, ""] | bool) -> Progress:
        """Make one update, and remember the state before it if a batch starts there and its losses are finite."""
        state, losses, finite = self.step(eqx.combine(progress.arrays, self.static), batch)
        is_good = finite["action_loss"] & finite["observation_loss"] & starts_batch
        good_arrays, good_sums = jax.tree.map(
            lambda new, old: jnp.where(is_good, new, old),
            (progress.arrays, progress.sums),
            (progress.good_arrays, progress.good_sums),
        )
        sums = jax.tree.map(jnp.add, progress.sums, losses)
        return Progress(eqx.filter(state, eqx.is_array), sums, good_arrays, good_sums, finite)

    def collect(self, state: TeachingState, key: Key[Array, ""]) -> Batch:
        """Return the batch of the next update: episodes, or keys if `losses` samples and scores in one pass."""
        ids = jax.lax.axis_index("episodes") * self.share + jnp.arange(self.share)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, state.update), ids)
        if self.reuse == 1 and _learns_as_it_acts(state.agent, self.teaching):
            return keys
        return jax.vmap(lambda key: collect(self.compiled, state.agent, self.teaching, key))(keys)

    def step(self, state: TeachingState, batch: Batch) -> tuple[TeachingState, Losses, Finite]:
        """Return the state after one step of the optimiser, the losses before it, and which numbers were finite."""
        params, frozen = eqx.partition(state.agent, eqx.is_inexact_array)
        losses, gradient = jax.lax.pmean(self.gradient(state.agent, batch), "episodes")
        with jax.numpy_dtype_promotion("standard"):  # Optax does not run under "strict".
            step, optimizer_state = self.optimizer.update(gradient, state.optimizer_state, params)
            params = optax.apply_updates(params, step)
        finite = {name: _all_finite(tree) for name, tree in (*losses.items(), ("gradient", gradient), ("step", params))}
        agent: PyTree = eqx.combine(params, frozen)
        return TeachingState(agent, optimizer_state, state.update + 1), losses, finite

    def gradient(self, agent: AbstractAgent, batch: Batch) -> tuple[Losses, PyTree]:
        """Return the mean losses and the gradient of their weighted sum, `microbatch_size` episodes at a time."""
        params, frozen = eqx.partition(agent, eqx.is_inexact_array)

        def differentiate(batch: Batch) -> tuple[Losses, PyTree]:
            (_, losses), gradient = jax.value_and_grad(self.losses, has_aux=True)(params, frozen, batch)
            return losses, gradient

        if self.microbatch_size is None:
            return differentiate(batch)
        num_parts = self.share // self.microbatch_size
        parts = jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), batch)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(differentiate, index(parts, 0)))

        def add(sums: tuple[Losses, PyTree], part: Batch) -> tuple[tuple[Losses, PyTree], None]:
            return jax.tree.map(jnp.add, sums, differentiate(part)), None

        sums, _ = jax.lax.scan(add, zero, parts)
        return jax.tree.map(lambda x: x / num_parts, sums)

    def losses(self, params: PyTree, frozen: PyTree, batch: Batch) -> tuple[Float[Array, ""], Losses]:
        """Return the weighted sum of `action_loss` and `observation_loss`, and the batch means of which it consists."""
        agent = eqx.combine(params, frozen)
        action, observation, exists = jax.vmap(lambda x: self._episode_losses(agent, x))(batch)
        losses = {"action_loss": action.mean(), "observation_loss": observation.mean()}
        loss = self.teaching.observation_weight * losses["observation_loss"]
        if self.teaching.action_weight > 0:  # A loss that is not taught may be infinite.
            loss = loss + self.teaching.action_weight * losses["action_loss"]
        return loss, losses | ({"existing": exists.mean()} if self.masked else {})

    def _episode_losses(
        self, agent: AbstractAgent, episode: Episodes | Key[Array, ""]
    ) -> tuple[Float[Array, " T"], Float[Array, " T0"], Bool[Array, " T"]]:
        """Return the losses of a stored episode, or of the one that is sampled from a key, and which rounds exist."""
        target = self.teaching.target
        known = self.process if isinstance(self.process, InteractionProcess) else None
        if isinstance(episode, Episodes):
            return *log_losses(agent, episode, target=target, process=known), episode.mask
        sampled, predictions = _collect(self.compiled, agent, self.teaching, episode, predicts=True)
        assert predictions is not None
        return *score(predictions, sampled, target, known), sampled.mask


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def collect(process: AbstractWorld, agent: AbstractAgent, teaching: Teaching, key: Key[Array, ""]) -> Episodes:
    """Sample one episode, executed and marked as `teaching` says; it carries no gradient."""
    return _collect(process, agent, teaching, key, predicts=False)[0]


def _collect(
    process: AbstractWorld, agent: AbstractAgent, teaching: Teaching, key: Key[Array, ""], *, predicts: bool
) -> tuple[Episodes, Predictions | None]:
    actor, reads = actor_of(process, agent, teaching), None
    if actor is not None and teaching.behaviour is not None:
        reads = (actor.own_actions == "do", False)
    return run_episode(
        process,
        actor,
        key,
        num_rounds=process.num_rounds,
        marks=(teaching.agent_mark == "do", teaching.expert_mark == "do"),
        reads=reads,
        expert_share=teaching.expert_share,
        per=teaching.per,
        predicts=predicts,
    )


def actor_of(process: World, agent: AbstractAgent, teaching: Teaching) -> AbstractAgent | None:
    """Return the agent that executes the actions which the expert does not; None if the expert executes all."""
    if teaching.expert_share == 1:
        # The agent executes nothing: `predict` has it read the stored episode.
        return None
    if teaching.behaviour is None:
        return agent
    actor = _actor(process, teaching.behaviour)
    if teaching.expert_share > 0:
        check_mark(actor, "see")
    return actor


def _learns_as_it_acts(agent: AbstractAgent, teaching: Teaching) -> bool:
    """Return whether each episode is sampled and scored in one pass; the gradient is the same, to rounding.

    This saves stepping through the episode a second time, if the agent executes and acts by what it predicts.
    """
    stepwise = agent.predicts_stepwise if isinstance(agent, AbstractSequenceAgent) else True
    return teaching.agent_executes and stepwise and type(agent).act is AbstractAgent.act


def _actor(process: World, behaviour: Behaviour) -> AbstractAgent:
    if isinstance(behaviour, AbstractAgent):
        check_mark(behaviour, behaviour.own_actions)
        check_fit(process, behaviour)
        return behaviour
    spec = process.action_spec
    if isinstance(behaviour, AbstractDistribution):
        if not spec.agrees(own := spec_of(behaviour)):
            raise ValueError(f"{process.name} has actions of {spec}, but the behaviour's distribution is of {own}.")
        return FixedPolicy(behaviour)
    if not isinstance(behaviour, str) or behaviour != "uniform":
        raise TypeError(f'behaviour must be an agent, a distribution or "uniform", not {behaviour!r}; see ud.Blind.')
    if not isinstance(spec, Symbols):
        raise TypeError(
            f'{process.name} has actions of {spec}, and behaviour="uniform" is for symbols: give an agent or a '
            "distribution, such as ud.Blind(ud.Normal(...))."
        )
    n = num_symbols(spec)
    return FixedPolicy(Categorical(log_probs=jnp.full(n, -math.log(n))))
