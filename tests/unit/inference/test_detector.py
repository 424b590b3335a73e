"""Detectors of transformers: what becomes a version, how it is proven, and what is refused."""

import io

import numpy as np
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.preprocess import sample_inputs
from image_categorizer_server.inference.models.manifest import Manifest, read_manifest
from image_categorizer_server.inference.packaging.detector import Found, difference
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.inference.packaging.processor import picture
from image_categorizer_server.inference.packaging.quantize import version_to_quantize
from image_categorizer_server.inference.packaging.selftest import run_self_test
from image_categorizer_server.inference.runtimes.features import find_features
from image_categorizer_server.inference.runtimes.network import load_network
from image_categorizer_server.inference.runtimes.torch import TorchRuntime
from PIL import Image

from tests.support.tiny_detector import PROCESSORS, SIDE_PX, write_tiny_detector
from tests.unit.conftest import CATEGORIES, add

KEEPS_RATIO = {"size": {"shortest_edge": 48, "longest_edge": 80}}


def imported(source, folder, **options):
    """Returns the manifest of the version in `folder`, and what serves it."""
    folder.mkdir()
    manifest = copy_model(source, folder, Labels("detector", 1), **options)
    network = load_network(folder, manifest.input, "none", detection=manifest.detection)
    located = find_features(network, sample_inputs(manifest.input), manifest.input)
    return manifest, TorchRuntime(network, "cpu", located=located)


@pytest.mark.parametrize("kind", sorted(PROCESSORS))
def test_boxes_and_scores_are_those_of_transformers(tmp_path, kind):
    source = write_tiny_detector(tmp_path / "source", kind, CATEGORIES)
    manifest, runtime = imported(source, tmp_path / "version")
    scores = "softmax" if kind in ("detr", "yolos") else "sigmoid"
    assert manifest.detection is not None
    assert (manifest.detection.scores, manifest.activation) == (scores, "none")
    assert (manifest.input.resize, manifest.input.width_px) == ("exact", SIDE_PX)
    test = run_self_test(source, tmp_path / "version", manifest, runtime, None)
    assert len(test.rows) == 6
    assert test.difference < 1e-4
    assert all(row.theirs[0] == row.ours[0] for row in test.rows)


def test_other_boxes_are_refused(tmp_path):
    source = write_tiny_detector(tmp_path / "source", "yolos", CATEGORIES)
    manifest, _ = imported(source, tmp_path / "version")
    other = write_tiny_detector(tmp_path / "other", "yolos", CATEGORIES, image_std=[0.3, 0.3, 0.3])
    _, wrong = imported(other, tmp_path / "wrong")
    with pytest.raises(OperatorError, match="a score, or of a box as a share .* differs from"):
        run_self_test(source, tmp_path / "version", manifest, wrong, None)


@pytest.mark.parametrize(
    ("corners", "scores", "expected"),
    [
        ([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], [[0.9, 0.1], [0.2, 0.6]], 0.0),
        ([[0.5, 0, 1, 1], [0, 0, 0.5, 1]], [[0.2, 0.6], [0.9, 0.1]], 0.0),  # in another order
        ([[0, 0, 0.4, 1], [0.5, 0, 1, 1]], [[0.9, 0.1], [0.2, 0.6]], 0.1),
        ([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], [[0.9, 0.1], [0.2, 0.8]], 0.2),
        ([[0.5, 0, 1, 1], [0, 0, 0.5, 1]], [[0.9, 0.1], [0.2, 0.6]], 0.5),  # boxes are swapped
        (  # one box too many
            [[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 0.1, 0.1]],
            [[0.9, 0.1], [0.2, 0.6], [0.1, 0.95]],
            0.9,
        ),
    ],
)
def test_boxes_differ_by_the_farthest_of_both(corners, scores, expected):
    boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]])
    theirs = Found(np.array([0.9, 0.6]), np.array([0, 1]), boxes)
    found = difference(theirs, np.array(corners), np.array(scores))
    assert found == pytest.approx(expected)


def test_a_processor_that_keeps_the_aspect_ratio_needs_a_size(tmp_path):
    source = write_tiny_detector(tmp_path / "source", "detr", CATEGORIES, **KEEPS_RATIO)
    with pytest.raises(OperatorError, match=r"keeps the aspect ratio.*--size 800, for instance"):
        imported(source, tmp_path / "refused")
    manifest, runtime = imported(source, tmp_path / "version", stretched_px=96)
    assert (manifest.input.resize, manifest.input.width_px) == ("exact", 96)
    test = run_self_test(source, tmp_path / "version", manifest, runtime, None)
    assert test.difference < 1e-4


def test_options_that_do_not_apply_are_refused(tmp_path, tiny):
    source = write_tiny_detector(tmp_path / "source", "yolos", CATEGORIES)
    with pytest.raises(OperatorError, match="whose scores are known: omit --activation"):
        imported(source, tmp_path / "one", activation="sigmoid")
    with pytest.raises(OperatorError, match="--size applies to ONNX files and detectors"):
        imported(tiny, tmp_path / "two", stretched_px=64)


def test_a_detector_has_no_temperature_and_no_int8_version(tmp_path, repository):
    source = write_tiny_detector(tmp_path / "source", "yolos", CATEGORIES)
    fields = read_manifest(add(repository, source, "detector")).model_dump()
    with pytest.raises(ValueError, match="a detector has activation none and no temperature"):
        Manifest.model_validate(fields | {"temperature": 2.0})
    with pytest.raises(OperatorError, match="is a detector, of which int8 versions"):
        version_to_quantize(repository.scan(), "detector", None)


@pytest.mark.parametrize("kind", ["yolos", "rt_detr"])
async def test_an_exported_detector_answers_with_boxes(tmp_path, repository, loader, kind):
    source = write_tiny_detector(tmp_path / "source", kind, CATEGORIES)
    folder = add(repository, source, "detector")
    manifest = read_manifest(folder)
    model = await loader.load(folder, manifest)
    try:
        assert (model.runtime.name, model.features_bytes) == ("onnx", 8 * (4 + 3) * 4)
        content = io.BytesIO()
        Image.fromarray(picture(300, 200)).save(content, "PNG")
        seen = model.preprocessor.prepare(content.getvalue())
        answer = model.runtime.predict([seen.array] * 3, with_features=True)
        assert answer.features is not None
        assert answer.confidences == pytest.approx(answer.features[..., 4:].max(1))
        assert answer.confidences[2] == pytest.approx(answer.confidences[0], abs=1e-5)
    finally:
        await model.batcher.stop()
