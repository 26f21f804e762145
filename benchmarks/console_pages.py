"""How long each page of the console takes to load, in Chromium, with the demo's shop behind it.

    python benchmarks/console_pages.py               needs chromium, and playwright for Python

From the address until the content is there; five loads of each page, while visitors come. Writes
benchmarks/results/console_pages.json.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from console_pictures import ARGUMENTS, WIDE, demo, logged_in, open_person, visit
from playwright.sync_api import Page, sync_playwright
from writing import write_result

LOADS = 5


def main() -> None:
    """Measure every page of the navigation, and that of a person."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        demo(Path(folder)) as (_, console, key),
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = logged_in(browser, console, key, WIDE)
        links = page.locator("nav a").all()
        paths = [str(link.get_attribute("href")) for link in links]
        paths.append(open_person(page, console))
        figures = {}
        for path in paths:
            name = "/people/ID" if path.startswith("/people/") else path
            figures[name] = seconds_of(page, console + path)
            print(name, figures[name], flush=True)
        browser.close()
    print(write_result("console_pages", 0, "python benchmarks/console_pages.py", figures))


def seconds_of(page: Page, address: str) -> dict[str, float]:
    """Return the median and the longest time of several loads, in seconds."""
    seconds = []
    for _ in range(LOADS):
        began_s = time.perf_counter()
        visit(page, address)
        seconds.append(time.perf_counter() - began_s)
    return {"median": round(statistics.median(seconds), 2), "longest": round(max(seconds), 2)}


if __name__ == "__main__":
    main()
