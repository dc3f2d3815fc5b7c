"""An LSTM on the bandit of Remark 11: milliseconds per update against PyTorch, and seconds to a certificate."""

import argparse
import json
import os
import time
from importlib.metadata import version
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch import nn

import undelude as ud
from undelude._teaching.loop import Loop
from undelude._versions import versions

HIDDEN_SIZE, LEARNING_RATE, MAX_NORM = 64, 1e-2, 1.0
TARGETS, TOLERANCE = (0.002, 0.001), 1e-4
CORES = 2  # threads of PyTorch, devices of JAX
EVALUATION_KEY = 12345  # of certificates and of the check alone; training keys are made of the seeds
# Settings of `TorchAgent`; the last uses torch.compile, half a minute for each batch size.
PEERS = {
    "PyTorch, autograd through the rollout": {"replay": False},
    "PyTorch, replay by nn.LSTM": {"replay": True},
}
COMPILED = {"PyTorch, torch.compile of the step": {"replay": False, "compiled": True}}


def lstm_step(
    row: torch.Tensor, h: torch.Tensor, c: torch.Tensor, W: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read one symbol; its input is a `row` for each episode."""
    i, f, g, out = torch.addmm(row, h, W).chunk(4, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(out) * torch.tanh(c), c


class TorchAgent(nn.Module):
    """The same agent by hand: 12 symbols (do(a): 5, a: 5, o: 2), one LSTM cell, two linear heads.

    Gradients flow back through the rollout's own forward pass; or, with `replay`, the rollout has none and `nn.LSTM`
    reads it again, which pays for the forward pass twice but runs in native code.
    """

    def __init__(self, agent: ud.LSTMAgent, process: ud.InteractionProcess, *, replay: bool, compiled: bool = False):
        super().__init__()
        self.lstm = nn.LSTM(12, HIDDEN_SIZE)
        self.lstm.bias_hh_l0.requires_grad_(False).zero_()  # one bias is enough
        self.head_A, self.head_O = nn.Linear(HIDDEN_SIZE, 5), nn.Linear(HIDDEN_SIZE, 2)
        self.weights = [x for x in self.parameters() if x.requires_grad]  # in the order of `as_torch`
        for mine, weight in zip(self.weights, as_torch(agent), strict=True):
            mine.data.copy_(weight)
        self.optimizers: list[torch.optim.Optimizer] = [torch.optim.Adam(self.weights, LEARNING_RATE, fused=True)]
        self.max_norm: float | None = MAX_NORM  # of the gradient
        self.step = torch.compile(lstm_step) if compiled else lstm_step
        self.replay, self.num_rounds = replay, process.num_rounds
        self.Q_A, self.Q_O = (torch.tensor(np.exp(part.log_probs)) for part in (process.expert, process.task))

    def losses(self, theta: torch.Tensor, stored: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Return nats per action and an observation, in own episodes with theta `[B]`, or in stored ones `[T, B]`."""
        noise = torch.empty(self.num_rounds, len(theta), 5).exponential_()
        uniform = torch.rand(self.num_rounds, len(theta))
        with torch.set_grad_enabled(not self.replay):
            # A one-hot input times the weights is a row of this table.
            table = self.lstm.weight_ih_l0.T + self.lstm.bias_ih_l0
            h = c = torch.zeros(len(theta), HIDDEN_SIZE)
            hiddens, symbols = [h], []
            for t in range(self.num_rounds):
                with torch.no_grad():  # the argmax of p / Exponential(1) has the distribution p
                    a = stored[0][t] if stored else (self.head_A(h).softmax(-1) / noise[t]).argmax(-1)
                    o = stored[1][t] if stored else (uniform[t] < self.Q_O[theta, a, 1]).long()
                for x in (a, 10 + o):
                    h, c = self.step(nn.functional.embedding(x, table), h, c, self.lstm.weight_hh_l0.T)
                    hiddens.append(h)
                    symbols.append(x)
        h, x = torch.stack(hiddens[:-1]), torch.stack(symbols)
        if self.replay:
            h = torch.cat([h[:1], self.lstm(nn.functional.one_hot(x, 12).float())[0][:-1]])
        log_P_A, log_P_O = self.head_A(h[0::2]).log_softmax(-1), self.head_O(h[1::2]).log_softmax(-1)
        action, observation = -(self.Q_A[theta] * log_P_A).sum(-1), -log_P_O.gather(-1, x[1::2, :, None] - 10)
        return torch.stack([action.mean(), observation.mean()])

    def use_muon(self) -> None:
        """Return the default optimiser of `ud.teach`: Muon for matrices, Adam for the rest."""
        matrices, others = ([x for x in self.weights if (x.ndim == 2) == yes] for yes in (True, False))
        muon = torch.optim.Muon(matrices, weight_decay=0.0)
        self.optimizers, self.max_norm = [muon, torch.optim.Adam(others, fused=True)], None

    def teach(self, updates: int, batch_size: int, rates: Any = None) -> tuple[float, list[float]]:
        """Return the seconds of the updates and their mean losses; `rates` are learning rates, if given."""
        sums = torch.zeros(2)
        started = time.perf_counter()
        for i in range(updates):
            if rates is not None:
                for optimizer in self.optimizers:
                    optimizer.param_groups[0]["lr"] = rates[i]
            losses = self.losses(torch.randint(5, (batch_size,)))
            self.zero_grad()
            losses.sum().backward()
            if self.max_norm is not None:
                nn.utils.clip_grad_norm_(self.weights, self.max_norm)
            for optimizer in self.optimizers:
                optimizer.step()
            sums += losses.detach()
        return time.perf_counter() - started, (sums / updates).tolist()


def as_torch(agent: ud.LSTMAgent) -> list[torch.Tensor]:
    """Return the weights of `agent`, or their gradients, in the order and layout of `TorchAgent.weights`."""
    own = agent.interface
    read = jnp.concatenate([own.read_do.table, own.read_see.table, own.read_observation.table])
    heads = [x for head in (own.head_A, own.head_O) for x in (head.weight.T, head.bias)]
    return [torch.tensor(np.asarray(x)) for x in (read.T, agent.cell.recurrent.T, agent.cell.bias, *heads)]


def from_torch(peer: TorchAgent, agent: ud.LSTMAgent) -> ud.LSTMAgent:
    """Return `agent` with the weights of `peer`, for its certificate."""
    read, recurrent, bias, W_A, b_A, W_O, b_O = (jnp.asarray(x.detach().numpy()) for x in peer.weights)
    do, see, observation = jnp.split(read.T, (5, 10))

    def parts(agent: ud.LSTMAgent) -> list[Any]:
        own = agent.interface
        tables = [own.read_do.table, own.read_see.table, own.read_observation.table]
        heads = [own.head_A.weight, own.head_A.bias, own.head_O.weight, own.head_O.bias]
        return [*tables, agent.cell.recurrent, agent.cell.bias, *heads]

    return eqx.tree_at(parts, agent, [do, see, observation, recurrent.T, bias, W_A.T, b_A, W_O.T, b_O])


def check_equal(process: ud.InteractionProcess, agent: ud.LSTMAgent, peer: TorchAgent) -> float:
    """Return the greatest gap in losses, or in the gradient relative to its greatest entry, on stored episodes."""
    episodes = ud.rollout(process, agent, key=jax.random.key(EVALUATION_KEY), num_episodes=64)

    def loss(agent: ud.LSTMAgent, episodes: ud.Episodes) -> tuple[jax.Array, jax.Array]:
        score = jax.vmap(lambda episode: ud.log_losses(agent, episode, target="distribution"))
        losses = jnp.stack([x.mean() for x in score(episodes)])
        return losses.sum(), losses

    (_, losses), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(agent, episodes)
    data = (episodes.theta, episodes.actions.T, episodes.observations.T)
    theta, *stored = (torch.tensor(np.asarray(x)).long() for x in data)
    peer_losses = peer.losses(theta, stored)
    peer_losses.sum().backward()
    mine, theirs = torch.cat([x.ravel() for x in as_torch(gradient)]), torch.cat([x.grad.ravel() for x in peer.weights])
    gap_of_losses = (torch.tensor(np.asarray(losses)) - peer_losses.detach()).abs().max()
    gap = max(gap_of_losses.item(), (mine - theirs).abs().max().item() / mine.abs().max().item())
    if not gap <= TOLERANCE:
        raise SystemExit(f"the two differ by {gap:.1e}: they are not the same job, and their times say nothing.")
    return gap


def compare(batch_size: int, updates: int, repeats: int, seed: int, of_torch: dict[str, Any]) -> dict[str, Any]:
    """Return milliseconds per update, measured in turns of `updates` updates."""
    process = ud.tasks.bandit()
    agent = ud.LSTMAgent(process, HIDDEN_SIZE, key=jax.random.key(seed)).reading_as("do")
    torch.manual_seed(seed)
    peers = {name: TorchAgent(agent, process, **settings) for name, settings in of_torch.items()}
    gap = max(check_equal(process, agent, peer) for peer in peers.values())
    seconds, losses = {name: [] for name in ("undelude", *peers)}, {}

    def take_turns(state: Any, row: dict[str, Any]) -> None:
        del state
        seconds["undelude"].append(row["seconds"] - sum(seconds["undelude"]))
        losses["undelude"] = [row["action_loss"], row["observation_loss"]]
        for name, peer in peers.items():
            spent, losses[name] = peer.teach(updates, batch_size)
            seconds[name].append(spent)

    adam = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(LEARNING_RATE))
    length = {"steps": (repeats + 1) * updates, "batch_size": batch_size, "log_every": updates}
    settings = {"key": jax.random.key(seed), "optimizer": adam, "on_log": take_turns} | length
    run = ud.teach(process, agent, ud.Counterfactual(target="distribution"), **settings)

    print(f"\nbatch {batch_size}: milliseconds per update; losses and gradients agree within {gap:.0e}")
    print(f"{'':40}{'median':>9}{'min':>9}{'max':>9}   losses in the last {updates} of {length['steps']} updates")
    rows = {}
    for name, times in seconds.items():
        x = 1e3 * np.asarray(times[1:]) / updates  # the first turn warms up
        rows[name] = {"median": np.median(x), "min": x.min(), "max": x.max(), "losses": losses[name]}
        action, observation = losses[name]
        print(f"{name:40}{np.median(x):9.2f}{x.min():9.2f}{x.max():9.2f}   {action:.4f}, {observation:.4f}")
    eager = [name for name in peers if name in PEERS]
    ratio, of_minima = (min(rows[name][x] for name in eager) / rows["undelude"][x] for x in ("median", "min"))
    print(f"the faster eager PyTorch over undelude: {ratio:.2f} by medians, {of_minima:.2f} by minima", end="; ")
    for name in peers.keys() - eager:
        print(f"{name}: {rows[name]['median'] / rows['undelude']['median']:.2f} by medians", end="; ")
    print(f"undelude's compilation, {run.compile_seconds:.1f} s, is in neither", flush=True)
    return {"rows": rows, "gap": gap, "compile_seconds": run.compile_seconds, "ratio": ratio}


# For each of `TARGETS`: updates, episodes in each, peak learning rate. Other settings are defaults of `ud.teach`, for
# PyTorch too. Rates decay to zero, so that a target is met near the end.
EAGER = "PyTorch"
LSTM_RUNS = ((1200, 64, 0.04), (1900, 128, 0.04))
NETS: dict[str, Any] = {
    "lstm": (ud.LSTMAgent, LSTM_RUNS),
    "linear": (ud.LinearRecurrentAgent, ((1100, 64, 0.03), (2500, 64, 0.03))),
    "transformer": (ud.TransformerAgent, ((900, 64, 0.03), (1700, 64, 0.03))),
    EAGER: (None, LSTM_RUNS),
}
LOOK_EVERY, LOOK_FROM, WARM_UP = 50, 0.6, 10


class Curve:
    """The certificates of a run: pairs of seconds of training and `action_kl_do`."""

    def __init__(self, process: ud.InteractionProcess, steps: int):
        self.process, self.steps, self.points = process, steps, []

    def look(self, agent: Any, update: int, seconds: float) -> None:
        if update >= LOOK_FROM * self.steps:
            size = {"key": jax.random.key(EVALUATION_KEY), "baselines": False}
            self.points.append((seconds, ud.certify(self.process, agent, **size).action_kl_do))

    def hit(self, target: float) -> float:
        return next((seconds for seconds, kl in self.points if kl <= target), np.inf)


def eager_run(process: ud.InteractionProcess, seed: int, run: tuple[int, int, float]) -> Curve:
    """Train PyTorch's LSTM with the same optimiser, and return its curve."""
    steps, batch_size, rate = run
    agent = ud.LSTMAgent(process, HIDDEN_SIZE, key=jax.random.key(seed)).reading_as("do")
    torch.manual_seed(seed)
    peer, seconds, curve = TorchAgent(agent, process, replay=True), 0.0, Curve(process, steps)
    peer.use_muon()
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, WARM_UP, steps)
    rates = [float(x) for x in jax.vmap(schedule)(jnp.arange(steps))]
    for start in range(0, steps, LOOK_EVERY):
        seconds += peer.teach(LOOK_EVERY, batch_size, rates[start : start + LOOK_EVERY])[0]
        curve.look(from_torch(peer, agent), start + LOOK_EVERY, seconds)
    return curve


def own_run(process: ud.InteractionProcess, loop: Any, kind: Any, seed: int) -> tuple[Curve, float]:
    """Train our agent, and return its curve and, for the first seed, the seconds of compilation."""
    key_agent, key = jax.random.split(jax.random.key(seed))
    curve = Curve(process, loop.steps)

    def look(state: Any, row: dict[str, Any]) -> None:
        curve.look(state.agent, row["update"], row["seconds"])

    run = loop.run(loop.begin(kind(process, key=key_agent)), key=key, on_log=look)
    return curve, run.compile_seconds


def certificates(seeds: list[int], names: list[str]) -> dict[str, Any]:
    """Return seconds of training until the first certificate at or below each target, without other work."""
    process, teaching = ud.tasks.bandit(), ud.Counterfactual()
    jobs = [(name, i) for name in names for i in range(len(TARGETS))]
    loops = {}
    for name, i in jobs:
        steps, batch_size, rate = NETS[name][1][i]
        size = {"steps": steps, "batch_size": batch_size, "learning_rate": rate, "log_every": LOOK_EVERY}
        loops[name, i] = None if name == EAGER else Loop(process, teaching, **size)
    results: dict[str, Any] = {f"{name} to {TARGETS[i]}": [] for name, i in jobs}
    print(f"\n{'':24}{'seed':>6}{'hit, s':>10}{'in all, s':>10}{'compile, s':>12}   action_kl_do at the end")
    for seed in seeds:  # In turn, so that a slow minute is everybody's.
        for name, i in jobs:
            kind, runs = NETS[name]
            if name == EAGER:
                curve, compile_seconds = eager_run(process, seed, runs[i]), 0.0
            else:
                curve, compile_seconds = own_run(process, loops[name, i], kind, seed)
            job, hit, (seconds, kl) = f"{name} to {TARGETS[i]}", curve.hit(TARGETS[i]), curve.points[-1]
            results[job].append({"seed": seed, "hit": hit, "curve": curve.points, "compile_seconds": compile_seconds})
            print(f"{job:24}{seed:6}{hit:10.2f}{seconds:10.2f}{compile_seconds:12.2f}   {kl:.5f}", flush=True)
    print("\nmedians (inf: not within the run)")
    medians = {job: np.median([row["hit"] for row in rows]) for job, rows in results.items()}
    for name, i in jobs:
        hit, theirs = (medians.get(f"{x} to {TARGETS[i]}") for x in (name, EAGER))
        compared = "" if theirs is None or name == EAGER else f"   {EAGER} takes {theirs / hit:.1f} times as long"
        print(f"{name} to {TARGETS[i]:<12}{hit:10.2f}{compared}")
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 128, 512], help="one comparison for each")
    parser.add_argument("--updates", type=int, default=30, help="in one timing")
    parser.add_argument("--repeats", type=int, default=10, help="timings of each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the runs; the comparison takes the first")
    parser.add_argument("--compiled", action="store_true", help="PyTorch by torch.compile too")
    parser.add_argument("--certificate", action="store_true", help="seconds to the certificate instead")
    parser.add_argument("--nets", nargs="+", choices=[*NETS], default=[*NETS], help="to the certificate")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", CORES)
    torch.set_num_threads(CORES)
    load = os.getloadavg()[0]
    about = {"versions": versions() | {"torch": version("torch")}, "arguments": vars(args), "load_average": load}
    print(about)
    if load > 0.5:
        print("Others use this machine, and PyTorch's threads, which wait for each other, suffer most: do not quote.")
    if args.certificate:
        results = certificates(args.seeds, args.nets)
    else:
        peers = PEERS | (COMPILED if args.compiled else {})
        results = {size: compare(size, args.updates, args.repeats, args.seeds[0], peers) for size in args.batch_sizes}
    if args.json:
        with open(args.json, "w") as file:
            json.dump(about | {"results": results}, file, indent=2)


if __name__ == "__main__":
    main()
