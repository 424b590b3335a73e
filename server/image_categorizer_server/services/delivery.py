"""Sends webhooks: what the outbox holds becomes deliveries, each attempted until it is taken.

Delivered at least once: who dies between the POST and its record leaves the delivery to be sent
again, with the same `webhook-id`, when its lease ends.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from image_categorizer_server import clock
from image_categorizer_server.access.signature import new_secret, signed_headers
from image_categorizer_server.db import delivery as rows
from image_categorizer_server.db import outbox
from image_categorizer_server.db import webhook as webhook_rows
from image_categorizer_server.domain.webhook import DeliveryAttempt, DeliveryState, DueDelivery
from image_categorizer_server.egress.fetcher import Fetcher, NoTurn, Unreachable
from image_categorizer_server.errors import DependencyDown
from image_categorizer_server.failpoints import hit
from image_categorizer_server.settings.webhook import WebhookSettings
from image_categorizer_server.telemetry import get_log

log = get_log(__name__)
# Standard Webhooks, "Delivery and retries": seconds from one attempt to the next.
PAUSES_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
JITTER = 0.2
MOST_RETRY_AFTER_S = 86_400.0
EVENTS_AT_ONCE = 500
FORGOTTEN_AT_ONCE = 1000
FORGET_INTERVAL_S = 60.0
# In a minute, of each table: more than a tenant can make, and a second's work.
MOST_FORGOTTEN_PAGES = 50
GONE = 410


class Deliveries:
    """Sends what is due; any number of processes may do so beside one another."""

    def __init__(self, settings: WebhookSettings, fetcher: Fetcher) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._under_way: dict[asyncio.Task[None], bool] = {}
        """Whether each goes to a target that fails."""
        self._forget_at_s = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Sends until `stop` is set, then ends what is under way; needs an open database."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                await self._begin_or_log()
                await asyncio.wait(
                    {stopping, *self._under_way},
                    timeout=self._settings.poll_interval_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            await self._end_all()
        finally:
            rest = {stopping, *self._under_way}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

    async def send_due(self) -> int:
        """Sends all that is due now; returns how many attempts it made.

        Raises:
            DependencyDown: the database does not answer.
        """
        sent = 0
        while begun := await self._begin():
            sent += begun
            await self._end_all()
        return sent

    async def _begin_or_log(self) -> None:
        try:
            await self._begin()
            if time.monotonic() >= self._forget_at_s:
                self._forget_at_s = time.monotonic() + FORGET_INTERVAL_S
                await self.forget()
        except DependencyDown as error:
            log.warning("webhooks wait", reason=error.message)
        except Exception:
            log.exception("a bug; webhooks wait")

    async def forget(self) -> None:
        """Removes deliveries that ended long ago, and what the outbox remembers of their events.

        Raises:
            DependencyDown: the database does not answer.
        """
        for forget, kept_s in (
            (rows.forget, self._settings.keep_deliveries_s),
            (outbox.forget, self._settings.keep_events_s),
        ):
            before = clock.now() - timedelta(seconds=kept_s)
            for _ in range(MOST_FORGOTTEN_PAGES):
                if await forget(before, FORGOTTEN_AT_ONCE) < FORGOTTEN_AT_ONCE:
                    break

    async def _begin(self) -> int:
        """Begins as many attempts as are due and have room; returns how many."""
        await rows.fan_out(clock.now(), EVENTS_AT_ONCE)
        if not await rows.is_any_due(clock.now()):
            return 0
        begun = 0
        for is_failing in (False, True):
            if room := self._room(is_failing):
                begun += await self._claim(is_failing, room)
        return begun

    def _room(self, is_failing: bool) -> int:
        most = self._settings.max_in_flight
        room = most - len(self._under_way)
        # Failing targets take half of the room at most, for they may take all of their time.
        return min(room, most // 2 - sum(self._under_way.values())) if is_failing else room

    async def _claim(self, is_failing: bool, limit: int) -> int:
        moment = clock.now()
        claimed = await rows.claim(
            moment,
            moment + timedelta(seconds=self._settings.lease_s),
            is_failing=is_failing,
            max_per_target=self._settings.max_in_flight_per_target,
            limit=limit,
        )
        for due in claimed:
            task = asyncio.create_task(self._deliver(due))
            self._under_way[task] = is_failing
            task.add_done_callback(self._under_way.pop)
        return len(claimed)

    async def _end_all(self) -> None:
        while self._under_way:
            await asyncio.wait(set(self._under_way))

    async def _deliver(self, due: DueDelivery) -> None:
        try:
            secrets = due.secrets or await self._default_secret(due)
            await self._attempt(due, secrets)
        except DependencyDown as error:
            log.warning("outcome of a webhook lost", delivery=due.delivery_id, reason=error.message)
        except NoTurn:  # no attempt: it is due again when its lease ends
            log.warning("a webhook's host has too much to do", delivery=due.delivery_id)
        except Exception:
            log.exception("a bug", delivery=due.delivery_id)

    async def _default_secret(self, due: DueDelivery) -> Sequence[str]:
        """Returns the secret for batches' own addresses, made at its first use."""
        await webhook_rows.ensure_default(due.tenant_id, new_secret(), clock.now())
        return await webhook_rows.secrets_of(due.tenant_id, due.webhook_id)

    async def _attempt(self, due: DueDelivery, secrets: Sequence[str]) -> None:
        start, begin_s = clock.now(), time.perf_counter()
        body = due.body.encode()
        headers = signed_headers(secrets, due.delivery_id, int(start.timestamp()), body)
        hit("webhook.sending")
        status_code, retry_after = await self._post(due.url, body, headers)
        hit("webhook.sent")
        attempt = DeliveryAttempt(start, 1000 * (time.perf_counter() - begin_s), status_code)
        if 200 <= status_code < 300:
            state, next_attempt = DeliveryState.DELIVERED, None
        else:
            pause_s = None
            if status_code != GONE:
                pause_s = pause_after(
                    due.attempt_count, retry_after, clock.now(), self._settings.retry_factor
                )
            state = DeliveryState.FAILED if pause_s is None else DeliveryState.PENDING
            next_attempt = clock.now() + timedelta(seconds=pause_s) if pause_s is not None else None
        is_recorded = await rows.record(due, attempt, state, next_attempt)
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

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[int, str | None]:
        """Returns the status, 0 where no answer came, and the header `Retry-After`.

        Raises:
            NoTurn: nothing was sent.
        """
        typed = {"content-type": "application/json", **headers}
        try:
            answer = await self._fetcher.post(url, typed, body, self._settings.timeout_s)
        except Unreachable:
            return 0, None
        return answer.status, answer.headers.get("retry-after")


def pause_after(
    attempt_count: int, retry_after: str | None, moment: datetime, factor: float
) -> float | None:
    """Returns the seconds until the next attempt, None where there is none.

    Args:
        attempt_count: attempts before the one that failed.
        retry_after: the header that it was answered with: seconds, or a date.
        moment: now.
        factor: what the schedule is multiplied by.
    """
    if attempt_count >= len(PAUSES_S):
        return None
    delay_s = clock.jittered(PAUSES_S[attempt_count] * factor, JITTER)
    return max(delay_s, retry_after_s(retry_after, moment))


def retry_after_s(header: str | None, moment: datetime) -> float:
    """Returns what a `Retry-After` asks for, in seconds, at most a day; 0 where it is none."""
    text = (header or "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:9]), MOST_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return min(max((when - moment).total_seconds(), 0.0), MOST_RETRY_AFTER_S)
