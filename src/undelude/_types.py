"""Types that recur in many signatures, in the paper's letters.

The values of a process and of a distribution are PyTrees of arrays. They are declared as `Any`, because type checkers
report jaxtyping's `PyTree` as an unknown type.
"""

from typing import Any, Literal, TypeAlias

# How an agent reads an action: as an intervention, do(a), or as an observation, a.
Mark: TypeAlias = Literal["do", "see"]

Theta: TypeAlias = Any
Action: TypeAlias = Any
Observation: TypeAlias = Any
# A value of any distribution.
Value: TypeAlias = Any
