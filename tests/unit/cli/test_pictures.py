"""What arguments stand for: files, folders, standard input, addresses."""

import io
import os
from types import SimpleNamespace

import pytest
from image_categorizer_server.cli.pictures import (
    find_pictures,
    key_of,
    uploadable,
    uris_of,
)
from image_categorizer_server.errors import OperatorError

FORMATS = ("JPEG", "PNG", "AVIF")


def found(*paths):
    return find_pictures(map(str, paths), FORMATS).files


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
    files = find_pictures([str(tmp_path)], ["HEIF", "JXL"]).files
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
    assert key_of(source) == os.fsdecode(path)
    assert uploadable(source) == (f"{tmp_path}/caf\\xe9.jpg", b"image")
    assert uploadable("plain.jpg") == "plain.jpg"


def test_addresses_are_told_from_files():
    uris = ["https://example.com/a.jpg", "s3://bucket/key"]
    assert uris_of(uris) == uris
    assert uris_of(["a.jpg", "odd://name", "http:", "//[a"]) == []
    with pytest.raises(OperatorError, match="not both"):
        uris_of([*uris, "a.jpg"])
