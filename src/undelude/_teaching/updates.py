"""The inner loop of teaching: collect a batch of episodes, differentiate their losses, take a step; compiled."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Int, Key, PyTree

from undelude._agents.base import AbstractAgent, AbstractSequenceAgent, check_mark
from undelude._agents.fixed import FixedPolicy
from undelude._distributions import AbstractDistribution, Categorical, Symbols, num_symbols, spec_of
from undelude._process.episodes import Episodes
from undelude._process.process import InteractionProcess
from undelude._rollout.checks import check_fit
from undelude._rollout.scan import run_episode
from undelude._teaching.losses import log_losses, score
from undelude._teaching.settings import AbstractTeaching, Behaviour
from undelude._tree import index

# Of the updates: the arrays of the state, the losses since the last row, and what of the last update was finite.
_Carry = tuple[PyTree, dict[str, Array], dict[str, Array]]


class TeachingState(eqx.Module):
    """All that a run needs to go on: restored with its key, it continues as if it had never stopped.

    Attributes:
        agent: as it is now.
        optimizer_state: of Optax, for the schedule of the whole run.
        update: how many updates were made.
    """

    agent: AbstractAgent
    optimizer_state: PyTree
    update: Int[Array, ""]


def compile_updates(
    process: InteractionProcess,
    teaching: AbstractTeaching,
    optimizer: Any,
    static: Any,
    batch_size: int,
    microbatch_size: int | None,
    reuse: int,
    mesh: Mesh,
) -> Any:
    """Jit of `(arrays of the state, key, stop) -> (arrays, summed losses, what was finite)`.

    Updates until `stop`, or up to the first that is not finite; no Python between.
    """
    share = batch_size // mesh.size

    def losses_in(agent: AbstractAgent, source: Episodes | Array) -> tuple[Array, Array]:
        """Of one episode: a stored one, or the one to come of a key, which the agent lives through here and now."""
        if isinstance(source, Episodes):
            return log_losses(agent, source, target=teaching.target, process=process)
        episode, predictions = _collect(process, agent, teaching, source, predicts=True)
        assert predictions is not None
        return score(predictions, episode, teaching.target, process)

    def loss(params: PyTree, frozen: PyTree, batch: Episodes | Array) -> tuple[Array, dict[str, Array]]:
        agent = eqx.combine(params, frozen)
        action, observation = (x.mean() for x in jax.vmap(lambda source: losses_in(agent, source))(batch))
        losses = {"action_loss": action, "observation_loss": observation}
        return action + teaching.observation_weight * observation, losses

    def gather(state: TeachingState, key: Array) -> Episodes | Array:
        """What the next updates learn from: episodes, or the keys of them where they are lived through once."""
        ids = jax.lax.axis_index("episodes") * share + jnp.arange(share)
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, state.update), ids)
        if reuse == 1 and _learns_as_it_acts(state.agent, teaching):
            return keys
        return jax.vmap(lambda key: collect(process, state.agent, teaching, key))(keys)

    def differentiate(agent: AbstractAgent, batch: Episodes | Array) -> tuple[dict[str, Array], PyTree]:
        """The mean losses and their gradient, over so many episodes at a time as `microbatch_size` says."""
        params, frozen = eqx.partition(agent, eqx.is_inexact_array)

        def of(batch: Episodes | Array) -> tuple[dict[str, Array], PyTree]:
            (_, losses), gradient = jax.value_and_grad(loss, has_aux=True)(params, frozen, batch)
            return losses, gradient

        if microbatch_size is None:
            return of(batch)
        num_parts = share // microbatch_size
        parts = jax.tree.map(lambda x: x.reshape(num_parts, -1, *x.shape[1:]), batch)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of, index(parts, 0)))
        sums, _ = jax.lax.scan(lambda sums, part: (jax.tree.map(jnp.add, sums, of(part)), None), zero, parts)
        return jax.tree.map(lambda x: x / num_parts, sums)

    def update(
        state: TeachingState, batch: Episodes | Array
    ) -> tuple[TeachingState, dict[str, Array], dict[str, Array]]:
        params, frozen = eqx.partition(state.agent, eqx.is_inexact_array)
        losses, gradient = jax.lax.pmean(differentiate(state.agent, batch), "episodes")
        step, optimizer_state = optimizer.update(gradient, state.optimizer_state, params)
        params = optax.apply_updates(params, step)
        finite = {name: _all_finite(tree) for name, tree in (*losses.items(), ("gradient", gradient), ("step", params))}
        agent: Any = eqx.combine(params, frozen)
        return TeachingState(agent, optimizer_state, state.update + 1), losses, finite

    def updates(arrays: PyTree, key: Array, stop: Array) -> _Carry:
        def before(stop: Array) -> Callable[[_Carry], Array]:
            def more(carry: _Carry) -> Array:
                arrays, _, finite = carry
                good = finite["action_loss"] & finite["observation_loss"] & finite["step"]
                return (eqx.combine(arrays, static).update < stop) & good

            return more

        def learn(carry: _Carry, batch: Episodes | Array) -> _Carry:
            arrays, sums, _ = carry
            state, losses, finite = update(eqx.combine(arrays, static), batch)
            return eqx.filter(state, eqx.is_array), jax.tree.map(jnp.add, sums, losses), finite

        def collect_and_learn(carry: _Carry) -> _Carry:
            state = eqx.combine(carry[0], static)
            batch = gather(state, key)
            if reuse == 1:
                return learn(carry, batch)
            last = jnp.minimum(state.update + reuse, stop)
            return jax.lax.while_loop(before(last), lambda carry: learn(carry, batch), carry)

        zero = {"action_loss": jnp.zeros(()), "observation_loss": jnp.zeros(())}
        finite = dict.fromkeys((*zero, "gradient", "step"), jnp.ones((), bool))
        return jax.lax.while_loop(before(stop), collect_and_learn, (arrays, zero, finite))

    everywhere = PartitionSpec()
    return jax.jit(jax.shard_map(updates, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=False))


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def collect(
    process: InteractionProcess, agent: AbstractAgent, teaching: AbstractTeaching, key: Key[Array, ""]
) -> Episodes:
    """One episode as `teaching` has it executed and marked; nothing that was sampled carries a gradient."""
    return _collect(process, agent, teaching, key, predicts=False)[0]


def _collect(
    process: InteractionProcess, agent: AbstractAgent, teaching: AbstractTeaching, key: Array, *, predicts: bool
) -> tuple[Episodes, tuple[Any, Any] | None]:
    actor, reads = agent, None
    if teaching.expert_share == 1:
        # Nobody asks the agent: `predict` has it read the episode afterwards.
        actor = None
    elif teaching.behaviour is not None:
        actor = _actor(process, teaching.behaviour)
        reads = (getattr(actor, "own_actions", "do") == "do", False)
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


def _learns_as_it_acts(agent: AbstractAgent, teaching: AbstractTeaching) -> bool:
    """Whether an episode is lived through and learned from in one pass; the gradient is the same, to rounding.

    So it is where the agent executes, acts by what it predicts, and would step through the episode again otherwise.
    """
    stepwise = agent.predicts_stepwise if isinstance(agent, AbstractSequenceAgent) else True
    return teaching.agent_executes and stepwise and type(agent).act is AbstractAgent.act


def _actor(process: InteractionProcess, behaviour: Behaviour) -> AbstractAgent | FixedPolicy:
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
        raise TypeError(f'a behaviour is an agent, a distribution or "uniform", not {behaviour!r}; see ud.Blind.')
    if not isinstance(spec, Symbols):
        raise TypeError(
            f'{process.name} has actions that are no symbols, so that Blind("uniform") cannot act there; '
            "give it an agent or a distribution, ud.Blind(ud.Normal(...))."
        )
    n = num_symbols(spec)
    return FixedPolicy(Categorical(log_probs=jnp.full(n, -math.log(n))))
