"""`KeyboardExpert`: a person at the keyboard who knows the context."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import numpy as np

from undelude._asking import QUIT, QuitError, ask


class KeyboardExpert:
    """A person who is shown the context and answers what they would do now: the expert of a `ug.HostWorld`.

    Each question shows what `env.render()` returns, if it is text (`render_mode="ansi"`), or the observation; the
    context; and the keys of the actions that can be taken. The answer is a key and Enter; q ends with
    `KeyboardInterrupt`. One environment, with Discrete actions, plays at a time.

    Args:
        keys: the action of each key, such as `{"a": 0, "d": 2}`; by default the numbers of the actions.
        describe: `context -> text`; by default the context itself.
        input: where answers are read from; by default the terminal.
        output: where questions are shown; by default the terminal.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: a key is q, or is longer than a word.
    """

    def __init__(
        self,
        keys: Mapping[str, int] | None = None,
        *,
        describe: Callable[[Any], str] = str,
        input: TextIO | None = None,
        output: TextIO | None = None,
    ):
        if keys is not None and not (isinstance(keys, Mapping) and keys and all(isinstance(k, str) for k in keys)):
            raise TypeError(f'KeyboardExpert: keys must be a dictionary such as {{"a": 0, "d": 1}}, not {keys!r}.')
        for key in keys or ():
            if key != key.strip().lower() or not key or key in QUIT:
                raise ValueError(f"KeyboardExpert: {key!r} cannot be a key: take lower case, and not q, which quits.")
        self.keys = None if keys is None else dict(keys)
        self.describe, self.input, self.output = describe, input, output
        self.num_asked = 0

    def __call__(self, observation: Any, context: Any) -> Any:
        """Raise a `TypeError`: the world asks, because a question shows its environment."""
        raise TypeError("a KeyboardExpert is asked by ug.HostWorld: give it as expert=.")

    def action(self, env: Any, observation: Any, context: Any, allowed: np.ndarray | None = None) -> int:
        """Return the action of the environment that the person chooses.

        Args:
            env: the environment, to be drawn.
            observation: the whole one.
            context: which the person is told.
            allowed: the mask of actions; None if all can be taken.

        Raises:
            RuntimeError: there is no terminal to ask at.
            KeyboardInterrupt: the person quits.
        """
        source, out = self.input or sys.stdin, self.output or sys.stderr
        if self.input is None and not source.isatty():
            raise RuntimeError(
                "KeyboardExpert: there is no terminal, and so no person to ask. Run this in a terminal, or give input=."
            )
        start, n = int(env.action_space.start), int(env.action_space.n)
        keys = {str(a): a for a in range(start, start + n)} if self.keys is None else self.keys
        if allowed is not None:
            keys = {key: a for key, a in keys.items() if allowed[a - start] > 0}
        self.num_asked += 1

        def say(line: str) -> None:
            print(line, file=out, flush=True)

        def read() -> str:
            print(f"What now? [{', '.join(keys)}, q: quit] ", end="", file=out, flush=True)
            if not (line := source.readline()):
                raise EOFError
            return line

        drawn = env.render() if getattr(env, "render_mode", None) == "ansi" else None
        say(f"\n{drawn if isinstance(drawn, str) else observation}\nYou know: {self.describe(context)}")
        try:
            return keys[ask(read, say, keys, echoes=not source.isatty())]
        except QuitError:
            raise KeyboardInterrupt from None

    def check(self, action_space: Any) -> None:
        """Raise an error if the person could not give every action of a space.

        Raises:
            TypeError: actions are not Discrete.
            ValueError: an action has no key, or a key has no action.
        """
        if type(action_space).__name__ != "Discrete":
            raise TypeError(f"KeyboardExpert is for Discrete actions, not for {action_space}.")
        actions = range(int(action_space.start), int(action_space.start) + int(action_space.n))
        if self.keys is not None and set(self.keys.values()) != set(actions):
            raise ValueError(
                f"KeyboardExpert: the keys give the actions {sorted(set(self.keys.values()))}, and the environment has "
                f"{actions.start} to {actions.stop - 1}: each needs a key."
            )
