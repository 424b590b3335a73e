"""Images in S3 (moto's server), and stores that are down, slow or failing."""

import asyncio
import time

import boto3
import pytest
from image_categorizer_server.errors import (
    DependencyDown,
    FailedPrecondition,
    ImageTooLarge,
    ImageUnreachable,
    NotFound,
)
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.buckets import ObjectReader
from image_categorizer_server.stores.object_store import open_storage
from image_categorizer_server.stores.sealing import Sealer

from tests.conftest import SLACK_S
from tests.support.object_servers import BUCKET, empty_s3_bucket, running_s3, send
from tests.support.sealing import KeysInMemory
from tests.support.storage_contract import SigningContract
from tests.support.up import free_port

KMS = "arn:aws:kms:us-east-1:123456789012:key/a"


@pytest.fixture(scope="module")
async def s3():
    async with running_s3() as url:
        yield url


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def settings(endpoint: str, bucket: str = BUCKET, **others) -> Settings:
    return Settings(
        CLOUD_PROVIDER="aws",
        STORAGE_BUCKET=bucket,
        storage={"endpoint": endpoint, "allow_http": True, **others},
        fetch={"buckets": [f"s3://{BUCKET}/public", "s3://elsewhere"]},
    )


class TestS3(SigningContract):
    @pytest.fixture
    async def storage(self, s3):
        await empty_s3_bucket(s3)
        async with open_storage(settings(s3)) as storage:
            yield storage

    @pytest.fixture
    def http(self):
        return send


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, (None, None)),
        ({"AWS_SERVER_SIDE_ENCRYPTION": "AES256"}, ("AES256", None)),
        ({"AWS_SERVER_SIDE_ENCRYPTION": "aws:kms", "AWS_SSE_KMS_KEY_ID": KMS}, ("aws:kms", KMS)),
    ],
)
async def test_the_store_encrypts_what_the_environment_says(s3, monkeypatch, variables, found):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    await empty_s3_bucket(s3)
    async with open_storage(settings(s3)) as storage:
        await storage.put("default/images/aa", b"picture")
        assert await storage.get("default/images/aa") == b"picture"
    client = boto3.client("s3", endpoint_url=s3)
    head = await asyncio.to_thread(client.head_object, Bucket=BUCKET, Key="default/images/aa")
    assert (head.get("ServerSideEncryption"), head.get("SSEKMSKeyId")) == found


async def test_encrypted_objects_come_back_from_a_bucket(s3):
    await empty_s3_bucket(s3)
    sealer = Sealer(KeysInMemory())
    async with open_storage(settings(s3), sealer) as storage, open_storage(settings(s3)) as plain:
        await storage.put("default/images/aa", b"picture")
        assert await storage.get("default/images/aa", 7) == b"picture"
        with pytest.raises(ImageTooLarge):
            await storage.get("default/images/aa", 6)
        with pytest.raises(NotFound):
            await plain.get("default/images/aa")
        with pytest.raises(FailedPrecondition, match="encrypted by the server"):
            await storage.presign_get("default/images/aa", 60)


async def test_callers_can_read_only_listed_buckets(s3):
    await empty_s3_bucket(s3)
    async with open_storage(settings(s3)) as storage:
        await storage.put("public/a.jpg", b"picture")
        await storage.put("public/ä b.jpg", b"other")
        await storage.put("default/images/aa", b"a tenant's")
    reader = ObjectReader(settings(s3, bucket="ours"))
    assert await reader.read(f"s3://{BUCKET}/public/a.jpg", 7) == b"picture"
    assert await reader.read(f"s3://{BUCKET}/public/ä b.jpg", 7) == b"other"
    with pytest.raises(ImageTooLarge):
        await reader.read(f"s3://{BUCKET}/public/a.jpg", 6)
    texts = set()
    for uri in [
        f"s3://{BUCKET}/default/images/aa",
        f"s3://{BUCKET}/public/../default/images/aa",
        f"s3://{BUCKET}/publicity",
        f"s3://{BUCKET}/public/missing",
        f"S3://{BUCKET}/public/a.jpg",
        "s3://ours/a",
        "gs://lab/public/a.jpg",
        "s3://lab",
        "s3:///public/a",
        "s3://user@lab/public/a",
        "s3://lab:80/public/a",
    ]:
        with pytest.raises(ImageUnreachable) as refused:
            await reader.read(uri, 100)
        texts.add(refused.value.message)
    assert len(texts) == 1


async def test_callers_can_never_read_the_bucket_of_all_images(s3):
    await empty_s3_bucket(s3)
    async with open_storage(settings(s3)) as storage:
        await storage.put("public/a.jpg", b"picture")
    with pytest.raises(ImageUnreachable):
        await ObjectReader(settings(s3)).read(f"s3://{BUCKET}/public/a.jpg", 100)


async def test_a_missing_bucket_or_server_is_a_dependency_down(s3):
    gone = settings(f"http://127.0.0.1:{free_port()}", max_retries=1, timeout_s=2)
    for wrong in (settings(s3, bucket="no-such-bucket"), gone):
        async with open_storage(wrong) as storage:
            for call in (storage.put("a", b"x"), storage.get("a"), storage.check()):
                with pytest.raises(DependencyDown, match="image storage"):
                    await call
    with pytest.raises(DependencyDown):
        await ObjectReader(gone).read("s3://elsewhere/a", 100)


async def test_a_silent_store_costs_its_deadline():
    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        slow = settings(f"http://127.0.0.1:{port}", timeout_s=0.5)
        async with open_storage(slow) as storage:
            for call in (storage.get("a"), storage.put("a", b"x"), storage.exists("a")):
                began_s = time.monotonic()
                with pytest.raises(DependencyDown):
                    await call
                assert time.monotonic() - began_s < 0.5 + SLACK_S


async def test_a_failed_call_is_repeated_up_to_a_limit():
    requests = 0

    async def fail(reader, writer):
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            status = b"200 OK" if requests == 3 else b"503 Slow Down"
            head = b"HTTP/1.1 " + status + b"\r\nETag: e\r\nContent-Length: 2\r\n"
            writer.write(head + b"Last-Modified: Sun, 01 Nov 2026 00:00:00 GMT\r\n\r\nok")

    async def serve(reader, writer):
        try:
            await fail(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with open_storage(settings(f"http://127.0.0.1:{port}", max_retries=2)) as storage:
            assert await storage.get("a") == b"ok"
            assert requests == 3
            with pytest.raises(DependencyDown):
                await storage.get("a")
            assert requests == 6
