"""Finite causal models on any graph: observe, intervene on, or sum out any variable; identify effects (Section 2).

Each folder imports only from those above it:

- `_names`: names and graphs as callers write them, checked.
- `_graphs`: graphs as mappings from names to parents: d-separation, paths, adjustment, front doors, instruments.
- `_variables`: a variable with its values and its mechanism; interventions, evidence, and labelled answers.
- `_summing`: sums of products of tables by tensor contraction, safe against underflow.
- `_expressions`: sums, products and fractions of probabilities, in text and LaTeX, evaluated on tables.
- `_identifying`: the ID, IDC, gID, ID* and IDC* algorithms, their witnesses, bounds and remedies.
- `_mixed`: `Graph`, with directed and bidirected edges.
- `_model`: `CausalModel`, its queries, effects and counterfactuals.
- `_data`: mechanisms and frequencies from data; models from and to other packages.
"""

from undelude.causal._data.convert import from_pgmpy, from_pyagrum, to_pgmpy, to_pyagrum
from undelude.causal._data.frequencies import frequencies
from undelude.causal._data.learning import fit, standard_error
from undelude.causal._expressions.derivation import Derivation, Step
from undelude.causal._graphs.equivalence import EssentialGraph
from undelude.causal._graphs.instruments import Instrument
from undelude.causal._graphs.path import Path
from undelude.causal._identifying.bounds import Bounds, ate_bounds, bounds
from undelude.causal._identifying.counterfactual_identification import CounterfactualEstimand, identify_counterfactual
from undelude.causal._identifying.estimand import Estimand
from undelude.causal._identifying.hedge import Conflict, Hedge, NotIdentifiable, Thicket
from undelude.causal._identifying.identification import identify
from undelude.causal._identifying.remedies import Remedies, remedies
from undelude.causal._mixed.graph import Graph
from undelude.causal._model.counterfactual import Causation
from undelude.causal._model.effects import Effect
from undelude.causal._model.model import CausalModel
from undelude.causal._model.sampling import sample
from undelude.causal._variables.answer import Answer
from undelude.causal._variables.equation import Equation
from undelude.causal._variables.variable import Variable

__all__ = [
    "Answer",
    "Bounds",
    "CausalModel",
    "Causation",
    "Conflict",
    "CounterfactualEstimand",
    "Derivation",
    "Effect",
    "Equation",
    "EssentialGraph",
    "Estimand",
    "Graph",
    "Hedge",
    "Instrument",
    "NotIdentifiable",
    "Path",
    "Remedies",
    "Step",
    "Thicket",
    "Variable",
    "ate_bounds",
    "bounds",
    "fit",
    "frequencies",
    "from_pgmpy",
    "from_pyagrum",
    "identify",
    "identify_counterfactual",
    "remedies",
    "sample",
    "standard_error",
    "to_pgmpy",
    "to_pyagrum",
]
