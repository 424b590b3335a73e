"""The model repository: versions appear, count up and are removed."""

import json

import pytest
from image_categorizer_server.errors import OperatorError
from image_categorizer_server.inference.models.aliases import ALIASES_FILE, Aliases
from image_categorizer_server.inference.models.manifest import read_manifest
from image_categorizer_server.inference.models.repository import Repository

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


def test_a_shipped_version_with_an_alias_answers_on_request_only(twofold):
    assert twofold.find("small").version == 1
    assert twofold.find("small", "fast").version == twofold.find("small", "2").version == 2
    assert (twofold.aliases_of("small", 1), twofold.aliases_of("small", 2)) == ((), ("fast",))
    assert twofold.aliases()["small"].on_request == (2,)
    assert twofold.aliases()["absent"] == Aliases()
    with pytest.raises(OperatorError, match="ships with the program"):
        twofold.remove("small", 2)


def test_users_may_move_a_shipped_alias_and_let_its_version_answer(twofold, tiny):
    add(twofold, tiny, "small")
    assert twofold.find("small").version == 3
    assert twofold.change_alias("small", "fast", 3, 0).versions == {"fast": 3}
    assert twofold.find("small", "fast").version == 3
    assert twofold.change_alias("small", "fast", None, 0).versions == {"fast": 2}
    assert twofold.change_alias("small", "stable", 2, 0).versions == {"fast": 2, "stable": 2}
    assert twofold.find("small").version == 2
    kept = json.loads((twofold.find("small", "3").folder.parent / ALIASES_FILE).read_text())
    assert (kept["versions"], "on_request" in kept) == ({"stable": 2}, False)


def test_a_version_of_the_user_takes_the_place_of_a_shipped_one(twofold, tmp_path, tiny):
    own = Repository(tmp_path / "models")
    for _ in range(2):
        add(own, tiny, "small")
    assert not twofold.find("small", "2").is_packaged
    assert twofold.find("small").version == 2
    assert twofold.aliases()["small"] == Aliases()
    with pytest.raises(OperatorError, match="There is no model small version fast"):
        twofold.find("small", "fast")


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
