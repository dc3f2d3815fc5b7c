"""Types that recur in many signatures, in the paper's letters.

The values of a process and of a distribution are PyTrees of arrays. They are declared as `Any`, because type checkers
report jaxtyping's `PyTree` as an unknown type.
"""

from typing import Any, Literal, TypeAlias

# The two readings of an action: as an intervention, do(a), and as an observation, a.
Mark: TypeAlias = Literal["do", "see"]

Theta: TypeAlias = Any
Action: TypeAlias = Any
Observation: TypeAlias = Any
# A value of any distribution.
Value: TypeAlias = Any
