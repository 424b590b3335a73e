"""A correction over REST changes the next answers, alone and in a batch, until it is undone."""

import pytest

from tests.e2e.test_roll_up import FILE
from tests.support.polling import wait_until
from tests.support.rest_batches import all_results, finished

pytestmark = pytest.mark.timeout(180)
RIGHT = "lynx"
SEEN_WITHIN_S = 1.0


def first_prediction(http):
    answer = http.post("/v1/classify", content=FILE.read_bytes()).json()
    return answer["predictions"][0], answer["neighbours"]


def first_prediction_until(http, is_expected):
    """The first prediction once it is as expected, which takes a second at most."""
    found = []

    def is_seen():
        found.append(first_prediction(http))
        return is_expected(found[-1][0])

    wait_until(is_seen, within_s=SEEN_WITHIN_S)
    return found[-1]


def test_a_correction_changes_the_next_answer_until_it_is_undone(http):
    content = FILE.read_bytes()
    stored = http.post("/v1/classify?store=true", content=content).json()
    plain = stored["predictions"][0]
    assert plain["category"] != RIGHT
    assert "source" not in plain
    assert stored["neighbours"] == []
    path = f"/v1/images/{stored['image_id']}:feedback"
    refused = http.post(path, json={"judgement": "WRONG", "category": "unicorn"})
    assert refused.status_code == 404
    said = http.post(path, json={"judgement": "WRONG", "category": RIGHT})
    assert said.status_code == 200, said.text
    try:
        found, neighbours = first_prediction_until(http, lambda p: p["category"] == RIGHT)
        assert found["source"] == "CORRECTION"
        assert [n["image_id"] for n in neighbours] == [stored["image_id"]]
        created = http.post("/v1/batch", files={"images": ("cat.jpg", content)}).json()
        finished(http, created["batch_id"])
        (result,) = all_results(http, created["batch_id"])
        assert result["classification"]["predictions"][0]["source"] == "CORRECTION"
        listed = http.get("/v1/feedback", params={"image_id": stored["image_id"]}).json()
        assert listed["feedback"] == [said.json()]
    finally:
        undone = http.delete(f"/v1/feedback/{said.json()['feedback_id']}")
    assert undone.json()["undo_time"]
    again, neighbours = first_prediction_until(http, lambda p: p["category"] != RIGHT)
    assert again == plain
    assert neighbours == []
    assert http.delete(f"/v1/images/{stored['image_id']}").status_code == 200
