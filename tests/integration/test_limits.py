"""Rate limits and quotas of a real server, with a real Redis."""

import asyncio
import math
import time
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from image_categorizer import (
    QuotaExceeded,
    RateLimited,
)
from image_categorizer.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    classify_pb2,
    classify_pb2_grpc,
    metadata_pb2,
    metadata_pb2_grpc,
)
from image_categorizer_server.domain.access import DEFAULT_TENANT, Role
from image_categorizer_server.services.limit import owner_of
from image_categorizer_server.settings.limit import QuotaSettings
from image_categorizer_server.settings.testing import TestSettings
from image_categorizer_server.stores.circuit_breaker import PROBE_INTERVAL_S
from redis.asyncio import Redis

from tests.conftest import SLACK_S
from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.support.polling import elapsed, eventually

PICTURE = jpeg(64, 48)
SLOW = 0.05  # requests per second: none comes back during a test
RESOURCE_EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def limited(settings, stores):
    """Returns a function that runs a server with limits."""

    @asynccontextmanager
    async def run(**values):
        async with Redis.from_url(stores.redis.url) as redis:
            await redis.flushall()
        groups = {name: values.pop(name) for name in list(values) if hasattr(settings, name)}
        groups["quota"] = QuotaSettings(**values)
        async with running_server(settings.model_copy(update=groups)) as server:
            yield server

    return run


class Caller:
    """Calls the server without retries; remembers the metadata."""

    def __init__(self, channel, key: str, address: str = "") -> None:
        self._classify = classify_pb2_grpc.ClassifyServiceStub(channel).Classify
        self._info = metadata_pb2_grpc.MetadataServiceStub(channel).GetServerInfo
        self._headers = [("authorization", f"Bearer {key}"), ("x-client-address", address)]

    async def classify(self) -> dict[str, str]:
        return await self._answer(self._classify, classify_pb2.ClassifyRequest(image=PICTURE))

    async def info(self) -> dict[str, str]:
        return await self._answer(self._info, metadata_pb2.GetServerInfoRequest())

    async def code(self, method) -> grpc.StatusCode:
        try:
            await method()
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def _answer(self, method, request) -> dict[str, str]:
        call = method(request, metadata=self._headers)
        await call
        return dict(await call.initial_metadata() or ())


@asynccontextmanager
async def caller(server, role=Role.CLASSIFIER, address=""):
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Caller(channel, await server.key(role), address)


async def test_an_answer_says_what_is_left(limited):
    async with (
        limited(requests_per_s=SLOW, request_burst=20, images_per_day=100) as server,
        caller(server) as ours,
    ):
        fields = await ours.classify()
        assert fields["ratelimit-policy"] == (
            '"tenant";q=20;w=400, "images";q=100;w=86400;qu="images"'
        )
        tenant, images = fields["ratelimit"].split(", ")
        assert tenant == '"tenant";r=19;t=20'
        assert images.startswith('"images";r=99;t=')
        # Only images count as images.
        assert '"images"' not in (await ours.info())["ratelimit"]


async def test_without_limits_nothing_is_said(server):
    async with caller(server) as ours:
        assert "ratelimit" not in await ours.classify()


async def test_a_refusal_says_which_limit_and_when_to_retry(limited):
    quota = {"key_requests_per_s": 0.5, "key_request_burst": 1}
    async with limited(**quota) as server, caller(server) as ours:
        await ours.info()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ours.info()
        error = caught.value
        assert error.code() is RESOURCE_EXHAUSTED
        trailers = dict(error.trailing_metadata())
        assert "x-overloaded" not in trailers
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        info, retry, failure = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.QuotaFailure(),
        )
        for detail, message in zip(status.details, (info, retry, failure), strict=True):
            assert detail.Unpack(message)
        assert info.reason == "RATE_LIMITED"
        assert failure.violations[0].subject == "key_requests_per_s"
        assert "0.5 requests per second" in failure.violations[0].description
        retry_s = retry.retry_delay.ToTimedelta().total_seconds()
        assert 0 < retry_s <= 2
        whole_s = math.ceil(retry_s)
        assert trailers["retry-after"] == str(whole_s)
        assert trailers["ratelimit"] == f'"key";r=0;t={whole_s}'
        # Waiting exactly so long is enough.
        await elapsed(retry_s)
        await ours.info()


async def test_keys_of_a_tenant_share_its_limit_but_not_each_others(limited):
    async with (
        limited(
            requests_per_s=SLOW, request_burst=5, key_requests_per_s=SLOW, key_request_burst=3
        ) as server,
        caller(server) as one,
        caller(server) as other,
    ):
        ours = [await one.code(one.info) for _ in range(4)]
        theirs = [await other.code(other.info) for _ in range(4)]
    assert ours.count(RESOURCE_EXHAUSTED) == 1
    # What the key's limit refused was not taken from the tenant's.
    assert theirs.count(grpc.StatusCode.OK) == 2


async def test_each_image_of_a_stream_counts_and_the_stream_goes_on(limited):
    async with limited(images_per_day=3) as server, await server.client() as client:
        sources = [(str(number), PICTURE) for number in range(5)]
        results = [result async for result in client.classify_stream(sources)]
    errors = [result.error for result in results if result.error]
    assert len(results) == 5
    assert [type(error) for error in errors] == [QuotaExceeded] * 2
    assert all(error.retry_after_s for error in errors)


async def test_the_client_sends_an_image_again_when_its_rate_allows_it(limited):
    quota = {"requests_per_s": 20, "request_burst": 2}
    async with limited(**quota) as server, await server.client() as client:
        sources = [(str(number), PICTURE) for number in range(12)]
        results = [result async for result in client.classify_stream(sources)]
    assert [result.error for result in results] == [None] * 12


async def test_the_client_waits_as_long_as_it_is_asked_to(limited):
    async with limited(requests_per_s=2, request_burst=1) as server:
        async with await server.client() as client:
            await client.server_info()
            start_s = time.monotonic()
            await client.server_info()
            assert time.monotonic() - start_s > 0.4
        async with await server.client(timeout_s=0.2) as hasty:
            calls = (hasty.server_info() for _ in range(3))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert any(isinstance(o, RateLimited) and o.retry_after_s > 0 for o in outcomes)


async def test_images_that_the_server_is_too_busy_for_are_given_back(limited, settings):
    narrow = settings.inference.model_copy(update={"max_queued": 4, "max_micro_batch_size": 2})
    changes = {"inference": narrow, "test": TestSettings(fake_model="50,0")}
    models = settings.models.model_copy(update={"default": "fake"})
    async with (
        limited(images_per_day=100, models=models, **changes) as server,
        caller(server) as ours,
    ):
        codes = await asyncio.gather(*(ours.code(ours.classify) for _ in range(40)))
        classified = codes.count(grpc.StatusCode.OK)
        assert classified + codes.count(grpc.StatusCode.UNAVAILABLE) == 40 > classified
        fields = await ours.classify()
        assert fields["ratelimit"].startswith(f'"images";r={99 - classified};')


async def test_bad_credentials_count_more_and_only_for_their_address(limited):
    async with limited(
        address_requests_per_s=SLOW, address_request_burst=25, failure_cost=10
    ) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            guesser = Caller(channel, "ic_wrong", "192.0.2.1")
            guesses = [await guesser.code(guesser.info) for _ in range(6)]
            assert guesses == [UNAUTHENTICATED] * 3 + [RESOURCE_EXHAUSTED] * 3
        key = await server.key(Role.CLASSIFIER)
        async with grpc.aio.insecure_channel(server.address) as channel:
            same = Caller(channel, key, "192.0.2.1")
            assert await same.code(same.info) is RESOURCE_EXHAUSTED
            owner = Caller(channel, key, "192.0.2.2")
            assert [await owner.code(owner.info) for _ in range(5)] == [grpc.StatusCode.OK] * 5


def test_an_owner_of_an_ipv6_network_has_one_limit():
    assert owner_of("2001:db8::1") == owner_of("2001:db8::2") == "2001:db8::/64"
    assert owner_of("192.0.2.1") != owner_of("192.0.2.2")


async def test_workers_are_not_limited(limited):
    quota = {"requests_per_s": SLOW, "request_burst": 1, "images_per_day": 1}
    async with limited(**quota) as server, await server.client(Role.WORKER) as client:
        sources = [(str(number), PICTURE) for number in range(5)]
        stream = client.classify_stream(sources, tenant_id=DEFAULT_TENANT, key_id="k")
        assert [result.error async for result in stream] == [None] * 5


async def test_while_redis_is_down_each_process_allows_its_share(limited, stores):
    quota = {"requests_per_s": 0.1, "request_burst": 30, "expected_servers": 3, "timeout_s": 0.5}
    async with limited(**quota) as server, caller(server, Role.ADMIN) as ours:
        await ours.info()
        await stores.redis.kill()
        try:
            codes = [await ours.code(ours.info) for _ in range(20)]
            async with grpc.aio.insecure_channel(server.address) as channel:
                webhooks = admin_pb2_grpc.AdminServiceStub(channel).ListWebhooks
                headers = (("authorization", f"Bearer {await server.key(Role.ADMIN)}"),)
                with pytest.raises(grpc.aio.AioRpcError) as closed:
                    await webhooks(admin_pb2.ListWebhooksRequest(), metadata=headers)
        finally:
            await stores.redis.start()
        assert codes == [grpc.StatusCode.OK] * 10 + [RESOURCE_EXHAUSTED] * 10
        assert closed.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "DEPENDENCY_DOWN" in str(closed.value.trailing_metadata())

        async def is_shared() -> bool:  # Redis has forgotten what was taken before
            return await ours.code(ours.info) is grpc.StatusCode.OK

        await eventually(is_shared, PROBE_INTERVAL_S + 5 * SLACK_S)
