"""The E-step shared over the processes of one `jax.distributed` run.

All processes read the same demonstrations and make the same starts. Each has a share of the rows of every block on its
devices, and adds up their expected statistics; XLA adds the sums of all processes. The parameters are on all of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from undelude._teaching.sharding import gather, local, spread
from undelude.offline._fitting.parameters import Blocks


class Sharing:
    """The devices of all processes. With one process nothing is shared, and every method returns what it is given."""

    def __init__(self) -> None:
        self.mesh = Mesh(np.asarray(jax.devices()), ("rows",)) if jax.process_count() > 1 else None

    def blocks(self, blocks: Blocks) -> Blocks:
        """Return the blocks with their rows split over the devices; rows of weight 0 fill the last share."""
        if self.mesh is None:
            return blocks
        size = blocks.weights.shape[1]
        missing = -size % self.mesh.size
        sharding = NamedSharding(self.mesh, PartitionSpec(None, "rows"))

        def place(x: Any, fill: int) -> jax.Array:
            whole = np.pad(np.asarray(x), [(0, 0), (0, missing), *[(0, 0)] * (x.ndim - 2)], constant_values=fill)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return Blocks(place(blocks.rows, 0), place(blocks.labels, -1), place(blocks.weights, 0))

    def call(self, function: Callable[..., Any], first: PyTree, blocks: Blocks, *others: Any) -> Any:
        """Call `function(first, blocks, *others)`, and return its result on the first device of this process.

        The function is compiled, and its result depends on the blocks through sums over all rows alone.
        """
        if self.mesh is None:
            return function(first, blocks, *others)
        placed = [self._everywhere(x) for x in (first, *others)]
        found = function(placed[0], blocks, *placed[1:])
        whole = jax.jit(lambda x: x, out_shardings=NamedSharding(self.mesh, PartitionSpec()))(found)
        return local(whole)

    def _everywhere(self, tree: PyTree) -> PyTree:
        """Return a tree whose arrays, which all processes have, are on all devices."""
        assert self.mesh is not None
        sharding = NamedSharding(self.mesh, PartitionSpec())

        def place(x: Any) -> Any:
            if not isinstance(x, jax.Array | np.ndarray):
                return x
            whole = np.asarray(x)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return jax.tree.map(place, tree)

    def of_first(self, tree: PyTree | None, like: PyTree) -> PyTree | None:
        """Return the tree of process 0, or None if that is what it has; `like` has the same shapes."""
        if self.mesh is None or not gather("" if tree is None else "there")[0]:
            return tree if self.mesh is None else None
        return local(spread(like if tree is None else tree, self.mesh))

    def choice_of_first(self, choice: int) -> int:
        """Return the choice of process 0, with which all go on.

        The parameters are the same in all processes, and what each computes from them by itself may differ by rounding
        if their processors differ.
        """
        return choice if self.mesh is None else int(gather(str(choice))[0])

    def check_same(self, digest: str) -> None:
        """Raise `ValueError` in all processes if their data, spec or settings differ."""
        if self.mesh is None:
            return
        first, *others = gather(digest)
        if differing := [str(i) for i, other in enumerate(others, 1) if other != first]:
            raise ValueError(
                f"The demonstrations, the spec or the settings of process {' and '.join(differing)} differ from those "
                "of process 0: give all processes the same logs and arguments."
            )


def check_alone(what: str) -> None:
    """Raise `ValueError` if there are several processes, of which one may call what waits for all."""
    if jax.process_count() > 1:
        raise ValueError(
            f"{what}: this is one of {jax.process_count()} processes, which share fits alone. Save the fit in process "
            "0, offline.save(fit, folder), and go on in a program of one process."
        )


def writes() -> bool:
    """Return whether this process keeps runs in files; of several, the first does."""
    return jax.process_index() == 0
