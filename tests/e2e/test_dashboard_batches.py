"""The dashboard's screens of batches: send images, watch them, look at the results."""

import csv
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.browser import THEMES, window
from tests.support.pictures import jpeg

pytestmark = pytest.mark.slow

IMAGE_COUNT = 30
END_MS = 120_000
"""What a slow machine may take for all images."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with 30 files: 29 pictures, one damaged; and one that is none."""
    made: Path = tmp_path_factory.mktemp("photographs") / "holiday"
    made.mkdir()
    for number in range(IMAGE_COUNT - 1):
        (made / f"{number:02}.jpg").write_bytes(jpeg(160, 120, seed=number))
    (made / "damaged.jpg").write_bytes(b"no picture")
    (made / "notes.txt").write_text("not an image")
    return made


def send(page, folder: Path) -> None:
    page.get_by_label("Choose a folder").set_input_files(folder)
    page.get_by_text("1 files that are no images are left out.").wait_for()
    page.get_by_role("button", name="Classify").click()


def open_sent(page) -> None:
    page.get_by_role("link", name="Open the batch").click(timeout=END_MS)
    page.get_by_text("30 of 30", exact=True).wait_for(timeout=END_MS)
    page.get_by_role("button", name="Retry 1").wait_for(timeout=END_MS)


def test_a_folder_is_sent_watched_filtered_and_exported(up, admin_key, http, folder, tmp_path):
    with window() as w:
        page = w.page
        w.sign_in(f"{up.url}/ui/batches", admin_key)
        send(page, folder)
        open_sent(page)
        grid = page.get_by_role("list", name="Results")
        grid.get_by_text("IMAGE_UNDECODABLE").wait_for()
        batch_id = urlsplit(page.url).path.split("/")[-1]
        results = http.get(f"/v1/batch/{batch_id}/results", params={"page_size": 100}).json()
        names = [result["filename"] for result in results["results"]]
        assert "holiday/damaged.jpg" in names
        first = next(r for r in results["results"] if "classification" in r)
        best = first["classification"]["predictions"][0]["category"]
        grid.get_by_text(best, exact=True).first.wait_for()

        page.get_by_role("combobox", name="Outcome").click()
        page.get_by_role("option", name="Failed").click()
        page.get_by_text("1 of 30 images").wait_for()
        page.reload()
        page.get_by_text("1 of 30 images").wait_for()
        grid.get_by_role("button").click()
        page.get_by_role("dialog").get_by_text("damaged.jpg").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Clear the filters").click()
        page.get_by_text("30 of 30 images").wait_for()

        page.get_by_role("button", name="Export").click()
        with page.expect_download() as downloading:
            page.get_by_role("menuitem", name="CSV", exact=True).click()
        saved = tmp_path / "results.csv"
        downloading.value.save_as(saved)
        with saved.open(newline="") as file:
            assert len({line["item_id"] for line in csv.DictReader(file)}) == IMAGE_COUNT

        grid.get_by_role("button").nth(1).click()
        page.get_by_role("button", name="Verify the receipt").click()
        page.get_by_text("The receipt is genuine").wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        page.get_by_role("heading", name="All batches").wait_for()
        assert http.get(f"/v1/batch/{batch_id}").status_code == 404
        assert w.errors == []


def test_a_broken_upload_resumes_with_its_request_id(up, admin_key, http, folder):
    with window() as w:
        page, ids = w.page, []

        def break_first(route):
            ids.append(parse_qs(urlsplit(route.request.url).query)["request_id"])
            if len(ids) == 1:
                route.abort("connectionreset")
            else:
                route.continue_()

        w.sign_in(f"{up.url}/ui/batches", admin_key)
        page.route("**/v1/batch?*", break_first)
        before = len(http.get("/v1/batch").json().get("batches", []))
        send(page, folder)
        page.get_by_text("The connection broke.").wait_for()
        open_sent(page)
        assert len(ids) == 2
        assert ids[0] == ids[1]
        assert len(http.get("/v1/batch").json()["batches"]) == before + 1


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", ["desktop", "telephone"])
def test_the_screens_keep_nobody_out(up, admin_key, size, theme):
    with window(size, theme) as w:
        w.sign_in(f"{up.url}/ui/batches", admin_key)
        w.page.get_by_role("table").get_by_role("link").first.wait_for()
        assert w.serious_problems() == []
        w.page.get_by_role("table").get_by_role("link").first.click()
        w.page.get_by_role("list", name="Results").get_by_role("button").first.wait_for()
        assert w.serious_problems() == []
        w.page.get_by_role("list", name="Results").get_by_role("button").first.click()
        w.page.get_by_role("dialog").wait_for()
        assert w.serious_problems() == []
        assert w.errors == []
