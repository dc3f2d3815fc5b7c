"""Agents whose memory is the state of a recurrent cell (Section 4.1)."""

import abc
from typing import ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from undelude._agents.networks.network import AbstractNetworkAgent

S = TypeVar("S")


class AbstractCell(eqx.Module, Generic[S]):
    """A recurrent cell with a state `S`. Its input is `[G]`: the reader has applied the input weights already."""

    @abc.abstractmethod
    def init(self) -> S:
        """Return the state before the first symbol."""

    @abc.abstractmethod
    def step(self, x: Float[Array, " G"], s: S) -> S:
        """Return the state after one symbol."""

    @abc.abstractmethod
    def hidden(self, s: S) -> Float[Array, " D"]:
        """Return the part of the state that the heads see."""


class AbstractRecurrentAgent(AbstractNetworkAgent[S]):
    """An agent with a recurrent cell between its readers and its heads."""

    predicts_stepwise: ClassVar[bool] = True
    cell: eqx.AbstractVar[AbstractCell[S]]

    def init(self, *, num_rounds: int) -> S:
        """Return the initial state of the cell."""
        del num_rounds
        return self.with_mask(self.cell.init())

    def step(self, x: Float[Array, " G"], m: S) -> S:
        """Return the state of the cell after one more symbol."""
        return self.cell.step(x, m)

    def features(self, m: S) -> Float[Array, " D"]:
        """Return the hidden state of the cell."""
        return self.cell.hidden(m)

    def parallel(self, xs: Float[Array, "N G"]) -> Float[Array, "N1 D"]:
        """Return the features at all symbols, by a scan that contains only the cell."""

        def step(s: S, x: Float[Array, " G"]) -> tuple[S, Float[Array, " D"]]:
            s = self.cell.step(x, s)
            return s, self.cell.hidden(s)

        first = self.cell.init()
        _, features = jax.lax.scan(step, first, xs)
        return jnp.concatenate([self.cell.hidden(first)[None], features])
