"""The digest of a process or of a simulator, by which a saved episode knows its own again."""

import hashlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from undelude._process.episodes import Episodes
from undelude._process.host_world import AbstractHostWorld
from undelude._process.process import InteractionProcess
from undelude._process.world import key_of
from undelude._rollout.rollout import rollout
from undelude._tree import outline

# Hexadecimal digits of a digest.
DIGITS = 16
# Rounds in which a simulator's expert and cue are heard, and rounds of two episodes that show whether a seed repeats
# one: a few answers may be equal by chance.
ROUNDS, COMPARED = 3, 20


def digest_of(process: InteractionProcess) -> str:
    """Return a digest of what the process computes with: the outline and the numbers of its parts.

    Numbers count with five significant digits, since the last ones differ between machines. The number of rounds does
    not count.
    """
    return _digest((process.prior, process.thetas, process.task, process.expert, process.transition, process.opening))


def digest_of_world(world: AbstractHostWorld) -> str:
    """Return a digest of a simulator: name, specs, prior, contexts, and what its expert and its cue say.

    They are heard in the first rounds of an episode under the first context and of one under the last, played by the
    expert. Their answers do not count if the same seed plays another episode the second time, or if the expert is a
    person. Nor does the number of rounds, if there are three or more.
    """
    known: Any = vars(world)
    prior, contexts = jnp.asarray(known["prior"], float), jax.tree.map(_plain, known.get("contexts"))
    heard: Any = None
    if not world.expert_is_person:
        (heard, played), (_, again) = (_heard(world, len(prior)) for _ in range(2))
        heard = heard if _digest(played) == _digest(again) else None
    return _digest((world.name, str(world.specs), prior, contexts, heard))


def _heard(world: AbstractHostWorld, num_thetas: int) -> tuple[list[Any], list[Episodes]]:
    """Return the expert's answers, and, if they are known, those under other contexts and the probabilities of cues.

    Returns:
        They, and the episodes in which they were heard.
    """
    found, played = [], []
    for theta in sorted({0, num_thetas - 1}):
        size = {"num_episodes": 1, "num_rounds": min(COMPARED, world.num_rounds)}
        episodes = rollout(world, None, key=key_of(0), theta=theta, executor="expert", **size)
        exists, evidence = np.asarray(episodes.mask), world.evidence(episodes)
        exists = exists & (np.arange(exists.shape[1]) < ROUNDS)
        played.append(episodes)
        answers = [episodes.actions if episodes.expert is None else episodes.expert]
        if not isinstance(evidence, str):
            answers += [jax.tree.map(lambda x: x[:, :-1], evidence.experts), dict(evidence.symbols)]
        found.append(jax.tree.map(lambda x, exists=exists: jnp.asarray(np.asarray(x)[exists]), answers))
    return found, played


def _plain(x: Any) -> Any:
    """Return a context for the digest: numbers and texts; of anything else, the type."""
    if isinstance(x, str | bool | int | float):
        return x
    is_array = isinstance(x, np.ndarray | np.generic | jax.Array)
    if not is_array or np.asarray(x).dtype.kind == "O":
        return type(x).__qualname__
    return jnp.asarray(x) if np.asarray(x).dtype.kind in "biuf" else str(x)


def _digest(parts: Any) -> str:
    """Return a digest of the outline and the numbers of a PyTree."""
    found = outline(parts)
    # The address of a function differs between two runs of a program.
    text = re.sub(r" at 0x[0-9a-f]+", "", str((found.shapes, found.structure, found.static_leaves)))
    total = hashlib.sha256(text.encode())
    for leaf in jax.tree.leaves(parts):
        x = np.asarray(leaf)
        if np.issubdtype(x.dtype, np.floating):
            total.update(" ".join(f"{y + 0.0:.4e}" for y in x.astype(float).ravel().tolist()).encode())
        else:
            total.update(str(x.tolist()).encode())
    return total.hexdigest()[:DIGITS]
