import { Batches, type BatchOptions } from "./batches.js";
import { type CallOptions, type ClientOptions, Connection, split } from "./connection.js";
import { CategorizerError } from "./failure.js";
import { FeedbackBook } from "./feedback.js";
import type * as wire from "./generated/types.js";
import { Images, source, upload } from "./images.js";
import { type BatchSources, type ImageSource, inputOf, type NamedImage } from "./inputs.js";
import { Keys } from "./keys.js";
import { Models } from "./models.js";
import type { Options, Version } from "./options.js";
import { Webhooks } from "./webhooks.js";
import { type Batch, type BatchResult, type Classification, classification } from "./wire.js";

/** How to classify one image. */
export interface ClassifyImageOptions extends Options, CallOptions {
  /** The name that `store` keeps. Default: the name of the file, without folders. */
  filename?: string | undefined;
  /** An https address that receives the answer, too; see `verifyWebhook`. */
  webhookUrl?: string | undefined;
}

/** The embedding of one image. */
export interface Embedding {
  /** Of length 1: the sum of the products of two is their similarity. */
  vector: number[];
  /** Only embeddings of models with the same digest can be compared. */
  model: wire.ModelRef;
}

/**
 * Classifies images.
 *
 *     const client = new ImageCategorizer({ apiKey: "ic_...", baseUrl: "localhost:8080" });
 *     const result = await client.classifyImage("cat.jpg");
 *     console.log(result.category, result.confidence);
 *
 * A call that finds the server unavailable, or exceeds a rate limit, is made up to four times within
 * `timeoutS`, as long as the client's budget lasts: ten retries, and one more for each ten calls that
 * succeed. The waits grow from 0.2 s, differ at random, and are never shorter than the server asks
 * for. A call that is cut off is made again once: it may be what crashes the server. Other errors
 * are thrown at once, as subclasses of `CategorizerError`.
 */
export class ImageCategorizer {
  /** Many images in the background. */
  readonly batches: Batches;
  /** What people say about results. */
  readonly feedback: FeedbackBook;
  /** Stored images. */
  readonly images: Images;
  /** API keys. */
  readonly keys: Keys;
  /** The models that the server offers. */
  readonly models: Models;
  /** Addresses that receive a message when a batch ends. */
  readonly webhooks: Webhooks;
  /** Makes the calls, also those of `@image-categorizer/client/resources`. */
  readonly connection: Connection;

  /**
   * Configures the client; it connects on the first call.
   *
   * @throws {TypeError} `baseUrl` is not an address, `apiKey` is not one word, or both an `apiKey`
   * and a `tokenProvider` are given.
   */
  constructor(options: ClientOptions = {}) {
    this.connection = new Connection(options);
    this.batches = new Batches(this.connection);
    this.feedback = new FeedbackBook(this.connection);
    this.images = new Images(this.connection);
    this.keys = new Keys(this.connection);
    this.models = new Models(this.connection);
    this.webhooks = new Webhooks(this.connection);
  }

  /**
   * Returns the categories of one image.
   *
   *     const result = await client.classifyImage(file, { model: "resnet50", topK: 3 });
   *     for (const { category, confidence } of result.predictions) console.log(category, confidence);
   *
   * @param image an image, or `{ imageId }` of a stored one.
   * @throws {UndecodableImage} the bytes are not an image, or a damaged one.
   * @throws {ImageTooLarge} the image has more bytes than `Limits.maxImageBytes`.
   * @throws {ImageUnreachable} the server cannot fetch the image.
   */
  async classifyImage(
    image: ImageSource | NamedImage | { imageId: string },
    options: ClassifyImageOptions = {},
  ): Promise<Classification> {
    const [call, query] = split(options);
    if (isStored(image)) {
      const { webhookUrl, filename: _, ...how } = query;
      const json = { ...image, webhookUrl, options: how };
      const request = { ...call, method: "POST", path: "/v1/classify", json } as const;
      return classification("", await this.connection.call(request));
    }
    const input = await inputOf(image);
    const answer = await upload<wire.ClassifyResponse>(
      this.connection,
      "/v1/classify",
      input,
      query,
      call,
    );
    return classification(input.filename || input.uri, answer);
  }

  /** Returns the embedding of one image: what a model knows before its last layer. */
  async embed(
    image: ImageSource,
    options: { model?: string; version?: Version } & CallOptions = {},
  ): Promise<Embedding> {
    const [call, rest] = split(options);
    const json = { ...(await source(image)), ...rest };
    const request = { ...call, method: "POST", path: "/v1/embeddings", json } as const;
    const { data, modelVersion } = await this.connection.call<wire.EmbedResponse>(request);
    return { vector: data[0]?.embedding ?? [], model: modelVersion };
  }

  /**
   * Yields the outcome for each of many images: submits a batch and waits until it has ended.
   *
   *     for await (const result of client.classifyBatch(["a.jpg", "b.jpg"]))
   *       console.log(result.filename, result.category ?? result.error);
   *
   * The batch continues on the server even if this process stops; `onProgress` receives its
   * `batchId` each time it changes.
   *
   * @throws {CategorizerError} the batch was not accepted, or did not complete. The error of a
   * single image is its result's `error`.
   */
  async *classifyBatch(
    sources: BatchSources,
    options: BatchOptions & { onProgress?: ((batch: Batch) => void) | undefined } = {},
  ): AsyncGenerator<BatchResult, void, undefined> {
    const { onProgress, ...rest } = options;
    const call = { signal: rest.signal };
    let batch = await this.batches.submit(sources, rest);
    for await (const changed of this.batches.watch(batch.batchId, call)) {
      batch = changed;
      onProgress?.(batch);
    }
    yield* this.batches.results(batch.batchId, call);
    if (batch.state === "COMPLETED") return;
    const why = batch.stateMessage || `${batch.pendingCount} items have no outcome`;
    throw new CategorizerError(`batch ${batch.batchId} is ${batch.state}: ${why}`);
  }

  /** Uploads images, and returns as soon as the server has stored them: `batches.submit`. */
  submitBatch(sources: BatchSources, options: BatchOptions = {}): Promise<Batch> {
    return this.batches.submit(sources, options);
  }

  /** Yields the batch each time it changes, until it has ended: `batches.watch`. */
  watchBatch(batchId: string, call: CallOptions = {}): AsyncGenerator<Batch, void, undefined> {
    return this.batches.watch(batchId, call);
  }

  /** Returns who calls: tenant, role and scopes of the client's credentials. */
  caller(call: CallOptions = {}): Promise<wire.Caller> {
    return this.connection.call({ ...call, path: "/v1/me" });
  }

  /** Returns the server's release, image formats and limits. */
  serverInfo(call: CallOptions = {}): Promise<wire.ServerInfo> {
    return this.connection.call({ ...call, path: "/v1/info" });
  }

  /** Returns what the tenant has used. Needs a key of the role operator. */
  usage(options: wire.GetUsageRequest & CallOptions = {}): Promise<wire.GetUsageResponse> {
    const [call, query] = split(options);
    return this.connection.call({ ...call, path: "/v1/usage", query });
  }
}

function isStored(image: unknown): image is { imageId: string } {
  return typeof image === "object" && image !== null && "imageId" in image;
}
