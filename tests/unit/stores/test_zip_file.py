"""Zip files on disk. How their files are read, also damaged ones: `tests/unit/rpc`."""

import pytest
from image_categorizer_server.stores.zip_file import is_of_a_system, is_zip_name


@pytest.mark.parametrize(
    ("name", "is_ignored"),
    [
        (".DS_Store", True),
        ("photos/._a.jpg", True),
        ("__MACOSX/a.jpg", True),
        ("photos/@eaDir/a.jpg/x.jpg", True),
        ("THUMBS.DB", True),
        ("photos/a._b.jpg", False),
        ("photos/desktop.jpg", False),
    ],
)
def test_files_of_operating_systems_are_known_by_name(name, is_ignored):
    assert is_of_a_system(name) == is_ignored


def test_zip_files_are_known_by_their_suffix():
    assert is_zip_name("photos.Zip")
    assert not is_zip_name("photos.zip.jpg")
