"""Functions of the user's: whether they can be called, before training starts, and a random generator for them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from undelude._checks import check_arguments

# For each function: what it returns, in the words of the messages.
RETURNS = {
    "environment": "the reply to the last message, a text or messages, or None if the conversation is over",
    "rollouts": "the text of the assistant's next turn",
    "utterances": "what the expert would say, a text or {text: probability}",
    "next_token": "log-probabilities [V] of the next token, or (ids, log-probabilities) of the largest",
}
# Arguments besides messages and row, the conversation so far and the row of the data set.
FURTHER = {"next_token": ("ids",)}
# Functions that may take a random generator.
RANDOM = ("environment", "rollouts")


def check_function(f: Any, name: str) -> None:
    """Raise `TypeError` if a function of the user's cannot be called as the trainer calls it.

    Args:
        f: the function.
        name: of the argument by which it was given.
    """
    wanted = ("messages", "row", *FURTHER.get(name, ()))
    remedy = f"Write def {name}({', '.join(wanted)}): it returns {RETURNS[name]}."
    if name in RANDOM:
        remedy += " If it draws random numbers, let it take rng too, a numpy.random.Generator."
    if inspect.isclass(f):
        raise TypeError(f"{name} is the class {f.__name__}: pass an object of it, {f.__name__}(...). {remedy}")
    if not callable(f):
        raise TypeError(f"{name} is not a function, but {f!r:.60}. {remedy}")
    try:
        check_arguments(functools.partial(f, rng=None) if name in RANDOM and _takes_rng(f) else f, wanted, name)
    except TypeError as error:
        raise TypeError(f"{error} {remedy}") from None


def with_rng(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that hands on its last argument, a random generator, if `function` takes one as `rng`."""
    if _takes_rng(function):
        return lambda *args: function(*args[:-1], rng=args[-1])
    return lambda *args: function(*args[:-1])


def _takes_rng(function: Callable[..., Any]) -> bool:
    try:
        return "rng" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
