"""Does the model predict the demonstrators? Held-out log-losses of the mixture and of a generic sequence model.

A hidden theta that was invented for demonstrators who read their own past (Proposition 2 of docs/offline.md) predicts
them worse than a model that may remember anything. This is the one fault that nothing inside the model class can show.
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from scipy.special import ndtr, stdtrit

from undelude._agents.base import AbstractAgent
from undelude._agents.exact import ExactAgent
from undelude._agents.networks.lstm import LSTMAgent
from undelude._agents.networks.normalise import normalise
from undelude._checks import check_between, check_count, check_key
from undelude._compiled import compiled
from undelude._process.episodes import Episodes
from undelude._teaching.loop import Loop
from undelude._teaching.losses import log_losses
from undelude._teaching.settings import Cloning
from undelude.offline._data.demos import Demos
from undelude.offline._diagnosing.counting import compares_alike, losses_of_alike, losses_of_counting
from undelude.offline._fitting.fit import refit
from undelude.offline._fitting.result import Fit
from undelude.offline._model.contexts import Given, Last, Round
from undelude.offline._model.latent import Episode, latent_of
from undelude.offline._model.logs import EndBlindAgent, is_ragged, logged_episodes, logged_process
from undelude.offline._model.mechanisms import Factor, Gaussian, Table
from undelude.offline._model.process import induced_process
from undelude.offline._model.spec import LatentSpec

# Standard errors by which the mixture must be worse, with many episodes; with few, Student's t has more.
CLEARLY = 2.0
# The share of the training part on which the sequence model's best moment is chosen.
VALIDATION = 0.15
# Learning rates of the sequence model, and updates between two looks at the validation part.
RATES, LOOK_EVERY, BATCH_SIZE = (5e-3,), 25, 64
# Logs beyond so many rounds are not needed for the comparison.
MAX_STEPS = 100_000
# Contexts with more combinations than this cost more parameters than logs can pay for.
MAX_CELLS = 256

Difference = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Passive:
    """The held-out comparison of the mixture with a generic sequence model, both as passive predictors.

    Attributes:
        action: nats per action by which the mixture predicts better, and the standard error of this mean, paired by
            episode; negative if the sequence model predicts better.
        observation: nats per observation, likewise; the opening is left out.
        mixture: the held-out log-losses of the mixture, of the action and of the observation, nats.
        sequence_model: those of the sequence model.
        memory: for each addition to the expert's declared memory, `BIC(with it) - BIC(declared)`; negative if the logs
            ask for it.
        num_episodes: held-out episodes.
    """

    action: Difference
    observation: Difference
    mixture: tuple[float, float]
    sequence_model: tuple[float, float]
    memory: dict[str, float]
    num_episodes: int

    @property
    def refuted(self) -> bool:
        """Whether the mixture predicts the demonstrators' actions worse, by more than two standard errors.

        With few held-out episodes it takes more of them: Student's t at the same level.

        Do not act on such a model: what it takes for the demonstrators' hidden knowledge is something else, most often
        their memory.
        """
        return is_worse(self.action, self.num_episodes)

    @property
    def wanted_memory(self) -> tuple[str, ...]:
        """The additions to the expert's memory that the logs ask for, the most wanted first."""
        return tuple(sorted((name for name, x in self.memory.items() if x < 0), key=self.memory.__getitem__))

    def __str__(self) -> str:
        lines = [
            f"held-out prediction, induced model minus generic sequence model, {self.num_episodes} episodes:",
            f"  action      {_said(self.action, self.mixture[0], self.sequence_model[0])}",
            f"  observation {_said(self.observation, self.mixture[1], self.sequence_model[1])}",
        ]
        lines += [
            f"  BIC if the expert also remembers {name}: {x:+.0f}{' (the logs ask for it)' if x < 0 else ''}"
            for name, x in self.memory.items()
        ]
        if self.refuted:
            lines.append(
                "  The logs refute the model: a sequence model without a theta predicts the demonstrators better."
            )
        if is_worse(self.observation, self.num_episodes):
            lines.append(
                "  The sequence model predicts Nature better: the task's declared memory, or the number of "
                "demonstrations, is too small."
            )
        return "\n".join(lines)


def is_worse(difference: Difference, num_episodes: int) -> bool:
    """Return whether a mean over episodes is less than 0 by more than two standard errors, or Student's t if few."""
    mean, error = difference
    clearly = float(stdtrit(max(num_episodes - 1, 1), ndtr(CLEARLY)))
    return mean == -math.inf or mean < -clearly * error


def _said(difference: Difference, mixture: float, sequence_model: float) -> str:
    return f"{difference[0]:+.4f} +- {difference[1]:.4f} nats per step ({-mixture:.4f} and {-sequence_model:.4f})"


def passive(
    fit: Fit,
    demos: Demos,
    *,
    key: Key[Array, ""],
    held_out: float = 0.25,
    lstm: bool = True,
    hidden_size: int = 32,
    steps: int = 200,
    starts: int = 8,
    memory: bool = True,
) -> Passive:
    """Compare the fitted model with a generic sequence model on held-out logs, and its memory with longer ones.

    Both learn from the same part of the logs: the model is fitted again with the chosen latent; and of small networks
    on counts of the past (one of them scores all actions alike) and an LSTM, trained by behaviour cloning, the one that
    predicts a validation part best is the sequence model, at its best moment. A poor sequence model would hide a
    misspecified model.

    Args:
        fit: of the logs; its spec and the latent that it chose.
        demos: the logs.
        key: of the split, the starts and the training.
        held_out: the share of episodes on which both are compared.
        lstm: whether to train an LSTM too, which takes most of the time. It also sees an order that counts do not show.
        hidden_size: of the LSTM.
        steps: updates of the LSTM.
        starts: of each fit.
        memory: whether to fit the model with additions to the expert's memory too.

    Raises:
        ValueError: the logs are too few to be split, or an argument is out of range.
    """
    check_key(key)
    held_out = check_between("held_out", held_out, 0, 1, ends=False)
    steps, starts = check_count("steps", steps), check_count("starts", starts)
    key_few, key_split, key_validation, key_fit, key_train = jax.random.split(key, 5)
    demos = at_most(MAX_STEPS, demos, key=key_few)
    rest, test = demos.split(held_out, key=key_split)
    declared = refit(rest, fit.spec, latent_of(fit.latent, fit.K), key=key_fit, starts=starts)
    mixture = _mixture_losses(declared, rest, test)
    train, validation = rest.split(VALIDATION, key=key_validation)
    key_lstm, key_counting = jax.random.split(key_train)
    predictors = [losses_of_counting(train, validation, test, key=key_counting)]
    if compares_alike(demos):
        alike = losses_of_alike(train, validation, test, key=key_counting)
        predictors.append((alike, predictors[0][1]))
    if lstm:
        predictors.append(losses_of_lstm(train, validation, test, hidden_size=hidden_size, steps=steps, key=key_lstm))
    # Of each kind of symbol, the predictor that was better on the validation part.
    sequence = tuple(min((found[i] for found in predictors), key=lambda x: x[0])[1] for i in range(2))
    lengths = test.lengths
    return Passive(
        _difference(mixture[0], sequence[0], lengths),
        _difference(mixture[1], sequence[1], lengths),
        (_mean(mixture[0], lengths), _mean(mixture[1], lengths)),
        (_mean(sequence[0], lengths), _mean(sequence[1], lengths)),
        _compare_memories(fit, rest, declared, key_fit, starts) if memory else {},
        test.num_episodes,
    )


def at_most(num_steps: int, demos: Demos, *, key: Key[Array, ""]) -> Demos:
    """Return the demonstrations, or as many of them, drawn at random, as have so many rounds; at least 400."""
    enough = max(num_steps // demos.num_rounds, 400)
    if demos.num_episodes <= enough:
        return demos
    return demos.split(enough / demos.num_episodes, key=key)[1]


def _mean(losses: Float[np.ndarray, " N"], lengths: np.ndarray) -> float:
    return float(losses.sum() / lengths.sum())


def _difference(mixture: Float[np.ndarray, " N"], sequence: Float[np.ndarray, " N"], lengths: np.ndarray) -> Difference:
    """Return the mean advantage of the mixture per step, and its standard error over episodes."""
    if not np.isfinite(mixture).all():
        return -math.inf, math.nan
    advantage = sequence - mixture
    mean = advantage.sum() / lengths.sum()
    N = len(lengths)
    error = np.sqrt(((advantage - mean * lengths) ** 2).sum() * N / max(N - 1, 1)) / lengths.sum() if N > 1 else np.inf
    return float(mean), float(error)


def losses_per_step(agent: AbstractAgent, demos: Demos) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return the log-losses of an agent on each demonstration, of its actions and of its observations, summed."""
    action, observation = _summed_losses(agent, logged_episodes(demos))
    return np.asarray(action, np.float64), np.asarray(observation, np.float64)


@compiled
def _summed_losses(agent: AbstractAgent, episodes: Episodes) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    def one(episode: Episodes) -> tuple[Array, Array]:
        action, observation = log_losses(agent, episode, target="sample")
        return action.sum(), observation[-episode.num_rounds :].sum()

    return jax.lax.map(one, episodes, batch_size=min(len(episodes.mask), 256))


def _mixture_losses(declared: Fit, rest: Demos, test: Demos) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """Return the log-losses of the mixture; it is told the demonstrator if the expert's mechanism is."""
    expert = declared.layout.factors[0]
    if not any(context.given == "demonstrator" for context in expert.contexts):
        return losses_per_step(ExactAgent(declared.process, own_actions="see"), test)
    assert test.demonstrator is not None
    who = test.demonstrator.values
    losses = np.zeros((2, test.num_episodes))
    for d in np.unique(who):
        process = induced_process(
            declared.layout,
            rest,
            declared.fitted.log_prior[0],
            declared.tables,
            None if declared.fitted.log_transition is None else declared.fitted.log_transition[0],
            demonstrator=int(d),
        )
        losses[:, who == d] = losses_per_step(ExactAgent(process, own_actions="see"), test.subset(who == d))
    return losses[0], losses[1]


def losses_of_lstm(
    train: Demos, validation: Demos, test: Demos, *, hidden_size: int, steps: int, key: Key[Array, ""]
) -> tuple[tuple[float, Float[np.ndarray, " N"]], tuple[float, Float[np.ndarray, " N"]]]:
    """Return, for actions and for observations, the log-loss on the validation part and of each test episode, nats.

    They are those of an LSTM at the moment when it predicts the validation part best.
    """
    process = logged_process(train)
    ragged = is_ragged(train)
    action_spec, observation_spec = process.specs
    if ragged:
        observation_spec = observation_spec.tree["observation"]  # type: ignore[attr-defined]
    key_agent, key_train = jax.random.split(key)
    agent = LSTMAgent((action_spec, observation_spec), hidden_size, key=key_agent)
    agent = normalise(agent, logged_episodes(train.subset(range(min(train.num_episodes, 1000)))))
    loop = Loop(
        process,
        Cloning("sample"),
        steps=steps,
        batch_size=BATCH_SIZE,
        log_every=LOOK_EVERY,
        # A rate that is data, so that one program serves all.
        optimizer=optax.inject_hyperparams(optax.adam)(learning_rate=RATES[0]),
    )
    best: list[Any] = [(math.inf, None), (math.inf, None)]

    def look(state: Any, row: dict[str, Any]) -> None:
        del row
        network = state.agent.agent if ragged else state.agent
        for i, losses in enumerate(losses_per_step(network, validation)):
            if losses.sum() < best[i][0]:
                best[i] = (float(losses.sum()), network)

    for rate in RATES:
        state = loop.begin(EndBlindAgent(agent) if ragged else agent)
        state = eqx.tree_at(
            lambda s: s.optimizer_state.hyperparams["learning_rate"], state, jnp.asarray(rate, jnp.float32)
        )
        loop.run(state, key=key_train, on_log=look)
    (of_actions, network_A), (of_observations, network_O) = best
    action, observation = losses_per_step(network_A, test)[0], losses_per_step(network_O, test)[1]
    return (of_actions, action), (of_observations, observation)


def _compare_memories(fit: Fit, demos: Demos, declared: Fit, key: Key[Array, ""], starts: int) -> dict[str, float]:
    """Return the change of BIC by each addition to the expert's memory.

    With more memory, no theta may be needed at all, so that K = 1 is tried too, unless labels say that there is one.
    """
    found = {}
    is_known = fit.latent == "Markov" or bool((demos.labels >= 0).any())
    latent = latent_of(fit.latent, fit.K) if is_known else Episode({1, fit.K})
    before = bic(declared, demos)
    if not is_known and fit.K > 1:
        before = min(before, bic(refit(demos, fit.spec, Episode(1), key=key), demos))
    for name, extra in additions(declared.layout.factors[0], demos).items():
        spec = _with_expert_memory(fit.spec, declared.layout.factors[0], extra)
        found[name] = bic(refit(demos, spec, latent, key=key, starts=starts), demos) - before
    return found


def bic(fit: Fit, demos: Demos) -> float:
    """Return `num_parameters log N - 2 log_likelihood` with the likelihood of all factors."""
    size = fit.layout.num_parameters(fit.K, markov=fit.latent == "Markov")
    return size * math.log(demos.num_episodes) - 2 * fit.log_likelihood


def additions(expert: Factor, demos: Demos) -> dict[str, tuple[Given, ...]]:
    """Return contexts that the expert's mechanism might have and was not declared with, by name."""
    declared = [context.given for context in expert.contexts]
    lasts = [name for name, c in {"action": demos.action, **demos.observations}.items() if c.levels is not None]
    tried: dict[str, tuple[Given, ...]] = {}
    if demos.num_rounds > 1 and not any(isinstance(x, Round) for x in declared):
        tried["the half of the episode"] = (Round(demos.num_rounds // 2),)
    new = tuple(name for name in lasts if Last(name) not in declared)
    sizes = {"action": demos.action, **demos.observations}
    if demos.num_rounds > 1 and new:
        said = " and ".join(f"the last {name}" for name in new)
        cells = expert.num_cells * math.prod(len(sizes[name].levels or ()) + 1 for name in new)
        if cells <= MAX_CELLS:
            tried[said] = tuple(Last(name) for name in new)
    return tried


def _with_expert_memory(spec: LatentSpec, expert: Factor, extra: tuple[Given, ...]) -> LatentSpec:
    mechanism = expert.mechanism
    more = dataclasses.replace(mechanism, given=(*mechanism.given, *extra))
    assert isinstance(more, Table | Gaussian)
    return LatentSpec(spec.latent, more, spec.task, reward=spec.reward)
