"""Observations that are images: which parts of an observation are, and their pixels as PNG in files and on the page."""

import base64
import binascii
import functools
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from undelude._distributions import Parts

# Least pixels of a side, most numbers, and most stacked frames of an array that is shown as an image.
SIDE, MAX_OF_IMAGE, MAX_FRAMES = 8, 2**17, 16
# Images whose other form is kept, so that a flip neither packs nor unpacks the frames of an episode.
KEPT = 1024
HEAD = "data:image/png;base64,"


def image_parts(world: Any) -> tuple[str, ...]:
    """Return the names of the parts of a world's observations that are images; `""` is the only part.

    They are arrays of whole numbers from 0 to 255, `[h, w]`, `[h, w, 1]` or `[h, w, 3]`, or a stack of such frames or
    planes, `[k, h, w]`, `[k, h, w, 1]` or `[k, h, w, 3]`.
    """
    spec = world.observation_spec
    visible = getattr(world, "visible", None)
    spaces = {} if visible is None else dict(visible.leaves)
    parts = (spec.named or {}) if isinstance(spec, Parts) else {"": spec}
    if not isinstance(spec, Parts) and len(spaces) == 1:
        spaces = {"": spaces.popitem()[1]}
    return tuple(
        name
        for name, part in parts.items()
        if _is_image(part.value, spaces[name].dtype if name in spaces else getattr(part.value, "dtype", None))
    )


def _is_image(like: Any, dtype: Any) -> bool:
    stack = stack_of(getattr(like, "shape", ()))
    if not stack or dtype != np.uint8:
        return False
    return stack[0] <= MAX_FRAMES and min(stack[1:3]) >= SIDE and int(np.prod(stack)) <= MAX_OF_IMAGE


def stack_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape as a stack of frames, `[k, h, w]` or `[k, h, w, channels]`; `()` if it is not an image."""
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
        return (1, *shape)
    return (*shape,) if len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3)) else ()


def png_of(x: Any) -> str:
    """Return an image as a PNG in a data URL, without loss; the frames of a stack stand side by side, oldest first.

    Raises:
        ValueError: a pixel is not a whole number from 0 to 255.
    """
    x = np.asarray(x)
    pixels = x.astype(np.uint8)
    if not np.array_equal(pixels, x):
        raise ValueError("an image of the observation has numbers that are not whole, from 0 to 255.")
    k, h, w, *channels = stack_of(x.shape)
    sheet = np.moveaxis(pixels.reshape(k, h, w, *channels), 0, 1)
    return _packed(sheet.tobytes(), (h, k * w, *channels))


def pixels_of(text: str, shape: Sequence[int], what: str) -> np.ndarray:
    """Return the pixels of a PNG in a data URL; raise `ValueError`, which begins with `what`, if they do not fit."""
    try:
        pixels = _unpacked(text)
    except (ValueError, OSError, SyntaxError, binascii.Error) as error:
        raise ValueError(f"{what} must be a PNG in a data URL: {error!s:.99}") from error
    k, h, w, *channels = stack_of(shape)
    if pixels.size != np.prod(shape) or pixels.shape[:2] != (h, k * w):
        raise ValueError(f"{what} must be an image of shape {[h, k * w, *channels]}, not {[*pixels.shape]}.")
    return np.moveaxis(pixels.reshape(h, k, w, *channels), 1, 0).reshape(shape)


@functools.lru_cache(maxsize=KEPT)
def _packed(pixels: bytes, shape: tuple[int, ...]) -> str:
    array = np.frombuffer(pixels, np.uint8).reshape(shape)
    out = io.BytesIO()
    Image.fromarray(array[..., 0] if shape[2:] == (1,) else array).save(out, format="PNG")
    return HEAD + base64.b64encode(out.getvalue()).decode()


@functools.lru_cache(maxsize=KEPT)
def _unpacked(text: str) -> np.ndarray:
    if not text.startswith(HEAD):
        raise ValueError(f"it begins with {text[:30]!r}")
    with Image.open(io.BytesIO(base64.b64decode(text[len(HEAD) :], validate=True)), formats=["PNG"]) as image:
        if image.width * image.height > MAX_OF_IMAGE or image.mode not in ("L", "RGB"):
            raise ValueError(f"it has {image.width} times {image.height} pixels of mode {image.mode}")
        pixels = np.array(image)
    pixels.flags.writeable = False
    return pixels
