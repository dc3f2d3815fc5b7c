"""Values as vectors, and the folder of weights, for the peers of the suite (`suite_peers.py`)."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from undelude._distributions import Block, Parts, Spec, Symbols
from undelude._versioned_tasks import find_task

FOLDER = Path("runs") / "peers"


def features(spec: Spec, x: Any) -> torch.Tensor:
    """Return values of `spec` as vectors, `[..., size(spec)]`: symbols as one-hot vectors, numbers as they are.

    A symbol outside the set, such as the blank of Gymnasium's environments, is a vector of zeros.
    """
    if isinstance(spec, Parts):
        assert spec.named is not None
        return torch.cat([features(part, x[name]) for name, part in spec.named.items()], -1)
    x = x if isinstance(x, torch.Tensor) else torch.tensor(np.asarray(x))
    if isinstance(spec, Symbols | Block):
        hot = torch.eye(spec.n)[x.long().clamp(0, spec.n - 1)] * ((x >= 0) & (x < spec.n)).unsqueeze(-1)
        return hot.flatten(-2) if isinstance(spec, Block) else hot
    return x.float().reshape(*x.shape[: x.ndim - len(spec.value.shape)], -1)


def size(spec: Spec) -> int:
    """Return the length of the vectors of `features`."""
    if isinstance(spec, Parts):
        return sum(map(size, spec.leaves))
    if isinstance(spec, Symbols | Block):
        return spec.n * (spec.length if isinstance(spec, Block) else 1)
    return torch.Size(spec.value.shape).numel()


def kept(peer: str, task: str) -> Any:
    """Return the stored weights of a peer on a task.

    Raises:
        FileNotFoundError: it was not trained there.
    """
    return torch.load(FOLDER / peer / f"{find_task(task).short_id}.pt", weights_only=False)
