"""The model's answers under other time scales of the hidden theta: does the assumption matter?"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from undelude._agents.exact import ExactAgent
from undelude._checks import check_count, check_key
from undelude._compiled import compiled_for
from undelude._distributions import Categorical, Joint
from undelude._process.process import InteractionProcess
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.manski import manski
from undelude.offline._diagnosing.passive import at_most, bic
from undelude.offline._diagnosing.playing import Estimate, estimate, play
from undelude.offline._diagnosing.probes import Effect, Probe
from undelude.offline._fitting.fit import refit
from undelude.offline._fitting.result import Fit
from undelude.offline._model.latent import Episode, Latent, Markov
from undelude.offline._model.process import ObservedFields

# Openings drawn for each theta, if there are any.
NUM_OPENINGS = 256
# Logs beyond so many rounds are not needed for the comparison.
MAX_STEPS = 100_000
# Rows of the table in the text.
MAX_ROWS = 6
# A delusion gap below which the time scale of theta does not matter for acting.
NEGLIGIBLE = 0.01


@dataclasses.dataclass(frozen=True)
class Alternative:
    """The model under one time scale of theta.

    Attributes:
        latent: "none", "Episode" or "Markov".
        K: its number of values of theta.
        bic: `num_parameters log N - 2 log_likelihood`.
        do: of each finite observed field, `P(o | do(a))` in the first round, `[A, n]`; empty if actions are real.
        reward: per round, of the agent that acts with do in this model, and its standard error; None without a reward.
        gap: mean total variation between `P(A | a, o)` and `P(A | do(a), o)` in that agent's own histories, and its
            standard error.
    """

    latent: str
    K: int
    bic: float
    do: dict[str, Float[np.ndarray, "A n"]] = dataclasses.field(repr=False)
    reward: Estimate | None
    gap: Estimate


@dataclasses.dataclass(frozen=True)
class Structure:
    """The model's answers under three time scales of theta: none, the episode, and one that changes.

    Logs can tell these three apart. They cannot tell a theta that is drawn anew in each round from none: that needs
    bounds.

    Attributes:
        alternatives: in this order.
        chosen: the fit's own time scale, "none" if K is 1.
        actions: the names of the actions.
        levels: of each finite observed field, the names of its levels.
        per_step: of a field, bounds `[A, n, 2]` of `P(o | do(a))` that hold even if theta is drawn anew in each round;
            empty if there is no formula (`manski`).
    """

    alternatives: tuple[Alternative, ...]
    chosen: str
    actions: tuple[str, ...]
    levels: dict[str, tuple[str, ...]]
    per_step: dict[str, Float[np.ndarray, "A n 2"]] = dataclasses.field(repr=False)

    @property
    def gap(self) -> Estimate:
        """The delusion gap of the chosen alternative: mean total variation, and its standard error."""
        return next(x.gap for x in self.alternatives if x.latent == self.chosen)

    @property
    def matters(self) -> bool:
        """Whether the hidden theta changes how to act.

        If not, the do-agent and the see-agent are the same, and the assumption need not be right (Remark 7).
        """
        return self.gap[0] - 2 * self.gap[1] > NEGLIGIBLE

    def spread(self) -> list[tuple[str, list[float], tuple[float, float] | None]]:
        """Return each probe `P(o | do(a))`, its value under each alternative, and its bounds; widest first."""
        rows = []
        for field, levels in self.levels.items():
            bounds = self.per_step.get(field)
            # Of two levels, the second says all.
            for j in range(1, len(levels)) if len(levels) == 2 else range(len(levels)):
                for i, action in enumerate(self.actions):
                    values = [float(x.do[field][i, j]) for x in self.alternatives]
                    known = None if bounds is None else (float(bounds[i, j, 0]), float(bounds[i, j, 1]))
                    rows.append((f"P({field} = {levels[j]} | do({action}))", values, known))
        return sorted(rows, key=lambda row: min(row[1]) - max(row[1]))

    def __str__(self) -> str:
        rows = self.spread()
        names = [f"{x.latent} (K = {x.K})" if x.K > 1 else x.latent for x in self.alternatives]
        table = [("", [*names, "new each round" if self.per_step else ""])]
        for text, values, known in rows[:MAX_ROWS]:
            bounds = "" if known is None else f"[{known[0]:.2f}, {known[1]:.2f}]"
            table.append((text, [*(f"{x:.3f}" for x in values), bounds]))
        if any(x.reward for x in self.alternatives):
            rewards = [f"{x.reward[0]:.3f}" if x.reward else "" for x in self.alternatives]
            table.append(("reward per round of the agent", [*rewards, ""]))
        table.append(("delusion gap, total variation", [*(f"{x.gap[0]:.3f}" for x in self.alternatives), ""]))
        least = min(x.bic for x in self.alternatives)
        table.append(("BIC, less the least", [*(f"{x.bic - least:.0f}" for x in self.alternatives), ""]))
        widths = [max(len(cells[i]) for _, cells in table) for i in range(len(names) + 1)]
        width = max(len(text) for text, _ in table)
        lines = [f"{'no theta' if self.chosen == 'none' else self.chosen} was chosen; under each time scale of theta:"]
        for text, cells in table:
            aligned = (f"{x:>{w}}" for x, w in zip(cells, widths, strict=True))
            lines.append("  ".join([f"  {text:{width}}", *aligned]).rstrip())
        if any(x.reward for x in self.alternatives):
            lines.append(
                "  Each reward is that of an agent in its own fitted model; they do not say which model is right."
            )
        if len(rows) > MAX_ROWS:
            lines.append(f"  (the {MAX_ROWS} probes that differ most, of {len(rows)})")
        if not self.matters:
            lines.append("  Own actions read as evidence or not, the agent acts alike: the assumption hardly matters.")
        return "\n".join(lines)


def structure(fit: Fit, demos: Demos, *, key: Key[Array, ""], starts: int = 4, num_episodes: int = 512) -> Structure:
    """Fit the model with no theta, one that lasts the episode and one that changes, and compare what each says.

    Args:
        fit: the fitted model; it is one of the alternatives as it is, unless the logs are large or labelled.
        demos: the logs; of large ones, a part is fitted. Labels are not used.
        key: of the starts and of the episodes that are played.
        starts: of each further fit.
        num_episodes: played in each model.
    """
    check_key(key)
    starts, num_episodes = check_count("starts", starts), check_count("num_episodes", num_episodes)
    own = "none" if fit.K == 1 else fit.latent
    K = max(fit.K, 2)
    key_few, key = jax.random.split(key)
    few = at_most(MAX_STEPS, demos, key=key_few)
    if (demos.labels >= 0).any():
        # Without a theta, labels have no meaning; and likelihoods with and without them cannot be compared.
        few = dataclasses.replace(few, labels=np.full_like(few.labels, -1))
    latents: dict[str, Latent] = {"none": Episode(1), "Episode": Episode(K), "Markov": Markov(K)}
    key_fit, key_play = jax.random.split(key)
    alternatives = []
    one: Fit | None = None
    for name, latent in latents.items():
        same = name == own and few is demos
        # Each contains the one before.
        one = fit if same else refit(few, fit.spec, latent, key=key_fit, starts=starts, contains=one)
        agent = ExactAgent(one.process)
        reward, gap = play(one.process, agent, agent, key_play, num_episodes, "see")
        alternatives.append(
            Alternative(
                name,
                one.K,
                bic(one, few),
                do_predictions(one.process, demos, key=key_play),
                None if one.layout.reward is None else estimate(reward),
                estimate(gap),
            )
        )
    fields = {name: c.levels for name, c in demos.observations.items() if c.levels is not None}
    finite_actions = demos.action.levels is not None
    return Structure(
        tuple(alternatives),
        own,
        tuple(map(str, demos.action.levels or ())),
        {name: tuple(map(str, levels)) for name, levels in fields.items()} if finite_actions else {},
        _bounds(fit, demos),
    )


def _bounds(fit: Fit, demos: Demos) -> dict[str, Float[np.ndarray, "A n 2"]]:
    """Return Manski's bounds of the observed field, if it is the only one."""
    fields = ObservedFields.of(demos)
    if demos.action.levels is None or fields.reals or len(fields.finite) != 1:
        return {}
    ((name, n),) = fields.finite
    found = [
        [manski(fit, demos, Probe("", Effect(a, o)), averaged=True) for o in range(n)]
        for a in range(len(demos.action.levels))
    ]
    return {} if found[0][0] is None else {name: np.asarray(found)}


def do_predictions(
    process: InteractionProcess, demos: Demos, *, key: Key[Array, ""]
) -> dict[str, Float[np.ndarray, "A n"]]:
    """Return `P(o | do(a))` in the first round for each finite observed field, the opening averaged out.

    Returns:
        `[A, n]` for each field; none if actions are real.
    """
    fields = ObservedFields.of(demos)
    if demos.action.levels is None or not fields.finite:
        return {}
    symbols = np.asarray(_first_round(process, key, len(demos.action.levels), fields.symbol), np.float64)
    table = symbols.reshape(-1, *[n for _, n in fields.finite])
    return {
        name: table.sum(tuple(j + 1 for j in range(len(fields.finite)) if j != i))
        for i, (name, _) in enumerate(fields.finite)
    }


@compiled_for(runs=1)
def _first_round(
    process: InteractionProcess, key: Key[Array, ""], num_actions: int, symbol: str
) -> Float[Array, "A n"]:
    """Return the probabilities of the first symbol after each action; `symbol` is its part of an observation."""
    draws = NUM_OPENINGS if process.opening else 1
    weights = jnp.exp(process.log_prior) / draws

    def of(theta: Array, key: Array, a: Array) -> Array:
        state, _ = process.begin(key, theta)
        value = process.theta_value(state.theta)
        distribution: Any = process.task.Q_O(value, process.task.g_A(value, a, state.w))
        if isinstance(distribution, Joint):
            distribution = distribution.parts[symbol]
        assert isinstance(distribution, Categorical)
        return distribution.probs

    def after(a: Array) -> Array:
        thetas, keys = jnp.arange(process.num_thetas), jax.random.split(key, draws)
        each = jax.vmap(lambda theta: jax.vmap(lambda k: of(theta, k, a))(keys).sum(0))(thetas)
        return weights @ each

    return jax.lax.map(after, jnp.arange(num_actions))
