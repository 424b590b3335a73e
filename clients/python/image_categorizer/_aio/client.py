"""The client for asyncio."""

import os
from collections.abc import AsyncIterator
from datetime import date
from types import TracebackType
from typing import Self, Unpack

from image_categorizer import _access_wire, _embedding_wire, _inputs, _statistics_wire, _wire
from image_categorizer._access_values import AsyncTokenProvider, Caller, Tls, Usage, UsageGroup
from image_categorizer._aio.audit import AsyncAudit
from image_categorizer._aio.batches import AsyncBatches
from image_categorizer._aio.categories import AsyncCategories
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.feedback import AsyncFeedbackBook
from image_categorizer._aio.images import AsyncImages
from image_categorizer._aio.keys import AsyncKeys
from image_categorizer._aio.legal_holds import AsyncLegalHolds
from image_categorizer._aio.models import AsyncModels
from image_categorizer._aio.results import AsyncResults
from image_categorizer._aio.retention import AsyncRetention
from image_categorizer._aio.reviews import AsyncReviews
from image_categorizer._aio.runtime import in_thread
from image_categorizer._aio.stream import AsyncStream
from image_categorizer._aio.subjects import AsyncSubjects
from image_categorizer._aio.tenants import AsyncTenants
from image_categorizer._aio.uploads import AsyncUploads
from image_categorizer._aio.webhooks import AsyncWebhooks
from image_categorizer._embedding_values import Embedding
from image_categorizer._ledger import Ledger
from image_categorizer._statistics_values import ServerStatistics
from image_categorizer._values import (
    AsyncSources,
    AsyncStreamSources,
    BatchOptions,
    BatchProgress,
    BatchResult,
    Classification,
    Image,
    Lane,
    OnDisconnect,
    Options,
    Progress,
    Result,
    ServerInfo,
)
from image_categorizer.v1 import caller_pb2, metadata_pb2, statistics_pb2


class AsyncImageCategorizationClient:
    """Classifies images.

        async with AsyncImageCategorizationClient("ic_...", "localhost:8080") as client:
            result = await client.classify_image("cat.jpg")
            print(result.category, result.confidence)

    `audit`, `batches`, `categories`, `feedback`, `images`, `keys`, `legal_holds`, `models`,
    `results`, `retention`, `reviews`, `subjects`, `tenants` and `webhooks` hold the methods for
    these.

    A call that finds the server unavailable, or exceeds a rate limit, is made up to four times
    within `timeout_s`, as long as the client's budget lasts: ten retries, and one more for each ten
    calls that succeed. The waits grow from 0.2 s, differ at random, and are never shorter than the
    server asks for. A call that is cut off is made again once: it may be what crashes the server.
    Other errors are raised at
    once. Every method may raise the errors of `image_categorizer.errors`.

    Any number of tasks of one event loop may share a client; another loop may use it afterwards.
    """

    audit: AsyncAudit
    """Who did what."""
    batches: AsyncBatches
    """Many images in the background."""
    categories: AsyncCategories
    feedback: AsyncFeedbackBook
    """What people say about results."""
    images: AsyncImages
    """Stored images."""
    keys: AsyncKeys
    """API keys."""
    legal_holds: AsyncLegalHolds
    """What must not be removed."""
    models: AsyncModels
    """The models that the server offers."""
    results: AsyncResults
    """Receipts of results."""
    retention: AsyncRetention
    """How long data is kept."""
    reviews: AsyncReviews
    """What people should look at next."""
    subjects: AsyncSubjects
    """The people whose images are stored."""
    tenants: AsyncTenants
    """The owners of keys, batches and webhooks, for operators of the platform."""
    uploads: AsyncUploads
    """Uploads of one image in parts."""
    webhooks: AsyncWebhooks
    """Addresses that receive a message when a batch ends."""

    def __init__(
        self,
        api_key: str = "",
        base_url: str = "localhost:8080",
        *,
        timeout_s: float = 30.0,
        token_provider: AsyncTokenProvider | None = None,
        tls: Tls | None = None,
    ) -> None:
        """Configures the client; it connects on the first call.

        Args:
            api_key: `ic_...`, or an access token; blanks and line ends around it are ignored.
            base_url: `https://host`, or `host` alone, for TLS; `http://host:port` for a server
                without it. Without a scheme, servers on this machine (`localhost:8080`, loopback
                addresses, `unix:` sockets) are called without TLS.
            timeout_s: the maximum duration of one call in seconds, retries included. Uploads,
                exports, streams and `batches.watch` have no limit.
            token_provider: returns an access token, instead of `api_key`. It is called before every
                attempt, and should return the same token until shortly before it expires. What it
                raises, the call raises. A stream whose token expires goes on with the next one.
            tls: certificates, if the system's do not do; addresses without a scheme are then called
                with TLS.

        Raises:
            OSError: a file of `tls` cannot be read.
            ValueError: `base_url` is not an address, `api_key` is not one word, or both an
                `api_key` and a `token_provider` are given.
        """
        self._connection = AsyncConnection(api_key, base_url, timeout_s, token_provider, tls)
        self.audit = AsyncAudit(self._connection)
        self.batches = AsyncBatches(self._connection)
        self.categories = AsyncCategories(self._connection)
        self.feedback = AsyncFeedbackBook(self._connection)
        self.images = AsyncImages(self._connection)
        self.keys = AsyncKeys(self._connection)
        self.legal_holds = AsyncLegalHolds(self._connection)
        self.models = AsyncModels(self._connection)
        self.results = AsyncResults(self._connection)
        self.retention = AsyncRetention(self._connection)
        self.reviews = AsyncReviews(self._connection)
        self.subjects = AsyncSubjects(self._connection)
        self.tenants = AsyncTenants(self._connection)
        self.uploads = AsyncUploads(self._connection)
        self.webhooks = AsyncWebhooks(self._connection)

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
        """Closes the connection; later calls raise RuntimeError. Idempotent."""
        await self._connection.close()

    async def classify_image(
        self,
        image: "Image | None" = None,
        *,
        image_uri: str = "",
        image_id: str = "",
        filename: str = "",
        webhook_url: str = "",
        **options: Unpack[Options],
    ) -> Classification:
        """Returns the categories of one image.

            result = await client.classify_image("cat.jpg", model="resnet50", version=2, top_k=3)
            for prediction in result.predictions:
                print(prediction.category, prediction.confidence)

        Args:
            image: a path, encoded bytes (bytes, bytearray, memoryview), a file open in binary mode,
                a Pillow image, or a NumPy array of uint8 RGB pixels with the shape
                (height, width, 3). Pillow images and arrays are sent as PNG. A file is read from
                its start.
            image_uri: where the server fetches the image, instead of `image`: `https://`, `s3://`,
                `gs://` or `az://`.
            image_id: a stored image, instead of `image`.
            filename: the name that `store` keeps. Default: the name of the file, without folders.
            webhook_url: an https address that receives the answer, too; see `verify_webhook`.
            options: how to classify; see `Options`.

        Raises:
            OSError: the file cannot be read.
            TypeError: `image` is none of these, a file is in text mode, an array is not uint8, an
                option is unknown, or not one of `image`, `image_uri` and `image_id` is given.
            ValueError: the array has another shape.
            UndecodableImage: the bytes are not an image, or a damaged one.
            ImageTooLarge: the image has more bytes than `Limits.max_image_bytes`.
            ImageUnreachable: the image cannot be fetched from `image_uri`.
            CategorizerError: see `image_categorizer.errors`.
        """
        if [image is not None, bool(image_uri), bool(image_id)].count(True) != 1:
            raise TypeError("classify_image takes one of image, image_uri and image_id")
        shown: str = image_uri
        content = b""
        if image is not None:
            named = _inputs.in_memory(image)
            if named is None:
                named = await in_thread(_inputs.read, image)
            shown, content = named
        name = filename or (_inputs.file_name(shown) if image is not None else "")
        request = _wire.classify_request(content, options, webhook_url, name)
        if image_uri:
            request.image_uri = image_uri
        elif image_id:
            request.image_id = image_id
        response = await self._connection.call(self._connection.stubs.classify.Classify, request)
        return _wire.classification(shown, response)

    async def embed(
        self,
        image: "Image | None" = None,
        *,
        image_uri: str = "",
        model: str = "",
        version: int | str = "",
    ) -> Embedding:
        """Returns the embedding of one image: what a model knows before its last layer.

            one, other = [await client.embed(name) for name in ("cat.jpg", "lynx.jpg")]
            print(sum(a * b for a, b in zip(one.vector, other.vector)))

        Args:
            image: as for `classify_image`.
            image_uri: where the server fetches the image, instead of `image`.
            model: default: the server's.
            version: a number or an alias.

        Raises:
            OSError: the file cannot be read.
            TypeError: `image` is of no known kind, or not one of it and `image_uri` is given.
            InvalidRequest: the model makes no embeddings, as transformers and detectors.
            CategorizerError: see `image_categorizer.errors`.
        """
        if (image is None) == (not image_uri):
            raise TypeError("embed takes either an image or an image_uri")
        source: bytes | str = image_uri
        if image is not None:
            named = _inputs.in_memory(image)
            if named is None:
                named = await in_thread(_inputs.read, image)
            source = named[1]
        request = _embedding_wire.embed_request(source, model, version)
        response = await self._connection.call(self._connection.stubs.embeddings.Embed, request)
        return _embedding_wire.embedding(response)

    def classify_stream(
        self,
        sources: AsyncStreamSources,
        *,
        lane: Lane = "BATCH",
        on_progress: Progress | None = None,
        on_disconnect: OnDisconnect | None = None,
        tenant_id: str = "",
        key_id: str = "",
        **options: Unpack[Options],
    ) -> AsyncIterator[Result]:
        """Yields the outcome for each of many images as soon as it is known, over one call.

            async for result in client.classify_stream(["a.jpg", ("b", content)], top_k=1):
                print(result.key, result.category or result.error)

        Takes sources, and reads files, only as fast as the server answers and the results are
        taken. If the call breaks, calls again and sends what is unanswered again; every source has
        exactly one result.

        Args:
            sources: file paths, and (name, encoded bytes); may be endless.
            lane: BATCH takes the capacity that is left; INTERACTIVE is for images that somebody
                waits for.
            on_progress: called before each result with the number of results, and of sources if it
                is known.
            on_disconnect: called when a connection breaks that the server had accepted, with the
                keys of the images that it had not answered. They are sent again unless this raises.
            tenant_id: the tenant of the images, for keys of the role worker only.
            key_id: the API key that the usage is attributed to, for the role worker only.
            options: how to classify; see `Options`.

        Raises:
            TypeError: at once: `sources` is a single image, or an option is unknown. While
                iterating: a source is neither a path nor (name, bytes).
            CategorizerError: while iterating: the call cannot be made, or broke ten times in a row
                without an answer. The error of a single image is its result's `error`, also if it
                was sent on three calls that broke.
            Exception: while iterating: what `sources` raised, after the results of those before.
        """

        async def max_image_bytes() -> int:
            # Once: the stream itself asks again.
            info = await self._connection.call_once(
                self._connection.stubs.metadata.GetServerInfo,
                metadata_pb2.GetServerInfoRequest(),
            )
            return info.limits.max_image_bytes

        stream = AsyncStream(
            self._connection,
            max_image_bytes,
            _inputs.many(sources, "classify_stream"),
            Ledger(
                _wire.stream_config(options, lane, tenant_id, key_id),
                on_disconnect,
                renews_credentials=self._connection.token_provider is not None,
            ),
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
        """Yields the outcome for each image of a folder, over one call; see `classify_stream`.

            async for result in client.classify_dir("photos", "*.jpg"):
                print(result.filename, result.category)

        Args:
            path: the folder.
            pattern: which file names, such as `*.jpg`. Default: those with the suffix of an image
                format.
            recursive: whether to include subfolders.
            lane: as for `classify_stream`.
            on_progress: as for `classify_stream`.
            options: as for `classify_stream`.

        Raises:
            NotADirectoryError: at once: `path` is not a folder.
            CategorizerError: as for `classify_stream`.
        """
        files = _inputs.image_files(path, pattern, recursive)
        return self.classify_stream(files, lane=lane, on_progress=on_progress, **options)

    def classify_batch(
        self,
        sources: AsyncSources,
        *,
        on_progress: BatchProgress | None = None,
        **options: Unpack[BatchOptions],
    ) -> AsyncIterator[BatchResult]:
        """Yields the outcome for each of many images: submits a batch and waits until it has ended.

            async for result in client.classify_batch(["a.jpg", "b.jpg"]):
                print(result.filename, result.category or result.error)

        The batch continues on the server even if this process stops; `on_progress` receives its
        `batch_id`.

        Args:
            sources: a folder; or an iterable of file paths and of (name, encoded bytes). A zip file
                stands for the images in it.
            on_progress: called with the batch each time it changes.
            options: as for `batches.submit`.

        Raises:
            TypeError: at once: `sources` is a single image.
            OSError: while iterating: a file cannot be read; no batch was created.
            CategorizerError: while iterating: the batch was not accepted, or did not complete. The
                error of a single image is its result's `error`.
        """
        images = _inputs.of_batch(sources, "classify_batch")
        return self._batch_results(images, on_progress, options)

    async def _batch_results(
        self, sources: AsyncSources, on_progress: BatchProgress | None, options: BatchOptions
    ) -> AsyncIterator[BatchResult]:
        batch = await self.batches.submit(sources, **options)
        async for batch in self.batches.watch(batch.batch_id):  # noqa: B020 - the same, later
            if on_progress is not None:
                on_progress(batch)
        async for result in self.batches.results(batch.batch_id):
            yield result
        batch.raise_unless_completed()

    async def caller(self) -> Caller:
        """Returns who calls: tenant, role and scopes of the client's credentials.

            print((await client.caller()).role)

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        return _access_wire.caller(
            await self._connection.call(
                self._connection.stubs.admin.GetCaller, caller_pb2.GetCallerRequest()
            )
        )

    async def server_info(self) -> ServerInfo:
        """Returns the server's release, image formats and limits.

            limits = (await client.server_info()).limits

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = metadata_pb2.GetServerInfoRequest()
        return _wire.server_info(
            await self._connection.call(self._connection.stubs.metadata.GetServerInfo, request)
        )

    async def usage(
        self,
        *,
        start_date: date | None = None,
        end_date: date | None = None,
        group_by: UsageGroup = "day",
    ) -> Usage:
        """Returns what the tenant has used. Needs a key of the role operator.

            for row in (await client.usage(group_by="model")).rows:
                print(row.model, row.images, row.model_ms)

        Args:
            start_date: the first day, in UTC. Default: 30 days that end with the last one.
            end_date: the last day. Default: today.
            group_by: by what it is summed up.

        Raises:
            InvalidRequest: the last day is before the first.
            RoleInsufficient: the key does not have the role operator.
        """
        request = _access_wire.usage_request(start_date, end_date, group_by)
        return _access_wire.usage(
            await self._connection.call(self._connection.stubs.admin.GetUsage, request)
        )

    async def server_statistics(self) -> ServerStatistics:
        """Returns what the server process that answers counts. Needs a key of the role operator.

            for model in (await client.server_statistics()).models:
                print(model.model, model.queue_depth, model.queue_s.mean)

        Raises:
            RoleInsufficient: the key does not have the role operator.
        """
        request = statistics_pb2.GetServerStatisticsRequest()
        return _statistics_wire.statistics(
            await self._connection.call(self._connection.stubs.admin.GetServerStatistics, request)
        )
