import { expect, it } from "vitest";
import { eachOf } from "../src/api/parallel";

it("runs tasks some at a time, and tells apart what failed", async () => {
  let running = 0;
  let most = 0;
  const ended = await eachOf([1, 2, 3, 4, 5, 6], 2, async (item) => {
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
    if (item === 3) throw new Error("three");
    return 10 * item;
  });
  expect(most).toBe(2);
  expect(ended.map(({ value }) => value)).toEqual([10, 20, undefined, 40, 50, 60]);
  expect(ended.filter(({ error }) => error).map(({ item }) => item)).toEqual([3]);
});

it("begins no task after its signal has fired", async () => {
  const stop = new AbortController();
  const begun: number[] = [];
  await eachOf(
    [1, 2, 3],
    1,
    async (item) => {
      begun.push(item);
      if (item === 2) stop.abort();
    },
    stop.signal,
  );
  expect(begun).toEqual([1, 2]);
});
