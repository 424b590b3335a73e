"""EmbeddingService."""

from contextlib import nullcontext

import grpc
from google.api.httpbody_pb2 import HttpBody
from image_categorizer.v1 import embedding_pb2, embedding_pb2_grpc

from image_categorizer_server.domain.classification import Caller, Lane
from image_categorizer_server.domain.embedding import Embedding, SimilarImages
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import current_call, current_tenant
from image_categorizer_server.rpc.classify import ClassifyLimits
from image_categorizer_server.rpc.embed_body import BASE64, JSON, json_of, read_body, response_of
from image_categorizer_server.rpc.image import image_to_wire
from image_categorizer_server.rpc.image_body import read_unpacked
from image_categorizer_server.rpc.json_body import image_of_text
from image_categorizer_server.rpc.validation import (
    IMAGE_SCHEMES,
    MAX_NAME_CHARACTERS,
    image_id_of,
    raise_if_any,
    version_or_alias,
)
from image_categorizer_server.services.embedding import DEFAULT_LIMIT, MAX_LIMIT, Embeddings

Context = grpc.aio.ServicerContext
Request = embedding_pb2.EmbedRequest
FORMATS = ("", "float", BASE64)
MAX_INPUTS = 16
URI_STARTS = tuple(f"{scheme}://" for scheme in (*IMAGE_SCHEMES, "http"))
Source = bytes | str
"""An encoded image, or its URI."""
Chosen = tuple[str, int | str | None]
"""A model, and its version."""


class EmbeddingServicer(embedding_pb2_grpc.EmbeddingServiceServicer):
    """Serves EmbeddingService."""

    def __init__(self, embeddings: Embeddings, limits: ClassifyLimits) -> None:
        self._embeddings = embeddings
        self._limits = limits

    async def Embed(
        self, request: Request, context: Context[Request, embedding_pb2.EmbedResponse]
    ) -> embedding_pb2.EmbedResponse:
        if request.encoding_format not in FORMATS[:2]:
            raise InvalidRequest.of([("encoding_format", "must be float: base64 is for REST")])
        return response_of(await self._embedded(request))

    async def EmbedUpload(
        self,
        request: embedding_pb2.EmbedUploadRequest,
        context: Context[embedding_pb2.EmbedUploadRequest, HttpBody],
    ) -> HttpBody:
        most = self._limits.max_body_bytes
        read = await read_unpacked(request, lambda: read_body(request), most)
        found = await self._embedded(read)
        return HttpBody(content_type=JSON, data=json_of(found, read.encoding_format))

    async def FindSimilarImages(
        self,
        request: embedding_pb2.FindSimilarImagesRequest,
        context: Context[embedding_pb2.FindSimilarImagesRequest, embedding_pb2.SimilarImages],
    ) -> embedding_pb2.SimilarImages:
        image_id, limit = image_id_of(request.image_id), _limit_of(request.limit)
        model, version = _chosen(request.model, request.version)
        return _similar_to_wire(
            await self._embeddings.similar_to_image(
                current_tenant(), image_id, model, version, limit
            )
        )

    async def FindImagesLike(
        self,
        request: embedding_pb2.FindImagesLikeRequest,
        context: Context[embedding_pb2.FindImagesLikeRequest, embedding_pb2.SimilarImages],
    ) -> embedding_pb2.SimilarImages:
        limit, chosen = _limit_of(request.limit), _chosen(request.model, request.version)
        source = self._source(request)
        embedding = await self._embed(source, chosen)
        return _similar_to_wire(
            await self._embeddings.similar_to(current_tenant(), embedding, limit)
        )

    async def _embedded(self, request: Request) -> list[Embedding]:
        """Returns the embeddings of the images of a request, of one model version."""
        chosen = _chosen(request.model, request.version)
        if request.encoding_format not in FORMATS:
            raise InvalidRequest.of([("encoding_format", "must be float or base64")])
        if request.dimensions < 0:
            raise InvalidRequest.of([("dimensions", "must be at least 0")])
        sources = self._inputs(request) if request.input else [self._source(request)]
        found: list[Embedding] = []
        for number, source in enumerate(sources):
            charged = current_call.get().charged_image
            assert charged is not None, "the call has charged for one"
            async with charged() if number else nullcontext():
                found.append(await self._embed(source, chosen))
            size = len(found[0].vector)
            if request.dimensions not in (0, size):
                text = f"must be {size}, the number of the model, or 0"
                raise InvalidRequest.of([("dimensions", text)])
            # The first decides: an alias may move, and a canary answers only some images.
            chosen = found[0].model.name, found[0].model.version
        return found

    def _inputs(self, request: Request) -> list[Source]:
        if request.WhichOneof("source"):
            raise InvalidRequest.of([("input", "excludes image and image_uri")])
        if len(request.input) > MAX_INPUTS:
            text = f"must have at most {MAX_INPUTS} images, has {len(request.input)}"
            raise InvalidRequest.of([("input", text)])
        return [
            self._uri(text, "input")
            if text.lower().startswith(URI_STARTS)
            else image_of_text(text, "input")
            for text in request.input
        ]

    def _source(self, request: Request | embedding_pb2.FindImagesLikeRequest) -> Source:
        source = request.WhichOneof("source")
        if source is None:
            raise InvalidRequest.of([("image", "is required, or image_uri")])
        return request.image if source == "image" else self._uri(request.image_uri, "image_uri")

    def _uri(self, uri: str, field: str) -> str:
        if text := self._limits.wrong_uri(uri):
            raise InvalidRequest.of([(field, text)])
        return uri

    async def _embed(self, source: Source, chosen: Chosen) -> Embedding:
        content = await self._embeddings.fetch(source) if isinstance(source, str) else source
        call = current_call.get()
        caller = Caller(
            call.tenant_id, Lane.INTERACTIVE, call.deadline_s, call.is_repeated, call.key_id
        )
        return await self._embeddings.embed(content, *chosen, caller)


def _chosen(model: str, version: str) -> Chosen:
    wrong: list[tuple[str, str]] = []
    if len(model) > MAX_NAME_CHARACTERS:
        wrong.append(("model", f"must have at most {MAX_NAME_CHARACTERS} characters"))
    number = version_or_alias(version, wrong)
    raise_if_any(wrong)
    return model, number


def _limit_of(limit: int) -> int:
    if limit < 0:
        raise InvalidRequest.of([("limit", "must be at least 0")])
    return min(limit or DEFAULT_LIMIT, MAX_LIMIT)


def _similar_to_wire(found: SimilarImages) -> embedding_pb2.SimilarImages:
    return embedding_pb2.SimilarImages(
        images=[
            embedding_pb2.SimilarImage(image=image_to_wire(one.image), similarity=one.similarity)
            for one in found.images
        ],
        model=convert.model_ref(found.model),
    )
