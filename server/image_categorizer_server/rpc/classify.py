"""ClassifyService."""

import grpc
from image_categorizer.v1 import classify_pb2, classify_pb2_grpc

from image_categorizer_server.domain import ClassifyOptions
from image_categorizer_server.errors import InvalidRequest, UndecodableImage
from image_categorizer_server.inference.classifier import Classifier
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import current_call
from image_categorizer_server.rpc.multipart import is_form, read_form
from image_categorizer_server.rpc.validation import classify_options

Request = classify_pb2.ClassifyRequest
UploadRequest = classify_pb2.ClassifyUploadRequest
Response = classify_pb2.ClassifyResponse


class ClassifyServicer(classify_pb2_grpc.ClassifyServiceServicer):
    """Hands requests to the classifier."""

    def __init__(self, classifier: Classifier, max_filter_categories: int) -> None:
        self._classifier = classifier
        self._max_filter_categories = max_filter_categories

    async def Classify(
        self, request: Request, context: grpc.aio.ServicerContext[Request, Response]
    ) -> Response:
        """Serves `Classify` of classify.proto."""
        options = classify_options(request.options, self._max_filter_categories, "options.")
        if request.WhichOneof("source") is None:
            raise InvalidRequest.of([("image", "is required")])
        return await self._classify(request.image, options)

    async def ClassifyUpload(
        self, request: UploadRequest, context: grpc.aio.ServicerContext[UploadRequest, Response]
    ) -> Response:
        """Serves `ClassifyUpload` of classify.proto."""
        body = request.body
        content = (
            read_form(body.content_type, body.data, request)
            if is_form(body.content_type)
            else body.data
        )
        options = classify_options(request, self._max_filter_categories)
        try:
            return await self._classify(content, options)
        except UndecodableImage as error:
            if content.lstrip()[:1] == b"{":
                raise UndecodableImage(
                    f"{error.message}; to send JSON set content-type: application/json"
                ) from None
            raise

    async def _classify(self, content: bytes, options: ClassifyOptions) -> Response:
        classification = await self._classifier.classify(content, options)
        return convert.classify_response(classification, current_call.get())
