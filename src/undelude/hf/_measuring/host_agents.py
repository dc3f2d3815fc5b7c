"""Language models as agents of a menu, for `ud.rollout` and `ud.certify`."""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from undelude._agents.host import HostAgent
from undelude._distributions.discrete import Autoregressive, BlockTable
from undelude._process.process import InteractionProcess
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
        process: from `ud.tasks.menu`, by turn; or a `MenuDialogue`, to choose the prompt.
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
    return _agent(process, LocalSpeaker(model, tokenizer, num_samples=1, **options))


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
        process: from `ud.tasks.menu`, by turn; or a `MenuDialogue`, to choose the prompt.
        endpoint: the address of the server.
        model: its name there.
        max_calls: the most calls to make. B episodes of T rounds take at most `B (T + 1)` predictions.
        num_samples: of each prediction, if samples are drawn.
        **client: as for `measure_delusion`.

    >>> from undelude.hf import served_agent
    >>> agent = served_agent(process, endpoint=url, model="llama", max_calls=1000)  # doctest: +SKIP
    >>> ud.certify(process, agent, key=jax.random.key(0), num_episodes=64).action_kl_do  # doctest: +SKIP
    0.83
    """
    from undelude.hf._measuring.served import ServedSpeaker

    speaker = ServedSpeaker(endpoint, model, num_samples=num_samples, **client)
    speaker.client.max_calls = max_calls
    return _agent(process, speaker)


def _agent(process: InteractionProcess | MenuDialogue, speaker: Speaker) -> HostAgent:
    """Return a speaker as an agent of a menu. An utterance that is marked do has itself as the author."""
    dialogue = process if isinstance(process, MenuDialogue) else MenuDialogue(process)
    if not dialogue.by_turn:
        raise ValueError('a language model says whole utterances: make the menu with granularity="turn".')

    def reset(num_episodes: int) -> list[list[dict[str, Any]]]:
        return [dialogue.opening(dialogue.prompt) for _ in range(num_episodes)]

    def predict_marked(
        m: list[list[dict[str, Any]]], a: Any, o: Any, intervened: Any
    ) -> tuple[Any, list[list[dict[str, Any]]]]:
        if a is not None:
            m = [
                before + dialogue.decode(words[None], reply[None], author="self" if done else "expert")[1:]
                for before, words, reply, done in zip(m, np.asarray(a), np.asarray(o), intervened, strict=True)
            ]
        requests = [Request(tuple(messages), tuple(dialogue.utterances)) for messages in m]
        try:
            answers = speaker.answer(requests)
        except Interrupted as interrupted:
            raise interrupted.__cause__ or interrupted from None
        return _distribution(dialogue, np.stack([_probabilities(x) for x in answers])), m

    def predict(m: list[list[dict[str, Any]]], a: Any, o: Any) -> tuple[Any, list[list[dict[str, Any]]]]:
        return predict_marked(m, a, o, np.ones(len(m), bool))

    # Without marked words it cannot tell its own words from those of others.
    return HostAgent(reset, predict_marked, told_marks=True) if speaker.reads_authors else HostAgent(reset, predict)


def _probabilities(answers: Answers) -> Float[np.ndarray, " K"]:
    """Return probabilities of which none is zero if they are estimated from samples."""
    if answers.num_samples is None:
        return answers.probs
    counts = np.nan_to_num(answers.probs) * answers.num_samples
    return (counts + 0.5) / (counts + 0.5).sum()


def _distribution(dialogue: MenuDialogue, probs: Float[np.ndarray, "B K"]) -> Any:
    """Return the distributions of the actions that name each dish."""
    symbols = np.array([dialogue.symbols(dish) for dish in range(len(dialogue.dishes))])
    # A turn is a symbol or a block of symbols, both of which have n values; pyright sees any specification.
    num_words = dialogue.process.action_spec.n  # pyright: ignore[reportAttributeAccessIssue]
    table = np.zeros((len(probs), *[num_words] * symbols.shape[1]))
    table[(slice(None), *symbols.T)] = probs
    if symbols.shape[1] == 1:
        return table
    with np.errstate(divide="ignore"):
        return Autoregressive(BlockTable(jnp.asarray(np.log(table), float)))
