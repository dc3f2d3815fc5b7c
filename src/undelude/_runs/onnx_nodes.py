"""Fewer nodes for the same ONNX function: at batch 1 their number decides the time."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

# Operators of shapes, axes and bounds, which the converter writes even for constants.
FOLDED = ("Add", "Cast", "Concat", "Constant", "Expand", "Gather", "Max", "Min", "Mul", "Range", "Sub")
# Operators that give the elements of their first input in the same order, if there are as many.
RESHAPES = ("Expand", "Reshape", "Squeeze", "Unsqueeze")
# Elements of a folded constant; the runtime computes larger ones, so that the file stays small.
MAX_FOLDED = 4096


def simplify(model: Any, onnx: Any) -> None:
    """Replace nodes of the main graph, so that fewer compute the same numbers; inputs and outputs stay.

    Constants are folded, and changes of shape merged. A normalisation becomes `LogSoftmax`, and two bounds `Clip`.

    Args:
        model: an ONNX model, which is changed.
        onnx: the module.
    """
    # They are inferred again: a rule may change the type of an index.
    del model.graph.value_info[:]
    while True:
        graph = _Graph.read(model, onnx)
        changed = [_replace(graph, node) for node in model.graph.node]
        changed += [_bypass(graph, node) for node in model.graph.node]
        _drop_unused(model.graph)
        if not any(changed):
            return


def rename(graph: Any, old: str, new: str) -> None:
    """Give the value `old` the name `new` in all nodes, those of loops and branches included."""
    for node in graph.node:
        _swap(node.input, old, new)
        _swap(node.output, old, new)
        for inner in _inner(node):
            rename(inner, old, new)
    for output in graph.output:
        if output.name == old:
            output.name = new


@dataclasses.dataclass
class _Graph:
    """The main graph of a model, by the names of its values.

    Attributes:
        model: whose graph it is.
        onnx: the module.
        makers: the node that computes a value.
        constants: values that are known.
        shapes, types: of values, if they are known.
        uses: how many nodes and outputs take a value.
    """

    model: Any
    onnx: Any
    makers: dict[str, Any]
    constants: dict[str, np.ndarray]
    shapes: dict[str, tuple[int, ...]]
    types: dict[str, int]
    uses: Counter[str]

    @classmethod
    def read(cls, model: Any, onnx: Any) -> "_Graph":
        """Read the graph of a model."""
        inferred = onnx.shape_inference.infer_shapes(model).graph
        values = {x.name: x.type.tensor_type for x in (*inferred.value_info, *inferred.input, *inferred.output)}
        initial = model.graph.initializer
        shapes = {name: _shape(x) for name, x in values.items()} | {x.name: tuple(x.dims) for x in initial}
        return cls(
            model,
            onnx,
            {name: node for node in model.graph.node for name in node.output},
            {x.name: onnx.numpy_helper.to_array(x) for x in initial},
            {name: shape for name, shape in shapes.items() if shape is not None},
            {name: x.elem_type for name, x in values.items()} | {x.name: x.data_type for x in initial},
            Counter(_inputs(model.graph)) + Counter(output.name for output in model.graph.output),
        )

    def maker(self, name: str, *kinds: str) -> Any | None:
        """Return the node that computes `name`, if it is one of these operators."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def source(self, name: str) -> str:
        """Return the first value with the elements of `name`, whose shape may be another."""
        node = self.maker(name, *RESHAPES)
        if node is None or not self.same_size(node.input[0], name):
            return name
        return self.source(node.input[0])

    def same_size(self, one: str, other: str) -> bool:
        """Return whether both values have one known number of elements."""
        a, b = self.shapes.get(one), self.shapes.get(other)
        return a is not None and b is not None and np.prod(a, dtype=int) == np.prod(b, dtype=int)

    def constant(self, value: np.ndarray, name: str) -> str:
        """Add a constant and return its name."""
        if name not in self.constants:
            self.model.graph.initializer.append(self.onnx.numpy_helper.from_array(value, name))
            self.constants[name] = value
        return name

    def set(self, node: Any, kind: str, taken: list[str], **attributes: Any) -> bool:
        """Let `node` compute its value by another operator; return True."""
        node.CopyFrom(self.onnx.helper.make_node(kind, taken, list(node.output), **attributes))
        return True


def _shape(kind: Any) -> tuple[int, ...] | None:
    """Return the shape of a value, if all of it is known."""
    if not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
        return None
    return tuple(d.dim_value for d in kind.shape.dim)


def _replace(graph: _Graph, node: Any) -> bool:
    """Replace `node` by the first rule that applies; return whether one does."""
    rules = (_fold, _reshape, _log_softmax, _clip, _index)
    return len(node.output) == 1 and any(rule(graph, node) for rule in rules)


def _fold(graph: _Graph, node: Any) -> bool:
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


def _reshape(graph: _Graph, node: Any) -> bool:
    """Merge changes of shape into one, or none if the last shape is the first."""
    name = node.output[0]
    source, shape = graph.source(name), graph.shapes.get(name)
    if source == name or shape is None:
        return False
    if graph.shapes[source] == shape:
        return graph.set(node, "Identity", [source])
    if node.input[0] == source:
        return False
    target = graph.constant(np.array(shape, np.int64), "_".join(["shape", *map(str, shape)]))
    return graph.set(node, "Reshape", [source, target])


def _log_softmax(graph: _Graph, node: Any) -> bool:
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


def _is_last(graph: _Graph, reduction: Any) -> bool:
    """Return whether a reduction is along the last axis alone."""
    axes = graph.constants.get(reduction.input[1]) if len(reduction.input) == 2 else None
    shape = graph.shapes.get(reduction.input[0])
    return axes is not None and shape is not None and axes.tolist() in ([-1], [len(shape) - 1])


def _clip(graph: _Graph, node: Any) -> bool:
    """Write `min(high, max(low, x))` as `Clip`."""
    high, upper = _bound(graph, node, "Min")
    low, lower = _bound(graph, graph.makers.get(upper), "Max")
    if not high or not low or graph.shapes.get(lower) != graph.shapes.get(node.output[0]):
        return False
    # Clip takes bounds of rank 0.
    bounds = [graph.constant(graph.constants[x].reshape(()), f"{x}_bound") for x in (low, high)]
    return graph.set(node, "Clip", [lower, *bounds])


def _bound(graph: _Graph, node: Any | None, kind: str) -> tuple[str, str]:
    """Return a number and a value of which `node` is the `Min` or `Max`; two empty names if it is not."""
    if node is None or node.op_type != kind or len(node.input) != 2:
        return "", ""
    for bound, x in (tuple(node.input), tuple(node.input)[::-1]):
        if bound in graph.constants and graph.constants[bound].size == 1:
            return bound, x
    return "", ""


def _index(graph: _Graph, node: Any) -> bool:
    """Clip an index as the 32-bit integer that it is: `Gather` takes both kinds."""
    int32 = graph.onnx.TensorProto.INT32
    cast = graph.maker(node.input[0], "Cast") if node.op_type == "Clip" else None
    takers = [x for x in graph.model.graph.node if node.output[0] in x.input]
    indices = all(x.op_type == "Gather" and x.input[1] == node.output[0] for x in takers)
    if not cast or graph.types.get(cast.input[0]) != int32 or len(takers) != graph.uses[node.output[0]] or not indices:
        return False
    bounds = [graph.constant(graph.constants[x].astype(np.int32), f"{x}_int32") for x in node.input[1:]]
    return graph.set(node, "Clip", [cast.input[0], *bounds])


def _bypass(graph: _Graph, node: Any) -> bool:
    """Let all nodes take the input of an `Identity`, not its output; return whether one did."""
    if node.op_type != "Identity" or node.output[0] not in set(_inputs(graph.model.graph)):
        return False
    for other in graph.model.graph.node:
        _swap_inputs(other, node.output[0], node.input[0])
    return True


def _swap_inputs(node: Any, old: str, new: str) -> None:
    _swap(node.input, old, new)
    for inner in _inner(node):
        for other in inner.node:
            _swap_inputs(other, old, new)
        # A loop or branch may return a value of the main graph.
        for output in inner.output:
            if output.name == old:
                output.name = new


def _drop_unused(graph: Any) -> None:
    """Remove nodes and constants that no output needs."""
    outputs = {output.name for output in graph.output}
    while unused := [x for x in graph.node if not (outputs | set(_inputs(graph))) & set(x.output)]:
        for node in unused:
            graph.node.remove(node)
    used = outputs | set(_inputs(graph))
    for constant in [x for x in graph.initializer if x.name not in used]:
        graph.initializer.remove(constant)


def _inputs(graph: Any) -> Iterator[str]:
    """Yield the names of the inputs of all nodes, those of loops and branches and their results included."""
    for node in graph.node:
        yield from node.input
        for inner in _inner(node):
            yield from _inputs(inner)
            yield from (output.name for output in inner.output)


def _inner(node: Any) -> Iterator[Any]:
    """Yield the graphs of a loop or of branches."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _swap(names: Any, old: str, new: str) -> None:
    for i, name in enumerate(names):
        if name == old:
            names[i] = new
