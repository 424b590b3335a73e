"""Batches through Envoy: JSON, forms, zip files; results, progress, exports."""

import base64
import csv
import io
import json
import zipfile

import httpx
import pytest

from tests.e2e.test_refusals import refusal
from tests.support.rest_batches import PICTURES, all_results, finished, three

pytestmark = pytest.mark.timeout(180)
B64 = [base64.b64encode(picture).decode() for picture in PICTURES]


@pytest.fixture(scope="module")
def done(http) -> dict[str, object]:
    """A batch that has ended, of three images and a PDF."""
    files = [*three(), ("images[]", ("bad.pdf", b"%PDF-1.7", "application/pdf"))]
    batch = http.post("/v1/batch", files=files).json()
    return finished(http, batch["batch_id"])


def test_json_creates_a_batch(http):
    items = [{"image": B64[0], "filename": "a.jpg"}, {"image": B64[1]}]
    body = {"items": items, "options": {"top_k": 2}, "request_id": "json-1"}
    answer = http.post("/v1/batch", json=body)
    assert answer.status_code == 200, answer.text
    batch = answer.json()
    assert (batch["item_count"], batch["options"]["top_k"], batch["failures"]) == (2, 2, [])
    assert batch["state"] in ("QUEUED", "RUNNING", "COMPLETED")
    assert http.post("/v1/batch", json=body).json()["batch_id"] == batch["batch_id"]
    other = http.post("/v1/batch", json={**body, "items": items[:1]})
    assert refusal(other)[:2] == (409, "REQUEST_ID_REUSED")
    assert finished(http, batch["batch_id"])["succeeded_count"] == 2
    found = all_results(http, batch["batch_id"])
    assert [r["filename"] for r in found] == ["a.jpg", "1"]
    assert [len(r["classification"]["predictions"]) for r in found] == [2, 2]


@pytest.mark.parametrize("field", ["images[]", "images"])
def test_a_form_of_three_files_has_the_results_of_single_calls(http, field):
    answer = http.post("/v1/batch?top_k=3", files=three(field))
    assert answer.status_code == 200, answer.text
    batch = finished(http, answer.json()["batch_id"])
    assert (batch["state"], batch["succeeded_count"]) == ("COMPLETED", 3)
    for number, result in enumerate(all_results(http, str(batch["batch_id"]))):
        assert (result["item_id"], result["filename"]) == (str(number), f"{number}.jpg")
        assert result["status"]["code"] == 0
        single = http.post("/v1/classify?top_k=3&no_cache=true", content=PICTURES[number]).json()
        ours = result["classification"]
        assert ours["model"] == single["model"]
        for a, b in zip(ours["predictions"], single["predictions"], strict=True):
            assert (a["category"], a["category_id"], a["ancestors"]) == (
                b["category"],
                b["category_id"],
                b["ancestors"],
            )
            assert a["confidence"] == pytest.approx(b["confidence"], abs=1e-4)


def test_options_may_be_form_fields_before_the_files(http):
    data = {"top_k": "2", "priority": "3", "request_id": "form-1", "no_cache": "true"}
    first = http.post("/v1/batch", data=data, files=three()).json()
    assert (first["options"]["top_k"], first["options"]["no_cache"]) == (2, True)
    assert http.post("/v1/batch", data=data, files=three()).json()["batch_id"] == first["batch_id"]


def test_a_zip_file_stands_for_its_files(http):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(5):
            archive.writestr(f"photos/{number}.jpg", PICTURES[number])
        archive.writestr("photos/readme.txt", "no image")
    files = {"images[]": ("photos.zip", packed.getvalue(), "application/zip")}
    batch = finished(http, http.post("/v1/batch", files=files).json()["batch_id"])
    assert (batch["succeeded_count"], batch["failed_count"]) == (5, 1)
    names = [r["filename"] for r in all_results(http, str(batch["batch_id"]))]
    assert names == [*(f"photos/{n}.jpg" for n in range(5)), "photos/readme.txt"]


def test_a_zip_file_may_hold_damaged_files_and_those_of_operating_systems(http):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("photos/a.jpg", PICTURES[0])
        archive.writestr("photos/b.jpg", PICTURES[1])
        for name in (".DS_Store", "._a.jpg", "Thumbs.db"):
            archive.writestr(f"photos/{name}", "x")
    content = bytearray(packed.getvalue())
    content[content.index(b"PK\x01\x02") + 16] ^= 1  # the first checksum
    files = {"images[]": ("photos.zip", bytes(content), "application/zip")}
    batch = finished(http, http.post("/v1/batch", files=files).json()["batch_id"])
    counts = (batch["succeeded_count"], batch["failed_count"], batch["ignored_count"])
    assert counts == (1, 1, 3)
    (failure,) = batch["failures"]
    assert (failure["filename"], failure["status"]["message"]) == (
        "photos/a.jpg",
        "the file is damaged in the zip file",
    )


def test_a_failure_has_its_reason(http, done):
    assert (done["state"], done["succeeded_count"], done["failed_count"]) == ("COMPLETED", 3, 1)
    (failure,) = done["failures"]
    assert (failure["item_id"], failure["filename"]) == ("3", "bad.pdf")
    assert failure["status"]["details"][0]["reason"] in (
        "IMAGE_UNDECODABLE",
        "IMAGE_FORMAT_UNSUPPORTED",
    )
    bad = all_results(http, done["batch_id"])[3]
    assert bad["status"] == failure["status"]
    assert "classification" not in bad


def test_results_are_exported_as_jsonl_and_csv(http, done):
    path = f"/v1/batch/{done['batch_id']}/results:export"
    lines = http.get(path)
    assert lines.headers["content-type"] == "application/x-ndjson"
    name = f'attachment; filename="{done["batch_id"]}.jsonl"'
    assert lines.headers["content-disposition"] == name
    found = [json.loads(line) for line in lines.text.splitlines()]
    assert [line["item_id"] for line in found] == list("0123")
    assert found[0]["category"] == found[0]["predictions"][0]["category"]
    assert found[3]["error_reason"].startswith("IMAGE_")
    table = http.get(path, params={"format": "csv"})
    assert table.headers["content-type"].startswith("text/csv; charset=utf-8")
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["filename"] for row in rows] == ["0.jpg", "1.jpg", "2.jpg", "bad.pdf"]
    assert [row["category"] for row in rows] == [line["category"] or "" for line in found]
    assert refusal(http.get(path, params={"format": "xlsx"}))[:2] == (400, "FIELD_INVALID")


def test_watching_as_json_lines_ends_with_done(http):
    batch_id = http.post("/v1/batch", files=three()).json()["batch_id"]
    with http.stream("GET", f"/v1/batch/{batch_id}:watch") as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        messages = [json.loads(line) for line in answer.iter_lines() if line]
    assert [m["done"] for m in messages] == [False] * (len(messages) - 1) + [True]
    assert messages[-1]["batch"]["state"] == "COMPLETED"
    assert messages[-1]["batch"]["batch_id"] == batch_id


def test_watching_as_server_sent_events_ends_with_done(http, done):
    headers = {"accept": "text/event-stream"}
    with http.stream("GET", f"/v1/batch/{done['batch_id']}:watch", headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert json.loads(lines[-1].removeprefix("data: "))["done"] is True


def test_watching_an_unknown_batch_is_an_error(http):
    for accept in ("*/*", "text/event-stream"):
        answer = http.get("/v1/batch/b-none:watch", headers={"accept": accept})
        assert answer.status_code == 404
        assert answer.json()["details"][0]["reason"] == "BATCH_NOT_FOUND"


def test_batches_are_listed_cancelled_retried_and_deleted(http):
    batch_id = http.post("/v1/batch", files=three()).json()["batch_id"]
    listed = http.get("/v1/batch", params={"page_size": 1}).json()
    assert [b["batch_id"] for b in listed["batches"]] == [batch_id]
    assert listed["next_page_token"]
    path = f"/v1/batch/{batch_id}"
    assert http.post(f"{path}:cancel", json={}).status_code == 200
    ended = finished(http, batch_id)
    assert ended["state"] in ("CANCELLED", "COMPLETED")
    assert http.post(f"{path}:cancel", json={}).json()["state"] == ended["state"]
    assert http.post(f"{path}:retry", json={}).status_code == 200
    again = finished(http, batch_id)
    assert (again["state"], again["succeeded_count"]) == ("COMPLETED", 3)
    completed = http.get("/v1/batch", params={"state": "COMPLETED"}).json()["batches"]
    assert batch_id in [b["batch_id"] for b in completed]
    assert http.delete(path).json() == {}
    for answer in (
        http.get(path),
        http.get(f"{path}/results"),
        http.get(f"{path}/results:export"),
        http.post(f"{path}:cancel", json={}),
        http.post(f"{path}:retry", json={}),
        http.delete(path),
    ):
        assert refusal(answer)[:2] == (404, "BATCH_NOT_FOUND")


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"json": {}}, "items: must have 1 to"),
        ({"json": {"items": [{}]}}, "items[0].image: or image_uri is required"),
        ({"json": {"items": [{"image_uri": "ftp://a/b"}]}}, "items[0].image_uri"),
        ({"json": {"items": [{"image": "AAAA"}], "options": {"top_k": -1}}}, "options.top_k"),
        ({"json": {"items": [{"image": "AAAA"}], "priority": 99}}, "priority"),
        ({"files": {"picture": PICTURES[0]}}, "picture: is not a field of the form"),
        ({"files": {"images[]": ("a.zip", b"PK no zip")}}, "a zip file is damaged"),
        ({"files": {"images[]": PICTURES[0]}, "params": {"top_k": "0"}}, "top_k"),
        ({"files": {"images[]": PICTURES[0]}, "params": {"flavour": "new"}}, "flavour"),
        ({"content": PICTURES[0]}, "must be multipart/form-data, or application/json"),
        ({"content": b"", "headers": {"content-type": "application/zip"}}, "multipart/form-data"),
    ],
)
def test_an_invalid_batch_names_the_field(http, sent, words):
    answer = http.post("/v1/batch", **sent)
    assert refusal(answer)[:2] == (400, "FIELD_INVALID"), answer.text
    assert words in refusal(answer)[2]


@pytest.mark.parametrize("query", ["page_size=-1", "page_token=nonsense", "state=NONE"])
def test_an_invalid_list_request_is_refused(http, query):
    assert refusal(http.get(f"/v1/batch?{query}"))[:2] == (400, "FIELD_INVALID")


def test_a_json_body_may_hold_several_images(http):
    images = [PICTURES[0] + bytes(1_600_000), PICTURES[1] + bytes(1_600_000), PICTURES[2]]
    items = [{"image": base64.b64encode(image).decode()} for image in images]
    answer = http.post("/v1/batch", json={"items": [*items, items[0]]})
    assert finished(http, answer.json()["batch_id"])["succeeded_count"] == 4


def test_a_json_body_over_the_limit_names_the_alternative(http):
    answer = http.post("/v1/batch", json={"items": [{"image": "A" * (9 << 20)}]})
    assert refusal(answer)[:2] == (413, "BATCH_TOO_LARGE")
    assert "multipart/form-data" in refusal(answer)[2]


def test_a_missing_or_insufficient_key_is_refused(up, viewer_key):
    for sent in ({"json": {"items": []}}, {"files": three()}):
        assert refusal(httpx.post(f"{up.url}/v1/batch", **sent))[:2] == (401, "CREDENTIALS_MISSING")
        headers = {"authorization": f"Bearer {viewer_key}"}
        answer = httpx.post(f"{up.url}/v1/batch", headers=headers, **sent)
        assert refusal(answer)[:2] == (403, "ROLE_INSUFFICIENT")
