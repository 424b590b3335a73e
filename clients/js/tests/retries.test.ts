import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, test } from "vitest";
import {
  CredentialsInvalid,
  ImageCategorizer,
  Overloaded,
  RateLimited,
  Unavailable,
} from "../src/index.js";
import { backoffS, RetryBudget } from "../src/retries.js";
import { CALLER, cut, failing, json, serving } from "./server.js";

const BUSY = failing("QUEUE_FULL", 14, 503);

test.concurrent("a call that finds the server busy is made again", async () => {
  const { client, requests } = await serving([BUSY, BUSY, json(CALLER)]);
  expect((await client.caller()).tenantId).toBe("default");
  expect(requests.length).toBe(3);
});

test.concurrent("a call is made at most four times", async () => {
  const { client, requests } = await serving([BUSY]);
  await expect(client.caller()).rejects.toThrow(Overloaded);
  expect(requests.length).toBe(4);
});

test.concurrent("a retry is never earlier than the server asks for", async () => {
  const limited = failing("RATE_LIMITED", 8, 429, { "retry-after": "1" });
  const { client } = await serving([limited, json(CALLER)]);
  const startMs = Date.now();
  await client.caller();
  expect(Date.now() - startMs).toBeGreaterThan(1000);
});

test.concurrent("a call is not made again when the wait would be longer than the time that is left", async () => {
  const limited = failing("RATE_LIMITED", 8, 429, { "retry-after": "60" });
  const { client, requests } = await serving([limited], { timeoutS: 5 });
  const startMs = Date.now();
  await expect(client.caller()).rejects.toMatchObject({ retryAfterS: 60 });
  expect(Date.now() - startMs).toBeLessThan(2000);
  expect(requests.length).toBe(1);
});

test.concurrent("a quota that is used up is not asked for again", async () => {
  const { client, requests } = await serving([failing("QUOTA_EXCEEDED", 8, 429)]);
  await expect(client.caller()).rejects.not.toThrow(RateLimited);
  expect(requests.length).toBe(1);
});

test.concurrent("a call that is cut off is made again once, and says so", async () => {
  const { client, requests } = await serving([cut]);
  await expect(client.caller()).rejects.toThrow(Unavailable);
  expect(requests.map((request) => request.headers["x-attempt"])).toEqual([undefined, "2"]);
});

test.concurrent("a call that the gateway has repeated is not made again", async () => {
  const final = failing("UNAVAILABLE", 14, 503, { "grpc-retry-pushback-ms": "-1" });
  const { client, requests } = await serving([final]);
  await expect(client.caller()).rejects.toMatchObject({ isFinal: true });
  expect(requests.length).toBe(1);
});

test.concurrent("other errors are thrown at once", async () => {
  const { client, requests } = await serving([failing("CREDENTIALS_INVALID", 16, 401)]);
  await expect(client.caller()).rejects.toThrow(CredentialsInvalid);
  expect(requests.length).toBe(1);
});

test.concurrent("what changes something at each call is not called again", async () => {
  const { client, requests } = await serving([BUSY]);
  await expect(client.keys.create("a", "viewer")).rejects.toThrow(Overloaded);
  expect(requests.length).toBe(1);
});

test.concurrent("a client has a budget of retries", async () => {
  const { client, requests } = await serving([BUSY]);
  for (let call = 0; call < 5; call += 1) await expect(client.caller()).rejects.toThrow(Overloaded);
  expect(requests.length).toBe(5 + 10);
}, 20_000);

test.concurrent("successes give retries back", () => {
  const budget = new RetryBudget();
  while (budget.take());
  for (let call = 0; call < 11; call += 1) budget.succeeded();
  expect([budget.take(), budget.take()]).toEqual([true, false]);
});

test.concurrent("waits grow, and differ", () => {
  expect(new Set(Array.from({ length: 20 }, () => backoffS(1))).size).toBeGreaterThan(1);
  expect(backoffS(1)).toBeGreaterThanOrEqual(0.16);
  expect(backoffS(1)).toBeLessThanOrEqual(0.24);
  expect(backoffS(20)).toBeLessThanOrEqual(6);
});

test.concurrent("a server that is not there is asked four times", async () => {
  let calls = 0;
  const fetch: typeof globalThis.fetch = (...given) => {
    calls += 1;
    return globalThis.fetch(...given);
  };
  const closed = createServer().listen(0, "127.0.0.1");
  await once(closed, "listening");
  const { port } = closed.address() as AddressInfo;
  closed.close();
  const client = new ImageCategorizer({ baseUrl: `127.0.0.1:${port}`, fetch });
  await expect(client.caller()).rejects.toThrow(/ECONNREFUSED/);
  expect(calls).toBe(4);
});

test.concurrent("an aborted call throws the signal's reason, also while it waits", async () => {
  const busy = failing("QUEUE_FULL", 14, 503, { "retry-after": "20" });
  const { client } = await serving([busy]);
  const startMs = Date.now();
  const call = client.caller({ signal: AbortSignal.timeout(200) });
  await expect(call).rejects.toMatchObject({ name: "TimeoutError" });
  expect(Date.now() - startMs).toBeLessThan(5000);
});

test.concurrent("a server that does not answer is not waited for longer than timeoutS", async () => {
  const { client, requests } = await serving([() => undefined], { timeoutS: 0.3 });
  await expect(client.caller()).rejects.toMatchObject({ reason: "DEADLINE_EXCEEDED" });
  expect(requests.length).toBe(1);
});
