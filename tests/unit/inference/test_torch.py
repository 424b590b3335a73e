"""The torch runtime on a CPU: precisions and buckets."""

from functools import partial

import numpy as np
import pytest
from image_categorizer_server.inference.images.preprocess import sample_inputs
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.settings.inference import InferenceSettings

from tests.unit.conftest import add


@pytest.fixture
def load(repository, tiny):
    """Returns a new copy of the network at each call."""
    from image_categorizer_server.inference.runtimes.network import load_network

    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    return partial(load_network, folder, manifest.input, manifest.activation)


@pytest.fixture
def spec(repository, tiny):
    return read_manifest(add(repository, tiny)).input


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_lower_precision_answers_nearly_the_same(load, spec, precision):
    from image_categorizer_server.inference.runtimes.torch import TorchRuntime

    inputs = sample_inputs(spec)
    expected = TorchRuntime(load(), "cpu").predict(inputs).confidences
    runtime = TorchRuntime(load(), "cpu", precision)
    confidences = runtime.predict(inputs).confidences
    assert runtime.precision == precision
    assert confidences.dtype == np.float32
    assert 0 < np.abs(confidences - expected).max() < 1e-2


def test_micro_batches_in_buckets_answer_as_without(load, spec):
    from image_categorizer_server.inference.runtimes.torch import TorchRuntime, buckets_up_to

    plain, padded = (TorchRuntime(load(), "cpu") for _ in range(2))
    padded.use_buckets(buckets_up_to(6), spec)
    random = np.random.default_rng(0)
    for size in (6, 1, 5, 2, 3, 4, 7, 1):  # data left by a larger one has no effect
        inputs = list(random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8))
        answer = padded.predict(inputs)
        assert answer.confidences.shape == (size, 3)
        assert answer.confidences == pytest.approx(plain.predict(inputs).confidences, abs=1e-6)


def test_an_answer_stays_when_its_bucket_is_used_again(load, spec):
    from image_categorizer_server.inference.runtimes.torch import TorchRuntime

    runtime = TorchRuntime(load(), "cpu")
    runtime.use_buckets([2], spec)
    noise, *_, flat = sample_inputs(spec)
    first = runtime.predict([noise]).confidences
    kept = first.copy()
    runtime.predict([flat])
    assert (first == kept).all()


def test_features_are_float32_in_any_precision(load, spec):
    from image_categorizer_server.inference.runtimes.torch import open_runtime

    inputs = sample_inputs(spec)
    full, half = (open_runtime(load, "cpu", [p], inputs, spec) for p in ("fp32", "fp16"))
    expected, features = (r.predict(inputs, with_features=True).features for r in (full, half))
    assert (features.dtype, features.shape) == (np.float32, (len(inputs), 16, 4, 4))
    assert features == pytest.approx(expected, abs=2e-2)


def test_a_precision_with_different_answers_is_skipped(load, spec, monkeypatch):
    from image_categorizer_server.inference.runtimes import torch

    inputs = sample_inputs(spec)
    assert torch.open_runtime(load, "cpu", ["bf16", "fp32"], inputs, spec).precision == "bf16"
    monkeypatch.setattr(torch, "MAX_DIFFERENCE", 1e-6)
    runtime = torch.open_runtime(load, "cpu", ["bf16", "fp32"], inputs, spec)
    assert runtime.precision == "fp32"
    # A precision that the setting requires is used, and the difference is logged.
    assert torch.open_runtime(load, "cpu", ["bf16"], inputs, spec).precision == "bf16"


def test_precisions_follow_setting_and_device():
    from image_categorizer_server.inference.runtimes.torch import precisions_for

    assert precisions_for("auto", "cpu") == ["fp32"]
    assert precisions_for("bf16", "cpu") == precisions_for("bf16", "cuda") == ["bf16"]


@pytest.mark.parametrize(
    ("max_size", "sizes"),
    [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])],
)
def test_buckets_double_up_to_the_largest(max_size, sizes):
    from image_categorizer_server.inference.runtimes.torch import buckets_up_to

    assert buckets_up_to(max_size) == sizes


def test_the_largest_micro_batch_follows_setting_and_device():
    assert InferenceSettings().micro_batch_limit("cpu") == 16
    assert InferenceSettings().micro_batch_limit("cuda") == 64
    assert InferenceSettings(max_micro_batch_size=5).micro_batch_limit("cuda") == 5
