"""Batches of hundreds of thousands of URIs in one JSON body: created in time, or not at all."""

import json

import httpx
import pytest

from tests.support.database import connect_as_owner
from tests.support.polling import eventually
from tests.support.up import Up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
COUNT = 300_000


def submitted(running: Up) -> httpx.Response:
    items = [{"image_uri": f"https://a.invalid/{number}"} for number in range(COUNT)]
    headers = {"authorization": f"Bearer {running.shown_key()}"}
    return httpx.post(
        f"{running.url}/v1/batch", json={"items": items}, headers=headers, timeout=240
    )


def test_300_000_uris_in_one_body_become_a_batch(installation):
    running = installation()
    answer = submitted(running)
    assert (answer.status_code, answer.json().get("item_count")) == (200, COUNT), answer.text


async def test_nothing_remains_of_a_batch_that_was_not_created_in_time(installation):
    running = installation(CATEGORIZER_GATEWAY__STREAM_IDLE_TIMEOUT_S="3")
    answer = submitted(running)
    assert answer.status_code == 504
    assert "submit smaller batches" in answer.json()["message"]
    url = json.loads((running.data / "installation.json").read_text())["database_url"]
    connection = await connect_as_owner(url)

    async def is_empty() -> bool:
        tables = "batches", "batch_uploads", "batch_items"
        counts = [await connection.fetchval(f"SELECT count(*) FROM {t}") for t in tables]
        return not any(counts)

    try:
        await eventually(is_empty)
    finally:
        await connection.close()
