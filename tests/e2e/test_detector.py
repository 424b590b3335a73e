"""A detector that finds a red and a green square, through Envoy: added, asked, listed, refused."""

from collections.abc import Iterator

import pytest
from image_categorizer import ImageCategorizationClient
from PIL import Image

from tests.e2e.test_refusals import refusal
from tests.support.pictures import encoded
from tests.support.square_detector import (
    ULTRALYTICS,
    Layout,
    picture_of,
    write_square_detector,
)
from tests.support.up import await_answer, command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
SIZE_PX = 640, 400
RED, GREEN = (60, 40, 220, 200), (380, 160, 600, 380)
MIN_IOU = 0.9
QUERY = "/v1/classify?model=squares&bounding_boxes=1"
UNIT = "--mean", "0", "0", "0", "--std", "1", "1", "1"
ADDED: dict[str, tuple[Layout, dict[str, str] | None, tuple[str, ...]]] = {
    "squares": ("queries", None, ("--boxes", "xyxy", *UNIT)),
    "yolo": ("columns", ULTRALYTICS, ()),
}


@pytest.fixture(scope="module")
def squares(up, http, tmp_path_factory) -> Iterator[str]:
    """What `models add` says of the model `squares`; there is a model `yolo`, too."""
    said = {}
    for name, (layout, metadata, words) in ADDED.items():
        file = write_square_detector(tmp_path_factory.mktemp(name), layout, metadata)
        added = command("models", "add", name, file, *words, "--data", up.data)
        assert added.returncode == 0, added.stderr
        said[name] = added.stderr
        path = f"/v1/models/{name}"
        await_answer(http, path, lambda answer: answer.json().get("state") == "READY")
    yield said["squares"]
    for name in ADDED:
        assert command("models", "remove", name, "--data", up.data).returncode == 0


def iou(box, other):
    """Returns the intersection over union of two boxes."""
    sides = [min(box[a + 2], other[a + 2]) - max(box[a], other[a]) for a in (0, 1)]
    shared = max(sides[0], 0) * max(sides[1], 0)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return shared / (sum(areas) - shared)


def check(predictions):
    found = {each["category"]: each for each in predictions}
    assert sum(each["confidence"] for each in predictions) == pytest.approx(1.9)
    for name, expected in (("red square", RED), ("green square", GREEN)):
        (box,) = found[name]["bounding_boxes"]
        assert list(box.values()) == found[name]["bounding_box"]
        assert iou(found[name]["bounding_box"], expected) >= MIN_IOU


@pytest.mark.parametrize("name", ADDED)
def test_both_squares_have_a_box(squares, http, name):
    picture = encoded(picture_of(SIZE_PX, red=RED, green=GREEN), "PNG")
    answer = http.post(f"/v1/classify?model={name}&bounding_boxes=1", content=picture)
    assert answer.status_code == 200, answer.text
    check(answer.json()["predictions"])


def test_boxes_are_in_pixels_of_the_upright_picture(squares, http):
    shown = Image.fromarray(picture_of(SIZE_PX, red=RED, green=GREEN))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = encoded(shown.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    check(http.post(QUERY, content=turned).json()["predictions"])


def test_the_sdk_and_the_catalogue_know_the_detector(squares, http, up, admin_key):
    assert "2 categories, input 64 x 64, detector" in squares
    assert "A detector: boxes are corners in pixels; scores as they are" in squares
    model = http.get("/v1/models/squares").json()
    assert (model["localization"], model["activation"]) == ("DETECTION", "SIGMOID")
    picture = encoded(picture_of(SIZE_PX, red=RED), "PNG")
    with ImageCategorizationClient(api_key=admin_key, base_url=f"127.0.0.1:{up.port}") as client:
        result = client.classify_image(
            picture, model="squares", bounding_boxes=True, confidence_threshold=0.5
        )
    (prediction,) = result.predictions
    assert prediction.category == "red square"
    assert iou(prediction.bounding_box, RED) >= MIN_IOU


def test_a_detector_has_no_heat_map(squares, http):
    picture = encoded(picture_of(SIZE_PX, red=RED), "PNG")
    status, reason, message = refusal(http.post(f"{QUERY}&explain=1", content=picture))
    assert (status, reason) == (400, "FIELD_INVALID")
    assert message == (
        "explain: the model 'squares' is a detector, which has no heat map: "
        "ask for bounding_boxes instead"
    )


def test_a_detector_is_not_calibrated(squares, up, tmp_path):
    words = "squares", "--dataset", tmp_path
    done = command("models", "calibrate", *words, "--data", up.data)
    assert (done.returncode, "squares version 1 is a detector" in done.stderr) == (1, True)
