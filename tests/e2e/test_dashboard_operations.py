"""The dashboard's operations screen in Chromium, its palette of commands, and its keys."""

import re

import httpx
import pytest
from image_categorizer_server.services.dashboard import is_built

from tests.support.browser import ROOT, SIZES, THEMES, window

PHOTOGRAPH = ROOT / "examples" / "cat.jpg"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_built(), reason="the dashboard is not built: `make dashboard` does it"
    ),
]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_operations_show_what_the_server_does_now(up, admin_key, size, theme):
    with window(size, theme) as opened, httpx.Client(base_url=up.url, timeout=30) as http:
        http.headers["authorization"] = f"Bearer {admin_key}"
        page = opened.page
        opened.sign_in(f"{up.url}/ui/operations", admin_key)
        page.get_by_text("Calls a second, by status").wait_for()
        for _ in range(10):
            http.post("/v1/classify?no_cache=true", files={"image": PHOTOGRAPH.read_bytes()})
            http.get("/v1/images/i-0")
            page.wait_for_timeout(300)
        page.get_by_text("IMAGE_NOT_FOUND").first.wait_for()
        page.get_by_text(re.compile("images a second, by outcome")).first.wait_for()
        opened.save("operations")
        assert opened.serious_problems() == []
        assert opened.errors == []


def test_keys_find_a_screen_and_show_help(up, admin_key):
    with window() as opened:
        page = opened.page
        opened.sign_in(f"{up.url}/ui/start", admin_key)
        page.keyboard.press("Control+k")
        search = page.get_by_role("textbox", name="Find a screen or a command")
        search.fill("operat")
        assert opened.serious_problems() == []
        page.keyboard.press("Enter")
        page.wait_for_url("**/ui/operations")
        page.keyboard.press("?")
        page.get_by_role("dialog", name="Keys").wait_for()
        assert opened.serious_problems() == []
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
