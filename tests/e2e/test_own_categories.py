"""A category taught over REST is answered alone, in a stream and a batch, until it is deleted."""

import base64
import io

import pytest
from image_categorizer import ImageCategorizationClient
from PIL import Image

from tests.e2e.test_roll_up import FILE
from tests.support.polling import wait_until
from tests.support.rest_batches import all_results, finished
from tests.support.up import command

pytestmark = pytest.mark.timeout(180)
NAME = "my cat, 1"
PATH = "/v1/categories/my%20cat%2C%201"
SEEN_WITHIN_S = 1.0


def cut(number):
    """A JPEG of a part of the photograph, another for each number."""
    with Image.open(FILE) as picture:
        width, height = picture.size
        edge = 0.03 * number
        box = int(width * edge), int(height * edge / 2), width, int(height * (1 - edge))
        buffer = io.BytesIO()
        picture.convert("RGB").crop(box).save(buffer, "JPEG")
    return buffer.getvalue()


def answers(http):
    """Yields (path in the document, method, response) of every operation of the service."""
    image = base64.b64encode(cut(1)).decode()
    made = http.post("/v1/categories", json={"category": "documented", "examples": [image]})
    yield "/v1/categories", "post", made
    yield "/v1/categories:own", "get", http.get("/v1/categories:own")
    yield "/v1/categories:head", "get", http.get("/v1/categories:head")
    yield "/v1/categories/{category}", "get", http.get("/v1/categories/documented")
    (image_id,) = made.json()["image_ids"]
    path = "/v1/categories/documented/examples"
    added = http.post(path, json={"image_ids": [image_id]})
    yield "/v1/categories/{category}/examples", "post", added
    removed = http.delete(f"{path}/{image_id}")
    yield "/v1/categories/{category}/examples/{image_id}", "delete", removed
    yield "/v1/categories/{category}", "delete", http.delete("/v1/categories/documented")
    http.delete(f"/v1/images/{image_id}")


def first_prediction(http, content):
    answer = http.post("/v1/classify", content=content).json()
    return answer["predictions"][0]


def test_five_examples_teach_a_category_and_the_sixth_picture_is_recognised(http, up, admin_key):
    sixth = cut(6)
    plain = first_prediction(http, sixth)
    assert "source" not in plain
    examples = [base64.b64encode(cut(number)).decode() for number in range(1, 6)]
    made = http.post("/v1/categories", json={"category": NAME, "examples": examples})
    assert made.status_code == 200, made.text
    assert made.json()["example_count"] == 5
    try:
        again = http.post("/v1/categories", json={"category": NAME, "examples": examples})
        assert (again.status_code, again.json()["details"][0]["reason"]) == (409, "CATEGORY_EXISTS")
        wait_until(
            lambda: first_prediction(http, sixth)["category"] == NAME, within_s=SEEN_WITHIN_S
        )
        assert first_prediction(http, sixth)["source"] == "OWN_CATEGORY"
        created = http.post("/v1/batch", files={"images": ("cat.jpg", sixth)}).json()
        finished(http, created["batch_id"])
        (result,) = all_results(http, created["batch_id"])
        assert result["classification"]["predictions"][0]["source"] == "OWN_CATEGORY"
        with ImageCategorizationClient(admin_key, up.url) as client:
            (streamed,) = client.classify_stream([("cat.jpg", sixth)])
            assert streamed.classification.category == NAME
            assert client.categories.head().kind == "MEANS"
        assert http.get(PATH).json()["example_count"] == 5
        listed = command("categories", "list", "--data", up.data)
        assert NAME in listed.stdout
        assert "The mean of each category's examples decides" in listed.stdout + listed.stderr
    finally:
        deleted = http.delete(PATH)
    assert deleted.status_code == 200, deleted.text
    wait_until(lambda: first_prediction(http, sixth) == plain, within_s=SEEN_WITHIN_S)
    for image_id in made.json()["image_ids"]:
        http.delete(f"/v1/images/{image_id}")
