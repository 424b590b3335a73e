"""HTTP bodies with one image, as requests of the RPCs that take JSON."""

import base64
import json

import pytest
from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1.classify_pb2 import ClassifyRequest, ClassifyUploadRequest
from image_categorizer.v1.image_pb2 import UploadImageBodyRequest, UploadImageRequest
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.image_body import read_body

IMAGE = b"\xff\xd8 image"


def form(*parts):
    """Returns a form; a part is (name, file name or None, content)."""
    body = b""
    for name, file_name, content in parts:
        named = "" if file_name is None else f'; filename="{file_name}"'
        body += f'--xyz\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return HttpBody(content_type="multipart/form-data; boundary=xyz", data=body + b"--xyz--\r\n")


def json_body(**fields):
    return HttpBody(content_type="application/json", data=json.dumps(fields).encode())


def stored(body, **query):
    return read_body(UploadImageBodyRequest(body=body, **query), UploadImageRequest())


def classified(body, **query):
    return read_body(ClassifyUploadRequest(body=body, **query), ClassifyRequest())


def test_each_kind_of_body_becomes_the_same_request():
    expected = UploadImageRequest(image=IMAGE, filename="a.jpg", tags=["x", "y"], subject_id="s")
    raw = HttpBody(content_type="image/jpeg", data=IMAGE)
    assert stored(raw, filename="a.jpg", tags=["x", "y"], subject_id="s") == expected
    tags = [("tags", None, b"x"), ("tags", None, b"y"), ("subject_id", None, b"s")]
    assert stored(form(("image", "a.jpg", IMAGE), *tags)) == expected
    text = base64.b64encode(IMAGE).decode()
    fields = {"image": text, "filename": "a.jpg", "tags": ["x", "y"], "subjectId": "s"}
    assert stored(json_body(**fields)) == expected
    assert stored(json_body(image=text, tags=["x", "y"]), filename="a.jpg", subject_id="s") == (
        expected
    )


def test_the_name_of_the_file_is_that_of_the_form_unless_one_is_given():
    part = "image", "a.jpg", IMAGE
    assert stored(form(part)).filename == classified(form(part)).filename == "a.jpg"
    assert stored(form(part, ("filename", None, b"b.jpg"))).filename == "b.jpg"
    assert classified(form(part), filename="c.jpg").filename == "c.jpg"
    assert stored(form(("image", None, base64.b64encode(IMAGE)))).filename == ""


@pytest.mark.parametrize("name", ["image_uri", "image_id"])
def test_an_image_may_be_named_instead_of_sent(name):
    request = ClassifyRequest(**{name: "i-1"})
    assert classified(HttpBody(), **{name: "i-1"}) == request
    assert classified(form((name, None, b"i-1"))) == request
    assert classified(json_body(**{name: "i-1"})) == request


@pytest.mark.parametrize(
    "given",
    [
        lambda: classified(HttpBody(data=IMAGE), image_id="i-1"),
        lambda: classified(HttpBody(), image_id="i-1", image_uri="https://a/b"),
        lambda: classified(json_body(imageId="i-1"), image_uri="https://a/b"),
        lambda: classified(json_body(image_id="i-1", image_uri="https://a/b")),
        lambda: classified(json_body(image="AAAA", image_id="i-1")),
        lambda: stored(form(("image", "a", IMAGE)), image_uri="https://a/b"),
    ],
)
def test_an_image_is_given_in_one_way(given):
    with pytest.raises(InvalidRequest, match="exclude each other"):
        given()


def test_unknown_fields_are_named():
    with pytest.raises(InvalidRequest, match="colour: is not a field of the form"):
        stored(form(("image", "a", IMAGE), ("colour", None, b"red")))
    with pytest.raises(InvalidRequest, match="image_id: is not a field of the JSON body"):
        stored(json_body(image_id="i-1"))
