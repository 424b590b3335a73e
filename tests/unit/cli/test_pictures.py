"""What arguments stand for: files, folders, zip files, standard input, addresses."""

import io
import os
import zipfile
from types import SimpleNamespace

import pytest
from image_categorizer import UndecodableImage
from image_categorizer_server.cli.output import reason_of
from image_categorizer_server.cli.pictures import (
    Address,
    Zip,
    count_of,
    each_of,
    find_pictures,
    report_found,
    uploadable,
)
from image_categorizer_server.errors import OperatorError

from tests.support.forms import archive

FORMATS = ("JPEG", "PNG", "AVIF")


def found(*paths):
    pictures = find_pictures(map(str, paths), FORMATS)
    report_found(pictures, len(pictures.sources))
    return pictures.sources


def read(*paths, most=1000):
    """The content of each image, or the words of its error, beside its name; and how many."""
    pictures = find_pictures(map(str, paths), FORMATS)
    count = count_of(pictures)
    report_found(pictures, count)
    contents = []
    for picture in each_of(pictures):
        try:
            content = picture.read(most) if picture.read else None
        except (OSError, UndecodableImage) as error:
            content = reason_of(error)
        contents.append((picture.name.removeprefix(f"{paths[0]}/"), content))
    return contents, count


def test_a_folder_stands_for_its_images(tmp_path, capsys):
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    for name in (
        "a.JPG",
        "deep/b.png",
        "c.avif",
        "notes.txt",
        "x.mov",
        "y.txt",
        "README",
        "d.heic",
    ):
        (folder / name).touch()
    file = tmp_path / "c.txt"
    expected = [file, *(folder / name for name in ("a.JPG", "c.avif", "deep/b.png"))]
    assert found(file, folder) == [str(path) for path in expected]
    said = capsys.readouterr().err
    assert said.startswith("5 files passed over: 2 .txt, 1 ")
    assert all(kind in said for kind in ("1 .mov", "1 .heic", "1 without a suffix"))


def test_the_formats_are_the_servers(tmp_path):
    for name in ("a.heic", "b.jxl", "c.jpg"):
        (tmp_path / name).touch()
    files = find_pictures([str(tmp_path)], ["HEIF", "JXL"]).sources
    assert files == [str(tmp_path / "a.heic"), str(tmp_path / "b.jxl")]


def test_folders_without_images_are_an_error(tmp_path):
    with pytest.raises(OperatorError, match="No images found"):
        found(tmp_path)


def test_links_are_followed_and_loops_end(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "a.jpg").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    (elsewhere / "back").symlink_to(folder)
    (folder / "nowhere.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.jpg")
    assert found(folder) == [str(folder / "linked" / "a.jpg")]
    (tmp_path / "top").symlink_to(folder)
    assert found(tmp_path / "top") == [str(tmp_path / "top" / "linked" / "a.jpg")]


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"image")))
    assert found("-") == [("stdin", b"image")]


def test_a_name_that_is_not_utf8_is_sent_in_another_form(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")  # noqa: PTH118 - bytes
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(b"image")
    (source,) = found(tmp_path)
    assert source == os.fsdecode(path)
    assert uploadable(source) == (f"{tmp_path}/caf\\xe9.jpg", b"image")
    assert uploadable("plain.jpg") == "plain.jpg"


def test_addresses_are_told_from_files():
    arguments = ["https://example.com/a.jpg", "a.jpg", "s3://bucket/key", "odd://name", "http:"]
    assert found(*arguments) == [
        Address("https://example.com/a.jpg"),
        "a.jpg",
        Address("s3://bucket/key"),
        "odd://name",
        "http:",
    ]
    with pytest.raises(OperatorError, match=r"caf\\xe9.jpg: write the address in UTF-8"):
        found("https://example.com/caf\udce9.jpg")


def test_files_of_operating_systems_in_folders_are_passed_over(tmp_path, capsys):
    for name in ("a.jpg", "._a.jpg", ".DS_Store", "@eaDir/a.jpg/x.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert found(tmp_path) == [str(tmp_path / "a.jpg")]
    assert capsys.readouterr().err == "3 files passed over: 3 of operating systems.\n"


def test_a_zip_file_stands_for_its_images(tmp_path, capsys):
    packed = tmp_path / "photos.ZIP"
    names = ("b.jpg", "trip/deep/a.PNG", "notes.txt", ".DS_Store", "__MACOSX/._b.jpg", "in.zip")
    packed.write_bytes(archive(**{name: name.encode() for name in names}, **{"empty/": b""}))
    assert found(packed) == [Zip(str(packed))]
    capsys.readouterr()
    images = [("b.jpg", b"b.jpg"), ("trip/deep/a.PNG", b"trip/deep/a.PNG")]
    assert read(packed) == (images, 2)
    said = capsys.readouterr().err
    assert said.startswith("4 files passed over: 2 of operating systems, ")


def test_a_damaged_image_in_a_zip_file_fails_alone(tmp_path):
    packed = tmp_path / "a.zip"
    content = bytearray(archive(**{"a.jpg": b"A", "b.jpg": b"B"}))
    content[content.index(b"PK\1\2") + 16] ^= 1
    packed.write_bytes(content)
    damaged = "the file is damaged in the zip file"
    assert read(packed) == ([("a.jpg", damaged), ("b.jpg", b"B")], 2)


def encrypted():
    """A zip file whose second file is encrypted."""
    content = bytearray(archive(**{"a.jpg": b"A", "b.jpg": b"B"}))
    content[content.rindex(b"PK\1\2") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no zip", "the zip file is damaged"),
        (encrypted(), "the zip file is encrypted"),
        (
            archive(**{"../\n.jpg": b"A"}),
            "the zip file has a name that points outside: '../\\x0a.jpg'",
        ),
        (None, "No such file or directory"),
    ],
)
def test_a_zip_file_that_cannot_be_read_fails_as_one(tmp_path, content, words):
    packed, file = tmp_path / "a.zip", tmp_path / "b.jpg"
    file.write_bytes(b"B")
    if content is not None:
        packed.write_bytes(content)
    assert read(packed, file) == ([(str(packed), words), (str(file), b"B")], 2)


def test_a_zip_file_that_is_cut_while_it_is_read_ends_in_an_error(tmp_path):
    packed = tmp_path / "a.zip"
    packed.write_bytes(archive(**{f"{number}.jpg": b"A" * 100 for number in range(3)}))
    pictures = find_pictures([str(packed)], FORMATS)
    assert count_of(pictures) == 3
    images = each_of(pictures)
    assert next(images).read(1000) == b"A" * 100
    os.truncate(packed, 10)
    with pytest.raises(UndecodableImage, match="the file is damaged in the zip file"):
        next(images).read(1000)
    packed.write_bytes(b"no zip")
    (image,) = each_of(pictures)
    with pytest.raises(UndecodableImage, match="the zip file is damaged"):
        image.read(1000)


def test_zip_files_without_images_are_an_error(tmp_path):
    packed = tmp_path / "a.zip"
    packed.write_bytes(archive(**{"a.txt": b"A"}))
    with pytest.raises(OperatorError, match="No images found"):
        read(packed)


def test_no_more_of_an_image_is_read_than_the_server_takes(tmp_path):
    packed, file = tmp_path / "a.zip", tmp_path / "b.jpg"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("a.jpg", bytes(50 << 20))
    file.write_bytes(bytes(1 << 20))
    ((_, first), (_, second)), _ = read(packed, file, most=1000)
    assert 1000 < len(first) < 1 << 20
    assert len(second) == 1001
