"""Confidences before calibration: every way of asking, through Envoy."""

import base64
import csv
import io
import json

import pytest
from image_categorizer import ImageCategorizationClient

from tests.e2e.test_refusals import refusal
from tests.support.colour_model import write_colour_model, write_colours
from tests.support.rest_batches import all_results, finished
from tests.support.up import await_answer, command

pytestmark = pytest.mark.timeout(240)
NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def teal(tmp_path_factory):
    """Pictures of one colour. Half of them count as blue, which the network is surer of."""
    pictures = {"blue": ["teal"] * 90, "green": ["teal"] * 60, "red": ["teal"] * 50}
    return write_colours(tmp_path_factory.mktemp("teal"), pictures)


@pytest.fixture(scope="module")
def paints(up, http, teal, tmp_path_factory):
    """A model, and a second version of it that is calibrated, both READY."""
    name, data = "paints", ("--data", up.data)
    source = write_colour_model(tmp_path_factory.mktemp("paints") / "a", NAMES)
    for words in (("add", name, source), ("calibrate", name, "--dataset", teal)):
        done = command("models", *words, *data)
        assert done.returncode == 0, done.stderr
    path = f"/v1/models/{name}"
    await_answer(http, f"{path}?version=2", lambda answer: answer.json().get("state") == "READY")
    yield name
    assert command("models", "remove", name, *data).returncode == 0
    await_answer(http, path, lambda answer: answer.status_code == 404)


@pytest.fixture(scope="module")
def file(teal):
    return next((teal / "blue").iterdir())


def predictions(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


@pytest.fixture(scope="module")
def calibrated(http, paints, file):
    """The answer of the calibrated version, with the confidences before calibration."""
    query = f"/v1/classify?model={paints}&version=2&raw_confidence=true"
    return predictions(http.post(query, content=file.read_bytes()))


def test_the_raw_confidence_is_that_of_the_version_before(http, paints, file, calibrated):
    before = http.post(f"/v1/classify?model={paints}&version=1", content=file.read_bytes())
    raw = {p["category"]: p["raw_confidence"] for p in calibrated}
    assert raw == pytest.approx({p["category"]: p["confidence"] for p in predictions(before)})
    assert [p["category"] for p in calibrated] == ["blue", "green", "red"]
    assert calibrated[0]["confidence"] < calibrated[0]["raw_confidence"] - 0.05
    for p in predictions(before):
        assert "raw_confidence" not in p


def test_every_way_of_asking_gives_the_same_answer(http, up, admin_key, paints, file, calibrated):
    content = file.read_bytes()
    fields = {"model": paints, "version": "2", "rawConfidence": "yes"}
    options = {"model": paints, "version": "2", "raw_confidence": True}
    image = base64.b64encode(content).decode()
    for body in (
        {"data": fields, "files": {"image": content}},
        {"json": {"image": image, "options": options}},
    ):
        assert predictions(http.post("/v1/classify", **body)) == calibrated
    with ImageCategorizationClient(admin_key, up.url) as client:
        result = client.classify_image(content, **options)
        (streamed,) = client.classify_stream([("teal", content)], **options)
    expected = [pytest.approx(p["raw_confidence"]) for p in calibrated]
    assert [p.raw_confidence for p in result.predictions] == expected
    assert [p.raw_confidence for p in streamed.predictions] == expected


def test_answers_with_raw_confidences_are_cached_apart_from_others(http, paints, file):
    content = file.read_bytes() + b"another picture"  # what follows the end of a PNG is ignored
    answers = [
        http.post(
            f"/v1/classify?model={paints}&version=2&raw_confidence={asked}", content=content
        ).json()
        for asked in ("0", "1", "0", "1")
    ]
    assert [answer["cache"] for answer in answers] == ["MISS", "MISS", "HIT", "HIT"]
    assert answers[0]["predictions"] == answers[2]["predictions"]
    assert answers[1]["predictions"] == answers[3]["predictions"]
    has_raw = ["raw_confidence" in answer["predictions"][0] for answer in answers]
    assert has_raw == [False, True, False, True]


def test_batches_and_their_exports_contain_it(http, paints, file, calibrated):
    fields = {"model": paints, "version": "2", "raw_confidence": "true", "request_id": "raw-1"}
    files = {"images[]": ("teal.png", file.read_bytes(), "image/png")}
    created = http.post("/v1/batch", data=fields, files=files).json()
    assert created["options"]["raw_confidence"] is True
    batch_id = created["batch_id"]
    assert finished(http, batch_id)["succeeded_count"] == 1
    (result,) = all_results(http, batch_id)
    expected = [pytest.approx(p["raw_confidence"], abs=1e-6) for p in calibrated]
    found = result["classification"]["predictions"]
    assert [p["raw_confidence"] for p in found] == expected
    assert [p["confidence"] for p in found] == [pytest.approx(p["confidence"]) for p in calibrated]
    exported = http.get(f"/v1/batch/{batch_id}/results:export?format=jsonl").text
    line = json.loads(exported)
    assert [p["raw_confidence"] for p in line["predictions"]] == expected
    assert line["raw_confidence"] == expected[0]
    exported = http.get(f"/v1/batch/{batch_id}/results:export?format=csv").text
    (row,) = csv.DictReader(io.StringIO(exported))
    assert float(row["raw_confidence"]) == expected[0]
    # The option is part of the request that the request id names.
    other = http.post("/v1/batch", data=fields | {"raw_confidence": "false"}, files=files)
    assert refusal(other)[:2] == (409, "REQUEST_ID_REUSED")


def test_webhooks_of_single_classifications_contain_it(http, paints, file, receiver, calibrated):
    query = f"model={paints}&version=2&raw_confidence=1&webhook_url={receiver.url}"
    answer = http.post(f"/v1/classify?{query}", content=file.read_bytes())
    assert predictions(answer) == calibrated
    ((_, content),) = receiver.wait_for(1)
    raw = [p["raw_confidence"] for p in json.loads(content)["data"]["predictions"]]
    assert raw == [pytest.approx(p["raw_confidence"]) for p in calibrated]


@pytest.mark.slow
def test_the_commands_show_it(up, paints, file, calibrated):
    words = (file, "--model", paints, "--version", "2", "--raw-confidence", "--data", up.data)
    done = command("classify", *words, "--json")
    assert done.returncode == 0, done.stderr
    (best,) = json.loads(done.stdout)["predictions"]
    assert best["raw_confidence"] == pytest.approx(calibrated[0]["raw_confidence"])
    table = command("classify", *words).stdout
    assert table.split()[:4] == ["file", "category", "confidence", "raw"]
    assert f"{calibrated[0]['raw_confidence']:.1%}" in table
    batch_id = command("batch", "submit", *words).stdout.strip()
    assert command("batch", "watch", batch_id, "--data", up.data).returncode == 0
    exported = command("batch", "results", batch_id, "--format", "jsonl", "--data", up.data)
    assert json.loads(exported.stdout)["raw_confidence"] == best["raw_confidence"]
