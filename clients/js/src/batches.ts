import { type CallOptions, type Connection, path, sleep, split } from "./connection.js";
import { CategorizerError } from "./failure.js";
import { Unavailable } from "./generated/errors.js";
import type * as wire from "./generated/types.js";
import { type BatchSources, formBody, imagesOf, isReplayable } from "./inputs.js";
import type { Options } from "./options.js";
import { MAX_ATTEMPTS, MAX_FAILED_CALLS, Retries } from "./retries.js";
import { type Batch, type BatchResult, batch, batchResult, decode } from "./wire.js";

/** How to run a batch. */
export interface BatchOptions extends Options, CallOptions {
  /** An https address that receives a message when the batch ends. */
  webhookUrl?: string | undefined;
  /**
   * Makes the submission idempotent: a batch with this id is returned, not created again. 1 to 64
   * characters. Default: a random id, so that the client can retry an upload.
   */
  requestId?: string | undefined;
  /** The order among your own batches, in [-10, 10]; higher goes first. Default: 0. */
  priority?: number | undefined;
}

/** The format of an export: JSON lines, or CSV with a header row. */
export type ExportFormat = "jsonl" | "csv";

/**
 * The tenant's batches: `client.batches`.
 *
 * A batch classifies many images in the background. The server stores the images and the results,
 * so that any process can ask for them by the `batchId`.
 */
export class Batches {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * Uploads images, and returns as soon as the server has stored them all.
   *
   * Files are read one after the other, as fast as the server accepts them. If the call breaks and
   * the sources can be read again (a folder or a list without streams), the upload starts again; it
   * never creates a second batch.
   *
   * @throws {TypeError} `sources` is a single image, or an address.
   * @throws {BatchTooLarge} there are too many images, or too many bytes.
   */
  async submit(sources: BatchSources, options: BatchOptions = {}): Promise<Batch> {
    const [call, { requestId = crypto.randomUUID(), ...rest }] = split(options);
    const images = await imagesOf(sources);
    const attempts = isReplayable(images) ? MAX_ATTEMPTS : 1;
    const found = await this.#connection.repeat<wire.Batch>(
      {
        ...call,
        timeoutS: call.timeoutS ?? Number.POSITIVE_INFINITY,
        method: "POST",
        path: "/v1/batch",
        query: { ...rest, requestId },
        body: () => formBody(images),
      },
      new Retries(attempts, this.#connection.budget),
      async (response) => decode(await response.json()) as wire.Batch,
    );
    return batch(found);
  }

  /**
   * Submits images that the server fetches itself.
   *
   * @param uris `https://`, `s3://`, `gs://` or `az://` addresses.
   * @throws {BatchTooLarge} the addresses do not fit into one message, 28 MB by default.
   */
  async submitUris(uris: Iterable<string | URL>, options: BatchOptions = {}): Promise<Batch> {
    if (typeof uris === "string")
      throw new TypeError("submitUris takes many addresses; put a single one into a list");
    const [call, given] = split(options);
    const { webhookUrl, requestId = crypto.randomUUID(), priority, ...rest } = given;
    const items = Array.from(uris, (uri) => ({ imageUri: `${uri}` }));
    const json = { items, options: rest, webhookUrl, requestId, priority };
    return batch(await this.#connection.call({ ...call, method: "POST", path: "/v1/batch", json }));
  }

  /** Returns one batch. */
  async get(batchId: string, call: CallOptions = {}): Promise<Batch> {
    return batch(await this.#connection.call({ ...call, path: path`/v1/batch/${batchId}` }));
  }

  /** Yields the batches, the newest first; those in one state, or all. */
  list(options: { state?: Batch["state"] | undefined } & CallOptions = {}): AsyncGenerator<Batch> {
    const [call, query] = split(options);
    return this.#connection.list(
      { ...call, path: "/v1/batch", query },
      (page: wire.ListBatchesResponse) => page.batches.map(batch),
    );
  }

  /**
   * Yields the batch each time it changes, at most once a second, until it has ended; `progress`
   * says how far it is. Reconnects if the connection breaks. The last batch that is yielded has ended.
   */
  async *watch(batchId: string, call: CallOptions = {}): AsyncGenerator<Batch, void, undefined> {
    const retries = new Retries(MAX_FAILED_CALLS);
    for (;;) {
      try {
        for await (const line of this.#lines({ ...call, path: path`/v1/batch/${batchId}:watch` })) {
          retries.succeeded();
          const { batch: found, done } = decode(JSON.parse(line)) as wire.WatchBatchResponse;
          yield batch(found);
          if (done) return;
        }
        throw new Unavailable("the server ended the call before the batch had ended");
      } catch (error) {
        if (!(error instanceof CategorizerError)) throw error;
        await sleep(retries.failed({ error, isCut: false }) * 1000, call.signal);
      }
    }
  }

  async *#lines(call: CallOptions & { path: string }): AsyncGenerator<string> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const piece of this.#connection.pieces(call)) {
      const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      yield* lines.filter((line) => line.trim());
    }
    if (rest.trim()) yield rest;
  }

  /** Yields the outcomes so far, in the order of the items. */
  results(batchId: string, call: CallOptions = {}): AsyncGenerator<BatchResult> {
    return this.#connection.list(
      { ...call, path: path`/v1/batch/${batchId}/results` },
      (page: wire.ListBatchResultsResponse) => page.results.map(batchResult),
    );
  }

  /** Yields the outcomes so far as pieces of a file, with one line for each item. */
  export(
    batchId: string,
    options: { format?: ExportFormat | undefined; bom?: boolean | undefined } & CallOptions = {},
  ): AsyncGenerator<Uint8Array> {
    const [call, query] = split(options);
    const from = path`/v1/batch/${batchId}/results:export`;
    return this.#connection.pieces({ ...call, path: from, query });
  }

  /** Ends a batch early. Items that have an outcome keep it. Idempotent. */
  cancel(batchId: string, call: CallOptions = {}): Promise<Batch> {
    return this.#changed(path`/v1/batch/${batchId}:cancel`, call);
  }

  /**
   * Runs the failed items of an ended batch again, and those that a cancellation skipped.
   *
   * @throws {BatchRunning} the batch has not ended.
   */
  retry(batchId: string, call: CallOptions = {}): Promise<Batch> {
    return this.#changed(path`/v1/batch/${batchId}:retry`, call);
  }

  /**
   * Deletes an ended batch with its results, and its images unless another batch has them.
   *
   * @throws {BatchRunning} the batch has not ended; cancel it first.
   */
  async delete(batchId: string, call: CallOptions = {}): Promise<void> {
    const at = path`/v1/batch/${batchId}`;
    await this.#connection.call({ ...call, method: "DELETE", path: at });
  }

  async #changed(at: string, call: CallOptions): Promise<Batch> {
    return batch(await this.#connection.call({ ...call, method: "POST", path: at, json: {} }));
  }
}
