"""EmbedUpload: an HTTP body as a request of Embed, and its answer as JSON.

The body is JSON, a form, or the image itself; query parameters are fields of the message already.
JSON may have the shape of OpenAI's embeddings endpoint: images as text in `input`.
"""

import base64
import json
from collections.abc import Sequence

import numpy as np
from image_categorizer.v1 import embedding_pb2

from image_categorizer_server.domain.embedding import Embedding
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.fields import Fields
from image_categorizer_server.rpc.forms import IMAGE_FIELD
from image_categorizer_server.rpc.image_body import image_in
from image_categorizer_server.rpc.json_body import image_of_text, is_json, read_json
from image_categorizer_server.rpc.options import copy_fields

Upload = embedding_pb2.EmbedUploadRequest
Request = embedding_pb2.EmbedRequest
INPUT = "input"
JSON = "application/json"
BASE64 = "base64"
DIGITS = 9
"""As many as tell each 32-bit floating-point number from the next."""


def read_body(upload: Upload) -> Request:
    """Returns the request that a body and the query parameters make together.

    Raises:
        InvalidRequest: the body is malformed, or a field is invalid or given twice.
    """
    kind, data = upload.body.content_type, upload.body.data
    if is_json(kind) and (data.strip() or not upload.image_uri):
        return _of_json(upload, data)
    image = image_in(upload)
    request = Request()
    copy_fields(upload, request)
    return _with_image(request, image)


def _of_json(upload: Upload, data: bytes) -> Request:
    request = Request()
    copy_fields(upload, request)
    fields = Fields(request, (IMAGE_FIELD, INPUT), kind="JSON body")
    image = None
    for name, value in read_json(data).items():
        if name == IMAGE_FIELD:
            image = None if value is None else image_of_text(value, IMAGE_FIELD)
        elif name == INPUT:
            request.input.extend(_texts(value))
        else:
            fields.set(name, value)
    fields.finish()
    return _with_image(request, image)


def _texts(value: object) -> list[str]:
    given: list[object] = value if isinstance(value, list) else [value]
    texts = [text for text in given if isinstance(text, str) and text.isascii()]
    if len(texts) < len(given):
        raise InvalidRequest.of([(INPUT, "must be images as text: data URLs, base64 or URIs")])
    return texts


def _with_image(request: Request, image: bytes | None) -> Request:
    """Adds the image, which may be empty if the request names one in another way."""
    if request.image_uri or request.input:
        if image:
            raise InvalidRequest.of([(IMAGE_FIELD, "excludes image_uri and input")])
    elif image is not None:
        request.image = image
    return request


def response_of(embeddings: Sequence[Embedding]) -> embedding_pb2.EmbedResponse:
    """Returns the answer as a message; the embeddings are of one model version."""
    model = embeddings[0].model
    return embedding_pb2.EmbedResponse(
        object="list",
        data=[
            embedding_pb2.Embedding(object="embedding", index=i, embedding=found.vector.tolist())
            for i, found in enumerate(embeddings)
        ],
        model=model.name,
        usage=embedding_pb2.EmbedUsage(),
        model_version=convert.model_ref(model),
    )


def json_of(embeddings: Sequence[Embedding], encoding_format: str) -> bytes:
    """Returns the answer as JSON, with embeddings as lists of numbers or as base64."""
    model = embeddings[0].model
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(found, encoding_format)}
        for index, found in enumerate(embeddings)
    ]
    answer = {
        "object": "list",
        "data": data,
        "model": model.name,
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
        "model_version": {
            "name": model.name,
            "version": str(model.version),
            "digest": model.digest,
        },
    }
    return json.dumps(answer, separators=(",", ":")).encode()


def _encoded(embedding: Embedding, encoding_format: str) -> str | list[float]:
    if encoding_format == BASE64:
        return base64.b64encode(embedding.vector.astype(np.dtype("<f4")).tobytes()).decode()
    return [float(f"{number:.{DIGITS}g}") for number in embedding.vector]
