"""Two versions of a model through Envoy and the command line: load, alias, unload."""

import json

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.up import command

PICTURE = jpeg()


def version_of(http, **query):
    answer = http.post("/v1/classify", params={"model": "roses"} | query, content=PICTURE)
    assert answer.status_code == 200, answer.text
    return answer.json()["model"]["version"]


@pytest.mark.slow
def test_the_command_line_points_an_alias_and_the_server_follows(up, http, roses):
    assert version_of(http) == "2"
    done = command("models", "alias", roses, "stable", "1", "--data", up.data)
    assert done.returncode == 0
    assert done.stderr.endswith("the running server reads it.\nroses: stable is version 1\n")
    listed = json.loads(command("models", "list", "--json", "--data", up.data).stdout)
    assert [m["aliases"] for m in listed if m["name"] == roses] == [["stable"], []]
    wait_until(lambda: version_of(http) == "1")
    canary = "alias", roses, "canary", "2", "--canary-percent", "100"
    assert "canary gets 100 %" in command("models", *canary, "--data", up.data).stderr
    wait_until(lambda: version_of(http) == "2")
    assert version_of(http, version="stable") == "1"
    refused = command("models", "remove", roses, "--version", "1", "--data", up.data)
    assert (refused.returncode, "alias stable points to" in refused.stderr) == (1, True)
    for alias in ("stable", "canary"):
        done = command("models", "alias", roses, alias, "--remove", "--data", up.data)
        assert done.returncode == 0
    assert done.stderr.endswith("\nroses: no aliases\n")
    wait_until(lambda: http.get("/v1/models/roses?version=1").json()["aliases"] == [])


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (
            ["efficientnet_lite0", "stable", "9"],
            1,
            "There is no model efficientnet_lite0 version 9",
        ),
        (["nope", "stable", "1"], 1, "There is no model nope."),
        (["efficientnet_lite0", "Stable", "1"], 2, "lower-case letters"),
        (["efficientnet_lite0", "stable"], 2, "give either a version or --remove"),
        (
            ["efficientnet_lite0", "stable", "1", "--canary-percent", "5"],
            2,
            "applies to the alias canary",
        ),
    ],
)
def test_an_alias_that_cannot_be_is_refused(tmp_path, words, status, sentence):
    done = command("models", "alias", *words, "--data", tmp_path)
    assert (done.returncode, sentence in done.stderr) == (status, True)
    assert not (tmp_path / "models" / "efficientnet_lite0").exists()


@pytest.mark.slow
def test_rest_loads_unloads_and_points(http, roses):
    pointed = http.post(f"/v1/models/{roses}:setAlias", json={"alias": "stable", "version": "1"})
    assert (pointed.status_code, pointed.json()["aliases"]) == (200, ["stable"])
    assert version_of(http) == "1"
    in_use = http.post(f"/v1/models/{roses}:unload", json={"version": "stable"})
    assert (in_use.status_code, reason(in_use)) == (400, "MODEL_IN_USE")
    unloaded = http.post(f"/v1/models/{roses}:unload", json={"version": "2"})
    assert (unloaded.status_code, unloaded.json()["state"]) == (200, "UNLOADED")
    gone = http.post("/v1/classify?model=roses&version=2", content=PICTURE)
    assert (gone.status_code, reason(gone)) == (404, "MODEL_NOT_FOUND")
    failed = http.post(f"/v1/models/{roses}:setAlias", json={"alias": "stable", "version": "2"})
    assert (failed.status_code, reason(failed)) == (400, "MODEL_FAILED")
    loaded = http.post(f"/v1/models/{roses}:load", json={})
    assert (loaded.status_code, loaded.json()["version"]) == (200, "2")
    assert loaded.json()["state"] == "READY"
    assert version_of(http) == "1"
    taken = http.post(f"/v1/models/{roses}:setAlias", json={"alias": "stable"})
    assert (taken.status_code, taken.json()["version"], taken.json()["aliases"]) == (200, "2", [])


def test_orders_take_an_admin(up, roses):
    made = command("keys", "create", "c", "--role", "classifier", "--json", "--data", up.data)
    headers = {"authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    for verb, body in (
        ("load", {}),
        ("unload", {"version": "1"}),
        ("setAlias", {"alias": "stable", "version": "1"}),
    ):
        answer = httpx.post(f"{up.url}/v1/models/{roses}:{verb}", json=body, headers=headers)
        assert (answer.status_code, reason(answer)) == (403, "ROLE_INSUFFICIENT")


def reason(answer):
    return answer.json()["details"][0]["reason"]
