"""One image kills the server, each time it gets it; and what looks alike and is not."""

import asyncio
import hashlib
import json
import signal

import pytest

from tests.support.house import House
from tests.support.keeper import kept_server
from tests.support.ledger import Ledger, Picture, pictures

BREAKS = (
    "SELECT coalesce(sum(v::int), 0) FROM batch_chunks, jsonb_each_text(server_crashes) AS b (k, v)"
)


def kills(*guilty: Picture) -> dict[str, str]:
    """Returns the setting with which a server dies of these pictures."""
    names = [hashlib.sha256(picture.content).hexdigest() for picture in guilty]
    return {"CATEGORIZER_TEST__FAILPOINT": ",".join(f"image.decoding@{name}:1" for name in names)}


async def failures(house: House) -> list[tuple[int, str, str]]:
    """Returns number, reason and message of what failed."""
    rows = await house.value(
        "SELECT json_agg(json_build_array(number, reason, message) ORDER BY number)"
        " FROM batch_results WHERE status <> 'OK'"
    )
    return [tuple(row) for row in json.loads(rows)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("workers", "count"),
    [(1, 40), pytest.param(3, 600, marks=pytest.mark.slow)],
    ids=["one worker", "three workers"],
)
async def test_an_image_that_kills_the_server_fails_and_nothing_else_does(
    house: House, ledger: Ledger, workers, count
):
    given = pictures(count, 1)
    async with kept_server(house, **kills(given[20])) as kept:
        await house.submit(ledger, given)
        await house.submit(ledger, pictures(20, 2))
        house.start_workers(workers)
        seconds = await house.drained(90)
        assert kept.deaths == 4
        await ledger.check(house.postgres.url, house.images, failures=1)
    assert await failures(house) == [
        (20, "ITEM_KILLED_SERVERS", "the server crashed 4 times while it had the image")
    ]
    print(f"{count + 20} items, 4 deaths of the server, drained after {seconds:.1f} s")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_three_images_that_kill_the_server_fail_and_nothing_else_does(house, ledger):
    given = pictures(300, 3)
    guilty = 5, 6, 250
    async with kept_server(house, **kills(*(given[n] for n in guilty))) as kept:
        await house.submit(ledger, given)
        house.start_workers(2)
        await house.drained(200)
        assert 4 <= kept.deaths <= 12
        await ledger.check(house.postgres.url, house.images, failures=3)
    assert [number for number, *_ in await failures(house)] == list(guilty)


@pytest.mark.slow
async def test_planned_restarts_of_the_server_make_nothing_suspect(house, ledger):
    server = await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,10")
    await house.submit(ledger, pictures(300))
    house.start_workers(1)
    for _ in range(3):
        await house.until("SELECT count(*) > 0 FROM batch_chunks WHERE state = 'LEASED'", 20)
        await asyncio.sleep(0.5)
        assert await house.end(server, signal.SIGTERM) == 0
        server = await house.start_server(CATEGORIZER_TEST__FAKE_MODEL="20,10")
    await house.drained(40)
    await ledger.check(house.postgres.url, house.images)
    assert await house.value(BREAKS) == 0


@pytest.mark.slow
async def test_a_server_that_is_down_makes_nothing_suspect(house, ledger):
    server = await house.start_server()
    house.variables["CATEGORIZER_WORKER__PATIENCE_S"] = "1"
    await house.submit(ledger, pictures(60))
    await house.end(server, signal.SIGKILL)
    house.start_workers(2)
    await house.until("SELECT count(*) > 0 FROM batch_chunks WHERE state = 'LEASED'", 20)
    await asyncio.sleep(3)
    await house.start_server()
    await house.drained(40)
    await ledger.check(house.postgres.url, house.images)
    assert await house.value(BREAKS) == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_server_that_is_killed_thirty_times_buries_no_image(house, ledger):
    """Thirty deaths that no image is to blame for, while suspects are about all the time."""
    times = {"CATEGORIZER_TEST__FAKE_MODEL": "20,5"}
    server = await house.start_server(**times)
    for seed in range(30):
        await house.submit(ledger, pictures(100, seed))
    house.start_workers(2)
    for _ in range(30):
        await asyncio.sleep(1.0)
        await house.end(server, signal.SIGKILL)
        server = await house.start_server(**times)
    suspects = await house.value(BREAKS)
    seconds = await house.drained(120)
    await ledger.check(house.postgres.url, house.images)
    assert suspects > 0
    print(f"3,000 items, 30 deaths, {suspects} suspicions, drained {seconds:.1f} s after")
