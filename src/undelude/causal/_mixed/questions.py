"""The questions of causal graphs, as methods."""

import abc
from collections.abc import Iterable, Mapping

from undelude.causal._graphs import adjustment, equivalence, graph, moral
from undelude.causal._graphs.equivalence import EssentialGraph
from undelude.causal._graphs.front_door import front_door
from undelude.causal._graphs.instruments import Instrument, instruments
from undelude.causal._graphs.path import Paths
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.identification import identify
from undelude.causal._names import AnyGraph, Names


class AbstractGraph(Mapping[str, tuple[str, ...]]):
    """The questions of a graph: functions of graphs, as methods."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def latent(self) -> tuple[str, ...]:
        """The variables that cannot be observed."""

    def moral(self) -> dict[str, tuple[str, ...]]:
        """Return the neighbours of each variable in the moral graph, latent variables included."""
        return moral.moral(self)

    def cpdag(self) -> EssentialGraph:
        """Return the essential graph of the Markov equivalence class, by Meek's rules (1995).

        Raises:
            ValueError: two variables have a latent common cause.

        >>> import undelude as ud
        >>> print(ud.Graph({"Z": (), "A": "Z", "B": (), "O": ("A", "B")}).cpdag())
        A -> O, B -> O, Z - A
        """
        return equivalence.cpdag(self)

    def topological_order(self) -> tuple[str, ...]:
        """Return the names with parents before children, otherwise in the order of the graph."""
        return graph.topological_order(self)

    def ancestors(self, names: Names) -> frozenset[str]:
        """Return the ancestors of `names`, and `names` themselves; raise `ValueError` if a name is unknown."""
        return graph.ancestors(self, names)

    def descendants(self, names: Names) -> frozenset[str]:
        """Return the descendants of `names`, and `names` themselves; raise `ValueError` if a name is unknown."""
        return graph.descendants(self, names)

    def c_components(self) -> tuple[frozenset[str], ...]:
        """Return the sets of observed variables that hidden common causes connect (Tian & Pearl 2002)."""
        directed, bidirected = graph.latent_projection(self)
        return graph.districts(directed, bidirected)

    def markov_blanket(self, name: str) -> frozenset[str]:
        """Return the smallest set of observed variables, given which the others tell nothing more about `name`.

        Raises:
            ValueError: an unknown or a latent name.
        """
        return moral.markov_blanket(self, name)

    def equivalent(self, other: AnyGraph) -> bool:
        """Return whether another graph has the same d-separations.

        Raises:
            ValueError: two variables have a latent common cause; the graphs have different variables.
        """
        return equivalence.equivalent(self, other)

    def d_separated(self, a: Names, b: Names, *, see: Names = (), do: Names = ()) -> bool:
        """Return whether `see` d-separates `a` and `b` in the graph mutilated by `do`.

        Args:
            a: a name or several.
            b: a name or several.
            see: the variables conditioned on.
            do: the variables intervened on; they are conditioned on too, except variables in `a` or `b`.

        Raises:
            ValueError: an unknown name; a name in two of `a`, `b` and `see`.
        """
        return graph.d_separated(self, a, b, see=see, do=do)

    def paths(self, a: str, b: str, *, see: Names = (), do: Names = ()) -> Paths:
        """Yield the paths between `a` and `b` in the graph mutilated by `do`, and the nodes that block each.

        Args:
            a: a name.
            b: a name.
            see: the variables conditioned on.
            do: the variables intervened on; they are conditioned on too, except `a` and `b`.

        Raises:
            ValueError: as for `d_separated`.
        """
        return graph.paths(self, a, b, see=see, do=do)

    def back_door(
        self, cause: str, outcome: str, *, latent: Names = (), limit: int | None = None
    ) -> tuple[frozenset[str], ...]:
        """Return the minimal sets Z with `P(o | do(a)) = sum_z P(o | a, z) P(z)` (Pearl 2009, Definition 3.3.1).

        Args:
            cause: the variable intervened on.
            outcome: the outcome.
            latent: further variables that cannot be observed.
            limit: the largest number of sets, nearest to `cause` first; there can be exponentially many.

        Returns:
            The smallest sets first; `()` if there is none, `(frozenset(),)` if the empty set is one.

        Raises:
            ValueError: an unknown name, a name in two roles, a limit below 1.
        """
        return adjustment.back_door(self, cause, outcome, latent=latent, limit=limit)

    def adjustment_sets(
        self, cause: Names, outcome: Names, *, latent: Names = (), limit: int | None = None
    ) -> tuple[frozenset[str], ...]:
        """Return the minimal adjustment sets, by the complete criterion (Shpitser, VanderWeele & Robins 2010).

        Some serve where no back-door set does; otherwise as for `back_door`, and with several causes or outcomes.

        Args:
            cause: the variables intervened on.
            outcome: the outcomes.
            latent: further variables that cannot be observed.
            limit: the largest number of sets, nearest to `cause` first; there can be exponentially many.

        Raises:
            ValueError: as for `back_door`; no cause or no outcome.
        """
        return adjustment.adjustment_sets(self, cause, outcome, latent=latent, limit=limit)

    def efficient_adjustment(self, cause: Names, outcome: Names, *, latent: Names = ()) -> frozenset[str] | None:
        """Return the adjustment set of the least asymptotic variance in every model with this graph.

        It is known if all variables are observed (Henckel, Perkovic & Maathuis 2022; Rotnitzky & Smucler 2020), or the
        parents of the causal paths are, or if all that is observed are ancestors of the two (Smucler, Sapienza &
        Rotnitzky 2022).

        Args:
            cause: the variables intervened on.
            outcome: the outcomes.
            latent: further variables that cannot be observed.

        Returns:
            The set; None if there is no adjustment set, if an outcome is not an effect of `cause`, or if the best set
            is not known, and may depend on the numbers.

        Raises:
            ValueError: as for `adjustment_sets`.
        """
        return adjustment.efficient_adjustment(self, cause, outcome, latent=latent)

    def front_door(
        self, cause: Names, outcome: Names, *, latent: Names = (), limit: int | None = None
    ) -> tuple[frozenset[str], ...]:
        """Return the minimal sets Z with `P(o | do(a)) = sum_z P(z | a) sum_a' P(o | a', z) P(a')`.

        Z intercepts all directed paths from `cause` to `outcome`, no back-door path from `cause` to Z is open, and
        `cause` blocks all back-door paths from Z to `outcome` (Pearl 2009, Definition 3.3.3).

        Args:
            cause: the variables intervened on.
            outcome: the outcomes.
            latent: further variables that cannot be observed.
            limit: the largest number of sets; there can be exponentially many.

        Raises:
            ValueError: as for `adjustment_sets`.
        """
        return front_door(self, cause, outcome, latent=latent, limit=limit)

    def instruments(self, cause: str, outcome: str, *, latent: Names = ()) -> tuple[Instrument, ...]:
        """Return the instruments for the total effect of a cause, each with a minimal set W to condition on.

        In a linear model the effect of a on o is `cov(z, o | w) / cov(z, a | w)`; in others an instrument that is an
        ancestor of the cause bounds it. Each Z that has a set W of ancestors of Z and the outcome is found (van der
        Zander, Textor & Liskiewicz 2015). Another Z may be missing, but some are found if there are any. Quadratic in
        the size of the graph.

        Args:
            cause: the variable intervened on.
            outcome: the outcome.
            latent: further variables that cannot be observed.

        Raises:
            ValueError: an unknown name, a name in two roles.
        """
        return instruments(self, cause, outcome, latent=latent)

    def identify(
        self,
        asked: Names,
        *,
        do: Names = (),
        see: Names = (),
        latent: Names = (),
        experiments: Iterable[Names] | None = None,
    ) -> Estimand:
        """Express `P(asked | do, see)` in the distribution of the observed variables, as `ud.identify` does.

        Args:
            asked: a name or several, in order; not a set.
            do: the variables intervened on, likewise.
            see: the variables conditioned on, likewise.
            latent: further variables that cannot be observed.
            experiments: the sets of variables that experiments set; by default observation alone.

        Raises:
            ValueError: an unknown name, a variable in two roles, a set where order matters.
            NotIdentifiable: no such expression exists; `hedge` is the witness.
        """
        return identify(self, asked, do=do, see=see, latent=latent, experiments=experiments)
