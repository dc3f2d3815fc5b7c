"""Interaction processes: a prior, a task and an expert who knows theta (Section 3; the set-up of Section 4.1)."""

import abc
import functools
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from undelude._checks import as_numbers, check_count, check_probabilities, one_line
from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, Mixture, Normal, Spec, spec_of
from undelude._errors import users_line
from undelude._tree import Outline, filled, index, is_concrete, outline, signature
from undelude._types import Action, Observation, Theta
from undelude.causal.model import CausalModel

# What JAX raises where Python asks for a number that is being traced.
NOT_KNOWN_YET = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerBoolConversionError,
    jax.errors.TracerIntegerConversionError,
)

W = TypeVar("W")
E = TypeVar("E")


class AbstractTask(eqx.Module, Generic[W]):
    """Nature's side, `Q(O | Theta, W)`; its memory `W` is a sufficient statistic of the interaction so far.

    `theta_free_memory`: set it where `W` is computed without looking at theta, so that an exact agent keeps one copy
    of it and not one for each theta. A process with a transition needs it.
    """

    theta_free_memory: ClassVar[bool] = False

    @abc.abstractmethod
    def init(self, theta: Theta) -> W:
        """`W` before anything happened."""

    @abc.abstractmethod
    def Q_O(self, theta: Theta, w: W) -> AbstractDistribution:
        """`Q(O_t | theta, w)`, `w` having met the action of this round; before any action, that of `O_0`."""

    @abc.abstractmethod
    def g_A(self, theta: Theta, a: Action, w: W) -> W:
        """`W` after the action `a`, whoever executed it."""

    @abc.abstractmethod
    def g_O(self, theta: Theta, o: Observation, w: W) -> W:
        """`W` after the observation `o`."""

    @abc.abstractmethod
    def reward(self, theta: Theta, w: W, a: Action, o: Observation) -> Float[Array, ""]:
        """The reward of a round, for evaluation only; `w` is the memory under which `o` was drawn."""

    def draw(self, frame: Any, theta: Theta, w: W, belief: Sequence[tuple[Theta, float]]) -> None:
        """Draw the world as it is in a round, for `ud.film`; by default, the belief alone.

        Args:
            frame: a `Frame` from (0, 0) to (1, 1), already with a title.
            theta: the true value after the round, in NumPy.
            w: the memory that has met the action of the round, in NumPy.
            belief: each value of Theta with its probability after the round; empty where Theta is continuous.

        Raises:
            TypeError: there is nothing to draw by default.
        """
        del w
        if not belief:
            raise TypeError(f"{type(self).__name__} has no drawing; give it draw(frame, theta, w, belief).")
        true = [jax.tree.all(jax.tree.map(np.array_equal, theta, value)) for value, _ in belief]
        frame.bars([p for _, p in belief], framed=true.index(True))

    def say(self, o: Observation) -> str:
        """What an observation tells, in a word or two, for the header of `ud.film`; by default a symbol's number."""
        return str(int(o)) if isinstance(o, np.ndarray | np.generic) and o.ndim == 0 and o.dtype.kind in "iu" else ""


class AbstractExpert(eqx.Module, Generic[E]):
    """The demonstrator, `Q(A | Theta, E)`, who is shown theta; `E` is its memory. `theta_free_memory` as for a task."""

    theta_free_memory: ClassVar[bool] = False

    @abc.abstractmethod
    def init(self, theta: Theta) -> E:
        """`E` before anything happened."""

    @abc.abstractmethod
    def Q_A(self, theta: Theta, e: E) -> AbstractDistribution:
        """`Q(A_t | theta, e)`, the action that the expert would take now."""

    @abc.abstractmethod
    def g_A(self, theta: Theta, a: Action, e: E) -> E:
        """`E` after the action `a`, whoever executed it."""

    @abc.abstractmethod
    def g_O(self, theta: Theta, o: Observation, e: E) -> E:
        """`E` after the observation `o`."""


def _as_prior(prior: Any) -> Any:
    """Probabilities in any form as an array; a distribution as it is."""
    if isinstance(prior, AbstractDistribution):
        return prior
    return jnp.asarray(as_numbers(prior, "prior") if is_concrete(prior) else prior, dtype=float)


def _as_arrays(thetas: Any) -> Any:
    return jax.tree.map(jnp.asarray, thetas)


class InteractionProcess(eqx.Module):
    """`Theta, [O_0,] A_1, O_1, ..., A_T, O_T`: Nature and an expert in turn; an agent sees all of it but Theta.

    Attributes:
        prior: `Q(Theta)`: `[K]` probabilities, or a distribution to sample from where Theta is continuous.
        thetas: the `K` values of Theta, a PyTree with a leading axis of `K`; None where Theta is continuous.
        task: `Q(O | Theta, W)`.
        expert: `Q(A | Theta, E)`.
        num_rounds: `T`, the rounds of an episode.
        opening: whether Nature opens with an observation `O_0 ~ Q_O(theta, init(theta))` before the first action.
        transition: None where theta lasts the episode; otherwise `(theta, w) -> Categorical` over the indices of
            `thetas`, from which theta is drawn anew after each observation (Section 3's Theta_t).
        name: how messages and run directories call it.

    Raises:
        ValueError: probabilities that do not sum to one, distributions whose shapes do not fit, an expert or a task
        that gives
            no mass to anything, a memory that is declared free of theta and is not; the message names the part.
            Distributions
            are looked at where they are first asked, and no further.
        TypeError: a part is of another kind, a method returns no distribution, or Python looks at a number while it
        is compiled.
    """

    prior: Float[Array, " K"] | AbstractDistribution = eqx.field(converter=_as_prior)
    thetas: PyTree[Array] | None = eqx.field(converter=_as_arrays)
    task: AbstractTask
    expert: AbstractExpert
    num_rounds: int = eqx.field(static=True)
    opening: bool = eqx.field(static=True, default=False)
    transition: Any = None
    name: str = eqx.field(static=True, default="process")

    def __check_init__(self) -> None:
        check_count(f"{self.name}: num_rounds", self.num_rounds)
        for part, kind in {"task": AbstractTask, "expert": AbstractExpert}.items():
            if not isinstance(given := getattr(self, part), kind):
                what = (
                    f"the class {given.__name__} itself"
                    if isinstance(given, type)
                    else f"of type {type(given).__name__}"
                )
                raise TypeError(f"{self.name}: {part} must be an instance of ud.{kind.__name__}, not {what}.")
        if not is_concrete(self):
            return
        if self.finite:
            if isinstance(self.prior, AbstractDistribution) or self.prior.ndim != 1:
                raise ValueError(f"{self.name}: with thetas, the prior must be [K], one probability for each of them.")
            check_probabilities(self.prior, f"{self.name}: prior")
            for leaf in jax.tree.leaves(self.thetas):
                if leaf.ndim == 0 or leaf.shape[0] != self.num_thetas:
                    what = "single numbers" if leaf.ndim == 0 else f"shape {leaf.shape}"
                    raise ValueError(
                        f"{self.name}: thetas has {what}, but the prior has {self.num_thetas} values; "
                        "give every array in thetas a leading axis of that length, such as "
                        f"jnp.arange({self.num_thetas})."
                    )
        elif not isinstance(self.prior, AbstractDistribution):
            raise ValueError(
                f"{self.name}: thetas is None, so the prior must be a distribution to sample from; "
                "for a finite Theta give the K values as thetas and K probabilities as prior."
            )
        if self.transition is not None and not (self.task.theta_free_memory and self.expert.theta_free_memory):
            raise ValueError(
                f"{self.name}: with a transition the memories of task and expert must not depend on theta; "
                "compute them without theta and declare theta_free_memory = True."
            )
        try:
            distributions, memories = _first_round(self)
        except NOT_KNOWN_YET as error:
            raise TypeError(
                f"{self.name}: a method of task, expert or transition looks at a number that is not known while it is "
                f"compiled{users_line(error)}. In place of if and while take jnp.where, jax.lax.cond and jax.lax.scan, "
                "in place of NumPy's functions, int() and float() those of jax.numpy."
            ) from error
        for part, distribution in distributions.items():
            _check_distribution(distribution, f"{self.name}: {part}")
        self._check_memories(memories)
        if self.transition is not None and self.finite:
            distribution = distributions["transition(theta, w)"]
            if not isinstance(distribution, Categorical) or distribution.num_categories != self.num_thetas:
                raise ValueError(
                    f"{self.name}: transition(theta, w) must return a Categorical over the indices of thetas, "
                    f"0 to {self.num_thetas - 1}."
                )

    @property
    def finite(self) -> bool:
        """Whether Theta has finitely many values, so that exact answers exist."""
        return self.thetas is not None

    @property
    def num_thetas(self) -> int:
        """`K`; `TypeError` where Theta is continuous."""
        return self._finite_prior.shape[0]

    @property
    def log_prior(self) -> Float[Array, " K"]:
        """`log Q(Theta)`; `TypeError` where Theta is continuous."""
        return jnp.log(self._finite_prior)

    def check_finite(self) -> None:
        """Raise `TypeError` where Theta is continuous, so that there is no exact inference."""
        _ = self._finite_prior

    @property
    def _finite_prior(self) -> Float[Array, " K"]:
        if isinstance(self.prior, AbstractDistribution):
            raise TypeError(
                f"{self.name} has a continuous Theta: exact inference needs finitely many values: give "
                "thetas=, or take draws of the prior with particles()."
            )
        return self.prior

    @property
    def specs(self) -> tuple[Spec, Spec]:
        """The values of actions and of observations."""
        return _trace_specs(outline(self))

    @property
    def action_spec(self) -> Spec:
        """The values of actions."""
        return self.specs[0]

    @property
    def observation_spec(self) -> Spec:
        """The values of observations."""
        return self.specs[1]

    def causal_model(self, num_rounds: int | None = None) -> CausalModel:
        """The process as a causal model, in which any variable can be seen, done or summed out (Figure 3b).

        Its variables are `Theta, [O_0,] A_1, O_1, ..., A_T, O_T`; where theta is drawn anew, `Theta_1, Theta_2, ...`,
        from `Theta_0` if the process has an opening. Values are counted from 0. A variable listens to as much of its
        past as makes a difference to it; where task and expert remember little, any T will do.

        Args:
            num_rounds: T; the process's own by default.

        Raises:
            TypeError: theta, actions or observations are no finite sets of symbols.
            ValueError: too much of the past makes a difference, so that the tables would be too large.

        >>> import undelude as ud
        >>> ud.tasks.bandit().causal_model(num_rounds=2)
        CausalModel(Theta, A_1 | Theta, O_1 | Theta A_1, A_2 | Theta, O_2 | Theta A_2)
        """
        from undelude._process.causal_model import unrolled  # It needs this module.

        return unrolled(self, check_count("num_rounds", self.num_rounds if num_rounds is None else num_rounds))

    def particles(self, num_particles: int, *, key: Key[Array, ""]) -> "InteractionProcess":
        """The process with Theta among draws of its prior: what exact agents need where Theta is continuous (Remark 5).

        Inference over the draws is self-normalised importance sampling from the prior:

            E[f(Theta) | history] = sum_n p_n f(theta_n) + O(N^-1/2),    theta_n ~ Q(Theta),
            p_n is proportional to prod_{t seen} Q(a_t | theta_n, e_t) prod_t Q(o_t | theta_n, w_t).

        The standard error is about `(sum_n p_n^2 (f(theta_n) - E f)^2)^1/2`. It grows as the history narrows Theta
        down: `1 / sum_n p_n^2` is the number of draws that still count.

        Args:
            num_particles: N.
            key: of the draws.

        Returns:
            A finite process, `thetas` the draws, equally probable: for `ExactAgent`, `ThompsonAgent`, `posterior`.

        Raises:
            TypeError: Theta is finite, so that exact answers exist; or it is drawn anew in each round.
            ValueError: `num_particles` is no whole number of at least 1.

        >>> import undelude as ud
        >>> bandit = ud.tasks.bandit()
        >>> drawn = ud.InteractionProcess(ud.Categorical(probs=bandit.prior), None, bandit.task, bandit.expert, 20)
        >>> particles = drawn.particles(10_000, key=jax.random.key(0))
        >>> belief = jnp.exp(ud.posterior(particles, ud.Episodes.of(particles, actions=[2], observations=[1]))[-1])
        >>> round(float(belief[particles.thetas == 2].sum()), 2)  # 3/7, exactly
        0.43
        """
        if self.finite:
            raise TypeError(
                f"{self.name} has a finite Theta, so that inference is exact without particles; use it as it is."
            )
        if self.transition is not None:
            raise TypeError(f"{self.name} draws Theta anew in each round, and particles last the episode.")
        num_particles = check_count("num_particles", num_particles)
        thetas = jax.vmap(self.sample_theta)(jax.random.split(key, num_particles))
        prior = jnp.full(num_particles, 1 / num_particles)
        return InteractionProcess(
            prior, thetas, self.task, self.expert, self.num_rounds, opening=self.opening, name=self.name
        )

    def sample_theta(self, key: Key[Array, ""]) -> PyTree:
        """Theta's index in `thetas`, or its value where Theta is continuous."""
        if isinstance(self.prior, AbstractDistribution):
            return self.prior.sample(key)
        return Categorical(log_probs=self.log_prior).sample(key)

    def theta_value(self, theta: PyTree) -> Theta:
        """The value that task and expert are given for what `sample_theta` returned."""
        return index(self.thetas, theta) if self.finite else theta

    def _check_memories(self, memories: tuple[W, E]) -> None:
        for name, part, memory in zip(("task", "expert"), (self.task, self.expert), memories, strict=True):
            if not self.finite or not part.theta_free_memory:
                continue
            for x in jax.tree.leaves(memory):
                if is_concrete(x) and not np.array_equal(x, np.broadcast_to(x[:1], x.shape), equal_nan=True):
                    raise ValueError(
                        f"{self.name}: {name} declares theta_free_memory, but after the same round its memory differs "
                        "between thetas; compute it without theta, or do not declare it."
                    )

    def _any_theta(self) -> Theta:
        return self.theta_value(jnp.zeros((), jnp.int32) if self.finite else self.sample_theta(jax.random.key(0)))

    def _over_thetas(self, distribution: Any) -> Any:
        if self.finite:
            return jax.vmap(distribution)(self.thetas)
        keys = jax.random.split(jax.random.key(0), 8)
        return jax.vmap(lambda key: distribution(self.sample_theta(key)))(keys)

    def _first_Q_A(self, theta: Theta) -> AbstractDistribution:
        e = self.expert.init(theta)
        if self.opening:
            e = self.expert.g_O(theta, self._first_Q_O(theta).sample(jax.random.key(0)), e)
        return self._as_distribution("expert.Q_A", self.expert.Q_A(theta, e))

    def _first_Q_O(self, theta: Theta) -> AbstractDistribution:
        if self.opening:
            return self._as_distribution("task.Q_O", self.task.Q_O(theta, self.task.init(theta)))
        return self._Q_O_after(theta, self._first_Q_A(theta).sample(jax.random.key(0)))

    def _Q_O_after(self, theta: Theta, a: Action) -> AbstractDistribution:
        w = self.task.init(theta)
        if self.opening:
            w = self.task.g_O(theta, self._first_Q_O(theta).sample(jax.random.key(0)), w)
        return self._as_distribution("task.Q_O", self.task.Q_O(theta, self.task.g_A(theta, a, w)))

    def _as_distribution(self, method: str, distribution: Any) -> AbstractDistribution:
        if not isinstance(distribution, AbstractDistribution):
            what = "an array" if isinstance(distribution, jax.Array) else f"{type(distribution).__name__}"
            raise TypeError(
                f"{self.name}: {method} returned {what}, not a distribution; return ud.Categorical(...) or another one."
            )
        return distribution

    def _memories_after_a_round(self, theta: Theta) -> tuple[Any, Any]:
        """Of task and expert, after symbols that are the same whatever theta is."""
        some, key = self._any_theta(), jax.random.key(0)
        first = {"task": self.task.init(theta), "expert": self.expert.init(theta)}

        def step(g: str, x: PyTree, memories: dict[str, Any]) -> dict[str, Any]:
            later = {}
            for part, memory in memories.items():
                later[part] = getattr(getattr(self, part), g)(theta, x, memory)
                if signature(later[part]) != signature(first[part]):
                    raise ValueError(
                        f"{self.name}: {part}.{g} returns a memory of {signature(later[part])}, and {part}.init one of "
                        f"{signature(first[part])}; return the same structure, shapes and types from all three."
                    )
            return later

        memories = step("g_O", self._first_Q_O(some).sample(key), first) if self.opening else first
        a = self._first_Q_A(some).sample(key)
        memories = step("g_A", a, memories)
        memories = step("g_O", self._Q_O_after(some, a).sample(key), memories)
        return memories["task"], memories["expert"]

    def _Q_O_after_each_action(self, theta: Theta) -> AbstractDistribution:
        Q_A = self._first_Q_A(theta)
        if not isinstance(Q_A, Categorical):
            return self._Q_O_after(theta, Q_A.sample(jax.random.key(0)))
        # Also those that the expert never takes: an agent may.
        return jax.vmap(lambda a: self._Q_O_after(theta, a))(jnp.arange(Q_A.num_categories))


def check_process(process: Any) -> None:
    """Raise `TypeError` where `process` is something else."""
    if not isinstance(process, InteractionProcess):
        raise TypeError(
            f"process must be an ud.InteractionProcess, such as ud.tasks.bandit(), not {one_line(repr(process))}."
        )


@eqx.filter_jit
def _first_round(process: InteractionProcess) -> tuple[dict[str, Any], tuple[Any, Any]]:
    """What can be checked before anything is played, stacked over theta; compiled, as it is many small operations.

    Returns:
        The distributions of the first round, and the memories of task and expert after it.
    """
    distributions = {
        "expert: first Q_A(theta, e)": process._first_Q_A,
        "task: Q_O(theta, w) after each first action": process._Q_O_after_each_action,
    }
    if process.opening:
        distributions["task: Q_O(theta, w) of the opening"] = process._first_Q_O
    # First, as distributions of memories that are not alike fail in ways of their own.
    memories = process._over_thetas(process._memories_after_a_round)
    distributions = {part: process._over_thetas(distribution) for part, distribution in distributions.items()}
    if process.transition is not None and process.finite:
        w = index(memories[0], 0)
        distributions["transition(theta, w)"] = jax.vmap(process.transition, in_axes=(0, None))(process.thetas, w)
    return distributions, memories


# Cached, because tracing takes longer than the calls that ask for it, such as `posterior` and `rollout`.
@functools.lru_cache(maxsize=64)
def _trace_specs(key: Outline) -> tuple[Spec, Spec]:
    """Return the specs of the first action and of the first observation; `key` is the outline of a process."""

    def distributions(*leaves: Array) -> Any:
        process = filled(key, leaves)
        theta = process._any_theta()
        return process._first_Q_A(theta), process._first_Q_O(theta)

    Q_A, Q_O = eqx.filter_eval_shape(distributions, *key[0])
    return spec_of(Q_A), spec_of(Q_O)


def _check_distribution(distribution: Any, name: str) -> None:
    """A distribution stacked over theta: of a known kind, finite, normalised."""
    match distribution:
        case Categorical():
            check_probabilities(distribution.probs, name)
        case Normal():
            if is_concrete(distribution) and not (
                np.isfinite(distribution.loc).all() and (np.asarray(distribution.scale) > 0).all()
            ):
                raise ValueError(f"{name} is a Normal whose loc is not finite or whose scale is not positive.")
        case Joint():
            for i, part in enumerate(distribution.distributions):
                _check_distribution(part, f"{name} part {i}")
        case Mixture():
            check_probabilities(jnp.exp(distribution.log_weights), f"{name} weights")
            _check_distribution(distribution.components, f"{name} components")
        case Given() | AbstractDistribution():
            pass
        case _:
            raise ValueError(
                f"{name} returned {type(distribution).__name__}, not a distribution; return ud.Categorical(...) or "
                f"another one."
            )
