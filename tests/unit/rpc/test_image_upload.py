"""The headers of tus clients, as a request to create an upload."""

import base64

import pytest
from image_categorizer.v1.image_upload_pb2 import CreateUploadRequest
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.image_upload import fill, number


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def filled(**headers):
    request = CreateUploadRequest()
    fill(request, {name.replace("_", "-"): value for name, value in headers.items()})
    return request


def test_headers_become_fields_and_unknown_metadata_is_ignored():
    metadata = f"filename {encoded('é.jpg')}, tags {encoded('a, b,')},is_confidential,type aGk="
    found = filled(upload_length="1234", upload_metadata=metadata)
    assert found == CreateUploadRequest(size_bytes=1234, filename="é.jpg", tags=["a", "b"])
    assert filled() == CreateUploadRequest()


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.5", "\N{ARABIC-INDIC DIGIT ONE}", "4294967296", "9" * 11]
)
def test_a_number_that_is_none_is_refused(text):
    with pytest.raises(InvalidRequest, match="Upload-Length"):
        filled(upload_length=text)


@pytest.mark.parametrize("text", ["filename a.jpg", "subject_id /w==", "tags *"])
def test_metadata_that_is_not_base64_is_refused(text):
    with pytest.raises(InvalidRequest, match="must be text in base64"):
        filled(upload_metadata=text)


def test_a_header_may_be_missing():
    assert number({}, "upload-offset") is None
    assert number({"upload-offset": "0"}, "upload-offset") == 0
