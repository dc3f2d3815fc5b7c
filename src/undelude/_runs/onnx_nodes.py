"""Fewer nodes for the same ONNX function: at batch 1 their number decides the time."""

from typing import Any

import numpy as np

from undelude._runs.onnx_cells import gru, lstm
from undelude._runs.onnx_graph import RESHAPES, Graph, Pattern, bypass, drop_unused

# Operators of shapes, axes and bounds, which the converter writes even for constants.
FOLDED = ("Add", "Cast", "Concat", "Constant", "Expand", "Gather", "Max", "Min", "Mul", "Range", "Sub")
# Elements of a folded constant; the runtime computes larger ones, so that the file stays small.
MAX_FOLDED = 4096


def simplify(model: Any, onnx: Any) -> None:
    """Replace nodes of the main graph, so that fewer compute the same numbers; inputs and outputs stay.

    Constants are folded, and changes of shape merged. A normalisation becomes `LogSoftmax`, two bounds `Clip`, and a
    recurrent cell `LSTM` or `GRU`.

    Args:
        model: an ONNX model, which is changed.
        onnx: the module.
    """
    # They are inferred again: a rule may change the type of an index.
    del model.graph.value_info[:]
    while True:
        graph = Graph.read(model, onnx)
        changed = [_replace(graph, node) for node in list(model.graph.node)]
        changed += [bypass(graph, node) for node in model.graph.node]
        drop_unused(model.graph)
        if not any(changed):
            return


def _replace(graph: Graph, node: Any) -> bool:
    """Replace `node` by the first rule that applies; return whether one does."""
    rules = (_fold, _reshape, _matmul, _log_softmax, _clip, _index, _bounded, _sample, lstm, gru)
    return len(node.output) == 1 and any(rule(graph, node) for rule in rules)


def _fold(graph: Graph, node: Any) -> bool:
    """Compute a node whose inputs are known."""
    name = node.output[0]
    small = np.prod(graph.shapes.get(name, (MAX_FOLDED + 1,)), dtype=int) <= MAX_FOLDED
    if node.op_type == "Shape" and node.input[0] in graph.shapes and not node.attribute:
        value = np.array(graph.shapes[node.input[0]], np.int64)
    elif node.op_type in (*FOLDED, *RESHAPES) and small and all(x in graph.constants for x in node.input):
        evaluator = graph.onnx.reference.ReferenceEvaluator(node)
        (value,) = evaluator.run(None, {x: graph.constants[x] for x in node.input})
    else:
        return False
    return graph.set(node, "Identity", [graph.constant(np.asarray(value), f"{name}_folded")])


def _reshape(graph: Graph, node: Any) -> bool:
    """Merge changes of shape into one, or none if the last shape is the first."""
    name = node.output[0]
    source, shape = graph.source(name), graph.shapes.get(name)
    if source == name or shape is None:
        return False
    if graph.shapes[source] == shape:
        return graph.set(node, "Identity", [source])
    if node.input[0] == source:
        return False
    return graph.set(node, "Reshape", [source, graph.shape(shape)])


def _log_softmax(graph: Graph, node: Any) -> bool:
    """Write `y - log sum exp y` along the last axis, where `y = x - max x`, as `LogSoftmax` of x."""
    if node.op_type != "Sub":
        return False
    y, log = graph.maker(node.input[0], "Sub"), graph.maker(graph.source(node.input[1]), "Log")
    total = log and graph.maker(graph.source(log.input[0]), "ReduceSum")
    exp = total and graph.maker(total.input[0], "Exp")
    if not y or not exp or exp.input[0] != node.input[0]:
        return False
    top = graph.source(y.input[1])
    bounded = graph.maker(top, "Max")
    if bounded and len(bounded.input) == 2:
        # The converter writes a lower bound of -inf.
        free = [x for x in bounded.input if not np.all(np.isneginf(graph.constants.get(x, 0.0)))]
        top = graph.source(free[0]) if len(free) == 1 else top
    largest = graph.maker(top, "ReduceMax")
    if not largest or largest.input[0] != y.input[0] or not (_is_last(graph, largest) and _is_last(graph, total)):
        return False
    return graph.set(node, "LogSoftmax", [y.input[0]], axis=-1)


def _is_last(graph: Graph, reduction: Any) -> bool:
    """Return whether a reduction is along the last axis alone."""
    axes = graph.constants.get(reduction.input[1]) if len(reduction.input) == 2 else None
    shape = graph.shapes.get(reduction.input[0])
    return axes is not None and shape is not None and axes.tolist() in ([-1], [len(shape) - 1])


def _clip(graph: Graph, node: Any) -> bool:
    """Write `min(high, max(low, x))` as `Clip`."""
    high, upper = _bound(graph, node, "Min")
    low, lower = _bound(graph, graph.makers.get(upper), "Max")
    if not high or not low or graph.shapes.get(lower) != graph.shapes.get(node.output[0]):
        return False
    # Clip takes bounds of rank 0.
    bounds = [graph.constant(graph.constants[x].reshape(()), f"{x}_bound") for x in (low, high)]
    return graph.set(node, "Clip", [lower, *bounds])


def _bound(graph: Graph, node: Any | None, kind: str) -> tuple[str, str]:
    """Return a number and a value of which `node` is the `Min` or `Max`; two empty names if it is not."""
    if node is None or node.op_type != kind or len(node.input) != 2:
        return "", ""
    for bound, x in (tuple(node.input), tuple(node.input)[::-1]):
        if bound in graph.constants and graph.constants[bound].size == 1:
            return bound, x
    return "", ""


def _index(graph: Graph, node: Any) -> bool:
    """Clip an index as the 32-bit integer that it is: `Gather` takes both kinds."""
    int32 = graph.onnx.TensorProto.INT32
    cast = graph.maker(node.input[0], "Cast") if node.op_type == "Clip" else None
    takers = [x for x in graph.model.graph.node if node.output[0] in x.input]
    indices = all(x.op_type == "Gather" and x.input[1] == node.output[0] for x in takers)
    if not cast or graph.types.get(cast.input[0]) != int32 or len(takers) != graph.uses[node.output[0]] or not indices:
        return False
    bounds = [graph.constant(graph.constants[x].astype(np.int32), f"{x}_int32") for x in node.input[1:]]
    return graph.set(node, "Clip", [cast.input[0], *bounds])


def _bounded(graph: Graph, node: Any) -> bool:
    """Remove a `Clip` of a value that its bounds hold already, such as the symbol that a sample is."""
    if node.op_type != "Clip" or not all(x in graph.constants for x in node.input[1:]):
        return False
    least, most = _range(graph, node.input[0])
    if len(node.input) != 3 or least < graph.constants[node.input[1]] or most > graph.constants[node.input[2]]:
        return False
    return graph.set(node, "Identity", [node.input[0]])


def _range(graph: Graph, name: str) -> tuple[float, float]:
    """Return bounds of a value."""
    if name in graph.constants:
        return graph.constants[name].min(), graph.constants[name].max()
    if node := graph.maker(name, "ReduceMin", "ReduceMax", "Identity", *RESHAPES):
        return _range(graph, node.input[0])
    if node := graph.maker(name, "Where"):
        low, high = zip(*(_range(graph, x) for x in node.input[1:]), strict=True)
        return min(low), max(high)
    return -np.inf, np.inf


# The first symbol whose cumulative probability exceeds a threshold; the sum of a symbol without mass is set to zero.
_SAMPLE: Pattern = ("ReduceMin", ("Where", ("Greater", "masked", "threshold"), "symbols", "last"), "axes")
_MASKED: Pattern = ("Where", ("Greater", "p", "zero"), ("CumSum", "p", "axis"), "none")
_THRESHOLD: Pattern = ("Mul", "u", ("ReduceMax", "masked", "axes"))


def _sample(graph: Graph, node: Any) -> bool:
    """Do without the mask in the first cumulative probability that exceeds a threshold.

    `CumSum` adds in order: a symbol without mass has the sum of the one before, and is never the first.
    """
    v: dict[str, str] = {}
    if not graph.match(node.output[0], _SAMPLE, v) or not graph.match(v["masked"], _MASKED, v):
        return False
    found = {"masked": v["masked"]}
    if not graph.match(graph.source(v["threshold"]), _THRESHOLD, found) or not graph.maker(v["p"], "Exp"):
        return False
    cumulative = graph.makers[v["masked"]].input[1]
    largest = graph.makers[graph.makers[graph.source(v["threshold"])].input[1]]
    zero = all(x in graph.constants and not graph.constants[x].any() for x in (v["zero"], v["none"]))
    rising = v["symbols"] in graph.constants and np.all(np.diff(graph.constants[v["symbols"]], axis=-1) > 0)
    last = len(graph.shapes.get(v["p"], ())) - 1
    in_order = graph.constants.get(v["axis"]) == last and not any(x.i for x in graph.makers[cumulative].attribute)
    if not (zero and rising and in_order and _is_last(graph, node) and _is_last(graph, largest)):
        return False
    for taker in (graph.makers[graph.makers[node.input[0]].input[0]], largest):
        taker.input[0] = cumulative
    return True


def _matmul(graph: Graph, node: Any) -> bool:
    """Write a product of a vector, or of rows, with a matrix as `MatMul`; for `Einsum` runtimes have slower code."""
    given = {x.name: graph.onnx.helper.get_attribute_value(x) for x in node.attribute}
    if node.op_type == "Einsum":
        plain = given["equation"] in (b"a,ab->b", b"ab,bc->ac")
    else:
        plain = node.op_type == "Gemm" and given == {"alpha": 1.0, "beta": 0.0}
    return plain and graph.set(node, "MatMul", node.input[:2])
