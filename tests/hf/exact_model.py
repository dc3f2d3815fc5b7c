"""The exact agents of a menu as a model that reads messages, by `ud.ExactAgent` and nothing of `undelude.hf`."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import undelude as ud
from undelude.tasks.menu import REPLIES


class ExactModel:
    """A model of messages: the assistant's slot has its own words, the user's slot replies and others' guesses.

    Args:
        process: a menu of dishes of one word.
        own_actions: "do" for the sober agent, "see" for the deluded one.
        probe: to which it answers with its belief.
    """

    def __init__(self, process: ud.InteractionProcess, own_actions: str, probe: str):
        self.agent = ud.ExactAgent(process, own_actions=own_actions)
        self.num_rounds, self.probe, self.dishes = process.num_rounds, probe, process.task.dishes
        self.read = functools.lru_cache(maxsize=None)(self._read)
        self._act = jax.jit(lambda m, a, do: self.agent.g_A(a, m, intervened=do))
        self._hear = jax.jit(lambda m, o: self.agent.g_O(o, m))
        self._predict = jax.jit(lambda m: (jnp.exp(m.log_posterior), self.agent.f_A(m).probs))

    def __call__(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        parts = [(x["role"], part) for x in messages for part in x["content"].split("\n\n")]
        is_probe = parts[-1] == ("user", self.probe)
        belief, policy = self.read(tuple(parts[:-1] if is_probe else parts))
        return dict(zip(self.dishes, belief if is_probe else policy, strict=True))

    def _read(self, parts: tuple[tuple[str, str], ...]) -> tuple[np.ndarray, np.ndarray]:
        m = self.agent.init(num_rounds=self.num_rounds)
        has_spoken = False
        for role, text in parts:
            if text in self.dishes:
                own = role == "assistant" and self.agent.own_actions == "do"
                m, has_spoken = self._act(m, jnp.asarray(self.dishes.index(text)), jnp.asarray(own)), True
            elif text in REPLIES and has_spoken:
                m = self._hear(m, jnp.asarray(REPLIES.index(text)))
        belief, policy = self._predict(m)
        return np.asarray(belief, float), np.asarray(policy, float)
