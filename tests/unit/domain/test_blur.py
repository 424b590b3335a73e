"""Rectangles that are blurred: how they are written, and which pixels they have."""

import pytest
from image_categorizer_server.domain.blur import rectangles_of
from image_categorizer_server.domain.classification import Box
from image_categorizer_server.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("0,0,1,1", Box(0, 0, 1, 1)),
        ("40,30,120,160", Box(40, 30, 100, 50)),
        ("99,49,65535,65535", Box(99, 49, 100, 50)),
        ("percent:0,0,100,100", Box(0, 0, 100, 50)),
        ("percent:10,20,50.5,60.0", Box(10, 10, 51, 30)),
        ("percent:10.9,20.9,10.95,21", Box(10, 10, 11, 11)),
    ],
)
def test_a_rectangle_has_every_pixel_that_it_touches(text, box):
    (rectangle,) = rectangles_of([text])
    assert rectangle.box(100, 50) == box


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2,3",
        "1,2,3,4,5",
        "5,2,5,4",
        "1,4,3,4",
        "-1,2,3,4",
        "1.5,2,3,4",
        "1, 2,3,4",
        "percent:1,2,3,101",
        "percent:5,2,4,4",
        "percent:1e1,2,30,40",
        "pixel:1,2,3,4",
        "\u0661,2,3,4",
        "9" * 5000,
    ],
)
def test_another_spelling_is_refused(text):
    with pytest.raises(InvalidRequest, match="left,top,right,bottom"):
        rectangles_of([text])


def test_a_rectangle_outside_of_the_image_is_refused():
    """Whoever wrote it believes that something is blurred."""
    for text in ("100,0,101,1", "0,50,1,51"):
        (rectangle,) = rectangles_of([text])
        with pytest.raises(InvalidRequest, match="outside of the image, which has 100 x 50"):
            rectangle.box(100, 50)


def test_there_are_at_most_64_rectangles():
    assert len(rectangles_of(["0,0,1,1"] * 64)) == 64
    with pytest.raises(InvalidRequest, match="at most 64"):
        rectangles_of(["0,0,1,1"] * 65)
