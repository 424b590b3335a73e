"""The dashboard in Chromium, through Playwright."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from image_categorizer_server.services.dashboard import is_built

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "clients" / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
SCREENSHOTS = ROOT / ".build" / "screenshots"
SIZES = {"desktop": (1280, 800), "telephone": (390, 844)}
"""Width and height of the window, in pixels."""
THEMES = ("light", "dark")
SERIOUS = ("serious", "critical")
# WCAG 2.2 at level AA, and what everybody agrees on.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@dataclass
class Window:
    """A window of Chromium, and what went wrong in it."""

    page: Any
    """`playwright.sync_api.Page`."""
    errors: list[str] = field(default_factory=list)
    """Errors on the console, among them each violation of the content security policy."""

    def sign_in(self, url: str, key: str) -> None:
        """Opens an address as a person with a key does."""
        self.page.goto(url)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_role("navigation").first.wait_for(state="attached")

    def save(self, name: str) -> None:
        """Saves what the window shows, for people to look at."""
        size = self.page.viewport_size["width"]
        name += "_telephone" if size < SIZES["desktop"][0] else "_desktop"
        theme = self.page.evaluate("document.documentElement.dataset.mantineColorScheme")
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}_{theme}.png", full_page=True)

    def serious_problems(self) -> list[str]:
        """Returns what axe finds that keeps people from using the page, in the theme of now."""
        self.page.evaluate(AXE.read_text())
        options = {"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]}
        found = self.page.evaluate(f"axe.run(document, {json.dumps(options)})")
        return [
            f"{problem['id']}: {node['html'][:160]} {node['failureSummary'][:300]}"
            for problem in found["violations"]
            if problem["impact"] in SERIOUS
            for node in problem["nodes"]
        ]


@contextmanager
def window(size: str = "desktop", theme: str = "light") -> Iterator[Window]:
    """Opens a window without a session; skips the test where there is no Chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: `apt-get install chromium` does it on Debian")
    if not is_built() or not AXE.is_file():
        pytest.skip("the dashboard is not built: `make dashboard` does it")
    from playwright.sync_api import sync_playwright

    words = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=words)
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,  # type: ignore[arg-type]
            reduced_motion="reduce",
        )
        context.set_default_timeout(20_000)
        opened = Window(context.new_page())
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.on(
            "console",
            lambda message: message.type == "error" and opened.errors.append(message.text),
        )
        yield opened
        browser.close()
