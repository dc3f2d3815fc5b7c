"""A vector environment in Torch: the same episodes as in NumPy, and no tensor passes through NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import undelude as ud
from test_vector_world import HARBOURS, KEY, boats, play, world_of
from undelude import gym as ug
from undelude.gym._host.rows import like, to_jax
from vector_environments import CONTEXTS, LedgerBatch, labels

# Ways by which a tensor leaves its device, other than DLPack.
WAYS = "numpy", "cpu", "tolist", "__array__"


@pytest.fixture
def no_copies(monkeypatch):
    for name in WAYS:

        def refuse(self, *arguments, name=name, **named):
            raise AssertionError(f"Tensor.{name} was called")

        monkeypatch.setattr(torch.Tensor, name, refuse)


def torch_labels(observations, contexts):
    assert observations.dtype == contexts.dtype == torch.float32
    return labels(observations, contexts, torch)


def torch_world(mode, at_end):
    env = LedgerBatch(mode, xp=torch)
    size = {"num_rounds": 12, "contexts": torch.tensor(CONTEXTS), "reward_observed": True, "batched": True}
    return ug.HostWorld(env, expert=torch_labels, at_end=at_end, **size)


@pytest.mark.parametrize("at_end", ["restart", "end"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_torch_gives_the_episodes_of_numpy(mode, at_end, no_copies):
    episodes, _ = play(torch_world(mode, at_end))
    other, _ = play(world_of(mode, at_end=at_end))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), episodes, other)


def test_tensors_and_arrays_share_their_memory():
    x = torch.arange(64, dtype=torch.float32).reshape(8, 8)
    assert to_jax(x).unsafe_buffer_pointer() == x.data_ptr()
    a = jnp.arange(64.0)
    back = like(a, x)
    assert back.dtype == torch.float32
    assert back.device == x.device
    back.zero_()  # A simulator may write into its actions; ours stay as they are.
    np.testing.assert_array_equal(a, np.arange(64.0))


@pytest.mark.slow
def test_network_learns_from_torch(no_copies):
    """Observations, the cue's distance, the expert's mean and scale, and actions."""
    losses = []
    for world in (boats(torch), boats()):
        agent = ud.GRUAgent(world, 4, key=KEY)
        run = ud.teach(world, agent, ud.Counterfactual(), key=KEY, steps=2, batch_size=32)
        losses.append(run.metrics[-1]["action_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_evidence_from_torch_is_that_of_numpy(no_copies):
    known = [
        w.evidence(ud.rollout(w, None, executor="expert", key=KEY, num_episodes=8)) for w in (boats(torch), boats())
    ]
    np.testing.assert_allclose(known[0].log_likelihood, known[1].log_likelihood, atol=1e-4)
    assert len(HARBOURS) == known[0].log_likelihood.shape[-1]
