"""Sharing a batch over devices, and arrays over the processes of one `jax.distributed` run."""

import hashlib
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree


def episodes_mesh(batch_size: int) -> Mesh:
    """Return the devices over which a batch is split.

    With one process these are as many local devices as divide the batch, with several all devices of all processes.

    Raises:
        ValueError: there are several processes, and the batch cannot be split evenly over all their devices.
    """
    devices = jax.local_devices()
    if jax.process_count() == 1:
        return Mesh(np.asarray(devices[: math.gcd(batch_size, len(devices))]), ("episodes",))
    total = jax.device_count()
    if total != len(devices) * jax.process_count():
        raise ValueError(
            f"{jax.process_count()} processes have {total} devices, not the same number each, and process "
            f"{jax.process_index()} has {len(devices)}: on CPUs, set JAX_NUM_CPU_DEVICES to the same number for all."
        )
    if batch_size % total:
        raise ValueError(
            f"batch_size {batch_size} cannot be split evenly over the {total} devices of {jax.process_count()} "
            f"processes: make it a multiple of {total}, or, on CPUs, set JAX_NUM_CPU_DEVICES lower."
        )
    return Mesh(np.asarray(jax.devices()), ("episodes",))


def gather(text: str) -> list[str]:
    """Return the texts of all processes, in their order; every process must call it."""
    if jax.process_count() == 1:
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    # In 32 bits, so that processes of different precision understand each other and can say so.
    sizes = multihost_utils.process_allgather(np.asarray(data.size, np.int32))
    rows = multihost_utils.process_allgather(np.pad(data, (0, int(sizes.max()) - data.size)))
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


def check_same(what: str, text: str) -> None:
    """Raise `ValueError` in all processes if `text` differs between them; `what` begins the message."""
    digests = gather(hashlib.sha256(text.encode()).hexdigest())
    if differing := [str(i) for i, digest in enumerate(digests) if digest != digests[0]]:
        raise ValueError(
            f"{what} of process {' and '.join(differing)} differs from that of process 0: give all processes the same "
            "task, agent, teaching and settings, and install the same versions everywhere."
        )


def spread(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return `tree` with the arrays of process 0, on every device of `mesh`."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, everywhere)
    leaves, treedef = jax.tree.flatten(tree)
    check_same("The agent or the optimiser", repr([(x.shape, str(x.dtype)) for x in leaves]))
    values = [np.asarray(jax.random.key_data(x) if _is_key(x) else x) for x in leaves]
    # The broadcast is a sum, which would lose the sign of the float -0.0; bytes come through unchanged.
    whole = multihost_utils.broadcast_one_to_all(np.frombuffer(b"".join(x.tobytes() for x in values), np.uint8))
    ends = np.cumsum([x.nbytes for x in values])
    split = zip(np.split(whole, ends[:-1]), values, strict=True)
    parts = [np.frombuffer(part.tobytes(), x.dtype).reshape(x.shape) for part, x in split]
    placed = [jax.make_array_from_process_local_data(everywhere, x, x.shape) for x in parts]
    wrapped = [
        jax.random.wrap_key_data(new, impl=jax.random.key_impl(old)) if _is_key(old) else new
        for new, old in zip(placed, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, wrapped)


def local(tree: PyTree) -> PyTree:
    """Return a tree that `spread` or an update returned, on the first device of this process alone."""
    if jax.process_count() == 1:
        return jax.device_put(tree, jax.local_devices()[0])
    return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _is_key(x: Array | np.ndarray) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
