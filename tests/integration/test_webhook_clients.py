"""Webhooks by the SDK, against a real server, a real sender and a real receiver."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer import (
    DeliveryNotFound,
    ImageCategorizationClient,
    InvalidRequest,
    RoleInsufficient,
    UndecodableImage,
    WebhookNotFound,
    verify_webhook,
)
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server.db.database import connected
from image_categorizer_server.domain.access import Role
from image_categorizer_server.egress.fetcher import open_fetcher
from image_categorizer_server.services.delivery import Deliveries
from image_categorizer_server.settings.database import CacheSettings
from image_categorizer_server.settings.fetch import FetchSettings
from image_categorizer_server.settings.webhook import WebhookSettings

from tests.integration.conftest import running_server
from tests.support.batch_tools import count_undone, do_all
from tests.support.pictures import jpeg
from tests.support.receiver import receiving

PICTURE = jpeg()
EXAMPLES = re.findall(
    r"```json\n(.*?)```",
    (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text(),
    re.DOTALL,
)
DOCUMENTED = {message["type"]: message for message in map(json.loads, EXAMPLES)}
"""Messages in the documentation, by their type."""
FAST = WebhookSettings(retry_factor=0.01, poll_interval_s=0.05, timeout_s=1, lease_s=2)


def fields(content):
    """Returns what fields a value has, at every depth; for a list, those of its first item."""
    match content:
        case dict():
            return {name: fields(value) for name, value in content.items()}
        case [dict() as first, *_]:
            return [fields(first)]
    return None


async def unused(uri, max_bytes):
    raise AssertionError


def allowing(port):
    return FetchSettings(allow_http=True, allowed_ports=(port,), allowed_networks=("127.0.0.0/8",))


@asynccontextmanager
async def as_tenant(settings):
    """Yields a server, a receiver that it may call, and what sends; nothing is sent by itself."""
    async with receiving() as receiver:
        fetch = allowing(receiver.port)
        chosen = settings.model_copy(update={"fetch": fetch})
        async with running_server(chosen) as server, open_fetcher(fetch, unused) as fetcher:
            yield server, receiver, Deliveries(FAST, fetcher)


@pytest.fixture
async def cluster(settings):
    async with as_tenant(settings) as running:
        yield running


async def test_the_asyncio_client_manages_webhooks(cluster):
    server, receiver, sender = cluster
    async with await server.client(Role.OPERATOR) as client:
        made = await client.webhooks.create(receiver.url)
        assert (made.url, made.state) == (receiver.url, "ENABLED")
        assert made.secret not in repr(made)
        assert await client.webhooks.get(made.webhook_id) != made  # it has no secret
        assert [w.webhook_id async for w in client.webhooks.list()] == ["default", made.webhook_id]
        batch = await client.batches.submit([("a.jpg", PICTURE)])
        await do_all()
        await sender.send_due()
        (message,) = receiver.messages
        content = verify_webhook(made.secret, message.headers, message.body)
        assert fields(content) == fields(DOCUMENTED["batch.completed"])
        ask = {"batch_id": batch.batch_id, "state": "DELIVERED"}
        (delivery,) = [d async for d in client.webhooks.deliveries(made.webhook_id, **ask)]
        assert delivery.delivery_id == message.headers["webhook-id"]
        assert [attempt.status_code for attempt in delivery.attempts] == [204]
        assert (delivery.event_type, delivery.url) == ("batch.completed", receiver.url)
        assert not [d async for d in client.webhooks.deliveries(made.webhook_id, state="FAILED")]

        rotated = await client.webhooks.rotate_secret(made.webhook_id)
        assert rotated.previous_secret_expire_time is not None
        again = await client.webhooks.redeliver(made.webhook_id, delivery.delivery_id)
        assert (again.state, again.attempt_count, again.end_time) == ("PENDING", 0, None)
        await sender.send_due()
        verify_webhook(rotated.secret, receiver.messages[1].headers, receiver.messages[1].body)
        off = await client.webhooks.update(made.webhook_id, enabled=False)
        assert (off.state, off.url) == ("DISABLED", receiver.url)
        await client.webhooks.delete(made.webhook_id)
        with pytest.raises(WebhookNotFound):
            await client.webhooks.get(made.webhook_id)


async def test_the_ordinary_client_does_the_same(cluster):
    server, receiver, sender = cluster
    key, address = await server.key(Role.OPERATOR), server.address

    def register():
        with ImageCategorizationClient(key, address) as client:
            made = client.webhooks.create(receiver.url)
            client.batches.submit([("a.jpg", PICTURE)])
            assert client.webhooks.get(made.webhook_id).secret == ""
            assert len(list(client.webhooks.list())) == 2
            return made, client.webhooks.update(made.webhook_id, url=f"{receiver.url}/new")

    def look(made):
        with ImageCategorizationClient(key, address) as client:
            (delivery,) = client.webhooks.deliveries(made.webhook_id)
            client.webhooks.redeliver(made.webhook_id, delivery.delivery_id)
            with pytest.raises(DeliveryNotFound):
                client.webhooks.redeliver(made.webhook_id, "d-none")
            assert client.webhooks.rotate_secret(made.webhook_id).secret.startswith("whsec_")
            client.webhooks.delete(made.webhook_id)
            with pytest.raises(WebhookNotFound):
                client.webhooks.delete(made.webhook_id)
            return delivery

    made, changed = await asyncio.to_thread(register)
    await do_all()
    await sender.send_due()
    delivery = await asyncio.to_thread(look, made)
    assert delivery.url == changed.url == f"{receiver.url}/new"
    assert delivery.state == "DELIVERED"
    verify_webhook(made.secret, receiver.messages[0].headers, receiver.messages[0].body)


async def test_webhooks_need_the_role_operator(cluster):
    server, receiver, _ = cluster
    async with await server.client(Role.CLASSIFIER) as client:
        with pytest.raises(RoleInsufficient):
            await client.webhooks.create(receiver.url)


async def test_the_webhook_url_of_a_classification_receives_its_answer(cluster):
    """The row is there before the answer, so that no crash can lose the message."""
    server, receiver, sender = cluster
    async with await server.client(Role.OPERATOR) as client:
        secret = (await client.webhooks.rotate_secret("default")).secret
        other = await client.webhooks.create(f"{receiver.url}/batches-only")
        without_end = PICTURE[:-2]
        answer = await client.classify_image(without_end, webhook_url=receiver.url, top_k=3)
        assert await count_undone() == 1
        await sender.send_due()
        (message,) = receiver.messages
        content = verify_webhook(secret, message.headers, message.body)
        assert fields(content) == fields(DOCUMENTED["classification.done"])
        assert content["data"]["warnings"] == ["TRUNCATED"]
        assert content["data"]["request_id"] == answer.request_id
        sent = content["data"]["predictions"]
        assert [p["category"] for p in sent] == [p.category for p in answer.predictions]
        assert sent[0]["confidence"] == pytest.approx(answer.confidence, abs=1e-6)
        assert content["data"]["model"]["digest"] == answer.model.digest
        assert len(message.body) < 20_000
        (delivery,) = [d async for d in client.webhooks.deliveries("default")]
        assert (delivery.event_type, delivery.batch_id) == ("classification.done", "")
        assert not [d async for d in client.webhooks.deliveries(other.webhook_id)]
    async with connected() as connection:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_cached_answer_sends_a_message_too(settings):
    async with as_tenant(settings.model_copy(update={"cache": CacheSettings(ttl_s=60)})) as cluster:
        server, receiver, sender = cluster
        async with await server.client() as client:
            for _ in range(2):
                answer = await client.classify_image(PICTURE, webhook_url=receiver.url)
        await sender.send_due()
        assert (answer.cache, len(receiver.messages)) == ("HIT", 2)
        assert len({message.headers["webhook-id"] for message in receiver.messages}) == 2


async def test_without_a_webhook_url_or_after_a_failure_no_message_is_sent(cluster):
    server, receiver, _ = cluster
    async with await server.client() as client:
        await client.classify_image(PICTURE)
        with pytest.raises(UndecodableImage):
            await client.classify_image(b"no image", webhook_url=receiver.url)
        with pytest.raises(InvalidRequest, match="webhook_url"):
            await client.classify_image(PICTURE, webhook_url="https://10.0.0.1/")
    assert await count_undone() == 0


async def test_a_form_asks_for_it_by_a_field_of_its_own(cluster):
    server, receiver, sender = cluster
    form = b'--x\r\ncontent-disposition: form-data; name="webhook_url"\r\n\r\n'
    form += receiver.url.encode() + b"\r\n--x\r\n"
    form += b'content-disposition: form-data; name="image"; filename="a"\r\n\r\n' + PICTURE
    body = HttpBody(content_type="multipart/form-data; boundary=x", data=form + b"\r\n--x--\r\n")
    request = classify_pb2.ClassifyUploadRequest(body=body)
    headers = (("authorization", f"Bearer {await server.key(Role.CLASSIFIER)}"),)
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        answer = await stub.ClassifyUpload(request, metadata=headers)
    await sender.send_due()
    (message,) = receiver.messages
    assert answer.request_id.encode() in message.body
