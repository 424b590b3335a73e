"""Files and folders, and the order of the results."""

from collections import Counter

import pytest
from image_categorizer import Result
from image_categorizer_server.cli.classify import _in_order, expand
from image_categorizer_server.errors import OperatorError


def test_a_folder_stands_for_its_images(tmp_path):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "deep/b.png", "notes.txt"):
        (folder / name).touch()
    file = tmp_path / "c.txt"
    assert expand([file, folder]) == [file, folder / "a.jpg", folder / "deep" / "b.png"]


def test_folders_without_images_are_an_error(tmp_path):
    with pytest.raises(OperatorError, match="No images found"):
        expand([tmp_path])


async def test_results_follow_the_order_of_the_files(tmp_path):
    files = [tmp_path / name for name in ("a", "b", "a", "c")]

    async def results():
        for name in ("c", "a", "a", "b"):
            yield Result(str(tmp_path / name))

    ordered = [result.key async for result in _in_order(files, results())]
    assert ordered == [str(file) for file in files]
    assert Counter(ordered)[str(tmp_path / "a")] == 2
