"""The dashboard's access screen in Chromium: keys, subjects, webhooks, audit."""

import re

import httpx
import pytest
from image_categorizer_server.services.dashboard import is_built

from tests.support.browser import ROOT, SIZES, THEMES, window
from tests.support.polling import wait_until

PHOTOGRAPH = ROOT / "examples" / "cat.jpg"
TABS = ("keys", "webhooks", "audit", "subjects", "retention", "usage", "roles")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not is_built(), reason="the dashboard is not built: `make dashboard` does it"
    ),
]


def status_with(up, key: str) -> int:
    return httpx.get(f"{up.url}/v1/me", headers={"authorization": f"Bearer {key}"}).status_code


def test_a_key_is_made_shown_once_and_revoked(up, admin_key):
    with window() as opened:
        page = opened.page
        opened.sign_in(f"{up.url}/ui/access?tab=keys", admin_key)
        page.get_by_role("button", name="Make a key").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("camera 7")
        dialog.get_by_label("Allowed networks").fill("not a network")
        dialog.get_by_role("button", name="Make a key").click()
        dialog.get_by_text("FIELD_INVALID").wait_for()
        dialog.get_by_label("Allowed networks").fill("")
        dialog.get_by_role("button", name="Make a key").click()
        key = page.locator("[data-secret]").inner_text()
        assert status_with(up, key) == 200
        row = page.get_by_role("row", name=re.compile("camera 7"))
        row.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        row.wait_for(state="detached")
        wait_until(lambda: status_with(up, key) == 401, 5, 0.1)
        page.reload()
        page.get_by_role("button", name="Make a key").wait_for()
        assert key not in page.content()
        page.goto(f"{up.url}/ui/access?tab=audit&action=key.revoke")
        page.get_by_role("row", name=re.compile(r"key\.revoke")).first.wait_for()


def test_a_subject_is_erased_and_its_certificate_kept(up, admin_key):
    answer = httpx.post(
        f"{up.url}/v1/classify",
        files={"image": PHOTOGRAPH.read_bytes()},
        data={"store": "true", "subject_id": "visitor-5"},
        headers={"authorization": f"Bearer {admin_key}"},
    ).json()
    image = f"{up.url}/v1/images/{answer['image_id']}"
    headers = {"authorization": f"Bearer {admin_key}"}
    assert httpx.get(image, headers=headers).status_code == 200
    with window() as opened:
        page = opened.page
        opened.sign_in(f"{up.url}/ui/access?tab=subjects", admin_key)
        page.get_by_role("textbox", name="Subject").first.fill("visitor-5")
        page.get_by_role("button", name="Erase", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Erase").click()
        with page.expect_download(timeout=60_000) as downloaded:
            page.get_by_role("button", name="Certificate").first.click(timeout=60_000)
        certificate = downloaded.value.path().read_text()
        assert "visitor-5" not in certificate
        assert opened.errors == []
    assert httpx.get(image, headers=headers).status_code == 404


def test_a_webhook_is_added_disabled_and_removed(up, admin_key, receiver):
    with window() as opened:
        page = opened.page
        opened.sign_in(f"{up.url}/ui/access?tab=webhooks", admin_key)
        page.get_by_label("Address").fill("https://10.0.0.1/hook")
        page.get_by_role("button", name="Add").click()
        page.get_by_text("FIELD_INVALID").wait_for()
        page.get_by_label("Address").fill(receiver.url)
        page.get_by_role("button", name="Add").click()
        assert page.locator("[data-secret]").inner_text().startswith("whsec_")
        row = page.get_by_role("row", name=receiver.url)
        row.get_by_role("button", name="Disable").click()
        row.get_by_role("button", name="Enable").wait_for()
        row.get_by_role("link").click()
        page.get_by_text("No delivery yet.").wait_for()
        assert opened.serious_problems() == []
        row.get_by_role("button", name="Remove").click()
        page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        row.wait_for(state="detached")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_access_can_be_used_by_everybody(up, admin_key, size, theme):
    with window(size, theme) as opened:
        page = opened.page
        opened.sign_in(f"{up.url}/ui/access", admin_key)
        found: list[str] = []
        for tab in TABS:
            page.goto(f"{up.url}/ui/access?tab={tab}")
            page.get_by_role("tab", selected=True).wait_for()
            page.wait_for_load_state("networkidle")
            opened.save(f"access_{tab}")
            found += opened.serious_problems()
        assert found == []
        assert opened.errors == []
