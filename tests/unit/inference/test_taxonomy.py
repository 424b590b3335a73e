"""Taxonomies: the packaged ImageNet one, and those from a file."""

import json

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.taxonomy import with_taxonomy


def test_imagenet_categories_get_identifiers_and_ancestors():
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


def test_other_categories_have_a_taxonomy_only_from_a_file(tmp_path):
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


def test_categories_with_the_same_name_get_unique_names():
    assert [e.name for e in with_taxonomy(["crane", "cat", "crane"], None)] == [
        "crane (0)",
        "cat",
        "crane (2)",
    ]
