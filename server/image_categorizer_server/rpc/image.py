"""ImageService."""

from functools import partial

import grpc
from image_categorizer.v1 import image_pb2, image_pb2_grpc

from image_categorizer_server.domain.image import Image, ImageResult, NewImage
from image_categorizer_server.errors import ImageNotFound, InvalidRequest
from image_categorizer_server.paging import Page
from image_categorizer_server.rpc import convert, pages
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.classify import ClassifyLimits
from image_categorizer_server.rpc.receipt import ReceiptServicer
from image_categorizer_server.rpc.validation import IDENTIFIER, raise_if_any, required
from image_categorizer_server.services.image import Images
from image_categorizer_server.services.receipt import Receipts
from image_categorizer_server.services.replay import Replays

Context = grpc.aio.ServicerContext


class ImageServicer(ReceiptServicer, image_pb2_grpc.ImageServiceServicer):
    """Serves ImageService."""

    def __init__(
        self,
        images: Images,
        limits: ClassifyLimits,
        max_page_bytes: int,
        receipts: Receipts,
        replays: Replays,
    ) -> None:
        ReceiptServicer.__init__(self, receipts, replays)
        self._images = images
        self._limits = limits
        self._max_page_bytes = max_page_bytes

    async def UploadImage(
        self,
        request: image_pb2.UploadImageRequest,
        context: Context[image_pb2.UploadImageRequest, image_pb2.Image],
    ) -> image_pb2.Image:
        source, uri = request.WhichOneof("source"), request.image_uri
        if source is None:
            raise InvalidRequest.of([("image", "is required, or image_uri")])
        if source == "image_uri" and (text := self._limits.wrong_uri(uri)):
            raise InvalidRequest.of([("image_uri", text)])
        words = request.filename, tuple(request.tags), request.subject_id
        self._images.check(NewImage(b"", *words))
        content = request.image if source == "image" else await self._images.fetch(uri)
        return image_to_wire(await self._images.store(current_tenant(), NewImage(content, *words)))

    async def GetImage(
        self,
        request: image_pb2.GetImageRequest,
        context: Context[image_pb2.GetImageRequest, image_pb2.Image],
    ) -> image_pb2.Image:
        image_id = image_id_of(request.image_id)
        return image_to_wire(await self._images.get(current_tenant(), image_id))

    async def ListImages(
        self,
        request: image_pb2.ListImagesRequest,
        context: Context[image_pb2.ListImagesRequest, image_pb2.ListImagesResponse],
    ) -> image_pb2.ListImagesResponse:
        images = partial(self._read, current_tenant(), request.subject_id)
        page = await pages.read(request, images, image_to_wire, self._max_page_bytes)
        return image_pb2.ListImagesResponse(
            images=page.messages, next_page_token=page.next_page_token
        )

    async def _read(
        self, tenant_id: str, subject_id: str, page_size: int, page_token: str
    ) -> Page[Image]:
        return await self._images.list_page(tenant_id, subject_id, page_size, page_token)

    async def DeleteImage(
        self,
        request: image_pb2.DeleteImageRequest,
        context: Context[image_pb2.DeleteImageRequest, image_pb2.DeleteImageResponse],
    ) -> image_pb2.DeleteImageResponse:
        await self._images.delete(current_tenant(), image_id_of(request.image_id))
        return image_pb2.DeleteImageResponse()


def image_id_of(text: str) -> str:
    """Returns the id of an image that a request names.

    Raises:
        InvalidRequest: it is missing.
        ImageNotFound: no image has such an id.
    """
    wrong: list[tuple[str, str]] = []
    required("image_id", text, wrong)
    raise_if_any(wrong)
    if not IDENTIFIER.fullmatch(text):
        raise ImageNotFound("no such image")
    return text


def image_to_wire(value: Image) -> image_pb2.Image:
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
