"""What Prometheus reads from the processes of an installation."""

import asyncio
import json
import time

import httpx
import pytest
from image_categorizer import ImageCategorizationClient
from prometheus_client.parser import text_string_to_metric_families

from tests.support.database import connect_as_owner
from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.rest_batches import finished

MODEL = {"model": "efficientnet_lite0", "version": "1"}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
PREDICTED = """
INSERT INTO prediction_daily (tenant_id, day, model_name, model_version, kind, bucket, images)
SELECT 'default', (now() AT TIME ZONE 'UTC')::date - age, 'drifting', 1, kind, bucket, images
FROM (VALUES (8, 'category', 'cat', 500), (8, 'category', 'dog', 500),
    (8, 'confidence', '0.9-1.0', 1000), (0, 'category', 'cat', 100),
    (0, 'confidence', '0.9-1.0', 100)) AS p (age, kind, bucket, images)
"""
SPACE = "free", "size"
CLASSIFY = "/image_categorizer.v1.ClassifyService/Classify"


@pytest.fixture(scope="module")
def port(up) -> int:
    return int(up.variables["CATEGORIZER_TELEMETRY__METRICS_BIND"].rpartition(":")[2])


def samples(port: int) -> Samples:
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10)
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


def test_the_metrics_of_the_contract_are_there(port):
    names = {name for name, _ in samples(port)}
    for name in ("queue_depth", "in_flight", "tasks", "open_fds", "db_pool_in_use"):
        assert f"categorizer_{name}" in names
    assert value(samples(port), "categorizer_open_fds") > 10
    assert value(samples(port), "categorizer_tasks") > 3
    for process in (port, port + 1):
        found = samples(process)
        assert time.time() - value(found, "categorizer_heartbeat_timestamp_seconds") < 30
        free, size = (value(found, f"categorizer_data_{n}_bytes", folder="images") for n in SPACE)
        assert 0 < free <= size


def test_an_image_is_counted_at_every_stage(port, up, admin_key):
    with ImageCategorizationClient(api_key=admin_key, base_url=up.url) as client:
        before = samples(port)
        assert client.classify_image(jpeg(64, 48, 31)).category
    after = samples(port)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("categorizer_calls_total", method=CLASSIFY, code="OK") == 1
    assert grown("categorizer_call_duration_seconds_count", method=CLASSIFY) == 1
    assert grown("categorizer_images_total", **MODEL, outcome="OK") == 1
    for stage in ("queue", "decode", "inference"):
        assert grown(f"categorizer_{stage}_duration_seconds_count", **MODEL) == 1
    assert grown("categorizer_micro_batch_images_sum", **MODEL) == 1
    assert grown("categorizer_executions_total", **MODEL, close_reason="IDLE") == 1
    assert value(after, "categorizer_queue_depth", **MODEL) == 0


def test_failures_are_counted_by_reason(port, http):
    before = samples(port)
    assert http.post("/v1/classify", content=b"no image").status_code == 400
    refused = http.post("/v1/classify", content=jpeg(8, 8), params={"model": "of-a-caller"})
    assert refused.status_code == 404
    after = samples(port)
    for reason in ("IMAGE_UNDECODABLE", "MODEL_NOT_FOUND"):
        grown = [
            value(found, "categorizer_errors_total", reason=reason) for found in (before, after)
        ]
        assert grown[1] == grown[0] + 1, reason
    found = value(after, "categorizer_images_total", **MODEL, outcome="IMAGE_UNDECODABLE")
    assert (
        found == value(before, "categorizer_images_total", **MODEL, outcome="IMAGE_UNDECODABLE") + 1
    )
    assert not any("of-a-caller" in str(labels) for _, labels in after)


def test_the_worker_counts_items_and_the_server_what_is_pending(port, http):
    before = samples(port + 1)
    items = [{"image": "bm8gaW1hZ2U="}] * 3
    batch_id = http.post("/v1/batch", json={"items": items}).json()["batch_id"]
    finished(http, batch_id)
    after = samples(port + 1)
    outcome = "IMAGE_UNDECODABLE"
    grown = [value(f, "categorizer_batch_items_total", outcome=outcome) for f in (before, after)]
    assert grown[1] == grown[0] + 3
    wait_until(lambda: value(samples(port), "categorizer_pending", kind="chunks") == 0)


def test_drift_is_measured_again_and_again(port, up):
    async def predict():
        url = json.loads((up.data / "installation.json").read_text())["database_url"]
        connection = await connect_as_owner(url)
        await connection.execute(PREDICTED)
        await connection.close()

    def drift(**labels):
        labels = {"model": "drifting", "version": "1", **labels}
        return value(samples(port), "categorizer_prediction_drift_psi", **labels)

    asyncio.run(predict())
    wait_until(lambda: drift(tenant="", kind="category") > 0.25)
    assert drift(tenant="default", kind="category") > 0.25
    assert drift(tenant="default", kind="confidence") < 0.05
