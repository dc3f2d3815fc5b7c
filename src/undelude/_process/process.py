"""Interaction processes: a prior, a task and an expert who knows theta (Section 3; the set-up of Section 4.1)."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from undelude._checks import as_numbers, check_count
from undelude._distributions import AbstractDistribution, Categorical, Spec, spec_of
from undelude._process.causal_model import as_causal_model
from undelude._process.host_world import check_world
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._process.validation import any_theta, first_Q_A, first_Q_O, validate
from undelude._process.world import AbstractWorld, EpisodeKeys, RoundKeys
from undelude._tree import Outline, T, filled, index, is_concrete, outline
from undelude._types import Action, Memory, Observation, Theta
from undelude.causal._model.model import CausalModel


class ProcessState(eqx.Module):
    """The state of an `InteractionProcess` in one episode.

    Attributes:
        theta: the index of Theta in `thetas`, or its value if Theta is continuous.
        w, e: memories of task and expert.
    """

    theta: PyTree
    w: PyTree
    e: PyTree


def _as_prior(prior: Any) -> Array | AbstractDistribution:
    """Return probabilities in any form as an array, and a distribution as it is."""
    if isinstance(prior, AbstractDistribution):
        return prior
    return jnp.asarray(as_numbers(prior, "prior") if is_concrete(prior) else prior, dtype=float)


def _as_arrays(thetas: Theta) -> Theta:
    return jax.tree.map(jnp.asarray, thetas)


def _with_jax_arrays(part: T) -> T:
    """Return a task or expert with JAX arrays in place of NumPy's, which a traced theta cannot index."""
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, part)


class InteractionProcess(AbstractWorld[ProcessState]):
    """A prior, a task and an expert, which generate `Theta, [O_0,] A_1, O_1, ..., A_T, O_T`.

    Expert or agent executes the actions. An agent sees everything but Theta.

    Attributes:
        prior: `Q(Theta)`: `[K]` probabilities, or a distribution to sample from if Theta is continuous.
        thetas: the `K` values of Theta, a PyTree with a leading axis of `K`; None if Theta is continuous.
        task: `Q(O | Theta, W)`.
        expert: `Q(A | Theta, E)`.
        num_rounds: `T`, the rounds of an episode; fewer if the task ends it (`AbstractTask.ends`).
        opening: whether Nature opens with an observation `O_0 ~ Q_O(theta, init(theta))` before the first action.
        transition: None if theta lasts the episode; otherwise `(theta, w) -> Categorical` over the indices of
            `thetas`, the distribution of theta after each observation (Section 3's Theta_t).
        name: of the process in messages and run directories.

    Raises:
        ValueError: probabilities do not sum to one, shapes do not fit, the first round gives no mass to anything, or a
            memory that is declared free of theta depends on it, or is not declared so although there is a
            transition; the message names the part. Only the first round is checked here; `ud.check_task` plays whole
            episodes.
        TypeError: a part is of another type, a method returns no distribution or reads the value of a traced array.
    """

    prior: Float[Array, " K"] | AbstractDistribution = eqx.field(converter=_as_prior)
    thetas: PyTree[Array] | None = eqx.field(converter=_as_arrays)
    task: AbstractTask = eqx.field(converter=_with_jax_arrays)
    expert: AbstractExpert = eqx.field(converter=_with_jax_arrays)
    num_rounds: int = eqx.field(static=True)
    opening: bool = eqx.field(static=True, default=False)
    transition: Callable[[Theta, Memory], Categorical] | None = None
    name: str = eqx.field(static=True, default="process")

    def __check_init__(self) -> None:
        validate(self)

    @property
    def finite(self) -> bool:
        """Whether Theta has finitely many values, so that exact answers exist."""
        return self.thetas is not None

    @property
    def theta_changes(self) -> bool:
        """Whether theta may change after each observation."""
        return self.transition is not None

    @property
    def ends_early(self) -> bool:
        """Whether the task may end an episode before round `T`."""
        return type(self.task).ends is not AbstractTask.ends

    @property
    def num_thetas(self) -> int:
        """`K`; `TypeError` if Theta is continuous."""
        return self._finite_prior.shape[0]

    @property
    def log_prior(self) -> Float[Array, " K"]:
        """`log Q(Theta)`; `TypeError` if Theta is continuous."""
        return jnp.log(self._finite_prior)

    def check_finite(self) -> None:
        """Raise `TypeError` if Theta is continuous, because exact inference needs finitely many values."""
        _ = self._finite_prior

    @property
    def _finite_prior(self) -> Float[Array, " K"]:
        if isinstance(self.prior, AbstractDistribution):
            raise TypeError(
                f"{self.name} has a continuous Theta, but exact inference needs finitely many values: give "
                "thetas=, or take draws of the prior with particles()."
            )
        return self.prior

    @property
    def specs(self) -> tuple[Spec, Spec]:
        """The specs of actions and of observations: the sets of their values."""
        return _trace_specs(outline(self))

    def begin(
        self, key: Key[Array, ""], theta: Int[Array, ""] | None = None
    ) -> tuple[ProcessState, Observation | None]:
        """Sample theta from the prior, unless its index is given, and the opening."""
        keys = EpisodeKeys.of(key)
        theta = self.sample_theta(keys.theta) if theta is None else jnp.asarray(theta, jnp.int32)
        value = self.theta_value(theta)
        w, e = self.task.init(value), self.expert.init(value)
        if not self.opening:
            return ProcessState(theta, w, e), None
        opening = self.task.Q_O(value, w).sample(keys.opening)
        w, e = self.task.g_O(value, opening, w), self.expert.g_O(value, opening, e)
        return ProcessState(self._next_theta(theta, w, jax.random.fold_in(keys.opening, 1)), w, e), opening

    def theta(self, state: ProcessState) -> PyTree[Array]:
        """Return the index of theta, or its value if Theta is continuous."""
        return state.theta

    def consult(self, state: ProcessState, key: Key[Array, ""]) -> tuple[AbstractDistribution, Action]:
        """Return `Q(A_t | theta, e)` and a sample of it."""
        Q_A = self.expert.Q_A(self.theta_value(state.theta), state.e)
        return Q_A, Q_A.sample(RoundKeys.of(key).expert)

    def respond(
        self, state: ProcessState, a: Action, key: Key[Array, ""]
    ) -> tuple[ProcessState, Observation, Float[Array, ""], Bool[Array, ""]]:
        """Sample `o ~ Q(O_t | theta, w)` after the action `a`, and advance both memories."""
        keys, value = RoundKeys.of(key), self.theta_value(state.theta)
        w, e = self.task.g_A(value, a, state.w), self.expert.g_A(value, a, state.e)
        o = self.task.Q_O(value, w).sample(keys.observation)
        reward = jnp.asarray(self.task.reward(value, w, a, o), dtype=float)
        w, e = self.task.g_O(value, o, w), self.expert.g_O(value, o, e)
        return ProcessState(self._next_theta(state.theta, w, keys.theta), w, e), o, reward, self.task.ends(o)

    def _next_theta(self, theta: Theta, w: Memory, key: Key[Array, ""]) -> PyTree:
        if self.transition is None:
            return theta
        return self.transition(self.theta_value(theta), w).sample(key)

    def sample_theta(self, key: Key[Array, ""]) -> PyTree:
        """Sample Theta from the prior: its index in `thetas`, or its value if Theta is continuous."""
        if isinstance(self.prior, AbstractDistribution):
            return self.prior.sample(key)
        return Categorical(log_probs=self.log_prior).sample(key)

    def theta_value(self, theta: PyTree) -> Theta:
        """Return the value that task and expert are given for a result of `sample_theta`."""
        return index(self.thetas, theta) if self.finite else theta

    def causal_model(self, num_rounds: int | None = None) -> CausalModel:
        """Return the process as a causal model, in which any variable can be seen, done or summed out (Figure 3b).

        The variables are `Theta, [O_0,] A_1, O_1, ..., A_T, O_T`; with a transition, `Theta_1, Theta_2, ...`, from
        `Theta_0` if the process has an opening. Values are counted from 0. The parents of a variable are the past
        variables that change its distribution, so that T may be large if task and expert remember little.

        Args:
            num_rounds: T; the process's own by default.

        Raises:
            TypeError: theta, actions or observations are not finite sets of symbols, or the process may end early.
            ValueError: the distributions depend on so much of the past that the tables would be too large.

        >>> import undelude as ud
        >>> ud.tasks.bandit().causal_model(num_rounds=2)
        CausalModel(Theta, A_1 | Theta, O_1 | Theta A_1, A_2 | Theta, O_2 | Theta A_2)
        """
        return as_causal_model(self, check_count("num_rounds", self.num_rounds if num_rounds is None else num_rounds))

    def particles(self, num_particles: int, *, key: Key[Array, ""]) -> "InteractionProcess":
        """Return the process with Theta restricted to draws from its prior (Remark 5).

        Exact agents need a finite Theta; this makes one of a continuous Theta.

        Inference over the draws is self-normalised importance sampling from the prior:

            E[f(Theta) | history] = sum_n p_n f(theta_n) + O(N^-1/2),    theta_n ~ Q(Theta),
            p_n is proportional to prod_{t seen} Q(a_t | theta_n, e_t) prod_t Q(o_t | theta_n, w_t).

        The standard error is about `(sum_n p_n^2 (f(theta_n) - E f)^2)^1/2`. It grows as the history narrows Theta
        down: `1 / sum_n p_n^2` is the number of draws that still count.

        Args:
            num_particles: N.
            key: of the draws.

        Returns:
            A finite process whose `thetas` are the draws, equally probable.

        Raises:
            TypeError: Theta is finite, so that exact answers exist; or the process has a transition.
            ValueError: `num_particles` is not a whole number of at least 1.

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
            raise TypeError(f"{self.name} has a transition, but particles keep theta for the whole episode.")
        num_particles = check_count("num_particles", num_particles)
        thetas = jax.vmap(self.sample_theta)(jax.random.split(key, num_particles))
        prior = jnp.full(num_particles, 1 / num_particles)
        return InteractionProcess(
            prior, thetas, self.task, self.expert, self.num_rounds, opening=self.opening, name=self.name
        )


def check_process(process: object) -> "InteractionProcess":
    """Return `process`; raise `TypeError` if it is not an `InteractionProcess`."""
    check_world(process)
    if not isinstance(process, InteractionProcess):
        raise TypeError(
            f"{type(process).__name__} can only be sampled, but this needs the distributions of an "
            "ud.InteractionProcess."
        )
    return process


# Cached, because tracing takes longer than the calls that ask for it, such as `posterior` and `rollout`.
@functools.lru_cache(maxsize=64)
def _trace_specs(key: Outline) -> tuple[Spec, Spec]:
    """Return the specs of the first action and of the first observation; `key` is the outline of a process."""

    def distributions(*leaves: Array) -> tuple[AbstractDistribution, AbstractDistribution]:
        process = filled(key, leaves)
        theta = any_theta(process)
        return first_Q_A(process, theta), first_Q_O(process, theta)

    Q_A, Q_O = eqx.filter_eval_shape(distributions, *key.shapes)
    return spec_of(Q_A), spec_of(Q_O)
