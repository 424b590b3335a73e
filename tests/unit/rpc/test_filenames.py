"""Names of files in forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_categorizer_server.rpc.filenames import HEADER_CHARSET, file_name, has_file_name
from multipart import MultipartSegment

NAME = b'form-data; name="images[]"; '


def named(parameters: bytes) -> str:
    header = (NAME + parameters).decode(HEADER_CHARSET)
    return file_name(MultipartSegment([("Content-Disposition", header)]))


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"", ""),
        (b'filename=""', ""),
        (b"filename=a.jpg", "a.jpg"),
        (b'filename="a.jpg"', "a.jpg"),
        (b'FileName = "a.jpg" ; size=3', "a.jpg"),
        ('filename="Größe.jpg"'.encode(), "Größe.jpg"),
        ('filename="写真 🐈.jpg"'.encode(), "写真 🐈.jpg"),
        ('filename="Größe.jpg"'.encode("latin-1"), "Größe.jpg"),
        ("filename=Größe.jpg".encode(), "Größe.jpg"),
        (b'filename="=?utf-8?B?R3LDtsOfZS5qcGc=?="', "Größe.jpg"),
        (b'filename="=?UTF-8?Q?Gr=C3=B6=C3=9Fe_1.jpg?="', "Größe 1.jpg"),
        (b'filename="=?utf-8?B?R3LDtg==?= =?utf-8?B?w59lLmpwZw==?="', "Größe.jpg"),
        (b'filename="=?utf-8?B?!!!!?="', "=?utf-8?B?!!!!?="),
        (b'filename="=?none?B?R3LDtsOfZS5qcGc=?="', "=?none?B?R3LDtsOfZS5qcGc=?="),
        (b"filename*=utf-8''Gr%C3%B6%C3%9Fe.jpg", "Größe.jpg"),
        (b"filename*=UTF-8'de'Gr%C3%B6%C3%9Fe.jpg", "Größe.jpg"),
        (b"filename*=iso-8859-1''Gr%F6%DFe.jpg", "Größe.jpg"),
        (b"filename*=utf-8''b.jpg; filename=\"a.jpg\"", "b.jpg"),
        (b"filename=\"a.jpg\"; filename*=utf-8''b.jpg", "b.jpg"),
        (b"filename=\"a.jpg\"; filename*=none''b.jpg", "a.jpg"),
        (b"filename=\"a.jpg\"; filename*=utf-8''%FF.jpg", "a.jpg"),
        (b"filename=\"a.jpg\"; filename*=utf-7''+2AA-", "a.jpg"),
        (b'filename="a %22b%22.jpg"', 'a "b".jpg'),
        (b'filename="a%0D%0Ab.jpg"', "a\r\nb.jpg"),
        (b'filename="100%25 %C3%B6.jpg"', "100%25 %C3%B6.jpg"),
        (b'filename="a \\"b\\".jpg"', 'a "b".jpg'),
        (b'filename="a\\\\b.jpg"', "a\\b.jpg"),
        (b'filename="a; filename=b.jpg"', "a; filename=b.jpg"),
        (b'filename="C:\\photos\\a.jpg"', "a.jpg"),
        (b'filename="C:\\\\photos\\\\a.jpg"', "a.jpg"),
        (b'filename="C:/photos/a.jpg"', "a.jpg"),
        (b'filename="\\\\server\\photos\\a.jpg"', "a.jpg"),
        (b'filename="photos/a.jpg"', "photos/a.jpg"),
        (b'filename="tab\tbell\x07.jpg"', "tab\tbell\x07.jpg"),
        (b'filename="open.jpg', '"open.jpg'),
        (b'filename="https://a.example/b.jpg"', "https://a.example/b.jpg"),
    ],
)
def test_a_name_is_what_the_sender_meant(sent, name):
    assert named(sent) == name


def test_a_parameter_inside_the_name_of_a_field_is_none():
    header = 'form-data; name="x; filename=evil.jpg"; filename="a.jpg"'
    assert file_name(MultipartSegment([("Content-Disposition", header)])) == "a.jpg"


@given(st.binary(max_size=200))
def test_any_name_is_valid_text(sent):
    named(b'filename="' + sent + b'"').encode()
    named(b"filename*=" + sent).encode()


@given(st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n\0%'), max_size=50))
def test_names_in_utf_8_come_back(name):
    if not name.startswith("=?") and name[1:2] != ":":
        assert named(f'filename="{name}"'.encode()) == name


@pytest.mark.parametrize(
    ("parameters", "is_file"),
    [("", False), ('; filename=""', True), ("; filename*=utf-8''a.jpg", True)],
)
def test_a_field_with_any_kind_of_name_is_a_file(parameters, is_file):
    header = 'form-data; name="image"' + parameters
    assert has_file_name(MultipartSegment([("Content-Disposition", header)])) is is_file
