"""ImageService."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import grpc
from image_categorizer.v1 import image_pb2

from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.image import (
    Image,
    ImageChanges,
    ImageFilter,
    ImageResult,
    NearHash,
    NewImage,
)
from image_categorizer_server.domain.picture import PictureFacts
from image_categorizer_server.domain.review import ReviewState
from image_categorizer_server.errors import InvalidRequest, RoleInsufficient
from image_categorizer_server.rpc import convert, pages
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.classify import ClassifyLimits
from image_categorizer_server.rpc.image_body import read_upload
from image_categorizer_server.rpc.validation import image_id_of, raise_if_any
from image_categorizer_server.services.duplicate import DEFAULT_BITS, check_bits, hash_of
from image_categorizer_server.services.image import Images

Context = grpc.aio.ServicerContext
WIRE_STATES = image_pb2.ListImagesRequest.ReviewState


class ImageServicer:
    """Serves ImageService."""

    def __init__(
        self,
        images: Images,
        url_of: Callable[[Image], Awaitable[str]],
        limits: ClassifyLimits,
        max_page_bytes: int,
    ) -> None:
        self._images = images
        self._url_of = url_of
        self._limits = limits
        self._max_page_bytes = max_page_bytes

    async def UploadImage(
        self,
        request: image_pb2.UploadImageRequest,
        context: Context[image_pb2.UploadImageRequest, image_pb2.Image],
    ) -> image_pb2.Image:
        return await self._upload(request)

    async def UploadImageBody(
        self,
        request: image_pb2.UploadImageBodyRequest,
        context: Context[image_pb2.UploadImageBodyRequest, image_pb2.Image],
    ) -> image_pb2.Image:
        most = self._limits.max_body_bytes
        return await self._upload(await read_upload(request, image_pb2.UploadImageRequest(), most))

    async def _upload(self, request: image_pb2.UploadImageRequest) -> image_pb2.Image:
        source, uri = request.WhichOneof("source"), request.image_uri
        if source is None:
            raise InvalidRequest.of([("image", "is required, or image_uri")])
        if source == "image_uri" and (text := self._limits.wrong_uri(uri)):
            raise InvalidRequest.of([("image_uri", text)])
        if request.keep_metadata:
            check_is_admin("keep_metadata")
        words = (
            request.filename,
            tuple(request.tags),
            request.subject_id,
            request.keep_metadata,
            tuple(request.blur),
        )
        self._images.check(NewImage(b"", *words))
        content = request.image if source == "image" else await self._images.fetch(uri)
        image = await self._images.store(current_tenant(), NewImage(content, *words))
        return image_to_wire(image, await self._url_of(image))

    async def GetImage(
        self,
        request: image_pb2.GetImageRequest,
        context: Context[image_pb2.GetImageRequest, image_pb2.Image],
    ) -> image_pb2.Image:
        image_id = image_id_of(request.image_id)
        image = await self._images.get(current_tenant(), image_id)
        return image_to_wire(image, await self._url_of(image))

    async def ListImages(
        self,
        request: image_pb2.ListImagesRequest,
        context: Context[image_pb2.ListImagesRequest, image_pb2.ListImagesResponse],
    ) -> image_pb2.ListImagesResponse:
        search = await _near(current_tenant(), request, _search(request))
        images = partial(self._images.list_page, current_tenant(), search)
        page = await pages.read(request, images, image_to_wire, self._max_page_bytes)
        return image_pb2.ListImagesResponse(
            images=page.messages, next_page_token=page.next_page_token
        )

    async def UpdateImage(
        self,
        request: image_pb2.UpdateImageRequest,
        context: Context[image_pb2.UpdateImageRequest, image_pb2.Image],
    ) -> image_pb2.Image:
        image_id = image_id_of(request.image_id)
        image = await self._images.update(current_tenant(), image_id, _changes(request))
        return image_to_wire(image, await self._url_of(image))

    async def DeleteImage(
        self,
        request: image_pb2.DeleteImageRequest,
        context: Context[image_pb2.DeleteImageRequest, image_pb2.DeleteImageResponse],
    ) -> image_pb2.DeleteImageResponse:
        await self._images.delete(current_tenant(), image_id_of(request.image_id))
        return image_pb2.DeleteImageResponse()


def _search(request: image_pb2.ListImagesRequest) -> ImageFilter:
    wrong: list[tuple[str, str]] = []
    start_time, end_time = (
        convert.moment(request, field, wrong) for field in ("start_time", "end_time")
    )
    raise_if_any(wrong)
    has_confidences = request.HasField("min_confidence") or request.HasField("max_confidence")
    most = request.max_confidence if request.HasField("max_confidence") else 1.0
    return ImageFilter(
        request.subject_id,
        request.category,
        (request.min_confidence, most) if has_confidences else None,
        request.model,
        tuple(dict.fromkeys(request.tags)),
        request.filename,
        start_time,
        end_time,
        _review_state(request),
    )


def _review_state(request: image_pb2.ListImagesRequest) -> str:
    if not request.review_state:
        return ""
    states = {WIRE_STATES.Value(state.value): state for state in ReviewState}
    if request.review_state not in states:
        raise InvalidRequest.of([("review_state", f"must be one of {', '.join(ReviewState)}")])
    return states[request.review_state]


async def _near(
    tenant_id: str, request: image_pb2.ListImagesRequest, search: ImageFilter
) -> ImageFilter:
    """Returns a search for the images, among those of another one, that look like an image."""
    has_bits = request.HasField("max_distance_bits")
    if not request.near_duplicate_of:
        if has_bits:
            raise InvalidRequest.of([("max_distance_bits", "requires near_duplicate_of")])
        return search
    bits = request.max_distance_bits if has_bits else DEFAULT_BITS
    check_bits(bits, "max_distance_bits")
    perceptual_hash = await hash_of(tenant_id, image_id_of(request.near_duplicate_of))
    return replace(search, near=NearHash(perceptual_hash, bits))


def _changes(request: image_pb2.UpdateImageRequest) -> ImageChanges:
    wrong: list[tuple[str, str]] = []
    for field in request.clear:
        if field != "tags":
            wrong.append(("clear", "is not one of: tags"))
        elif request.tags:
            wrong.append(("clear", "tags is also set"))
    raise_if_any(wrong)
    return ImageChanges(
        request.filename if request.HasField("filename") else None,
        tuple(request.tags) if request.tags or request.clear else None,
    )


def check_is_admin(name: str) -> None:
    """Passes a call of an admin.

    Raises:
        RoleInsufficient: the caller has another role.
    """
    principal = current_call.get().principal
    if principal is None or principal.role < Role.ADMIN:
        raise RoleInsufficient(f"{name} requires the role admin")


def image_to_wire(value: Image, content_url: str = "") -> image_pb2.Image:
    """Returns an image as a message."""
    return image_pb2.Image(
        image_id=value.image_id,
        sha256=value.sha256,
        size_bytes=value.size_bytes,
        format=value.format,
        width_px=value.width_px,
        height_px=value.height_px,
        filename=value.filename,
        tags=value.tags,
        subject_id=value.subject_id,
        create_time=convert.timestamp(value.create_time),
        result=result_to_wire(value.result) if value.result else None,
        facts=facts_to_wire(value.facts) if value.facts else None,
        has_metadata=value.has_metadata,
        content_url=content_url,
    )


def facts_to_wire(value: PictureFacts) -> image_pb2.PictureFacts:
    """Returns facts about a picture as a message."""
    return image_pb2.PictureFacts(
        perceptual_hash=value.perceptual_hash,
        dominant_colours=[
            image_pb2.Colour(name=colour.name, share=colour.share)
            for colour in value.dominant_colours
        ],
        brightness=value.brightness,
        sharpness=value.sharpness,
    )


def result_to_wire(value: ImageResult) -> image_pb2.ImageResult:
    """Returns a result as a message."""
    return image_pb2.ImageResult(
        result_id=value.result_id,
        image_id=value.image_id,
        predictions=map(convert.prediction, value.predictions),
        model=convert.model_ref(value.model),
        create_time=convert.timestamp(value.create_time),
    )
