"""The check of `check_task` for reads and writes outside an array, in the methods of task and expert."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

from undelude._certificate.bounds import Access, matters, watch
from undelude._certificate.task_checks import Finding, locate
from undelude._certificate.task_episodes import Played
from undelude._process.process import InteractionProcess
from undelude._process.replay import replay
from undelude._tree import index
from undelude._types import Action, Memory, Observation, Theta

X = TypeVar("X")


class Call(NamedTuple):
    """A call of a method.

    Attributes:
        method: of task or expert, or the transition.
        arguments: of the method.
        counts: whether anything follows from its result.
    """

    method: Callable[..., PyTree]
    arguments: tuple[PyTree, ...]
    counts: Bool[Array, ""] | bool = True


def check_bounds(process: InteractionProcess, num_rounds: int, played: Played | None = None) -> Iterator[Finding]:
    """Check that no method reads or writes outside an array in a way that changes its result.

    A problem is an entry outside, or a branch of `jax.lax.switch`. Noted are a slice, which JAX documents to be moved
    inside, and a write, which JAX documents to be left out.

    Args:
        process: the process.
        num_rounds: T.
        played: the episodes in whose rounds to look; None to look in a first round under each theta that the prior
            allows.
    """
    if played is None and not process.finite:
        return

    def look(f: Callable[[dict[str, Call]], X]) -> X:
        return _in_first_round(process, num_rounds, f) if played is None else _in_rounds(process, played, f)

    accesses = look(lambda calls: {name: _watch(call) for name, call in calls.items()})
    outside = {
        (name, number): access
        for name, found in accesses.items()
        for number, access in enumerate(found)
        if np.asarray(access.is_outside).any()
    }
    if not outside:
        return
    matters = look(lambda calls: [_matters(calls[name], number) for name, number in outside])
    said = set()
    for ((name, _), access), changes in zip(outside.items(), matters, strict=True):
        bad = np.asarray(access.is_outside & changes)
        if not bad.any():
            continue
        at = tuple(np.argwhere(bad)[0])
        where = _with_theta(process, int(at[0])) if played is None else locate(bad, played, name)
        finding = _describe(name, access, int(np.asarray(access.index)[at]), where)
        if (name, finding.is_problem) not in said:
            said.add((name, finding.is_problem))
            yield finding


def _watch(call: Call) -> list[Access]:
    found = watch(call.method, *call.arguments)
    return [dataclasses.replace(x, is_outside=x.is_outside & call.counts) for x in found]


def _matters(call: Call, number: int) -> Bool[Array, ""]:
    return matters(call.method, *call.arguments, number=number) & call.counts


def _with_theta(process: InteractionProcess, k: int) -> str:
    return f"with theta {jax.tree.map(lambda x: np.asarray(x)[k].tolist(), process.thetas)}"


def _describe(name: str, access: Access, i: int, where: str) -> Finding:
    last = access.length - 1
    axis = f"an axis of length {access.length}"
    meant = f"Count from 0 to {last}. If it is meant, say so by clipping the index: jnp.clip(i, 0, {last})."
    if access.kind == "branch":
        return Finding(
            f"{name} chooses branch {i} of {access.length} (jax.lax.switch), {where}. JAX takes the nearest branch "
            f"instead, without an error. {meant}"
        )
    if access.kind == "write":
        return Finding(
            f"{name} writes to entry {i} of {axis}, {where}. JAX leaves such a write out, and "
            f"jax.lax.dynamic_update_slice moves it inside. If it is not meant, count from 0 to {last}.",
            is_problem=False,
        )
    if access.size > 1:
        return Finding(
            f"{name} reads entries {i} to {i + access.size - 1} of {axis}, {where}. jax.lax.dynamic_slice moves the "
            "slice inside the array. If it is not meant, pad the array.",
            is_problem=False,
        )
    return Finding(
        f"{name} reads entry {i} of {axis}, {where}. JAX answers with the nearest entry instead, without an error. "
        f"{meant}"
    )


def _in_first_round(process: InteractionProcess, num_rounds: int, look: Callable[[dict[str, Call]], X]) -> X:
    """Return what `look` returns for the calls of a first round under each theta, leading axis K."""
    task, expert = process.task, process.expert

    def one(theta: Theta, log_prob: Float[Array, ""], key: Key[Array, ""]) -> X:
        w, e = task.init(theta), expert.init(theta)
        calls = {"task.init": Call(task.init, (theta,)), "expert.init": Call(expert.init, (theta,))}
        if process.opening:
            o = task.Q_O(theta, w).sample(key)
            w, e = task.g_O(theta, o, w), expert.g_O(theta, o, e)
        a = expert.Q_A(theta, e).sample(key)
        o = task.Q_O(theta, task.g_A(theta, a, w)).sample(key)
        goes_on = jnp.logical_not(task.ends(o)) & (num_rounds > 1)
        calls |= _calls(process, theta, theta, w, e, a, o, goes_on=goes_on)
        is_possible = log_prob > -jnp.inf
        return look({name: call._replace(counts=call.counts & is_possible) for name, call in calls.items()})

    keys = jax.random.split(jax.random.key(0), process.num_thetas)
    return jax.jit(jax.vmap(one))(process.thetas, process.log_prior, keys)


def _in_rounds(process: InteractionProcess, played: Played, look: Callable[[dict[str, Call]], X]) -> X:
    """Return what `look` returns for the calls of each round of the episodes, `[B, T]`."""

    def one(played: Played) -> X:
        episode, acting = played.episodes, process.theta_value(played.acting_theta)
        states, of_actor = replay(process, episode), replay(process, episode, theta=acting)
        goes_on = jnp.append(episode.mask[1:], False)

        def round(t: Array) -> X:
            theta, w, a, o = index((states.theta, states.w, episode.actions, episode.observations), t)
            calls = _calls(process, theta, acting, w, index(of_actor.e, t), a, o, goes_on=goes_on[t])
            return look({name: call._replace(counts=call.counts & episode.mask[t]) for name, call in calls.items()})

        return jax.vmap(round)(jnp.arange(episode.num_rounds))

    return jax.jit(jax.vmap(one))(played)


def _calls(
    process: InteractionProcess,
    theta: Theta,
    acting: Theta,
    w: Memory,
    e: Memory,
    a: Action,
    o: Observation,
    *,
    goes_on: Bool[Array, ""] | bool,
) -> dict[str, Call]:
    """Return the calls of one round: of the task under `theta`, of the expert under `acting`.

    The memory after the last round is not read, so that the calls that return it count only if the episode goes on.
    """
    task, expert = process.task, process.expert
    acted_w, acted_e = task.g_A(theta, a, w), expert.g_A(acting, a, e)
    calls = {
        "task.g_A": Call(task.g_A, (theta, a, w)),
        "task.Q_O": Call(task.Q_O, (theta, acted_w)),
        "task.reward": Call(task.reward, (theta, acted_w, a, o)),
        "task.g_O": Call(task.g_O, (theta, o, acted_w), goes_on),
        "expert.Q_A": Call(expert.Q_A, (acting, e)),
        "expert.g_A": Call(expert.g_A, (acting, a, e), goes_on),
        "expert.g_O": Call(expert.g_O, (acting, o, acted_e), goes_on),
    }
    if process.transition is not None:
        calls["transition"] = Call(process.transition, (theta, task.g_O(theta, o, acted_w)), goes_on)
    return calls
