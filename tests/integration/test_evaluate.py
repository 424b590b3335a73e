"""evaluate with the packaged model on photographs."""

import json

from tests.support.up import command


def test_the_packaged_model_is_right_on_as_many_photographs_as_its_page_says(test_data, tmp_path):
    dataset = test_data / "images" / "labelled" / "validation_set.json"
    report = tmp_path / "report.html"
    done = command("evaluate", "--dataset", dataset, "--json", "--html", report, "--data", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["model"]["name"], found["unreadable"], found["unknown_categories"]) == (
        "efficientnet_lite0",
        [],
        {},
    )
    assert found["top_1"]["total"] == 164
    assert abs(found["top_1"]["count"] - 145) <= 1  # of 164: 88.4 %
    assert found["top_5"]["count"] >= 161
    assert sum(pair["count"] for pair in found["confusions"]) == 164 - found["top_1"]["count"]
    page = report.read_text()
    assert 10 <= page.count('<img src="data:image/jpeg;base64,') <= 164
    assert len(page) < 2_000_000
