"""What probes hear while a store hangs or is gone, the server is stopped, a model call hangs."""

import asyncio
import signal
import time
from contextlib import asynccontextmanager, suppress

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.reliability.conftest import part
from tests.support.polling import elapsed
from tests.support.traffic import SMALL, calling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
FLIP_S = 5.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CLASSIFY = "/v1/classify?no_cache=true"


async def heard_after_s(client, path, wanted, within_s):
    """Returns after how many seconds a probe, of one second's patience, hears what is wanted."""
    begun_s = time.monotonic()
    heard = None
    while time.monotonic() - begun_s < within_s:
        try:
            answer = await client.get(path, timeout=1)
            heard = answer.status_code, answer.json()
        except httpx.HTTPError as error:
            heard = 0, {"error": type(error).__name__}
        if wanted(*heard):
            return time.monotonic() - begun_s
        await elapsed(0.1)
    raise AssertionError(f"{path} said at last: {heard}")


@asynccontextmanager
async def reported(running, service):
    """Yields what a `Watch` of grpc.health.v1 is reported, as it comes."""
    heard = []

    async def watch(channel):
        stub = health_pb2_grpc.HealthStub(channel)
        with suppress(grpc.aio.AioRpcError):
            call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            while answer := await call.read():
                heard.append(answer.status)

    address = f"unix:{running.data}/run/server.sock"
    async with grpc.aio.insecure_channel(address) as channel:
        watching = asyncio.create_task(watch(channel))
        yield heard
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def frozen(process, *, how=signal.SIGSTOP):
    """Stops, or lets go on, a process and all below it."""
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(how)


def client_of(running):
    headers = {"authorization": f"Bearer {running.shown_key()}"}
    return httpx.AsyncClient(base_url=running.url, headers=headers, timeout=20)


@pytest.mark.parametrize("how", ["hangs", "gone"])
@pytest.mark.parametrize("name", ["redis", "postgres"])
async def test_probes_report_a_lost_store_and_its_return_within_seconds(installation, name, how):
    running = installation()
    supervisor = psutil.Process(running.process.pid)
    is_known = {
        "redis": lambda status, said: (status, said.get("degraded")) == (200, ["redis"]),
        "postgres": lambda status, said: status in (0, 503),
    }[name]
    async with client_of(running) as client, reported(running, "") as heard:
        assert (await client.post(CLASSIFY, content=SMALL[0])).status_code == 200
        store = part(running, name)
        if how == "gone":
            supervisor.suspend()  # who would start it again
            store.send_signal(signal.SIGINT if name == "postgres" else signal.SIGKILL)
            await elapsed(0.3)
        else:
            frozen(store)
        down_s = await heard_after_s(client, "/readyz", is_known, 2 * FLIP_S)
        live = await client.get("/healthz")
        if name == "redis":  # by upload, and with a remembered answer to look for
            for path in (CLASSIFY, "/v1/classify"):
                answer = await client.post(path, content=SMALL[0])
                assert answer.status_code == 200, answer.text
        else:
            await elapsed(FLIP_S + 1)
            assert heard[-1] == NOT_SERVING
        supervisor.resume()
        if how == "hangs":
            frozen(store, how=signal.SIGCONT)
        up_s = await heard_after_s(
            client, "/readyz", lambda *said: said == (200, {"ready": True, "degraded": []}), 20
        )
        await elapsed(1.5)
        assert heard[-1] == SERVING
    print(f"\n{name} {how}: reported after {down_s:.1f} s, back after {up_s:.1f} s, {heard}")
    assert live.status_code == 200
    assert down_s <= FLIP_S
    # What has ended is started again first, after a wait.
    assert up_s <= (FLIP_S if how == "hangs" else 2 * FLIP_S)


async def test_a_server_that_does_not_get_to_run_is_not_live_and_comes_back(installation):
    running = installation()
    server = part(running, "server")
    async with client_of(running) as client:
        server.suspend()
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < 10:
            with pytest.raises(httpx.TimeoutException):
                await client.get("/healthz", timeout=1)
        server.resume()
        back_s = await heard_after_s(client, "/healthz", lambda status, _: status == 200, FLIP_S)
        assert (await client.post(CLASSIFY, content=SMALL[0])).status_code == 200
    print(f"\nlive again after {back_s:.1f} s")
    assert part(running, "server") == server


async def test_a_model_call_that_hangs_makes_the_server_not_live(installation):
    running = installation(
        CATEGORIZER_TEST__FAKE_MODEL="20000,0", CATEGORIZER_INFERENCE__STUCK_S="5"
    )
    async with (
        client_of(running) as client,
        calling(running) as caller,
        reported(running, "live") as heard,
    ):
        stuck = asyncio.create_task(caller.ask(55))
        down_s = await heard_after_s(client, "/healthz", lambda status, _: status == 503, 30)
        # A restart is the way out; until then what needs another model is answered.
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post(CLASSIFY, content=SMALL[0])).status_code == 200
        await elapsed(1.5)
        reported_down = heard[-1]
        await stuck
        await elapsed(1.5)
        assert (await client.get("/healthz")).status_code == 200
    print(f"\nnot live after {down_s:.1f} s, Watch reported {heard}")
    assert 4 <= down_s <= 8
    assert reported_down == NOT_SERVING
    assert heard[-1] == SERVING
