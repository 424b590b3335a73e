"""Statements about the chains of the audit, signed and kept in the object store.

Whoever may write to the database can rewrite a whole chain, with right hashes, or cut off its end.
They cannot change what the server has stated elsewhere.  So each interval one process states the
head of every chain that has grown.  A statement is an object of its own, is never overwritten, and
names the hash of the one before it.

Retention removes the oldest events.  The statement that says so is stored before.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

from image_categorizer_server import clock
from image_categorizer_server.access.signing import SigningKey
from image_categorizer_server.db import audit
from image_categorizer_server.db import audit_statement as rows
from image_categorizer_server.db.audit_statement import StoredStatement
from image_categorizer_server.db.database import transaction
from image_categorizer_server.domain.audit import (
    AuditAction,
    Head,
    Statement,
    canonical,
    sha256_of,
    utc_text,
)
from image_categorizer_server.errors import DependencyDown, OperatorError
from image_categorizer_server.settings import Settings
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.stores.object_store import Storage
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
PREFIX = "_audit"
RETENTION_INTERVAL_S = 3600.0
# Events that one transaction removes.
REMOVED_AT_ONCE = 1000


def signing_key_of(settings: AuditSettings) -> SigningKey | None:
    """Returns the key that the settings name; None if they name none.

    Raises:
        OperatorError: the file cannot be read, or holds no such key.
    """
    text, source = settings.signing_key, "CATEGORIZER_AUDIT__SIGNING_KEY"
    if not text and settings.signing_key_file:
        source = "CATEGORIZER_AUDIT__SIGNING_KEY_FILE"
        try:
            text = Path(settings.signing_key_file).expanduser().read_text()
        except (OSError, UnicodeDecodeError):
            raise OperatorError(f"Cannot read the file that {source} names.") from None
    if not text:
        return None
    try:
        return SigningKey.from_pem(text)
    except ValueError:
        raise OperatorError(
            f"{source} holds no Ed25519 private key; `image-categorizer audit new-key` makes one."
        ) from None


def folder_of(tenant_id: str) -> str:
    """Returns the folder of the statements about a chain."""
    return f"{PREFIX}/{tenant_id}"


def encoded(statement: Statement, key: SigningKey | None) -> str:
    """Returns the content of a statement's object, canonical JSON."""
    text = statement.text()
    return canonical(
        {
            "statement": json.loads(text),
            "key_id": key.public_key.key_id if key else "",
            "signature": key.sign(text) if key else "",
        }
    )


class AuditStatements:
    """Makes statements, and removes events and statements that are old."""

    def __init__(self, storage: Storage, key: SigningKey | None, settings: AuditSettings) -> None:
        """Configures it.

        Args:
            storage: keeps the statements.
            key: signs them; without it they are not signed, and no event is removed.
            settings: intervals and retention.
        """
        self._storage = storage
        self._key = key
        self._settings = settings
        self._remove_at_s = 0.0

    @classmethod
    def of(cls, storage: Storage, settings: Settings) -> "AuditStatements":
        """Returns what the settings ask for, and warns in production if there is no key.

        Raises:
            OperatorError: the key cannot be read.
        """
        key = signing_key_of(settings.audit)
        if key is None and settings.environment == "production":
            log.warning(
                "statements about the audit are not signed, and old events are not removed",
                setting="CATEGORIZER_AUDIT__SIGNING_KEY_FILE",
            )
        return cls(storage, key, settings.audit)

    async def run(self) -> None:
        """Makes statements at intervals until cancelled.

        An interval that fails is logged; the next one makes up for it.
        """
        while True:
            await asyncio.sleep(clock.jittered(self._settings.sign_interval_s, 0.1))
            try:
                await self.make()
                if time.monotonic() >= self._remove_at_s:
                    self._remove_at_s = time.monotonic() + RETENTION_INTERVAL_S
                    await self.remove_old()
            except DependencyDown as error:
                log.warning("no statements about the audit were made", reason=error.message)
            except Exception:
                log.exception("no statements about the audit were made because of a bug")

    async def make(self) -> int:
        """States the head of every chain that has grown; returns how many.

        Returns 0 while another process does so.

        Raises:
            DependencyDown: the database or the store does not answer.
        """
        async with rows.sole_process() as is_sole:
            if not is_sole:
                return 0
            await self._store_rest()
            heads = await rows.grown()
            for head in heads:
                await self._state(head)
            if heads:
                await self._storage.flush()
        return len(heads)

    async def _state(self, head: Head) -> None:
        content = await rows.last_statement(head.tenant_id)
        previous = sha256_of(_statement_in(content).text()) if content else ""
        if not content:  # the first one, or the database has forgotten it
            async for _, stored in read_all(self._storage, head.tenant_id):
                previous = sha256_of(_statement_in(stored).text())
        now = clock.now()
        statement = Statement(
            tenant_id=head.tenant_id,
            seq=head.seq,
            hash=head.hash,
            time=now,
            previous=previous,
            removed_seq=head.removed_seq,
            removed_hash=head.removed_hash,
        )
        key = f"{folder_of(head.tenant_id)}/{utc_text(now).replace(':', '')}-{head.seq:019d}.json"
        new = StoredStatement(head.tenant_id, key, encoded(statement, self._key))
        await rows.write(new, head)
        await self._store(new)

    async def _store_rest(self) -> None:
        for statement in await rows.unstored():
            await self._store(statement)

    async def _store(self, statement: StoredStatement) -> None:
        content = statement.content.encode()
        if not await self._storage.create(statement.object_key, content):
            stored = await self._storage.get(statement.object_key)
            if stored != content:
                log.error("another statement about the audit is stored", key=statement.object_key)
        await rows.mark_stored(statement)

    async def remove_old(self) -> int:
        """Removes events and statements that retention does not keep; returns how many events.

        Raises:
            DependencyDown: the database or the store does not answer.
        """
        removed = 0
        async with rows.sole_process() as is_sole:
            if is_sole and self._key:
                old = await rows.find_old(clock.now(), self._settings.keep_days)
                for tenant_id, seq, event_hash in old:
                    removed += await self._remove_events(tenant_id, seq, event_hash)
            if is_sole and self._settings.keep_statements_days:
                await self._remove_statements()
        return removed

    async def _remove_events(self, tenant_id: str, seq: int, event_hash: str) -> int:
        head = await audit.find_head(tenant_id)
        assert head is not None
        # The statement comes first: a chain may begin earlier than it says, never later.
        await self._store_rest()
        await self._state(Head(tenant_id, head.seq, head.hash, seq, event_hash))
        await self._storage.flush()
        total = 0
        while True:
            async with transaction() as connection:
                count = await rows.remove_events(connection, tenant_id, seq, REMOVED_AT_ONCE)
                if not total:
                    action, now = AuditAction.AUDIT_REMOVED, clock.now()
                    await audit.record_event(connection, tenant_id, action, "", now, last_seq=seq)
            total += count
            if count < REMOVED_AT_ONCE:
                return total

    async def _remove_statements(self) -> None:
        before = clock.now() - timedelta(days=self._settings.keep_statements_days)
        for tenant_id in await audit.chains():
            keys = [key async for key in keys_of(self._storage, tenant_id)]
            old = [key for key in keys[:-1] if _time_in(key) < utc_text(before).replace(":", "")]
            await self._storage.delete(old)


def _time_in(key: str) -> str:
    return key.rpartition("/")[2].rpartition("-")[0]


def _statement_in(content: str) -> Statement:
    return Statement.from_fields(json.loads(content)["statement"])


async def keys_of(storage: Storage, tenant_id: str) -> AsyncIterator[str]:
    """Yields the keys of the statements about a chain, the oldest first.

    Raises:
        DependencyDown: the store does not answer.
    """
    for key in sorted([found.key async for found in storage.list(folder_of(tenant_id))]):
        yield key


async def read_all(storage: Storage, tenant_id: str) -> AsyncIterator[tuple[str, str]]:
    """Yields key and content of the statements about a chain, the oldest first.

    Raises:
        DependencyDown: the store does not answer.
    """
    async for key in keys_of(storage, tenant_id):
        yield key, (await storage.get(key)).decode()
