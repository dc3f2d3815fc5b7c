"""Recurrent cells as the operators that ONNX has for them: `LSTM` and `GRU`, each one node in place of about 17."""

from typing import Any, NamedTuple

import numpy as np

from undelude._runs.onnx_graph import Graph, Pattern

# A larger alphabet would need a large identity matrix.
MAX_SYMBOLS = 64


def _parts(num: int, whole: Pattern) -> list[Pattern]:
    return [("Split", i, num, whole) for i in range(num)]


_I, _F, _G, _O = _parts(4, ("Add", ("Add", "x", ("MatMul", "h", "R")), "b"))
_CELL = ("Add", ("Mul", ("Sigmoid", _F), "c"), ("Mul", ("Sigmoid", _I), ("Tanh", _G)))
# h' = sigmoid(o) tanh(c'), c' = sigmoid(f) c + sigmoid(i) tanh(g); x + h R + b has the parts i, f, g, o.
LSTM: Pattern = ("Mul", ("Sigmoid", _O), ("Tanh", _CELL))

_X_R, _X_Z, _X_N = _parts(3, ("Add", "x", "b"))
_H_R, _H_Z, _H_N = _parts(3, ("MatMul", "h", "R"))
_Z = ("Sigmoid", ("Add", _X_Z, _H_Z))
_N = ("Tanh", ("Add", _X_N, ("Mul", ("Sigmoid", ("Add", _X_R, _H_R)), ("Add", _H_N, "b_n"))))
# h' = (1 - z) n + z h, n = tanh(x_n + r (h_n + b_n)); x + b has the parts r, z, n, and so has h R.
GRU: Pattern = ("Add", ("Mul", ("Sub", "one", _Z), _N), ("Mul", _Z, "h"))


class _Input(NamedTuple):
    """A value that a cell reads by a matrix `[n, G]`; a symbol selects a row."""

    name: str
    weight: np.ndarray
    is_symbol: bool


def lstm(graph: Graph, node: Any) -> bool:
    """Write the node that computes the hidden state of an LSTM, and that of its cell state, as `LSTM`."""
    v: dict[str, str] = {}
    if not graph.match(node.output[0], LSTM, v) or v["b"] not in graph.constants:
        return False
    cell = graph.makers[graph.makers[node.input[1]].input[0]]
    return _replace(graph, [node, cell], "LSTM", v, ("h", "c"), (0, 3, 1, 2))


def gru(graph: Graph, node: Any) -> bool:
    """Write the node that computes the hidden state of a GRU as `GRU`."""
    v: dict[str, str] = {}
    if not graph.match(node.output[0], GRU, v) or not {"b", "b_n", "one"} <= {k for k in v if v[k] in graph.constants}:
        return False
    one = np.all(graph.constants[v["one"]] == 1)
    return bool(one) and _replace(graph, [node], "GRU", v, ("h",), (1, 0, 2), linear_before_reset=1)


def _replace(
    graph: Graph,
    nodes: list[Any],
    kind: str,
    v: dict[str, str],
    states: tuple[str, ...],
    order: tuple[int, ...],
    **attributes: int,
) -> bool:
    """Replace the nodes that compute the states after a symbol; return False if the operator cannot.

    Args:
        graph: is changed.
        nodes: that compute the states.
        kind: the operator.
        v: the values that the cell takes, with a constant bias.
        states: their names in `v`.
        order: of the parts of our weights in those of the operator.
        attributes: of the operator.
    """
    shape, R = graph.shapes.get(v["h"], ()), graph.constants.get(v["R"])
    # The runtime has the operators in single precision.
    single = graph.types.get(v["h"]) == graph.onnx.TensorProto.FLOAT
    inputs = _inputs(graph, v["x"], shape[:-1])
    if R is None or len(shape) not in (1, 2) or not single or not inputs:
        return False
    B, D, prefix = (*shape[:-1], 1)[0], shape[-1], f"{nodes[0].output[0]}_{kind}"
    new, reads = [], []

    def add(operator: str, taken: list[str], outputs: list[str], **attributes: int) -> str:
        new.append(graph.onnx.helper.make_node(operator, taken, outputs, **attributes))
        return outputs[0]

    def reshape(name: str, width: int, to: str) -> str:
        return add("Reshape", [name, graph.shape((1, B, width))], [f"{prefix}_{to}"])

    for i, x in enumerate(inputs):
        n = len(x.weight)
        if x.is_symbol:
            # A row of the identity: `[1, 1, n]` of one symbol, `[1, B, n]` of B.
            rows = graph.constant(_identity(n, batched=len(shape) == 2), f"rows_{n}")
            reads.append(add("Gather", [rows, x.name], [f"{prefix}_x_{i}"], axis=1))
        else:
            reads.append(reshape(x.name, n, f"x_{i}"))
    W, bias = _weights(inputs, graph.constants[v["b"]].ravel())
    W, R, bias = (_ordered(x, order).T for x in (W, R, bias))
    last = graph.constants[v["b_n"]].ravel() if "b_n" in v else np.zeros(0, bias.dtype)
    bias = np.concatenate([bias, np.zeros(len(bias) - len(last), bias.dtype), last])
    taken = [
        reads[0] if len(reads) == 1 else add("Concat", reads, [f"{prefix}_x"], axis=2),
        graph.constant(W[None], f"{prefix}_W"),
        graph.constant(R[None], f"{v['R']}_{kind}"),
        # The operator is faster if it has no bias.
        graph.constant(bias[None], f"{prefix}_B") if bias.any() else "",
        "",
        *(reshape(v[name], D, name) for name in states),
    ]
    after = [f"{prefix}_{name}_next" for name in states]
    add(kind, taken, ["", *after], hidden_size=D, **attributes)
    graph.insert(new, nodes)
    return all(graph.set(x, "Reshape", [y, graph.shape(shape)]) for x, y in zip(nodes, after, strict=True))


def _weights(inputs: list[_Input], bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix of all inputs, and the bias; a symbol selects one row, which takes the bias up."""
    symbol = next((i for i, x in enumerate(inputs) if x.is_symbol), None)
    weights = [x.weight + bias if i == symbol else x.weight for i, x in enumerate(inputs)]
    return np.concatenate(weights), bias if symbol is None else np.zeros_like(bias)


def _identity(n: int, *, batched: bool) -> np.ndarray:
    identity = np.eye(n, dtype=np.float32)[None]
    return identity if batched else identity[:, :, None]


def _inputs(graph: Graph, name: str, batch: tuple[int, ...]) -> list[_Input]:
    """Return the values of which `name` is a sum of linear maps; none if it is not."""
    if node := graph.maker(name, "Add"):
        terms = [x for x in node.input if x not in graph.constants or graph.constants[x].any()]
        inputs = [_inputs(graph, x, batch) for x in terms]
        return [x for found in inputs for x in found] if all(inputs) else []
    if node := graph.maker(name, "Gather"):
        table, i = node.input
        weight = graph.constants.get(table)
        fits = weight is not None and weight.ndim == 2 and len(weight) <= MAX_SYMBOLS and np.isfinite(weight).all()
        on_rows = all(x.i == 0 for x in node.attribute) and graph.shapes.get(i) == batch
        return [_Input(i, weight, True)] if weight is not None and fits and on_rows else []
    if node := graph.maker(name, "MatMul"):
        weight = graph.constants.get(node.input[1])
        rows = weight is not None and weight.ndim == 2 and graph.shapes.get(node.input[0]) == (*batch, len(weight))
        return [_Input(node.input[0], weight, False)] if weight is not None and rows else []
    return []


def _ordered(weight: np.ndarray, order: tuple[int, ...]) -> np.ndarray:
    """Return the parts of the last axis in another order."""
    parts = np.split(weight, len(order), axis=-1)
    return np.concatenate([parts[i] for i in order], axis=-1)
