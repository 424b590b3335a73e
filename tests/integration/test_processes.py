"""Several server processes on one port, as `serve` starts them, and behind Envoy, as `up` does."""

import asyncio
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from image_categorizer import AsyncImageCategorizationClient, CrashingImage
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc
from image_categorizer_server.domain.access import Role
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.local.processes import reserved
from image_categorizer_server.rpc.probe import is_ready
from image_categorizer_server.services import key as admin
from image_categorizer_server.services.key import ApiKeys, operator
from image_categorizer_server.settings.access import SecuritySettings

from tests.conftest import EXPORTS
from tests.support.database import open_for_all_tenants
from tests.support.pictures import jpeg
from tests.support.polling import elapsed, eventually
from tests.support.up import Up, free_port

pytestmark = pytest.mark.timeout(180)
PICTURE = jpeg()
# Decoding one of them kills the process.
KILLERS = [jpeg(64, 48, seed) for seed in range(900, 903)]
FAILPOINT = ",".join(f"image.decoding@{hashlib.sha256(image).hexdigest()}:1" for image in KILLERS)
CUT_OFF = "the server process ended while it served the request"
COMMAND = [sys.executable, "-m", "image_categorizer_server", "serve"]
READY_S = 60
# CANCELLED is how gRPC itself ends what arrives at the moment of stopping.
REFUSED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED


FAKE = {
    "CATEGORIZER_SERVER__PROCESSES": "1",
    "CATEGORIZER_MODELS__DEFAULT": "fake",
    "CATEGORIZER_TEST__FAKE_MODEL": "1,0",
}


@dataclass
class Served:
    """A running `image-categorizer serve`."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    headers: tuple[tuple[str, str], ...] = field(repr=False)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    async def ready(self, count: int) -> None:
        """Waits until so many processes listen."""
        await self.logged('"listening"', count)

    async def logged(self, word: str, count: int) -> None:
        """Waits until the log has a word so often."""

        def is_logged() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return self.log.read_text().count(word) >= count

        await eventually(is_logged, READY_S)

    async def ask(self, model: str = "") -> classify_pb2.ClassifyResponse:
        """Classifies on a connection of its own: the kernel chooses the process."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self.address, options) as channel:
            uncached = classify_pb2.ClassifyOptions(no_cache=True, model=model)
            request = classify_pb2.ClassifyRequest(image=PICTURE, options=uncached)
            stub = classify_pb2_grpc.ClassifyServiceStub(channel)
            answer: classify_pb2.ClassifyResponse = await stub.Classify(
                request, metadata=self.headers, timeout=20
            )
            return answer

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


@pytest.fixture
async def serve(stores, empty_database, tmp_path):
    """Returns how one starts `serve` with some settings."""
    started: list[subprocess.Popen[bytes]] = []
    async with open_for_all_tenants(empty_database):
        key = (await admin.create_key("test", Role.CLASSIFIER)).secret

    def start(bind: str = "", **variables: str) -> Served:
        address = bind or f"127.0.0.1:{free_port()}"
        environment = {
            **os.environ,
            "DATABASE_URL": stores.postgres.url,
            "REDIS_URL": stores.redis.url,
            "MODEL_PATH": str(tmp_path / "models"),
            "CATEGORIZER_MODELS__CACHE_PATH": str(EXPORTS),
            "CATEGORIZER_SERVER__BIND": address,
            "CATEGORIZER_SERVER__PROCESSES": "2",
            "CATEGORIZER_LOG_FORMAT": "json",
            **variables,
        }
        log = tmp_path / f"serve-{len(started)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(COMMAND, env=environment, stderr=file)
        started.append(process)
        return Served(address, process, log, (("authorization", f"Bearer {key}"),))

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(10)


async def test_a_change_of_a_key_takes_effect_in_every_process_at_once(serve, stores):
    """Only the notification explains that: keys are cached for five minutes."""
    served = [serve(**FAKE, CATEGORIZER_SECURITY__KEY_CACHE_S="300") for _ in range(2)]
    for one in served:
        await one.logged('"ready', 1)

    async def statuses():
        found = await asyncio.gather(*(one.ask() for one in served), return_exceptions=True)
        return {f.code().name if isinstance(f, grpc.RpcError) else "OK" for f in found}

    async def becomes(status):
        start_s = time.monotonic()
        await eventually(lambda: is_now(status), 5)
        print(f"{status} in both processes after {(time.monotonic() - start_s) * 1000:.0f} ms")

    async def is_now(status):
        return await statuses() == {status}

    async with open_for_all_tenants(stores.postgres.url):
        keys = ApiKeys(SecuritySettings())
        (key,) = (await keys.list_page("default")).items
        await becomes("OK")
        await keys.update(operator(), key.key_id, {"role": Role.VIEWER})
        await becomes("PERMISSION_DENIED")
        await keys.update(operator(), key.key_id, {"role": Role.CLASSIFIER})
        await becomes("OK")
        await keys.revoke(operator(), key.key_id)
        await becomes("UNAUTHENTICATED")


async def test_a_model_call_that_hangs_does_not_hold_up_the_end(serve):
    served = serve(
        CATEGORIZER_SERVER__PROCESSES="1",
        CATEGORIZER_SERVER__DRAIN_S="0.2",
        CATEGORIZER_MODELS__DEFAULT="fake",
        CATEGORIZER_TEST__FAKE_MODEL="15000,0",
    )
    await served.logged('"ready', 1)
    asking = asyncio.create_task(served.ask())
    await elapsed(1)
    start_s = time.monotonic()
    status = await asyncio.to_thread(served.end)
    assert time.monotonic() - start_s < 12
    await asyncio.gather(asking, return_exceptions=True)
    log = served.log.read_text()
    assert status == 0, log
    assert "models do not stop, so they are left" in log


async def test_both_processes_answer_on_one_port_and_drain_on_sigterm(serve):
    served = serve()
    await served.ready(2)
    children = served.children()
    assert len(children) == 2
    before = [child.cpu_times().user for child in children]
    await asyncio.gather(*(served.ask() for _ in range(60)))
    busy = [child.cpu_times().user - b for child, b in zip(children, before, strict=True)]
    assert min(busy) > 0, busy
    asking = [asyncio.create_task(served.ask()) for _ in range(30)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    status = await asyncio.to_thread(served.end)
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert status == 0
    assert served.log.read_text().count('"stopped"') == 2
    # What had been taken was answered; what came later found nobody.
    assert any(isinstance(outcome, classify_pb2.ClassifyResponse) for outcome in outcomes)
    for outcome in outcomes:
        if isinstance(outcome, grpc.aio.AioRpcError):
            assert outcome.code() in REFUSED
    assert not any(child.is_running() for child in children)


async def test_a_killed_process_is_started_again_and_joins_when_it_can_answer(serve):
    served = serve()
    await served.ready(2)
    first, second = served.children()
    first.kill()
    psutil.wait_procs([first], timeout=10)  # until then the kernel may still choose it

    async def has_joined() -> bool:
        await served.ask()  # always one that can
        return bool(served.log.read_text().count("listening") >= 3)

    await eventually(has_joined, READY_S)
    assert second in served.children()
    assert len(served.children()) == 2
    assert "starting it again" in served.log.read_text()
    assert await asyncio.to_thread(served.end) == 0


async def test_kill_9_of_the_parent_ends_the_children(serve):
    served = serve()
    await served.ready(2)
    children = served.children()
    served.end(signal.SIGKILL)
    assert psutil.wait_procs(children, timeout=20)[1] == []


async def test_a_second_signal_ends_at_once(serve):
    served = serve(CATEGORIZER_SERVER__DRAIN_NOTICE_S="30")
    await served.ready(2)
    children = served.children()
    served.process.send_signal(signal.SIGTERM)
    await served.logged('"stopping"', 2)
    assert served.process.poll() is None
    assert await asyncio.to_thread(served.end) == 1
    assert psutil.wait_procs(children, timeout=20)[1] == []


async def test_stopping_while_models_load_is_no_failure(serve):
    served = serve()
    await eventually(served.children, READY_S)
    await elapsed(1)
    assert await asyncio.to_thread(served.end) == 0


async def test_without_its_default_model_no_process_is_ready_and_the_log_says_what_to_do(serve):
    served = serve(CATEGORIZER_MODELS__DEFAULT="nowhere")
    text = "the default model 'nowhere' is not in the repository: add it with"
    await eventually(lambda: text in served.log.read_text(), 60)
    assert served.process.poll() is None


@pytest.mark.parametrize("bind", ["unix:/tmp/some.sock", "taken"])
async def test_an_address_that_cannot_be_shared_is_refused_in_one_sentence(serve, bind):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}" if bind == "taken" else bind
        served = serve(address)
        assert await asyncio.to_thread(served.process.wait, 60) == 1
    last = served.log.read_text().strip().splitlines()[-1]
    assert address in last


def test_port_0_is_chosen_once_for_all():
    with reserved("127.0.0.1:0") as address:
        port = int(address.rpartition(":")[2])
        assert port > 0
        with pytest.raises(OperatorError, match=str(port)), reserved(address):
            pass


async def test_no_server_is_not_ready(tmp_path):
    assert not await is_ready(f"unix:{tmp_path}/none.sock")


@pytest.fixture(scope="module")
def two(clean_environment, tmp_path_factory):
    variables = {
        "CATEGORIZER_SERVER__PROCESSES": "2",
        "CATEGORIZER_TEST__FAILPOINT": FAILPOINT,
    }
    running = Up(tmp_path_factory.mktemp("two"), free_port(), variables)
    running.start()
    yield running
    assert running.stop() == 0


def servers_of(up: Up) -> list[psutil.Process]:
    return [child for child in up.children() if child.cmdline()[-1:] == ["--one-of-many"]]


GATEWAY_AVOIDS_S = 3.0  # how long the gateway passes over a process after its last failure


def deaths(up: Up) -> int:
    """Returns how many server processes have died since the start."""
    return sum("server-" in line and "starting it again" in line for line in up.lines)


async def all_serving(up: Up) -> None:
    """Waits until each process that died has been replaced."""
    logs = up.data / "logs"

    def are_listening() -> bool:
        starts = sum(log.read_text().count("listening") for log in logs.glob("server-*.log"))
        return starts == 2 + deaths(up)

    await eventually(are_listening, READY_S, interval_s=0.2)
    await elapsed(GATEWAY_AVOIDS_S)


async def test_behind_envoy_no_request_fails_when_a_process_is_killed(two):
    servers = servers_of(two)
    assert len(servers) == 2
    headers = {"authorization": f"Bearer {two.shown_key()}"}
    answered, failed = 0, []
    is_over = False

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal answered
        while not is_over:
            answer = await client.post("/v1/classify?no_cache=true", content=PICTURE)
            if answer.status_code == 200:
                answered += 1
            else:
                failed.append(answer.text)

    async with httpx.AsyncClient(base_url=two.url, headers=headers, timeout=30) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(8)]
        await elapsed(1.5)
        servers[0].kill()

        async def is_back() -> bool:
            assert (await client.get("/readyz")).status_code == 200
            return bool((two.data / "logs" / "server-1.log").read_text().count("listening") >= 2)

        await eventually(is_back, READY_S, interval_s=0.2)
        await elapsed(1)
        is_over = True
        await asyncio.gather(*asking)
    assert failed == []
    assert answered > 50


async def test_behind_envoy_an_answer_is_remembered_by_all_processes(two):
    headers = {"authorization": f"Bearer {two.shown_key()}"}
    async with httpx.AsyncClient(base_url=two.url, headers=headers, timeout=30) as client:
        answers = [(await client.post("/v1/classify", content=PICTURE)).json() for _ in range(6)]
        uncached = (await client.post("/v1/classify?no_cache=true", content=PICTURE)).json()
    assert [answer["cache"] for answer in answers] == ["MISS", *["HIT"] * 5]
    assert uncached["cache"] == "CACHE_UNSPECIFIED"
    assert all(answer["predictions"] == answers[0]["predictions"] for answer in answers)


async def test_behind_envoy_an_image_that_crashes_the_decoder_kills_one_process_and_is_refused(two):
    await all_serving(two)
    before = deaths(two)
    headers = {"authorization": f"Bearer {two.shown_key()}"}
    path = "/v1/classify?no_cache=true"
    async with httpx.AsyncClient(base_url=two.url, headers=headers, timeout=30) as client:
        killing, *beside = await asyncio.gather(
            client.post(path, content=KILLERS[0]),
            *(client.post(path, content=PICTURE) for _ in range(12)),
        )
        again = [await client.post(path, content=KILLERS[0]) for _ in range(4)]
        await all_serving(two)
        # Also by the process that has started since.
        again += [await client.post("/v1/classify", content=KILLERS[0]) for _ in range(4)]
    assert [answer.status_code for answer in beside] == [200] * 12
    for answer in (killing, *again):
        assert answer.status_code == 400
        assert answer.json()["details"][0]["reason"] == "IMAGE_CRASHES_SERVER"
    assert deaths(two) - before == 1


@pytest.mark.slow
async def test_the_sdk_through_envoy_gets_a_permanent_error_for_the_image_that_crashes(two):
    await all_serving(two)
    before = deaths(two)
    async with AsyncImageCategorizationClient(two.shown_key(), two.url) as client:
        with pytest.raises(CrashingImage, match="do not send it again"):
            await client.classify_image(KILLERS[1])
    await all_serving(two)
    assert deaths(two) - before == 1


@pytest.mark.slow
async def test_a_stream_with_an_image_that_crashes_the_decoder_answers_all_others(two):
    await all_serving(two)
    before = deaths(two)
    sources = [(str(n), KILLERS[2] if n == 7 else PICTURE) for n in range(20)]
    async with AsyncImageCategorizationClient(two.shown_key(), two.url) as client:
        results = {r.key: r.error async for r in client.classify_stream(sources, no_cache=True)}
    await all_serving(two)
    assert isinstance(results.pop("7"), CrashingImage)
    assert list(results.values()) == [None] * 19
    assert deaths(two) - before == 1


@pytest.mark.slow
async def test_a_call_that_ends_two_processes_is_not_asked_for_again(two):
    await all_serving(two)
    servers, host = servers_of(two), two.url.removeprefix("http://")
    headers = {"authorization": f"Bearer {two.shown_key()}"}
    request = classify_pb2.ClassifyRequest(image=PICTURE)
    async with (
        httpx.AsyncClient(base_url=two.url, headers=headers, timeout=30) as client,
        grpc.aio.insecure_channel(host) as channel,
    ):
        stub = classify_pb2_grpc.ClassifyServiceStub(channel)
        for server in servers:
            server.suspend()
        rest = [asyncio.create_task(client.post("/v1/classify", content=PICTURE)) for _ in "abcd"]
        calls = [stub.Classify(request, metadata=tuple(headers.items())) for _ in "abcd"]
        await elapsed(1)
        servers[0].kill()
        await elapsed(1)  # what it had is with the other now
        servers[1].kill()
        answers = await asyncio.gather(*rest)
        details = [(await call.details(), await call.trailing_metadata()) for call in calls]
    assert {answer.status_code for answer in answers} == {503}
    cut = [answer.headers for answer in answers if CUT_OFF in answer.text]
    assert cut
    for sent in cut:
        assert (sent["grpc-retry-pushback-ms"], "retry-after" in sent) == ("-1", False)
    # An application sees the header; so does gRPC's own retrying.
    pushed = [dict(metadata).get("grpc-retry-pushback-ms") for _, metadata in details]
    assert "-1" in pushed, details
    await all_serving(two)


@pytest.mark.slow
async def test_without_envoy_the_sdk_repeats_a_call_once_and_the_image_is_found(serve):
    served = serve(CATEGORIZER_TEST__FAILPOINT=FAILPOINT)
    await served.ready(2)
    api_key = served.headers[0][1].removeprefix("Bearer ")
    async with AsyncImageCategorizationClient(api_key, served.address) as client:
        with pytest.raises(CrashingImage):
            await client.classify_image(KILLERS[0])
        with pytest.raises(CrashingImage):
            await client.classify_image(KILLERS[0])
    assert served.log.read_text().count("starting it again") == 1
    assert await asyncio.to_thread(served.end) == 0
