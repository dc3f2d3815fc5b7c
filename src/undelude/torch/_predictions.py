"""What a network of the user's returns: checked, scored in PyTorch, and as distributions of ours."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import PyTree

from undelude._distributions import (
    AbstractDistribution,
    Categorical,
    Given,
    GivenArray,
    Joint,
    Normal,
    Parts,
    Reals,
    Spec,
    Symbols,
)


def check_predictable(spec: Spec, name: str) -> None:
    """Raise `TypeError` if networks cannot predict values of `spec`."""
    if isinstance(spec, Parts):
        if spec.named is None:
            raise TypeError(f"undelude.torch: the parts of {name} need names: ud.Joint({{...}}).")
        for part, inner in spec.named.items():
            check_predictable(inner, f"{name}, part {part}")
    elif not (isinstance(spec, GivenArray | Reals) or (isinstance(spec, Symbols) and spec.n is not None)):
        raise TypeError(f"undelude.torch: {name} are {spec}, for which a network has no output; use an agent of ours.")


def is_given(spec: Spec) -> bool:
    """Return whether nothing of the values is predicted."""
    return isinstance(spec, GivenArray) or (isinstance(spec, Parts) and all(map(is_given, spec.leaves)))


def predicted_parts(spec: Parts) -> dict[str, Spec]:
    """Return the parts that are predicted, by name."""
    assert spec.named is not None
    return {name: part for name, part in spec.named.items() if not is_given(part)}


def check_output(spec: Spec, output: Any, lead: tuple[int, ...], name: str) -> None:
    """Raise `ValueError` if a network's output is not a prediction of values of `spec` with leading axes `lead`."""
    if isinstance(spec, Parts):
        parts = predicted_parts(spec)
        if not isinstance(output, dict) or output.keys() != parts.keys():
            found = sorted(output) if isinstance(output, dict) else type(output).__name__
            raise ValueError(f"net: {name} must be a dictionary of {sorted(parts)}, not {found}.")
        for part, inner in parts.items():
            check_output(inner, output[part], lead, f"{name}, part {part}")
    elif isinstance(spec, Symbols):
        _check_tensor(output, (*lead, spec.n), f"{name} (logits)")
    elif isinstance(spec, Reals):
        if not (isinstance(output, tuple | list) and len(output) == 2):
            raise ValueError(f"net: {name} must be a pair (mean, scale), not {type(output).__name__}.")
        for x, what in zip(output, ("mean", "scale"), strict=True):
            _check_tensor(x, (*lead, *spec.shape), f"{name} ({what})")
        if not bool((output[1] > 0).all()):
            raise ValueError(
                f"net: {name} (scale) must be positive everywhere; torch.nn.functional.softplus makes it so."
            )


def _check_tensor(x: Any, shape: tuple[Any, ...], name: str) -> None:
    if not isinstance(x, torch.Tensor) or tuple(x.shape) != shape:
        found = list(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(f"net: {name} must be a tensor of shape {list(shape)}, not {found}.")


def losses(spec: Spec, output: Any, x: PyTree) -> torch.Tensor:
    """Return `-log P(x)` of values `x`, summed over parts and components; leading axes are kept."""
    if isinstance(spec, Parts):
        return torch.stack([losses(part, output[name], x[name]) for name, part in predicted_parts(spec).items()]).sum(0)
    if isinstance(spec, Symbols):
        log_probs = torch.log_softmax(output, -1)
        return -log_probs.gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
    return _of_normal((x, torch.zeros_like(x)), output, x.ndim - len(spec.value.shape))


def cross_entropies(spec: Spec, expert: Any, output: Any, x: PyTree) -> torch.Tensor:
    """Return `-E_Q[log P]` under the expert's distributions Q; `-log P(x)` of its actions without a closed form."""
    match spec, expert:
        case Parts(), Joint(parts=dict() as parts):
            each = [
                cross_entropies(part, parts[name], output[name], x[name])
                for name, part in predicted_parts(spec).items()
            ]
            return torch.stack(each).sum(0)
        case Symbols(), Categorical():
            log_P = torch.log_softmax(output, -1)
            Q = _tensor(expert.log_probs, log_P).exp()
            return -(Q * torch.where(Q > 0, log_P, torch.zeros_like(log_P))).sum(-1)
        case Reals(), Normal():
            pair = _tensor(expert.loc, output[0]), _tensor(expert.scale, output[0])
            return _of_normal(pair, output, output[0].ndim - len(spec.shape))
    return losses(spec, output, x)


def _tensor(x: Any, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(np.array(x), dtype=like.dtype, device=like.device)


def _of_normal(expert: tuple[torch.Tensor, torch.Tensor], output: Any, num_lead: int) -> torch.Tensor:
    """Return the cross-entropy of two normal distributions, summed over the axes after `num_lead`."""
    (loc, scale), (mean, std) = expert, output
    each = 0.5 * (scale**2 + (loc - mean) ** 2) / std**2 + std.log() + 0.5 * math.log(2 * math.pi)
    return each.reshape(*each.shape[:num_lead], -1).sum(-1)


def prediction(spec: Spec, output: Any, num_episodes: int) -> AbstractDistribution | np.ndarray:
    """Return a network's output for a batch as a `HostAgent` predicts: of symbols, `[B, n]` probabilities."""
    if isinstance(spec, Symbols):  # In NumPy: a round of our loop is quicker than with arrays of JAX.
        return np.exp(_log_probs(output))
    return distribution(spec, output, num_episodes)


def _log_probs(output: torch.Tensor) -> np.ndarray:
    logits = output.detach().double().cpu().numpy()
    if not np.isfinite(logits.max(-1)).all():
        raise ValueError("net: its logits are not finite.")
    return logits - np.logaddexp.reduce(logits, -1, keepdims=True)


def distribution(spec: Spec, output: Any, num_episodes: int) -> AbstractDistribution:
    """Return a network's output for a batch as a distribution of ours, leading axis B."""
    match spec:
        case Parts():
            assert spec.named is not None
            return Joint(
                {
                    name: distribution(part, None if is_given(part) else output[name], num_episodes)
                    for name, part in spec.named.items()
                }
            )
        case Symbols():
            return Categorical(log_probs=jnp.asarray(_log_probs(output), float))
        case Reals():
            mean, scale = (x.detach().cpu().numpy() for x in output)
            return Normal(mean, scale)
    return Given(jax.tree.map(lambda x: jnp.zeros((num_episodes, *x.shape), x.dtype), spec.value))


def to_tensors(spec: Spec, x: PyTree, device: Any) -> Any:
    """Return values as tensors: whole numbers of 64 bits, and floats of 32."""
    if isinstance(spec, Parts):
        assert spec.named is not None
        return {name: to_tensors(part, x[name], device) for name, part in spec.named.items()}
    x = np.array(x)
    return torch.as_tensor(x, dtype=torch.float32 if x.dtype.kind == "f" else torch.int64, device=device)
