# Generated from _aio/subjects.py by tools/sync_twin.py; do not edit.
"""The client's subjects."""

from collections.abc import Iterator

from image_categorizer import _subject_wire, _wire
from image_categorizer._subject_values import Erasure
from image_categorizer._sync.connection import Connection
from image_categorizer._sync.listing import listing
from image_categorizer.v1 import subject_pb2


class Subjects:
    """The people whose images are stored: `client.subjects`. Needs the role admin.

    A subject is what `subject_id` names when images are stored and batches are created.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def erase(self, subject_id: str) -> Erasure:
        """Begins to remove all that is stored about a subject; nothing of it is stored from now on.

            erasure = client.subjects.erase("customer-17")
            print((client.subjects.erasure(erasure.erasure_id)).state)

        Args:
            subject_id: the subject; or `key:` and its `subject_key`.

        Raises:
            FailedPrecondition: the server keeps nothing about subjects.
            RoleInsufficient: the key does not have the role admin.
        """
        request = subject_pb2.EraseSubjectRequest(subject_id=subject_id)
        method = self._connection.stubs.admin.EraseSubject
        return _subject_wire.erasure(self._connection.call(method, request))

    def allow(self, subject_id: str) -> Erasure:
        """Lets an erased subject be stored again.

        Args:
            subject_id: see `erase`.

        Raises:
            ErasureNotFound: the subject was not erased, or is allowed.
            ErasureRunning: the erasure is not done.
        """
        request = subject_pb2.AllowSubjectRequest(subject_id=subject_id)
        method = self._connection.stubs.admin.AllowSubject
        return _subject_wire.erasure(self._connection.call_once(method, request))

    def erasure(self, erasure_id: str) -> Erasure:
        """Returns one erasure, with its certificate once it is done.

        Raises:
            ErasureNotFound: there is no such erasure.
        """
        request = subject_pb2.GetErasureRequest(erasure_id=erasure_id)
        method = self._connection.stubs.admin.GetErasure
        return _subject_wire.erasure(self._connection.call(method, request))

    @listing
    def erasures(self) -> Iterator[Erasure]:
        """Yields the erasures, newest first.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = subject_pb2.ListErasuresRequest(page_size=_wire.PAGE_SIZE)
        method = self._connection.stubs.admin.ListErasures
        for page in self._connection.pages(method, request):
            for wire in page.erasures:
                yield _subject_wire.erasure(wire)

    def export(self, subject_id: str) -> Iterator[bytes]:
        """Yields all that is stored about a subject as pieces of a zip file.

            with open("subject.zip", "wb") as file:
                for piece in client.subjects.export("customer-17"):
                    file.write(piece)

        Args:
            subject_id: see `erase`.

        Raises:
            FailedPrecondition: the server keeps nothing about subjects.
            RoleInsufficient: the key does not have the role admin.
        """
        request = subject_pb2.ExportSubjectRequest(subject_id=subject_id)
        method = self._connection.stubs.admin.ExportSubject
        for body in self._connection.messages(method, request):
            yield body.data
