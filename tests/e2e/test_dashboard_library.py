"""The dashboard's library: find an image by text and by picture, verify its receipt, remove it."""

import time

import pytest

from tests.support.browser import THEMES, window
from tests.support.pictures import jpeg
from tests.support.polling import wait_until

pytestmark = pytest.mark.slow

SUBJECT = "dashboard-anna"


def stored(http, name: str, seed: int, subject: str = "") -> str:
    """Classifies and keeps a picture; returns the id of the image."""
    answer = http.post(
        "/v1/classify",
        params={"store": "true", **({"subject_id": subject} if subject else {})},
        files={"image": (name, jpeg(320, 240, seed=seed), "image/jpeg")},
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["image_id"])


@pytest.fixture(scope="module", autouse=True)
def images(up, http) -> dict[str, str]:
    """Stored images by name, some of a subject, two of them alike."""
    http.post(f"/v1/subjects/{SUBJECT}:allow", json={})
    names = [f"library {number} of {time.time_ns()}.jpg" for number in range(4)]
    made = {name: stored(http, name, seed=900 + number) for number, name in enumerate(names)}
    for number in range(2):
        name = f"anna {number}.jpg"
        made[name] = stored(http, name, 950 + number, SUBJECT)
    twin = jpeg(320, 240, seed=900, quality=60)
    answer = http.post(
        "/v1/classify",
        params={"store": "true"},
        files={"image": ("twin.jpg", twin, "image/jpeg")},
    )
    made["twin.jpg"] = answer.json()["image_id"]
    return made


def gallery(page):
    return page.get_by_role("list", name="Images")


def test_an_image_is_found_verified_and_deleted(up, admin_key, http, images):
    name, image_id = next(iter(images.items()))
    with window() as w:
        page = w.page
        w.sign_in(f"{up.url}/ui/library", admin_key)
        gallery(page).get_by_role("button").nth(1).wait_for()
        page.get_by_label("Words of the file name").fill(name.removesuffix(".jpg"))
        page.get_by_role("button", name="Search", exact=True).click()
        found = gallery(page).get_by_role("button", name=name)
        found.wait_for()
        assert gallery(page).get_by_role("button").count() == 1
        assert "filename=" in page.url
        found.locator("img").wait_for()

        found.click()
        panel = page.get_by_role("dialog", name="Image")
        panel.get_by_text(image_id).wait_for()
        panel.get_by_role("button", name="Verify the receipt").click()
        panel.get_by_text("The receipt is genuine").wait_for()

        panel.get_by_role("button", name="Similar images").click()
        twin = gallery(page).get_by_role("button", name="twin.jpg")
        twin.wait_for()
        page.go_back()
        page.reload()
        panel.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Delete the image").click()
        page.get_by_text("The image is deleted").wait_for()
        page.get_by_text("No image passes these filters").wait_for()
        assert http.get(f"/v1/images/{image_id}").status_code == 404


def test_images_are_found_by_a_picture_and_by_their_twin(up, admin_key, images):
    with window() as w:
        page = w.page
        w.sign_in(f"{up.url}/ui/library", admin_key)
        picture = {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": jpeg(320, 240, seed=901)}
        page.get_by_label("Search by picture").first.set_input_files(picture)
        page.get_by_text("Stored images most similar to mine.jpg").wait_for()
        best = gallery(page).get_by_role("button").first
        assert "library 1 of" in (best.get_attribute("aria-label") or "")

        page.get_by_role("button", name="Show all images").click()
        page.get_by_role("button", name="Views").click()
        page.get_by_role("menuitem", name="Save this view").click()
        page.get_by_label("Name of the view").fill("mine")
        page.get_by_role("button", name="Save", exact=True).click()
        page.reload()
        page.get_by_role("button", name="Views").click()
        page.get_by_role("menuitem", name="mine").wait_for()
        assert w.errors == []


def test_a_subject_is_erased_after_its_name_is_typed(up, admin_key, http, images):
    image_id = images["anna 0.jpg"]
    with window() as w:
        page = w.page
        w.sign_in(f"{up.url}/ui/library?image={image_id}", admin_key)
        page.get_by_role("button", name="Erase the subject").click()
        erase = page.get_by_role("button", name="Erase", exact=True)
        assert erase.is_disabled()
        page.get_by_label(f"Type {SUBJECT} to confirm").fill(SUBJECT)
        erase.click()
        page.get_by_text("The erasure has begun").wait_for()
        wait_until(lambda: http.get(f"/v1/images/{image_id}").status_code == 404, 30)
        assert http.get("/v1/images", params={"subject_id": SUBJECT}).json().get("images", []) == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", ["desktop", "telephone"])
def test_the_screen_keeps_nobody_out(up, admin_key, size, theme):
    with window(size, theme) as w:
        page = w.page
        w.sign_in(f"{up.url}/ui/library", admin_key)
        gallery(page).get_by_role("button").first.wait_for()
        assert w.serious_problems() == []
        gallery(page).get_by_role("button").first.click()
        page.get_by_role("dialog", name="Image").get_by_text("SHA-256").wait_for()
        assert w.serious_problems() == []
        page.goto(f"{up.url}/ui/library?show=duplicates")
        page.get_by_text("Bits that may differ").first.wait_for()
        assert w.serious_problems() == []
        assert w.errors == []
