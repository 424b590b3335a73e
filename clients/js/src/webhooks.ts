import { type CallOptions, type Connection, path, split } from "./connection.js";
import type * as wire from "./generated/types.js";

/** Which messages `webhooks.deliveries` yields. */
export interface DeliveryFilters extends CallOptions {
  /** Only messages about this batch. */
  batchId?: string | undefined;
  /** Only messages in this state. */
  state?: wire.WebhookDelivery["state"] | undefined;
}

/**
 * The tenant's webhooks: `client.webhooks`. Needs a key of the role operator.
 *
 * A webhook is an address that receives a message each time a batch ends. Delivery is at least
 * once; see `verifyWebhook`.
 */
export class Webhooks {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /** Registers an https address; the answer has the `secret`, which is never shown again. */
  create(url: string | URL, call: CallOptions = {}): Promise<wire.Webhook> {
    const json = { url: `${url}` };
    return this.#connection.callOnce({ ...call, method: "POST", path: "/v1/webhooks", json });
  }

  /** Returns one webhook, without its secret. */
  get(webhookId: string, call: CallOptions = {}): Promise<wire.Webhook> {
    return this.#connection.call({ ...call, path: path`/v1/webhooks/${webhookId}` });
  }

  /** Yields the webhooks: `default` first, then the oldest first. */
  list(call: CallOptions = {}): AsyncGenerator<wire.Webhook> {
    const request = { ...call, path: "/v1/webhooks" };
    return this.#connection.list(request, (page: wire.ListWebhooksResponse) => page.webhooks);
  }

  /** Changes what is given. A webhook that is not enabled drops the messages that wait. */
  update(
    webhookId: string,
    changes: { url?: string | undefined; enabled?: boolean | undefined },
    call: CallOptions = {},
  ): Promise<wire.Webhook> {
    const at = path`/v1/webhooks/${webhookId}`;
    return this.#connection.callOnce({ ...call, method: "PATCH", path: at, json: changes });
  }

  /** Deletes a webhook and the record of its deliveries. */
  async delete(webhookId: string, call: CallOptions = {}): Promise<void> {
    const at = path`/v1/webhooks/${webhookId}`;
    await this.#connection.callOnce({ ...call, method: "DELETE", path: at });
  }

  /** Replaces the secret; for a day, messages carry the signatures of both secrets. */
  rotateSecret(webhookId: string, call: CallOptions = {}): Promise<wire.Webhook> {
    const at = path`/v1/webhooks/${webhookId}:rotateSecret`;
    return this.#connection.callOnce({ ...call, method: "POST", path: at, json: {} });
  }

  /** Yields the messages to a webhook, sent or waiting, the newest first. */
  deliveries(
    webhookId: string,
    options: DeliveryFilters = {},
  ): AsyncGenerator<wire.WebhookDelivery> {
    const [call, query] = split(options);
    return this.#connection.list(
      { ...call, path: path`/v1/webhooks/${webhookId}/deliveries`, query },
      (page: wire.ListWebhookDeliveriesResponse) => page.deliveries,
    );
  }

  /** Sends a message again, now, with the same `webhook-id`. */
  redeliver(
    webhookId: string,
    deliveryId: string,
    call: CallOptions = {},
  ): Promise<wire.WebhookDelivery> {
    const at = path`/v1/webhooks/${webhookId}/deliveries/${deliveryId}:redeliver`;
    return this.#connection.callOnce({ ...call, method: "POST", path: at, json: {} });
  }
}
