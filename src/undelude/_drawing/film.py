"""Films of episodes: the task draws its memory and the belief of an agent, round by round."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageDraw, ImageFont

from undelude._checks import check_count
from undelude._compiled import compiled
from undelude._drawing.colours import ON_WHITE
from undelude._files import write_atomically
from undelude._process.episodes import AGENT, Episodes
from undelude._process.inference import filter
from undelude._process.process import InteractionProcess
from undelude._process.replay import replay
from undelude._tree import index, prepend

Film = UInt8[np.ndarray, "T1 H W 3"]

PAPER, INK, MUTED, RULE, ALARM = (ON_WHITE[role] for role in ("paper", "ink", "muted", "rule", "alarm"))
DO, SEE = ON_WHITE["do"], ON_WHITE["see"]
# Factor by which frames are drawn larger and then scaled down, for smooth edges.
OVERSAMPLING = 2
# Height of the header, as a fraction of the square below it.
HEADER = 0.11
# Number of colours in a GIF.
NUM_COLOURS = 64


class Frame:
    """A square to draw on, from `(0, 0)` at the upper left to `(1, 1)` at the lower right; colours as in HTML.

    Args:
        size: width of the square in pixels; a header for the title is added above.
        accent: colour of beliefs.
        title: text in the header.
    """

    def __init__(self, size: int, *, accent: str = DO, title: str = ""):
        self.accent, self.ink, self.muted, self.rule, self.alarm = accent, INK, MUTED, RULE, ALARM
        self._scale, self._top = size * OVERSAMPLING, round(HEADER * size) * OVERSAMPLING
        self._image = Image.new("RGB", (self._scale, self._scale + self._top), PAPER)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        if title:
            self.text((0.02, -HEADER / 2), title, size=0.06, anchor="lm")

    def box(
        self, corner: Any, other: Any, *, fill: str | None = None, opacity: float = 1.0, outline: str | None = None
    ):
        """Draw a rectangle between two corners."""
        self._draw.rectangle(
            [*self._at(corner), *self._at(other)], fill=_rgba(fill, opacity), outline=outline, width=self._width(0.006)
        )

    def disc(
        self, centre: Any, radius: float, *, fill: str | None = None, opacity: float = 1.0, outline: str | None = None
    ):
        """Draw a disc or a ring."""
        (x, y), r = self._at(centre), radius * self._scale
        self._draw.ellipse(
            [x - r, y - r, x + r, y + r], fill=_rgba(fill, opacity), outline=outline, width=self._width(0.01)
        )

    def line(self, points: Any, *, colour: str = INK, width: float = 0.01):
        """Draw a line through points."""
        self._draw.line([self._at(p) for p in points], fill=colour, width=self._width(width), joint="curve")

    def text(self, at: Any, words: str, *, size: float = 0.05, colour: str = INK, anchor: str = "mm"):
        """Write text; `anchor` as in Pillow, the middle by default."""
        font = ImageFont.load_default(size * self._scale)
        self._draw.text(self._at(at), words, fill=colour, font=font, anchor=anchor)

    def bars(self, heights: Sequence[float], *, framed: int, labels: Sequence[str] | None = None, top: float = 0.1):
        """Draw a bar for each probability, from the bottom up to `top`, with a frame around the true one.

        Labels below the bars are their numbers, from 0, by default; every second one or fewer if there is no room.
        """
        n, bottom = len(heights), 0.92
        labels = [str(k) for k in range(n)] if labels is None else labels
        # In a row there is room for about 36 characters and the gaps between the labels.
        every = math.ceil(n * (max(map(len, labels)) + 1) / 36)
        for k, height in enumerate(heights):
            left, right = 0.05 + 0.9 * k / n, 0.05 + 0.9 * (k + 0.85) / n
            self.box((left, bottom - (bottom - top) * height), (right, bottom), fill=self.accent)
            self.box((left, top), (right, bottom), outline=INK if k == framed else RULE)
            if k % every == 0:
                self.text(((left + right) / 2, 0.96), labels[k], size=0.05, colour=MUTED)

    def array(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the picture as an RGB array."""
        return np.asarray(self._image.reduce(OVERSAMPLING))

    def _at(self, point: Any) -> tuple[float, float]:
        return float(point[0]) * self._scale, float(point[1]) * self._scale + self._top

    def _width(self, width: float) -> int:
        return max(1, round(width * self._scale))


def _rgba(colour: str | None, opacity: float) -> tuple[int, ...] | None:
    return None if colour is None else (*ImageColor.getrgb(colour)[:3], round(255 * float(np.clip(opacity, 0, 1))))


def film(
    process: InteractionProcess, episodes: Episodes, *, episode: int = 0, size: int = 240, title: str = ""
) -> Film:
    """Draw one episode as RGB arrays: the beginning, then each round that exists, as the task draws it.

    If Theta is finite, each frame also shows the belief `P(Theta | history)` after the round, with the actions read as
    the episode marks them. Its colour is blue if the agent acted and its actions are read as do, orange if one of them
    is read as see, and grey if the expert took part. A frame or a ring marks the true theta. The header shows the
    observation as `task.say` words it.

    Args:
        process: the process of the episodes.
        episodes: the result of a rollout.
        episode: index of the episode.
        size: width of the picture in pixels; a header is added above.
        title: text in the header, before the number of the round.

    Returns:
        `[T + 1, H, W, 3]`, 8 bits; T is the number of rounds that exist in the episode.

    Raises:
        ValueError: `episode` is out of range, or the episodes are histories without theta.

    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit(num_rounds=3)
    >>> episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(0), num_episodes=2)
    >>> film(bandit, episodes, episode=1, size=64).shape
    (4, 71, 64, 3)
    """
    size = check_count("size", size)
    if episodes.theta is None:
        raise ValueError(f"{process.name}: these histories have no theta; draw the episodes of a rollout instead.")
    if episodes.is_batch:
        if not 0 <= episode < len(episodes.mask):
            raise ValueError(
                f"{process.name}: episode must be from 0 to {len(episodes.mask) - 1}, the last one, not {episode}."
            )
        episodes = index(episodes, episode)
    num_rounds = int(np.asarray(episodes.mask).sum())
    thetas, memories = jax.tree.map(np.asarray, _thetas_and_memories(process, episodes))
    # An action read as see may be impossible evidence; the belief then stays as it was.
    beliefs = np.exp(np.asarray(_log_beliefs(process, episodes))) if process.finite else None
    values = jax.tree.map(np.asarray, process.thetas)
    by_agent, done = (bool(np.asarray(x)[:num_rounds].all()) for x in (episodes.executor == AGENT, episodes.intervened))
    accent = MUTED if not by_agent else DO if done else SEE
    pictures = []
    for t in range(num_rounds + 1):
        frame = Frame(size, accent=accent, title=f"{title}  {t}" if title else str(t))
        o = episodes.opening if t == 0 else index(episodes.observations, t - 1)
        if o is not None:
            frame.text((0.98, -HEADER / 2), process.task.say(jax.tree.map(np.asarray, o)), size=0.06, anchor="rm")
        belief = [] if beliefs is None else [(index(values, k), float(p)) for k, p in enumerate(beliefs[t])]
        process.task.draw(frame, index(thetas, t), index(memories, t), belief)
        pictures.append(frame.array())
    return np.stack(pictures)


@compiled
def _log_beliefs(process: InteractionProcess, episode: Episodes) -> Any:
    return filter(process, episode).log_posterior


@compiled
def _thetas_and_memories(process: InteractionProcess, episode: Episodes) -> Any:
    """Return theta after each round and the task's memory after its action, both preceded by those at the start."""
    states = replay(process, episode)
    return states.theta, prepend(index(states.w, 0), states.acted_w)


def side_by_side(films: Sequence[Film]) -> UInt8[np.ndarray, "T1 H W2 3"]:
    """Join films with equal numbers of frames and equal heights into one.

    Raises:
        ValueError: the list is empty, or the numbers of frames or the heights differ.
    """
    shapes = [one.shape for one in films]
    if len({shape[:2] for shape in shapes}) != 1:
        raise ValueError(f"side_by_side needs films with equal numbers of frames and equal heights, not {shapes}.")
    gap = np.full((*films[0].shape[:2], 6, 3), 255, np.uint8)
    parts = [part for one in films for part in (one, gap)]
    return np.concatenate(parts[:-1], axis=2)


def write_gif(path: Path | str, film: Film, *, fps: float | int = 6) -> Path:
    """Write a film as a GIF that loops and shows the last frame for one second.

    Args:
        path: the file.
        film: `[T, H, W, 3]`, the result of `film` or `side_by_side`.
        fps: frames per second.

    Returns:
        The path.

    Raises:
        ValueError: `fps` is not greater than 0.
    """
    if not fps > 0:
        raise ValueError(f"fps must be greater than 0, not {fps}.")
    palette, indices = _reduce_colours(film, NUM_COLOURS)
    frames = [Image.fromarray(x) for x in indices]
    for frame in frames:
        frame.putpalette(palette.ravel().tolist())
    buffer, shown = io.BytesIO(), [round(1000 / fps)] * (len(frames) - 1) + [1000]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0, optimize=True)
    write_atomically(Path(path), buffer.getvalue())
    return Path(path)


def _reduce_colours(film: Film, most: int) -> tuple[UInt8[np.ndarray, "C 3"], UInt8[np.ndarray, "T1 H W"]]:
    """Return one palette for all frames, so that nothing flickers, and each pixel's index of the nearest colour.

    Pillow's own search for the nearest colour compares only a few bits and confuses light grey with white.
    """
    pixels = film.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, where = np.unique(pixels, return_inverse=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], -1).astype(np.uint8)
    palette = colours
    if len(colours) > most:
        whole = Image.fromarray(film.reshape(-1, *film.shape[2:])).quantize(most, method=Image.Quantize.MAXCOVERAGE)
        palette = np.asarray(whole.getpalette(), np.uint8).reshape(-1, 3)
    distance = np.square(colours[:, None].astype(int) - palette[None]).sum(-1)
    return palette, distance.argmin(1).astype(np.uint8)[where.reshape(film.shape[:3])]
