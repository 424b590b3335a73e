"""The dashboard through the gateway: how it is served, and its first screens in Chromium."""

import re
import subprocess
import sys

import httpx
import pytest
from image_categorizer_server.services.dashboard import is_built

from tests.support.browser import ROOT, SIZES, THEMES, window

PHOTOGRAPH = ROOT / "examples" / "cat.jpg"
FILE_INPUT = "input[type=file][accept^='image/*,']"

pytestmark = pytest.mark.skipif(
    not is_built(), reason="the dashboard is not built: `make dashboard` does it"
)


def test_each_screen_is_the_page_with_a_policy_that_lets_only_files_run(up):
    answers = [
        httpx.get(up.url + path) for path in ("/", "/?a=b", "/ui", "/ui/", "/ui/batches/b.1")
    ]
    for answer in answers:
        assert (answer.status_code, answer.content) == (200, answers[0].content)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self';" in policy
        assert answer.headers["x-frame-options"] == "DENY"
    page = answers[0]
    assert not re.search(r"<script(?![^>]* src=)", page.text)
    assert "@" not in page.text
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert all(address.startswith("/ui/") for address in addresses)
    again = httpx.get(up.url, headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert httpx.head(up.url).headers["etag"] == page.headers["etag"]
    refused = httpx.post(up.url + "/ui/classify")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_scripts_are_kept_for_good_and_compressed(up):
    (script,) = re.findall(r'src="(/ui/assets/[^"]+[.]js)"', httpx.get(up.url).text)
    packed = httpx.get(up.url + script)
    plain = httpx.get(up.url + script, headers={"accept-encoding": "identity"})
    assert packed.content == plain.content
    assert (packed.headers["content-encoding"], packed.headers["vary"]) == (
        "gzip",
        "Accept-Encoding",
    )
    assert packed.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "javascript" in packed.headers["content-type"]
    etag = packed.headers["etag"]
    assert httpx.get(up.url + script, headers={"if-none-match": etag}).status_code == 304
    missing = httpx.get(up.url + "/ui/assets/nothing.js")
    assert (missing.status_code, missing.json()["details"][0]["reason"]) == (404, "PAGE_NOT_FOUND")


def test_a_person_signs_in_and_classifies_a_photograph(up, admin_key):
    with window() as opened:
        page = opened.page
        page.goto(f"{up.url}/ui/classify")
        page.get_by_label("API key").fill("ic_wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("CREDENTIALS_INVALID").wait_for()
        opened.sign_in(f"{up.url}/ui/classify", admin_key)
        page.locator(FILE_INPUT).set_input_files(PHOTOGRAPH)
        page.locator("[data-best='tiger cat']").wait_for()
        assert opened.serious_problems() == []
        # What the page rolls up by itself is what the server answers.
        page.get_by_role("switch", name="Roll up").check()
        page.locator("[data-best='cat']").wait_for()
        shown = page.locator("[data-best='cat'] + *").inner_text()
        answer = httpx.post(
            f"{up.url}/v1/classify",
            params={"roll_up": "true"},
            files={"image": PHOTOGRAPH.read_bytes()},
            headers={"authorization": f"Bearer {admin_key}"},
        ).json()["predictions"][0]
        assert (answer["category"], f"{100 * answer['confidence']:.0f} %") == ("cat", shown)
        # A key is never part of an address.
        assert "ic_" not in page.url
        assert opened.errors == []


@pytest.mark.slow
@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_the_first_screens_can_be_used_by_everybody(up, admin_key, size, theme):
    with window(size, theme) as opened:
        page = opened.page
        page.goto(up.url)
        page.get_by_label("API key").wait_for()
        opened.save("sign_in")
        found = opened.serious_problems()
        opened.sign_in(up.url, admin_key)
        page.get_by_role("button", name="Make the key").wait_for()
        opened.save("start")
        found += opened.serious_problems()
        page.goto(f"{up.url}/ui/classify")
        page.get_by_text("The answer appears here").wait_for()
        opened.save("classify_empty")
        found += opened.serious_problems()
        page.locator(FILE_INPUT).set_input_files(PHOTOGRAPH)
        page.get_by_text("Boxes").click()
        page.locator("[data-boxes='1']").wait_for()
        opened.save("classify")
        found += opened.serious_problems()
        page.get_by_label("Compare with").first.click()
        page.get_by_role("option").nth(1).click()
        page.get_by_text("Heat map").click()
        page.get_by_text(re.compile("^(Both name|They name)")).wait_for()
        opened.save("classify_compare")
        found += opened.serious_problems()
        page.get_by_role("button", name="Show the API call").click()
        for form in ("Python", "JavaScript", "grpcurl", "HTTP", "curl"):
            page.get_by_role("tab", name=form, exact=True).click()
            page.locator(f"[data-snippet='{form}']").wait_for()
        opened.save("classify_call")
        found += opened.serious_problems()
        assert (found, opened.errors) == ([], [])


@pytest.mark.slow
def test_the_first_run_leads_to_calls_that_answer(up, admin_key, tmp_path):
    (tmp_path / "cat.jpg").symlink_to(PHOTOGRAPH)
    with window() as opened:
        page = opened.page
        opened.sign_in(up.url, admin_key)
        page.get_by_role("button", name="Make the key").click()
        key = page.locator("[data-secret]").inner_text()
        page.get_by_text("Waiting for the first call").wait_for()
        for form, command in (("curl", ["sh", "-c"]), ("Python", [sys.executable, "-c"])):
            page.get_by_role("tab", name=form).click()
            program = page.locator(f"[data-snippet='{form}']").inner_text()
            assert key in program
            done = subprocess.run(
                [*command, program],
                check=False,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            assert "tiger cat" in done.stdout
        page.get_by_text("The first call has come").wait_for()
        assert opened.errors == []


@pytest.mark.slow
def test_a_viewer_sees_what_a_viewer_may_do(up, viewer_key):
    with window() as opened:
        opened.sign_in(up.url, viewer_key)
        opened.page.get_by_text("Your key may not make others").wait_for()
        menu = opened.page.get_by_role("navigation")
        shown = menu.get_by_role("link").all_inner_texts()
        assert {"Start", "Library", "Models"} <= set(shown)
        assert not {"Classify", "Operations", "Access"} & set(shown)
        assert opened.errors == []


@pytest.mark.slow
def test_the_state_of_a_screen_is_in_its_address(up, admin_key):
    with window() as opened:
        page = opened.page
        opened.sign_in(f"{up.url}/ui/classify?threshold=0.3&rollUp=true&overlay=heat", admin_key)
        page.get_by_text("Minimum confidence: 30 %").wait_for()
        assert page.get_by_role("switch", name="Roll up").is_checked()
        page.get_by_role("slider").press("ArrowRight")
        page.wait_for_url("**threshold=0.31**")
        page.reload()
        page.get_by_text("Minimum confidence: 31 %").wait_for()
        page.evaluate("sessionStorage.clear()")
        page.reload()
        page.get_by_label("API key").wait_for()


@pytest.mark.slow
def test_a_picture_is_kept_in_the_library(up, admin_key, http):
    before = len(http.get("/v1/images", params={"page_size": 1000}).json()["images"])
    with window() as opened:
        opened.sign_in(f"{up.url}/ui/classify", admin_key)
        opened.page.locator(FILE_INPUT).set_input_files(ROOT / "docs" / "performance.png")
        opened.page.get_by_role("button", name="Keep in the library").click()
        opened.page.get_by_text("Kept").wait_for()
    assert len(http.get("/v1/images", params={"page_size": 1000}).json()["images"]) == before + 1
