"""models calibrate: the version it adds, and when it adds none."""

import json

import pytest
from image_categorizer_server.inference.models.manifest import damage, read_manifest

from tests.support.colour_model import write_colour_model, write_colours
from tests.unit.inference.test_onnx import add_onnx

FRUIT = ["tomato", "lime", "plum"]


@pytest.fixture
def mine(repository, tmp_path, monkeypatch):
    """A version of `mine`; it takes teal for plum."""
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("CATEGORIZER_MODELS__PACKAGED", "false")
    add_onnx(repository, write_colour_model(tmp_path / "a", FRUIT) / "model.onnx")
    return tmp_path / "models" / "mine"


def figures(run, dataset, version):
    words = "--model", "mine", "--version", version, "--dataset", dataset, "--json"
    return json.loads(run("evaluate", *words).out)


def test_a_calibrated_version_is_as_sure_as_it_is_right(mine, run, tmp_path):
    # Of each twenty teal pictures, eleven are no plums.
    teal = {"plum": ["teal"] * 90, "lime": ["teal"] * 60, "tomato": ["teal"] * 50}
    dataset = write_colours(tmp_path / "set", teal)
    before = figures(run, dataset, 1)
    done = run("models", "calibrate", "mine", "--dataset", dataset)
    assert done.status == 0, done.err
    assert "Added mine, version 2" in done.err
    after = figures(run, dataset, 2)
    assert after["calibration"]["ece"] < 0.5 * before["calibration"]["ece"]
    assert after["top_1"] == before["top_1"]
    manifest = read_manifest(mine / "2")
    assert damage(mine / "2", manifest) == ""
    assert manifest.digest != read_manifest(mine / "1").digest
    record = json.loads((mine / "2" / "calibration.json").read_text())
    assert record["temperature"] == manifest.temperature > 1
    assert record["error_after"] < record["error_before"]
    assert record["temperatures"] == manifest.temperatures == {}
    assert "One temperature: fewer than two groups" in record["choice"]
    again = run("models", "calibrate", "mine", "--dataset", dataset, "--version", 2)
    assert (again.status, "is calibrated already" in again.err) == (1, True)


def test_no_version_is_added_where_it_would_not_help(mine, run, tmp_path):
    few = write_colours(tmp_path / "few", {"plum": ["plum"] * 20, "lime": ["lime"] * 20})
    done = run("models", "calibrate", "mine", "--dataset", few)
    assert (done.status, "40 pictures are too few" in done.err) == (1, True)
    assert not (mine / "2").exists()


def test_groups_that_are_wrong_in_different_ways_are_served_and_shown(mine, run, tmp_path):
    # Of the tomatoes too many are right for what the network says, of the plums too few.
    shares = {
        "tomato": ["tomato"] * 150 + ["plum"] * 60,
        "lime": ["plum"] * 60,
        "plum": ["plum"] * 80,
    }
    dataset = write_colours(tmp_path / "set", shares)
    before = figures(run, dataset, 1)
    done = run("models", "calibrate", "mine", "--dataset", dataset)
    assert done.status == 0, done.err
    assert "Groups: in cross-validation, one for each upper category" in done.err
    manifest = read_manifest(mine / "2")
    assert set(manifest.temperatures) == {"tomato", "plum"}
    assert manifest.temperatures["tomato"] < manifest.temperature < manifest.temperatures["plum"]
    assert json.loads((mine / "2" / "calibration.json").read_text())["pictures_by_group"] == {
        "tomato": 75,
        "plum": 100,
    }
    after = figures(run, dataset, 2)
    assert after["calibration"]["ece"] < 0.5 * before["calibration"]["ece"]
    assert after["top_1"] == before["top_1"]
    groups = {each["group"]: each for each in after["calibration"]["groups"]}
    assert groups["plum"]["answers"] == 200
    assert groups["plum"]["temperature"] == manifest.temperatures["plum"]
    assert before["calibration"]["groups"] == []
    page = tmp_path / "page.html"
    shown = run("evaluate", "--model", "mine", "--dataset", dataset, "--html", page)
    assert "Calibration of each group" in shown.out
    assert "Calibration of groups" in page.read_text()
    again = run("models", "calibrate", "mine", "--dataset", dataset, "--version", 2)
    assert "is calibrated already" in again.err
