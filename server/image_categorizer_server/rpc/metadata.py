"""MetadataService."""

import grpc
from image_categorizer.v1 import metadata_pb2, metadata_pb2_grpc

from image_categorizer_server.catalog import Catalog
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.validation import raise_if_any, version_number

Context = grpc.aio.ServicerContext


class MetadataServicer(metadata_pb2_grpc.MetadataServiceServicer):
    """Hands questions to the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def ListCategories(
        self,
        request: metadata_pb2.ListCategoriesRequest,
        context: Context[metadata_pb2.ListCategoriesRequest, metadata_pb2.ListCategoriesResponse],
    ) -> metadata_pb2.ListCategoriesResponse:
        """Serves `ListCategories` of metadata.proto."""
        version = _version(request.version)
        page = self._catalog.list_categories(
            request.model, version, request.page_size, request.page_token
        )
        return metadata_pb2.ListCategoriesResponse(
            categories=map(convert.category, page.items), next_page_token=page.next_page_token
        )

    async def ListModels(
        self,
        request: metadata_pb2.ListModelsRequest,
        context: Context[metadata_pb2.ListModelsRequest, metadata_pb2.ListModelsResponse],
    ) -> metadata_pb2.ListModelsResponse:
        """Serves `ListModels` of metadata.proto."""
        page = self._catalog.list_models(request.page_size, request.page_token)
        return metadata_pb2.ListModelsResponse(
            models=map(convert.model, page.items), next_page_token=page.next_page_token
        )

    async def GetModel(
        self,
        request: metadata_pb2.GetModelRequest,
        context: Context[metadata_pb2.GetModelRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        """Serves `GetModel` of metadata.proto."""
        return convert.model(self._catalog.get_model(request.model, _version(request.version)))

    async def GetServerInfo(
        self,
        request: metadata_pb2.GetServerInfoRequest,
        context: Context[metadata_pb2.GetServerInfoRequest, metadata_pb2.ServerInfo],
    ) -> metadata_pb2.ServerInfo:
        """Serves `GetServerInfo` of metadata.proto."""
        return convert.server_info(self._catalog.server_info())


def _version(text: str) -> int | None:
    wrong: list[tuple[str, str]] = []
    version = version_number(text, wrong)
    raise_if_any(wrong)
    return version
