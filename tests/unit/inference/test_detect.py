"""Boxes of a detector: which there are, and where."""

import numpy as np
import pytest
from image_categorizer_server.domain.classification import (
    Box,
    Category,
    ClassifyOptions,
    Prediction,
)
from image_categorizer_server.inference.images.decode import Pixels
from image_categorizer_server.inference.images.detect import (
    MAX_BOXES,
    MAX_CANDIDATES,
    Detection,
    DetectionLocalizer,
    distinct,
    overlaps,
)
from image_categorizer_server.inference.images.localize import Features
from image_categorizer_server.inference.images.preprocess import Input, InputSpec, reduce

SIDE_PX = 64
FULL = (0.0, 0.0, 1.0, 1.0)


def spec(resize):
    ones, zeros = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    return InputSpec(
        width_px=SIDE_PX,
        height_px=SIDE_PX,
        resize=resize,
        resample="bilinear",
        scale=ones,
        bias=zeros,
    )


def localizer(resize="exact", max_overlap=None):
    return DetectionLocalizer(Detection(scores="none", max_overlap=max_overlap), spec(resize))


def queries(*rows):
    """Returns features: a box and two scores in each row."""
    return np.array([[*box, *scores] for box, scores in rows], np.float32)


def test_boxes_reach_the_threshold_strongest_first():
    features = queries(
        ((0, 0, 0.5, 0.5), (0.6, 0.1)),
        ((0.5, 0.5, 1, 1), (0.9, 0.1)),
        (FULL, (0.4, 0.3)),
    )
    found = localizer().boxes(features, 0, (200, 100), 0.5)
    assert found == [Box(100, 50, 200, 100), Box(0, 0, 100, 50)]
    assert len(localizer().boxes(features, 0, (200, 100), 0.4)) == 3


def test_the_strongest_box_is_there_whatever_its_score():
    features = queries(((0, 0, 0.5, 0.5), (0.6, 0.1)), (FULL, (0.4, 0.3)))
    assert localizer().boxes(features, 1, (200, 100), 0.5) == [Box(0, 0, 200, 100)]


def test_boxes_stay_inside_the_picture_and_are_no_smaller_than_a_pixel():
    features = queries(((-0.5, 0.2, 1.5, 0.2), (0.6, 0)), ((2, 2, 3, 3), (0.5, 0)))
    found = localizer().boxes(features, 0, (200, 100), 0.5)
    assert found == [Box(0, 20, 200, 21), Box(199, 99, 200, 100)]


@pytest.mark.parametrize("box", [(np.nan, 0, 1, 1), (0.5, 0.5, 0.3, 0.6), (0.5, 0.5, 0.6, 0.3)])
def test_a_box_that_is_not_a_number_or_has_crossing_edges_is_left_out(box):
    features = queries((box, (0.9, 0)), (FULL, (0.6, 0)))
    assert localizer().boxes(features, 0, (200, 100), 0.5) == [Box(0, 0, 200, 100)]
    assert localizer().boxes(features[:1], 0, (200, 100), 0.5) == []


def test_doubles_are_left_out_where_the_network_needs_it():
    features = queries(
        ((0, 0, 0.5, 1), (0.9, 0)),
        ((0, 0, 0.45, 1), (0.8, 0)),
        ((0.4, 0, 0.9, 1), (0.7, 0)),
    )
    found = localizer(max_overlap=0.5).boxes(features, 0, (100, 100), 0.5)
    assert found == [Box(0, 0, 50, 100), Box(40, 0, 90, 100)]
    assert len(localizer().boxes(features, 0, (100, 100), 0.5)) == 3


def test_overlap_is_the_intersection_over_the_union():
    others = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 2, 3, 3], [1, 1, 1, 1]], np.float32)
    assert overlaps(others[0], others) == pytest.approx([1, 1 / 7, 0, 0])
    assert overlaps(others[3], others[3:]) == [0]


def test_at_most_a_hundred_boxes_are_found():
    places = np.arange(150, dtype=np.float32)
    many = np.stack([places, places, places + 1, places + 1], 1)
    assert distinct(many, 0.5) == list(range(MAX_BOXES))


@pytest.mark.parametrize("size_px", [(320, 160), (90, 300), (64, 64), (333, 77)])
@pytest.mark.parametrize("resize", ["exact", "letterbox"])
def test_a_box_around_a_square_in_the_input_is_around_it_in_the_picture(resize, size_px):
    width, height = size_px
    square = (width // 4, height // 4, width // 2, height // 2)
    shown = np.zeros((height, width, 3), np.uint8)
    shown[square[1] : square[3], square[0] : square[2]] = 255
    seen = reduce(Pixels.of(shown), spec(resize))[..., 0] > 127
    down, across = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    box = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1]) / SIDE_PX
    (found,) = localizer(resize).boxes(queries((box, (1, 0))), 0, size_px, 0.5)
    assert found == pytest.approx(square, abs=max(size_px) / SIDE_PX)


def test_a_letterbox_has_a_grey_border_on_both_sides():
    white = np.full((50, 100, 3), 255, np.uint8)
    rows = reduce(Pixels.of(white), spec("letterbox"))[:, 0, 0].tolist()
    assert rows == [114] * 16 + [255] * 32 + [114] * 16
    upright = reduce(Pixels.of(white.transpose(1, 0, 2)), spec("letterbox"))
    assert upright[0, :, 0].tolist() == rows


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 1), (0.3, 2)])
def test_the_threshold_of_the_request_counts_for_each_box(threshold, count):
    seen = Input(np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8), 0.0, 200, 100)
    features = queries((FULL, (0.9, 0)), ((0, 0, 0.5, 0.5), (0.4, 0)))
    predictions = [Prediction(Category("cat"), 0.9)]
    options = ClassifyOptions(confidence_threshold=threshold, bounding_boxes=True)
    located = localizer().locate(Features(features), seen, predictions, {"cat": 0}, options)
    (prediction,) = located.predictions
    assert len(prediction.bounding_boxes) == count
    assert prediction.bounding_box == Box(0, 0, 200, 100)
    assert located.heat_map == b""


def test_doubles_are_sought_among_the_strongest_only():
    many = [(FULL, (0.9, 0))] * MAX_CANDIDATES
    last = ((0, 0, 0.1, 0.1), (0.8, 0))
    found = localizer(max_overlap=0.5).boxes(queries(*many[1:], last), 0, (100, 100), 0.5)
    assert found == [Box(0, 0, 100, 100), Box(0, 0, 10, 10)]
    assert len(localizer(max_overlap=0.5).boxes(queries(*many, last), 0, (100, 100), 0.5)) == 1
