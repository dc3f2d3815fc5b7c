"""Losses between a model's predictions and an expert's, in nats: the forward KL, and two that miss the answer."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]

# The answer is Q(A | do(a), o), the mean of the expert's predictions under the posterior of theta.
CONVERGES_TO = {
    "forward_kl": "the posterior mean of the expert's predictions, Q(A | do(a), o)",
    "reverse_kl": (
        "the normalised geometric mean of the expert's predictions under the posterior, "
        "p(a) ∝ exp E[log Q(a | theta)], which is more confident than Q(A | do(a), o)"
    ),
    "jsd": "neither the mean nor the geometric mean of the expert's predictions under the posterior",
}


@dataclasses.dataclass(frozen=True)
class Targets:
    """An expert's distributions of the next token at N positions: whole ones, or their largest parts.

    Attributes:
        log_probs: `[N, k]`, of the tokens in `ids`; filled up with -inf.
        ids: `[N, k]`, the tokens, without repetition among those of positive probability; None if they are all `V`
            tokens in order.
        tail: `[N]`, the logarithm of the probability of all other tokens together; None if they have none.

    >>> Targets.of_tokens(torch.tensor([3])).log_probs
    tensor([[0.]])
    """

    log_probs: Float[torch.Tensor, "N k"]
    ids: Int[torch.Tensor, "N k"] | None = None
    tail: Float[torch.Tensor, " N"] | None = None

    @staticmethod
    def of_tokens(ids: Int[torch.Tensor, " N"]) -> "Targets":
        """Return targets that are certain of one token each."""
        return Targets(torch.zeros(len(ids), 1, device=ids.device), ids[:, None])

    @staticmethod
    def concatenate(parts: Sequence["Targets"]) -> "Targets":
        """Return the targets of several groups of positions as one; whole distributions if any is whole."""
        if len(parts) == 1:
            return parts[0]
        devices = {part.log_probs.device for part in parts}
        if len(devices) > 1:  # Words are on the CPU, and a teacher's predictions where it is.
            device = next(x for x in devices if x.type != "cpu")
            parts = [part.to(device) for part in parts]
        if any(part.ids is None for part in parts):
            V = next(part.log_probs.shape[1] for part in parts if part.ids is None)
            if any(part.tail is not None for part in parts):
                raise ValueError(
                    "An expert must answer in one form: whole distributions, or the largest probabilities with a tail, "
                    "not both in one batch."
                )
            return Targets(torch.cat([part.dense(V) for part in parts]))
        width = max(part.log_probs.shape[1] for part in parts)

        def wide(x: torch.Tensor, fill: float | int) -> torch.Tensor:
            lacks = width - x.shape[1]
            return torch.nn.functional.pad(x, (0, lacks), value=fill) if lacks else x

        tail = None
        if any(part.tail is not None for part in parts):
            tail = torch.cat(
                [part.log_probs.new_full((len(part),), -math.inf) if part.tail is None else part.tail for part in parts]
            )
        log_probs = torch.cat([wide(part.log_probs, -math.inf) for part in parts])
        return Targets(log_probs, torch.cat([wide(part.ids, 0) for part in parts if part.ids is not None]), tail)

    def __len__(self) -> int:
        return len(self.log_probs)

    def __getitem__(self, i: slice) -> "Targets":
        return Targets(
            self.log_probs[i], None if self.ids is None else self.ids[i], None if self.tail is None else self.tail[i]
        )

    def to(self, device: torch.device) -> "Targets":
        """Return the same targets on a device."""
        ids, tail = (None if x is None else x.to(device) for x in (self.ids, self.tail))
        return Targets(self.log_probs.to(device), ids, tail)

    def dense(self, V: int) -> Float[torch.Tensor, "N V"]:
        """Return whole distributions, as logarithms.

        Raises:
            ValueError: there is a tail, so that they are not known.
        """
        if self.ids is None:
            return self.log_probs
        if self.tail is not None:
            raise ValueError("Only the largest probabilities of the expert are known: this needs all of them.")
        probs = self.log_probs.new_zeros(len(self), V).scatter_add_(1, self.ids, self.log_probs.exp())
        return probs.log()

    def entropy(self) -> Float[torch.Tensor, " N"]:
        """Return the entropy, that of all other tokens together counted as one."""
        H = _minus_p_log_p(self.log_probs).sum(-1)
        return H if self.tail is None else H + _minus_p_log_p(self.tail)


def _minus_p_log_p(log_p: torch.Tensor) -> torch.Tensor:
    return -log_p.exp() * log_p.clamp_min(-1e4)


def cross_entropy(logits: Float[torch.Tensor, "N V"], targets: Targets) -> Float[torch.Tensor, " N"]:
    """Return the cross-entropy of a model's predictions, whose gradient is that of `KL(Q || P)`.

        -sum_x Q(x) log P(x)

    With a tail, all other tokens together count as one symbol.
    """
    log_P = logits.float().log_softmax(-1)
    Q = targets.log_probs.exp()
    if targets.ids is None:
        return -(Q * log_P).sum(-1)
    loss = -(Q * log_P.gather(-1, targets.ids)).sum(-1)
    if targets.tail is None:
        return loss
    # Padding names token 0 with probability 0, which does not take the token out of the tail.
    named = torch.zeros_like(log_P).scatter_add_(-1, targets.ids, (Q > 0).to(log_P.dtype)) > 0
    log_P_tail = log_P.masked_fill(named, -math.inf).logsumexp(-1)
    # A tail that is certainly empty has no cross-entropy, also if the model gives it no mass.
    return loss - torch.where(targets.tail.isneginf(), 0.0, targets.tail.exp() * log_P_tail)


def divergence(
    logits: Float[torch.Tensor, "N V"], targets: Targets, kind: Divergence = "forward_kl", floor: float = 1e-3
) -> Float[torch.Tensor, " N"]:
    """Return a divergence between the expert's predictions Q and the model's P, up to a constant of Q.

    Averaged over theta, which the model does not see, only the first has the answer for its minimum.

    Args:
        logits: the model's predictions.
        targets: the expert's.
        kind: `"forward_kl"`, the cross-entropy `-sum Q log P`; `"reverse_kl"`, `KL(P || Q)`; `"jsd"`, the
            Jensen-Shannon divergence.
        floor: for the reverse KL, the share of the uniform distribution that is mixed into Q, because it is infinite
            where Q is 0.

    Raises:
        ValueError: another kind needs whole distributions, and only the largest probabilities are known.
    """
    if kind == "forward_kl":
        return cross_entropy(logits, targets)
    log_P = logits.float().log_softmax(-1)
    Q = targets.dense(logits.shape[-1]).exp()
    if kind == "reverse_kl":
        Q = (1 - floor) * Q + floor / Q.shape[-1]
        return (log_P.exp() * (log_P - Q.log())).sum(-1)
    if kind == "jsd":
        P = log_P.exp()
        log_M = ((P + Q) / 2).clamp_min(1e-30).log()
        KL_P = (P * (log_P - log_M)).sum(-1)
        KL_Q = (Q * (Q.clamp_min(1e-30).log() - log_M)).sum(-1)
        return (KL_P + KL_Q) / 2
    raise ValueError(f"divergence must be one of {', '.join(get_args(Divergence))}, not {kind!r}.")
