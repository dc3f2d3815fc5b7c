"""A model behind a server as a speaker: by log-probabilities if the server gives them, otherwise by samples."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from undelude.hf._measuring.client import Client, ServerError
from undelude.hf._measuring.estimates import Answers
from undelude.hf._measuring.speakers import Interrupted, Request, merge_users
from undelude.hf._menu.reading import read_answer, starts

# The most alternatives of a token for which servers give log-probabilities.
TOP = 20
# Tokens of a sampled utterance.
MAX_TOKENS = 32
# Probability of first tokens that several answers begin with, above which answers are sampled instead; and of first
# tokens that an answer begins with, below which they are, because the answer may come after other words.
MAX_AMBIGUOUS, MIN_COVERAGE = 0.01, 0.5
# Probability of the tokens that a server leaves out, above which answers are sampled that are not among the others.
MAX_LEFT_OUT = 0.01


def most_calls(num_requests: int, num_samples: int) -> tuple[int, int]:
    """Return the most calls that requests take: if log-probabilities suffice, and if each sample is a call of its own.

    Log-probabilities that do not tell the answers apart have been asked for before samples are.
    """
    # One or two find out the abilities of the server.
    return num_requests + 1, num_requests * (num_samples + 1) + 2


class ServedSpeaker:
    """A model behind a server.

    The probability of an answer is that of the first tokens with which it may begin. Answers are sampled instead if the
    server gives no log-probabilities, or too few of them for each answer; if two answers begin alike; if the model
    mostly begins with other words; or if it begins with an answer's first token and says something else.

    Attributes:
        name: of the model.
        num_samples: of each answer or utterance that is sampled.
        has_sampled: whether any answer was.
        has_sampled_utterances: whether any utterance was.
        gives_logprobs, gives_several: the abilities of the server; None if they are not known yet.
    """

    reads_authors = False

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        num_samples: int,
        num_workers: int = 8,
        max_tokens: int = MAX_TOKENS,
        api_key_variable: str = "OPENAI_API_KEY",
        timeout: float = 60.0,
        record: str | os.PathLike[str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ):
        options = {"timeout": timeout, "record": record, "extra_body": extra_body}
        self.client = Client(endpoint, model, api_key_variable=api_key_variable, **options)
        self.name, self.num_samples, self.num_workers, self.max_tokens = model, num_samples, num_workers, max_tokens
        self.has_sampled = self.has_sampled_utterances = False
        self.gives_logprobs: bool | None = None
        self.gives_several: bool | None = None
        self._num_requests = 0
        self._asked: Counter[Any] = Counter()
        self._scored: dict[Any, Answers] = {}
        # Answers that are sampled, because the model has begun like one of them and said something else.
        self._misled = set[tuple[str, ...]]()

    @property
    def num_calls(self) -> int:
        """The number of calls so far."""
        return self.client.num_calls

    @property
    def notes(self) -> dict[str, str]:
        """What to know about the answers, by name."""
        if not self.client.refused:
            return {}
        names = " and ".join(self.client.refused)
        return {
            "sampling": f"the server refused {names}, which was left out. The server's own setting may not be 1, and "
            "then the probabilities of answers are not the model's."
        }

    def set_budget(self, num_requests: int, max_calls: int | None) -> None:
        """Allow at most `max_calls` calls.

        Raises:
            ValueError: it is missing, or too small even with log-probabilities.
        """
        scored, sampled = most_calls(num_requests, self.num_samples)
        if max_calls is None or max_calls < scored:
            given = "is missing" if max_calls is None else f"is {max_calls}"
            raise ValueError(
                f"max_calls {given}: measuring takes up to {scored} calls if the server gives log-probabilities, and "
                f"up to {sampled} if it gives neither these nor several samples in a call. Pass the most that you "
                "allow; fewer conversations and samples need fewer."
            )
        self.client.max_calls = max_calls
        self._num_requests = num_requests

    def answer(self, requests: Sequence[Request]) -> list[Answers]:
        """Return the distribution of the next message of each conversation; see `Speaker`."""
        answers: list[Answers | None] = [None] * len(requests)
        # Equal requests come later: log-probabilities are asked for once, and samples are drawn for each.
        first, later, seen = [], [], set[Any]()
        for i, request in enumerate(requests):
            repeat = self._asked[request.key]
            self._asked[request.key] += 1
            (later if request.key in seen else first).append((i, request, repeat))
            seen.add(request.key)
        waves = [first[:1], first[1:], later] if self.gives_logprobs is None else [first, later]
        try:
            for wave in waves:
                self._answer_all(wave, answers)
                if wave:
                    self._check_budget()
        except (ServerError, KeyboardInterrupt) as error:
            raise Interrupted(answers) from error
        return [x for x in answers if x is not None]

    def _answer_all(self, jobs: Sequence[tuple[int, Request, int]], answers: list[Answers | None]) -> None:
        """Answer several requests at the same time, and write the answers into a list, also if one of them fails."""
        pool, max_calls = ThreadPoolExecutor(self.num_workers), self.client.max_calls
        failed: list[BaseException] = []
        futures = {pool.submit(self._answer, request, repeat): i for i, request, repeat in jobs}
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt as error:
            failed.append(error)
            self.client.max_calls = 0  # No further call, and no further try.
        finally:
            pool.shutdown(cancel_futures=True)  # Waits for calls that are on their way.
            self.client.max_calls = max_calls
        for future, i in futures.items():
            if not future.cancelled() and (error := future.exception()) is not None:
                failed.append(error)
            elif not future.cancelled():
                answers[i] = future.result()
        if failed:
            raise failed[0]

    def _check_budget(self) -> None:
        """Raise if the server turns out to need more calls than allowed: measuring would end in the middle."""
        needed = most_calls(self._num_requests, self.num_samples)[
            bool(self.gives_logprobs is False and not self.gives_several)
        ]
        if needed > self.client.max_calls and not self.client.continues:
            raise ValueError(
                f"the server gives no log-probabilities of {self.name!r}, and one sample in a call, so that measuring "
                f"takes up to {needed} calls, but max_calls is {self.client.max_calls}: raise max_calls, or measure "
                "fewer conversations or samples."
            )

    def _answer(self, request: Request, repeat: int) -> Answers:
        is_scored = self.gives_logprobs is not False and request.answers not in self._misled
        if request.answers is not None and is_scored:
            scored = self._scored.get(request.key) or self._score(request, request.answers)
            if scored is not None:
                self._scored[request.key] = scored
                return scored
        texts = self._sample(request, repeat)
        if request.answers is None:
            return Answers.from_texts([text.strip() for text in texts])
        indices = [read_answer(text, request.answers) for text in texts]
        return Answers.from_samples(indices, len(request.answers))

    def _score(self, request: Request, texts: tuple[str, ...]) -> Answers | None:
        """Return the probabilities of the answers by their first tokens; None if these do not tell."""
        fields = {"max_tokens": self.max_tokens, "temperature": 1.0, "logprobs": True, "top_logprobs": TOP}
        [choice, *_] = self.client.complete(merge_users(request.messages), **fields)
        if choice["top"] is None:
            self.gives_logprobs = False
            return None
        self.gives_logprobs = True
        said = starts(choice["token"], texts)
        if len(said) == 1 and read_answer(choice["text"], texts) != said[0]:
            self._misled.add(texts)  # Such as "So far I cannot say.", which begins like "soup".
            return None
        probs, ambiguous = np.zeros(len(texts)), 0.0
        for token, log_prob in choice["top"]:
            begun = starts(token, texts)
            if len(begun) == 1:
                probs[begun[0]] += np.exp(log_prob)
            elif begun:
                ambiguous += np.exp(log_prob)
        if ambiguous > MAX_AMBIGUOUS or probs.sum() < MIN_COVERAGE:
            return None
        if not probs.all():
            # Tokens that are not among the most probable ones are no more probable than the last of these.
            listed = np.exp([log_prob for _, log_prob in choice["top"]])
            left_out = max(1.0 - listed.sum(), 0.0)
            if left_out > MAX_LEFT_OUT:
                return None
            probs[probs == 0] = min(listed.min(), left_out / np.sum(probs == 0))
        with np.errstate(divide="ignore"):
            return Answers.from_log_probs(np.log(probs))

    def _sample(self, request: Request, repeat: int) -> list[str]:
        """Return samples of the next message: in one call if the server gives several, otherwise in one each."""
        if request.answers is None:
            self.has_sampled_utterances = True
        else:
            self.has_sampled = True
        messages, n = merge_users(request.messages), self.num_samples
        fields = {"max_tokens": self.max_tokens, "temperature": 1.0, "top_p": 1.0}
        texts: list[str] = []
        if self.gives_several is not False and n > 1:
            texts = [x["text"] for x in self.client.complete(messages, repeat, n=n, **fields)][:n]
            self.gives_several = len(texts) == n
        while len(texts) < n:
            texts.append(self.client.complete(messages, repeat * n + len(texts), **fields)[0]["text"])
        return texts
