# Generated from _aio/legal_holds.py by tools/sync_twin.py; do not edit.
"""The client's legal holds."""

from collections.abc import Iterator

from image_categorizer import _legal_hold_wire, _wire
from image_categorizer._legal_hold_values import LegalHold
from image_categorizer._sync.connection import Connection
from image_categorizer._sync.listing import listing
from image_categorizer.v1 import legal_hold_pb2


class LegalHolds:
    """What must not be removed: `client.legal_holds`. Needs the role admin.

    What would remove it raises `LegallyHeld`, or passes it over.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create(
        self,
        *,
        image_id: str = "",
        subject_id: str = "",
        whole_tenant: bool = False,
        reference: str = "",
    ) -> LegalHold:
        """Keeps an image, a subject or the whole tenant from being removed.

        Args:
            image_id: a stored image.
            subject_id: a subject; or `key:` and its `subject_key`.
            whole_tenant: whether all of the tenant is held.
            reference: for your own records, such as the number of a case; no name of a person.

        Raises:
            TypeError: not exactly one of the first three is given.
            ImageNotFound: there is no such image.
            SubjectErased: the subject was erased, or is being.
            FailedPrecondition: the server keeps nothing about subjects.
        """
        if sum(map(bool, (image_id, subject_id, whole_tenant))) != 1:
            raise TypeError("give one of image_id, subject_id and whole_tenant")
        request = legal_hold_pb2.CreateLegalHoldRequest(reference=reference)
        if image_id:
            request.image_id = image_id
        elif subject_id:
            request.subject_id = subject_id
        else:
            request.whole_tenant = True
        method = self._connection.stubs.admin.CreateLegalHold
        return _legal_hold_wire.legal_hold(self._connection.call_once(method, request))

    def release(self, hold_id: str) -> LegalHold:
        """Ends a hold.

        Raises:
            LegalHoldNotFound: there is no such hold.
        """
        request = legal_hold_pb2.ReleaseLegalHoldRequest(hold_id=hold_id)
        method = self._connection.stubs.admin.ReleaseLegalHold
        return _legal_hold_wire.legal_hold(self._connection.call(method, request))

    @listing
    def list(self) -> Iterator[LegalHold]:
        """Yields the holds, newest first, also those that have ended.

        Raises:
            CategorizerError: see `image_categorizer.errors`.
        """
        request = legal_hold_pb2.ListLegalHoldsRequest(page_size=_wire.PAGE_SIZE)
        method = self._connection.stubs.admin.ListLegalHolds
        for page in self._connection.pages(method, request):
            for wire in page.holds:
                yield _legal_hold_wire.legal_hold(wire)
