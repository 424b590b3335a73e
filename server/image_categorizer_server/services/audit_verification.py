"""Verifies the chains of the audit: against themselves, and against what was stated of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from image_categorizer_server.access.signing import PublicKey
from image_categorizer_server.db import audit as rows
from image_categorizer_server.domain.audit import (
    FIRST_PREV_HASH,
    AuditEvent,
    Head,
    Statement,
    sha256_of,
    utc_text,
)
from image_categorizer_server.services.audit_statement import PREFIX, read_all
from image_categorizer_server.stores.object_store import Storage

# An event has the time at which its transaction began, so times may go back: by as long as a
# transaction may take, and as far as the clocks of the servers differ.
MAX_BACKWARD_S = 600.0
MAX_FINDINGS = 1000
PROGRESS_EVERY = 500
Progress = Callable[[str, int, int], None]
"""Takes a name, the amount done and the total."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written."""

    tenant_id: str
    seq: int
    """The first event that is concerned; 0 if it is not about one."""
    text: str

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.text}."


@dataclass(slots=True)
class Report:
    """What was verified, and what was found."""

    chains: int = 0
    events: int = 0
    statements: int = 0
    unsigned_statements: int = 0
    """Statements without a signature, or whose signature was not checked: no key was given."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, tenant_id: str, seq: int, text: str) -> None:
        """Adds a finding."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(tenant_id, seq, text))


async def verify_audit(
    storage: Storage,
    key: PublicKey | None,
    tenant_id: str = "",
    first_seq: int = 1,
    progress: Progress = lambda *_: None,
) -> Report:
    """Verifies one chain, or all.

    Args:
        storage: has the statements.
        key: verifies their signatures; None to accept statements without.
        tenant_id: the tenant, or `PLATFORM_CHAIN`; empty for all.
        first_seq: the event to begin with.
        progress: is called now and then.

    Raises:
        DependencyDown: the database or the store does not answer.
    """
    report = Report()
    for name in [tenant_id] if tenant_id else await _all_chains(storage):
        report.chains += 1
        await _Chain(name, report, key, progress).verify(storage, first_seq)
    return report


async def _all_chains(storage: Storage) -> list[str]:
    """Returns the chains that the database has, or once had."""
    stated = {found.key.split("/")[1] async for found in storage.list(PREFIX)}
    return sorted(stated.union(await rows.chains()))


class _Chain:
    """The verification of one chain."""

    def __init__(
        self, tenant_id: str, report: Report, key: PublicKey | None, progress: Progress
    ) -> None:
        self._tenant_id = tenant_id
        self._report = report
        self._key = key
        self._progress = progress
        self._statements: list[Statement] = []
        self._last: AuditEvent | None = None

    async def verify(self, storage: Storage, first_seq: int) -> None:
        await self._read_statements(storage)
        known = await rows.find_head(self._tenant_id)
        stated: dict[int, list[Statement]] = {}
        for statement in self._statements:
            stated.setdefault(statement.seq, []).append(statement)
        differing: list[Statement] = []
        total = known.seq - first_seq + 1 if known else 0
        async for event in rows.chain(self._tenant_id, first_seq - 1):
            self._check_place(event, first_seq)
            self._check_content(event)
            found = stated.get(event.seq, [])
            differing += [statement for statement in found if statement.hash != event.hash]
            self._last = event
            self._report.events += 1
            if self._report.events % PROGRESS_EVERY == 0:
                self._progress(self._tenant_id, event.seq - first_seq + 1, total)
        self._check_end(known, await rows.find_head(self._tenant_id), first_seq)
        self._compare(differing, first_seq)

    # Events.

    def _check_place(self, event: AuditEvent, first_seq: int) -> None:
        """Checks that an event follows the one before it."""
        last = self._last
        if last is None:
            self._check_first(event, first_seq)
        elif event.seq != last.seq + 1:
            self._add(last.seq + 1, f"{_events(last.seq + 1, event.seq - 1)} missing")
        elif event.prev_hash != last.hash:
            self._add(
                event.seq,
                f"event {event.seq} does not follow event {last.seq}: one of them was changed, "
                "inserted or moved",
            )
        if last is not None and last.time - event.time > timedelta(seconds=MAX_BACKWARD_S):
            times = f"from {utc_text(last.time)} to {utc_text(event.time)}"
            self._add(event.seq, f"event {event.seq} goes back in time, {times}")

    def _check_first(self, event: AuditEvent, first_seq: int) -> None:
        newest = self._statements[-1] if self._statements else None
        removed_seq = newest.removed_seq if newest else 0
        begin = max(first_seq, removed_seq + 1)
        if event.seq > begin:
            self._add(begin, f"{_events(begin, event.seq - 1)} missing at the beginning")
        expected = {1: FIRST_PREV_HASH}
        expected |= {statement.seq + 1: statement.hash for statement in self._statements}
        if newest and removed_seq:
            expected[removed_seq + 1] = newest.removed_hash
        if event.seq in expected and event.prev_hash != expected[event.seq]:
            self._add(event.seq, f"event {event.seq} does not follow what was before it")

    def _check_content(self, event: AuditEvent) -> None:
        if event.computed_hash() != event.hash:
            self._add(event.seq, f"event {event.seq} was changed after it was written")

    def _check_end(self, before: Head | None, after: Head | None, first_seq: int) -> None:
        """Checks the last event against the heads, which were read before and after the events."""
        last_seq = self._last.seq if self._last else first_seq - 1
        if after is None:
            if self._last:
                self._add(last_seq, "the head of the chain is missing")
        elif self._last and after.seq < last_seq:
            self._add(after.seq + 1, f"{_events(after.seq + 1, last_seq)} beyond the head")
        elif self._last and after.seq == last_seq and after.hash != self._last.hash:
            self._add(last_seq, f"event {last_seq} is not the one that the head names")
        if before is not None and before.seq > last_seq and before.seq >= first_seq:
            self._add(last_seq + 1, f"{_events(last_seq + 1, before.seq)} missing at the end")

    # Statements.

    def _compare(self, differing: list[Statement], first_seq: int) -> None:
        last_seq = self._last.seq if self._last else first_seq - 1
        beyond = [s for s in self._statements if s.seq > last_seq and s.seq >= first_seq]
        if differing:
            first, more = differing[0], _more(len(differing) - 1)
            self._add(
                first.seq,
                f"event {first.seq} is not the one that the statement of {utc_text(first.time)} "
                f"names{more}: the chain was rewritten, or the database is a restored one",
            )
        if beyond:
            newest = max(beyond, key=lambda statement: statement.seq)
            self._add(
                last_seq + 1,
                f"{_events(last_seq + 1, newest.seq)} missing, of which the statement of "
                f"{utc_text(newest.time)} tells: the end was cut off, or the database is a "
                "restored one",
            )

    async def _read_statements(self, storage: Storage) -> None:
        previous: str | None = None
        async for key, content in read_all(storage, self._tenant_id):
            name = key.rpartition("/")[2]
            statement = self._read(name, content)
            self._report.statements += 1
            if statement is None:
                previous = None
                continue
            if previous is not None and statement.previous != previous:
                self._add(
                    statement.seq,
                    f"the statement {name} does not follow the one before it: one is missing, or "
                    "the database is a restored one",
                )
            previous = sha256_of(statement.text())
            self._statements.append(statement)

    def _read(self, name: str, content: str) -> Statement | None:
        """Returns a statement that is genuine, as far as that can be checked."""
        try:
            fields = json.loads(content)
            statement = Statement.from_fields(fields["statement"])
            signature = str(fields["signature"])
        except (ValueError, TypeError, KeyError, AttributeError):
            self._add(0, f"the statement {name} cannot be read")
            return None
        if statement.tenant_id != self._tenant_id:
            self._add(0, f"the statement {name} is about another chain")
            return None
        if self._key is None or not signature:
            self._report.unsigned_statements += 1
        if self._key is not None and not self._key.has_signed(statement.text(), signature):
            kind = "does not have the signature of the key" if signature else "is not signed"
            self._add(statement.seq, f"the statement {name} {kind}")
            return None
        return statement

    def _add(self, seq: int, text: str) -> None:
        self._report.add(self._tenant_id, seq, text)


def _events(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"


def _more(count: int) -> str:
    return f", nor are those of {count} later statements" if count else ""
