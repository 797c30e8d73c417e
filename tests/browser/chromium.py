"""Debian's Chromium, headless, which is told of no world outside this machine."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, sync_playwright

PROGRAM = Path("/usr/bin/chromium")
WAIT_MS = 60_000  # for conditions, on a machine that is slow and busy
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_NO_TOUR = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));"
_NO_NOTICE = (
    "localStorage.setItem('investigationalUseDialog',"
    " JSON.stringify({expiryDate: new Date(Date.now() + 864e5)}));"
)


@dataclass
class Browser:
    """One browser with one page, and what it did behind the picture."""

    context: BrowserContext
    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def outside(self) -> list[str]:
        """Return the addresses asked for that are not on this machine."""
        inside = ("http://127.0.0.1:", "blob:", "data:", "about:", "chrome-extension:")
        return [url for url in self.requests if not url.startswith(inside)]

    def refused_by_policy(self) -> list[str]:
        """Return what the pages' own content security policy held back."""
        return [text for text in self.complaints if "Content Security Policy" in text]


@contextmanager
def browsing(
    *,
    width: int = 1500,
    height: int = 900,
    scale: float = 1,
    profile: Path | None = None,
    flags: Sequence[str] = (),
) -> Iterator[Browser]:
    """Start a browser, with an empty profile where none is given; end it with the block."""
    with tempfile.TemporaryDirectory() as empty, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile or empty,
            executable_path=PROGRAM,
            headless=True,
            args=[*_FLAGS, *flags],
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
        )
        try:
            context.set_default_timeout(WAIT_MS)
            context.add_init_script(
                f"if (location.protocol === 'http:') {{ {_NO_TOUR} {_NO_NOTICE} }}"
            )
            browser = Browser(context, context.pages[0])

            def note_request(request: Request) -> None:
                browser.requests.append(request.url)

            def note_complaint(message: ConsoleMessage) -> None:
                if message.type in ("error", "warning"):
                    browser.complaints.append(message.text)

            context.on("request", note_request)
            browser.page.on("console", note_complaint)
            browser.page.on("pageerror", lambda error: browser.complaints.append(str(error)))
            yield browser
        finally:
            context.close()


def log_in(browser: Browser, base: str, name: str, password: str, *, to: str = "/") -> None:
    """Go to `to`, and through the login page where it is asked for."""
    page = browser.page
    page.goto(base + to)
    page.locator("input[name=name]").fill(name)
    page.locator("input[name=password]").fill(password)
    page.locator("form button[type=submit], form button:not([type])").first.click()
    page.wait_for_url(lambda url: "/login" not in url)
