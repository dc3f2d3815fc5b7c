"""Interaction processes from the state machines of the brute-force oracle."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import undelude as ud
from oracle import Machine


class MachineTask(ud.AbstractTask[Array]):
    start: Array
    reads_a: Array
    reads_o: Array
    distribution: Array

    def init(self, theta):
        return self.start[theta]

    def Q_O(self, theta, w):
        return ud.Categorical(probs=self.distribution[theta, w])

    def g_A(self, theta, a, w):
        return self.reads_a[theta, a, w]

    def g_O(self, theta, o, w):
        return self.reads_o[theta, o, w]

    def reward(self, theta, w, a, o):
        return jnp.asarray(o, float)


class MachineExpert(ud.AbstractExpert[Array]):
    start: Array
    reads_a: Array
    reads_o: Array
    distribution: Array

    def init(self, theta):
        return self.start[theta]

    def Q_A(self, theta, e):
        return ud.Categorical(probs=self.distribution[theta, e])

    def g_A(self, theta, a, e):
        return self.reads_a[theta, a, e]

    def g_O(self, theta, o, e):
        return self.reads_o[theta, o, e]


class ThetaFreeMachineTask(MachineTask):
    theta_free_memory: ClassVar[bool] = True


class ThetaFreeMachineExpert(MachineExpert):
    theta_free_memory: ClassVar[bool] = True


class Hop(eqx.Module):
    distribution: Array

    def __call__(self, theta, w):
        return ud.Categorical(probs=self.distribution[theta, w])


def process_of(machine: Machine, *, num_rounds: int, theta_free: bool) -> ud.InteractionProcess:
    task, expert = (ThetaFreeMachineTask, ThetaFreeMachineExpert) if theta_free else (MachineTask, MachineExpert)
    arrays = {f.name: getattr(machine, f.name) for f in dataclasses.fields(machine)}
    arrays = {name: jnp.asarray(x) for name, x in arrays.items() if isinstance(x, np.ndarray)}
    return ud.InteractionProcess(
        prior=arrays["prior"],
        thetas=jnp.arange(len(machine.prior)),
        task=task(arrays["task_start"], arrays["task_reads_a"], arrays["task_reads_o"], arrays["Q_O"]),
        expert=expert(arrays["expert_start"], arrays["expert_reads_a"], arrays["expert_reads_o"], arrays["Q_A"]),
        num_rounds=num_rounds,
        opening=machine.opening,
        transition=None if machine.transition is None else Hop(arrays["transition"]),
        name="machine",
    )


KINDS = {
    "plain": {},
    "theta_free": {"theta_free": True},
    "opening": {"opening": True},
    "transition": {"transition": True, "theta_free": True},
    "opening_and_transition": {"opening": True, "transition": True, "theta_free": True},
}
