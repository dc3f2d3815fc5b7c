"""The losses of language models are the divergences that they are named after."""

import math

import pytest

pytest.importorskip("torch")

import torch

from undelude.hf._teaching.losses import Targets, cross_entropy, divergence


def kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    return torch.distributions.kl_divergence(torch.distributions.Categorical(p), torch.distributions.Categorical(q))


def distributions(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 7, generator=generator), torch.randn(4, 7, generator=generator).softmax(-1)


def test_each_divergence_is_that_of_torch() -> None:
    logits, Q = distributions()
    P, targets = logits.softmax(-1), Targets(Q.log())
    torch.testing.assert_close(divergence(logits, targets) - targets.entropy(), kl(Q, P))
    torch.testing.assert_close(divergence(logits, targets, "reverse_kl", floor=1e-9), kl(P, Q))
    torch.testing.assert_close(divergence(logits, targets, "jsd"), (kl(P, (P + Q) / 2) + kl(Q, (P + Q) / 2)) / 2)


def test_the_largest_probabilities_with_a_tail_are_the_whole_if_all_are_named() -> None:
    logits, Q = distributions()
    order = torch.stack([torch.randperm(7, generator=torch.Generator().manual_seed(i)) for i in range(4)])
    named = Targets(Q.log().gather(-1, order), order)
    torch.testing.assert_close(cross_entropy(logits, named), cross_entropy(logits, Targets(Q.log())))
    torch.testing.assert_close(named.entropy(), Targets(Q.log()).entropy())


def test_the_tail_is_one_symbol() -> None:
    """Against the distributions in which the other tokens are merged, also if a target is filled up with token 0."""
    logits, Q = distributions()
    ids = torch.tensor([[1, 3], [1, 3], [3, 1], [1, 0]])
    log_probs = Q.log().gather(-1, ids)
    log_probs[3, 1] = -math.inf
    tail = torch.log1p(-log_probs.exp().sum(-1))
    loss = cross_entropy(logits, Targets(log_probs, ids, tail))
    for i in range(4):
        keep = [1, 3] if i < 3 else [1]
        merged = [torch.stack([*x[i, keep], 1 - x[i, keep].sum()]) for x in (logits.softmax(-1), Q)]
        torch.testing.assert_close(loss[i], -(merged[1] * merged[0].log()).sum())


def test_a_tail_raises_a_token_to_which_the_model_gives_no_mass() -> None:
    """A top-k of the student's own support would not: its gradient is zero there."""
    logits = torch.tensor([[0.0, -40.0, 0.0]], requires_grad=True)
    cross_entropy(
        logits, Targets(torch.tensor([[math.log(0.9)]]), torch.tensor([[1]]), torch.tensor([math.log(0.1)]))
    ).sum().backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 1]) == pytest.approx(-0.9, abs=1e-6)


def test_targets_of_several_forms_are_joined() -> None:
    logits, Q = distributions()
    sparse, sure = Targets(Q[:2].log(), torch.arange(7).expand(2, 7)), Targets.of_tokens(torch.tensor([5, 2]))
    joined = Targets.concatenate([sparse, sure])
    expected = torch.cat([cross_entropy(logits[:2], sparse), cross_entropy(logits[2:], sure)])
    torch.testing.assert_close(cross_entropy(logits, joined), expected)
    whole = Targets.concatenate([Targets(Q[:2].log()), sure])
    torch.testing.assert_close(cross_entropy(logits, whole), expected)
    elsewhere = sparse.to(torch.device("meta"))  # A teacher's device.
    assert Targets.concatenate([sure, elsewhere]).log_probs.device.type == "meta"
    with pytest.raises(ValueError, match="one form"):
        Targets.concatenate([Targets(Q.log()), Targets(Q[:, :2].log(), torch.tensor([[0, 1]] * 4), torch.zeros(4))])
    with pytest.raises(ValueError, match="all of them"):
        divergence(logits, Targets(Q[:, :2].log(), torch.tensor([[0, 1]] * 4), torch.zeros(4)), "reverse_kl")
