"""Webhooks: addresses that are notified when a batch ends, and the deliveries to them."""

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
from image_categorizer_server.paging import Page, limit_of, number_of, page_from, token_of
from image_categorizer_server.quoting import quoted
from image_categorizer_server.settings.webhook import WebhookSettings

ID_BYTES = 24
MAX_URL_CHARACTERS = 2048


class Webhooks:
    """What callers can do with webhooks.  Each call is for one tenant and sees only its own."""

    def __init__(self, settings: WebhookSettings, fetcher: Fetcher) -> None:
        self._settings = settings
        self._fetcher = fetcher

    async def create(self, tenant_id: str, url: str) -> tuple[Webhook, str]:
        """Creates a webhook; returns it and its secret.  Not idempotent.

        Raises:
            InvalidRequest: the address may not be called.
            QuotaExceeded: the tenant has its maximum number of webhooks.
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
        secret, quota = new_secret(), self._settings.max_webhooks
        if not await rows.insert_webhook(tenant_id, webhook, secret, quota):
            raise QuotaExceeded(f"there are {quota} webhooks already; delete one first")
        return webhook, secret

    async def get(self, tenant_id: str, webhook_id: str) -> Webhook:
        """Returns one webhook; creates `default` at its first use.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
            DependencyDown: the database does not answer.
        """
        if webhook_id == DEFAULT_WEBHOOK:
            await rows.ensure_default(tenant_id, new_secret(), clock.now())
        webhook = await rows.find_webhook(tenant_id, webhook_id)
        if webhook is None:
            raise WebhookNotFound(f"there is no webhook {webhook_id!r}")
        return webhook

    async def list_all(self, tenant_id: str) -> list[Webhook]:
        """Returns the tenant's webhooks: `default`, then the others, the oldest first.

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
            WebhookNotFound: the tenant has no such webhook.
            InvalidRequest: the address may not be called, or `default` was given one.
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
        """Removes a webhook and its deliveries.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
            InvalidRequest: the webhook is `default`.
            DependencyDown: the database does not answer.
        """
        if webhook_id == DEFAULT_WEBHOOK:
            raise InvalidRequest.of([("webhook_id", "'default' can be disabled, not deleted")])
        if not await rows.delete_webhook(tenant_id, webhook_id, clock.now()):
            raise WebhookNotFound(f"there is no webhook {webhook_id!r}")

    async def rotate_secret(self, tenant_id: str, webhook_id: str) -> tuple[Webhook, str]:
        """Puts a new secret in force; returns the webhook and the secret.  Not idempotent.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
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
        batch_id: str = "",
        state: DeliveryState | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Page[Delivery]:
        """Returns a page of a webhook's deliveries, the newest first.

        Args:
            tenant_id: the tenant.
            webhook_id: the webhook.
            batch_id: only deliveries about this batch; empty for all.
            state: only deliveries in this state; None for all.
            page_size: see `paging.limit_of`.
            page_token: the token of the previous page; empty for the first page.

        Raises:
            WebhookNotFound: the tenant has no such webhook.
            InvalidRequest: `page_size` or `page_token` is not valid.
            DependencyDown: the database does not answer.
        """
        limit, before = limit_of(page_size), number_of(page_token)
        await self.get(tenant_id, webhook_id)
        found = await delivery_rows.list_deliveries(
            tenant_id,
            webhook_id,
            before=before,
            batch_id=batch_id,
            state=state,
            limit=limit + 1,
        )
        return page_from(found, limit, lambda delivery: token_of(delivery.number))

    async def redeliver(self, tenant_id: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Makes a delivery due now, as if it had not been attempted, and returns it.

        Raises:
            WebhookNotFound, DeliveryNotFound: the webhook or the delivery does not exist.
            WebhookDisabled: the webhook is disabled, or its address is gone.
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
            raise DeliveryNotFound(f"the webhook has no delivery {quoted(delivery_id)}")
        return delivery

    async def notify_classified(
        self,
        tenant_id: str,
        url: str,
        request_id: str,
        classification: Classification,
        subject_key: str = "",
    ) -> None:
        """Queues a message about one image's classification to an address; it survives crashes.

        Raises:
            SubjectErased: the subject was erased.
            DependencyDown: the database does not answer.
        """
        await outbox.add_classification(tenant_id, url, request_id, classification, subject_key)

    async def check_url(self, url: str, field: str = "url") -> None:
        """Passes an address that may be called, without calling it.

        Raises:
            InvalidRequest: it may not; the violation names `field`.
        """
        if len(url) > MAX_URL_CHARACTERS:
            raise InvalidRequest.of([(field, f"has more than {MAX_URL_CHARACTERS} characters")])
        try:
            await self._fetcher.check(url)
        except Unreachable:
            # One text for every cause: it must not reveal what this network can reach.
            raise InvalidRequest.of(
                [(field, "must be an https address that is reachable from the public Internet")]
            ) from None
