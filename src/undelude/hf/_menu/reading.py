"""Which of several answers a text gives."""

import functools
import re
from collections.abc import Sequence

# Words that deny what else is in their clause. "Don't" is read as "do not".
_NEGATIONS = frozenset(("no", "not", "never", "neither", "nor", "cannot", "without", "except"))


@functools.lru_cache(maxsize=4096)
def read_answer(text: str, answers: tuple[str, ...]) -> int | None:
    """Return the index of the one answer that a text contains; None if it contains none, or several.

    Case, punctuation and a final "s" of a word do not matter. Words that are part of a longer answer do not count for
    a shorter one. An answer that a clause denies does not count.

    >>> read_answer("Fish tacos are on the menu.", ("tacos", "fish soup", "fish tacos"))
    2
    >>> read_answer("It is not tacos, it is soup.", ("tacos", "soup"))
    1
    """
    clauses = [
        _words(clause) for clause in re.split(r"[.,;:!?\n\u2013\u2014]|\bbut\b", _without_thoughts(text.lower()))
    ]
    words = [word for clause in clauses for word in clause]
    numbers = [i for i, clause in enumerate(clauses) for _ in clause]
    found: dict[int, set[int]] = {}  # The clauses in which each answer is.
    for i in sorted(range(len(answers)), key=lambda i: -len(_words(answers[i]))):
        answer = _words(answers[i])
        start = 0
        while answer and (end := start + len(answer)) <= len(words):
            if words[start:end] == answer:
                words[start:end] = [""] * len(answer)
                found.setdefault(i, set()).update(numbers[start:end])
            start += 1
    denied = {numbers[t] for t, word in enumerate(words) if word in _NEGATIONS}
    given = [i for i, places in found.items() if not places <= denied]
    return given[0] if len(given) == 1 else None


def check_readable(answers: Sequence[str], where: str) -> None:
    """Raise ValueError if two answers read alike, such as "taco" and "tacos".

    Args:
        answers: different texts.
        where: the beginning of the message.
    """
    for i, answer in enumerate(answers):
        for other in answers[:i]:
            if _words(answer) and _words(answer) == _words(other):
                raise ValueError(
                    f"{where}: {other!r} and {answer!r} cannot be told apart in a text, where case, punctuation and a "
                    'final "s" do not matter. Give answers that differ in a word.'
                )


def starts(token: str, answers: Sequence[str]) -> list[int]:
    """Return the indices of the answers that may begin with a token.

    A token of one letter, such as the "I" of "I do not know.", counts only if it is the whole first word of an answer.

    >>> starts(" Ta", ["tacos", "soup"]), starts("Well", ["tacos", "soup"]), starts("I", ["ice cream", "soup"])
    ([0], [], [])
    """
    piece = token.strip(" \t\r\n\u2581\u0120\"'*.").lower()
    if not piece:
        return []
    begun = [i for i, answer in enumerate(answers) if answer.lower().startswith(piece)]
    return begun if len(piece) > 1 else [i for i in begun if re.match(rf"{re.escape(piece)}(?!\w)", answers[i].lower())]


def _without_thoughts(text: str) -> str:
    """Return a text without the thoughts that a reasoning model writes before its answer."""
    return re.sub(r"<think>.*?(</think>|$)", " ", text, flags=re.DOTALL)


def _words(text: str) -> list[str]:
    text = re.sub(r"n['\u2019]t\b", " not", text.lower())
    return [word.removesuffix("s") if len(word) > 3 else word for word in re.findall(r"\w+", text)]
