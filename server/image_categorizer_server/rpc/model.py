"""MetadataService."""

import grpc
from image_categorizer.v1 import metadata_pb2, metadata_pb2_grpc

from image_categorizer_server.domain.classification import Category
from image_categorizer_server.domain.model import ModelStatus, ServerInfo
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.drift import DriftServicer
from image_categorizer_server.rpc.pages import cut
from image_categorizer_server.rpc.validation import (
    alias_name,
    canary_percent,
    raise_if_any,
    required,
    version_number,
    version_or_alias,
)
from image_categorizer_server.services.drift import Drifts
from image_categorizer_server.services.model import Models

Context = grpc.aio.ServicerContext
ACTIVATIONS: dict[str, metadata_pb2.Model.Activation.ValueType] = {
    "": metadata_pb2.Model.ACTIVATION_UNSPECIFIED,
    "softmax": metadata_pb2.Model.SOFTMAX,
    "sigmoid": metadata_pb2.Model.SIGMOID,
    "none": metadata_pb2.Model.SIGMOID,  # nothing makes the confidences sum to 1
}


class MetadataServicer(DriftServicer, metadata_pb2_grpc.MetadataServiceServicer):
    """Serves MetadataService."""

    def __init__(self, models: Models, max_page_bytes: int, drifts: Drifts) -> None:
        DriftServicer.__init__(self, drifts)
        self._models = models
        self._max_page_bytes = max_page_bytes

    async def ListCategories(
        self,
        request: metadata_pb2.ListCategoriesRequest,
        context: Context[metadata_pb2.ListCategoriesRequest, metadata_pb2.ListCategoriesResponse],
    ) -> metadata_pb2.ListCategoriesResponse:
        version = _version(request.version)
        found = self._models.list_categories(
            request.model, version, request.page_size, request.page_token
        )
        page = cut(found, _category, self._max_page_bytes)
        return metadata_pb2.ListCategoriesResponse(
            categories=page.messages, next_page_token=page.next_page_token
        )

    async def ListModels(
        self,
        request: metadata_pb2.ListModelsRequest,
        context: Context[metadata_pb2.ListModelsRequest, metadata_pb2.ListModelsResponse],
    ) -> metadata_pb2.ListModelsResponse:
        found = self._models.list_models(request.page_size, request.page_token)
        page = cut(found, _model, self._max_page_bytes)
        return metadata_pb2.ListModelsResponse(
            models=page.messages, next_page_token=page.next_page_token
        )

    async def GetModel(
        self,
        request: metadata_pb2.GetModelRequest,
        context: Context[metadata_pb2.GetModelRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        return _model(self._models.get_model(request.model, _version(request.version)))

    async def LoadModel(
        self,
        request: metadata_pb2.LoadModelRequest,
        context: Context[metadata_pb2.LoadModelRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        wrong: list[tuple[str, str]] = []
        required("model", request.model, wrong)
        version = version_number(request.version, wrong)
        raise_if_any(wrong)
        return _model(await self._models.load_model(current_tenant(), request.model, version))

    async def UnloadModel(
        self,
        request: metadata_pb2.UnloadModelRequest,
        context: Context[metadata_pb2.UnloadModelRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        wrong: list[tuple[str, str]] = []
        required("model", request.model, wrong)
        version = version_or_alias(request.version, wrong)
        if not request.version:
            wrong.append(("version", "is required"))
        raise_if_any(wrong)
        assert version is not None
        return _model(await self._models.unload_model(current_tenant(), request.model, version))

    async def SetModelAlias(
        self,
        request: metadata_pb2.SetModelAliasRequest,
        context: Context[metadata_pb2.SetModelAliasRequest, metadata_pb2.Model],
    ) -> metadata_pb2.Model:
        wrong: list[tuple[str, str]] = []
        required("model", request.model, wrong)
        alias = alias_name(request.alias, wrong)
        version = version_number(request.version, wrong)
        percent = canary_percent(alias, request.canary_percent, wrong)
        if percent and not request.version:
            wrong.append(("canary_percent", "must be 0 if the alias is removed"))
        raise_if_any(wrong)
        status = await self._models.set_alias(
            current_tenant(), request.model, alias, version, percent
        )
        return _model(status)

    async def GetServerInfo(
        self,
        request: metadata_pb2.GetServerInfoRequest,
        context: Context[metadata_pb2.GetServerInfoRequest, metadata_pb2.ServerInfo],
    ) -> metadata_pb2.ServerInfo:
        return _server_info(self._models.server_info())


def _version(text: str) -> int | str | None:
    wrong: list[tuple[str, str]] = []
    version = version_or_alias(text, wrong)
    raise_if_any(wrong)
    return version


def _category(value: Category) -> metadata_pb2.Category:
    return metadata_pb2.Category(
        category=value.name, category_id=value.category_id, ancestors=value.ancestors
    )


def _model(status: ModelStatus) -> metadata_pb2.Model:
    return metadata_pb2.Model(
        name=status.ref.name,
        version=str(status.ref.version),
        digest=status.ref.digest,
        state=metadata_pb2.Model.State.Value(status.state.value),
        state_message=status.state_message,
        default=status.is_default,
        category_count=len(status.categories),
        input_width_px=status.input_width_px,
        input_height_px=status.input_height_px,
        activation=ACTIVATIONS[status.activation],
        runtime=status.runtime,
        device=status.device,
        licence=status.licence,
        origin=status.origin,
        aliases=status.aliases,
        canary_percent=status.canary_percent,
        precision=status.precision,
        localization=metadata_pb2.Model.Localization.Value(status.localization.value),
        resident_bytes=status.resident_bytes,
    )


def _server_info(info: ServerInfo) -> metadata_pb2.ServerInfo:
    return metadata_pb2.ServerInfo(
        version=info.version,
        image_formats=info.image_formats,
        default_model=info.default_model,
        limits=metadata_pb2.Limits(
            max_image_bytes=info.max_image_bytes,
            max_image_pixels=info.max_image_pixels,
            max_side_px=info.max_side_px,
            max_aspect_ratio=info.max_aspect_ratio,
            max_filter_categories=info.max_filter_categories,
            default_deadline_s=info.default_deadline_s,
            max_deadline_s=info.max_deadline_s,
            max_stream_in_flight=info.max_stream_in_flight,
            max_batch_items=info.max_batch_items,
            max_batch_bytes=info.max_batch_bytes,
        ),
    )
