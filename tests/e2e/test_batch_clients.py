"""Thousands of files by curl, the SDK's clients and the command line; a slow upload."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from image_categorizer import AsyncImageCategorizationClient, ImageCategorizationClient

from tests.e2e.test_refusals import refusal
from tests.support.polling import pause
from tests.support.rest_batches import PICTURES, finished
from tests.support.up import command

pytestmark = pytest.mark.timeout(180)
MANY = 2000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """2,000 small images, every hundredth of them none."""
    root: Path = tmp_path_factory.mktemp("batch")
    for number in range(MANY):
        content = b"%PDF-1.7" if number % 100 == 7 else PICTURES[number % 20]
        (root / f"{number:04}.jpg").write_bytes(content)
    return root


def test_curl_sends_many_files(up, admin_key, http, folder):
    words = [word for file in sorted(folder.iterdir())[:50] for word in ("-F", f"images[]=@{file}")]
    sent = subprocess.run(
        ["curl", "-sS", "-H", f"Authorization: Bearer {admin_key}", *words, f"{up.url}/v1/batch"],
        capture_output=True,
        check=True,
    )
    batch = finished(http, json.loads(sent.stdout)["batch_id"])
    assert (batch["item_count"], batch["failed_count"]) == (50, 1)


def check(found) -> None:
    found = list(found)
    assert [int(Path(r.filename).stem) for r in found] == list(range(MANY))
    assert {int(Path(r.filename).stem) % 100 for r in found if r.error} == {7}
    assert all(r.category for r in found if not r.error)


def test_thousands_of_files_each_get_their_result(up, admin_key, folder):
    seen = []
    with ImageCategorizationClient(admin_key, up.url) as client:
        check(client.classify_batch(folder, on_progress=seen.append))
    assert (seen[-1].state, seen[-1].done_count) == ("COMPLETED", MANY)


async def test_the_asyncio_client_does_the_same(up, admin_key, folder):
    async with AsyncImageCategorizationClient(admin_key, up.url) as client:
        check([r async for r in client.classify_batch(sorted(folder.iterdir()))])


@pytest.mark.slow
def test_the_command_line_submits_watches_and_shows(up, folder):
    def run(*words):
        return command("batch", *words, "--data", up.data)

    submitted = run("submit", folder, "--json")
    assert submitted.returncode == 0, submitted.stderr
    batch = json.loads(submitted.stdout)
    assert batch["item_count"] == MANY
    watched = run("watch", batch["batch_id"], "--json")
    lines = [json.loads(line) for line in watched.stdout.splitlines()]
    assert (lines[-1]["state"], lines[-1]["failed_count"]) == ("COMPLETED", MANY // 100)
    assert watched.returncode == 1
    assert f"{MANY // 100} failed" in watched.stderr
    shown = run("results", batch["batch_id"], "--json")
    assert len(shown.stdout.splitlines()) == MANY
    table = run("results", batch["batch_id"])
    assert (table.returncode, len(table.stdout.splitlines())) == (0, MANY + 1)
    assert run("watch", "b-none").returncode == 1
    assert run("submit").returncode == 2


def test_a_good_batch_is_watched_to_its_end_without_complaint(up, tmp_path):
    (tmp_path / "a.jpg").write_bytes(PICTURES[0])
    submitted = command("batch", "submit", tmp_path, "--data", up.data)
    watched = command("batch", "watch", submitted.stdout.strip(), "--data", up.data)
    assert (watched.returncode, watched.stdout) == (0, "")
    assert "1 of 1 images were classified" in watched.stderr


@pytest.mark.slow
def test_a_slow_upload_outlasts_every_deadline_and_only_silence_ends_it(hasty):
    headers = {"authorization": f"Bearer {hasty.shown_key()}"}

    def body(silence_s):
        for number in range(6):
            head = f'--x\r\ncontent-disposition: form-data; name="images"; filename="{number}"'
            yield head.encode() + b"\r\n\r\n" + PICTURES[number] + b"\r\n"
            pause(0.5)
        pause(silence_s)
        yield b"--x--\r\n"

    headers["content-type"] = "multipart/form-data; boundary=x"
    with httpx.Client(base_url=hasty.url, headers=headers, timeout=30) as http:
        batch = http.post("/v1/batch", content=body(0)).json()
        assert batch["item_count"] == 6
        assert finished(http, batch["batch_id"])["succeeded_count"] == 6
        silent = http.post("/v1/batch", content=body(5))
        assert refusal(silent)[:2] == (504, "DEADLINE_EXCEEDED")
