"""Batches of a vector environment as sequences of rows, in NumPy, JAX or Torch. They stay on their device."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PyTree

from undelude.gym._host import spaces
from undelude.gym._host.spaces import flatten, leaves_of, unflatten


class Rows(Sequence[Any]):
    """Values of many environments, as a sequence with one value for each.

    Attributes:
        batch: one array with a leading axis, or dictionaries and tuples of such arrays.
    """

    def __init__(self, batch: Any):
        self.batch = batch

    def __len__(self) -> int:
        return int(jax.tree.leaves(self.batch)[0].shape[0])

    def __getitem__(self, i: Any) -> Any:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return jax.tree.map(lambda x: x[i], self.batch)

    def take(self, which: np.ndarray) -> "Rows":
        """Return some rows."""
        if np.array_equal(which, np.arange(len(self))):
            return self
        return Rows(jax.tree.map(lambda x: x[_index_for(x, which)], self.batch))

    def where(self, mask: Bool[np.ndarray, " B"], other: "Rows") -> "Rows":
        """Return these rows where `mask` is true, and those of `other` elsewhere."""
        if mask.all():
            return self
        return Rows(jax.tree.map(lambda x, y: _where(mask, x, y), self.batch, other.batch))

    def finite(self) -> Bool[np.ndarray, " B"]:
        """Return which rows have finite numbers alone."""
        return self._all(lambda x: _isfinite(x) if is_float(x) else None)

    def differs(self, other: "Rows") -> Bool[np.ndarray, " B"]:
        """Return which rows are not those of another batch; NaN equals NaN."""
        same = Rows(jax.tree.map(lambda x, y: (x == y) | ((x != x) & (y != y)), self.batch, other.batch))
        return ~same._all(lambda x: x)

    def _all(self, holds: Callable[[Any], Any]) -> Bool[np.ndarray, " B"]:
        """Return for which rows `holds` is true of all numbers; it is None for arrays that are not asked about."""
        found = np.ones(len(self), bool)
        for x in jax.tree.leaves(self.batch):
            if (each := holds(x)) is not None:
                found &= host(each.reshape(len(self), -1).all(1))
        return found


def is_torch(x: Any) -> bool:
    """Return whether `x` is a Torch tensor, without importing Torch."""
    return any(kind.__name__ == "Tensor" and kind.__module__ == "torch" for kind in type(x).__mro__)


def is_float(x: Any) -> bool:
    """Return whether an array holds floats."""
    return x.is_floating_point() if is_torch(x) else np.issubdtype(x.dtype, np.floating)


def own(batch: Any) -> Any:
    """Return a copy of a batch on its device, because environments may change theirs in place; mappings as dicts."""
    if isinstance(batch, Mapping):
        return {key: own(x) for key, x in batch.items()}
    if isinstance(batch, tuple):
        return tuple(own(x) for x in batch)
    if is_torch(batch):
        return batch.detach().clone()
    return batch if isinstance(batch, jax.Array) else np.array(batch)


def to_jax(x: Any) -> Array | np.ndarray:
    """Return a tensor of Torch as the JAX array of the same memory; other arrays as they are.

    Raises:
        ValueError: the tensor is on a device that JAX does not have.
    """
    if not is_torch(x):
        return x
    import torch

    x = x.detach().contiguous()
    narrow = {torch.bool: torch.uint8, torch.int64: torch.int32, torch.float64: torch.float32}
    is_bool = x.dtype == torch.bool
    x = x.to(narrow[x.dtype]) if x.dtype in narrow else x
    try:
        array = jax.dlpack.from_dlpack(x)
    except Exception as error:
        raise ValueError(
            f"The environment's tensors are on {x.device}, and JAX, which has {jax.devices()}, cannot read them there: "
            "install JAX for that device, or return tensors on the CPU."
        ) from error
    array = array.astype(bool) if is_bool else array
    home = jax.devices()[0]
    return array if array.devices() == {home} else jax.device_put(array, home)


def like(x: Array | np.ndarray, example: Any, dtype: Any = None) -> Any:
    """Return an array in the library and on the device of `example`: a copy, because its reader may change it.

    Args:
        x: the array.
        example: of the kind.
        dtype: of NumPy; by default that of `x`.
    """
    dtype = np.dtype(x.dtype if dtype is None else dtype)
    if is_torch(example):
        import torch

        kind: torch.dtype = getattr(torch, dtype.name)
        if isinstance(x, jax.Array) and _same_place(x, example):
            return torch.from_dlpack(x).to(dtype=kind, copy=True)
        return torch.tensor(np.asarray(x), dtype=kind, device=example.device)
    if isinstance(example, jax.Array):
        return jnp.asarray(x, jax.dtypes.canonicalize_dtype(dtype))
    return np.array(x, dtype)


def _same_place(x: Array, tensor: Any) -> bool:
    (device,) = x.devices()
    if device.platform == "cpu" or tensor.device.type == "cpu":
        return device.platform == tensor.device.type
    return device.id == tensor.device.index


def host(x: Any) -> np.ndarray:
    """Return an array in NumPy."""
    return np.asarray(to_jax(x))


def columns(space: Any, whole: Rows, name: str) -> dict[str, Rows]:
    """Return the parts of a batch of values of `space` by the names of `leaves_of`."""
    return {part: Rows(x) for part, x in flatten(space, whole.batch, name).items()}


def read(space: Any, values: Sequence[Any]) -> Array | np.ndarray:
    """Return one part of many observations as the array that agents read, leading axis B, on its device."""
    if not isinstance(values, Rows):
        return spaces.read(space, values)
    x = to_jax(values.batch)
    if isinstance(x, np.ndarray):
        return spaces.read(space, x)
    match type(space).__name__:
        case "Discrete":
            return x.astype(jnp.int32) - int(space.start)
        case "MultiBinary":
            return x.astype(jnp.int32).reshape(len(x), -1)
        case "MultiDiscrete":
            return x.astype(jnp.int32).reshape(len(x), -1) - space.start.reshape(1, -1).astype(np.int32)
    return x.astype(jnp.float32)


def actions_like(space: Any, a: PyTree, is_open: Bool[np.ndarray, " B"], num_envs: int, example: Any) -> Any:
    """Return actions as a vector environment takes them: a Box clips them, and ended episodes do nothing.

    Args:
        space: of one action.
        a: our actions, leading axis B.
        is_open: the episodes that go on.
        num_envs: environments, B or more; those beyond B do nothing.
        example: an array of the library and device of the environment.
    """
    leaves = leaves_of(space, "")
    parts = {"": a} if list(leaves) == [""] else a
    acts = np.zeros(num_envs, bool)
    acts[: len(is_open)] = is_open
    each = {name: _action(part, parts[name], acts, example) for name, part in leaves.items()}
    return each[""] if list(leaves) == [""] else unflatten(space, each, "")


def _action(space: Any, a: Any, acts: Bool[np.ndarray, " N"], example: Any) -> Any:
    kind = type(space).__name__
    xp: Any = np if isinstance(example, np.ndarray) else jnp
    if isinstance(a, dict):  # A MultiDiscrete with symbols of several kinds.
        a = xp.stack([xp.asarray(a[key]) for key in sorted(a, key=int)], -1)
    a = xp.asarray(a)
    a = a.reshape(len(a), *space.shape)
    padded = xp.concatenate([a, xp.zeros((len(acts) - len(a), *a.shape[1:]), a.dtype)])
    x = xp.where(acts.reshape(-1, *[1] * (a.ndim - 1)), padded, xp.zeros((), a.dtype))
    if kind in ("Discrete", "MultiDiscrete"):
        x = x + np.asarray(space.start, x.dtype).reshape(1, *space.shape)
    if kind == "Box":
        x = xp.clip(x, space.low[None].astype(x.dtype), space.high[None].astype(x.dtype))
    return like(x, example, space.dtype)


def _index_for(x: Any, which: np.ndarray) -> Any:
    if not is_torch(x):
        return which
    import torch

    return torch.as_tensor(which, device=x.device)


def _where(mask: Bool[np.ndarray, " B"], x: Any, y: Any) -> Any:
    shape = (-1, *[1] * (x.ndim - 1))
    if is_torch(x):
        import torch

        return torch.where(torch.as_tensor(mask, device=x.device).reshape(shape), x, y)
    return (jnp if isinstance(x, jax.Array) else np).where(mask.reshape(shape), x, y)


def _isfinite(x: Any) -> Any:
    if is_torch(x):
        return x.isfinite()
    return (jnp if isinstance(x, jax.Array) else np).isfinite(x)
