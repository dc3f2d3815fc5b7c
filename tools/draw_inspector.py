"""Draws docs/figures/inspector.png, and writes docs/inspector-live.html, the inspector without a server.

python tools/draw_inspector.py    half a minute; needs Playwright and Chromium
"""

import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import undelude as ud
from undelude._inspector.static_page import static_page

DOCS = Path(__file__).parent.parent / "docs"
FILE, PAGE = DOCS / "figures" / "inspector.png", DOCS / "inspector-live.html"
# Pixels: the size of the window, and the part of the page that is shown.
WIDTH, HEIGHT, SHOWN = 1120, 800, 985
# Colours of the picture, so that it stays small.
COLOURS = 256


def draw() -> None:
    """Take the picture: four actions are read as do, the others as see, and the cursor is after round 10."""
    inspector = ud.inspect(ud.tasks.bandit())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(inspector.url)
        for t in range(4):
            page.click(f"[data-cell=mark][data-t='{t}']")
            page.wait_for_selector(f"[data-cell=mark][data-t='{t}'].do")
        page.click("[data-cell=observation][data-t='9']")
        page.screenshot(path=FILE, full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": SHOWN})
        browser.close()
    inspector.stop()
    picture = Image.open(FILE).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(FILE, optimize=True)


if __name__ == "__main__":
    PAGE.write_text(static_page([ud.tasks.prize_or_frog(num_rounds=2), ud.tasks.bandit()]))
    draw()
    for file in (PAGE, FILE):
        print(f"Written to {file}, {file.stat().st_size // 1000} kB.")
