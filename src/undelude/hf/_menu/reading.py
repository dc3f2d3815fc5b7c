"""Which of several answers a text gives."""

import functools
import re
from collections.abc import Sequence


@functools.lru_cache(maxsize=4096)
def read_answer(text: str, answers: tuple[str, ...]) -> int | None:
    """Return the index of the one answer that a text contains; None if it contains none, or several.

    Case, punctuation and a final "s" of a word do not matter. Words that are part of a longer answer do not count for
    a shorter one.

    >>> read_answer("Fish tacos are on the menu.", ("tacos", "fish soup", "fish tacos"))
    2
    """
    words = _words(_without_thoughts(text))
    found: set[int] = set()
    for i in sorted(range(len(answers)), key=lambda i: -len(_words(answers[i]))):
        answer = _words(answers[i])
        start = 0
        while answer and start + len(answer) <= len(words):
            if words[start : start + len(answer)] == answer:
                words[start : start + len(answer)] = [""] * len(answer)
                found.add(i)
            start += 1
    return found.pop() if len(found) == 1 else None


def starts(token: str, answers: Sequence[str]) -> list[int]:
    """Return the indices of the answers that may begin with a token.

    >>> starts(" Ta", ["tacos", "soup"]), starts("Well", ["tacos", "soup"])
    ([0], [])
    """
    piece = token.strip(" \t\r\n\u2581\u0120\"'*.").lower()
    if not piece:
        return []
    return [i for i, answer in enumerate(answers) if answer.lower().startswith(piece)]


def _without_thoughts(text: str) -> str:
    """Return a text without the thoughts that a reasoning model writes before its answer."""
    return re.sub(r"<think>.*?(</think>|$)", " ", text, flags=re.DOTALL)


def _words(text: str) -> list[str]:
    return [word.removesuffix("s") for word in re.findall(r"\w+", text.lower())]
