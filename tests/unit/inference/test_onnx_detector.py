"""Detectors as ONNX files: which layouts are known, and what is never guessed."""

import numpy as np
import onnx
import pytest
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.detect import DetectionLocalizer
from image_categorizer_server.inference.images.preprocess import reduce
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.warmup import check_detections
from image_categorizer_server.inference.packaging.huggingface import Labels
from image_categorizer_server.inference.packaging.onnx import copy_onnx
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.runtimes.onnx import OnnxRuntime

from tests.support.square_detector import (
    ABSENT,
    FOUND,
    LABELS,
    ULTRALYTICS,
    WEAKER,
    picture_of,
    write_square_detector,
)

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SQUARES = {"red": (40, 20, 120, 100), "green": (200, 60, 280, 140)}
SIZE_PX = (320, 160)
YOLO = {"boxes": "cxcywh", "activation": "none"} | UNIT


def added(file, tmp_path, **given):
    """Returns the manifest, what serves it, and the lines."""
    folder = tmp_path / "version"
    folder.mkdir(exist_ok=True)
    _, summary = copy_onnx(file, folder, Labels("squares", 1), Preprocessing(**given))
    return read_manifest(folder), OnnxRuntime(folder / "model.onnx", 1, 1), summary


def changed(file, change):
    """Rewrites the file after a function has changed the model."""
    model = onnx.load(file)
    change(model)
    onnx.save(model, file)
    return file


CASES = {
    "corners in pixels": ("queries", None, {"boxes": "corners"}, {"boxes": "xyxy"} | UNIT),
    "centres in pixels": ("queries", None, {"boxes": "centred"}, {"boxes": "cxcywh"} | UNIT),
    "centres in shares": ("queries", None, {"boxes": "shares"}, {"boxes": "cxcywh"} | UNIT),
    "columns": ("columns", None, {}, YOLO),
    "columns of Ultralytics": ("columns", ULTRALYTICS, {}, {}),
    "one at a time": ("columns", ULTRALYTICS, {"batch": "1"}, {}),
    "rows": ("rows", None, {}, YOLO),
    "letterbox": ("rows", None, {}, YOLO | {"resize": "letterbox"}),
}


@pytest.mark.parametrize("case", CASES)
def test_both_squares_are_found_where_they_are(tmp_path, case):
    layout, metadata, shape, given = CASES[case]
    file = write_square_detector(tmp_path / "source", layout, metadata, **shape)
    manifest, runtime, summary = added(file, tmp_path, **given)
    assert [entry.name for entry in manifest.categories] == LABELS
    assert (manifest.localization, manifest.activation) == (Localization.DETECTION, "none")
    is_boxed = metadata is not None or "resize" in given
    assert manifest.input.resize == ("letterbox" if is_boxed else "exact")
    shown = reduce(Pixels.of(picture_of(SIZE_PX, **SQUARES)), manifest.input)
    empty = reduce(Pixels.of(picture_of(SIZE_PX, red=SQUARES["red"])), manifest.input)
    answer = runtime.predict([empty, shown], with_features=True)
    assert answer.confidences == pytest.approx(np.array([[FOUND, ABSENT], [FOUND, FOUND]]))
    assert manifest.detection is not None
    localizer = DetectionLocalizer(manifest.detection, manifest.input)
    assert answer.features is not None
    for category, expected in enumerate(SQUARES.values()):
        # One box for each, though YOLO's layouts have two.
        (box,) = localizer.boxes(answer.features[1], category, SIZE_PX, FOUND * WEAKER / 2)
        assert box == pytest.approx(expected, abs=3)
    assert "largest difference of a score, or of a box" in summary


def test_a_score_for_no_object_is_dropped_after_softmax(tmp_path):
    def with_logits(model):
        graph = model.graph
        graph.node.extend(
            [
                onnx.helper.make_node("Log", ["strong"], ["logs"]),
                onnx.helper.make_node("Sub", ["one", "strong"], ["rest"]),
                onnx.helper.make_node("ReduceMin", ["rest"], ["least"], axes=[2], keepdims=1),
                onnx.helper.make_node("Log", ["least"], ["none"]),
                onnx.helper.make_node("Concat", ["logs", "none"], ["logits"], axis=2),
            ]
        )
        shape = ["n", 2, 3]
        logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, shape)
        graph.output[0].CopyFrom(logits)

    file = write_square_detector(tmp_path / "source", "queries")
    changed(file, with_logits)
    with pytest.raises(OperatorError, match="nothing says what makes scores of them"):
        added(file, tmp_path, boxes="xyxy", **UNIT)
    with pytest.raises(OperatorError, match="do not sum to 1, so the last is not for no object"):
        added(file, tmp_path, boxes="xyxy", activation="sigmoid", **UNIT)
    manifest, runtime, _ = added(file, tmp_path, boxes="xyxy", activation="softmax", **UNIT)
    shown = reduce(Pixels.of(picture_of(SIZE_PX, **SQUARES)), manifest.input)
    confidences = runtime.predict([shown]).confidences
    assert confidences == pytest.approx(FOUND / (1 + ABSENT), abs=1e-5)


def test_a_config_of_transformers_says_what_boxes_and_scores_are(tmp_path):
    file = write_square_detector(tmp_path / "source", "queries", boxes="shares")
    (tmp_path / "source" / "config.json").write_text('{"model_type": "rt_detr"}')
    manifest, _, _ = added(file, tmp_path, **UNIT)
    assert manifest.detection is not None
    assert manifest.detection.max_overlap is None
    with pytest.raises(OperatorError, match="centres and sizes of boxes: omit --boxes"):
        added(file, tmp_path, boxes="xyxy", **UNIT)


@pytest.mark.parametrize(
    ("layout", "given", "words"),
    [
        ("queries", UNIT, "choose --boxes cxcywh or --boxes xyxy"),
        ("queries", {"boxes": "xyxy"}, "give --mean and --std, such as --mean 0 0 0"),
        ("queries", {"boxes": "xyxy", "activation": "sigmoid"} | UNIT, "omit --activation"),
        ("queries", {"boxes": "xyxy", "resize": "shortest_edge"} | UNIT, "sees whole pictures"),
        ("columns", {"boxes": "cxcywh"} | UNIT, "choose --activation none if they are scores"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path, layout, given, words):
    file = write_square_detector(tmp_path / "source", layout)
    with pytest.raises(OperatorError, match=words):
        added(file, tmp_path, **given)


def test_other_numbers_of_scores_than_labels_are_refused(tmp_path):
    file = write_square_detector(tmp_path / "source", "queries")
    (tmp_path / "source" / "labels.txt").write_text("a\nb\nc\nd")
    with pytest.raises(OperatorError, match="has 4 labels, but the graph returns 2 scores"):
        added(file, tmp_path, boxes="xyxy", **UNIT)


def test_an_ultralytics_detector_with_another_output_is_refused(tmp_path):
    names = ULTRALYTICS | {"names": "{0: 'a', 1: 'b', 2: 'c'}"}
    file = write_square_detector(tmp_path / "source", "columns", names)
    with pytest.raises(OperatorError, match="output0 float32 any x 6 x 4 is neither batch x 7"):
        added(file, tmp_path)


def test_corners_that_cross_are_refused(tmp_path):
    def swap(model):
        (node,) = (node for node in model.graph.node if node.output[0] == "corners")
        node.input[:] = ["right", "bottom", "left", "top"]

    file = changed(write_square_detector(tmp_path / "source", "queries"), swap)
    with pytest.raises(OperatorError, match="xyxy cannot be: the right or lower edge of"):
        added(file, tmp_path, boxes="xyxy", **UNIT)


def test_sizes_below_zero_are_refused(tmp_path):
    def mirror(model):
        (node,) = (node for node in model.graph.node if node.output[0] == "boxes")
        model.graph.node.append(onnx.helper.make_node("Neg", [node.input[0]], ["boxes"]))
        model.graph.node.remove(node)

    file = changed(write_square_detector(tmp_path / "source", "queries"), mirror)
    with pytest.raises(OperatorError, match="boxes would have a negative size"):
        added(file, tmp_path, boxes="cxcywh", **UNIT)


def test_boxes_that_are_neither_shares_nor_pixels_are_refused(tmp_path):
    def enlarge(model):
        (side,) = (t for t in model.graph.initializer if t.name == "to_centre")
        wide = onnx.numpy_helper.to_array(side) * 100
        side.CopyFrom(onnx.numpy_helper.from_array(wide, side.name))

    file = write_square_detector(tmp_path / "source", "queries", boxes="centred")
    changed(file, enlarge)
    with pytest.raises(OperatorError, match="neither a share of the picture nor pixels of 64 x 64"):
        added(file, tmp_path, boxes="cxcywh", **UNIT)


def test_a_manifest_with_other_categories_is_refused_when_it_loads(tmp_path):
    file = write_square_detector(tmp_path / "source", "columns", ULTRALYTICS)
    manifest, runtime, _ = added(file, tmp_path)
    assert check_detections(runtime, manifest) == 4 * (4 + 2) * 4
    wrong = manifest.model_copy(update={"categories": manifest.categories[:1]})
    with pytest.raises(OperatorError, match=r"Its boxes have the shape \(2, 4, 6\)"):
        check_detections(runtime, wrong)
