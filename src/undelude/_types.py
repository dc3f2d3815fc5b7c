"""Types that recur in many signatures, in the paper's letters.

The values of a process and of a distribution are PyTrees of arrays. They are declared as `Any`, because type checkers
report jaxtyping's `PyTree` as an unknown type.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from typing_extensions import TypeVar

# The two readings of an action: as an intervention, do(a), and as evidence, a.
Mark: TypeAlias = Literal["do", "see"]
# What the prediction of an action is scored against, and how often the executor is drawn; see `Teaching`.
Target: TypeAlias = Literal["sample", "distribution", "posterior", "reverse"]
Per: TypeAlias = Literal["step", "episode"]
# A function of the number of parts that are done, of all parts, and of their name.
OnProgress: TypeAlias = Callable[[int, int, str], None]
# The largest integer of 32 bits, with which JAX counts.
MAX_COUNT = 2**31 - 1
# The greatest port of a TCP connection.
MAX_PORT = 65535

Theta: TypeAlias = Any
Action: TypeAlias = Any
Observation: TypeAlias = Any
# A value of any distribution.
Value: TypeAlias = Any
# The memory of an agent, of a task or of an expert.
Memory: TypeAlias = Any
# The state of a world.
State: TypeAlias = Any
# Each value of Theta with its probability; empty if Theta is continuous.
Belief: TypeAlias = Sequence[tuple[Theta, float]]

# What a task draws on: for type checkers only, because it needs Pillow.
if TYPE_CHECKING:
    from undelude._drawing.frame import Frame as Frame
else:
    Frame = Any

# The type variables of generic classes: a value of a distribution; the memories of an agent, of Nature and of the
# expert; the state of a world. `AbstractAgent` without brackets is `AbstractAgent[Any]`.
X = TypeVar("X", default=Any)
M = TypeVar("M", default=Any)
W = TypeVar("W", default=Any)
E = TypeVar("E", default=Any)
S = TypeVar("S", default=Any)
