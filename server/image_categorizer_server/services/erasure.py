"""Erasure: all that is stored about a subject goes, whatever dies meanwhile.

    tombstone ─▶ object that says so ─▶ batches ─▶ messages ─▶ images ─▶ objects
        ─▶ cached answers ─▶ data keys ─▶ certificate

Any process does the next step of an erasure, and any number may do so at once: each step can be
repeated.  The tombstone stops late writers.  Its object lies outside the database: after a restore
from a backup, `replay` finds it there and removes the subject again before the server is ready.
"""

import asyncio
import json
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

from image_categorizer_server import clock, failpoints
from image_categorizer_server.access.signing import PublicKey, SigningKey
from image_categorizer_server.access.subject import Subjects
from image_categorizer_server.db import erasure as rows
from image_categorizer_server.db import image_upload, removal
from image_categorizer_server.domain.audit import canonical, time_of, utc_text
from image_categorizer_server.domain.erasure import Erasure, ErasureState
from image_categorizer_server.errors import (
    DependencyDown,
    ErasureNotFound,
    ErasureRunning,
    InvalidRequest,
    LegallyHeld,
)
from image_categorizer_server.paging import (
    Page,
    limit_of,
    moment_and_text_of,
    page_from,
    token_of_moment,
)
from image_categorizer_server.services.audit_statement import signing_key_of
from image_categorizer_server.services.data_key import CACHE_S
from image_categorizer_server.services.result_cache import entries_of
from image_categorizer_server.services.tenant_removal import Cache
from image_categorizer_server.settings import Settings
from image_categorizer_server.stores.image_key import subject_folder
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
FOLDER = "_erasures"
RECORD = ".json"
ALLOWED = ".allowed.json"
CERTIFICATE = ".certificate.json"
FIRST_STEP = "record"
ID_BYTES = 12
ERASURES_AT_ONCE = 20
KEYS_AT_ONCE = 1000
RECORDS_AT_ONCE = 1000
REPLAY_PAUSE_S = 1.0


class Forgettable(Protocol):
    """A set of texts.  Calls raise DependencyDown if it does not answer in time."""

    async def remove(self, members: Sequence[str]) -> int:
        """Removes texts; returns how many there were."""
        ...


class Erasures:
    """Removes subjects."""

    def __init__(
        self,
        storage: Storage,
        cache: Cache,
        crashing: Forgettable,
        key: SigningKey | None,
        subjects: Subjects,
    ) -> None:
        """Configures the erasures.

        Args:
            storage: holds the images, and what is known about erasures outside the database.
            cache: holds the cached answers.
            crashing: the digests of images that all processes refuse.
            key: signs certificates; without it they are not signed.
            subjects: makes keys of subjects.
        """
        self._storage = storage
        self._cache = cache
        self._crashing = crashing
        self._key = key
        self._subjects = subjects
        self._steps = {
            FIRST_STEP: self._record,
            "batches": self._remove_batches,
            "messages": self._remove_messages,
            "images": self._remove_images,
            "objects": self._remove_objects,
            "cache": self._remove_answers,
            "data_keys": self._remove_data_keys,
            "certificate": self._certify,
        }
        self._next = dict(zip(self._steps, [*list(self._steps)[1:], ""], strict=True))

    @classmethod
    def of(
        cls, storage: Storage, cache: Cache, crashing: Forgettable, settings: Settings
    ) -> "Erasures":
        """Returns what the settings ask for.

        Raises:
            OperatorError: the secret or the signing key cannot be read.
        """
        key = signing_key_of(settings.audit)
        return cls(storage, cache, crashing, key, subjects_of(settings))

    # What callers can do.

    async def erase(self, tenant_id: str, subject_id: str) -> Erasure:
        """Begins to remove a subject; returns the erasure that has begun before, if one has.

        From now on, nothing of the subject is stored.

        Raises:
            InvalidRequest: the subject is missing or malformed.
            LegallyHeld: something of the subject is held.
            FailedPrecondition: the server keeps nothing about subjects.
            DependencyDown: the database does not answer.
        """
        erasure = Erasure(
            tenant_id=tenant_id,
            erasure_id=f"e-{secrets.token_hex(ID_BYTES)}",
            subject_key=self._key_of(tenant_id, subject_id),
            state=ErasureState.RUNNING,
            step=FIRST_STEP,
            counts={},
            certificate="",
            create_time=clock.now(),
        )
        return await rows.begin(erasure)

    async def allow(self, tenant_id: str, subject_id: str) -> Erasure:
        """Lets an erased subject be stored again; returns its erasure.

        Raises:
            InvalidRequest: the subject is missing or malformed.
            ErasureNotFound: the subject was not erased, or is allowed.
            ErasureRunning: the erasure is not done, or processes may remember its data key.
            FailedPrecondition: the server keeps nothing about subjects.
            DependencyDown: the database or the storage does not answer.
        """
        erasure = await rows.find_tombstone(tenant_id, self._key_of(tenant_id, subject_id))
        if erasure is None:
            raise ErasureNotFound("the subject was not erased, or is allowed again")
        now = clock.now()
        # What is encrypted by a key that is erased, but remembered, would be lost.
        forgotten = (erasure.end_time or now) + timedelta(seconds=CACHE_S)
        if erasure.counts.get("data_keys") and now < forgotten:
            raise ErasureRunning(
                f"data keys are forgotten {CACHE_S:.0f} s after the erasure: try again later"
            )
        if erasure.state is ErasureState.DONE:
            # First: after a restore, the subject must not be refused for ever.
            text = canonical({"allow_time": utc_text(now)})
            await self._storage.put(_name_of(erasure) + ALLOWED, text.encode())
            await self._storage.flush()
        await rows.allow(erasure, now)
        return await self.get(tenant_id, erasure.erasure_id)

    async def get(self, tenant_id: str, erasure_id: str) -> Erasure:
        """Returns an erasure.

        Raises:
            ErasureNotFound: the tenant has no such erasure.
            DependencyDown: the database does not answer.
        """
        erasure = await rows.get(tenant_id, erasure_id)
        if erasure is None:
            raise ErasureNotFound("no such erasure")
        return erasure

    async def list_page(
        self, tenant_id: str, page_size: int = 0, page_token: str = ""
    ) -> Page[Erasure]:
        """Returns a page of the tenant's erasures, newest first.

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
        found = await rows.list_erasures(tenant_id, before, limit + 1)
        return page_from(
            found, limit, lambda erasure: token_of_moment(erasure.create_time, erasure.erasure_id)
        )

    def _key_of(self, tenant_id: str, subject_id: str) -> str:
        if not subject_id:
            raise InvalidRequest.of([("subject_id", "is required")])
        return self._subjects.key_of(tenant_id, subject_id)

    # The work.

    async def sweep(self, limit: int = ERASURES_AT_ONCE) -> int:
        """Works on erasures of all tenants; returns how many are done now.

        Raises:
            DependencyDown: the database, the storage or the cache does not answer.
        """
        done = 0
        for erasure in await rows.list_running(limit):
            done += await self._run(erasure)
        return done

    async def _run(self, erasure: Erasure) -> bool:
        """Does the steps that can be done now; returns whether the erasure is done."""
        while erasure.step:
            try:
                if not await self._steps[erasure.step](erasure):
                    return False
            except LegallyHeld:  # since it began: it goes on when the hold ends
                log.warning("an erasure waits for a legal hold", erasure_id=erasure.erasure_id)
                return False
            await rows.advance(erasure, self._next[erasure.step])
            found = await rows.get(erasure.tenant_id, erasure.erasure_id)
            if found is None:  # its tenant is removed
                return False
            erasure = found
        log.info("a subject is erased", erasure_id=erasure.erasure_id)
        return True

    async def _record(self, erasure: Erasure) -> bool:
        text = canonical(
            {
                "tenant_id": erasure.tenant_id,
                "erasure_id": erasure.erasure_id,
                "subject_key": erasure.subject_key,
                "create_time": utc_text(erasure.create_time),
            }
        )
        await self._storage.create(_name_of(erasure) + RECORD, text.encode())
        await self._storage.flush()
        failpoints.hit("erasure.recorded")
        return True

    async def _remove_batches(self, erasure: Erasure) -> bool:
        while await rows.remove_batches(erasure, clock.now()):
            failpoints.hit("erasure.batches")
        while await removal.remove_rows():
            pass
        return not await rows.is_under_way(erasure)

    async def _remove_messages(self, erasure: Erasure) -> bool:
        while await rows.remove_messages(erasure):
            failpoints.hit("erasure.messages")
        return True

    async def _remove_images(self, erasure: Erasure) -> bool:
        last = ""
        while digests := await rows.digests_after(erasure, last):
            await self._forget_crashes(erasure, digests)
            last = digests[-1]
        subject = erasure.tenant_id, erasure.subject_key
        removed, is_free = await image_upload.erase(*subject, clock.now())
        if removed:
            await rows.count(erasure, {"image_uploads": removed})
        while await rows.remove_images(erasure, clock.now()):
            failpoints.hit("erasure.images")
        return is_free and not await rows.has_images(erasure)

    async def _remove_objects(self, erasure: Erasure) -> bool:
        """Removes the folder of the subject, also what no row has ever named."""
        folder = subject_folder(erasure.tenant_id, erasure.subject_key)
        found = [listed async for listed in self._storage.list(folder)]
        for start in range(0, len(found), KEYS_AT_ONCE):
            page = found[start : start + KEYS_AT_ONCE]
            # Their names are the digests of what they hold, also of the images of batches.
            digests = [listed.key.rpartition("/")[2] for listed in page]
            await self._forget_crashes(erasure, digests)
            await self._storage.delete([listed.key for listed in page])
            size_bytes = sum(listed.size_bytes for listed in page)
            await rows.count(erasure, {"objects": len(page), "object_bytes": size_bytes})
            failpoints.hit("erasure.objects")
        await self._storage.remove_folder(folder)
        return True

    async def _forget_crashes(self, erasure: Erasure, digests: Sequence[str]) -> None:
        if count := await self._crashing.remove(digests):
            await rows.count(erasure, {"crashing_images": count})

    async def _remove_answers(self, erasure: Erasure) -> bool:
        """Removes all cached answers of the tenant: none says whose image it is about."""
        count = await self._cache.remove_all(entries_of(erasure.tenant_id))
        await rows.count(erasure, {"cached_answers": count})
        failpoints.hit("erasure.cache")
        return True

    async def _remove_data_keys(self, erasure: Erasure) -> bool:
        await rows.remove_data_keys(erasure)
        failpoints.hit("erasure.data_keys")
        return True

    async def _certify(self, erasure: Erasure) -> bool:
        now = clock.now()
        certificate = signed_certificate(erasure.statement(now), self._key)
        name = _name_of(erasure) + CERTIFICATE
        await self._storage.put(name, certificate.encode())
        await self._storage.flush()
        failpoints.hit("erasure.certificate")
        await rows.finish(erasure, certificate, now)
        return True

    # After a restore.

    async def replay(self) -> int:
        """Does all erasures again that the database has forgotten; returns how many.

        Returns once they are done.

        Raises:
            DependencyDown: the database, the storage or the cache does not answer.
        """
        waiting = [
            erasure
            for name, is_allowed in await self._forgotten()
            if await rows.restore(erasure := await self._read(name, is_allowed=is_allowed))
        ]
        count = len(waiting)
        if count:
            log.warning("the database is a restored one: erasures are done again", count=count)
        while waiting:
            left = []
            for erasure in waiting:
                found = await rows.get(erasure.tenant_id, erasure.erasure_id)
                if found and found.state is ErasureState.RUNNING and not await self._run(found):
                    left.append(erasure)
            waiting = left
            if waiting:
                await asyncio.sleep(REPLAY_PAUSE_S)
        return count

    async def _forgotten(self) -> list[tuple[str, bool]]:
        """Returns erasures that the storage knows and the database does not.

        For each: what the names of its objects begin with, and whether its subject is allowed.
        """
        names = {found.key async for found in self._storage.list(FOLDER)}
        stems = sorted(name.removesuffix(RECORD) for name in names if name.count(".") == 1)
        forgotten: list[str] = []
        for start in range(0, len(stems), RECORDS_AT_ONCE):
            some = stems[start : start + RECORDS_AT_ONCE]
            forgotten += await rows.find_unknown(FOLDER, some)
        return [(stem, stem + ALLOWED in names) for stem in forgotten]

    async def _read(self, name: str, *, is_allowed: bool) -> Erasure:
        fields = json.loads(await self._storage.get(name + RECORD))
        allow_time = None
        if is_allowed:
            allowed = json.loads(await self._storage.get(name + ALLOWED))
            allow_time = time_of(allowed["allow_time"])
        return Erasure(
            tenant_id=fields["tenant_id"],
            erasure_id=fields["erasure_id"],
            subject_key=fields["subject_key"],
            state=ErasureState.RUNNING,
            step=FIRST_STEP,
            counts={},
            certificate="",
            create_time=time_of(fields["create_time"]),
            allow_time=allow_time,
        )


def subjects_of(settings: Settings) -> Subjects:
    """Returns what makes keys of subjects.

    Raises:
        OperatorError: the secret cannot be read.
    """
    own = settings.privacy
    return Subjects(own.read_secret(), keeps_names=own.keep_subject_ids)


def signed_certificate(statement: str, key: SigningKey | None) -> str:
    """Returns a certificate, canonical JSON.

    Args:
        statement: what it states, canonical JSON.
        key: signs it; None to leave the signature empty.
    """
    return canonical(
        {
            "certificate": json.loads(statement),
            "key_id": key.public_key.key_id if key else "",
            "signature": key.sign(statement) if key else "",
        }
    )


def verify_certificate(text: str, key: PublicKey) -> dict[str, object]:
    """Returns what a certificate states, if the key has signed it.

    Raises:
        ValueError: it is no certificate, or the key has not signed it.
    """
    try:
        fields = json.loads(text)
        statement, signature = fields["certificate"], str(fields["signature"])
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError("it is no certificate of an erasure") from None
    if not isinstance(statement, dict):
        raise ValueError("it is no certificate of an erasure")  # noqa: TRY004 - the value's
    if not key.has_signed(canonical(statement), signature):
        raise ValueError(f"the key {key.key_id} has not signed it, or it was changed")
    return statement


async def replay_until_done(erasures: Erasures, done: asyncio.Event) -> None:
    """Replays erasures, however long the database or the storage is away, and sets the event."""
    while not done.is_set():
        try:
            await erasures.replay()
            done.set()
        except DependencyDown as error:
            log.warning("erasures cannot be compared with the storage yet", reason=error.message)
            await asyncio.sleep(clock.jittered(REPLAY_PAUSE_S, 0.2))


def _name_of(erasure: Erasure) -> str:
    return f"{FOLDER}/{erasure.tenant_id}/{erasure.erasure_id}"
