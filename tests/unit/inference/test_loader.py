"""Loading a version from the repository: export, warm-up, device."""

import os
import time

import numpy as np
import pytest
from image_categorizer_server.domain.classification import Caller, ClassifyOptions, Lane
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.classifier import request_for
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.models.export import ensure_export, export_folder
from image_categorizer_server.inference.models.loader import Loader, choose_device
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.warmup import warm_up
from image_categorizer_server.inference.runtimes import Answer
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from PIL import Image

from tests.conftest import EXPORTS
from tests.support.pictures import encoded
from tests.support.polling import wait_until
from tests.unit.conftest import LIMITS, add


async def test_an_export_answers_like_torch_and_is_made_once(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    file, report = await ensure_export(folder, manifest, tmp_path / "cache", 60)
    assert (report.accepted, report.max_difference < 1e-5) == (True, True)
    stamp = file.stat().st_mtime_ns
    again, _ = await ensure_export(folder, manifest, tmp_path / "cache", 60)
    assert (again, again.stat().st_mtime_ns) == (file, stamp)
    warm_up(OnnxRuntime(file, 1, 1), manifest, 4)


async def test_only_boxes_ask_for_the_whole_picture_and_its_memory_is_counted(
    loader, repository, tiny
):
    folder = add(repository, tiny)
    model = await loader.load(folder, read_manifest(folder))
    caller = Caller("", Lane.INTERACTIVE, time.monotonic() + 5)
    content = encoded(Image.new("RGB", (64, 64)), "PNG")
    plain, explained, boxed = (
        request_for(model, content, options, caller, lambda _: [])
        for options in (
            ClassifyOptions(),
            ClassifyOptions(explain=True),
            ClassifyOptions(bounding_boxes=True),
        )
    )
    assert (plain.with_whole, explained.with_whole, boxed.with_whole) == (False, False, True)
    assert explained.prepare().whole is None
    assert boxed.prepare().whole.shape == (64, 64, 3)
    assert boxed.size_bytes == len(content) + model.whole_bytes == len(content) + 3 * 96 * 64
    await model.batcher.stop()


async def test_an_export_of_a_damaged_model_says_why(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    (folder / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(OperatorError, match="cannot be loaded"):
        await ensure_export(folder, manifest, tmp_path / "cache", 60)
    assert not export_folder(tmp_path / "cache", manifest.digest).exists()


async def test_an_export_that_takes_too_long_is_stopped(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    with pytest.raises(OperatorError, match=r"longer than 0\.1 s"):
        await ensure_export(folder, read_manifest(folder), tmp_path / "cache", 0.1)


async def test_torch_serves_a_model_with_a_rejected_export(repository, tiny, tmp_path):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    file, report = await ensure_export(folder, manifest, EXPORTS, 60)
    by_onnx = OnnxRuntime(file, 1, 1)
    refused = export_folder(tmp_path / "cache", manifest.digest)
    refused.mkdir(parents=True)
    rejected = report.model_copy(update={"accepted": False, "reason": "confidences differ"})
    (refused / "report.json").write_text(rejected.model_dump_json())
    models = ModelSettings(cache_path=tmp_path / "cache")
    loader = Loader(Decoder(LIMITS), InferenceSettings(max_micro_batch_size=2), models)
    model = await loader.load(folder, manifest)
    assert (model.runtime.name, model.runtime.device) == ("torch", "cpu")
    inputs = [np.full((32, 32, 3), value, np.uint8) for value in (0, 99)]
    assert model.runtime.predict(inputs).confidences == pytest.approx(
        by_onnx.predict(inputs).confidences, abs=1e-5
    )
    await model.batcher.stop()


class Broken:
    """A runtime whose answers do not fit the manifest."""

    name, device, runners = "broken", "cpu", 1

    def __init__(self, answer):
        self._answer = answer

    precision = "fp32"

    def predict(self, inputs, *, with_features=False):
        if isinstance(self._answer, Exception):
            raise self._answer
        categories = 2 if self._answer == 0 else 3
        return Answer(np.full((len(inputs), categories), self._answer, np.float32))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (RuntimeError("no memory"), "failed: no memory"),
        (0, r"has shape \(1, 2\)"),
        (np.nan, "outside"),
        (2.0, "outside"),
    ],
)
def test_a_failed_warm_up_refuses_the_model(repository, tiny, answer, words):
    manifest = read_manifest(add(repository, tiny))
    with pytest.raises(OperatorError, match=words):
        warm_up(Broken(answer), manifest, 2)


class Timed:
    """A runtime whose images cost more once they no longer fit into the caches."""

    name, device, runners = "timed", "cpu", 1

    def __init__(self, call_s, image_s, cached_images):
        self._call_s, self._image_s, self._cached_images = call_s, image_s, cached_images

    precision = "fp32"

    def predict(self, inputs, *, with_features=False):
        slower = 1 if len(inputs) <= self._cached_images else 2
        end_s = time.perf_counter() + self._call_s + self._image_s * len(inputs) * slower
        wait_until(lambda: time.perf_counter() >= end_s, interval_s=0.0005)
        return Answer(np.full((len(inputs), 3), 1 / 3, np.float32))


@pytest.mark.parametrize(
    ("call_s", "image_s", "cached_images", "best"),
    [(0.03, 0, 8, 8), (0, 0.01, 2, 2), (0, 0.01, 0, 8)],
)
def test_warm_up_finds_the_size_with_the_highest_throughput(
    repository, tiny, call_s, image_s, cached_images, best
):
    manifest = read_manifest(add(repository, tiny))
    size, table = warm_up(Timed(call_s, image_s, cached_images), manifest, 8)
    assert size == best
    assert table.estimate_s(8) > 0.9 * table.estimate_s(1)


class Watched(Timed):
    """Notes the size of each call."""

    def __init__(self, *times):
        super().__init__(*times)
        self.sizes = set()

    def predict(self, inputs, *, with_features=False):
        self.sizes.add(len(inputs))
        return super().predict(inputs)


def test_warm_up_stops_where_larger_micro_batches_only_get_slower(repository, tiny):
    runtime = Watched(0, 0.005, 2)
    size, _ = warm_up(runtime, read_manifest(add(repository, tiny)), 64)
    assert (size, runtime.sizes) == (2, {1, 2, 3, 4, 6})


def test_a_missing_gpu_is_an_error_only_if_it_is_required():
    assert choose_device("cpu") == "cpu"
    if not os.path.exists("/dev/nvidiactl"):  # noqa: PTH110
        assert choose_device("auto") == "cpu"
        with pytest.raises(OperatorError, match="torch finds no GPU"):
            choose_device("cuda")
