"""MetadataService."""

import grpc
from image_categorizer.v1 import metadata_pb2, metadata_pb2_grpc

from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.validation import (
    alias_name,
    canary_percent,
    raise_if_any,
    required,
    version_number,
    version_or_alias,
)
from image_categorizer_server.services.model import Models

Context = grpc.aio.ServicerContext


class MetadataServicer(metadata_pb2_grpc.MetadataServiceServicer):
    """Hands questions and orders to `Models`."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def ListCategories(
        self,
        request: metadata_pb2.ListCategoriesRequest,
        context: Context[metadata_pb2.ListCategoriesRequest, metadata_pb2.ListCategoriesResponse],
    ) -> metadata_pb2.ListCategoriesResponse:
        """Serves `ListCategories` of metadata.proto."""
        version = _version(request.version)
        page = self._models.list_categories(
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
        page = self._models.list_models(request.page_size, request.page_token)
        return metadata_pb2.ListModelsResponse(
            models=map(convert.model, page.items), next_page_token=page.next_page_token
        )

    async def GetModel(
        self,
        request: metadata_pb2.GetModelRequest,
        context: Context[metadata_pb2.GetModelRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        """Serves `GetModel` of metadata.proto."""
        return convert.model(self._models.get_model(request.model, _version(request.version)))

    async def LoadModel(
        self,
        request: metadata_pb2.LoadModelRequest,
        context: Context[metadata_pb2.LoadModelRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        """Serves `LoadModel` of metadata.proto."""
        wrong: list[tuple[str, str]] = []
        required("model", request.model, wrong)
        version = version_number(request.version, wrong)
        raise_if_any(wrong)
        return convert.model(await self._models.load_model(request.model, version))

    async def UnloadModel(
        self,
        request: metadata_pb2.UnloadModelRequest,
        context: Context[metadata_pb2.UnloadModelRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        """Serves `UnloadModel` of metadata.proto."""
        wrong: list[tuple[str, str]] = []
        required("model", request.model, wrong)
        version = version_or_alias(request.version, wrong)
        if not request.version:
            wrong.append(("version", "is required"))
        raise_if_any(wrong)
        assert version is not None
        return convert.model(await self._models.unload_model(request.model, version))

    async def SetModelAlias(
        self,
        request: metadata_pb2.SetModelAliasRequest,
        context: Context[metadata_pb2.SetModelAliasRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        """Serves `SetModelAlias` of metadata.proto."""
        wrong: list[tuple[str, str]] = []
        required("model", request.model, wrong)
        alias = alias_name(request.alias, wrong)
        version = version_number(request.version, wrong)
        percent = canary_percent(alias, request.canary_percent, wrong)
        if percent and not request.version:
            wrong.append(("canary_percent", "must be 0 where the alias is taken away"))
        raise_if_any(wrong)
        status = await self._models.set_alias(request.model, alias, version, percent)
        return convert.model(status)

    async def GetServerInfo(
        self,
        request: metadata_pb2.GetServerInfoRequest,
        context: Context[metadata_pb2.GetServerInfoRequest, metadata_pb2.ServerInfo],
    ) -> metadata_pb2.ServerInfo:
        """Serves `GetServerInfo` of metadata.proto."""
        return convert.server_info(self._models.server_info())


def _version(text: str) -> int | str | None:
    wrong: list[tuple[str, str]] = []
    version = version_or_alias(text, wrong)
    raise_if_any(wrong)
    return version
