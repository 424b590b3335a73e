"""A real Prometheus reads a real installation, with our alerts and dashboards."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest
import yaml

from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.prometheus import FOLDER, metrics_of, program, queries
from tests.support.rest_batches import finished
from tests.support.up import free_port

pytestmark = pytest.mark.slow
# What has no sample before something goes wrong, or before days have passed, has a type.
ENDINGS = {"counter": "_total", "info": "_info"}


@pytest.fixture
def prometheus(up, tmp_path) -> Iterator[httpx.Client]:
    """Prometheus, which reads the shared installation each second."""
    port = free_port()
    first = int(up.variables["CATEGORIZER_TELEMETRY__METRICS_BIND"].rpartition(":")[2])
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FOLDER / "alerts.yaml")]
    targets = [f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}"]
    config["scrape_configs"][0]["static_configs"] = [{"targets": targets}]
    (tmp_path / "prometheus.yaml").write_text(json.dumps(config))
    process = subprocess.Popen(
        [
            program("prometheus"),
            f"--config.file={tmp_path / 'prometheus.yaml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=30) as client:

            def is_reading() -> bool:
                with suppress(httpx.TransportError):
                    answer = client.get("/query", params={"query": "sum(up)"})
                    if answer.status_code == 200:  # 503 while it starts
                        found = answer.json()["data"]["result"]
                        return [sample["value"][1] for sample in found] == ["2"]
                return False

            wait_until(is_reading, 60, 0.5)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def test_prometheus_knows_every_metric_that_alerts_and_dashboards_name(prometheus, http):
    for seed in range(20):
        body = jpeg(64, 48, seed)
        headers = {"content-type": "image/jpeg"}
        assert http.post("/v1/classify", content=body, headers=headers).status_code == 200
    items = [{"image": "bm8gaW1hZ2U="}] * 3
    finished(http, http.post("/v1/batch", json={"items": items}).json()["batch_id"])

    def answer(query: str) -> list[object]:
        query = query.replace("$__rate_interval", "1m")
        found = prometheus.get("/query", params={"query": query}).json()
        assert found["status"] == "success", (query, found)
        return list(found["data"]["result"])

    wait_until(lambda: answer("categorizer_batch_items_total > 0"), 30, 0.5)
    families = prometheus.get("/metadata").json()["data"]
    # OpenMetrics names the family without the ending of its samples.
    known = {f"{name}{ENDINGS.get(family[0]['type'], '')}" for name, family in families.items()}
    named = set().union(*map(metrics_of, queries()))
    assert named - known == set()
    # A rate needs two samples.
    for part in ("call_duration", "queue_duration", "micro_batch", "batch_items", "free_bytes"):
        asked = [query for query in queries() if part in query]
        wait_until(lambda asked=asked: any(map(answer, asked)), 30, 0.5)
    groups = prometheus.get("/rules").json()["data"]["groups"]
    broken = [rule for group in groups for rule in group["rules"] if rule["health"] == "err"]
    assert broken == []
