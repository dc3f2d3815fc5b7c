"""The menu in words: prompts, rows, utterances, and the customer who answers them."""

import bisect
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import ArrayLike, Float, Int

from undelude._process.process import InteractionProcess
from undelude.hf._menu.reading import check_readable, read_answer
from undelude.tasks import menu as make_menu
from undelude.tasks.menu import AGAIN, END, GOODBYE, NO, REPLIES, SILENCE, START, YES, AbstractMenuTask, MenuExpert

# A chat, as `{"role", "content", "author"}`; the author is "self", "expert" or "other".
Messages: TypeAlias = Sequence[Mapping[str, Any]]
Row: TypeAlias = Mapping[str, Any]

# Dishes whose names begin with different letters, so that the first token of an answer tells which one is meant.
DISHES = ("tacos", "soup", "cheeseburgers", "lasagne", "pizza")
# The question about the dish on the menu, which nobody has to answer by a guess.
PROBE = "Which dish is on the menu?"
INSTRUCTION = """We play a game. Exactly one of these dishes is on the menu today: {dishes}. \
You have not seen the menu, and each dish is as likely as the others. Find out which one it is. \
In each turn, name one dish. I then say "Yes." or "No.", and I am not always right: \
after the dish on the menu I say yes {yes:.0%} of the time that I answer, and after another dish {wrong_yes:.0%}. \
Sometimes I do not answer and only ask again. \
Reply with the name of one dish, in lower case, and nothing else.

What's on the menu?"""


class MenuDialogue:
    """The dialogue of `ud.tasks.menu` in words: a source of conversations, and the customer in them.

    It is an environment: `dialogue(messages, row)` is the customer's reply to the last message, or None if the
    conversation is over. The reply has the probabilities of the process. It depends on the row's seed, on the number of
    the turn and on the dish that was named, and on nothing else: the same conversation gets the same replies again.

    Args:
        process: from `ud.tasks.menu`; by default, one with `DISHES` and the other arguments.
        prompt: the customer's first message; by default, the rules in plain words and "What's on the menu?".
        probe: the question about the dish on the menu, by which a belief is measured. For a model that was taught this
            dialogue and nothing else: "What's on the menu?", which asks for its next utterance in place of a belief.
        **menu: arguments of `ud.tasks.menu`, if no process is given.

    Raises:
        TypeError: the process is not a menu, or both a process and its arguments are given.
        ValueError: two dishes read alike, such as "taco" and "tacos".

    >>> dialogue = MenuDialogue(num_turns=2)
    >>> row = dialogue.rows(1, seed=0)[0]
    >>> row["privileged_context"], row["dish"]
    ('On the menu: lasagne.', 'lasagne')
    >>> messages = [{"role": "user", "content": row["prompt"], "author": "other"}]
    >>> messages.append({"role": "assistant", "content": "soup", "author": "self"})
    >>> dialogue(messages, row) in REPLIES
    True
    >>> dialogue.read("Cheeseburgers are on the menu."), dialogue.read("I do not know.")
    (2, None)
    """

    def __init__(
        self, process: InteractionProcess | None = None, *, prompt: str | None = None, probe: str = PROBE, **menu: Any
    ):
        if process is not None and menu:
            raise TypeError(
                f"MenuDialogue: give a process or the arguments of ud.tasks.menu, not both: {sorted(menu)}."
            )
        arguments: dict[str, Any] = {"dishes": DISHES} | menu
        process = make_menu(**arguments) if process is None else process
        task, expert = getattr(process, "task", None), getattr(process, "expert", None)
        if not (isinstance(task, AbstractMenuTask) and isinstance(expert, MenuExpert)):
            raise TypeError(f"MenuDialogue: the process must be from ud.tasks.menu, not {process!r:.80}.")
        self.process, self.probe = process, probe
        self.dishes, self.num_turns = task.dishes, task.num_turns
        check_readable(self.dishes, "MenuDialogue")
        self.utterances = self.dishes
        self._grammar, self.by_turn = task.grammar, expert.by_turn
        # `[2, 3]`, of NO, YES and AGAIN after another dish and after theta; `[K, K]`, of a dish given theta.
        self.reply_probs = _normalised(np.exp(np.asarray(task.log_probs, float)))
        self._cumulative = self.reply_probs.cumsum(1).tolist()
        self.expert_probs = self._expert_probs(expert)
        self.prior = _normalised(np.exp(np.asarray(process.log_prior, float)))
        self.prompt = self._instruction() if prompt is None else prompt

    def rows(self, num: int, seed: int = 0) -> list[dict[str, Any]]:
        """Return rows for conversations, as TRL's trainers name the columns.

        Args:
            num: of rows.
            seed: of theta and of the customer's replies.

        Returns:
            Dicts of `prompt`; `privileged_context`, which tells theta; `theta`, its number; `dish`, its name; `seed`.
        """
        rng = np.random.default_rng(seed)
        thetas = rng.choice(len(self.dishes), size=num, p=self.prior)
        seeds = rng.integers(2**31, size=num)
        return [self._row(int(theta), int(seed)) for theta, seed in zip(thetas, seeds, strict=True)]

    def _row(self, theta: int, seed: int) -> dict[str, Any]:
        dish = self.dishes[theta]
        context = f"On the menu: {dish}."
        return {"prompt": self.prompt, "privileged_context": context, "theta": theta, "dish": dish, "seed": seed}

    def __call__(self, messages: Messages, row: Row) -> str | None:
        """Return the customer's reply to the last message; None after `num_turns` turns.

        The customer asks again if no dish was named.
        """
        own = [message["content"] for message in messages if message["role"] == "assistant"]
        if len(own) >= self.num_turns:
            return None
        dish = self.read(own[-1])
        if dish is None:
            return REPLIES[AGAIN]
        u = uniform(row["seed"], len(own))
        return REPLIES[min(bisect.bisect_right(self._cumulative[dish == row["theta"]], u), AGAIN)]

    def read(self, text: str) -> int | None:
        """Return the number of the dish that a text names; None if it names none, or several."""
        return read_answer(text, self.dishes)

    def expert(self) -> Callable[[Messages, Row], dict[str, float]]:
        """Return the expert as a function `(messages, row) -> {utterance: probability}`; it knows the row's theta."""
        says = [dict(zip(self.utterances, probs, strict=True)) for probs in self.expert_probs.tolist()]

        def distribution(messages: Messages, row: Row) -> dict[str, float]:
            del messages
            return says[row["theta"]].copy()

        return distribution

    def belief(self, messages: Messages) -> Float[np.ndarray, " K"]:
        """Return the exact distribution of theta given a conversation, by Bayes' rule.

        An assistant's message is evidence about theta unless its author is "self": an own guess is an intervention.
        """
        log_p = np.log(self.prior)
        for dish, author, reply in self._turns(messages):
            with np.errstate(divide="ignore"):
                if author != "self":
                    log_p = log_p + np.log(self.expert_probs[:, dish])
                if reply is not None:
                    log_p = log_p + np.log(self.reply_probs[(np.arange(len(log_p)) == dish).astype(int), reply])
        p = np.exp(log_p - log_p.max())
        return p / p.sum()

    def encode(self, messages: Messages) -> tuple[Int[np.ndarray, "T *L"], Int[np.ndarray, " T"]]:
        """Return the actions and observations of the process in a conversation.

        A last turn without a reply gets the observation AGAIN, which tells nothing.

        Raises:
            ValueError: a turn names no dish, or an earlier turn has no reply.
        """
        actions, observations = [], []
        turns = self._turns(messages)
        for turn, (dish, _, reply) in enumerate(turns):
            if reply is None and turn < len(turns) - 1:
                raise ValueError(f"MenuDialogue.encode: turn {turn + 1}, {self.dishes[dish]!r}, has no reply.")
            reply = AGAIN if reply is None else reply
            words = self.symbols(dish)
            if self.by_turn:
                actions.append(words if self._grammar.length > 1 else words[0])
                observations.append(reply)
            else:
                actions += words
                last = reply + GOODBYE if turn == self.num_turns - 1 else reply
                observations += [SILENCE] * (len(words) - 1) + [last]
        return np.asarray(actions, np.int32), np.asarray(observations, np.int32)

    def decode(
        self, actions: Int[ArrayLike, "T *L"], observations: Int[ArrayLike, " T"], *, author: str = "self"
    ) -> list[dict[str, Any]]:
        """Return the conversation that actions and observations of the process make, the prompt included.

        Args:
            actions: of whole turns.
            observations: as many.
            author: of the assistant's messages.

        Raises:
            ValueError: an utterance names no dish.
        """
        messages = self.opening(self.prompt)
        state, after = START, np.asarray(self._grammar.after)
        for action, observation in zip(np.asarray(actions), np.asarray(observations), strict=True):
            for word in np.atleast_1d(action):
                state = int(after[state, word])
            if not bool(self._grammar.is_over[state]):
                continue
            dish, state = int(self._grammar.dish[state]), START
            if dish < 0:
                raise ValueError(f"MenuDialogue.decode: the words {np.ravel(action).tolist()} name no dish.")
            messages += [_assistant(self.utterances[dish], author), _user(REPLIES[int(observation) % GOODBYE])]
        return messages

    @staticmethod
    def opening(prompt: str | Messages) -> list[dict[str, Any]]:
        """Return the messages of a prompt: a text is the user's."""
        return [_user(prompt)] if isinstance(prompt, str) else [dict(message) for message in prompt]

    def _turns(self, messages: Messages) -> list[tuple[int, str, int | None]]:
        """Return `(dish, author, reply or None)` of each turn; the replies are those of `REPLIES`."""
        turns = []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                dish = self.read(message["content"])
                if dish is None:
                    raise ValueError(f"MenuDialogue: {message['content']!r:.80} names no dish of {list(self.dishes)}.")
                after = messages[i + 1]["content"] if i + 1 < len(messages) else None
                reply = REPLIES.index(after) if after in REPLIES[: AGAIN + 1] else None
                turns.append((dish, message.get("author", "self"), reply))
        return turns

    @property
    def num_words(self) -> int:
        """The number of words of which utterances are made, the end of one included."""
        return len(self._grammar.words)

    def symbols(self, dish: int) -> list[int]:
        """Return the words of an utterance as numbers: filled up with END by turn, with one END by token."""
        words = self.dishes[dish].split()
        num_ends = self._grammar.length - len(words) if self.by_turn else 1
        return [self._grammar.words.index(word) for word in words + [END] * num_ends]

    def _expert_probs(self, expert: MenuExpert) -> Float[np.ndarray, "K K"]:
        """Return the probabilities of the expert's utterances: those of their words, multiplied."""
        log_probs, after = np.asarray(expert.log_probs, float), np.asarray(self._grammar.after)
        probs = np.zeros((len(self.dishes),) * 2)
        for dish in range(len(self.dishes)):
            state, log_p = START, np.zeros(len(self.dishes))
            for word in self.symbols(dish):
                if not bool(self._grammar.is_over[state]):
                    log_p, state = log_p + log_probs[:, state, word], int(after[state, word])
            probs[:, dish] = np.exp(log_p)
        return _normalised(probs)

    def _instruction(self) -> str:
        answered = self.reply_probs[:, [NO, YES]]
        wrong_yes, yes = answered[:, YES] / answered.sum(1)
        return INSTRUCTION.format(dishes=", ".join(self.dishes), yes=yes, wrong_yes=wrong_yes)


def uniform(*key: Any) -> float:
    """Return a number from 0 to 1 that depends on a key alone; a generator takes ten times as long to make."""
    digest = hashlib.blake2b(" ".join(map(str, key)).encode(), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def _normalised(probs: Float[np.ndarray, "*n K"]) -> Float[np.ndarray, "*n K"]:
    """Return probabilities that sum to one in double precision; the process has them in single."""
    return probs / probs.sum(-1, keepdims=True)


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "author": "other"}


def _assistant(text: str, author: str = "self") -> dict[str, Any]:
    return {"role": "assistant", "content": text, "author": author}
