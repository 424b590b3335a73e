"""ImageService: images as a labelled set."""

from collections.abc import AsyncIterator

import grpc
from google.api import httpbody_pb2
from image_categorizer.v1 import dataset_pb2

from image_categorizer_server.domain.dataset import DatasetFilter, Split
from image_categorizer_server.rpc import convert
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.validation import raise_if_any
from image_categorizer_server.services.dataset_export import DatasetExports

Context = grpc.aio.ServicerContext
TAR = "application/x-tar"


class DatasetServicer:
    """Serves the RPC of ImageService about labelled sets."""

    def __init__(self, exports: DatasetExports) -> None:
        self._exports = exports

    async def ExportDataset(
        self,
        request: dataset_pb2.ExportDatasetRequest,
        context: Context[dataset_pb2.ExportDatasetRequest, httpbody_pb2.HttpBody],
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        tenant_id, wanted = current_tenant(), _wanted(request)
        split = Split(request.validation_percent, request.test_percent, request.seed)
        await self._exports.begin(tenant_id, wanted, split)
        await context.send_initial_metadata(
            (("content-disposition", 'attachment; filename="dataset.tar"'),)
        )
        async for piece in self._exports.pieces(tenant_id, wanted, split):
            yield httpbody_pb2.HttpBody(content_type=TAR, data=piece)


def _wanted(request: dataset_pb2.ExportDatasetRequest) -> DatasetFilter:
    wrong: list[tuple[str, str]] = []
    times = [convert.moment(request, field, wrong) for field in ("start_time", "end_time")]
    raise_if_any(wrong)
    tags = tuple(dict.fromkeys(request.tags))
    return DatasetFilter(request.include_unreviewed, request.model, tags, *times)
