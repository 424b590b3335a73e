"""The promotion policy: what `stable` may point to, and what makes a check count no more."""

import shutil

import pytest
from image_categorizer_server.errors import OperatorError, PromotionRefused
from image_categorizer_server.inference.models.manifest import (
    Manifest,
    describe_file,
    digest_of,
    read_manifest,
)
from image_categorizer_server.inference.models.promotion import POLICY_FILE, Check, Policy

from tests.support.tiny_model import write_tiny_model
from tests.unit.conftest import CATEGORIES, add

PICTURES = f"sha256:{'a' * 64}"
OTHER_PICTURES = f"sha256:{'b' * 64}"


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return [write_tiny_model(folder / str(n), CATEGORIES, seed=n) for n in range(3)]


@pytest.fixture
def versions(repository, sources):
    """Three versions of `tiny`."""
    for source in sources:
        add(repository, source)
    return repository


def policy(min_accuracy=0.9, flips=None, pictures=PICTURES):
    return Policy(
        dataset="/labelled",
        dataset_digest=pictures,
        min_accuracy=min_accuracy,
        max_flips_per_category=flips,
    )


def digest(repository, version):
    return read_manifest(repository.find("tiny", str(version)).folder).digest


def record(repository, version, right=95, baseline=None, **flips):
    """Records that a version has `right` of 100 pictures right, and what it has lost."""
    made = Check(
        digest=digest(repository, version),
        dataset_digest=PICTURES,
        right=right,
        pictures=100,
        baseline_version=baseline,
        baseline_digest=digest(repository, baseline) if baseline else "",
        flips=flips,
    )
    repository.record_check("tiny", version, made, repository.promotion("tiny").policy)


def move(repository, version, alias="stable", percent=0):
    return repository.change_alias("tiny", alias, version, percent).versions.get(alias)


def test_without_a_policy_stable_moves_freely(versions):
    assert move(versions, 1) == 1
    assert move(versions, None) is None
    assert versions.promotion("tiny") is None
    assert versions.promotion_refusal("tiny", 1) == ""


def test_stable_moves_only_to_a_version_that_has_passed(versions):
    move(versions, 1)
    versions.set_policy("tiny", policy())
    with pytest.raises(PromotionRefused, match=r"version 2 of model 'tiny' .* it was not checked"):
        move(versions, 2)
    record(versions, 2, right=89)
    with pytest.raises(PromotionRefused, match=r"89 of 100 pictures right, 89\.0%, less than 90"):
        move(versions, 2)
    assert versions.aliases()["tiny"].versions == {"stable": 1}
    record(versions, 2, right=90)
    assert move(versions, 2) == 2
    with pytest.raises(PromotionRefused, match="version 1 .* it was not checked"):
        move(versions, 1)
    assert move(versions, 2) == 2  # where it is
    assert move(versions, 1, "canary") == 1
    assert move(versions, 3, "beta") == 3


def test_a_canary_that_answers_more_than_half_is_to_have_passed_too(versions):
    move(versions, 1)
    versions.set_policy("tiny", policy())
    assert move(versions, 2, "canary", 50) == 2
    with pytest.raises(PromotionRefused, match="version 2 of model 'tiny'"):
        move(versions, 2, "canary", 50.1)
    record(versions, 2, right=90)
    assert move(versions, 2, "canary", 100) == 2
    assert move(versions, 1, "canary", 100) == 1  # it is stable already


def test_stable_cannot_be_removed_while_there_is_a_policy(versions):
    move(versions, 1)
    versions.set_policy("tiny", policy())
    with pytest.raises(PromotionRefused, match="its newest version would answer"):
        move(versions, None)
    assert move(versions, None, "canary") is None
    versions.set_policy("tiny", None)
    assert move(versions, None) is None


def test_a_changed_policy_forgets_all_checks(versions):
    versions.set_policy("tiny", policy())
    record(versions, 1)
    assert versions.promotion_refusal("tiny", 1) == ""
    versions.set_policy("tiny", policy(min_accuracy=0.5))
    assert versions.promotion_refusal("tiny", 1) == "it was not checked"
    with pytest.raises(PromotionRefused):
        move(versions, 1)


def test_a_check_made_for_another_policy_is_not_recorded(versions):
    versions.set_policy("tiny", policy())
    before = policy(min_accuracy=0.1)
    made = Check(digest=PICTURES, dataset_digest=PICTURES, right=1, pictures=1)
    with pytest.raises(OperatorError, match="was changed meanwhile"):
        versions.record_check("tiny", 1, made, before)
    versions.set_policy("tiny", None)
    with pytest.raises(OperatorError, match="was changed meanwhile"):
        versions.record_check("tiny", 1, made, before)


def test_a_check_with_other_pictures_does_not_count(versions):
    versions.set_policy("tiny", policy(pictures=OTHER_PICTURES))
    record(versions, 1)
    assert versions.promotion_refusal("tiny", 1) == "it was checked with other pictures"


def test_a_version_whose_files_have_changed_has_not_passed(versions):
    versions.set_policy("tiny", policy())
    record(versions, 1)
    folder = versions.find("tiny", "1").folder
    config = folder / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(PromotionRefused, match=r"damaged: config\.json does not match"):
        move(versions, 1)
    manifest = read_manifest(folder)
    files = manifest.files | {"config.json": describe_file(config)}
    forged = Manifest.model_validate(
        manifest.model_dump() | {"files": files, "digest": digest_of(files)}
    )
    (folder / "manifest.json").write_text(forged.model_dump_json())
    with pytest.raises(PromotionRefused, match="its files have changed since it was checked"):
        move(versions, 1)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(PromotionRefused, match="its files have changed since it was checked"):
        move(versions, 1)


def test_a_version_that_is_removed_and_added_again_has_not_passed(versions, sources):
    versions.set_policy("tiny", policy())
    record(versions, 3)
    versions.remove("tiny", 3)
    assert add(versions, sources[0]).name == "3"
    assert "changed since it was checked" in versions.promotion_refusal("tiny", 3)


def test_flips_count_by_category_against_the_present_stable(versions):
    move(versions, 1)
    versions.set_policy("tiny", policy(flips=2))
    record(versions, 2, baseline=1, ant=1, bee=3)
    with pytest.raises(PromotionRefused, match="3 pictures of 'bee' wrong that version 1 has righ"):
        move(versions, 2)
    record(versions, 2, baseline=1, ant=2, bee=2)
    assert move(versions, 2) == 2


def test_flips_against_another_version_than_the_present_stable_do_not_count(versions):
    versions.set_policy("tiny", policy(flips=2))
    record(versions, 1)
    assert move(versions, 1) == 1
    for version in (2, 3):
        record(versions, version, baseline=1)
    assert move(versions, 2) == 2
    with pytest.raises(PromotionRefused, match="compared with version 1, but stable is version 2"):
        move(versions, 3)
    record(versions, 3, baseline=2)
    assert move(versions, 3) == 3


def test_the_way_back_to_the_version_before_is_open_if_that_has_passed(versions):
    move(versions, 1)
    versions.set_policy("tiny", policy(flips=0))
    record(versions, 2, baseline=1)
    assert move(versions, 2) == 2
    with pytest.raises(PromotionRefused, match="version 1 .* it was not checked"):
        move(versions, 1)
    record(versions, 1, baseline=2, ant=7)
    assert move(versions, 1) == 1  # version 2 was compared with it, and has lost nothing
    record(versions, 3, baseline=1)
    assert move(versions, 3) == 3
    with pytest.raises(PromotionRefused, match="compared with version 1, but stable is version 3"):
        move(versions, 2)


def test_without_the_files_of_stable_a_check_without_a_baseline_counts(versions):
    versions.set_policy("tiny", policy(flips=0))
    record(versions, 1)
    move(versions, 1)
    record(versions, 2, baseline=1)
    shutil.rmtree(versions.find("tiny", "1").folder)
    with pytest.raises(PromotionRefused, match="compared with version 1, but stable is gone now"):
        move(versions, 2)
    record(versions, 2)
    assert move(versions, 2) == 2


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"policy": {"min_accuracy": 2}}'])
def test_a_malformed_policy_refuses_everything_and_can_be_replaced(versions, tmp_path, content):
    file = tmp_path / "models" / "tiny" / POLICY_FILE
    file.write_text(content)
    with pytest.raises(PromotionRefused, match="cannot be read: set it again") as caught:
        move(versions, 1)
    assert str(tmp_path) not in caught.value.message
    with pytest.raises(OperatorError, match="malformed"):
        versions.promotion("tiny")
    versions.set_policy("tiny", policy())
    record(versions, 1)
    assert move(versions, 1) == 1


def test_a_model_goes_with_its_policy(versions, tmp_path):
    versions.set_policy("tiny", policy())
    assert versions.remove("tiny", None) == [1, 2, 3]
    assert not (tmp_path / "models" / "tiny").exists()


def test_a_packaged_model_may_have_a_policy(repository):
    repository.set_policy("small", policy())
    with pytest.raises(PromotionRefused, match="it was not checked"):
        repository.change_alias("small", "stable", 1, 0)
