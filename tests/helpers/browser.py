"""The browser that pages are opened in: Debian's Chromium, or Google's."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator

from playwright.sync_api import Browser, Page, sync_playwright

__all__ = ["CHROMIUM", "running_browser", "silent_pages"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a window."""
    with sync_playwright() as play:
        # As root, Chromium's sandbox does not start.
        running = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield running
        running.close()


@contextlib.contextmanager
def silent_pages(browser: Browser, *, height: int) -> Iterator[Callable[..., Page]]:
    """Opens pages: (address, what it may ask for, width, scheme) -> page.

    At the end nothing may have been said on a console, and nothing else asked for.
    """
    complaints: list[str] = []
    pages: list[Page] = []

    def open_page(address: str, allowed: tuple[str, ...], width: int, scheme: str) -> Page:
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None if request.url.startswith(allowed) else complaints.append(request.url[:80]),
        )
        page.goto(address)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
