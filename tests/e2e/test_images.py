"""Stored images through Envoy, and by the command line."""

import base64
import gzip
import json

from tests.support.pictures import jpeg
from tests.support.up import command


def answers(http):
    """Yields (path in the document, method, response) of every operation."""
    path = "/v1/images/{image_id}"
    stored = http.post("/v1/images", content=jpeg(64, 48, 70))
    yield "/v1/images", "post", stored
    here = f"/v1/images/{stored.json()['image_id']}"
    http.post(f"/v1/classify?image_id={stored.json()['image_id']}&store=true")
    yield "/v1/images", "get", http.get("/v1/images?page_size=2")
    yield path, "get", http.get(here)
    yield f"{path}/content", "get", http.get(f"{here}/content?width=20")
    yield path, "patch", http.patch(here, json={"filename": "a.jpg"})
    yield path, "delete", http.delete(here)


def ids(answer):
    assert answer.status_code == 200, answer.text
    return [image["image_id"] for image in answer.json().get("images", [])]


def test_an_image_is_uploaded_searched_classified_changed_and_deleted(http):
    picture = jpeg(64, 48, 71)
    fields = {"tags": ["sea", "e2e"], "filename": ""}
    sent = http.post("/v1/images", files={"image": ("Beach 71.jpg", picture)}, data=fields)
    assert sent.status_code == 200, sent.text
    image = sent.json()
    assert (image["filename"], image["tags"]) == ("Beach 71.jpg", ["e2e", "sea"])
    path = f"/v1/images/{image['image_id']}"

    for content, kind in [
        (picture, "image/jpeg"),
        (json.dumps({"image": base64.b64encode(picture).decode()}).encode(), "application/json"),
    ]:
        for body, more in [(content, {}), (gzip.compress(content), {"content-encoding": "gzip"})]:
            again = http.post("/v1/images", content=body, headers={"content-type": kind} | more)
            assert again.json()["image_id"] == image["image_id"]
    large = http.post("/v1/images", content=b"x" * 12_000_000)
    assert (large.status_code, large.json()["details"][0]["reason"]) == (413, "IMAGE_TOO_LARGE")

    answer = http.post("/v1/classify", json={"image_id": image["image_id"], "store": True})
    assert answer.status_code == 400  # options have a field of their own in JSON
    query = f"image_id={image['image_id']}&store=true&top_k=1"
    answer = http.post(f"/v1/classify?{query}")
    assert answer.status_code == 200, answer.text
    (best,) = answer.json()["predictions"]
    kept = http.get(path).json()["result"]
    assert (kept["result_id"], kept["predictions"]) == (answer.json()["result_id"], [best])

    broader = best["ancestors"][-1]
    limits = f"min_confidence={best['confidence'] - 0.01}&max_confidence=1"
    for query in (
        f"category={best['category']}&{limits}",
        f"category={broader}&tags=sea&tags=e2e",
        "filename=beach&model=efficientnet_lite0&tags=e2e&start_time=2020-01-01T00:00:00Z",
    ):
        assert image["image_id"] in ids(http.get(f"/v1/images?{query}")), query
    assert ids(http.get("/v1/images?tags=e2e&end_time=2020-01-01T00:00:00Z")) == []
    changed = http.patch(path, json={"filename": "lake.jpg", "clear": ["tags"]})
    assert (changed.json()["filename"], changed.json()["tags"]) == ("lake.jpg", [])
    assert ids(http.get("/v1/images?tags=e2e")) == []
    assert http.delete(path).status_code == 200
    assert http.get(path).status_code == 404


def test_a_form_is_stored_with_its_classification(http):
    files = {"image": ("Form 72.jpg", jpeg(64, 48, 72))}
    answer = http.post("/v1/classify", files=files, data={"store": "true"})
    assert answer.status_code == 200, answer.text
    found = http.get(f"/v1/images/{answer.json()['image_id']}").json()
    assert found["filename"] == "Form 72.jpg"
    http.delete(f"/v1/images/{found['image_id']}")


def test_the_command_line_stores_lists_and_deletes_images(up, tmp_path):
    for seed in (73, 74):
        (tmp_path / f"cli {seed}.jpg").write_bytes(jpeg(64, 48, seed))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    sent = command("images", "upload", tmp_path, "--tag", "cli", "--json", "--data", up.data)
    assert sent.returncode == 1
    assert "bad.jpg: " in sent.stderr
    assert "1 images could not be stored" in sent.stderr
    stored = {json.loads(line)["image_id"] for line in sent.stdout.splitlines()}
    assert len(stored) == 2
    listed = command("images", "list", "--tag", "cli", "--filename", "cli 74", "--data", up.data)
    assert listed.returncode == 0, listed.stderr
    assert sum(image_id in listed.stdout for image_id in stored) == 1
    assert "cli 74.jpg" in listed.stdout
    deleted = command("images", "delete", *stored, "--data", up.data)
    assert deleted.returncode == 0, deleted.stderr
