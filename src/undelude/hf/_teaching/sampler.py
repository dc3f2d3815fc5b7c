"""The order of the rows, keyed by seed and epoch, with each batch repeated where generations are used several times."""

from collections.abc import Callable, Iterator

import numpy as np
import torch


class KeyedSampler(torch.utils.data.Sampler[int]):
    """A random order of the rows that depends on the seed and the epoch alone, not on the number of devices.

    Args:
        size: of the data set.
        seed: of the order.
        epoch: returns the number of the epoch that begins.
        batch: rows of an optimiser step, over all devices and accumulation steps.
        repeats: of each batch; rows that do not fill a batch are left out of the epoch if there are several.
    """

    def __init__(self, size: int, seed: int, epoch: Callable[[], int], batch: int, repeats: int):
        self.size, self.seed, self.epoch, self.batch, self.repeats = size, seed, epoch, batch, repeats
        if repeats > 1 and size < batch:
            raise ValueError(
                f"The data set has {size} rows, fewer than the {batch} of an optimiser step: with "
                f"steps_per_generation={repeats} there is no batch to repeat. Give more rows or smaller batches."
            )

    def __len__(self) -> int:
        return self.size if self.repeats == 1 else self.size // self.batch * self.batch * self.repeats

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the rows of one epoch."""
        order = np.random.default_rng([self.seed, self.epoch()]).permutation(self.size).tolist()
        if self.repeats == 1:
            yield from order
            return
        for i in range(0, self.size - self.batch + 1, self.batch):
            for _ in range(self.repeats):
                yield from order[i : i + self.batch]
