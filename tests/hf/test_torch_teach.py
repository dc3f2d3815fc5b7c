"""A PyTorch network is taught by our loop: its limit, its gradient, and what a network must not do."""

import copy

import jax
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import undelude as ud
from pages import TORCH_PAGE, check_code, check_entry, reference
from undelude import torch as ut

KEY = jax.random.key(0)
ARMS, ROUNDS, WIDTH = 3, 5, 24


class Net(nn.Module):
    """A GRU over pairs of a marked action and an observation."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.read = nn.Embedding(2 * 2 * ARMS, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.action = nn.Linear(WIDTH, ARMS)
        self.chosen = nn.Embedding(2 * ARMS, WIDTH)
        self.observation = nn.Linear(WIDTH, 2)

    def forward(self, a, marks, o, opening):
        x = a + ARMS * marks
        h, _ = self.gru(self.read(2 * x + o))
        h = torch.cat([torch.zeros_like(h[:, :1]), h], 1)
        return self.action(h), self.observation(torch.tanh(h[:, :-1] + self.chosen(x)))


class Stepping(Net):
    def start(self, num_episodes, opening):
        h = torch.zeros(num_episodes, WIDTH)
        return self.action(h), h

    def step(self, memory, a, marks, o):
        _, h = self.gru(self.read(2 * (a + ARMS * marks) + o)[:, None], memory[None])
        return self.action(h[0]), h[0]


@pytest.fixture(scope="module")
def process():
    return ud.tasks.bandit(num_arms=ARMS, num_rounds=ROUNDS)


def taught(process, net, teaching, steps=150, **options):
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    return ut.teach(process, net, teaching, optimizer=optimizer, key=KEY, steps=steps, batch_size=64, **options)


@pytest.fixture(scope="module")
def runs(process):
    return {
        "do": taught(process, Stepping(), ud.Counterfactual()),
        "cloned": taught(process, Stepping(), ud.Cloning()),
    }


class Indifferent(nn.Module):
    """A network for Kuhn poker that learns how often each symbol comes."""

    def __init__(self):
        super().__init__()
        self.action, self.observation = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(17))

    def forward(self, a, marks, o, opening):
        assert opening.shape == a.shape[:1]
        B, n = a.shape
        return self.action + torch.zeros(B, n + 1, 2), self.observation + torch.zeros(B, n, 17)


def test_network_acts_if_nature_opens():
    """It predicts observations and not the opening, and a rollout takes predictions of all of them or none."""
    kuhn = ud.tasks.kuhn()
    run = ut.teach(kuhn, Indifferent(), ud.Counterfactual(), key=KEY, steps=1, batch_size=4)
    assert run.metrics[0]["observation_loss"] > 0
    assert ud.rollout(kuhn, run.agent, key=KEY, num_episodes=4).actions.shape == (4, 2)


def test_counterfactual_teaching_is_sober_and_cloning_is_not(process, runs):
    reports = {
        name: ud.certify(process, run.agent, key=KEY, num_episodes=512, baselines=False) for name, run in runs.items()
    }
    do, cloned = reports["do"], reports["cloned"]
    assert do.action_kl_do < cloned.action_kl_do / 4
    assert cloned.action_kl_see < cloned.action_kl_do / 4
    assert do.observation_kl_do < cloned.observation_kl_do / 4
    assert [run.metrics[-1]["update"] for run in runs.values()] == [150, 150]


def test_agent_predicts_what_the_network_does(process, runs):
    """Step by step, on the whole history, and in our episodes."""
    net = runs["do"].net
    slow = Net()
    slow.load_state_dict(net.state_dict())
    reports = [
        ud.certify(process, ut.host_agent(x, process), key=KEY, num_episodes=64, baselines=False) for x in (net, slow)
    ]
    for name in ("action_kl_do", "observation_kl_do", "reward"):
        assert getattr(reports[0], name) == pytest.approx(getattr(reports[1], name), abs=1e-4)


def test_loss_is_that_of_our_agents(process):
    """The log-loss of a certificate, against the mean that is descended."""
    net = Net()
    data = ud.rollout(process, ut.host_agent(net, process), key=KEY, num_episodes=256)
    run = taught(process, copy.deepcopy(net), ud.Counterfactual(), steps=1, data=jax.tree.map(lambda x: x[:64], data))
    with torch.no_grad():
        a, marks, o = (torch.as_tensor(np.array(x[:64])) for x in (data.actions, data.intervened, data.observations))
        action, observation = (torch.log_softmax(x, -1).numpy() for x in net(a.long(), marks, o.long(), None))
    expected = -(np.asarray(data.expert.probs[:64]) * action[:, :-1]).sum(-1).mean()
    assert run.metrics[0]["action_loss"] == pytest.approx(float(expected), rel=1e-5)
    expected = -np.take_along_axis(observation, np.asarray(o)[..., None], -1).mean()
    assert run.metrics[0]["observation_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_continued_run_is_the_uninterrupted_one(process):
    whole, net = Net(), Net()
    taught(process, whole, ud.Counterfactual(), steps=6)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    options = {"optimizer": optimizer, "key": KEY, "batch_size": 64}
    first = ut.teach(process, net, ud.Counterfactual(), steps=3, **options)
    ut.teach(process, net, ud.Counterfactual(), steps=6, update=first.update, **options)
    for x, y in zip(whole.parameters(), net.parameters(), strict=True):
        assert torch.equal(x, y)


def test_normal_actions_and_parts():
    """A mean and a scale, and an observation of which only a part is predicted."""
    process = ud.tasks.arm(num_rounds=3)
    actions, observations = process.specs
    width = sum(int(np.prod(x.value.shape)) for x in observations.named.values())

    class Arm(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru = nn.GRU(actions.shape[0] + width, 8, batch_first=True)
            self.head = nn.Linear(8, 2 * actions.shape[0])

        def forward(self, a, marks, o, opening):
            parts = [o[name].float().reshape(*marks.shape, -1) for name in sorted(o)]
            h, _ = self.gru(torch.cat([a, *parts], -1))
            h = torch.cat([torch.zeros_like(h[:, :1]), h], 1)
            mean, scale = self.head(h).chunk(2, -1)
            return (mean, nn.functional.softplus(scale) + 1e-3), None

    net = Arm()
    run = ut.teach(process, net, ud.Counterfactual(), key=KEY, steps=2, batch_size=8)
    assert "observation_loss" not in run.metrics[0]
    report = ud.certify(process, run.agent, key=KEY, num_episodes=16, baselines=False)
    assert report.action_kl_do > 0
    assert report.observation_kl_do is None


class Foresight(Net):
    def forward(self, a, marks, o, opening):
        action, observation = super().forward(a, marks, o, opening)
        return action.flip(1), observation


class Forgetful(Stepping):
    def step(self, memory, a, marks, o):
        return super().step(0 * memory, a, marks, o)


class Infinite(Net):
    def forward(self, a, marks, o, opening):
        action, observation = super().forward(a, marks, o, opening)
        return action * (torch.nan if self.training else 1), observation


class Short(Net):
    def forward(self, a, marks, o, opening):
        action, observation = super().forward(a, marks, o, opening)
        return action[:, :-1], observation


@pytest.mark.parametrize(
    ("net", "teaching", "error", "message"),
    [
        (Foresight, ud.Cloning(), ValueError, "action at one of the places 0 to 2 depends on what comes later"),
        (Forgetful, ud.Cloning(), ValueError, "start and step predict the action of round [12] otherwise"),
        (
            Short,
            ud.Cloning(),
            ValueError,
            r"action \(logits\) must be a tensor of shape \[64, 6, 3\], not \[64, 5, 3\]",
        ),
        (Infinite, ud.Cloning(), FloatingPointError, "action_loss stopped being finite at update 1, which was not"),
        (Net, ud.Mixed(), ValueError, "expert and network take turns"),
        (Net, ud.Cloning("reverse"), ValueError, "target must be"),
    ],
)
def test_what_a_network_must_not_do(process, net, teaching, error, message):
    with pytest.raises(error, match=message):
        taught(process, net(), teaching, steps=1)


def test_page_runs(capsys):
    check_code(TORCH_PAGE, capsys)


@pytest.mark.parametrize("name", ut.__all__)
def test_reference_has_the_signature_and_the_docstring(name):
    check_entry(reference()[f"torch.{name}"], getattr(ut, name))
