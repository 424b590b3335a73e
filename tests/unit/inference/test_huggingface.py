"""Importing Hugging Face folders: processors, labels, activations, and what is refused."""

import json
import shutil

import pytest
import torch
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import damage, read_manifest
from image_categorizer_server.inference.packaging import hub
from image_categorizer_server.inference.packaging.hub import local_name
from image_categorizer_server.inference.packaging.huggingface import (
    check_files,
    check_name,
)
from image_categorizer_server.inference.runtimes.network import load_network

from tests.support.folders import change, confidences, imported, refusal
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
        "input.json",
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
        (["config.json", "model.safetensors"], "preprocessor_config.json missing"),
        (["preprocessor_config.json", "adapter_config.json"], "merge_and_unload"),
        (["config.json", "pytorch_model.bin"], "could run code"),
        (["config.json", "pytorch_model-00001-of-00002.bin"], "could run code"),
        (["best.pt"], "best.pt is a pickle, which could run code"),
        (["config.json", "tf_model.h5"], "Keras weights; convert it to ONNX"),
        (["model.keras"], "a Keras model; convert it to ONNX"),
        (["model.tflite"], "tf2onnx.convert --tflite"),
        (["saved_model.pb"], "tf2onnx.convert --saved-model"),
        (["config.json", "flax_model.msgpack"], "from_flax=True"),
        (["config.json", "model.fp16.safetensors"], "rename model.fp16.safetensors to model.saf"),
        (["model.fp16.safetensors", "model.bf16.safetensors"], "rename the one to serve"),
        (["config.json", "model-00001-of-00002.safetensors"], "model.safetensors.index.json"),
    ],
)
def test_incomplete_folders_are_refused(tmp_path, files, words):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OperatorError, match=words):
        check_files(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.safetensors", "holds weights only: add its folder"),
        ("best.pt", "could run code"),
        ("model.tflite", "convert it to ONNX"),
        ("notes.txt", "is not a folder"),
    ],
)
def test_files_that_are_no_folder_are_refused(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(OperatorError, match=words):
        check_files(tmp_path / name)
    with pytest.raises(OperatorError, match="There is no file or folder"):
        check_files(tmp_path / "none")


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "-a", ".a", "a" * 65, "ä"])
def test_invalid_names_are_refused(name):
    with pytest.raises(OperatorError, match="not a valid model name"):
        check_name(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 9, "width": 9}},
            "it crops without resizing",
        ),
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
    "labels",
    [
        {"id2label": CATEGORIES, "label2id": None},
        {"id2label": None},
        {"id2label": {}},
        {"id2label": {"2": "cat", "0": "ant", "1": "bee"}},
        {"label2id": {"ant": "0", "bee": "1", "cat": "2"}},
        {"label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}},
    ],
)
def test_labels_are_read_in_every_form(source, tmp_path, labels):
    change(source / "config.json", **labels)
    manifest, _, _ = imported(source, tmp_path)
    assert [entry.name for entry in manifest.categories] == CATEGORIES


def test_a_network_without_labels_has_those_of_transformers(source, tmp_path):
    change(source / "config.json", id2label=None, label2id=None, num_labels=3)
    manifest, _, _ = imported(source, tmp_path)
    assert [entry.name for entry in manifest.categories] == ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.mark.parametrize(
    "labels",
    [
        {"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "label2id": None},
        {"id2label": None, "label2id": None, "num_labels": 3},
        {"id2label": None, "label2id": None},
    ],
)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("classes.txt", "ant\nbee\ncat\n"),
        ("labels.txt", "0 ant\n1 bee\n2 cat\n"),
        ("class_to_idx.json", '{"bee": 1, "ant": 0, "cat": 2}'),
    ],
)
def test_a_file_names_what_the_configuration_does_not(source, tmp_path, labels, name, content):
    change(source / "config.json", **labels)
    (source / name).write_text(content)
    manifest, _, said = imported(source, tmp_path)
    assert [entry.name for entry in manifest.categories] == CATEGORIES
    assert f"Labels of {source / name}: 'ant', 'bee', 'cat'." in said


def test_a_file_beside_a_configuration_with_names_does_not_count(source, tmp_path):
    (source / "classes.txt").write_text("x\ny\nz\n")
    manifest, _, _ = imported(source, tmp_path)
    assert [entry.name for entry in manifest.categories] == CATEGORIES


@pytest.mark.parametrize(
    ("count", "words"),
    [
        ({"num_labels": 3}, "classes.txt has 2 labels, but the network has 3 outputs by"),
        ({}, "has 2 labels, but the network has 3 outputs (classifier.1.bias)"),
    ],
)
def test_a_file_with_another_number_of_labels_is_refused(source, tmp_path, count, words):
    change(source / "config.json", id2label=None, label2id=None, **count)
    (source / "classes.txt").write_text("ant\nbee\n")
    sentence = refusal(source, tmp_path)
    assert words in sentence
    assert "id2label" not in sentence


def test_two_outputs_with_one_label_stay_two_categories(source, tmp_path):
    change(source / "config.json", id2label={"0": "ant", "1": "crane", "2": "crane"})
    manifest, _, _ = imported(source, tmp_path)
    assert [entry.name for entry in manifest.categories] == ["ant", "crane (1)", "crane (2)"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"id2label": ["a", "b", "c", "d", "e"], "label2id": None}, "has 5 labels (id2label), but"),
        ({"id2label": ["a", "b"], "label2id": None}, "has 2 labels (id2label), but the network h"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "no label for output 0: the indices must"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "no label for output 2: the indices must"),
        ({"id2label": {"0": "a", "1": "b", "01": "c"}}, "id2label has output 1 twice"),
        ({"id2label": {"0": "", "1": "b", "2": "c"}}, "the label of output 0 in id2label is empty"),
        ({"id2label": {"0": " ", "1": "b", "2": "c"}}, "the label of output 0 in id2label is emp"),
        ({"id2label": {"0": ["x"], "1": "b", "2": "c"}}, "the label of output 0 in id2label is no"),
        ({"id2label": {"ant": 0, "bee": 1, "cat": 2}}, "has 'ant' where the number of an output"),
        ({"id2label": "ant"}, "id2label is neither an object nor a list"),
        ({"id2label": None, "label2id": {"a": 0, "b": 0, "c": 1}}, "label2id has output 0 twice"),
        ({"id2label": None, "label2id": ["a", "b"]}, "label2id is not an object"),
        (
            {"label2id": {"ant": 1, "bee": 0, "cat": 2}},
            "'ant' is output 0 by id2label, but 1 by la",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(source, tmp_path, labels, words):
    change(source / "config.json", **labels)
    sentence = refusal(source, tmp_path)
    assert words in sentence
    assert str(source / "config.json") in sentence


def one_output(tmp_path, **config):
    return write_tiny_model(tmp_path / "one", ["hotdog"], **config)


def test_one_output_is_a_sigmoid(tmp_path):
    manifest, network, _ = imported(one_output(tmp_path), tmp_path)
    assert manifest.activation == "sigmoid"
    assert confidences(network).max() < 1


def test_two_labels_of_one_output_are_refused(tmp_path):
    folder = one_output(tmp_path)
    change(folder / "config.json", id2label={"0": "no", "1": "hotdog"}, label2id=None)
    assert "has 2 labels (id2label), but the network has 1 output" in refusal(folder, tmp_path)


def test_the_user_chooses_the_activation(source, tmp_path):
    manifest, network, _ = imported(source, tmp_path, activation="sigmoid")
    assert manifest.activation == "sigmoid"
    assert not torch.allclose(confidences(network).sum(-1), torch.ones(3))


def test_the_activation_is_part_of_the_digest(repository, tiny, tmp_path):
    first, _, _ = imported(tiny, tmp_path)
    (tmp_path / "target").rename(tmp_path / "first")
    second, _, _ = imported(tiny, tmp_path, activation="sigmoid")
    assert first.digest != second.digest


def test_softmax_of_one_output_is_refused(tmp_path):
    assert "always 1" in refusal(one_output(tmp_path), tmp_path, activation="softmax")


def test_a_regression_needs_an_activation(tmp_path):
    folder = write_tiny_model(tmp_path / "one", CATEGORIES, problem_type="regression")
    assert "problem_type is regression" in refusal(folder, tmp_path)
    (tmp_path / "target" / "config.json").unlink()
    shutil.rmtree(tmp_path / "target")
    assert imported(folder, tmp_path, activation="sigmoid")[0].activation == "sigmoid"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_files_of_other_encodings_are_read(source, tiny, tmp_path, encoding):
    change(source / "config.json", id2label=["ant", "bee", "Kätzchen"], label2id=None)
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((source / name).read_text())
        (source / name).write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    manifest, network, _ = imported(source, tmp_path)
    assert manifest.categories[2].name == "Kätzchen"
    original = load_network(tiny, manifest.input, manifest.activation)
    assert torch.equal(confidences(network), confidences(original))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("", "is not JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ('{"model_type": "detr"}', "transformers cannot read"),
        ('{"model_type": "none_such"}', "transformers cannot read"),
        ("{}", "transformers cannot read"),
    ],
)
def test_malformed_configurations_are_refused(source, tmp_path, content, words):
    (source / "config.json").write_text(content)
    assert words in refusal(source, tmp_path)


def test_code_in_the_folder_is_not_run(source, tmp_path):
    change(source / "config.json", auto_map={"AutoConfig": "code.Config"}, model_type="mine")
    (source / "code.py").write_text("raise SystemExit('run')")
    assert "transformers cannot read" in refusal(source, tmp_path)


@pytest.mark.parametrize(
    ("pulled", "name"), [("resnet50", "resnet50"), ("microsoft/ResNet-50", "resnet-50")]
)
def test_a_downloaded_model_gets_a_local_name(pulled, name):
    assert local_name(pulled) == name


def test_a_refused_download_is_named_by_its_model(monkeypatch):
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: None)
    with (
        pytest.raises(OperatorError, match=r"^owner/name is not a Hugging Face image classifier"),
        hub.downloaded("owner/name") as (folder, _),
    ):
        check_files(folder)
