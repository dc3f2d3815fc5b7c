"""The graph of an ONNX model by the names of its values, and changes of those names."""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

# Operators that give the elements of their first input in the same order, if there are as many.
RESHAPES = ("Expand", "Reshape", "Squeeze", "Unsqueeze")
# The name of a value, or an operator and the patterns of its inputs: `("Add", "x", ("Tanh", "y"))`.
# `("Split", i, n, x)` is part i of n equal parts of the last axis.
Pattern: TypeAlias = str | tuple[Any, ...]


@dataclasses.dataclass
class Graph:
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
    def read(cls, model: Any, onnx: Any) -> "Graph":
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

    def match(self, name: str, pattern: Pattern, found: dict[str, str]) -> bool:
        """Return whether `name` is computed as a pattern says, and add the values at its names to `found`."""
        if isinstance(pattern, str):
            return found.setdefault(pattern, name) == name
        kind, *taken = pattern
        node = self.maker(name, kind)
        if node is None:
            return False
        if kind == "Split":
            index, num, whole = taken
            shapes = [self.shapes.get(x) for x in node.output]
            of_last_axis = shapes[0] and shapes == [(*shapes[0][:-1], self.shapes[node.input[0]][-1] // num)] * num
            return bool(of_last_axis) and node.output[index] == name and self.match(node.input[0], whole, found)
        return len(node.input) == len(taken) and all(map(self.match, node.input, taken, [found] * len(taken)))

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

    def shape(self, shape: tuple[int, ...]) -> str:
        """Return the name of a constant for `Reshape`."""
        return self.constant(np.array(shape, np.int64), "_".join(["shape", *map(str, shape)]))

    def insert(self, new: list[Any], nodes: list[Any]) -> None:
        """Insert nodes before the first of `nodes`."""
        graph, names = self.model.graph, {name for node in nodes for name in node.output}
        first = next(i for i, node in enumerate(graph.node) if names & set(node.output))
        for node in reversed(new):
            graph.node.insert(first, node)

    def set(self, node: Any, kind: str, taken: list[str], **attributes: Any) -> bool:
        """Let `node` compute its value by another operator; return True."""
        node.CopyFrom(self.onnx.helper.make_node(kind, taken, list(node.output), **attributes))
        return True


def _shape(kind: Any) -> tuple[int, ...] | None:
    """Return the shape of a value, if all of it is known."""
    if not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
        return None
    return tuple(d.dim_value for d in kind.shape.dim)


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


def bypass(graph: Graph, node: Any) -> bool:
    """Let all nodes take the input of an `Identity`, not its output; return whether one did."""
    if node.op_type != "Identity" or node.output[0] not in set(_inputs(graph.model.graph)):
        return False
    for other in graph.model.graph.node:
        _swap_inputs(other, node.output[0], node.input[0])
    return True


def drop_unused(graph: Any) -> None:
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


def _swap_inputs(node: Any, old: str, new: str) -> None:
    _swap(node.input, old, new)
    for inner in _inner(node):
        for other in inner.node:
            _swap_inputs(other, old, new)
        # A loop or branch may return a value of the main graph.
        for output in inner.output:
            if output.name == old:
                output.name = new


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
