"""Milliseconds from a flip of the inspector to its answer, with an LSTM of 64 units on the bandit.

python benchmarks/inspector.py    half a minute; with Playwright and Chromium also until the page shows it
"""

import argparse
import json
import shutil
import time

import jax

import undelude as ud
from undelude._inspector.inspection import SEE, Inspection
from undelude._inspector.server import Server
from undelude._inspector.service import Service
from undelude._inspector.view import view
from undelude._versions import versions

# Flips that are timed; the median is printed.
FLIPS = 12
# Click switches one by one; return the milliseconds until the page shows each flip.
CLICKS = """async (flips) => {
  const found = [];
  for (let t = 0; t < flips; t++) {
    const button = document.querySelector(`[data-cell=mark][data-t="${t}"]`), before = button.textContent;
    const started = performance.now();
    button.click();
    while (button.textContent === before) await new Promise((resolve) => setTimeout(resolve, 1));
    found.push(performance.now() - started);
  }
  return found;
}"""


def median(numbers: list[float]) -> float:
    """Return the median."""
    return sorted(numbers)[len(numbers) // 2]


def answers(inspection: Inspection, num_rounds: int) -> list[float]:
    """Return the milliseconds of each answer in this process."""
    history, found = inspection.play(inspection.begin(), rounds=num_rounds, actor=SEE), []
    view(inspection, inspection.read(history), task="bandit")
    for t in range(FLIPS):
        started = time.perf_counter()
        history = history.flip(t)
        json.dumps(view(inspection, inspection.read(history), task="bandit"))
        found.append(1000 * (time.perf_counter() - started))
    return found


def clicks(inspection: Inspection, num_rounds: int) -> list[float]:
    """Return the milliseconds from each click until the page shows it."""
    from playwright.sync_api import sync_playwright

    history = inspection.play(inspection.begin(), rounds=num_rounds, actor=SEE)
    server = Server(Service(inspection, history, task="bandit"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(server.url)
        page.wait_for_selector("#main:not([hidden])")
        found = page.evaluate(CLICKS, FLIPS)
        browser.close()
    server.stop()
    return found


def main() -> None:
    """Print the medians after 100 and 200 rounds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--no-browser", action="store_true", help="time the answers alone")
    options = parser.parse_args()
    print(versions())
    bandit = ud.tasks.bandit()
    for num_rounds in (100, 200):
        lstm = ud.LSTMAgent(bandit, hidden_size=64, key=jax.random.key(0))
        inspection = Inspection(bandit, {"lstm": lstm}, num_rounds=num_rounds)
        print(f"{num_rounds} rounds: answer {median(answers(inspection, num_rounds)):.1f} ms", end="")
        print("" if options.no_browser else f", on the page after {median(clicks(inspection, num_rounds)):.0f} ms")


if __name__ == "__main__":
    main()
