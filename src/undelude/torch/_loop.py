"""Teaching a PyTorch network: our rollouts and marks, and gradients by autograd."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Array, Key

from undelude._agents.host import HostAgent
from undelude._checks import check_count, check_key, one_line
from undelude._distributions import Parts, Spec, Symbols
from undelude._process.episodes import Episodes
from undelude._process.host_world import World, check_world
from undelude._teaching.host_updates import collect_in
from undelude._teaching.settings import Teaching
from undelude._teaching.stored import StoredEpisodes
from undelude.torch._acting import at, call, check_net, device_of, evaluating, host_agent
from undelude.torch._predictions import cross_entropies, losses, to_tensors

Row = dict[str, int | float]
# The largest difference of predictions that are the same up to rounding.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class TorchRun:
    """The result of `undelude.torch.teach`.

    Attributes:
        agent: the network as an agent, which reads its own actions as the teaching marked them.
        net: the network itself; it was changed in place.
        metrics: one row every `log_every` updates: `update`, `action_loss` and `observation_loss` (means since the last
            row, nats per symbol), and `seconds` so far. Without predictions of observations there is no
            `observation_loss`.
        update: the number of updates made.
        seconds: of teaching, rollouts included.
    """

    agent: HostAgent
    net: torch.nn.Module = dataclasses.field(repr=False)
    metrics: list[Row] = dataclasses.field(repr=False)
    update: int
    seconds: float


def teach(
    process: World,
    net: torch.nn.Module,
    teaching: Teaching,
    *,
    key: Key[Array, ""],
    steps: int = 1000,
    batch_size: int = 64,
    optimizer: torch.optim.Optimizer | None = None,
    update: int = 0,
    data: Episodes | None = None,
    log_every: int = 50,
    on_log: Callable[[Row], None] | None = None,
) -> TorchRun:
    """Teach a PyTorch network in place, as `undelude.teach` teaches an agent.

    Each update plays `batch_size` episodes, in which the network acts if the teaching says so, and descends the same
    losses; the opening is not predicted. Episode i of the update u draws from `fold_in(fold_in(key, u), i)`, so that a
    run that continues with the network, the optimiser and the number of updates of an interrupted one goes on as if it
    had never stopped.

    Args:
        process: the prior, the task and the expert; or a world that runs in Python, such as `undelude.gym.HostWorld`.
        net: the network; see `undelude.torch` for how it is called. It must read the whole history: a truncated memory
            learns a wrong answer from episodes of others (Remark 13).
        teaching: one in which a single party executes: `Counterfactual()`, `Factual()`, `Cloning()`, `Blind()`; with
            `data`, any. The target must be `"distribution"` or `"sample"`.
        key: for all random draws but those that the network makes itself.
        steps: total updates, `update` included.
        batch_size: episodes per update.
        optimizer: any of PyTorch; by default Adam with a learning rate of .003.
        update: the number of updates that the network has had, to continue a run.
        data: stored episodes, in place of fresh ones; as in `undelude.teach`.
        log_every: updates between two rows of metrics.
        on_log: called with each row.

    Raises:
        TypeError: `net` is not a module, or has no output for the process's actions or observations.
        ValueError: the network's output has another shape, or depends on later rounds; its method `step` says something
            else than the network; the teaching is not supported; `data` does not support the teaching.
        FloatingPointError: a loss or a gradient is not finite. The update is not made.
    """
    check_world(process)
    check_key(key)
    check_net(net, process.specs)
    _check_teaching(teaching, has_data=data is not None)
    steps, batch_size = check_count("steps", steps), check_count("batch_size", batch_size)
    log_every = check_count("log_every", log_every)
    if optimizer is None:
        if update:
            raise ValueError("to continue at update > 0, give the optimizer of the interrupted run.")
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    elif not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be one of torch.optim, not {one_line(repr(optimizer))}.")
    agent = host_agent(net, process, own_actions=teaching.mark)
    stored = None if data is None else StoredEpisodes(process, teaching, data, batch_size)
    metrics: list[Row] = []
    sums, since, started, first = np.zeros(3), update, time.perf_counter(), True
    player: Any = agent
    while update < steps:
        if stored is None:
            batch = collect_in(process, player, teaching, key, update, batch_size)
        else:
            batch = stored.batch(key, update)
        if first:
            _check_causal(net, process.specs, batch)
            _check_step(net, process.specs, batch, intervened=teaching.mark == "do")
            first = False
        sums += _update(net, optimizer, process.specs, teaching, batch, update)
        update += 1
        if update % log_every == 0 or update == steps:
            action, observation, exist = sums / (update - since)
            row: Row = {"update": update, "action_loss": action / exist}
            if not np.isnan(observation):
                row["observation_loss"] = observation / exist
            row["seconds"] = time.perf_counter() - started
            metrics.append(row)
            sums, since = np.zeros(3), update
            if on_log is not None:
                on_log(row)
    return TorchRun(agent, net, metrics, update, time.perf_counter() - started)


def _check_teaching(teaching: object, *, has_data: bool) -> None:
    if not isinstance(teaching, Teaching):
        raise TypeError(f"teaching must be a ud.Teaching, such as ud.Counterfactual(), not {one_line(repr(teaching))}.")
    if teaching.target not in ("distribution", "sample"):
        raise ValueError(f'undelude.torch: target must be "distribution" or "sample", not "{teaching.target}".')
    if 0 < teaching.expert_share < 1 and not has_data:
        raise ValueError(
            f"undelude.torch: in {teaching.name} teaching expert and network take turns, and a network that acts here "
            "executes all actions: use ud.Counterfactual(), or give episodes of both as data=."
        )


def _tensors(
    specs: tuple[Spec, Spec], batch: Episodes, device: torch.device
) -> tuple[Any, torch.Tensor, Any, Any, torch.Tensor]:
    """Return actions, marks, observations, openings, and which rounds exist."""
    a, o = (to_tensors(s, x, device) for s, x in zip(specs, (batch.actions, batch.observations), strict=True))
    opening = None if batch.opening is None else to_tensors(specs[1], batch.opening, device)
    marks, mask = (torch.as_tensor(np.array(x), device=device) for x in (batch.intervened, batch.mask))
    return a, marks, o, opening, mask


def _update(
    net: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    specs: tuple[Spec, Spec],
    teaching: Teaching,
    batch: Episodes,
    update: int,
) -> np.ndarray:
    """Make one update; return both losses and the share of rounds that exist."""
    device = device_of(net)
    a, marks, o, opening, mask = _tensors(specs, batch, device)
    net.train()
    action, observation = call(net, specs, a, marks, o, opening)
    T = mask.shape[1]
    before = _until(action, T)
    labels = to_tensors(specs[0], batch.expert_actions, device)
    if teaching.target == "sample" or batch.expert is None:
        action_losses = losses(specs[0], before, labels)
    else:
        action_losses = cross_entropies(specs[0], batch.expert, before, labels)
    zero = torch.zeros_like(action_losses)
    action_loss = torch.where(mask, action_losses, zero).mean()
    loss, terms = teaching.action_weight * action_loss, {"action_loss": action_loss}
    if observation is not None:
        terms["observation_loss"] = torch.where(mask, losses(specs[1], observation, o), zero).mean()
        loss = loss + teaching.observation_weight * terms["observation_loss"]
    optimizer.zero_grad()
    loss.backward()
    bad = [name for name, x in terms.items() if not bool(torch.isfinite(x))]
    if not bad and not all(bool(torch.isfinite(x.grad).all()) for x in net.parameters() if x.grad is not None):
        bad = ["the gradient"]
    if bad:
        raise FloatingPointError(
            f"{' and '.join(bad)} stopped being finite at update {update + 1}, which was not made. Lower the learning "
            "rate, or look for a distribution that gives zero mass."
        )
    optimizer.step()
    observed = float(terms["observation_loss"].detach()) if observation is not None else np.nan
    return np.array([float(action_loss.detach()), observed, float(mask.float().mean())])


def _until(output: Any, T: int) -> Any:
    """Return the predictions at the first T places."""
    if isinstance(output, dict):
        return {name: _until(x, T) for name, x in output.items()}
    return tuple(x[:, :T] for x in output) if isinstance(output, tuple | list) else output[:, :T]


# Checks of a network --------------------------------------------------------------------------------------------------


def _check_causal(net: torch.nn.Module, specs: tuple[Spec, Spec], batch: Episodes) -> None:
    """Raise `ValueError` if predictions depend on what comes after their place."""
    a, marks, o, opening, mask = _tensors(specs, batch, device_of(net))
    t = mask.shape[1] // 2
    with evaluating(net):
        found = call(net, specs, a, marks, o, opening)
        later_marks = marks.clone()
        later_marks[:, t + 1 :] = ~later_marks[:, t + 1 :]
        other = call(net, specs, _altered(specs[0], a, t + 1), later_marks, _altered(specs[1], o, t), opening)
    for x, y, name in zip(found, other, ("action", "observation"), strict=True):
        if x is not None and _difference(_until(x, t + 1), _until(y, t + 1)) > TOLERANCE:
            raise ValueError(
                f"net: {name} at one of the places 0 to {t} depends on what comes later. Place t of action may read t "
                "rounds, and place t of observation one action more: mask the attention, or shift the input by one."
            )


def _altered(spec: Spec, x: Any, start: int) -> Any:
    """Return values that are others from round `start` on."""
    if isinstance(spec, Parts):
        assert spec.named is not None
        return {name: _altered(part, x[name], start) for name, part in spec.named.items()}
    x = x.clone()
    x[:, start:] += 1
    if isinstance(spec, Symbols):
        x[:, start:] %= spec.n
    return x


def _difference(x: Any, y: Any) -> float:
    if isinstance(x, dict):
        return max(_difference(x[name], y[name]) for name in x)
    if isinstance(x, tuple | list):
        return max(map(_difference, x, y))
    return float((x - y).abs().max())


def _check_step(net: Any, specs: tuple[Spec, Spec], batch: Episodes, *, intervened: bool) -> None:
    """Raise `ValueError` if the method `step` predicts something else than the network."""
    if not hasattr(net, "step"):
        return
    a, marks, o, opening, _ = _tensors(specs, batch, device_of(net))
    marks = torch.full_like(marks, intervened)
    with evaluating(net):
        whole, _ = call(net, specs, a, marks, o, opening)
        output, memory = net.start(len(marks), opening)
        for t in range(min(3, marks.shape[1])):
            if t > 0:
                before = [at(x, t - 1) for x in (a, marks, o)]
                output, memory = net.step(memory, *before)
            if _difference(output, at(whole, t)) > TOLERANCE:
                raise ValueError(
                    f"net: start and step predict the action of round {t} otherwise than the network itself does."
                )
