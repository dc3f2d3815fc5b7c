"""Episodes as pictures: what a task draws of its memory, round by round, over what its agent may believe."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageDraw, ImageFont

from undelude._checks import check_count
from undelude._files import write_atomically
from undelude._process.episodes import AGENT, Episodes
from undelude._process.inference import filter
from undelude._process.process import InteractionProcess
from undelude._tree import index

Film = UInt8[np.ndarray, "T1 H W 3"]

PAPER, INK, MUTED, RULE, ALARM = "#ffffff", "#222222", "#777777", "#dddddd", "#c1121f"
DO, SEE = "#0072b2", "#d55e00"
# Drawn larger and scaled down, for smooth edges.
OVERSAMPLING = 2
# Of the height, for the title.
HEADER = 0.11


class Frame:
    """A square to draw on, `(0, 0)` at the upper left and `(1, 1)` at the lower right; colours as in HTML.

    Args:
        size: in pixels, of the square; a header for the title comes on top.
        accent: the colour of beliefs.
        title: above the square.
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
        """A rectangle between two corners."""
        self._draw.rectangle(
            [*self._at(corner), *self._at(other)], fill=_rgba(fill, opacity), outline=outline, width=self._width(0.006)
        )

    def disc(
        self, centre: Any, radius: float, *, fill: str | None = None, opacity: float = 1.0, outline: str | None = None
    ):
        """A disc, or a ring."""
        (x, y), r = self._at(centre), radius * self._scale
        self._draw.ellipse(
            [x - r, y - r, x + r, y + r], fill=_rgba(fill, opacity), outline=outline, width=self._width(0.01)
        )

    def line(self, points: Any, *, colour: str = INK, width: float = 0.01):
        """A line through points."""
        self._draw.line([self._at(p) for p in points], fill=colour, width=self._width(width), joint="curve")

    def text(self, at: Any, words: str, *, size: float = 0.05, colour: str = INK, anchor: str = "mm"):
        """Words; `anchor` as in Pillow, in the middle by default."""
        font = ImageFont.load_default(size * self._scale)
        self._draw.text(self._at(at), words, fill=colour, font=font, anchor=anchor)

    def bars(self, heights: Sequence[float], *, framed: int, labels: Sequence[str] | None = None, top: float = 0.1):
        """A bar for each probability, from `top` to the bottom; the true one framed."""
        n, bottom = len(heights), 0.92
        for k, height in enumerate(heights):
            left, right = 0.05 + 0.9 * k / n, 0.05 + 0.9 * (k + 0.85) / n
            self.box((left, bottom - (bottom - top) * height), (right, bottom), fill=self.accent)
            self.box((left, top), (right, bottom), outline=INK if k == framed else RULE)
            if labels is not None:
                self.text(((left + right) / 2, 0.96), labels[k], size=0.05, colour=MUTED)

    def array(self) -> UInt8[np.ndarray, "H W 3"]:
        """The picture."""
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
    """An episode as RGB arrays: the beginning, and the world in each round, as the task draws it.

    Where Theta is finite, the belief `P(Theta | history)` after the round is drawn too, with the actions read as the
    episode marks them: what a sober agent may know (blue), what a deluded one takes for known (orange), what an
    onlooker of the expert knows (grey); the true theta has a frame or a ring. The header says what was observed, in the
    task's words.

    Args:
        process: where it happened.
        episodes: of a rollout.
        episode: which of them.
        size: of the picture in pixels; a header is added on top.
        title: in the header, with the round.

    Returns:
        `[T + 1, H, W, 3]`, 8 bits.

    Raises:
        ValueError: there is no such episode, or these are histories without theta.

    >>> import undelude as ud
    >>> bandit = ud.tasks.bandit(num_rounds=3)
    >>> episodes = ud.rollout(bandit, ud.ExactAgent(bandit), key=jax.random.key(0), num_episodes=2)
    >>> film(bandit, episodes, episode=1, size=64).shape
    (4, 71, 64, 3)
    """
    size = check_count("size", size)
    if episodes.theta is None:
        raise ValueError(f"{process.name}: these histories have no theta; only a rollout's episodes can be drawn.")
    if episodes.is_batch:
        if not 0 <= episode < len(episodes.mask):
            raise ValueError(f"{process.name}: there is no episode {episode}; they are 0 to {len(episodes.mask) - 1}.")
        episodes = index(episodes, episode)
    thetas, memories = jax.tree.map(np.asarray, _memories(process, episodes))
    # Impossible evidence, which a deluded reading may be, leaves a belief as it was.
    beliefs = np.exp(np.asarray(_log_beliefs(process, episodes))) if process.finite else None
    values = jax.tree.map(np.asarray, process.thetas)
    own, done = (bool(np.asarray(x).all()) for x in (episodes.executor == AGENT, episodes.intervened))
    accent = MUTED if not own else DO if done else SEE
    pictures = []
    for t in range(episodes.num_rounds + 1):
        frame = Frame(size, accent=accent, title=f"{title}  {t}" if title else str(t))
        seen = episodes.opening if t == 0 else index(episodes.observations, t - 1)
        if seen is not None:
            frame.text((0.98, -HEADER / 2), process.task.say(jax.tree.map(np.asarray, seen)), size=0.06, anchor="rm")
        belief = [] if beliefs is None else [(index(values, k), float(p)) for k, p in enumerate(beliefs[t])]
        process.task.draw(frame, index(thetas, t), index(memories, t), belief)
        pictures.append(frame.array())
    return np.stack(pictures)


@eqx.filter_jit
def _log_beliefs(process: InteractionProcess, episode: Episodes) -> Any:
    return filter(process, episode).log_posterior


@eqx.filter_jit
def _memories(process: InteractionProcess, episode: Episodes) -> Any:
    """Theta's value after each round, and the memory that its observation told of; before them, both at the start."""
    task = process.task
    still = process.transition is None

    def value(t: Any) -> Any:
        return process.theta_value(episode.theta if still else index(episode.theta, t))

    w = task.init(value(0))
    if episode.opening is not None:
        w = task.g_O(value(0), episode.opening, w)
    thetas, memories = [value(0)], [w]

    def step(w: Any, x: Any) -> Any:
        t, a, o = x
        w = task.g_A(value(t), a, w)
        return task.g_O(value(t), o, w), (value(t + 1), w)

    rounds = (np.arange(episode.num_rounds), episode.actions, episode.observations)
    _, later = jax.lax.scan(step, w, rounds)
    return jax.tree.map(lambda x, xs: jax.numpy.concatenate([x[None], xs]), (thetas[0], memories[0]), later)


def side_by_side(films: Sequence[Film]) -> UInt8[np.ndarray, "T1 H W2 3"]:
    """Several films of equally many frames and one height as one.

    Raises:
        ValueError: there is none, or they do not fit.
    """
    shapes = [one.shape for one in films]
    if len({shape[:2] for shape in shapes}) != 1:
        raise ValueError(f"side_by_side needs films of equally many frames and one height, not {shapes}.")
    gap = np.full((*films[0].shape[:2], 6, 3), 255, np.uint8)
    parts = [part for one in films for part in (one, gap)]
    return np.concatenate(parts[:-1], axis=2)


def write_gif(path: Path | str, film: Film, *, fps: float | int = 6) -> Path:
    """A film as a GIF that repeats; the last frame stands for a second.

    Args:
        path: the file.
        film: `[T, H, W, 3]`, of `film` or `side_by_side`.
        fps: frames a second.

    Returns:
        The path.

    Raises:
        ValueError: `fps` is not greater than 0.
    """
    if not fps > 0:
        raise ValueError(f"fps must be greater than 0, not {fps}.")
    palette, indices = _reduce_colours(film, 64)
    frames = [Image.fromarray(x) for x in indices]
    for frame in frames:
        frame.putpalette(palette.ravel().tolist())
    buffer, shown = io.BytesIO(), [round(1000 / fps)] * (len(frames) - 1) + [1000]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0, optimize=True)
    write_atomically(Path(path), buffer.getvalue())
    return Path(path)


def _reduce_colours(film: Film, most: int) -> tuple[UInt8[np.ndarray, "C 3"], UInt8[np.ndarray, "T1 H W"]]:
    """One palette for all frames, so that nothing flickers and little is stored, and for each pixel its nearest colour.

    Pillow's own search for the nearest looks at a few bits only, and takes a light grey for white.
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
