"""int8 from ranges: the packaged network, and ranges that do not fit."""

import numpy as np
import onnx
import pytest
import safetensors.numpy
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.export import ONNX_FILE
from image_categorizer_server.inference.models.manifest import damage, read_manifest
from image_categorizer_server.inference.models.packaged import NAME
from image_categorizer_server.inference.packaging.efficientnet_lite import (
    installed_weights,
    write_version,
)
from image_categorizer_server.inference.packaging.huggingface import WEIGHTS
from image_categorizer_server.inference.packaging.int8_ranges import (
    activations,
    correct,
    quantize_with_ranges,
    shipped_ranges,
    write_int8_version,
)
from image_categorizer_server.inference.packaging.onnx_graph import is_quantized


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The folder of the packaged fp32 version."""
    folder = tmp_path_factory.mktemp("fp32")
    write_version(NAME, 1, installed_weights(NAME), folder)
    return folder


def made(source, folder):
    folder.mkdir()
    return write_int8_version(source, 2, folder)


def test_the_same_weights_give_the_same_int8_version(source, tmp_path):
    first, second = (made(source, tmp_path / name) for name in ("first", "second"))
    before = read_manifest(source)
    assert first.digest == second.digest != before.digest
    assert damage(tmp_path / "first", first) == ""
    assert first == read_manifest(tmp_path / "first")
    assert (first.version, first.precision, first.architecture) == (2, "int8", "")
    assert (first.input, first.categories) == (before.input, before.categories)
    assert (first.localization, first.cell_offset) == (before.localization, before.cell_offset)
    assert first.quantization == shipped_ranges(NAME).record
    graph = onnx.load_model(tmp_path / "first" / ONNX_FILE)
    assert is_quantized(graph)
    assert [output.name for output in graph.graph.output] == ["confidences", "features"]


def test_the_ranges_are_those_of_the_graph(source):
    ranges = shipped_ranges(NAME).ranges
    assert ranges.keys() == activations(onnx.load_model(source / ONNX_FILE))
    assert all(low < high for low, high in ranges.values())
    assert {ranges[name] for name in ranges if name.startswith("clip")} == {(0.0, 6.0)}


def test_corrections_change_the_biases_that_they_name(source):
    corrections = shipped_ranges(NAME).corrections
    before, after = (onnx.load_model(source / ONNX_FILE) for _ in range(2))
    correct(after, corrections)
    changed = {
        name: onnx.numpy_helper.to_array(new) - onnx.numpy_helper.to_array(old)
        for name, old, new in (
            (node.output[0], tensor(before, node.input[2]), tensor(after, node.input[2]))
            for node in before.graph.node
            if node.op_type in ("Conv", "Gemm")
        )
        if old != new
    }
    assert changed.keys() == corrections.keys()
    assert len(changed) == 17
    for name, shift in changed.items():
        assert shift == pytest.approx(np.array(corrections[name]), abs=1e-5)


def tensor(model, name):
    return next(found for found in model.graph.initializer if found.name == name)


def test_the_shipped_loss_is_small():
    shipped = shipped_ranges(NAME)
    for record in (shipped.record, shipped.held_out):
        assert record.fp32_top_1 - record.int8_top_1 <= 1  # as `quantize` allows
        assert record.fp32_top_5 == record.int8_top_5
    assert shipped.held_out.pictures == shipped.record.pictures - shipped.calibrated_on
    assert str(shipped.record).startswith("int8 is right on 144 of 164 labelled pictures, fp32 on ")


def test_other_weights_are_refused(source, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("manifest.json", ONNX_FILE):
        (other / name).write_bytes((source / name).read_bytes())
    weights = safetensors.numpy.load_file(source / WEIGHTS)
    weights["_fc.bias"] = weights["_fc.bias"] + np.float32(1e-3)
    safetensors.numpy.save_file(weights, other / WEIGHTS)
    with pytest.raises(OperatorError, match="weights of efficientnet_lite0 are not those of its"):
        made(other, tmp_path / "int8")


def test_ranges_of_another_graph_are_refused(source, tmp_path):
    ranges = dict(shipped_ranges(NAME).ranges)
    del ranges["clip_10"]
    with pytest.raises(OperatorError, match="lack clip_10: they are of another graph"):
        quantize_with_ranges(source / ONNX_FILE, tmp_path / ONNX_FILE, ranges, {})
    assert not list(tmp_path.iterdir())


def test_an_int8_graph_that_answers_otherwise_is_refused(source, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for name in ("manifest.json", WEIGHTS):
        (other / name).write_bytes((source / name).read_bytes())
    graph = onnx.load_model(source / ONNX_FILE)
    head = next(t for t in graph.graph.initializer if list(t.dims) == [1000, 1280])
    larger = onnx.numpy_helper.to_array(head) * 20  # takes the logits far out of their range
    head.CopyFrom(onnx.numpy_helper.from_array(larger, head.name))
    onnx.save_model(graph, other / ONNX_FILE)
    with pytest.raises(OperatorError, match="The int8 graph of efficientnet_lite0 differs too"):
        made(other, tmp_path / "int8")
