"""AdminService: subjects, and their erasures."""

from collections.abc import AsyncIterator

import grpc
from google.api import httpbody_pb2
from image_categorizer.v1 import subject_pb2

from image_categorizer_server.domain.erasure import Erasure
from image_categorizer_server.errors import ErasureNotFound
from image_categorizer_server.rpc import pages
from image_categorizer_server.rpc.call import current_tenant
from image_categorizer_server.rpc.convert import timestamp
from image_categorizer_server.rpc.validation import IDENTIFIER, raise_if_any, required
from image_categorizer_server.services.erasure import Erasures
from image_categorizer_server.services.subject_export import SubjectExports

Context = grpc.aio.ServicerContext
ZIP = "application/zip"


class SubjectServicer:
    """Serves the RPCs of AdminService about subjects."""

    def __init__(self, erasures: Erasures, exports: SubjectExports, max_page_bytes: int) -> None:
        self._erasures = erasures
        self._exports = exports
        self._max_page_bytes = max_page_bytes

    async def EraseSubject(
        self,
        request: subject_pb2.EraseSubjectRequest,
        context: Context[subject_pb2.EraseSubjectRequest, subject_pb2.Erasure],
    ) -> subject_pb2.Erasure:
        return _erasure(await self._erasures.erase(current_tenant(), request.subject_id))

    async def AllowSubject(
        self,
        request: subject_pb2.AllowSubjectRequest,
        context: Context[subject_pb2.AllowSubjectRequest, subject_pb2.Erasure],
    ) -> subject_pb2.Erasure:
        return _erasure(await self._erasures.allow(current_tenant(), request.subject_id))

    async def GetErasure(
        self,
        request: subject_pb2.GetErasureRequest,
        context: Context[subject_pb2.GetErasureRequest, subject_pb2.Erasure],
    ) -> subject_pb2.Erasure:
        wrong: list[tuple[str, str]] = []
        required("erasure_id", request.erasure_id, wrong)
        raise_if_any(wrong)
        if not IDENTIFIER.fullmatch(request.erasure_id):
            raise ErasureNotFound("no such erasure")
        return _erasure(await self._erasures.get(current_tenant(), request.erasure_id))

    async def ListErasures(
        self,
        request: subject_pb2.ListErasuresRequest,
        context: Context[subject_pb2.ListErasuresRequest, subject_pb2.ListErasuresResponse],
    ) -> subject_pb2.ListErasuresResponse:
        tenant_id = current_tenant()
        page = await pages.read(
            request,
            lambda size, token: self._erasures.list_page(tenant_id, size, token),
            _erasure,
            self._max_page_bytes,
        )
        return subject_pb2.ListErasuresResponse(
            erasures=page.messages, next_page_token=page.next_page_token
        )

    async def ExportSubject(
        self,
        request: subject_pb2.ExportSubjectRequest,
        context: Context[subject_pb2.ExportSubjectRequest, httpbody_pb2.HttpBody],
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        subject = await self._exports.begin(current_tenant(), request.subject_id)
        await context.send_initial_metadata(
            (("content-disposition", 'attachment; filename="subject.zip"'),)
        )
        async for piece in self._exports.pieces(subject):
            yield httpbody_pb2.HttpBody(content_type=ZIP, data=piece)


def _erasure(value: Erasure) -> subject_pb2.Erasure:
    return subject_pb2.Erasure(
        erasure_id=value.erasure_id,
        subject_key=value.subject_key,
        state=subject_pb2.Erasure.State.Value(value.state.value),
        removed=[
            subject_pb2.RemovedCount(place=place, count=count)
            for place, count in sorted(value.counts.items())
        ],
        certificate=value.certificate,
        create_time=timestamp(value.create_time),
        end_time=timestamp(value.end_time),
        allow_time=timestamp(value.allow_time),
    )
