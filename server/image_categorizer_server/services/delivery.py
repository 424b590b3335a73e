"""Sends webhooks: events of the outbox become deliveries, each attempted until it is accepted.

    outbox ─▶ fan out ─▶ deliveries ─▶ claim what is due ─▶ POST ─▶ record ─▶ DELIVERED, FAILED,
                                            ▲                        │        or due again later
                                            └────────────────────────┘

Delivery is at least once.  If a process dies between the POST and its record, the lease ends and
another process sends the message again, with the same `webhook-id`.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from image_categorizer_server import clock
from image_categorizer_server.access.signature import new_secret, signed_headers
from image_categorizer_server.db import delivery as rows
from image_categorizer_server.db import outbox
from image_categorizer_server.db import webhook as webhook_rows
from image_categorizer_server.domain.tenant import one_tenant
from image_categorizer_server.domain.webhook import DeliveryAttempt, DeliveryState, DueDelivery
from image_categorizer_server.egress.fetcher import Fetcher, HostBusy, Unreachable
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.failpoints import hit
from image_categorizer_server.settings.webhook import WebhookSettings
from image_categorizer_server.tasks import TaskOwner, run_until
from image_categorizer_server.telemetry import get_log
from image_categorizer_server.telemetry.metrics import WEBHOOK_ATTEMPTS, WEBHOOKS_GIVEN_UP
from image_categorizer_server.telemetry.tracing import traced

log = get_log(__name__)
# Standard Webhooks, "Delivery and retries": seconds from one attempt to the next.
PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
MAX_RETRY_AFTER_S = 86_400.0
MAX_RETRY_AFTER_LENGTH = 64
EVENTS_AT_ONCE = 500
ROWS_PER_STATEMENT = 1000
CLEANUP_INTERVAL_S = 60.0
# Statements of one cleanup and table: more rows than a tenant can make in the interval, and one
# second's work.
MAX_CLEANUP_STATEMENTS = 50
GONE = 410


class Deliveries:
    """Sends deliveries that are due; any number of processes may do so at once."""

    def __init__(
        self,
        settings: WebhookSettings,
        fetcher: Fetcher,
        rows_per_statement: int = ROWS_PER_STATEMENT,
    ) -> None:
        """Configures the sender.

        Args:
            settings: limits and pauses.
            fetcher: sends the messages.
            rows_per_statement: how many old rows one statement of a cleanup removes.
        """
        self._settings = settings
        self._fetcher = fetcher
        self._rows_per_statement = rows_per_statement
        self._tasks = TaskOwner()
        self._failing_count = 0
        """Attempts under way to targets that fail."""
        self._attempt_ended = asyncio.Event()
        self._clean_up_at_s = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set, then finishes the attempts under way.

        The database must be open.  Cancellation ends the attempts at once.
        """
        try:
            while not stop.is_set():
                self._attempt_ended.clear()
                await self._begin_or_log()
                await run_until(stop, self._pause())
            await self._tasks.wait()
        finally:
            await self._tasks.close()

    async def _pause(self) -> None:
        """Waits until an attempt ends, and for the poll interval at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll_interval_s):
                await self._attempt_ended.wait()

    async def _begin_or_log(self) -> None:
        try:
            await self._begin()
            if time.monotonic() >= self._clean_up_at_s:
                self._clean_up_at_s = time.monotonic() + CLEANUP_INTERVAL_S
                await self.clean_up()
        except DependencyDown as error:
            log.warning("webhooks wait", reason=error.message)
        except Exception:
            log.exception("webhooks wait because of a bug")

    async def send_due(self) -> int:
        """Sends all deliveries that are due now; returns the number of attempts.

        Raises:
            DependencyDown: the database does not answer.
        """
        sent = 0
        while begun := await self._begin():
            sent += begun
            await self._tasks.wait()
        return sent

    async def clean_up(self) -> None:
        """Removes events from the outbox whose deliveries were made long ago.

        Raises:
            DependencyDown: the database does not answer.
        """
        before = clock.now() - timedelta(seconds=self._settings.keep_events_s)
        for _ in range(MAX_CLEANUP_STATEMENTS):
            removed = await outbox.forget(before, self._rows_per_statement)
            if removed < self._rows_per_statement:
                break

    async def _begin(self) -> int:
        """Begins the attempts that are due, within the limits; returns how many."""
        await rows.fan_out(clock.now(), EVENTS_AT_ONCE)
        if not await rows.is_any_due(clock.now()):
            return 0
        limit = self._settings.max_in_flight
        begun = await self._claim(is_failing=False, limit=limit - len(self._tasks))
        # Attempts to failing targets may take all of their time, so they get half of the capacity.
        free = min(limit - len(self._tasks), limit // 2 - self._failing_count)
        return begun + await self._claim(is_failing=True, limit=free)

    async def _claim(self, *, is_failing: bool, limit: int) -> int:
        if limit <= 0:
            return 0
        now = clock.now()
        claimed = await rows.claim(
            now,
            now + timedelta(seconds=self._settings.lease_s),
            is_failing=is_failing,
            max_per_target=self._settings.max_in_flight_per_target,
            limit=limit,
        )
        for due in claimed:
            self._failing_count += is_failing
            self._tasks.start(self._deliver(due, is_failing), "delivery of a webhook")
        return len(claimed)

    async def _deliver(self, due: DueDelivery, is_failing: bool) -> None:
        try:
            with one_tenant(due.tenant_id):
                secrets = due.secrets or await self._default_secrets(due)
                await self._attempt(due, secrets)
        except DependencyDown as error:
            log.warning(
                "the outcome of a webhook is lost", delivery=due.delivery_id, reason=error.message
            )
        except HostBusy:  # nothing was sent: the delivery is due again when its lease ends
            log.warning("the host of a webhook is too busy", delivery=due.delivery_id)
        except Exception:
            log.exception("a webhook waits because of a bug", delivery=due.delivery_id)
        finally:
            self._failing_count -= is_failing
            self._attempt_ended.set()

    async def _default_secrets(self, due: DueDelivery) -> Sequence[str]:
        """Returns the secret for addresses of batches; creates it at its first use."""
        await webhook_rows.ensure_default(due.tenant_id, new_secret(), clock.now())
        return await webhook_rows.secrets_of(due.tenant_id, due.webhook_id)

    async def _attempt(self, due: DueDelivery, secrets: Sequence[str]) -> None:
        start, begin_s = clock.now(), time.perf_counter()
        body = due.body.encode()
        headers = signed_headers(secrets, due.delivery_id, int(start.timestamp()), body)
        hit("webhook.sending")
        status_code, retry_after = await self._post_traced(due, body, headers)
        hit("webhook.sent")
        attempt = DeliveryAttempt(start, 1000 * (time.perf_counter() - begin_s), status_code)
        state, next_attempt_time = self._outcome(due, status_code, retry_after)
        is_recorded = await rows.record(due, attempt, state, next_attempt_time)
        is_delivered = state is DeliveryState.DELIVERED
        WEBHOOK_ATTEMPTS.labels("DELIVERED" if is_delivered else "FAILED").inc()
        if is_recorded and state is DeliveryState.FAILED:
            WEBHOOKS_GIVEN_UP.inc()
        log.info(
            "webhook",
            delivery=due.delivery_id,
            attempt=due.attempt_count + 1,
            status=status_code,
            ms=round(attempt.duration_ms, 1),
            state=state.value if is_recorded else "lease lost",
        )
        if is_recorded and status_code == GONE:
            await webhook_rows.disable_gone(due.tenant_id, due.webhook_id, due.url, clock.now())

    def _outcome(
        self, due: DueDelivery, status_code: int, retry_after: str | None
    ) -> tuple[DeliveryState, datetime | None]:
        """Returns the state after an attempt, and when the next one is due."""
        if 200 <= status_code < 300:
            return DeliveryState.DELIVERED, None
        if status_code == GONE:
            return DeliveryState.FAILED, None
        now = clock.now()
        pause_s = pause_after(due.attempt_count, retry_after, now, self._settings.retry_factor)
        if pause_s is None:
            return DeliveryState.FAILED, None
        return DeliveryState.PENDING, now + timedelta(seconds=pause_s)

    async def _post_traced(
        self, due: DueDelivery, body: bytes, headers: dict[str, str]
    ) -> tuple[int, str | None]:
        """Does what `_post` does, in the trace that the message follows from."""
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "http.request.resend_count": due.attempt_count,
            "categorizer.delivery_id": due.delivery_id,
        }
        with traced("POST", "client", attributes, traceparent=due.traceparent) as span:
            if span is None:
                return await self._post(due.url, body, headers)
            traced_headers = {**headers, "traceparent": span.traceparent}
            status_code, retry_after = await self._post(due.url, body, traced_headers)
            if status_code:
                span.note({"http.response.status_code": status_code})
            if not 200 <= status_code < 300:
                span.fail(str(status_code or "unreachable"))
            return status_code, retry_after

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str | None]:
        """Returns the status, 0 if no answer came, and the header `Retry-After`.

        Raises:
            HostBusy: nothing was sent.
        """
        typed = {"content-type": "application/json", **headers}
        try:
            answer = await self._fetcher.post(url, typed, body, self._settings.timeout_s)
        except Unreachable:
            return 0, None
        except HostBusy:
            raise
        # An attempt that fails because of a bug counts too: without a record of it the message
        # would be sent again and again, after each end of the lease.
        except Exception:
            log.exception("a webhook failed because of a bug")
            return 0, None
        return answer.status, answer.headers.get("retry-after")


def pause_after(
    attempt_count: int, retry_after: str | None, now: datetime, factor: float
) -> float | None:
    """Returns the seconds until the next attempt; None if there is none.

    Args:
        attempt_count: the number of attempts before the one that failed.
        retry_after: the header of the answer: seconds, or a date.
        now: the current time.
        factor: multiplies the schedule.
    """
    if attempt_count >= len(PAUSES_S):
        return None
    # Jitter: receivers must not all be called at the same moment.
    delay_s = clock.jittered(PAUSES_S[attempt_count] * factor, JITTER)
    return max(delay_s, retry_after_s(retry_after, now))


def retry_after_s(header: str | None, now: datetime) -> float:
    """Returns the pause that a `Retry-After` asks for: a day at most, 0 if it is not valid."""
    text = (header or "").strip()[:MAX_RETRY_AFTER_LENGTH]
    if text.isascii() and text.isdecimal():
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        pause_s = (moment - now).total_seconds()
    # Text from outside: the library raises whatever its parts raise, such as OverflowError.
    except Exception:  # noqa: BLE001
        return 0.0
    return min(max(pause_s, 0.0), MAX_RETRY_AFTER_S)
