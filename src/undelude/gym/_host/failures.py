"""Episodes that were lost to failures of their environment."""

from collections import Counter

# Of the first episodes few are lost by chance: a share counts over so many at least.
MIN_PLAYED = 64


class Failures:
    """How many episodes were lost, by cause and context, and how many may be.

    Args:
        name: of the world, for messages.
        most: the share of episodes that may be lost, of 64 as long as fewer were played.

    Attributes:
        counts: by `(cause, theta)`.
        num_played: all episodes so far.
    """

    def __init__(self, name: str, most: float):
        self.name, self.most = name, most
        self.counts: Counter[tuple[str, int]] = Counter()
        self.num_played, self.last = 0, ""

    def add(self, cause: str, theta: int, message: str) -> None:
        """Count an episode that was lost.

        Raises:
            RuntimeError: too many were.
        """
        self.counts[cause, theta] += 1
        self.last = message
        if (lost := self.counts.total()) > self.most * max(self.num_played, MIN_PLAYED):
            raise RuntimeError(
                f"{self.name}: {lost} of {self.num_played} episodes were lost, more than "
                f"max_failures={self.most:g}: {self._causes}. The last: {self.last}"
            )

    @property
    def _causes(self) -> str:
        causes: Counter[str] = Counter()
        for (cause, _), n in self.counts.items():
            causes[cause] += n
        return ", ".join(f"{n} by {cause}" for cause, n in causes.items())

    def in_words(self) -> str | None:
        """Return how many episodes were lost, by cause and context; None if none was."""
        if not self.counts:
            return None
        of_theta: Counter[int] = Counter()
        for (_, k), n in self.counts.items():
            of_theta[k] += n
        contexts = ", ".join(f"{n} of context {k}" for k, n in sorted(of_theta.items()))
        return (
            f"{self.counts.total()} of {self.num_played} episodes so far were lost to failures and played again: "
            f"{self._causes}; {contexts}. Failures that depend on theta bias what is left. The last: {self.last}"
        )
