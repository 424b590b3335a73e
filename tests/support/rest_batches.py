"""Batches over REST: their pictures, and waiting for their end."""

import time

from tests.support.pictures import jpeg

PICTURES = [jpeg(64, 48, seed) for seed in range(20)]
ENDED = ("COMPLETED", "CANCELLED", "FAILED")


def three(field: str = "images[]"):
    return [(field, (f"{n}.jpg", PICTURES[n], "image/jpeg")) for n in range(3)]


def finished(http, batch_id: str) -> dict[str, object]:
    deadline_s = time.monotonic() + 60
    while True:
        batch: dict[str, object] = http.get(f"/v1/batch/{batch_id}").json()
        if batch["state"] in ENDED:
            return batch
        assert time.monotonic() < deadline_s, batch
        time.sleep(0.1)


def all_results(http, batch_id: str):
    found, token = [], ""
    while True:
        page = http.get(
            f"/v1/batch/{batch_id}/results", params={"page_size": 1000, "page_token": token}
        ).json()
        found += page["results"]
        if not (token := page["next_page_token"]):
            return found
