"""Parts of labelled sets, and the folders of categories."""

import hashlib
from collections import Counter

import pytest
from image_categorizer_server.domain.dataset import Split, folder_of


def hashes(count):
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]


def test_images_are_split_as_asked_and_always_the_same_way():
    split = Split(20, 10)
    parts = [split.part_of(sha256) for sha256 in hashes(5000)]
    counts = Counter(parts)
    assert counts["validation"] == pytest.approx(1000, abs=100)
    assert counts["test"] == pytest.approx(500, abs=80)
    assert parts == [Split(20, 10).part_of(sha256) for sha256 in hashes(5000)]
    assert parts != [Split(20, 10, "other").part_of(sha256) for sha256 in hashes(5000)]


def test_a_larger_share_for_the_test_keeps_its_images():
    tested = {s for s in hashes(1000) if Split(0, 10).part_of(s) == "test"}
    assert tested <= {s for s in hashes(1000) if Split(30, 20).part_of(s) == "test"}


def test_parts_without_a_share_are_not_there():
    assert Split().parts == ("images",)
    assert Split(0, 100).parts == ("train", "test")
    assert {Split(0, 100).part_of(sha256) for sha256 in hashes(50)} == {"test"}


@pytest.mark.parametrize("name", ["cat", "tabby cat", "Größe", "St. Bernard", "jack-o'-lantern"])
def test_a_plain_category_is_its_own_folder(name):
    assert folder_of(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../x", "a\\b", ".hidden", "end.", " a", "c:", "x\n", "y" * 101]
)
def test_a_folder_is_never_a_path_and_differs_by_category(name):
    folder = folder_of(name)
    assert folder not in ("", ".", "..", name)
    assert not set(folder) & set('/\\:\n\0<>"|?*')
    assert not folder.startswith((".", " "))
    assert folder != folder_of(name + "x")
    assert len(folder) <= 110
