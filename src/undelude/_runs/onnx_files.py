"""Functions of an agent as ONNX models, by jax2onnx, and such models as functions, by ONNX Runtime."""

import contextlib
import importlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun

from undelude._checks import one_line
from undelude._runs.onnx_graph import rename
from undelude._runs.onnx_nodes import simplify
from undelude._runs.onnx_operations import convertible
from undelude._versions import installing

# Of the operators; ONNX Runtime reads it since 1.20.
OPSET = 21


def check_can_convert() -> None:
    """Raise `ModuleNotFoundError` if a package that writes or runs ONNX is missing."""
    _load("jax2onnx")
    _load("onnxruntime")


def convert(f: Callable[..., list], arguments: Sequence[jax.ShapeDtypeStruct], name: str) -> bytes:
    """Return the ONNX model of a function of flat arrays, with inputs `in_0`, `in_1`, ... and outputs `out_0`, ...

    All arguments are inputs, even those that `f` ignores.

    Args:
        f: takes arrays and returns a list of arrays.
        arguments: their shapes and types.
        name: of the function, for the model and for messages.

    Raises:
        ModuleNotFoundError: jax2onnx is not installed.
        TypeError: an operation of `f` has no conversion to ONNX.
    """
    jax2onnx, onnx = _load("jax2onnx"), _load("onnx")
    _load("onnx.reference")
    if not arguments:
        return _constants(f(), name).SerializeToString()
    # The conversion replaces functions of jax.numpy while it traces. Ours are traced before, so that no compiled
    # program keeps a replacement.
    traced = jax.make_jaxpr(f)(*arguments)
    try:
        with _quiet():
            model = jax2onnx.to_onnx(
                jaxpr_as_fun(convertible(traced)),
                arguments,
                model_name=name,
                opset=OPSET,
                enable_double_precision=bool(jax.config.read("jax_enable_x64")),
            )
        simplify(model, onnx)
        for i, output in enumerate(model.graph.output):
            _name_output(model.graph, output, f"out_{i}", onnx)
        onnx.checker.check_model(model)
    except Exception as error:
        # jax2onnx raises many types, NotImplementedError, KeyError and RuntimeError among them.
        raise TypeError(_refusal(name, error)) from error
    return model.SerializeToString()


def count_operators(model: bytes) -> dict[str, int]:
    """Return how often the main graph of an ONNX model has each operator."""
    graph = _load("onnx").load_from_string(model).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))


def read_onnx(model: bytes) -> Callable[..., list[np.ndarray]]:
    """Return an ONNX model as a function of arrays, run by ONNX Runtime on one thread of the CPU.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """
    runtime = _load("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # An error is raised too, and then told in our words.
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = [entry.name for entry in session.get_inputs()]
    outputs = [entry.name for entry in session.get_outputs()]

    def call(*arguments: Any) -> list[np.ndarray]:
        return session.run(outputs, dict(zip(inputs, arguments, strict=True)))

    return call


def check_equal(
    functions: dict[str, Callable[..., list]],
    models: dict[str, bytes],
    draw: Callable[[list], tuple[list, list]],
    num_actions: int,
    num_rounds: int = 3,
) -> None:
    """Raise `TypeError` if models answer otherwise than the functions they were made of, over an episode.

    Args:
        functions: `init`, `act`, `take`, `observe` and `step`, of flat arrays.
        models: their ONNX models.
        draw: from a memory to what `act` takes after the memory, and what `observe` takes.
        num_actions: arrays of an action.
        num_rounds: of the episode.
    """
    ours = {name: jax.jit(f) for name, f in functions.items()}
    memory = ours["init"]()
    steps = [("init", [], memory)]
    for _ in range(num_rounds):
        drawn, observation = draw(memory)
        out = ours["act"](*memory, *drawn)
        after = out[-len(memory) :]
        steps.append(("act", [*memory, *drawn], out))
        chosen = [*memory, *out[:num_actions]]
        steps.append(("take", chosen, ours["take"](*chosen)))
        memory = ours["observe"](*after, *observation)
        steps.append(("observe", [*after, *observation], memory))
        together = [*after, *observation, *drawn]
        steps.append(("step", together, ours["step"](*together)))
    for name, arguments, want in steps:
        try:
            have = read_onnx(models[name])(*map(np.asarray, arguments))
        except Exception as error:
            # ONNX Runtime has types of its own.
            raise TypeError(_refusal(name, error)) from error
        for x, y in zip(have, want, strict=True):
            if x.shape != y.shape or x.dtype != y.dtype or not np.allclose(x, y, rtol=1e-4, atol=1e-4):
                raise TypeError(_refusal(name, "the numbers of the ONNX model differ from the agent's."))


def _refusal(name: str, error: object) -> str:
    kind = f" ({type(error).__name__})" if isinstance(error, Exception) else ""
    return (
        f"export: {name} of this agent cannot be written as ONNX: {one_line(str(error))}{kind} "
        'Export it with the format "jax".'
    )


def _name_output(graph: Any, output: Any, name: str, onnx: Any) -> None:
    """Give an output its name. A copy is needed of an input, of a constant, and of a value that is an output twice."""
    computed = any(output.name in node.output for node in graph.node)
    if computed and [x.name for x in graph.output].count(output.name) == 1:
        rename(graph, output.name, name)
    else:
        graph.node.append(onnx.helper.make_node("Identity", [output.name], [name]))
        output.name = name


def _constants(values: list, name: str) -> Any:
    onnx = _load("onnx")
    arrays = [np.asarray(x) for x in values]
    names = [f"out_{i}" for i in range(len(arrays))]
    nodes = [
        onnx.helper.make_node("Constant", [], [out], value=onnx.numpy_helper.from_array(x))
        for out, x in zip(names, arrays, strict=True)
    ]
    outputs = [
        onnx.helper.make_tensor_value_info(out, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for out, x in zip(names, arrays, strict=True)
    ]
    graph = onnx.helper.make_graph(nodes, name, [], outputs)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="undelude")
    onnx.checker.check_model(model)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of the converter: of libraries that it cannot load and that are not used here, and of types."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _load(module: str) -> Any:
    try:
        with _quiet():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        message = f"writing and running ONNX needs {error.name}: {installing('onnx')}."
        raise ModuleNotFoundError(message, name=error.name) from error
