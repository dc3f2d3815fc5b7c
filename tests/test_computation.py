"""Figure 4 is read off the programs: it says what the paper does, agrees with derivatives, changes with the code."""

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude._paper import computation
from undelude._paper import computation_drawing as drawing
from undelude._paper.computation import ComputationGraph, teaching_graph
from undelude._paper.computation_drawing import draw_computation
from undelude._paper.dataflow import named, reaching_names
from undelude._paper.figures import figure_4
from undelude._process.episodes import Episodes
from undelude._teaching.losses import log_losses
from undelude._teaching.updates import collect

MEMORIES = ("M", "M'", "M''")
PAPER = ud.Counterfactual(target="sample")
# Figure 4 as its caption and Section 4.1 tell it; each memory is handed over to the next round.
INITIALIZATION = {"Theta -> E", "Theta -> W"}
ACTION_STEP = {
    *("M -> P_A", "P_A ~> A", "Theta ~> A_bar", "E ~> A_bar", "P_A -> loss_A", "A_bar -> loss_A"),
    *("E -> E'", "A -> E'", "W -> W'", "A -> W'", "M -> M'", "A -> M'"),
}
OBSERVATION_STEP = {
    *("M' -> P_O", "Theta ~> O", "W' ~> O", "P_O -> loss_O", "O -> loss_O"),
    *("E' -> E''", "O -> E''", "W' -> W''", "O -> W''", "M' -> M''", "O -> M''"),
}
NEXT_ROUND = {"E'' -> E", "W'' -> W", "M'' -> M"}


@pytest.fixture(scope="module")
def counterfactual() -> ComputationGraph:
    return teaching_graph(PAPER)


@pytest.fixture(scope="module")
def factual() -> ComputationGraph:
    return teaching_graph(ud.Factual(target="sample"))


def arrows(graph: ComputationGraph, **which: bool) -> set[str]:
    edges = [e for e in graph.edges if all(getattr(e, name) == value for name, value in which.items())]
    return {f"{e.source} {'~>' if e.stochastic else '->'} {e.target}" for e in edges}


def names(graph: ComputationGraph) -> set[str]:
    return {node.name for node in graph.nodes}


# What it says ----------------------------------------------------------------------------------------------------


def test_the_panels_are_those_of_the_caption(counterfactual: ComputationGraph) -> None:
    assert arrows(counterfactual.panel("a")) == INITIALIZATION
    assert arrows(counterfactual.panel("b")) == OBSERVATION_STEP
    assert arrows(counterfactual.panel("c")) == ACTION_STEP
    assert arrows(counterfactual) == INITIALIZATION | OBSERVATION_STEP | ACTION_STEP | NEXT_ROUND


def test_theta_is_drawn_from_nothing_and_the_agent_begins_without_it(counterfactual: ComputationGraph) -> None:
    panel = counterfactual.panel("a")
    assert {node.name for node in panel.nodes if node.drawn} == {"Theta"}
    assert names(panel) == {"Theta", "E", "W", "M"}
    assert not panel.reaches("Theta", "M")


@pytest.mark.parametrize("memory", MEMORIES)
def test_theta_reaches_the_memory_only_through_observations(counterfactual: ComputationGraph, memory: str) -> None:
    assert counterfactual.reaches("Theta", memory)
    assert not counterfactual.reaches("Theta", memory, avoiding={"O"})


@pytest.mark.parametrize("memory", MEMORIES)
def test_factually_theta_reaches_the_memory_through_the_action_too(factual: ComputationGraph, memory: str) -> None:
    assert factual.reaches("Theta", memory, avoiding={"O"})
    assert not factual.reaches("Theta", memory, avoiding={"O", "A_bar"})


def test_the_action_that_is_scored_is_not_the_one_that_goes_on(
    counterfactual: ComputationGraph, factual: ComputationGraph
) -> None:
    assert "A" not in names(factual)
    assert {"A_bar -> E'", "A_bar -> W'", "A_bar -> M'"} <= arrows(factual)
    assert {e.target for e in counterfactual.edges if e.source == "A_bar"} == {"loss_A"}
    assert not any(counterfactual.reaches("A_bar", memory) for memory in (*MEMORIES, "E'", "W'"))


def test_what_the_agent_is_not_shown(counterfactual: ComputationGraph, factual: ComputationGraph) -> None:
    hidden = {n.name for n in counterfactual.nodes if n.kind in ("symbol", "parameter") and not n.shown}
    assert hidden == {"Theta", "A_bar"}
    assert {n.name for n in factual.nodes if n.kind in ("symbol", "parameter") and not n.shown} == {"Theta"}


def test_gradients_reach_predictions_and_memories_and_stop_at_the_sampled_action(
    counterfactual: ComputationGraph, factual: ComputationGraph
) -> None:
    back = {"M -> P_A", "P_A -> loss_A", "M -> M'", "M' -> P_O", "P_O -> loss_O", "M' -> M''", "M'' -> M"}
    assert arrows(counterfactual, gradient=True) == arrows(factual, gradient=True) == back
    assert [(e.source, e.target) for e in counterfactual.stops] == [("P_A", "A")]
    assert factual.stops == ()


def test_a_whole_distribution_as_target_is_scored_without_its_sample() -> None:
    panel = teaching_graph(ud.Counterfactual()).panel("c")
    assert {e.source for e in panel.edges if e.target == "loss_A"} == {"Q_A", "P_A"}
    assert "Q_A ~> A_bar" in arrows(panel)


# It agrees with derivatives of the library's own functions -------------------------------------------------------


@pytest.fixture(scope="module")
def pupil() -> tuple[ud.InteractionProcess, ud.LSTMAgent]:
    process = computation._section_4_1()
    return process, ud.LSTMAgent(process, hidden_size=2, key=jax.random.key(3))


def test_symbols_move_the_losses_that_they_reach(pupil: tuple, counterfactual: ComputationGraph) -> None:
    process, agent = pupil
    episode = ud.rollout(process, agent, key=jax.random.key(1), num_episodes=1)
    episode = jax.tree.map(lambda x: x[0], episode)
    fields = {"A_bar": "expert_actions", "A": "actions", "O": "observations"}

    @jax.jit
    @jax.jacobian
    def derivative(symbols: dict) -> dict:
        moved = dataclasses.replace(episode, **{fields[name]: x for name, x in symbols.items()})
        return dict(zip(("loss_A", "loss_O"), log_losses(agent, moved, target="sample"), strict=True))

    moves = derivative({name: getattr(episode, field) for name, field in fields.items()})
    # The episode is data here: what the agent and the losses compute is all that moves.
    computed = {"M", "M'", "M''", "P_A", "P_O", "loss_A", "loss_O"}
    edges = {(e.source, e.target) for e in counterfactual.edges if e.target in computed}
    for loss in ("loss_A", "loss_O"):
        for symbol in fields:
            by_round = np.asarray(moves[loss][symbol])[..., 0] != 0  # [loss's round, symbol's round]
            within = loss in computation._closure({symbol}, edges - {("M''", "M")}, set())
            later = loss in computation._closure({symbol}, edges - {(symbol, loss)}, set())
            assert by_round.tolist() == [[within, False], [later, within]], (symbol, loss)


def _gradients(process: ud.InteractionProcess, agent: ud.LSTMAgent) -> tuple[np.ndarray, np.ndarray]:
    """Of the losses, with respect to the weights: of a stored episode, and end to end."""
    weights, static = eqx.partition(agent, eqx.is_inexact_array)

    def live(weights: object) -> Episodes:
        return collect(process, eqx.combine(weights, static), PAPER, jax.random.key(5))

    def loss(weights: object, episode: Episodes) -> jax.Array:
        action, observation = log_losses(eqx.combine(weights, static), episode, target="sample")
        return action.sum() + observation.sum()

    @jax.jit
    def both(weights: object) -> tuple:
        return jax.grad(loss)(weights, live(weights)), jax.grad(lambda w: loss(w, live(w)))(weights)

    stored, end_to_end = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]) for g in both(weights))
    return stored, end_to_end


def test_end_to_end_the_gradient_is_that_of_stored_episodes(pupil: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    stored, end_to_end = _gradients(*pupil)
    np.testing.assert_allclose(end_to_end, stored, rtol=1e-5, atol=1e-6)
    # Not because there was nothing to stop.
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    stored, end_to_end = _gradients(*pupil)
    assert np.abs(end_to_end - stored).max() > 1e-2


# It changes with the code ----------------------------------------------------------------------------------------


def _collecting(change: Callable[[Episodes], Episodes]) -> Callable[..., Episodes]:
    return lambda *args: change(collect(*args))


def test_planted_the_expert_action_in_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    swap = _collecting(lambda e: dataclasses.replace(e, actions=e.expert_actions))
    monkeypatch.setattr(computation, "collect", swap)
    graph = teaching_graph(PAPER)
    assert "A_bar -> M'" in arrows(graph)
    assert graph.reaches("Theta", "M'", avoiding={"O"})


def test_planted_theta_in_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    leak = _collecting(lambda e: dataclasses.replace(e, observations=e.observations + e.theta[None]))
    monkeypatch.setattr(computation, "collect", leak)
    graph = teaching_graph(PAPER)
    assert "Theta -> M''" in arrows(graph)
    assert next(node for node in graph.nodes if node.name == "Theta").shown


def test_planted_a_missing_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    graph = teaching_graph(PAPER)
    assert graph.stops == ()
    assert {"P_A ~> A", "A -> M'", "W' ~> O"} <= arrows(graph, gradient=True)
    assert "gradient stops" not in draw_computation(graph, "c").svg


class Blind(computation._Demonstrator):
    """An expert who is not shown theta."""

    def init(self, theta: jax.Array) -> jax.Array:
        return jnp.zeros(1)

    def Q_A(self, theta: jax.Array, e: jax.Array) -> ud.Normal:
        return ud.Normal(e, jnp.ones(1))


def test_planted_an_expert_who_is_not_shown_theta(counterfactual: ComputationGraph) -> None:
    process = eqx.tree_at(lambda p: p.expert, computation._section_4_1(), Blind())
    graph = teaching_graph(PAPER, process)
    assert arrows(counterfactual) - arrows(graph) == {"Theta -> E", "Theta ~> A_bar"}
    assert "Theta" not in names(graph.panel("c"))


class Deterministic(computation._Listener):
    """A task that answers without chance."""

    def Q_O(self, theta: jax.Array, w: jax.Array) -> ud.Given:
        return ud.Given(theta + w)


def test_planted_a_task_without_chance() -> None:
    process = eqx.tree_at(lambda p: p.task, computation._section_4_1(), Deterministic())
    assert {"Theta -> O", "W' -> O"} <= arrows(teaching_graph(PAPER, process))


@pytest.mark.parametrize(
    ("source", "target", "avoiding"), [("theta", "M", ()), ("Theta", "m", ()), ("Theta", "M", ("o",))]
)
def test_a_path_is_asked_for_between_nodes(
    counterfactual: ComputationGraph, source: str, target: str, avoiding: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"has no node \w+; it has Theta, E, W"):
        counterfactual.reaches(source, target, avoiding=avoiding)


def test_a_finite_theta_is_refused(bandit: ud.InteractionProcess) -> None:
    with pytest.raises(TypeError, match=r"bandit has a finite Theta.*continuous"):
        teaching_graph(PAPER, bandit)


# The walk --------------------------------------------------------------------------------------------------------


def test_the_walk_enters_loops_branches_and_calls() -> None:
    def program(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        x, y, z = named(x, "x"), named(y, "y"), named(z, "z")
        _, mixed = jax.lax.while_loop(
            lambda s: s[0] < z, lambda s: (s[0] + 1, jax.jit(lambda u: u * y)(s[1])), (0.0, x)
        )
        looped = named(mixed, "while")
        branched = named(jax.lax.cond(z > 0, lambda: y, lambda: jnp.zeros(())), "cond")
        # What is handed on goes around twice before x arrives.
        (first, _), _ = jax.lax.scan(lambda s, _: ((s[1], named(s[0], "inner") + x), None), (z, y), None, length=3)
        return named(first, "scan") + looped + branched

    found = reaching_names(jax.make_jaxpr(program)(1.0, 1.0, 1.0))
    assert found["while"] == {"x", "y", "z"}
    assert found["cond"] == {"y", "z"}
    assert found["inner"] == {"x", "y", "z", "inner"}
    assert found["x"] == set()


# The drawing -----------------------------------------------------------------------------------------------------


def test_the_figure_has_three_panels_that_say_what_the_graph_says() -> None:
    a, b, c = figure_4(teaching_graph(PAPER))
    for figure in (a, b, c):
        assert ET.fromstring(figure.svg).attrib["aria-label"] == figure.alt
    assert a.alt == (
        "Computation graph of the initialization. Drawn at random: \u0398. Computed: E from \u0398; W from \u0398. "
        "Not shown to the agent: \u0398, E and W."
    )
    assert "observation step, factual teaching" in b.alt
    assert "action step, counterfactual teaching" in c.alt
    assert "A from P_A" in c.alt
    assert "It stops between A and P_A." in c.alt


@pytest.mark.parametrize("teaching", [PAPER, ud.Factual(target="sample"), ud.Counterfactual(), ud.Factual()], ids=repr)
@pytest.mark.parametrize("panel", ["b", "c"])
def test_every_node_and_arrow_is_drawn(teaching: ud.Teaching, panel: str) -> None:
    graph = teaching_graph(teaching)
    svg, part = draw_computation(graph, panel).svg, graph.panel(panel)
    paths = [path.attrib["style"] for path in ET.fromstring(svg).iter("path")]
    # One more of each in the legend.
    assert sum("fill: var(--ink)" in path for path in paths) == len(part.edges) + 1
    assert sum("fill: var(--do)" in path for path in paths) == len(arrows(part, gradient=True)) + 1
    hidden = sum(not node.shown and node.kind != "loss" for node in part.nodes)
    assert sum("fill: none" in path and "stroke-dasharray" in path for path in paths) == hidden + 1
    text = {element.text for element in ET.fromstring(svg).iter("text")}
    assert {"\u0398", "M\u2032", "P"} <= text


def test_nodes_do_not_lie_on_each_other_or_on_foreign_arrows() -> None:
    for teaching in (PAPER, ud.Factual(target="sample"), ud.Counterfactual(), ud.Factual()):
        graph = teaching_graph(teaching)
        for panel in ("a", "b", "c"):
            part = graph.panel(panel)
            grid = drawing._grid(names(part), panel)
            at = {name: np.array([drawing.COLUMN * x, drawing.ROW * y]) for name, (x, y) in grid.items()}
            for edge in part.edges:
                for other in names(part) - {edge.source, edge.target}:
                    assert _distance(at[other], at[edge.source], at[edge.target]) > drawing.LOSS, (edge, other)


def _distance(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """From a point to a segment."""
    t = np.clip((x - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return float(np.linalg.norm(x - a - t * (b - a)))
