"""One process runs the models of two servers, as `up` starts them behind Envoy."""

import asyncio
import itertools
from contextlib import suppress
from functools import partial
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from image_categorizer.v1 import health_pb2, health_pb2_grpc
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor
from image_categorizer_server.inference.models.loader import Loader
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.packaged import FORMAT, NAME
from image_categorizer_server.local.processes import MODEL_PROCESS
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings

from tests.conftest import EXPORTS
from tests.support.pictures import jpeg
from tests.support.polling import eventually
from tests.support.up import Up, free_port
from tests.unit.conftest import LIMITS

pytestmark = pytest.mark.timeout(180)
PICTURES = [jpeg(seed=seed) for seed in range(8)]
FRONTS = "server-1", "server-2"
READY_S = 60
STUCK_S = 2
PATH = "/v1/classify?no_cache=true"


@pytest.fixture(scope="module")
def up(clean_environment, tmp_path_factory):
    variables = {
        "CATEGORIZER_SERVER__PROCESSES": "2",
        "CATEGORIZER_SERVER__MODEL_PROCESS": "true",
        "CATEGORIZER_INFERENCE__STUCK_S": str(STUCK_S),
        "CATEGORIZER_MODELS__SCAN_INTERVAL_S": "0.2",
    }
    running = Up(tmp_path_factory.mktemp("models"), free_port(), variables)
    running.start()
    yield running
    assert running.stop() == 0


def client_of(up: Up) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {up.shown_key()}"}
    return httpx.AsyncClient(base_url=up.url, headers=headers, timeout=30)


async def status_of(up: Up, name: str, *, live: bool = False) -> grpc.StatusCode:
    """Returns how a server process answers `GetLiveness` or `GetReadiness`."""
    address = up.process_of(name).environ()["CATEGORIZER_SERVER__BIND"]
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthServiceStub(channel)
        try:
            if live:
                await stub.GetLiveness(health_pb2.GetLivenessRequest(), timeout=5)
            else:
                await stub.GetReadiness(health_pb2.GetReadinessRequest(), timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def all_are(up: Up, code: grpc.StatusCode, *, live: bool = False) -> bool:
    return [await status_of(up, name, live=live) for name in FRONTS] == [code] * 2


async def own_confidences(content: bytes) -> list[float]:
    """Returns the five highest confidences of the packaged model in this process."""
    settings = ModelSettings(cache_path=EXPORTS)
    loader = Loader(Decoder(LIMITS), InferenceSettings(device="cpu"), settings)
    folder = next(EXPORTS.glob(f"packaged-{FORMAT}/{NAME}/1"))
    manifest = read_manifest(folder)
    runtime, _ = await loader.open_runtime(folder, manifest)
    array = Preprocessor(Decoder(LIMITS), manifest.input).prepare(content).array
    return sorted(runtime.predict([array]).confidences[0].tolist())[:-6:-1]


async def test_both_servers_answer_with_one_model_as_a_single_process_does(up):
    async with client_of(up) as client:
        answers = await asyncio.gather(
            *(client.post(f"{PATH}&top_k=5", content=content) for content in PICTURES * 4)
        )
    assert {answer.status_code for answer in answers} == {200}
    for number, content in enumerate(PICTURES):
        expected = await own_confidences(content)
        for answer in answers[number :: len(PICTURES)]:
            shown = [prediction["confidence"] for prediction in answer.json()["predictions"]]
            assert shown == pytest.approx(expected, abs=1e-6)
    assert (up.data / "logs" / "model-process.log").read_text().count("a model is ready") == 1
    for name in FRONTS:
        maps = {Path(entry.path).name for entry in up.process_of(name).memory_maps()}
        assert any("image-categorizer-slot" in found for found in maps)
        assert not any("libtorch" in found or "onnxruntime" in found for found in maps)
        assert up.process_of(name).cpu_times().user > 0


async def test_when_the_model_process_is_killed_calls_fail_and_all_is_well_again(up):
    before = [up.process_of(name).pid for name in FRONTS]
    outcomes: list[httpx.Response] = []
    is_over = False

    async def ask(client: httpx.AsyncClient) -> None:
        for content in itertools.cycle(PICTURES):
            if is_over:
                return
            outcomes.append(await client.post(PATH, content=content))

    async with client_of(up) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(8)]
        await eventually(lambda: len(outcomes) > 30, READY_S)
        killed = up.process_of(MODEL_PROCESS)
        killed.kill()
        await eventually(lambda: {answer.status_code for answer in outcomes} == {200, 503}, READY_S)
        count = len(outcomes)

        async def is_back() -> bool:
            with suppress(psutil.NoSuchProcess):
                is_new = up.process_of(MODEL_PROCESS).pid != killed.pid
                return is_new and await all_are(up, grpc.StatusCode.OK)
            return False

        await eventually(is_back, READY_S, interval_s=0.2)
        answered = sum(answer.status_code == 200 for answer in outcomes)
        await eventually(
            lambda: sum(answer.status_code == 200 for answer in outcomes) > answered + 30, READY_S
        )
        is_over = True
        await asyncio.gather(*asking)
    assert len(outcomes) > count
    reasons = {
        answer.json()["details"][0]["reason"] for answer in outcomes if answer.status_code != 200
    }
    assert reasons <= {"MODEL_FAILING", "MODEL_LOADING"}, reasons
    assert [up.process_of(name).pid for name in FRONTS] == before


async def test_while_the_model_process_hangs_servers_that_wait_for_it_are_not_live(up):
    process = up.process_of(MODEL_PROCESS)
    async with client_of(up) as client:
        process.suspend()
        try:
            asking = [
                asyncio.create_task(client.post(PATH, content=content)) for content in PICTURES
            ]
            await eventually(partial(all_are, up, grpc.StatusCode.UNAVAILABLE, live=True), READY_S)
        finally:
            process.resume()
        answers = await asyncio.gather(*asking)
        assert {answer.status_code for answer in answers} <= {200, 503, 504}
        await eventually(partial(all_are, up, grpc.StatusCode.OK, live=True), READY_S)
        await eventually(partial(all_are, up, grpc.StatusCode.OK), READY_S)
        assert (await client.post(PATH, content=PICTURES[0])).status_code == 200
    assert up.process_of(MODEL_PROCESS).pid == process.pid
