"""An expert behind an OpenAI-compatible server, which is told more than the student and answers with texts."""

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from undelude._checks import check_count
from undelude.hf._measuring.client import Client, ServerError
from undelude.hf._teaching.experts import Query, Utterance, check_template, told, turn_ids
from undelude.hf._teaching.losses import Targets

# Reasons why a server ended an answer that the model did not say to its end; those of a cut one are not among them.
NOT_SAID = ("content_filter", "tool_calls", "function_call", "error")


class EndpointExpert:
    """A served language model that is told more than the student; each answer is one sample, at temperature 1.

    Its cross-entropy has the same expected gradient as its whole distribution, with more noise. That holds if the
    server samples from the whole distribution: vLLM takes defaults such as `top_k` from the model's
    `generation_config.json`, unless it is started with `--generation-config vllm`.

    It reads the same conversation, and the first message of the user is replaced by `template`. An answer that is
    longer than `max_new_tokens`, in tokens of the server or of the student, is cut there: it teaches no end of the
    turn, and counts in the log's `expert_cut_turns`. Each call has a seed of its own, so that a server with a fixed
    seed gives several samples.

    Args:
        endpoint: the address of the server, such as `http://localhost:8000/v1`.
        model: the name of the model there.
        tokenizer: of the student.
        template: with the fields `{prompt}`, `{privileged_context}`, and any other column of the data set.
        num_threads: calls at a time.
        api_key_variable: the environment variable that has the API key, if there is one. The key is never written.
        timeout: seconds to wait for an answer.
        record: a file that keeps every answer; the same training is then answered from it again, if the address is
            the same. Several processes may share it.
        extra_body: further fields of every request, such as `{"chat_template_kwargs": {...}}`.

    Raises:
        ValueError: `template` does not use the privileged context; the address is not one; or `extra_body` has a field
            that is set here.
        ServerError: in training, a call failed, or the model did not answer with a text. Answers before it are in the
            record.

    Warns:
        UserWarning: in training, the server refuses `temperature` or `top_p`, so that the answers may have another
            distribution than the model's; or an answer is empty, which teaches the student to say nothing, or has a
            thought in it, `<think>`, which teaches the student to think aloud.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        tokenizer: Any,
        *,
        template: str = "{prompt}\n\n{privileged_context}",
        num_threads: int = 8,
        api_key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        record: str | os.PathLike[str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ):
        check_template(template, "EndpointExpert")
        if getattr(tokenizer, "eos_token_id", None) is None:
            raise TypeError("EndpointExpert: tokenizer must be the student's, with an end token (eos_token).")
        self.tokenizer, self.template, self.num_threads = (
            tokenizer,
            template,
            check_count("EndpointExpert: num_threads", num_threads),
        )
        settings: dict[str, Any] = {"api_key_variable": api_key_variable, "timeout": timeout}
        settings |= {"who": "EndpointExpert", "calls_at_a_time": "num_threads"}
        self.client = Client(endpoint, model, record=record, extra_body=extra_body, **settings)
        self._mentioned: set[str] = set()

    def speak(self, queries: Sequence[Query], max_new_tokens: int) -> list[Utterance]:
        """Ask the server for a turn in answer to each query."""
        calls = [(told(query, self.template, "EndpointExpert"), int(query.rng.integers(2**31))) for query in queries]

        def ask(call: tuple[list[dict[str, Any]], int]) -> dict[str, Any]:
            messages, repeat = call
            fields = {"n": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": max_new_tokens, "seed": repeat}
            return self.client.complete(messages, repeat, **fields)[0]

        with ThreadPoolExecutor(self.num_threads) as pool:
            turns = [self._turn(answer)[:max_new_tokens] for answer in pool.map(ask, calls)]
        if refused := self.client.refused:
            self._mention(
                f"{self.client.endpoint} refuses {' and '.join(refused)}, so that its answers may have another "
                "distribution than the model's, and the student learns that one."
            )
        return [Utterance(ids, Targets.of_tokens(torch.tensor(ids))) for ids in turns]

    def _turn(self, answer: Mapping[str, Any]) -> list[int]:
        """Return the token ids of an answer, with an end token if it was said to its end."""
        text, end, eos = answer["text"], answer["end"], int(self.tokenizer.eos_token_id)
        ids = turn_ids(text, self.tokenizer)
        ids = ids[: ids.index(eos) + (end != "length" or ids.index(eos) < len(ids) - 1)]
        if end in NOT_SAID or not ids:
            raise ServerError(
                f"{self.client.endpoint} gave an answer that cannot be taught: its text is {text!r:.60}, and its "
                f"finish_reason is {end!r}. A model that thinks first, and has no tokens left for its answer, needs "
                'more max_new_tokens, or no thought: extra_body={"chat_template_kwargs": {"enable_thinking": False}}.'
            )
        if "<think>" in text:
            self._mention(
                f"{self.client.endpoint} answers with its thoughts, {text!r:.60}, and the student learns to say "
                'them. If that is not meant: extra_body={"chat_template_kwargs": {"enable_thinking": False}}, or let '
                "the server put them into a field of their own."
            )
        if len(ids) == 1 and ids[0] == eos:
            self._mention(
                f"{self.client.endpoint} answered with nothing, which the student learns to say: does the server put "
                "its answers into another field than content?"
            )
        return ids

    def _mention(self, text: str) -> None:
        """Warn once."""
        if text not in self._mentioned:
            self._mentioned.add(text)
            warnings.warn(text, UserWarning, stacklevel=3)

    def score(self, queries: Sequence[Query], turns: Sequence[Sequence[int]]) -> list[Targets]:
        """Raise `ValueError`: a server says what it would say here, and not how likely other words are."""
        raise ValueError(
            "EndpointExpert answers with texts, and its distribution after other words is asked for, as "
            'granularity="token" and answers to stored turns need: use granularity="turn", or PromptedExpert.'
        )
