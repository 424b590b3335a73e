import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import {
  type ServerStatistics,
  ServerStatisticsSchema,
} from "../src/gen/image_categorizer/v1/statistics_pb";
import { quantile, stepBetween } from "../src/screens/operations/rates";

function at(seconds: number, ok: number, counts: number[], processId = "a"): ServerStatistics {
  return create(ServerStatisticsSchema, {
    processId,
    readTime: timestampFromMs(1000 * seconds),
    calls: [
      { method: "/A", code: "OK", count: ok },
      { method: "/B", code: "OK", count: 10 },
    ],
    models: [
      {
        model: "m",
        version: "1",
        queueS: { upperBounds: [0.1, 0.2], counts, sum: 1 },
        microBatchImages: { upperBounds: [1, 2], counts, sum: 3 * (counts[0] ?? 0) },
      },
    ],
  });
}

test("two answers make rates, quantiles and means of what is between them", () => {
  const step = stepBetween(at(10, 5, [1, 0, 0]), at(12, 9, [5, 0, 4]));
  expect(step?.length_s).toBe(2);
  expect(step?.calls).toEqual({ OK: 2 });
  expect(step?.models[0]?.queue_s.p50).toBeCloseTo(0.1);
  expect(step?.models[0]?.queue_s.p95).toBe(0.2);
  expect(step?.models[0]?.microBatchImages).toBe(12 / 8);
});

test("answers of different processes say nothing", () => {
  expect(stepBetween(at(10, 5, [1, 0, 0]), at(12, 9, [5, 0, 4], "b"))).toBeNull();
  expect(stepBetween(at(10, 5, [1, 0, 0]), at(10, 9, [5, 0, 4]))).toBeNull();
});

test("a quantile lies within its range", () => {
  const values = { upperBounds: [1, 2, 4], counts: [0, 10, 10, 0], sum: 0 };
  expect(quantile(values, 0.25)).toBe(1.5);
  expect(quantile(values, 0.75)).toBe(3);
  expect(quantile({ ...values, counts: [0, 0, 0, 5] }, 0.5)).toBe(4);
  expect(quantile({ ...values, counts: [0, 0, 0, 0] }, 0.5)).toBeNull();
});
