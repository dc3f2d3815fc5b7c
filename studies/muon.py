"""Muon for small matrices on a CPU, where that of PyTorch takes twelve times as long."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) for the matrices of hidden layers, Adam for all other parameters.

    Args:
        model: with hidden layers in `layers`.
        learning_rate: of the matrices.
        adam_learning_rate: of the embeddings, the head, the norms and the marks.
        momentum: of the matrices.
        betas: of Adam.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        learning_rate: float,
        adam_learning_rate: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
    ):
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name]
        hidden = {id(p) for p in matrices}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in hidden]
        groups = [
            {"params": matrices, "lr": learning_rate, "is_hidden": True},
            {"params": others, "lr": adam_learning_rate, "is_hidden": False},
        ]
        super().__init__(groups, {"momentum": momentum, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step."""
        del closure
        for group in self.param_groups:
            if not group["is_hidden"]:
                for p in group["params"]:
                    self._adam(p, group)
                continue
            alike: dict[tuple[int, ...], list[torch.Tensor]] = {}
            for p in group["params"]:
                alike.setdefault(tuple(p.shape), []).append(p)
            for parameters in alike.values():
                self._muon(parameters, group)

    def _muon(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Update matrices of one shape by the nearest orthogonal matrices to their momenta."""
        G = torch.stack([p.grad for p in parameters if p.grad is not None])
        momentum = self.state[parameters[0]].setdefault("momentum", torch.zeros_like(G))
        momentum.lerp_(G, 1 - group["momentum"])
        rows, columns = G.shape[-2:]
        scale = group["lr"] * max(1.0, rows / columns) ** 0.5
        for p, x in zip(parameters, orthogonal(torch.lerp(G, momentum, group["momentum"])), strict=True):
            p.sub_(x, alpha=scale)

    def _adam(self, p: torch.Tensor, group: dict[str, Any]) -> None:
        if p.grad is None:
            return
        state = self.state[p]
        if not state:
            state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
        state["step"] += 1
        a, b = group["betas"]
        state["mean"].lerp_(p.grad, 1 - a)
        state["square"].lerp_(p.grad.square(), 1 - b)
        mean, square = state["mean"] / (1 - a ** state["step"]), state["square"] / (1 - b ** state["step"])
        p.sub_(mean / (square.sqrt() + 1e-8), alpha=group["lr"])


def orthogonal(G: Float[torch.Tensor, "N R C"], steps: int = 5) -> Float[torch.Tensor, "N R C"]:
    """Return matrices whose singular values are about 1, by Newton-Schulz iterations."""
    X = G.mT if G.shape[-2] > G.shape[-1] else G
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        A = X @ X.mT
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X.mT if G.shape[-2] > G.shape[-1] else X
