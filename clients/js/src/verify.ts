/** Verifies webhook messages (Standard Webhooks, standardwebhooks.com, version 1). */

import { fromBase64 } from "./wire.js";

const PREFIX = "whsec_";

/** A webhook message is not genuine: it was altered, is too old, or has another's signature. */
export class WebhookInvalid extends Error {
  override name = "WebhookInvalid";
}

/** What a message of the server contains. */
export interface WebhookMessage {
  /** `batch.completed`, `batch.failed`, `batch.cancelled` or `classification.done`. */
  type: string;
  timestamp: string;
  /** As the server writes it: its names have underscores. */
  data: Record<string, unknown>;
}

/**
 * Returns the content of a webhook message if the message is genuine.
 *
 * Delivery is at least once: a message may arrive twice with the same `webhook-id` header;
 * deduplicate on it.
 *
 * @param secret the webhook's secret, `whsec_...`; see `webhooks.create`.
 * @param headers of the HTTP request.
 * @param body of the HTTP request, unchanged.
 * @param options `toleranceS`: the maximum difference between the message's time and now.
 * @throws {WebhookInvalid} a header is missing, the message is too old or too new, or no signature
 * matches.
 * @throws {TypeError} the secret is malformed.
 */
export async function verifyWebhook(
  secret: string,
  headers: Headers | Record<string, string | string[] | undefined>,
  body: string | Uint8Array | ArrayBuffer,
  { toleranceS = 300 }: { toleranceS?: number } = {},
): Promise<WebhookMessage> {
  const named = headers instanceof Headers ? headers : new Headers(flat(headers));
  const id = named.get("webhook-id");
  const timestamp = named.get("webhook-timestamp") ?? "";
  const signatures = (named.get("webhook-signature") ?? "").split(" ").filter(Boolean);
  if (!id || !timestamp || signatures.length === 0)
    throw new WebhookInvalid("a header is missing: webhook-id, -timestamp or -signature");
  if (!/^[0-9]{1,15}$/.test(timestamp))
    throw new WebhookInvalid("webhook-timestamp is not a number of seconds");
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > toleranceS)
    throw new WebhookInvalid("the message is too old or too new");
  const encoder = new TextEncoder();
  const bytes = typeof body === "string" ? encoder.encode(body) : new Uint8Array(body);
  const head = encoder.encode(`${id}.${timestamp}.`);
  const content = new Uint8Array(head.length + bytes.length);
  content.set(head);
  content.set(bytes, head.length);
  const key = await keyOf(secret);
  for (const signature of signatures) {
    const given = signature.startsWith("v1,") && bytesOf(signature.slice(3));
    // Compares in constant time.
    if (given && (await crypto.subtle.verify("HMAC", key, given, content)))
      return JSON.parse(new TextDecoder().decode(bytes));
  }
  throw new WebhookInvalid("no signature matches: an altered body, or another secret");
}

function flat(headers: Record<string, string | string[] | undefined>): [string, string][] {
  return Object.entries(headers).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, Array.isArray(value) ? value.join(" ") : value]],
  );
}

async function keyOf(secret: string): Promise<CryptoKey> {
  const bytes = bytesOf(secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : secret);
  if (!bytes?.length) throw new TypeError("the secret must be `whsec_` and base64");
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  return await crypto.subtle.importKey("raw", bytes, algorithm, false, ["verify"]);
}

function bytesOf(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return fromBase64(text);
  } catch {
    return undefined;
  }
}
