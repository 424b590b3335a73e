"""Batches over REST: their images, and waiting for their end."""

from tests.support.pictures import jpeg
from tests.support.polling import wait_until

PICTURES = [jpeg(64, 48, seed) for seed in range(20)]
ENDED = ("COMPLETED", "CANCELLED", "FAILED")


def three(field: str = "images[]"):
    return [(field, (f"{n}.jpg", PICTURES[n], "image/jpeg")) for n in range(3)]


def finished(http, batch_id: str) -> dict[str, object]:
    def batch() -> dict[str, object]:
        found: dict[str, object] = http.get(f"/v1/batch/{batch_id}").json()
        return found

    wait_until(lambda: batch()["state"] in ENDED, within_s=60, interval_s=0.1)
    return batch()


def all_results(http, batch_id: str):
    found, token = [], ""
    while True:
        page = http.get(
            f"/v1/batch/{batch_id}/results", params={"page_size": 1000, "page_token": token}
        ).json()
        found += page["results"]
        if not (token := page["next_page_token"]):
            return found
