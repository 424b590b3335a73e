"""An embedding is what the last layer reads: with that layer's weights it gives the logits."""

import json

import numpy as np
import pytest
from image_categorizer import InvalidRequest
from image_categorizer_server.inference.embedding import embedding_of, pooled
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.preprocess import Preprocessor, sample_inputs
from image_categorizer_server.inference.models.export import (
    ONNX_FILE,
    WEIGHTS_FILE,
    ensure_export,
)
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.packaged import multiplies_int8
from image_categorizer_server.inference.models.repository import Repository
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.inference.packaging.int8_ranges import write_int8_version
from image_categorizer_server.inference.runtimes.features import find_features
from image_categorizer_server.inference.runtimes.network import load_network
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.inference.runtimes.torch import TorchRuntime

from tests.conftest import EXPORTS
from tests.integration.conftest import running_server
from tests.support.pictures import jpeg
from tests.unit.conftest import LIMITS

pytestmark = pytest.mark.timeout(300)
LITE0 = "efficientnet_lite0"


@pytest.fixture(scope="module")
def photographs(test_data):
    folder = test_data / "images" / "labelled"
    entries = json.loads((folder / "validation_set.json").read_text())["images"]
    return [(folder / entry["file"]).read_bytes() for entry in entries[::20]]


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite0")
    write_version(LITE0, 1, installed_weights(LITE0), folder)
    return folder


def network_of(folder):
    """The network of a folder in torch, and its last layer."""
    import torch

    manifest = read_manifest(folder)
    architecture = manifest.architecture
    network = load_network(folder, manifest.input, manifest.activation, architecture)
    layers = [m for m in network.body.modules() if isinstance(m, torch.nn.Linear)]
    return network, layers[-1]


def check_logits(runtime, folder, head, photographs, tolerance):
    """Compares what the last layer makes of the features with the confidences of the model."""
    preprocessor = Preprocessor(Decoder(LIMITS), read_manifest(folder).input)
    answer = runtime.predict(
        [preprocessor.prepare(content).array for content in photographs], with_features=True
    )
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    for features, confidences in zip(answer.features, answer.confidences, strict=True):
        mean, embedding = pooled(features), embedding_of(features)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
        logits = weight @ (embedding * np.linalg.norm(mean)) + bias
        exact = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        assert exact == pytest.approx(confidences, abs=tolerance)
        assert exact.argmax() == confidences.argmax()


async def test_the_packaged_model_embeds_what_its_last_layer_reads(lite0, photographs):
    manifest = read_manifest(lite0)
    file, _ = await ensure_export(lite0, manifest, EXPORTS, 300)
    _, head = network_of(lite0)
    check_logits(OnnxRuntime(file, 0, 1), lite0, head, photographs, 1e-4)
    assert np.load(file.parent / WEIGHTS_FILE).shape == (1000, 1280) == tuple(head.weight.shape)


@pytest.mark.skipif(not multiplies_int8(), reason="this processor has neither VNNI nor AMX")
def test_the_int8_version_embeds_nearly_what_its_last_layer_reads(lite0, photographs, tmp_path):
    write_int8_version(lite0, 2, tmp_path)
    _, head = network_of(lite0)
    check_logits(OnnxRuntime(tmp_path / ONNX_FILE, 0, 1), lite0, head, photographs, 0.05)


def test_a_network_in_torch_embeds_what_its_last_layer_reads(test_data, photographs, tmp_path):
    with Repository(tmp_path).incoming() as folder:
        manifest = copy_model(
            test_data / "models" / "mobilenet_v2", folder, Labels("mobilenet_v2", 1)
        )
        (folder / "manifest.json").write_text(manifest.model_dump_json())
        network, head = network_of(folder)
        located = find_features(network, sample_inputs(manifest.input), manifest.input)
        runtime = TorchRuntime(network, "cpu", located=located)
        check_logits(runtime, folder, head, photographs, 1e-4)


@pytest.mark.slow  # exports a network
async def test_a_transformer_makes_no_embeddings(test_data, settings):
    repository = Repository(settings.model_path)
    with repository.incoming() as incoming:
        source = test_data / "models" / "deit_tiny"
        repository.publish(incoming, copy_model(source, incoming, Labels("deit_tiny", 1)))
    async with running_server(settings) as server, await server.client() as client:
        with pytest.raises(InvalidRequest, match="'deit_tiny' makes no embeddings: it is a"):
            await client.embed(jpeg(), model="deit_tiny")
        answer = await client.classify_image(jpeg(), model="deit_tiny", store=True)
        assert answer.image_id
        with pytest.raises(InvalidRequest, match="'deit_tiny' makes no embeddings"):
            await client.images.similar(answer.image_id, model="deit_tiny")
