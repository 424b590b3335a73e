"""Models that do not fit into memory together, through Envoy: each loads when it is asked for."""

import json
from pathlib import Path

import httpx
import pytest
from image_categorizer import ImageCategorizationClient

from tests.support.colour_model import write_colour_model
from tests.support.pictures import jpeg
from tests.support.up import Up, command, free_port

NAMES = ["apples", "pears"]
PICTURE = jpeg()


@pytest.fixture(scope="module")
def narrow(clean_environment, tmp_path_factory):
    """An installation whose memory holds one of its two models."""
    data = tmp_path_factory.mktemp("narrow")
    variables = {"CATEGORIZER_TEST__FAKE_MODEL": "0,0"}
    for name in NAMES:
        folder = tmp_path_factory.mktemp(name)
        write_colour_model(folder, ["red", "green", "blue"])
        added = command("models", "add", name, folder, "--data", data, **variables)
        assert added.returncode == 0, added.stderr
    listed = json.loads(command("models", "list", "--json", "--data", data, **variables).stdout)
    (path,) = (model["path"] for model in listed if model["name"] == name)
    # A model counts three times its graph.
    graph_bytes = (Path(path) / "model.onnx").stat().st_size
    variables["CATEGORIZER_MODELS__MAX_RESIDENT_BYTES"] = str(5 * graph_bytes)
    running = Up(data, free_port(), variables)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def key(narrow):
    return narrow.shown_key()


def states(narrow, key):
    answer = httpx.get(f"{narrow.url}/v1/models", headers={"authorization": f"Bearer {key}"})
    models = {model["name"]: model for model in answer.json()["models"]}
    assert all(int(models[name]["resident_bytes"]) > 0 for name in NAMES)
    return [models[name]["state"] for name in NAMES]


def test_rest_clients_batches_and_streams_load_what_they_ask_for(narrow, key):
    assert states(narrow, key) == ["READY", "STANDBY"]
    answer = httpx.post(
        f"{narrow.url}/v1/classify",
        params={"model": "pears"},
        headers={"authorization": f"Bearer {key}"},
        content=PICTURE,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"]["name"] == "pears"
    assert states(narrow, key) == ["STANDBY", "READY"]
    with ImageCategorizationClient(key, narrow.url) as client:
        batch = client.batches.submit([("a", PICTURE)], model="apples")
        assert [b.succeeded_count for b in client.batches.watch(batch.batch_id)][-1] == 1
        assert states(narrow, key) == ["READY", "STANDBY"]
        (result,) = client.classify_stream([("a", PICTURE)], model="pears")
        assert result.classification.model.name == "pears"
    assert states(narrow, key) == ["STANDBY", "READY"]
