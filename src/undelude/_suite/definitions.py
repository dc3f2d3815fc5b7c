"""What each task of the suite is, in numbers that are stored: a change of its code that moves them is noticed."""

import dataclasses
import functools
import hashlib
import json
import math
from importlib.resources import files
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from undelude._agents.base import predict_stepwise
from undelude._agents.exact import ExactAgent
from undelude._agents.host import HostAgent
from undelude._certificate.per_episode import MARKS
from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, World
from undelude._process.inference import reread
from undelude._process.process import InteractionProcess
from undelude._process.replay import replay
from undelude._rollout.rollout import rollout, run, run_once
from undelude._teaching.losses import score_observations
from undelude._tree import index
from undelude._types import Action, Memory, Observation, Theta
from undelude._versioned_tasks import VersionedTask

FILE = "definitions.json"
# The key of all certificates of the suite. Neither training nor the choice of a training seed may look at it.
SEED = 20_210_801
# The stored histories of a task: episodes, and most rounds of each.
EPISODES, ROUNDS = 2, 24
# Largest difference of a number of a definition, relative and absolute: rounding differs between machines.
RELATIVE, ABSOLUTE = 1e-4, 2e-4


@functools.cache
def stored() -> dict[str, Any]:
    """Return the stored definitions, by the id of the task; `studies/suite.py --definitions` writes them."""
    return json.loads(files("undelude._suite").joinpath(FILE).read_text(encoding="utf-8"))


def digest(task: VersionedTask) -> str:
    """Return twelve hexadecimal digits that name the definition of a task: its parameters, seed and stored numbers."""
    about = dataclasses.asdict(dataclasses.replace(task, arguments=dict(task.arguments)))
    kept = {name: about[name] for name in ("name", "version", "factory", "arguments", "num_episodes")}
    text = json.dumps([kept, SEED, stored().get(task.id)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_definition(task: VersionedTask, process: World) -> None:
    """Raise `ValueError` if a process is not the task that was frozen: its numbers are not those that are stored."""
    entry = stored().get(task.id)
    if entry is None:
        raise ValueError(f"{task.id} has no stored definition: run studies/suite.py --definitions.")
    found = describe(process, entry["history"])
    for name, numbers in entry["numbers"].items():
        if not np.allclose([*map(float, found[name])], [*map(float, numbers)], rtol=RELATIVE, atol=ABSOLUTE):
            raise ValueError(
                f"{task.id} is not the task that was frozen: {name} of its stored histories is {found[name]}, and was "
                f"{numbers}. A task that changed needs a new version, {task.name}-v{task.version + 1}; if a library "
                "changed it, install the version that constraints.txt names."
            )


def define(process: World) -> dict[str, Any]:
    """Return the definition of a process: a few histories, and numbers about them."""
    if isinstance(process, AbstractHostWorld):
        played = rollout(process, None, key=jax.random.key(SEED - 1), num_episodes=EPISODES, executor="expert")
        history = {"actions": _plain(jax.tree.map(lambda x: x[:, :ROUNDS], played.actions))}
        return {"history": history, "numbers": describe(process, history)}
    assert isinstance(process, InteractionProcess)
    episodes = run(run_once, process, ExactAgent(process), key=jax.random.key(SEED - 1), num_episodes=EPISODES)
    T = min(ROUNDS, process.num_rounds)
    rows = {"actions": episodes.actions, "observations": episodes.observations, "mask": episodes.mask}
    cut = {name: jax.tree.map(lambda x: x[:, :T], tree) for name, tree in rows.items()}
    theta = episodes.theta[:, : T + 1] if process.theta_changes else episodes.theta
    history = {name: _plain(tree) for name, tree in (cut | {"theta": theta, "opening": episodes.opening}).items()}
    return {"history": history, "numbers": describe(process, history)}


def describe(process: World, history: dict[str, Any]) -> dict[str, list[float | str]]:
    """Return numbers that depend on all that a process is, one for each stored history.

    `prior` is `log Q(theta)`; `expert` and `nature` are the sums of `log Q(a | theta, e)` and `log Q(o | theta, w)`;
    `reward` is the sum of rewards; `actions_do`, `observations_do` and `actions_see`, `observations_see` are the
    log-probabilities of the history under both exact agents. Nats. For a simulator, see `_describe_world`.
    """
    if isinstance(process, AbstractHostWorld):
        return _describe_world(process, history)
    assert isinstance(process, InteractionProcess)
    episodes = _episodes(process, history)

    def one(episode: Episodes) -> dict[str, Array]:
        past = replay(process, episode)
        theta, e = jax.tree.map(lambda x: x[:-1], (past.theta, past.e))

        def score(theta: Theta, e: Memory, w: Memory, a: Action, o: Observation) -> tuple[Array, Array, Array]:
            log_expert = process.expert.Q_A(theta, e).log_prob(a)
            return log_expert, process.task.Q_O(theta, w).log_prob(o), process.task.reward(theta, w, a, o)

        scores = jax.vmap(score)(theta, e, past.acted_w, episode.actions, episode.observations)
        exists = episode.mask
        first = index(episode.theta, 0) if process.theta_changes else episode.theta
        numbers = {"prior": process.log_prior[first]}
        for name, x in zip(("expert", "nature", "reward"), scores, strict=True):
            numbers[name] = jnp.where(exists, x, 0.0).sum()
        for mark in MARKS:
            P_A, P_O = predict_stepwise(ExactAgent(process), reread(episode, mark))
            log_actions = jax.vmap(lambda P, a: P.log_prob(a))(P_A, episode.actions)
            numbers[f"actions_{mark}"] = jnp.where(exists, log_actions, 0.0).sum()
            numbers[f"observations_{mark}"] = -score_observations(P_O, episode).sum()
        return numbers

    found = jax.jit(jax.vmap(one))(episodes)
    return {name: [_entry(float(x)) for x in numbers] for name, numbers in found.items()}


def _describe_world(world: AbstractHostWorld, history: dict[str, Any]) -> dict[str, list[float | str]]:
    """Return numbers on a simulator, one for each value of theta, in which the first stored actions are played again.

    `reward` is the sum of rewards and `seen` that of all numbers of the observations but the cue, which is drawn;
    `expert` is the sum of `log Q(a | theta, e)`, and `evidence` that of the probabilities of the cue under all thetas.
    """
    actions = jax.tree.map(lambda x: x[:1], _leaves(world.action_spec.value, history["actions"]))
    T = len(history["actions"][0])

    def act(t: int, distribution: Any, rng: Any) -> tuple[Any, int]:
        return jax.tree.map(lambda x: x[:, t], actions), t + 1

    player = HostAgent(lambda num_episodes: 0, lambda m, a, o: (None, m), act)
    log_probs = jax.vmap(jax.vmap(lambda Q, a: Q.log_prob(a)))
    found: dict[str, list[float | str]] = {}
    for theta in range(getattr(world, "num_thetas", 1)):
        options = {"key": jax.random.key(SEED - 1), "num_episodes": 1, "num_rounds": T, "theta": theta}
        episodes = rollout(world, player, **options)
        known = world.evidence(episodes)
        parts = {name: x for name, x in episodes.observations.items() if name != "cue"}
        numbers = {
            "reward": np.asarray(episodes.reward).sum(),
            "seen": sum(np.asarray(x, float).sum() for x in jax.tree.leaves(parts)),
            "expert": np.asarray(log_probs(episodes.expert, episodes.actions)).sum(),
        }
        if not isinstance(known, str):
            numbers["evidence"] = np.exp(np.asarray(known.log_likelihood, float)).sum()
        for name, x in numbers.items():
            found.setdefault(name, []).append(_entry(float(x)))
    return found


def _episodes(process: InteractionProcess, history: dict[str, Any]) -> Episodes:
    """Return stored histories as episodes."""
    action, observation = process.specs
    opening = None if history["opening"] is None else _leaves(observation.value, history["opening"])
    episodes = Episodes.of(
        process,
        actions=_leaves(action.value, history["actions"]),
        observations=_leaves(observation.value, history["observations"]),
        opening=opening,
        mask=history["mask"],
    )
    return dataclasses.replace(episodes, theta=jnp.asarray(history["theta"]))


def _plain(tree: PyTree) -> Any:
    """Return the leaves of a tree as lists; one leaf alone without a list around it."""
    if tree is None:
        return None
    leaves = [np.asarray(x) for x in jax.tree.leaves(tree)]
    lists = [(x.round(6) if x.dtype.kind == "f" else x).tolist() for x in leaves]
    return lists[0] if len(lists) == 1 else {"leaves": lists}


def _leaves(like: PyTree, lists: Any) -> PyTree:
    leaves, structure = jax.tree.flatten(like)
    given = lists["leaves"] if isinstance(lists, dict) else [lists]
    arrays = [np.asarray(x, np.dtype(leaf.dtype)) for x, leaf in zip(given, leaves, strict=True)]
    return jax.tree.unflatten(structure, arrays)


def _entry(x: float) -> float | str:
    """Return a number for JSON; the log-probability of an impossible history is the string "-inf"."""
    return round(x, 5) if math.isfinite(x) else str(x)
