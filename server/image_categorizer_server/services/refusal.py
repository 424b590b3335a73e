"""Refused calls, for the audit: one by one while they are few, counted when they are many.

A call that is refused waits for nothing here.  A task writes what has gathered at intervals; a
process that is killed loses the last interval, and the count of the last minute.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from image_categorizer_server import clock
from image_categorizer_server.domain.access import Principal
from image_categorizer_server.domain.audit import (
    PLATFORM_CHAIN,
    SYSTEM,
    Actor,
    AuditAction,
    AuditOutcome,
    NewEvent,
)
from image_categorizer_server.errors import CategorizerError, DependencyDown
from image_categorizer_server.settings.audit import AuditSettings
from image_categorizer_server.tasks import uncancelled
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
WINDOW_S = 60.0
# How long a server that stops tries to write the rest.
LAST_WRITE_S = 2.0
# Beyond these, refusals are only counted, in the chain of the platform.
MAX_KINDS = 1000
MAX_WAITING = 10_000
WRITTEN_AT_ONCE = 500
# By the gRPC status of the error.
ACTIONS = {
    "UNAUTHENTICATED": AuditAction.ACCESS_UNAUTHENTICATED,
    "PERMISSION_DENIED": AuditAction.ACCESS_DENIED,
    "RESOURCE_EXHAUSTED": AuditAction.ACCESS_LIMITED,
}
Kind = tuple[str, AuditAction, str]
"""Tenant, action, reason of the error."""
Write = Callable[[Sequence[NewEvent]], Coroutine[None, None, None]]


@dataclass(slots=True)
class _Window:
    """The refusals of one kind within a minute."""

    end_s: float
    """On the clock of `time.monotonic`."""
    recorded: int = 0
    counted: int = 0
    actor: Actor = SYSTEM
    """What all counted calls have in common."""
    last_time: datetime | None = None

    def count(self, actor: Actor, now: datetime) -> None:
        common = self.actor if self.counted else actor
        self.actor = Actor(
            actor_id=actor.actor_id if actor.actor_id == common.actor_id else "",
            address=actor.address if actor.address == common.address else "",
        )
        self.counted += 1
        self.last_time = now


class Refusals:
    """Gathers refused calls, and writes them to the audit."""

    def __init__(self, write: Write, settings: AuditSettings) -> None:
        """Configures it.

        Args:
            write: writes events; see `db.audit.append`.
            settings: how many refusals are recorded one by one, and how often they are written.
        """
        self._write = write
        self._max_recorded = settings.max_refusals_per_minute
        self._interval_s = settings.refusal_interval_s
        self._windows: dict[Kind, _Window] = {}
        self._waiting: list[NewEvent] = []
        self._writing = asyncio.Lock()

    def add(
        self, error: CategorizerError, method: str, principal: Principal | None, actor: Actor
    ) -> None:
        """Adds a refused call; does nothing if the error is not a refusal.

        Args:
            error: why the call fails.
            method: the name of the RPC.
            principal: the caller; None if it is unknown.
            actor: has the request and the address; its id is that of `principal`.
        """
        action = ACTIONS.get(error.status)
        if action is None:
            return
        tenant_id = principal.tenant_id if principal else PLATFORM_CHAIN
        actor = replace(actor, actor_id=principal.actor_id if principal else "")
        now, window = clock.now(), self._window_of((tenant_id, action, error.reason))
        is_full = len(self._waiting) >= MAX_WAITING
        if window.recorded >= self._max_recorded or is_full:
            window.count(actor, now)
            return
        window.recorded += 1
        detail = {"method": method, "reason": error.reason, "count": 1}
        self._waiting.append(
            NewEvent(tenant_id, now, actor, action, outcome=AuditOutcome.DENIED, detail=detail)
        )

    def _window_of(self, kind: Kind) -> _Window:
        if kind not in self._windows and len(self._windows) >= MAX_KINDS:
            kind = (PLATFORM_CHAIN, *kind[1:])
        window = self._windows.get(kind)
        if window is None or window.end_s <= time.monotonic():
            if window is not None:
                self._close(kind, window)
            window = self._windows[kind] = _Window(time.monotonic() + WINDOW_S)
        return window

    def _close(self, kind: Kind, window: _Window) -> None:
        """Ends a window: what it has counted becomes one event."""
        del self._windows[kind]
        if window.last_time is None:
            return
        tenant_id, action, reason = kind
        detail = {"reason": reason, "count": window.counted}
        self._waiting.append(
            NewEvent(
                tenant_id,
                window.last_time,
                window.actor,
                action,
                outcome=AuditOutcome.DENIED,
                detail=detail,
            )
        )

    async def run(self) -> None:
        """Writes what has gathered, at intervals, until cancelled."""
        while True:
            await asyncio.sleep(self._interval_s)
            now_s = time.monotonic()
            for kind, window in list(self._windows.items()):
                if window.end_s <= now_s:
                    self._close(kind, window)
            await self._write_waiting()

    async def close(self) -> None:
        """Writes the rest, unless that takes longer than `LAST_WRITE_S`."""
        for kind, window in list(self._windows.items()):
            self._close(kind, window)
        try:
            async with asyncio.timeout(LAST_WRITE_S):
                await self._write_waiting()
        except TimeoutError:
            pass
        if self._waiting:
            log.warning("refused calls are missing in the audit", events=len(self._waiting))

    async def _write_waiting(self) -> None:
        async with self._writing:
            while self._waiting:
                some = self._waiting[:WRITTEN_AT_ONCE]
                del self._waiting[: len(some)]
                try:
                    # Cut off half way, it would be unknown whether they are written.
                    await uncancelled(self._write(some))
                except DependencyDown as error:
                    self._waiting[:0] = some
                    log.warning("refused calls cannot be written yet", reason=error.message)
                    return
                except Exception:
                    log.exception("refused calls are lost because of a bug", events=len(some))
