"""Microseconds of a round of acting at batch 1, for every architecture: exported functions, called from Python.

A round is an action, the reading of it, and the reading of an observation. The floor is the same two calls of functions
that do nothing: what JAX needs to be called.

    python benchmarks/acting.py    about a minute
"""

import argparse
import tempfile
from pathlib import Path

import jax
import numpy as np

import undelude as ud
from undelude._agents.base import AbstractAgent
from undelude._cli.export import latencies
from undelude._versions import versions


class Nothing(ud.AbstractAgent[jax.Array]):
    """An agent without a memory that always takes the first arm."""

    def init(self, *, num_rounds):
        return jax.numpy.zeros(64)

    def f_A(self, m):
        return ud.Categorical(log_probs=m[:5])

    def f_O(self, m):
        return ud.Categorical(log_probs=m[:2])

    def g_A(self, a, m, *, intervened):
        return m

    def g_O(self, o, m):
        return m

    def act(self, m, *, key):
        return jax.numpy.zeros((), int), m


def agents(process: ud.InteractionProcess) -> dict[str, AbstractAgent]:
    key = jax.random.key(0)
    return {
        "(floor)": Nothing(),
        "LSTMAgent": ud.LSTMAgent(process, key=key),
        "GRUAgent": ud.GRUAgent(process, key=key),
        "LinearRecurrentAgent": ud.LinearRecurrentAgent(process, key=key),
        "TransformerAgent": ud.TransformerAgent(process, key=key),
        "MarkovAgent": ud.MarkovAgent(process, key=key),
        "SequencePredictor": ud.SequencePredictor(process, key=key),
        "ExactAgent": ud.ExactAgent(process),
    }


def main(num_rounds: int) -> None:
    process = ud.tasks.bandit(num_rounds=num_rounds)
    print(f"bandit, T = {num_rounds}, batch 1, {jax.devices()[0].platform}; JAX {versions()['jax']}")
    print(f"{'agent':24} {'median us':>10} {'99 % us':>10}")
    for name, agent in agents(process).items():
        with tempfile.TemporaryDirectory() as folder:
            ud.export(process, agent, folder)
            x = latencies(Path(folder), in_one_call=False)
        median, late = np.percentile(x, (50, 99))
        print(f"{name:24} {median:10.0f} {late:10.0f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    main(parser.parse_args().rounds)
