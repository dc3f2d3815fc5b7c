"""The words of `undelude play` and of the inspector: theta, actions and outcomes, as each game names them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from undelude._compiled import compiled
from undelude._distributions import Symbols, as_categorical, num_symbols
from undelude._process import inference
from undelude._process.inference import Belief
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractTask
from undelude._tree import index
from undelude.tasks.menu import REPLIES, YES, MenuByTurn
from undelude.tasks.tables import TableTask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The words for observations.

    Attributes:
        says: of each observation.
        question: to the person; "" if the choices need none.
        rule: the part of the person in a round.
        keys: the answer of the person for each observation; by default numbers from 1.
        watched: the observation that is counted, and whose probability is shown; None for the most probable one.
        expects, observed: of the watched observation, after "the agent expects" and after "the agent".
        short: of each observation, for narrow columns; by default its sentence if that is short, else its number.
    """

    says: tuple[str, ...]
    question: str
    rule: str
    keys: tuple[str, ...] = ()
    watched: int | None = None
    expects: str = ""
    observed: str = ""
    short: tuple[str, ...] = ()

    def choices(self, possible: list[int]) -> dict[str, int]:
        """Return the observation for each answer that the person may give."""
        return {(self.keys[o] if self.keys else str(i + 1)): o for i, o in enumerate(possible)}

    def offer(self, choices: dict[str, int]) -> str:
        """Return the choices in words: "y/n", or "1 No., 2 Yes."."""
        if self.keys:
            return "/".join(sorted(choices, reverse=True))
        return ", ".join(f"{key} {self.says[o]}" for key, o in choices.items())

    def expected(self, probs: Float[np.ndarray, " O"]) -> str:
        """Return the expectation of an agent, with its probability."""
        o = int(probs.argmax()) if self.watched is None else self.watched
        return f"{self.expects or self.says[o]} with probability {probs[o]:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Words:
    """The words of a game.

    Attributes:
        noun, plural: for a value of theta.
        which: the question that theta answers.
        theta_is: the answer, with theta for {}.
        true: the adjective of the true theta.
        acts, acted: the verb of an action, now and in the past.
        outcomes: the words for observations.
        action: returns the name of an action.
        right: returns the theta for which an action is the right one; None if no action is right.
        best: the right action.
        role: of the person.
        expert: whom the agents imitate.
        names: of the values of theta; by default numbers from 1.
        expectation: the probabilities that the agents expect of the person, in words.
    """

    noun: str
    plural: str
    which: str
    theta_is: str
    true: str
    acts: str
    acted: str
    outcomes: Outcomes
    action: Callable[[Any], str]
    right: Callable[[Any], int] | None = None
    best: str = ""
    role: str = "Nature"
    expert: str = "an expert"
    names: tuple[str, ...] = ()
    expectation: str = ""

    def label(self, k: int) -> str:
        """Return a theta in a list."""
        return self.names[k] if self.names else str(k + 1)

    def theta(self, k: int) -> str:
        """Return a theta in a sentence."""
        return self.names[k] if self.names else f"{self.noun} {k + 1}"


PAYS = Outcomes(
    says=("It does not pay.", "It pays."),
    question="Does it pay? ",
    rule="you say whether it pays",
    keys=("n", "y"),
    watched=1,
    expects="to be paid",
    observed="was paid",
    short=("0", "1"),
)
HOLDS_PRIZE = Outcomes(
    says=("Out jumps a frog.", "Out comes the prize."),
    question="Does it hold the prize? ",
    rule="you say whether it holds the prize",
    keys=("n", "y"),
    watched=1,
    expects="the prize",
    observed="found the prize",
    short=("frog", "prize"),
)
SHOWS_1 = Outcomes(
    says=("It shows 0.", "It shows 1."),
    question="Does it show 1? ",
    rule="you say whether it shows 1",
    keys=("n", "y"),
    watched=1,
    expects="a 1",
    observed="was shown 1",
    short=("0", "1"),
)
REPLIES_YES = Outcomes(
    says=REPLIES[:-1],
    question="",
    rule="you reply",
    watched=YES,
    expects="a yes",
    observed="was told yes",
    short=("no", "yes", "again"),
)


def game_words(process: InteractionProcess) -> Words:
    """Return the words of a game; those of any task, if its observations are not symbols."""
    if not isinstance(process.observation_spec, Symbols):
        return _plain_words(process, Outcomes(says=(), question="What happens? ", rule="you say what happens"))
    return words_of(process, *all_outcomes(process))


def words_of(
    process: InteractionProcess, probs: Float[np.ndarray, "K A O"], rewards: Float[np.ndarray, "K A O"]
) -> Words:
    """Return the words of a game, which its structure decides and not its name.

    In tables with two outcomes whose action k is the best under theta k, actions open boxes if the prize is certain,
    as in Section 2, and pull arms if outcome 1 pays 1, as in Remark 11.

    Args:
        process: of the game.
        probs: `Q(O | theta, a)` in the first round; A is 0 if actions are not symbols.
        rewards: of each observation.
    """
    if isinstance(process.task, MenuByTurn):
        return menu_words(process, process.task)
    # Without a memory, the tables of the first round are those of all.
    if isinstance(process.task, TableTask) and probs.shape[-1] == 2 and own_action_is_best((probs * rewards).sum(-1)):
        is_certain = bool(((probs == 0) | (probs == 1)).all())
        if is_certain and (rewards == [-1, 1]).all():
            return box_words()
        if (rewards == [0, 1]).all():
            return arm_words(probs[..., 1])
    pays = bool(rewards.size and (rewards[..., 1:] > rewards[..., :1]).all())
    return _plain_words(process, _outcomes(process, pays=pays))


def _plain_words(process: InteractionProcess, outcomes: Outcomes) -> Words:
    """Return the words of a task that has none of its own."""
    has_names = type(process.task).say_action is not AbstractTask.say_action
    return Words(
        noun="theta",
        plural="thetas",
        which="which theta is the true one",
        theta_is="The true theta is {}.",
        true="true",
        acts="takes",
        acted="acted",
        outcomes=outcomes,
        action=process.task.say_action if has_names else lambda a: _counted(process.task.say_action(a), a),
        names=_names(process),
    )


def all_outcomes(process: InteractionProcess) -> tuple[Float[np.ndarray, "K A O"], Float[np.ndarray, "K A O"]]:
    """Return `Q(O | theta, a)` in the first round and the rewards; A is 0 if actions are not symbols."""
    if not isinstance(process.action_spec, Symbols):
        nothing = np.empty((process.num_thetas, 0, num_symbols(process.observation_spec)))
        return nothing, nothing
    probs, rewards = _tables(process, inference.init(process))
    return np.asarray(probs), np.asarray(rewards)


@compiled
def outcomes_of(process: InteractionProcess, belief: Belief, a: Int[Array, "*L"]) -> Float[Array, "K O"]:
    """Return `Q(O | theta, a)` for the memories of a belief."""
    after = inference.update_action(process, belief, a, True)
    return as_categorical(inference.task_distributions(process, after)).probs


@compiled
def _tables(process: InteractionProcess, belief: Belief) -> tuple[Float[Array, "K A O"], Float[Array, "K A O"]]:
    actions, observations = (jnp.arange(num_symbols(spec)) for spec in process.specs)

    def given_action(a: Int[Array, ""]) -> tuple[Float[Array, "K O"], Float[Array, "K O"]]:
        after = inference.update_action(process, belief, a, True)
        w_axis = None if process.task.theta_free_memory else 0
        reward = jax.vmap(jax.vmap(process.task.reward, in_axes=(None, None, None, 0)), in_axes=(0, w_axis, None, None))
        return outcomes_of(process, belief, a), jnp.asarray(reward(process.thetas, after.w, a, observations), float)

    return jax.vmap(given_action, out_axes=1)(actions)


def _names(process: InteractionProcess) -> tuple[str, ...]:
    """Return the task's words for each theta, or nothing if it has none."""
    thetas = jax.tree.map(np.asarray, process.thetas)
    names = tuple(process.task.say_theta(index(thetas, k)) for k in range(process.num_thetas))
    return names if all(names) else ()


def _outcomes(process: InteractionProcess, *, pays: bool) -> Outcomes:
    """Return the words for observations that pay or not, for two symbols, or those of the task."""
    said = tuple(process.task.say(np.int32(o)) for o in range(num_symbols(process.observation_spec)))
    if said in (("0", "1"), ("", "")):
        return PAYS if pays else SHOWS_1
    says = tuple(words or str(o) for o, words in enumerate(said))
    return Outcomes(says=says, question="What happens? ", rule="you say what happens")


def _counted(said: str, a: Any) -> str:
    """Return the words for an action; if they are its number, count from 1, as a person does."""
    numbers = np.atleast_1d(np.asarray(a)) + 1
    return " ".join(map(str, numbers)) if not said or said == str(a) else said


def arm_words(pays: Float[np.ndarray, "K A"]) -> Words:
    """Return the words of a bandit, given the probability that each arm pays if each arm is the best."""
    best, others = np.diag(pays), pays[~np.eye(len(pays), dtype=bool)]
    expectation = ""
    if np.ptp(best) < 1e-6 and np.ptp(others) < 1e-6:
        expectation = (
            f"They expect the best arm to pay with probability {best[0]:.2g} and any other with {others[0]:.2g}. "
        )
    return Words(
        noun="arm",
        plural="arms",
        which="which arm is the best",
        theta_is="The best arm is {}.",
        true="best",
        acts="pulls",
        acted="pulled",
        outcomes=PAYS,
        action=lambda a: str(a + 1),
        right=int,
        best="the best arm",
        expectation=expectation,
    )


def box_words() -> Words:
    """Return the words of the paper's boxes."""
    return Words(
        noun="box",
        plural="boxes",
        which="which box holds the prize",
        theta_is="The prize is in box {}.",
        true="prize",
        acts="opens",
        acted="opened",
        outcomes=HOLDS_PRIZE,
        action=lambda a: str(a + 1),
        right=int,
        best="the prize box",
    )


def menu_words(process: InteractionProcess, task: MenuByTurn) -> Words:
    """Return the words of the menu: the person is the customer."""
    no, yes, again = np.exp(np.asarray(task.log_probs, float)).T
    another, right = yes / (yes + no)
    return Words(
        noun="dish",
        plural="dishes",
        which="which dish is on the menu",
        theta_is="On the menu: {}.",
        true="true",
        acts="says",
        acted="guessed",
        outcomes=REPLIES_YES,
        action=lambda a: f'"{task.say_action(a)}"',
        right=lambda a: int(task.named(jnp.asarray(a))),
        best="the dish on the menu",
        role="the customer",
        expert="a waiter",
        names=_names(process),
        expectation=(
            f"They expect a customer to ask again with probability {again[0]:.2g}, and otherwise to say yes with "
            f"probability {right:.2g} to the dish on the menu and {another:.2g} to any other. "
        ),
    )


def own_action_is_best(expected: Float[np.ndarray, "K A"]) -> bool:
    """Return whether the action of the same number as theta is clearly the best one under each theta."""
    K, A = expected.shape
    if K != A:
        return False
    others = np.where(np.eye(K, dtype=bool), -np.inf, expected)
    return bool((np.diag(expected) > others.max(-1) + 1e-6).all())
