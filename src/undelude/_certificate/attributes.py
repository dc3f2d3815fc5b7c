"""The attributes of a certificate by which its quantities are read: `report.reward`, `report.reward_se`."""

import math
from typing import Any, overload


class Measured:
    """An attribute of `Certificate` that returns the value of the quantity of the same name.

    Args:
        low: the least value that the quantity can have.
        high: the greatest.
    """

    name: str

    def __init__(self, low: float = -math.inf, high: float = math.inf):
        self.low, self.high = low, high

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, certificate: None, owner: type) -> "Measured": ...

    @overload
    def __get__(self, certificate: object, owner: type) -> float | None: ...

    def __get__(self, certificate: Any, owner: type) -> "Measured | float | None":
        """Return the value; on the class, the attribute itself."""
        return self if certificate is None else certificate.quantities[self.name].value


class StandardError:
    """An attribute of `Certificate` that returns the standard error of a quantity."""

    def __init__(self, measured: Measured):
        self.measured = measured

    @overload
    def __get__(self, certificate: None, owner: type) -> "StandardError": ...

    @overload
    def __get__(self, certificate: object, owner: type) -> float | None: ...

    def __get__(self, certificate: Any, owner: type) -> "StandardError | float | None":
        """Return the standard error; on the class, the attribute itself."""
        return self if certificate is None else certificate.quantities[self.measured.name].standard_error
