"""One of an agent's own episodes as an example, with the agent's and both exact agents' policies and beliefs."""

from collections.abc import Callable
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from undelude._agents.base import AbstractAgent, predict, predict_stepwise
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._certificate.host_example import example_in_world
from undelude._certificate.per_episode import (
    MARKS,
    first_known,
    for_each_mark,
    implied_belief,
    own_belief,
)
from undelude._certificate.rounds import fill_missing, with_one_more_round
from undelude._compiled import compiled_for
from undelude._distributions import AbstractDistribution, Symbols, as_categorical, num_symbols
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, World
from undelude._process.inference import expert_distributions, filter
from undelude._process.process import InteractionProcess, check_process
from undelude._rollout.host import play
from undelude._rollout.rollout import run, run_once
from undelude._tree import index

# The agent and both exact agents.
NUM_READERS = 3
# Numbers in the example episode of a certificate, for its file and for the memory that choosing it takes.
MAX_NUMBERS = 2**20
# For each reader ("agent", "exact_do", "exact_see"), a distribution before each round and after the last.
Policies = dict[str, Float[Array, "*B T1 A"]]
Beliefs = dict[str, Float[Array, "*B T1 K"]]


class EpisodeData(TypedDict):
    """One episode of T rounds as plain data for JSON.

    Attributes:
        num_episodes: the number of episodes from which it was chosen.
        theta: of the episode; with a transition `[T + 1]`, before each round and after the last.
        opening: `O_0`, or None.
        actions: `[T]`; if they are not symbols, `[T, D]`, the numbers of each.
        observations, rewards: `[T]`.
        said: the task's words for each observation; None if the task's `say` fails.
        said_actions: the task's words for each action; None if its `say_action` fails.
        said_thetas: `[K]`, the task's words for each theta; None if its `say_theta` fails.
        policy: `[T + 1, A]`, the probabilities of the actions before each round and after the last, of `"agent"`,
            `"exact_do"` and `"exact_see"`; None if actions are not symbols, or the agent does not predict them.
        belief: `[T + 1, K]` of the same three; None if a policy implies no belief.
    """

    num_episodes: int
    theta: PyTree
    opening: PyTree
    actions: PyTree
    observations: PyTree
    said: list[str] | None
    said_actions: list[str] | None
    said_thetas: list[str] | None
    rewards: list[float]
    policy: dict[str, list[list[float]]] | None
    belief: dict[str, list[list[float]] | None]


def example_episode(
    process: InteractionProcess,
    agent: AbstractAgent | HostAgent,
    *,
    key: Key[Array, ""],
    num_episodes: int = 256,
    num_rounds: int | None = None,
) -> EpisodeData:
    """Return the episode, out of `num_episodes`, in which the two exact agents differ most.

    They differ in their policies if actions are symbols, otherwise in their beliefs.

    Raises:
        TypeError: Theta is continuous.
    """
    process.check_finite()
    size = {"num_episodes": num_episodes, "num_rounds": num_rounds}
    if isinstance(agent, HostAgent):
        episodes, P_A, _ = play(process, agent, key=key, **size)
        policies, beliefs = _read(process, None, fill_missing(episodes)[0], P_A)
    else:
        episodes = run(run_once, process, agent, key=key, **size)
        policies, beliefs = _read(process, agent, fill_missing(episodes)[0], None)
    exists = np.concatenate([np.ones((num_episodes, 1), bool), episodes.mask], axis=1)
    compared = policies or beliefs
    differences = np.abs(np.asarray(compared["exact_do"]) - np.asarray(compared["exact_see"]))
    chosen = int(np.where(exists[..., None], differences, 0.0).sum((-1, -2)).argmax())
    T = int(exists[chosen].sum()) - 1

    def plain(tree: PyTree, length: int | None = None) -> PyTree:
        """Return the chosen episode's entries, the first `length` if they have an axis of rounds."""
        entries = jax.tree.map(lambda x: np.asarray(x[chosen]), tree)
        return jax.tree.map(lambda x: (x if length is None else x[:length]).tolist(), entries)

    belief = {name: plain(x, T + 1) for name, x in beliefs.items()}
    actions, observations = jax.tree.map(lambda x: np.asarray(x[chosen, :T]), (episodes.actions, episodes.observations))
    return {
        "num_episodes": num_episodes,
        "theta": plain(episodes.theta, None if process.transition is None else T + 1),
        "opening": plain(episodes.opening),
        "actions": plain(_numbers(process, episodes.actions), T),
        "observations": plain(episodes.observations, T),
        "said": _say(process.task.say, observations),
        "said_actions": _say(process.task.say_action, actions),
        "said_thetas": _say(process.task.say_theta, jax.tree.map(np.asarray, process.thetas)),
        "rewards": plain(episodes.reward, T),
        "policy": plain(policies, T + 1) if "agent" in policies else None,
        "belief": {"agent": None} | {name: None if np.isnan(x).any() else x for name, x in belief.items()},
    }


def _say(say: Callable[[Any], str], values: PyTree[np.ndarray]) -> list[str] | None:
    """Return the task's words for each value; None if they fail: such an error must not lose a run."""
    size = len(jax.tree.leaves(values)[0])
    try:
        return [f"{say(index(values, i))!s:.99}" for i in range(size)]
    except Exception:
        return None


def example_entries(
    process: World,
    agent: AbstractAgent | HostAgent,
    notes: dict[str, str],
    *,
    key: Key[Array, ""],
    num_rounds: int | None = None,
) -> dict[str, Any]:
    """Return the entries "episode" and "notes" of a `certificate.json`: the example, or a note why it is too large.

    The episode is None, without a note, if Theta is continuous. A world that runs in Python also gets the note why it
    has no film, if it has none.
    """
    if isinstance(process, AbstractHostWorld):
        notes = notes | ({"film": f"none, since {process.no_film}"} if process.no_film else {})
        found = example_in_world(process, agent, key=key, num_rounds=num_rounds)
        return (
            {"episode": None, "notes": notes | {"episode": found}}
            if isinstance(found, str)
            else {
                "episode": found,
                "notes": notes,
            }
        )
    process = check_process(process)
    why = why_too_large(process, num_rounds)
    if why is not None or not process.finite:
        return {"episode": None, "notes": notes | ({"episode": why} if why else {})}
    return {"episode": example_episode(process, agent, key=key, num_rounds=num_rounds), "notes": notes}


def why_too_large(process: InteractionProcess, num_rounds: int | None = None) -> str | None:
    """Return why the certificate of a process has no example episode, if it would hold too many numbers."""
    if not process.finite:
        return None
    actions = num_symbols(process.action_spec) if isinstance(process.action_spec, Symbols) else 0
    numbers = ((num_rounds or process.num_rounds) + 1) * (process.num_thetas + actions) * NUM_READERS
    return f"it would hold {numbers} numbers, of {MAX_NUMBERS} at most." if numbers > MAX_NUMBERS else None


def _numbers(process: InteractionProcess, actions: PyTree) -> PyTree:
    """Return actions that are symbols as they are, and others as the numbers that they consist of, `[B, T, D]`."""
    if isinstance(process.action_spec, Symbols):
        return actions
    leaves = [np.asarray(x, dtype=float) for x in jax.tree.leaves(actions)]
    return np.concatenate([x.reshape(*x.shape[:2], -1) for x in leaves], axis=-1)


@compiled_for(runs=1)
def _read(
    process: InteractionProcess, agent: AbstractAgent | None, episodes: Episodes, P_A: AbstractDistribution | None
) -> tuple[Policies, Beliefs]:
    """Return policies and beliefs; no belief of the agent if its policy can imply none.

    Args:
        process: the process.
        agent: the agent; None if it is a `HostAgent`.
        episodes: of the agent.
        P_A: the predictions of a `HostAgent`, made while it played.

    Returns:
        The policies, none if actions are not symbols; and the beliefs.
    """

    def one(x: tuple[Episodes, Any]) -> tuple[Policies, Beliefs]:
        episode, policy = x
        policies: dict[str, AbstractDistribution] = {}
        beliefs: Beliefs = {}
        longer = with_one_more_round(episode)
        exact = ExactAgent(process)
        both_policies = for_each_mark(lambda marked: predict_stepwise(exact, marked)[0], longer)
        both_beliefs = for_each_mark(lambda marked: jnp.exp(filter(process, marked).log_posterior), episode)
        for i, mark in enumerate(MARKS):
            policies[f"exact_{mark}"], beliefs[f"exact_{mark}"] = index((both_policies, both_beliefs), i)
        if agent is not None:
            policy, _ = predict(agent, longer)
        belief = None if agent is None else own_belief(agent, process, episode)
        if policy is not None:
            policies["agent"] = policy
            distributions = jax.vmap(lambda belief: expert_distributions(process, belief))(filter(process, episode))
            belief = first_known(belief, jax.vmap(implied_belief)(distributions, policy))
        if belief is not None:
            beliefs["agent"] = belief
        if not isinstance(process.action_spec, Symbols):
            policies = {}
        return {name: _probabilities(policy) for name, policy in policies.items()}, beliefs

    return jax.vmap(one)((episodes, P_A))


def _probabilities(policy: AbstractDistribution) -> Float[Array, "T1 A"]:
    return as_categorical(policy).probs
