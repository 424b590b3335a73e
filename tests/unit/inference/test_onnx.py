"""ONNX files as models: what is served, what is assumed, what is refused."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.export import ensure_export
from image_categorizer_server.inference.models.manifest import damage, read_manifest
from image_categorizer_server.inference.models.warmup import warm_up
from image_categorizer_server.inference.packaging.huggingface import Labels
from image_categorizer_server.inference.packaging.onnx import copy_onnx, onnx_file
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from onnx import TensorProto, helper

from tests.support.tiny_model import CARD
from tests.support.tiny_onnx import SIDE_PX, TinyGraph, write_tiny_onnx
from tests.unit.conftest import CATEGORIES

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
INPUTS = list(np.random.default_rng(1).integers(0, 256, (3, SIDE_PX, SIDE_PX, 3)).astype(np.uint8))


def add_onnx(repository, file, given=None, **labels):
    with repository.incoming() as incoming:
        described = Labels("mine", repository.latest("mine") + 1, **labels)
        manifest, summary = copy_onnx(file, incoming, described, given or Preprocessing())
        return repository.publish(incoming, manifest), summary


def served(folder):
    """Returns the version's answer to INPUTS, and its manifest."""
    manifest = read_manifest(folder)
    runtime = OnnxRuntime(folder / "model.onnx", 1, 1)
    warm_up(runtime, manifest, 2)
    return runtime.predict(INPUTS).confidences, manifest


def logits(file):
    """Returns the file's own answer to INPUTS, scaled by hand, one at a time."""
    session = onnxruntime.InferenceSession(file)
    name = session.get_inputs()[0].name
    scaled = [((x / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32) for x in INPUTS]
    return np.concatenate([session.run(None, {name: x})[0] for x in scaled])


def softmax(numbers):
    powers = np.exp(numbers - numbers.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_an_onnx_file_and_its_labels_become_a_version(repository, tmp_path):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    folder, summary = add_onnx(repository, file, licence="MIT")
    confidences, manifest = served(folder)
    assert confidences == pytest.approx(softmax(logits(file)), abs=1e-5)
    assert (manifest.format, manifest.precision, manifest.activation) == ("onnx", "fp32", "softmax")
    assert [entry.name for entry in manifest.categories] == CATEGORIES
    assert (manifest.licence, manifest.origin) == ("MIT", "model.onnx")
    assert (manifest.input.resize, manifest.input.resize_px) == ("shortest_edge", 18)
    lines = summary.splitlines()
    assert lines[:2] == [
        f"Labels of {tmp_path}/source/labels.txt: 'ant', 'bee', 'cat'.",
        (
            "No preprocessor_config.json, so: shortest edge to 18, centre 16 x 16, bilinear; "
            "mean 0.485 0.456 0.406, std 0.229 0.224 0.225."
        ),
    ]
    assert lines[2].endswith(
        ": softmax is added (--activation sigmoid if a picture may have several labels)."
    )
    assert lines[3].startswith("Self-test on 6 pictures: 6 have the same first category as with")
    assert len(lines) == 4 + 6
    assert damage(folder, manifest) == ""


async def test_an_onnx_version_needs_no_export(repository, tmp_path):
    folder, _ = add_onnx(repository, write_tiny_onnx(tmp_path / "source", CATEGORIES))
    file, report = await ensure_export(folder, read_manifest(folder), tmp_path / "cache", 1)
    assert (file, report.accepted) == (folder / "model.onnx", True)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "graph",
    [
        {"shape": (1, 3, SIDE_PX, SIDE_PX)},
        {"shape": (4, 3, SIDE_PX, SIDE_PX)},
        {"shape": (1, 3, SIDE_PX, SIDE_PX), "reshape_to": 1},
        {"names": ("input", "confidences")},
        {"opset": 9},
        {"shape": (1, 3, SIDE_PX, SIDE_PX), "fix_rows": True},
    ],
    ids=[
        "batch of 1",
        "batch of 4",
        "reshape to a batch of 1",
        "names as ours",
        "opset 9",
        "only one picture at a time",
    ],
)
def test_common_graphs_are_served_in_any_batch_size(repository, tmp_path, graph):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, TinyGraph(**graph))
    plain = write_tiny_onnx(tmp_path / "plain", CATEGORIES)
    confidences, _ = served(add_onnx(repository, file)[0])
    assert confidences == pytest.approx(softmax(logits(plain)), abs=1e-5)


def test_channels_may_come_last_and_halves_are_served_as_floats(repository, tmp_path):
    expected = softmax(logits(write_tiny_onnx(tmp_path / "plain", CATEGORIES)))
    shape = ("n", SIDE_PX, SIDE_PX, 3)
    last = write_tiny_onnx(tmp_path / "last", CATEGORIES, TinyGraph(shape=shape))
    assert served(add_onnx(repository, last)[0])[0] == pytest.approx(expected, abs=1e-5)
    half = write_tiny_onnx(tmp_path / "half", CATEGORIES, TinyGraph(element=TensorProto.FLOAT16))
    assert served(add_onnx(repository, half)[0])[0] == pytest.approx(expected, abs=0.01)


def test_a_graph_that_takes_bytes_is_not_scaled(repository, tmp_path):
    bytes_in = {"shape": ("n", SIDE_PX, SIDE_PX, 3), "element": TensorProto.UINT8}
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, TinyGraph(**bytes_in))
    folder, summary = add_onnx(repository, file)
    confidences, manifest = served(folder)
    assert manifest.input.scale == (1, 1, 1)
    assert "bytes without scaling" in summary
    session = onnxruntime.InferenceSession(file)
    theirs = session.run(None, {"pixel_values": np.stack(INPUTS)})[0]
    assert confidences == pytest.approx(softmax(theirs), abs=1e-5)
    with pytest.raises(OperatorError, match="omit --mean"):
        add_onnx(repository, file, Preprocessing(mean=(0, 0, 0)))


@pytest.mark.parametrize(
    ("last", "given", "activation"),
    [
        ("Softmax", None, "softmax"),
        ("Sigmoid", None, "sigmoid"),
        ("", "sigmoid", "sigmoid"),
        ("Sigmoid", "sigmoid", "sigmoid"),
    ],
)
def test_confidences_are_unchanged_and_logits_are_activated(
    repository, tmp_path, last, given, activation
):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, TinyGraph(last=last))
    confidences, manifest = served(add_onnx(repository, file, Preprocessing(activation=given))[0])
    theirs = logits(file)
    assert manifest.activation == activation
    assert confidences == pytest.approx(theirs if last else 1 / (1 + np.exp(-theirs)), abs=1e-5)


def test_preprocessing_comes_from_the_card_or_from_options(repository, tmp_path):
    shape = ("n", 3, "h", "w")
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, TinyGraph(shape=shape))
    with pytest.raises(OperatorError, match="choose one with --size"):
        add_onnx(repository, file)
    given = Preprocessing(24, "exact", (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    spec = read_manifest(add_onnx(repository, file, given)[0]).input
    assert (spec.width_px, spec.height_px, spec.resize) == (24, 24, "exact")
    assert spec.scale == pytest.approx((4 / 255, 2 / 255, 1 / 255))
    assert spec.bias == pytest.approx((-2, -1, -0.5))
    with pytest.raises(OperatorError, match="greater than 0"):
        add_onnx(repository, file, Preprocessing(24, std=(1, 0, 1)))


def test_a_card_in_the_folder_decides_the_preprocessing(repository, tmp_path):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, TinyGraph(shape=("n", 3, "h", "w")))
    card = file.parent / "preprocessor_config.json"
    card.write_text(json.dumps(CARD))
    folder, summary = add_onnx(repository, file)
    assert read_manifest(folder).input.width_px == 32
    assert "Preprocessing follows preprocessor_config.json." in summary.splitlines()
    with pytest.raises(OperatorError, match="remove the file, or omit"):
        add_onnx(repository, file, Preprocessing(32))
    fixed = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    with pytest.raises(OperatorError, match="takes pictures 16 pixels high, .* makes them 32"):
        add_onnx(repository, fixed)


def test_a_folder_for_transformers_js_is_added(repository, tmp_path):
    graph = TinyGraph(shape=("n", 3, "h", "w"))
    file = write_tiny_onnx(tmp_path / "source" / "onnx", CATEGORIES, graph)
    (file.parent / "labels.txt").unlink()
    config = {"label2id": {name: index for index, name in enumerate(CATEGORIES)}}
    (tmp_path / "source" / "config.json").write_text(json.dumps(config))
    (tmp_path / "source" / "preprocessor_config.json").write_text(json.dumps(CARD))
    folder, summary = add_onnx(repository, onnx_file(tmp_path / "source"))
    assert "Preprocessing follows preprocessor_config.json." in summary
    manifest = read_manifest(folder)
    assert [entry.name for entry in manifest.categories] == CATEGORIES
    assert manifest.input.width_px == 32


def test_everything_that_decides_an_answer_is_in_the_digest(repository, tmp_path):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    digests = [
        read_manifest(add_onnx(repository, file, given)[0]).digest
        for given in (None, None, Preprocessing(resize="exact"))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.json", '["ant", "bee", "cat"]'),
        ("labels.json", '{"0": "ant", "2": "cat", "1": "bee"}'),
        ("config.json", '{"id2label": {"0": "ant", "1": "bee", "2": "cat"}}'),
        ("labels.txt", "ant\nbee\n\n cat \n"),
    ],
)
def test_labels_may_be_in_several_kinds_of_file(repository, tmp_path, name, content):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    (file.parent / "labels.txt").unlink()
    (file.parent / name).write_text(content)
    manifest = read_manifest(add_onnx(repository, file)[0])
    assert [entry.name for entry in manifest.categories] == CATEGORIES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "has no label file"),
        ('["ant", "bee"]', r"source/labels\.json has 2 labels, but the graph returns 3 numbers"),
        ('["ant", "bee", ""]', "a category has no name"),
        ('{"0": "ant", "5": "bee"}', "must count from 0 without gaps, but it has 2 from 0 to 5"),
        ("{", "Expecting property name"),
        ('"ant"', "not a list of names"),
    ],
)
def test_labels_that_do_not_fit_are_refused(repository, tmp_path, content, words):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    (file.parent / "labels.txt").unlink()
    if content is not None:
        (file.parent / "labels.json").write_text(content)
    with pytest.raises(OperatorError, match=words):
        add_onnx(repository, file)
    assert [f for f in repository.scan() if f.name == "mine"] == []


def foreign(model):
    model.graph.node[1].MergeFrom(onnx.NodeProto(domain="com.example"))
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def outside(model):
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.MergeFrom(TensorProto(data_location=TensorProto.EXTERNAL))
    weights.external_data.add(key="location", value="../secret")


def second_input(model):
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def unknown(model):
    model.graph.node[1].MergeFrom(onnx.NodeProto(op_type="Rectify"))


def not_finite(model):
    weights = model.graph.initializer[1]
    weights.MergeFrom(TensorProto(raw_data=np.full(18, np.nan, np.float32).tobytes()))


def output_twice(model):
    model.graph.output.append(
        helper.make_tensor_value_info(model.graph.node[-1].input[0], TensorProto.FLOAT, ["n", 3])
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (foreign, r"uses the operator com\.example\.Relu, which ONNX Runtime does not have"),
        (outside, r"keeps weights in '\.\./secret', which is not a path inside its folder"),
        (second_input, r"has 2 inputs \(pixel_values, mask\)"),
        (unknown, "ONNX Runtime cannot run .*Rectify"),
        (not_finite, "not finite"),
        (output_twice, "more than one output"),
    ],
)
def test_graphs_that_cannot_be_served_are_refused_with_one_sentence(
    repository, tmp_path, change, words
):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    model = onnx.load_model(file)
    change(model)
    onnx.save_model(model, file)
    with pytest.raises(OperatorError, match=words) as refused:
        add_onnx(repository, file)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        ({"shape": ("n", 3)}, "is float32 n? ?.*3, not pictures"),
        ({"shape": ("n", 4, 16, 16)}, "float32 any x 4 x 16 x 16, not pictures"),
        ({"element": TensorProto.DOUBLE}, "float64 any x 3 x 16 x 16, not pictures"),
        ({"opset": 7}, "uses ONNX opset 7"),
        (
            {"shape": (2, 3, 16, 16), "fix_rows": True},
            "returns 1 x 3 for a batch of 2, not a row for each picture",
        ),
    ],
)
def test_inputs_that_are_not_pictures_are_refused(repository, tmp_path, graph, words):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, TinyGraph(**graph))
    with pytest.raises(OperatorError, match=words):
        add_onnx(repository, file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"\x00" * 64])
def test_other_files_are_not_onnx_files(repository, tmp_path, content):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    file.write_bytes(content)
    with pytest.raises(OperatorError, match="is not an ONNX file|is empty"):
        add_onnx(repository, file)


def test_a_path_is_an_onnx_file_or_a_hugging_face_folder(tmp_path):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES, name="net.onnx")
    assert onnx_file(file) == onnx_file(file.parent) == file
    file = file.rename(file.parent / "model.onnx")
    assert onnx_file(file.parent) == file
    (file.parent / "model.safetensors").touch()
    assert onnx_file(file.parent) is None
