"""The symbols of a process, in order, and the words for them."""

import dataclasses
import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from undelude._distributions import Block, GivenArray, Parts, Reals, Spec, Symbols
from undelude._inspector.values import MAX_PREDICTED, Values
from undelude._process.process import InteractionProcess
from undelude.tasks.game_words import Words, game_words

# Most blocks of symbols that are listed one by one.
MAX_BLOCKS = 512


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """The values of an action or of an observation.

    Attributes:
        values: `[n]`, symbols; or `[n, L]`, blocks of L symbols.
        labels: `n` short names.
        sentences: `n` names in full.
    """

    values: Int[np.ndarray, "n *L"]
    labels: tuple[str, ...]
    sentences: tuple[str, ...]

    # Shape and type of what a history holds.
    like: ClassVar[jax.ShapeDtypeStruct] = jax.ShapeDtypeStruct((), np.int32)

    def __len__(self) -> int:
        return len(self.values)

    def index(self, value: Any, what: str) -> int:
        """Return the index of a value; raise `ValueError`, which begins with `what`, if it is not one of the values."""
        key = tuple(value) if isinstance(value, list) else value
        kinds = {type(x) for x in (value if isinstance(value, list) else [value])}
        if kinds != {int} or key not in self._indices:
            some = ", ".join(str(x) for x in self.values[:4].tolist())
            raise ValueError(f"{what} must be one of {some}{', ...' if len(self) > 4 else ''}, not {value!r:.99}.")
        return self._indices[key]

    def of(self, i: Any) -> int:
        """Return an index as a history holds it."""
        return int(i)

    @functools.cached_property
    def _indices(self) -> dict[Any, int]:
        return {tuple(x) if isinstance(x, list) else x: i for i, x in enumerate(self.values.tolist())}

    def value(self, i: int) -> int | list[int]:
        """Return the value of an index, for JSON."""
        return self.values[i].tolist()

    def in_words(self) -> list[dict[str, Any]]:
        """Return the symbols with their names, for the page."""
        names = zip(self.labels, self.sentences, strict=True)
        return [{"label": label, "text": text, "value": self.value(i)} for i, (label, text) in enumerate(names)]


def symbols_of(values: Alphabet | Values) -> Any:
    """Return the values of an alphabet for a program; None of real numbers."""
    return jnp.asarray(values.values) if isinstance(values, Alphabet) else None


def alphabets(process: InteractionProcess) -> tuple[Alphabet | Values, Alphabet | Values, Words]:
    """Return the alphabets of actions and of observations, and the words of a process.

    Raises:
        TypeError: actions, or observations without their given parts, are not symbols, short blocks of them, or a few
            real numbers.
    """
    spec, part = process.observation_spec, scored_part(process)
    spec = spec.leaves[part] if isinstance(spec, Parts) and part is not None else spec
    A = _values(process, "actions", process.action_spec)
    O = _values(process, "observations", spec)
    words = game_words(process)
    return _actions(A, words), _observations(O, words, process), words


def _actions(A: Any, words: Words) -> Alphabet | Values:
    if isinstance(A, Values):
        return A
    labels = tuple(_action_label(words.action(x), x) for x in (row if row.ndim else np.int32(row) for row in A))
    return Alphabet(A, labels, labels)


def _observations(O: Any, words: Words, process: InteractionProcess) -> Alphabet | Values:
    if isinstance(O, Values):
        return O
    short = words.outcomes.short
    says = words.outcomes.says or _said(process, O) or tuple(map(str, O.tolist()))
    return Alphabet(O, short or tuple(map(_short, range(len(O)), says)), says)


def scored_part(process: InteractionProcess) -> int | None:
    """Return the place of the only part of an observation that is not given; None if it has no parts."""
    spec = process.observation_spec
    if not isinstance(spec, Parts):
        return None
    places = [i for i, leaf in enumerate(spec.leaves) if not isinstance(leaf, GivenArray)]
    return places[0] if len(places) == 1 else None


def _said(process: InteractionProcess, O: Int[np.ndarray, "n *L"]) -> tuple[str, ...]:
    """Return what the task says of each symbol; () if that depends on the given parts, or is not different for each."""
    spec = process.observation_spec
    if not isinstance(spec, Parts):
        return ()

    def said(fill: int) -> tuple[str, ...]:
        def observation(symbol: Any) -> Any:
            given = [x.value for x in spec.leaves]
            return spec.structure.unflatten(
                np.full(x.shape, fill, x.dtype) if i != scored_part(process) else symbol for i, x in enumerate(given)
            )

        return tuple(process.task.say(observation(symbol)) for symbol in O)

    try:
        texts, others = said(0), said(1)
    except Exception:  # The user's words need given parts as the task has them.
        return ()
    return texts if all(texts) and len({*texts}) == len(texts) and texts == others else ()


def _values(process: InteractionProcess, what: str, spec: Spec) -> Int[np.ndarray, "n *L"] | Values:
    match spec:
        case Symbols(n=int() as n):
            return np.arange(n, dtype=np.int32)
        case Block(length=length, n=n) if n**length <= MAX_BLOCKS:
            return np.stack(np.unravel_index(np.arange(n**length), (n,) * length), axis=-1).astype(np.int32)
        case Reals() if math.prod(spec.shape) <= MAX_PREDICTED:
            return Values(spec, f"{process.name}: {what}", most=MAX_PREDICTED)
    raise TypeError(
        f"{process.name} has {what} of {spec}, and the inspector shows symbols, at most {MAX_BLOCKS} blocks of them, "
        f"or at most {MAX_PREDICTED} real numbers. Look at such an episode with ud.film(process, episodes)."
    )


def _action_label(text: str, a: Any) -> str:
    """Return the name of an action without quotes and full stop; of a name without letters, its symbols too."""
    label, symbols = text.strip('".'), np.atleast_1d(a).tolist()
    return label or (f"({' '.join(map(str, symbols))})" if len(symbols) > 1 else text.strip('"') or str(a))


def _short(o: int, sentence: str) -> str:
    """Return the sentence if it is short, otherwise the number of the symbol."""
    text = sentence.rstrip(".")
    return text if 0 < len(text) <= 8 else str(o)
