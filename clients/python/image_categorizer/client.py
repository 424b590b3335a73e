"""The client for ordinary code."""

import os
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, Unpack

from image_categorizer import _calls
from image_categorizer._calls import Classification, Image, Options
from image_categorizer._streams import Lane, Ledger, Progress, Result, Source, image_files
from image_categorizer._sync_batches import BatchMethods
from image_categorizer._sync_stream import SyncStream
from image_categorizer._sync_webhooks import WebhookMethods
from image_categorizer.v1 import (
    admin_pb2_grpc,
    batch_pb2_grpc,
    classify_pb2_grpc,
    metadata_pb2,
    metadata_pb2_grpc,
)


class ImageCategorizationClient(BatchMethods, WebhookMethods):
    """Classifies images; may be used from several threads at once.

        with ImageCategorizationClient(api_key="ic_...", base_url="localhost:8080") as client:
            result = client.classify_image("cat.jpg")
            print(result.category, result.confidence)

    Calls that fail because the server is unavailable are tried again, within `timeout_s`; all
    others raise at once.  Every method raises the classes of `image_categorizer.errors`.
    """

    def __init__(
        self,
        api_key: str,
        base_url: str = "localhost:8080",
        *,
        timeout_s: float = _calls.DEFAULT_TIMEOUT_S,
    ) -> None:
        """Configures the client; connects on the first call.

        Args:
            api_key: `ic_...`.
            base_url: `host:port` or `http://host:port`; `https://host` for TLS.
            timeout_s: most seconds for one call, retries included.

        Raises:
            ValueError: `base_url` is not an address.
        """
        super().__init__(api_key, base_url, timeout_s)
        self._classify = classify_pb2_grpc.ClassifyServiceStub(self._channel)
        self._metadata = metadata_pb2_grpc.MetadataServiceStub(self._channel)
        self._batches = batch_pb2_grpc.BatchServiceStub(self._channel)
        self._admin = admin_pb2_grpc.AdminServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the client cannot be used afterwards."""
        self._channel.close()

    def classify_image(
        self, image: Image, *, webhook_url: str = "", **options: Unpack[Options]
    ) -> Classification:
        """Returns what an image shows.

        Args:
            image: a file's path, encoded bytes, or an open binary file.
            webhook_url: an https address that is told of the answer, too; see `verify_webhook`.
            options: how to classify it: `model="resnet50", top_k=3`; see `Options`.

        Raises:
            OSError: the file cannot be read.
            CategorizerError: as the module `errors` says.
        """
        filename, content = _calls.read(image)
        request = _calls.classify_request(content, options, webhook_url)
        return _calls.classification(filename, self._call(self._classify.Classify, request))

    def classify_stream(
        self,
        sources: Iterable[Source],
        *,
        lane: Lane = "BATCH",
        on_progress: Progress | None = None,
        **options: Unpack[Options],
    ) -> Iterator[Result]:
        """Yields what many images show, each as soon as it is known, on one call.

        Takes sources and reads files only as fast as the server answers and the results are taken;
        where the call breaks, calls again and sends again what is unanswered.

        Args:
            sources: files' paths, or (key, encoded bytes); may be endless.  Iterated in other
                threads, one at a time.
            lane: BATCH leaves others first; INTERACTIVE is for images that somebody waits for.
            on_progress: hears of each result, just before it is yielded.
            options: how to classify them; see `Options`.

        Raises:
            CategorizerError: while iterating; the call cannot be made, or broke ten times without
                an answer.  What is wrong with one image is its result's `error`.
            Exception: while iterating; what `sources` raised, after all results of those before.
        """
        stream = SyncStream(
            lambda requests: self._classify.ClassifyStream(requests, metadata=self._headers),
            lambda: self.get_server_info().limits.max_image_bytes,
            sources,
            Ledger(options, lane),
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
    ) -> Iterator[Result]:
        """Yields what the images of a folder show; see `classify_stream`.

        Args:
            path: the folder.
            pattern: which files, such as `*.jpg`; None: those whose names end as images' do.
            recursive: whether to look in folders below as well.
            lane: as for `classify_stream`.
            on_progress: as for `classify_stream`.
            options: as for `classify_stream`.

        Raises:
            NotADirectoryError: at once; `path` is no folder.
            CategorizerError: as `classify_stream`.
        """
        files = image_files(path, pattern, recursive)
        return self.classify_stream(files, lane=lane, on_progress=on_progress, **options)

    def list_categories(self, model: str = "", version: str = "") -> list[metadata_pb2.Category]:
        """Returns a model's categories, in its own order; no name means the default model."""
        request = _calls.categories_request(model, version)
        pages = self._pages(self._metadata.ListCategories, request)
        return [category for page in pages for category in page.categories]

    def list_models(self) -> list[metadata_pb2.Model]:
        """Returns every version of every model."""
        pages = self._pages(self._metadata.ListModels, _calls.models_request())
        return [model for page in pages for model in page.models]

    def get_model(self, model: str, version: str = "") -> metadata_pb2.Model:
        """Returns one version: a number or an alias; none named means the one that answers.

        Raises:
            ModelNotFound: there is none.
        """
        request = metadata_pb2.GetModelRequest(model=model, version=version)
        return self._call(self._metadata.GetModel, request)

    def load_model(self, model: str, version: str = "") -> metadata_pb2.Model:
        """Loads one version, the newest where none is named; returns when it answers.

        A first load may outlast `timeout_s`; it goes on all the same.

        Raises:
            RoleInsufficient: the key is no admin's.
            ModelNotFound: the repository does not hold it.
            ModelFailed: it cannot be loaded; the message says why.
        """
        request = metadata_pb2.LoadModelRequest(model=model, version=version)
        return self._call(self._metadata.LoadModel, request)

    def unload_model(self, model: str, version: str) -> metadata_pb2.Model:
        """Lets go of one version; returns when its requests are answered and its memory is free.

        Raises:
            RoleInsufficient: the key is no admin's.
            ModelNotFound: there is none.
            ModelInUse: an alias points to it, or it is all that the default model has.
        """
        request = metadata_pb2.UnloadModelRequest(model=model, version=version)
        return self._call(self._metadata.UnloadModel, request)

    def set_model_alias(
        self, model: str, alias: str, version: str, *, canary_percent: float = 0.0
    ) -> metadata_pb2.Model:
        """Points an alias such as `stable` to a version; an empty version takes the alias away.

        Args:
            model: the model's name.
            alias: `stable`, `canary`, or any other name.
            version: the version's number.
            canary_percent: for `canary`: percent of the requests without a version it answers.

        Raises:
            RoleInsufficient: the key is no admin's.
            ModelNotFound: there is no such version.
            ModelFailed: the version does not answer.
        """
        request = metadata_pb2.SetModelAliasRequest(
            model=model, alias=alias, version=version, canary_percent=canary_percent
        )
        return self._call(self._metadata.SetModelAlias, request)

    def get_server_info(self) -> metadata_pb2.ServerInfo:
        """Returns the server's release, formats and limits."""
        return self._call(self._metadata.GetServerInfo, metadata_pb2.GetServerInfoRequest())
