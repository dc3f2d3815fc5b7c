"""Draws docs/figures/inspector.png and inspector-lake.png, and writes docs/inspector-live.html, without a server.

python tools/draw_inspector.py    a minute; needs Playwright, Chromium and Gymnasium
"""

import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

import undelude as ud
import undelude.gym as ug
from undelude._inspector.static_page import static_page

DOCS = Path(__file__).parent.parent / "docs"
PAGE, BANDIT, LAKE = DOCS / "inspector-live.html", *(DOCS / "figures" / f"inspector{x}.png" for x in ("", "-lake"))
# Pixels: the size of the window, and the parts of the pages that are shown.
WIDTH, HEIGHT, SHOWN, SHOWN_OF_LAKE = 1120, 800, 985, 1640
# Colours of a picture, so that it stays small.
COLOURS = 256


class Lake(gymnasium.Env):
    """A boat on a lake; the observation is its place and, which the agent must not see, the harbour."""

    observation_space = gymnasium.spaces.Box(-2, 2, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-0.2, 0.2, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Put the boat in the middle."""
        super().reset(seed=seed)
        assert options is not None
        self.at = np.array([0.0, options["context"]], np.float32)
        return self.at, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move the boat."""
        self.at[0] += action[0]
        return self.at, -abs(float(self.at[0] - self.at[1])), False, False, {}


def draw_lake(frame: ud.Frame, context: float, observation: np.ndarray, belief: Any) -> None:
    """Draw the boat as a disc, and each harbour as dark as it is probable."""
    for harbour, p in belief:
        frame.disc((0.5 + harbour / 2, 0.5), 0.05, fill=frame.accent, opacity=p, outline=frame.rule)
    frame.disc((0.5 + context / 2, 0.5), 0.065, outline=frame.ink)
    frame.disc((0.5 + observation[0] / 2, 0.5), 0.03, fill=frame.ink)


def lake() -> ug.HostWorld:
    """Return the lake of docs/gym.md."""
    return ug.HostWorld(
        Lake,
        num_rounds=12,
        num_envs=1,
        contexts=[-0.8, -0.3, 0.3, 0.8],
        hide=[1],
        cue=ug.WarmerColder(lambda o, harbour: abs(o[0] - harbour), right=0.8, within=0.1),
        expert=lambda o, harbour: (np.clip(0.5 * (harbour - o[:1]), -0.2, 0.2), 0.05),
        reward_observed=False,
        at_end="end",
        draw=draw_lake,
    )


def draw(process: Any, file: Path, *, height: int, point: str, seed: int | None = None) -> None:
    """Take a picture: four actions are read as do, the others as see.

    Args:
        process: of the inspector.
        file: of the picture.
        height: of the picture in pixels.
        point: a selector of the cell at which the cursor is.
        seed: of the episode.
    """
    inspector = ud.inspect(process, seed=seed)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(inspector.url)
        for t in range(4):
            page.click(f"[data-cell=mark][data-t='{t}']")
            page.wait_for_selector(f"[data-cell=mark][data-t='{t}'].do")
        page.click(point)
        page.wait_for_timeout(5000)  # Drawings come last.
        page.screenshot(path=file, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        browser.close()
    inspector.stop()
    picture = Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)


if __name__ == "__main__":
    PAGE.write_text(static_page([ud.tasks.prize_or_frog(num_rounds=2), ud.tasks.bandit()]))
    draw(ud.tasks.bandit(), BANDIT, height=SHOWN, point="[data-cell=observation][data-t='9']")
    draw(lake(), LAKE, height=SHOWN_OF_LAKE, point="[data-cell=observation][data-t='6']", seed=3)
    for file in (PAGE, BANDIT, LAKE):
        print(f"Written to {file}, {file.stat().st_size // 1000} kB.")
