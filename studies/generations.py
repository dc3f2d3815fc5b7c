"""Remark 12: ten generations of networks, each taught on a corpus that the one before it wrote.

python studies/generations.py               about 6 minutes on two cores
python studies/generations.py --steps 5     a trial run
"""

import argparse
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import store
from jaxtyping import Array, Float, Key, PyTree

import undelude as ud
from undelude._agents.base import Reading, predict, with_reading
from undelude._paper.blocks.dialogues import WORLDS, Dialogues
from undelude._process.episodes import EXPERT
from undelude._process.process import check_process
from undelude._teaching.loop import default_optimizer
from undelude._teaching.updates import collect

SEEDS = (0, 1, 2, 3, 4)
GENERATIONS = 10
SIZE = {"hidden_size": 32, "batch_size": 128, "learning_rate": 2e-2, "corpus": 8192, "num_episodes": 2048}


@dataclasses.dataclass(frozen=True)
class Arm:
    """What the corpora consist of.

    Attributes:
        dialogues: the world and the expert.
        marked: whether own words are marked do, and only the words of others are targets.
        people: the share of dialogues that the expert wrote alone.
        expert_share: the probability that the expert writes a turn of the other dialogues.
    """

    dialogues: Dialogues = WORLDS["default"]
    marked: bool = False
    people: float = 0.0
    expert_share: float = 0.0

    def teaching(self, expert_share: float) -> ud.Teaching:
        """Return the setting in which dialogues are written."""
        own, theirs = ("do", "see") if self.marked else (None, None)
        return ud.Teaching(expert_share=expert_share, agent_mark=own, expert_mark=theirs)

    def write(self, agent: ud.AbstractAgent, share: float, num: int, key: Key[Array, ""]) -> ud.Episodes:
        """Return dialogues of the agent, in which the expert writes a share of the turns."""
        process, teaching = self.dialogues.process, self.teaching(share)
        return jax.vmap(lambda key: collect(process, agent, teaching, key))(jax.random.split(key, num))

    def corpus(self, agent: ud.AbstractAgent, key: Key[Array, ""]) -> ud.Episodes:
        """Return a corpus of fixed size after the generation `agent`."""
        num_people = round(self.people * SIZE["corpus"])
        shared = self.write(agent, self.expert_share, SIZE["corpus"] - num_people, key)
        if num_people == 0:
            return shared
        people = self.write(agent, 1.0, num_people, jax.random.fold_in(key, 1))
        return jax.tree.map(lambda *x: jnp.concatenate(x), people, shared)

    def learn(self, corpus: ud.Episodes, steps: int, key: Key[Array, ""]) -> PyTree:
        """Return the arrays of a new network, taught on a corpus."""
        agent = self.new(key)
        params, static = eqx.partition(agent, eqx.is_inexact_array)
        optimizer = default_optimizer(SIZE["learning_rate"], steps)

        def loss(params: PyTree, batch: ud.Episodes) -> Float[Array, ""]:
            P_A, P_O = jax.vmap(lambda x: predict(eqx.combine(params, static), x))(batch)
            log_A, log_O = (
                jnp.take_along_axis(P.log_probs, x[..., None], -1)[..., 0]
                for P, x in ((P_A, batch.actions), (P_O, batch.observations))
            )
            is_target = (batch.executor == EXPERT) | (not self.marked)
            return -(log_A * is_target).sum() / is_target.sum() - log_O.mean()

        def step(carry: tuple[PyTree, PyTree], key: Key[Array, ""]) -> tuple[tuple[PyTree, PyTree], None]:
            params, state = carry
            chosen = jax.random.randint(key, (SIZE["batch_size"],), 0, len(corpus.actions))
            gradient = jax.grad(loss)(params, jax.tree.map(lambda x: x[chosen], corpus))
            change, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, change), state), None

        keys = jax.random.split(jax.random.fold_in(key, 1), steps)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    def new(self, key: Key[Array, ""]) -> ud.LSTMAgent:
        """Return an untrained network."""
        agent = ud.LSTMAgent(self.dialogues.process, SIZE["hidden_size"], key=key)
        return with_reading(agent, Reading("do" if self.marked else "see"))

    def measure(self, agent: ud.AbstractAgent, key: Key[Array, ""]) -> dict[str, Array]:
        """Return KL(Q(A | do(a), o) || P) on the agent's own histories, and the entropy of its dishes, nats."""
        episodes = self.write(agent, 0.0, SIZE["num_episodes"], key)
        log_P = jax.vmap(lambda x: predict(agent, x))(episodes)[0].log_probs
        a, o = episodes.actions, episodes.observations
        is_named = (a[..., None] == jnp.arange(self.dialogues.num_dishes)).astype(int)
        told = jnp.log(jnp.asarray(self.dialogues.replies, jnp.float32))[is_named, o[..., None]]
        do = jax.nn.softmax(jnp.cumsum(told, 1) - told) @ jnp.asarray(self.dialogues.expert, jnp.float32)
        return {
            "action_kl_do": (do * (jnp.log(do) - log_P)).sum(-1).mean(),
            "entropy": -(jnp.exp(log_P) * log_P).sum(-1).mean(),
        }

    def run(self, steps: int, keys: Key[Array, " S"]) -> dict[str, np.ndarray]:
        """Return what is measured of each seed and generation; generation 0 learns from the expert's dialogues."""

        def of_arrays(params: PyTree) -> ud.AbstractAgent:
            return eqx.combine(params, static)

        static = eqx.partition(self.new(keys[0]), eqx.is_inexact_array)[1]
        first = jax.jit(jax.vmap(self.first))
        corpus = jax.jit(jax.vmap(lambda params, key: self.corpus(of_arrays(params), jax.random.fold_in(key, 1))))
        learn = jax.jit(jax.vmap(lambda corpus, key: self.learn(corpus, steps, jax.random.fold_in(key, 2))))
        measure = jax.jit(jax.vmap(lambda params, key: self.measure(of_arrays(params), jax.random.fold_in(key, 3))))
        params, found = learn(first(keys), keys), []
        for i in range(GENERATIONS + 1):
            key = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i)
            params = learn(corpus(params, key), key) if i > 0 else params
            found.append(measure(params, key))
        return jax.tree.map(lambda *x: np.stack(x, -1).astype(float), *found)

    def first(self, key: Key[Array, ""]) -> ud.Episodes:
        """Return the corpus of generation 0, dialogues of the expert."""
        people = self.write(self.new(key), 1.0, SIZE["corpus"], key)
        if not self.marked:
            return people
        # Generation 0 does not distinguish the marks: both occur, without a meaning.
        marks = jax.random.bernoulli(jax.random.fold_in(key, 4), 0.5, people.intervened.shape)
        return eqx.tree_at(lambda x: x.intervened, people, marks)


ARMS = {
    "unmarked, own text": Arm(),
    "unmarked, expert continues": Arm(people=0.5, expert_share=0.25),
    "marked, expert continues": Arm(people=0.5, expert_share=0.25, marked=True),
}


def study(steps: int) -> dict[str, Any]:
    """Run ten generations of each arm and seed."""
    rows = []
    for name, arm in ARMS.items():
        check_process(arm.dialogues.process)  # Before anything is traced.
        found = arm.run(steps, jax.vmap(jax.random.key)(jnp.array(SEEDS)))
        for i, seed in enumerate(SEEDS):
            rows.append({"arm": name, "seed": seed} | {x: y[i].tolist() for x, y in found.items()})
            print(rows[-1], flush=True)
    settings = Dialogues().parameters | {"task": "menu", "agent": "LSTMAgent", "steps": steps, **SIZE}
    arms = {name: {"people": arm.people, "expert_share": arm.expert_share} for name, arm in ARMS.items()}
    return {"seeds": list(SEEDS), "settings": settings | {"arms": arms, "generations": GENERATIONS}, "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    store.run("generations", lambda: study(steps), keep=steps == 300)
