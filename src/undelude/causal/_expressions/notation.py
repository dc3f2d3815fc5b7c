"""Expressions and queries in plain text and in LaTeX."""

import re
from collections.abc import Iterable, Mapping, Sequence

from undelude.causal._expressions.expression import Expression, Fraction, Probability, Product, Sum, free


class Text:
    """Expressions in plain text; primes tell bound variables from other variables of the same name."""

    times = " "

    def __init__(self, order: Sequence[str], first: Iterable[str] = (), top: Iterable[str] = ()):
        """Prepare to write expressions.

        Args:
            order: names from causes to effects.
            first: the names that come first among conditions.
            top: the names without a prime; a variable bound in an expression of these gets one.
        """
        self.place = {name: i for i, name in enumerate(order)}
        self.first, self.top = frozenset(first), frozenset(top)

    def query(self, asked: Sequence[str], do: Sequence[str], see: Sequence[str]) -> str:
        """Return the query `P(asked | do(..), see)`, in the order given."""
        of, done, seen = (list(map(self._name, names)) for names in (asked, do, see))
        return self._probability(", ".join(of), ", ".join([*map(self._do, done), *seen]))

    def show(self, x: Expression, shown: Mapping[str, str] | None = None) -> str:
        """Return an expression.

        Args:
            x: the expression.
            shown: the text of each name that is free in it; by default that of the names of `top`.
        """
        shown = {name: self._name(name) for name in self.top} if shown is None else shown
        match x:
            case Probability(of, given, do):
                done = [self._do(shown[name]) for name in sorted(do, key=self.place.__getitem__)]
                conditions = ", ".join([*done, *self._conditions(given, shown)])
                return self._probability(self._in_order(of, shown), conditions)
            case Product(factors):
                # Effects before causes, sums last, as in textbooks; a sum extends to the end of the product.
                ordered = sorted(factors, key=self._key)
                parts = [self.show(factor, shown) for factor in ordered]
                bracket = [
                    isinstance(y, Fraction) or (isinstance(y, Sum) and i + 1 < len(ordered))
                    for i, y in enumerate(ordered)
                ]
                return (
                    self.times.join(
                        self._bracket(p, y) if b else p for p, y, b in zip(parts, ordered, bracket, strict=True)
                    )
                    or "1"
                )
            case Sum(over, body):
                inner = dict(shown)
                for name in over:
                    label = self._name(name)
                    while label in shown.values():
                        label += "'"
                    inner[name] = label
                return self._sum(self._in_order(over, inner), self.show(body, inner), len(over))
            case Fraction(numerator, denominator):
                return self._fraction(*(self._part(self.show(y, shown), y) for y in (numerator, denominator)))

    def _key(self, x: Expression) -> tuple:
        """Return the sort key of a factor: probabilities, fractions, sums; effects before causes."""
        kind = [Probability, Fraction, Sum].index(type(x))
        heads = x.of if isinstance(x, Probability) else free(x)
        return kind, sorted(-self.place[name] for name in heads), sorted(free(x))

    def _conditions(self, names: Iterable[str], shown: Mapping[str, str]) -> list[str]:
        """Return the conditions: the names of `first`, then effects before causes, as in P(o | a, z)."""
        return [shown[name] for name in sorted(names, key=lambda x: (x not in self.first, -self.place[x]))]

    def _in_order(self, names: Iterable[str], shown: Mapping[str, str]) -> str:
        return ", ".join(shown[name] for name in sorted(names, key=self.place.__getitem__))

    def _name(self, name: str) -> str:
        return name

    def _do(self, name: str) -> str:
        return f"do({name})"

    def _probability(self, of: str, given: str) -> str:
        return f"P({of} | {given})" if given else f"P({of})"

    def _sum(self, over: str, body: str, count: int) -> str:
        return f"sum_{{{over}}} {body}" if count > 1 or " " in over else f"sum_{over} {body}"

    def _fraction(self, numerator: str, denominator: str) -> str:
        return f"{numerator} / {denominator}"

    def _part(self, text: str, x: Expression) -> str:
        return text if isinstance(x, Probability) else f"[{text}]"

    def _bracket(self, text: str, x: Expression) -> str:
        return f"({text})"


_GREEK = re.compile(
    "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|iota|kappa|lambda|mu|nu|xi|pi|rho|sigma|tau|upsilon|phi|chi|psi|omega"
    "|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
)
# A name, and its last suffixes that are short or numbers.
_SUFFIXES = re.compile(r"(.+?)((?:_(?:[^\W_]{1,2}|\d+))*)", re.DOTALL)
# Characters with a meaning in LaTeX, and the space, as mathematics writes them.
_SPECIAL = {
    **{x: f"\\{x}" for x in "%&#_${} "},
    "\\": r"\backslash{}",
    "^": r"\hat{}",
    "~": r"\sim{}",
}


class Latex(Text):
    """Expressions in LaTeX, for math mode."""

    times = r" \, "

    def _name(self, name: str) -> str:
        name, equals, value = name.partition("=")
        return f"{latex_name(name)}={_upright(value)}" if equals else latex_name(name)

    def _do(self, name: str) -> str:
        return rf"\mathrm{{do}}({name})"

    def _probability(self, of: str, given: str) -> str:
        return f"P({of} \\mid {given})" if given else f"P({of})"

    def _sum(self, over: str, body: str, count: int) -> str:
        return f"\\sum_{{{over}}} {body}"

    def _fraction(self, numerator: str, denominator: str) -> str:
        return f"\\frac{{{numerator}}}{{{denominator}}}"

    def _part(self, text: str, x: Expression) -> str:
        return text

    def _bracket(self, text: str, x: Expression) -> str:
        return text if isinstance(x, Fraction) else f"\\Big({text}\\Big)"


def latex_name(name: str) -> str:
    r"""Return a variable's name in LaTeX, for mathematics: a Greek letter, or upright if it has several letters.

    Suffixes of one or two characters, or of digits, are subscripts. The latent cause of a bidirected edge is the edge.

    >>> print(latex_name("Theta_1"), latex_name("blood_pressure_10"), latex_name("50% dose"))
    \Theta_{1} \mathrm{blood\_pressure}_{10} \mathrm{50\%\ dose}
    """
    if " <-> " in name:
        return "(" + r" \leftrightarrow ".join(map(latex_name, name.split(" <-> "))) + ")"
    found = _SUFFIXES.fullmatch(name)
    stem, suffixes = found.groups() if found else (name, "")
    stem = f"\\{stem}" if _GREEK.fullmatch(stem) else _upright(stem)
    return f"{stem}_{{{suffixes[1:].replace('_', ',')}}}" if suffixes else stem


def _upright(text: str) -> str:
    """Return a text in LaTeX, for mathematics: upright, unless it is one letter or digit."""
    if len(text) == 1 and text.isalnum():
        return text
    return f"\\mathrm{{{''.join(_SPECIAL.get(x, x) for x in text)}}}"


def written_query(asked: Iterable[str], do: Iterable[str], see: Iterable[str]) -> str:
    """Return the text of the query `P(asked | do(..), see)`."""
    of, done, seen = (short_list(list(names)) for names in (asked, (f"do({name})" for name in do), see))
    return f"P({', '.join(of)}{' | ' if done or seen else ''}{', '.join([*done, *seen])})"


def short_list(names: list[str]) -> list[str]:
    """Return at most six names: of more, the first three, an ellipsis and the last."""
    return names if len(names) <= 6 else [*names[:3], "...", names[-1]]
