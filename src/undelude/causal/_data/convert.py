"""Causal models from and to the objects of other packages, and by these packages from and to files.

pgmpy and pyAgrum read and write BIF, XMLBIF, NET and UAI: `from_pyagrum(pyagrum.loadBN("alarm.bif"))`.
"""

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np

from undelude._versions import explaining
from undelude.causal._model.model import CausalModel
from undelude.causal._variables.variable import Variable


def from_pgmpy(network: Any) -> CausalModel:
    """Return the causal model of a `pgmpy.models.DiscreteBayesianNetwork`.

    Its latent variables are variables like others. Name them by `latent=` where it matters, or hide them by `marginal`;
    a warning says so.

    Args:
        network: with a table for each node.

    Raises:
        ValueError: a node has no table, or its table has other parents than the node.
        TypeError: `network` is of another kind.
    """
    if not hasattr(network, "get_cpds"):
        raise TypeError(f"from_pgmpy takes a pgmpy.models.DiscreteBayesianNetwork, not {type(network).__name__}.")
    if latents := sorted(map(str, getattr(network, "latents", None) or ())):
        warnings.warn(
            f"the network marks {', '.join(latents)} as latent, and they are variables like others here: "
            "hide them by marginal, or name them by latent= in questions of the graph.",
            stacklevel=2,
        )
    found = []
    for node in network.nodes():
        table = network.get_cpds(node)
        if table is None:
            raise ValueError(f"{node} has no table: add one by network.add_cpds.")
        _, *parents = table.variables
        if set(parents) != set(network.get_parents(node)):
            raise ValueError(f"{node}: its table has the parents {parents}, and the node {network.get_parents(node)}.")
        for x in parents:
            if list(table.state_names[x]) != list(network.get_cpds(x).state_names[x] if network.get_cpds(x) else []):
                raise ValueError(
                    f"the table of {node} has the values {table.state_names[x]} for its parent {x}, and the table of "
                    f"{x} others, or in another order."
                )
        values = np.moveaxis(np.asarray(table.values, float), 0, -1)
        found.append(Variable(_name(node), table.state_names[node], [_name(x) for x in parents], table=values))
    return CausalModel(found)


def to_pgmpy(model: CausalModel) -> Any:
    """Return a `pgmpy.models.DiscreteBayesianNetwork` with the graph, the values and the tables of a model.

    Args:
        model: of which hidden variables and noise are latent in the network.
    """
    with explaining("pgmpy", "networks"):
        from pgmpy.factors.discrete import TabularCPD
        from pgmpy.models import DiscreteBayesianNetwork

    network = DiscreteBayesianNetwork()
    network.add_nodes_from(model.graph)
    network.latents = set(model.graph.latent)
    network.add_edges_from((parent, v.name) for v in model.variables for parent in v.parents)
    sizes, values_of = model.structure.sizes, model.structure.values_of
    for v in model.variables:
        network.add_cpds(
            TabularCPD(
                v.name,
                sizes[v.name],
                _double(v).reshape(-1, sizes[v.name]).T,
                list(v.parents),
                [sizes[name] for name in v.parents],
                state_names={name: list(values_of[name]) for name in (v.name, *v.parents)},
            )
        )
    return network


def from_pyagrum(network: Any) -> CausalModel:
    """Return the causal model of a `pyagrum.BayesNet`.

    The values of a labelled variable are its labels, strings; those of a range, integer or numerical variable are
    numbers, and those of a discretised one its intervals, strings.

    Args:
        network: the network.

    Raises:
        TypeError: `network` is of another kind.
    """
    if not hasattr(network, "cpt"):
        raise TypeError(f"from_pyagrum takes a pyagrum.BayesNet, not {type(network).__name__}.")
    found = []
    for node in network.nodes():
        variable, table = network.variable(node), network.cpt(node)
        # The array has the axes of `names` in reverse order, so that the variable's own comes last.
        parents = table.names[:0:-1]
        found.append(Variable(variable.name(), _values(variable), parents, table=table.toarray()))
    return CausalModel(found)


def to_pyagrum(model: CausalModel) -> Any:
    """Return a `pyagrum.BayesNet` with the graph and the tables of a model.

    Values become labels: 1 becomes `"1"`, except that whole numbers in a row stay numbers.

    Args:
        model: whose hidden variables are variables like others there.

    Raises:
        ValueError: two values of a variable have the same label.
        ModuleNotFoundError: pyAgrum is not installed.
    """
    with explaining("pyAgrum", "causal"):
        import pyagrum

    network = pyagrum.BayesNet()
    for v in model.variables:
        network.add(_variable(pyagrum, v.name, v.values))
    for v in model.variables:
        for parent in v.parents:
            network.addArc(parent, v.name)
    for v in model.variables:
        table = network.cpt(v.name)
        axes = (*v.parents, v.name)
        table.fillWith(_double(v).transpose([axes.index(name) for name in table.names[::-1]]).ravel().tolist())
    return network


def _name(node: Hashable) -> str:
    if not isinstance(node, str):
        raise TypeError(f"the nodes must be strings, not {node!r:.99}: rename them.")
    return node


def _double(v: Variable) -> np.ndarray:
    """Return a table in double precision, whose rows sum to 1 there too."""
    table = np.asarray(v.table, float)
    return table / table.sum(-1, keepdims=True)


def _values(variable: Any) -> tuple[Hashable, ...]:
    import pyagrum

    labels = tuple(variable.labels())
    if variable.varType() in (pyagrum.VarType_RANGE, pyagrum.VarType_INTEGER):
        return tuple(map(int, labels))
    return tuple(map(float, labels)) if variable.varType() == pyagrum.VarType_NUMERICAL else labels


def _variable(pyagrum: Any, name: str, values: tuple[Hashable, ...]) -> Any:
    whole = [x for x in values if isinstance(x, int) and not isinstance(x, bool)]
    if len(whole) == len(values) and list(values) == list(range(whole[0], whole[0] + len(whole))):
        return pyagrum.RangeVariable(name, name, whole[0], whole[-1])
    labels = [str(x) for x in values]
    if len(set(labels)) < len(labels):
        raise ValueError(f"{name}: two of its values have the same label: {labels}.")
    return pyagrum.LabelizedVariable(name, name, labels)
