"""PyTorch networks of your own: taught by our loop, and certified.

    run = undelude.torch.teach(process, net, ud.Counterfactual(), key=key)
    ud.certify(process, run.agent, key=key)

A network is a module that reads a batch of histories of n rounds and predicts at each place:

    action, observation = net(a, marks, o, opening)

    a        [B, n, ...]       actions: whole numbers, or floats; a dictionary of tensors if they have parts
    marks    [B, n]            true where the action is an intervention, do(a)
    o        [B, n, ...]       observations, like actions
    opening  [B, ...]          the first observation, or None
    action   [B, n + 1, ...]   place t predicts the expert's action after t rounds
    observation  [B, n, ...]   place t predicts the observation after t rounds and one more action; or None

A prediction of symbols is their logits, with one axis more; one of real numbers is a pair `(mean, scale)`; one with
parts is a dictionary of these. Numbers that are given and not predicted (`ud.Given`) are left out. Nothing may depend
on later rounds: this is checked. Before the first action, n is 1 and the round is made of zeros.

To act, a network is called on the whole history in every round. If it has two more methods, these are called in its
place:

    action, memory = net.start(num_episodes, opening)
    action, memory = net.step(memory, a, marks, o)      one round: [B, ...]
"""

from typing import TYPE_CHECKING, Any

from undelude._versions import load

if TYPE_CHECKING:
    from undelude.torch._acting import host_agent as host_agent
    from undelude.torch._loop import TorchRun as TorchRun
    from undelude.torch._loop import teach as teach

# The module of each name.
_NAMES = {"TorchRun": "_loop", "host_agent": "_acting", "teach": "_loop"}

__all__ = ["TorchRun", "host_agent", "teach"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    return load(__name__, _NAMES, name, {"torch": "pip install torch"})


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
