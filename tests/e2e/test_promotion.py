"""The promotion gate through Envoy: stable moves only to a version that has passed."""

import pytest
from image_categorizer import ImageCategorizationClient, PromotionRefused

from tests.support.colour_model import GREENISH, write_colour_model, write_colours
from tests.support.up import await_answer, command

FRUIT = ["tomato", "lime", "plum"]


@pytest.fixture(scope="module")
def fruit(up, http, tmp_path_factory):
    """Two versions, both READY. The second takes teal for lime."""
    folder = tmp_path_factory.mktemp("fruit")
    write_colour_model(folder / "a", FRUIT)
    write_colour_model(folder / "b", FRUIT, GREENISH)
    for name in ("a", "b"):
        done = command("models", "add", "fruit", folder / name, "--data", up.data)
        assert done.returncode == 0, done.stderr
    path = "/v1/models/fruit"
    await_answer(http, f"{path}?version=2", lambda answer: answer.json().get("state") == "READY")
    yield "fruit"
    assert command("models", "remove", "fruit", "--data", up.data).returncode == 0
    await_answer(http, path, lambda answer: answer.status_code == 404)


def point(http, **body):
    return http.post("/v1/models/fruit:setAlias", json={"alias": "stable"} | body)


@pytest.mark.slow
def test_stable_moves_only_to_a_version_that_has_passed(up, http, admin_key, fruit, tmp_path):
    pictures = write_colours(
        tmp_path / "set", {"tomato": ["tomato"], "lime": ["lime"], "plum": ["plum", "teal"]}
    )

    def models(*words):
        return command("models", *words, "--data", up.data)

    assert point(http, version="1").status_code == 200
    policy = ("policy", fruit, "--dataset", pictures, "--min-accuracy", "0.7")
    assert models(*policy, "--max-flips-per-category", "0").returncode == 0
    unchecked = point(http, version="2")
    assert unchecked.status_code == 400, unchecked.text
    assert unchecked.json()["details"][0]["reason"] == "PROMOTION_REFUSED"
    assert "has not passed the promotion policy: it was not checked" in unchecked.json()["message"]
    assert str(tmp_path) not in unchecked.text
    assert models("check", fruit, "2").returncode == 1
    failed = point(http, version="2")
    assert "1 picture of 'plum' wrong that version 1 has right" in failed.json()["message"]
    with (
        ImageCategorizationClient(admin_key, up.url) as client,
        pytest.raises(PromotionRefused, match="more than 0"),
    ):
        client.models.set_alias(fruit, "stable", 2)
    removed = point(http)
    assert removed.json()["details"][0]["reason"] == "PROMOTION_REFUSED"
    aliases = http.get(f"/v1/models/{fruit}?version=1").json()["aliases"]
    assert aliases == ["stable"]
    canary = http.post(f"/v1/models/{fruit}:setAlias", json={"alias": "canary", "version": "2"})
    assert canary.status_code == 200
    assert models(*policy, "--max-flips-per-category", "1").returncode == 0
    passed = models("check", fruit, "2")
    assert passed.returncode == 0, passed.stderr
    moved = point(http, version="2")
    assert (moved.status_code, moved.json()["aliases"]) == (200, ["canary", "stable"])
    assert models("policy", fruit, "--remove").returncode == 0
    assert point(http, version="1").status_code == 200
