"""Subjects through Envoy and on the command line: exported, erased, allowed again."""

import io
import json
import zipfile

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import command

PICTURE = jpeg(64, 48, 77)
SUBJECT = "jane.doe"
ERASED_WITHIN_S = 60


def answers(http):
    """Yields (path in the OpenAPI document, method, response) of each operation on subjects."""
    one = "/v1/subjects/{subject_id}"
    erased = http.post("/v1/subjects/nobody:erase", json={})
    yield f"{one}:erase", "post", erased
    here = f"/v1/erasures/{erased.json()['erasure_id']}"
    wait_until(lambda: http.get(here).json()["state"] == "DONE", ERASED_WITHIN_S)
    yield "/v1/erasures/{erasure_id}", "get", http.get(here)
    yield "/v1/erasures", "get", http.get("/v1/erasures")
    yield f"{one}:allow", "post", http.post("/v1/subjects/nobody:allow", json={})
    yield f"{one}:export", "post", http.post("/v1/subjects/nobody:export", json={})


def test_a_subject_is_exported_and_erased_and_the_certificate_verifies(up, http, tmp_path):
    form = {"image": ("jane.jpg", PICTURE)}
    kept = http.post("/v1/classify?store=true", files=form, data={"subject_id": SUBJECT})
    assert kept.json()["image_id"]
    batch = http.post(
        "/v1/batch", files={"images": ("jane.jpg", PICTURE)}, data={"subject_id": SUBJECT}
    )
    assert batch.status_code == 200
    exported = http.post(f"/v1/subjects/{SUBJECT}:export", json={})
    assert exported.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(exported.content)) as archive:
        assert json.loads(archive.read("manifest.json"))["batches"] == 1
        assert archive.read(f"images/{kept.json()['image_id']}.jpeg") == PICTURE
    file = tmp_path / "certificate.json"
    done = command("subjects", "erase", SUBJECT, "--yes", "--certificate", file, "--data", up.data)
    assert done.returncode == 0, done.stderr
    verified = command("subjects", "verify", file, "--data", up.data)
    assert json.loads(verified.stdout)["removed"]["images"] == 1
    assert http.get(f"/v1/images/{kept.json()['image_id']}").status_code == 404
    assert http.get(f"/v1/batch/{batch.json()['batch_id']}").status_code == 404
    refused = http.post("/v1/classify?store=true", files=form, data={"subject_id": SUBJECT})
    assert refused.status_code == 400
    assert "SUBJECT_ERASED" in refused.text
    for log in (up.data / "logs").glob("*.log"):
        assert SUBJECT not in log.read_text(errors="replace"), log
    assert http.post(f"/v1/subjects/{SUBJECT}:allow", json={}).json()["allow_time"]
