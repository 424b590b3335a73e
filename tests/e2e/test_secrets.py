"""No secret is in a log, an error, a queue or the arguments of a process."""

import json
import re
import subprocess
import sys

import grpc
import httpx
import psutil
import pytest
from image_categorizer import ImageCategorizationClient
from image_categorizer.v1 import metadata_pb2, metadata_pb2_grpc
from image_categorizer_server.access.api_key import new_key
from image_categorizer_server.settings import Settings

from tests.support.database import connect_as_owner
from tests.support.pictures import jpeg
from tests.support.polling import wait_until
from tests.support.rest_batches import finished, three
from tests.support.up import COMMAND, command, environment

PASSWORD = "pa55-w0rd"
# The secret of a webhook may be in the database, which signs with it; a key may not.
SIGNS_WITH_IT = {"webhooks"}


@pytest.fixture(scope="module")
def traffic(up, http, admin_key, viewer_key):
    """Uses keys and webhook secrets, rightly and wrongly. Yields the secrets and all answers."""
    unknown, bodies = new_key(), []

    def noted(answer):
        bodies.append(answer.text + str(answer.headers))
        return answer

    url = f"http://127.0.0.1:{up.receiver_port}/hook"
    created = http.post("/v1/webhooks", json={"url": url})
    assert created.status_code == 200, created.text
    secrets = {"admin": admin_key, "viewer": viewer_key, "unknown": unknown}
    secrets["webhook"] = created.json()["secret"]
    webhook = f"/v1/webhooks/{created.json()['webhook_id']}"
    rotated = http.post(f"{webhook}:rotateSecret", json={})
    secrets["rotated"] = rotated.json()["secret"]
    for path in ("/v1/webhooks", webhook, f"{webhook}/deliveries"):
        answer = noted(http.get(path))
        assert (answer.status_code, leaked(secrets, answer.text)) == (200, [])
    batch_id = http.post("/v1/batch", files=three()).json()["batch_id"]
    finished(http, batch_id)
    for key in (admin_key, viewer_key, unknown, f"{admin_key}x", admin_key[:-1], admin_key.upper()):
        for header in (f"Bearer {key}", f"Basic {key}", key, f"Bearer  {key} {key}"):
            for path in ("/v1/models", f"/v1/models/{key}", f"/v1/batch?page_token={key}"):
                noted(httpx.get(up.url + path, headers={"authorization": header}))
        noted(httpx.get(f"{up.url}/v1/models", params={"api_key": key}))
        noted(httpx.post(f"{up.url}/v1/classify", content=key, headers={"x-api-key": key}))
        with grpc.insecure_channel(f"127.0.0.1:{up.port}") as channel:
            try:
                metadata_pb2_grpc.MetadataServiceStub(channel).GetModel(
                    metadata_pb2.GetModelRequest(model="no"),
                    metadata=[("authorization", f"Bearer {key}")],
                    timeout=20,
                )
            except grpc.RpcError as error:
                bodies.append(str(error))
    with ImageCategorizationClient(admin_key, up.url) as client:
        client.classify_image(jpeg())
        bodies.append(repr(client) + str(vars(client)))
    yield secrets, bodies
    http.delete(webhook)


def leaked(secrets, text):
    """Returns the names of the secrets of which a text holds more than the public beginning."""
    return [name for name, secret in secrets.items() if secret[8:] in text]


def test_no_log_holds_a_key_or_a_webhook_secret(up, http, traffic):
    secrets, _ = traffic
    http.get("/healthz", headers={"x-request-id": "after-the-secrets"})
    logs = up.data / "logs"
    wait_until(lambda: "after-the-secrets" in (logs / "gateway.log").read_text(), 30, 0.2)
    for file in logs.iterdir():
        assert leaked(secrets, file.read_text()) == [], file.name


def test_no_answer_repeats_a_key(traffic):
    secrets, bodies = traffic
    keys = {name: secrets[name] for name in ("admin", "viewer", "unknown")}
    assert len(bodies) > 50
    # An unknown model is named in the answer to whoever asked for it.
    others = [body for body in bodies if "MODEL_NOT_FOUND" not in body]
    assert [body for body in others if leaked(keys, body)] == []


def test_no_process_has_a_secret_among_its_arguments(up, traffic):
    secrets, _ = traffic
    worker_key = (up.data / "worker.key").read_text().strip()
    secrets = secrets | {"worker": worker_key}
    for process in [psutil.Process(up.process.pid), *up.children(recursive=True)]:
        assert leaked(secrets, " ".join(process.cmdline())) == []


def test_redis_holds_no_secret(up, traffic):
    secrets, _ = traffic
    files = [file for file in (up.data / "redis").rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert leaked(secrets, file.read_bytes().decode("latin-1")) == [], file.name


async def test_the_database_holds_no_key(up, traffic):
    secrets, _ = traffic
    address = json.loads((up.data / "installation.json").read_text())["database_url"]
    connection = await connect_as_owner(address)
    try:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname='public'")
        assert len(tables) > 8
        for (table,) in tables:
            for (row,) in await connection.fetch(f'SELECT t::text FROM "{table}" t'):
                found = leaked(secrets, row)
                assert found == [] or table in SIGNS_WITH_IT, table
    finally:
        await connection.close()


def test_only_the_owner_reads_what_an_installation_saves(up):
    own = [up.data, *up.data.glob("*.key"), up.data / "installation.json"]
    assert len(own) > 2
    assert [file.name for file in own if file.stat().st_mode & 0o077] == []


@pytest.mark.parametrize(
    "variables",
    [
        {"DATABASE_URL": f"postgres://user:{PASSWORD}@127.0.0.1:1/x"},
        {"DATABASE_URL": f"postgres://user:{PASSWORD}@no.invalid/x"},
        pytest.param(
            {"DATABASE_URL": f"postgres://user:{PASSWORD}/@127.0.0.1:1/x"}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"DATABASE_URL": f"mysql://user:{PASSWORD}@127.0.0.1:1/x"}, marks=pytest.mark.slow
        ),
        pytest.param(
            {"DATABASE_URL": f"postgres://user@127.0.0.1:{PASSWORD}/x"}, marks=pytest.mark.slow
        ),
    ],
)
def test_a_command_that_fails_shows_no_password_of_the_database(tmp_path, variables):
    for words in (("migrate",), ("keys", "list")):
        done = command(*words, **variables, MODEL_PATH=str(tmp_path), LOG_LEVEL="DEBUG")
        assert done.returncode == 1
        assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"REDIS_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0"},
        pytest.param({"REDIS_URL": f"redis://:{PASSWORD}/x@127.0.0.1:1/0"}, marks=pytest.mark.slow),
        pytest.param(
            {"REDIS_URL": f"redis://user:pass@127.0.0.1:{PASSWORD}/0"}, marks=pytest.mark.slow
        ),
        pytest.param({"REDIS_URL": f"http://:{PASSWORD}@127.0.0.1:1/0"}, marks=pytest.mark.slow),
        {"DATABASE_URL": f"postgres://user:{PASSWORD}@127.0.0.1:1/x"},
        pytest.param(
            {"CATEGORIZER_CLIENT__API_KEY": f"{PASSWORD} {PASSWORD}"}, marks=pytest.mark.slow
        ),
        {"CATEGORIZER_STORAGE__ENDPOINT": f"http://user:{PASSWORD}@127.0.0.1:1"},
    ],
)
def test_a_server_and_a_worker_log_no_password(tmp_path, variables):
    """They run for a few seconds, without stores that answer."""
    own = {
        "MODEL_PATH": str(tmp_path),
        "DATABASE_URL": "postgres://user@127.0.0.1:1/x",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "CATEGORIZER_SERVER__BIND": f"unix:{tmp_path}/s.sock",
        "CATEGORIZER_CLIENT__BASE_URL": f"unix:{tmp_path}/s.sock",
        "CATEGORIZER_TEST__FAKE_MODEL": "0,0",
        "CATEGORIZER_STORAGE__PATH": str(tmp_path / "images"),
        "LOG_LEVEL": "DEBUG",
    }
    server = [*COMMAND, "serve"], "listening|wrong"
    worker = [sys.executable, "-m", "image_categorizer_workers"], "working|wrong|answer|word"
    for words, sign in (server, worker):
        process = subprocess.Popen(
            words, env=environment(**(own | variables)), stderr=subprocess.PIPE, text=True
        )
        with process:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if re.search(sign, line):
                    process.terminate()
            process.wait(60)
        assert lines
        assert PASSWORD not in "".join(lines)


def test_the_settings_print_no_password():
    settings = Settings(
        DATABASE_URL=f"postgres://u:{PASSWORD}@db/x",
        REDIS_URL=f"redis://:{PASSWORD}@cache/0",
        client={"api_key": PASSWORD},
    )
    assert PASSWORD not in repr(settings)
