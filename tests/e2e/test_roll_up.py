"""Answers at the level that the model is sure of: every way of asking, through Envoy."""

import base64
import csv
import io
import json
from pathlib import Path

import grpc
import pytest
from image_categorizer import ImageCategorizationClient
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.e2e.test_refusals import refusal
from tests.support.rest_batches import all_results, finished
from tests.support.up import command

pytestmark = pytest.mark.timeout(180)
FILE = Path(__file__).parents[2] / "examples" / "cat.jpg"
CAT = FILE.read_bytes()
QUERY = "/v1/classify?roll_up=true&confidence_threshold=0.8"


@pytest.fixture(scope="module")
def cat(http) -> dict[str, object]:
    """The answer to the photograph of a cat."""
    answer = http.post(QUERY, content=CAT)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()["predictions"][0]
    return found


def test_a_cat_is_a_cat_whatever_its_breed(http, cat):
    assert (cat["category"], cat["category_id"]) == ("cat", "n02121808")
    assert cat["ancestors"] == ["mammal", "animal"]
    assert cat["confidence"] == pytest.approx(0.923, abs=0.01)
    first, *breeds = http.post(QUERY, content=CAT).json()["predictions"]
    assert first == cat
    assert all(breed["ancestors"] == ["cat", "mammal", "animal"] for breed in breeds)
    confidences = [breed["confidence"] for breed in breeds]
    assert len(breeds) == 4
    assert confidences == sorted(confidences, reverse=True)
    plain = http.post("/v1/classify?confidence_threshold=0.8", content=CAT).json()
    assert plain["predictions"] == []


def test_every_way_of_asking_gives_the_same_answer(http, up, admin_key, cat):
    fields = {"roll_up": "yes", "confidence_threshold": "0.8"}
    options = {"rollUp": True, "confidence_threshold": 0.8}
    image = base64.b64encode(CAT).decode()
    for body in (
        {"data": fields, "files": {"image": CAT}},
        {"json": {"image": image, "options": options}},
    ):
        assert http.post("/v1/classify", **body).json()["predictions"][0] == cat
    request = classify_pb2.ClassifyRequest(
        image=CAT, options={"roll_up": True, "confidence_threshold": 0.8}
    )
    with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
        answer = classify_pb2_grpc.ClassifyServiceStub(channel).Classify(
            request, metadata=[("authorization", f"Bearer {admin_key}")], timeout=30
        )
    assert (answer.predictions[0].category, list(answer.predictions[0].ancestors)) == (
        "cat",
        ["mammal", "animal"],
    )
    with ImageCategorizationClient(admin_key, up.url) as client:
        result = client.classify_image(CAT, roll_up=True, confidence_threshold=0.8)
        (streamed,) = client.classify_stream([("cat", CAT)], roll_up=True)
    assert result.category == streamed.category == "cat"
    assert result.confidence == streamed.confidence
    assert result.predictions[0].ancestors == ("mammal", "animal")


def test_the_threshold_has_a_default_and_decides_the_level(http):
    def first(query):
        return http.post(f"/v1/classify?{query}", content=CAT).json()["predictions"][0]

    assert first("roll_up=1")["category"] == "cat"
    assert first("roll_up=1&confidence_threshold=0.3")["category"] == "tiger cat"
    unknown = http.post("/v1/classify?roll_up=1&confidence_threshold=1", content=CAT).json()
    assert unknown["predictions"] == [
        {
            "category": "UNKNOWN",
            "confidence": 0,
            "bounding_box": [],
            "category_id": "",
            "ancestors": [],
            "bounding_boxes": [],
        }
    ]
    assert first("roll_up=false")["category"] == "tiger cat"


def test_filters_may_name_broader_categories(http):
    def names(query):
        answer = http.post(f"/v1/classify?top_k=10&{query}", content=CAT).json()
        return [prediction["category"] for prediction in answer["predictions"]]

    cats = {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}
    assert set(names("include_categories=cat")) == cats
    assert set(names("include_categories=cat&exclude_categories=tabby")) == cats - {"tabby"}
    assert not cats & set(names("exclude_categories=mammal"))
    assert names("roll_up=1&include_categories=dog") == ["UNKNOWN"]
    assert names("roll_up=1&exclude_categories=cat")[0] == "mammal"
    # The two ways in which clients write a space in a query.
    assert names("include_categories=tiger%20cat") == ["tiger cat"]
    assert names("include_categories=tiger+cat") == ["tiger cat"]
    unheard = http.post("/v1/classify?include_categories=placental", content=CAT)
    assert refusal(unheard)[:2] == (404, "CATEGORY_NOT_FOUND")


def test_the_box_and_the_heat_map_are_those_of_the_strongest_category_below(http):
    rolled = http.post(f"{QUERY}&bounding_boxes=1&explain=1&top_k=2", content=CAT).json()
    cat, strongest = rolled["predictions"]
    assert len(cat["bounding_box"]) == 4
    assert cat["bounding_box"] == strongest["bounding_box"]
    assert list(cat["bounding_boxes"][0].values()) == cat["bounding_box"]
    plain = http.post("/v1/classify?bounding_boxes=1&explain=1&top_k=1", content=CAT).json()
    assert plain["predictions"][0] == strongest
    assert rolled["heat_map"] == plain["heat_map"] != ""
    nothing = http.post(
        "/v1/classify?roll_up=1&confidence_threshold=1&bounding_boxes=1&explain=1", content=CAT
    ).json()
    assert (nothing["predictions"][0]["bounding_box"], nothing["heat_map"]) == ([], "")


def test_rolled_up_answers_are_cached_apart_from_others(http):
    content = CAT + b"another photograph"  # what follows the end of a JPEG is ignored
    answers = [
        http.post(f"/v1/classify?{query}", content=content).json()
        for query in ("roll_up=1", "roll_up=0", "roll_up=1", "roll_up=1&confidence_threshold=1")
    ]
    assert [answer["cache"] for answer in answers] == ["MISS", "MISS", "HIT", "MISS"]
    assert answers[0]["predictions"] == answers[2]["predictions"]
    again = http.post("/v1/classify?roll_up=1&confidence_threshold=1", content=content).json()
    assert (again["cache"], again["predictions"]) == ("HIT", answers[3]["predictions"])


def test_batches_and_their_exports_roll_up(http, cat):
    fields = {"roll_up": "true", "confidence_threshold": "0.8", "request_id": "roll-up-1"}
    files = {"images[]": ("cat.jpg", CAT, "image/jpeg")}
    created = http.post("/v1/batch", data=fields, files=files).json()
    assert created["options"]["roll_up"] is True
    batch_id = created["batch_id"]
    assert finished(http, batch_id)["succeeded_count"] == 1
    (result,) = all_results(http, batch_id)
    found = result["classification"]["predictions"]
    assert found[0]["confidence"] == pytest.approx(cat["confidence"], abs=1e-4)
    assert found[0] | {"confidence": 1} == cat | {"confidence": 1}
    assert [prediction["category"] for prediction in found[1:3]] == ["tiger cat", "Egyptian cat"]
    lines = http.get(f"/v1/batch/{batch_id}/results:export?format=jsonl").text.splitlines()
    (line,) = map(json.loads, lines)
    assert (line["category"], line["predictions"][0]["ancestors"]) == ("cat", ["mammal", "animal"])
    exported = http.get(f"/v1/batch/{batch_id}/results:export?format=csv").text
    (row,) = csv.DictReader(io.StringIO(exported))
    assert (row["category"], float(row["confidence"])) == ("cat", pytest.approx(0.923, abs=0.01))
    # The option is part of the request that the request id names.
    assert http.post("/v1/batch", data=fields, files=files).json()["batch_id"] == batch_id
    other = http.post("/v1/batch", data=fields | {"roll_up": "false"}, files=files)
    assert refusal(other)[:2] == (409, "REQUEST_ID_REUSED")


def test_the_commands_roll_up(up):
    data = ("--data", up.data)
    done = command("classify", FILE, "--roll-up", "--threshold", "0.8", "--json", *data)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["category"] == "cat"
    plain = command("classify", FILE, "--no-roll-up", "--json", *data)
    assert json.loads(plain.stdout)["category"] == "tiger cat"
    submitted = command("batch", "submit", FILE, "--roll-up", *data)
    batch_id = submitted.stdout.strip()
    assert command("batch", "watch", batch_id, *data).returncode == 0
    results = command("batch", "results", batch_id, "--format", "jsonl", *data)
    assert json.loads(results.stdout)["category"] == "cat"
