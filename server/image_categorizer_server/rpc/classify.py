"""ClassifyService."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc, types_pb2

from image_categorizer_server.access.roles import authorize_scope
from image_categorizer_server.domain.access import Role, Scope
from image_categorizer_server.domain.classification import (
    Caller,
    Classification,
    ClassifyOptions,
    Lane,
)
from image_categorizer_server.errors import InvalidRequest, UndecodableImage
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import Call, current_call
from image_categorizer_server.rpc.classify_stream import ItemStream
from image_categorizer_server.rpc.image_body import read_upload
from image_categorizer_server.rpc.json_body import is_json
from image_categorizer_server.rpc.options import authorize_store, options_from_wire, refuse_blur
from image_categorizer_server.rpc.validation import image_id_of, wrong_image_uri
from image_categorizer_server.services.classify import Classifications, Origin
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings.server import ServerSettings

Request = classify_pb2.ClassifyRequest
UploadRequest = classify_pb2.ClassifyUploadRequest
Response = classify_pb2.ClassifyResponse
StreamRequest = classify_pb2.ClassifyStreamRequest
StreamResponse = classify_pb2.ClassifyStreamResponse


@dataclass(frozen=True, slots=True)
class ClassifyLimits:
    """Limits of a request. All are inclusive."""

    max_body_bytes: int
    """Of an HTTP body after it is unpacked."""
    max_filter_categories: int
    max_url_characters: int
    allow_http: bool
    """Whether `image_uri` may be http."""

    def wrong_uri(self, uri: str) -> str:
        """Returns what is wrong with the URI of an image; empty if it is valid."""
        return wrong_image_uri(uri, self.max_url_characters, allow_http=self.allow_http)


class ClassifyServicer(classify_pb2_grpc.ClassifyServiceServicer):
    """Serves ClassifyService."""

    def __init__(
        self,
        classifications: Classifications,
        webhooks: Webhooks,
        server: ServerSettings,
        limits: ClassifyLimits,
        refusing: asyncio.Event,
    ) -> None:
        self._classifications = classifications
        self._webhooks = webhooks
        self._server = server
        self._limits = limits
        self._refusing = refusing

    async def Classify(
        self, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> Response:
        return await self._answer(request, "options.")

    async def ClassifyUpload(
        self, request: UploadRequest, context: grpc.aio.ServicerContext[UploadRequest, Response]
    ) -> Response:
        read = await read_upload(request, Request(), self._limits.max_body_bytes)
        prefix = "options." if is_json(request.body.content_type) else ""
        try:
            return await self._answer(read, prefix)
        except UndecodableImage as error:
            if read.image.lstrip()[:1] == b"{":
                raise UndecodableImage(
                    f"{error.message}; to send JSON set content-type: application/json"
                ) from None
            raise

    async def ClassifyStream(  # type: ignore[override]  # the form that reads and writes by context
        self,
        requests: AsyncIterator[StreamRequest],
        context: grpc.aio.ServicerContext[StreamRequest, StreamResponse],
    ) -> None:
        stream = ItemStream(
            context, self._classify, self._server, self._limits.max_filter_categories
        )
        await stream.serve(self._refusing)

    async def _answer(self, request: Request, prefix: str) -> Response:
        """Answers a request. `prefix` precedes the names of options in error messages."""
        options = options_from_wire(request.options, self._limits.max_filter_categories, prefix)
        source, uri, url = request.WhichOneof("source"), request.image_uri, request.webhook_url
        if source is None:
            raise InvalidRequest.of([("image", "is required, or image_uri or image_id")])
        if source == "image_uri" and (text := self._limits.wrong_uri(uri)):
            raise InvalidRequest.of([("image_uri", text)])
        if source == "image_id" and options.subject_id:
            text = "must be empty with image_id: the stored image has its subject"
            raise InvalidRequest.of([(f"{prefix}subject_id", text)])
        if source == "image_id":
            refuse_blur(options, prefix, "must be empty with image_id: the image is stored")
        authorize_store(options)
        if url:
            await self._webhooks.check_url(url, "webhook_url")
        origin = Origin(request.filename)
        if source == "image":
            content = request.image
        elif source == "image_uri":
            content = await self._classifications.fetch(uri)
        else:
            origin = Origin(image_id=image_id_of(request.image_id))
            content = await self._stored(origin.image_id)
        return await self._classify(content, options, Lane.INTERACTIVE, origin, url)

    async def _stored(self, image_id: str) -> bytes:
        """Returns what is stored of an image."""
        call = current_call.get()
        assert call.principal is not None
        authorize_scope(call.principal, Scope.IMAGES_READ, "to read stored images")
        return await self._classifications.stored(call.tenant_id, image_id)

    async def _classify(
        self,
        content: bytes,
        options: ClassifyOptions,
        lane: Lane,
        origin: Origin,
        webhook_url: str = "",
    ) -> Response:
        call = current_call.get()
        assert call.principal is not None
        caller = Caller(
            call.tenant_id,
            lane,
            call.deadline_s,
            call.is_repeated,
            call.key_id,
            is_batch_item=call.principal.role is Role.WORKER,
        )
        authorize_store(options)
        subject_key = ""
        if webhook_url:
            subject_key = self._classifications.subject_key_of(call.tenant_id, options.subject_id)
        classification = await self._classifications.classify(content, options, caller, origin)
        if webhook_url:
            await self._webhooks.notify_classified(
                call.tenant_id, webhook_url, call.request_id, classification, subject_key
            )
        return _response(classification, call)


def _response(classification: Classification, call: Call) -> Response:
    timing = classification.timing
    return Response(
        success=True,
        predictions=[convert.prediction(p) for p in classification.predictions],
        processing_time=call.elapsed_s,
        model=convert.model_ref(classification.model),
        timing=types_pb2.Timing(
            decode_ms=timing.decode_ms,
            queue_ms=timing.queue_ms,
            inference_ms=timing.inference_ms,
            batch_size=timing.batch_size,
            batch_close_reason=types_pb2.Timing.BatchCloseReason.Value(
                timing.batch_close_reason.value
            ),
        ),
        request_id=call.request_id,
        cache=Response.Cache.Value(classification.cache.value),
        heat_map=classification.heat_map,
        warnings=map(types_pb2.ImageWarning.Value, classification.warnings),
        image_id=classification.image_id,
        result_id=classification.result_id,
        neighbours=map(convert.neighbour, classification.neighbours),
    )
