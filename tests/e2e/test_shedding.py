"""Under overload the gateway refuses a caller's calls itself, as the server would."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from tests.support.pictures import jpeg
from tests.support.polling import elapsed
from tests.support.up import Up, command, free_port

PICTURE = jpeg()
SECONDS = 3.0
CALLERS = 24
# Five images a second; five may wait.
SLOW = {
    "CATEGORIZER_TEST__FAKE_MODEL": "200,0",
    "CATEGORIZER_INFERENCE__MAX_MICRO_BATCH_SIZE": "1",
    "CATEGORIZER_INFERENCE__RUNNERS": "1",
    "CATEGORIZER_INFERENCE__MAX_QUEUED": "5",
}
FROM_SERVER = "x-envoy-upstream-service-time"


@dataclass(frozen=True)
class Installation:
    """What the tests call."""

    up: Up
    key: str
    other_key: str


@pytest.fixture(scope="module")
def slow(clean_environment, tmp_path_factory) -> Iterator[Installation]:
    up = Up(tmp_path_factory.mktemp("slow"), free_port(), SLOW)
    up.start()
    created = command("keys", "create", "other", "--json", "--data", up.data)
    key = up.shown_key()
    assert key is not None
    yield Installation(up, key, json.loads(created.stdout)["key"])
    assert up.stop() == 0


async def rest_answers(
    slow: Installation, key: str, prefix: str, *, callers: int, pause_s: float
) -> list[httpx.Response]:
    """Sends requests by REST for `SECONDS`."""
    end_s = time.monotonic() + SECONDS
    headers = {"authorization": f"Bearer {key}", "content-type": "image/jpeg"}

    async def caller(client: httpx.AsyncClient, number: int) -> list[httpx.Response]:
        answers: list[httpx.Response] = []
        while time.monotonic() < end_s:
            own = {**headers, "x-request-id": f"{prefix}-{number}-{len(answers)}"}
            path = "/v1/classify?no_cache=true"
            answers.append(await client.post(path, content=PICTURE, headers=own))
            await elapsed(pause_s)
        return answers

    async with httpx.AsyncClient(base_url=slow.up.url, timeout=20) as client:
        found = await asyncio.gather(*(caller(client, number) for number in range(callers)))
    return [answer for answers in found for answer in answers]


async def grpc_errors(
    slow: Installation, prefix: str, *, callers: int, pause_s: float, timeout_s: float
) -> list[grpc.aio.AioRpcError]:
    """Sends requests by gRPC for `SECONDS`. Returns the errors."""
    end_s = time.monotonic() + SECONDS
    options = classify_pb2.ClassifyOptions(no_cache=True)
    request = classify_pb2.ClassifyRequest(image=PICTURE, options=options)
    errors = []

    async def caller(stub, number):
        metadata = (
            ("authorization", f"Bearer {slow.key}"),
            ("x-request-id", f"{prefix}-{number}"),
        )
        while time.monotonic() < end_s:
            try:
                await stub.Classify(request, metadata=metadata, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                errors.append(error)
            await elapsed(pause_s)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{slow.up.port}") as channel:
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        await asyncio.gather(*(caller(stub, number) for number in range(callers)))
    return errors


def is_by_server(error: grpc.aio.AioRpcError) -> bool:
    headers = [*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())]
    return FROM_SERVER in dict(headers)


async def test_what_the_gateway_refuses_by_rest_looks_like_the_server_s_refusals(slow):
    answers = await rest_answers(slow, slow.key, "rest", callers=CALLERS, pause_s=0.01)
    refused = [answer for answer in answers if answer.status_code != 200]
    for answer in refused:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-request-id"].startswith("rest-")
        assert "x-overloaded" not in answer.headers
        (info,) = (d for d in answer.json()["details"] if "reason" in d)
        assert info["reason"] in ("QUEUE_FULL", "DEADLINE_UNREACHABLE")
        assert answer.json()["message"]
    by_server = sum(FROM_SERVER in answer.headers for answer in refused)
    assert len(refused) > 4 * by_server > 0
    # The model has always had something to do.
    assert len(answers) - len(refused) > 0.7 * 5 * SECONDS


async def test_what_the_gateway_refuses_by_grpc_repeats_the_server_s_refusal(slow):
    errors = await grpc_errors(slow, "grpc", callers=CALLERS, pause_s=0.01, timeout_s=20)
    for error in errors:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        assert (status.code, status.message) == (14, error.details())
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert status.details[1].Unpack(retry)
        assert info.reason in ("QUEUE_FULL", "DEADLINE_UNREACHABLE")
        assert retry.retry_delay.ToMilliseconds() > 0
    assert len(errors) > 4 * sum(map(is_by_server, errors)) > 0


async def test_the_gateway_passes_calls_with_another_key_or_another_deadline(slow):
    flood, patient, other = await asyncio.gather(
        grpc_errors(slow, "flood", callers=CALLERS, pause_s=0.01, timeout_s=0.5),
        grpc_errors(slow, "patient", callers=1, pause_s=0.5, timeout_s=30),
        rest_answers(slow, slow.other_key, "other", callers=1, pause_s=0.5),
    )
    assert not all(map(is_by_server, flood))
    # The server may refuse them: its queue is full.
    assert all(map(is_by_server, patient))
    assert all(FROM_SERVER in answer.headers for answer in other)


async def test_all_calls_pass_again_once_the_flood_is_over(slow):
    await rest_answers(slow, slow.key, "before", callers=CALLERS, pause_s=0.01)
    await elapsed(3)
    answers = await rest_answers(slow, slow.key, "after", callers=1, pause_s=0.3)
    assert {answer.status_code for answer in answers} == {200}
