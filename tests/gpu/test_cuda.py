"""The torch runtime on a GPU; skipped without one."""

import asyncio
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import sample_inputs
from image_categorizer_server.inference.model_process.host import ModelHost
from image_categorizer_server.inference.models.loader import Loader, open_torch
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.models.warmup import warm_up
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.settings.inference import InferenceSettings
from image_categorizer_server.settings.model import ModelSettings
from image_categorizer_server.tasks import TaskOwner

from tests.gpu.decode import LIMITS
from tests.support.tiny_model import write_tiny_model

torch = pytest.importorskip("torch")
pytestmark = [
    # CUDA graphs and page-locked memory cannot be replaced by a double.  The CPU path of the same
    # runtime is tested in tests/unit/inference/test_torch.py.
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def tiny(tmp_path):
    """(folder, manifest) of a tiny network."""
    source = write_tiny_model(tmp_path / "source", ["ant", "bee", "cat"])
    return added(Repository(tmp_path / "models"), source, "tiny")


def added(repository, source, name):
    with repository.incoming() as incoming:
        manifest = copy_model(source, incoming, Labels(name, 1))
        folder = repository.publish(incoming, manifest)
    return folder, read_manifest(folder)


def opened(model, device, **settings):
    folder, manifest = model
    return open_torch(folder, manifest, device, InferenceSettings(**settings))


def test_a_gpu_answers_like_a_cpu_in_every_size(tiny):
    by_cpu, _ = opened(tiny, "cpu")
    by_gpu, _ = opened(tiny, "cuda", max_micro_batch_size=8, precision="fp32")
    assert len(by_gpu._buckets) == 4
    random = np.random.default_rng(0)
    for size in (8, 1, 5, 3, 9, 1):
        inputs = list(random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8))
        expected, answer = (runtime.predict(inputs) for runtime in (by_cpu, by_gpu))
        assert answer.confidences == pytest.approx(expected.confidences, abs=1e-3)


def test_auto_computes_in_16_bits_and_answers_nearly_the_same(tiny):
    by_cpu, _ = opened(tiny, "cpu")
    by_gpu, _ = opened(tiny, "cuda")
    inputs = sample_inputs(tiny[1].input)
    assert by_gpu.precision in ("bf16", "fp16")
    assert by_gpu.predict(inputs).confidences == pytest.approx(
        by_cpu.predict(inputs).confidences, abs=2e-2
    )


def test_a_gpu_locates_categories_too(tiny):
    by_cpu, _ = opened(tiny, "cpu")
    by_gpu, found = opened(tiny, "cuda", precision="fp32")
    inputs = sample_inputs(tiny[1].input)
    expected, answer = (r.predict(inputs, with_features=True) for r in (by_cpu, by_gpu))
    assert answer.features == pytest.approx(expected.features, abs=2e-2)
    assert len(found.boxes(found.maps(answer.features[0], [0, 2]), (64, 64))) == 2


async def test_a_model_is_recorded_while_another_answers(tiny):
    busy, _ = opened(tiny, "cuda", max_micro_batch_size=4)
    inputs = sample_inputs(tiny[1].input)[:4]
    expected = busy.predict(inputs).confidences
    loading = asyncio.create_task(asyncio.to_thread(partial(opened, tiny, "cuda")))
    while not loading.done():
        answer = await asyncio.to_thread(busy.predict, inputs)
        assert (answer.confidences == expected).all()
    runtime, _ = await loading
    assert len(runtime._buckets) == 7


async def test_a_model_process_with_a_gpu_answers_several_server_processes(tiny, tmp_path):
    folder, manifest = tiny
    address, stop = str(tmp_path / "models.sock"), asyncio.Event()

    def loader(**settings):
        inference = InferenceSettings(max_micro_batch_size=8, device="cuda", **settings)
        return Loader(Decoder(LIMITS), inference, ModelSettings())

    host = ModelHost(loader(), max_loads=1, stuck_s=60)
    async with TaskOwner() as tasks:
        serving = tasks.start(host.serve(address, stop), "host")
        models = [await loader(model_socket=address).load(folder, manifest) for _ in range(2)]
        by_cpu, _ = opened(tiny, "cpu")
        random = np.random.default_rng(0)
        for size in (1, 3, 8):
            inputs = list(random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8))
            expected = by_cpu.predict(inputs).confidences
            asked = [asyncio.to_thread(model.runtime.predict, inputs) for model in models]
            for answer in await asyncio.gather(*asked):
                assert answer.confidences == pytest.approx(expected, abs=2e-2)
        for model in models:
            assert model.runtime.device == "cuda"
            await model.batcher.stop()
            model.close()
        stop.set()
        await serving


@pytest.mark.parametrize("name", ["mobilenet_v2", "deit_tiny"])
def test_trained_models_answer_like_on_a_cpu(test_data: Path, tmp_path, name):
    model = added(Repository(tmp_path / "models"), test_data / "models" / name, name)
    by_cpu, _ = opened(model, "cpu")
    by_gpu, _ = opened(model, "cuda", max_micro_batch_size=16)
    inputs = sample_inputs(model[1].input)
    assert by_gpu.predict(inputs).confidences == pytest.approx(
        by_cpu.predict(inputs).confidences, abs=2e-2
    )
    size, _ = warm_up(by_gpu, model[1], 16)
    assert size >= 8
