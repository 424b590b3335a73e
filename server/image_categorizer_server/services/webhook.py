"""Use cases around webhooks: who is told when a batch ends, and what they were told."""

import base64
import binascii
import secrets
from datetime import timedelta

from image_categorizer_server import clock
from image_categorizer_server.access.signature import new_secret
from image_categorizer_server.db import delivery as delivery_rows
from image_categorizer_server.db import outbox
from image_categorizer_server.db import webhook as rows
from image_categorizer_server.domain.classification import Classification
from image_categorizer_server.domain.webhook import (
    DEFAULT_WEBHOOK,
    Delivery,
    DeliveryState,
    Webhook,
    WebhookState,
)
from image_categorizer_server.egress.fetcher import Fetcher, Unreachable
from image_categorizer_server.errors import (
    DeliveryNotFound,
    InvalidRequest,
    QuotaExceeded,
    WebhookDisabled,
    WebhookNotFound,
)
from image_categorizer_server.settings.webhook import WebhookSettings

ID_BYTES = 24
MOST_URL_CHARACTERS = 2048


class Webhooks:
    """Looks after the webhooks of all tenants."""

    def __init__(self, settings: WebhookSettings, fetcher: Fetcher) -> None:
        self._settings = settings
        self._fetcher = fetcher

    async def create(self, tenant_id: str, url: str) -> tuple[Webhook, str]:
        """Registers an address; returns the webhook and its secret. Not idempotent.

        Raises:
            InvalidRequest: the address may not be called.
            QuotaExceeded: the tenant has as many as it may.
            DependencyDown: the database does not answer.
        """
        await self.check_url(url)
        webhook = Webhook(
            webhook_id=f"w-{secrets.token_urlsafe(ID_BYTES)}",
            url=url,
            state=WebhookState.ENABLED,
            previous_secret_expire_time=None,
            create_time=clock.now(),
        )
        secret, most = new_secret(), self._settings.max_webhooks
        if not await rows.insert_webhook(tenant_id, webhook, secret, most):
            raise QuotaExceeded(f"there are {most} webhooks already; delete one first")
        return webhook, secret

    async def get(self, tenant_id: str, webhook_id: str) -> Webhook:
        """Returns one webhook; makes `default` where it was never asked for.

        Raises:
            WebhookNotFound: the tenant has none of that name.
            DependencyDown: the database does not answer.
        """
        if webhook_id == DEFAULT_WEBHOOK:
            await rows.ensure_default(tenant_id, new_secret(), clock.now())
        webhook = await rows.find_webhook(tenant_id, webhook_id)
        if webhook is None:
            raise WebhookNotFound(f"there is no webhook {webhook_id!r}")
        return webhook

    async def list_all(self, tenant_id: str) -> list[Webhook]:
        """Returns the tenant's webhooks, `default` first, then the oldest first.

        Raises:
            DependencyDown: the database does not answer.
        """
        await rows.ensure_default(tenant_id, new_secret(), clock.now())
        return await rows.list_webhooks(tenant_id)

    async def update(
        self, tenant_id: str, webhook_id: str, url: str | None, is_enabled: bool | None
    ) -> Webhook:
        """Changes what is not None, and returns the webhook.

        Raises:
            WebhookNotFound: the tenant has none of that name.
            InvalidRequest: the address may not be called, or `default` is to have one.
            DependencyDown: the database does not answer.
        """
        await self.get(tenant_id, webhook_id)
        if url is not None:
            if webhook_id == DEFAULT_WEBHOOK:
                raise InvalidRequest.of([("url", "the webhook 'default' has no address")])
            await self.check_url(url)
        state = None
        if is_enabled is not None:
            state = WebhookState.ENABLED if is_enabled else WebhookState.DISABLED
        await rows.update_webhook(tenant_id, webhook_id, clock.now(), url, state)
        return await self.get(tenant_id, webhook_id)

    async def delete(self, tenant_id: str, webhook_id: str) -> None:
        """Removes a webhook and the record of its deliveries.

        Raises:
            WebhookNotFound: the tenant has none of that name.
            InvalidRequest: it is `default`.
            DependencyDown: the database does not answer.
        """
        if webhook_id == DEFAULT_WEBHOOK:
            raise InvalidRequest.of([("webhook_id", "'default' can be disabled, not deleted")])
        if not await rows.delete_webhook(tenant_id, webhook_id, clock.now()):
            raise WebhookNotFound(f"there is no webhook {webhook_id!r}")

    async def rotate_secret(self, tenant_id: str, webhook_id: str) -> tuple[Webhook, str]:
        """Makes a new secret; returns the webhook and the secret. Not idempotent.

        Raises:
            WebhookNotFound: the tenant has none of that name.
            DependencyDown: the database does not answer.
        """
        await self.get(tenant_id, webhook_id)
        secret, now = new_secret(), clock.now()
        expire_time = now + timedelta(seconds=self._settings.rotation_s)
        await rows.rotate_secret(tenant_id, webhook_id, secret, now, expire_time)
        return await self.get(tenant_id, webhook_id), secret

    async def list_deliveries(
        self,
        tenant_id: str,
        webhook_id: str,
        *,
        batch_id: str,
        state: DeliveryState | None,
        page_size: int,
        page_token: str,
    ) -> tuple[list[Delivery], str]:
        """Returns one page of deliveries, the newest first, and the token of the next.

        Args:
            tenant_id: whose.
            webhook_id: the webhook.
            batch_id: only those about this batch; empty for all.
            state: only those in it; None for all.
            page_size: the most, at least 1.
            page_token: the token of the page before; empty for the first.

        Raises:
            WebhookNotFound: the tenant has none of that name.
            InvalidRequest: the token was not made here.
            DependencyDown: the database does not answer.
        """
        await self.get(tenant_id, webhook_id)
        found = await delivery_rows.list_deliveries(
            tenant_id,
            webhook_id,
            before=_number_of(page_token),
            batch_id=batch_id,
            state=state,
            limit=page_size + 1,
        )
        page = found[:page_size]
        return page, _token(page[-1].number) if len(found) > page_size else ""

    async def redeliver(self, tenant_id: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Makes a delivery due now, as if it had not been attempted; returns it.

        Raises:
            WebhookNotFound, DeliveryNotFound: there is none of that name.
            WebhookDisabled: the webhook is not told.
            DependencyDown: the database does not answer.
        """
        webhook = await self.get(tenant_id, webhook_id)
        await self._delivery(tenant_id, webhook_id, delivery_id)
        if webhook.state is not WebhookState.ENABLED:
            raise WebhookDisabled(f"the webhook {webhook_id!r} is disabled: enable it first")
        await delivery_rows.redeliver(tenant_id, webhook_id, delivery_id, clock.now())
        return await self._delivery(tenant_id, webhook_id, delivery_id)

    async def _delivery(self, tenant_id: str, webhook_id: str, delivery_id: str) -> Delivery:
        delivery = await delivery_rows.find_delivery(tenant_id, webhook_id, delivery_id)
        if delivery is None:
            raise DeliveryNotFound(f"the webhook has no delivery {delivery_id!r}")
        return delivery

    async def notify_classified(
        self, tenant_id: str, url: str, request_id: str, classification: Classification
    ) -> None:
        """Has an address told of one image's categories, whatever dies after this returns.

        Raises:
            DependencyDown: the database does not answer.
        """
        await outbox.add_classification(tenant_id, url, request_id, classification)

    async def check_url(self, url: str, field: str = "url") -> None:
        """Passes an address that may be called, as far as can be seen without calling it.

        Raises:
            InvalidRequest: it may not, and `field` is what is wrong.
        """
        if len(url) > MOST_URL_CHARACTERS:
            raise InvalidRequest.of([(field, f"has more than {MOST_URL_CHARACTERS} characters")])
        try:
            await self._fetcher.check(url)
        except Unreachable:
            # The same words for whatever is wrong: what we can reach is nobody's business.
            raise InvalidRequest.of(
                [(field, "must be an https address that is reachable from the public Internet")]
            ) from None


def _token(number: int) -> str:
    return base64.urlsafe_b64encode(f"d{number}".encode()).decode().rstrip("=")


def _number_of(token: str) -> int | None:
    if not token:
        return None
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        number = int(text.removeprefix("d"))
    except (binascii.Error, ValueError):
        number = 0
    if number < 1 or number >= 2**63 or _token(number) != token:
        raise InvalidRequest.of([("page_token", "is not a token of an earlier answer")])
    return number
