"""Folders of transformers models to change, and what importing them gives."""

import json

import pytest
import torch
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.packaging.huggingface import (
    Labels,
    copy_model,
)
from image_categorizer_server.inference.runtimes.network import load_network
from safetensors.torch import load_file, save_file


def change(file, **fields):
    """Replaces fields of a JSON file; None removes one."""
    content = json.loads(file.read_bytes()) | fields
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def change_weights(folder, change):
    """Replaces the weights by what a function makes of them."""
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def imported(source, tmp_path, **options):
    """Returns manifest, network and sentences of the version that a folder becomes."""
    target, said = tmp_path / "target", []
    target.mkdir()
    manifest = copy_model(source, target, Labels("tiny", 1), say=said.append, **options)
    return manifest, load_network(target, manifest.input, manifest.activation), said


def confidences(network):
    torch.manual_seed(0)
    with torch.inference_mode():
        return network(torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8))


def refusal(source, tmp_path, **options):
    """Returns the sentence with which a folder is refused."""
    with pytest.raises(OperatorError) as refused:
        imported(source, tmp_path, **options)
    sentence = str(refused.value)
    assert str(tmp_path / "target") not in sentence
    assert "\n" not in sentence
    return sentence
