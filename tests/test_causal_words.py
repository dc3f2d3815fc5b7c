"""One word for one role in all causal questions."""

import inspect

import pytest

import undelude as ud

ASKED = [
    ud.CausalModel.query,
    ud.CausalModel.compile,
    ud.CausalModel.counterfactual,
    ud.CausalModel.identify,
    ud.CausalModel.bounds,
    ud.Graph.identify,
    ud.identify,
    ud.causal.bounds,
    ud.causal.remedies,
]
EFFECTS = [
    ud.CausalModel.ate,
    ud.CausalModel.ate_bounds,
    ud.causal.ate_bounds,
    ud.CausalModel.direct_effect,
    ud.CausalModel.indirect_effect,
    ud.CausalModel.causation,
    ud.CausalModel.information_flow,
    ud.Graph.back_door,
    ud.Graph.adjustment_sets,
    ud.Graph.efficient_adjustment,
    ud.Graph.front_door,
    ud.Graph.instruments,
]
SYMMETRIC = [ud.Graph.d_separated, ud.Graph.paths, ud.CausalModel.mutual_information]


def positional(function):
    parameters = inspect.signature(function).parameters.values()
    return [x.name for x in parameters if x.kind is x.POSITIONAL_OR_KEYWORD and x.name not in ("self", "graph")]


@pytest.mark.parametrize(
    ("functions", "names"), [(ASKED, ["asked"]), (EFFECTS, ["cause", "outcome"]), (SYMMETRIC, ["a", "b"])]
)
def test_names_of_roles(functions, names):
    for function in functions:
        assert positional(function) == names, function


@pytest.mark.parametrize("ask", ["back_door", "adjustment_sets", "efficient_adjustment", "front_door", "instruments"])
def test_messages_name_the_roles(ask):
    graph = ud.Graph({"A": (), "O": "A"})
    with pytest.raises(ValueError, match="A is both the cause and the outcome"):
        getattr(graph, ask)("A", "A")
    with pytest.raises(ValueError, match="O is both the outcome and latent"):
        getattr(graph, ask)(cause="A", outcome="O", latent="O")
