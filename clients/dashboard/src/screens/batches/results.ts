import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { useEffect, useState } from "react";
import { transport } from "../../api/transport";
import { wait } from "../../api/wait";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb";
import { type BatchResult, BatchService } from "../../gen/image_categorizer/v1/batch_pb";
import type { Row } from "./filter";

const PAGE_SIZE = 1000;
const PUBLISH_INTERVAL_MS = 250;
/** While a batch runs, its results are read again after this time, or after four times what reading took. */
const READ_INTERVAL_MS = 1500;
const MAX_PREDICTIONS = 5;

const client = createClient(BatchService, transport);

export type Results = {
  /** By the number of the item; holes have no outcome yet. */
  rows: readonly (Row | undefined)[];
  isComplete: boolean;
  error: unknown;
};

const NOTHING: Results = { rows: [], isComplete: false, error: null };

/** Reads the results of a batch, again and again while it runs. */
export function useResults(batchId: string, isEnded: boolean, attempt: number): Results {
  const [results, setResults] = useState(NOTHING);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another attempt reads again
  useEffect(() => {
    const stop = new AbortController();
    const publish = (change: Partial<Results>) => {
      if (!stop.signal.aborted) setResults((old) => ({ ...old, ...change }));
    };
    publish({ isComplete: false, error: null });
    follow(batchId, isEnded, stop.signal, publish).catch((error) => publish({ error }));
    return () => stop.abort();
  }, [batchId, isEnded, attempt]);
  return results;
}

async function follow(
  batchId: string,
  isEnded: boolean,
  signal: AbortSignal,
  publish: (change: Partial<Results>) => void,
): Promise<void> {
  let rows: (Row | undefined)[] = [];
  while (!signal.aborted) {
    const begun_ms = performance.now();
    const read = await readAll(batchId, signal, (some) => {
      if (some.length >= rows.length) publish({ rows: some });
    });
    rows = read;
    publish({ rows, isComplete: isEnded });
    if (isEnded) return;
    await wait(Math.max(READ_INTERVAL_MS, 4 * (performance.now() - begun_ms)), signal);
  }
}

async function readAll(
  batchId: string,
  signal: AbortSignal,
  show: (rows: (Row | undefined)[]) => void,
): Promise<(Row | undefined)[]> {
  const rows: (Row | undefined)[] = [];
  let shown_ms = performance.now();
  let pageToken = "";
  do {
    const page = await client.listBatchResults(
      { batchId, pageSize: PAGE_SIZE, pageToken },
      { signal },
    );
    for (const result of page.results) rows[Number(result.itemId)] = rowOf(result);
    pageToken = page.nextPageToken;
    if (performance.now() - shown_ms > PUBLISH_INTERVAL_MS) {
      show(rows.slice());
      shown_ms = performance.now();
    }
  } while (pageToken);
  return rows;
}

/** Returns what the grid shows of a result. */
export function rowOf(result: BatchResult): Row {
  const status = result.status;
  const failed = status !== undefined && status.code !== 0;
  const [info] = failed
    ? status.details.flatMap((detail) => anyUnpack(detail, ErrorInfoSchema) ?? [])
    : [];
  return {
    item: Number(result.itemId),
    filename: result.filename,
    predictions: (result.classification?.predictions ?? [])
      .slice(0, MAX_PREDICTIONS)
      .map(({ category, confidence }) => ({ category, confidence })),
    reason: failed ? (info?.reason ?? `CODE_${status.code}`) : "",
    message: failed ? status.message : "",
  };
}
