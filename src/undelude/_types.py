"""Types that recur in many signatures, in the paper's letters."""

from typing import Literal

from jaxtyping import PyTree

Mark = Literal["do", "see"]


Theta = PyTree


Action = PyTree


Observation = PyTree
