"""Legal holds: what must not be removed, by whom and by what ever."""

import secrets
from datetime import timedelta

from image_categorizer_server import clock
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.db import legal_hold as rows
from image_categorizer_server.domain.image import is_text
from image_categorizer_server.domain.legal_hold import HoldKind, HoldTarget, LegalHold
from image_categorizer_server.errors import InvalidRequest, LegalHoldNotFound
from image_categorizer_server.paging import (
    Page,
    limit_of,
    moment_and_text_of,
    page_from,
    token_of_moment,
)

ID_BYTES = 12
MAX_REFERENCE_CHARACTERS = 200


class LegalHolds:
    """Creates and ends legal holds."""

    def __init__(self, subjects: Subjects) -> None:
        """Configures the service.

        Args:
            subjects: makes keys of subjects.
        """
        self._subjects = subjects

    async def create(self, tenant_id: str, target: HoldTarget, reference: str) -> LegalHold:
        """Keeps a target from being removed.

        Args:
            tenant_id: the tenant.
            target: what is held; of a subject, its name or its key.
            reference: for the caller's own records.

        Raises:
            InvalidRequest: a field is not valid.
            ImageNotFound: the tenant has no such image.
            SubjectErased: the subject was erased, or is being.
            FailedPrecondition: the server keeps nothing about subjects.
            DependencyDown: the database does not answer.
        """
        if not is_text(reference, MAX_REFERENCE_CHARACTERS):
            text = f"must have at most {MAX_REFERENCE_CHARACTERS} characters, none of control"
            raise InvalidRequest.of([("reference", text)])
        if target.kind is HoldKind.SUBJECT:
            if not target.key:
                raise InvalidRequest.of([("subject_id", "is required")])
            key = self._subjects.key_of(tenant_id, target.key)
            target = HoldTarget(HoldKind.SUBJECT, key)
        hold = LegalHold(
            tenant_id=tenant_id,
            hold_id=f"h-{secrets.token_hex(ID_BYTES)}",
            target=target,
            reference=reference,
            create_time=clock.now(),
        )
        await rows.create(hold)
        return hold

    async def release(self, tenant_id: str, hold_id: str) -> LegalHold:
        """Ends a hold, and returns it; one that has ended stays as it is.

        Raises:
            LegalHoldNotFound: the tenant has no such hold.
            DependencyDown: the database does not answer.
        """
        hold = await rows.release(tenant_id, hold_id, clock.now())
        if hold is None:
            raise LegalHoldNotFound("no such legal hold")
        return hold

    async def list_page(
        self, tenant_id: str, page_size: int = 0, page_token: str = ""
    ) -> Page[LegalHold]:
        """Returns a page of the tenant's holds, newest first, also of those that have ended.

        Args:
            tenant_id: the tenant.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            InvalidRequest: `page_size` or `page_token` is not valid.
            DependencyDown: the database does not answer.
        """
        limit = limit_of(page_size)
        before = moment_and_text_of(page_token) or (clock.now() + timedelta(days=1), "")
        found = await rows.list_holds(tenant_id, before, limit + 1)
        return page_from(found, limit, lambda hold: token_of_moment(hold.create_time, hold.hold_id))
