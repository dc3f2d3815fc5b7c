"""`measure_delusion`: does a language model take its own words for evidence?"""

import contextlib
import functools
import itertools
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from undelude._certificate.quantity import Quantity
from undelude._checks import check_count
from undelude._types import Mark
from undelude._versions import versions
from undelude.hf._measuring.delusion_report import DelusionReport, left_out, summarise
from undelude.hf._measuring.estimates import Answers
from undelude.hf._measuring.probes import Numbers, ProbedConversation, hold
from undelude.hf._measuring.speakers import MESSAGE_FIELDS, ExactSpeaker, Interrupted, Speaker
from undelude.hf._menu.menu_dialogue import MenuDialogue, Row
from undelude.hf._menu.reading import check_readable

# Conversations by default, and their own turns.
NUM_CONVERSATIONS, NUM_TURNS = 20, 3
# Conversations behind the numbers of the exact agents.
NUM_EXACT = 100
SAMPLES_ONLY = "it needs log-probabilities, and samples were drawn."
NO_TRUTH = "the truth is not known."


def measure_delusion(
    model: Any = None,
    tokenizer: Any = None,
    conversations: MenuDialogue | Iterable[Row] | None = None,
    *,
    endpoint: str | None = None,
    num_conversations: int | None = None,
    num_samples: int = 10,
    seed: int = 0,
    granularity: Literal["turn", "token"] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    max_calls: int | None = None,
    **client: Any,
) -> DelusionReport:
    """Measure whether a language model takes its own words for evidence: any causal model, or any served model.

    The model makes an utterance, and is then asked a question, the probe. The utterance cannot have changed the true
    answer. A sober model therefore answers alike after each utterance that it might have made, and a deluded one
    believes its own words. Neither marks nor the truth are needed.

    Args:
        model: a causal language model of Hugging Face; with an endpoint, the name of the model there.
        tokenizer: of the model, with a chat template; None with an endpoint.
        conversations: a `MenuDialogue`, in which the model plays; or a list or a data set of transcripts, as dicts of

            - `messages`, with `role`, `content` and `author` ("self" for the model's own turns, each of which is
              measured; without any, the model's next message is);
            - `probe`, a question, and `answers`, two or more texts;
            - optional: `truth`, the right answer or its number; `candidates`, texts that an own turn may have, by
              default samples of the model; `evidence`, replies that tell something about the answer, such as "Yes." and
              "No."; `no_answer`, a reply that tells nothing; `denial`, a reply that denies. If `no_answer` is the
              probe's text, the answer to the probe is the model's next utterance, which follows any reply of itself:
              the probe is not asked after one.

            By default, a menu of five dishes for three turns.
        endpoint: the address of a server of the OpenAI-compatible protocol, such as "http://localhost:8000/v1". It
            needs no PyTorch. The API key is read from the environment variable `OPENAI_API_KEY`, if it is set.
        num_conversations: to measure on; by default 20 of a menu, or all transcripts.
        num_samples: of each answer, for a server without log-probabilities, and of each utterance without candidates.
        seed: of the conversations, and of the model's own turns.
        granularity: of a local model with marks, whether a turn is one action, or each word. By default, as it was
            taught, and by turn if it does not say.
        chat_template_kwargs: for a local model, further arguments of its chat template, such as
            `{"enable_thinking": False}`.
        max_calls: with an endpoint, the most calls to make. It must be given: a call costs money or time.
        **client: with an endpoint, `api_key_variable`; `timeout` in seconds; `num_workers`; `record`, a file that keeps
            every answer: called again with the same arguments, it continues from there; and `extra_body`, a dict of
            further fields of every request, such as `{"chat_template_kwargs": {"enable_thinking": False}}`.

    Returns:
        The report. If the server dies or you press Ctrl-C, it has the numbers so far, and why in `notes["stopped"]`.

    Raises:
        TypeError: `model` is a name, and there is no endpoint; or it is the tokenizer.
        ValueError: a conversation is wrong, or longer than the model's context; two answers or candidates are the same
            tokens; or `max_calls` is missing or too small. The message has the number.
        ServerError: the server could not be reached, or refused the first call.

    Warns:
        UserWarning: measuring ended early; or the tokenizer has no token for a part of a text, and the model reads the
            unknown token.

    >>> from undelude.hf import MenuDialogue, measure_delusion
    >>> report = measure_delusion(model, tokenizer, MenuDialogue(num_turns=2))  # doctest: +SKIP
    >>> report.auto_suggestion, report.verdict  # doctest: +SKIP
    (1.146, 'deluded')
    """
    num_samples = check_count("num_samples", num_samples)
    if conversations is None:
        conversations = MenuDialogue(num_turns=NUM_TURNS)
    held = prepare(conversations, num_conversations, seed)
    dialogue = conversations if isinstance(conversations, MenuDialogue) else None
    if endpoint is None:
        if model is None or tokenizer is None:
            raise TypeError("measure_delusion needs a model and its tokenizer, or endpoint= and the model's name.")
        if isinstance(model, str):
            raise TypeError(
                f"measure_delusion: model is a name, {model!r}: load it, AutoModelForCausalLM.from_pretrained(...), or "
                "pass endpoint= if a server has it."
            )
        if client or max_calls is not None:
            given = ", ".join(sorted([*client, *(["max_calls"] if max_calls is not None else [])]))
            raise TypeError(f"measure_delusion: {given} cannot be used without an endpoint.")
        from undelude.hf._measuring.local import LocalSpeaker  # Needs PyTorch.

        options = {"granularity": granularity, "chat_template_kwargs": chat_template_kwargs}
        speaker = LocalSpeaker(model, tokenizer, num_samples=num_samples, seed=seed, **options)
        return measure(speaker, held, dialogue)
    from undelude.hf._measuring.served import ServedSpeaker

    if not isinstance(model, str) or tokenizer is not None:
        raise TypeError("measure_delusion: with an endpoint, model is the model's name there, and tokenizer is None.")
    if granularity is not None or chat_template_kwargs is not None:
        raise TypeError(
            "measure_delusion: granularity and chat_template_kwargs are for local models. A server takes arguments of "
            'its chat template by extra_body={"chat_template_kwargs": {...}}, if it does.'
        )
    for number, c in enumerate(held):
        if further := sorted({x for m in c.messages for x in m if m[x] is not None} - {*MESSAGE_FIELDS}):
            raise ValueError(
                f"measure_delusion: messages of conversation {number} have {', '.join(further)}, and a server is sent "
                "texts alone. Leave it out, or measure a local model."
            )
        for name, texts in (("answers", c.answers), ("candidates", c.candidates or ())):
            check_readable(texts, f"measure_delusion: {name} of conversation {number}")
    num_requests = most_requests(held, num_samples)
    speaker = ServedSpeaker(endpoint, model, num_samples=num_samples, **client)
    speaker.set_budget(num_requests, max_calls)
    return measure(speaker, held, dialogue)


def prepare(
    conversations: MenuDialogue | Iterable[Row], num_conversations: int | None, seed: int
) -> list[ProbedConversation]:
    """Return the conversations to hold or to read.

    Raises:
        ValueError: there are none, or one is wrong.
    """
    if num_conversations is not None:
        check_count("num_conversations", num_conversations)
    if isinstance(conversations, MenuDialogue):
        rows = conversations.rows(num_conversations or NUM_CONVERSATIONS, seed)
        return [ProbedConversation.of_menu(conversations, row) for row in rows]
    rows = list(itertools.islice(conversations, num_conversations))
    if not rows:
        raise ValueError("measure_delusion: conversations is empty.")
    return [ProbedConversation.of_row(row, number) for number, row in enumerate(rows)]


def most_requests(conversations: Sequence[ProbedConversation], num_samples: int) -> int:
    """Return the most requests that the conversations take."""
    return sum(x.num_rounds * x.requests_a_round(num_samples) for x in conversations)


def measure(
    speaker: Speaker, conversations: Sequence[ProbedConversation], dialogue: MenuDialogue | None
) -> DelusionReport:
    """Return the report of a speaker; with a menu, it has the numbers of the exact agents too."""
    started = time.perf_counter()
    measured, error = converse(speaker, conversations)
    if error is not None and not any(measured):
        raise error
    is_sampled = getattr(speaker, "has_sampled", False)
    num_samples = getattr(speaker, "num_samples", None)
    if not is_sampled and not getattr(speaker, "has_sampled_utterances", False):
        num_samples = None
    by_round = summarise(measured, _why_none(conversations, sampled=is_sampled))
    num_rounds = len(by_round["auto_suggestion"])
    notes = {name: note for name, values in by_round.items() if (note := values[0].note) is not None}
    if not any(x.evidence for x in conversations):
        del notes["evidence_coverage"]  # That of the informativeness says it.
    notes |= left_out(measured, by_round) | _without_own_turns(conversations) | getattr(speaker, "notes", {})
    num_calls = getattr(speaker, "num_calls", None)
    is_constant = all(x.value == 0 for x in by_round["variety"])
    if num_calls is not None and num_samples is not None and num_samples > 1 and is_constant:
        notes["variety"] = (
            "every sample of an utterance was the same: the server seems to ignore the temperature and to decode "
            "greedily. Have it sample, or the probabilities of answers are not the model's."
        )
    if "tokenizer" in notes:
        warnings.warn(f"measure_delusion: {notes['tokenizer']}", stacklevel=3)
    if error is not None:
        done = sum(map(len, measured))
        reason = "you stopped it." if isinstance(error, KeyboardInterrupt) else error
        notes["stopped"] = f"After {done} of {sum(x.num_rounds for x in conversations)} turns: {reason}"
        warnings.warn(f"measure_delusion: {notes['stopped']}", stacklevel=3)
    return DelusionReport(
        model=speaker.name,
        method="samples" if is_sampled else "log-probabilities",
        num_samples=num_samples,
        num_conversations=sum(map(bool, measured)),
        num_rounds=num_rounds,
        num_calls=num_calls,
        seconds=time.perf_counter() - started,
        versions=versions(),
        notes=notes,
        by_round=by_round,
        references={} if dialogue is None else exact_numbers(dialogue, num_rounds),
    )


@functools.lru_cache(maxsize=16)
def exact_numbers(dialogue: MenuDialogue, num_rounds: int) -> dict[str, dict[str, tuple[Quantity, ...]]]:
    """Return the numbers of the exact sober and the exact deluded agent of a menu, on their own conversations."""
    conversations = prepare(dialogue, NUM_EXACT, seed=0)
    references = {}
    readings: dict[str, Mark] = {"sober": "do", "deluded": "see"}
    for name, own_actions in readings.items():
        measured, _ = converse(ExactSpeaker(dialogue, own_actions), conversations)
        by_round = summarise(measured, {})
        references[name] = {name: values[:num_rounds] for name, values in by_round.items()}
    return references


def converse(
    speaker: Speaker, conversations: Sequence[ProbedConversation]
) -> tuple[list[list[Numbers]], BaseException | None]:
    """Hold all conversations side by side.

    Returns:
        The numbers of each round of each conversation, and the error that ended them early, or None.
    """
    measured: list[list[Numbers]] = [[] for _ in conversations]
    going = []
    for c, numbers in zip(conversations, measured, strict=True):
        generator = hold(c, speaker.reads_authors, numbers)
        going.append((generator, next(generator)))
    error: BaseException | None = None
    while going and error is None:
        asked = [x for _, requests in going for x in requests]
        try:
            answers: Sequence[Answers | None] = speaker.answer(asked)
        except KeyboardInterrupt as interrupt:
            answers, error = [None] * len(asked), interrupt
        except Interrupted as interrupted:
            answers, error = interrupted.answers, interrupted.__cause__
        left, later = iter(answers), []
        for generator, requests in going:
            mine = list(itertools.islice(left, len(requests)))
            complete = [x for x in mine if x is not None]
            if len(complete) < len(mine):
                continue
            with contextlib.suppress(StopIteration):
                later.append((generator, generator.send(complete)))
        going = later
    return measured, error


def _without_own_turns(conversations: Sequence[ProbedConversation]) -> dict[str, str]:
    """Return a note on the transcripts that have no own turn."""
    num = sum(x.environment is None and not x.own_turns for x in conversations)
    if not num:
        return {}
    return {
        "turns": f'{num} of {len(conversations)} conversations have no turn with the author "self": the message with '
        "which the model continues them was measured."
    }


def _why_none(conversations: Sequence[ProbedConversation], *, sampled: bool) -> dict[str, str]:
    """Return the reason for each quantity that cannot be measured in any of the conversations."""

    def none(name: str) -> bool:
        return not any(getattr(x, name) for x in conversations)

    no_truth = all(x.truth is None for x in conversations)
    reasons = {name: NO_TRUTH for name in ("hit", "overconfidence", "calibration_gap") if no_truth}
    if none("candidates"):
        reasons["suggestibility"] = "it needs `candidates`."
    if none("evidence"):
        reasons["informativeness"] = 'it needs `evidence`: replies that tell something, such as "Yes." and "No.".'
    for name in ("no_answer", "denial"):
        if none("candidates") or none(name):
            reasons[f"repeat_after_{name}"] = f"it needs `candidates` and `{name}`."
    if sampled:
        reasons = {"calibration_gap": SAMPLES_ONLY, "provenance_kl": SAMPLES_ONLY} | reasons
    return reasons
