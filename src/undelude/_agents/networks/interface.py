"""Where a network meets the symbols of a process: three readers and two heads (Section 4.1, Remark 14)."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from undelude._agents.networks.heads import AbstractHead, make_head
from undelude._agents.networks.readers import AbstractReader, make_reader
from undelude._types import Action


class Interface(eqx.Module):
    """From symbols to vectors, and from features to distributions: what is the same in all networks.

    Args:
        spec: what actions and observations are like.
        reads: the width of what a symbol is read as.
        features: the width of what the heads see.
        scale: of the readers' weights.
        key: of the initial weights.

    Attributes:
        read_do, read_see: from an action to a vector, one for each mark: `x` and `do(x)` are different symbols.
        read_observation: from an observation to a vector.
        head_A, head_O: from features to a distribution, linear in them.
    """

    read_do: AbstractReader
    read_see: AbstractReader
    read_observation: AbstractReader
    head_A: AbstractHead
    head_O: AbstractHead

    def __init__(self, spec: dict[str, Any], *, reads: int, features: int, scale: float, key: Key[Array, ""]):
        key_do, key_see, key_observation, key_A, key_O = jax.random.split(key, 5)
        self.read_do = make_reader(spec["actions"], reads, scale=scale, key=key_do)
        self.read_see = make_reader(spec["actions"], reads, scale=scale, key=key_see)
        self.read_observation = make_reader(spec["observations"], reads, scale=scale, key=key_observation)
        self.head_A = make_head(spec["actions"], features, key=key_A)
        self.head_O = make_head(spec["observations"], features, key=key_O)

    def read_action(self, a: Action, intervened: Bool[Array, ""] | bool) -> Float[Array, " E"]:
        """The vector of `do(a)` where `intervened` and of `a` where not."""
        if intervened is True:
            return self.read_do(a)
        if intervened is False:
            return self.read_see(a)
        return jnp.where(intervened, self.read_do(a), self.read_see(a))
