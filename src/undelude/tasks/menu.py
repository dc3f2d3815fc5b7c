"""The epigraph as a process: a customer asks what is on the menu, and an expert who has read it answers in words."""

import itertools
from collections.abc import Sequence
from typing import ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from undelude._checks import check_between, check_count, check_ordered
from undelude._distributions import AbstractConditionals, AbstractDistribution, Autoregressive, Categorical
from undelude._process.process import InteractionProcess
from undelude._process.task import AbstractExpert, AbstractTask
from undelude._types import Action, Belief, Frame, Observation, Theta
from undelude.tasks.tables import log_table

Granularity = Literal["turn", "token"]

# Observations. By token, SILENCE follows a word within an utterance, and GOODBYE + NO, ... follow the last utterance.
NO, YES, AGAIN, SILENCE, GOODBYE = 0, 1, 2, 3, 4
REPLIES = ("No.", "Yes.", "What's on the menu?", "")
# The word that ends an utterance.
END = "."
# The state of a grammar before the first word, and the dish of an utterance that names none.
START, NO_DISH = 0, -1


class Grammar(eqx.Module):
    """An automaton that reads utterances word by word, and knows which dish was named.

    Attributes:
        after: `[N, V]`, the state after a word. An utterance that is over stays in its state.
        is_over: `[N]`, whether the utterance is over.
        dish: `[N]`, the dish that was named, or `NO_DISH`.
        words: the `V` words, the last of them `END` if a dish has fewer than `length` words.
        length: `L`, the most words of an utterance.
    """

    after: Int[Array, "N V"]
    is_over: Bool[Array, " N"]
    dish: Int[Array, " N"]
    words: tuple[str, ...] = eqx.field(static=True)
    length: int = eqx.field(static=True)

    def read(self, state: Int[Array, ""], words: Int[Array, "*n"]) -> Int[Array, ""]:
        """Return the state after one word, or after several."""
        for word in jnp.atleast_1d(words):
            state = self.after[state, word]
        return state


class Utterance(AbstractConditionals):
    """The words of an utterance.

    Attributes:
        log_probs: `[N, V]`, of the next word in each state of the grammar.
        grammar: of the utterances.
    """

    log_probs: Float[Array, "N V"]
    grammar: Grammar

    @property
    def length(self) -> int:
        """The most words of an utterance, END included."""
        return self.grammar.length

    @property
    def num_categories(self) -> int:
        """The number of words."""
        return len(self.grammar.words)

    def next(self, prefix: Int[Array, " i"]) -> Float[Array, " V"]:
        """Return the log-probabilities of the word after `prefix`."""
        return self.log_probs[self.grammar.read(jnp.asarray(START), prefix)]


class Talk(eqx.Module):
    """The words of this turn, as a state of the grammar, and the number of turns before it."""

    state: Int[Array, ""]
    turn: Int[Array, ""]


def capitalised(text: str) -> str:
    """Return a text with a capital as its first letter."""
    return f"{text[:1].upper()}{text[1:]}"


class AbstractMenuTask(AbstractTask[Talk]):
    """A customer who asks what is on the menu, and says whether the dish that was named is.

    Attributes:
        log_probs: `[2, 3]`, of NO, YES and AGAIN: after another dish than theta, and after theta.
        grammar: of the utterances.
        num_turns: the turns of an episode.
        dishes: in words.
    """

    theta_free_memory: ClassVar[bool] = True
    log_probs: Float[Array, "2 3"]
    grammar: Grammar
    num_turns: int = eqx.field(static=True)
    dishes: tuple[str, ...] = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Talk:
        """Return the start: nothing was said."""
        del theta
        return Talk(jnp.asarray(START, jnp.int32), jnp.asarray(0, jnp.int32))

    def g_A(self, theta: Int[Array, ""], a: Int[Array, "*L"], w: Talk) -> Talk:
        """Read a word or an utterance."""
        del theta
        return Talk(self.grammar.read(w.state, a), w.turn)

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], w: Talk) -> Talk:
        """Begin a new turn if one is over."""
        del theta, o
        is_over = self.grammar.is_over[w.state]
        return Talk(jnp.where(is_over, START, w.state), w.turn + is_over.astype(jnp.int32))

    def reward(self, theta: Int[Array, ""], w: Talk, a: Action, o: Int[Array, ""]) -> Float[Array, ""]:
        """Return 1 if the dish on the menu was named in this round."""
        del a, o
        return self._names_theta(theta, w).astype(float)

    def _names_theta(self, theta: Int[Array, ""], w: Talk) -> Bool[Array, ""]:
        return self.grammar.dish[w.state] == theta

    def draw(self, frame: Frame, theta: Theta, w: Talk, belief: Belief) -> None:
        """Write the dish that was named in this turn, and draw the belief as bars below."""
        named = int(self.grammar.dish[w.state])
        frame.text((0.5, 0.12), f"{capitalised(self.dishes[named])}?" if named >= 0 else "...", size=0.08)
        frame.bars([p for _, p in belief], framed=int(theta), labels=self.dishes, top=0.25)

    def say(self, o: Observation) -> str:
        """Return the customer's words."""
        leaves, reply = divmod(int(o), GOODBYE)
        return f"{REPLIES[reply]} Goodbye." if leaves else REPLIES[reply]

    def say_theta(self, theta: Theta) -> str:
        """Return the dish."""
        return self.dishes[int(theta)]


class MenuByTurn(AbstractMenuTask):
    """The menu with an utterance as an action; observations are NO, YES and AGAIN."""

    def Q_O(self, theta: Int[Array, ""], w: Talk) -> Categorical:
        """Return the distribution of the reply, which depends on the dish that was named."""
        return Categorical(log_probs=self.log_probs[self._names_theta(theta, w).astype(int)])

    def named(self, a: Int[Array, "*L"]) -> Int[Array, ""]:
        """Return the dish that an utterance names, or NO_DISH."""
        return self.grammar.dish[self.grammar.read(jnp.asarray(START), a)]

    def say_action(self, a: Action) -> str:
        """Return the utterance as a sentence."""
        words = [self.grammar.words[i] for i in np.atleast_1d(np.asarray(a))]
        return f"{capitalised(' '.join(itertools.takewhile(lambda word: word != END, words)))}{END}"


class MenuByToken(AbstractMenuTask):
    """The menu with a word as an action. The customer is silent until the utterance is over, and leaves in the end."""

    def Q_O(self, theta: Int[Array, ""], w: Talk) -> Categorical:
        """Return the distribution of the reply; of SILENCE alone within an utterance."""
        reply = self.log_probs[self._names_theta(theta, w).astype(int)]
        is_over, is_last = self.grammar.is_over[w.state], w.turn == self.num_turns - 1
        stays, leaves = (jnp.where(is_over & x, reply, -jnp.inf) for x in (~is_last, is_last))
        return Categorical(log_probs=jnp.concatenate([stays, jnp.where(is_over, -jnp.inf, 0.0)[None], leaves]))

    def ends(self, o: Int[Array, ""]) -> Bool[Array, ""]:
        """Return whether the customer leaves, which happens after the last turn."""
        return jnp.asarray(o) >= GOODBYE

    def say_action(self, a: Action) -> str:
        """Return the word."""
        return self.grammar.words[int(np.asarray(a))]


class MenuExpert(AbstractExpert[Int[Array, ""]]):
    """A waiter who has read the menu. Its memory is the words of this turn, as a state of the grammar.

    After the first words of an utterance, by either party, it goes on as it would if it had said them itself. After
    words with which it begins none, it ends the utterance.

    Attributes:
        log_probs: `[K, N, V]`, of the next word in each state of the grammar.
        grammar: of the utterances.
        by_turn: whether an action is an utterance or a word.
    """

    theta_free_memory: ClassVar[bool] = True
    log_probs: Float[Array, "K N V"]
    grammar: Grammar
    by_turn: bool = eqx.field(static=True)

    def init(self, theta: Int[Array, ""]) -> Int[Array, ""]:
        """Return the state before the first word."""
        del theta
        return jnp.asarray(START, jnp.int32)

    def Q_A(self, theta: Int[Array, ""], e: Int[Array, ""]) -> AbstractDistribution:
        """Return the distribution of the next utterance, or of the next word."""
        if self.by_turn and self.grammar.length > 1:
            return Autoregressive(Utterance(self.log_probs[theta], self.grammar))
        return Categorical(log_probs=self.log_probs[theta, e])

    def g_A(self, theta: Int[Array, ""], a: Int[Array, "*L"], e: Int[Array, ""]) -> Int[Array, ""]:
        """Read a word or an utterance."""
        del theta
        state = self.grammar.read(e, a)
        return jnp.where(self.grammar.is_over[state], START, state)

    def g_O(self, theta: Int[Array, ""], o: Int[Array, ""], e: Int[Array, ""]) -> Int[Array, ""]:
        """Return the memory unchanged."""
        del theta, o
        return e


def menu(
    dishes: Sequence[str] = ("tacos", "fish soup", "cheeseburgers", "fish tacos", "pea soup"),
    expert_accuracy: float = 0.9,
    reply: tuple[float, float] = (0.75, 0.25),
    no_answer: float = 0.2,
    num_turns: int = 20,
    *,
    granularity: Granularity = "turn",
) -> InteractionProcess:
    """Return a dialogue about what is on the menu, which the expert has read and the agent has not (the epigraph).

    `Theta` is the dish on the menu, uniform. In each turn the expert names theta with probability `expert_accuracy`,
    and another dish, uniformly, otherwise. With probability `no_answer` the customer asks again; otherwise the customer
    says yes with probability `reply[0]` if theta was named, else `reply[1]`. The reward of a turn is 1 if theta was
    named. An agent that reads its own guess as evidence repeats it: "Cheeseburgers are on the menu."

    By turn, an action is an utterance: a block of as many words as the longest dish has, and shorter ones are filled up
    with `END`; a single symbol if each dish is one word. By token, an action is a word or `END`, and each is an
    intervention of its own: a sober agent that has said "fish" does not know which fish it meant. An utterance is over
    after `END`, or after one word more than the longest dish has; the customer leaves after `num_turns` of them.

    Args:
        dishes: K names of one or more words.
        expert_accuracy: the expert's probability of theta.
        reply: the probabilities of yes after theta and after another dish, given that the customer answers.
        no_answer: the probability that the customer asks again.
        num_turns: utterances in an episode.
        granularity: whether an action is an utterance (`"turn"`) or a word (`"token"`).

    Raises:
        ValueError: fewer than two dishes, two dishes of the same words, a name without words, or a number that is not a
            probability.

    >>> menu().action_spec, menu(granularity="token").action_spec
    (Block(length=2, n=6), Symbols(n=6))
    """
    names = _check_dishes(dishes)
    if granularity not in ("turn", "token"):
        raise ValueError(f'menu: granularity must be "turn" or "token", not {granularity!r}.')
    expert_accuracy = check_between("menu: expert_accuracy", expert_accuracy, 0, 1, ends=True)
    if np.shape(reply) != (2,):
        raise ValueError(f"menu: reply must be two probabilities, of yes after theta and after another, not {reply}.")
    yes = np.array([check_between(f"menu: reply[{i}]", reply[i], 0, 1) for i in (1, 0)])
    no_answer = check_between("menu: no_answer", no_answer, 0, 1)
    num_turns = check_count("menu: num_turns", num_turns)
    K, by_turn = len(names), granularity == "turn"
    longest = max(map(len, names))
    grammar = make_grammar(names, longest if by_turn else longest + 1)
    says = np.where(np.eye(K, dtype=bool), expert_accuracy, (1 - expert_accuracy) / (K - 1))
    replies = np.stack([(1 - no_answer) * (1 - yes), (1 - no_answer) * yes, np.full(2, no_answer)], axis=-1)
    task = MenuByTurn if by_turn else MenuByToken
    return InteractionProcess(
        prior=np.full(K, 1 / K),
        thetas=jnp.arange(K),
        task=task(log_table(replies), grammar, num_turns, tuple(map(" ".join, names))),
        expert=MenuExpert(log_table(_next_words(grammar, names, says)), grammar, by_turn),
        num_rounds=num_turns if by_turn else num_turns * grammar.length,
        name="menu",
    )


def _check_dishes(dishes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the words of each dish."""
    check_ordered(dishes, "menu: dishes", "theta is the number of a dish")
    if isinstance(dishes, str) or not all(isinstance(dish, str) for dish in dishes):
        raise TypeError(f"menu: dishes must be a sequence of names, not {dishes!r:.99}.")
    names = [tuple(dish.split()) for dish in dishes]
    if len(names) < 2 or len(set(names)) < len(names) or () in names:
        raise ValueError(f"menu: dishes must be two or more different names, each of one word at least, not {dishes}.")
    if any(END in name for name in names):
        raise ValueError(f"menu: dishes must not contain the word {END!r}, which ends an utterance.")
    return names


def make_grammar(names: Sequence[tuple[str, ...]], length: int) -> Grammar:
    """Return the grammar of the utterances of at most `length` words that name a dish, given the words of each."""
    words: tuple[str, ...] = tuple(dict.fromkeys(word for name in names for word in name))
    words += (END,) if any(len(name) < length for name in names) else ()
    utterances: list[tuple[str | None, ...]] = [*_utterances(names, length)]

    def is_over(said: tuple[str | None, ...]) -> bool:
        return len(said) == length or said[-1:] == (END,)

    def read(said: tuple[str | None, ...], word: str) -> tuple[str | None, ...]:
        """Return the words said after one more; words with which no utterance begins are all alike."""
        longer = (*said, word)
        if is_over(said):
            return said
        if any(utterance[: len(longer)] == longer for utterance in utterances):
            return longer
        return (None,) * (length if word == END else len(longer))

    states: list[tuple[str | None, ...]] = [()]
    for said in states:  # It grows: breadth first.
        states += dict.fromkeys(x for word in words if (x := read(said, word)) not in states)
    after = [[states.index(read(said, word)) for word in words] for said in states]
    dish = [utterances.index(said) if said in utterances else NO_DISH for said in states]
    over = [is_over(said) for said in states]
    return Grammar(jnp.asarray(after, jnp.int32), jnp.asarray(over), jnp.asarray(dish, jnp.int32), words, length)


def _utterances(names: Sequence[tuple[str, ...]], length: int) -> list[tuple[str, ...]]:
    """Return the words that name each dish, with END after them if they are fewer than `length`."""
    return [name if len(name) == length else (*name, END) for name in names]


def _next_words(grammar: Grammar, names: Sequence[tuple[str, ...]], says: Float[np.ndarray, "K D"]) -> np.ndarray:
    """Return `[K, N, V]`, the probabilities of the next word of someone who names dish d with probability `says[k, d]`.

    If nobody would have said the words before it, the next word is END, or any word without one.
    """
    after, (N, V) = np.asarray(grammar.after), grammar.after.shape
    mass = np.zeros((len(says), N, V))
    for d, utterance in enumerate(_utterances(names, grammar.length)):
        state = START
        for word in map(grammar.words.index, utterance):
            mass[:, state, word] += says[:, d]
            state = after[state, word]
    otherwise = np.array([word == END for word in grammar.words], float)
    otherwise = otherwise if otherwise.any() else np.ones(V)
    mass = np.where(mass.sum(-1, keepdims=True) > 0, mass, otherwise)
    return mass / mass.sum(-1, keepdims=True)
