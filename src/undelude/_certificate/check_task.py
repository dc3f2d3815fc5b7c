"""Whether a task of one's own is what its methods say, before an agent is taught on it for an hour."""

import dataclasses
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from undelude._certificate.certificate import delusion_gap
from undelude._checks import TOLERANCE, check_count, check_key
from undelude._distributions import AbstractDistribution, Categorical, Given, Joint, excess_mass
from undelude._drawing.film import film
from undelude._errors import users_line
from undelude._process.episodes import Episodes
from undelude._process.inference import posterior
from undelude._process.process import InteractionProcess, check_process
from undelude._process.task import AbstractTask
from undelude._process.validation import any_theta
from undelude._tree import append, index, signature

EPISODES, THETAS = 64, 16
GIVEN = (
    "a Given part of the observations differs between thetas after the same history: it counts as no evidence, "
    "and an agent can read theta from it. Make it part of what is drawn, or take theta out of it."
)
MEMORY = (
    "{} declares theta_free_memory, but its memory differs between thetas after the same history; compute it without "
    "theta, or do not declare it."
)
# Of the prior's entropy, what the first sight must leave unsaid.
HIDDEN = 0.01


@dataclasses.dataclass(frozen=True)
class TaskReport:
    """What was found of a task that is sound.

    Attributes:
        name: of the process.
        first_sight: nats that the first observation tells of theta, on average; None where Theta is continuous, or is
            drawn anew in each round.
        entropy: of the prior in nats; None where Theta is continuous.
        least_mass: after one history, the least probability under some theta of an action that the expert takes under
            another (with .001 or more); None where actions are no symbols.
        action_kl_do: what delusion costs, nats an action (`delusion_gap`); None where Theta is continuous.
        action_kl_do_se: its standard error.
        action_tv_do: the same in total variation, from 0 to 1; finite where the deluded agent rules out what the
            answer allows, so that nats are not.
        warning: where imitation is the wrong goal, however sober the agent; why, and what to do.
        notes: what else a user should know.
    """

    name: str
    first_sight: float | None
    entropy: float | None
    least_mass: float | None
    action_kl_do: float | None
    action_kl_do_se: float | None
    action_tv_do: float | None
    warning: str | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        def row(words: str, x: float | None, unit: str = "") -> str:
            return f"  {words:<42} {'not measured' if x is None else f'{x:.3g} {unit}'}".rstrip()

        error = "" if self.action_kl_do_se is None else f"+- {self.action_kl_do_se:.2g} "
        return "\n".join(
            [
                f"{self.name}: no problems found" if self.warning is None else f"{self.name}: {self.warning}",
                row("theta's entropy", self.entropy, "nats"),
                row("... of which the first sight tells", self.first_sight, "nats"),
                row("least mass of the expert on an action", self.least_mass),
                row("delusion gap, action_kl_do", self.action_kl_do, f"{error}nats an action"),
                row("... in total variation, from 0 to 1", self.action_tv_do),
                *(f"  {note}" for note in self.notes),
            ]
        )


def check_task(
    process: InteractionProcess,
    *,
    key: Key[Array, ""] | None = None,
    num_rounds: int | None = None,
    num_episodes: int = 512,
) -> TaskReport:
    """Play a process as imitators would, and look for what makes training on it worthless.

    Experts of a wrong theta act in 64 episodes, as an agent does that has drawn one. Looked for are distributions
    that change
    their shapes, methods that fail or draw numbers of their own, distributions that are not normalised, experts and
    tasks that
    give no mass to what they draw, symbols and rewards that are no finite numbers, memories that depend on theta where
    they are declared not to, and theta where it must not be: in a `Given` part, which counts as no evidence and yet may
    be read, or in the opening, so that nothing is hidden.

    Args:
        process: the task with its expert and prior.
        key: of all that is drawn; `jax.random.key(0)` by default.
        num_rounds: T; the process's own by default.
        num_episodes: of the deluded agent, for `action_kl_do`, and of the others to whose rewards it is compared.

    Returns:
        What was measured, `print`ed as a table. `delusion_gap` has more of it.

    Raises:
        ValueError: there are problems; all of them are listed, each with what to do.

    >>> import undelude as ud
    >>> report = check_task(ud.tasks.bandit())
    >>> report.first_sight < report.entropy
    True
    """
    check_process(process)
    key = jax.random.key(0) if key is None else key
    check_key(key)
    T = check_count("num_rounds", process.num_rounds if num_rounds is None else num_rounds)
    num_episodes = check_count("num_episodes", num_episodes)
    _raise(process, list(_shapes(process)))
    played = _play(process, key, T)
    again = _play(process, key, T)
    problems = [*_determinism(played, again), *_words(process, played.episodes)]
    problems += [*_drawing(process, played.episodes), *_distributions(played)]
    replayed = _replay(process, played.episodes, key)
    problems += _leaks(replayed)
    _raise(process, problems)
    return _report(process, played, replayed, key, T, num_episodes)


def _raise(process: InteractionProcess, problems: list[str]) -> None:
    if problems:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ValueError(f"{process.name}: {len(problems)} problem{'s' * (len(problems) > 1)}:{listed}")


# Shapes -----------------------------------------------------------------------------------------------------------


def _shapes(process: InteractionProcess) -> Iterator[str]:
    """Each method on what the others return, with shapes in place of numbers; up to the first that fails."""
    try:
        yield from _compare_shapes(process)
    except _Failed as failed:
        yield f"{failed} fails: {type(failed.__cause__).__name__}: {failed.__cause__}{users_line(failed)}"


class _Failed(Exception):
    """The method of that name, by its cause."""


def _shape_of(name: str, method: Any, *args: Any) -> Any:
    """What `method` would return."""
    try:
        return jax.eval_shape(method, *args)
    except Exception as error:
        raise _Failed(name) from error


def _compare_shapes(process: InteractionProcess) -> Iterator[str]:
    a, o = (spec.value for spec in process.specs)
    theta = _shape_of("the prior", lambda: any_theta(process))
    for part, distribution_name in (("task", "Q_O"), ("expert", "Q_A")):
        side = getattr(process, part)
        first = _shape_of(f"{part}.init", side.init, theta)
        # Of an expert before any round; of a task after an action.
        seen = first if part == "expert" else _shape_of("task.g_A", side.g_A, theta, a, first)
        distribution = _shape_of(f"{part}.{distribution_name}", getattr(side, distribution_name), theta, seen)
        value = _shape_of(
            f"{part}.{distribution_name}.sample",
            lambda distribution, key: distribution.sample(key),
            distribution,
            jax.random.key(0),
        )
        known = a if part == "expert" else o
        if signature(value) != signature(known):
            yield f"{part}.{distribution_name} draws {signature(value)} in one state and {signature(known)} in another."
    w = _shape_of("task.init", process.task.init, theta)
    reward = _shape_of("task.reward", process.task.reward, theta, w, a, o)
    if jnp.shape(reward) != ():
        yield f"task.reward has the shape {jnp.shape(reward)}; it must be a single number."


# Playing ----------------------------------------------------------------------------------------------------------


class _Played(eqx.Module):
    """Episodes `[B, T]`, and of every distribution in them: the mass of what was drawn, and how far its mass is from
    one.

    `wrong` is the theta whose expert acted.
    """

    episodes: Episodes
    wrong: PyTree
    masses: dict[str, Array]
    excess: dict[str, Array]
    changes: bool = eqx.field(static=True)


def _play(process: InteractionProcess, key: Array, T: int) -> _Played:
    """Traced anew at every call: what Python draws while it is traced is then drawn anew."""

    def one(i: Array) -> _Played:
        key_theta, key_other, key_opening, key_rounds = jax.random.split(jax.random.fold_in(key, i), 4)
        theta, other = process.sample_theta(key_theta), process.sample_theta(key_other)
        value, wrong = process.theta_value(theta), process.theta_value(other)
        task, expert = process.task, process.expert
        w, e, opening = task.init(value), expert.init(wrong), None
        masses, excess = {}, {}
        if process.opening:
            distribution = task.Q_O(value, w)
            opening = distribution.sample(key_opening)
            masses["task.Q_O of the opening"] = distribution.log_prob(opening)
            excess["task.Q_O of the opening"] = excess_mass(distribution)
            w, e = task.g_O(value, opening, w), expert.g_O(wrong, opening, e)

        def step(world: Any, key: Array) -> Any:
            theta, w, e = world
            value = process.theta_value(theta)
            before = theta
            key_a, key_o, key_theta = jax.random.split(key, 3)
            Q_A = expert.Q_A(wrong, e)
            a = Q_A.sample(key_a)
            w, e = task.g_A(value, a, w), expert.g_A(wrong, a, e)
            Q_O = task.Q_O(value, w)
            o = Q_O.sample(key_o)
            reward = task.reward(value, w, a, o)
            found = {"expert.Q_A": Q_A.log_prob(a), "task.Q_O": Q_O.log_prob(o)}
            wide = {"expert.Q_A": excess_mass(Q_A), "task.Q_O": excess_mass(Q_O)}
            w, e = task.g_O(value, o, w), expert.g_O(wrong, o, e)
            if process.transition is not None:
                distribution = process.transition(value, w)
                theta = distribution.sample(key_theta)
                found, wide = (
                    found | {"transition": distribution.log_prob(theta)},
                    wide | {"transition": excess_mass(distribution)},
                )
            return (theta, w, e), (before, a, o, reward, found, wide)

        (last, _, _), (path, actions, observations, rewards, found, wide) = jax.lax.scan(
            step, (theta, w, e), jax.random.split(key_rounds, T)
        )
        yes = jnp.ones(T, bool)
        thetas = theta if process.transition is None else append(path, last)
        episodes = Episodes(
            thetas, opening, actions, observations, jnp.zeros(T, int), yes, None, None, jnp.asarray(rewards, float), yes
        )
        return _Played(episodes, other, masses | found, excess | wide, process.transition is not None)

    return jax.jit(jax.vmap(one))(jnp.arange(EPISODES))


def _determinism(played: _Played, again: _Played) -> Iterator[str]:
    for name in ("actions", "observations", "reward"):
        one, other = (jax.tree.leaves(getattr(x.episodes, name)) for x in (played, again))
        if not all(np.array_equal(x, y, equal_nan=True) for x, y in zip(one, other, strict=True)):
            yield (
                f"{name} differ between two plays with the same key: a method draws numbers of its own. "
                "Draw only by the distributions that Q_A and Q_O return, and keep no state outside the memories."
            )


def _words(process: InteractionProcess, episodes: Episodes) -> Iterator[str]:
    for t in range(episodes.num_rounds):
        try:
            said = process.task.say(jax.tree.map(lambda x, t=t: np.asarray(x[0, t]), episodes.observations))
        except Exception as error:
            yield f"task.say fails: {type(error).__name__}: {error}{users_line(error)}"
            return
        if not isinstance(said, str):
            yield f"task.say returns {type(said).__name__}, not a string."
            return


def _drawing(process: InteractionProcess, episodes: Episodes) -> Iterator[str]:
    if type(process.task).draw is AbstractTask.draw:
        return
    try:
        film(process, episodes, size=32)
    except Exception as error:
        yield f"task.draw fails: {type(error).__name__}: {error}{users_line(error)}"


def _distributions(played: _Played) -> Iterator[str]:
    for name, mass in played.masses.items():
        bad = ~np.isfinite(np.asarray(mass))
        if bad.any():
            yield (
                f"{name} gives no mass to what it draws itself, {_where(bad, played, name)}: its sample and its "
                "log_prob disagree, or it holds nan."
            )
    for name, excess in played.excess.items():
        off = np.asarray(excess)
        for wrong, what in (
            (np.isnan(off), "holds nan, {}: the logarithm of a negative probability, or a division by 0."),
            (off >= TOLERANCE, "does not sum to one, {} (off by {:.3g}); log_probs= are taken as they are."),
        ):
            if wrong.any():
                yield f"{name} {what.format(_where(wrong, played, name), off[wrong].max())}"
    episodes = played.episodes
    parts = [("task.reward", episodes.reward, 2), ("expert.Q_A draws what", episodes.actions, 2)]
    parts += [("task.Q_O draws what", episodes.observations, 2), ("task.Q_O opens with what", episodes.opening, 1)]
    for name, tree, axes in parts:
        for x in map(np.asarray, jax.tree.leaves(tree)):
            bad = np.asarray(~np.isfinite(x.reshape(*x.shape[:axes], -1)).all(-1))
            if bad.any():
                yield f"{name} is not finite, {_where(bad, played, name)}."


def _where(bad: np.ndarray, played: _Played, name: str) -> str:
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    thetas = jax.tree.map(lambda x: x[first[0]], played.wrong if name.startswith("expert") else played.episodes.theta)
    if played.changes and not name.startswith("expert"):
        thetas = thetas[first[1] if len(first) > 1 else 0]
    theta = jax.tree.map(lambda x: np.asarray(x).tolist(), thetas)
    return f"first {'in round ' + str(first[1] + 1) if len(first) > 1 else 'there'} with theta {theta}"


# Leaks ------------------------------------------------------------------------------------------------------------


class _Replayed(eqx.Module):
    """The same histories under other thetas, `[B, K, T, ...]`.

    Attributes:
        opened: what `Given` parts of the opening said, `[B, K, ...]`.
        given: what `Given` parts said.
        memories: of task and expert, where they are declared free of theta.
        policies: the expert's probabilities; None where actions are no symbols.
        possible: whether a theta allows what was observed before the round, and with it.
    """

    opened: Any
    given: Any
    memories: dict[str, Any]
    policies: Array | None
    possible: tuple[Array, Array]


def _replay(process: InteractionProcess, episodes: Episodes, key: Array) -> _Replayed:
    """Under every theta, or under the episode's own and others of the prior where there are many."""
    task, expert = process.task, process.expert

    def under(value: PyTree, history: Episodes) -> Any:
        w, e, score, opened = task.init(value), expert.init(value), jnp.zeros(()), []
        if history.opening is not None:
            distribution = task.Q_O(value, w)
            score, opened = distribution.log_prob(history.opening), _given(distribution)
            w, e = task.g_O(value, history.opening, w), expert.g_O(value, history.opening, e)

        def step(carry: Any, x: Any) -> Any:
            w, e, before = carry
            a, o = x
            Q_A = expert.Q_A(value, e)
            w, e = task.g_A(value, a, w), expert.g_A(value, a, e)
            distribution = task.Q_O(value, w)
            after = before + distribution.log_prob(o)
            free = {"task": w} if task.theta_free_memory else {}
            free |= {"expert": e} if expert.theta_free_memory else {}
            policy = Q_A.probs if isinstance(Q_A, Categorical) else None
            possible = jnp.isfinite(before), jnp.isfinite(after)
            found = (_given(distribution), free, policy, possible)
            return (task.g_O(value, o, w), expert.g_O(value, o, e), after), found

        return _Replayed(opened, *jax.lax.scan(step, (w, e, score), (history.actions, history.observations))[1])

    def one(history: Episodes, key: Array) -> Any:
        if process.finite and process.num_thetas <= THETAS:
            values = process.thetas
        else:
            others = jax.vmap(process.sample_theta)(jax.random.split(key, THETAS - 1))
            own = history.theta if process.transition is None else index(history.theta, 0)
            both = jax.tree.map(lambda x, xs: jnp.concatenate([jnp.asarray(x)[None], xs]), own, others)
            values = jax.vmap(process.theta_value)(both)
        return jax.vmap(under, in_axes=(0, None))(values, history)

    return jax.jit(jax.vmap(one))(episodes, jax.random.split(jax.random.fold_in(key, EPISODES), EPISODES))


def _leaks(replayed: _Replayed) -> Iterator[str]:
    """What was given, and memories that are declared free of theta, must be the same under all that are possible."""
    before, with_it = map(np.asarray, replayed.possible)
    rounds = [(replayed.opened, before[..., :1]), (replayed.given, with_it)]
    if any(_differs(np.asarray(x), possible) for tree, possible in rounds for x in jax.tree.leaves(tree)):
        yield GIVEN
    for name, tree in replayed.memories.items():
        if any(_differs(np.asarray(x), with_it) for x in jax.tree.leaves(tree)):
            yield MEMORY.format(name)


def _given(distribution: AbstractDistribution) -> list[Any]:
    match distribution:
        case Given():
            return [distribution.value, distribution.up_to]
        case Joint():
            return [value for part in distribution.distributions for value in _given(part)]
    return []


def _differs(x: np.ndarray, possible: np.ndarray) -> bool:
    """Whether `[B, K, T, ...]` differs along K among the thetas that are possible then; where some are nan, it does."""
    x = x.reshape(*possible.shape, -1).astype(float)
    some = np.broadcast_to(possible[..., None], x.shape)
    unequal = (np.isnan(x) & some).any(1) & (~np.isnan(x) & some).any(1)
    low = np.where(some & ~np.isnan(x), x, np.inf).min(1)
    high = np.where(some & ~np.isnan(x), x, -np.inf).max(1)
    return bool((unequal | (high - low > 1e-5 * (1 + np.abs(low)))).any())


# What it is like --------------------------------------------------------------------------------------------------


def _report(
    process: InteractionProcess, played: _Played, replayed: _Replayed, key: Array, T: int, num_episodes: int
) -> TaskReport:
    notes, entropy, first_sight, gap, error, variation, warning = [], None, None, None, None, None, None
    if process.finite:
        prior = np.asarray(jnp.exp(process.log_prior), float)
        entropy = float(-(prior[prior > 0] * np.log(prior[prior > 0])).sum())
        if entropy < 1e-9:
            _raise(process, ["theta has one value only, so that nothing is hidden: give it several (thetas=, prior=)."])
        if process.transition is None:
            first_sight = _first_sight(process, played.episodes, entropy)
            if process.opening and entropy - first_sight < HIDDEN * entropy:
                _raise(
                    process, ["the opening tells theta, so that nothing is hidden: take it out of what is observed."]
                )
            if entropy - first_sight < HIDDEN * entropy:
                notes.append("The first round tells theta: there is hardly anything left to be deluded about.")
        with warnings.catch_warnings():
            # What it warns of stands in the report.
            warnings.filterwarnings("ignore", f"{re.escape(process.name)}: imitation", UserWarning)
            certificate = delusion_gap(process, key=key, num_episodes=num_episodes, num_rounds=T)
        gap, error, variation = certificate.action_kl_do, certificate.action_kl_do_se, certificate.action_tv_do
        warning = certificate.notes.get("imitation")
        if gap is not None and gap < 1e-3:
            notes.append(
                "Delusion costs next to nothing here: read as evidence, own actions hardly change predictions."
            )
        if gap == math.inf:
            notes.append(
                "The gap is infinite: an agent that takes its own actions for evidence comes to rule out what the "
                "expert may do. Look at the total variation."
            )
    least = _least_mass(replayed)
    if least == 0:
        notes.append(
            "For some theta the expert never does what it does for another: an agent that errs is then where no "
            "demonstration leads, and factual teaching has nothing to learn it from (Section 4.2)."
        )
    return TaskReport(process.name, first_sight, entropy, least, gap, error, variation, warning, tuple(notes))


def _first_sight(process: InteractionProcess, episodes: Episodes, entropy: float) -> float:
    """`H(Theta) - H(Theta | O)` of the opening, or of the first round, its action done."""
    first = jax.tree.map(lambda x: x[:, :1], (episodes.actions, episodes.observations))
    history = Episodes.of(process, actions=first[0], observations=first[1], opening=episodes.opening)
    log_belief = np.asarray(posterior(process, history, own_actions="do"))[:, 0 if process.opening else 1]
    belief = np.exp(log_belief)
    left = -(belief * np.where(belief > 0, log_belief, 0.0)).sum(-1).mean()
    return max(0.0, entropy - float(left))


def _least_mass(replayed: _Replayed) -> float | None:
    """After the same history, of actions that the expert may take under another theta."""
    if replayed.policies is None:
        return None
    probs, possible = np.asarray(replayed.policies), np.asarray(replayed.possible[0])[..., None]
    taken = np.where(possible, probs, 0.0).max(1, keepdims=True) > 1e-3
    least = float(np.where(possible & taken, probs, 1.0).min())
    return 0.0 if least < math.exp(-60) else least
