"""The example episode in a `certificate.json`, checked and converted to arrays."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int

READERS = ("agent", "exact_do", "exact_see")
# Number of episodes that the example was chosen from, if the file does not say.
CHOSEN_FROM = 256


@dataclasses.dataclass(frozen=True)
class ExampleEpisode:
    """One episode as the agent and both exact answers read it.

    Attributes:
        theta: `[T + 1]`, the true index before each round and after the last.
        opening: the observation before the first action, or None.
        actions: `[T]`.
        observations: `[T]`, or None if they are not plain symbols.
        descriptions: `T` observations in the task's words, or None if the task has none.
        rewards: `[T]`.
        policy: the policy of each of `READERS`, `[T + 1, A]`.
        belief: the belief of each of `READERS`, `[T + 1, K]`, or None if its policy implies none.
        num_episodes: number of episodes that this one was chosen from.
    """

    theta: Int[np.ndarray, " T1"]
    opening: Any
    actions: Int[np.ndarray, " T"]
    observations: Int[np.ndarray, " T"] | None
    descriptions: list[str] | None
    rewards: Float[np.ndarray, " T"]
    policy: dict[str, Float[np.ndarray, "T1 A"]]
    belief: dict[str, Float[np.ndarray, "T1 K"] | None]
    num_episodes: int

    @property
    def num_rounds(self) -> int:
        """`T`."""
        return len(self.actions)

    @property
    def distributions(self) -> tuple[str, dict[str, np.ndarray]]:
        """The strips to show: `("theta", beliefs)` if the agent's policy implies them, else `("action", policies)`."""
        beliefs = {name: b for name, b in self.belief.items() if b is not None}
        return ("theta", beliefs) if len(beliefs) == len(READERS) else ("action", self.policy)


def parse_episode(data: Any) -> ExampleEpisode:
    """Check an episode and convert it to arrays.

    Args:
        data: JSON, as `undelude._certificate.example_episode` returns it.

    Raises:
        ValueError: it is not such an episode; the message continues the name of the file.
    """
    try:
        rewards = np.asarray(data["rewards"], dtype=float)
        T = len(rewards)
        theta, actions = np.asarray(data["theta"]), np.asarray(data["actions"])
        policy = {name: np.asarray(data["policy"][name], dtype=float) for name in READERS}
        belief = {name: None if (b := data["belief"][name]) is None else np.asarray(b, dtype=float) for name in READERS}
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"its episode cannot be read ({type(error).__name__}: {error})") from error
    if problem := _misfit(T, theta, actions, policy, belief):
        raise ValueError(f"its episode of {T} rounds {problem}")
    return ExampleEpisode(
        theta=np.full(T + 1, theta) if theta.ndim == 0 else theta,
        opening=data.get("opening"),
        actions=actions,
        observations=_symbols(data.get("observations"), T),
        descriptions=_descriptions(data.get("said"), T),
        rewards=rewards,
        policy=policy,
        belief=belief,
        num_episodes=data.get("num_episodes", CHOSEN_FROM),
    )


def _misfit(T: int, theta: np.ndarray, actions: np.ndarray, policy: dict, belief: dict) -> str | None:
    if T == 0:
        return "is empty"
    beliefs = [b for b in belief.values() if b is not None]
    for name, symbols, shapes, distributions in (
        ("actions", actions, [(T,)], list(policy.values())),
        ("theta", theta, [(), (T + 1,)], beliefs),
    ):
        if any(
            distribution.ndim != 2
            or distribution.shape != (T + 1, distributions[0].shape[1])
            or not np.isfinite(distribution).all()
            for distribution in distributions
        ):
            return f"needs {T + 1} rows of finite probabilities of {name}"
        top = min([distribution.shape[1] for distribution in distributions], default=np.inf)
        if symbols.dtype.kind not in "iu" or symbols.shape not in shapes or symbols.min() < 0 or symbols.max() >= top:
            return f"has {name} that are not indices, one a round"
    return None


def _symbols(data: Any, T: int) -> np.ndarray | None:
    if not (isinstance(data, list) and len(data) == T and all(isinstance(x, int) for x in data)):
        return None
    return np.asarray(data)


def _descriptions(data: Any, T: int) -> list[str] | None:
    fits = isinstance(data, list) and len(data) == T and all(isinstance(x, str) and len(x) < 100 for x in data)
    return data if fits and any(data) else None
