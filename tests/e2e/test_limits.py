"""Limits through the gateway: a flood by REST, header fields, spoofed addresses, usage."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.polling import pause, wait_until
from tests.support.up import Up, command, free_port

PICTURE = jpeg(64, 48)
PER_S, BURST = 5, 40
ADDRESS_BURST = 120


@pytest.fixture(scope="module")
def limited(clean_environment, tmp_path_factory):
    variables = {
        "CATEGORIZER_TEST__FAKE_MODEL": "1,0",
        "CATEGORIZER_CACHE__TTL_S": "0",
        "CATEGORIZER_QUOTA__KEY_REQUESTS_PER_S": str(PER_S),
        "CATEGORIZER_QUOTA__KEY_REQUEST_BURST": str(BURST),
        "CATEGORIZER_QUOTA__ADDRESS_REQUESTS_PER_S": "0.5",
        "CATEGORIZER_QUOTA__ADDRESS_REQUEST_BURST": str(ADDRESS_BURST),
        "CATEGORIZER_USAGE__FLUSH_INTERVAL_S": "0.2",
    }
    running = Up(tmp_path_factory.mktemp("limited"), free_port(), variables)
    running.start()
    yield running
    assert running.stop() == 0


def key_of(running: Up, name: str) -> str:
    created = command("keys", "create", name, "--role", "admin", "--json", "--data", running.data)
    return str(json.loads(created.stdout)["key"])


def client_of(running: Up, key: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {key}", "content-type": "image/jpeg"}
    return httpx.Client(base_url=running.url, headers=headers, timeout=30)


def test_a_flood_gets_429_and_whoever_waits_is_answered(limited):
    with client_of(limited, key_of(limited, "flood")) as http:

        def classify(_number=0):
            return http.post("/v1/classify", content=PICTURE)

        first = classify()
        assert first.headers["ratelimit-policy"].startswith(f'"key";q={BURST};w=8')
        assert first.headers["ratelimit"].startswith(f'"key";r={BURST - 1};t=1')
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(classify, range(60)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) >= 5
        assert {answer.status_code for answer in answers} == {200, 429}
        last = refused[-1]
        retry_s = int(last.headers["retry-after"])
        assert f'"key";r=0;t={retry_s}' in last.headers["ratelimit"]
        reasons = [detail.get("reason") for detail in last.json()["details"]]
        assert "RATE_LIMITED" in reasons
        pause(retry_s)
        assert classify().status_code == 200
        used = http.get("/v1/usage", params={"group_by": "model"}).json()
        assert [row["model"] for row in used["rows"]] == ["fake"]


def test_usage_by_rest_and_by_the_command_line(limited):
    key = key_of(limited, "counted")
    with client_of(limited, key) as http:
        for _ in range(3):
            assert http.post("/v1/classify", content=PICTURE).status_code == 200

        def is_counted() -> bool:
            rows = http.get("/v1/usage", params={"group_by": "key"}).json()["rows"]
            return any(
                (row["images"], row["bytes"]) == ("3", str(3 * len(PICTURE))) for row in rows
            )

        wait_until(is_counted, 5, 0.5)
        wrong = http.get("/v1/usage", params={"start_date": "yesterday"})
        assert wrong.status_code == 400
        assert "start_date" in wrong.text
    shown = command("usage", "--by", "key", "--data", limited.data)
    assert "total" in shown.stdout
    found = json.loads(command("usage", "--days", "1", "--json", "--data", limited.data).stdout)
    assert found["start_date"] == found["end_date"] == found["rows"][0]["day"]
    assert found["total"]["images"] >= 3


def test_a_client_cannot_pretend_to_be_many(limited):
    """The last test: it uses up the limit of this machine's address."""
    start_s = time.monotonic()
    with httpx.Client(base_url=limited.url) as http:

        def guess(number):
            address = f"192.0.2.{number}"
            headers = {
                "authorization": "Bearer ic_guess",
                "x-forwarded-for": f"{address}, 198.51.100.{number}",
                "x-client-address": address,
                "forwarded": f"for={address}",
                "x-real-ip": address,
            }
            return http.get("/v1/models", headers=headers)

        with ThreadPoolExecutor(4) as pool:
            codes = [answer.status_code for answer in pool.map(guess, range(100))]
    tries = ADDRESS_BURST / 10 + 0.05 * (time.monotonic() - start_s)
    # One more for each call that was under way when the limit was reached.
    assert codes.count(401) <= math.ceil(tries) + 4
    assert codes.count(401) + codes.count(429) == 100
