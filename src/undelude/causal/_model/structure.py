"""A causal model without its numbers: validates queries, and caches the work that depends on names and sizes only."""

import dataclasses
import functools
from collections.abc import Hashable, Iterable

from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.identification import identify
from undelude.causal._mixed.graph import Graph
from undelude.causal._names import check_names
from undelude.causal._summing.contraction import Terms


@dataclasses.dataclass(frozen=True)
class Structure:
    """The graph and the values of a causal model.

    Attributes:
        values: the values of each variable, in the order of `parents`.
        parents: `(name, parents)` of each variable.
        latent: the names that a marginal hides, in the order of `parents`.
        noise: the names of the noise of equations, in the order of `parents`.
        is_marginal: whether queries with `do` are answered from the distribution of the observed variables alone, as
            those of `CausalModel.marginal` are, and not from the mechanisms.
    """

    values: tuple[tuple[Hashable, ...], ...]
    parents: tuple[tuple[str, tuple[str, ...]], ...]
    latent: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    is_marginal: bool = False

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph, in which hidden variables are latent, and noise, unless a marginal says what is observed."""
        return Graph(dict(self.parents), latent=self.latent if self.is_marginal else self.noise)

    @functools.cached_property
    def place(self) -> dict[str, int]:
        """The position of each variable."""
        return {name: i for i, name in enumerate(self.graph)}

    @functools.cached_property
    def values_of(self) -> dict[str, tuple[Hashable, ...]]:
        """The values of each variable by name."""
        return dict(zip(self.graph, self.values, strict=True))

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """The number of values of each variable by name."""
        return {name: len(values) for name, values in self.values_of.items()}

    def check_observed(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the names without repetition; raise `ValueError` if one is unknown or hidden."""
        (names,) = check_names(self.graph, {"asked": names})
        for name in names:
            if name in self.latent:
                raise ValueError(f"{name} is latent in this marginal; query the model that the marginal comes from.")
        return names

    @functools.lru_cache(maxsize=1024)  # noqa: B019, structures are small.
    def estimand(self, asked: tuple[str, ...], see: tuple[str, ...], do: tuple[str, ...]) -> Estimand | None:
        """Return the estimand by which a marginal answers a query with `do`, or None if the query needs none.

        Raises:
            NotIdentifiable: the observed distribution does not determine the effect.
        """
        if not (do and self.is_marginal and (asked or see)):
            return None
        return identify(self.graph, asked or see, do=do, see=see if asked else (), latent=self.latent)

    @functools.lru_cache(maxsize=1024)  # noqa: B019, structures are small.
    def terms(self, asked: tuple[str, ...], see: tuple[str, ...], do: tuple[str, ...]) -> Terms:
        """Return the sum of products `P(asked, see | do)`, after checking the query.

        Raises:
            ValueError: an unknown or hidden name, a name twice, too much memory.
            NotIdentifiable: the structure is a marginal, which does not determine the effect.
        """
        self.check_observed((*asked, *see, *do))
        roles = {"asked": asked, "seen": see, "done": do}
        check_names(self.graph, roles)
        for role, names in roles.items():
            if len(set(names)) < len(names):
                raise ValueError(f"a name is {role} twice in {names}.")
        self.estimand(asked, see, do)  # Raises NotIdentifiable.
        return Terms(self.graph, self.sizes, asked, see, do)
