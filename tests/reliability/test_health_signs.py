"""Health probes while a store hangs or is gone, the server is stopped, or a model call hangs."""

import signal
import time
from contextlib import asynccontextmanager, suppress

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from image_categorizer_server.tasks import TaskOwner

from tests.support.polling import eventually, stays
from tests.support.traffic import SMALL, calling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CHANGE_S = 5.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
CLASSIFY = "/v1/classify?no_cache=true"


async def seconds_until(client, path, condition, within_s):
    """Returns after how many seconds a probe with a timeout of one second meets a condition."""
    begun_s = time.monotonic()

    async def is_met():
        try:
            answer = await client.get(path, timeout=1)
            return condition(answer.status_code, answer.json())
        except httpx.HTTPError as error:
            return condition(0, {"error": type(error).__name__})

    await eventually(is_met, within_s, 0.1)
    return time.monotonic() - begun_s


@asynccontextmanager
async def watching_health(running, service):
    """Yields the statuses that `Watch` of grpc.health.v1 reports, as they come."""
    statuses = []

    async def watch(channel):
        stub = health_pb2_grpc.HealthStub(channel)
        with suppress(grpc.aio.AioRpcError):
            call = stub.Watch(health_pb2.HealthCheckRequest(service=service))
            while answer := await call.read():
                statuses.append(answer.status)

    address = f"unix:{running.data}/run/server.sock"
    async with grpc.aio.insecure_channel(address) as channel, TaskOwner() as tasks:
        tasks.start(watch(channel), "watch")
        yield statuses


def send_to_all(process, number):
    """Sends a signal to a process and its descendants."""
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.send_signal(number)


def has_ended(process):
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def client_of(running):
    headers = {"authorization": f"Bearer {running.shown_key()}"}
    return httpx.AsyncClient(base_url=running.url, headers=headers, timeout=20)


@pytest.mark.parametrize("how", ["hangs", "gone"])
@pytest.mark.parametrize("name", ["redis", "postgres"])
async def test_a_lost_store_is_reported_soon_and_so_is_its_return(installation, name, how):
    running = installation()
    supervisor = psutil.Process(running.process.pid)
    is_reported = {
        "redis": lambda status, body: (status, body.get("degraded")) == (200, ["redis"]),
        "postgres": lambda status, body: status in (0, 503),
    }[name]
    async with client_of(running) as client, watching_health(running, "") as statuses:
        assert (await client.post(CLASSIFY, content=SMALL[0])).status_code == 200
        store = running.process_of(name)
        if how == "gone":
            supervisor.suspend()  # it would start the store again
            store.send_signal(signal.SIGINT if name == "postgres" else signal.SIGKILL)
            await eventually(lambda: has_ended(store))
        else:
            send_to_all(store, signal.SIGSTOP)
        down_s = await seconds_until(client, "/readyz", is_reported, 2 * CHANGE_S)
        live = await client.get("/healthz")
        if name == "redis":  # also with the cache
            for path in (CLASSIFY, "/v1/classify"):
                answer = await client.post(path, content=SMALL[0])
                assert answer.status_code == 200, answer.text
        else:
            await eventually(lambda: statuses[-1] == NOT_SERVING, CHANGE_S + 1)
        supervisor.resume()
        if how == "hangs":
            send_to_all(store, signal.SIGCONT)
        up_s = await seconds_until(
            client, "/readyz", lambda *answer: answer == (200, {"ready": True, "degraded": []}), 20
        )
        await eventually(lambda: statuses[-1] == SERVING, 1.5)
    print(f"\n{name} {how}: reported after {down_s:.1f} s, back after {up_s:.1f} s, {statuses}")
    assert live.status_code == 200
    assert down_s <= CHANGE_S
    # A store that has ended is restarted first, after a delay.
    assert up_s <= (CHANGE_S if how == "hangs" else 2 * CHANGE_S)


async def test_a_suspended_server_is_not_live_and_recovers(installation):
    running = installation()
    server = running.process_of("server")
    async with client_of(running) as client:
        server.suspend()

        async def is_silent():
            with pytest.raises(httpx.TimeoutException):
                await client.get("/healthz", timeout=1)
            return True

        await stays(is_silent, for_s=10)
        server.resume()
        back_s = await seconds_until(client, "/healthz", lambda status, _: status == 200, CHANGE_S)
        assert (await client.post(CLASSIFY, content=SMALL[0])).status_code == 200
    print(f"\nlive again after {back_s:.1f} s")
    assert running.process_of("server") == server


async def test_a_model_call_that_hangs_makes_the_server_not_live(installation):
    running = installation(
        CATEGORIZER_TEST__FAKE_MODEL="20000,0",
        CATEGORIZER_INFERENCE__STUCK_S="5",
        CATEGORIZER_MODELS__DEFAULT="efficientnet_lite0",
        CATEGORIZER_MODELS__PACKAGED="true",
    )
    async with (
        client_of(running) as client,
        calling(running) as caller,
        watching_health(running, "live") as statuses,
        TaskOwner() as tasks,
    ):
        stuck = tasks.start(caller.ask(55), "stuck call")
        down_s = await seconds_until(client, "/healthz", lambda status, _: status == 503, 30)
        # Until a restart, requests for other models are answered.
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.post(CLASSIFY, content=SMALL[0])).status_code == 200
        await eventually(lambda: statuses[-1] == NOT_SERVING, 1.5)
        await stuck
        await eventually(lambda: statuses[-1] == SERVING, 1.5)
        assert (await client.get("/healthz")).status_code == 200
    print(f"\nnot live after {down_s:.1f} s, Watch reported {statuses}")
    assert 4 <= down_s <= 8
