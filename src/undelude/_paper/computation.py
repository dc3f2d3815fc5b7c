"""Figure 4, the computation graph of teaching, read off the library's own programs (Section 4.1, Appendix A).

A round's values get names where task, expert and agent return them; `collect` and `log_losses` are traced with these
names, and so is JAX's derivative of both. What reaches what is then read off the traced program.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, Bool, Float, Key, PyTree

from undelude._agents.base import AbstractAgent, with_reading
from undelude._agents.networks.interface import Interface
from undelude._agents.networks.lstm import LSTMAgent
from undelude._distributions import AbstractDistribution, Normal
from undelude._paper.dataflow import KEY, TANGENT, named, reaching_names
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._teaching.losses import log_losses
from undelude._teaching.settings import Teaching
from undelude._teaching.updates import collect
from undelude._types import Action, Observation

Kind = Literal["parameter", "memory", "distribution", "symbol", "loss"]
Panel = Literal["a", "b", "c"]

# A memory has one prime after the round's action and two after its observation, with which the next round begins.
NODES: dict[str, tuple[Kind, Panel]] = {
    "Theta": ("parameter", "a"),
    "E": ("memory", "a"),
    "W": ("memory", "a"),
    "M": ("memory", "a"),
    "Q_A": ("distribution", "c"),
    "A_bar": ("symbol", "c"),
    "P_A": ("distribution", "c"),
    "A": ("symbol", "c"),
    "loss_A": ("loss", "c"),
    "E'": ("memory", "c"),
    "W'": ("memory", "c"),
    "M'": ("memory", "c"),
    "P_O": ("distribution", "b"),
    "O": ("symbol", "b"),
    "loss_O": ("loss", "b"),
    "E''": ("memory", "b"),
    "W''": ("memory", "b"),
    "M''": ("memory", "b"),
}
# A round acts before it observes.
ORDER = "acb"
OF_THE_AGENT = ("M", "M'", "M''", "P_A", "P_O")


@dataclasses.dataclass(frozen=True)
class Node:
    """A value of the computation.

    Attributes:
        name: in the paper's letters, `"P_A"`; a prime after the action, two after the observation.
        kind: what it is.
        panel: of Figure 4, where it is computed: a, initialization; b, observation step; c, action step.
        drawn: whether it is sampled.
        shown: whether it is the agent's, or the agent's memory or predictions are computed from it directly.
    """

    name: str
    kind: Kind
    panel: Panel
    drawn: bool
    shown: bool


@dataclasses.dataclass(frozen=True)
class Edge:
    """`target` is computed from `source`, with no other node between.

    Attributes:
        source: name of a node.
        target: name of a node.
        stochastic: whether `target` is drawn: the squiggly arrows.
        gradient: whether back-propagation from a loss through both passes comes along this edge.
    """

    source: str
    target: str
    stochastic: bool
    gradient: bool


@dataclasses.dataclass(frozen=True)
class ComputationGraph:
    """What one round of teaching computes from what.

    Attributes:
        nodes: in the order of `NODES`.
        edges: in the order of their targets.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]

    @property
    def stops(self) -> tuple[Edge, ...]:
        """Draws from a value that a loss teaches, along which no gradient comes back: `P_A ~> A`."""
        taught = {edge.source for edge in self.edges if edge.gradient}
        return tuple(edge for edge in self.edges if edge.stochastic and not edge.gradient and edge.source in taught)

    def panel(self, panel: Panel) -> "ComputationGraph":
        """What is computed in one step, with what it is computed from; without the hand-over to the next round."""
        of = {node.name: node.panel for node in self.nodes}
        edges = tuple(
            edge
            for edge in self.edges
            if of[edge.target] == panel and ORDER.index(of[edge.source]) <= ORDER.index(panel)
        )
        kept = {name for name in of if of[name] == panel} | {edge.source for edge in edges}
        return ComputationGraph(tuple(node for node in self.nodes if node.name in kept), edges)

    def reaches(self, source: str, target: str, *, avoiding: Iterable[str] = (), gradient: bool = False) -> bool:
        """Whether a path leads from `source` to `target`, over any number of rounds.

        Args:
            source: where it begins.
            target: where it ends.
            avoiding: nodes that it may not pass.
            gradient: along edges only that carry a gradient.

        Raises:
            ValueError: a name is not that of a node.
        """
        names, avoiding = [node.name for node in self.nodes], set(avoiding)
        if unknown := {source, target, *avoiding} - set(names):
            raise ValueError(f"The graph has no node {', '.join(sorted(unknown))}; it has {', '.join(names)}.")
        forward = {(edge.source, edge.target) for edge in self.edges if edge.gradient or not gradient}
        return target in _closure({source}, forward, avoiding)


def teaching_graph(teaching: Teaching, process: InteractionProcess | None = None) -> ComputationGraph:
    """The graph of one round of `teach`: `collect`, `log_losses` and the derivative of the two, end to end.

    An edge says that the traced program computes one value from the other. It is stochastic where random bits enter
    on the way; it carries a gradient where JAX's derivative with respect to the agent's weights runs along it on to a
    loss. `teach` itself differentiates `log_losses` alone, for which episodes are data; here the pass that collects
    them is differentiated too, "end-to-end", so that only the stop-gradient in `episode` stands in between.

    Args:
        teaching: `Counterfactual(target="sample")` for the paper's; for `"distribution"`, `Q_A` is a node.
        process: one with a continuous Theta and continuous symbols, whose draws would carry a gradient if nothing
            stopped it; by default one as in Section 4.1, that uses all that it is given.

    Raises:
        TypeError: the process has a finite Theta.

    >>> from undelude._teaching.settings import Counterfactual
    >>> [f"{edge.source} ~> {edge.target}" for edge in teaching_graph(Counterfactual(target="sample")).stops]
    ['P_A ~> A']
    """
    process = _section_4_1() if process is None else process
    if process.finite:
        raise TypeError(f"{process.name} has a finite Theta: the graph needs one that is drawn, and continuous.")
    found = reaching_names(_trace(teaching, process))
    # The agent is computed twice, and the derivative must not pass from one pass to the other by a shared name.
    tangents = {(u, v) for v in found for u in found[v] if u.startswith(TANGENT) and v.startswith(TANGENT)}
    backward = {(v, u) for u, v in tangents}
    taught = _closure({v for _, v in tangents if _plain(v).startswith("loss")}, backward, set())
    gradient = {(_plain(u), _plain(v)) for u, v in tangents if v in taught}

    sources = {name: set() for name in NODES if name in {_plain(v) for v in found}}
    for v, values in found.items():
        if not v.startswith(TANGENT):
            sources[_plain(v)] |= {_plain(u) for u in values} - {_plain(v)}
    shown = set(OF_THE_AGENT).union(*(sources.get(name, set()) for name in OF_THE_AGENT))
    return ComputationGraph(
        nodes=tuple(Node(name, *NODES[name], drawn=KEY in sources[name], shown=name in shown) for name in sources),
        edges=tuple(
            Edge(u, v, stochastic=KEY in sources[v], gradient=(u, v) in gradient)
            for v in sources
            for u in NODES
            if u in sources[v]
        ),
    )


def _closure(reached: set[str], edges: set[tuple[str, str]], avoiding: set[str]) -> set[str]:
    """What can be reached, the start included."""
    while new := {v for u, v in edges if u in reached} - reached - avoiding:
        reached = reached | new
    return reached


def _plain(name: str) -> str:
    """The node's name: without "tangent of" and the pass."""
    return name.rsplit(" ", 1)[-1]


# The program, with names ------------------------------------------------------------------------------------------


class _NamedDraws(AbstractDistribution):
    """A distribution whose samples have a name."""

    distribution: AbstractDistribution
    name: str = eqx.field(static=True)

    def sample(self, key: Key[Array, ""]) -> Any:
        return named(self.distribution.sample(key), self.name)

    def log_prob(self, x: Any) -> Float[Array, ""]:
        return self.distribution.log_prob(x)

    def entropy(self) -> Float[Array, ""]:
        return self.distribution.entropy()


class _NamedTask(AbstractTask):
    task: AbstractTask

    def init(self, theta: PyTree) -> Any:
        return named(self.task.init(theta), "W")

    def Q_O(self, theta: PyTree, w: Any) -> AbstractDistribution:
        return _NamedDraws(self.task.Q_O(theta, named(w, "W'")), "O")

    def g_A(self, theta: PyTree, a: Action, w: Any) -> Any:
        return named(self.task.g_A(theta, a, named(w, "W")), "W'")

    def g_O(self, theta: PyTree, o: Observation, w: Any) -> Any:
        return named(self.task.g_O(theta, o, named(w, "W'")), "W''")

    def reward(self, theta: PyTree, w: Any, a: Action, o: Observation) -> Float[Array, ""]:
        return self.task.reward(theta, w, a, o)


class _NamedExpert(AbstractExpert):
    expert: AbstractExpert
    names_distribution: bool = eqx.field(static=True)

    def init(self, theta: PyTree) -> Any:
        return named(self.expert.init(theta), "E")

    def Q_A(self, theta: PyTree, e: Any) -> AbstractDistribution:
        distribution = self.expert.Q_A(theta, named(e, "E"))
        return _NamedDraws(named(distribution, "Q_A") if self.names_distribution else distribution, "A_bar")

    def g_A(self, theta: PyTree, a: Action, e: Any) -> Any:
        return named(self.expert.g_A(theta, a, named(e, "E")), "E'")

    def g_O(self, theta: PyTree, o: Observation, e: Any) -> Any:
        return named(self.expert.g_O(theta, o, named(e, "E'")), "E''")


class _NamedAgent(AbstractAgent):
    """An agent without `predict`, so that `log_losses` uses the four functions that define it."""

    agent: AbstractAgent
    program: str = eqx.field(static=True)

    def __init__(self, agent: AbstractAgent, *, program: str):
        self.agent, self.program = agent, program
        self.reading = agent.reading

    def init(self, *, num_rounds: int) -> Any:
        return self._named(self.agent.init(num_rounds=num_rounds), "M")

    def f_A(self, m: Any) -> AbstractDistribution:
        return self._named(self.agent.f_A(self._named(m, "M")), "P_A")

    def f_O(self, m: Any) -> AbstractDistribution:
        return self._named(self.agent.f_O(self._named(m, "M'")), "P_O")

    def g_A(self, a: Action, m: Any, *, intervened: Bool[Array, ""] | bool) -> Any:
        return self._named(self.agent.g_A(a, self._named(m, "M"), intervened=intervened), "M'")

    def g_O(self, o: Observation, m: Any) -> Any:
        return self._named(self.agent.g_O(o, self._named(m, "M'")), "M''")

    def act(self, m: Any, *, key: Key[Array, ""]) -> tuple[Action, Any]:
        a, m = AbstractAgent.act(self, m, key=key)
        return named(a, "A"), m

    def _named(self, tree: Any, label: str) -> Any:
        return named(tree, f"{self.program} {label}")


def _trace(teaching: Teaching, process: InteractionProcess) -> ClosedJaxpr:
    """The jaxpr of `(weights, key) -> (losses, their derivative with respect to the weights)`."""
    # One component: the cross-entropy of two normals has a closed form, that of a mixture looks at a draw.
    agent, key = LSTMAgent(process, hidden_size=2, key=jax.random.key(0)), jax.random.key(0)
    interface = Interface(process.specs, reads=8, features=2, scale=1.0, num_components=1, key=key)
    agent = eqx.tree_at(lambda agent: agent.interface, agent, interface)
    scores_distribution = teaching.target == "distribution"
    prior: Any = process.prior
    parts = _NamedDraws(prior, "Theta"), _NamedTask(process.task), _NamedExpert(process.expert, scores_distribution)
    process = eqx.tree_at(lambda p: (p.prior, p.task, p.expert), process, parts)
    weights, static = eqx.partition(agent, eqx.is_inexact_array)

    def losses(weights: PyTree, key: Array) -> tuple[Array, Array]:
        agent = with_reading(eqx.combine(weights, static), teaching.reading)
        collecting, learning = _NamedAgent(agent, program="collecting"), _NamedAgent(agent, program="learning")
        episode = collect(process, collecting, teaching, key)
        episode = eqx.tree_at(lambda e: e.expert, episode, episode.expert.distribution)
        action, observation = log_losses(learning, episode, target=teaching.target, process=process)
        return named(action, "loss_A"), named(observation, "loss_O")

    def with_derivative(weights: PyTree, key: Array) -> Any:
        return jax.jvp(lambda weights: losses(weights, key), (weights,), (weights,))

    return jax.make_jaxpr(with_derivative)(weights, jax.random.key(0))


class _Listener(AbstractTask):
    """`Q(O | Theta, W)`, normal about the sum of what it is given."""

    def init(self, theta: Float[Array, "1"]) -> Float[Array, "1"]:
        return theta

    def Q_O(self, theta: Float[Array, "1"], w: Float[Array, "1"]) -> Normal:
        return Normal(theta + w, jnp.ones(1))

    def g_A(self, theta: Float[Array, "1"], a: Float[Array, "1"], w: Float[Array, "1"]) -> Float[Array, "1"]:
        return a + w

    def g_O(self, theta: Float[Array, "1"], o: Float[Array, "1"], w: Float[Array, "1"]) -> Float[Array, "1"]:
        return o + w

    def reward(
        self, theta: Float[Array, "1"], w: Float[Array, "1"], a: Float[Array, "1"], o: Float[Array, "1"]
    ) -> Float[Array, ""]:
        return jnp.sum(o)


class _Demonstrator(AbstractExpert):
    """`Q(A | Theta, E)`, normal about the sum of what it is given."""

    def init(self, theta: Float[Array, "1"]) -> Float[Array, "1"]:
        return theta

    def Q_A(self, theta: Float[Array, "1"], e: Float[Array, "1"]) -> Normal:
        return Normal(theta + e, jnp.ones(1))

    def g_A(self, theta: Float[Array, "1"], a: Float[Array, "1"], e: Float[Array, "1"]) -> Float[Array, "1"]:
        return a + e

    def g_O(self, theta: Float[Array, "1"], o: Float[Array, "1"], e: Float[Array, "1"]) -> Float[Array, "1"]:
        return o + e


def _section_4_1() -> InteractionProcess:
    """A process in which every function uses all that Section 4.1 gives it."""
    prior = Normal(jnp.zeros(1), jnp.ones(1))
    # Two rounds, so that a memory can be seen to be handed on.
    return InteractionProcess(prior, None, _Listener(), _Demonstrator(), num_rounds=2, name="section 4.1")
