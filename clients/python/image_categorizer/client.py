"""The client for ordinary code."""

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
from google.protobuf.message import Message

from image_categorizer import _calls
from image_categorizer._calls import Classification, Image, Options
from image_categorizer.errors import from_rpc_error
from image_categorizer.v1 import classify_pb2_grpc, metadata_pb2, metadata_pb2_grpc

Response = TypeVar("Response", bound=Message)


class ImageCategorizationClient:
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
        address, is_secure = _calls.target(base_url)
        options = _calls.channel_options()
        self._channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
            if is_secure
            else grpc.insecure_channel(address, options)
        )
        self._headers = _calls.headers(api_key)
        self._timeout_s = timeout_s
        self._classify = classify_pb2_grpc.ClassifyServiceStub(self._channel)
        self._metadata = metadata_pb2_grpc.MetadataServiceStub(self._channel)

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

    def classify_image(self, image: Image, **options: Unpack[Options]) -> Classification:
        """Returns what an image shows.

        Args:
            image: a file's path, encoded bytes, or an open binary file.
            options: how to classify it: `model="resnet50", top_k=3`; see `Options`.

        Raises:
            OSError: the file cannot be read.
            CategorizerError: as the module `errors` says.
        """
        filename, content = _calls.read(image)
        request = _calls.classify_request(content, options)
        return _calls.classification(filename, self._call(self._classify.Classify, request))

    def list_categories(self, model: str = "", version: str = "") -> list[metadata_pb2.Category]:
        """Returns a model's categories, in its own order; no name means the default model."""
        categories: list[metadata_pb2.Category] = []
        token = ""
        while True:
            page = self._call(
                self._metadata.ListCategories, _calls.categories_request(model, version, token)
            )
            categories.extend(page.categories)
            if not (token := page.next_page_token):
                return categories

    def list_models(self) -> list[metadata_pb2.Model]:
        """Returns every version of every model."""
        models: list[metadata_pb2.Model] = []
        token = ""
        while True:
            page = self._call(self._metadata.ListModels, _calls.models_request(token))
            models.extend(page.models)
            if not (token := page.next_page_token):
                return models

    def get_server_info(self) -> metadata_pb2.ServerInfo:
        """Returns the server's release, formats and limits."""
        return self._call(self._metadata.GetServerInfo, metadata_pb2.GetServerInfoRequest())

    def _call(self, method: Callable[..., Response], request: Message) -> Response:
        try:
            return method(request, timeout=self._timeout_s, metadata=self._headers)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
