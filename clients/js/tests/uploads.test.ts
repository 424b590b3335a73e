import type { IncomingMessage } from "node:http";
import { expect, test } from "vitest";
import { CALLER, cut, json, serving } from "./server.js";

const BATCH = {
  batch_id: "b",
  state: "QUEUED",
  item_count: 1,
  succeeded_count: 0,
  failed_count: 0,
  failures: [],
  create_time: "2026-01-02T03:04:05Z",
  remaining_time: "1.5s",
};
const MEBIBYTE = 2 ** 20;

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const piece of request) text += piece;
  return text;
}

test("many images are never in memory together", async () => {
  let bytes = 0;
  const { client } = await serving([
    (request, response) => {
      request.on("data", (piece) => {
        bytes += piece.length;
      });
      request.on("end", () => response.end(JSON.stringify(BATCH)));
    },
  ]);
  let peakBytes = 0;
  const before = process.memoryUsage().rss;
  async function* images() {
    for (let number = 0; number < 200; number += 1) {
      peakBytes = Math.max(peakBytes, process.memoryUsage().rss - before);
      yield { filename: `${number}.jpg`, image: new Uint8Array(2 * MEBIBYTE) };
    }
  }
  await client.submitBatch(images());
  expect(bytes).toBeGreaterThan(400 * MEBIBYTE);
  expect(peakBytes).toBeLessThan(200 * MEBIBYTE);
});

test("an upload that breaks begins again with the same request id", async () => {
  const { client, requests } = await serving([cut, json(BATCH)]);
  const batch = await client.submitBatch([new Uint8Array([1])], { topK: 3 });
  expect(batch.createTime).toEqual(new Date("2026-01-02T03:04:05Z"));
  expect(batch.remainingTimeS).toBe(1.5);
  const [first, second] = requests.map(
    (request) => new URL(request.url ?? "", "http://a").searchParams,
  );
  expect(first?.get("requestId")).toMatch(/^[0-9a-f-]{36}$/);
  expect(second?.get("requestId")).toBe(first?.get("requestId"));
  expect(second?.get("topK")).toBe("3");
});

test("a stream is sent only once", async () => {
  const { client, requests } = await serving([cut]);
  const stream = new Blob(["a"]).stream();
  await expect(client.submitBatch([stream])).rejects.toThrow(/no answer/);
  expect(requests.length).toBe(1);
});

test("names cannot end their line", async () => {
  let form = "";
  const { client } = await serving([
    async (request, response) => {
      form = await textOf(request);
      response.end(JSON.stringify(BATCH));
    },
  ]);
  await client.submitBatch([{ filename: 'a"\r\nx: y', image: new Uint8Array([1]) }]);
  expect(form).toContain('filename="a%22%0D%0Ax: y"');
});

test("a single image is no batch, and a folder no image", async () => {
  const { client, requests } = await serving([json(CALLER)]);
  for (const single of ["package.json", new Uint8Array([1])])
    await expect(client.submitBatch(single as never)).rejects.toThrow(/many images/);
  await expect(client.classifyImage("src")).rejects.toThrow(/is a folder/);
  await expect(client.submitBatch(["https://a.example/b.jpg"])).rejects.toThrow(/submitUris/);
  await expect(client.classifyImage(7 as never)).rejects.toThrow(TypeError);
  expect(requests.length).toBe(0);
});

test("a watch goes on when its connection breaks", async () => {
  const line = (batch: object, done = false) => `${JSON.stringify({ batch, done })}\n`;
  const { client, requests } = await serving([
    (_, response) => {
      response.write(line({ ...BATCH, succeeded_count: 0 }));
      setTimeout(() => response.destroy(), 50);
    },
    (_, response) => response.end(line({ ...BATCH, state: "COMPLETED", succeeded_count: 1 }, true)),
  ]);
  const states: string[] = [];
  for await (const batch of client.watchBatch("a/b"))
    states.push(`${batch.state} ${batch.progress}`);
  expect(states).toEqual(["QUEUED 0", "COMPLETED 1"]);
  expect(requests[0]?.url).toBe("/v1/batch/a%2Fb:watch");
});
