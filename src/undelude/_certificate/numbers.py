"""Numbers as text."""

import math

# Largest number of decimals; more would show the rounding of 32-bit distributions.
MAX_DECIMALS = 6
# Size from which a number is written with an exponent.
LONG = 1e9
# Text for a missing number.
NONE = "\N{EN DASH}"


def short(x: float | None) -> str:
    """Format with two significant digits: `0.0029`, `0.11`."""
    if x is None:
        return NONE
    if math.isinf(x):
        return "∞"
    if abs(x) < 0.5 * 10**-MAX_DECIMALS:
        return "0"
    decimals = min(max(1 - math.floor(math.log10(abs(x))), 0), MAX_DECIMALS)
    return _fixed(x, decimals)


def loss(x: float | None) -> str:
    """Format with four decimals, for numbers that change in the third: `1.4471`."""
    return short(x) if x is None or math.isinf(x) else _fixed(x, 4)


def share(x: float) -> str:
    """Format with two decimals, for numbers whose unit is fixed: `0.98`."""
    return _fixed(round(x, 2) + 0.0, 2)


def with_error(x: float | None, error: float | None) -> str:
    """Format to the second digit of the standard error: `0.1118 ± 0.0014`."""
    if x is None or math.isinf(x) or not error or not math.isfinite(error):
        return short(x)
    decimals = min(max(1 - math.floor(math.log10(error)), 0), MAX_DECIMALS)
    least = 0.5 * 10**-MAX_DECIMALS
    if abs(x) + error < least:
        return "0"
    if error < least:
        return _fixed(x, decimals)
    # A line may break before the sign, never after it.
    return f"{_fixed(x, decimals)} ±\N{NO-BREAK SPACE}{_fixed(error, decimals)}"


def _fixed(x: float, decimals: int) -> str:
    text = f"{x:.{decimals}f}" if abs(x) < LONG else f"{x:.2g}"
    return text.replace("-", "\N{MINUS SIGN}")
