"""Figure 4: the computation graph of meta-training (Section 4.1)."""

from undelude.paper.computation import teaching_graph
from undelude.report.svg import Figure
from undelude.square import Counterfactual


def figure_4() -> list[Figure]:
    """Panels a, b and c, as the library computes them.

    Returns:
        Initialization; observation step with factual teaching; action step with counterfactual teaching.
    """
    from undelude.report.computation import draw_computation  # It needs this package.

    # The paper scores one sample of the expert.
    graph = teaching_graph(Counterfactual(target="sample"))
    return [draw_computation(graph, panel) for panel in ("a", "b", "c")]
