"""Models in the model process: answers, loads, ends, and what server processes do then."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import numpy as np
import pytest
from image_categorizer_server.domain.model import Localization, ModelState
from image_categorizer_server.errors import ModelFailing, OperatorError
from image_categorizer_server.inference.engine.guard import Guard
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import (
    InputSpec,
    largest_whole_bytes,
    sample_inputs,
    whole_size,
)
from image_categorizer_server.inference.model_process.host import ModelHost
from image_categorizer_server.inference.models.loader import Loader, hello_for
from image_categorizer_server.inference.models.manifest import MANIFEST_FILE, read_manifest
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.runtimes import Answer, RuntimeLost
from image_categorizer_server.inference.runtimes.fake import FAKE_MODELS, FakeTimes
from image_categorizer_server.inference.runtimes.remote import open_remote
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.tasks import TaskOwner

from tests.conftest import EXPORTS
from tests.support.batching import image
from tests.support.pictures import encoded
from tests.support.polling import eventually
from tests.support.registries import running, state
from tests.support.square_detector import ULTRALYTICS, picture_of, write_square_detector
from tests.unit.conftest import LIMITS, add
from tests.unit.inference.test_onnx import add_onnx

QUICK = FakeTimes(call_ms=0, image_ms=0, raw=True)
HANGING = FakeTimes(call_ms=5000, image_ms=0, raw=True)


def loader_of(times=None, **settings):
    models = ModelSettings(cache_path=EXPORTS, export_timeout_s=60)
    inference = InferenceSettings(max_micro_batch_size=4, device="cpu", **settings)
    return Loader(Decoder(LIMITS), inference, models, times)


class Process:
    """A model process that tests stop and start again."""

    def __init__(self, address, times=None, stuck_s=20.0):
        self.address = address
        self._times = times
        self._stuck_s = stuck_s
        self._stop = asyncio.Event()
        self._tasks = TaskOwner()

    def start(self):
        self._stop.clear()
        loader = loader_of(self._times)
        self.host = ModelHost(loader, max_loads=2, stuck_s=self._stuck_s)
        self.serving = self._tasks.start(self.host.serve(self.address, self._stop), "host")

    async def stop(self):
        self._stop.set()
        await asyncio.wait({self.serving})

    def front(self, times=None, **settings):
        """Returns the loader of a server process."""
        return loader_of(times or self._times, model_socket=self.address, **settings)


@asynccontextmanager
async def process(tmp_path, **options):
    process = Process(str(tmp_path / "models.sock"), **options)
    process.start()
    yield process
    await process.stop()


@asynccontextmanager
async def loaded(loader, folder):
    """Yields a model, and ends it as the registry does."""
    model = await loader.load(folder, read_manifest(folder))
    yield model
    await model.batcher.stop()
    model.close()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
async def test_answers_are_those_of_a_single_process(repository, tiny, tmp_path, temperature):
    folder = add(repository, tiny)
    manifest = read_manifest(folder).model_copy(update={"temperature": temperature})
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())
    spec = manifest.input
    whole = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    async with (
        process(tmp_path) as models,
        loaded(loader_of(), folder) as own,
        loaded(models.front(), folder) as other,
    ):
        assert (other.runtime.name, other.runtime.device) == ("onnx", "cpu")
        assert other.whole_bytes == own.whole_bytes > 0
        calls = [(sample_inputs(spec)[:4], False), (sample_inputs(spec)[:3], True), ([whole], True)]
        for inputs, with_features in calls:
            expected, answer = [
                await asyncio.to_thread(model.runtime.predict, inputs, with_features=with_features)
                for model in (own, other)
            ]
            assert answer.confidences == pytest.approx(expected.confidences, abs=1e-6)
            if with_features:
                assert answer.features == pytest.approx(expected.features, abs=1e-5)
            else:
                assert answer.features is None
            if temperature == 1:
                assert answer.raw_confidences is None
            else:
                raw = expected.raw_confidences
                assert answer.raw_confidences == pytest.approx(raw, abs=1e-6)
        ours, theirs = own.localizer, other.localizer
        assert (theirs.category_weights == ours.category_weights).all()
        assert theirs.grid == ours.grid


async def test_a_detector_answers_boxes_through_the_model_process(repository, tmp_path):
    file = write_square_detector(tmp_path / "squares", "columns", ULTRALYTICS)
    folder, _ = add_onnx(repository, file)
    red = 60, 40, 140, 120
    content = encoded(picture_of((300, 200), red=red), "PNG")
    async with process(tmp_path) as models, loaded(models.front(), folder) as model:
        assert model.localizer.localization is Localization.DETECTION
        assert model.features_bytes > 0
        seen = model.preprocessor.prepare(content).array
        answer = await asyncio.to_thread(model.runtime.predict, [seen] * 3, with_features=True)
        assert len(answer.features) == 3
        for features in answer.features:
            (box, *_) = model.localizer.boxes(features, 0, (300, 200), 0.5)
            assert box == pytest.approx(red, abs=6)


async def test_a_model_is_loaded_once_and_unloaded_after_its_last_user(
    repository, tiny, tmp_path, caplog
):
    folder = add(repository, tiny)

    def logged(event):
        return sum(event in record.getMessage() for record in caplog.records)

    async with process(tmp_path) as models:
        async with loaded(models.front(), folder), loaded(models.front(), folder):
            assert logged("a model is ready") == 1
        await eventually(lambda: not models.host._mergers)
        async with loaded(models.front(), folder):
            assert logged("a model is ready") == 2


async def test_a_model_that_fails_on_everything_is_loaded_afresh(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    async with process(tmp_path) as models:
        async with loaded(models.front(), folder) as model:
            (before,) = models.host._mergers
            model.runtime.report_broken()
            async with loaded(models.front(), folder):
                assert len(models.host._mergers) == 2
        await eventually(lambda: not models.host._mergers)
    assert not before.busy_s()


async def test_a_changed_manifest_or_a_folder_that_is_gone_fails_the_load(
    repository, tiny, tmp_path
):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    async with process(tmp_path) as models:
        for hello, words in (
            (hello_for(folder, manifest.model_copy(update={"temperature": 3.0})), "changed"),
            (hello_for(tmp_path / "nowhere", manifest), "does not contain a model"),
        ):
            with pytest.raises(OperatorError, match=words):
                await open_remote(models.address, hello, load_s=30, call_s=1)
        async with loaded(models.front(), folder):
            pass


async def test_without_a_model_process_a_load_waits_for_it_and_then_fails(tmp_path, tiny):
    folder = add(Repository(tmp_path / "models"), tiny)
    hello = hello_for(folder, read_manifest(folder))
    address = str(tmp_path / "models.sock")
    with pytest.raises(OperatorError, match=r"within 0\.3 s"):
        await open_remote(address, hello, load_s=0.3, call_s=1)
    models = Process(address)
    waiting = asyncio.create_task(open_remote(address, hello, load_s=60, call_s=1))
    await eventually(lambda: not waiting.done())
    models.start()
    opened = await waiting
    opened.runtime.close()
    await models.stop()


async def test_a_model_during_whose_load_the_process_ends_again_and_again_fails(tmp_path, tiny):
    folder = add(Repository(tmp_path / "models"), tiny)
    address = str(tmp_path / "models.sock")
    with seqpacket_listener(address) as listener:
        ending = asyncio.create_task(end_each(listener))
        with pytest.raises(OperatorError, match="ended 3 times"):
            await open_remote(
                address, hello_for(folder, read_manifest(folder)), load_s=30, call_s=1
            )
        ending.cancel()


def seqpacket_listener(address):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    listener.setblocking(False)
    return listener


async def end_each(listener):
    """Closes each connection once something has arrived."""
    loop = asyncio.get_running_loop()
    while True:
        link, _ = await loop.sock_accept(listener)
        with link:
            await loop.sock_recv(link, 1000)


async def test_when_the_model_process_ends_waiting_calls_fail_and_the_registry_recovers(tmp_path):
    async with process(tmp_path, times=FakeTimes(300, 0, True)) as models:
        repository = Repository(tmp_path / "models", [FAKE_MODELS])
        async with running(repository, models.front(), "fake", scan_interval_s=0.05) as registry:
            with registry.using("fake", None) as model:
                asked = [
                    asyncio.create_task(model.batcher.submit(image(n, in_s=60))) for n in range(9)
                ]
                await eventually(lambda: model.batcher.longest_busy_s() > 0)
                start_s = time.monotonic()
                await models.stop()
                outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert any(isinstance(outcome, ModelFailing) for outcome in outcomes)
            await eventually(lambda: state(registry, "fake", 1) is ModelState.LOADING)
            assert not registry.is_ready
            models.start()
            await eventually(lambda: registry.is_ready)
            assert time.monotonic() - start_s < 20
            with registry.using("fake", None) as model:
                assert (await model.batcher.submit(image(1, in_s=60))).confidences.shape == (10,)


async def test_an_idle_server_process_notices_the_end_too(tmp_path):
    async with process(tmp_path, times=QUICK) as models:
        repository = Repository(tmp_path / "models", [FAKE_MODELS])
        async with running(repository, models.front(), "fake", scan_interval_s=0.05) as registry:
            await models.stop()
            await eventually(lambda: not registry.is_ready)
            models.start()
            await eventually(lambda: registry.is_ready)


async def test_a_call_that_hangs_ends_the_model_process_which_says_why(tmp_path):
    models = Process(str(tmp_path / "models.sock"), times=HANGING, stuck_s=0.2)
    models.start()
    repository = Repository(tmp_path / "models", [FAKE_MODELS])
    front = models.front(stuck_s=30)
    async with running(repository, front, "fake") as registry:
        with registry.using("fake", None) as model, pytest.raises(ModelFailing):
            await model.batcher.submit(image(1, in_s=60))
        await asyncio.wait({models.serving})
    assert str(models.serving.exception()) == "A model call does not end."


def test_a_runtime_that_is_lost_while_an_image_is_isolated_blames_no_image():
    calls = []

    def predict(inputs, with_features):
        calls.append(len(inputs))
        if len(calls) == 1:
            raise RuntimeError("cannot")
        if len(calls) > 2:
            raise RuntimeLost("gone")
        return Answer(np.ones((len(inputs), 1), np.float32))

    reports = []
    guard = Guard(predict, 4, on_broken=lambda: reports.append("broken"))
    results = guard.run([np.zeros((2, 2, 3), np.uint8)] * 2, False)
    assert [type(result) for result in results] == [ModelFailing] * 2
    assert guard.is_broken
    assert reports


@pytest.mark.parametrize("side_px", [16, 32, 224, 299])
def test_no_whole_picture_is_larger_than_the_bound(side_px):
    spec = InputSpec(
        width_px=side_px,
        height_px=side_px,
        resize="exact",
        resample="bilinear",
        scale=(1, 1, 1),
        bias=(0, 0, 0),
    )
    bound = largest_whole_bytes(spec)
    random = np.random.default_rng(0)
    sizes = [whole_size(*pair, spec) for pair in random.integers(1, 4000, (4000, 2)).tolist()]
    largest = max(3 * width * height for width, height in sizes)
    assert largest <= bound <= 2 * largest
