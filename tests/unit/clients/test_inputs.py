"""One image of any kind; many from files and folders."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from image_categorizer import _inputs, image_files

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def decoded(content):
    return PIL.Image.open(io.BytesIO(content))


def test_paths_and_files_are_read_by_their_name(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(b"x")
    assert _inputs.read(str(file)) == _inputs.read(file) == (str(file), b"x")
    with file.open("rb") as opened:
        assert _inputs.read(opened) == (str(file), b"x")


@pytest.mark.parametrize("image", [b"xy", bytearray(b"xy"), memoryview(b"xy")])
def test_bytes_of_any_kind_have_no_name(image):
    assert _inputs.read(image) == _inputs.in_memory(image) == ("", b"xy")


def test_a_file_is_read_from_its_start(tmp_path):
    file = io.BytesIO(b"xyz")
    file.read(2)
    assert _inputs.read(file) == ("", b"xyz")
    with os.fdopen(os.open("/dev/null", os.O_RDONLY), "rb") as numbered:  # its name is a number
        assert _inputs.read(numbered) == ("", b"")


def test_a_file_that_cannot_be_rewound_is_read_from_where_it_is():
    read_end, write_end = os.pipe()
    os.write(write_end, b"xyz")
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        assert _inputs.read(pipe) == ("", b"xyz")


def test_text_is_no_image(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_text("x")
    with file.open() as opened, pytest.raises(TypeError, match="text mode"):
        _inputs.read(opened)

    class Text:
        def read(self):
            return "x"

    with pytest.raises(TypeError, match="must return bytes, not str"):
        _inputs.read(Text())


@pytest.mark.parametrize("wrong", [None, 7, ["a.jpg"], {"a": 1}, 1.5])
def test_other_objects_are_refused(wrong):
    assert _inputs.in_memory(wrong) is None
    with pytest.raises(TypeError, match="an image is a path, bytes"):
        _inputs.read(wrong)


@pytest.mark.parametrize(
    "pixels", [PIXELS, PIXELS[::-1, ::2], np.asfortranarray(PIXELS), PIXELS[:1, :1]]
)
def test_an_array_is_sent_as_a_png_of_its_pixels(pixels):
    name, content = _inputs.read(pixels)
    image = decoded(content)
    assert (name, image.format, image.mode) == ("", "PNG", "RGB")
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16, bool])
def test_an_array_of_another_dtype_is_refused(dtype):
    with pytest.raises(TypeError, match="uint8"):
        _inputs.read(PIXELS.astype(dtype))


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 4), (3, 5, 7), (1, 5, 7, 3), (0, 7, 3)])
def test_an_array_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(height, width, 3\)"):
        _inputs.read(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK", "YCbCr", "F"])
def test_a_pillow_image_of_any_mode_is_sent_as_png(mode):
    image = PIL.Image.new(mode, (7, 5))
    name, content = _inputs.read(image)
    sent = decoded(content)
    assert (name, sent.format, sent.size) == ("", "PNG", (7, 5))
    assert sent.mode == {"CMYK": "RGB", "YCbCr": "RGB", "F": "RGB"}.get(mode, mode)


def test_a_pillow_image_keeps_its_orientation_and_nothing_else_of_its_exif(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a place"
    PIL.Image.new("RGB", (7, 5)).save(tmp_path / "a.jpg", exif=exif)
    with PIL.Image.open(tmp_path / "a.jpg") as image:
        _, content = _inputs.read(image)
    assert dict(decoded(content).getexif()) == {0x0112: 6}


@pytest.mark.parametrize(
    "single", ["a.jpg", b"x", bytearray(b"x"), memoryview(b"x"), ("a.jpg", b"x")]
)
def test_a_single_image_where_many_are_expected_is_a_type_error(single):
    with pytest.raises(TypeError, match="classify_stream takes many"):
        _inputs.many(single, "classify_stream")
    with pytest.raises(TypeError, match="classify_batch takes many"):
        _inputs.of_batch(single, "classify_batch")


def test_a_batch_may_be_a_folder_and_not_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a short path is shown whole
    file = Path("a.jpg")
    file.write_bytes(b"x")
    assert _inputs.of_batch(tmp_path, "submit") == [str(tmp_path / file)]
    assert _inputs.of_batch(str(tmp_path), "submit") == [str(tmp_path / file)]
    with pytest.raises(TypeError, match=r"put a single one into a list: \[.*a\.jpg"):
        _inputs.of_batch(file, "submit")


def test_a_pair_of_paths_is_many(tmp_path):
    assert _inputs.many(("a.jpg", "b.jpg"), "submit") == ("a.jpg", "b.jpg")


def test_an_upload_is_cut_into_messages(tmp_path):
    content = bytes(range(256)) * 4096 * 2 + b"end"
    (tmp_path / "a").write_bytes(content)
    for source in (tmp_path / "a", ("a", content), ("a", memoryview(content))):
        first, *others = _inputs.upload_messages(source)
        assert first.file.chunk + b"".join(m.chunk for m in others) == content
        assert len(others) == 2
    assert len(list(_inputs.upload_messages(("empty", b"")))) == 1


@pytest.mark.parametrize("wrong", [None, 7, ("a",), (b"a", b"b"), ("a", "b"), b"bytes"])
def test_an_upload_takes_paths_and_named_bytes(wrong):
    with pytest.raises(TypeError, match="a source is a path, "):
        list(_inputs.upload_messages(wrong))


def test_images_are_found_by_their_names(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", "x/c.webp", "d.jpg/e.tiff"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [os.path.relpath(f, tmp_path) for f in image_files(tmp_path)]
    assert found == ["a.png", "b.JPG", "d.jpg/e.tiff", "x/c.webp"]
    assert image_files(tmp_path, "*.txt", False) == [str(tmp_path / "notes.txt")]
    with pytest.raises(NotADirectoryError):
        image_files(tmp_path / "a.png")


def test_the_package_needs_neither_numpy_nor_pillow():
    program = (
        "import sys, image_categorizer\n"
        "from image_categorizer import _inputs\n"
        "assert _inputs.read(bytearray(b'x')) == ('', b'x')\n"
        "assert not {'numpy', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
