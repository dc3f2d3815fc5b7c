"""The interface of a network to the symbols of a process: three readers and two heads (Section 4.1, Remark 14)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from undelude._agents.networks.heads import AbstractHead, make_head
from undelude._agents.networks.readers import AbstractReader, make_reader
from undelude._distributions import Spec
from undelude._types import Action


class Interface(eqx.Module):
    """The readers, from symbols to vectors, and the heads, from features to distributions, of a network.

    Args:
        specs: the values of actions and of observations.
        reads: E, the width of the vectors.
        features: D, the width of the features.
        scale: of the readers' initial weights.
        num_components: of mixtures, for real values; None if no values are real.
        key: of the initial weights.

    Attributes:
        read_do, read_see: readers of an action, one for each mark, as `do(a)` and `a` are different symbols.
        read_observation: the reader of an observation.
        head_A, head_O: the heads for actions and for observations.
    """

    read_do: AbstractReader
    read_see: AbstractReader
    read_observation: AbstractReader
    head_A: AbstractHead
    head_O: AbstractHead

    def __init__(
        self,
        specs: tuple[Spec, Spec],
        *,
        reads: int,
        features: int,
        scale: float,
        num_components: int | None,
        key: Key[Array, ""],
    ):
        actions, observations = specs
        key_do, key_see, key_observation, key_A, key_O = jax.random.split(key, 5)
        self.read_do = make_reader(actions, reads, scale=scale, key=key_do)
        self.read_see = make_reader(actions, reads, scale=scale, key=key_see)
        self.read_observation = make_reader(observations, reads, scale=scale, key=key_observation)
        self.head_A = make_head(actions, features, num_components=num_components, key=key_A)
        self.head_O = make_head(observations, features, num_components=num_components, key=key_O)

    def read_action(self, a: Action, intervened: Bool[Array, ""] | bool) -> Float[Array, " E"]:
        """Return the vector of `do(a)` if `intervened`, otherwise that of `a`."""
        if intervened is True:
            return self.read_do(a)
        if intervened is False:
            return self.read_see(a)
        return jnp.where(intervened, self.read_do(a), self.read_see(a))
