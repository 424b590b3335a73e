"""One installation, shared by the end-to-end tests."""

import hashlib
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.pictures import jpeg
from tests.support.threaded_receiver import Receiver, receiving
from tests.support.tiny_model import write_tiny_model
from tests.support.up import Up, await_answer, command, free_port, free_port_pair

KILLER = jpeg(64, 48, 900)
"""Decoding it kills the server of `up`."""


@pytest.fixture(scope="session")
def up(clean_environment, tmp_path_factory) -> Iterator[Up]:
    """An installation with ordinary deadlines. Tests may kill its server if they wait for the next.

    An image has ten seconds: a slow machine answers in time.
    """
    receiver_port, metrics_port = free_port(), free_port_pair()
    pages = ["https://app.example", f"http://127.0.0.1:{receiver_port}"]
    variables = {
        "CATEGORIZER_TELEMETRY__METRICS_BIND": f"127.0.0.1:{metrics_port}",
        "CATEGORIZER_TELEMETRY__PENDING_INTERVAL_S": "0.5",
        "CATEGORIZER_AUDIT__REFUSAL_INTERVAL_S": "0.2",
        "CATEGORIZER_AUDIT__SIGN_INTERVAL_S": "1",
        "CATEGORIZER_FETCH__ALLOW_HTTP": "true",
        "CATEGORIZER_FETCH__ALLOWED_PORTS": f"[{receiver_port}]",
        "CATEGORIZER_FETCH__ALLOWED_NETWORKS": '["127.0.0.0/8"]',
        "CATEGORIZER_GATEWAY__CORS_ORIGINS": json.dumps(pages),
        "CATEGORIZER_MODELS__SCAN_INTERVAL_S": "0.5",
        "CATEGORIZER_SECURITY__KEY_CACHE_S": "1",
        "CATEGORIZER_TEST__FAILPOINT": f"image.decoding@{hashlib.sha256(KILLER).hexdigest()}:1",
        "MAX_IMAGE_SIZE": "2",
    }
    running = Up(tmp_path_factory.mktemp("up"), free_port(), variables, receiver_port)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="session")
def hasty(clean_environment, tmp_path_factory) -> Iterator[Up]:
    """An installation with short deadlines, few connections, and no dashboard."""
    variables = {
        "CATEGORIZER_SERVER__DEFAULT_DEADLINE_S": "1",
        "CATEGORIZER_SERVER__MAX_DEADLINE_S": "1.5",
        "CATEGORIZER_SERVER__UPLOAD_IDLE_S": "3",
        "CATEGORIZER_GATEWAY__DASHBOARD": "false",
        "CATEGORIZER_GATEWAY__STREAM_IDLE_TIMEOUT_S": "5",
        "CATEGORIZER_GATEWAY__FIRST_BYTES_TIMEOUT_S": "2",
        "CATEGORIZER_GATEWAY__HEADERS_TIMEOUT_S": "2",
        "CATEGORIZER_GATEWAY__IDLE_TIMEOUT_S": "2",
        "CATEGORIZER_GATEWAY__MAX_CONNECTIONS_PER_ADDRESS": "100",
        "CATEGORIZER_GATEWAY__MAX_NEW_CONNECTIONS_PER_ADDRESS_PER_S": "150",
    }
    running = Up(tmp_path_factory.mktemp("hasty"), free_port(), variables)
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture
def receiver(up) -> Iterator[Receiver]:
    """Receives webhooks of the shared installation."""
    with receiving(up.receiver_port) as running:
        yield running


@pytest.fixture(scope="session")
def admin_key(up) -> str:
    key = up.shown_key()
    assert key
    return str(key)


@pytest.fixture(scope="session")
def viewer_key(up) -> str:
    created = command("keys", "create", "viewer", "--role", "viewer", "--json", "--data", up.data)
    return str(json.loads(created.stdout)["key"])


@pytest.fixture(scope="session")
def http(up, admin_key) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {admin_key}"}
    with httpx.Client(base_url=up.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="session")
def platform(up) -> Iterator[httpx.Client]:
    """Calls with the key of an operator of the platform."""
    created = command("keys", "create", "ops", "--role", "platform", "--json", "--data", up.data)
    headers = {"authorization": f"Bearer {json.loads(created.stdout)['key']}"}
    with httpx.Client(base_url=up.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def roses(up, http, tmp_path_factory) -> Iterator[str]:
    """A model with two versions, both READY, without aliases."""
    name, path = "roses", "/v1/models/roses"
    for version in (1, 2):
        source = write_tiny_model(
            tmp_path_factory.mktemp("roses") / str(version), ["rose", "tulip"], seed=version
        )
        assert command("models", "add", name, source, "--data", up.data).returncode == 0
    await_answer(http, f"{path}?version=2", lambda answer: answer.json().get("state") == "READY")
    yield name
    assert command("models", "remove", name, "--data", up.data).returncode == 0
    await_answer(http, path, lambda answer: answer.status_code == 404)
