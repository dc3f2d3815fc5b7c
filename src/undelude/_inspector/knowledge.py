"""What each theta says about a recording: asked once for each observation, so that a flip asks nothing."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld, Evidence
from undelude._types import Observation

# Observations whose answers are kept.
KEPT = 20_000


class Known(NamedTuple):
    """The evidence about one recording of m observations, padded to N.

    Attributes:
        experts: `Q(A | theta, e)`, arrays `[N + 1, K, ...]`.
        log_likelihood: `[N + 1, K]`, nats: the log-prior, then that of each observation.
        symbols: log-probabilities of the symbol that theta changes, `[N, K, n]`.
    """

    experts: Any
    log_likelihood: Any
    symbols: Any


class Knowledge:
    """The evidence of a world about recordings, one observation at a time.

    Args:
        world: of `undelude.gym`, in which a round's evidence depends on the observations before and after it alone.
        symbol: the name of the part that theta changes.
        num_rounds: N.
    """

    def __init__(self, world: AbstractHostWorld, symbol: str, num_rounds: int):
        self.world, self.symbol, self.num_rounds = world, symbol, num_rounds
        self._rows: OrderedDict[bytes, Any] = OrderedDict()

    def of(self, opening: Observation, observations: Sequence[Observation]) -> Known:
        """Return the evidence about one recording."""
        path = [opening, opening, *observations]
        # The first pair is the opening twice, a round that does not exist.
        keys = [b"0" + _bytes(opening), *(_bytes(pair) for pair in itertools.pairwise(path[1:]))]
        missing = {key: t for t, key in enumerate(keys) if key not in self._rows}
        if missing:
            self._ask(list(missing), [(path[t], path[t + 1]) for t in missing.values()])
        rows = [self._rows[key] for key in keys]
        for key in keys:
            self._rows.move_to_end(key)
        while len(self._rows) > max(KEPT, len(keys)):
            self._rows.popitem(last=False)
        padded = [*rows, *[rows[-1]] * (self.num_rounds + 1 - len(rows))]
        experts, log_likelihood, symbols = jax.tree.map(lambda *xs: np.stack(xs), *padded)
        return Known(experts, log_likelihood, symbols[1:])

    def _ask(self, keys: list[bytes], pairs: list[tuple[Observation, Observation]]) -> None:
        """Ask the world about rounds, all at once: each is an episode of one round."""
        size = 1 << (len(pairs) - 1).bit_length()  # A compiled world has one program for each size.
        pairs = [*pairs, *[pairs[-1]] * (size - len(pairs))]
        is_first = np.array([key[:1] == b"0" for key in keys] + [False] * (size - len(keys)))
        evidence = evidence_of(self.world, pairs, ~is_first)
        assert isinstance(evidence, Evidence)
        experts, log_likelihood, log_probs = jax.tree.map(
            np.asarray, (evidence.experts, evidence.log_likelihood, evidence.symbols[self.symbol].log_probs)
        )
        for i, key in enumerate(keys):
            t = 0 if is_first[i] else 1
            of_round = jax.tree.map(lambda x, i=i, t=t: x[i, t], (experts, log_likelihood))
            self._rows[key] = (*of_round, log_probs[i, 0])


def evidence_of(
    world: AbstractHostWorld, pairs: Sequence[tuple[Observation, Observation]], exists: np.ndarray
) -> Evidence | str:
    """Return what each theta says about episodes of one round, or why it is not known."""

    def stacked(i: int) -> Any:
        return jax.tree.map(lambda *xs: jnp.asarray(np.stack(xs)), *[pair[i] for pair in pairs])

    B, zeros = len(pairs), jnp.zeros((len(pairs), 1), jnp.int32)
    after = jax.tree.map(lambda x: x[:, None], stacked(1))
    mask = jnp.asarray(exists)[:, None]
    marks = jnp.zeros((B, 1), bool)
    return world.evidence(Episodes(zeros[:, 0], stacked(0), zeros, after, zeros, marks, None, None, None, mask))


def _bytes(x: Any) -> bytes:
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(x))
