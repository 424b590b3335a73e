"""The weights of a Hugging Face folder: all of them, finite, and those of the network."""

import json

import pytest
import torch
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.runtimes.network import UnfilledNetwork, load_network
from safetensors.torch import load_file, save_file

from tests.support.folders import change, change_weights, confidences, imported, refusal
from tests.unit.conftest import add

LAST = ("classifier.1.weight", "classifier.1.bias")
STATISTIC = "resnet.embedder.embedder.normalization.running_var"


@pytest.mark.parametrize(
    "lost",
    [
        LAST,
        (STATISTIC,),
        ("resnet.encoder.stages.1.layers.0.shortcut.convolution.weight",),
    ],
)
def test_weights_that_do_not_fill_the_network_are_refused_by_name(source, tmp_path, lost):
    change_weights(source, lambda w: {key: w[key] for key in w if key not in lost})
    sentence = refusal(source, tmp_path)
    assert f"{len(lost)} of 38 are missing" in sentence
    assert all(key in sentence for key in lost)


def test_the_list_of_missing_weights_is_short(source, tmp_path):
    change_weights(source, lambda w: {key: w[key] for key in w if "encoder" not in key})
    sentence = refusal(source, tmp_path)
    assert " more). Add" in sentence
    assert len(sentence) < 800


def test_weights_of_another_network_are_refused(source, tmp_path):
    change(source / "config.json", hidden_sizes=[8, 32])
    assert "They are of another network" in refusal(source, tmp_path)


def test_a_network_with_fewer_layers_than_weights_is_refused(source, tmp_path):
    change_weights(
        source,
        lambda w: w | {k.replace("layers.0.", "layers.1."): t.clone() for k, t in w.items()},
    )
    sentence = refusal(source, tmp_path)
    assert "describes fewer layers than the weights" in sentence
    assert "stages.0.layers.1.layer.0.convolution.weight" in sentence


def test_a_network_that_neither_classifies_nor_detects_is_refused(source, tmp_path):
    change(source / "config.json", model_type="yolos")
    sentence = refusal(source, tmp_path)
    assert "no image classifier or detector of this model_type" in sentence


def test_quantized_weights_are_refused(source, tmp_path):
    change(source / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert "`models quantize` makes an int8 version" in refusal(source, tmp_path)


def test_a_version_with_weights_missing_is_never_loaded(repository, tiny):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    change_weights(folder, lambda w: {key: w[key] for key in w if key not in LAST})
    with pytest.raises(UnfilledNetwork, match="classifier.1"):
        load_network(folder, manifest.input, manifest.activation)


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: f"module.{key}",
        lambda key: f"model.{key}",
        lambda key: f"module._orig_mod.{key}",
        lambda key: f"_orig_mod.module.model.{key}",
        lambda key: key.replace("resnet.", "resnet._orig_mod."),
    ],
)
def test_prefixes_of_wrapped_networks_are_taken_off(source, tiny, tmp_path, rename):
    change_weights(
        source,
        lambda w: {rename(key): w[key] for key in w} | {"criterion.weight": torch.ones(3)},
    )
    manifest, network, said = imported(source, tmp_path)
    assert said == [
        "The names of the weights had a prefix, which is taken off.",
        "The network has no place for 1 of the weights: criterion.weight.",
    ]
    original = load_network(tiny, manifest.input, manifest.activation)
    assert torch.equal(confidences(network), confidences(original))


def test_a_prefix_does_not_hide_that_weights_are_missing(source, tmp_path):
    change_weights(source, lambda w: {f"module.{key}": w[key] for key in w if key not in LAST})
    assert "do not fill the network" in refusal(source, tmp_path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(source, tmp_path, number):
    change_weights(source, lambda w: w | {STATISTIC: torch.full((8,), number)})
    sentence = refusal(source, tmp_path)
    assert STATISTIC in sentence
    assert f"{source}/model.safetensors has weights that are infinite" in sentence


@pytest.mark.parametrize(
    ("damage_file", "words"),
    [
        (lambda content: content[:-100], "is damaged or truncated"),
        (lambda content: content[:100], "is damaged or truncated"),
        (lambda content: b"", "is damaged or truncated"),
        (
            lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "run `git lfs pull` in",
        ),
    ],
)
def test_damaged_weights_are_refused(source, tmp_path, damage_file, words):
    file = source / "model.safetensors"
    file.write_bytes(damage_file(file.read_bytes()))
    sentence = refusal(source, tmp_path)
    assert words in sentence
    assert str(file) in sentence


def test_a_pointer_in_place_of_the_configuration_is_named(source, tmp_path):
    (source / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    assert f"{source}/config.json is a pointer of Git LFS" in refusal(source, tmp_path)


def split(folder, parts=3):
    """Splits the weights into several files with an index; returns the names of the files."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = [f"model-{i + 1:05}-of-{parts:05}.safetensors" for i in range(parts)]
    for number, name in enumerate(names):
        keys = sorted(weights)[number::parts]
        save_file({key: weights[key] for key in keys}, folder / name, metadata={"format": "pt"})
    where = {key: names[number % parts] for number, key in enumerate(sorted(weights))}
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return names


def test_weights_in_several_files_become_one(source, tiny, tmp_path):
    split(source)
    manifest, network, _ = imported(source, tmp_path)
    assert "model.safetensors" in manifest.files
    original = load_network(tiny, manifest.input, manifest.activation)
    assert torch.equal(confidences(network), confidences(original))


def test_a_missing_part_of_the_weights_is_named(source, tmp_path):
    first = split(source)[0]
    (source / first).unlink()
    assert f"lacks 1 of 3 files with weights ({first})" in refusal(source, tmp_path)


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {"a": "../model.safetensors"}}, "is not in the folder"),
        ([], "is not a JSON object"),
    ],
)
def test_a_malformed_index_of_weights_is_refused(source, tmp_path, index, words):
    (source / "model.safetensors").unlink()
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    assert words in refusal(source, tmp_path)
