"""The order of the results."""

from collections import Counter

from image_categorizer import Result
from image_categorizer_server.cli.classify import _in_order


async def test_results_follow_the_order_of_the_files(tmp_path):
    files = [tmp_path / name for name in ("a", "b", "a", "c")]

    async def results():
        for name in ("c", "a", "a", "b"):
            yield Result(str(tmp_path / name))

    keys = [str(file) for file in files]
    ordered = [result.key async for result in _in_order(keys, results())]
    assert ordered == [str(file) for file in files]
    assert Counter(ordered)[str(tmp_path / "a")] == 2
