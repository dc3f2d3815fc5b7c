"""JAX settings of the command line: every core, and compiled programs on disk."""

import contextlib
import math
import os
from pathlib import Path

import jax

from undelude._cache import keep_programs


def configure(*, batch_size: int = 1, num_processes: int = 1) -> None:
    """Use every core and keep compiled programs on disk; settings of the user take precedence.

    Args:
        batch_size: episodes per update. Devices share them evenly, so that the number of CPU devices must divide it.
        num_processes: number of processes that share the batch.
    """
    by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if jax.config.values["jax_num_cpu_devices"] < 0 and not by_flag:
        num_devices = share_of_cores(usable_cores(), batch_size=batch_size, num_processes=num_processes)
        with contextlib.suppress(RuntimeError):  # JAX is running already, for example if `main` is called from Python.
            jax.config.update("jax_num_cpu_devices", num_devices)
    keep_programs(announce=False)


def share_of_cores(cores: int, *, batch_size: int, num_processes: int) -> int:
    """Return the largest number of CPU devices per process that splits the batch evenly."""
    return max(n for n in range(1, cores + 1) if batch_size % (n * num_processes) == 0 or n == 1)


def usable_cores() -> int:
    """Count the cores that this process may use, by its affinity and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)
