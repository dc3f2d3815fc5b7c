"""An expert behind an OpenAI-compatible server, which is told more than the student and answers with texts."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from undelude._checks import check_count
from undelude.hf._measuring.client import Client
from undelude.hf._teaching.experts import Query, Utterance, check_template, told, turn_ids
from undelude.hf._teaching.losses import Targets


class EndpointExpert:
    """A served language model that is told more than the student; each answer is one sample, at temperature 1.

    Its cross-entropy has the same expected gradient as its whole distribution, with more noise. It reads the same
    conversation, and the first message of the user is replaced by `template`. An answer that is longer than
    `max_new_tokens` is cut there, and counts in the log's `expert_cut_turns`.

    Args:
        endpoint: the address of the server, such as `http://localhost:8000/v1`.
        model: the name of the model there.
        tokenizer: of the student.
        template: with the fields `{prompt}`, `{privileged_context}`, and any other column of the data set.
        num_threads: calls at a time.
        api_key_variable: the environment variable that has the API key, if there is one. The key is never written.
        timeout: seconds to wait for an answer.
        record: a file that keeps every answer; the same training is then answered from it again.
        extra_body: further fields of every request, such as `{"chat_template_kwargs": {...}}`.

    Raises:
        ValueError: `template` does not use the privileged context; the address is not one; or `extra_body` has a field
            that is set here.
        ServerError: in training, a call failed.
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
        self.client = Client(endpoint, model, record=record, extra_body=extra_body, **settings)

    def speak(self, queries: Sequence[Query], max_new_tokens: int) -> list[Utterance]:
        """Ask the server for a turn in answer to each query."""
        calls = [(told(query, self.template, "EndpointExpert"), int(query.rng.integers(2**31))) for query in queries]

        def ask(call: tuple[list[dict[str, Any]], int]) -> str:
            messages, repeat = call
            fields = {"n": 1, "temperature": 1.0, "top_p": 1.0, "max_tokens": max_new_tokens}
            return self.client.complete(messages, repeat, **fields)[0]["text"]

        with ThreadPoolExecutor(self.num_threads) as pool:
            texts = list(pool.map(ask, calls))
        turns = [turn_ids(text, self.tokenizer)[:max_new_tokens] for text in texts]
        return [Utterance(ids, Targets.of_tokens(torch.tensor(ids))) for ids in turns]

    def score(self, queries: Sequence[Query], turns: Sequence[Sequence[int]]) -> list[Targets]:
        """Raise `ValueError`: a server says what it would say here, and not how likely other words are."""
        raise ValueError(
            "EndpointExpert answers with texts, and its distribution after other words is asked for, as "
            'granularity="token" and answers to stored turns need: use granularity="turn", or PromptedExpert.'
        )
