"""The frames of a film, and the legend that says what their marks mean."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageColor, ImageDraw, ImageFont

from undelude._drawing.colours import ON_WHITE

PAPER, INK, MUTED, RULE, ALARM = (ON_WHITE[role] for role in ("paper", "ink", "muted", "rule", "alarm"))
DO, SEE = ON_WHITE["do"], ON_WHITE["see"]
# Factor by which frames are drawn larger and then scaled down, for smooth edges.
OVERSAMPLING = 2
# Height of the header, as a fraction of the square below it.
HEADER = 0.11
# Size of the text in headers, as a fraction of the square.
LETTER = 0.06


class Swatch(NamedTuple):
    """An entry of a legend: a mark and its meaning."""

    label: str
    shape: Literal["box", "disc", "line"]
    fill: str | None = None
    outline: str | None = None


class Frame:
    """A square to draw on, from `(0, 0)` at the upper left to `(1, 1)` at the lower right; colours as in HTML.

    A mark that is drawn with a `label` gets an entry in the legend of the film.

    Args:
        size: width of the square in pixels; a header for the title is added above.
        accent: colour of beliefs.
        title: text in the header.
        belief: label of what is filled with the accent; none by default.

    Attributes:
        legend: the entry of each label that was drawn.
    """

    def __init__(self, size: int, *, accent: str = DO, title: str = "", belief: str = ""):
        self.accent, self.ink, self.muted, self.rule, self.alarm = accent, INK, MUTED, RULE, ALARM
        self.legend: dict[str, Swatch] = {}
        self._belief = belief
        self._scale, self._top = size * OVERSAMPLING, round(HEADER * size) * OVERSAMPLING
        self._image = Image.new("RGB", (self._scale, self._scale + self._top), PAPER)
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        if title:
            self.text((0.02, -HEADER / 2), title, size=LETTER, anchor="lm")

    def box(
        self,
        corner: Any,
        other: Any,
        *,
        fill: str | None = None,
        opacity: float = 1.0,
        outline: str | None = None,
        label: str = "",
    ):
        """Draw a rectangle between two corners."""
        self._note(Swatch(label, "box", fill, outline))
        self._draw.rectangle(
            [*self._at(corner), *self._at(other)], fill=_rgba(fill, opacity), outline=outline, width=self._width(0.006)
        )

    def disc(
        self,
        centre: Any,
        radius: float,
        *,
        fill: str | None = None,
        opacity: float = 1.0,
        outline: str | None = None,
        label: str = "",
    ):
        """Draw a disc or a ring."""
        self._note(Swatch(label, "disc", fill, outline))
        (x, y), r = self._at(centre), radius * self._scale
        self._draw.ellipse(
            [x - r, y - r, x + r, y + r], fill=_rgba(fill, opacity), outline=outline, width=self._width(0.01)
        )

    def line(self, points: Any, *, colour: str = INK, width: float = 0.01, label: str = ""):
        """Draw a line through points."""
        self._note(Swatch(label, "line", colour))
        self._draw.line([self._at(p) for p in points], fill=colour, width=self._width(width), joint="curve")

    def text(self, at: Any, words: str, *, size: float = 0.05, colour: str = INK, anchor: str = "mm"):
        """Write text; `anchor` as in Pillow, the middle by default."""
        font = ImageFont.load_default(size * self._scale)
        self._draw.text(self._at(at), words, fill=colour, font=font, anchor=anchor)

    def picture(self, corner: Any, other: Any, picture: UInt8[np.ndarray, "h w 3"]):
        """Paste a picture between two corners, in the middle, as large as it fits."""
        (left, top), (right, bottom) = self._at(corner), self._at(other)
        height, width = picture.shape[:2]
        scale = min((right - left) / width, (bottom - top) / height)
        w, h = max(1, round(width * scale)), max(1, round(height * scale))
        at = round((left + right - w) / 2), round((top + bottom - h) / 2)
        self._image.paste(Image.fromarray(picture).resize((w, h), Image.Resampling.BILINEAR), at)

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
            self.box((left, top), (right, bottom), outline=RULE)
            if k == framed:
                self.box((left, top), (right, bottom), outline=INK, label="true theta")
            if k % every == 0:
                self.text(((left + right) / 2, 0.96), labels[k], size=0.05, colour=MUTED)

    def array(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the picture as an RGB array."""
        return np.asarray(self._image.reduce(OVERSAMPLING))

    def _note(self, mark: Swatch) -> None:
        """Remember a mark with a label, and one that shows the belief."""
        if self._belief and mark.fill == self.accent and mark.shape != "line":
            self.legend.setdefault(self._belief, Swatch(self._belief, "box", self.accent))
        if mark.label:
            self.legend.setdefault(mark.label, mark)

    def _at(self, point: Any) -> tuple[float, float]:
        return float(point[0]) * self._scale, float(point[1]) * self._scale + self._top

    def _width(self, width: float) -> int:
        return max(1, round(width * self._scale))


def legend_strip(legend: Sequence[Swatch], width: int, letter: float) -> UInt8[np.ndarray, "h W 3"]:
    """Draw the entries of a legend from left to right, in as many lines as they need; smaller if one is too wide.

    Args:
        legend: the entries.
        width: of the strip, in pixels.
        letter: size of the text, in pixels.
    """
    em, whole = letter * OVERSAMPLING, width * OVERSAMPLING
    widest = max(ImageFont.load_default(em).getlength(mark.label) for mark in legend) + 2 * em
    em *= min(1.0, whole / widest)
    font = ImageFont.load_default(em)
    x, y, places = em / 2, em, []
    for mark in legend:
        needed = 1.15 * em + font.getlength(mark.label)
        if x > em / 2 and x + needed > whole:
            x, y = em / 2, y + 1.5 * em
        places.append((x, y))
        x += needed + em
    image = Image.new("RGB", (whole, OVERSAMPLING * math.ceil((y + em) / OVERSAMPLING)), PAPER)
    draw = ImageDraw.Draw(image)
    for mark, (x, y) in zip(legend, places, strict=True):
        half, middle = 0.4 * em, x + 0.45 * em
        box = [middle - half, y - half, middle + half, y + half]
        look = {"fill": mark.fill, "outline": mark.outline, "width": max(1, round(0.12 * em))}
        match mark.shape:
            case "box":
                draw.rectangle(box, **look)
            case "disc":
                draw.ellipse(box, **look)
            case "line":
                draw.line([(box[0], y), (box[2], y)], fill=mark.fill, width=round(0.3 * em))
        draw.text((x + 1.15 * em, y), mark.label, fill=INK, font=font, anchor="lm")
    return np.asarray(image.reduce(OVERSAMPLING))


def title_strip(title: str, width: int, letter: float) -> UInt8[np.ndarray, "h W 3"]:
    """Write a title on a strip, smaller if it would be wider.

    Args:
        title: the text.
        width: of the strip, in pixels.
        letter: size of the text, in pixels.
    """
    font = ImageFont.load_default(letter * OVERSAMPLING)
    letter *= min(1.0, (width - letter) * OVERSAMPLING / font.getlength(title))
    em = letter * OVERSAMPLING
    image = Image.new("RGB", (width * OVERSAMPLING, OVERSAMPLING * round(1.8 * letter)), PAPER)
    place = em / 2, image.height / 2
    ImageDraw.Draw(image).text(place, title, fill=INK, font=ImageFont.load_default(em), anchor="lm")
    return np.asarray(image.reduce(OVERSAMPLING))


def _rgba(colour: str | None, opacity: float) -> tuple[int, ...] | None:
    return None if colour is None else (*ImageColor.getrgb(colour)[:3], round(255 * float(np.clip(opacity, 0, 1))))
