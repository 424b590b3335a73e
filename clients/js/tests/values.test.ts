import { expect, test } from "vitest";
import { originOf } from "../src/address.js";
import {
  ImageCategorizer,
  ImageTooLarge,
  NotFound,
  Unavailable,
  verifyWebhook,
  WebhookInvalid,
} from "../src/index.js";
import { inputOf } from "../src/inputs.js";
import { fromResponse, fromStatus } from "../src/statuses.js";
import { decode, fromBase64, toBase64 } from "../src/wire.js";

test.each([
  ["localhost:8080", "http://localhost:8080"],
  ["127.0.0.1", "http://127.0.0.1"],
  ["[::1]:1", "http://[::1]:1"],
  ["api.example", "https://api.example"],
  ["http://api.example:80/", "http://api.example:80"],
  [" HTTPS://a.example ", "https://a.example"],
])("%s is %s", (baseUrl, origin) => {
  expect(originOf(baseUrl)).toBe(origin);
});

test.each(["", "https://a.example/v1", "a b", "ftp://a.example", "a.example:99999", "u@a.example"])(
  "'%s' is no address",
  (baseUrl) => {
    expect(() => originOf(baseUrl)).toThrow(TypeError);
  },
);

test("a key that is not one word, or that stands beside a token provider, is refused", () => {
  expect(() => new ImageCategorizer({ apiKey: "a b" })).toThrow(/one word/);
  expect(() => new ImageCategorizer({ apiKey: "a", tokenProvider: () => "b" })).toThrow(/either/);
});

test("fields have the SDK's names and types", () => {
  const wire = {
    create_time: "2026-01-02T03:04:05.678Z",
    remaining_time: "2.5s",
    processing_time: 0.1,
    resident_bytes: "123",
    cache: "CACHE_UNSPECIFIED",
    heat_map: "",
    detail: { snake_case: "2026-01-02T03:04:05Z" },
    items: [{ x_min: 1, category: "a_UNSPECIFIED" }],
  };
  expect(decode(wire)).toEqual({
    createTime: new Date("2026-01-02T03:04:05.678Z"),
    remainingTimeS: 2.5,
    processingTimeS: 0.1,
    residentBytes: 123,
    detail: { snake_case: "2026-01-02T03:04:05Z" },
    items: [{ xMin: 1, category: "a_UNSPECIFIED" }],
  });
});

test("base64 of every format is an image, and other text a path", async () => {
  const heads = [
    [0xff, 0xd8, 0xff, 0xe0],
    [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a],
    [...new TextEncoder().encode("GIF89a")],
    [...new TextEncoder().encode("RIFF0000WEBP")],
    [...new TextEncoder().encode("BM00")],
    [0x49, 0x49, 0x2a, 0],
    [0x4d, 0x4d, 0, 0x2a],
    [0, 0, 0, 0x1c, ...new TextEncoder().encode("ftypavif")],
    [0, 0, 0, 0x21, ...new TextEncoder().encode("ftypheic")],
  ];
  for (const head of heads) {
    const bytes = new Uint8Array(60);
    bytes.set(head);
    expect((await inputOf(toBase64(bytes))).content).toEqual(bytes);
  }
  await expect(inputOf("photographs/cat.jpg")).rejects.toMatchObject({ code: "ENOENT" });
  await expect(inputOf("p".repeat(80))).rejects.toMatchObject({ code: "ENOENT" });
  expect((await inputOf("package.json")).filename).toBe("package.json");
  expect((await inputOf(new URL("s3://a/b.jpg"))).uri).toBe("s3://a/b.jpg");
});

test("base64 goes there and back", () => {
  const bytes = crypto.getRandomValues(new Uint8Array(60_001));
  expect(fromBase64(toBase64(bytes))).toEqual(bytes);
  expect(fromBase64("-_8=")).toEqual(new Uint8Array([0xfb, 0xff]));
});

test("an error of an unknown reason goes by its code, and keeps its reason", () => {
  const info = { "@type": "type.googleapis.com/google.rpc.ErrorInfo", reason: "NEW" };
  const error = fromStatus({ code: 5, message: "", details: [info] }, "r");
  expect(error).toBeInstanceOf(NotFound);
  expect(error).toMatchObject({
    reason: "NEW",
    status: "NOT_FOUND",
    requestId: "r",
    name: "NotFound",
  });
});

test("the answer of a proxy is an error by its HTTP status", async () => {
  const kinds = [
    [502, Unavailable],
    [404, NotFound],
  ] as const;
  for (const [status, kind] of kinds)
    expect(await fromResponse(new Response("<html>", { status }))).toBeInstanceOf(kind);
  expect(await fromResponse(new Response("", { status: 413 }))).toBeInstanceOf(ImageTooLarge);
});

// Signed by the Python SDK's `webhooks` module, which the server's messages pass.
const SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const BODY =
  '{"type":"batch.completed","timestamp":"2026-01-01T00:00:00Z","data":{"batch_id":"b"}}';
const SIGNATURE = "v1,F8TuSysjZNx43aG7vqqyKNW/upNSTW2V9xULKLPBxDY=";
const HEADERS = {
  "Webhook-Id": "msg_1",
  "webhook-timestamp": "1767225600",
  "webhook-signature": `v1,${btoa("x".repeat(32))} ${SIGNATURE}`,
};
const ALWAYS = { toleranceS: Number.POSITIVE_INFINITY };

test("a genuine message is read, from text and from bytes", async () => {
  const message = await verifyWebhook(SECRET, HEADERS, BODY, ALWAYS);
  expect(message.data).toEqual({ batch_id: "b" });
  const bytes = new TextEncoder().encode(BODY);
  expect(await verifyWebhook(SECRET, new Headers(HEADERS), bytes, ALWAYS)).toEqual(message);
});

test("a message that is altered, old, or another's is refused", async () => {
  const other = `whsec_${btoa("another secret of 32 characters!")}`;
  const later = { ...HEADERS, "webhook-timestamp": "1767225601" };
  for (const [secret, headers, body] of [
    [SECRET, HEADERS, `${BODY} `],
    [SECRET, later, BODY],
    [other, HEADERS, BODY],
  ] as const)
    await expect(verifyWebhook(secret, headers, body, ALWAYS)).rejects.toThrow(/no signature/);
  await expect(verifyWebhook(SECRET, HEADERS, BODY)).rejects.toThrow(/too old/);
  await expect(verifyWebhook(SECRET, {}, BODY)).rejects.toThrow(WebhookInvalid);
  await expect(verifyWebhook("whsec_%", HEADERS, BODY, ALWAYS)).rejects.toThrow(TypeError);
});
