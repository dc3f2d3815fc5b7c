"""Figure 4: its drawing, and its claims about gradients and hidden symbols, on the functions that `teach` runs."""

import dataclasses
import xml.etree.ElementTree as ET

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import undelude as ud
from undelude._agents.networks.interface import Interface
from undelude._paper import computation_drawing as drawing
from undelude._paper.blocks import figure_4, remark_5
from undelude._paper.blocks.episodes import without_feedback
from undelude._paper.computation_drawing import PANELS, draw_computation
from undelude._teaching.losses import log_losses
from undelude._teaching.updates import collect

SYMBOLS = ("A_bar", "A", "O")
# A memory after its last update in a round is the memory at the beginning of the next round.
NEXT_ROUND = {("E''", "E"), ("W''", "W"), ("M''", "M")}
LINEAR = figure_4.LinearAgent(*jnp.array([0.5, 0.8, 1.2, -0.3, 0.4]))


@pytest.fixture(scope="module")
def process() -> ud.InteractionProcess:
    """Theta, actions and observations are normal: a sampled action is differentiable."""
    return remark_5.line(num_rounds=2)


@pytest.fixture(scope="module")
def agent(process: ud.InteractionProcess) -> ud.LSTMAgent:
    # One component: the cross-entropy of two normal distributions has a closed form, that of a mixture has none.
    agent = ud.LSTMAgent(process, 2, key=jax.random.key(3))
    one = Interface(process.specs, reads=8, features=2, scale=0.7, num_components=1, key=jax.random.key(4))
    return eqx.tree_at(lambda a: a.interface, agent, one)


# The gradient --------------------------------------------------------------------------------------------------------


def gradients(process: ud.InteractionProcess, agent: ud.AbstractAgent) -> tuple[np.ndarray, np.ndarray]:
    """Gradients of the losses by the agent's weights: of a stored episode, and of the program that also collects it."""
    weights, static = eqx.partition(agent, eqx.is_inexact_array)

    def collected(weights: object) -> ud.Episodes:
        return collect(process, eqx.combine(weights, static), figure_4.TEACHING, jax.random.key(5))

    def loss(weights: object, episode: ud.Episodes) -> jax.Array:
        action, observation = log_losses(eqx.combine(weights, static), episode, target="sample")
        return action.sum() + observation.sum()

    @jax.jit
    def both(weights: object) -> tuple:
        end_to_end = jax.grad(lambda weights: loss(weights, collected(weights)))
        return jax.grad(loss)(weights, collected(weights)), end_to_end(weights)

    stored, end_to_end = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(x)]) for x in both(weights))
    return stored, end_to_end


@pytest.mark.slow
def test_gradient_stops_at_sampled_action(
    process: ud.InteractionProcess, agent: ud.LSTMAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Direct links carry the gradient and stochastic links do not; without the stop-gradient they would."""
    stored, end_to_end = gradients(process, agent)
    assert np.abs(stored).max() > 1e-2
    np.testing.assert_allclose(end_to_end, stored, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    stored, end_to_end = gradients(process, agent)
    assert np.abs(end_to_end - stored).max() > 1e-2


def test_discrete_samples_need_no_stop(frog: ud.InteractionProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    stored, end_to_end = gradients(frog, ud.LSTMAgent(frog, 2, key=jax.random.key(3)))
    assert np.abs(stored).max() > 1e-2
    np.testing.assert_allclose(end_to_end, stored, rtol=1e-5, atol=1e-6)


def test_figure_4_item_detects_missing_stop(process: ud.InteractionProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.lax, "stop_gradient", lambda x: x)
    # Compiled for another number of rounds than in the block, whose compiled function must keep the stop.
    by_weight, _ = figure_4.weight_derivatives(process, LINEAR, jax.random.key(1))
    assert np.abs(by_weight).max() > 1e-2


# What depends on what ------------------------------------------------------------------------------------------------


def reaches(source: str, target: str, edges: set[tuple[str, str]]) -> bool:
    reached = {source}
    while new := {v for u, v in edges if u in reached} - reached:
        reached |= new
    return target in reached


def test_losses_depend_on_symbols_as_drawn(process: ud.InteractionProcess, agent: ud.LSTMAgent) -> None:
    """A loss has a nonzero derivative by a symbol exactly if a path in the drawing leads from the symbol to the loss.

    The score of a whole distribution depends on the expert's sample in no round.
    """
    episode = collect(process, agent, figure_4.TEACHING, jax.random.key(1))

    @jax.jit
    @jax.jacobian
    def derivative(symbols: tuple) -> tuple:
        values = dict(zip(("expert_actions", "actions", "observations"), symbols, strict=True))
        changed = dataclasses.replace(episode, **values)
        return *log_losses(agent, changed, target="sample"), log_losses(agent, changed, target="distribution")[0]

    symbols = episode.expert_actions, episode.actions, episode.observations
    action, observation, whole = (dict(zip(SYMBOLS, x, strict=True)) for x in derivative(symbols))
    assert not whole["A_bar"].any()
    edges = {(source, target) for panel in PANELS.values() for source, target, _ in panel.edges}
    # The episode is stored: only the agent and the losses are computed from its symbols.
    edges = {(u, v) for u, v in edges | NEXT_ROUND if v[0] in "MPl"}
    for loss, by_symbol in (("loss_A", action), ("loss_O", observation)):
        for symbol in SYMBOLS:
            same_round = reaches(symbol, loss, edges - NEXT_ROUND)
            next_round = any(reaches(symbol, end, edges) and reaches(start, loss, edges) for end, start in NEXT_ROUND)
            expected = [[same_round, False], [next_round, same_round]]
            assert (np.asarray(by_symbol[symbol]) != 0).tolist() == expected, (symbol, loss)


@pytest.mark.parametrize(("executor", "hidden"), [("agent", True), ("expert", False)])
def test_theta_reaches_agent_through_symbols_only(bandit: ud.InteractionProcess, executor: str, hidden: bool) -> None:
    """If observations say nothing of theta, it reaches the agent only through actions that the expert executes."""
    process = without_feedback(bandit)
    agent = ud.ExactAgent(process, own_actions="do" if executor == "agent" else "see")
    one, other = (
        ud.rollout(process, agent, key=jax.random.key(2), num_episodes=8, theta=theta, executor=executor)
        for theta in (0, 1)
    )
    assert (one.expert_actions != other.expert_actions).any()
    assert (one.actions == other.actions).all() == hidden
    assert jnp.allclose(ud.posterior(process, one), ud.posterior(process, other)) == hidden


class Echo(remark_5.Error):
    """A task whose observation is the executed action."""

    def Q_O(self, theta: jax.Array, w: jax.Array) -> ud.Given:
        return ud.Given(w)


class Copy(remark_5.Aim):
    """An expert that repeats the executed action."""

    def init(self, theta: jax.Array) -> jax.Array:
        return jnp.zeros(())

    def Q_A(self, theta: jax.Array, e: jax.Array) -> ud.Normal:
        return ud.Normal(e, 1e-3)

    def g_A(self, theta: jax.Array, a: jax.Array, e: jax.Array) -> jax.Array:
        return jnp.asarray(a)

    def g_O(self, theta: jax.Array, o: jax.Array, e: jax.Array) -> jax.Array:
        return e


@pytest.mark.parametrize(
    "teaching", [figure_4.TEACHING, ud.Factual(target="sample")], ids=["counterfactual", "factual"]
)
def test_executed_action_updates_all_memories(teaching: ud.Teaching) -> None:
    """Task and expert go on with the executed action: the agent's if counterfactual, the expert's if factual."""
    process = ud.InteractionProcess(ud.Normal(0.0, 1.0), None, Echo(), Copy(), num_rounds=3, name="echo")
    episode = collect(process, LINEAR, teaching, jax.random.key(4))
    np.testing.assert_array_equal(episode.observations, episode.actions)
    np.testing.assert_allclose(episode.expert_actions[1:], episode.actions[:-1], atol=0.01)
    assert (episode.actions == episode.expert_actions).all() == (teaching.name == "factual")


# The drawing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PANELS)
def test_every_node_and_arrow_is_drawn(name: drawing.PanelName) -> None:
    panel, figure = PANELS[name], draw_computation(name)
    ends = {end for source, target, _ in panel.edges for end in (source, target)} - {""}
    assert panel.places.keys() == ends | ({"M"} if name == "a" else set())
    svg = ET.fromstring(figure.svg)
    paths = [path.attrib["style"] for path in svg.iter("path")]
    assert sum("fill: var(--ink)" in path for path in paths) == len(panel.arrows) + 1  # and one in the legend
    assert sum("fill: none; stroke: var(--ink); stroke-width: 1.1" in path for path in paths) == len(panel.places)
    written = "".join(element.text or "" for element in svg.iter("text"))
    assert all(drawing.label(node).replace("_", "") in written for node in panel.places)


def test_panel_is_described() -> None:
    figure = draw_computation("c")
    assert ET.fromstring(figure.svg).attrib["aria-label"] == figure.alt
    assert "action step with counterfactual teaching. Sampled: A from P_A; \u0100 from \u0398 and E." in figure.alt


@pytest.mark.parametrize("name", PANELS)
def test_arrows_pass_clear_of_other_nodes(name: drawing.PanelName) -> None:
    panel = PANELS[name]
    at = {node: np.array([drawing.COLUMN * x, drawing.ROW * y]) for node, (x, y) in panel.places.items()}
    for source, target, _ in panel.edges:
        for node in at.keys() - {source, target}:
            start, end = at.get(source, at[target]), at[target]
            along = (end - start) / max(np.linalg.norm(end - start), 1)
            nearest = start + along * np.clip((at[node] - start) @ along, 0, np.linalg.norm(end - start))
            assert np.linalg.norm(at[node] - nearest) > drawing.LOSS, (source, target, node)
