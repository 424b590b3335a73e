"""Boxes see the whole picture, and each object may have one: every way of asking."""

import json

import pytest
from image_categorizer import ImageCategorizationClient
from PIL import Image

from tests.e2e.test_roll_up import FILE
from tests.support.pictures import encoded
from tests.support.rest_batches import all_results, finished
from tests.support.up import command

pytestmark = pytest.mark.timeout(180)
SIDE_PX, TOP_PX = 300, 50
LEFT_PX, RIGHT_PX = 20, 880  # of the two cats; the network's own input shows 425 to 775
QUERY = "/v1/classify?bounding_boxes=1&include_categories=tabby"


@pytest.fixture(scope="module")
def cats() -> bytes:
    """A wide picture with a cat at each end."""
    picture = Image.new("RGB", (1200, 400), (127, 127, 127))
    with Image.open(FILE) as cat:
        square = cat.convert("RGB").resize((SIDE_PX, SIDE_PX))
    for left in (LEFT_PX, RIGHT_PX):
        picture.paste(square, (left, TOP_PX))
    return encoded(picture, "PNG")


def check(boxes):
    first, second = sorted(map(tuple, boxes))
    for box, left in ((first, LEFT_PX), (second, RIGHT_PX)):
        edges = left, TOP_PX, left + SIDE_PX, TOP_PX + SIDE_PX
        assert box == pytest.approx(edges, abs=60)


def test_both_ends_of_a_wide_picture_have_a_box(http, cats):
    answer = http.post(QUERY, content=cats)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["predictions"]
    boxes = [tuple(box.values()) for box in found["bounding_boxes"]]
    assert list(found["bounding_boxes"][0]) == ["x_min", "y_min", "x_max", "y_max"]
    check(boxes)
    assert tuple(found["bounding_box"]) == boxes[0]


def test_sdk_command_and_batches_return_all_boxes(up, admin_key, http, cats, tmp_path):
    wanted = {"bounding_boxes": True, "include_categories": ["tiger cat"]}
    with ImageCategorizationClient(api_key=admin_key, base_url=f"127.0.0.1:{up.port}") as client:
        (prediction,) = client.classify_image(cats, **wanted).predictions
    check(prediction.bounding_boxes)
    file = tmp_path / "cats.png"
    file.write_bytes(cats)
    words = ("--bounding-boxes", "--include", "tiger cat", "--data", up.data)
    shown = command("classify", file, *words, "--json")
    (prediction,) = json.loads(shown.stdout)["predictions"]
    check(prediction["bounding_boxes"])
    assert ";" in command("classify", file, *words).stdout
    fields = {"bounding_boxes": "true", "include_categories": "tiger cat"}
    created = http.post("/v1/batch", data=fields, files={"images": ("cats.png", cats)}).json()
    finished(http, created["batch_id"])
    (result,) = all_results(http, created["batch_id"])
    check(box.values() for box in result["classification"]["predictions"][0]["bounding_boxes"])
    export = http.get(f"/v1/batch/{created['batch_id']}/results:export?format=jsonl").text
    check(box.values() for box in json.loads(export)["predictions"][0]["bounding_boxes"])
