"""A PyTorch network as an agent, for `ud.rollout` and `ud.certify`."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import torch
from jaxtyping import PyTree

from undelude._agents.host import HostAgent, HostPrediction
from undelude._distributions import Spec
from undelude._process.host_world import World, check_world
from undelude._types import Mark
from undelude.torch._predictions import check_output, check_predictable, is_given, prediction, to_tensors


@dataclasses.dataclass
class History:
    """What a network has read in a batch of episodes, and the memory of its method `step`."""

    num_episodes: int
    opening: PyTree = None
    actions: list[PyTree] = dataclasses.field(default_factory=list)
    observations: list[PyTree] = dataclasses.field(default_factory=list)
    memory: Any = None


def host_agent(net: torch.nn.Module, process: World, *, own_actions: Mark = "do") -> HostAgent:
    """Return a PyTorch network as an agent that acts by sampling its predictions.

    The network is called as the page of `undelude.torch` says, without gradients and in evaluation mode. It is not
    copied: the agent is always the network as it is now. A network does not predict the opening, so that in a process
    with an opening the agent predicts no observations: a certificate measures all of them or none.

    Args:
        net: the network.
        process: whose episodes it plays.
        own_actions: the mark under which it reads its own actions: `"do"` after counterfactual teaching, `"see"` after
            cloning. `undelude.torch.teach` returns an agent with the mark that was taught.

    Raises:
        TypeError: `net` is not a module, or has no output for the process's actions or observations.

    >>> agent = undelude.torch.host_agent(net, process)  # doctest: +SKIP
    >>> ud.certify(process, agent, key=jax.random.key(0)).verdict  # doctest: +SKIP
    'sober'
    """
    check_world(process)
    check_net(net, process.specs)
    predicts = not (process.opening or is_given(process.specs[1]))
    return _Acting(net, process.specs, own_actions == "do").agent(own_actions, predicts_observations=predicts)


def check_net(net: object, specs: tuple[Spec, Spec]) -> None:
    """Raise `TypeError` if `net` is not a network, or cannot predict values of the specs."""
    if not isinstance(net, torch.nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, not of type {type(net).__name__}.")
    if hasattr(net, "step") != hasattr(net, "start"):
        raise TypeError(f"{type(net).__name__} has one of start and step: give both, or neither.")
    for spec, name in zip(specs, ("actions", "observations"), strict=True):
        check_predictable(spec, name)


def device_of(net: torch.nn.Module) -> torch.device:
    """Return where the parameters are."""
    return next((x.device for x in net.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def evaluating(net: torch.nn.Module) -> Iterator[None]:
    """Call the network without gradients and in evaluation mode in the block."""
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        net.train(was_training)


def call(
    net: torch.nn.Module, specs: tuple[Spec, Spec], a: Any, marks: torch.Tensor, o: Any, opening: Any
) -> tuple[Any, Any]:
    """Return the checked outputs of a network, for actions and for observations."""
    outputs = net(a, marks, o, opening)
    if not (isinstance(outputs, tuple) and len(outputs) == 2):
        raise ValueError(
            f"net must return a pair (action, observation), not {type(outputs).__name__}; observation may be None."
        )
    B, n = marks.shape
    check_output(specs[0], outputs[0], (B, n + 1), "action")
    if outputs[1] is not None and not is_given(specs[1]):
        check_output(specs[1], outputs[1], (B, n), "observation")
    return outputs[0], None if is_given(specs[1]) else outputs[1]


def at(output: Any, t: int) -> Any:
    """Return the prediction at place `t`."""
    if isinstance(output, dict):
        return {name: at(x, t) for name, x in output.items()}
    return tuple(x[:, t] for x in output) if isinstance(output, tuple | list) else output[:, t]


class _Acting:
    """The functions of a `HostAgent`."""

    def __init__(self, net: torch.nn.Module, specs: tuple[Spec, Spec], intervened: bool):
        self.net, self.specs, self.intervened = net, specs, intervened

    def agent(self, own_actions: Mark, *, predicts_observations: bool) -> HostAgent:
        return HostAgent(
            History,
            self.predict,
            predict_observation=self.predict_observation if predicts_observations else None,
            own_actions=own_actions,
        )

    def predict(self, m: History, a: Any, o: Any) -> tuple[HostPrediction, History]:
        if a is None:
            m = dataclasses.replace(m, opening=o)
        else:
            m = dataclasses.replace(m, actions=[*m.actions, a], observations=[*m.observations, o])
        with evaluating(self.net):
            if hasattr(self.net, "step"):
                output, m.memory = self._step(m)
                check_output(self.specs[0], output, (m.num_episodes,), "what start and step return, action")
            else:
                output = at(self._call(m, None)[0], len(m.actions))
            return prediction(self.specs[0], output, m.num_episodes), m

    def predict_observation(self, m: History, a: Any) -> HostPrediction:
        with evaluating(self.net):
            output = self._call(m, a)[1]
            return None if output is None else prediction(self.specs[1], at(output, len(m.actions)), m.num_episodes)

    def _step(self, m: History) -> tuple[Any, Any]:
        net, device = self.net, device_of(self.net)
        if not m.actions:
            opening = None if m.opening is None else to_tensors(self.specs[1], m.opening, device)
            return net.start(m.num_episodes, opening)  # type: ignore[operator]
        marks = torch.full((m.num_episodes,), self.intervened, device=device)
        a, o = (to_tensors(s, x[-1], device) for s, x in zip(self.specs, (m.actions, m.observations), strict=True))
        return net.step(m.memory, a, marks, o)  # type: ignore[operator]

    def _call(self, m: History, a: Any) -> tuple[Any, Any]:
        """Return the outputs for a history, to which the action `a` is added if it is not None."""
        device, B = device_of(self.net), m.num_episodes
        zeros = [jax.tree.map(lambda x: np.zeros((B, *x.shape), x.dtype), spec.value) for spec in self.specs]
        actions, observations = list(m.actions), list(m.observations)
        if a is not None or not actions:
            actions.append(zeros[0] if a is None else a)
            observations.append(zeros[1])
        stacked = [jax.tree.map(lambda *x: np.stack(x, 1), *xs) for xs in (actions, observations)]
        marks = torch.full((B, len(actions)), self.intervened, device=device)
        a, o = (to_tensors(spec, x, device) for spec, x in zip(self.specs, stacked, strict=True))
        opening = None if m.opening is None else to_tensors(self.specs[1], m.opening, device)
        return call(self.net, self.specs, a, marks, o, opening)
