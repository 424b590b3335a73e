"""Which files are ONNX files, and where their weights may be."""

import os
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.packaging.onnx_file import (
    companion,
    onnx_file,
    read_model,
)
from onnx import TensorProto, numpy_helper

from tests.support.tiny_onnx import write_tiny_onnx

LABELS = ["ant", "bee", "cat"]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"


def move_out(file: Path, location: str = "model.onnx.data") -> bytes:
    """Makes a file refer to another for its weights; returns what belongs there."""
    model, content = onnx.load_model(file), b""
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.MergeFrom(TensorProto(data_location=TensorProto.EXTERNAL))
        for key, value in (("location", location), ("offset", len(content)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        content += raw
    file.write_bytes(model.SerializeToString())
    return content


@pytest.fixture
def file(tmp_path):
    return write_tiny_onnx(tmp_path / "source", LABELS)


def weights(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize("location", ["model.onnx.data", "./parts/weights.bin"])
def test_weights_beside_the_file_are_read(file, location):
    expected = weights(read_model(file))
    content = move_out(file, location)
    data = file.parent / location
    data.parent.mkdir(exist_ok=True)
    data.write_bytes(content)
    found = weights(read_model(file))
    assert all(np.array_equal(found[name], array) for name, array in expected.items())


def test_a_link_inside_the_folder_is_followed_and_one_out_of_it_is_not(file, tmp_path):
    content = move_out(file)
    data = file.parent / "model.onnx.data"
    (file.parent / "blob").write_bytes(content)
    data.symlink_to("blob")
    assert weights(read_model(file))["kernels"].shape == (6, 3, 3, 3)
    (tmp_path / "secret").write_bytes(content)
    data.unlink()
    data.symlink_to("../secret")
    with pytest.raises(OperatorError, match=f"{data} is a link out of the folder of model.onnx"):
        read_model(file)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "a\\b", ""])
def test_weights_outside_the_folder_are_not_read(file, tmp_path, location):
    (tmp_path / "secret").write_bytes(move_out(file, location))
    with pytest.raises(OperatorError, match="which is not a path inside its folder"):
        read_model(file)


def test_weights_that_cannot_be_read_are_named(file):
    data = file.parent / "model.onnx.data"
    content = move_out(file)
    with pytest.raises(OperatorError, match=r"model\.onnx\.data, which is missing"):
        read_model(file)
    data.write_bytes(content[:-1])
    with pytest.raises(OperatorError, match=f"{data} is too short: it lacks bytes of the weights"):
        read_model(file)
    data.write_bytes(POINTER)
    with pytest.raises(OperatorError, match=f"{data} is a pointer of Git LFS"):
        read_model(file)
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(OperatorError, match=f"{data} is not a regular file"):
        read_model(file)


def test_more_than_2_gib_are_refused_before_they_are_read(file):
    model = onnx.load_model(file)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.MergeFrom(TensorProto(data_location=TensorProto.EXTERNAL))
    tensor.dims[0] = 2**31
    tensor.external_data.add(key="location", value="model.onnx.data")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(OperatorError, match="GiB; 2 GiB are the most that an ONNX file can hold"):
        read_model(file)
    with file.open("r+b") as opened:  # no byte of it is on disk
        opened.truncate(2**31 + 1)
    with pytest.raises(OperatorError, match=r"take 2\.0 GiB; 2 GiB are the most"):
        read_model(file)


def test_a_file_that_is_cut_off_is_refused(file):
    content = file.read_bytes()
    for size in (len(content) // 3, len(content) - 1):
        file.write_bytes(content[:size])
        with pytest.raises(OperatorError, match="cut off: export or download it again"):
            read_model(file)


def test_names_that_are_not_text_are_refused(file):
    file.write_bytes(
        file.read_bytes().replace(b"GlobalAveragePool_t2", b"GlobalAveragePool\xff\xfe\xfd")
    )
    with pytest.raises(OperatorError, match="damaged: it has names that are not text"):
        read_model(file)


def test_weights_of_another_size_than_they_claim_are_refused(file):
    model = onnx.load_model(file)
    model.graph.initializer[0].dims[0] = 5
    file.write_bytes(model.SerializeToString())
    with pytest.raises(OperatorError, match="the weights 'kernels' have another size than they"):
        read_model(file)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.onnx", b"", "is empty"),
        ("model.onnx", POINTER, "is a pointer of Git LFS, not the file itself: run `git lfs pull`"),
        ("model.onnx", b"PK\x03\x04rest", "a zip file, as PyTorch .* torch.onnx.export"),
        ("model.onnx", b"\x80\x02}q\x00.", "a pickle, as PyTorch writes"),
        ("model.onnx", b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes"),
        ("model.onnx", b"\x1c\0\0\0TFL3", "a TensorFlow Lite file"),
        ("model.onnx", struct.pack("<Q", 9) + b'{"a":{}}', "a safetensors file: add its folder"),
        ("model.onnx", b"<!DOCTYPE html>", "a web page or XML"),
        ("model.onnx", b'{"error": 404}', "JSON: give the path"),
        ("net.pt", b"anything", "a PyTorch file: export the network with torch.onnx.export"),
        ("net.tflite", b"anything", "a TensorFlow Lite file"),
        ("net.pb", b"anything", "a TensorFlow graph"),
        ("net.keras", b"PK\x03\x04", "a Keras file: convert it with tf2onnx"),
        ("net.h5", b"\x89HDF\r\n\x1a\n", "a Keras file"),
    ],
)
def test_files_of_other_kinds_are_named_with_what_to_do(tmp_path, name, content, words):
    file = tmp_path / name
    file.write_bytes(content)
    assert onnx_file(file) == file
    with pytest.raises(OperatorError, match=words) as refused:
        read_model(file)
    assert str(refused.value).startswith(str(file))


def test_a_folder_for_transformers_js_has_its_graph_below_its_cards(tmp_path):
    full = write_tiny_onnx(tmp_path / "onnx", LABELS)
    small = write_tiny_onnx(tmp_path / "onnx", LABELS, name="model_quantized.onnx")
    card = tmp_path / "preprocessor_config.json"
    card.write_text("{}")
    assert onnx_file(tmp_path) == onnx_file(tmp_path / "onnx") == full
    assert companion(small, card.name) == card
    full.unlink()
    assert onnx_file(tmp_path) == small
    write_tiny_onnx(tmp_path / "onnx", LABELS, name="model_fp16.onnx")
    with pytest.raises(OperatorError, match=r"2 ONNX files \(model_fp16.onnx, model_quantized"):
        onnx_file(tmp_path)
