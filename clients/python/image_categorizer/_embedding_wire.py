"""Converts between the clients' values about embeddings and protobuf messages."""

from image_categorizer._embedding_values import Embedding, SimilarImage
from image_categorizer._image_wire import stored_image
from image_categorizer._wire import model_ref, version_text
from image_categorizer.v1 import embedding_pb2


def embed_request(
    source: bytes | str, model: str, version: int | str
) -> embedding_pb2.EmbedRequest:
    """Returns the request to embed an image: encoded bytes, or a URI."""
    request = embedding_pb2.EmbedRequest(model=model, version=version_text(version))
    if isinstance(source, str):
        request.image_uri = source
    else:
        request.image = source
    return request


def embedding(wire: embedding_pb2.EmbedResponse) -> Embedding:
    """Returns the embedding of one image."""
    return Embedding(tuple(wire.data[0].embedding), model_ref(wire.model_version))


def like_request(
    source: bytes | str, limit: int, model: str, version: int | str
) -> embedding_pb2.FindImagesLikeRequest:
    """Returns the request for images like one that is sent."""
    request = embedding_pb2.FindImagesLikeRequest(
        limit=limit, model=model, version=version_text(version)
    )
    if isinstance(source, str):
        request.image_uri = source
    else:
        request.image = source
    return request


def similar_request(
    image_id: str, limit: int, model: str, version: int | str
) -> embedding_pb2.FindSimilarImagesRequest:
    """Returns the request for images similar to a stored one."""
    return embedding_pb2.FindSimilarImagesRequest(
        image_id=image_id, limit=limit, model=model, version=version_text(version)
    )


def similar_images(wire: embedding_pb2.SimilarImages) -> list[SimilarImage]:
    """Returns the images, the most similar first."""
    return [SimilarImage(stored_image(one.image), one.similarity) for one in wire.images]
