"""Places of the variables of a graph in a drawing."""

import math
from collections.abc import Iterable

import numpy as np

from undelude.causal._graphs.graph import topological_order
from undelude.causal._names import Parents


def layout(graph: Parents, above: Iterable[str] | None = None) -> dict[str, tuple[float, float]]:
    """Place each variable in a column, counted to the right, and a row, counted downwards.

    The variables in `above` share the top row, each over the first two of its effects. The column of the others is
    their depth; within a column, the mean row of their parents orders them.

    Args:
        graph: the parents of each variable.
        above: names of the variables in the top row; by default those without parents.

    Returns:
        `(column, row)` by name.

    >>> layout({"Theta": (), "A": ("Theta",), "O": ("Theta", "A")})
    {'A': (0.0, 1.0), 'O': (1.0, 1.0), 'Theta': (0.5, 0.0)}
    """
    order = topological_order(graph)
    above = [name for name in order if (not graph[name] if above is None else name in set(above))]
    if len(above) == len(order):
        return {name: (float(i), 0.0) for i, name in enumerate(order)}
    depth: dict[str, int] = {}
    for name in order:
        if name not in above:
            depth[name] = max((depth[parent] + 1 for parent in graph[name] if parent in depth), default=0)
    places: dict[str, tuple[float, float]] = {}
    for column in range(max(depth.values()) + 1):
        layer = [name for name in depth if depth[name] == column]
        rows = {name: [places[parent][1] for parent in graph[name] if parent in places] for name in layer}
        layer.sort(key=lambda name: float(np.mean(rows[name])) if rows[name] else 0.0)
        places |= {name: (float(column), 1.0 + i) for i, name in enumerate(layer)}
    taken = -math.inf
    for name in above:
        effects = [places[child][0] for child in depth if name in graph[child]][:2]
        taken = max(float(np.mean(effects)) if effects else 0.0, taken + 1)
        places[name] = (taken, 0.0)
    return places
