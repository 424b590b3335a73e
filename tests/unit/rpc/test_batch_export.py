"""Results of batches as files, and over the wire."""

import csv
import io
import json
from dataclasses import replace

import pytest
from image_categorizer_server.domain.batch import ItemError, ItemResult
from image_categorizer_server.domain.classification import (
    Box,
    Category,
    ImageWarning,
    ModelRef,
    Prediction,
)
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.batch import convert as convert_batch
from image_categorizer_server.rpc.batch.export import COLUMNS, FORMATS
from image_categorizer_server.rpc.export import PIECE_BYTES, file_format, pieces

from tests.support.forms import stream

GOOD = ItemResult(
    0,
    'a "b", c.jpg',
    (
        Prediction(
            Category("cat", "n02121620", ("mammal",)),
            0.75,
            (Box(1, 2, 3, 4), Box(5, 6, 7, 8)),
            0.875,
        ),
    ),
    ModelRef("small", 1, "sha256:0"),
    None,
    (ImageWarning.TRUNCATED,),
)
EMPTY = ItemResult(1, "=1+1.jpg", (), ModelRef("small", 1, "sha256:0"), None)
BAD = ItemResult(
    2, "zürich.jpg", (), None, ItemError("INVALID_ARGUMENT", "IMAGE_UNDECODABLE", "it is no image")
)


async def exported(name, *results):
    form = file_format(FORMATS, name)
    return b"".join([piece async for piece in pieces(stream(*results), form)]).decode()


@pytest.mark.parametrize("name", ["", "jsonl"])
async def test_results_as_json_lines(name):
    lines = (await exported(name, GOOD, EMPTY, BAD)).splitlines()
    good, empty, bad = map(json.loads, lines)
    assert set(good) == set(COLUMNS)
    assert (good["item_id"], good["filename"], good["category"]) == ("0", 'a "b", c.jpg', "cat")
    assert good["predictions"][0]["bounding_box"] == [1, 2, 3, 4]
    assert good["predictions"][0]["bounding_boxes"] == [
        {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 4},
        {"x_min": 5, "y_min": 6, "x_max": 7, "y_max": 8},
    ]
    assert (good["warnings"], empty["warnings"]) == (["TRUNCATED"], [])
    assert good["raw_confidence"] == good["predictions"][0]["raw_confidence"] == 0.875
    assert (empty["raw_confidence"], bad["raw_confidence"]) == (None, None)
    assert (empty["category"], empty["predictions"], empty["error_reason"]) == (None, [], None)
    assert (bad["filename"], bad["error_reason"]) == ("zürich.jpg", "IMAGE_UNDECODABLE")


async def test_results_as_csv():
    text = await exported("csv", GOOD, EMPTY, BAD)
    good, empty, bad = csv.DictReader(io.StringIO(text))
    assert (good["filename"], good["category"], good["confidence"]) == (
        'a "b", c.jpg',
        "cat",
        "0.75",
    )
    assert json.loads(good["predictions"])[0]["category_id"] == "n02121620"
    assert (empty["category"], empty["error_reason"]) == ("", "")
    assert (good["warnings"], empty["warnings"]) == ("TRUNCATED", "")
    assert (good["raw_confidence"], bad["raw_confidence"]) == ("0.875", "")
    assert bad["error_reason"] == "IMAGE_UNDECODABLE"
    assert text.startswith(
        "item_id,filename,category,confidence,predictions,error_reason,warnings,raw_confidence\r\n"
    )


async def test_a_confidence_before_calibration_is_exported_if_it_is_known():
    plain = replace(GOOD, predictions=(replace(GOOD.predictions[0], raw_confidence=None),))
    line = json.loads(await exported("jsonl", plain))
    assert line["raw_confidence"] is None
    assert set(line["predictions"][0]) == {
        "category",
        "confidence",
        "bounding_box",
        "bounding_boxes",
        "category_id",
        "ancestors",
    }
    (row,) = csv.DictReader(io.StringIO(await exported("csv", plain)))
    assert row["raw_confidence"] == ""
    assert not convert_batch.result(plain).classification.predictions[0].HasField("raw_confidence")
    assert convert_batch.result(GOOD).classification.predictions[0].raw_confidence == 0.875


async def test_an_export_of_nothing_is_an_empty_file_all_the_same():
    form = file_format(FORMATS, "jsonl")
    assert [piece async for piece in pieces(stream(), form)] == [b""]
    assert (await exported("csv")).count("\r\n") == 1


async def test_large_exports_come_in_pieces():
    form = file_format(FORMATS, "jsonl")
    found = [piece async for piece in pieces(stream(*[GOOD] * 1000), form)]
    assert len(found) > 2
    assert b"".join(found).count(b"\n") == 1000


def test_an_unknown_format_is_refused():
    with pytest.raises(InvalidRequest, match="format: must be jsonl or csv"):
        file_format(FORMATS, "xlsx")


def test_results_carry_code_0_or_the_reason():
    good, bad = convert_batch.result(GOOD), convert_batch.result(BAD)
    assert (good.status.code, good.classification.predictions[0].category) == (0, "cat")
    assert (bad.item_id, bad.status.code, bad.status.message) == ("2", 3, "it is no image")
    assert b"IMAGE_UNDECODABLE" in bad.status.details[0].value
    assert not bad.HasField("classification")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
async def test_no_cell_of_a_csv_file_is_a_formula(start):
    name = f'{start}HYPERLINK("http://evil","x").jpg'
    category = Category(f"{start}cat", "", ())
    small = Prediction(category, 1e-7)
    result = ItemResult(0, name, (small,), ModelRef("small", 1, "sha256:0"), None)
    (row,) = csv.DictReader(io.StringIO(await exported("csv", result), newline=""))
    assert (row["filename"], row["category"]) == (f"'{name}", f"'{start}cat")
    assert float(row["confidence"]) == 1e-7
    assert json.loads(await exported("jsonl", result))["filename"] == name


async def test_a_csv_file_may_begin_with_a_byte_order_mark():
    form = file_format(FORMATS, "csv", bom=True)
    (piece,) = [piece async for piece in pieces(stream(GOOD), form)]
    assert piece.startswith(b"\xef\xbb\xbfitem_id,")
    with pytest.raises(InvalidRequest, match="bom: is for the format csv only"):
        file_format(FORMATS, "jsonl", bom=True)


async def test_one_long_line_comes_in_pieces_too():
    category = Category("c" * 300, "", ())
    long = ItemResult(
        0, "a", (Prediction(category, 0.1),) * 1000, ModelRef("m", 1, "sha256:0"), None
    )
    form = file_format(FORMATS, "jsonl")
    found = [piece async for piece in pieces(stream(long), form)]
    assert max(map(len, found)) <= PIECE_BYTES < len(b"".join(found))
    assert len(json.loads(b"".join(found))["predictions"]) == 1000
