"""Boxes and heat maps: from features to the upright image's pixels."""

import io

import numpy as np
import pytest
from image_categorizer_server.domain.classification import Category, ClassifyOptions, Prediction
from image_categorizer_server.domain.model import Localization
from image_categorizer_server.inference.images.decode import Decoder
from image_categorizer_server.inference.images.localize import (
    MAX_BOXES,
    Features,
    Grid,
    Localizer,
    parts,
    spread,
)
from image_categorizer_server.inference.images.preprocess import (
    PICTURE_PX,
    InputSpec,
    Preprocessor,
)
from PIL import Image

from tests.unit.conftest import LIMITS

ONE = (1.0, 1.0, 1.0)
DECODER = Decoder(LIMITS)


def spec(side_px, resize_px=0):
    return InputSpec(
        width_px=side_px,
        height_px=side_px,
        resize="shortest_edge" if resize_px else "exact",
        resize_px=resize_px,
        resample="bilinear",
        scale=ONE,
        bias=ONE,
    )


def localizer(side_px=224, resize_px=0, weights=None):
    kind = Localization.ATTENTION_ROLLOUT if weights is None else Localization.CLASS_ACTIVATION
    return Localizer(kind, weights, spec(side_px, resize_px))


def boxes_of(where, own, size_px):
    """Returns the boxes of the first category."""
    return where.boxes(Features(own), [0], size_px)[0]


def one_hot(row, column, side=7):
    values = np.zeros((1, side, side), np.float32)
    values[0, row, column] = 1
    return values


def test_the_box_surrounds_the_cell_with_the_category():
    (box,) = boxes_of(localizer(), one_hot(2, 5), (700, 700))
    left, top, right, bottom = box
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((550, 250), abs=10)
    assert 100 <= right - left <= 200
    assert 100 <= bottom - top <= 200


def test_the_crop_is_taken_into_account():
    wide = localizer(224, 256)  # sees the centre 224 of 512 x 256
    (box,) = boxes_of(wide, np.ones((1, 7, 7), np.float32), (1024, 512))
    assert box == (288, 32, 736, 480)
    (box,) = boxes_of(wide, one_hot(0, 0), (1024, 512))
    assert box[:2] == (288, 32)
    (box,) = boxes_of(wide, one_hot(6, 6), (512, 1024))
    assert box[2:] == (480, 736)


def test_a_crop_that_is_larger_than_the_image_gives_boxes_within_it():
    (box,) = boxes_of(localizer(224, 112), np.ones((1, 7, 7), np.float32), (100, 100))
    assert box == (0, 0, 100, 100)


@pytest.mark.parametrize("size_px", [(1, 1), (1, 90), (90, 1), (3, 2)])
def test_boxes_of_tiny_images_hold_at_least_a_pixel(size_px):
    for row in range(7):
        left, top, right, bottom = boxes_of(localizer(), one_hot(row, row), size_px)[0]
        assert 0 <= left < right <= size_px[0]
        assert 0 <= top < bottom <= size_px[1]


def test_each_category_has_its_own_map():
    features = np.stack([one_hot(1, 1)[0], one_hot(5, 4)[0]])
    by_category = np.array([[1, 0], [0, 1], [-1, -1]], np.float32)
    maps = localizer(weights=by_category).maps(features, [1, 0, 2])
    assert maps.shape == (3, 7, 7)
    assert (maps.min(), maps.max()) == (0, 1)
    assert [np.unravel_index(m.argmax(), m.shape) for m in maps[:2]] == [(5, 4), (1, 1)]
    # No feature is for the third category: the one least against it counts.
    assert maps[2][1, 1] == maps[2][5, 4] == 0


@pytest.mark.parametrize("value", [-3.0, 0.0, 5.0])
def test_a_flat_map_gives_a_box_of_everything_the_network_sees(value):
    flat = np.full((1, 7, 7), value, np.float32)
    maps = localizer().maps(flat, [0])
    assert (maps == 1).all()
    assert boxes_of(localizer(), flat, (300, 200)) == [(0, 0, 300, 200)]


def test_the_largest_part_is_found_among_several():
    drawing = """
        ##....#
        #.....#
        ..###.#
        ..#.#.#
        ..###..
        #......
        .##..##
    """
    mask = np.array([[cell == "#" for cell in row] for row in drawing.split()])
    assert parts(mask.astype(np.float32), 0.5)[0] == (2, 2, 5, 5)


def test_parts_that_meet_only_further_down_are_one():
    drawing = """
        #.#.#.##
        #.#.#.##
        ###.#.##
        ..###...
    """
    mask = np.array([[cell == "#" for cell in row] for row in drawing.split()])
    assert parts(mask.astype(np.float32), 0.5)[0] == (0, 0, 5, 4)


def test_parts_equal_those_of_a_slow_search():
    random = np.random.default_rng(0)
    for _ in range(50):
        mask = random.random((12, 12)) < 0.55
        left, top, right, bottom = parts(mask.astype(np.float32), 0.5)[0]
        best = max(slow_parts(mask), key=len)
        rows, columns = zip(*best, strict=True)
        if sum(len(part) == len(best) for part in slow_parts(mask)) == 1:
            assert (left, top) == (min(columns), min(rows))
            assert (right, bottom) == (max(columns) + 1, max(rows) + 1)


def slow_parts(mask):
    left = {(int(r), int(c)) for r, c in zip(*mask.nonzero(), strict=True)}
    found = []
    while left:
        part, edge = set(), {left.pop()}
        while edge:
            row, column = edge.pop()
            part.add((row, column))
            near = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
            edge |= near & left
            left -= near
        found.append(part)
    return found


def test_weak_parts_are_no_objects_and_the_strongest_comes_first():
    values = np.zeros((9, 60), np.float32)
    values[2:4, 0:3], values[2:5, 10:12], values[4, 30:40] = 0.5, 1.0, 0.4
    assert parts(values, 0.3) == [(10, 2, 12, 5), (0, 2, 3, 4)]
    values[4, 30:40] = 0.8
    assert parts(values, 0.3)[0] == (30, 4, 40, 5)
    assert len(parts(np.tile([0, 1], 2 * MAX_BOXES)[None], 0.3)) == MAX_BOXES


def test_a_part_inside_the_box_of_a_stronger_one_is_the_same_object():
    values = np.zeros((12, 12), np.float32)
    values[1:11, 1:11], values[2:10, 2:10] = 1.0, 0.0
    values[5:7, 5:7] = 1.0
    assert parts(values, 0.3) == [(1, 1, 11, 11)]


def test_the_whole_picture_gives_boxes_outside_the_crop_and_one_for_each_object():
    where = localizer(224, 256, np.ones((1, 1), np.float32))
    whole = np.zeros((1, 10, 20), np.float32)
    whole[0, 4:7, 1:3], whole[0, 2:5, 16:19] = 1.0, 0.9
    (found,) = where.boxes(Features(np.ones((1, 7, 7), np.float32), whole), [0], (2000, 1000))
    first, second = found
    assert first == pytest.approx((1600, 200, 1900, 500), abs=90)
    assert second == pytest.approx((100, 400, 300, 700), abs=90)
    prediction = Prediction(Category("ant"), 1.0, tuple(found))
    assert prediction.bounding_box == first


def test_the_networks_own_view_adds_to_that_of_the_whole_picture():
    where = localizer(224, 256, np.ones((1, 1), np.float32))
    whole = np.zeros((1, 14, 14), np.float32)
    whole[0, 2:5, 2:5], whole[0, 9:12, 9:12] = 1.0, 0.99
    ((first, *_),) = where.boxes(Features(one_hot(5, 5), whole), [0], (700, 700))
    assert first[0] > 350
    assert first[1] > 350


def test_what_speaks_against_a_category_cuts_no_box_of_the_whole_picture():
    where = localizer(weights=np.array([[1, -1]], np.float32))
    shown, against = (np.zeros((14, 14), np.float32) for _ in range(2))
    shown[4:10, 2:12] = 1
    against[4:10, 6:8] = 1
    features = np.stack([shown, against])
    ((own, *_),) = where.boxes(Features(features), [0], (1400, 1400))
    ((whole,),) = where.boxes(Features(np.zeros((2, 7, 7)), features), [0], (1400, 1400))
    assert own[2] - own[0] < 600
    assert whole == pytest.approx((200, 400, 1200, 1000), abs=60)


def test_spreading_is_pillows_bilinear():
    values = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    ours = spread(4, 40, 0, 1) @ values @ spread(6, 60, 0, 1).T
    theirs = np.asarray(Image.fromarray(values).resize((60, 40), Image.Resampling.BILINEAR))
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("offset", [-0.25, 0.0, 0.25])
def test_cells_are_where_their_centres_are(offset):
    centres = (np.arange(7) + 0.5 + offset) / 7
    pixels = (np.arange(700) + 0.5) / 700
    line = spread(7, 700, 0, 1, Grid(offset)) @ centres
    assert line == pytest.approx(pixels.clip(centres[0], centres[-1]), abs=1e-5)
    extended = spread(7, 700, 0, 1, Grid(offset, is_extended=True)) @ centres
    assert extended == pytest.approx(pixels, abs=1e-5)
    assert spread(1, 9, 0, 1, Grid(offset, is_extended=True)) == pytest.approx(1)


@pytest.mark.parametrize("cell_offset", [-0.25, 0.25])
def test_boxes_and_heat_maps_move_with_the_cells(cell_offset):
    moved, regular = (
        Localizer(Localization.CLASS_ACTIVATION, np.eye(1, dtype=np.float32), spec(224), offset)
        for offset in (cell_offset, 0.0)
    )
    (here,), (there,) = (boxes_of(which, one_hot(3, 2), (700, 700)) for which in (moved, regular))
    assert np.subtract(here, there) == pytest.approx(100 * cell_offset, abs=13)  # cells of the grid
    heats = (
        Image.open(io.BytesIO(which.heat_map(picture(700, 700), one_hot(3, 2)[0])))
        for which in (moved, regular)
    )
    columns, others = ((np.asarray(heat)[..., 0] - 90.0).sum(0) for heat in heats)
    assert np.roll(others, round(100 * cell_offset)) == pytest.approx(columns, abs=200)


def red_across(lowest, highest):
    """Returns a row of the heat map of a slope from left to right."""
    slope = np.linspace(lowest, highest, 7, dtype=np.float32)[None].repeat(7, axis=0)
    content = localizer(weights=np.eye(1, dtype=np.float32)).heat_map(picture(700, 700), slope)
    return np.asarray(Image.open(io.BytesIO(content)))[350, :, 0].astype(int)


def test_a_map_keeps_its_slope_up_to_the_edges_but_stays_within_0_and_1():
    red = red_across(0.2, 0.8)
    assert red[0] < red[40] < red[50]
    assert red[-50] < red[-40] < red[-1]
    red = red_across(0, 1)
    assert (red[:50] == red.min()).all()
    assert (red[-50:] == red.max()).all()


def png(width_px, height_px, orientation=1):
    image = Image.new("RGB", (width_px, height_px), (90, 90, 90))
    exif = image.getexif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


def picture(width_px, height_px):
    return np.full((height_px, width_px, 3), 90, np.uint8)


def test_the_picture_for_a_heat_map_is_made_only_on_request_and_within_its_size():
    prepare = Preprocessor(DECODER, spec(32)).prepare
    assert prepare(png(2048, 1024)).picture is None
    assert prepare(png(2048, 1024), with_picture=True).picture.shape == (512, PICTURE_PX, 3)
    assert prepare(png(20, 10), with_picture=True).picture.shape == (10, 20, 3)


def test_a_heat_map_is_warm_where_the_category_is():
    content = localizer().heat_map(picture(280, 140), one_hot(1, 5)[0])
    drawn = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert drawn.shape == (140, 280, 3)
    red, _, blue = drawn[30, 220]
    assert red - blue > 100
    assert np.ptp(drawn[100, 50]) == 0


def test_a_heat_map_stays_grey_outside_the_crop():
    content = localizer(224, 256).heat_map(picture(1024, 512), np.ones((7, 7), np.float32))
    drawn = np.asarray(Image.open(io.BytesIO(content))).astype(int)
    assert drawn.shape == (512, 1024, 3)
    assert np.ptp(drawn[256, 280]) == 0
    assert drawn[256, 300, 0] - drawn[256, 300, 2] > 100


def test_boxes_and_heat_maps_are_of_the_upright_image():
    content = png(60, 30, orientation=6)  # upright, it is 30 x 60
    seen = Preprocessor(DECODER, spec(32)).prepare(content, with_picture=True)
    assert (seen.width_px, seen.height_px) == (30, 60)
    predictions = [Prediction(Category(name), 0.5) for name in ("bee", "ant")]
    wanted = ClassifyOptions(bounding_boxes=True, explain=True)
    located = localizer(32, weights=np.eye(2, dtype=np.float32)).locate(
        Features(np.stack([one_hot(0, 0)[0], one_hot(6, 6)[0]])),
        seen,
        predictions,
        {"ant": 0, "bee": 1},
        wanted,
    )
    bee, ant = (prediction.bounding_box for prediction in located.predictions)
    assert bee[2:] == (30, 60)
    assert ant[:2] == (0, 0)
    assert Image.open(io.BytesIO(located.heat_map)).size == (30, 60)


@pytest.mark.parametrize("option", ["bounding_boxes", "explain"])
def test_only_requested_boxes_and_heat_maps_are_made(option):
    given = [Prediction(Category("ant"), 1.0)]
    options = ClassifyOptions(**{option: True})
    seen = Preprocessor(DECODER, spec(32)).prepare(png(64, 64), with_picture=True)
    where = localizer(32)
    located = where.locate(Features(one_hot(3, 3)), seen, given, {"ant": 0}, options)
    assert (located.predictions[0].bounding_box is not None) == options.bounding_boxes
    assert bool(located.heat_map) == options.explain
    nothing = where.locate(Features(one_hot(3, 3)), seen, [], {"ant": 0}, options)
    assert nothing == ([], b"")
