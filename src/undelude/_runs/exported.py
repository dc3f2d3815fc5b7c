"""The functions of an exported agent: what they compute, and the names and shapes of what they take and give."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path
from jaxtyping import Array, PyTree

from undelude._agents.base import AbstractAgent
from undelude._distributions import AbstractDistribution
from undelude._distributions.inversion import invert, num_uniforms
from undelude._process.host_world import World

Format = Literal["jax", "onnx"]
SEED = jax.ShapeDtypeStruct((2,), jnp.uint32)


class Function(NamedTuple):
    """A function of an export.

    Attributes:
        call: takes and returns PyTrees, of one episode.
        takes, gives: names of its arguments and results.
    """

    call: Callable[..., PyTree]
    takes: tuple[str, ...]
    gives: tuple[str, ...]


class Exported:
    """An agent as functions of flat arrays.

    Args:
        process: that the agent was made for.
        agent: whose parameters become constants.
        format: `"jax"`, whose `act` takes a seed, or `"onnx"`, whose `act` takes uniform numbers.
        num_rounds: T of the episodes.
        batch_size: B of a leading axis, or None for one episode.

    Attributes:
        random: what the caller draws, `"seed"` or `"uniforms"`.
        distribution: the type of predicted distributions.
        num_actions: arrays of an action.
        functions: by name.

    Raises:
        TypeError: the agent does not sample its prediction, or the inverse of its distribution is not known, for ONNX.
    """

    def __init__(
        self, process: World, agent: AbstractAgent, *, format: Format, num_rounds: int, batch_size: int | None
    ):
        self.agent, self.batch_size = agent, batch_size
        self.random = "seed" if format == "jax" else "uniforms"
        # `init` decides the size of the memory: a window may be shorter than the episode, and a cache is as long.
        memory = jax.eval_shape(lambda: agent.init(num_rounds=num_rounds))
        distribution = jax.eval_shape(agent.f_A, memory)
        self.distribution = type(distribution).__name__
        self.drawn = SEED if format == "jax" else _uniforms(agent, distribution)
        action, observation = (spec.value for spec in process.specs)
        self.num_actions = len(jax.tree.leaves(action))
        self._shapes: dict[str, PyTree] = {
            "memory": memory,
            self.random: self.drawn,
            "action": action,
            "distribution": distribution,
            "observation": observation,
        }
        self.functions = _functions(agent, self.random, num_rounds)

    def flat(self, name: str) -> tuple[Callable[..., list], list[jax.ShapeDtypeStruct]]:
        """Return a function of flat arrays, and the shapes and types of its arguments."""
        leaves, treedef = jax.tree.flatten(tuple(self._of(x) for x in self.functions[name].takes))
        return _flat(self.functions[name].call, treedef, self.batch_size), leaves

    def described(self, name: str) -> dict[str, Any]:
        """Return the names, shapes and types of the arguments and the results of a function, for the manifest."""
        _, takes, gives = self.functions[name]
        return {
            "arguments": [row for x in takes for row in _rows(x, self._of(x))],
            "results": [row for x in gives for row in _rows(x, self._of(x))],
        }

    def _of(self, name: str) -> PyTree:
        return _batched(self._shapes[name], self.batch_size)

    def draws(self) -> Callable[[list], tuple[list, list]]:
        """Return a function that draws the uniform numbers of a round, and an observation that the agent predicts."""
        agent, rng, like = self.agent, np.random.default_rng(0), self._shapes["observation"]

        def predict(m: PyTree, seed: Array) -> PyTree:
            o = agent.f_O(m).sample(_key(seed))
            # Parts that are not predicted, such as a mask of actions, are floats in the prediction.
            return jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), o, like)

        treedef = jax.tree.structure((self._shapes["memory"], SEED))
        observe = jax.jit(_flat(predict, treedef, self.batch_size))

        def draw(memory: list) -> tuple[list, list]:
            uniforms, seeds = (_batched(x, self.batch_size).shape for x in (self.drawn, SEED))
            drawn = rng.random(uniforms, self.drawn.dtype)
            return [drawn], observe(*memory, rng.integers(2**32, size=seeds, dtype=np.uint32))

        return draw


def _functions(agent: AbstractAgent, random: str, num_rounds: int) -> dict[str, Function]:
    def init() -> PyTree:
        return agent.init(num_rounds=num_rounds)

    def act(m: PyTree, drawn: Array) -> PyTree:
        predicted = agent.f_A(m)
        if random == "seed":
            a, m = agent.act(m, key=_key(drawn))
        else:
            # A caller's number may be rounded up to 1.
            a = invert(predicted, jnp.clip(drawn, 0, 1 - jnp.finfo(drawn.dtype).epsneg))
        return a, predicted, take(m, a)

    def take(m: PyTree, a: PyTree) -> PyTree:
        return agent.g_A(a, m, intervened=agent.own_actions == "do")

    def observe(m: PyTree, o: PyTree) -> PyTree:
        return agent.g_O(o, m)

    def step(m: PyTree, o: PyTree, drawn: Array) -> PyTree:
        return act(observe(m, o), drawn)

    acted = ("action", "distribution", "memory")
    return {
        "init": Function(init, (), ("memory",)),
        "act": Function(act, ("memory", random), acted),
        "take": Function(take, ("memory", "action"), ("memory",)),
        "observe": Function(observe, ("memory", "observation"), ("memory",)),
        "step": Function(step, ("memory", "observation", random), acted),
    }


def _key(seed: Array) -> Array:
    return jax.random.wrap_key_data(seed, impl="threefry2x32")


def _uniforms(agent: AbstractAgent, distribution: AbstractDistribution) -> jax.ShapeDtypeStruct:
    """Return the shape of the uniform numbers of one action.

    Raises:
        TypeError: the agent does not sample its prediction, or the inverse of its distribution is not known.
    """
    if type(agent).act is not AbstractAgent.act:
        raise TypeError(
            f"export: a {type(agent).__name__} chooses actions by its own method act, with random keys, which ONNX "
            'does not have. Export it with the format "jax".'
        )
    return jax.ShapeDtypeStruct((num_uniforms(distribution),), jnp.result_type(float))


def _flat(f: Callable[..., PyTree], treedef: Any, batch_size: int | None) -> Callable[..., list]:
    """Return `f` with flat arguments and results, for one episode or for a batch."""

    def call(*leaves: Any) -> list:
        if batch_size is None:
            return jax.tree.leaves(f(*treedef.unflatten(leaves)))
        if not leaves:
            return [jnp.broadcast_to(x, (batch_size, *jnp.shape(x))) for x in jax.tree.leaves(f())]
        return jax.tree.leaves(jax.vmap(f)(*treedef.unflatten(leaves)))

    return call


def _batched(shapes: PyTree, batch_size: int | None) -> PyTree:
    lead = () if batch_size is None else (batch_size,)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((*lead, *x.shape), x.dtype), shapes)


def _rows(name: str, shapes: PyTree) -> list[dict[str, Any]]:
    """Return the manifest's entries for the arrays of `shapes`."""
    leaves, _ = tree_flatten_with_path(shapes)
    return [{"name": name + keystr(path), "shape": list(x.shape), "dtype": str(x.dtype)} for path, x in leaves]
