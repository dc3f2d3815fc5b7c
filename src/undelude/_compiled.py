"""Compiled functions that notice when a value changes which the user's code reads from outside its arguments.

A method of a task, an expert or an agent may read a global, a variable of an enclosing function, or an attribute of its
class. `jax.jit` reads it once, while it traces, and would use the old value for ever. `compiled` makes these values
part of the cache key, so that a changed value leads to a new compilation.
"""

import dataclasses
import dis
import functools
import hashlib
import os
import sys
import threading
import weakref
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from importlib.metadata import version
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Generic, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.core
import numpy as np
from jaxtyping import PyTree

from undelude._errors import is_users_file
from undelude._programs import work

P = ParamSpec("P")
R = TypeVar("R")

# Levels of objects within objects that are compared by value; deeper ones are compared by identity.
MAX_DEPTH = 5
# The values that each of the user's functions under `jax.jit` read last. The cache that JAX keeps for it ignores them.
LAST_READ: weakref.WeakKeyDictionary[Any, tuple[tuple[Hashable, Hashable], ...]] = weakref.WeakKeyDictionary()
# Options of XLA for `compiled_for`, by the work that they do; see docs/performance.md. XLA refuses an option
# that it does not know.
MUCH_OPTIONS = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}
LITTLE_OPTIONS = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,
}
KNOWN_JAXLIB = ("0.10.2",)
# Numbers that a program computes in two or three seconds if it is optimised least: as long as better code compiles.
LITTLE = 800_000_000
# The value that the last trace left in each place that it changed; a place is, for example, a global of a function.
LAST_LEFT: dict[Hashable, Hashable] = {}
# Places that do not count, because the code changes them whenever it is traced.
OWN_RECORDS: set[Hashable] = set()
# The attributes that Python gives to each class.
OF_EVERY_CLASS = {*vars(type("Empty", (), {})), "__annotations__", "_abc_impl", "__abstractmethods__", "__orig_bases__"}


class Outside(tuple[tuple[Hashable, Hashable], ...]):
    """Pairs of a place and its value, which code reads from outside its arguments.

    It is a leaf of PyTrees, unlike other tuples.
    """


@dataclasses.dataclass(frozen=True)
class Same:
    """An object that equals only itself."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Compiled(Generic[P, R]):
    """A function under `equinox.filter_jit`, with the values that its arguments' code reads outside them in the key."""

    def __init__(self, f: Callable[P, R], optimised: Callable[[Any], Any] = lambda program: program):
        # Of each thread, because two may call the function at once.
        self._trace = threading.local()
        jit: Any = eqx.filter_jit

        @jit
        def jitted(outside: Outside, *args: P.args, **kwargs: P.kwargs) -> R:
            del outside
            self._trace.has_run = True
            return f(*args, **kwargs)

        self._program = optimised(jitted)
        functools.update_wrapper(self, f)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `f(*args, **kwargs)`."""
        tree = args, kwargs
        return self.call(read_outside(tree), tree, *args, **kwargs)

    def call(self, outside: Outside, tree: PyTree, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return `f(*args, **kwargs)` if `outside` is what `read_outside(tree)` returned, for the code of a call."""
        self._trace.has_run = False
        result = self._program(outside, *args, **kwargs)
        if self._trace.has_run:
            _note_changes(outside, read_outside(tree))
        return result


def read_now(tree: PyTree, *functions: Compiled[Any, Any]) -> tuple[Callable[..., Any], ...]:
    """Return functions as of now: the values that the code in `tree` reads outside are read here, not in each call.

    For a loop whose calls all get `tree`: a large table that is a global takes a tenth of a second to read.
    """
    outside = read_outside(tree)
    return tuple(functools.partial(f.call, outside, tree) for f in functions)


def compiled(f: Callable[P, R]) -> Compiled[P, R]:
    """Return `f` under `equinox.filter_jit`, with the values that `read_outside` finds in its arguments in the key."""
    return Compiled(f)


def compiled_for(*, runs: int) -> Callable[[Callable[P, R]], Compiled[P, R]]:
    """Return a decorator like `compiled`, for a program that may take longer to compile than to run.

    XLA optimises it less, and least if it does little work in all its runs: then it compiles four times as fast and
    runs three times as long.

    Args:
        runs: about how often one command runs it.
    """
    return lambda f: Compiled(f, functools.partial(_optimised_by_work, runs=runs))


def _note_changes(before: Outside, after: Outside) -> None:
    """Note the places whose values changed while code was traced.

    A place that changes in two traces, and not between them, holds a record of the code itself, such as a count of
    calls: it does not count as a setting. A value that is computed on first use changes in one trace alone.
    """
    values = dict(after)
    for place, value in before:
        if values.get(place, value) != value:
            if LAST_LEFT.get(place) == value:
                OWN_RECORDS.add(place)
            LAST_LEFT[place] = values[place]


def _optimised_by_work(program: Any, *, runs: int) -> Any:
    """Return a program that XLA optimises by the work it does, if its options are known and the user has set none."""
    is_set = any(name in os.environ.get("XLA_FLAGS", "") for name in LITTLE_OPTIONS)
    if is_set or version("jaxlib") not in KNOWN_JAXLIB or jax.config.values["jax_disable_most_optimizations"]:
        return program
    jit: Any = eqx.filter_jit
    little, much = (jit(lambda *args: program(*args), compiler_options=x) for x in (LITTLE_OPTIONS, MUCH_OPTIONS))
    chosen: dict[Hashable, Any] = {}

    def run(*args: Any) -> Any:
        if jax.default_backend() != "cpu":  # The limit is a measurement on CPUs.
            return program(*args)
        key = jax.tree.structure(eqx.filter(args, eqx.is_array)), tuple(map(_shape_or_value, jax.tree.leaves(args)))
        if key not in chosen:
            # JAX keeps this trace of `program`: the version that runs makes no other.
            jaxpr = eqx.filter_make_jaxpr(program)(*args)[0].jaxpr
            chosen[key] = little if runs * work(jaxpr) < LITTLE else much
        return chosen[key](*args)

    return run


def _shape_or_value(x: Any) -> Hashable:
    """Return what an argument adds to the choice of options."""
    if hasattr(x, "shape"):
        return x.shape, x.dtype
    return x if isinstance(x, bool | int | float | str) else None


def read_outside(tree: object) -> Outside:
    """Return the present values that the user's code in a PyTree reads from outside its arguments.

    The code is the methods of the user's Equinox modules in `tree`, the user's functions in it, and the user's
    functions and classes that these call. Arrays, plain data and objects of the user's classes are compared by value,
    up to five levels deep; objects of libraries by identity.
    """
    reader = _Reader()
    reader.visit(tree)
    return Outside(reader.values)


class _Reader:
    """Collects the values that code reads.

    Attributes:
        values: pairs of a place and its value, in the order of the walk.
    """

    def __init__(self, seen: set[int] | None = None) -> None:
        self.values: list[tuple[Hashable, Hashable]] = []
        self._seen = set() if seen is None else seen

    def visit(self, x: object) -> None:
        """Read the code of the modules and functions in a PyTree."""
        kind = type(x)
        if (names := _module_fields(kind)) is not None:
            self.visit_class(kind)
            for name in names:
                self.visit(getattr(x, name, None))
        elif isinstance(x, tuple | list):
            for item in x:
                self.visit(item)
        elif isinstance(x, dict):
            for item in x.values():
                self.visit(item)
        elif _may_be_function(kind) and _is_function(x):
            self.visit_function(x)

    def visit_class(self, kind: type) -> None:
        """Read the methods of a class and of its bases, and the data in them."""
        for base in _user_bases(kind):
            if self._is_known(base):
                continue
            codes = [getattr(member, "__code__", None) for member in vars(base).values()]
            # An attribute that the methods assign, such as a count of calls, is not a setting.
            skipped = OF_EVERY_CLASS.union(_field_names(base), *(_stored(code) for code in codes if code))
            for name, member in vars(base).items():
                if isinstance(member, staticmethod | classmethod):
                    member = member.__func__
                elif isinstance(member, property | functools.cached_property):
                    member = member.fget if isinstance(member, property) else member.func
                if _is_function(member):
                    self.visit_function(member)
                elif name not in skipped and not (name.startswith("__") and name.endswith("__")):
                    self._add((base, name), member)

    def visit_function(self, function: Any) -> None:
        """Read the globals, enclosing variables and defaults of a function, and the code of those that it calls."""
        match function:
            case MethodType():
                self.visit(function.__self__)
                self.visit_function(function.__func__)
                return
            case functools.partial():
                self.visit((function.func, function.args, function.keywords))
                self._add((function.func, "partial"), (function.args, function.keywords))
                return
        if not isinstance(function, FunctionType):
            self._visit_jitted(function.__wrapped__)
            return
        if _is_library(function.__module__) or self._is_known(function):
            return
        for path in _global_paths(function.__code__):
            if path[0] not in _stored(function.__code__):
                self._read(function.__code__, function.__globals__.get(path[0]), path)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                self._read(function.__code__, cell.cell_contents, (name,))
            except ValueError:  # Not assigned yet.
                continue
        for module in _imported(function.__code__):
            names = vars(sys.modules[module]) if module in sys.modules and not _is_library(module) else {}
            for name in function.__code__.co_names:
                if name in names:
                    self._read(function.__code__, names[name], (module, name))
        if function.__defaults__ or function.__kwdefaults__:
            self._add((function.__code__, "defaults"), (function.__defaults__, function.__kwdefaults__))

    def _visit_jitted(self, function: Any) -> None:
        reader = _Reader(self._seen)
        reader.visit(function)
        values = tuple(reader.values)
        if values and LAST_READ.setdefault(function, values) != values:
            LAST_READ[function] = values
            jax.clear_caches()
        self.values += values

    def _read(self, code: CodeType, x: Any, path: tuple[str, ...]) -> None:
        """Read the global or enclosing variable `path[0]`, which is `x`, and the attributes of a module after it."""
        for name in path[1:]:
            if not isinstance(x, ModuleType) or _is_library(x.__name__):
                break
            x = getattr(x, name, None)
        if isinstance(x, ModuleType):
            return
        self._add((code, path), x)

    def _add(self, place: Hashable, value: object) -> None:
        if place not in OWN_RECORDS:
            self.values.append((place, self.frozen(value)))

    def frozen(self, x: Any, depth: int = 0) -> Hashable:
        """Return a hashable value that changes if `x` does, and read the code of functions and classes in it."""
        match x:
            case None | bool() | int() | str() | bytes() | complex():
                return type(x), x
            case float():
                return float, repr(x)  # In this form nan equals nan.
            case np.ndarray() | np.generic() if x.dtype != object:
                data = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
                return np.ndarray, np.shape(x), x.dtype.str, hashlib.blake2b(data.data).digest()
            case jax.core.Tracer():
                return jax.core.Tracer  # It belongs to a trace, which ends before the next call.
            case jax.Array():
                return Same(x)  # It cannot change.
            case type():
                self.visit_class(x)
                return Same(x)
            case _ if _is_function(x):
                self.visit_function(x)
                return Same(getattr(x, "__func__", x))
        if depth == MAX_DEPTH:
            return Same(x)
        match x:
            case tuple() | list() | deque():
                return type(x), tuple(self.frozen(item, depth + 1) for item in x)
            case set() | frozenset():
                return type(x), frozenset(self.frozen(item, depth + 1) for item in x)
            case Mapping():
                return type(x), tuple((k, self.frozen(v, depth + 1)) for k, v in x.items() if isinstance(k, Hashable))
        if not isinstance(x, eqx.Module | SimpleNamespace | Namespace) and _is_library(type(x).__module__):
            return Same(x)
        self.visit_class(type(x))
        slots = (name for base in type(x).__mro__ for name in getattr(base, "__slots__", ()) if hasattr(x, name))
        state = {name: getattr(x, name) for name in slots} | getattr(x, "__dict__", {})
        return (Same(type(x)), self.frozen(state, depth + 1)) if state else Same(x)

    def _is_known(self, x: object) -> bool:
        known = id(x) in self._seen
        self._seen.add(id(x))
        return known


@functools.lru_cache(maxsize=4096)
def _global_paths(code: CodeType) -> tuple[tuple[str, ...], ...]:
    """Return the globals that code and the functions defined in it read, each with the attributes taken of it."""
    return tuple(dict.fromkeys(_find_global_paths(code)))


@functools.lru_cache(maxsize=4096)
def _stored(code: CodeType) -> frozenset[str]:
    """Return the names of the globals and attributes that code assigns."""
    own = (x.argval for x in dis.get_instructions(code) if x.opname in ("STORE_GLOBAL", "STORE_ATTR"))
    return frozenset(own).union(*(_stored(x) for x in code.co_consts if isinstance(x, CodeType)))


@functools.lru_cache(maxsize=4096)
def _imported(code: CodeType) -> tuple[str, ...]:
    """Return the modules that code imports itself."""
    return tuple(x.argval for x in dis.get_instructions(code) if x.opname == "IMPORT_NAME")


def _find_global_paths(code: CodeType) -> Iterator[tuple[str, ...]]:
    path: tuple[str, ...] = ()
    for instruction in dis.get_instructions(code):
        if path and instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            path = (*path, instruction.argval)
            continue
        if path:
            yield path
        path = (instruction.argval,) if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") else ()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _find_global_paths(constant)


def _is_function(x: object) -> bool:
    """Return whether `x` is a Python function, a bound method, a partial, or one that `jax.jit` or its like wraps."""
    if isinstance(x, FunctionType | MethodType | functools.partial):
        return True
    try:
        return not isinstance(x, type) and isinstance(getattr(x, "__wrapped__", None), FunctionType)
    except Exception:  # From a `__getattr__` of the user's.
        return False


@functools.lru_cache(maxsize=4096)
def _may_be_function(kind: type) -> bool:
    return any("__call__" in vars(base) for base in kind.__mro__)


@functools.lru_cache(maxsize=4096)
def _module_fields(kind: type) -> tuple[str, ...] | None:
    return _field_names(kind) if issubclass(kind, eqx.Module) else None


@functools.lru_cache(maxsize=4096)
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


@functools.lru_cache(maxsize=4096)
def _user_bases(kind: type) -> tuple[type, ...]:
    """Return a class and its bases, without those of libraries."""
    return tuple(base for base in kind.__mro__ if not _is_library(base.__module__))


@functools.lru_cache(maxsize=4096)
def _is_library(module: str | None) -> bool:
    """Return whether a module belongs to this package, the standard library or an installed package."""
    root = (module or "builtins").partition(".")[0]
    if root in (__name__.partition(".")[0], *sys.builtin_module_names):
        return True
    file = getattr(sys.modules.get(root), "__file__", None)
    if root == "__main__" or file is None:  # A notebook has no file, nor does a namespace package.
        return root in sys.stdlib_module_names
    return not is_users_file(file)
