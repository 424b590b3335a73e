"""The alias file, and the images that the canary answers for."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from image_categorizer_server.inference.models.aliases import (
    ALIASES_FILE,
    Aliases,
    change_aliases,
    is_canary_image,
    read_aliases,
)

IMAGES = [f"image {number}".encode() for number in range(4000)]


def change(root, alias, version, percent=0.0):
    return change_aliases(root, "m", lambda aliases: aliases.with_alias(alias, version, percent))


def test_aliases_are_kept_as_data(tmp_path):
    change(tmp_path, "stable", 1)
    change(tmp_path, "canary", 2, 12.5)
    change_aliases(tmp_path, "m", lambda aliases: aliases.with_unloaded(3, True))
    kept = {
        "schema_version": 1,
        "versions": {"canary": 2, "stable": 1},
        "canary_percent": 12.5,
        "unloaded": [3],
    }
    assert json.loads((tmp_path / "m" / ALIASES_FILE).read_text()) == kept
    kept = Aliases(versions={"stable": 1}, unloaded=(3,))
    assert change(tmp_path, "canary", None) == read_aliases(tmp_path / "m") == kept
    assert change(tmp_path, "stable", 3) == Aliases(versions={"stable": 3})
    assert read_aliases(tmp_path) == Aliases()
    assert [file.name for file in (tmp_path / "m").iterdir()] == [ALIASES_FILE]


def test_aliases_of_users_come_before_those_of_the_program():
    own = Aliases(versions={"fast": 3, "stable": 1})
    both = own.with_shipped({"fast": 2, "small": 4})
    assert (both.versions, both.on_request) == ({"fast": 3, "small": 4, "stable": 1}, (2, 4))
    assert (both.newest([1, 2, 3, 4]), both.newest([2, 4])) == (3, None)
    assert own.with_shipped({}) == own
    assert "on_request" not in both.model_dump()


def test_many_writers_lose_no_alias(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        names = [f"a{number}" for number in range(40)]
        list(pool.map(lambda name: change(tmp_path, name, 3), names))
    assert read_aliases(tmp_path / "m").versions == dict.fromkeys(sorted(names), 3)


@pytest.mark.parametrize("percent", [0, 0.5, 10, 50, 100])
def test_the_canary_gets_its_share_and_the_same_images(percent):
    share = sum(is_canary_image(image, percent) for image in IMAGES) / len(IMAGES) * 100
    spread = (percent * (100 - percent) / len(IMAGES)) ** 0.5
    assert share == pytest.approx(percent, abs=4 * spread)
    chosen = [image for image in IMAGES if is_canary_image(image, percent)]
    assert all(is_canary_image(image, percent) for image in chosen)
    # A larger share keeps who was in the smaller one.
    assert all(is_canary_image(image, min(100, percent * 2)) for image in chosen)
