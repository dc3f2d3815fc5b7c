"""A GRU in PyTorch, taught counterfactually by `undelude.torch.teach`: a peer of the suite (`suite_peers.py`)."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import torch
from suite_shared import features, kept, size
from torch import nn

import undelude as ud
import undelude.torch
from undelude._cli.suite_options import TrainSuite
from undelude._cli.suite_train import config_of
from undelude._distributions import Block, Parts, Spec, Symbols
from undelude._versioned_tasks import find_task
from undelude.torch._predictions import is_given, predicted_parts, prediction

NAME = "PyTorch GRU, counterfactual"
ABOUT = f"A GRU of 64 units in PyTorch {torch.__version__}, taught by undelude.torch.teach, 500 updates on each task."
STEPS, EACH, WIDTH, LEARNING_RATE = 500, 10, 64, 1e-2


class Head(nn.Module):
    """A linear prediction of values of a spec: logits, or the mean and the deviation of one normal distribution."""

    def __init__(self, spec: Spec, width: int):
        super().__init__()
        self.spec = spec
        if isinstance(spec, Parts):
            self.parts = nn.ModuleDict({name: Head(part, width) for name, part in predicted_parts(spec).items()})
        else:
            self.linear = nn.Linear(width, size(spec) * (1 if isinstance(spec, Symbols) else 2))

    def forward(self, h: torch.Tensor) -> Any:
        if isinstance(self.spec, Parts):
            return {name: part(h) for name, part in self.parts.items()}
        x = self.linear(h)
        if isinstance(self.spec, Symbols):
            return x
        mean, scale = x.reshape(*x.shape[:-1], 2, *self.spec.value.shape).unbind(h.ndim - 1)
        return mean, nn.functional.softplus(scale) + 0.01


class Net(nn.Module):
    """A GRU over marked actions and observations, as `undelude.torch` calls it."""

    def __init__(self, specs: tuple[Spec, Spec], width: int = WIDTH):
        super().__init__()
        self.specs, self.width = specs, width
        num_actions, num_observations = map(size, specs)
        self.begin = nn.Linear(num_observations, width)
        self.gru = nn.GRU(num_actions + 1 + num_observations, width, batch_first=True)
        self.chosen = nn.Linear(num_actions + 1, width)
        self.action = Head(specs[0], width)
        self.observation = None if is_given(specs[1]) else Head(specs[1], width)

    def forward(self, a: Any, marks: torch.Tensor, o: Any, opening: Any) -> tuple[Any, Any]:
        first = self._first(len(marks), opening)
        done = torch.cat([features(self.specs[0], a), marks.unsqueeze(-1).float()], -1)
        later, _ = self.gru(torch.cat([done, features(self.specs[1], o)], -1), first.unsqueeze(0))
        h = torch.cat([first.unsqueeze(1), later], 1)
        seen = None if self.observation is None else self.observation(torch.tanh(h[:, :-1] + self.chosen(done)))
        return self.action(h), seen

    def start(self, num_episodes: int, opening: Any) -> tuple[Any, torch.Tensor]:
        h = self._first(num_episodes, opening)
        return self.action(h), h

    def step(self, h: torch.Tensor, a: Any, marks: torch.Tensor, o: Any) -> tuple[Any, torch.Tensor]:
        read = [features(self.specs[0], a), marks.unsqueeze(-1).float(), features(self.specs[1], o)]
        _, after = self.gru(torch.cat(read, -1).unsqueeze(1), h.unsqueeze(0))
        return self.action(after[0]), after[0]

    def _first(self, num_episodes: int, opening: Any) -> torch.Tensor:
        seen = torch.zeros(num_episodes, size(self.specs[1])) if opening is None else features(self.specs[1], opening)
        return torch.tanh(self.begin(seen))


def decaying(net: nn.Module, learning_rate: float, steps: int) -> torch.optim.Optimizer:
    """Return Adam on clipped gradients, with a cosine decay to zero that each of its steps advances."""
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_(net.parameters(), 1.0) and None)
    optimizer.register_step_post_hook(lambda *_: schedule.step())
    return optimizer


def check_playable(process: Any) -> None:
    """Raise `NotImplementedError` if a network of `undelude.torch` has no output for the actions."""
    if isinstance(process.specs[0], Block):
        raise NotImplementedError(f"undelude.torch has no output for actions that are {process.specs[0]}.")


def learn(process: Any, task: str, seed: int, *, few: bool) -> tuple[Any, dict[str, Any]]:
    """Teach a network, with the batch and the weight of observations that `undelude suite train` has for a GRU."""
    check_playable(process)
    config = config_of(find_task(task), TrainSuite(Path(), agent="gru"), seed)
    steps = EACH if few else STEPS
    torch.manual_seed(seed)
    net = Net(process.specs)
    teaching = ud.Counterfactual(observation_weight=config.observation_weight)
    acting, optimizer, key = (
        player(net, process),
        decaying(net, LEARNING_RATE, steps),
        jax.random.key(seed),
    )
    for update in range(0, steps, EACH):
        # The loop in Python takes most of the time of a round, so that ten batches are played at a time.
        episodes = ud.rollout(
            process, acting, key=jax.random.fold_in(key, update), num_episodes=EACH * config.batch_size
        )
        run = undelude.torch.teach(
            process,
            net,
            teaching,
            key=key,
            steps=update + EACH,
            batch_size=config.batch_size,
            optimizer=optimizer,
            update=update,
            data=episodes,
        )
    losses = {
        name: float(run.metrics[-1][name]) for name in ("action_loss", "observation_loss") if name in run.metrics[-1]
    }
    played = steps * config.batch_size
    return net.state_dict(), {"episodes": played, "rounds": played * process.num_rounds} | losses


def player(net: Net, process: Any) -> ud.HostAgent:
    """Return the network as an agent that predicts observations from its memory, and not from the whole history."""

    def predict_observation(m: Any, a: Any) -> Any:
        with torch.no_grad():
            done = torch.cat([features(process.specs[0], a), torch.ones(m.num_episodes, 1)], -1)
            assert net.observation is not None
            return prediction(
                process.specs[1], net.observation(torch.tanh(m.memory + net.chosen(done))), m.num_episodes
            )

    read = undelude.torch.host_agent(net, process)
    return (
        read if read.predict_observation is None else dataclasses.replace(read, predict_observation=predict_observation)
    )


def agent(process: Any, task: str) -> ud.HostAgent:
    """Return the network that was taught on a task, for `undelude suite run suite_gru:agent`."""
    check_playable(process)
    net = Net(process.specs)
    net.load_state_dict(kept("torch-gru", task))
    return player(net, process)
