"""Games in extensive form from causal models, and their information sets (Section 3, Remark 9)."""

import dataclasses
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from undelude.causal._graphs.graph import descendants
from undelude.causal._model.model import CausalModel
from undelude.causal._variables.variable import Variable

Moves = tuple[tuple[str, Hashable], ...]


@dataclasses.dataclass(frozen=True)
class Node:
    """A node of the tree, that is, a history of moves.

    Attributes:
        moves: `(name, value)` of each move so far, in the order of play.
        next: the variable that moves next; None at the end of the game.
        probability: of the last move given the moves before it; 1 at the root. None if the moves before it have
            probability 0 and the model does not define the conditional.
        reach: probability of all moves so far.
        visible: the moves so far that are not hidden.
    """

    moves: Moves
    next: str | None
    probability: float | None
    reach: float
    visible: Moves

    @property
    def is_possible(self) -> bool:
        """Whether the last move has a positive probability."""
        return self.probability is not None and self.probability > 0


def extensive_form(variables: Iterable[Variable], order: Sequence[str], hidden: Iterable[str] = ()) -> tuple[Node, ...]:
    """Return the tree of a game in which the variables of `order` move in turn; all others are summed out.

    If the moves before it include all parents and no descendant of a variable, the probability of its move is that of
    its mechanism, which is also defined after moves of probability 0. Otherwise it is the ratio of the marginals,

        P(x_d | x_1:d-1) = sum_rest P(x_1:d, rest) / sum_rest P(x_1:d-1, rest).

    Args:
        variables: the variables with their mechanisms, in any order.
        order: names in the order of play.
        hidden: names of moves that the agent does not observe.

    Returns:
        The root, then each level of the tree from its first values to its last.

    Raises:
        ValueError: a name is unknown.

    >>> import undelude as ud
    >>> frog = ud.tasks.prize_or_frog().causal_model()
    >>> [node.reach for node in extensive_form(frog.variables, ("A_1", "O_1"))[3:]]
    [0.0, 0.5, 0.0, 0.5]
    """
    mechanisms = {v.name: v for v in variables}
    hidden = set(hidden)
    for name in (*order, *hidden):
        if name not in mechanisms:
            raise ValueError(f"{name!r} is not in the game; it has {', '.join(mechanisms)}.")
    model = CausalModel(mechanisms.values())
    graph, joint = model.graph, np.asarray(model.query(order), float)
    level = [((), Node((), next(iter(order), None), 1.0, float(joint.sum()), ()))]
    nodes = [node for _, node in level]
    for depth, name in enumerate(order):
        follows = order[depth + 1] if depth + 1 < len(order) else None
        # [x_1, ..., x_d]: the probability of the moves up to this one.
        reach = joint.sum(tuple(range(depth + 1, len(order))))
        before = order[:depth]
        causal = set(graph[name]) <= set(before) and not descendants(graph, name) & set(before)
        distribution = _mechanism(mechanisms[name], before, reach.shape) if causal else _ratio(reach)
        grown = []
        for indices, node in level:
            for i, value in enumerate(mechanisms[name].values):
                p = float(distribution[(*indices, i)])
                moves = (*node.moves, (name, value))
                visible = node.visible if name in hidden else (*node.visible, (name, value))
                child = Node(moves, follows, None if np.isnan(p) else p, float(reach[(*indices, i)]), visible)
                grown.append(((*indices, i), child))
        level = grown
        nodes += [node for _, node in level]
    return tuple(nodes)


def information_sets(nodes: Iterable[Node], players: Iterable[str]) -> dict[tuple[str, Moves], tuple[Node, ...]]:
    """Return the sets of nodes that the agent cannot distinguish when it moves: they have equal visible moves.

    Args:
        nodes: the nodes of the tree.
        players: names of the variables that the agent moves.

    Returns:
        The nodes of each set, by the variable that moves and the visible moves, in the order of the tree.
    """
    players, sets = set(players), {}
    for node in nodes:
        if node.next in players:
            sets.setdefault((node.next, node.visible), []).append(node)
    return {key: tuple(found) for key, found in sets.items()}


def children(nodes: Sequence[Node]) -> dict[Moves, tuple[Node, ...]]:
    """Return the children of each node, by the moves of the node."""
    found: dict[Moves, list[Node]] = {node.moves: [] for node in nodes}
    for node in nodes:
        if node.moves:
            found[node.moves[:-1]].append(node)
    return {moves: tuple(following) for moves, following in found.items()}


def _mechanism(v: Variable, before: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
    """Return `P(v | parents)` with one axis for each variable before `v` and the last one for `v`."""
    axes = sorted(range(len(v.parents)), key=lambda i: before.index(v.parents[i]))
    table = np.asarray(v.table, float).transpose(*axes, len(v.parents))
    others = [i for i, name in enumerate(before) if name not in v.parents]
    return np.broadcast_to(np.expand_dims(table, others), shape)


def _ratio(reach: np.ndarray) -> np.ndarray:
    """Return the distribution of the last move given those before it; NaN if they have probability 0."""
    total = reach.sum(-1, keepdims=True)
    return np.divide(reach, total, out=np.full(reach.shape, np.nan), where=total > 0)
