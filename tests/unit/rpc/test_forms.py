"""Forms with one image."""

import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.classify_pb2 import ClassifyUploadRequest
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.forms import (
    is_encoded_form,
    is_form,
    read_encoded_form,
    read_image_form,
)

ONCE = "must be in the form exactly once"


def form(*parts):
    """Returns (content type, body) of a form; a part is (name, content)."""
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n' % part
        for part in parts
    )
    return 'multipart/form-data; boundary="xyz"', body + b"--xyz--\r\n"


def test_a_form_gives_image_and_options():
    request = ClassifyUploadRequest(body=HttpBody(), version="7", top_k=2)
    parts = [
        (b"image", b"\xff\xd8 bytes \r\n--xy"),
        (b"model", b" small\r\n"),
        (b"topK", b"2"),
        (b"confidence_threshold", b"0.25"),
        (b"include_categories", b"cat, a"),
        (b"includeCategories", b"dog"),
        (b"bounding_boxes", b"true"),
        (b"explain", b"false"),
        (b"webhook_url", b""),
    ]
    assert read_image_form(*form(*parts), request) == b"\xff\xd8 bytes \r\n--xy"
    assert (request.model, request.version, request.top_k) == ("small", "7", 2)
    assert request.confidence_threshold == 0.25
    assert list(request.include_categories) == ["cat, a", "dog"]
    assert (request.bounding_boxes, request.explain, request.webhook_url) == (True, False, "")


@pytest.mark.parametrize(
    ("parts", "violation"),
    [
        (
            [(b"image", b"a"), (b"image", b"b")],
            ("image", "must be in the form exactly once, is in it 2 times"),
        ),
        ([(b"image", b"a"), (b"top_k", b"many")], ("top_k", "must be a number")),
        ([(b"image", b"a"), (b"top_k", b"99999999999")], ("top_k", "must be a number")),
        ([(b"image", b"a"), (b"explain", b"on")], ("explain", "must be true or false")),
        ([(b"image", b"a"), (b"model", b"\xff")], ("model", "must be UTF-8 text")),
        ([(b"image", b"a"), (b"model", b"m" * 5000)], ("model", "must have at most 4096 bytes")),
    ],
)
def test_a_wrong_form_is_refused_by_field(parts, violation):
    with pytest.raises(InvalidRequest) as caught:
        read_image_form(*form(*parts), ClassifyUploadRequest())
    assert caught.value.violations == [violation]


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/x-www-form-urlencoded", b"image_uri=https%3A%2F%2Fa%2Fb&topK=2", True),
        ("application/x-www-form-urlencoded; charset=utf-8", b"image=AAAA", True),
        ("application/x-www-form-urlencoded", b"\xff\xd8\xff\xe0=", False),
        ("application/x-www-form-urlencoded", b'{"image": "AAAA="}', False),
        ("application/x-www-form-urlencoded", b"", False),
        ("image/jpeg", b"image=AAAA", False),
    ],
)
def test_a_form_of_text_is_told_from_what_curl_sends(content_type, body, expected):
    assert is_encoded_form(content_type, body, ClassifyUploadRequest()) is expected


def test_a_form_of_text_gives_image_and_options():
    request = ClassifyUploadRequest()
    body = b"image=%2F9j+AA%3D%3D&top_k=2&include_categories=cat&include_categories=dog"
    assert read_encoded_form(body, request) == b"\xff\xd8\xfe\x00"
    assert (request.top_k, list(request.include_categories)) == (2, ["cat", "dog"])


def test_an_unknown_field_is_refused_with_the_known_ones():
    with pytest.raises(InvalidRequest, match="picture: is not a field.*image, blur"):
        read_image_form(*form((b"picture", b"a")), ClassifyUploadRequest())


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=xyz", b""),
        ("multipart/form-data; boundary=xyz", b"--abc\r\n\r\n"),
        (form()[0], form((b"image", b"a"))[1][:-12]),
        (form()[0], b"--xyz\r\nContent-Disposition: form-data; " + b"x" * 10_000 + b"\r\n\r\n"),
    ],
)
def test_a_malformed_form_is_refused(content_type, body):
    with pytest.raises(InvalidRequest, match="^body: the form"):
        read_image_form(content_type, body, ClassifyUploadRequest())


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("multipart/form-data; boundary=x", True),
        ("Multipart/Form-Data", True),
        ("image/jpeg", False),
        ("", False),
    ],
)
def test_forms_are_recognised_by_their_content_type(content_type, expected):
    assert is_form(content_type) is expected
