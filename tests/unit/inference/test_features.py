"""Feature maps of exported networks of every kind, beside those of torch."""

import numpy as np
import pytest
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.inference.images.preprocess import sample_inputs, wide
from image_categorizer_server.inference.models.export import WEIGHTS_FILE, ensure_export, free_size
from image_categorizer_server.inference.models.loader import open_torch
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.models.warmup import find_whole
from image_categorizer_server.inference.runtimes.features import find_features
from image_categorizer_server.inference.runtimes.network import load_network
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.settings.inference import InferenceSettings

from tests.conftest import EXPORTS
from tests.support.tiny_model import write_tiny_model
from tests.unit.conftest import CATEGORIES, add


def configuration(kind):
    """Returns the configuration of a tiny network."""
    from transformers import BeitConfig, ConvNextConfig, SwinConfig, ViTConfig

    tiny = {"id2label": dict(enumerate(CATEGORIES)), "num_labels": len(CATEGORIES)}
    transformer = {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        **tiny,
    }
    windows = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, **tiny}
    stages = {"hidden_sizes": [8, 8], "depths": [1, 1], "num_stages": 2, "patch_size": 4, **tiny}
    match kind:
        case "convnext":
            return ConvNextConfig(**stages)
        case "vit":
            return ViTConfig(**transformer)
        case "swin":
            return SwinConfig(image_size=32, patch_size=4, **windows)
        case "beit":
            return BeitConfig(**transformer)


def write_model(kind, folder):
    """Writes the folder of a tiny network."""
    import torch
    from transformers import AutoModelForImageClassification

    write_tiny_model(folder, CATEGORIES)
    if kind == "resnet":
        return
    torch.manual_seed(0)
    network = AutoModelForImageClassification.from_config(configuration(kind))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network.save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "localization", "shape"),
    [
        ("resnet", Localization.CLASS_ACTIVATION, (16, 4, 4)),
        pytest.param(
            *("convnext", Localization.CLASS_ACTIVATION, (8, 4, 4)), marks=pytest.mark.slow
        ),
        ("vit", Localization.ATTENTION_ROLLOUT, (1, 4, 4)),
        pytest.param(*("beit", Localization.NONE, None), marks=pytest.mark.slow),
    ],
)
async def test_the_features_of_an_export_are_those_of_torch(
    repository, tmp_path, kind, localization, shape
):
    write_model(kind, tmp_path / "source")
    folder = add(repository, tmp_path / "source", kind)
    manifest = read_manifest(folder)
    file, report = await ensure_export(folder, manifest, EXPORTS, 60)
    assert (report.accepted, report.localization) == (True, localization), report.reason
    by_torch, found = open_torch(folder, manifest, "cpu", InferenceSettings())
    by_onnx = OnnxRuntime(file, 1, 1)
    inputs = sample_inputs(manifest.input)
    expected, answer = (
        runtime.predict(inputs, with_features=True) for runtime in (by_torch, by_onnx)
    )
    assert answer.confidences == pytest.approx(expected.confidences, abs=1e-4)
    assert by_onnx.predict(inputs).features is None
    if localization is Localization.NONE:
        assert (found, answer.features, expected.features) == (None, None, None)
        return
    assert answer.features.shape == (len(inputs), *shape)
    assert answer.features == pytest.approx(expected.features, abs=1e-3)
    assert found.localization is localization
    if localization is Localization.CLASS_ACTIVATION:
        logits_but_bias = answer.features.mean((2, 3)) @ np.load(file.parent / WEIGHTS_FILE).T
        log_confidences = np.log(answer.confidences)
        assert found.grid.offset == pytest.approx(report.cell_offset, abs=1e-3)
        bias = log_confidences - logits_but_bias
        bias -= bias.mean(1, keepdims=True)  # softmax ignores what all logits have in common
        assert np.ptp(bias, axis=0).max() < 1e-3
        check_whole(by_onnx, by_torch, manifest.input)
    else:
        assert (found.grid.offset, report.cell_offset) == (0, 0)
        assert (answer.features >= 0).all()
        assert (answer.features.sum((2, 3)) < 1).all()


def check_whole(by_onnx, by_torch, spec):
    """Both runtimes take whole pictures, and answer alike."""
    whole = sample_inputs(wide(spec))[:1]
    assert find_whole(by_onnx, spec) == find_whole(by_torch, spec) == whole[0].nbytes
    answer, expected = (
        runtime.predict(whole, with_features=True) for runtime in (by_onnx, by_torch)
    )
    assert 2 * answer.features.shape[3] == 3 * answer.features.shape[2]
    assert answer.features == pytest.approx(expected.features, abs=1e-3)


async def test_a_graph_that_answers_otherwise_for_whole_pictures_keeps_its_size(tmp_path):
    networks = []
    for seed in (1, 0):
        source = write_tiny_model(tmp_path / str(seed), CATEGORIES, seed)
        folder = add(Repository(tmp_path / f"models-{seed}"), source, "tiny")
        manifest = read_manifest(folder)
        network = load_network(folder, manifest.input, manifest.activation)
        networks.append(find_features(network, sample_inputs(manifest.input), manifest.input))
    other, own = networks
    file, _ = await ensure_export(folder, manifest, tmp_path / "cache", 60)
    before = file.read_bytes()
    assert not free_size(file, other, manifest.input)
    assert file.read_bytes() == before
    assert free_size(file, own, manifest.input)
    assert not file.with_name(f"free_{file.name}").exists()


def test_tokens_with_a_mean_are_a_feature_map_too(repository, tmp_path):
    write_model("swin", tmp_path / "source")
    folder = add(repository, tmp_path / "source", "swin")
    manifest = read_manifest(folder)
    runtime, found = open_torch(folder, manifest, "cpu", InferenceSettings())
    answer = runtime.predict(sample_inputs(manifest.input), with_features=True)
    assert found.localization is Localization.CLASS_ACTIVATION
    assert answer.features.shape[1:] == (16, 4, 4)
    assert find_whole(runtime, manifest.input) == 0
