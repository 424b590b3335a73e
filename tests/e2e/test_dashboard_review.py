"""Review, categories and models in the dashboard, through the gateway in Chromium."""

import re

import httpx
import pytest

from tests.e2e.test_own_categories import cut
from tests.support.browser import SIZES, THEMES, window
from tests.support.polling import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
RIGHT = "lynx"
OWN = "cat of the house"
SEEN_WITHIN_S = 20.0
OWN_PATH = "/v1/categories/cat%20of%20the%20house"


def answered(http: httpx.Client, content: bytes) -> str:
    answer = http.post("/v1/classify", content=content).json()
    return str(answer["predictions"][0]["category"])


@pytest.fixture
def stored(http):
    """Three stored pictures of a cat, classified."""
    answers = [
        http.post("/v1/classify?store=true", content=cut(number)).json() for number in (1, 3, 5)
    ]
    yield [answer["image_id"] for answer in answers]
    for answer in answers:
        http.delete(f"/v1/images/{answer['image_id']}")


def say(http: httpx.Client, image_id: str, **body: str) -> None:
    said = http.post(f"/v1/images/{image_id}:feedback", json=body)
    assert said.status_code == 200, said.text


def test_keys_correct_an_image_and_the_next_answer_changes_until_undo(up, http, admin_key, stored):
    content = cut(1)
    plain = answered(http, content)
    assert plain != RIGHT
    with window() as opened:
        opened.sign_in(f"{up.url}/ui/review", admin_key)
        page = opened.page
        tile = page.locator(f"[data-id='{stored[0]}']")
        tile.click()
        assert tile.get_attribute("aria-selected") == "true"
        page.keyboard.press("/")
        search = page.get_by_role("dialog").get_by_role("combobox", name="Search all categories")
        search.wait_for()
        page.keyboard.type(RIGHT)
        page.get_by_role("option", name=RIGHT, exact=True).wait_for()
        page.keyboard.press("Enter")
        page.get_by_text(f"{RIGHT}: 1 image.").first.wait_for()
        tile.wait_for(state="detached")
        wait_until(lambda: answered(http, content) == RIGHT, within_s=SEEN_WITHIN_S)
        page.keyboard.press("u")
        tile.wait_for()
        wait_until(lambda: answered(http, content) == plain, within_s=SEEN_WITHIN_S)
        assert opened.errors == []


def test_a_range_of_images_is_judged_by_one_key(up, http, admin_key, stored):
    with window() as opened:
        opened.sign_in(f"{up.url}/ui/review", admin_key)
        page = opened.page
        tiles = page.get_by_role("listbox", name="Images to judge").get_by_role("option")
        tiles.nth(2).wait_for()
        ids = [tiles.nth(index).get_attribute("data-id") for index in range(3)]
        tiles.nth(0).click()
        tiles.nth(2).click(modifiers=["Shift"])
        page.get_by_text("These 3 images show").wait_for()
        choices = page.get_by_role("region", name="These 3 images show")
        first = http.get(f"/v1/images/{ids[0]}").json()["result"]["predictions"][0]["category"]
        assert first in choices.inner_text()
        page.keyboard.press("1")
        page.get_by_text("3 images.").first.wait_for()
        said = [
            http.get("/v1/feedback", params={"image_id": image_id}).json()["feedback"]
            for image_id in ids
        ]
        assert len({feedback[0]["category"] for feedback in said}) == 1
        page.get_by_role("button", name="Undo").click()
        page.locator(f"[data-id='{ids[2]}']").wait_for()
        assert opened.errors == []
    again = [http.get("/v1/feedback", params={"image_id": i}).json()["feedback"] for i in ids]
    assert all(feedback[0].get("undo_time") for feedback in again)


def test_five_pictures_make_a_category_that_the_sixth_is_answered_with(up, http, admin_key):
    sixth = cut(6)
    plain = answered(http, sixth)
    with window() as opened:
        opened.sign_in(f"{up.url}/ui/categories?tab=own", admin_key)
        page = opened.page
        page.get_by_role("button", name="New category").first.click()
        page.get_by_label("Name").fill(OWN)
        page.get_by_label("Pictures", exact=True).set_input_files(
            [
                {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": cut(number)}
                for number in range(1, 6)
            ]
        )
        page.get_by_role("button", name="Teach it").click()
        page.get_by_role("button", name="Delete category").wait_for()
        try:
            wait_until(lambda: answered(http, sixth) == OWN, within_s=SEEN_WITHIN_S)
            image_ids = http.get(OWN_PATH).json()["image_ids"]
            page.get_by_role("button", name="Remove example 1").click()
            page.get_by_text("4 examples").first.wait_for()
            page.get_by_role("button", name="Delete category").click()
            dialog = page.get_by_role("dialog", name=f"Delete {OWN}?")
            dialog.get_by_role("button", name="Delete category").click()
            page.get_by_text("no categories of your own").wait_for()
        finally:
            http.delete(OWN_PATH)
        assert opened.errors == []
    wait_until(lambda: answered(http, sixth) == plain, within_s=SEEN_WITHIN_S)
    for image_id in image_ids:
        http.delete(f"/v1/images/{image_id}")


def test_a_version_is_promoted_and_rolled_back(up, http, admin_key, roses):
    def stable() -> list[str]:
        models = http.get("/v1/models").json()["models"]
        return [m["version"] for m in models if m["name"] == roses and "stable" in m["aliases"]]

    with window() as opened:
        opened.sign_in(f"{up.url}/ui/models", admin_key)
        page = opened.page
        page.get_by_role("button", name=f"Change {roses}, version 2").click()
        page.get_by_role("menuitem", name="Promote to stable").click()
        dialog = page.get_by_role("dialog", name=f"Promote version 2 of {roses}?")
        assert stable() == []  # nothing happens before the question is answered
        dialog.get_by_role("button", name="Promote to stable").click()
        page.get_by_text(f"Version 2 of {roses} is stable.").wait_for()
        assert stable() == ["2"]
        page.get_by_role("button", name="Roll back to version 1").click()
        page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
        page.get_by_text(f"Version 1 of {roses} is stable again.").wait_for()
        assert stable() == ["1"]
        assert opened.errors == []
    http.post(f"/v1/models/{roses}:setAlias", json={"alias": "stable"})


def test_versions_are_measured_on_judged_images(up, http, admin_key, roses):
    query = f"/v1/classify?store=true&model={roses}&version=1"
    kept = [http.post(query, content=cut(number)).json() for number in (1, 3)]
    answer = kept[1]["predictions"][0]["category"]
    other = "tulip" if answer == "rose" else "rose"
    say(http, kept[0]["image_id"], judgement="RIGHT")
    say(http, kept[1]["image_id"], judgement="WRONG", category=other)
    with window() as opened:
        search = f"tab=evaluation&model={roses}&version=1&against=2"
        opened.sign_in(f"{up.url}/ui/models?{search}", admin_key)
        page = opened.page
        page.get_by_role("button", name="Evaluate").click()
        page.get_by_role("region", name="From version 2 to version 1").wait_for()
        page.get_by_text("1 of 2 right").wait_for()
        page.get_by_role("button", name=f"{other}, answered {answer}: 1 image").click()
        page.get_by_role("region", name="Images of the cell").wait_for()
        page.goto(f"{up.url}/ui/categories?model={roses}&version=1&category={other}")
        curve = page.get_by_role("table", name=f"Precision and recall of {other}")
        curve.wait_for()
        # The last row is that of the highest threshold, which no answer of the model reaches.
        assert curve.get_by_role("row").last.inner_text().split("\t")[-1] == "0 %"
        assert opened.errors == []
    for one in kept:
        http.delete(f"/v1/images/{one['image_id']}")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_all_of_it_can_be_used_by_everybody(up, http, admin_key, stored, size, theme):
    found = []
    with window(size, theme) as opened:
        opened.sign_in(f"{up.url}/ui/review", admin_key)
        page = opened.page
        page.get_by_role("option").first.wait_for()
        found += opened.serious_problems()
        page.keyboard.press("/")
        page.get_by_role("dialog").wait_for()
        found += opened.serious_problems()
        page.goto(f"{up.url}/ui/review?view=focus")
        page.get_by_role("button", name=re.compile("Next image")).wait_for()
        found += opened.serious_problems()
        page.goto(f"{up.url}/ui/review?tab=agreement")
        page.get_by_text("No two reviewers").wait_for()
        found += opened.serious_problems()
        page.goto(f"{up.url}/ui/categories")
        page.get_by_role("treeitem").first.click()
        found += opened.serious_problems()
        page.goto(f"{up.url}/ui/categories?tab=own")
        page.get_by_role("button", name="New category").first.click()
        page.get_by_label("Name").wait_for()
        found += opened.serious_problems()
        page.goto(f"{up.url}/ui/models")
        page.get_by_role("button", name=re.compile("Change ")).first.click()
        page.get_by_role("menuitem").first.click()
        page.get_by_role("dialog").wait_for()
        found += opened.serious_problems()
        assert opened.errors == []
    assert found == []
