"""The order of the rows, and keyed random draws in their conversations, which depend on no device and no past draw."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt64
from numpy.random.bit_generator import ISeedSequence


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


class _Words(ISeedSequence):
    """Four words that seed a generator; `numpy.random.SeedSequence` takes ten times as long to make them."""

    def __init__(self, words: UInt64[np.ndarray, " 4"]):
        self.words = words

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> UInt64[np.ndarray, " 4"]:
        """Return the words."""
        del n_words, dtype
        return self.words


def generators(seed: int, keys: Sequence[tuple[int, int]], party: int) -> list[np.random.Generator]:
    """Return a random generator for each key; it depends on the seed, its key and the party alone.

    Args:
        seed: of the run.
        keys: `(step, row)`.
        party: the number of the party that draws.
    """
    state = np.zeros(len(keys), np.uint64)
    numbers = np.array(keys, np.uint64).reshape(-1, 2)
    for number in (np.uint64(seed), np.uint64(party), numbers[:, 0], numbers[:, 1]):
        state = _mixed(state ^ number)
    words = _mixed(state[:, None] + _GAMMA * np.arange(1, 5, dtype=np.uint64))
    seeds: list[Any] = [_Words(x) for x in words]
    return [np.random.Generator(np.random.PCG64(x)) for x in seeds]


# Of SplitMix64 (Steele, Lea and Flood, 2014).
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """Return one step of SplitMix64: each bit of the result depends on all bits of `x`."""
    x = x + _GAMMA
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
