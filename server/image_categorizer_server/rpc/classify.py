"""ClassifyService."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc, types_pb2

from image_categorizer_server.domain.access import Role
from image_categorizer_server.domain.classification import (
    Caller,
    Classification,
    ClassifyOptions,
    Lane,
)
from image_categorizer_server.errors import InvalidRequest, UndecodableImage
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import Call, current_call
from image_categorizer_server.rpc.classify_body import read_body
from image_categorizer_server.rpc.classify_stream import ItemStream
from image_categorizer_server.rpc.encoding import GZIP, unpacked
from image_categorizer_server.rpc.json_body import is_json
from image_categorizer_server.rpc.options import authorize_store, options_from_wire
from image_categorizer_server.rpc.validation import wrong_image_uri
from image_categorizer_server.services.classify import Classifications
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings.server import ServerSettings

Request = classify_pb2.ClassifyRequest
UploadRequest = classify_pb2.ClassifyUploadRequest
Response = classify_pb2.ClassifyResponse
StreamRequest = classify_pb2.ClassifyStreamRequest
StreamResponse = classify_pb2.ClassifyStreamResponse
# Reading a larger body takes longer than the switch to a thread.
THREAD_FROM_BYTES = 2**20


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
        body = request.body
        if len(body.data) < THREAD_FROM_BYTES:
            read = self._read(request)
        else:
            read = await asyncio.to_thread(self._read, request)
        prefix = "options." if is_json(body.content_type) else ""
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

    def _read(self, request: UploadRequest) -> Request:
        if current_call.get().body_encoding == GZIP:
            request.body.data = unpacked(request.body.data, self._limits.max_body_bytes)
        return read_body(request)

    async def _answer(self, request: Request, prefix: str) -> Response:
        """Answers a request. `prefix` precedes the names of options in error messages."""
        options = options_from_wire(request.options, self._limits.max_filter_categories, prefix)
        source, uri, url = request.WhichOneof("source"), request.image_uri, request.webhook_url
        if source is None:
            raise InvalidRequest.of([("image", "is required, or image_uri")])
        if source == "image_uri" and (text := self._limits.wrong_uri(uri)):
            raise InvalidRequest.of([("image_uri", text)])
        if url:
            await self._webhooks.check_url(url, "webhook_url")
        content = request.image if source == "image" else await self._classifications.fetch(uri)
        return await self._classify(content, options, webhook_url=url)

    async def _classify(
        self,
        content: bytes,
        options: ClassifyOptions,
        lane: Lane = Lane.INTERACTIVE,
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
        classification = await self._classifications.classify(content, options, caller)
        if webhook_url:
            await self._webhooks.notify_classified(
                call.tenant_id, webhook_url, call.request_id, classification
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
