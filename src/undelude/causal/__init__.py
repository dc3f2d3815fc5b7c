"""Finite causal models on any graph: observe, intervene on, or sum out any variable; identify effects (Section 2).

- `names`: names and graphs as callers write them, checked.
- `graph`: graphs as mappings from names to parents; d-separation, paths, latent projection, c-components.
- `variable`: a variable with its values, its parents and its mechanism.
- `structure`: a model without its numbers; validates queries and caches their elimination orders.
- `order`: elimination orders, and the memory that they take.
- `contraction`: sums of products of tables by tensor contraction, safe against underflow.
- `derivative`: their derivatives in the tables; `marginals`: all marginals by them.
- `model`: `CausalModel`, its queries and its marginals.
- `soft`: interventions by a distribution or a policy, evidence by a likelihood.
- `counterfactual`: worlds that share their exogenous causes; necessity and sufficiency.
- `effects`: total, direct and indirect effects.
- `counterfactual_identification`: counterfactuals from experiments, the ID* and IDC* algorithms.
- `counterfactual_graph`: the variables of several worlds, merged.
- `equation`: a variable as a function of its parents and of noise.
- `answer`: an array of probabilities that names its axes.
- `information`: mutual information.
- `questions`: what is computed from several queries, or asked of another model.
- `sampling`: samples of a model.
- `columns`: columns of data as positions.
- `learning`: the mechanisms of a graph from data, and standard errors of what they answer.
- `convert`: from and to the models of pgmpy and pyAgrum, which read and write files, and graphs of networkx.
- `compiled`: queries compiled for batches of values.
- `moral`: moral graphs, and in them Markov blankets and the minimal sets that separate variables.
- `adjustment`: back-door and other adjustment sets, and the efficient one.
- `front_door`, `instruments`: front-door sets; instruments with the sets to condition on.
- `equivalence`: Markov equivalence, and the essential graph.
- `mixed`: `Graph`, with directed and bidirected edges; `graph_questions`: its questions.
- `graph_text`: graphs in DOT, in dagitty's language and as TikZ; `layout`: where their variables stand.
- `identification`: `identify`, the IDC algorithm around ID.
- `id_algorithm`: the lines of the ID algorithm.
- `experiments`: identification from several experiments, the gID algorithm.
- `remedies`: the smallest further sets to observe or to set, if an effect is not identifiable.
- `hedge`: the witness if an effect is not identifiable.
- `derivation`: the steps of an identification, to print.
- `bounds`: of an effect that is not identifiable, by linear programs.
- `expression`: sums, products and fractions of observed probabilities, simplified.
- `estimand`: an identified effect, to print or to evaluate on a table.
- `tables`: tables of probabilities, and the values of expressions in them.
- `notation`: expressions in plain text and in LaTeX.
- `positivity`: whether an estimand conditions on an event without probability.
"""

from undelude.causal.answer import Answer
from undelude.causal.bounds import Bounds, bounds
from undelude.causal.convert import from_pgmpy, from_pyagrum, to_networkx, to_pgmpy, to_pyagrum
from undelude.causal.counterfactual import Causation
from undelude.causal.counterfactual_identification import CounterfactualEstimand, identify_counterfactual
from undelude.causal.derivation import Derivation, Step
from undelude.causal.effects import Effect
from undelude.causal.equation import Equation
from undelude.causal.equivalence import EssentialGraph
from undelude.causal.estimand import Estimand
from undelude.causal.graph import Path
from undelude.causal.hedge import Conflict, Hedge, NotIdentifiable, Thicket
from undelude.causal.identification import identify
from undelude.causal.instruments import Instrument
from undelude.causal.learning import fit, standard_error
from undelude.causal.marginals import marginals
from undelude.causal.mixed import Graph
from undelude.causal.model import CausalModel
from undelude.causal.remedies import Remedies, remedies
from undelude.causal.sampling import sample
from undelude.causal.variable import Variable

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
    "bounds",
    "fit",
    "from_pgmpy",
    "from_pyagrum",
    "identify",
    "identify_counterfactual",
    "marginals",
    "remedies",
    "sample",
    "standard_error",
    "to_networkx",
    "to_pgmpy",
    "to_pyagrum",
]
