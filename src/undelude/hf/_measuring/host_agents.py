"""Language models as agents of a menu, for `ud.rollout` and `ud.certify`."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from undelude._agents.host import HostAgent
from undelude._distributions.discrete import Autoregressive, BlockTable
from undelude._process.process import InteractionProcess
from undelude.hf._measuring.delusion_report import MIN_COVERAGE
from undelude.hf._measuring.estimates import Answers
from undelude.hf._measuring.speakers import Interrupted, Request, Speaker
from undelude.hf._menu.menu_dialogue import MenuDialogue


def local_agent(
    process: InteractionProcess | MenuDialogue,
    model: Any,
    tokenizer: Any,
    *,
    granularity: Literal["turn", "token"] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> HostAgent:
    """Return a language model of Hugging Face as an agent of a menu.

    Its prediction of an action is the probability of each utterance, all its words and the end of the turn, normalised
    over the utterances that name a dish. If it has do-tokens, it reads an utterance that the history marks do, such as
    its own, in marked words, and one that is marked see in plain words; otherwise it reads all of them in plain words.

    Args:
        process: from `ud.tasks.menu`, by turn if the model has do-tokens; or a `MenuDialogue`, to choose the prompt.
        model: a causal language model.
        tokenizer: of the model, with a chat template.
        granularity: of the marks; by default, as the model was taught, and `"turn"` if it does not say.
        chat_template_kwargs: further arguments of the chat template.

    >>> from undelude.hf import local_agent
    >>> agent = local_agent(process, model, tokenizer)  # doctest: +SKIP
    >>> ud.certify(process, agent, key=jax.random.key(0), num_episodes=256).verdict  # doctest: +SKIP
    'deluded'
    """
    from undelude.hf._measuring.local import LocalSpeaker  # Needs PyTorch.

    options = {"granularity": granularity, "chat_template_kwargs": chat_template_kwargs}
    return as_agent(process, LocalSpeaker(model, tokenizer, num_samples=1, **options))


def served_agent(
    process: InteractionProcess | MenuDialogue,
    *,
    endpoint: str,
    model: str,
    max_calls: int,
    num_samples: int = 20,
    **client: Any,
) -> HostAgent:
    """Return a language model behind a server as an agent of a menu.

    Its prediction of an action is that of the first token of each utterance, normalised. If the server gives no
    log-probabilities, it is estimated from samples, with half a sample added to each dish so that no probability is
    zero; the KL of a certificate is then too large by about `(K - 1) / (2 num_samples)` nats.

    Args:
        process: from `ud.tasks.menu`; or a `MenuDialogue`, to choose the prompt.
        endpoint: the address of the server.
        model: its name there.
        max_calls: the most calls to make. B episodes of T rounds take at most `B (T + 1)` predictions.
        num_samples: of each prediction, if samples are drawn.
        **client: as for `measure_delusion`.

    Warns:
        UserWarning: answers are sampled, and most of them name no dish.

    >>> from undelude.hf import served_agent
    >>> agent = served_agent(process, endpoint=url, model="llama", max_calls=1000)  # doctest: +SKIP
    >>> ud.certify(process, agent, key=jax.random.key(0), num_episodes=64).action_kl_do  # doctest: +SKIP
    0.83
    """
    from undelude.hf._measuring.served import ServedSpeaker

    speaker = ServedSpeaker(endpoint, model, num_samples=num_samples, **client)
    speaker.client.max_calls = max_calls
    return as_agent(process, speaker)


class Heard:
    """How often the sampled texts of a language model named a dish.

    Attributes:
        shares: for each sampled answer, the share of its texts that did.
    """

    def __init__(self) -> None:
        self.shares: list[float] = []

    def add(self, answers: Sequence[Answers]) -> None:
        """Count some answers, but not those whose probabilities are known."""
        self.shares += [answer.coverage for answer in answers if answer.num_samples is not None]

    @property
    def names_too_few(self) -> bool:
        """Whether less than half did: what is predicted for the others is not the model's."""
        return bool(self.shares) and float(np.mean(self.shares)) < MIN_COVERAGE

    def __str__(self) -> str:
        return f"{np.mean(self.shares or [1.0]):.1%} of the sampled texts name a dish"


class Conversation(NamedTuple):
    """One episode as a language model reads it.

    Attributes:
        messages: the turns that are over.
        said: the words of the turn that is being said, as numbers.
        probs: `[K]`, the probabilities of the utterances of this turn; None before the model is asked.
        turn: the number of turns that are over.
        is_over: whether all turns are: the model is not asked again.
    """

    messages: tuple[dict[str, Any], ...]
    said: tuple[int, ...] = ()
    probs: Float[np.ndarray, " K"] | None = None
    turn: int = 0
    is_over: bool = False


def as_agent(
    process: InteractionProcess | MenuDialogue,
    speaker: Speaker,
    *,
    on_answers: Callable[[Sequence[Answers]], None] | None = None,
) -> HostAgent:
    """Return a speaker as an agent of a menu. An utterance that is marked do has itself as the author.

    By token, the probability of a word is that of the utterances that go on with it, of all that begin as this one did.

    Args:
        process: the menu.
        speaker: the model.
        on_answers: called with the answers of each round; by default a warning says if most texts name no dish.
    """
    on_answers = _Warn().hear if on_answers is None else on_answers
    dialogue = process if isinstance(process, MenuDialogue) else MenuDialogue(process)
    if speaker.reads_authors and not dialogue.by_turn:
        raise ValueError('a model with marked words marks whole utterances: make the menu with granularity="turn".')
    dishes = [tuple(dialogue.symbols(dish)) for dish in range(len(dialogue.dishes))]

    def reset(num_episodes: int) -> list[Conversation]:
        return [Conversation(tuple(dialogue.opening(dialogue.prompt))) for _ in range(num_episodes)]

    def hear(m: Conversation, words: Any, reply: Any, done: Any) -> Conversation:
        if m.is_over:
            return m
        said = (*m.said, *np.atleast_1d(words).tolist())
        if said not in dishes:
            if not any(dish[: len(said)] == said for dish in dishes):
                raise ValueError(
                    f"the words {list(said)} name no dish, and a language model is asked for dishes alone."
                )
            return m._replace(said=said)
        if m.turn + 1 == dialogue.num_turns:  # Nobody reads its predictions from here.
            return Conversation(m.messages, probs=np.full(len(dishes), 1 / len(dishes)), is_over=True)
        heard = np.full(len(said), reply)  # The reply to a turn is that to its last word.
        actions, replies = (np.array([said]), heard[:1]) if dialogue.by_turn else (np.array(said), heard)
        turn = dialogue.decode(actions, replies, author="self" if done else "expert")[1:]
        return Conversation((*m.messages, *turn), turn=m.turn + 1)

    def predict_marked(m: list[Conversation], a: Any, o: Any, intervened: Any) -> tuple[Any, list[Conversation]]:
        if a is not None:
            m = [hear(*row) for row in zip(m, np.asarray(a), np.asarray(o), intervened, strict=True)]
        asked = [i for i, x in enumerate(m) if x.probs is None]
        requests = [Request(m[i].messages, tuple(dialogue.utterances)) for i in asked]
        try:
            answers = speaker.answer(requests)
        except Interrupted as interrupted:
            raise interrupted.__cause__ or interrupted from None
        on_answers(answers)
        for i, answer in zip(asked, answers, strict=True):
            m[i] = m[i]._replace(probs=_probabilities(answer))
        probs = np.stack([x.probs for x in m if x.probs is not None])
        if dialogue.by_turn:
            return _distribution(dialogue, probs), m
        return np.stack([_next_word(dialogue, dishes, x.said, p) for x, p in zip(m, probs, strict=True)]), m

    def predict(m: list[Conversation], a: Any, o: Any) -> tuple[Any, list[Conversation]]:
        return predict_marked(m, a, o, np.ones(len(m), bool))

    # Without marked words it cannot tell its own words from those of others.
    return HostAgent(reset, predict_marked, told_marks=True) if speaker.reads_authors else HostAgent(reset, predict)


class _Warn:
    """Warns, once for each agent, if most sampled texts name no dish."""

    def __init__(self) -> None:
        self.heard, self.has_warned = Heard(), False

    def hear(self, answers: Sequence[Answers]) -> None:
        self.heard.add(answers)
        if self.heard.names_too_few and not self.has_warned:
            self.has_warned = True
            warnings.warn(
                f"{self.heard}: the others are left out, and if none is left, all dishes are taken for equally "
                "probable. A distance from an exact answer then tells nothing about the model.",
                stacklevel=2,
            )


def _next_word(
    dialogue: MenuDialogue, dishes: Sequence[tuple[int, ...]], said: tuple[int, ...], probs: Float[np.ndarray, " K"]
) -> Float[np.ndarray, " words"]:
    """Return the probabilities of the next word, given those of whole utterances and the words that are said."""
    n = len(said)
    found = np.zeros(dialogue.num_words)
    for dish, p in zip(dishes, probs, strict=True):
        if dish[:n] == said:
            found[dish[n]] += p
    return found / found.sum()


def _probabilities(answers: Answers) -> Float[np.ndarray, " K"]:
    """Return probabilities of which none is zero if they are estimated from samples."""
    if answers.num_samples is None:
        return answers.probs
    counts = np.nan_to_num(answers.probs) * answers.num_samples
    return (counts + 0.5) / (counts + 0.5).sum()


def _distribution(dialogue: MenuDialogue, probs: Float[np.ndarray, "B K"]) -> Any:
    """Return the distributions of the actions that name each dish."""
    symbols = np.array([dialogue.symbols(dish) for dish in range(len(dialogue.dishes))])
    table = np.zeros((len(probs), *[dialogue.num_words] * symbols.shape[1]))
    table[(slice(None), *symbols.T)] = probs
    if symbols.shape[1] == 1:
        return table
    with np.errstate(divide="ignore"):
        return Autoregressive(BlockTable(jnp.asarray(np.log(table), float)))
