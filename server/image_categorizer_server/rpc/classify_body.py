"""ClassifyUpload: an HTTP body as a request of Classify.

The body is JSON, a form, or the image itself; query parameters are fields of the message already.
"""

from image_categorizer.v1 import classify_pb2

from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.fields import Fields
from image_categorizer_server.rpc.forms import (
    IMAGE_FIELD,
    is_encoded_form,
    is_form,
    read_encoded_form,
    read_image_form,
)
from image_categorizer_server.rpc.json_body import (
    decoded_image,
    image_of_text,
    is_data_url,
    is_json,
    read_json,
)
from image_categorizer_server.rpc.options import copy_fields

Upload = classify_pb2.ClassifyUploadRequest
Request = classify_pb2.ClassifyRequest


def read_body(upload: Upload) -> Request:
    """Returns the request that a body and the query parameters make together.

    Raises:
        InvalidRequest: the body is malformed, or a field is invalid or given twice.
    """
    kind, data = upload.body.content_type, upload.body.data
    if is_json(kind) and (data.strip() or not upload.image_uri):
        return _of_json(upload, data)
    image: bytes | None
    if is_form(kind):
        image = read_image_form(kind, data, upload)
    elif is_encoded_form(kind, data, upload):
        image = read_encoded_form(data, upload)
    else:
        image = decoded_image(data, IMAGE_FIELD) if is_data_url(data) else data
    return _with_image(_of_query(upload), image)


def _of_query(upload: Upload) -> Request:
    request = Request()
    copy_fields(upload, request)
    copy_fields(upload, request.options)
    return request


def _of_json(upload: Upload, data: bytes) -> Request:
    request = _of_query(upload)
    fields = Fields(request, (IMAGE_FIELD,), kind="JSON body")
    image = None
    for name, value in read_json(data).items():
        if name == IMAGE_FIELD:
            image = None if value is None else image_of_text(value, IMAGE_FIELD)
        else:
            fields.set(name, value)
    fields.finish()
    return _with_image(request, image)


def _with_image(request: Request, image: bytes | None) -> Request:
    """Adds the image, which may be empty if the request names one by its URI."""
    if request.image_uri:
        if image:
            raise InvalidRequest.of([(IMAGE_FIELD, "and image_uri exclude each other")])
    elif image is not None:
        request.image = image
    return request
