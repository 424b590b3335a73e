"""The client for asyncio."""

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from types import TracebackType
from typing import Self, Unpack

from image_categorizer import _calls
from image_categorizer._aio_batches import AsyncBatchMethods
from image_categorizer._aio_stream import AsyncStream
from image_categorizer._aio_webhooks import AsyncWebhookMethods
from image_categorizer._calls import Classification, Image, Options
from image_categorizer._streams import Broken, Lane, Ledger, Progress, Result, Source, image_files
from image_categorizer.v1 import (
    admin_pb2_grpc,
    batch_pb2_grpc,
    classify_pb2_grpc,
    metadata_pb2,
    metadata_pb2_grpc,
)


class AsyncImageCategorizationClient(AsyncBatchMethods, AsyncWebhookMethods):
    """The twin of `ImageCategorizationClient`: the same methods, awaited.

        async with AsyncImageCategorizationClient(api_key="ic_...", base_url="localhost:8080") as
        client:
            result = await client.classify_image("cat.jpg")

    For one event loop, and any number of its tasks.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str = "localhost:8080",
        *,
        timeout_s: float = _calls.DEFAULT_TIMEOUT_S,
    ) -> None:
        """Configures the client; see `ImageCategorizationClient`."""
        super().__init__(api_key, base_url, timeout_s)
        self._classify = classify_pb2_grpc.ClassifyServiceStub(self._channel)
        self._metadata = metadata_pb2_grpc.MetadataServiceStub(self._channel)
        self._batches = batch_pb2_grpc.BatchServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; the client cannot be used afterwards."""
        await self._channel.close()

    async def classify_image(
        self, image: Image, *, webhook_url: str = "", **options: Unpack[Options]
    ) -> Classification:
        """Returns what an image shows; see `ImageCategorizationClient.classify_image`."""
        filename, content = (
            ("", image) if isinstance(image, bytes) else await asyncio.to_thread(_calls.read, image)
        )
        request = _calls.classify_request(content, options, webhook_url)
        return _calls.classification(filename, await self._call(self._classify.Classify, request))

    def classify_stream(
        self,
        sources: Iterable[Source] | AsyncIterable[Source],
        *,
        lane: Lane = "BATCH",
        on_progress: Progress | None = None,
        on_break: Broken | None = None,
        tenant_id: str = "",
        **options: Unpack[Options],
    ) -> AsyncIterator[Result]:
        """Yields what many images show; see `ImageCategorizationClient.classify_stream`.

        `on_break` hears of each call that the server took, and that ended without its word, which
        images it had: one of them may have killed it.  They are sent again, unless it raises.
        `tenant_id` says whose the images are; only keys of the role worker may.
        """

        async def max_image_bytes() -> int:
            return (await self.get_server_info()).limits.max_image_bytes

        stream = AsyncStream(
            lambda: self._classify.ClassifyStream(metadata=self._headers),
            max_image_bytes,
            sources,
            Ledger(options, lane, on_break, tenant_id),
            on_progress,
        )
        return stream.results()

    def classify_dir(
        self,
        path: str | os.PathLike[str],
        pattern: str | None = None,
        *,
        recursive: bool = True,
        lane: Lane = "BATCH",
        on_progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Result]:
        """Yields a folder's images; see `ImageCategorizationClient.classify_dir`."""
        files = image_files(path, pattern, recursive)
        return self.classify_stream(files, lane=lane, on_progress=on_progress, **options)

    async def list_categories(
        self, model: str = "", version: str = ""
    ) -> list[metadata_pb2.Category]:
        """Returns a model's categories, in its own order; no name means the default model."""
        request = _calls.categories_request(model, version)
        pages = self._pages(self._metadata.ListCategories, request)
        return [category async for page in pages for category in page.categories]

    async def list_models(self) -> list[metadata_pb2.Model]:
        """Returns every version of every model."""
        pages = self._pages(self._metadata.ListModels, _calls.models_request())
        return [model async for page in pages for model in page.models]

    async def get_model(self, model: str, version: str = "") -> metadata_pb2.Model:
        """Returns one version; see `ImageCategorizationClient.get_model`."""
        request = metadata_pb2.GetModelRequest(model=model, version=version)
        return await self._call(self._metadata.GetModel, request)

    async def load_model(self, model: str, version: str = "") -> metadata_pb2.Model:
        """Loads one version; see `ImageCategorizationClient.load_model`."""
        request = metadata_pb2.LoadModelRequest(model=model, version=version)
        return await self._call(self._metadata.LoadModel, request)

    async def unload_model(self, model: str, version: str) -> metadata_pb2.Model:
        """Lets go of one version; see `ImageCategorizationClient.unload_model`."""
        request = metadata_pb2.UnloadModelRequest(model=model, version=version)
        return await self._call(self._metadata.UnloadModel, request)

    async def set_model_alias(
        self, model: str, alias: str, version: str, *, canary_percent: float = 0.0
    ) -> metadata_pb2.Model:
        """Points an alias to a version; see `ImageCategorizationClient.set_model_alias`."""
        request = metadata_pb2.SetModelAliasRequest(
            model=model, alias=alias, version=version, canary_percent=canary_percent
        )
        return await self._call(self._metadata.SetModelAlias, request)

    async def get_server_info(self) -> metadata_pb2.ServerInfo:
        """Returns the server's release, formats and limits."""
        return await self._call(self._metadata.GetServerInfo, metadata_pb2.GetServerInfoRequest())
