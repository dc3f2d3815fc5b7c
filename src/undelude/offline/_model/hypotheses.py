"""The user's own causal models as values of the latent: "a set of hypotheses" (Remark 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from undelude._checks import check_probabilities
from undelude._distributions import AbstractDistribution
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._tree import index
from undelude.offline._model.latent import Episode

Holds = Literal["always", "episode"]
LEARNED = "learned"


@dataclass(frozen=True, init=False)
class Hypotheses:
    """Causal models of the user's own, and perhaps a learned one beside them.

    The fitted process has pairs for its theta: a hypothesis, and a theta of it. An exact agent that intervenes updates
    the hypotheses by what it observes, and not by its own actions.

    Attributes:
        processes: the hypotheses, with finitely many thetas, and the same actions and observations.
        beside: the latent of a model that is learned from the same demonstrations; None for no such model.
        weights: of the hypotheses before the demonstrations, the learned one last; equal by default.
        holds: `"always"` if one hypothesis is true of all episodes: its weight is its posterior probability given all
            demonstrations. `"episode"` if each episode has its own: the weights are then those that make the
            demonstrations likeliest.
    """

    processes: tuple[InteractionProcess, ...]
    beside: Episode | None
    weights: tuple[float, ...]
    holds: Holds

    def __init__(
        self,
        processes: Sequence[InteractionProcess],
        *,
        beside: Episode | None = None,
        weights: Sequence[float] | None = None,
        holds: Holds = "always",
    ):
        processes = tuple(processes)
        if holds not in get_args(Holds):
            raise ValueError(f'Hypotheses: holds must be "always" or "episode", not {holds!r:.99}.')
        if len(processes) + (beside is not None) < 2:
            raise ValueError("Hypotheses: two hypotheses are needed; give several processes, or beside=Episode(...).")
        for one in processes:
            if not isinstance(one, InteractionProcess):
                raise TypeError(f"Hypotheses: a hypothesis must be an ud.InteractionProcess, not {one!r:.99}.")
        names = [one.name for one in processes] + ([LEARNED] if beside is not None else [])
        if len(set(names)) < len(names):
            raise ValueError(f"Hypotheses: two have the same name: {names}. Give each process its own name=.")
        if weights is None:
            weights = [1 / len(names)] * len(names)
        if len(weights) != len(names):
            raise ValueError(f"Hypotheses: {len(names)} hypotheses {names} need as many weights, not {len(weights)}.")
        check_probabilities(jnp.asarray(weights, float), "Hypotheses: weights")
        check_alike(processes)
        object.__setattr__(self, "processes", processes)
        object.__setattr__(self, "beside", beside)
        object.__setattr__(self, "weights", tuple(float(x) for x in weights))
        object.__setattr__(self, "holds", holds)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the hypotheses."""
        return (*(one.name for one in self.processes), *([LEARNED] if self.beside is not None else []))


def check_alike(processes: Sequence[InteractionProcess]) -> None:
    """Raise `ValueError` if processes cannot be mixed into one."""
    for one in processes:
        one.check_finite()
        if one.theta_changes or one.ends_early:
            what = "a theta that changes" if one.theta_changes else "episodes that end early"
            raise ValueError(f"Hypotheses: {one.name} has {what}, which hypotheses cannot have.")
        first = processes[0]
        if one.specs != first.specs or one.opening != first.opening:
            raise ValueError(
                f"Hypotheses: {one.name} has {_what(one)}, but {first.name} has {_what(first)}; hypotheses need the "
                "same actions and observations."
            )


def _what(process: InteractionProcess) -> str:
    action, observation = process.specs
    return f"{action} as actions and {observation} as observations{', an opening' if process.opening else ''}"


class Pair(eqx.Module):
    """A hypothesis, and the index of a theta of it."""

    hypothesis: Int[Array, "*K"]
    theta: Int[Array, "*K"]

    def of(self, thetas: tuple[Any, ...], hypothesis: int) -> Any:
        """Return the value of theta for a hypothesis: its first one, if the pair belongs to another."""
        return index(thetas[hypothesis], jnp.where(self.hypothesis == hypothesis, self.theta, 0))


def _select(what: str, pair: Pair, parts: list[Any]) -> Any:
    """Return the part of the pair's hypothesis."""
    structures = [jax.tree.structure(x) for x in parts]
    shapes = [[jnp.shape(x) for x in jax.tree.leaves(part)] for part in parts]
    if any(x != structures[0] for x in structures) or any(x != shapes[0] for x in shapes):
        raise TypeError(
            f"Hypotheses: {what} is {type(parts[0]).__name__} under one hypothesis and "
            f"{next((type(x).__name__ for x in parts if type(x) is not type(parts[0])), 'of another shape')} under "
            "another; return the same kind of distribution, such as ud.Categorical(...)."
        )
    return jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x])[pair.hypothesis], *parts)


class MixedTask(AbstractTask[tuple[Any, ...]]):
    """Nature under the hypothesis of the pair; the memory has that of each hypothesis."""

    tasks: tuple[AbstractTask, ...]
    thetas: tuple[Any, ...]

    def init(self, theta: Pair) -> tuple[Any, ...]:
        """Return all memories at the start."""
        return tuple(one.init(theta.of(self.thetas, h)) for h, one in enumerate(self.tasks))

    def Q_O(self, theta: Pair, w: tuple[Any, ...]) -> AbstractDistribution:
        """Return the distribution of the observation under the pair's hypothesis."""
        parts = [one.Q_O(theta.of(self.thetas, h), w[h]) for h, one in enumerate(self.tasks)]
        return _select("Q(O | theta, w)", theta, parts)

    def g_A(self, theta: Pair, a: Any, w: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return all memories after the action."""
        return tuple(one.g_A(theta.of(self.thetas, h), a, w[h]) for h, one in enumerate(self.tasks))

    def g_O(self, theta: Pair, o: Any, w: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return all memories after the observation."""
        return tuple(one.g_O(theta.of(self.thetas, h), o, w[h]) for h, one in enumerate(self.tasks))

    def reward(self, theta: Pair, w: tuple[Any, ...], a: Any, o: Any) -> Float[Array, ""]:
        """Return the reward under the pair's hypothesis."""
        parts = [one.reward(theta.of(self.thetas, h), w[h], a, o) for h, one in enumerate(self.tasks)]
        return jnp.stack([jnp.asarray(x, float) for x in parts])[theta.hypothesis]

    def say(self, o: Any) -> str:
        """Describe an observation as the first hypothesis does."""
        return self.tasks[0].say(o)

    def say_action(self, a: Any) -> str:
        """Describe an action as the first hypothesis does."""
        return self.tasks[0].say_action(a)


class MixedExpert(AbstractExpert[tuple[Any, ...]]):
    """The expert under the hypothesis of the pair; the memory has that of each hypothesis."""

    experts: tuple[AbstractExpert, ...]
    thetas: tuple[Any, ...]

    def init(self, theta: Pair) -> tuple[Any, ...]:
        """Return all memories at the start."""
        return tuple(one.init(theta.of(self.thetas, h)) for h, one in enumerate(self.experts))

    def Q_A(self, theta: Pair, e: tuple[Any, ...]) -> AbstractDistribution:
        """Return the distribution of the action under the pair's hypothesis."""
        parts = [one.Q_A(theta.of(self.thetas, h), e[h]) for h, one in enumerate(self.experts)]
        return _select("Q(A | theta, e)", theta, parts)

    def g_A(self, theta: Pair, a: Any, e: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return all memories after the action."""
        return tuple(one.g_A(theta.of(self.thetas, h), a, e[h]) for h, one in enumerate(self.experts))

    def g_O(self, theta: Pair, o: Any, e: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return all memories after the observation."""
        return tuple(one.g_O(theta.of(self.thetas, h), o, e[h]) for h, one in enumerate(self.experts))


def mixed_process(
    processes: Sequence[InteractionProcess], weights: Sequence[float] | Float[np.ndarray, " H"], num_rounds: int
) -> InteractionProcess:
    """Return the process whose theta is a pair of a hypothesis and a theta of it."""
    check_alike(processes)
    sizes = [one.num_thetas for one in processes]
    pairs = Pair(
        jnp.repeat(jnp.arange(len(sizes)), np.asarray(sizes)), jnp.concatenate([jnp.arange(size) for size in sizes])
    )
    prior = jnp.concatenate([w * jnp.asarray(one.prior) for w, one in zip(weights, processes, strict=True)])
    thetas = tuple(one.thetas for one in processes)
    return InteractionProcess(
        prior / prior.sum(),
        pairs,
        MixedTask(tuple(one.task for one in processes), thetas),
        MixedExpert(tuple(one.expert for one in processes), thetas),
        num_rounds,
        opening=processes[0].opening,
        name="hypotheses",
    )


def learn_weights(
    prior: Sequence[float], log_likelihoods: Float[np.ndarray, "N H"], holds: Holds, num_iterations: int = 500
) -> Float[np.ndarray, " H"]:
    """Return the weights of fixed hypotheses given demonstrations.

    Args:
        prior: the weights before.
        log_likelihoods: of each demonstration under each hypothesis.
        holds: `"always"` returns the posterior; `"episode"` the maximum of the likelihood, by EM from the prior.
        num_iterations: of EM.

    Raises:
        ValueError: no hypothesis allows the demonstrations.
    """
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.asarray(prior, np.float64))
        if holds == "always":
            total = log_likelihoods.sum(0) + log_weights
            possible = np.isfinite(total.max())
        else:
            possible = np.isfinite((log_likelihoods + log_weights).max(-1)).all()
        if not possible:
            raise ValueError(
                'Hypotheses: no hypothesis allows all demonstrations. Add one that does, or say holds="episode" if '
                "each episode may have another."
            )
        if holds == "always":
            weights = np.exp(total - total.max())
            return weights / weights.sum()
        for _ in range(num_iterations):
            joint = log_likelihoods + log_weights
            r = np.exp(joint - joint.max(-1, keepdims=True))
            log_weights = np.log((r / r.sum(-1, keepdims=True)).mean(0))
    return np.exp(log_weights)
