"""How pictures become the input of an ONNX graph."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.packaging.huggingface import Labels
from image_categorizer_server.inference.packaging.onnx import copy_onnx
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime
from onnx import numpy_helper

SIDE_PX = 16
PICTURE = np.random.default_rng(8).integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
LAST = ("n", SIDE_PX, SIDE_PX, 3)
FIRST = ("n", 3, SIDE_PX, SIDE_PX)


def write(folder, first, *, shape=FIRST, metadata=None, element="float"):
    """Writes a network whose first steps are in ONNX's text form, from `pixels` to `image`."""
    numbers, channels = np.random.default_rng(9), 1 if 1 in shape else 3
    arrays = {
        "kernels": numbers.normal(0, 0.4, (6, channels, 3, 3)).astype(np.float32),
        "weights": numbers.normal(0, 2, (6, 3)).astype(np.float32),
        "byte": np.array(255, np.float32),
        "inverse": np.array(1 / 127.5, np.float32),
        "mean": np.array([0.485, 0.456, 0.406], np.float32),
        "bytes": np.array([123.7, 116.3, 103.5], np.float32),
    }
    body = [
        *first,
        "maps = Conv(image, kernels)",
        "positive = Relu(maps)",
        "pooled = GlobalAveragePool(positive)",
        "flat = Flatten<axis = 1>(pooled)",
        "logits = MatMul(flat, weights)",
        "answer = Softmax<axis = 1>(logits)",
    ]
    sides = ", ".join(map(str, shape))
    head = f"g ({element}[{sides}] pixels) => (float[n, 3] answer)"
    text = "\n".join(['<ir_version: 8, opset_import: ["" : 13]>', head, "{", *body, "}"])
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    folder.mkdir(parents=True)
    onnx.save_model(model, folder / "model.onnx")
    (folder / "labels.txt").write_text("a\nb\nc")
    return folder / "model.onnx"


def added(file, tmp_path, **given):
    """Returns what is served for PICTURE, the input specification and the lines."""
    folder = tmp_path / "version"
    folder.mkdir()
    _, summary = copy_onnx(file, folder, Labels("mine", 1), Preprocessing(**given))
    confidences = OnnxRuntime(folder / "model.onnx", 1, 1).predict([PICTURE]).confidences
    return confidences, read_manifest(folder).input, summary


def asked(file, values):
    """Returns what the file itself answers."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": values.astype(np.float32)[None]})[0]


@pytest.mark.parametrize(
    ("first", "largest"),
    [
        (["scaled = Div(pixels, byte)", "image = Transpose<perm = [0, 3, 1, 2]>(scaled)"], 255),
        (["scaled = Mul(pixels, inverse)", "image = Transpose<perm = [0, 3, 1, 2]>(scaled)"], 255),
        (["scaled = Mul(inverse, pixels)", "image = Transpose<perm = [0, 3, 1, 2]>(scaled)"], 255),
        (["scaled = Sub(pixels, bytes)", "image = Transpose<perm = [0, 3, 1, 2]>(scaled)"], 255),
        (["scaled = Sub(pixels, mean)", "image = Transpose<perm = [0, 3, 1, 2]>(scaled)"], 1),
    ],
)
def test_a_graph_that_scales_its_input_is_not_given_scaled_pictures(tmp_path, first, largest):
    file = write(tmp_path / "source", first, shape=LAST)
    ours, _, summary = added(file, tmp_path)
    assert f"numbers from 0 to {largest}, because the graph scales them itself" in summary
    assert ours == pytest.approx(asked(file, PICTURE * (largest / 255)), abs=1e-5)


@pytest.mark.parametrize(
    ("metadata", "low", "high"),
    [
        ({"author": "Ultralytics", "task": "classify"}, 0, 1),
        ({"Image.NominalPixelRange": "NominalRange_0_255"}, 0, 255),
        ({"Image.NominalPixelRange": "Normalized_1_1"}, -1, 1),
    ],
)
def test_metadata_says_what_the_graph_takes(tmp_path, metadata, low, high):
    file = write(tmp_path / "source", ["image = Identity(pixels)"], metadata=metadata)
    ours, _, _ = added(file, tmp_path)
    values = low + PICTURE / 255 * (high - low)
    assert ours == pytest.approx(asked(file, values.transpose(2, 0, 1)), abs=1e-4)


@pytest.mark.parametrize("shape", [FIRST, LAST])
def test_channels_have_scales_of_their_own(tmp_path, shape):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    first = "Identity(pixels)" if shape == FIRST else "Transpose<perm = [0, 3, 1, 2]>(pixels)"
    file = write(tmp_path / "source", [f"image = {first}"], shape=shape)
    ours, _, _ = added(file, tmp_path, mean=mean, std=std)
    values = (PICTURE / 255 - mean) / std
    assert ours == pytest.approx(
        asked(file, values if shape == LAST else values.transpose(2, 0, 1)), abs=1e-5
    )


def test_planes_are_scaled_rather_than_pixels(tmp_path):
    file = write(tmp_path / "source", ["image = Identity(pixels)"])
    added(file, tmp_path, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    graph = onnx.load(tmp_path / "version/model.onnx").graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert [node.op_type for node in graph.node[:4]] == ["Transpose", "Cast", "Mul", "Add"]
    assert [shapes[node.input[1]] for node in graph.node[2:4]] == [[3, 1, 1]] * 2


def test_blue_may_come_first(tmp_path):
    metadata = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_0_1"}
    file = write(tmp_path / "source", ["image = Identity(pixels)"], metadata=metadata)
    ours, _, _ = added(file, tmp_path)
    values = (PICTURE / 255)[..., ::-1].transpose(2, 0, 1)
    assert ours == pytest.approx(asked(file, values), abs=1e-5)


@pytest.mark.parametrize("shape", [("n", 1, SIDE_PX, SIDE_PX), ("n", SIDE_PX, SIDE_PX, 1)])
def test_grey_is_made_of_three_colours(tmp_path, shape):
    is_last = shape[3] == 1
    first = [
        "image = Transpose<perm = [0, 3, 1, 2]>(pixels)" if is_last else "image = Identity(pixels)"
    ]
    file = write(tmp_path / "source", first, shape=shape)
    with pytest.raises(OperatorError, match="takes grey pictures.* give --mean and --std"):
        added(file, tmp_path)
    (tmp_path / "version").rmdir()
    with pytest.raises(OperatorError, match="the same number three times"):
        added(file, tmp_path, mean=(0.1, 0.2, 0.3))
    (tmp_path / "version").rmdir()
    ours, _, _ = added(file, tmp_path, mean=(0.13, 0.13, 0.13), std=(0.31, 0.31, 0.31))
    grey = ((PICTURE / 255) @ [0.299, 0.587, 0.114] - 0.13) / 0.31
    assert ours == pytest.approx(asked(file, grey[..., None] if is_last else grey[None]), abs=1e-5)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("segment", "is a network to segment, not a classifier or a detector of boxes"),
        ("detect", "The graph is a detector, but answer float32 any x 3 is neither batch x 7"),
    ],
)
def test_a_network_for_another_task_is_refused(tmp_path, task, words):
    metadata = {"author": "Ultralytics", "task": task}
    file = write(tmp_path / "source", ["image = Identity(pixels)"], metadata=metadata)
    with pytest.raises(OperatorError, match=words):
        added(file, tmp_path)


def test_pictures_that_are_too_large_are_refused(tmp_path):
    file = write(tmp_path / "source", ["image = Identity(pixels)"], shape=("n", 3, 5000, 5000))
    with pytest.raises(OperatorError, match="5000 x 5000 pixels; 4096 a side are the most"):
        added(file, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "version https://git-lfs.github.com/spec/v1\n",
        "{",
        "[]",
        '{"image_processor_type": "ViTImageProcessor", "size": "large"}',
        '{"image_processor_type": "ViTImageProcessor", "image_mean": [null]}',
    ],
)
def test_a_card_that_cannot_be_used_is_named(tmp_path, content):
    file = write(tmp_path / "source", ["image = Identity(pixels)"])
    card = file.parent / "preprocessor_config.json"
    card.write_text(content)
    with pytest.raises(OperatorError, match="/source/preprocessor_config.json") as refused:
        added(file, tmp_path)
    assert len(str(refused.value).splitlines()) == 1


def test_a_card_that_turns_the_channels_round_is_followed(tmp_path):
    file = write(tmp_path / "mine", ["image = Identity(pixels)"])
    card = {
        "image_processor_type": "MobileViTImageProcessor",
        "size": {"shortest_edge": SIDE_PX},
        "crop_size": {"height": SIDE_PX, "width": SIDE_PX},
        "do_flip_channel_order": True,
    }
    (file.parent / "preprocessor_config.json").write_text(json.dumps(card))
    confidences, spec, _ = added(file, tmp_path)
    assert spec.colour == "bgr"
    expected = asked(file, PICTURE[..., ::-1].transpose(2, 0, 1) / 255)
    np.testing.assert_allclose(confidences, expected, atol=1e-4)
