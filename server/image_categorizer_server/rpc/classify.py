"""ClassifyService."""

import asyncio
from collections.abc import AsyncIterator

import grpc
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc, types_pb2

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
from image_categorizer_server.rpc.forms import is_form, read_image_form
from image_categorizer_server.rpc.options import options_from_wire, options_in
from image_categorizer_server.services.classify import Classifications
from image_categorizer_server.services.webhook import Webhooks
from image_categorizer_server.settings.server import ServerSettings

Request = classify_pb2.ClassifyRequest
UploadRequest = classify_pb2.ClassifyUploadRequest
Response = classify_pb2.ClassifyResponse
StreamRequest = classify_pb2.ClassifyStreamRequest
StreamResponse = classify_pb2.ClassifyStreamResponse


class ClassifyServicer(classify_pb2_grpc.ClassifyServiceServicer):
    """Serves ClassifyService."""

    def __init__(
        self,
        classifications: Classifications,
        webhooks: Webhooks,
        server: ServerSettings,
        max_filter_categories: int,
        refusing: asyncio.Event,
    ) -> None:
        self._classifications = classifications
        self._webhooks = webhooks
        self._server = server
        self._max_filter_categories = max_filter_categories
        self._refusing = refusing

    async def Classify(
        self, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> Response:
        options = options_from_wire(request.options, self._max_filter_categories, "options.")
        if request.WhichOneof("source") is None:
            raise InvalidRequest.of([("image", "is required")])
        return await self._classify_and_notify(request.image, options, request.webhook_url)

    async def ClassifyUpload(
        self, request: UploadRequest, context: grpc.aio.ServicerContext[UploadRequest, Response]
    ) -> Response:
        body = request.body
        content = (
            read_image_form(body.content_type, body.data, request)
            if is_form(body.content_type)
            else body.data
        )
        options = options_from_wire(options_in(request), self._max_filter_categories)
        try:
            return await self._classify_and_notify(content, options, request.webhook_url)
        except UndecodableImage as error:
            if content.lstrip()[:1] == b"{":
                raise UndecodableImage(
                    f"{error.message}; to send JSON set content-type: application/json"
                ) from None
            raise

    async def ClassifyStream(  # type: ignore[override]  # the form that reads and writes by context
        self,
        requests: AsyncIterator[StreamRequest],
        context: grpc.aio.ServicerContext[StreamRequest, StreamResponse],
    ) -> None:
        stream = ItemStream(context, self._classify, self._server, self._max_filter_categories)
        await stream.serve(self._refusing)

    async def _classify_and_notify(
        self, content: bytes, options: ClassifyOptions, webhook_url: str
    ) -> Response:
        if webhook_url:
            await self._webhooks.check_url(webhook_url, "webhook_url")
        return await self._classify(content, options, webhook_url=webhook_url)

    async def _classify(
        self,
        content: bytes,
        options: ClassifyOptions,
        lane: Lane = Lane.INTERACTIVE,
        webhook_url: str = "",
    ) -> Response:
        call = current_call.get()
        caller = Caller(call.tenant_id, lane, call.deadline_s)
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
    )
