"""Importing Hugging Face folders: what becomes a version, and what is refused."""

import json

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import damage, read_manifest
from image_categorizer_server.inference.packaging.hub import local_name
from image_categorizer_server.inference.packaging.huggingface import check_files, check_name

from tests.support.tiny_model import CARD, write_tiny_model
from tests.unit.conftest import CATEGORIES, add


def test_a_folder_becomes_a_version_with_a_manifest(repository, tiny):
    folder = add(repository, tiny, licence="MIT", origin="a test")
    manifest = read_manifest(folder)
    assert [entry.name for entry in manifest.categories] == CATEGORIES
    assert (manifest.name, manifest.version, manifest.licence, manifest.origin) == (
        "tiny",
        1,
        "MIT",
        "a test",
    )
    assert sorted(manifest.files) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert manifest.activation == "softmax"
    assert (manifest.input.width_px, manifest.input.resize) == (32, "exact")
    assert manifest.input.scale == pytest.approx((1 / 51, 1 / 76.5, 1 / 102))
    assert manifest.input.bias == pytest.approx((-2.5, -4 / 3, -0.75))
    assert damage(folder, manifest) == ""


def test_a_multi_label_model_answers_by_sigmoid(repository, tmp_path):
    source = write_tiny_model(
        tmp_path / "source", CATEGORIES, problem_type="multi_label_classification"
    )
    assert read_manifest(add(repository, source)).activation == "sigmoid"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "config.json, model.safetensors, preprocessor_config.json missing"),
        (["config.json", "preprocessor_config.json", "pytorch_model.bin"], "could run code"),
        (["config.json", "model.safetensors"], "preprocessor_config.json missing"),
    ],
)
def test_incomplete_folders_are_refused(tmp_path, files, words):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OperatorError, match=words):
        check_files(tmp_path)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "-a", ".a", "a" * 65, "ä"])
def test_invalid_names_are_refused(name):
    with pytest.raises(OperatorError, match="not a valid model name"):
        check_name(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do_resize": False}, "it does not resize"),
        ({"size": {"longest_edge": 32}}, "not supported"),
        (
            {"do_center_crop": True, "size": {"shortest_edge": 32}, "crop_size": None},
            "not supported",
        ),
    ],
)
def test_unsupported_image_processors_are_refused(repository, tiny, tmp_path, change, words):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).write_bytes((tiny / name).read_bytes())
    (source / "preprocessor_config.json").write_text(json.dumps(CARD | change))
    with pytest.raises(OperatorError, match=words):
        add(repository, source)
    assert [f for f in repository.scan() if f.name == "tiny"] == []


@pytest.mark.parametrize(
    ("pulled", "name"), [("resnet50", "resnet50"), ("microsoft/ResNet-50", "resnet-50")]
)
def test_a_downloaded_model_gets_a_local_name(pulled, name):
    assert local_name(pulled) == name
