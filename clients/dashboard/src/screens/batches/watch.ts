import { createClient } from "@connectrpc/connect";
import { createConnectQueryKey, useQuery } from "@connectrpc/connect-query";
import { useEffect } from "react";
import { queries } from "../../api/query";
import { transport } from "../../api/transport";
import { wait } from "../../api/wait";
import { type Batch, Batch_State, BatchService } from "../../gen/image_categorizer/v1/batch_pb";

const RECONNECT_MS = 2000;
const client = createClient(BatchService, transport);

export function hasEnded({ state }: Batch): boolean {
  return (
    state === Batch_State.COMPLETED ||
    state === Batch_State.CANCELLED ||
    state === Batch_State.FAILED
  );
}

function keyOf(batchId: string) {
  return createConnectQueryKey({
    schema: BatchService.method.getBatch,
    input: { batchId },
    transport,
    cardinality: "finite",
  });
}

/** What an RPC has answered is what all components show. */
export function keepBatch(batch: Batch): void {
  queries.setQueryData(keyOf(batch.batchId), batch);
}

/** A batch as it is now, as long as it runs. */
export function useWatchedBatch(batchId: string) {
  const batch = useQuery(BatchService.method.getBatch, { batchId });
  const isRunning = batch.data !== undefined && !hasEnded(batch.data);
  useEffect(() => {
    if (!isRunning) return;
    const stop = new AbortController();
    void watch(batchId, stop.signal);
    return () => stop.abort();
  }, [batchId, isRunning]);
  return batch;
}

async function watch(batchId: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      for await (const message of client.watchBatch({ batchId }, { signal })) {
        if (message.batch) keepBatch(message.batch);
        if (message.done) return;
      }
    } catch {
      // The stream was cut off. What the server says of the batch, or why it refuses, the query shows.
    }
    await wait(RECONNECT_MS, signal);
    if (!signal.aborted) await queries.invalidateQueries({ queryKey: keyOf(batchId) });
  }
}
