"""Exact distributions over the dialogues of the menu, by enumeration in NumPy; no network, no agent of the library.

Two dialogues that differ only in the names of the dishes have the same probability. One of each such class is
enumerated: its dishes are numbered in the order in which they were first named.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int

import undelude as ud
from undelude.tasks.menu import AGAIN, YES

DISHES = ("tacos", "soup", "cheeseburgers", "pizza", "salad")
TURNS = 6

# For each turn, the probabilities of the next dish after each history.
Policy = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Histories:
    """The histories before one turn, one of each class.

    Attributes:
        parent: the index of the history before the last turn.
        last: the dish that was named last.
        reply: the last reply.
        count: the number of histories in the class.
        pi: `prod_t pi_theta(a_t)`, the expert's probability of the dishes that were named.
        nature: `prod_t Q(o_t | theta, a_t)`.
        named: the number of different dishes that were named.
    """

    parent: Int[np.ndarray, " N"]
    last: Int[np.ndarray, " N"]
    reply: Int[np.ndarray, " N"]
    count: Float[np.ndarray, " N"]
    pi: Float[np.ndarray, "N K"]
    nature: Float[np.ndarray, "N K"]
    named: Int[np.ndarray, " N"]


@dataclasses.dataclass(frozen=True)
class Dialogues:
    """The menu with `K` dishes of one word; the arguments are those of `ud.tasks.menu`."""

    num_dishes: int = len(DISHES)
    expert_accuracy: float = 0.9
    reply: tuple[float, float] = (0.75, 0.25)
    no_answer: float = 0.2
    num_turns: int = TURNS

    @property
    def parameters(self) -> dict[str, Any]:
        """The arguments of `ud.tasks.menu`."""
        fields = dataclasses.asdict(self)
        return {"dishes": DISHES[: fields.pop("num_dishes")], **fields}

    @functools.cached_property
    def process(self) -> ud.InteractionProcess:
        """The process of the library."""
        return ud.tasks.menu(**self.parameters)

    @property
    def expert(self) -> Float[np.ndarray, "K K"]:
        """The expert's probability of each dish given theta, on the first axis."""
        K = self.num_dishes
        return np.where(np.eye(K, dtype=bool), self.expert_accuracy, (1 - self.expert_accuracy) / (K - 1))

    @property
    def replies(self) -> Float[np.ndarray, "2 3"]:
        """The probabilities of no, yes and no answer, after another dish than theta and after theta."""
        yes = np.array(self.reply[::-1])
        answers = np.stack([1 - yes, yes], axis=-1) * (1 - self.no_answer)
        return np.concatenate([answers, np.full((2, 1), self.no_answer)], axis=-1)

    @functools.cached_property
    def histories(self) -> tuple[Histories, ...]:
        """The histories before each turn."""
        K, one = self.num_dishes, np.ones((1, self.num_dishes))
        zero = np.zeros(1, int)
        levels = [Histories(zero, zero, zero, np.ones(1), one, one, zero)]
        for _ in range(self.num_turns - 1):
            h = levels[-1]
            n, a, o = np.meshgrid(np.arange(len(h.count)), np.arange(K), np.arange(3), indexing="ij")
            possible = a <= h.named[n]
            n, a, o = n[possible], a[possible], o[possible]
            is_new = a == h.named[n]
            right = np.arange(K) == a[:, None]
            levels.append(
                Histories(
                    parent=n,
                    last=a,
                    reply=o,
                    count=h.count[n] * np.where(is_new, K - h.named[n], 1),
                    pi=h.pi[n] * self.expert[:, a].T,
                    nature=h.nature[n] * self.replies[right.astype(int), o[:, None]],
                    named=h.named[n] + is_new,
                )
            )
        return tuple(levels)

    def answers(self, evidence: tuple[np.ndarray, ...] | None = None) -> Policy:
        """Return `sum_theta Q(theta | h) pi_theta` with `Q(theta | h) ∝ evidence(h, theta) prod_t Q(o_t | theta, a_t)`.

        Without evidence that is `Q(A | do(a), o)`.
        """
        evidence = evidence or tuple(np.ones_like(h.nature) for h in self.histories)
        return tuple(normalised(h.nature * e) @ self.expert for h, e in zip(self.histories, evidence, strict=True))

    @functools.cached_property
    def do(self) -> Policy:
        """The interventional answer."""
        return self.answers()

    @functools.cached_property
    def see(self) -> Policy:
        """The deluded answer."""
        return self.answers(tuple(h.pi for h in self.histories))

    @property
    def uniform(self) -> Policy:
        """The policy of an agent that has learned nothing."""
        return tuple(np.full_like(h.nature, 1 / self.num_dishes) for h in self.histories)

    def unmarked(self, share: float, *, per: str = "episode") -> Policy:
        """Return the limit of a teaching without marks in which the expert executes a share of episodes or of steps.

        Per episode the evidence is `share prod_t pi_theta(a_t) + (1 - share) prod_t P(a_t | h_t)`; per step the
        product over t of the bracket.
        """
        policy: list[np.ndarray] = []
        K = self.num_dishes
        own, steps = np.ones((1, 1)), np.ones((1, K))
        for t, h in enumerate(self.histories):
            if t > 0:
                P = policy[-1][h.parent, h.last][:, None]
                own = own[h.parent] * P
                steps = steps[h.parent] * (share * self.expert[:, h.last].T + (1 - share) * P)
            evidence = steps if per == "step" else share * h.pi + (1 - share) * own
            policy.append(normalised(h.nature * evidence) @ self.expert)
        return tuple(policy)

    def evidence(self, policy: Policy, expert_share: float = 0.0) -> tuple[np.ndarray, ...]:
        """Return `prod_t [q pi_theta(a_t) + (1 - q) P(a_t | h_t)]`: each turn is the expert's with probability q."""
        found = [np.ones((1, self.num_dishes))]
        for h, P in zip(self.histories[1:], policy, strict=False):
            written = expert_share * self.expert[:, h.last].T + (1 - expert_share) * P[h.parent, h.last][:, None]
            found.append(found[-1][h.parent] * written)
        return tuple(found)

    def weights(self, policy: Policy) -> tuple[np.ndarray, ...]:
        """Return the probability of each class of histories before each turn, in dialogues of the policy."""
        each = zip(self.histories, self.evidence(policy), strict=True)
        return tuple(h.count * (h.nature * e).mean(-1) for h, e in each)

    def kl(self, policy: Policy) -> Float[np.ndarray, " T"]:
        """Return KL(Q(A | do(a), o) || P) at each turn, nats, on the policy's own histories."""
        each = zip(self.weights(policy), self.do, policy, strict=True)
        return np.array([w @ (do * np.log(do / P)).sum(-1) for w, do, P in each])

    def repeat(self, policy: Policy) -> float:
        """Return the probability that the first dish is named again if the customer does not answer."""
        h = self.histories[1]
        return float(policy[1][(h.last == 0) & (h.reply == AGAIN), 0].item())

    def hit(self, policy: Policy) -> float:
        """Return the probability that the right dish is named in the last turn."""
        each = self.histories[-1], self.evidence(policy)[-1], policy[-1]
        h, evidence, P = each
        return float(h.count @ (h.nature * evidence * P).mean(-1))

    def next_generation(self, policy: Policy, *, people: float = 0.0, expert_share: float = 0.0) -> Policy:
        """Return the limit of a learner without marks on a corpus that `policy` wrote, all of whose words are targets.

        Args:
            policy: of the last generation.
            people: the share of dialogues that the expert wrote alone.
            expert_share: the probability that the expert writes a turn of the other dialogues.
        """
        learned = []
        for h, e, P in zip(self.histories, self.evidence(policy, expert_share), policy, strict=True):
            theirs, shared = people * h.pi * h.nature, (1 - people) * e * h.nature
            by_expert = (theirs + expert_share * shared) @ self.expert
            learned.append(normalised(by_expert + (1 - expert_share) * shared.sum(-1, keepdims=True) * P))
        return tuple(learned)

    def confirms(self, share: float) -> float:
        """Return the probability of yes to the first dish, learned without marks if the expert wrote a share."""
        belief = normalised(share * self.expert[:, 0] + (1 - share) / self.num_dishes)
        return float(belief @ self.replies[(np.arange(self.num_dishes) == 0).astype(int), YES])


def normalised(x: np.ndarray) -> np.ndarray:
    """Return positive numbers divided by their sum over the last axis."""
    return x / x.sum(-1, keepdims=True)


def interval(x: list[float] | np.ndarray) -> list[float]:
    """Return the 95 % confidence interval of the mean of a few seeds, by Student's t."""
    x = np.asarray(x, float)
    half = T_95[len(x) - 1] * x.std(ddof=1) / math.sqrt(len(x))
    return [float(x.mean() - half), float(x.mean() + half)]


# The 97.5 % quantiles of Student's t, by degrees of freedom.
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}

# The default replies, and replies that are always right if there are any.
WORLDS = {"default": Dialogues(), "crisp": Dialogues(reply=(1.0, 0.0), no_answer=0.5)}
