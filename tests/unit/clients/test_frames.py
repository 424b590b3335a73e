"""Values as tables."""

import asyncio
import importlib.util
from datetime import UTC, datetime

import pytest
from image_categorizer import (
    AsyncImageCategorizationClient,
    BatchResult,
    Classification,
    CrashingImage,
    ImageCategorizationClient,
    ModelRef,
    Prediction,
    Result,
    Timing,
    Webhook,
    to_pandas,
)

MODEL = ModelRef("first", "2", "sha256:0")
FOUND = (Prediction("cat", 0.75, "", ()), Prediction("dog", 0.25, "", ()))


def test_a_result_is_a_row_with_its_best_category_first():
    rows = to_pandas(
        [
            BatchResult("0", "a.jpg", FOUND, MODEL),
            BatchResult("1", "b.jpg", error=CrashingImage("no")),
        ]
    )
    assert list(rows.columns[:4]) == ["filename", "category", "confidence", "error"]
    good, bad = rows.to_dict("records")
    assert (good["category"], good["confidence"], good["model_name"]) == ("cat", 0.75, "first")
    assert good["predictions"] == {"cat": 0.75, "dog": 0.25}
    assert (bad["filename"], bad["error"]) == ("b.jpg", CrashingImage.reason)


def test_the_result_of_a_stream_has_the_columns_of_its_classification():
    timing = Timing(1.0, 2.0, 3.0, 4, "FULL")
    classification = Classification("a.jpg", FOUND, MODEL, timing, 0.1, "r", heat_map=b"png")
    failed = Result("b.jpg", error=FileNotFoundError(2, "No such file"))
    rows = to_pandas([Result("a.jpg", classification), failed])
    assert rows["filename"].tolist() == ["a.jpg", "b.jpg"]
    assert rows["timing_batch_size"][0] == 4
    assert rows["error"][1] == "No such file"
    assert "heat_map" not in rows


def test_secrets_are_in_no_table():
    time = datetime(2026, 1, 1, tzinfo=UTC)
    rows = to_pandas([Webhook("w", "https://a.example", "ENABLED", "whsec_x", None, time)])
    assert rows["create_time"][0] == time
    assert "secret" not in rows
    assert "whsec_x" not in rows.to_string()


def test_no_values_are_an_empty_table():
    assert to_pandas([]).empty


@pytest.mark.parametrize("value", [1, "cat", {"category": "cat"}, Prediction])
def test_other_values_are_refused(value):
    with pytest.raises(TypeError, match="a row is an answer"):
        to_pandas([value])


def test_lists_become_tables(serve, services):
    address = serve(services)

    async def rows():
        async with AsyncImageCategorizationClient("ic_x", address) as client:
            return await client.batches.results("b1").to_pandas()

    with ImageCategorizationClient("ic_x", address) as client:
        for table in (client.batches.results("b1").to_pandas(), asyncio.run(rows())):
            assert table["filename"].tolist() == ["a.jpg", "b.jpg"]


def test_a_table_has_what_is_left_of_a_list(serve, services):
    with ImageCategorizationClient("ic_x", serve(services)) as client:
        results = client.batches.results("b1")
        assert next(results).filename == "a.jpg"
        assert results.to_pandas()["filename"].tolist() == ["b.jpg"]
        closed = client.batches.results("b1")
        closed.close()
        assert closed.to_pandas().empty


def test_without_pandas_nothing_is_read_and_the_remedy_is_named(serve, services, monkeypatch):
    found = importlib.util.find_spec
    missing = lambda name, *more: None if name == "pandas" else found(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", missing)
    with (
        ImageCategorizationClient("ic_x", serve(services)) as client,
        pytest.raises(ImportError, match=r"pip install 'image-categorizer\[notebook\]'"),
    ):
        client.batches.list().to_pandas()
    assert services.requests == []
