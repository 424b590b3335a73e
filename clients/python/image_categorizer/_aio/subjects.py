"""The asyncio client's subjects."""

from collections.abc import AsyncIterator

from image_categorizer import _subject_wire, _wire
from image_categorizer._aio.connection import AsyncConnection
from image_categorizer._aio.listing import listing
from image_categorizer._subject_values import Erasure
from image_categorizer.v1 import subject_pb2


class AsyncSubjects:
    """The people whose images are stored: `client.subjects`. Needs the role admin.

    A subject is what `subject_id` names when images are stored and batches are created.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def erase(self, subject_id: str) -> Erasure:
        """Begins to remove all that is stored about a subject; nothing of it is stored from now on.

            erasure = await client.subjects.erase("customer-17")
            print((await client.subjects.erasure(erasure.erasure_id)).state)

        Args:
            subject_id: the subject; or `key:` and its `subject_key`.

        Raises:
            FailedPrecondition: the server keeps nothing about subjects.
            RoleInsufficient: the key does not have the role admin.
        """
        request = subject_pb2.EraseSubjectRequest(subject_id=subject_id)
        method = self._connection.stubs.admin.EraseSubject
        return _subject_wire.erasure(await self._connection.call(method, request))

    async def allow(self, subject_id: str) -> Erasure:
        """Lets an erased subject be stored again.

        Args:
            subject_id: see `erase`.

        Raises:
            ErasureNotFound: the subject was not erased, or is allowed.
            ErasureRunning: the erasure is not done.
        """
        request = subject_pb2.AllowSubjectRequest(subject_id=subject_id)
        method = self._connection.stubs.admin.AllowSubject
        return _subject_wire.erasure(await self._connection.call_once(method, request))

    async def erasure(self, erasure_id: str) -> Erasure:
        """Returns one erasure, with its certificate once it is done.

        Raises:
            ErasureNotFound: there is no such erasure.
        """
        request = subject_pb2.GetErasureRequest(erasure_id=erasure_id)
        method = self._connection.stubs.admin.GetErasure
        return _subject_wire.erasure(await self._connection.call(method, request))

    @listing
    async def erasures(self) -> AsyncIterator[Erasure]:
        """Yields the erasures, newest first.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = subject_pb2.ListErasuresRequest(page_size=_wire.PAGE_SIZE)
        method = self._connection.stubs.admin.ListErasures
        async for page in self._connection.pages(method, request):
            for wire in page.erasures:
                yield _subject_wire.erasure(wire)

    async def export(self, subject_id: str) -> AsyncIterator[bytes]:
        """Yields all that is stored about a subject as pieces of a zip file.

            with open("subject.zip", "wb") as file:
                async for piece in client.subjects.export("customer-17"):
                    file.write(piece)

        Args:
            subject_id: see `erase`.

        Raises:
            FailedPrecondition: the server keeps nothing about subjects.
            RoleInsufficient: the key does not have the role admin.
        """
        request = subject_pb2.ExportSubjectRequest(subject_id=subject_id)
        method = self._connection.stubs.admin.ExportSubject
        async for body in self._connection.messages(method, request):
            yield body.data
