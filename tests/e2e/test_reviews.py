"""Over REST: images are reviewed, exported as a labelled set, and found among look-alikes."""

import io
import json
import tarfile

import pytest
from PIL import Image

from tests.e2e.test_roll_up import FILE
from tests.support.pictures import encoded
from tests.support.up import command

pytestmark = pytest.mark.timeout(180)
TAG = "reviewed"


@pytest.fixture
def stored(http):
    """A photograph, and the same one smaller, with their results."""
    photograph = Image.open(FILE).convert("RGB")
    smaller = photograph.resize((photograph.width // 2, photograph.height // 2))
    contents = [FILE.read_bytes(), encoded(smaller)]
    path = "/v1/classify?store=true"
    answers = [http.post(path, content=content).json() for content in contents]
    ids = [answer["image_id"] for answer in answers]
    for image_id in ids:
        http.patch(f"/v1/images/{image_id}", json={"tags": [TAG]})
    yield ids
    for image_id in ids:
        http.delete(f"/v1/images/{image_id}")


def queue(http, **parameters):
    answer = http.get("/v1/reviews", params={"page_size": 1000, **parameters})
    assert answer.status_code == 200, answer.text
    return {item["image"]["image_id"]: item for item in answer.json()["items"]}


def listed(http, **parameters):
    answer = http.get("/v1/images", params={"tags": TAG, **parameters})
    return {image["image_id"] for image in answer.json()["images"]}


def test_images_are_reviewed_and_exported(up, http, stored, tmp_path):
    one, other = stored
    assert {one, other} <= set(queue(http))
    assert 0 <= queue(http)[one]["uncertainty"] <= 1
    assert "disagreement" in queue(http, order="DISAGREEMENT")[one]
    assert http.post(f"/v1/reviews/{one}:skip", json={}).json()["skip_time"]
    assert one not in queue(http)
    assert one in queue(http, skipped="true")
    groups = http.get("/v1/images:duplicates", params={"max_distance_bits": 8}).json()["groups"]
    assert any({one, other} <= set(group["image_ids"]) for group in groups)
    like = {"near_duplicate_of": one, "max_distance_bits": 8}
    assert listed(http, **like, review_state="UNREVIEWED") == {one, other}
    body = {"judgement": "WRONG", "category": "lynx", "look_alike_bits": 8}
    said = http.post(f"/v1/images/{one}:feedback", json=body).json()
    assert said["look_alike_image_ids"] == [other]
    assert said["reviewer"]
    assert listed(http, review_state="CORRECTED") == {one, other}
    assert not {one, other} & set(queue(http))
    assert http.get("/v1/reviews/agreement").json()["result_count"] >= 0
    options = {"tags": TAG, "test_percent": 100}
    with http.stream("GET", "/v1/images:export", params=options) as answer:
        assert answer.headers["content-type"] == "application/x-tar"
        assert "dataset.tar" in answer.headers["content-disposition"]
        content = answer.read()
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        assert opened.getnames()[:2] == [f"test/lynx/{i}.jpeg" for i in (other, one)]
        opened.extractall(tmp_path / "http", filter="data")
    file = tmp_path / "dataset.tar"
    options = "--tag", TAG, "--test", "100", "--data", up.data
    command("images", "export", str(file), *options)
    assert file.read_bytes() == content
    folder = tmp_path / "http" / "test"
    report = command("evaluate", "--dataset", folder, "--json", "--data", tmp_path)
    found = json.loads(report.stdout)
    assert (found["unreadable"], found["unknown_categories"]) == ([], {})
    assert found["top_1"]["total"] == 2
