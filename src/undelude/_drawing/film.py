"""Films of episodes: the task draws its memory and the belief of an agent, round by round."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key, UInt8

from undelude._checks import check_count, one_line
from undelude._compiled import compiled
from undelude._drawing.frame import DO, HEADER, LETTER, MUTED, SEE, Frame, Swatch, legend_strip, title_strip
from undelude._process.episodes import AGENT, Episodes, one_of
from undelude._process.host_world import AbstractHostWorld, World, check_world
from undelude._process.inference import filter
from undelude._process.process import InteractionProcess, check_process
from undelude._process.replay import replay
from undelude._process.task import AbstractTask
from undelude._tree import index, prepend
from undelude._types import Belief, Memory, Observation, Theta

# Pixels between films side by side.
GAP = 6
# Smallest width of a picture in pixels: below it the letters of the header have no height.
MIN_SIZE = 16
# Colour of a belief, and its meaning, by who acts and how the actions are read.
BELIEFS = {
    "do": (DO, "belief, own actions read as interventions"),
    "see": (SEE, "belief, own actions read as evidence"),
    "expert": (MUTED, "belief of an onlooker of the expert"),
}


@dataclasses.dataclass(frozen=True)
class Film:
    """The pictures of an episode, as `film` draws them, or of several side by side; `Film(frames)` holds any others.

    Attributes:
        frames: `[T + 1, H, W, 3]`, RGB.
        legend: what the marks mean.
        title: text above the frames.
    """

    frames: UInt8[np.ndarray, "T1 H W 3"]
    legend: tuple[Swatch, ...] = ()
    title: str = ""

    def __repr__(self) -> str:
        height, width = self.frames.shape[1:3]
        return f"Film({len(self)} frames of {width} x {height} pixels, title={self.title!r})"

    def __len__(self) -> int:
        return len(self.frames)

    def array(self) -> UInt8[np.ndarray, "T1 H W 3"]:
        """Return the frames with the title above and the legend below."""
        _, height, width, _ = self.frames.shape
        letter = LETTER * height / (1 + HEADER)
        strips = [title_strip(self.title, width, 1.25 * letter)] if self.title else []
        strips += [self.frames, *([legend_strip(self.legend, width, letter)] if self.legend else [])]
        return np.concatenate([np.broadcast_to(x, (len(self), *x.shape[-3:])) for x in strips], axis=1)


def film(
    process: World,
    episodes: Episodes,
    *,
    episode: int = 0,
    size: int = 240,
    title: str = "",
    frames_per_round: int = 1,
    key: Key[Array, ""] | None = None,
) -> Film:
    """Draw one episode: the beginning, then each round that exists, as the task draws it.

    If Theta is finite, each frame also shows the belief `P(Theta | history)` after the round, with the actions read as
    the episode marks them. Its colour is blue if the agent acted and its actions are read as do, orange if one of them
    is read as see, and grey if the expert took part. A frame or a ring marks the true theta. The header shows the
    observation as `task.say` words it. The legend explains the belief and the marks that the task draws with a label.

    A world in Python plays the episode again, from its seed and with its actions, and draws it: a `ug.HostWorld` what
    its environment renders, and the belief if exact answers exist.

    Args:
        process: the process or world of the episodes.
        episodes: the result of a rollout.
        episode: index of the episode; for a world in Python also if `episodes` is that one alone, taken out of a batch.
        size: width of the picture in pixels; a header is added above.
        title: text in the header, before the number of the round.
        frames_per_round: 1, or more for a smooth motion: between two rounds the belief, and those numbers in the task's
            memory that are not whole, change in equal steps. A world in Python has one.
        key: of the rollout, for a world in Python only.

    Returns:
        A `Film` of `1 + T * frames_per_round` frames; T is the number of rounds that exist in the episode.

    Raises:
        TypeError: `process` is not a process or world, or `episodes` are not episodes.
        ValueError: a number is out of range, the episodes are histories without theta, or the world in Python has no
            drawing, or shows something else than in the episode when it is played again. It does if the episode
            replaced one that was lost to a failure.

    >>> import jax
    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit(num_rounds=3)
    >>> episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(0), num_episodes=2)
    >>> ud.film(bandit, episodes, episode=1, size=64).frames.shape
    (4, 71, 64, 3)
    """
    check_world(process)
    if not isinstance(process, AbstractHostWorld):
        process = check_process(process)
    if not isinstance(episodes, Episodes):
        raise TypeError(f"episodes must be ud.Episodes, the result of ud.rollout, not {one_line(repr(episodes))}.")
    size, frames_per_round = check_count("size", size), check_count("frames_per_round", frames_per_round)
    if size < MIN_SIZE:
        raise ValueError(f"size must be at least {MIN_SIZE} pixels, so that there is room for the header, not {size}.")
    episodes = one_of(episodes, episode, name=process.name, to="draw")
    if isinstance(process, AbstractHostWorld):
        if frames_per_round != 1:
            raise ValueError(f"{process.name} runs in Python, and has one frame a round, not {frames_per_round}.")
        if key is None:
            raise ValueError(f"{process.name}: give key=, that of the rollout: the episode is played again for a film.")
        rounds = _rounds_of_world(process, episodes, jax.random.fold_in(key, episode))
    else:
        if key is not None:
            raise ValueError(f"{process.name}: key= is for worlds in Python; this episode is drawn as it is stored.")
        rounds = _rounds_of_process(process, episodes, frames_per_round)
    num_rounds = int(np.asarray(episodes.mask).sum())
    by_agent, done = (bool(np.asarray(x)[:num_rounds].all()) for x in (episodes.executor == AGENT, episodes.intervened))
    accent, meaning = BELIEFS["expert" if not by_agent else "do" if done else "see"]
    meaning = meaning if rounds[0].belief else ""
    pictures, legend = [], {}
    for i, (theta, w, belief) in enumerate(rounds):
        t = i // frames_per_round
        header = f"{title}, round {t}" if title else f"round {t}"
        o = episodes.opening if t == 0 else index(episodes.observations, t - 1)
        style = {"size": size, "accent": accent, "meaning": meaning, "title": header}
        task = process if isinstance(process, AbstractHostWorld) else process.task
        frame = draw_round(task, theta, w, belief, jax.tree.map(np.asarray, o), **style)
        pictures.append(frame.array())
        legend = frame.legend | legend
    entries = sorted(legend.values(), key=lambda entry: entry.label != meaning)  # The belief first.
    return Film(np.stack(pictures), tuple(entries))


class _Round(NamedTuple):
    """What a frame shows: the true theta, the memory of the task, and the belief, empty if it is not known."""

    theta: Theta
    w: Memory
    belief: Belief


def _rounds_of_process(process: InteractionProcess, episode: Episodes, frames_per_round: int) -> list[_Round]:
    num_rounds = int(np.asarray(episode.mask).sum())
    thetas, memories = jax.tree.map(np.asarray, _thetas_and_memories(process, episode))
    # An action read as see may be impossible evidence; the belief then stays as it was.
    beliefs = np.exp(np.asarray(_log_beliefs(process, episode))) if process.finite else None
    values = jax.tree.map(np.asarray, process.thetas)
    rounds = []
    for i in range(1 + num_rounds * frames_per_round):
        theta, w, probabilities = (_at_time(x, i / frames_per_round) for x in (thetas, memories, beliefs))
        belief = [] if beliefs is None else [(index(values, k), float(p)) for k, p in enumerate(probabilities)]
        rounds.append(_Round(theta, w, belief))
    return rounds


def _rounds_of_world(world: AbstractHostWorld, episode: Episodes, key: Key[Array, ""]) -> list[_Round]:
    scenes = world.replay(episode, key)
    beliefs: Any = [()] * len(scenes)
    evidence = world.evidence(jax.tree.map(lambda x: x[None], episode))
    if not isinstance(evidence, str):
        log_posterior = index(evidence, 0).log_posterior(episode, episode.intervened)
        beliefs = [list(enumerate(map(float, row))) for row in np.exp(np.asarray(log_posterior))]
    theta = int(np.asarray(episode.theta))
    return [_Round(theta, scene, belief) for scene, belief in zip(scenes, beliefs, strict=False)]


def draw_round(
    task: AbstractTask | AbstractHostWorld,
    theta: Theta,
    w: Memory,
    belief: Belief,
    o: Observation | None,
    *,
    size: int,
    accent: str,
    meaning: str,
    title: str,
) -> Frame:
    """Return the frame of one round; everything is in NumPy.

    Args:
        task: draws, and words the observation for the header; a world in Python does both itself.
        theta: the true value after the round.
        w: the memory of the task after the action of the round.
        belief: each value of Theta with its probability; empty if Theta is continuous.
        o: the observation of the round, or None.
        size: width in pixels.
        accent: colour of the belief.
        meaning: of the belief, for the legend.
        title: text in the header.
    """
    frame = Frame(size, accent=accent, title=title, belief=meaning)
    if o is not None:
        frame.text((0.98, -HEADER / 2), task.say(o), size=LETTER, anchor="rm")
    task.draw(frame, theta, w, belief)
    return frame


def _at_time(states: Any, t: float) -> Any:
    """Return the entry of round `t`; between two rounds, whole numbers are those of the round before."""
    before, share = int(t), t - int(t)
    now = index(states, before)
    if share == 0:
        return now
    after = index(states, before + 1)
    return jax.tree.map(lambda x, y: (1 - share) * x + share * y if x.dtype.kind == "f" else x, now, after)


@compiled
def _log_beliefs(process: InteractionProcess, episode: Episodes) -> Any:
    return filter(process, episode).log_posterior


@compiled
def _thetas_and_memories(process: InteractionProcess, episode: Episodes) -> Any:
    """Return theta after each round and the task's memory after its action, both preceded by those at the start."""
    states = replay(process, episode)
    return states.theta, prepend(index(states.w, 0), states.acted_w)


def side_by_side(films: Sequence[Film], *, title: str = "") -> Film:
    """Join films of equal heights into one with a common legend. One that ends early keeps its last frame.

    Args:
        films: from left to right.
        title: text above all of them.

    Raises:
        ValueError: the list is empty, a film has no frames, or the heights differ.
    """
    if empty := [i for i, one in enumerate(films) if not len(one)]:
        raise ValueError(f"side_by_side needs films with at least one frame; films[{empty[0]}] has none.")
    heights = [one.frames.shape[1] for one in films]
    if len(set(heights)) != 1:
        raise ValueError(f"side_by_side needs one film or more, of equal heights, not {heights}.")
    length, parts = max(map(len, films)), []
    for one in films:
        last = np.repeat(one.frames[-1:], length - len(one), axis=0)
        gap = np.full((length, heights[0], GAP, 3), 255, np.uint8)
        parts += [np.concatenate([one.frames, last]), gap]
    # Position by position, so that all beliefs come first.
    entries = [entry for row in itertools.zip_longest(*(one.legend for one in films)) for entry in row if entry]
    return Film(np.concatenate(parts[:-1], axis=2), tuple(dict.fromkeys(entries)), title)
