import { timestampDate } from "@bufbuild/protobuf/wkt";
import type {
  Distribution,
  LabelCount,
  ModelStatistics,
  ServerStatistics,
} from "../../gen/image_categorizer/v1/statistics_pb";

/** What happened in a server process between two of its answers. */
export type Step = {
  /** When it ended, in seconds since 1970. */
  end_s: number;
  length_s: number;
  /** Calls by gRPC status, each second. */
  calls: Record<string, number>;
  /** Failed calls by reason, each second. */
  errors: Record<string, number>;
  cache: Record<string, number>;
  lag_s: Quantiles;
  models: ModelStep[];
};

export type ModelStep = {
  name: string;
  queueDepth: number;
  /** Images by outcome, each second. */
  images: Record<string, number>;
  /** Calls of the model by what closed the micro-batch, each second. */
  executions: Record<string, number>;
  /** The mean number of images of a micro-batch; null without one. */
  microBatchImages: number | null;
  queue_s: Quantiles;
  decode_s: Quantiles;
  inference_s: Quantiles;
};

/** Null without a value. */
export type Quantiles = { p50: number | null; p95: number | null };

type Counted = Pick<Distribution, "upperBounds" | "counts" | "sum">;
const NOTHING: Counted = { upperBounds: [], counts: [], sum: 0 };

/** Returns what happened between two answers; null if another process has answered, or nothing has passed. */
export function stepBetween(then: ServerStatistics, now: ServerStatistics): Step | null {
  if (then.processId !== now.processId || !then.readTime || !now.readTime) return null;
  const end_s = timestampDate(now.readTime).getTime() / 1000;
  const length_s = end_s - timestampDate(then.readTime).getTime() / 1000;
  if (length_s <= 0) return null;
  return {
    end_s,
    length_s,
    calls: rates(byCode(then), byCode(now), length_s),
    errors: rates(byLabel(then.errors), byLabel(now.errors), length_s),
    cache: rates(byLabel(then.cacheLookups), byLabel(now.cacheLookups), length_s),
    lag_s: quantiles(then.eventLoopLagS, now.eventLoopLagS),
    models: now.models.map((model) => modelStep(earlier(then, model), model, length_s)),
  };
}

function earlier(then: ServerStatistics, model: ModelStatistics): ModelStatistics | undefined {
  return then.models.find((one) => one.model === model.model && one.version === model.version);
}

function modelStep(
  then: ModelStatistics | undefined,
  now: ModelStatistics,
  length_s: number,
): ModelStep {
  const sizes = difference(then?.microBatchImages, now.microBatchImages);
  const micro_batches = total(sizes);
  return {
    name: `${now.model} ${now.version}`,
    queueDepth: now.queueDepth,
    images: rates(byLabel(then?.images), byLabel(now.images), length_s),
    executions: rates(byLabel(then?.executions), byLabel(now.executions), length_s),
    microBatchImages: micro_batches > 0 ? sizes.sum / micro_batches : null,
    queue_s: quantiles(then?.queueS, now.queueS),
    decode_s: quantiles(then?.decodeS, now.decodeS),
    inference_s: quantiles(then?.inferenceS, now.inferenceS),
  };
}

function quantiles(then: Distribution | undefined, now: Distribution | undefined): Quantiles {
  const between = difference(then, now);
  return { p50: quantile(between, 0.5), p95: quantile(between, 0.95) };
}

function difference(then: Counted | undefined, now: Counted | undefined): Counted {
  if (!now) return NOTHING;
  return {
    upperBounds: now.upperBounds,
    counts: now.counts.map((count, range) => count - (then?.counts[range] ?? 0)),
    sum: now.sum - (then?.sum ?? 0),
  };
}

function total({ counts }: Counted): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/**
 * Estimates a quantile as Prometheus' `histogram_quantile` does: values are taken to lie evenly in their range, and
 * those of the last range at its lower bound.
 */
export function quantile(values: Counted, share: number): number | null {
  const wanted = share * total(values);
  if (wanted <= 0) return null;
  let below = 0;
  for (const [range, count] of values.counts.entries()) {
    const lower = values.upperBounds[range - 1] ?? 0;
    const upper = values.upperBounds[range] ?? lower;
    if (below + count >= wanted) return lower + (upper - lower) * ((wanted - below) / count);
    below += count;
  }
  return null;
}

function rates(then: Map<string, number>, now: Map<string, number>, length_s: number) {
  const found: Record<string, number> = {};
  for (const [label, count] of now) {
    const grown = count - (then.get(label) ?? 0);
    if (grown > 0) found[label] = grown / length_s;
  }
  return found;
}

function byCode({ calls }: ServerStatistics): Map<string, number> {
  const found = new Map<string, number>();
  for (const { code, count } of calls) found.set(code, (found.get(code) ?? 0) + count);
  return found;
}

function byLabel(counts: LabelCount[] | undefined): Map<string, number> {
  return new Map((counts ?? []).map(({ label, count }) => [label, count]));
}
