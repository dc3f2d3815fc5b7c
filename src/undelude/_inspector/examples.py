"""Histories of the paper, one click away on the page."""

import jax
import jax.numpy as jnp
import numpy as np

from undelude._inspector.alphabet import Alphabet
from undelude._inspector.history import History, Round
from undelude._inspector.values import Values
from undelude._process.process import InteractionProcess
from undelude.tasks.menu import AGAIN, NO, MenuByTurn

# Turns of the epigraph: a dish, and the customer's reply; the last one has none yet.
EPIGRAPH = (("cheeseburgers", NO), ("tacos", AGAIN), ("cheeseburgers", NO), ("tacos", AGAIN), ("cheeseburgers", None))


def examples_of(process: InteractionProcess, actions: Alphabet | Values, num_rounds: int) -> dict[str, History]:
    """Return the paper's histories in this process, by name; none for most processes."""
    task = process.task
    if process.name == "frog":
        return {"Section 2: box 1 is open": History((1,), (Round(0, "see"),))}
    if not isinstance(task, MenuByTurn) or not {"tacos", "cheeseburgers"} <= {*task.dishes}:
        return {}
    if len(EPIGRAPH) > num_rounds:
        return {}
    assert isinstance(actions, Alphabet)
    dish_of = np.asarray(jax.vmap(task.named)(jnp.asarray(actions.values))).tolist()
    rounds = []
    for dish, reply in EPIGRAPH:
        said = dish_of.index(task.dishes.index(dish))
        rounds.append(Round(said, "see", observation=reply))
    return {"The epigraph": History((task.dishes.index("tacos"),), tuple(rounds))}
