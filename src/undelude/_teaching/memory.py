"""Errors about memory that name the batch size; XLA names the size of one allocation, and Linux nothing."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

# Files that hold the limit of a container, in bytes.
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@contextlib.contextmanager
def naming_batch_size(batch_size: int, needed: int, devices: Sequence[Any]) -> Iterator[None]:
    """Raise `MemoryError` if a program needs more memory than there is, before the block or when XLA says so in it.

    Args:
        batch_size: of the updates, for the message.
        needed: the bytes that the updates need on each device (`bytes_needed`).
        devices: that share the batch.
    """
    here = [device for device in devices if device.process_index == jax.process_index()]
    shared = here[0].platform == "cpu"  # The devices of a CPU share its memory.
    needed *= len(here) if shared else 1
    has = _machine_bytes() if shared else (here[0].memory_stats() or {}).get("bytes_limit")
    message = f"batch_size {batch_size} needs about {needed / 1e9:.1f} GB" + ("" if shared else " on each device")
    if has:
        message += f", of {has / 1e9:.1f} GB"
    message += ": use a smaller one, or a microbatch_size, with which a device learns from fewer episodes at a time."
    if has and needed > has:
        raise MemoryError(message)
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(message) from error


def bytes_needed(program: Any) -> int:
    """Return the bytes that a program needs on each device, arguments aside; 0 if the backend does not tell."""
    with contextlib.suppress(AttributeError, NotImplementedError, jax.errors.JaxRuntimeError):
        return program.memory_analysis().temp_size_in_bytes
    return 0


def _machine_bytes() -> int | None:
    """Return the memory of this machine, or of its container or process if they have less."""
    found = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows.
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(ImportError):  # Windows.
        import resource

        found += [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    for file in LIMITS:
        with contextlib.suppress(OSError, ValueError):  # There is no such file, or no limit: the word max.
            found.append(int(Path(file).read_text()))
    return min(found, default=None)
