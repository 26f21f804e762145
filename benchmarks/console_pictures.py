"""Take the pictures of docs/guide/console.md, by its walk through the console of a planted shop.

    python benchmarks/console_pictures.py            needs chromium, and playwright for Python

The walk is timed: from the start of `tailor demo` to a takedown that changes the
next recommendation. Pictures are written to docs/pictures, 1280 and 390 pixels wide.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tailor.client import Client

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDE, NARROW = (1280, 800), (390, 844)
READY = "[data-ready=true]"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SETTLE_MS = 800  # for fonts and charts
MOST_ROWS = 8  # people who are looked at
MOST_BYTES = 150_000  # of a picture
STATEMENT = "I live in Bergen and I really like green tea."


def main() -> None:
    """Walk through the console, take the pictures and print the seconds."""
    PICTURES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        began_s = time.monotonic()
        with demo(Path(folder)) as (url, console, key):
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            print(f"{time.monotonic() - began_s:6.1f} s: the console answers")
            page = logged_in(browser, console, key, WIDE)
            person, item = take_down(page, console, began_s)
            narrow = logged_in(browser, console, key, NARROW)
            for name, path in (("overview", "/"), ("person", person), ("item", item)):
                visit(narrow, console + path)
                shoot(narrow, name)
            own_pages(browser, url, console, key, person.rpartition("/")[2])
            browser.close()
    for picture in sorted(PICTURES.glob("console-*.png")):
        size = picture.stat().st_size
        print(f"{picture.name}: {size / 1000:.0f} kB{' (too large)' if size > MOST_BYTES else ''}")


@contextmanager
def demo(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Run the demo; gives the addresses of service and console, and the first key."""
    port, console_port = free_port(), free_port()
    command = [sys.executable, "-m", "tailor", "demo", "--serve", "--console"]
    command += ["--out", str(folder), "--users", "600", "--items", "200"]
    command += ["--port", str(port), "--console-port", str(console_port)]
    environment = os.environ | {"TAILOR_SHOP_NAME": "Harbour Outdoor"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        wait_for_visitors(process)
        key = (folder / "demo.first-key").read_text(encoding="utf-8").strip()
        yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{console_port}", key
    finally:
        process.terminate()
        process.wait(60)


def wait_for_visitors(process: "subprocess.Popen[str]") -> None:
    """Return once visitors come."""
    for line in process.stdout or ():
        if line.startswith("3."):
            return
    sys.exit("the demo ended before the console was there")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def logged_in(browser: Browser, console: str, key: str, size: tuple[int, int]) -> Page:
    """Return a page of a browser that is logged in."""
    page = fresh(browser, size)
    page.goto(f"{console}/login")
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector(READY)
    return page


def fresh(browser: Browser, size: tuple[int, int]) -> Page:
    """Return an empty page of that width and height."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    return context.new_page()


def take_down(page: Page, console: str, began_s: float) -> tuple[str, str]:
    """Look at a person, take the first item down, and look again.

    Returns the paths of the person and of the item.
    """
    shoot(page, "overview")
    person = open_person(page, console)
    before = shown(page)
    shoot(page, "person")
    print(f"{time.monotonic() - began_s:6.1f} s: shown to {person}: {before[0]}")
    page.locator(".tailor-items").first.get_by_role("button", name=before[0]).click()
    wait_until(page, lambda: "/items/" in page.url)
    item = page.url.removeprefix(console)
    page.get_by_label("Reason of a takedown").fill("Recalled by the maker")
    page.get_by_role("button", name="Take down").click()
    confirm(page)
    page.get_by_role("button", name="Restore").wait_for()
    shoot(page, "item")
    print(f"{time.monotonic() - began_s:6.1f} s: taken down")
    visit(page, console + person)
    after = shown(page)
    shoot(page, "person-after")
    if before[0] in after:
        sys.exit(f"{before[0]} is still shown")
    print(f"{time.monotonic() - began_s:6.1f} s: shown now: {after[0]}")
    return person, item


def open_person(page: Page, console: str) -> str:
    """Open the first person whose list is made from a history, and return the person's path."""
    for row in range(MOST_ROWS):
        visit(page, f"{console}/people")
        page.locator("tbody .tailor-open").nth(row).click()
        wait_until(page, lambda: "/people/" in page.url)
        if not page.get_by_text("By Popularity").count():
            break
    return page.url.removeprefix(console)


def shown(page: Page) -> list[str]:
    """Return the titles of the first list of a page, as on a person's page."""
    page.wait_for_selector(READY)
    titles = page.locator(".tailor-items").first.get_by_role("button").all_inner_texts()
    return [re.sub(r"\s+", " ", title).strip() for title in titles]


def confirm(page: Page) -> None:
    """Agree to a question, where one is asked."""
    page.wait_for_timeout(SETTLE_MS)
    dialog = page.get_by_role("alertdialog")
    if dialog.count():
        dialog.get_by_role("button").last.click()


def own_pages(browser: Browser, url: str, console: str, key: str, user_id: str) -> None:
    """Take pictures of the person's own page, in both widths."""
    with Client(url, key) as client:
        client.memory(user_id).observe(STATEMENT)
        for size in (WIDE, NARROW):
            page = fresh(browser, size)
            visit(page, console + client.link(user_id)["path"])
            shoot(page, "own-page")


def visit(page: Page, address: str) -> None:
    """Open an address, and return once the page is whole."""
    page.goto(address)
    page.wait_for_selector(READY)


def wait_until(page: Page, holds: Callable[[], bool]) -> None:
    """Return once something holds, and the page is whole."""
    while not holds():
        page.wait_for_timeout(50)
    page.wait_for_selector(READY)


def shoot(page: Page, name: str) -> None:
    """Write the picture of what the browser shows."""
    page.wait_for_timeout(SETTLE_MS)
    width = page.viewport_size["width"] if page.viewport_size else WIDE[0]
    page.screenshot(path=PICTURES / f"console-{name}-{width}.png")


if __name__ == "__main__":
    main()
