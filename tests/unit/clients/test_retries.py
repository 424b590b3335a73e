"""When a failed call is made again: alone, and by both clients of a server that refuses."""

# ruff: noqa: N802 - gRPC names the methods

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from image_categorizer import (
    AsyncImageCategorizationClient,
    ImageCategorizationClient,
    InvalidRequest,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    Unavailable,
)
from image_categorizer._retries import (
    BUDGET,
    MAX_ATTEMPTS,
    MAX_CUTS,
    MAX_FAILED_CALLS,
    MAX_RETRY_AFTER_S,
    Retries,
    RetryBudget,
    uploads_of,
)
from image_categorizer._statuses import from_status

from tests.unit.clients.conftest import Services, response

CALLERS = 20


def asked_to_wait(seconds):
    retry, packed = RetryInfo(), Any()
    retry.retry_delay.FromNanoseconds(int(seconds * 1e9))
    packed.Pack(retry)
    return Status(code=14, message="busy", details=[packed])


def busy(retry_after_s=0):
    return from_status(asked_to_wait(retry_after_s), "r1")


def exhausted(reason, retry_after_s):
    status = asked_to_wait(retry_after_s)
    info = Any()
    info.Pack(ErrorInfo(reason=reason))
    return from_status(Status(code=8, details=[info, *status.details]), "r1")


def cut_off(message="Socket closed"):
    return from_status(Status(code=14, message=message), "")


def test_waits_grow_to_five_seconds_and_differ_at_random():
    waits = [[] for _ in range(MAX_FAILED_CALLS - 1)]
    for _ in range(20):
        retries = Retries(MAX_FAILED_CALLS)
        for wait in waits:
            wait.append(retries.failed(busy()))
    for number, wait in enumerate(waits):
        mean_s = min(5.0, 0.2 * 2**number)
        assert all(0.8 * mean_s <= s <= 1.2 * mean_s for s in wait)
        assert len(set(wait)) > 10


def test_a_wait_is_never_shorter_than_the_server_asks_for():
    assert 3 < Retries(2).failed(busy(3)) < 4
    with pytest.raises(Unavailable):
        Retries(2).failed(busy(MAX_RETRY_AFTER_S + 1))


def test_a_success_restarts_the_count_of_failures():
    retries = Retries(MAX_ATTEMPTS)
    for _ in range(2):
        for _ in range(MAX_ATTEMPTS - 1):
            retries.failed(busy())
        retries.succeeded()
    for _ in range(MAX_ATTEMPTS - 1):
        retries.failed(busy())
    with pytest.raises(Unavailable):
        retries.failed(busy())


def test_a_call_that_is_cut_off_is_made_again_once():
    retries = Retries(MAX_ATTEMPTS, max_cuts=MAX_CUTS)
    assert not retries.may_crash
    assert retries.failed(cut_off()) > 0
    assert retries.may_crash
    with pytest.raises(Unavailable, match="closed"):
        retries.failed(cut_off())


def test_a_server_that_cannot_be_reached_was_not_crashed_by_the_call():
    retries = Retries(MAX_ATTEMPTS, max_cuts=MAX_CUTS)
    for _ in range(MAX_ATTEMPTS - 1):
        retries.failed(cut_off("failed to connect to all addresses; last error: ..."))
    retries = Retries(MAX_ATTEMPTS, max_cuts=MAX_CUTS)
    retries.failed(Overloaded("full"))
    assert not retries.may_crash


def test_a_rate_limit_is_waited_for_and_a_quota_is_not():
    limited = exhausted("RATE_LIMITED", 3.0)
    assert 3 < Retries(2).failed(limited) < 4
    budget = RetryBudget()
    while budget.take():
        pass
    with pytest.raises(RateLimited):
        Retries(2, budget).failed(limited)
    with pytest.raises(QuotaExceeded):
        Retries(2).failed(exhausted("QUOTA_EXCEEDED", 3.0))


def test_an_error_that_is_not_transient_is_raised():
    with pytest.raises(InvalidRequest):
        Retries(MAX_ATTEMPTS).failed(InvalidRequest("wrong"))


def test_uploads_are_repeated_only_if_their_sources_can_be_read_again():
    assert uploads_of(["a.jpg"], RetryBudget()).failed(busy()) > 0
    with pytest.raises(Unavailable):
        uploads_of(iter(["a.jpg"]), RetryBudget()).failed(busy())


def test_a_spent_budget_grows_by_a_retry_for_ten_successes():
    budget = RetryBudget()
    assert [budget.take() for _ in range(15)] == [True] * 10 + [False] * 5
    for _ in range(11):
        assert not budget.take()
        budget.succeeded()
    assert budget.take()
    assert not budget.take()
    for _ in range(1000):
        budget.succeeded()
    assert sum(budget.take() for _ in range(100)) == BUDGET


class Refusing(Services):
    """Refuses the first calls of every kind, and notes when each came."""

    def __init__(self, refusals: float, reason: Status | None = None) -> None:
        super().__init__()
        self.times: list[float] = []
        self._refusals = refusals
        self._reason = reason

    def Classify(self, request, context):
        self._refuse(context)
        return response("cat")

    def GetServerInfo(self, request, context):
        self._refuse(context)
        return super().GetServerInfo(request, context)

    def CreateWebhook(self, request, context):
        self._refuse(context)
        return super().CreateWebhook(request, context)

    def _refuse(self, context):
        self.times.append(time.monotonic())
        if len(self.times) <= self._refusals:
            if self._reason is not None:
                packed = self._reason.SerializeToString()
                context.set_trailing_metadata((("grpc-status-details-bin", packed),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")


def test_a_call_that_is_refused_is_made_again_when_the_server_asks_for_it(connect, serve):
    services = Refusing(2, asked_to_wait(0.5))
    assert connect(serve(services)).classify_image(b"cat").category == "cat"
    first, second, third = services.times
    assert second - first >= 0.5
    assert third - second >= 0.5


class CuttingOff(Services):
    """Answers as a gateway that has repeated the call in vain."""

    def __init__(self, pushback: str) -> None:
        super().__init__()
        self.attempts: list[str] = []
        self._pushback = pushback

    def Classify(self, request, context):
        self.attempts.append(dict(context.invocation_metadata()).get("x-attempt", "1"))
        if len(self.attempts) > 1:
            return response("cat")
        context.set_trailing_metadata((("grpc-retry-pushback-ms", self._pushback),))
        return context.abort(grpc.StatusCode.UNAVAILABLE, "connection termination")


def test_a_call_is_not_made_again_if_the_gateway_says_so(connect, serve):
    services = CuttingOff("-1")
    with pytest.raises(Unavailable) as refused:
        connect(serve(services)).classify_image(b"cat")
    assert refused.value.is_final
    assert services.attempts == ["1"]


def test_a_call_that_is_made_again_says_that_it_may_crash_the_server(connect, serve):
    services = CuttingOff("0")
    client = connect(serve(services))
    assert client.classify_image(b"cat").category == "cat"
    assert client.classify_image(b"cat").category == "cat"
    assert services.attempts == ["1", "2", "1"]


def test_a_wait_beyond_the_deadline_is_not_waited_for(connect, serve):
    services = Refusing(1, asked_to_wait(60))
    begun_s = time.monotonic()
    with pytest.raises(Unavailable) as refused:
        connect(serve(services)).classify_image(b"cat")
    assert time.monotonic() - begun_s < 5
    assert not isinstance(refused.value, Overloaded)
    assert refused.value.retry_after_s == 60
    assert len(services.times) == 1


def test_a_call_that_is_not_safe_to_repeat_is_made_once(connect, serve):
    services = Refusing(1)
    with pytest.raises(Unavailable):
        connect(serve(services)).webhooks.create("https://a.example")
    assert len(services.times) == 1


def test_the_calls_of_a_client_share_its_budget(serve):
    services = Refusing(float("inf"))
    with (
        ImageCategorizationClient("ic_x", serve(services)) as client,
        ThreadPoolExecutor(CALLERS) as pool,
    ):

        def classify(_):
            with suppress(Unavailable):
                client.classify_image(b"cat")

        list(pool.map(classify, range(CALLERS)))
        assert len(services.times) == CALLERS + BUDGET
        list(pool.map(classify, range(CALLERS)))
        assert len(services.times) == 2 * CALLERS + BUDGET


async def test_the_calls_of_an_asyncio_client_share_its_budget(serve):
    services = Refusing(float("inf"))
    async with AsyncImageCategorizationClient("ic_x", serve(services)) as client:
        for _ in range(CALLERS):
            with suppress(Unavailable):
                await client.server_info()
    assert len(services.times) == CALLERS + BUDGET


def test_a_stream_asks_no_more_often_than_it_calls(connect, serve):
    services = Refusing(2)
    (result,) = connect(serve(services)).classify_stream([("a", b"cat")])
    assert result.category == "cat"
    assert len(services.times) == 3
