"""How notebooks show answers."""

import base64
import io
import re
import sys
import types
from html.parser import HTMLParser

import PIL.Image
import pytest
from image_categorizer import (
    BatchResult,
    CategorizerError,
    Classification,
    ModelRef,
    Prediction,
    Result,
    Timing,
    _html,
)
from image_categorizer._html import MAX_PLAIN_BYTES, MAX_SIDE_PX, thumbnail, with_picture

from tests.support.pictures import jpeg
from tests.unit.cli.test_batch import batch_of

EVIL = "<script>alert('\"&</script>"


def classification(*predictions, filename="cat.jpg"):
    found = tuple(Prediction(name, share, "", ()) for name, share in predictions)
    timing = Timing(1.0, 1.0, 1.0, 1, "IDLE")
    return Classification(filename, found, ModelRef("m", "1", ""), timing, 0.1, "r")


class Texts(HTMLParser):
    """The texts of a document, its elements, and their attributes."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags, self.values = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value for _, value in attrs]

    def handle_data(self, data):
        self.texts.append(data)


def decoded(html):
    found = re.search(r'src="data:image/(\w+);base64,([^"]+)"', html)
    return found[1], base64.b64decode(found[2])


def test_an_answer_has_its_name_and_a_bar_for_each_category():
    html = classification(("cat", 0.923), ("lynx", 0.05))._repr_html_()
    assert Texts(html).texts == ["cat.jpg", "cat", "92.3%", "lynx", "5.0%"]
    assert re.findall(r"width:([\d.]+)%", html) == ["92.3", "5.0"]
    assert "<img" not in html


@pytest.mark.parametrize(
    "shown",
    [
        classification((EVIL, 0.5), filename=EVIL),
        Result(EVIL, error=CategorizerError(EVIL)),
        BatchResult("0", EVIL, error=CategorizerError(EVIL)),
        batch_of(state=EVIL),
    ],
)
def test_nothing_from_outside_is_markup(shown):
    read = Texts(shown._repr_html_())
    assert any(EVIL in text for text in read.texts)
    assert set(read.tags) <= {"div", "b", "bdi", "table", "tr", "td"}
    assert not any(EVIL in value for value in read.values)


def test_a_failure_says_why():
    html = Result("a.jpg", error=CategorizerError("the bytes are not an image"))._repr_html_()
    assert Texts(html).texts == ["a.jpg", "the bytes are not an image"]


def test_a_batch_shows_how_far_it_is():
    html = batch_of(state="RUNNING", succeeded=1, failed=1)._repr_html_()
    assert Texts(html).texts == ["b-1 RUNNING", "succeeded", "1", "failed", "1", "pending", "1"]


def test_the_picture_of_a_file_is_small_and_without_metadata(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x010F] = "the maker"
    exif[0x0112] = 6  # turned by a quarter
    file = tmp_path / "cat.jpg"
    PIL.Image.new("RGB", (1200, 600), "red").save(file, exif=exif)
    shown = with_picture(classification(("cat", 0.9)), file, b"")
    kind, content = decoded(Result("cat.jpg", shown)._repr_html_())
    assert kind == "jpeg"
    assert b"the maker" not in content
    with PIL.Image.open(io.BytesIO(content)) as image:
        assert image.size == (MAX_SIDE_PX // 2, MAX_SIDE_PX)


def test_bytes_are_kept_in_notebooks_only(monkeypatch):
    assert "IPython" not in sys.modules
    assert "<img" not in with_picture(classification(), b"x", jpeg(20, 20))._repr_html_()
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    assert "<img" in with_picture(classification(), b"x", jpeg(20, 20))._repr_html_()


def test_the_picture_is_no_part_of_the_value(tmp_path):
    plain, shown = classification(), with_picture(classification(), tmp_path / "a.jpg", b"")
    assert plain == shown
    assert repr(plain) == repr(shown)


def test_what_is_no_picture_any_more_is_not_shown(tmp_path):
    text = tmp_path / "a.jpg"
    text.write_text("hello")
    for picture in (None, b"", b"hello", str(text), str(tmp_path), str(tmp_path / "gone.jpg")):
        assert thumbnail(picture) == ""


def test_a_picture_of_too_many_pixels_is_not_decoded(monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 300)
    assert thumbnail(jpeg(20, 20)) == ""  # a warning
    assert thumbnail(jpeg(40, 40)) == ""  # an error


def test_without_pillow_small_files_of_browsers_formats_are_shown_as_they_are(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    picture = jpeg(20, 20)
    assert decoded(thumbnail(picture)) == ("jpeg", picture)
    assert thumbnail(b"<svg onload='x()'/>") == ""
    assert thumbnail(picture + bytes(MAX_PLAIN_BYTES)) == ""
    assert _html.thumbnail(b"") == ""
