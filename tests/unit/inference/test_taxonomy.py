"""Taxonomies: the packaged ImageNet one, and those from a file."""

import json
import subprocess
import sys
from collections import defaultdict
from importlib import resources
from pathlib import Path

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.taxonomy import (
    imagenet_categories,
    with_taxonomy,
)


def test_imagenet_categories_get_identifiers_and_ancestors():
    known = with_taxonomy(imagenet_names(), None)
    assert (known[0].id, known[0].ancestors) == ("n01440764", ("fish", "animal"))
    assert known[207].id == "n02099601"
    assert known[207].ancestors == ("dog", "mammal", "animal")
    assert known[207].ancestor_ids == ("n02084071", "n01861778", "n00015388")
    assert len({entry.name for entry in known}) == 1000
    shifted = with_taxonomy(["background", *imagenet_names()], None)
    assert (shifted[0].id, shifted[1].id) == ("", "n01440764")


@pytest.fixture(scope="module")
def everyday():
    """The packaged categories, by the name of each broader one."""
    found = defaultdict(set)
    for entry in imagenet_categories():
        for name in entry.ancestors:
            found[name].add(entry.name)
    return found


def test_the_broader_categories_are_those_of_everyday_life(everyday):
    expected = {"dog", "cat", "bird", "car", "food", "furniture", "fruit", "insect", "boat"}
    assert expected | {"musical instrument", "clothing", "tool", "building"} < everyday.keys()
    assert not {"placental", "carnivore", "artifact", "whole", "instrumentality"} & everyday.keys()
    assert len(everyday["dog"]) == 118
    assert everyday["cat"] == {"tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat"}
    assert everyday["fungus"] & everyday["vegetable"] == {"mushroom"}
    without = [entry for entry in imagenet_categories() if not entry.ancestors]
    assert len(without) <= 105


def test_no_broader_category_has_the_name_of_another_category(everyday):
    names = {entry.name for entry in imagenet_categories()} | set(imagenet_names())
    assert not names & everyday.keys()


def imagenet_names():
    folder = resources.files("image_categorizer_server") / "inference/data/taxonomies"
    table = folder / "imagenet1k.json"
    return [entry["name"] for entry in json.loads(table.read_text())]


def test_the_packaged_taxonomy_is_what_its_script_writes(test_data, tmp_path):
    root = Path(__file__).parents[3]
    script, wordnet = root / "tools/imagenet_taxonomy.py", "labels/imagenet1000_taxonomy.json"
    target = tmp_path / "imagenet1k.json"
    subprocess.run([sys.executable, script, test_data / wordnet, target], check=True)
    packaged = resources.files("image_categorizer_server") / "inference/data/taxonomies"
    assert target.read_bytes() == (packaged / "imagenet1k.json").read_bytes()


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
