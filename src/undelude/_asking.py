"""Questions to a person at a terminal, which are answered by a key and Enter."""

from collections.abc import Callable, Collection

# What ends the questions.
QUIT = ("q", "quit")


class QuitError(Exception):
    """The request of the person to end, or the end of the input."""


def ask(
    read: Callable[[], str],
    say: Callable[[str], None],
    answers: Collection[str],
    *,
    enter: bool = False,
    echoes: bool = False,
) -> str:
    """Return one of `answers`, in lower case; ask again after anything else.

    Args:
        read: shows the question, and returns a line; at the end of the input it raises `EOFError`.
        say: shows a line.
        answers: the keys.
        enter: whether Enter alone is an answer too, "".
        echoes: whether the answer is shown again, for input that is not typed at the terminal.

    Raises:
        QuitError: the person answered q, or the input has ended.
    """
    while True:
        try:
            answer = read().strip().lower()
        except EOFError:
            raise QuitError from None
        if echoes:
            say(answer)
        if answer in QUIT:
            raise QuitError
        if answer in ("yes", "no") and "y" in answers:
            answer = answer[0]
        if answer in answers or (enter and not answer):
            return answer
        choices = [*answers, *(["Enter"] if enter else [])]
        say(f"    Please answer with {', '.join(choices)} or q.")
