"""Converts between the clients' values about stored images and protobuf messages."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from image_categorizer._image_values import Colour, ImageResult, PictureFacts, StoredImage
from image_categorizer._wire import PAGE_SIZE, model_ref, prediction
from image_categorizer.v1 import image_pb2


def upload_request(
    source: bytes | str, given: Mapping[str, object]
) -> image_pb2.UploadImageRequest:
    """Returns the request to store an image: encoded bytes, or a URI.

    Raises:
        TypeError: an option is unknown or of the wrong type.
    """
    request = image_pb2.UploadImageRequest()
    known = set(request.DESCRIPTOR.fields_by_name) - {"image", "image_uri"}
    if unknown := set(given) - known:
        raise TypeError(f"unknown options: {', '.join(sorted(unknown))}")
    for name, value in given.items():
        if name in ("tags", "blur"):
            getattr(request, name).extend(words(value, name))
        else:
            setattr(request, name, value)
    if isinstance(source, str):
        request.image_uri = source
    else:
        request.image = source
    return request


def list_request(given: Mapping[str, object]) -> image_pb2.ListImagesRequest:
    """Returns the request for the first page of images that pass filters.

    Raises:
        TypeError: a filter is unknown or of the wrong type, or a time has no time zone.
        ValueError: there is no such review state.
    """
    request = image_pb2.ListImagesRequest(page_size=PAGE_SIZE)
    known = set(request.DESCRIPTOR.fields_by_name) - {"page_size", "page_token"}
    if unknown := set(given) - known:
        raise TypeError(f"unknown filters: {', '.join(sorted(unknown))}")
    for name, value in given.items():
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise TypeError(f"{name} needs a time zone")
            getattr(request, name).FromDatetime(value)
        elif name == "tags":
            request.tags.extend(words(value))
        elif name == "review_state" and isinstance(value, str):
            request.review_state = image_pb2.ListImagesRequest.ReviewState.Value(value)
        elif value is not None:
            setattr(request, name, value)
    return request


def update_request(
    image_id: str, filename: str | None, tags: Iterable[str] | None
) -> image_pb2.UpdateImageRequest:
    """Returns the request to change an image."""
    request = image_pb2.UpdateImageRequest(image_id=image_id, filename=filename)
    if tags is not None:
        request.tags.extend(words(tags))
        if not request.tags:
            request.clear.append("tags")
    return request


def words(tags: object, name: str = "tags") -> list[str]:
    """Returns tags, or another list of words, as a list.

    Raises:
        TypeError: a single text is given.
    """
    if isinstance(tags, str | bytes) or not isinstance(tags, Iterable):
        raise TypeError(f"{name} takes a list of words, not {tags!r}")
    return list(tags)


def stored_image(wire: image_pb2.Image) -> StoredImage:
    """Returns a stored image."""
    return StoredImage(
        image_id=wire.image_id,
        sha256=wire.sha256,
        size_bytes=wire.size_bytes,
        format=wire.format,
        width_px=wire.width_px,
        height_px=wire.height_px,
        filename=wire.filename,
        tags=tuple(wire.tags),
        subject_id=wire.subject_id,
        create_time=wire.create_time.ToDatetime(UTC),
        facts=_facts(wire.facts) if wire.HasField("facts") else None,
        has_metadata=wire.has_metadata,
        content_url=wire.content_url,
        result=image_result(wire.result) if wire.HasField("result") else None,
    )


def _facts(wire: image_pb2.PictureFacts) -> PictureFacts:
    return PictureFacts(
        perceptual_hash=wire.perceptual_hash,
        dominant_colours=tuple(
            Colour(colour.name, colour.share) for colour in wire.dominant_colours
        ),
        brightness=wire.brightness,
        sharpness=wire.sharpness,
    )


def image_result(wire: image_pb2.ImageResult) -> ImageResult:
    """Returns what a model found in a stored image."""
    return ImageResult(
        result_id=wire.result_id,
        image_id=wire.image_id,
        predictions=tuple(map(prediction, wire.predictions)),
        model=model_ref(wire.model),
        create_time=wire.create_time.ToDatetime(UTC),
    )
