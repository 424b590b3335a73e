"""What is made of an image of some size."""

import pytest
from image_categorizer_server.domain.rendition import ContentWish, plan

MAX_SIDE_PX = 2048
WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("wish", "size_px", "part"),
    [
        (ContentWish(), (400, 300), WHOLE),
        (ContentWish(width_px=200), (200, 150), WHOLE),
        (ContentWish(height_px=30), (40, 30), WHOLE),
        (ContentWish(width_px=100, height_px=30), (40, 30), WHOLE),
        (ContentWish(width_px=800), (400, 300), WHOLE),
        (ContentWish(width_px=800, fit="contain"), (800, 600), WHOLE),
        (ContentWish(fit="contain"), (400, 300), WHOLE),
        (ContentWish(1, 1, "contain"), (1, 1), WHOLE),
        (ContentWish(100, 100, "cover"), (100, 100), (0.125, 0.0, 0.875, 1.0)),
        (ContentWish(400, 75, "cover"), (400, 75), (0.0, 0.375, 1.0, 0.625)),
        (ContentWish(600, 600, "cover"), (600, 600), (0.125, 0.0, 0.875, 1.0)),
    ],
)
def test_the_picture_fits(wish, size_px, part):
    rendition = plan((400, 300), wish, MAX_SIDE_PX)
    assert rendition.size_px == size_px
    assert rendition.part == pytest.approx(part)
    assert (rendition.format, rendition.quality) == ("jpeg", 85)


def test_nothing_is_larger_than_the_longest_side():
    assert plan((10_000, 100), ContentWish(), MAX_SIDE_PX).size_px == (2048, 20)
    assert plan((100, 10_000), ContentWish(width_px=2048, fit="contain"), MAX_SIDE_PX).size_px == (
        20,
        2048,
    )
    # The whole image would have 419 million pixels at this scale.
    cover = plan((10_000, 100), ContentWish(2048, 2048, "cover"), MAX_SIDE_PX)
    assert cover.size_px == (2048, 2048)
    assert cover.part == pytest.approx((0.495, 0, 0.505, 1))


def test_wishes_with_the_same_answer_share_it():
    one = plan((400, 300), ContentWish(width_px=200, quality=85), MAX_SIDE_PX)
    other = plan((400, 300), ContentWish(height_px=150, format="jpeg"), MAX_SIDE_PX)
    assert one.name == other.name
    png = plan((400, 300), ContentWish(height_px=150, format="png"), MAX_SIDE_PX)
    assert (png.quality, png.name == one.name) == (0, False)
