"""The model repository: versions appear, count up and are removed."""

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.manifest import read_manifest

from tests.unit.conftest import add


def test_versions_count_up_and_equal_files_have_equal_digests(repository, tiny):
    first, second = (read_manifest(add(repository, tiny)) for _ in range(2))
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest
    assert [(f.name, f.version) for f in repository.scan() if f.name == "tiny"] == [
        ("tiny", 1),
        ("tiny", 2),
    ]


def test_a_model_that_ships_with_the_program_cannot_be_removed(repository):
    assert [(f.name, f.is_packaged) for f in repository.scan()] == [("small", True)]
    with pytest.raises(OperatorError, match="ships with the program"):
        repository.remove("small", None)
    with pytest.raises(OperatorError, match="models list"):
        repository.remove("nope", 1)


def test_remove_takes_one_version_or_all(repository, tiny):
    for _ in range(3):
        add(repository, tiny)
    assert repository.remove("tiny", 2) == [2]
    assert repository.remove("tiny", None) == [1, 3]
    assert [f.name for f in repository.scan()] == ["small"]


def test_an_aliased_version_is_removed_only_with_its_model(repository, tiny):
    folder = add(repository, tiny).parent
    add(repository, tiny)
    repository.change_alias("tiny", "stable", 1, 0)
    with pytest.raises(OperatorError, match="alias stable points to tiny version 1"):
        repository.remove("tiny", 1)
    assert repository.remove("tiny", None) == [1, 2]
    assert not folder.exists()
