"""Errors over a user's model: those of libraries become sentences, those of our own code do not."""

import json

import numpy as np
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.packaging.foreign import is_own
from image_categorizer_server.inference.packaging.huggingface import Labels, copy_model
from image_categorizer_server.inference.packaging.onnx import copy_onnx
from image_categorizer_server.inference.packaging.onnx_input import Preprocessing
from image_categorizer_server.inference.packaging.processor import reading, reason_of
from image_categorizer_server.inference.packaging.selftest import run_self_test

from tests.support.tiny_onnx import write_tiny_onnx
from tests.unit.conftest import CATEGORIES


def test_what_a_library_raises_is_a_sentence_on_the_file(tmp_path):
    with (
        pytest.raises(OperatorError, match="transformers cannot read .*Expecting property name"),
        reading(tmp_path / "config.json", tmp_path),
    ):
        json.loads("{")


def test_what_our_own_code_raises_stays_what_it_is(tmp_path):
    with (
        pytest.raises(AttributeError, match="is_dir"),
        reading(tmp_path / "config.json", tmp_path),
    ):
        reason_of(ValueError("x"), None, tmp_path)


def test_the_innermost_frame_decides():
    with pytest.raises(ValueError, match="height and width") as caught:
        Pixels.of(np.zeros((2, 2, 3), np.uint8)).resized(0, 0, (0, 0, 2, 2), "bilinear")
    assert not is_own(caught.value)


def test_a_bug_in_the_self_test_is_not_blamed_on_transformers(tiny, tmp_path):
    """A runtime that answers nothing is no fault of the folder."""

    class Answerless:
        def predict(self, inputs, *, with_features=False):
            return None

    manifest = copy_model(tiny, tmp_path, Labels("tiny", 1))
    with pytest.raises(AttributeError, match="confidences"):
        run_self_test(tiny, tmp_path, manifest, Answerless(), None)


def test_a_bug_while_a_graph_is_added_is_not_blamed_on_the_file(tmp_path):
    file = write_tiny_onnx(tmp_path / "source", CATEGORIES)
    with pytest.raises(AttributeError, match="taxonomy"):
        copy_onnx(file, tmp_path, None, Preprocessing())


def test_a_label_that_is_half_a_character_is_refused(tiny, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for file in tiny.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    config = json.loads((source / "config.json").read_text())
    config["id2label"] = {"0": "\ud800", "1": "bee", "2": "cat"}
    config["_name_or_path"] = "\udfff"
    (source / "config.json").write_text(json.dumps(config))
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(OperatorError, match="a label is not text"):
        copy_model(source, target, Labels("tiny", 1))
