"""A film as a GIF."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from undelude._drawing.film import Film
from undelude._files import write_atomically

# Number of colours in a GIF, the most that the format allows.
NUM_COLOURS = 256
# Milliseconds that a frame of a GIF may last. Many players show shorter frames ten times as long; the format has 16
# bits for hundredths of a second.
SHORTEST, LONGEST = 20, 655_350
# Colours that are compared with the palette at a time, which bounds the memory.
CHUNK = 4096


def write_gif(path: Path | str, film: Film, *, fps: float | int = 6) -> Path:
    """Write a film with its title and legend as a GIF that loops and shows the last frame for one second.

    Args:
        path: the file.
        film: the result of `film` or `side_by_side`.
        fps: frames per second.

    Returns:
        The path.

    Raises:
        ValueError: the film has no frames, or a GIF cannot store `fps`: a frame lasts from 20 ms to 655,350 ms.
    """
    if not len(film):
        raise ValueError("the film has no frames; a GIF needs at least one.")
    if not (fps > 0 and SHORTEST <= (milliseconds := 1000 / fps) <= LONGEST):
        raise ValueError(
            f"fps must be from {1000 / LONGEST:.4g} to {1000 / SHORTEST:g}, not {fps}: a frame of a GIF lasts from "
            f"{SHORTEST} ms, below which players slow it down, to {LONGEST} ms."
        )
    palette, indices = _reduce_colours(film.array(), NUM_COLOURS)
    frames = [Image.fromarray(x) for x in indices]
    for frame in frames:
        frame.putpalette(palette.ravel().tolist())
    buffer, shown = io.BytesIO(), [round(milliseconds)] * (len(frames) - 1) + [1000]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=shown, loop=0, optimize=True)
    write_atomically(Path(path), buffer.getvalue())
    return Path(path)


def _reduce_colours(
    frames: UInt8[np.ndarray, "T1 H W 3"], most: int
) -> tuple[UInt8[np.ndarray, "C 3"], UInt8[np.ndarray, "T1 H W"]]:
    """Return one palette for all frames, so that nothing flickers, and each pixel's index of the nearest colour.

    Pillow's own search for the nearest colour compares only a few bits and confuses light grey with white.
    """
    pixels = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, where = np.unique(pixels, return_inverse=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], -1).astype(np.uint8)
    palette = colours
    if len(colours) > most:
        whole = Image.fromarray(frames.reshape(-1, *frames.shape[2:])).quantize(most, method=Image.Quantize.MAXCOVERAGE)
        palette = np.asarray(whole.getpalette(), np.uint8).reshape(-1, 3)
    chunks = (colours[i : i + CHUNK, None].astype(np.int32) for i in range(0, len(colours), CHUNK))
    nearest = np.concatenate([np.square(chunk - palette[None]).sum(-1).argmin(1) for chunk in chunks])
    return palette, nearest.astype(np.uint8)[where.reshape(frames.shape[:3])]
