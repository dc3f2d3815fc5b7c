"""An agent from elsewhere: a policy in PyTorch, of Stable-Baselines3, behind a server (Section 4.1's P(A | M))."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from undelude._agents.host import HostAgent, Memory
from undelude._checks import as_numbers, check_count, check_probabilities
from undelude._distributions import AbstractDistribution, Categorical, Spec, Symbols, num_symbols, spec_of
from undelude._process.episodes import AGENT, Episodes
from undelude._process.process import InteractionProcess
from undelude._rollout.checks import check_theta
from undelude._rollout.world import World, acting_key, begin, consult, respond
from undelude._tree import index

# What a policy may say of a batch of symbols: [B, n] probabilities, a distribution whose arrays have a leading axis
# B, nothing.
Law = Any


def play(
    process: InteractionProcess,
    host: HostAgent,
    *,
    key: Key[Array, ""],
    num_episodes: int,
    num_rounds: int | None = None,
    theta: int | None = None,
) -> tuple[Episodes, AbstractDistribution | None, AbstractDistribution | None]:
    """`ud.rollout` of a policy from elsewhere, with what it predicted on the way.

    Nature and the expert draw as they would for any other agent: the same key gives the same theta, and the same
    answers to the same actions.

    Returns:
        The episodes; `P_A`, `[B, T + 1]` distributions, the last after the last observation; `P_O`, `[B, T]`
        distributions, with an
        opening `[B, T + 1]`. None where the policy predicts none.

    Raises:
        ValueError: it returned something of the wrong shape, no probabilities, or symbols that are none; the message
            names the function and the round.
    """
    B = check_count("num_episodes", num_episodes)
    T = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    if theta is not None:
        check_theta(process, theta)
    world, opening, keys = _begin(process, key, jnp.arange(B), T, None if theta is None else jnp.asarray(theta))
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key, B))))
    distributions_A: list[Law] = []
    distributions_O: list[Law] = []
    rounds: list[Any] = []
    thetas = [world.theta]

    def to_host(x: PyTree) -> PyTree:
        return jax.tree.map(np.asarray, x)

    def foresee(m: Memory, a: PyTree, t: int) -> None:
        if host.predict_observation is not None:
            said = host.predict_observation(m, a)
            distributions_O.append(
                _as_distribution(said, process.observation_spec, B, f"predict_observation (round {t})")
            )

    def read(m: Memory, a: PyTree, o: PyTree, t: int) -> Memory:
        said, m = _pair(host.predict(m, a, o), f"predict (round {t})")
        distributions_A.append(_as_distribution(said, process.action_spec, B, f"predict (round {t})"))
        return m

    m = host.reset(B)
    if opening is not None:
        foresee(m, None, 0)
    m = read(m, None, None if opening is None else to_host(opening), 0)
    for t in range(T):
        a, m = _choose(process, host, m, distributions_A[-1], rng, keys[:, t], t)
        foresee(m, to_host(a), t)
        (Q_A, a_bar), (world, o, reward) = _round(process, world, a, keys[:, t])
        rounds.append((a, o, Q_A, a_bar, reward))
        thetas.append(world.theta)
        m = read(m, to_host(a), to_host(o), t + 1)

    actions, observations, Q_A, a_bar, reward = _stack(rounds)
    marks = jnp.full((B, T), host.own_actions == "do")
    episodes = Episodes(
        theta=world.theta if process.transition is None else _stack(thetas),
        opening=opening,
        actions=actions,
        observations=observations,
        executor=jnp.full((B, T), AGENT),
        intervened=marks,
        expert=Q_A,
        expert_actions=a_bar,
        reward=reward,
        mask=jnp.ones((B, T), bool),
    )
    return episodes, _all_or_none(distributions_A, "predict"), _all_or_none(distributions_O, "predict_observation")


def _choose(
    process: InteractionProcess,
    host: HostAgent,
    m: Memory,
    distribution: Law,
    rng: np.random.Generator,
    keys: Array,
    t: int,
) -> tuple[PyTree, Memory]:
    """The actions of a round, as arrays that are actions of the process."""
    if host.act is None:
        if distribution is None:
            raise ValueError(
                "HostAgent: predict returned None instead of a distribution, so that there is nothing to draw "
                "actions from; "
                "give act=, or return the distribution."
            )
        return _draw(distribution, keys), m
    chosen, m = _pair(host.act(m, distribution, rng), f"act (round {t})")
    shape = jax.tree.map(lambda x: (len(keys), *x.shape), process.action_spec.value)
    dtypes = jax.tree.map(lambda x: x.dtype, process.action_spec.value)
    one_array = jax.tree.structure(process.action_spec.value).num_leaves == 1 and hasattr(
        process.action_spec.value, "shape"
    )
    name = f"HostAgent: what act (round {t}) returned"
    a = as_numbers(chosen, name) if one_array else jax.tree.map(lambda x: as_numbers(x, name), chosen)
    if jax.tree.map(np.shape, a) != shape:
        raise ValueError(
            f"HostAgent: act (round {t}) returned actions of shape {jax.tree.map(np.shape, a)}, not {shape}."
        )
    process.action_spec.check(f"HostAgent: act (round {t}), actions", a)
    if any(np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all() for x in jax.tree.leaves(a)):
        raise ValueError(f"HostAgent: act (round {t}) returned actions that are not finite.")
    return jax.tree.map(lambda x, dtype: jnp.asarray(x, dtype), a, dtypes), m


def _pair(returned: Any, name: str) -> tuple[Any, Memory]:
    if not (isinstance(returned, tuple) and len(returned) == 2):
        what = "(a, m)" if name.startswith("act") else "(distribution, m)"
        raise ValueError(f"HostAgent: {name} must return a pair {what}, not {type(returned).__name__}.")
    return returned


def _as_distribution(returned: Any, spec: Spec, B: int, name: str) -> AbstractDistribution | None:
    """Return a policy's prediction as a batch of distributions."""
    if returned is None:
        return None
    if isinstance(returned, AbstractDistribution):
        leaves = jax.tree.leaves(eqx.filter(returned, eqx.is_array_like))
        if any(leaf.ndim == 0 or leaf.shape[0] != B for leaf in leaves):
            raise ValueError(
                f"HostAgent: {name} returned a distribution whose arrays have no leading axis of {B} episodes."
            )
        if not spec.agrees(own := spec_of(index(returned, 0))):
            raise ValueError(f"HostAgent: {name} returned a distribution of {own} for each episode, not of {spec}.")
        if isinstance(returned, Categorical):
            check_probabilities(returned.probs, f"HostAgent: {name}, probabilities")
        return returned
    if not isinstance(spec, Symbols):
        raise ValueError(
            f"HostAgent: {name} returned {type(returned).__name__}, but it predicts {spec}; "
            "return a distribution with a leading axis of episodes, such as ud.Normal(loc, scale)."
        )
    probs = as_numbers(returned, f"HostAgent: what {name} returned").astype(float)
    if probs.shape != (shape := (B, num_symbols(spec))):
        raise ValueError(f"HostAgent: {name} returned probabilities of shape {list(probs.shape)}, not {list(shape)}.")
    check_probabilities(probs, f"HostAgent: {name}, probabilities")
    with np.errstate(divide="ignore"):
        return Categorical(log_probs=jnp.asarray(np.log(probs), float))


def _all_or_none(distributions: list[Law], name: str) -> AbstractDistribution | None:
    missing = [t for t, distribution in enumerate(distributions) if distribution is None]
    if missing and len(missing) < len(distributions):
        raise ValueError(
            f"HostAgent: {name} returned a distribution in some rounds and None in others, such as {missing[0]}."
        )
    return None if missing or not distributions else _stack(distributions)


def _stack(xs: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *xs)


@eqx.filter_jit
def _begin(
    process: InteractionProcess, key: Array, ids: Array, T: int, theta: Any
) -> tuple[World, PyTree | None, Key[Array, "B T"]]:
    def one(i: Array) -> tuple[World, PyTree | None, Array]:
        own = jax.random.fold_in(key, i)
        *_, key_rounds, _ = jax.random.split(own, 4)
        return *begin(process, own, theta), jax.random.split(key_rounds, T)

    return jax.vmap(one)(ids)


@eqx.filter_jit
def _round(process: InteractionProcess, world: World, a: PyTree, keys: Array) -> Any:
    def one(world: World, a: PyTree, key: Array) -> Any:
        return consult(process, world, key), respond(process, world, a, key)

    return jax.vmap(one)(world, a, keys)


@eqx.filter_jit
def _draw(distributions: AbstractDistribution, keys: Array) -> PyTree:
    return jax.vmap(lambda distribution, key: distribution.sample(acting_key(key)))(distributions, keys)
