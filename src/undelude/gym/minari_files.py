"""Episodes as data sets of Minari, and data sets of Minari as episodes (https://minari.farama.org)."""

import importlib.util
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from undelude._checks import one_line
from undelude._distributions import Categorical, Normal, Parts, Spec
from undelude._process.blank import blank
from undelude._process.episodes import AGENT, EXPERT, Episodes, check_symbols
from undelude._process.host_world import World, check_world
from undelude._tree import index
from undelude.gym._host.advice import batched
from undelude.gym._host.spaces import from_action
from undelude.gym.host_world import HostWorld

ACTORS = {"agent": AGENT, "expert": EXPERT}


def to_minari(
    world: World,
    episodes: Episodes,
    dataset_id: str,
    *,
    keep_theta: bool = True,
    data_format: Literal["hdf5", "arrow", "parquet"] = "hdf5",
    **metadata: Any,
) -> Any:
    """Write episodes to a data set of Minari, with what counterfactual teaching needs.

    Observations are what the agent saw. `infos` describe, like those of our environments, the state before the action
    of the same row; the row after the last action repeats the one before it:

        actor               0 if the agent executed the action, 1 if the expert did
        intervened          its mark: true for do
        expert_action       what the expert would have done
        expert_probs, or expert_mean and expert_std       its distribution, if it is known
        theta               the index of the context, or the value of Theta

    Args:
        world: of the episodes, a process or a `HostWorld`.
        episodes: a batch.
        dataset_id: such as `"lake/mixed-v0"`.
        keep_theta: whether theta is stored. Agents must not read it.
        data_format: `"hdf5"` needs h5py, the others PyArrow.
        **metadata: of `minari.create_dataset_from_buffers`, such as `author` and `description`.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ModuleNotFoundError: Minari, or the package of the format, is not installed.
        TypeError: the values have no space in Gymnasium.
        ValueError: the episodes are of another world, or there is a data set of this name.

    Warns:
        UserWarning: the expert's distributions are of a kind that is not stored. Its actions are.

    >>> data = ug.to_minari(world, episodes, "lake/mixed-v0")  # doctest: +SKIP
    >>> ud.teach(world, agent, ud.Mixed(), key=key, data=ug.from_minari(data, world))  # doctest: +SKIP
    """
    minari = _minari("to_minari")
    needed = "h5py" if data_format == "hdf5" else "pyarrow"
    if importlib.util.find_spec(needed) is None:  # Minari would leave an empty data set behind.
        others = ', or give data_format="arrow"' if data_format == "hdf5" else ""
        raise ModuleNotFoundError(f'undelude.gym.to_minari: data_format="{data_format}" needs {needed}{others}.')
    from undelude.gym._envs.spaces import shown, space_of

    check_world(world)
    if not isinstance(episodes, Episodes) or not episodes.is_batch:
        raise ValueError(f"episodes must be a batch of ud.Episodes, not {one_line(repr(episodes))}.")
    check_symbols(world, episodes)
    episodes = jax.tree.map(np.asarray, episodes)
    action_space = space_of(world.action_spec, f"{world.name}: the action")
    observation_space = space_of(world.observation_spec, f"{world.name}: the observation", extra=int(not world.opening))
    first = blank(world.observation_spec)
    infos = _infos(episodes, keep_theta=keep_theta)
    buffers = []
    for i, T in enumerate(episodes.mask.sum(1)):
        one = index((episodes.actions, episodes.observations, episodes.opening), i)
        actions, observations = (jax.tree.map(lambda x, T=T: x[:T], x) for x in one[:2])
        opening = first if one[2] is None else one[2]
        seen = jax.tree.map(lambda x, y: np.concatenate([np.asarray(x, y.dtype)[None], y]), opening, observations)
        zeros = np.zeros(T, np.float32)
        ended = np.arange(T) == T - 1
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=i,
                observations=shown(observation_space, seen),
                actions=shown(action_space, actions),
                rewards=list(zeros if episodes.reward is None else episodes.reward[i, :T]),
                terminations=list(ended & (world.num_rounds > T)),
                truncations=list(ended & (world.num_rounds <= T)),
                infos={name: _rows(x[i], int(T)) for name, x in infos.items()},
            )
        )
    if dataset_id in minari.list_local_datasets():
        raise ValueError(
            f'there is a data set "{dataset_id}" already. Delete it, minari.delete_dataset("{dataset_id}"), or take '
            "another name or version."
        )
    create = minari.create_dataset_from_buffers
    if "jpeg_encoding" in inspect.signature(create).parameters:
        metadata = {"jpeg_encoding": False} | metadata
    about = {"algorithm_name": "undelude", "description": f"Episodes of {world.name}."}
    with warnings.catch_warnings():  # Of metadata that the user did not give.
        warnings.filterwarnings("ignore", message=".*is set to None|env_spec is None")
        return create(
            dataset_id,
            buffers,
            action_space=action_space,
            observation_space=observation_space,
            data_format=data_format,
            **about | metadata,
        )


def from_minari(
    dataset: Any,
    world: World,
    *,
    actor: Literal["agent", "expert"] | None = None,
    encode: Callable[[Any], PyTree] | None = None,
) -> Episodes:
    """Return the episodes of a data set of Minari, to teach from (`ud.teach(..., data=)`).

    A data set that `to_minari` wrote is read without loss. In one from elsewhere, observations are those of the world's
    environment, of which the agent's part is kept; without `infos` of the names that `to_minari` writes there are no
    labels. With `theta` in its `infos`, the expert of the world is asked for them.

    Args:
        dataset: of Minari, or the name of one.
        world: in which the episodes are read, a process or a `HostWorld`.
        actor: who executed the actions, if the data set does not say.
        encode: `observations -> what the agent sees`, leading axis T + 1 (the first is the opening, and is left out in
            a world without one), for a data set whose observations are others.

    Raises:
        ModuleNotFoundError: Minari is not installed.
        TypeError: `dataset` is not a data set of Minari, or of no name.
        ValueError: observations, actions or lengths are not those of the world, or who acted is not known.

    >>> demos = ug.from_minari("lake/expert-v0", world, actor="expert")  # doctest: +SKIP
    >>> ud.teach(world, agent, ud.Cloning(), key=key, data=demos)  # doctest: +SKIP
    """
    minari = _minari("from_minari")
    check_world(world)
    if isinstance(dataset, str):
        dataset = minari.load_dataset(dataset)
    if not isinstance(dataset, minari.MinariDataset):
        raise TypeError(f"dataset must be a data set of Minari or its name, not {one_line(repr(dataset))}.")
    if actor is not None and actor not in ACTORS:
        raise ValueError(f'actor must be "agent" or "expert", not {actor!r}.')
    name = dataset.spec.dataset_id
    rows = [_Read(name, world, dataset, episode, actor, encode) for episode in dataset.iterate_episodes()]
    if not rows:
        raise ValueError(f"{name} has no episodes.")
    T = max(row.num_rounds for row in rows)
    if world.num_rounds < T:
        raise ValueError(f"{name} has an episode of {T} rounds, more than the {world.num_rounds} of {world.name}.")
    kinds = {tuple(row.labels) for row in rows}
    if len(kinds) > 1:
        raise ValueError(f"{name}: some episodes have infos that others lack: {sorted(map(list, kinds))}.")
    mask = np.arange(T) < np.array([row.num_rounds for row in rows])[:, None]

    def padded(values: list[PyTree], num: int = T) -> PyTree:
        return jax.tree.map(lambda *xs: jnp.asarray(np.stack([_pad(x, num) for x in xs])), *values)

    labels = {key: [row.labels[key] for row in rows] for key in rows[0].labels}
    executor = padded([row.executor for row in rows])
    intervened = padded(labels["intervened"]) if "intervened" in labels else executor == AGENT
    theta = labels.get("theta")
    if theta is not None:
        theta = padded(theta, T + 1) if world.theta_changes else jnp.asarray(np.stack([x[0] for x in theta]))
    expert: Any = None
    if "expert_log_probs" in labels:
        expert = Categorical(log_probs=padded(labels["expert_log_probs"]))
    elif "expert_mean" in labels:
        expert = Normal(padded(labels["expert_mean"]), padded(labels["expert_std"]))
    episodes = Episodes(
        theta=theta,
        opening=jax.tree.map(lambda *xs: jnp.asarray(np.stack(xs)), *[row.opening for row in rows])
        if world.opening
        else None,
        actions=padded([row.actions for row in rows]),
        observations=padded([row.observations for row in rows]),
        executor=executor,
        intervened=intervened.astype(bool),
        expert=expert,
        expert_actions=padded(labels["expert_action"]) if "expert_action" in labels else None,
        reward=padded([row.rewards for row in rows]),
        mask=jnp.asarray(mask),
    )
    check_symbols(world, episodes)
    return episodes


def _infos(episodes: Episodes, *, keep_theta: bool) -> dict[str, Any]:
    """Return the infos of all episodes, `[B, T, ...]`; theta `[B, T + 1]` if it changes."""
    found: dict[str, Any] = {"actor": episodes.executor.astype(np.int32), "intervened": episodes.intervened}
    if episodes.expert_actions is not None:
        found |= _named("expert_action", episodes.expert_actions)
    match episodes.expert:
        case Categorical():
            found["expert_probs"] = np.exp(episodes.expert.log_probs.astype(np.float64))
        case Normal():
            found |= {"expert_mean": np.asarray(episodes.expert.loc), "expert_std": np.asarray(episodes.expert.scale)}
        case None:
            pass
        case other:
            warnings.warn(
                f"to_minari: the expert's distributions are {type(other).__name__}s, which are not stored; a draw of "
                "each, expert_action, is.",
                stacklevel=3,
            )
    if keep_theta and episodes.theta is not None:
        if not isinstance(episodes.theta, np.ndarray):
            raise TypeError(f"to_minari: theta is a {type(episodes.theta).__name__}, not an array: keep_theta=False.")
        theta = episodes.theta
        found["theta"] = theta if theta.ndim > 1 else np.repeat(theta[:, None], episodes.num_rounds + 1, 1)
    return found


def _named(name: str, tree: PyTree) -> dict[str, Any]:
    """Return the arrays of a PyTree by names such as `expert_action.steer`; Arrow files hold no nested infos."""
    leaves = jtu.tree_leaves_with_path(tree)
    return {".".join([name, *[jtu.keystr(path, simple=True, separator=".")] * bool(path)]): x for path, x in leaves}


def _rows(x: np.ndarray, T: int) -> Any:
    """Return `T + 1` rows of an info; the last is repeated if there are no more."""
    x = x[np.minimum(np.arange(T + 1), len(x) - 1)]
    return list(x) if x.ndim == 1 else x  # Minari's Arrow files hold no array of one axis.


def _pad(x: np.ndarray, num: int) -> np.ndarray:
    """Return `num` rows, the last one repeated."""
    return x[np.minimum(np.arange(num), len(x) - 1)]


class _Read:
    """One episode of a data set, in the values of the world.

    Attributes:
        num_rounds: T.
        opening, actions, observations, rewards, executor: `[T, ...]`.
        labels: `intervened`, `expert_action`, `expert_log_probs`, `expert_mean`, `expert_std`, `theta`, where known.
    """

    def __init__(self, name: str, world: World, dataset: Any, episode: Any, actor: str | None, encode: Any):
        self.name = f"{name}, episode {episode.id}"
        self.num_rounds = T = len(episode.rewards)
        if T == 0:
            raise ValueError(f"{self.name} has no round.")
        infos = episode.infos or {}
        is_ours = "actor" in infos
        self.rewards = np.asarray(episode.rewards, np.float32)
        if is_ours:
            self.executor = np.asarray(infos["actor"], np.int32)[:T]
        elif actor is not None:
            self.executor = np.full(T, ACTORS[actor], np.int32)
        else:
            raise ValueError(
                f'{name} does not say who acted (infos "actor"): say it, actor="expert" for demonstrations of an '
                'expert who knew theta, or actor="agent" for actions of a party that did not.'
            )
        self.labels: dict[str, Any] = {}
        if "intervened" in infos:
            self.labels["intervened"] = np.asarray(infos["intervened"], bool)[:T]
        if "theta" in infos:
            self.labels["theta"] = np.asarray(infos["theta"])
            if self.labels["theta"].dtype.kind in "iu":
                self.labels["theta"] = self.labels["theta"].astype(np.int32)
        whole = None
        if encode is not None:
            seen = _as_spec(world.observation_spec, encode(episode.observations), self.name)
        elif is_ours:
            seen = _as_spec(world.observation_spec, episode.observations, self.name)
        else:
            whole, seen = self._of_environment(world, dataset, episode)
        self.opening = index(seen, 0)
        self.observations = jax.tree.map(lambda x: x[1:], seen)
        if any(len(x) != T for x in jax.tree.leaves(self.observations)):
            raise ValueError(f"{self.name} needs {T + 1} observations, one before {T} actions and one after each.")
        self._read_actions(world, dataset, episode, is_ours=is_ours)
        self._read_labels(world, infos, whole)

    def _of_environment(self, world: World, dataset: Any, episode: Any) -> tuple[list[Any], PyTree]:
        """Return whole observations of a world's environment, and what the agent sees of them."""
        if not isinstance(world, HostWorld) or dataset.observation_space != world.observation_space:
            expected = f" {world.observation_space}" if isinstance(world, HostWorld) else ""
            raise ValueError(
                f"{self.name}: its observations are {dataset.observation_space}, not those of {world.name}'s "
                f"environment{expected}: give encode=."
            )
        if world.cue is not None:
            raise ValueError(f"{self.name} has no cues, which {world.name} tells after each action: give encode=.")
        if world.reads_masks:
            raise ValueError(f"{self.name} has no masks of actions, which {world.name} shows: give encode=.")
        T = self.num_rounds
        whole = [_row(world.observation_space, episode.observations, t) for t in range(T + 1)]
        rewards = np.concatenate([np.zeros(1, np.float32), self.rewards])
        ends = np.where(np.asarray(episode.terminations), 1, np.where(np.asarray(episode.truncations), 2, 0))
        seen = world.see(whole, None, rewards, np.concatenate([[0], ends]).astype(np.int32))
        return whole, seen

    def _read_actions(self, world: World, dataset: Any, episode: Any, *, is_ours: bool) -> None:
        if is_ours or not isinstance(world, HostWorld):
            self.actions = _as_spec(world.action_spec, episode.actions, self.name)
            return
        if dataset.action_space != world.action_space:
            raise ValueError(f"{self.name}: its actions are {dataset.action_space}, not {world.action_space}.")
        each = [
            from_action(world.action_space, _row(world.action_space, episode.actions, t))
            for t in range(self.num_rounds)
        ]
        self.actions = jax.tree.map(lambda *xs: np.stack(xs), *each)

    def _read_labels(self, world: World, infos: Any, whole: list[Any] | None) -> None:
        T = self.num_rounds
        names = list(_named("expert_action", world.action_spec.value))
        if missing := [name for name in names if name not in infos]:
            if len(missing) < len(names):
                raise ValueError(f"{self.name}: infos lack {', '.join(missing)}.")
        else:
            leaves = [np.asarray(infos[name])[:T] for name in names]
            found = jax.tree.structure(world.action_spec.value).unflatten(leaves)
            self.labels["expert_action"] = _as_spec(world.action_spec, found, f"{self.name}: expert_action")
        if "expert_probs" in infos:
            with np.errstate(divide="ignore"):
                log_probs = np.log(np.asarray(infos["expert_probs"], np.float64)[:T])
            self.labels["expert_log_probs"] = log_probs.astype(jnp.zeros((), float).dtype)
        for key in ("expert_mean", "expert_std"):
            if key in infos:
                self.labels[key] = np.asarray(infos[key])[:T]
        if whole is None or "expert_action" in self.labels or "theta" not in infos or not isinstance(world, HostWorld):
            return
        if world.expert is None or (self.executor == EXPERT).all():
            return
        thetas = self.labels["theta"][:T]
        advice = world.ask(whole[:T], thetas)
        distributions, actions = batched(advice, world.action_space, world.action_spec)
        if actions is None:
            keys = jax.random.split(jax.random.key(0), T)
            actions = jax.vmap(lambda Q, key: Q.sample(key))(distributions, keys)
        self.labels["expert_action"] = jax.tree.map(np.asarray, actions)
        if isinstance(distributions, Categorical):
            self.labels["expert_log_probs"] = np.asarray(distributions.log_probs)
        elif isinstance(distributions, Normal):
            self.labels |= {"expert_mean": np.asarray(distributions.loc), "expert_std": np.asarray(distributions.scale)}


def _row(space: Any, values: Any, t: int) -> Any:
    """Return row `t` of values of a space, which Minari holds as arrays in dictionaries and tuples."""
    kind = type(space).__name__
    if kind == "Dict":
        return {key: _row(part, values[key], t) for key, part in space.spaces.items()}
    if kind == "Tuple":
        return tuple(_row(part, x, t) for part, x in zip(space.spaces, values, strict=True))
    return values[t]


def _as_spec(spec: Spec, values: Any, name: str) -> PyTree:
    """Return values in the structure and the types of a spec."""
    if isinstance(spec, Parts):
        return _as_tree(spec.tree, values, name)
    x = np.asarray(values)
    if x.dtype.kind == "f" and np.dtype(spec.value.dtype).kind in "iu":
        raise ValueError(f"{name}: {spec} must be whole numbers, not {x.dtype}.")
    return x.astype(spec.value.dtype)


def _as_tree(tree: Any, values: Any, name: str) -> PyTree:
    if isinstance(tree, Spec):
        return _as_spec(tree, values, name)
    if isinstance(tree, dict):
        if not isinstance(values, dict) or values.keys() != tree.keys():
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise ValueError(f"{name} must have the parts {sorted(tree)}, not {found}.")
        return {key: _as_tree(part, values[key], f"{name}, {key}") for key, part in tree.items()}
    return type(tree)(_as_tree(part, x, name) for part, x in zip(tree, values, strict=True))


def _minari(caller: str) -> Any:
    try:
        import minari
    except ModuleNotFoundError as error:
        message = f'undelude.gym.{caller} needs {error.name}: pip install "minari[hdf5]".'
        raise ModuleNotFoundError(message, name=error.name) from error
    return minari
