"""The model repository: importing, manifests, taxonomies, exports, warm-up."""

import json

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import damage, read_manifest
from image_categorizer_server.inference.models.taxonomy import with_taxonomy
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


def test_versions_count_up_and_equal_files_have_equal_digests(repository, tiny):
    first, second = (read_manifest(add(repository, tiny)) for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest
    assert [(f.name, f.version) for f in repository.scan() if f.name == "tiny"] == [
        ("tiny", 1),
        ("tiny", 2),
    ]


def test_any_change_of_a_file_is_damage(repository, tiny):
    folder = add(repository, tiny)
    manifest = read_manifest(folder)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert damage(folder, manifest) == "model.safetensors does not match the manifest"
    weights.unlink()
    assert damage(folder, manifest) == "model.safetensors is missing"


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
def test_folders_that_are_no_models_are_refused(tmp_path, files, words):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OperatorError, match=words):
        check_files(tmp_path)


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "-a", ".a", "a" * 65, "ä"])
def test_names_that_are_no_folders_are_refused(name):
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
def test_a_processor_we_cannot_imitate_is_refused(repository, tiny, tmp_path, change, words):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("config.json", "model.safetensors"):
        (source / name).write_bytes((tiny / name).read_bytes())
    (source / "preprocessor_config.json").write_text(json.dumps(CARD | change))
    with pytest.raises(OperatorError, match=words):
        add(repository, source)
    assert [f for f in repository.scan() if f.name == "tiny"] == []


@pytest.mark.parametrize("text", [b"{}", b"no json", b'{"name": "../x"}', b"\xff"])
def test_a_malformed_manifest_says_where(tmp_path, text):
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(OperatorError, match=r"manifest\.json is malformed"):
        read_manifest(tmp_path)


def test_the_starter_ships_with_the_program_and_stays(repository):
    assert [(f.name, f.is_packaged) for f in repository.scan()] == [("starter", True)]
    with pytest.raises(OperatorError, match="ships with the program"):
        repository.remove("starter", None)
    with pytest.raises(OperatorError, match="models list"):
        repository.remove("nope", 1)


def test_removing_takes_one_version_or_all(repository, tiny):
    for _ in range(3):
        add(repository, tiny)
    assert repository.remove("tiny", 2) == [2]
    assert repository.remove("tiny", None) == [1, 3]
    assert [f.name for f in repository.scan()] == ["starter"]


def test_imagenet_categories_know_their_identifiers_and_ancestors():
    known = with_taxonomy(imagenet_names(), None)
    assert (known[0].id, known[0].ancestors[:2]) == ("n01440764", ("cyprinid", "cypriniform fish"))
    assert known[207].id == "n02099601"
    assert "dog" in known[207].ancestors
    assert len({entry.name for entry in known}) == 1000
    shifted = with_taxonomy(["background", *imagenet_names()], None)
    assert (shifted[0].id, shifted[1].id) == ("", "n01440764")


def imagenet_names():
    from importlib import resources

    folder = resources.files("image_categorizer_server") / "inference/data/taxonomies"
    table = folder / "imagenet1k.json"
    return [entry["name"] for entry in json.loads(table.read_text())]


def test_other_categories_have_no_taxonomy_unless_a_file_gives_one(tmp_path):
    assert with_taxonomy(["cat", "dog"], None)[0].ancestors == ()
    file = tmp_path / "taxonomy.json"
    file.write_text(
        '[{"name": "dog", "id": "n2"}, {"name": "cat", "id": "n1", "ancestors": ["animal"]}]'
    )
    cat, dog = with_taxonomy(["cat", "dog"], file)
    assert (cat.id, cat.ancestors, dog.id) == ("n1", ("animal",), "n2")
    with pytest.raises(OperatorError, match="lacks 1 of the model's categories, such as 'emu'"):
        with_taxonomy(["cat", "emu"], file)
    file.write_text('[{"id": 3}]')
    with pytest.raises(OperatorError, match="is not a taxonomy"):
        with_taxonomy(["cat"], file)


def test_categories_of_one_name_are_told_apart():
    assert [e.name for e in with_taxonomy(["crane", "cat", "crane"], None)] == [
        "crane (0)",
        "cat",
        "crane (2)",
    ]


@pytest.mark.parametrize(
    ("pulled", "name"), [("resnet50", "resnet50"), ("microsoft/ResNet-50", "resnet-50")]
)
def test_a_pulled_model_has_a_name_here(pulled, name):
    assert local_name(pulled) == name
