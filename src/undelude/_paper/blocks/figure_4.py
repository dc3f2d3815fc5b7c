"""Figure 4: the computation graph of meta-training; its claims checked on the functions that `ud.teach` runs."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

import undelude as ud
from undelude._agents.base import predict
from undelude._paper import figures
from undelude._paper.blocks.remark_5 import line
from undelude._paper.criterion import at_least, equal, near
from undelude._paper.item import Block, Rows, Settings
from undelude._teaching.losses import log_losses
from undelude._teaching.updates import collect

# The paper's teaching signal is one sample of the expert, not the expert's distribution.
TEACHING = ud.Counterfactual(target="sample")


class LinearAgent(ud.AbstractAgent[Array]):
    """The four functions of Section 4.1, linear in a memory that is one number."""

    start: Array
    slope_A: Array
    slope_O: Array
    gain_A: Array
    gain_O: Array

    def init(self, *, num_rounds: int) -> Array:
        """Return the weight `start`."""
        return self.start

    def f_A(self, m: Array) -> ud.Normal:
        """Return `P(A | m) = N(slope_A m, 1)`."""
        return ud.Normal(self.slope_A * m, 1.0)

    def f_O(self, m: Array) -> ud.Normal:
        """Return `P(O | m) = N(slope_O m, 1)`."""
        return ud.Normal(self.slope_O * m, 1.0)

    def g_A(self, a: Any, m: Array, *, intervened: Any) -> Array:
        """Add the action, times a weight."""
        return m + self.gain_A * a

    def g_O(self, o: Any, m: Array) -> Array:
        """Add the observation, times a weight."""
        return m + self.gain_O * o


@eqx.filter_jit
def weight_derivatives(process: ud.InteractionProcess, agent: ud.AbstractAgent, key: Key[Array, ""]) -> tuple[Any, Any]:
    """Return the derivatives of the agent's actions and of its action losses along its weights, end to end.

    The actions are samples of normal distributions, `loc + scale * noise`: without the stop-gradient of Figure 4 they
    would have a derivative.
    """
    weights, static = eqx.partition(agent, eqx.is_inexact_array)

    def run(weights: Any) -> tuple[Array, Array]:
        agent = eqx.combine(weights, static)
        episode = collect(process, agent, TEACHING, key)
        action, _ = log_losses(agent, episode, target="sample")
        return episode.actions, action

    return jax.jvp(run, (weights,), (weights,))[1]


@eqx.filter_jit
def symbol_derivatives(
    process: ud.InteractionProcess, agent: ud.AbstractAgent, key: Key[Array, ""]
) -> dict[str, Float[Array, "T T"]]:
    """Return the derivatives of an episode's action losses by its symbols, `[round of loss, round of symbol]`."""
    episode = collect(process, agent, TEACHING, key)

    def loss(symbols: dict[str, Array]) -> Array:
        changed = dataclasses.replace(
            episode, expert_actions=symbols["A_bar"], actions=symbols["A"], observations=symbols["O"]
        )
        return log_losses(agent, changed, target="sample")[0]

    return jax.jacobian(loss)({"A_bar": episode.expert_actions, "A": episode.actions, "O": episode.observations})


@eqx.filter_jit
def first_round(process: ud.InteractionProcess, agent: ud.AbstractAgent, key: Key[Array, ""]) -> dict[str, Any]:
    """Return what the agent predicts and samples before the first observation, and that observation."""
    episode = collect(process, agent, TEACHING, key)
    P_A, P_O = predict(agent, episode)
    values = {"P_A": P_A, "A": episode.actions, "P_O": P_O, "O": episode.observations}
    return jax.tree.map(lambda x: x[0], values)


def block(settings: Settings) -> Block:
    """Check where gradients stop, that Theta is hidden, and that the expert's action is discarded."""
    process, key = line(), jax.random.key(settings.seed)
    agent = LinearAgent(*jnp.array([0.5, 0.8, 1.2, -0.3, 0.4]))
    by_weight = [np.asarray(x) for x in weight_derivatives(process, agent, key)]
    by_symbol = {name: np.asarray(x) for name, x in symbol_derivatives(process, agent, key).items()}
    sources = [name for name, x in by_symbol.items() if np.diag(x).any()] + ["P_A"] * bool(by_weight[1].all())
    # The same random numbers, with Theta moved by 1.
    moved = eqx.tree_at(lambda p: p.prior.loc, process, replace_fn=lambda loc: loc + 1)
    before, after = (first_round(p, agent, key) for p in (process, moved))
    reached = [name for name in before if not eqx.tree_equal(before[name], after[name])]
    text = [
        "The drawing is the paper's. Its claims are checked on the functions that `ud.teach` calls, with an agent "
        "whose four functions are linear, in a process whose Theta, actions and observations are normal (that of "
        "Remark 5). A normal action is differentiable with respect to the agent's weights unless the gradient is "
        "stopped. Its derivative in the whole program, and those of the losses with respect to each symbol, are JAX's.",
        "Theta is moved with all random numbers fixed: nothing that the agent predicts or samples before the first "
        "observation changes.",
    ]
    captions = (
        "Figure 4a: initialization. Theta is shown to the expert and the task, not to the agent. Wavy arrows are "
        "stochastic.",
        "Figure 4b: an observation step with factual teaching.",
        "Figure 4c: an action step with counterfactual teaching. The expert's action is scored and then discarded.",
    )
    rows = Rows(
        "figure-4",
        "Figure 4, p. 11",
        {
            "process": "Theta ~ N(0, 1), A_bar ~ N(Theta, 1/2), O ~ N(Theta - A, 1), four rounds",
            "agent": "linear, weights .5, .8, 1.2, -.3, .4",
            "teaching": "Counterfactual, one sample of the expert",
            "seed": settings.seed,
        },
    )
    items = [
        rows.paper(
            "derivative-of-the-actions-by-the-weights",
            '"this stochastically generated action must not propagate gradients": largest absolute value',
            np.abs(by_weight[0]).max(),
            near(0, 0),
        ),
        rows.paper(
            "derivative-of-the-losses-by-the-weights",
            '"direct links [...] propagate gradients": least absolute value',
            np.abs(by_weight[1]).min(),
            at_least(1e-3),
            "Appendix A, p. 15",
        ),
        rows.paper(
            "Theta-reaches-without-an-observation",
            '"Theta is not shown to the agent": of P_A, A, P_O and O, moving it changes',
            ", ".join(reached) or "nothing",
            equal("O"),
        ),
        rows.paper(
            "loss_A-is-computed-from",
            "\"the agent doesn't get penalized for the action it takes, but for its probability of taking the action "
            "the "
            'expert would have taken"',
            ", ".join(sources),
            equal("A_bar, P_A"),
        ),
        rows.paper(
            "A_bar-reaches",
            '"the expert actions are immediately discarded thereafter": derivative of later losses by it',
            np.abs(np.tril(by_symbol["A_bar"], -1)).max(),
            near(0, 0),
            "Appendix A, p. 14",
        ),
        rows.paper(
            "A-reaches",
            'samples an action, "which updates the memory states": largest derivative of later losses by it',
            np.abs(np.tril(by_symbol["A"], -1)).max(),
            at_least(1e-3),
        ),
    ]
    drawn = list(zip(figures.figure_4(), captions, strict=True))
    return Block("figure-4", "Figure 4: the computation graph of meta-training", text, items, drawn)
