"""The labels of an ONNX file: beside it, above it, or in its metadata."""

import json

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.taxonomy import imagenet_categories
from image_categorizer_server.inference.packaging.onnx_labels import check_count, read_labels

NAMES = ("ant", "bee", "cat")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def labels_of(tmp_path, name, content, metadata=None):
    """Returns the labels that a file of this name and content gives."""
    if name:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(tmp_path / "model.onnx", metadata or {})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "ant\r\nbee\r\n\r\ncat"),
        ("labels.txt", "0 ant\n1 bee\n2 cat\n"),
        ("labels.txt", "1: ant\n2: bee\n3: cat\n"),
        ("labels.txt", "2,cat\n0,ant\n1,bee\n"),
        ("classes.txt", "ant\nbee\ncat"),
        ("labels.json", '{"0": "ant", "2": "cat", "1": "bee"}'),
        ("labels.json", '{"1": "ant", "2": "bee", "3": "cat"}'),
        ("labels.json", '[["ant"], ["bee"], ["cat"]]'),
        ("labels.json", '[{"name": "ant"}, {"name": "bee"}, {"name": "cat"}]'),
        ("class_to_idx.json", '{"cat": 2, "ant": 0, "bee": 1}'),
        ("class_indices.json", '{"bee": 1, "cat": 2, "ant": 0}'),
        (
            "imagenet_class_index.json",
            json.dumps({n: ["n00000001", a] for n, a in enumerate(NAMES)}),
        ),
        ("config.json", '{"id2label": {"0": "ant", "1": "bee", "2": "cat"}}'),
        ("config.json", '{"id2label": ["ant", "bee", "cat"]}'),
        ("config.json", '{"label2id": {"bee": 1, "ant": 0, "cat": 2}}'),
    ],
)
def test_labels_in_many_forms_are_read(tmp_path, name, content):
    assert labels_of(tmp_path, name, content).names == NAMES


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["labels.txt", "labels.json"])
def test_labels_may_have_a_mark_or_be_utf_16(tmp_path, name, encoding):
    text = (
        "Bär\nÄffchen"
        if name == "labels.txt"
        else json.dumps(["Bär", "Äffchen"], ensure_ascii=False)
    )
    assert labels_of(tmp_path, name, text.encode(encoding)).names == ("Bär", "Äffchen")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("names", "{0: 'ant', 1: 'bee', 2: 'cat'}"),  # as Ultralytics writes it
        ("classes", '["ant", "bee", "cat"]'),
        ("labels", "ant, bee, cat"),
        ("class_names", "ant\nbee\ncat\n"),
        ("id2label", '{"0": "ant", "1": "bee", "2": "cat"}'),
    ],
)
def test_labels_may_be_in_the_metadata(tmp_path, key, text):
    assert labels_of(tmp_path, "", "", {key: text}).names == NAMES


def test_a_file_counts_before_the_metadata_and_a_config_without_labels_does_not(tmp_path):
    metadata = {"names": "['x']"}
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    assert labels_of(tmp_path, "", "", metadata).names == ("x",)
    assert labels_of(tmp_path, "labels.txt", "ant\nbee\ncat", metadata).names == NAMES


def test_labels_for_transformers_js_are_in_the_folder_above(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text('{"id2label": {"0": "ant", "1": "bee", "2": "cat"}}')
    assert read_labels(tmp_path / "onnx" / "model_quantized.onnx", {}).names == NAMES


def test_the_index_of_imagenet_brings_its_taxonomy(tmp_path):
    entries = imagenet_categories()
    index = {str(n): [e.id, e.name.replace(" ", "_")] for n, e in enumerate(entries)}
    found = labels_of(tmp_path, "imagenet_class_index.json", json.dumps(index))
    assert found.categories(None) == entries
    few = dict(list(index.items())[:3])
    found = labels_of(tmp_path, "imagenet_class_index.json", json.dumps(few))
    assert [(e.id, e.name) for e in found.categories(None)] == [(e.id, e.name) for e in entries[:3]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("labels.txt", "", "names no category"),
        ("labels.txt", "Bär".encode("latin-1"), "is not UTF-8 text: save it as UTF-8"),
        ("labels.txt", POINTER, "is a pointer of Git LFS, .* `git lfs pull`"),
        ("labels.json", "{", "is not valid JSON"),
        ("labels.json", "[" * 100_000, "nested too deeply"),
        ("labels.json", "7", "is not a list of names"),
        ("labels.json", "[]", "names no category"),
        ("labels.json", "[1, [2, 3]]", "is not a list of names"),
        ("labels.json", '["ant", " "]', "has no name: the one of output 1"),
        ("labels.json", '["ant", "\\ud800"]', "output 1 has characters that are not text"),
        ("labels.json", '["ant", "a\\u0000b"]', "output 1 has characters that are not text"),
        ("labels.json", '{"0": "ant", "0": "bee"}', "has '0' twice"),
        ("labels.json", '{"0": "ant", "00": "bee"}', "has a number twice"),
        ("labels.json", '{"0": "ant", "2": "bee"}', "has 2 from 0 to 2 and lacks 1"),
        ("labels.json", '{"2": "ant", "3": "bee"}', "has 2 from 2 to 3 and lacks 0"),
        ("class_to_idx.json", '{"ant": 0, "bee": 0}', "gives the number 0 to two categories"),
        ("config.json", '{"id2label": {}}', "names no category"),
        ("config.json", '{"label2id": {"ant": "first"}}', "is not a list of names"),
    ],
)
def test_what_is_wrong_in_a_label_file_is_said_with_its_path(tmp_path, name, content, words):
    with pytest.raises(OperatorError, match=words) as refused:
        labels_of(tmp_path, name, content)
    assert str(refused.value).startswith(str(tmp_path / name))
    assert len(str(refused.value).splitlines()) == 1


def test_metadata_that_is_no_list_is_refused(tmp_path):
    with pytest.raises(OperatorError, match="metadata 'names' of .* neither JSON nor a list"):
        labels_of(tmp_path, "", "", {"names": "{0: open('x')}"})


def test_counts_that_differ_are_said_with_the_likely_reason(tmp_path):
    labels = labels_of(tmp_path, "labels.txt", "ant\nbee\ncat")
    check_count(labels, [7, 3])
    with pytest.raises(OperatorError, match=r"labels\.txt has 3 labels, but .* returns 5 numbers"):
        check_count(labels, [5])
    with pytest.raises(OperatorError, match="4 numbers .*; the first may be lacking"):
        check_count(labels, [4])
    check_count(labels_of(tmp_path, "labels.txt", "ant\nbee"), [1])
