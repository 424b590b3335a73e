import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { TimingSchema } from "../src/gen/image_categorizer/v1/types_pb";
import { stepsOf } from "../src/screens/classify/waterfall";

const timing = create(TimingSchema, { decodeMs: 10, queueMs: 5, inferenceMs: 20, batchSize: 3 });

it("puts each step after the one before, and what is left after them", () => {
  expect(stepsOf({ timing, processingTime: 0.04 }, 100, false)).toEqual([
    { name: "decode", beginMs: 0, ms: 10 },
    { name: "wait", beginMs: 10, ms: 5 },
    { name: "model", beginMs: 15, ms: 20 },
    { name: "rest", beginMs: 35, ms: 5 },
    { name: "network", beginMs: 40, ms: 60 },
  ]);
});

it("shows nothing of the earlier call for an answer from the cache", () => {
  expect(stepsOf({ timing, processingTime: 0.001 }, 4, true)).toEqual([
    { name: "rest", beginMs: 0, ms: 1 },
    { name: "network", beginMs: 1, ms: 3 },
  ]);
});

it("never shows less than nothing: clocks differ by a little", () => {
  expect(stepsOf({ timing, processingTime: 0.03 }, 20, false).map(({ ms }) => ms)).toEqual([
    10, 5, 20, 0, 0,
  ]);
});
