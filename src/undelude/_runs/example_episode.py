"""The example episode in a `certificate.json`, checked and converted to arrays."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from undelude._runs.certificate_file import LARGEST, ROUNDING

READERS = ("agent", "exact_do", "exact_see")
# Number of episodes that the example was chosen from, if the file does not say.
CHOSEN_FROM = 256


@dataclasses.dataclass(frozen=True)
class ExampleEpisode:
    """One episode as the agent and both exact answers read it.

    Attributes:
        theta: `[T + 1]`, the true index before each round and after the last.
        opening: the observation before the first action, or None.
        actions: `[T]`, whole numbers if there are policies; if they are not symbols, `[T, D]`, the numbers of each.
        observations: `[T]`, or None if they are not plain symbols.
        descriptions: `T` observations in the task's words, or None if the task has none.
        action_descriptions: `T` actions in the task's words, or None if the task has none.
        theta_descriptions: the values of theta in the task's words, or None if the task has none.
        rewards: `[T]`.
        policy: the policy of each of `READERS`, `[T + 1, A]`; None if actions are not symbols, or the agent does not
            predict them.
        belief: the belief of each of `READERS`, `[T + 1, K]`, or None if its policy implies none.
        num_episodes: number of episodes that this one was chosen from.
    """

    theta: Int[np.ndarray, " T1"]
    opening: Any
    actions: Int[np.ndarray, " T"] | Float[np.ndarray, "T *D"]
    observations: Int[np.ndarray, " T"] | None
    descriptions: list[str] | None
    action_descriptions: list[str] | None
    theta_descriptions: list[str] | None
    rewards: Float[np.ndarray, " T"]
    policy: dict[str, Float[np.ndarray, "T1 A"]] | None
    belief: dict[str, Float[np.ndarray, "T1 K"] | None]
    num_episodes: int

    @property
    def num_rounds(self) -> int:
        """`T`."""
        return len(self.actions)

    def name(self, variable: str, value: int) -> str:
        """Return a value of `"theta"` or `"action"` in a sentence: theta in the task's words, if it has any."""
        if variable == "theta" and self.theta_descriptions is not None:
            return self.theta_descriptions[value]
        return f"{variable} {value}"

    @property
    def distributions(self) -> tuple[str, dict[str, np.ndarray]]:
        """The strips to show: `("theta", beliefs)` if the agent's policy implies one, else `("action", policies)`.

        Without policies, the beliefs of the exact answers.
        """
        beliefs = {name: b for name, b in self.belief.items() if b is not None}
        return ("theta", beliefs) if "agent" in beliefs or self.policy is None else ("action", self.policy)


def parse_episode(data: Any) -> ExampleEpisode:
    """Check an episode and convert it to arrays.

    Args:
        data: JSON, as `undelude._certificate.example_episode` returns it.

    Raises:
        ValueError: it is not such an episode; the message continues the name of the file.
    """
    if not isinstance(data, dict):
        raise ValueError("its episode is not a JSON object")
    rewards = _array(data, "rewards", float)
    T = len(rewards) if rewards.ndim == 1 else 0
    theta, beliefs = _array(data, "theta", int), _readings(data, "belief")
    if data.get("policy", 0) is None:
        policy, actions = None, _array(data, "actions", float)
    else:
        policies, actions = _readings(data, "policy"), _array(data, "actions", int)
        policy = {name: _array(policies, name, float) for name in READERS}
    belief = {name: None if beliefs[name] is None else _array(beliefs, name, float) for name in READERS}
    if problem := _misfit(T, theta, actions, policy, belief):
        raise ValueError(f"its episode of {T} rounds {problem}")
    return ExampleEpisode(
        theta=np.full(T + 1, theta) if theta.ndim == 0 else theta,
        opening=data.get("opening"),
        actions=actions,
        observations=_symbols(data.get("observations"), T),
        descriptions=_descriptions(data.get("said"), T),
        action_descriptions=_descriptions(data.get("said_actions"), T),
        theta_descriptions=_descriptions(data.get("said_thetas"), _num_thetas(belief)),
        rewards=rewards,
        policy=policy,
        belief=belief,
        num_episodes=_count(data.get("num_episodes", CHOSEN_FROM)),
    )


def _num_thetas(belief: dict[str, np.ndarray | None]) -> int:
    """Return K; 0 without beliefs."""
    return max((b.shape[-1] for b in belief.values() if b is not None and b.ndim), default=0)


def _readings(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the entry `name` of an episode, which has an entry for each of `READERS`."""
    found = data.get(name)
    if not (isinstance(found, dict) and all(reader in found for reader in READERS)):
        raise ValueError(f"the {name} of its episode must have the entries {', '.join(READERS)}")
    return found


def _array(data: dict[str, Any], name: str, kind: type) -> np.ndarray:
    """Return an entry of numbers as an array; raise `ValueError` if it has anything else or rows of other lengths."""
    types = (int,) if kind is int else (int, float)
    try:
        if _has_only(found := data.get(name), types):
            return np.asarray(found, dtype=kind)
    except (ValueError, OverflowError, RecursionError):  # From NumPy; its messages do not name the entry.
        pass
    raise ValueError(
        f"{name} in its episode must be {'indices' if kind is int else 'numbers'}, in rows of equal length"
    )


def _has_only(x: Any, types: tuple[type, ...]) -> bool:
    """Return whether nested lists hold nothing but numbers of these types, of a size that can be drawn."""
    if isinstance(x, list):
        return all(_has_only(y, types) for y in x)
    return type(x) in types and abs(x) <= LARGEST


def _count(x: Any) -> int:
    if not (type(x) is int and 1 <= x < 2**63):
        raise ValueError(f"num_episodes of its episode must be a whole number of at least 1, not {x!r:.99}")
    return x


def _misfit(T: int, theta: np.ndarray, actions: np.ndarray, policy: dict | None, belief: dict) -> str | None:
    if T == 0:
        return "is empty"
    beliefs = [b for b in belief.values() if b is not None]
    checks = [("theta", theta, [(), (T + 1,)], beliefs)]
    if policy is not None:
        checks.insert(0, ("actions", actions, [(T,)], list(policy.values())))
    elif actions.ndim not in (1, 2) or len(actions) != T or actions.size == 0:
        return "has actions that are not numbers, one row a round"
    elif any(belief[name] is None for name in READERS[1:]):
        return "has neither policies nor both exact beliefs"
    for name, symbols, shapes, distributions in checks:
        if any(
            distribution.ndim != 2
            or distribution.shape != (T + 1, distributions[0].shape[1])
            or not (distribution >= 0).all()
            or not np.allclose(distribution.sum(-1), 1, atol=ROUNDING)
            for distribution in distributions
        ):
            return f"needs {T + 1} rows of probabilities of {name}"
        top = min([distribution.shape[1] for distribution in distributions], default=np.inf)
        if symbols.shape not in shapes or symbols.min() < 0 or symbols.max() >= top:
            return f"has {name} that are not indices, one a round"
    return None


def _symbols(data: Any, T: int) -> np.ndarray | None:
    if not (isinstance(data, list) and len(data) == T and all(type(x) is int and abs(x) < 2**63 for x in data)):
        return None
    return np.asarray(data)


def _descriptions(data: Any, T: int) -> list[str] | None:
    fits = isinstance(data, list) and len(data) == T and all(isinstance(x, str) and len(x) < 100 for x in data)
    return data if fits and any(data) else None
