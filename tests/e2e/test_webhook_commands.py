"""`image-categorizer webhooks` with a running installation, and the messages it sends."""

import base64
import json
import stat
import subprocess

import httpx
import pytest
from image_categorizer import verify_webhook

from tests.support.pictures import jpeg
from tests.support.up import COMMAND, command, environment

pytestmark = pytest.mark.timeout(120)
IMAGE = base64.b64encode(jpeg()).decode()


def webhooks(up, *words):
    """Runs a command. Returns what it printed."""
    done = command("webhooks", *words, "--data", up.data)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_webhooks_are_managed_by_the_command_line(up, http, receiver):
    webhook_id, secret = webhooks(up, "create", receiver.url).split()
    assert stat.S_IMODE((up.data / "operator.key").stat().st_mode) == 0o600
    listed = [json.loads(line) for line in webhooks(up, "list", "--json").splitlines()]
    assert [w["url"] for w in listed if w["webhook_id"] == webhook_id] == [receiver.url]
    assert secret not in json.dumps(listed)
    assert webhook_id in webhooks(up, "list")
    batch = http.post("/v1/batch", json={"items": [{"image": IMAGE}]}).json()["batch_id"]
    ((headers, body),) = receiver.wait_for(1)
    verify_webhook(secret, headers, body)
    ask = ("deliveries", webhook_id, "--batch", batch)
    assert headers["webhook-id"] in webhooks(up, *ask)
    second = json.loads(webhooks(up, "rotate", webhook_id, "--json"))["secret"]
    webhooks(up, "redeliver", webhook_id, headers["webhook-id"])
    verify_webhook(second, *receiver.wait_for(2)[1])
    (delivery,) = map(json.loads, webhooks(up, *ask, "--json").splitlines())
    assert (delivery["event_type"], len(delivery["attempts"]) > 0) == ("batch.completed", True)
    webhooks(up, "delete", webhook_id)
    gone = command("webhooks", "deliveries", webhook_id, "--data", up.data)
    assert (gone.returncode, "Traceback" in gone.stderr) == (1, False)
    assert "no webhook" in gone.stderr


def test_listen_prints_genuine_messages_and_refuses_others(up, http):
    secret = webhooks(up, "rotate", "default").split()[1]
    port, url = up.receiver_port, f"http://127.0.0.1:{up.receiver_port}/"
    listener = subprocess.Popen(
        [*COMMAND, "webhooks", "listen", "--port", str(port), "--secret", secret, "--count", "1"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with listener:
        assert "listening" in listener.stderr.readline()
        assert httpx.post(url, json={"forged": True}).status_code == 400
        answer = http.post("/v1/classify", json={"image": IMAGE, "webhook_url": url}).json()
        out, _ = listener.communicate(timeout=30)
    message = json.loads(out)
    assert (message["type"], message["verified"]) == ("classification.done", True)
    assert message["data"]["request_id"] == answer["request_id"]
    assert listener.returncode == 0


def test_every_kind_of_body_takes_a_webhook_url(http, receiver):
    ask = {"webhook_url": receiver.url}
    answers = [
        http.post("/v1/classify", json={"image": IMAGE} | ask),
        http.post("/v1/classify", data=ask, files={"image": jpeg()}),
        http.post("/v1/classify", params=ask, content=jpeg()),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    messages = receiver.wait_for(3)
    notified = {json.loads(body)["data"]["request_id"] for _, body in messages}
    assert notified == {answer.json()["request_id"] for answer in answers}
    refused = http.post("/v1/classify", json={"image": IMAGE, "webhook_url": "https://10.0.0.1/"})
    assert (refused.status_code, "webhook_url" in refused.text) == (400, True)
